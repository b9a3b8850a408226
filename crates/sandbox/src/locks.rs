//! Lock files that tools rewrite without being asked. Out of scope they are copy-on-write: the box writes to a private copy that
//! goes with it, so that a build does not fail and the tree does not change.

use crate::beneath::{open_beneath, write_file};
use crate::rootfs::{attach_here, filesystem, place};
use crate::sys::{self, attr};
use crate::wire::{Failure, Step};
use aedile_core::scope::Scope;
use rustix::fs::OFlags;
use rustix::mount::{MountAttrFlags, OpenTreeFlags};
use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

const NAMES: &[&str] = &[
    "Cargo.lock",
    "Gemfile.lock",
    "composer.lock",
    "flake.lock",
    "go.sum",
    "mix.lock",
    "package-lock.json",
    "pnpm-lock.yaml",
    "poetry.lock",
    "uv.lock",
    "yarn.lock",
];
const LOCK_BYTES_MAX: u64 = 16 * 1024 * 1024;
const HOLDER: &str = "/aedile/locks";

/// A lock file out of scope.
pub(crate) struct LockFile {
    pub(crate) inside: PathBuf,
    bytes: Vec<u8>,
}

/// Reads the lock files that lie at the tree's root or beside a way to the scope, and that the box may not write.
pub(crate) fn collect(tree: BorrowedFd<'_>, inside: &Path, scope: &Scope, also: &[String]) -> Vec<LockFile> {
    let directories = scope.directories();
    let places: BTreeSet<&Path> =
        directories.iter().flat_map(|(directory, _)| Path::new(directory).ancestors()).chain([Path::new("")]).collect();
    let candidates = places.iter().flat_map(|place| NAMES.iter().map(|name| place.join(name)));
    candidates
        .filter(|path| !path.to_str().is_some_and(|path| scope.allows(path)) && !also.iter().any(|whole| path.starts_with(whole)))
        .filter_map(|path| Some(LockFile { inside: inside.join(&path), bytes: read(tree, &path)? }))
        .collect()
}

fn read(tree: BorrowedFd<'_>, path: &Path) -> Option<Vec<u8>> {
    let file = File::from(open_beneath(tree, path, OFlags::RDONLY | OFlags::NONBLOCK).ok()?);
    let meta = file.metadata().ok()?;
    let mut bytes = Vec::new();
    (meta.is_file() && meta.len() <= LOCK_BYTES_MAX).then_some(())?;
    file.take(LOCK_BYTES_MAX).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

/// Lays the private copies over the files.
pub(crate) fn mount(root: BorrowedFd<'_>, locks: &[LockFile]) -> Result<(), Failure> {
    if locks.is_empty() {
        return Ok(());
    }
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
    let holder = filesystem("tmpfs", &[("mode", "0755"), ("size", "256m")], attributes).step("making room for lock files")?;
    place(root, &holder, Path::new(HOLDER))?;
    for (number, lock) in locks.iter().enumerate() {
        let copy = format!("{}/{number}", HOLDER.trim_start_matches('/'));
        write_file(root, &copy, &lock.bytes)?;
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        let mount = rustix::mount::open_tree(root, &copy, flags).step_at("copying", &lock.inside)?;
        sys::mount_setattr(mount.as_fd(), false, attr::NOSUID | attr::NODEV, None).step_at("copying", &lock.inside)?;
        let relative = lock.inside.strip_prefix("/").unwrap_or(&lock.inside);
        let point = open_beneath(root, relative, OFlags::PATH).step_at("opening", &lock.inside)?;
        attach_here(&mount, &point).step_at("copying", &lock.inside)?;
    }
    Ok(())
}
