//! Writing a file whole: a temporary file beside it, then a rename.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::place::{Place, is_denied};

/// Replaces (or creates) the file's content. Parents are created, the mode of an existing file stays, symbolic links are written through.
pub(crate) fn write_whole(place: &Place, path: &Path, content: &[u8]) -> Result<(), String> {
    let target = target_of(place, path)?;
    let Some(parent) = target.parent() else { return Err(format!("{} is not a file", place.show(path))) };
    fs::create_dir_all(parent).map_err(|error| place.write_error(path, &error))?;
    match replace(&target, parent, content) {
        // A file that is a mount of its own, or whose directory is read-only, can still be writable in place.
        Err(error) if is_denied(&error) && target.exists() => fs::write(&target, content),
        done => done,
    }
    .map_err(|error| place.write_error(path, &error))
}

fn target_of(place: &Place, path: &Path) -> Result<PathBuf, String> {
    let meta = match fs::symlink_metadata(path) {
        Ok(meta) => meta,
        Err(_) => return Ok(path.to_owned()),
    };
    if meta.is_symlink() {
        return fs::canonicalize(path).map_err(|error| format!("{} is a symbolic link that cannot be followed: {error}", place.show(path)));
    }
    if !meta.is_file() {
        return Err(format!("{} is not a regular file", place.show(path)));
    }
    Ok(path.to_owned())
}

fn replace(target: &Path, parent: &Path, content: &[u8]) -> io::Result<()> {
    let mode = fs::metadata(target).ok().map(|meta| meta.permissions());
    let (temporary, mut file) = create_beside(parent)?;
    let written = file.write_all(content).and_then(|()| match mode {
        Some(mode) => file.set_permissions(mode),
        None => Ok(()),
    });
    drop(file);
    let done = written.and_then(|()| fs::rename(&temporary, target));
    if done.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    done
}

/// Creates a new file with a name that nothing else has; the caller removes or renames it.
pub(crate) fn create_beside(directory: &Path) -> io::Result<(PathBuf, File)> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    loop {
        let name = format!(".aedile-{}-{}.tmp", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = directory.join(name);
        match OpenOptions::new().write(true).create_new(true).open(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
            Ok(file) => return Ok((path, file)),
        }
    }
}

/// Whether the first bytes look like something that is not text.
pub(crate) fn looks_binary(head: &[u8]) -> bool {
    head[..head.len().min(8192)].contains(&0)
}
