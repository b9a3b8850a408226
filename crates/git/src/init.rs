//! The commits that aedile makes in a checkout because the person said so: its own configuration, and a sample repository.

use std::path::Path;

use aedile_core::CommitId;

use crate::commit::{Identity, commit_id};
use crate::error::GitError;
use crate::project::Project;
use crate::run::Git;

impl Project {
    /// Commits one file (relative to the root) of the person's working tree as the person, with their hooks and signing. Whatever else
    /// is staged stays staged and is not part of the commit.
    ///
    /// # Errors
    /// [`GitError`] with git's words, for example when the person's identity is not configured; the file is then at most staged.
    pub fn commit_file(&self, path: &str, message: &str) -> Result<CommitId, GitError> {
        self.person_call("add").args(["--", path]).output()?;
        self.person_call("commit").args(["--quiet", "--only", "-m", message, "--", path]).output()?;
        commit_id("rev-parse", &self.person_call("rev-parse").args(["--verify", "HEAD"]).text()?)
    }
}

impl Git {
    /// Makes a repository of the files in `dir` (absolute), with one commit of aedile's on `branch`.
    ///
    /// # Errors
    /// [`GitError`] when git fails.
    pub fn create_repository(&self, dir: &Path, branch: &str, message: &str) -> Result<CommitId, GitError> {
        let who = Identity::aedile();
        let call = |subcommand: &str| {
            let call = self.call(dir, subcommand).env("GIT_AUTHOR_NAME", who.name()).env("GIT_AUTHOR_EMAIL", who.email());
            call.env("GIT_COMMITTER_NAME", who.name()).env("GIT_COMMITTER_EMAIL", who.email())
        };
        call("init").args(["--quiet", "--template=", &format!("--initial-branch={branch}")]).output()?;
        call("add").arg("--all").output()?;
        call("commit").args(["--quiet", "-m", message]).output()?;
        commit_id("rev-parse", &call("rev-parse").args(["--verify", "HEAD"]).text()?)
    }
}
