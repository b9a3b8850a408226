//! What is still to be done for a person's tree when the process that started a box was killed before the box's end.
//!
//! Before the command starts a record of it lies in the runtime directory, synced and locked by that process. The lock goes with the process,
//! whatever ended it, so whoever gets the lock does the work alone and knows that nobody else will.

use crate::aside::{BoxNote, Sweep};
use crate::bar::Bar;
use crate::native::start_time;
use crate::survey::{Link, Survey};
use aedile_core::protected::{BARE_RULE, GIT_RULE, NAMES};
use aedile_core::sandbox::WriteScope;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::FlockOperation;
use rustix::process::{Pid, PidfdFlags, Signal};
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// What the directories of records are called, and what lies in them.
const PREFIX: &str = "unfinished-";
const RECORD: &str = "record";
const BOX: &str = "box";
/// How long an ended process may take to be gone.
const ENDING_MAX: Timespec = Timespec { tv_sec: 30, tv_nsec: 0 };

/// What was found of one box whose starter was killed, and done.
#[derive(Debug)]
pub struct Unfinished {
    /// The person's directory.
    pub tree: PathBuf,
    /// What was moved away, and why.
    pub notes: Vec<BoxNote>,
    /// Whether that was all.
    pub outcome: Outcome,
}

/// How far an end that was missed is made up for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing is left to do.
    Done,
    /// The person's directory is not there, or another one is in its place, which was not touched. It is tried again the next time.
    Absent,
    /// It could not be done. It is tried again the next time.
    Failed(String),
}

#[derive(Serialize, Deserialize)]
struct Stored {
    boot: String,
    tree: Vec<u8>,
    which: Which,
    bar: bool,
    sweep: Option<StoredSweep>,
}

/// Which directory it is, whatever comes to be called like it.
#[derive(Serialize, Deserialize)]
struct Which {
    device: u64,
    inode: u64,
    /// Nanoseconds since 1970, where the file system tells when it was made: numbers are used again.
    made: Option<u128>,
}

#[derive(Serialize, Deserialize)]
struct StoredSweep {
    write: WriteScope,
    writable: Vec<String>,
    protected: Vec<Vec<u8>>,
    closed: Vec<Vec<u8>>,
    symlinks: Vec<StoredLink>,
}

#[derive(Serialize, Deserialize)]
struct StoredLink {
    path: Vec<u8>,
    rule: String,
    target: Vec<u8>,
    root: Vec<u8>,
}

/// A record that is held. It goes when this is dropped, for then the work is done or nothing was started.
pub(crate) struct Record {
    dir: PathBuf,
    held: File,
}

fn bytes(path: &Path) -> Vec<u8> {
    path.as_os_str().as_bytes().to_vec()
}

fn path(bytes: Vec<u8>) -> PathBuf {
    OsString::from_vec(bytes).into()
}

fn stored_link((path, link): (&PathBuf, &Link)) -> StoredLink {
    StoredLink { path: bytes(path), rule: link.rule.to_owned(), target: bytes(&link.target), root: bytes(&link.root) }
}

fn link(stored: StoredLink) -> (PathBuf, Link) {
    let link = Link { rule: rule(&stored.rule), target: path(stored.target), root: path(stored.root) };
    (path(stored.path), link)
}

impl Which {
    fn of(meta: &fs::Metadata) -> Self {
        let made = meta.created().ok().and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok()).map(|since| since.as_nanos());
        Self { device: meta.dev(), inode: meta.ino(), made }
    }

    /// Devices have other numbers when a machine has been started anew.
    fn is(&self, other: &Self, same_boot: bool) -> bool {
        self.inode == other.inode && self.made == other.made && (self.device == other.device || !same_boot)
    }
}

fn boot() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default()
}

/// The rule of the table by its name.
fn rule(name: &str) -> &'static str {
    let known = NAMES.iter().map(|entry| entry.rule).chain([GIT_RULE, BARE_RULE]);
    known.into_iter().find(|known| *known == name).unwrap_or("protected-path")
}

