//! Differences between two commits, as text.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use aedile_core::CommitId;

use crate::error::GitError;
use crate::hub::Hub;

/// How a difference is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DiffForm {
    /// For readers: hunks; of binary files only that they differ.
    Patch,
    /// For `git apply`: hunks, and binary files in full.
    Exact,
    /// A line for each file and a sum.
    Stat,
}

/// How much of one file differs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FileStat {
    /// Its path, in its exact bytes.
    pub path: PathBuf,
    /// Lines that came; `None` for a binary file.
    pub added: Option<u64>,
    /// Lines that went; `None` for a binary file.
    pub removed: Option<u64>,
}

impl Hub {
    /// Writes the difference between two commits; renames are shown as such. The bytes are those of the files, whatever they hold.
    /// No program of anybody's runs. One process.
    ///
    /// # Errors
    /// [`GitError`] when a commit is missing, [`GitError::TooMuchOutput`] beyond 512 MB.
    pub fn diff_text(&self, from: &CommitId, to: &CommitId, form: DiffForm) -> Result<Vec<u8>, GitError> {
        let form: &[&str] = match form {
            DiffForm::Patch => &["--patch"],
            DiffForm::Exact => &["--patch", "--binary"],
            DiffForm::Stat => &["--stat=100", "--summary"],
        };
        let answer = self
            .call("diff-tree")
            .reading()
            .setting("core.quotePath", "false")
            .args(["-r", "-M", "--no-color", "--no-ext-diff", "--no-textconv"])
            .args(form)
            .args([from.as_str(), to.as_str(), "--"])
            .output()?;
        Ok(answer.stdout)
    }

    /// Counts lines file by file, renames as a deletion and an addition. One process.
    ///
    /// # Errors
    /// [`GitError`] when a commit is missing.
    pub fn diff_stat(&self, from: &CommitId, to: &CommitId) -> Result<Vec<FileStat>, GitError> {
        let answer = self
            .call("diff-tree")
            .reading()
            .args(["-r", "-z", "--numstat", "--no-renames", "--no-ext-diff", "--no-textconv", from.as_str(), to.as_str(), "--"])
            .output()?;
        let rows = answer.stdout.split(|byte| *byte == 0).filter(|row| !row.is_empty());
        rows.map(|row| {
            stat(row).ok_or_else(|| GitError::Unreadable {
                command: "diff-tree".to_owned(),
                what: String::from_utf8_lossy(row).chars().take(200).collect(),
            })
        })
        .collect()
    }
}

/// Reads `<added>\t<removed>\t<path>`, in which `-` stands for a binary file.
fn stat(row: &[u8]) -> Option<FileStat> {
    let mut fields = row.splitn(3, |byte| *byte == b'\t');
    let mut number = || std::str::from_utf8(fields.next()?).ok().map(|text| text.parse().ok());
    let (added, removed) = (number()?, number()?);
    Some(FileStat { path: PathBuf::from(OsString::from_vec(fields.next()?.to_vec())), added, removed })
}
