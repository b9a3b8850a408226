//! What a box has planted in a person's tree under a protected name is moved to the state directory when the box has ended.

use crate::bar;
use crate::beneath::{make_dirs, open_beneath, open_up};
use crate::copy::copy_entry;
use crate::survey::{self, Guard, Search, Survey};
use aedile_core::sandbox::WriteScope;
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;
use std::collections::{BTreeMap, BTreeSet};
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

/// Entries that are looked at after a box, which may have made many.
const ENTRIES_AFTER_MAX: usize = 16_000_000;
/// How often what was moved and put back is looked at again.
const ROUNDS_MAX: usize = 8;

/// What one sweep did.
#[derive(Default)]
struct Done {
    notes: Vec<BoxNote>,
    /// What is still in place, and why.
    left: BTreeMap<PathBuf, String>,
    place: Option<(PathBuf, OwnedFd)>,
}

impl Sweep {
    /// Moves away what is new, and tells of it also when something stays in place, which is an error. Blocks for as long as walks through
    /// the tree take.
    pub(crate) fn run(&self) -> (Vec<BoxNote>, io::Result<()>) {
        self.up_to(ENTRIES_AFTER_MAX)
    }

    fn up_to(&self, entries: usize) -> (Vec<BoxNote>, io::Result<()>) {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let tree = match rustix::fs::open(&self.tree, flags, Mode::empty()) {
            Ok(tree) => tree,
            Err(error) => return (Vec::new(), Err(named(&self.tree, &error.into()))),
        };
        let guard = Guard { protect: true, ..Guard::default() };
        let mut done = Done::default();
        for _ in 0..ROUNDS_MAX {
            let search = Search { entries, before: Some(&self.before) };
            let after = survey::survey(tree.as_fd(), &guard, &self.write, &self.writable, search);
            for path in &after.opened {
                let words = "could not be looked into by its owner; it was given that right".to_owned();
                done.notes.push(BoxNote { rule: "unreadable-directory".to_owned(), path: path.clone(), words });
            }
            if after.incomplete {
                let why = format!("it holds more than {entries} entries, and what was planted among the others is not known");
                done.left.insert(self.tree.clone(), why);
            }
            let new = self.new_in(&after);
            let outermost = new.iter().filter(|(path, _)| !new.keys().any(|above| above != *path && path.starts_with(above)));
            // What another box holds at this place goes with that box.
            let mine = |path: &Path| !done.left.contains_key(path) && !bar::is_held(tree.as_fd(), path);
            let open: Vec<_> = outermost.filter(|(path, _)| mine(path)).collect();
            let ended = open.is_empty();
            open.into_iter().for_each(|(path, rule)| self.move_away(&tree, path, rule, &mut done));
            self.links_again(&tree, &mut done);
            if ended {
                break;
            }
        }
        let left: Vec<String> = done.left.iter().map(|(path, why)| format!("{} ({why})", path.display())).collect();
        let answer = if left.is_empty() {
            Ok(())
        } else {
            Err(io::Error::other(format!(
                "what the command made can still run code outside the box, look at it first: {}",
                left.join(", ")
            )))
        };
        (done.notes, answer)
    }

