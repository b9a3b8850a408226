//! Reading a text whole, and writing a file whole: a temporary file beside it, then a rename.

use aedile_core::limits::READ_FILE_BYTES_MAX;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::place::{Place, is_denied};

/// Reads a text that is to be changed.
pub(crate) fn read_text(place: &Place, path: &Path) -> Result<String, String> {
    let shown = place.show(path);
    let meta = fs::metadata(path).map_err(|error| place.read_error(path, &error))?;
    if !meta.is_file() || meta.len() > READ_FILE_BYTES_MAX {
        return Err(format!("{shown} is not a regular file of at most {READ_FILE_BYTES_MAX} bytes"));
    }
    let bytes = fs::read(path).map_err(|error| place.read_error(path, &error))?;
    String::from_utf8(bytes).map_err(|_| format!("{shown} is not UTF-8 text; change it with `bash`"))
}

/// Replaces (or creates) the file's content. Parents are created, the mode of an existing file stays, symbolic links are written through.
pub(crate) fn write_whole(place: &Place, path: &Path, content: &[u8]) -> Result<(), String> {
    write_file(path, content).map_err(|error| place.write_error(path, &error))
}

/// The same with the operating system's error.
pub(crate) fn write_file(path: &Path, content: &[u8]) -> io::Result<()> {
    let target = target_of(path)?;
    let Some(parent) = target.parent() else { return Err(io::Error::other("it is not a file")) };
    fs::create_dir_all(parent)?;
    match replace(&target, parent, content) {
        // A file that is a mount of its own, or whose directory is read-only, can still be writable in place.
        Err(error) if is_denied(&error) && target.exists() => fs::write(&target, content),
        done => done,
    }
}

fn target_of(path: &Path) -> io::Result<PathBuf> {
    match fs::symlink_metadata(path) {
        Err(_) => Ok(path.to_owned()),
        Ok(meta) if meta.is_symlink() => {
            fs::canonicalize(path).map_err(|error| io::Error::other(format!("it is a symbolic link that cannot be followed: {error}")))
        }
        Ok(meta) if !meta.is_file() => Err(io::Error::other("it is not a regular file")),
        Ok(_) => Ok(path.to_owned()),
    }
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
