//! Submitting work: commit what is in scope, name what is not, freeze the task's branch, tell the door.

use aedile_core::agent_api::{AgentReply, AgentRequest};
use aedile_core::ids::{AgentName, CommitId, TaskKey};
use aedile_core::scope::Scope;
use std::ffi::OsStr;
use std::fmt::Write;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::door::{DoorClient, DoorError};
use crate::repository::{Change, Repository};

/// Paths that a message or a request names at most.
const NAMED_PATHS_MAX: usize = 100;
/// Larger files are not looked at for conflict markers.
const MARKER_FILE_BYTES_MAX: u64 = 10 * 1024 * 1024;
/// Files that tools rewrite by themselves.
const LOCK_FILES: &[&str] = &[
    "Cargo.lock",
    "package-lock.json",
    "npm-shrinkwrap.json",
    "yarn.lock",
    "pnpm-lock.yaml",
    "bun.lock",
    "bun.lockb",
    "poetry.lock",
    "uv.lock",
    "Pipfile.lock",
    "go.sum",
    "Gemfile.lock",
    "composer.lock",
    "flake.lock",
];

/// Why nothing was submitted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SubmitError {
    /// The door gave no answer.
    #[error(transparent)]
    Door(#[from] DoorError),
    /// The orchestrator refused; the sentence is its own.
    #[error("{0}")]
    Refused(String),
    /// git failed.
    #[error("git could not {what}: {stderr}")]
    Git {
        /// What was tried.
        what: String,
        /// git's words.
        stderr: String,
    },
    /// Conflicts are not resolved.
    #[error("nothing was submitted: conflict markers are left in {}; resolve them and submit again", named(.0))]
    Conflicts(Vec<String>),
    /// Conflicts lie outside the scope.
    #[error(
        "nothing was submitted: {} cannot be resolved here because it is outside the task's scope; give the merge up with `git merge --abort`",
        named(.0)
    )]
    ConflictsOutside(Vec<String>),
    /// An operation of git is half done.
    #[error("nothing was submitted: a {0} is not finished; end it with `git {0} --continue` or give it up with `git {0} --abort`")]
    HalfDone(String),
    /// There is nothing.
    #[error("there is nothing to submit: no file in the task's scope was changed and there is no new commit.{}", left_out_text(.left_out))]
    Nothing {
        /// Changed paths outside the scope.
        left_out: Vec<String>,
    },
}

/// What was submitted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Submitted {
    /// The commit that the task's branch is at now.
    pub commit: CommitId,
    /// Changed paths outside the scope, and those whose names are not UTF-8. They are as they were and not part of the commit. At most 100 are named; the last entry then says how many more.
    pub left_out: Vec<String>,
    /// What the orchestrator answered, in a sentence.
    pub message: String,
}

impl Submitted {
    /// Tells it in a few sentences, for the agent or on a terminal.
    pub fn text(&self) -> String {
        format!("submitted commit {}. {}{}", &self.commit.as_str()[..12], self.message, left_out_text(&self.left_out))
    }
}

struct Task {
    key: TaskKey,
    agent: AgentName,
    scope: Scope,
}

/// Commits the changed files of the task's scope in the repository that `workspace` lies in, points `refs/heads/aedile/<key>` at the result
/// and tells the door. Files that git ignores are not added; changed files outside the scope stay as they are and are named.
///
/// # Errors
/// [`SubmitError`]. What was committed before an error stays committed; calling again goes on from there.
pub async fn submit_work(door: &DoorClient, workspace: &Path, summary: &str) -> Result<Submitted, SubmitError> {
    let task = ask_task(door).await?;
    let repository = Repository::open(workspace).await?;
    if let Some(operation) = repository.half_done() {
        return Err(SubmitError::HalfDone(operation.to_owned()));
    }
    let merging = repository.is_merging();
    let changes = repository.changes().await?;
    let (inside, outside): (Vec<&Change>, Vec<&Change>) = changes.iter().partition(|change| is_inside(&task.scope, change));
    let undecided: Vec<String> = outside.iter().filter(|change| change.is_unmerged()).map(|change| change.shown().into_owned()).collect();
    if !undecided.is_empty() {
        return Err(SubmitError::ConflictsOutside(undecided));
    }
    refuse_markers(&repository, &task.scope, &inside).await?;
    // What a merge has put into the index is the other side's work, not this task's.
    let outside: Vec<&Change> = outside.into_iter().filter(|change| !merging || change.unstaged != b' ').collect();
    if !merging {
        let staged: Vec<&[u8]> =
            outside.iter().filter(|change| !matches!(change.staged, b' ' | b'?')).map(|change| change.path.as_slice()).collect();
        repository.unstage(&staged).await?;
    }
    let dirty: Vec<&[u8]> = inside.iter().filter(|change| change.unstaged != b' ').map(|change| change.path.as_slice()).collect();
    repository.stage(&dirty).await?;
    if merging || repository.has_staged().await? {
        repository.commit(&message(summary, &task.key), task.agent.as_str()).await?;
    }
    let left_out = names(outside.iter().map(|change| change.shown().into_owned()).collect());
    if repository.own_commits().await? == 0 {
        return Err(SubmitError::Nothing { left_out });
    }
    let commit = repository.head().await?;
    repository.set_ref(&format!("refs/heads/aedile/{}", task.key), &commit).await?;
    let request = AgentRequest::Submit { commit: commit.clone(), summary: summary.trim().to_owned(), left_out: left_out.clone() };
    match door.call(&request).await? {
        AgentReply::Done { message } => Ok(Submitted { commit, left_out, message }),
        AgentReply::Refused { message } => Err(SubmitError::Refused(message)),
        other => Err(unexpected(&other)),
    }
}

