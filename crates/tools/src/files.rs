//! Reading a text whole, and writing a file whole: a temporary file beside it, then a rename.

use aedile_core::limits::READ_FILE_BYTES_MAX;
use aedile_core::temporary::temporary_name;
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
fn create_beside(directory: &Path) -> io::Result<(PathBuf, File)> {
    make_beside(directory, |path| OpenOptions::new().write(true).create_new(true).open(path))
}

/// Moves what is at `path` into a new directory beside it, under its own name, so that a later life can put it back
/// ([`crate::clear_leftovers`]). Returns where it lies now.
pub(crate) fn set_aside(path: &Path) -> io::Result<PathBuf> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Err(io::Error::other("it is not a file")) };
    let (directory, ()) = make_beside(parent, |path| fs::create_dir(path))?;
    let aside = directory.join(name);
    fs::rename(path, &aside).inspect_err(|_| drop(fs::remove_dir(&directory)))?;
    Ok(aside)
}

fn make_beside<T>(directory: &Path, make: impl Fn(&Path) -> io::Result<T>) -> io::Result<(PathBuf, T)> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    loop {
        let path = directory.join(temporary_name(std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed)));
        match make(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
            Ok(made) => return Ok((path, made)),
        }
    }
}

/// Whether the first bytes look like something that is not text.
pub(crate) fn looks_binary(head: &[u8]) -> bool {
    head[..head.len().min(8192)].contains(&0)
}
