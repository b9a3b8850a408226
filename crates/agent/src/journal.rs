//! A session on disk: one JSON record a line.

use aedile_core::ids::SessionId;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::conversation::Record;
use crate::settings::Settings;

const VERSION: u32 = 1;

/// Why a session cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// There is no session of this id.
    #[error("there is no session {id} in {directory}; begin a new one")]
    Unknown {
        /// The id as it was given.
        id: String,
        /// Where sessions are kept.
        directory: PathBuf,
    },
    /// Another process works in it.
    #[error("the session {id} is open in another process; end that one first")]
    Busy {
        /// The id.
        id: String,
    },
    /// The file holds something else than a session of ours.
    #[error("the session file {path} cannot be used at line {line}: {problem}; begin a new session")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong with it.
        problem: String,
    },
    /// Reading or writing failed.
    #[error("the session file {path} cannot be read or written: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The operating system's answer.
        source: io::Error,
    },
    /// The working directory is not one.
    #[error("the working directory {path} is not an absolute path of a directory")]
    BadCwd {
        /// The path.
        path: PathBuf,
    },
}

/// An open journal, locked for this process.
pub(crate) struct Journal {
    file: File,
    path: PathBuf,
    /// Its bytes up to the end of the last whole record.
    whole: u64,
    /// Half a record could not be taken away: what came behind it would make the session unreadable.
    broken: bool,
}

fn path_of(home: &Path, id: &SessionId) -> Result<PathBuf, SessionError> {
    let directory = home.join(".aedile").join("sessions");
    if !id.as_str().chars().all(|c| c.is_ascii_alphanumeric() || c == '-') {
        return Err(SessionError::Unknown { id: id.to_string(), directory });
    }
    Ok(directory.join(format!("{id}.jsonl")))
}

impl Journal {
    /// Begins a journal.
    pub(crate) fn create(home: &Path, id: &SessionId, settings: Settings) -> Result<Self, SessionError> {
        Self::create_at(path_of(home, id)?, id, settings)
    }

    /// Begins the journal of a sub-agent, which nobody can open again.
    pub(crate) fn create_below(directory: &Path, name: &str, id: &SessionId) -> Result<Self, SessionError> {
        Self::create_at(directory.join(format!("{name}-{id}.jsonl")), id, Settings::default())
    }

    fn create_at(path: PathBuf, id: &SessionId, settings: Settings) -> Result<Self, SessionError> {
        let io_error = |source| SessionError::Io { path: path.clone(), source };
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory).map_err(io_error)?;
        }
        let file = OpenOptions::new().append(true).create_new(true).open(&path).map_err(io_error)?;
        let mut journal = Self::lock(file, path, id)?;
        journal.append(&Record::Session { version: VERSION, id: id.to_string(), settings })?;
        Ok(journal)
    }

    /// Opens a journal and returns its records. A last line that was not written whole is removed.
    pub(crate) fn open(home: &Path, id: &SessionId) -> Result<(Self, Vec<Record>), SessionError> {
        let path = path_of(home, id)?;
        let io_error = |source: io::Error| match source.kind() {
            io::ErrorKind::NotFound => SessionError::Unknown { id: id.to_string(), directory: path.parent().unwrap_or(&path).to_owned() },
            _ => SessionError::Io { path: path.clone(), source },
        };
        let file = OpenOptions::new().append(true).open(&path).map_err(io_error)?;
        let mut journal = Self::lock(file, path.clone(), id)?;
        let (records, whole) = Self::read_at(&path, id)?;
        journal.file.set_len(whole).map_err(io_error)?;
        journal.whole = whole;
        Ok((journal, records))
    }

    /// Reads the records of a journal that may be open elsewhere.
    pub(crate) fn read(home: &Path, id: &SessionId) -> Result<Vec<Record>, SessionError> {
        Self::read_at(&path_of(home, id)?, id).map(|(records, _)| records)
    }

    /// The records, and how many bytes they have: a last line that was not written whole does not count.
    fn read_at(path: &Path, id: &SessionId) -> Result<(Vec<Record>, u64), SessionError> {
        let bytes = fs::read(path).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => SessionError::Unknown { id: id.to_string(), directory: path.parent().unwrap_or(path).to_owned() },
            _ => SessionError::Io { path: path.to_owned(), source },
        })?;
        let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let mut records = Vec::new();
        for (index, line) in bytes[..whole].split(|byte| *byte == b'\n').enumerate().filter(|(_, line)| !line.is_empty()) {
            let damaged = |problem: String| SessionError::Damaged { path: path.to_owned(), line: index + 1, problem };
            records.push(serde_json::from_slice(line).map_err(|error| damaged(error.to_string()))?);
        }
        match records.first() {
            Some(Record::Session { version: VERSION, .. }) => Ok((records, whole as u64)),
            _ => Err(SessionError::Damaged {
                path: path.to_owned(),
                line: 1,
                problem: format!("it does not begin a session of format {VERSION}"),
            }),
        }
    }

    fn lock(file: File, path: PathBuf, id: &SessionId) -> Result<Self, SessionError> {
        match file.try_lock() {
            Ok(()) => Ok(Self { file, path, whole: 0, broken: false }),
            Err(TryLockError::WouldBlock) => Err(SessionError::Busy { id: id.to_string() }),
            Err(TryLockError::Error(source)) => Err(SessionError::Io { path, source }),
        }
    }

    /// Appends a record. One that cannot be written whole, as on a full disk, leaves no trace.
    pub(crate) fn append(&mut self, record: &Record) -> Result<(), SessionError> {
        let io_error = |source| SessionError::Io { path: self.path.clone(), source };
        if self.broken {
            return Err(io_error(io::Error::other("half a record of an earlier failure could not be removed; open the session again")));
        }
        let mut line = serde_json::to_vec(record).map_err(|error| io_error(error.into()))?;
        line.push(b'\n');
        match self.file.write_all(&line) {
            Ok(()) => {
                self.whole += line.len() as u64;
                Ok(())
            }
            Err(source) => {
                let error = io_error(source);
                self.broken = self.file.set_len(self.whole).is_err();
                Err(error)
            }
        }
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Where the journals of its sub-agents are: beside it, under its name.
    pub(crate) fn directory_below(&self) -> PathBuf {
        self.path.with_extension("")
    }

    /// Makes everything durable.
    pub(crate) fn sync(&self) -> Result<(), SessionError> {
        self.file.sync_data().map_err(|source| SessionError::Io { path: self.path.clone(), source })
    }
}
