//! Views: the part of a commit that an agent may read, as a commit without history, and the way back from what is made of it.

use std::collections::{BTreeSet, HashSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use aedile_core::policy::{Reads, Sight};
use aedile_core::protected::holds_private_key;
use aedile_core::{CommitId, RefName, Timestamp, TreeId};

use crate::commit::{CommitRequest, Identity};
use crate::diff::{EntryMode, PathChange};
use crate::error::{GitError, io};
use crate::hub::Hub;
use crate::tree::TreeFile;

/// The largest file that is looked through for a private key, bytes. Keys have a few thousand; a larger file of such a name is hidden.
const KEY_FILE_BYTES_MAX: usize = 1 << 20;
/// The first words of a view's message; the commit that it is a part of follows.
const MESSAGE: &str = "The readable part of ";

/// What an agent may see of a commit.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct View {
    /// A commit without a parent that holds the readable paths and nothing else.
    pub commit: CommitId,
    /// How many paths it leaves out.
    pub hidden: usize,
}

impl Hub {
    /// Makes the view of a commit, or returns none where an agent may see the commit with its history: no rule hides anything and no tracked file
    /// has a secret in it by its name. The same view of the same commit is the same commit, also another day: it is dated like a change that
    /// was never made, at the beginning of time. Up to six processes.
    ///
    /// # Errors
    /// [`GitError`] when the commit is missing.
    pub fn view(&self, commit: &CommitId, reads: &Reads) -> Result<Option<View>, GitError> {
        let files = self.files(commit)?;
        let hidden = self.hidden(&files, reads)?;
        if hidden.is_empty() && !reads.is_narrow() {
            return Ok(None);
        }
        let seen = files.iter().filter(|file| !hidden.contains(file.path.as_path()));
        let tree = self.tree_of(None, seen.map(|file| (file.mode, file.id.as_str(), file.path.as_path())))?;
        let us = Identity::aedile();
        let view = self.commit_tree(&CommitRequest {
            tree: &tree,
            parents: &[],
            message: &format!("{MESSAGE}{commit}\n"),
            author: &us,
            committer: &us,
            at: Timestamp(0),
            sign: None,
        })?;
        let unusable = |error: aedile_core::BadId| GitError::Unreadable { command: "commit-tree".to_owned(), what: error.to_string() };
        self.set_ref(&RefName::new(format!("{VIEWS}{view}")).map_err(unusable)?, &view)?;
        Ok(Some(View { commit: view, hidden: hidden.len() }))
    }

    /// Grafts a commit that was made on a view onto what the view is a part of: a path that the view does not hold stays as it is there. The result has
    /// both as parents, so that what the agent committed is kept with it. Five processes.
    ///
    /// # Errors
    /// [`GitError::ImportRefused`] when the commit has something at a path that the view leaves out; nothing is kept of it then.
    pub fn graft(&self, view: &CommitId, commit: &CommitId) -> Result<CommitId, GitError> {
        let message = self.commit_info(view)?.message;
        let origin = message
            .strip_prefix(MESSAGE)
            .and_then(|rest| CommitId::new(rest.trim()).ok())
            .ok_or_else(|| GitError::Unreadable { command: "cat-file".to_owned(), what: format!("{view} is no view of a commit") })?;
        let changes = self.diff_paths(view, commit)?;
        let seen: HashSet<PathBuf> = self.files(view)?.into_iter().map(|file| file.path).collect();
        let behind: BTreeSet<PathBuf> =
            self.files(&origin)?.into_iter().map(|file| file.path).filter(|path| !seen.contains(path)).collect();
        let blocked: Vec<String> = changes.iter().filter(|change| meets(change, &behind)).map(|change| shown(&change.path)).collect();
        if !blocked.is_empty() {
            let reason = format!(
                "the repository has something at {} that this task may not read, and the change would replace it; choose other names",
                aedile_core::bounded::few(blocked).join(", ")
            );
            return Err(GitError::ImportRefused { reason });
        }
        let entries = changes.iter().map(|change| (change.new_mode, change.new_id.as_str(), change.path.as_path()));
        let tree = self.tree_of(Some(origin.as_str()), entries)?;
        let us = Identity::aedile();
        self.commit_tree(&CommitRequest {
            tree: &tree,
            parents: &[origin.clone(), commit.clone()],
            message: &format!("What was made on the readable part of {origin}\n"),
            author: &us,
            committer: &us,
            at: Timestamp(0),
            sign: None,
        })
    }

