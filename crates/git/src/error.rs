//! What can go wrong, in sentences for people.

use std::path::PathBuf;

use aedile_core::sandbox::SandboxError;
use aedile_core::{CommitId, RefName};

/// Why a git operation did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum GitError {
    /// There is no git.
    #[error("git was not found on PATH ({path}); install git 2.45.1 or newer")]
    NotFound {
        /// The PATH that was searched.
        path: String,
    },
    /// The git there is lacks security fixes that we rely on.
    #[error(
        "{program} is git {found}, which lacks fixes for CVE-2024-32002 and its siblings; install 2.45.1 or newer, or 2.44.1, 2.43.4, 2.42.2, 2.41.1, 2.40.2 or 2.39.4 of an older line"
    )]
    TooOld {
        /// The program.
        program: PathBuf,
        /// What it calls itself.
        found: String,
    },
    /// git ended with an error.
    #[error("`git {command}` in {dir} ended with {status}: {stderr}")]
    Failed {
        /// Subcommand and arguments, cut.
        command: String,
        /// Where it ran.
        dir: PathBuf,
        /// Its exit code or signal.
        status: String,
        /// What it wrote on stderr, cut to its last 4000 bytes.
        stderr: String,
    },
    /// git did not end in time and was killed.
    #[error("`git {command}` in {dir} did not end within {seconds} s and was killed")]
    TimedOut {
        /// Subcommand and arguments, cut.
        command: String,
        /// Where it ran.
        dir: PathBuf,
        /// The limit.
        seconds: u64,
    },
    /// git wrote more than is ever expected.
    #[error("`git {command}` in {dir} wrote more than {bytes} bytes and was killed")]
    TooMuchOutput {
        /// Subcommand and arguments, cut.
        command: String,
        /// Where it ran.
        dir: PathBuf,
        /// The limit.
        bytes: usize,
    },
    /// git's answer has not the form it should have.
    #[error("the answer of `git {command}` is not understood: {what}")]
    Unreadable {
        /// Subcommand.
        command: String,
        /// What was found.
        what: String,
    },
    /// The file system answered with an error.
    #[error("cannot {what} {path}: {source}")]
    Io {
        /// What was tried, for example `create`.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// The operating system's answer.
        source: std::io::Error,
    },
    /// No repository there.
    #[error("{path} is not in a git repository; run `git init` there, or go to one")]
    NotARepository {
        /// Where was looked.
        path: PathBuf,
    },
    /// A bare repository, or a path inside `.git`.
    #[error("{path} is not in a working tree of a git repository; run this in a checkout")]
    NotAWorkTree {
        /// Where was looked.
        path: PathBuf,
    },
    /// The repository belongs to somebody else.
    #[error("git refuses the repository at {path}: {words}")]
    NotTrusted {
        /// Where.
        path: PathBuf,
        /// What git says, with the command that would allow it.
        words: String,
    },
    /// The repository has no commit yet.
    #[error("the repository at {path} has no commit yet; make the first one, then try again")]
    NoCommit {
        /// Where.
        path: PathBuf,
    },
    /// A revision or a path in it does not exist.
    #[error("{what} does not exist in {dir}")]
    Missing {
        /// What was asked for.
        what: String,
        /// In which repository.
        dir: PathBuf,
    },
    /// The ref that should move is checked out (or held by a rebase or bisect) in a worktree.
    #[error(
        "{reference} was not moved: it is checked out in {worktree} ({how}); a later landing goes to another ref, or switch that worktree to another branch"
    )]
    CheckedOut {
        /// The ref.
        reference: RefName,
        /// The worktree.
        worktree: PathBuf,
        /// `HEAD`, `rebase` or `bisect`.
        how: &'static str,
    },
    /// The ref is not where it should be, so it was not moved.
    #[error("{reference} was not moved: it should be at {} but is at {}", named(.expected.as_ref()), named(.found.as_ref()))]
    RefMoved {
        /// The ref.
        reference: RefName,
        /// Where it should have been; `None` means that it should not exist.
        expected: Option<CommitId>,
        /// Where it is.
        found: Option<CommitId>,
    },
    /// The name of the ref cannot be used in this repository.
    #[error("{reference} cannot be used: {why}")]
    RefUnusable {
        /// The ref.
        reference: RefName,
        /// Why, and what to do.
        why: String,
    },
    /// Another program holds a lock; it was waited for.
    #[error("{lock} is held by another git program and was not released in time; if none is running, remove that file and try again")]
    Locked {
        /// The lock file.
        lock: PathBuf,
    },
    /// The target and the ref that landings go to have each commits that the other lacks.
    #[error(
        "{target} and {landing} have diverged: landed work is only on {landing} ({}); merge it into the target (`git merge {landing}`), then try again. Deleting {landing} would lose that work", few(.only)
    )]
    Diverged {
        /// The target branch.
        target: RefName,
        /// Where landings go.
        landing: RefName,
        /// Commits that only the latter has, newest first: short id and subject.
        only: Vec<String>,
    },
    /// `sync` changed nothing.
    #[error("nothing was changed: {words}")]
    SyncRefused {
        /// What git says.
        words: String,
    },
    /// A change was not put onto the checkout; nothing there was changed.
    #[error("nothing was changed: the change would touch {} that {} not committed: {}", if .paths.len() == 1 { "a path" } else { "paths" }, if .paths.len() == 1 { "is" } else { "are" }, few(.paths))]
    Overlaps {
        /// The paths, relative to the root, as they can be shown.
        paths: Vec<String>,
    },
    /// git's own `apply` refused; nothing in the checkout was changed.
    #[error("nothing was changed: the change does not fit the checkout: {words}")]
    ApplyRefused {
        /// What git says, a line for each file.
        words: String,
    },
    /// git stopped while it wrote a change onto the checkout; what it had written was put back.
    #[error("nothing was changed: writing failed, and what was written is as it was before: {words}")]
    ApplyBroke {
        /// What git says.
        words: String,
    },
    /// A change was put onto the checkout in part, and what was there could not be put back.
    #[error(
        "the change was put onto the checkout only in part ({words}); these paths are not as they were: {}; the same command goes on when they can be written", few(.paths)
    )]
    HalfApplied {
        /// What went wrong.
        words: String,
        /// The paths, relative to the root, as they can be shown.
        paths: Vec<String>,
    },
    /// A branch of that name is there.
    #[error("the branch {name} exists already, at {at}; it was not moved")]
    BranchExists {
        /// Its short name.
        name: String,
        /// Where it is.
        at: CommitId,
    },
    /// What a workspace handed over is not accepted.
    #[error("the import was refused: {reason}")]
    ImportRefused {
        /// Why.
        reason: String,
    },
    /// The branch in the workspace is no longer at the submitted commit.
    #[error("the import was refused: the branch in the workspace is no longer at {expected}; submit again")]
    SubmitMoved {
        /// The submitted commit.
        expected: CommitId,
    },
    /// A pack is larger than allowed.
    #[error("the import was refused: its pack is larger than {limit} bytes")]
    PackTooLarge {
        /// The limit.
        limit: u64,
    },
    /// A box could not be made.
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
    /// git in a box failed.
    #[error("git in the box `{label}` failed ({status}): {stderr}")]
    BoxFailed {
        /// The box.
        label: String,
        /// How it ended.
        status: String,
        /// What it wrote on stderr, cut.
        stderr: String,
    },
    /// The hub was made for a repository that names its objects otherwise.
    #[error("{dir} belongs to a repository with another object format; remove it, then try again")]
    FormatDiffers {
        /// The hub.
        dir: PathBuf,
    },
    /// A name or address that git cannot store.
    #[error("{what} {text:?} cannot be stored by git")]
    BadText {
        /// What it is.
        what: &'static str,
        /// The text, cut.
        text: String,
    },
    /// A file of ours would replace one of the project's.
    #[error("{path} exists in the project, so the instructions cannot be put there; choose another path")]
    OverlayExists {
        /// The file, relative.
        path: PathBuf,
    },
}

