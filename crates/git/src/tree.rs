//! What is in a commit: every path with its kind and its size.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use aedile_core::CommitId;

use crate::diff::EntryMode;
use crate::error::GitError;
use crate::hub::Hub;
use crate::project::Project;
use crate::run::Call;

/// One entry of a commit's tree that is not a directory.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TreeFile {
    /// The path relative to the root, in its exact bytes.
    pub path: PathBuf,
    /// What it is.
    pub mode: EntryMode,
    /// The object.
    pub id: String,
    /// Its bytes; 0 for a submodule.
    pub size: u64,
}

impl Hub {
    /// Lists everything in a commit, in git's order. One process.
    ///
    /// # Errors
    /// [`GitError`] when the commit is missing.
    pub fn files(&self, commit: &CommitId) -> Result<Vec<TreeFile>, GitError> {
        list(self.call("ls-tree"), commit)
    }
}

impl Project {
    /// Lists everything in a commit, in git's order. One process.
    ///
    /// # Errors
    /// [`GitError`] when the commit is missing.
    pub fn files(&self, commit: &CommitId) -> Result<Vec<TreeFile>, GitError> {
        list(self.call("ls-tree"), commit)
    }
}

fn list(call: Call, commit: &CommitId) -> Result<Vec<TreeFile>, GitError> {
    let answer = call.reading().args(["-r", "-l", "-z", "--full-tree", commit.as_str()]).output()?;
    let entries = answer.stdout.split(|byte| *byte == 0).filter(|entry| !entry.is_empty());
    entries
        .map(|entry| {
            let unreadable = || GitError::Unreadable { command: "ls-tree".to_owned(), what: String::from_utf8_lossy(entry).into_owned() };
            parse(entry).ok_or_else(unreadable)
        })
        .collect()
}

/// Reads `<mode> <type> <object> <size>TAB<path>`; a submodule's size is `-`.
fn parse(entry: &[u8]) -> Option<TreeFile> {
    let tab = entry.iter().position(|byte| *byte == b'\t')?;
    let head = std::str::from_utf8(&entry[..tab]).ok()?;
    let mut words = head.split_ascii_whitespace();
    let mode = EntryMode::parse(words.next()?)?;
    let (id, size) = (words.nth(1)?.to_owned(), words.next()?);
    let size = if size == "-" { 0 } else { size.parse().ok()? };
    Some(TreeFile { path: PathBuf::from(OsString::from_vec(entry[tab + 1..].to_vec())), mode, id, size })
}
