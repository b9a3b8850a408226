//! Clean rooms: scratch directories that hold one exported tree each. They belong to the holder of the landing claim.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use aedile_git::remove_tree;

use crate::LandingError;

/// A directory for one exported tree; removed when dropped.
#[derive(Debug)]
pub(crate) struct Room {
    dir: PathBuf,
}

impl Room {
    /// Makes an empty room. `number` is the fence of the claim: who holds a later one may remove this room.
    pub(crate) fn make(parent: &Path, number: u64, name: &str) -> Result<Self, LandingError> {
        let dir = parent.join(format!("{number}-{name}"));
        remove_tree(&dir)?;
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir).map_err(LandingError::room(&dir))?;
        Ok(Self { dir })
    }

    /// Where the tree is exported to; not there yet.
    pub(crate) fn tree(&self) -> PathBuf {
        self.dir.join("tree")
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        if let Err(error) = remove_tree(&self.dir) {
            tracing::warn!(room = %self.dir.display(), %error, "the clean room could not be removed; the next worker tries again");
        }
    }
}

/// Removes the rooms of earlier holders of the claim.
pub(crate) fn sweep(parent: &Path, number: u64) -> Result<(), LandingError> {
    let entries = match std::fs::read_dir(parent) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(LandingError::room(parent))?,
    };
    let ours = format!("{number}-");
    for entry in entries {
        let entry = entry.map_err(LandingError::room(parent))?;
        if !entry.file_name().as_encoded_bytes().starts_with(ours.as_bytes()) {
            remove_tree(&entry.path())?;
        }
    }
    Ok(())
}

/// What the files of a tree looked like right after the export.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Imprint(BTreeMap<PathBuf, [i64; 7]>);

impl Imprint {
    /// Looks at every file and link below the directory, without opening one or following a link.
    pub(crate) fn of(tree: &Path) -> Result<Self, LandingError> {
        Self::read(tree).map_err(LandingError::room(tree))
    }

    fn read(tree: &Path) -> io::Result<Self> {
        let mut seen = BTreeMap::new();
        // git itself refreshes this one; it holds nothing that a build sees.
        let index = tree.join(".git/index");
        let mut todo = vec![tree.to_owned()];
        while let Some(dir) = todo.pop() {
            for entry in std::fs::read_dir(&dir)? {
                let entry = entry?;
                if entry.file_type()?.is_dir() {
                    todo.push(entry.path());
                } else if entry.path() != index {
                    seen.insert(entry.path(), look(&entry.metadata()?));
                }
            }
        }
        Ok(Self(seen))
    }

    /// Whether every file is still as it was. Further files do not count: builds write them.
    pub(crate) fn holds(&self) -> bool {
        self.0.iter().all(|(path, was)| std::fs::symlink_metadata(path).is_ok_and(|now| look(&now) == *was))
    }
}

fn look(file: &std::fs::Metadata) -> [i64; 7] {
    let number = |n: u64| i64::try_from(n).unwrap_or(-1);
    [
        number(file.ino()),
        number(file.size()),
        i64::from(file.mode()),
        file.mtime(),
        file.mtime_nsec(),
        // Nobody can set this one: a file that was put back still shows that it was touched.
        file.ctime(),
        file.ctime_nsec(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_room_goes_away_with_all_it_holds() {
        let home = tempfile::tempdir().unwrap();
        let room = Room::make(home.path(), 3, "a").unwrap();
        let inner = room.tree().join("x/y");
        std::fs::create_dir_all(&inner).unwrap();
        std::fs::write(inner.join("file"), "x").unwrap();
        std::fs::set_permissions(&inner, std::fs::Permissions::from_mode(0o000)).unwrap();
        drop(room);
        assert_eq!(std::fs::read_dir(home.path()).unwrap().count(), 0);
    }

    #[test]
    fn only_rooms_of_earlier_holders_are_swept() {
        let home = tempfile::tempdir().unwrap();
        let old = Room::make(home.path(), 3, "a").unwrap();
        let present = Room::make(home.path(), 33, "a").unwrap();
        sweep(home.path(), 33).unwrap();
        assert!(!old.dir.exists() && present.dir.exists());
        sweep(&home.path().join("nowhere"), 1).unwrap();
    }

    #[test]
    fn an_imprint_sees_edits_but_not_new_files() {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("d/file");
        std::fs::create_dir(home.path().join("d")).unwrap();
        std::fs::write(&file, "one").unwrap();
        let imprint = Imprint::of(home.path()).unwrap();
        std::fs::write(home.path().join("d/new"), "x").unwrap();
        assert!(imprint.holds());
        std::fs::write(home.path().join("other"), "one").unwrap();
        std::fs::rename(home.path().join("other"), &file).unwrap();
        assert!(!imprint.holds(), "a file of the same length was put in its place");
    }
}
