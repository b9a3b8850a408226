//! The workspace's git as `submit` needs it. Hooks, signing and helpers of the repository's configuration are switched off.

use aedile_core::ids::CommitId;
use aedile_core::limits::GIT_TIMEOUT;
use aedile_core::temporary::is_temporary_name;
use std::borrow::Cow;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::spawner::{Finished, run};
use crate::submit::SubmitError;

/// One path that differs from the last commit, with git's two status letters.
pub(crate) struct Change {
    pub(crate) staged: u8,
    pub(crate) unstaged: u8,
    /// As git has it.
    pub(crate) path: Vec<u8>,
}

impl Change {
    /// The path as it is shown; a byte that is not UTF-8 stands as U+FFFD.
    pub(crate) fn shown(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.path)
    }

    /// Whether a killed tool left it; it is nobody's work.
    fn is_leftover(&self) -> bool {
        self.staged == b'?' && self.path.split(|byte| *byte == b'/').any(is_temporary_name)
    }

    /// Whether a merge left it undecided.
    pub(crate) fn is_unmerged(&self) -> bool {
        matches!((self.staged, self.unstaged), (b'U', _) | (_, b'U') | (b'A', b'A') | (b'D', b'D'))
    }
}

/// A workspace.
pub(crate) struct Repository {
    root: PathBuf,
    git_dir: PathBuf,
}

impl Repository {
    /// Finds the repository that `directory` lies in.
    pub(crate) async fn open(directory: &Path) -> Result<Self, SubmitError> {
        let finished = git(directory, &["rev-parse", "--show-toplevel", "--absolute-git-dir"], &[]).await?;
        let text = String::from_utf8_lossy(&finished.stdout);
        match text.lines().collect::<Vec<_>>().as_slice() {
            [root, git_dir] if finished.success => Ok(Self { root: PathBuf::from(root), git_dir: PathBuf::from(git_dir) }),
            _ => Err(SubmitError::Git { what: format!("find a repository at {}", directory.display()), stderr: finished.stderr }),
        }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Names an operation that was begun and neither finished nor given up.
    pub(crate) fn half_done(&self) -> Option<&'static str> {
        let has = |name: &str| self.git_dir.join(name).exists();
        (has("rebase-merge") || has("rebase-apply")).then_some("rebase")
    }

    /// Whether a merge was begun; the next commit ends it.
    pub(crate) fn is_merging(&self) -> bool {
        self.git_dir.join("MERGE_HEAD").exists()
    }

    /// Everything that differs from the last commit; ignored files are not among it.
    pub(crate) async fn changes(&self) -> Result<Vec<Change>, SubmitError> {
        let output =
            self.git("see what was changed", &["status", "--porcelain=v1", "-z", "--untracked-files=all", "--no-renames"], &[]).await?;
        let entries = output.split(|byte| *byte == 0).filter(|entry| entry.len() > 3);
        Ok(entries
            .map(|entry| Change { staged: entry[0], unstaged: entry[1], path: entry[3..].to_vec() })
            .filter(|change| !change.is_leftover())
            .collect())
    }

    /// Takes the paths out of the index; their files stay as they are.
    pub(crate) async fn unstage(&self, paths: &[&[u8]]) -> Result<(), SubmitError> {
        self.on_paths("leave out what is outside the scope", &["reset", "-q"], paths).await
    }

    /// Puts the paths into the index, deletions included.
    pub(crate) async fn stage(&self, paths: &[&[u8]]) -> Result<(), SubmitError> {
        self.on_paths("add the changed files", &["add", "-A"], paths).await
    }

    async fn on_paths(&self, what: &str, args: &[&str], paths: &[&[u8]]) -> Result<(), SubmitError> {
        if paths.is_empty() {
            return Ok(());
        }
        let args: Vec<&str> = args.iter().copied().chain(["--pathspec-from-file=-", "--pathspec-file-nul"]).collect();
        self.git(what, &args, &paths.join(&0)).await.map(drop)
    }

