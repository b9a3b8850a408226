//! The gateway's log: what passed the doors and what did not, a line each in files of bounded size.
//!
//! A line is written when its exchange has ended. What must not be lost (the use of a secret, a denial) is an event besides; a line that cannot be
//! written is told of in the log and holds nothing up.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use aedile_core::policy::LayerName;
use aedile_core::{AgentName, RunId, TaskId, TaskKey, Timestamp};
use serde::{Deserialize, Serialize};

/// When the file has this size it becomes the older one, and a new one begins.
const FILE_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// A line that is longer is not one of ours.
const LINE_BYTES_MAX: usize = 16 * 1024;
const NAME: &str = "gateway.jsonl";
const OLDER: &str = "gateway.1.jsonl";

/// What became of a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It went out and an answer came back.
    Passed,
    /// A rule denies it.
    Denied,
    /// A rule asks a person about it.
    Asked,
    /// It was not denied and has no answer of the other side.
    #[default]
    Failed,
}

impl Outcome {
    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Denied => "denied",
            Self::Asked => "asked",
            Self::Failed => "failed",
        }
    }
}

/// One request as the log has it. No value of a secret and nothing of a query, a header or a body is in it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Passage {
    /// When it was asked.
    pub at: Timestamp,
    /// The run; of a command in a box of its own, one that nothing else knows.
    pub run: RunId,
    /// The task.
    pub task: TaskId,
    /// Its key.
    pub key: TaskKey,
    /// Who asked.
    pub agent: AgentName,
    /// The method.
    pub method: String,
    /// Where to: scheme, host, port and path.
    pub to: String,
    /// The model that was asked, as `PROVIDER/MODEL`.
    pub model: Option<String>,
    /// What became of it.
    pub outcome: Outcome,
    /// The status that the agent got.
    pub status: u16,
    /// The layer of the rule that decided.
    pub layer: Option<LayerName>,
    /// The rule that decided.
    pub rule: Option<String>,
    /// Names of the secrets that it carried.
    pub secrets: Vec<String>,
    /// Bytes that were sent: headers and body; of a WebSocket also its messages.
    pub bytes_out: u64,
    /// Bytes of the answer that went into the box; of a WebSocket also its messages.
    pub bytes_in: u64,
    /// Microseconds until the head of the answer.
    pub head_us: u64,
    /// Microseconds until its end.
    pub us: u64,
    /// Whether the answer came to its end.
    pub whole: bool,
}

/// The files of the log in one directory.
#[derive(Debug)]
pub struct Passages {
    dir: PathBuf,
    open: Mutex<Option<File>>,
    file_bytes_max: u64,
}

impl Passages {
    /// Writes into this directory, which is made when there is something to write.
    pub fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), open: Mutex::default(), file_bytes_max: FILE_BYTES_MAX }
    }

    /// Writes a line.
    pub(crate) fn note(&self, passage: &Passage) {
        if let Err(error) = self.append(passage) {
            tracing::warn!(%error, dir = %self.dir.display(), "a line of the gateway's log was not written");
        }
    }

    fn append(&self, passage: &Passage) -> io::Result<()> {
        let mut line = serde_json::to_vec(passage)?;
        line.push(b'\n');
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let mut file = match open.take() {
            Some(file) => file,
            None => self.begin()?,
        };
        if file.metadata()?.len() >= self.file_bytes_max {
            self.turn(&file)?;
            file = self.begin()?;
        }
        // One write: lines of several processes stay whole.
        file.write_all(&line)?;
        *open = Some(file);
        Ok(())
    }

    fn begin(&self) -> io::Result<File> {
        fs::create_dir_all(&self.dir)?;
        OpenOptions::new().append(true).create(true).mode(0o600).open(self.dir.join(NAME))
    }

    /// Makes the full file the older one, unless another process has done so.
    fn turn(&self, full: &File) -> io::Result<()> {
        full.lock()?;
        let path = self.dir.join(NAME);
        let now = fs::metadata(&path).map(|now| (now.dev(), now.ino()));
        let ours = full.metadata().map(|ours| (ours.dev(), ours.ino()))?;
        let turned = if now.is_ok_and(|now| now == ours) { fs::rename(&path, self.dir.join(OLDER)) } else { Ok(()) };
        full.unlock()?;
        turned
    }

    /// Reads the lines of a directory, from the oldest. Returns them with the number of lines that are none.
    ///
    /// # Errors
    /// When a file cannot be read; one that is not there is empty.
    pub fn read(dir: &Path, mut keep: impl FnMut(Passage)) -> io::Result<u64> {
        let mut strange = 0;
        for name in [OLDER, NAME] {
            let mut file = match File::open(dir.join(name)) {
                Ok(file) => BufReader::new(file),
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            let mut line = Vec::new();
            loop {
                line.clear();
                let read = io::Read::take(&mut file, LINE_BYTES_MAX as u64).read_until(b'\n', &mut line)?;
                if read == 0 {
                    break;
                }
                match serde_json::from_slice(&line) {
                    Ok(passage) => keep(passage),
                    Err(_) => strange += 1,
                }
            }
        }
        Ok(strange)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aedile_core::{SeededEntropy, SteppingClock};

    fn passage(to: &str) -> Passage {
        let (clock, entropy) = (SteppingClock::default(), SeededEntropy::new(1));
        Passage {
            at: Timestamp(1),
            run: RunId::new(&clock, &entropy),
            task: TaskId::new(&clock, &entropy),
            key: TaskKey::new("one").unwrap(),
            agent: AgentName::new("ada").unwrap(),
            method: "GET".to_owned(),
            to: to.to_owned(),
            model: None,
            outcome: Outcome::Passed,
            status: 200,
            layer: None,
            rule: None,
            secrets: Vec::new(),
            bytes_out: 1,
            bytes_in: 2,
            head_us: 3,
            us: 4,
            whole: true,
        }
    }

    fn read(dir: &Path) -> (Vec<String>, u64) {
        let mut all = Vec::new();
        let strange = Passages::read(dir, |passage| all.push(passage.to)).unwrap();
        (all, strange)
    }

    #[test]
    fn two_writers_keep_the_newest_lines_within_the_bound() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("logs");
        assert_eq!(read(&place), (Vec::new(), 0));
        let writer = || Passages { file_bytes_max: 4000, ..Passages::new(&place) };
        let writers = [writer(), writer()];
        for number in 0..200 {
            writers[number % 2].note(&passage(&format!("https://a.example/{number}")));
        }
        let (all, strange) = read(&place);
        let last: Vec<_> = (200 - all.len()..200).map(|number| format!("https://a.example/{number}")).collect();
        assert_eq!((&all, strange), (&last, 0));
        let size: u64 = fs::read_dir(&place).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).sum();
        assert!(all.len() >= 8 && size < 10_000, "{} lines, {size} bytes", all.len());
    }

    #[test]
    fn a_torn_line_is_counted_and_hides_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let log = Passages::new(dir.path());
        log.note(&passage("https://a.example/1"));
        let mut torn = OpenOptions::new().append(true).open(dir.path().join(NAME)).unwrap();
        torn.write_all(b"{\"at\":1,\n").unwrap();
        log.note(&passage("https://a.example/2"));
        assert_eq!(read(dir.path()), (vec!["https://a.example/1".to_owned(), "https://a.example/2".to_owned()], 1));
    }
}
