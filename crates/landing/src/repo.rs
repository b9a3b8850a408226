//! What the queue asks of git, in its own words.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;

use aedile_core::bounded;
use aedile_core::limits::MARKERS_FILE_BYTES_MAX;
use aedile_core::sandbox::BoxMount;
use aedile_core::task::TaskSpec;
use aedile_core::view::{ChangeView, Intent, RunView};
use aedile_core::{CommitId, RefName, TreeId};
use aedile_git::{CommitRequest, EntryMode, GitError, Identity, ImportRequest, Landing, LandingPoint, Merge, PathChange, Signing, Stages};

use crate::LandingError;
use crate::dropped;
use crate::filter::{Touched, shown};
use crate::markers::{self, Marks};
use crate::message::commit_message;
use crate::queue::LandingDeps;

/// Paths of a conflict that a report names.
const CONFLICT_PATHS_MAX: usize = 100;

/// A symbolic link with a longer target cannot be followed by any system that we run on.
const LINK_BYTES_MAX: usize = 4096;

/// Who submits what no agent made.
const PERSON: &str = "person";

/// What a merge gave.
pub(crate) enum Merged {
    /// This tree.
    Tree(TreeId),
    /// Conflicts in these paths; what git says of them, its tree with markers, and the versions.
    Conflict { paths: Vec<String>, messages: Vec<String>, tree: TreeId, stages: Vec<Stages> },
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

