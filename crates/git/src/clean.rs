//! What is left behind, how large it is, and its removal.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use crate::error::{GitError, io};

/// Space on disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct DiskUse {
    /// Bytes in allocated blocks.
    pub bytes: u64,
    /// Files, directories and links.
    pub entries: u64,
}

/// Sums the space below a path without following links. What disappears meanwhile is left out; a missing path is empty.
pub fn disk_use(path: &Path) -> DiskUse {
    let mut total = DiskUse::default();
    let mut todo = vec![path.to_owned()];
    while let Some(path) = todo.pop() {
        let Ok(meta) = fs::symlink_metadata(&path) else { continue };
        total.bytes += meta.blocks() * 512;
        total.entries += 1;
        if meta.is_dir()
            && let Ok(entries) = fs::read_dir(&path)
        {
            todo.extend(entries.flatten().map(|entry| entry.path()));
        }
    }
    total
}

/// Removes a directory with all below it, also where an agent took away its own rights to directories. Links are removed, never followed.
/// Harmless when there is nothing.
///
/// # Errors
/// [`GitError::Io`] names what could not be removed.
pub fn remove_tree(path: &Path) -> Result<(), GitError> {
    match fs::remove_dir_all(path) {
        Ok(()) => return Ok(()),
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) if error.kind() != ErrorKind::PermissionDenied => return Err(io("remove", path)(error)),
        Err(_) => {}
    }
    let mut todo = vec![path.to_owned()];
    while let Some(dir) = todo.pop() {
        if fs::symlink_metadata(&dir).is_ok_and(|meta| meta.is_dir()) {
            fs::set_permissions(&dir, fs::Permissions::from_mode(0o700)).map_err(io("make removable", &dir))?;
            let entries = fs::read_dir(&dir).map_err(io("read", &dir))?;
            todo.extend(entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|entry| entry.path()));
        }
    }
    fs::remove_dir_all(path).map_err(io("remove", path))
}