impl Record {
    /// Writes down what is to be done in `tree` at the end of a box; on the disk when this returns.
    pub(crate) fn make(runtime_dir: &Path, tree: &Path, bar: bool, sweep: Option<&Sweep>) -> io::Result<Self> {
        let sweep = sweep.map(|sweep| StoredSweep {
            write: sweep.write.clone(),
            writable: sweep.writable.clone(),
            protected: sweep.before.protected.keys().map(|path| bytes(path)).collect(),
            closed: sweep.before.closed.iter().map(|path| bytes(path)).collect(),
            symlinks: sweep.before.symlinks.iter().map(stored_link).collect(),
        });
        let which = Which::of(&fs::symlink_metadata(tree)?);
        let text = serde_json::to_vec(&Stored { boot: boot(), tree: bytes(tree), which, bar, sweep })?;
        fs::create_dir_all(runtime_dir)?;
        let dir = tempfile::Builder::new().prefix(PREFIX).tempdir_in(runtime_dir)?;
        // Held before it has its name: whoever finds it finds it held.
        let mut file = File::create_new(dir.path().join("new"))?;
        rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive)?;
        file.write_all(&text)?;
        file.sync_all()?;
        fs::rename(dir.path().join("new"), dir.path().join(RECORD))?;
        let record = Self { dir: dir.keep(), held: file };
        for above in [Some(record.dir.as_path()), Some(runtime_dir), runtime_dir.parent()].into_iter().flatten() {
            File::open(above)?.sync_all()?;
        }
        Ok(record)
    }

    /// Where the launcher writes which process is the box's first, before it goes on.
    pub(crate) fn of_box(&self) -> PathBuf {
        self.dir.join(BOX)
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        // The record first: without it nothing else means anything.
        for name in [RECORD, BOX] {
            let _ = fs::remove_file(self.dir.join(name));
        }
        let _ = fs::remove_dir(&self.dir);
    }
}

/// Says, as the launcher, which process a box's first is.
pub(crate) fn name_box(file: &Path, pid: Pid) -> io::Result<()> {
    fs::write(file, format!("{} {}", pid.as_raw_nonzero(), start_time(pid)?))
}

/// Whether a runtime directory holds records: of boxes that run, or that were not finished.
#[must_use]
pub fn has_unfinished(runtime_dir: &Path) -> bool {
    records(runtime_dir).any(|dir| dir.join(RECORD).exists())
}

/// Finishes what was left of boxes whose starter was killed: ends the box if it is not over, moves away what was planted in the person's
/// directory, and takes away the empty `.git` that barred the way. Boxes that run, and those that another process finishes, are left alone.
/// Blocks for as long as walks through the trees take.
#[must_use]
pub fn finish_unfinished(runtime_dir: &Path) -> Vec<Unfinished> {
    records(runtime_dir).filter_map(|dir| finish(runtime_dir, dir)).collect()
}

fn records(runtime_dir: &Path) -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir(runtime_dir).into_iter().flatten().flatten();
    entries.filter(|entry| entry.file_name().as_bytes().starts_with(PREFIX.as_bytes())).map(|entry| entry.path())
}

