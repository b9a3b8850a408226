//! What a tool that was killed left beside the files that it changed.

use aedile_core::temporary::is_temporary_name;
use std::fs::{self, DirEntry};
use std::path::{Path, PathBuf};

/// Removes the half-written files of an earlier life below the workspace and puts back what it had set aside to be deleted; returns how many
/// there were. Call it before anything runs in a new box. Links are not followed, `.git` is left out, and what cannot be mended is left.
pub fn clear_leftovers(workspace: &Path) -> usize {
    let (mut mended, mut todo) = (0, vec![workspace.to_owned()]);
    while let Some(directory) = todo.pop() {
        for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
            let (Ok(kind), name) = (entry.file_type(), entry.file_name()) else { continue };
            let ours = is_temporary_name(name.as_encoded_bytes());
            if ours && kind.is_file() {
                mended += usize::from(fs::remove_file(entry.path()).is_ok());
            } else if ours && kind.is_dir() {
                mended += put_back(&entry, &directory);
            } else if kind.is_dir() && name != ".git" {
                todo.push(entry.path());
            }
        }
    }
    mended
}

/// Moves what was set aside back to its own name, unless there is something new.
fn put_back(aside: &DirEntry, directory: &Path) -> usize {
    let entries: Vec<DirEntry> = fs::read_dir(aside.path()).into_iter().flatten().flatten().collect();
    let free = |own: &PathBuf| fs::symlink_metadata(own).is_err();
    let own = entries.iter().map(|entry| (entry.path(), directory.join(entry.file_name()))).filter(|(_, own)| free(own));
    let moved = own.filter(|(from, own)| fs::rename(from, own).is_ok()).count();
    // Only what is empty goes.
    moved + usize::from(fs::remove_dir(aside.path()).is_ok() && moved == 0)
}
