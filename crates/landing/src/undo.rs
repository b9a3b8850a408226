//! What it takes to take a landed commit back: the tree without it, and the later commits that build upon it.

use std::collections::HashSet;
use std::path::PathBuf;

use aedile_core::{CommitId, Timestamp, TreeId};
use aedile_git::{GitError, Hub, Reverted};

/// How a landed commit can be taken back.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Undo {
    /// By this tree on the target.
    Tree(TreeId),
    /// Only together with later commits that changed the same lines.
    BuiltUpon {
        /// These, oldest first.
        by: Vec<CommitId>,
        /// The tree without them and without the commit itself.
        tree: TreeId,
    },
    /// Nothing of it is left in the target.
    Gone,
    /// The target does not have it.
    NotThere,
    /// git cannot say what stands in the way.
    Tangled {
        /// The paths.
        paths: Vec<String>,
    },
}

/// Works out how `commit` is taken back from the target, which is at `onto`. Nothing is written but objects.
///
/// # Errors
/// [`GitError`] when git fails.
pub fn plan_undo(hub: &Hub, onto: &CommitId, commit: &CommitId, at: Timestamp) -> Result<Undo, GitError> {
    if !hub.is_ancestor(commit, onto)? {
        return Ok(Undo::NotThere);
    }
    let whole = hub.commit_info(onto)?.tree;
    let paths = match hub.revert(onto, std::slice::from_ref(commit), at)? {
        Reverted::Clean { tree } if tree == whole => return Ok(Undo::Gone),
        Reverted::Clean { tree } => return Ok(Undo::Tree(tree)),
        Reverted::Conflict { paths } => paths,
    };
    let later = hub.line(commit, onto)?;
    // A rename may carry an overlap to another path: then every later commit is looked at.
    for only_same_paths in [true, false] {
        let back = builders(hub, commit, &later, only_same_paths, at)?;
        if let Reverted::Clean { tree } = hub.revert(onto, &back, at)? {
            let by = back.into_iter().rev().filter(|other| other != commit).collect();
            return Ok(Undo::BuiltUpon { by, tree });
        }
    }
    Ok(Undo::Tangled { paths })
}

/// Walks up from the commit and collects each later one at which what was collected so far no longer comes off: it changed the same
/// lines. Newest first, the commit itself last.
fn builders(hub: &Hub, commit: &CommitId, later: &[CommitId], only_same_paths: bool, at: Timestamp) -> Result<Vec<CommitId>, GitError> {
    let touched = |commit: &CommitId| -> Result<HashSet<PathBuf>, GitError> {
        let Some(before) = hub.commit_info(commit)?.parents.into_iter().next() else { return Ok(HashSet::new()) };
        Ok(hub.diff_paths(&before, commit)?.into_iter().map(|change| change.path).collect())
    };
    let mut back = vec![commit.clone()];
    let mut paths = touched(commit)?;
    for other in later {
        let others = touched(other)?;
        if only_same_paths && paths.is_disjoint(&others) {
            continue;
        }
        if let Reverted::Conflict { .. } = hub.revert(other, &back, at)? {
            back.insert(0, other.clone());
            paths.extend(others);
        }
    }
    Ok(back)
}
