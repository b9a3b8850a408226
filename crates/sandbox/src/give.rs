//! Where root's box cannot write a directory of aedile's own through an id-mapped mount: the directory is given to the box's host id.
//!
//! It goes by descriptor and follows no link. The host is root there and reads and writes it all the same.

use rustix::fs::{AtFlags, Dir, FileType, Gid, Mode, OFlags, Stat, Uid};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Directories within directories that are looked into. What lies deeper was made by a box, to whom it belongs already.
const DEPTH_MAX: u32 = 200;

/// Whether the directory, or the file, belongs to the box's host id already.
pub(crate) fn belongs(path: &Path, box_id: u32) -> bool {
    rustix::fs::lstat(path).is_ok_and(|stat| (stat.st_uid, stat.st_gid) == (box_id, box_id))
}

/// Gives the directory or file with all below it to `box_id`. A file with several names stays whose it is: one of them may lie elsewhere.
pub(crate) fn give(path: &Path, box_id: u32) -> io::Result<()> {
    let stat = rustix::fs::lstat(path)?;
    if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let dir = rustix::fs::open(path, flags, Mode::empty())?;
        own(dir.as_fd(), Path::new(""), &rustix::fs::fstat(&dir)?, box_id)?;
        return below(dir.as_fd(), box_id, DEPTH_MAX);
    }
    own(rustix::fs::CWD, path, &stat, box_id)
}

fn below(dir: BorrowedFd<'_>, box_id: u32, depth: u32) -> io::Result<()> {
    // The names first, so that only one descriptor stays open for each level.
    let names: Vec<_> = Dir::read_from(dir)?.map(|entry| entry.map(|entry| entry.file_name().to_owned())).collect::<Result<_, _>>()?;
    for name in names.iter().map(|name| name.to_bytes()).filter(|name| ![&b"."[..], b".."].contains(name)) {
        let name = Path::new(OsStr::from_bytes(name));
        let stat = match rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => continue,
            other => other?,
        };
        own(dir, name, &stat, box_id)?;
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory && depth > 0 {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            match rustix::fs::openat(dir, name, flags, Mode::empty()) {
                Ok(inner) => below(inner.as_fd(), box_id, depth - 1)?,
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
    Ok(())
}

fn own(base: BorrowedFd<'_>, name: &Path, stat: &Stat, box_id: u32) -> io::Result<()> {
    let shared = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile && stat.st_nlink > 1;
    if shared || (stat.st_uid, stat.st_gid) == (box_id, box_id) {
        return Ok(());
    }
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::EMPTY_PATH;
    match rustix::fs::chownat(base, name, Some(Uid::from_raw(box_id)), Some(Gid::from_raw(box_id)), flags) {
        Err(Errno::NOENT) => Ok(()),
        other => Ok(other?),
    }
}

/// The kind of file system that a path lies on, as the kernel's list of mounts names it.
pub(crate) fn file_system(path: &Path) -> String {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let kinds = mounts.lines().filter_map(|line| {
        let (place, kind) = line.split_once(" - ")?;
        let place = place.split(' ').nth(4)?;
        path.starts_with(place).then_some((place.len(), kind.split(' ').next()?))
    });
    // Of two mounts at one place the later lies above.
    kinds.max_by_key(|(length, _)| *length).map_or_else(|| "an unknown kind".to_owned(), |(_, kind)| kind.to_owned())
}