    /// What was not there before, or not like this, with its rule.
    fn new_in(&self, after: &Survey) -> BTreeMap<PathBuf, &'static str> {
        let target = |survey: &Survey, path: &Path| survey.symlinks.get(path).map(|link| link.target.clone());
        // What a planted link leads to is not planted: the link goes, and with it what it meant.
        let was = |root: &Path| {
            self.before.protected.contains_key(root) || target(&self.before, root).is_some_and(|old| target(after, root) == Some(old))
        };
        let changed = |path: &Path| target(&self.before, path) != target(after, path);
        let links = after.symlinks.iter().filter(|(path, link)| changed(path) && (**path == link.root || was(&link.root)));
        let links = links.map(|(path, link)| (path.clone(), link.rule));
        let led = after.led.iter().filter(|(path, (_, root))| after.protected.contains_key(*path) && was(root)).map(|(path, _)| path);
        let led: BTreeSet<&PathBuf> = led.collect();
        let own = |path: &PathBuf| !after.led.contains_key(path) || led.contains(path);
        let known = |path: &PathBuf| self.before.protected.contains_key(path);
        let new = after.protected.iter().filter(|(path, _)| !known(path) && own(path)).map(|(path, rule)| (path.clone(), *rule));
        new.chain(links).collect()
    }

    fn move_away(&self, tree: &OwnedFd, path: &Path, rule: &str, done: &mut Done) {
        // The tree itself is a repository by its `HEAD`.
        let path = if path.as_os_str().is_empty() { Path::new("HEAD") } else { path };
        if done.place.as_ref().is_some_and(|(dir, _)| dir.join(path).symlink_metadata().is_ok()) {
            done.place = None;
        }
        let moved = match &done.place {
            Some((dir, to)) => relocate(tree.as_fd(), path, to.as_fd()).map(|()| dir.join(path)),
            None => self.place().and_then(|(dir, to)| {
                let moved = relocate(tree.as_fd(), path, to.as_fd()).map(|()| dir.join(path));
                done.place = Some((dir, to));
                moved
            }),
        };
        match moved {
            Ok(to) => {
                let words = format!("was made by the command and could run code outside the box; it was moved to {}", to.display());
                done.notes.push(BoxNote { rule: rule.to_owned(), path: path.to_owned(), words });
            }
            Err(error) => _ = done.left.insert(path.to_owned(), error.to_string()),
        }
    }

    /// Puts the links back that were there, and moves away what took their place.
    fn links_again(&self, tree: &OwnedFd, done: &mut Done) {
        for (path, link) in &self.before.symlinks {
            let parent = open_beneath(tree.as_fd(), path.parent().unwrap_or(Path::new("")), OFlags::PATH | OFlags::DIRECTORY);
            let (Ok(parent), Some(name)) = (parent, path.file_name()) else { continue };
            let name = Path::new(name);
            let there = rustix::fs::readlinkat(&parent, name, Vec::new());
            if there.is_ok_and(|there| there.to_bytes() == link.target.as_os_str().as_bytes()) || done.left.contains_key(path) {
                continue;
            }
            let mut made = rustix::fs::symlinkat(&link.target, &parent, name);
            if made == Err(Errno::EXIST) {
                self.move_away(tree, path, link.rule, done);
                made = rustix::fs::symlinkat(&link.target, &parent, name);
            }
            if let Err(error) = made {
                done.left.entry(path.clone()).or_insert_with(|| format!("the link that was there cannot be put back: {error}"));
            }
        }
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
    let target = make_dirs(to, parent, None)?;
    // A directory that forbids its owner to change it forbids it to us too.
    let mode = open_up(tree, parent)?;
    let from = open_beneath(tree, parent, OFlags::RDONLY | OFlags::DIRECTORY)?;
    let moved = match rustix::fs::renameat(&from, name, &target, name) {
        Err(Errno::XDEV | Errno::PERM | Errno::ACCESS) => {
            open_all(from.as_fd(), name).and_then(|()| match rustix::fs::renameat(&from, name, &target, name) {
                Err(Errno::XDEV | Errno::PERM | Errno::ACCESS) => {
                    copy_entry(from.as_fd(), name, target.as_fd())?;
                    remove(from.as_fd(), name)
                }
                other => Ok(other?),
            })
        }
        other => other.map_err(Into::into),
    };
    if mode != Mode::from_raw_mode(rustix::fs::fstat(&from)?.st_mode & 0o7777) {
        rustix::fs::fchmod(&from, mode)?;
    }
    moved
}

/// Gives the owner every right on an entry and on all below it. No link is followed.
pub(crate) fn open_all(base: BorrowedFd<'_>, name: &Path) -> io::Result<()> {
    let kind = FileType::from_raw_mode(rustix::fs::statat(base, name, AtFlags::SYMLINK_NOFOLLOW)?.st_mode);
    if kind == FileType::Symlink {
        return Ok(());
    }
    open_up(base, name)?;
    if kind != FileType::Directory {
        return Ok(());
    }
    let inner = open_beneath(base, name, OFlags::RDONLY | OFlags::DIRECTORY)?;
    below(&inner)?.iter().try_for_each(|name| open_all(inner.as_fd(), name))
}

/// The names in a directory.
fn below(directory: &OwnedFd) -> io::Result<Vec<PathBuf>> {
    let names = Dir::read_from(directory)?.flatten().map(|entry| PathBuf::from(OsStr::from_bytes(entry.file_name().to_bytes())));
    Ok(names.filter(|name| name != Path::new(".") && name != Path::new("..")).collect())
}

/// Removes an entry with all below it.
pub(crate) fn remove(base: BorrowedFd<'_>, name: &Path) -> io::Result<()> {
    let kind = FileType::from_raw_mode(rustix::fs::statat(base, name, AtFlags::SYMLINK_NOFOLLOW)?.st_mode);
    if kind != FileType::Directory {
        return Ok(rustix::fs::unlinkat(base, name, AtFlags::empty())?);
    }
    let inner = open_beneath(base, name, OFlags::RDONLY | OFlags::DIRECTORY)?;
    for below in below(&inner)? {
        remove(inner.as_fd(), &below)?;
    }
    Ok(rustix::fs::unlinkat(base, name, AtFlags::REMOVEDIR)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn what_cannot_be_moved_is_named_and_nothing_else_is_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let tree = dir.path().join("tree");
        std::fs::create_dir_all(tree.join("sub")).unwrap();
        std::fs::write(tree.join(".envrc"), "x").unwrap();
        symlink("../x", tree.join("sub/.git")).unwrap();
        std::fs::write(dir.path().join("file"), "x").unwrap();
        let sweep = |runtime_dir: &str| Sweep {
            tree: tree.clone(),
            write: WriteScope::All,
            writable: vec![String::new()],
            before: Survey::default(),
            runtime_dir: dir.path().join(runtime_dir),
        };
        let (notes, left) = sweep("file/below").run();
        let left = left.unwrap_err().to_string();
        assert!(notes.is_empty() && left.contains(".envrc (") && left.contains("sub/.git ("), "{notes:?} {left}");
        let (_, left) = sweep("state").up_to(1);
        assert!(left.unwrap_err().to_string().contains("more than 1 entries"));
        std::fs::write(tree.join(".envrc"), "x").unwrap();
        let (notes, left) = sweep("state").run();
        left.unwrap();
        assert!(!notes.is_empty() && !tree.join(".envrc").exists() && std::fs::symlink_metadata(tree.join("sub/.git")).is_err());
    }
}