/// One of them; nothing where it is somebody's.
fn finish(runtime_dir: &Path, dir: PathBuf) -> Option<Unfinished> {
    let held = File::open(dir.join(RECORD)).ok()?;
    rustix::fs::flock(&held, FlockOperation::NonBlockingLockExclusive).ok()?;
    // Whoever held it before may have finished it.
    held.metadata().ok().filter(|meta| meta.nlink() > 0)?;
    let record = Record { dir, held };
    let read = fs::read(record.dir.join(RECORD)).and_then(|text| Ok(serde_json::from_slice::<Stored>(&text)?));
    let stored = match read {
        Ok(stored) => stored,
        Err(error) => {
            // Told once.
            let outcome = Outcome::Failed(format!("{} says what to look for, but cannot be read: {error}", record.dir.display()));
            let _ = fs::rename(record.dir.join(RECORD), record.dir.join("unread"));
            return Some(Unfinished { tree: PathBuf::new(), notes: Vec::new(), outcome });
        }
    };
    let tree = path(stored.tree);
    let same_boot = stored.boot == boot();
    let ended = if same_boot { end_box(&record.of_box()) } else { Ok(()) };
    let there = || fs::symlink_metadata(&tree).is_ok_and(|meta| stored.which.is(&Which::of(&meta), same_boot));
    let (notes, outcome) = match ended {
        Ok(()) if there() => {
            let (notes, done) = work(runtime_dir, &tree, stored.bar, stored.sweep);
            (notes, done.map_or_else(|error| Outcome::Failed(error.to_string()), |()| Outcome::Done))
        }
        Ok(()) => (Vec::new(), Outcome::Absent),
        Err(error) => (Vec::new(), Outcome::Failed(error.to_string())),
    };
    if outcome != Outcome::Done {
        // It stays, and so does what it says; whoever comes next may try at once.
        let _ = rustix::fs::flock(&record.held, FlockOperation::Unlock);
        std::mem::forget(record);
    }
    Some(Unfinished { tree, notes, outcome })
}

fn work(runtime_dir: &Path, tree: &Path, bar: bool, sweep: Option<StoredSweep>) -> (Vec<BoxNote>, io::Result<()>) {
    if bar {
        drop(Bar::left_behind(tree));
    }
    let Some(sweep) = sweep else { return (Vec::new(), Ok(())) };
    let mut before = Survey::default();
    before.protected = sweep.protected.into_iter().map(|bytes| (path(bytes), GIT_RULE)).collect();
    before.closed = sweep.closed.into_iter().map(path).collect();
    before.symlinks = sweep.symlinks.into_iter().map(link).collect();
    let runtime_dir = runtime_dir.to_owned();
    Sweep { tree: tree.to_owned(), write: sweep.write, writable: sweep.writable, before, runtime_dir }.run()
}

