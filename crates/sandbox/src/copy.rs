//! Where root's box cannot write a person's directory through an id-mapped mount: it works on a copy, and what it changed is copied back.
//!
//! Both ways go by descriptor and follow no link. Only what the box changed or removed goes back: what somebody else did to the
//! directory meanwhile stays, except in the very files that the box changed too. Copies are in the sandbox's runtime directory
//! (`box-copy-*`); one that a killed worker left there holds work that was not given back, and is never removed by the sandbox.

use crate::aside::open_all;
use crate::beneath::{open_beneath, open_up};
use rustix::fs::{AtFlags, Dir, DirEntry, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, Uid};
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

const PARTIAL: &str = ".aedile-partial";

/// A copy for one box.
pub(crate) struct Copied {
    pub(crate) host: PathBuf,
    holder: Holder,
    pub(crate) owner: (u32, u32),
    /// What was there at the start, by relative path, and its kind.
    pub(crate) known: BTreeMap<PathBuf, FileType>,
    /// Time of the copy: what has a later change time was changed by the box.
    pub(crate) made: Stamp,
}

/// The directory of a copy, which goes also when its owner may not change what is in it.
struct Holder(Option<tempfile::TempDir>);

impl Holder {
    fn path(&self) -> &Path {
        self.0.as_ref().map_or(Path::new(""), tempfile::TempDir::path)
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        if let Some(dir) = &self.0
            && !rustix::process::geteuid().is_root()
            && let Ok(opened) = open_dir(dir.path())
        {
            let _ = open_all(opened.as_fd(), Path::new("tree"));
        }
    }
}

/// Seconds and nanoseconds.
pub(crate) type Stamp = (i64, i64);

pub(crate) fn changed_at(stat: &Stat) -> Stamp {
    (stat.st_ctime, i64::try_from(stat.st_ctime_nsec).unwrap_or(0))
}

pub(crate) fn open_dir(path: &Path) -> io::Result<OwnedFd> {
    Ok(rustix::fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?)
}

fn open_in(base: BorrowedFd<'_>, name: &Path) -> rustix::io::Result<OwnedFd> {
    rustix::fs::openat(base, name, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
}

impl Copied {
    /// Copies `host` into a new directory below `runtime_dir`; everything in the copy belongs to `box_id`.
    pub(crate) fn make(host: &Path, runtime_dir: &Path, box_id: u32) -> io::Result<Self> {
        Self::without(host, runtime_dir, (box_id, box_id), &[])
    }

    /// The same without some files (relative), of which the copy knows nothing.
    pub(crate) fn without(host: &Path, runtime_dir: &Path, owner: (u32, u32), left_out: &[PathBuf]) -> io::Result<Self> {
        let from = open_dir(host)?;
        let stat = rustix::fs::fstat(&from)?;
        std::fs::create_dir_all(runtime_dir)?;
        let holder = tempfile::Builder::new().prefix("box-copy-").tempdir_in(runtime_dir)?;
        let holder = Holder(Some(holder));
        let mut copied = Self { host: host.to_owned(), holder, owner: (stat.st_uid, stat.st_gid), known: BTreeMap::new(), made: (0, 0) };
        let tree = copied.path();
        std::fs::create_dir(&tree)?;
        let all = Transfer { owner, since: None };
        all.own(open_dir(&tree)?, Path::new(""))?;
        all.directory(from.as_fd(), open_dir(&tree)?.as_fd())?;
        left_out.iter().try_for_each(|path| remove(open_dir(&tree)?.as_fd(), path))?;
        names(open_dir(&tree)?.as_fd(), Path::new(""), &mut copied.known)?;
        let marker = File::create(copied.holder.path().join("made"))?;
        copied.made = changed_at(&rustix::fs::fstat(&marker)?);
        Ok(copied)
    }

    /// Where the copy is.
    pub(crate) fn path(&self) -> PathBuf {
        self.holder.path().join("tree")
    }

    /// Keeps the copy and says where it is.
    pub(crate) fn keep(mut self) -> PathBuf {
        self.holder.0.take().map(tempfile::TempDir::keep).unwrap_or_default().join("tree")
    }

    /// Copies back what the box changed, owned as the directory is. When that fails the copy is kept, and the error names it.
    pub(crate) fn give_back(self) -> io::Result<()> {
        let result = self.transfer_back();
        if let Err(error) = result {
            let kept = self.keep();
            return Err(io::Error::new(error.kind(), format!("{error}; the box's work is kept in {}", kept.display())));
        }
        Ok(())
    }

    fn transfer_back(&self) -> io::Result<()> {
        let (from, to) = (open_dir(&self.path())?, open_dir(&self.host)?);
        let mut left = BTreeMap::new();
        names(from.as_fd(), Path::new(""), &mut left)?;
        // Longest first, so that directories are empty when their turn comes.
        for gone in self.known.keys().rev().filter(|path| !left.contains_key(*path)) {
            remove(to.as_fd(), gone)?;
        }
        Transfer { owner: self.owner, since: Some(self.made) }.directory(from.as_fd(), to.as_fd())?;
        Ok(())
    }
}

/// Copies one entry, with all below it, into another directory; it belongs to whoever runs this. Special files are left out.
pub(crate) fn copy_entry(from: BorrowedFd<'_>, name: &Path, to: BorrowedFd<'_>) -> io::Result<()> {
    let stat = rustix::fs::statat(from, name, AtFlags::SYMLINK_NOFOLLOW)?;
    let all = Transfer { owner: (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw()), since: None };
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => {
            let (target, _) = all.target_directory(to, name)?;
            all.directory(open_in(from, name)?.as_fd(), target.as_fd())?;
            Ok(rustix::fs::fchmod(&target, Mode::from_raw_mode(stat.st_mode & 0o777))?)
        }
        FileType::RegularFile => all.file(from, to, name, &stat),
        FileType::Symlink => all.link(from, to, name),
        _ => Ok(()),
    }
}

