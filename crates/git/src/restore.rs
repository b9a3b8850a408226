//! Writes the files of a commit into an empty directory of the person's, exactly as they are stored.
//!
//! A snapshot's names and bytes are an agent's: no attribute converts anything, no name leads out of the directory or into a `.git`, and
//! links are made last, so that nothing is written through one.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{OpenOptionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, ChildStdout};

use aedile_core::CommitId;

use crate::error::{GitError, io as io_error};
use crate::hub::Hub;
use crate::run::Running;

/// The longest target of a link; the kernel takes no longer one.
const LINK_BYTES_MAX: u64 = 4096;

/// What was written.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Restored {
    /// Files and links.
    pub files: usize,
    /// Bytes in files.
    pub bytes: u64,
    /// Paths of the commit that could not be written, and why.
    pub refused: Vec<(PathBuf, String)>,
}

/// One entry of the commit's tree.
struct Entry {
    mode: u32,
    id: String,
    path: PathBuf,
}

impl Hub {
    /// Writes every file of the commit below `dest`, an empty directory. Rights are those of new files of the person's, plus the right
    /// to execute where it is stored. Two processes.
    ///
    /// # Errors
    /// [`GitError`] when the commit is missing or the file system fails; what was written until then stays.
    pub fn restore(&self, commit: &CommitId, dest: &Path) -> Result<Restored, GitError> {
        let entries = self.entries(commit)?;
        let mut objects = Objects::start(self)?;
        let mut restored = Restored::default();
        let written = write_all(&entries, &mut objects, dest, &mut restored);
        match written {
            Ok(()) => objects.finish().map(|()| restored),
            Err(error) => {
                objects.running.kill();
                Err(error)
            }
        }
    }

    fn entries(&self, commit: &CommitId) -> Result<Vec<Entry>, GitError> {
        let answer = self.call("ls-tree").reading().args(["-r", "-z", "--full-tree", commit.as_str()]).output()?;
        let rows = answer.stdout.split(|byte| *byte == 0).filter(|row| !row.is_empty());
        rows.map(|row| {
            entry(row).ok_or_else(|| GitError::Unreadable {
                command: "ls-tree".to_owned(),
                what: String::from_utf8_lossy(row).chars().take(200).collect(),
            })
        })
        .collect()
    }
}

/// Reads `<mode> <type> <object>\t<path>`.
fn entry(row: &[u8]) -> Option<Entry> {
    let tab = row.iter().position(|byte| *byte == b'\t')?;
    let head = std::str::from_utf8(&row[..tab]).ok()?;
    let mut words = head.split(' ');
    let mode = u32::from_str_radix(words.next()?, 8).ok()?;
    let id = words.nth(1)?.to_owned();
    Some(Entry { mode, id, path: PathBuf::from(OsStr::from_bytes(&row[tab + 1..])) })
}

fn write_all(entries: &[Entry], objects: &mut Objects, dest: &Path, restored: &mut Restored) -> Result<(), GitError> {
    let is_link = |entry: &&Entry| entry.mode == 0o120_000;
    let (links, files): (Vec<&Entry>, Vec<&Entry>) = entries.iter().partition(is_link);
    for entry in files.into_iter().chain(links) {
        if let Some(why) = unwritable(entry) {
            restored.refused.push((entry.path.clone(), why.to_owned()));
            continue;
        }
        let place = dest.join(&entry.path);
        let written = match entry.mode {
            0o120_000 => objects.read(&entry.id, |size, body| make_link(&place, size, body))?,
            mode => objects.read(&entry.id, |size, body| make_file(&place, mode == 0o100_755, size, body))?,
        };
        match written {
            Ok(bytes) => (restored.files, restored.bytes) = (restored.files + 1, restored.bytes + bytes),
            Err(error) if is_the_names_fault(&error) => restored.refused.push((entry.path.clone(), error.to_string())),
            Err(error) => return Err(io_error("write", &place)(error)),
        }
    }
    Ok(())
}

