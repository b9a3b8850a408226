//! Putting a change onto a checkout is all or nothing: what was there before is on disk before the first file is written.

use std::fs;
use std::hash::{Hash, Hasher};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use aedile_core::CommitId;
use serde::{Deserialize, Serialize};

use crate::clean::remove_tree;
use crate::diff::PathChange;
use crate::error::{GitError, io};
use crate::hub::Hub;
use crate::workspace::write_file;

/// What was at a path.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
enum Before {
    /// Nothing; these directories above it, the deepest first, were not there either.
    Nothing(Vec<Vec<u8>>),
    /// A file with this mode; its bytes are in the file of that number.
    File(u32, usize),
    /// A symbolic link.
    Link(Vec<u8>),
    /// A directory, a submodule for example.
    Directory,
}

#[derive(Serialize, Deserialize)]
struct Entry {
    path: Vec<u8>,
    before: Before,
}

/// What a change finds at its paths, kept in the hub while it is put onto a checkout.
pub(crate) struct Applying<'a> {
    root: &'a Path,
    dir: PathBuf,
    entries: Vec<Entry>,
}

/// The list of what was there, written last.
const MANIFEST: &str = "manifest.json";

impl<'a> Applying<'a> {
    /// `<hub>/applying/<root>-<commit>`: one for each checkout and change.
    fn place(hub: &Hub, root: &Path, commit: &CommitId) -> PathBuf {
        let mut name = std::hash::DefaultHasher::new();
        root.hash(&mut name);
        hub.dir().join("applying").join(format!("{:016x}-{commit}", name.finish()))
    }

    /// Opens what an earlier try of the same change was killed over, if there is something.
    pub(crate) fn left(hub: &Hub, root: &'a Path, commit: &CommitId) -> Option<Self> {
        let dir = Self::place(hub, root, commit);
        let entries = serde_json::from_slice(&fs::read(dir.join(MANIFEST)).ok()?).ok()?;
        Some(Self { root, dir, entries })
    }

    /// Notes what is at the paths of the change.
    pub(crate) fn begin(hub: &Hub, root: &'a Path, commit: &CommitId, changes: &[PathChange]) -> Result<Self, GitError> {
        let dir = Self::place(hub, root, commit);
        remove_tree(&dir)?;
        fs::create_dir_all(&dir).map_err(io("create", &dir))?;
        let mut entries = Vec::new();
        for (number, change) in changes.iter().enumerate() {
            let at = root.join(&change.path);
            let before = match at.symlink_metadata() {
                Ok(meta) if meta.is_symlink() => Before::Link(fs::read_link(&at).map_err(io("read", &at))?.into_os_string().into_vec()),
                Ok(meta) if meta.is_dir() => Before::Directory,
                Ok(meta) => {
                    fs::copy(&at, dir.join(number.to_string())).map_err(io("copy", &at))?;
                    Before::File(meta.permissions().mode() & 0o7777, number)
                }
                Err(_) => {
                    let above = change.path.ancestors().skip(1).filter(|path| !path.as_os_str().is_empty());
                    let new = above.take_while(|path| !root.join(path).symlink_metadata().is_ok_and(|meta| meta.is_dir()));
                    Before::Nothing(new.map(|path| path.as_os_str().as_bytes().to_vec()).collect())
                }
            };
            entries.push(Entry { path: change.path.as_os_str().as_bytes().to_vec(), before });
        }
        let text = serde_json::to_vec(&entries).map_err(|error| GitError::BadText { what: "the list", text: error.to_string() })?;
        write_file(&dir.join("manifest.new"), &text)?;
        fs::rename(dir.join("manifest.new"), dir.join(MANIFEST)).map_err(io("rename", &dir))?;
        Ok(Self { root, dir, entries })
    }

    /// The change is there as a whole, or not at all.
    pub(crate) fn done(self) -> Result<(), GitError> {
        remove_tree(&self.dir)
    }

    /// Puts back what was there, where `ours` says of the path that nobody has touched it since. Returns the paths that could not be put back.
    pub(crate) fn take_back(&self, ours: impl Fn(&Path) -> bool) -> Vec<PathBuf> {
        let paths = self.entries.iter().map(|entry| (PathBuf::from(std::ffi::OsString::from_vec(entry.path.clone())), &entry.before));
        let changed: Vec<(PathBuf, &Before)> = paths.filter(|(path, before)| !self.is(path, before) && ours(path)).collect();
        // What is new goes first: it may stand where a directory has to be.
        let (new, old): (Vec<_>, Vec<_>) = changed.iter().partition(|(_, before)| matches!(before, Before::Nothing(_) | Before::Directory));
        new.into_iter().chain(old).filter(|(path, before)| self.put_back(path, before).is_err()).map(|(path, _)| path.clone()).collect()
    }

    /// Whether the path is as it was.
    fn is(&self, path: &Path, before: &Before) -> bool {
        let at = self.root.join(path);
        match (at.symlink_metadata(), before) {
            (Err(_), Before::Nothing(_)) => true,
            (Ok(meta), Before::Directory) => meta.is_dir(),
            (Ok(meta), Before::Link(target)) => {
                meta.is_symlink() && fs::read_link(&at).is_ok_and(|found| found.as_os_str().as_bytes() == target)
            }
            (Ok(meta), Before::File(mode, number)) => {
                let same = || matches!((fs::read(&at), fs::read(self.dir.join(number.to_string()))), (Ok(now), Ok(was)) if now == was);
                meta.is_file() && meta.permissions().mode() & 0o7777 == *mode && same()
            }
            _ => false,
        }
    }

    fn put_back(&self, path: &Path, before: &Before) -> std::io::Result<()> {
        let at = self.root.join(path);
        match at.symlink_metadata() {
            Ok(meta) if !meta.is_dir() => fs::remove_file(&at)?,
            _ => {}
        }
        if let (Some(parent), Before::File(..) | Before::Link(_)) = (at.parent(), before) {
            fs::create_dir_all(parent)?;
        }
        match before {
            Before::Nothing(above) => {
                // Only what is empty goes: a directory may hold what somebody else made.
                above.iter().for_each(|dir| drop(fs::remove_dir(self.root.join(std::ffi::OsStr::from_bytes(dir)))));
                Ok(())
            }
            Before::Directory => Ok(()),
            Before::Link(target) => symlink(std::ffi::OsStr::from_bytes(target), &at),
            Before::File(mode, number) => {
                fs::copy(self.dir.join(number.to_string()), &at)?;
                fs::set_permissions(&at, fs::Permissions::from_mode(*mode))
            }
        }
    }
}

/// Whether bytes that are found at a path may be what git wrote there: the whole file or its beginning, however lines end in the checkout.
pub(crate) fn may_be(found: &[u8], written: &[u8]) -> bool {
    let plain = |bytes: &[u8]| bytes.iter().copied().filter(|byte| *byte != b'\r').collect::<Vec<u8>>();
    plain(written).starts_with(&plain(found))
}
