//! Locks that a killed git left behind.

use std::fs;
use std::path::Path;

/// Deeper directories below `.git` hold no locks of git's.
const DEPTH_MAX: usize = 16;

/// Removes every lock file below the workspace's `.git` and returns how many there were. Call it before anything runs in a new box: whoever
/// held a lock then ended with the box before. Links are not followed, and what cannot be removed is left.
pub fn clear_stale_locks(workspace: &Path) -> usize {
    let git = workspace.join(".git");
    if git.symlink_metadata().is_ok_and(|meta| meta.is_dir()) { clear(&git, DEPTH_MAX) } else { 0 }
}

fn clear(directory: &Path, depth: usize) -> usize {
    let mut removed = 0;
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let (Ok(kind), name) = (entry.file_type(), entry.file_name()) else { continue };
        // No name of a branch ends so, since git locks a branch by a file beside it.
        if kind.is_file() && name.as_encoded_bytes().ends_with(b".lock") {
            removed += usize::from(fs::remove_file(entry.path()).is_ok());
        } else if kind.is_dir() && depth > 0 && name != "objects" {
            removed += clear(&entry.path(), depth - 1);
        }
    }
    removed
}
