//! What the queue asks of git, in its own words.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use aedile_core::sandbox::BoxMount;
use aedile_core::task::TaskSpec;
use aedile_core::view::{ChangeView, Intent, RunView};
use aedile_core::{CommitId, RefName, TreeId};
use aedile_git::{CommitRequest, EntryMode, GitError, Identity, ImportRequest, Landing, LandingPoint, Merge, PathChange};

use crate::LandingError;
use crate::filter::{Touched, shown};
use crate::message::commit_message;
use crate::queue::LandingDeps;

/// Paths of a conflict that a report names.
const CONFLICT_PATHS_MAX: usize = 100;

/// Who submits what no agent made.
const PERSON: &str = "person";

/// What a merge gave.
pub(crate) enum Merged {
    /// This tree.
    Tree(TreeId),
    /// Conflicts in these paths; what git says of them.
    Conflict { paths: Vec<String>, messages: String },
    /// Nothing: the two have no history in common.
    Unrelated,
}

/// What became of a landing.
pub(crate) enum Fate {
    /// The commit is on the ref, now or since an earlier try.
    Landed,
    /// It is not, and the ref is elsewhere or may not be moved.
    Not { why: String },
}

/// The hub and the project, for one run.
pub(crate) struct Repo<'a> {
    deps: &'a LandingDeps,
    run: &'a RunView,
}

impl<'a> Repo<'a> {
    pub(crate) fn of(deps: &'a LandingDeps, run: &'a RunView) -> Self {
        Self { deps, run }
    }

    /// Takes the submitted commit out of the workspace; the inner error is for the agent. Repeating it is harmless.
    pub(crate) fn import(&self, change: &ChangeView, spec: &TaskSpec) -> Result<Result<(), String>, LandingError> {
        let request = ImportRequest {
            workspace: &change.workspace,
            key: &spec.key,
            commit: &change.commit,
            base: &change.base,
            change: change.change,
            limit: None,
        };
        match self.deps.hub.import_change(&*self.deps.sandbox, &request) {
            Ok(_) => Ok(Ok(())),
            // A box that failed read what the agent left: that is for the agent to mend, too.
            Err(
                error @ (GitError::ImportRefused { .. }
                | GitError::SubmitMoved { .. }
                | GitError::PackTooLarge { .. }
                | GitError::BoxFailed { .. }),
            ) => Ok(Err(error.to_string())),
            Err(error) => Err(error.into()),
        }
    }

    /// Lists what differs between two commits.
    pub(crate) fn touched(&self, from: &CommitId, to: &CommitId) -> Result<Vec<Touched>, LandingError> {
        let changes = self.deps.hub.diff_paths(from, to)?;
        changes.iter().map(|change| self.describe(change, to)).collect()
    }

    /// Lists what differs between a commit and a tree that no commit has yet.
    pub(crate) fn touched_by_tree(&self, from: &CommitId, tree: &TreeId) -> Result<Vec<Touched>, LandingError> {
        // A diff takes a tree wherever it takes a commit; only a link is read through a commit.
        let mut to = CommitId::new(tree.as_str()).map_err(|_| LandingError::Unknown { noun: "tree", id: tree.to_string() })?;
        let changes = self.deps.hub.diff_paths(from, &to)?;
        if changes.iter().any(|change| change.new_mode == EntryMode::Link) {
            to = self.candidate(tree, from)?;
        }
        changes.iter().map(|change| self.describe(change, &to)).collect()
    }

    fn describe(&self, change: &PathChange, at: &CommitId) -> Result<Touched, LandingError> {
        let (mode, link) = match change.new_mode {
            EntryMode::Absent => (0, None),
            EntryMode::File => (0o100_644, None),
            EntryMode::Executable => (0o100_755, None),
            EntryMode::Link => (0o120_000, self.text_of(at, change.path.as_os_str().as_bytes())?),
            EntryMode::Gitlink => (0o160_000, None),
            EntryMode::Odd(mode) => (mode, None),
        };
        Ok(Touched { path: change.path.to_string_lossy().into_owned(), mode, link })
    }

    /// Reads a file or a link; `None` when its name is no text, there is none, or it is no text itself.
    fn text_of(&self, commit: &CommitId, path: &[u8]) -> Result<Option<String>, LandingError> {
        match std::str::from_utf8(path) {
            Ok(path) if !path.contains('\n') => Ok(self.deps.hub.file_at(commit, path)?.and_then(|bytes| String::from_utf8(bytes).ok())),
            _ => Ok(None),
        }
    }

    /// Returns those of the paths whose text still holds a whole set of conflict markers.
    pub(crate) fn with_markers(&self, commit: &CommitId, paths: &[String]) -> Result<Vec<String>, LandingError> {
        let mut found = Vec::new();
        for path in paths {
            let text = self.text_of(commit, path.as_bytes())?.unwrap_or_default();
            let has = |marker: &str| {
                text.lines().any(|line| line == marker || line.strip_prefix(marker).is_some_and(|rest| rest.starts_with(' ')))
            };
            if has("<<<<<<<") && has("=======") && has(">>>>>>>") {
                found.push(path.clone());
            }
        }
        Ok(found)
    }