    /// Whether the index differs from the last commit.
    pub(crate) async fn has_staged(&self) -> Result<bool, SubmitError> {
        Ok(!git(&self.root, &["diff", "--cached", "--quiet"], &[]).await?.success)
    }

    /// Commits the index. `agent` is the author where the workspace's configuration names none.
    pub(crate) async fn commit(&self, message: &str, agent: &str) -> Result<(), SubmitError> {
        let known = git(&self.root, &["-c", "user.useConfigOnly=true", "var", "GIT_AUTHOR_IDENT"], &[]).await?.success;
        let (name, email) = (format!("user.name={agent}"), format!("user.email={agent}@aedile.invalid"));
        let identity: &[&str] = if known { &[] } else { &["-c", &name, "-c", &email] };
        let args: Vec<&str> =
            identity.iter().copied().chain(["commit", "-q", "--allow-empty", "--cleanup=whitespace", "-F", "-"]).collect();
        self.git("commit", &args, message.as_bytes()).await.map(drop)
    }

    pub(crate) async fn head(&self) -> Result<CommitId, SubmitError> {
        let output = self.git("find the last commit", &["rev-parse", "--verify", "HEAD^{commit}"], &[]).await?;
        let text = String::from_utf8_lossy(&output);
        CommitId::new(text.trim()).map_err(|error| SubmitError::Git { what: "find the last commit".to_owned(), stderr: error.to_string() })
    }

    /// How many commits the workspace was not given: those that no remote branch, tag or ref of ours reaches.
    pub(crate) async fn own_commits(&self) -> Result<usize, SubmitError> {
        let output = self.git("count the commits", &[&["rev-list", "--count", "HEAD"], GIVEN].concat(), &[]).await?;
        Ok(String::from_utf8_lossy(&output).trim().parse().unwrap_or(0))
    }

    /// Paths that the workspace's own commits changed.
    pub(crate) async fn own_paths(&self) -> Result<BTreeSet<Vec<u8>>, SubmitError> {
        let args = [&["log", "--format=", "--name-only", "-z", "--no-renames", "--diff-merges=first-parent", "HEAD"], GIVEN].concat();
        let output = self.git("see what the commits changed", &args, &[]).await?;
        let paths = output.split(|byte| *byte == 0).map(|path| path.strip_prefix(b"\n").unwrap_or(path).to_vec());
        Ok(paths.filter(|path| !path.is_empty()).collect())
    }

    pub(crate) async fn set_ref(&self, name: &str, commit: &CommitId) -> Result<(), SubmitError> {
        self.git("set the task's branch", &["update-ref", name, commit.as_str()], &[]).await.map(drop)
    }

    async fn git(&self, what: &str, args: &[&str], stdin: &[u8]) -> Result<Vec<u8>, SubmitError> {
        let finished = git(&self.root, args, stdin).await?;
        if finished.success { Ok(finished.stdout) } else { Err(SubmitError::Git { what: what.to_owned(), stderr: finished.stderr }) }
    }
}

/// What a workspace starts from.
const GIVEN: &[&str] = &["--not", "--remotes", "--tags", "--glob=refs/aedile/*"];

async fn git(directory: &Path, args: &[&str], stdin: &[u8]) -> Result<Finished, SubmitError> {
    const OFF: &[&str] = &[
        "-c",
        "core.hooksPath=/dev/null",
        "-c",
        "commit.gpgSign=false",
        "-c",
        "core.fsmonitor=false",
        "-c",
        "core.quotePath=false",
        "-c",
        "gc.auto=0",
        "-c",
        "maintenance.auto=false",
    ];
    let args = [OFF, args].concat();
    run("git", &args, directory, stdin, GIT_TIMEOUT)
        .await
        .map_err(|error| SubmitError::Git { what: "start git".to_owned(), stderr: error.to_string() })
}
