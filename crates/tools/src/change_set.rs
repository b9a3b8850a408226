//! Changes of several files that are made all or not at all.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::io;
use std::path::{Path, PathBuf};

use crate::files::{read_text, set_aside, write_file};
use crate::place::Place;

/// What the files shall be. Nothing is written before [`ChangeSet::write`].
pub(crate) struct ChangeSet<'a> {
    place: &'a Place,
    /// For each file its new text; `None` when it goes.
    files: BTreeMap<PathBuf, Option<String>>,
    /// Modes that moved files bring along.
    modes: BTreeMap<PathBuf, Permissions>,
}

/// A step that was made, and how to take it back.
enum Step {
    /// A file was made, and these directories for it, the deepest first.
    Made(PathBuf, Vec<PathBuf>),
    /// A file was written over; this is what it held.
    Written(PathBuf, Vec<u8>),
    /// What is to be deleted lies in a directory beside it until everything is done.
    SetAside(PathBuf, PathBuf),
}

impl<'a> ChangeSet<'a> {
    pub(crate) fn new(place: &'a Place) -> Self {
        Self { place, files: BTreeMap::new(), modes: BTreeMap::new() }
    }

    /// Whether there is something at the path, after the changes so far.
    pub(crate) fn exists(&self, path: &Path) -> bool {
        self.files.get(path).map_or_else(|| fs::symlink_metadata(path).is_ok(), Option::is_some)
    }

    /// The file's text after the changes so far.
    pub(crate) fn text(&self, path: &Path) -> Result<String, String> {
        match self.files.get(path) {
            Some(Some(text)) => Ok(text.clone()),
            Some(None) => Err(format!("{} was deleted by an earlier part of the patch", self.place.show(path))),
            None => read_text(self.place, path),
        }
    }

    /// The file shall hold this text.
    pub(crate) fn put(&mut self, path: &Path, text: String) {
        self.files.insert(path.to_owned(), Some(text));
    }

    /// The file shall be gone.
    pub(crate) fn remove(&mut self, path: &Path) {
        self.files.insert(path.to_owned(), None);
    }

    /// The text shall stand at `to` and no longer at `from`; the mode goes along.
    pub(crate) fn rename(&mut self, from: &Path, to: &Path, text: String) {
        let mode = self.modes.remove(from).or_else(|| fs::metadata(from).ok().map(|meta| meta.permissions()));
        if let Some(mode) = mode {
            self.modes.insert(to.to_owned(), mode);
        }
        self.remove(from);
        self.put(to, text);
    }

    /// Makes the changes. When one of them fails, those before it are taken back.
    ///
    /// # Errors
    /// A sentence that says which change failed, and whether everything is as it was.
    pub(crate) fn write(self) -> Result<(), String> {
        let mut done: Vec<Step> = Vec::new();
        for (path, text) in &self.files {
            let step = match text {
                Some(text) => self.write_one(path, text, &mut done),
                // Otherwise it was made and deleted by the same patch.
                None if fs::symlink_metadata(path).is_ok() => set_aside(path).map(|aside| done.push(Step::SetAside(path.clone(), aside))),
                None => Ok(()),
            };
            if let Err(error) = step {
                let problem = self.place.write_error(path, &error);
                let left = take_back(self.place, done);
                return Err(if left.is_empty() {
                    format!("{problem}. Nothing was changed")
                } else {
                    format!("{problem}. Taking the other changes back failed as well; look at {} yourself", left.join(", "))
                });
            }
        }
        for step in &done {
            if let Step::SetAside(_, aside) = step {
                // Its directory took it in a moment ago.
                let _ = fs::remove_file(aside);
                remove_parent(aside);
            }
        }
        Ok(())
    }

    fn write_one(&self, path: &Path, text: &str, done: &mut Vec<Step>) -> io::Result<()> {
        done.push(if fs::symlink_metadata(path).is_ok() {
            Step::Written(path.to_owned(), fs::read(path)?)
        } else {
            let missing = path.ancestors().skip(1).take_while(|parent| fs::symlink_metadata(parent).is_err());
            Step::Made(path.to_owned(), missing.map(Path::to_owned).collect())
        });
        write_file(path, text.as_bytes())?;
        self.modes.get(path).map_or(Ok(()), |mode| fs::set_permissions(path, mode.clone()))
    }
}

/// Removes the directory in which something was set aside.
fn remove_parent(aside: &Path) {
    if let Some(directory) = aside.parent() {
        // Only what is empty goes.
        let _ = fs::remove_dir(directory);
    }
}

/// Takes steps back, the last first, and names the files where that failed.
fn take_back(place: &Place, done: Vec<Step>) -> Vec<String> {
    let mut left = Vec::new();
    for step in done.into_iter().rev() {
        let (path, restored) = match step {
            Step::Made(path, directories) => {
                let removed = fs::remove_file(&path);
                for directory in directories {
                    // Only what is empty goes.
                    let _ = fs::remove_dir(directory);
                }
                let absent = |error: &io::Error| matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory);
                let never_was = removed.as_ref().is_err_and(absent);
                (path, if never_was { Ok(()) } else { removed })
            }
            Step::Written(path, bytes) => {
                let same = fs::read(&path).is_ok_and(|now| now == bytes);
                let restored = if same { Ok(()) } else { write_file(&path, &bytes) };
                (path, restored)
            }
            Step::SetAside(path, aside) => {
                let restored = fs::rename(&aside, &path).inspect(|()| remove_parent(&aside));
                (path, restored)
            }
        };
        if restored.is_err() {
            left.push(place.show(&path));
        }
    }
    left
}