/// What git and the system say when it is the machine that fails, not what it works on.
const HOSTS_WORDS: [&str; 7] = [
    "No space left on device",
    "Disk quota exceeded",
    "Input/output error",
    "Read-only file system",
    "Cannot allocate memory",
    "Too many open files",
    "Resource temporarily unavailable",
];

impl GitError {
    /// Whether the machine failed, or the time was over, and not what an agent made: trying again may help, the agent cannot.
    pub fn is_hosts(&self) -> bool {
        let says = |stderr: &String| HOSTS_WORDS.iter().any(|words| stderr.contains(words));
        match self {
            Self::Failed { status, stderr, .. } => status.starts_with("signal") || says(stderr),
            Self::BoxFailed { status, stderr, .. } => status == OUT_OF_TIME || says(stderr),
            Self::ImportRefused { .. } | Self::SubmitMoved { .. } | Self::PackTooLarge { .. } => false,
            _ => true,
        }
    }
}

/// How a box ended whose time was over.
pub(crate) const OUT_OF_TIME: &str = "out of time";

/// Names at most ten paths.
fn few(paths: &[String]) -> String {
    match paths.len() {
        0..=10 => paths.join(", "),
        all => format!("{} and {} more", paths[..10].join(", "), all - 10),
    }
}

fn named(commit: Option<&CommitId>) -> String {
    commit.map_or_else(|| "no commit".to_owned(), ToString::to_string)
}

/// Makes an [`GitError::Io`] from an operating system error.
pub(crate) fn io(what: &'static str, path: &std::path::Path) -> impl FnOnce(std::io::Error) -> GitError {
    let path = path.to_owned();
    move |source| GitError::Io { what, path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_and_an_end_of_time_are_not_the_agents_fault() {
        let failed = |status: &str, stderr: &str| GitError::Failed {
            command: "index-pack".to_owned(),
            dir: PathBuf::from("/hub"),
            status: status.to_owned(),
            stderr: stderr.to_owned(),
        };
        let boxed = |status: &str, stderr: &str| GitError::BoxFailed {
            label: "import t".to_owned(),
            status: status.to_owned(),
            stderr: stderr.to_owned(),
        };
        assert!(failed("exit code 128", "fatal: cannot create pack: No space left on device").is_hosts());
        assert!(failed("exit code 128", "fatal: read error on input: Input/output error").is_hosts());
        assert!(failed("signal 9", "").is_hosts() && boxed(OUT_OF_TIME, "").is_hosts());
        assert!(!failed("exit code 128", "fatal: pack has bad object at offset 12").is_hosts());
        assert!(!boxed("exit code 128", "fatal: bad object").is_hosts());
        assert!(!GitError::ImportRefused { reason: "x".to_owned() }.is_hosts());
    }
}
