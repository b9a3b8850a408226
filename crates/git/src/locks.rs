//! Lock files: our own dead child's is removed, anyone else's is named.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{GitError, io};

/// What is written down before a child of ours takes locks in the project.
#[derive(Serialize, Deserialize)]
pub(crate) struct ChildRecord {
    pid: u32,
    /// In clock ticks since boot: with the pid it names one process.
    started: u64,
    boot: String,
    locks: Vec<PathBuf>,
}

/// A record on disk; dropping it means that the child has ended and left no lock.
pub(crate) struct Recorded {
    file: PathBuf,
}

impl Drop for Recorded {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.file);
    }
}

/// Writes down that the process will take the locks.
pub(crate) fn record(dir: &Path, pid: u32, locks: Vec<PathBuf>) -> Result<Recorded, GitError> {
    let file = dir.join(format!("child-{pid}.json"));
    let child = ChildRecord { pid, started: start_time(pid).unwrap_or(0), boot: boot_id(), locks };
    let text =
        serde_json::to_vec(&child).map_err(|error| GitError::Unreadable { command: "record".to_owned(), what: error.to_string() })?;
    fs::write(&file, text).map_err(io("write", &file))?;
    Ok(Recorded { file })
}

/// Removes the locks of recorded children that are dead. A lock is theirs only if it is younger than the record of its child.
pub(crate) fn clear_dead(dir: &Path) -> Result<(), GitError> {
    for entry in fs::read_dir(dir).map_err(io("read", dir))?.flatten() {
        let file = entry.path();
        let name = entry.file_name();
        if !name.to_string_lossy().starts_with("child-") {
            continue;
        }
        let (Ok(bytes), Ok(meta)) = (fs::read(&file), entry.metadata()) else { continue };
        // A record cut short by a crash was written before its child took any lock.
        if let Ok(child) = serde_json::from_slice::<ChildRecord>(&bytes) {
            if child.boot == boot_id() && start_time(child.pid) == Some(child.started) {
                continue;
            }
            for lock in &child.locks {
                let younger = fs::symlink_metadata(lock).is_ok_and(|found| found.modified().ok() >= meta.modified().ok());
                if younger {
                    fs::remove_file(lock).map_err(io("remove the stale lock", lock))?;
                    tracing::info!(lock = %lock.display(), "removed a lock that our own dead git left behind");
                }
            }
        }
        let _ = fs::remove_file(&file);
    }
    Ok(())
}

/// Finds the lock file that git names in an error such as `Unable to create '/x/main.lock': File exists.`
pub(crate) fn named_lock(stderr: &str) -> Option<PathBuf> {
    let (_, rest) = stderr.split_once("Unable to create '")?;
    let (path, rest) = rest.split_once('\'')?;
    (path.ends_with(".lock") && rest.contains("File exists")).then(|| PathBuf::from(path))
}

/// The start of a process in clock ticks since boot; `None` when there is none (a zombie has ended).
fn start_time(pid: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = text.rsplit_once(") ")?.1.split(' ');
    if fields.next()? == "Z" {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_found_in_gits_words() {
        let text =
            "fatal: cannot lock ref 'refs/heads/x': Unable to create '/p/.git/refs/heads/x.lock': File exists.\n\nAnother git process";
        assert_eq!(named_lock(text), Some(PathBuf::from("/p/.git/refs/heads/x.lock")));
        assert_eq!(named_lock("Unable to create '/p/x.lock': Permission denied"), None);
    }

    #[test]
    fn a_living_process_has_a_start_time() {
        assert!(start_time(std::process::id()).is_some());
        assert_eq!(start_time(u32::MAX), None);
    }
}