/// Why an entry is not written at all.
fn unwritable(entry: &Entry) -> Option<&'static str> {
    let bad = |part: &[u8]| part.is_empty() || part == b"." || part == b".." || part.eq_ignore_ascii_case(b".git");
    if entry.path.as_os_str().as_bytes().split(|byte| *byte == b'/').any(bad) {
        return Some("has a name that leads out of the directory or into a .git");
    }
    match entry.mode {
        0o100_644 | 0o100_755 | 0o100_664 | 0o120_000 => None,
        0o160_000 => Some("is a submodule, of which only the commit is recorded"),
        _ => Some("is of a kind that is not written"),
    }
}

/// Whether this path alone cannot be written: the file system is well.
fn is_the_names_fault(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::AlreadyExists
            | ErrorKind::NotADirectory
            | ErrorKind::IsADirectory
            | ErrorKind::InvalidInput
            | ErrorKind::InvalidFilename
    )
}

fn make_parents(place: &Path) -> io::Result<()> {
    place.parent().map_or(Ok(()), fs::create_dir_all)
}

fn make_file(place: &Path, executable: bool, size: u64, body: &mut dyn Read) -> io::Result<u64> {
    make_parents(place)?;
    let mut file: File = OpenOptions::new().write(true).create_new(true).mode(if executable { 0o777 } else { 0o666 }).open(place)?;
    let written = io::copy(body, &mut file)?;
    if written == size { Ok(written) } else { Err(ErrorKind::UnexpectedEof.into()) }
}

fn make_link(place: &Path, size: u64, body: &mut dyn Read) -> io::Result<u64> {
    if size > LINK_BYTES_MAX {
        return Err(ErrorKind::InvalidInput.into());
    }
    let mut target = Vec::new();
    body.read_to_end(&mut target)?;
    make_parents(place)?;
    symlink(OsStr::from_bytes(&target), place).map(|()| 0)
}

/// A git that answers with one object after the other.
struct Objects {
    running: Running,
    ask: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Objects {
    fn start(hub: &Hub) -> Result<Self, GitError> {
        let mut running = hub.call("cat-file").reading().arg("--batch").start()?;
        let (Some(ask), Some(answers)) = (running.child.stdin.take(), running.child.stdout.take()) else {
            running.kill();
            return Err(GitError::Unreadable { command: "cat-file --batch".to_owned(), what: "it has no pipes".to_owned() });
        };
        Ok(Self { running, ask, answers: BufReader::with_capacity(64 * 1024, answers) })
    }

    /// Hands size and bytes of an object to `take`, and reads to the end of it whatever `take` did. The inner result is `take`'s.
    fn read<T>(&mut self, id: &str, take: impl FnOnce(u64, &mut dyn Read) -> io::Result<T>) -> Result<io::Result<T>, GitError> {
        let unreadable = |what: String| GitError::Unreadable { command: "cat-file --batch".to_owned(), what };
        let broken = |error: io::Error| unreadable(error.to_string());
        self.ask.write_all(format!("{id}\n").as_bytes()).map_err(broken)?;
        let mut head = String::new();
        self.answers.read_line(&mut head).map_err(broken)?;
        // `<id> blob <size>`, or `<id> missing`.
        let size = head.trim_end().rsplit_once(" blob ").and_then(|(_, size)| size.parse::<u64>().ok());
        let size = size.ok_or_else(|| unreadable(head.trim_end().to_owned()))?;
        let mut body = (&mut self.answers).take(size);
        let taken = take(size, &mut body);
        io::copy(&mut body, &mut io::sink()).map_err(broken)?;
        let mut end = [0];
        self.answers.read_exact(&mut end).map_err(broken)?;
        Ok(taken)
    }

    fn finish(self) -> Result<(), GitError> {
        let Self { running, ask, answers } = self;
        drop((ask, answers));
        running.finish(b"").map(drop)
    }
}
