//! Keeps a box from making `.git` at the root of a person's tree that has none: the person's next git command would obey it.
//!
//! An empty directory is put there, which git passes over, and the box has it read-only like any `.git`. It goes with the last box that
//! needs it; where this process is killed first, the next command takes it away.

use aedile_core::sandbox::{BoxSpec, WriteScope};
use aedile_core::scope::Scope;
use rustix::fs::{AtFlags, Dir, FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;

const NAME: &str = ".git";
const DIR: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
/// Times that another box's end may take the directory away between making and holding it.
const TRIES_MAX: u32 = 16;

/// The empty directory, held until this is dropped.
pub(crate) struct Bar {
    tree: OwnedFd,
    held: OwnedFd,
}

impl Bar {
    /// Puts it there when the box may write the tree's root and there is no `.git`.
    pub(crate) fn make(spec: &BoxSpec) -> io::Result<Option<Self>> {
        let (Some(tree), WriteScope::Globs { globs, also, .. }) = (&spec.tree, &spec.write) else { return Ok(None) };
        let whole = |glob: &str| std::fs::symlink_metadata(tree.join(glob)).is_ok_and(|meta| meta.is_dir());
        let at_root = Scope::new(globs).is_ok_and(|scope| {
            scope.globs().iter().zip(scope.directories()).any(|(glob, (directory, _))| directory.is_empty() && !whole(glob))
        });
        if !at_root || also.iter().any(|also| also == NAME) {
            return Ok(None);
        }
        let tree = rustix::fs::open(tree, DIR, Mode::empty())?;
        for _ in 0..TRIES_MAX {
            match rustix::fs::mkdirat(&tree, NAME, Mode::from_raw_mode(0o755)) {
                Ok(()) | Err(Errno::EXIST) => {}
                // Nor can the box, which has no more rights.
                Err(Errno::ROFS | Errno::ACCESS | Errno::PERM) => return Ok(None),
                Err(error) => return Err(error.into()),
            }
            let held = match rustix::fs::openat(&tree, NAME, DIR, Mode::empty()) {
                Ok(held) => held,
                Err(Errno::NOENT) => continue,
                // Something is there that holds the name.
                Err(_) => return Ok(None),
            };
            rustix::fs::flock(&held, FlockOperation::LockShared)?;
            let mut entries = Dir::read_from(&held)?;
            if !entries.all(|entry| entry.is_ok_and(|entry| [&b"."[..], b".."].contains(&entry.file_name().to_bytes()))) {
                return Ok(None);
            }
            if rustix::fs::fstat(&held)?.st_nlink > 0 {
                return Ok(Some(Self { tree, held }));
            }
        }
        Err(Errno::BUSY.into())
    }

    /// One that a killed process left, as if it were held: it goes when this is dropped, unless another box needs it.
    pub(crate) fn left_behind(tree: &Path) -> io::Result<Self> {
        let tree = rustix::fs::open(tree, DIR, Mode::empty())?;
        let held = rustix::fs::openat(&tree, NAME, DIR, Mode::empty())?;
        Ok(Self { tree, held })
    }
}

/// Whether this path of a tree is a bar that some box holds.
pub(crate) fn is_held(tree: BorrowedFd<'_>, path: &Path) -> bool {
    let opened = (path == Path::new(NAME)).then(|| rustix::fs::openat(tree, NAME, DIR, Mode::empty()).ok()).flatten();
    opened.is_some_and(|dir| rustix::fs::flock(&dir, FlockOperation::NonBlockingLockExclusive) == Err(Errno::WOULDBLOCK))
}

impl Drop for Bar {
    fn drop(&mut self) {
        if rustix::fs::flock(&self.held, FlockOperation::NonBlockingLockExclusive).is_ok() {
            // Fails when something is in it, and then it is no bar any more.
            let _ = rustix::fs::unlinkat(&self.tree, NAME, AtFlags::REMOVEDIR);
        }
    }
}
