//! Clean rooms: scratch directories that hold one exported tree each. They belong to the holder of the landing claim.

use std::io;
use std::os::unix::fs::DirBuilderExt;
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
}