/// The entry's name, of whatever bytes; nothing for `.` and `..`.
fn named(entry: &DirEntry) -> Option<&Path> {
    let name = entry.file_name().to_bytes();
    (name != b"." && name != b"..").then(|| Path::new(OsStr::from_bytes(name)))
}

/// Collects the names and kinds of everything below a directory of a copy. What its owner may not look into is made readable.
pub(crate) fn names(from: BorrowedFd<'_>, path: &Path, into: &mut BTreeMap<PathBuf, FileType>) -> io::Result<()> {
    for entry in Dir::read_from(from)? {
        let entry = entry?;
        let Some(name) = named(&entry) else { continue };
        let below = path.join(name);
        let kind = FileType::from_raw_mode(rustix::fs::statat(from, name, AtFlags::SYMLINK_NOFOLLOW)?.st_mode);
        if kind == FileType::Directory {
            let inner = match open_in(from, name) {
                Err(Errno::ACCESS) => {
                    open_up(from, name)?;
                    open_in(from, name)?
                }
                other => other?,
            };
            names(inner.as_fd(), &below, into)?;
        }
        into.insert(below, kind);
    }
    Ok(())
}

/// Removes one entry; a directory into which somebody else put something stays.
pub(crate) fn remove(base: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let name = Path::new(path.file_name().unwrap_or_default());
    let answer = in_directory(base, path.parent().unwrap_or(Path::new("")), |parent| {
        Ok(match rustix::fs::unlinkat(parent, name, AtFlags::empty()) {
            Err(Errno::ISDIR | Errno::PERM) => rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR),
            other => other,
        }?)
    });
    let stays = [Errno::NOENT, Errno::NOTEMPTY, Errno::NOTDIR, Errno::LOOP].map(Errno::raw_os_error);
    answer.or_else(|error| if error.raw_os_error().is_some_and(|number| stays.contains(&number)) { Ok(()) } else { Err(error) })
}

/// Does something in a directory that its owner may have forbidden themselves to change. Its mode is the old one afterwards.
pub(crate) fn in_directory<T>(base: BorrowedFd<'_>, path: &Path, act: impl FnOnce(&OwnedFd) -> io::Result<T>) -> io::Result<T> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
    let opened = open_beneath(base, path, flags);
    let closed = match &opened {
        Ok(opened) => !Mode::from_raw_mode(rustix::fs::fstat(opened)?.st_mode).contains(Mode::WUSR | Mode::XUSR),
        Err(error) => *error == Errno::ACCESS,
    };
    if !closed || rustix::process::geteuid().is_root() {
        return act(&opened?);
    }
    let mode = open_up(base, path)?;
    let opened = open_beneath(base, path, flags)?;
    let done = act(&opened);
    rustix::fs::fchmod(&opened, mode)?;
    done
}

pub(crate) struct Transfer {
    pub(crate) owner: (u32, u32),
    /// Leave out files that did not change after this.
    pub(crate) since: Option<Stamp>,
}