    /// Takes the submitted commit out of the workspace and returns what it is on the whole repository; the inner error is for the agent. Repeating it
    /// is harmless.
    pub(crate) fn import(&self, change: &ChangeView, spec: &TaskSpec) -> Result<Result<CommitId, String>, LandingError> {
        let request = ImportRequest {
            workspace: &change.workspace,
            key: &spec.key,
            commit: &change.commit,
            base: &change.base,
            view: change.view.as_ref(),
            change: change.change,
            limit: None,
        };
        match self.deps.hub.import_change(&*self.deps.sandbox, &request) {
            Ok(imported) => Ok(Ok(imported.commit)),
            // The machine failed, or the time was over: that says nothing about the change, and is tried again.
            Err(error) if error.is_hosts() => Err(error.into()),
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

    /// Lists the paths of a commit; a byte that is not UTF-8 stands as U+FFFD.
    pub(crate) fn paths_of(&self, commit: &CommitId) -> Result<Vec<String>, LandingError> {
        Ok(self.deps.hub.files(commit)?.into_iter().map(|file| file.path.to_string_lossy().into_owned()).collect())
    }

    /// Lists the paths of a tree that no commit has yet.
    pub(crate) fn paths_of_tree(&self, tree: &TreeId) -> Result<Vec<String>, LandingError> {
        self.paths_of(&as_commit(tree)?)
    }

    /// Lists what differs between two commits.
    pub(crate) fn touched(&self, from: &CommitId, to: &CommitId) -> Result<Vec<Touched>, LandingError> {
        self.described(&self.deps.hub.diff_paths(from, to)?)
    }

    /// Lists what differs between a commit and a tree that no commit has yet. Entries that are again what they were before one of the
    /// `undone` changes landed are told as ordinary files: what was there once is no reason against an undo.
    pub(crate) fn touched_by_tree(&self, from: &CommitId, tree: &TreeId, undone: &[ChangeView]) -> Result<Vec<Touched>, LandingError> {
        let mut changes = self.tree_paths(from, tree)?;
        if !undone.is_empty() {
            let before = self.before(undone)?;
            let again = |change: &&mut PathChange| {
                before.contains(&(change.path.clone(), change.new_id.clone())) && change.new_mode != EntryMode::Absent
            };
            changes.iter_mut().filter(again).for_each(|change| change.new_mode = EntryMode::File);
        }
        self.described(&changes)
    }

    /// Paths and objects as they were before each of these changes landed.
    fn before(&self, undone: &[ChangeView]) -> Result<HashSet<(PathBuf, String)>, LandingError> {
        let mut before = HashSet::new();
        for landed in undone.iter().filter_map(|change| change.landed.as_ref()) {
            let Some(parent) = self.deps.hub.commit_info(landed)?.parents.into_iter().next() else { continue };
            before.extend(self.deps.hub.diff_paths(landed, &parent)?.into_iter().map(|change| (change.path, change.new_id)));
        }
        Ok(before)
    }

    /// A diff takes a tree wherever it takes a commit.
    fn tree_paths(&self, from: &CommitId, tree: &TreeId) -> Result<Vec<PathChange>, LandingError> {
        Ok(self.deps.hub.diff_paths(from, &as_commit(tree)?)?)
    }

    fn described(&self, changes: &[PathChange]) -> Result<Vec<Touched>, LandingError> {
        let links: Vec<String> =
            changes.iter().filter(|change| change.new_mode == EntryMode::Link).map(|change| change.new_id.clone()).collect();
        let mut targets = self.deps.hub.blobs(&links, LINK_BYTES_MAX)?.into_iter();
        let mut describe = |change: &PathChange| {
            let (mode, link) = match change.new_mode {
                EntryMode::Absent => (0, None),
                EntryMode::File => (0o100_644, None),
                EntryMode::Executable => (0o100_755, None),
                EntryMode::Link => (0o120_000, targets.next().flatten().and_then(|bytes| String::from_utf8(bytes).ok())),
                EntryMode::Gitlink => (0o160_000, None),
                EntryMode::Odd(mode) => (mode, None),
            };
            Touched { path: change.path.to_string_lossy().into_owned(), mode, link }
        };
        Ok(changes.iter().map(&mut describe).collect())
    }

    /// Returns the paths of the tree that hold a whole set of conflict markers which `onto` lacks: those that were `in_conflict`, and any
    /// whose markers are the ones that a merge of ours has left.
    pub(crate) fn with_markers(&self, onto: &CommitId, tree: &TreeId, in_conflict: &[String]) -> Result<Vec<String>, LandingError> {
        let mut changes = self.tree_paths(onto, tree)?;
        changes.retain(|change| matches!(change.new_mode, EntryMode::File | EntryMode::Executable));
        let ids = |of: fn(&PathChange) -> &String| changes.iter().map(|change| of(change).clone()).collect::<Vec<_>>();
        let now = self.deps.hub.blobs(&ids(|change| &change.new_id), MARKERS_FILE_BYTES_MAX)?;
        let mut found = Vec::new();
        for (change, bytes) in changes.iter().zip(now) {
            let path = change.path.to_string_lossy();
            let marks = bytes.as_deref().map_or(Marks::None, markers::look);
            if marks == Marks::Ours || (marks == Marks::Some && in_conflict.iter().any(|known| *known == path)) {
                let before = self.deps.hub.blobs(std::slice::from_ref(&change.old_id), MARKERS_FILE_BYTES_MAX)?;
                if before.into_iter().flatten().all(|bytes| markers::look(&bytes) == Marks::None) {
                    found.push(shown(&path));
                }
            }
        }
        Ok(bounded::few(found))
    }

    /// Returns what others landed between `since` and `onto` and the tree leaves out.
    pub(crate) fn dropped(&self, since: &CommitId, onto: &CommitId, tree: &TreeId) -> Result<Vec<String>, LandingError> {
        if since == onto {
            return Ok(Vec::new());
        }
        let hub = &self.deps.hub;
        let landed: HashMap<PathBuf, PathChange> =
            hub.diff_paths(since, onto)?.into_iter().map(|change| (change.path.clone(), change)).collect();
        // Without a line that says it: a file that is not text, or one that is there or gone again as a whole.
        let whole = |change: &PathChange| {
            let again = landed.get(&change.path).filter(|landed| landed.old_id == change.new_id && landed.new_id == change.old_id)?;
            let path = shown(&change.path.to_string_lossy());
            Some(match again.new_mode {
                EntryMode::Absent => format!("{path}: is there again"),
                _ if again.old_mode == EntryMode::Absent => format!("{path}: is gone again"),
                _ => format!("{path}: is as it was before"),
            })
        };
        let mut found: Vec<String> = self.tree_paths(onto, tree)?.iter().filter_map(whole).collect();
        let lines = dropped::dropped(&hub.diff_lines(since.as_str(), onto.as_str())?, &hub.diff_lines(onto.as_str(), tree.as_str())?);
        found.extend(lines);
        Ok(bounded::few(found.into_iter().map(|line| shown(&line))))
    }

    /// Says where the next landing goes. Asked of the project each time: a person may have moved or checked out the target.
    pub(crate) fn point(&self) -> Result<LandingPoint, LandingError> {
        Ok(self.deps.project.landing_point(&target_ref(&self.run.target)?)?)
    }

    /// The clean tier.
    pub(crate) fn merge(&self, onto: &CommitId, commit: &CommitId) -> Result<Merged, LandingError> {
        match self.deps.hub.merge_tree(onto, commit) {
            Ok(Merge::Clean { tree }) => Ok(Merged::Tree(tree)),
            Ok(Merge::Conflict { paths, messages, tree, stages }) => {
                let paths = paths.iter().take(CONFLICT_PATHS_MAX).map(|path| shown(&path.to_string_lossy())).collect();
                Ok(Merged::Conflict { paths, messages, tree, stages })
            }
            Err(_) if self.deps.hub.merge_base(onto, commit)?.is_none() => Ok(Merged::Unrelated),
            Err(error) => Err(error.into()),
        }
    }

    /// Makes the commit that is to land, signed when the person signs theirs.
    pub(crate) fn commit(&self, change: &ChangeView, spec: &TaskSpec, tree: &TreeId, parent: &CommitId) -> Result<CommitId, LandingError> {
        self.commit_signed(change, spec, tree, parent, self.deps.project.signing())
    }

    /// The same without a signature: nobody is asked for a passphrase for what may never land.
    pub(crate) fn draft(&self, change: &ChangeView, spec: &TaskSpec, tree: &TreeId, parent: &CommitId) -> Result<CommitId, LandingError> {
        self.commit_signed(change, spec, tree, parent, None)
    }

    fn commit_signed(
        &self,
        change: &ChangeView,
        spec: &TaskSpec,
        tree: &TreeId,
        parent: &CommitId,
        sign: Option<&Signing>,
    ) -> Result<CommitId, LandingError> {
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
            sign,
        })?)
    }

    /// A commit of the tree that never lands itself: what a clean room has as its HEAD.
    pub(crate) fn candidate(&self, tree: &TreeId, parent: &CommitId) -> Result<CommitId, LandingError> {
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
    pub(crate) fn land(&self, new: &CommitId, point: LandingPoint, reason: &str) -> Result<Fate, LandingError> {
        let landing = Landing { reference: point.reference, old: point.old, new: new.clone() };
        match self.deps.project.land(&self.deps.hub, &landing, reason) {
            Ok(_) => Ok(Fate::Landed),
            Err(error @ (GitError::RefMoved { .. } | GitError::CheckedOut { .. })) => Ok(Fate::Not { why: error.to_string() }),
            Err(error) => Err(error.into()),
        }
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

/// The tree under the name by which git also takes it.
fn as_commit(tree: &TreeId) -> Result<CommitId, LandingError> {
    CommitId::new(tree.as_str()).map_err(|_| LandingError::Unknown { noun: "tree", id: tree.to_string() })
}