/// Waits until the box's first process is gone, and with it all others; it was to end with its starter.
fn end_box(file: &Path) -> io::Result<()> {
    let text = match fs::read_to_string(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    let pair = text.split_once(' ').and_then(|(pid, start)| Some((Pid::from_raw(pid.parse().ok()?)?, start.parse::<u64>().ok()?)));
    let Some((pid, start)) = pair else { return Ok(()) };
    // The descriptor pins the process, so that the question and the signal are about the same one.
    let Ok(process) = rustix::process::pidfd_open(pid, PidfdFlags::empty()) else { return Ok(()) };
    if start_time(pid).ok() != Some(start) {
        return Ok(());
    }
    let _ = rustix::process::pidfd_send_signal(&process, Signal::KILL);
    let mut polled = [PollFd::new(&process, PollFlags::IN)];
    match rustix::io::retry_on_intr(|| rustix::event::poll(&mut polled, Some(&ENDING_MAX)))? {
        0 => Err(io::Error::other(format!("the box of process {} does not end", pid.as_raw_nonzero()))),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn swept(tree: &Path) -> Sweep {
        let (write, writable) = (WriteScope::All, vec![String::new()]);
        Sweep { tree: tree.to_owned(), write, writable, before: Survey::default(), runtime_dir: PathBuf::new() }
    }

    #[test]
    fn a_record_is_worked_off_once_and_never_while_it_is_held() {
        let dir = tempfile::tempdir().unwrap();
        let (tree, state) = (dir.path().join("tree"), dir.path().join("state"));
        fs::create_dir(&tree).unwrap();
        fs::create_dir(tree.join(".git")).unwrap();
        let record = Record::make(&state, &tree, true, Some(&swept(&tree))).unwrap();
        fs::write(tree.join(".envrc"), "x").unwrap();
        assert!(has_unfinished(&state) && finish_unfinished(&state).is_empty() && tree.join(".envrc").exists());
        // The end of a process closes its descriptors and drops nothing.
        let left = record.dir.clone();
        let Record { held, .. } = &record;
        rustix::fs::flock(held, FlockOperation::Unlock).unwrap();
        std::mem::forget(record);
        let both: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(|| finish_unfinished(&state))).collect();
            threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
        });
        assert_eq!(both.len(), 1, "{both:?}");
        assert_eq!(both[0].notes.iter().map(|note| note.path.clone()).collect::<Vec<_>>(), [PathBuf::from(".envrc")]);
        assert!(both[0].outcome == Outcome::Done && !left.exists() && !tree.join(".envrc").exists() && !tree.join(".git").exists());
        assert!(!has_unfinished(&state) && finish_unfinished(&state).is_empty());
    }

    #[test]
    fn what_cannot_be_finished_stays_and_what_cannot_be_read_is_told_once() {
        let dir = tempfile::tempdir().unwrap();
        let (tree, state) = (dir.path().join("tree"), dir.path().join("state"));
        fs::create_dir(&tree).unwrap();
        fs::write(&state, "no directory").unwrap();
        assert!(Record::make(&state, &tree, false, None).is_err());
        fs::remove_file(&state).unwrap();
        drop(Record::make(&state, &tree, false, None).unwrap());
        assert_eq!(fs::read_dir(&state).unwrap().count(), 0);
        let broken = state.join(format!("{PREFIX}x"));
        fs::create_dir(&broken).unwrap();
        fs::write(broken.join(RECORD), "{").unwrap();
        let told = finish_unfinished(&state);
        assert!(matches!(&told[..], [Unfinished { outcome: Outcome::Failed(why), .. }] if why.contains("cannot be read")), "{told:?}");
        assert!(finish_unfinished(&state).is_empty() && broken.exists());
    }

    #[test]
    fn another_directory_in_its_place_is_not_touched_and_the_right_one_is_when_it_is_back() {
        let dir = tempfile::tempdir().unwrap();
        let (tree, moved, state) = (dir.path().join("tree"), dir.path().join("moved"), dir.path().join("state"));
        fs::create_dir(&tree).unwrap();
        let record = Record::make(&state, &tree, true, Some(&swept(&tree))).unwrap();
        fs::write(tree.join(".envrc"), "planted").unwrap();
        rustix::fs::flock(&record.held, FlockOperation::Unlock).unwrap();
        std::mem::forget(record);
        let outcomes = || finish_unfinished(&state).into_iter().map(|one| (one.outcome, one.notes.len())).collect::<Vec<_>>();
        fs::rename(&tree, &moved).unwrap();
        assert_eq!(outcomes(), [(Outcome::Absent, 0)]);
        fs::create_dir_all(tree.join(".git")).unwrap();
        fs::write(tree.join(".envrc"), "mine").unwrap();
        assert_eq!(outcomes(), [(Outcome::Absent, 0)], "it is told as long as nobody does something about it");
        assert!(tree.join(".git").is_dir() && fs::read_to_string(tree.join(".envrc")).unwrap() == "mine");
        fs::remove_dir_all(&tree).unwrap();
        fs::rename(&moved, &tree).unwrap();
        assert_eq!(outcomes(), [(Outcome::Done, 1)]);
        assert!(!tree.join(".envrc").exists() && !has_unfinished(&state));
    }

    #[test]
    fn a_box_that_still_runs_is_ended_first() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join(BOX);
        #[expect(clippy::disallowed_methods, reason = "a test needs a process that does not end")]
        let mut child = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        let pid = Pid::from_child(&child);
        fs::write(&file, format!("{} 1", pid.as_raw_nonzero())).unwrap();
        end_box(&file).unwrap();
        assert!(child.try_wait().unwrap().is_none(), "a later process of that number is left alone");
        name_box(&file, pid).unwrap();
        end_box(&file).unwrap();
        assert!(child.wait().unwrap().code().is_none());
        end_box(&dir.path().join("none")).unwrap();
    }
}