impl Transfer {
    fn own(&self, fd: impl AsFd, name: &Path) -> rustix::io::Result<()> {
        if !rustix::process::geteuid().is_root() {
            // What an ordinary user makes is theirs, and nobody else's can be given to anyone.
            return Ok(());
        }
        let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::EMPTY_PATH;
        rustix::fs::chownat(fd, name, Some(Uid::from_raw(self.owner.0)), Some(Gid::from_raw(self.owner.1)), flags)
    }

    fn directory(&self, from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> io::Result<()> {
        for entry in Dir::read_from(from)? {
            let entry = entry?;
            let Some(name) = named(&entry) else { continue };
            let stat = rustix::fs::statat(from, name, AtFlags::SYMLINK_NOFOLLOW)?;
            let fresh = self.since.is_none_or(|since| changed_at(&stat) > since);
            match FileType::from_raw_mode(stat.st_mode) {
                FileType::Directory => {
                    let inner = open_in(from, name)?;
                    let (target, made) = self.target_directory(to, name)?;
                    self.directory(inner.as_fd(), target.as_fd())?;
                    if made {
                        rustix::fs::fchmod(&target, Mode::from_raw_mode(stat.st_mode & 0o777))?;
                    }
                }
                FileType::RegularFile if fresh => self.file(from, to, name, &stat)?,
                FileType::Symlink if fresh => self.link(from, to, name)?,
                _ => {}
            }
        }
        Ok(())
    }

    /// Opens the directory, or makes it so that only its owner sees it until its contents are there; whether it was made.
    pub(crate) fn target_directory(&self, to: BorrowedFd<'_>, name: &Path) -> io::Result<(OwnedFd, bool)> {
        match open_in(to, name) {
            Ok(there) => return Ok((there, false)),
            Err(Errno::NOENT) => {}
            Err(Errno::NOTDIR | Errno::LOOP) => rustix::fs::unlinkat(to, name, AtFlags::empty())?,
            Err(error) => return Err(error.into()),
        }
        rustix::fs::mkdirat(to, name, Mode::from_raw_mode(0o700))?;
        let made = open_in(to, name)?;
        self.own(&made, Path::new(""))?;
        Ok((made, true))
    }

    /// Writes beside the target and renames, so that a reader sees the old file or the new one.
    pub(crate) fn file(&self, from: BorrowedFd<'_>, to: BorrowedFd<'_>, name: &Path, stat: &Stat) -> io::Result<()> {
        let read = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let mut source = File::from(rustix::fs::openat(from, name, read, Mode::empty())?);
        clear(to, Path::new(PARTIAL))?;
        let make = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut target = File::from(rustix::fs::openat(to, PARTIAL, make, Mode::from_raw_mode(0o600))?);
        io::copy(&mut source, &mut target)?;
        self.own(&target, Path::new(""))?;
        rustix::fs::fchmod(&target, Mode::from_raw_mode(stat.st_mode & 0o777))?;
        let time = |seconds: i64, nanos| Timespec { tv_sec: seconds, tv_nsec: nanos };
        let modified = time(stat.st_mtime, i64::try_from(stat.st_mtime_nsec).unwrap_or(0));
        rustix::fs::futimens(&target, &Timestamps { last_access: modified, last_modification: modified })?;
        replace(to, name)
    }

    pub(crate) fn link(&self, from: BorrowedFd<'_>, to: BorrowedFd<'_>, name: &Path) -> io::Result<()> {
        let target = rustix::fs::readlinkat(from, name, Vec::new())?;
        clear(to, Path::new(PARTIAL))?;
        rustix::fs::symlinkat(&target, to, PARTIAL)?;
        self.own(to, Path::new(PARTIAL))?;
        replace(to, name)
    }
}

fn clear(base: BorrowedFd<'_>, name: &Path) -> io::Result<()> {
    match rustix::fs::unlinkat(base, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Puts the finished file or link in its place. A directory of that name stays if it holds anything.
fn replace(base: BorrowedFd<'_>, name: &Path) -> io::Result<()> {
    match rustix::fs::renameat(base, PARTIAL, base, name) {
        Err(Errno::ISDIR) => {
            rustix::fs::unlinkat(base, name, AtFlags::REMOVEDIR)?;
            Ok(rustix::fs::renameat(base, PARTIAL, base, name)?)
        }
        other => Ok(other?),
    }
}