async fn ask_task(door: &DoorClient) -> Result<Task, SubmitError> {
    match door.call(&AgentRequest::TaskInfo {}).await? {
        AgentReply::Task { key, scope, agent, .. } => {
            let scope = Scope::new(&scope).map_err(|error| SubmitError::Refused(format!("the task cannot be submitted: {error}")))?;
            Ok(Task { key, agent, scope })
        }
        AgentReply::Refused { message } => Err(SubmitError::Refused(message)),
        other => Err(unexpected(&other)),
    }
}

fn unexpected(reply: &AgentReply) -> SubmitError {
    SubmitError::Door(DoorError::NotUnderstood { problem: format!("it does not fit the call: {reply:?}") })
}

/// A path with `/` at its end is a repository within the repository; git would record only a link to it. A name that is not UTF-8 cannot land.
fn is_inside(scope: &Scope, change: &Change) -> bool {
    std::str::from_utf8(&change.path).is_ok_and(|path| !path.ends_with('/') && scope.allows(path))
}

fn message(summary: &str, key: &TaskKey) -> String {
    let summary = summary.trim();
    if summary.is_empty() { format!("Work on {key}") } else { summary.to_owned() }
}

async fn refuse_markers(repository: &Repository, scope: &Scope, inside: &[&Change]) -> Result<(), SubmitError> {
    let mut paths = repository.own_paths().await?;
    paths.extend(inside.iter().map(|change| change.path.clone()));
    let root = repository.root();
    let marked = |path: &Vec<u8>| {
        let shown = String::from_utf8_lossy(path).into_owned();
        (scope.allows(&shown) && has_markers(&root.join(OsStr::from_bytes(path)))).then_some(shown)
    };
    let left: Vec<String> = paths.iter().filter_map(marked).collect();
    if left.is_empty() { Ok(()) } else { Err(SubmitError::Conflicts(left)) }
}

/// Whether the file holds the beginning of a conflict and, behind it, its end.
fn has_markers(path: &Path) -> bool {
    let regular = fs::symlink_metadata(path).is_ok_and(|meta| meta.is_file() && meta.len() <= MARKER_FILE_BYTES_MAX);
    if !regular {
        return false;
    }
    let Ok(bytes) = fs::read(path) else { return false };
    let mut lines = bytes.split(|byte| *byte == b'\n');
    lines.any(|line| line.starts_with(b"<<<<<<< ")) && lines.any(|line| line.starts_with(b">>>>>>> "))
}

/// Limits a list of paths and says how many more there are.
fn names(mut paths: Vec<String>) -> Vec<String> {
    paths.sort();
    if paths.len() > NAMED_PATHS_MAX {
        let more = paths.len() - NAMED_PATHS_MAX + 1;
        paths.truncate(NAMED_PATHS_MAX - 1);
        paths.push(format!("... and {more} more"));
    }
    paths
}

fn named(paths: &[String]) -> String {
    names(paths.to_vec()).join(", ")
}

fn left_out_text(left_out: &[String]) -> String {
    if left_out.is_empty() {
        return String::new();
    }
    let is_lock = |path: &&String| LOCK_FILES.contains(&path.rsplit('/').next().unwrap_or_default());
    let (unnamed, left_out): (Vec<&String>, Vec<&String>) = left_out.iter().partition(|path| path.contains(char::REPLACEMENT_CHARACTER));
    let (locks, others): (Vec<&String>, Vec<&String>) = left_out.into_iter().partition(is_lock);
    let join = |paths: &[&String]| paths.iter().map(|path| path.as_str()).collect::<Vec<_>>().join(", ");
    let mut text = String::new();
    if !others.is_empty() {
        // Writing to a String cannot fail.
        let _ = write!(text, " Left out because they are outside the task's scope: {}.", join(&others));
    }
    if !locks.is_empty() {
        let _ = write!(text, " Lock files that tools rewrite were left out too: {}.", join(&locks));
    }
    if !unnamed.is_empty() {
        let _ = write!(text, " Left out because their names are not UTF-8, which cannot land; rename them: {}.", join(&unnamed));
    }
    text
}
