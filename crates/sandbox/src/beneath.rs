//! Opening and making paths by descriptor, so that no symbolic link that somebody planted is followed.

use crate::wire::{Failure, Step};
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Uid};
use rustix::io::Errno;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path};

const DIR_MODE: Mode = Mode::from_raw_mode(0o755);

/// Opens a host path for mounting. Links above the last part are followed, the last part is not.
pub(crate) fn open_host(path: &Path) -> io::Result<OwnedFd> {
    let fd = rustix::fs::open(path, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
    if FileType::from_raw_mode(rustix::fs::fstat(&fd)?.st_mode) == FileType::Symlink {
        return Err(Errno::LOOP.into());
    }
    Ok(fd)
}

/// Opens `path` below `base` without following any link and without leaving `base`.
pub(crate) fn open_beneath(base: impl AsFd, path: &Path, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    rustix::fs::openat2(base, path, flags | OFlags::CLOEXEC | OFlags::NOFOLLOW, Mode::empty(), resolve)
}

/// Whether the descriptor is a directory.
pub(crate) fn is_dir(fd: impl AsFd) -> io::Result<bool> {
    Ok(FileType::from_raw_mode(rustix::fs::fstat(fd)?.st_mode) == FileType::Directory)
}

/// Gives the owner of a file or directory every right that they need to look into it and to move it. Returns the mode that it had.
pub(crate) fn open_up(base: impl AsFd, path: &Path) -> io::Result<Mode> {
    let fd = open_beneath(base, path, OFlags::PATH)?;
    let stat = rustix::fs::fstat(&fd)?;
    let (kind, mode) = (FileType::from_raw_mode(stat.st_mode), Mode::from_raw_mode(stat.st_mode & 0o7777));
    let wanted = match kind {
        FileType::Directory => mode | Mode::RWXU,
        FileType::RegularFile => mode | Mode::RUSR | Mode::WUSR,
        _ => mode,
    };
    if wanted != mode {
        set_mode(&fd, wanted)?;
    }
    Ok(mode)
}

/// Sets the mode of what a descriptor of any kind (`O_PATH` too) stands for, which must be no symbolic link.
pub(crate) fn set_mode(fd: &OwnedFd, mode: Mode) -> io::Result<()> {
    Ok(rustix::fs::chmod(format!("/proc/self/fd/{}", fd.as_raw_fd()), mode)?)
}

/// Opens the directory `path` (relative) below `base`, making what is missing; what is made belongs to `owner` if given.
pub(crate) fn make_dirs(base: BorrowedFd<'_>, path: &Path, owner: Option<(u32, u32)>) -> io::Result<OwnedFd> {
    let mut here = open_beneath(base, Path::new("."), OFlags::PATH | OFlags::DIRECTORY)?;
    for part in path.components() {
        let Component::Normal(name) = part else {
            return Err(Errno::INVAL.into());
        };
        let name = Path::new(name);
        let open = |made: &OwnedFd| open_beneath(made, name, OFlags::PATH | OFlags::DIRECTORY);
        here = match open(&here) {
            Err(Errno::NOENT) => {
                match rustix::fs::mkdirat(&here, name, DIR_MODE) {
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(error) => return Err(error.into()),
                }
                let made = open(&here)?;
                if let Some((uid, gid)) = owner {
                    rustix::fs::chownat(&made, "", Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)), AtFlags::EMPTY_PATH)?;
                }
                made
            }
            other => other?,
        };
    }
    Ok(here)
}

/// Makes (if missing) and opens the place in the new root where something is to be mounted.
pub(crate) fn mount_point(root: BorrowedFd<'_>, inside: &Path, directory: bool) -> Result<OwnedFd, Failure> {
    let relative = inside.strip_prefix("/").unwrap_or(inside);
    if directory {
        return make_dirs(root, relative, None).step_at("making the mount point", inside);
    }
    let parent = make_dirs(root, relative.parent().unwrap_or(Path::new("")), None).step_at("making the directory of", inside)?;
    let Some(name) = relative.file_name() else {
        return Err(Failure::refused(format!("{} cannot be a mount point", inside.display())));
    };
    let name = Path::new(name);
    match open_beneath(&parent, name, OFlags::PATH) {
        Err(Errno::NOENT) => {
            let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
            rustix::fs::openat(&parent, name, flags, Mode::from_raw_mode(0o644)).step_at("making the mount point", inside)?;
            open_beneath(&parent, name, OFlags::PATH).step_at("opening the mount point", inside)
        }
        other => other.step_at("opening the mount point", inside),
    }
}

/// Makes a new file in the new root.
pub(crate) fn write_file(root: BorrowedFd<'_>, path: &str, bytes: &[u8]) -> Result<(), Failure> {
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let file = rustix::fs::openat(root, path, flags, Mode::from_raw_mode(0o644)).step_at("making", Path::new(path))?;
    std::io::Write::write_all(&mut std::fs::File::from(file), bytes).step_at("writing", Path::new(path))
}