    /// Says where the next landing goes. Asked of the project each time: a person may have moved or checked out the target.
    pub(crate) fn point(&self) -> Result<LandingPoint, LandingError> {
        Ok(self.deps.project.landing_point(&target_ref(&self.run.target)?)?)
    }

    /// The clean tier.
    pub(crate) fn merge(&self, onto: &CommitId, commit: &CommitId) -> Result<Merged, LandingError> {
        match self.deps.hub.merge_tree(onto, commit) {
            Ok(Merge::Clean { tree }) => Ok(Merged::Tree(tree)),
            Ok(Merge::Conflict { paths, messages, .. }) => {
                let paths = paths.iter().take(CONFLICT_PATHS_MAX).map(|path| shown(&path.to_string_lossy())).collect();
                Ok(Merged::Conflict { paths, messages: messages.join("\n") })
            }
            Err(_) if self.deps.hub.merge_base(onto, commit)?.is_none() => Ok(Merged::Unrelated),
            Err(error) => Err(error.into()),
        }
    }

    /// Makes the commit that is to land, signed when the person signs theirs.
    pub(crate) fn commit(&self, change: &ChangeView, spec: &TaskSpec, tree: &TreeId, parent: &CommitId) -> Result<CommitId, LandingError> {
        let message = commit_message(&spec.title, &change.summary, &spec.key, &change.agent, change.run);
        // An undo is the person's own doing.
        let author = if change.agent.as_str() == PERSON { self.deps.project.committer() } else { Identity::agent(&change.agent) };
        Ok(self.deps.hub.commit_tree(&CommitRequest {
            tree,
            parents: std::slice::from_ref(parent),
            message: &message,
            author: &author,
            committer: &self.deps.project.committer(),
            at: self.deps.clock.now(),
            sign: self.deps.project.signing(),
        })?)
    }

    /// Exports the tree to `dest`, which must not exist.
    pub(crate) fn export(&self, tree: &TreeId, parent: &CommitId, dest: &Path) -> Result<(), LandingError> {
        Ok(self.deps.hub.export_tree(&self.candidate(tree, parent)?, dest)?)
    }

    /// A commit of the tree that never lands itself: what a clean room has as its HEAD.
    fn candidate(&self, tree: &TreeId, parent: &CommitId) -> Result<CommitId, LandingError> {
        let us = Identity::aedile();
        Ok(self.deps.hub.commit_tree(&CommitRequest {
            tree,
            parents: std::slice::from_ref(parent),
            message: "The target with a change that waits for its gates\n",
            author: &us,
            committer: &us,
            at: self.deps.clock.now(),
            sign: None,
        })?)
    }

    /// What a box needs to see so that git works in an exported tree.
    pub(crate) fn mounts(&self) -> Result<Vec<BoxMount>, LandingError> {
        let mounts = self.deps.hub.object_mounts()?;
        Ok(mounts.into_iter().map(|mount| BoxMount { host: mount.host, inside: mount.inside, writable: false }).collect())
    }

    /// Moves the ref from where `point` saw it.
    pub(crate) fn land(&self, intent: &Intent, point: LandingPoint, change: &ChangeView) -> Result<Fate, LandingError> {
        let landing = Landing { reference: point.reference, old: point.old, new: intent.new.clone() };
        match self.deps.project.land(&self.deps.hub, &landing, &format!("aedile: land change {}", change.change)) {
            Ok(_) => Ok(Fate::Landed),
            Err(error @ (GitError::RefMoved { .. } | GitError::CheckedOut { .. })) => Ok(Fate::Not { why: error.to_string() }),
            Err(error) => Err(error.into()),
        }
    }

    /// Finds out what became of an intent of an earlier life, and moves the ref if that is still to be done.
    pub(crate) fn land_again(&self, intent: &Intent, change: &ChangeView) -> Result<Fate, LandingError> {
        if self.is_landed(intent)? {
            return Ok(Fate::Landed);
        }
        let point = self.point()?;
        if point.reference != intent.landing_ref || point.base != intent.old {
            let why = format!("{} is at {} now, not at {} any more", point.reference, point.base, intent.old);
            return Ok(Fate::Not { why });
        }
        self.land(intent, point, change)
    }

    /// Whether the intended commit is on its ref.
    pub(crate) fn is_landed(&self, intent: &Intent) -> Result<bool, LandingError> {
        Ok(self.deps.project.is_landed(&intent.landing_ref, &intent.new)?)
    }
}

/// Makes one commit of a held change, as a landing would, but on the commit that it was made from: what a person's branch of it points at.
/// Blocking; the commit is in the hub then.
///
/// # Errors
/// [`LandingError::Git`], for example when the change is no longer kept.
pub fn commit_for_person(deps: &LandingDeps, change: &ChangeView, spec: &TaskSpec, run: &RunView) -> Result<CommitId, LandingError> {
    let tree = deps.hub.commit_info(&change.commit)?.tree;
    Repo::of(deps, run).commit(change, spec, &tree, &change.base)
}

/// Returns the ref of a target as a person named it: `main` or `refs/heads/main`.
fn target_ref(target: &str) -> Result<RefName, LandingError> {
    let full = if target.starts_with("refs/") { target.to_owned() } else { format!("refs/heads/{target}") };
    RefName::new(full).map_err(|error| LandingError::Target { target: target.to_owned(), problem: error.to_string() })
}