    /// The paths that may not be read.
    fn hidden<'a>(&self, files: &'a [TreeFile], reads: &Reads) -> Result<HashSet<&'a Path>, GitError> {
        let mut hidden = HashSet::new();
        let mut may_hold_keys: Vec<&TreeFile> = Vec::new();
        for file in files {
            match reads.of(&file.path.to_string_lossy()) {
                Sight::Seen => {}
                Sight::Hidden => drop(hidden.insert(file.path.as_path())),
                Sight::UnlessPrivateKey => may_hold_keys.push(file),
            }
        }
        let ids: Vec<String> = may_hold_keys.iter().map(|file| file.id.clone()).collect();
        for (file, bytes) in may_hold_keys.iter().zip(self.blobs(&ids, KEY_FILE_BYTES_MAX)?) {
            // A link's blob is the name that it points to; what lies there is judged by its own name.
            if bytes.is_none_or(|bytes| holds_private_key(&bytes)) && file.mode != EntryMode::Gitlink {
                hidden.insert(file.path.as_path());
            }
        }
        Ok(hidden)
    }

    /// Writes a blob. One process.
    ///
    /// # Errors
    /// [`GitError`] when it cannot be written.
    pub fn put_blob(&self, bytes: &[u8]) -> Result<String, GitError> {
        Ok(self.call("hash-object").args(["-w", "--stdin"]).input(bytes).text()?.trim().to_owned())
    }

    /// Writes the tree of a commit with these entries in their places; an absent one is removed. `base` may be a tree. Three processes.
    ///
    /// # Errors
    /// [`GitError`] when the base or an object is missing.
    pub fn tree_with<'a>(&self, base: &TreeId, entries: impl Iterator<Item = (EntryMode, &'a str, &'a Path)>) -> Result<TreeId, GitError> {
        self.tree_of(Some(base.as_str()), entries)
    }

    fn tree_of<'a>(&self, base: Option<&str>, entries: impl Iterator<Item = (EntryMode, &'a str, &'a Path)>) -> Result<TreeId, GitError> {
        let dir = tempfile::tempdir().map_err(io("make a directory in", &std::env::temp_dir()))?;
        let index = dir.path().join("index");
        let call = |subcommand: &str| self.call(subcommand).env("GIT_INDEX_FILE", &index);
        if let Some(base) = base {
            call("read-tree").arg(base).output()?;
        }
        let mut input = Vec::new();
        for (mode, id, path) in entries {
            input.extend_from_slice(format!("{} {id}\t", mode.octal()).as_bytes());
            input.extend_from_slice(path.as_os_str().as_bytes());
            input.push(0);
        }
        call("update-index").args(["-z", "--index-info"]).input(input).output()?;
        let text = call("write-tree").text()?;
        TreeId::new(text.trim()).map_err(|error| GitError::Unreadable { command: "write-tree".to_owned(), what: error.to_string() })
    }
}

/// Where the hub keeps views, until no run is open.
pub const VIEWS: &str = "refs/aedile/views/";

/// Whether what the change puts somewhere would replace something that is there unseen: at the path, below it, or above it.
fn meets(change: &PathChange, behind: &BTreeSet<PathBuf>) -> bool {
    if change.new_mode == EntryMode::Absent {
        return false;
    }
    let path = &change.path;
    let below = behind.range(path.clone()..).take_while(|other| other.starts_with(path)).next().is_some();
    below || path.ancestors().skip(1).any(|above| above != Path::new("") && behind.contains(above))
}

fn shown(path: &Path) -> String {
    let text: &OsStr = path.as_os_str();
    text.to_string_lossy().chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}
