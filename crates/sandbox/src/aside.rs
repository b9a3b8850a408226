//! What a box has planted in a person's tree under a protected name is moved to the state directory when the box has ended.

use crate::beneath::{make_dirs, open_beneath};
use crate::copy::copy_entry;
use crate::survey::{self, Guard, Survey};
use aedile_core::sandbox::WriteScope;
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Something that the caller should tell the person about a box.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BoxNote {
    /// The rule's id.
    pub rule: String,
    /// The path in the tree (relative) that it is about; empty for the box itself.
    pub path: PathBuf,
    /// What happened, as a sentence without its subject.
    pub words: String,
}

/// Looks at the tree after the box.
pub(crate) struct Sweep {
    pub(crate) tree: PathBuf,
    pub(crate) write: WriteScope,
    pub(crate) writable: Vec<String>,
    /// What was there before.
    pub(crate) before: Survey,
    pub(crate) runtime_dir: PathBuf,
}

impl Sweep {
    /// Moves away what is new. Blocks for as long as a walk through the tree takes.
    pub(crate) fn run(&self) -> io::Result<Vec<BoxNote>> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let tree = rustix::fs::open(&self.tree, flags, Mode::empty())?;
        let guard = Guard { protect: true, ..Guard::default() };
        let after = survey::survey(tree.as_fd(), &guard, &self.write, &self.writable);
        let links = after.symlinks.iter().filter(|(path, link)| self.before.symlinks.get(*path) != Some(link));
        let links = links.map(|(path, (rule, _))| (path.clone(), *rule));
        let known = |path: &PathBuf| self.before.protected.contains_key(path);
        let new = after.protected.iter().filter(|(path, _)| !known(path)).map(|(path, rule)| (path.clone(), *rule));
        let new: BTreeMap<PathBuf, &'static str> = new.chain(links).collect();
        let outermost = new.iter().filter(|(path, _)| !new.keys().any(|above| above != *path && path.starts_with(above)));
        let mut notes = Vec::new();
        let mut place: Option<(PathBuf, OwnedFd)> = None;
        for (path, rule) in outermost {
            let (dir, to) = match &place {
                Some(place) => place,
                None => place.insert(self.place()?),
            };
            relocate(tree.as_fd(), path, to.as_fd()).map_err(|error| named(path, &error))?;
            let words = format!("was made by the command and could run code outside the box; it was moved to {}", dir.join(path).display());
            notes.push(BoxNote { rule: (*rule).to_owned(), path: path.clone(), words });
        }
        for (path, (_, target)) in &self.before.symlinks {
            let parent = open_beneath(tree.as_fd(), path.parent().unwrap_or(Path::new("")), OFlags::PATH | OFlags::DIRECTORY);
            let (Ok(parent), Some(name)) = (parent, path.file_name()) else { continue };
            match rustix::fs::symlinkat(target, &parent, Path::new(name)) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(error) => return Err(named(path, &error.into())),
            }
        }
        Ok(notes)
    }

    /// A new directory for what is moved.
    fn place(&self) -> io::Result<(PathBuf, OwnedFd)> {
        std::fs::create_dir_all(&self.runtime_dir)?;
        let dir = tempfile::Builder::new().prefix("moved-").tempdir_in(&self.runtime_dir)?.keep();
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::open(&dir, flags, Mode::empty())?;
        Ok((dir, fd))
    }
}

fn named(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

/// Moves one entry, with all below it, to the same path below another directory. No link is followed.
fn relocate(tree: BorrowedFd<'_>, path: &Path, to: BorrowedFd<'_>) -> io::Result<()> {
    let parent = path.parent().unwrap_or(Path::new(""));
    let name = Path::new(path.file_name().unwrap_or_default());
    let from = open_beneath(tree, parent, OFlags::RDONLY | OFlags::DIRECTORY)?;
    let target = make_dirs(to, parent, None)?;
    match rustix::fs::renameat(&from, name, &target, name) {
        Ok(()) => Ok(()),
        Err(Errno::XDEV | Errno::PERM | Errno::ACCESS) => {
            copy_entry(from.as_fd(), name, target.as_fd())?;
            remove(from.as_fd(), name)
        }
        Err(error) => Err(error.into()),
    }
}

/// Removes an entry with all below it.
pub(crate) fn remove(base: BorrowedFd<'_>, name: &Path) -> io::Result<()> {
    let kind = FileType::from_raw_mode(rustix::fs::statat(base, name, AtFlags::SYMLINK_NOFOLLOW)?.st_mode);
    if kind != FileType::Directory {
        return Ok(rustix::fs::unlinkat(base, name, AtFlags::empty())?);
    }
    let inner = open_beneath(base, name, OFlags::RDONLY | OFlags::DIRECTORY)?;
    let names: Vec<PathBuf> = Dir::read_from(&inner)?
        .flatten()
        .map(|entry| PathBuf::from(OsStr::from_bytes(entry.file_name().to_bytes())))
        .filter(|name| name != Path::new(".") && name != Path::new(".."))
        .collect();
    for below in names {
        remove(inner.as_fd(), &below)?;
    }
    Ok(rustix::fs::unlinkat(base, name, AtFlags::REMOVEDIR)?)
}
