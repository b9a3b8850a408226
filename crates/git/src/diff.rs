//! What a change touches: exact paths, modes and kinds, for the scope check.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use aedile_core::CommitId;

use crate::error::GitError;
use crate::hub::Hub;

/// What an entry of a tree is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EntryMode {
    /// Nothing there.
    Absent,
    /// An ordinary file.
    File,
    /// A file that may be executed.
    Executable,
    /// A symbolic link.
    Link,
    /// A commit of another repository (submodule).
    Gitlink,
    /// Anything else, with its octal mode: a change never holds one.
    Odd(u32),
}

impl EntryMode {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        Some(match u32::from_str_radix(text, 8).ok()? {
            0 => Self::Absent,
            0o100_644 => Self::File,
            0o100_755 => Self::Executable,
            0o120_000 => Self::Link,
            0o160_000 => Self::Gitlink,
            other => Self::Odd(other),
        })
    }

    /// The mode as git writes it, octal.
    pub(crate) fn octal(self) -> String {
        let mode = match self {
            Self::Absent => 0,
            Self::File => 0o100_644,
            Self::Executable => 0o100_755,
            Self::Link => 0o120_000,
            Self::Gitlink => 0o160_000,
            Self::Odd(mode) => mode,
        };
        format!("{mode:o}")
    }
}

/// One path that differs between two commits.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PathChange {
    /// The path relative to the root, in its exact bytes.
    pub path: PathBuf,
    /// What was there.
    pub old_mode: EntryMode,
    /// What is there.
    pub new_mode: EntryMode,
    /// The object that was there (all zeros: none).
    pub old_id: String,
    /// The object that is there (all zeros: none).
    pub new_id: String,
    /// git's letter: `A` added, `D` deleted, `M` modified, `T` another kind.
    pub status: char,
}

impl Hub {
    /// Lists the paths that differ between two commits, renames as a deletion and an addition. One process.
    ///
    /// # Errors
    /// [`GitError`] when a commit is missing.
    pub fn diff_paths(&self, base: &CommitId, commit: &CommitId) -> Result<Vec<PathChange>, GitError> {
        let answer = self
            .call("diff-tree")
            .reading()
            .args([
                "-r",
                "-z",
                "--raw",
                "--no-renames",
                "--no-abbrev",
                "--no-ext-diff",
                "--no-textconv",
                base.as_str(),
                commit.as_str(),
                "--",
            ])
            .output()?;
        let mut fields = answer.stdout.split(|byte| *byte == 0);
        let mut changes = Vec::new();
        while let Some(head) = fields.next().filter(|field| !field.is_empty()) {
            let path = PathBuf::from(OsString::from_vec(fields.next().unwrap_or_default().to_vec()));
            let head = String::from_utf8_lossy(head);
            let change = parse_change(&head, path);
            changes.push(change.ok_or_else(|| GitError::Unreadable { command: "diff-tree".to_owned(), what: head.into_owned() })?);
        }
        Ok(changes)
    }
}

impl Hub {
    /// Returns the lines that differ between two commits (or trees) as git's patch text without context and without prefixes before the
    /// paths; a path with odd characters is quoted as git does. Renames are a removal and an addition. One process.
    ///
    /// # Errors
    /// [`GitError`] when one is missing.
    pub fn diff_lines(&self, from: &str, to: &str) -> Result<Vec<u8>, GitError> {
        let options = ["-r", "-p", "-U0", "--no-prefix", "--no-renames", "--no-ext-diff", "--no-textconv", "--no-color", from, to, "--"];
        Ok(self.call("diff-tree").reading().args(options).output()?.stdout)
    }
}

/// Reads `:<mode> <mode> <object> <object> <status>`.
fn parse_change(head: &str, path: PathBuf) -> Option<PathChange> {
    let mut words = head.strip_prefix(':')?.split(' ');
    let (old_mode, new_mode) = (EntryMode::parse(words.next()?)?, EntryMode::parse(words.next()?)?);
    let (old_id, new_id) = (words.next()?.to_owned(), words.next()?.to_owned());
    let status = words.next()?.chars().next()?;
    Some(PathChange { path, old_mode, new_mode, old_id, new_id, status })
}
