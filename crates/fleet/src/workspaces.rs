//! What the fleet asks of workspaces.

use std::path::{Path, PathBuf};

use aedile_core::CommitId;
use aedile_core::policy::Reads;
use aedile_core::sandbox::BoxMount;
use aedile_core::view::{ChangeView, RunView, TaskView};

use crate::goal::Layout;

/// A workspace that is complete.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Workspace {
    /// Where it is on the host.
    pub path: PathBuf,
    /// The target's commit that it contains.
    pub base: CommitId,
    /// The commit without history that it holds instead, when its agent may not read everything.
    pub view: Option<CommitId>,
    /// Paths that carry conflict markers; of very many the first, and how many more.
    pub conflicts: Vec<String>,
}

/// A saved state of a workspace.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Snapshot {
    /// The commit in the hub.
    pub commit: CommitId,
    /// Files that are recorded by name and hash only; of very many the first, and how many more.
    pub oversized: Vec<String>,
    /// Paths, with the rule, that hold a secret which was not there when the workspace began; of very many the first, and how many more.
    pub secrets: Vec<String>,
}

/// Why something about a workspace did not work, in one sentence.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct WorkspaceError(pub String);

/// Makes, saves and removes workspaces. Implemented over the git crate, and by a fault-injecting fake in tests. Every call may block.
pub trait Workspaces: Send + Sync {
    /// Makes the workspace of this attempt: from the target as it is now, or, for a change that came back, that change merged
    /// with the target, with conflict markers in its scope. It holds what `reads` lets the agent see, and what it does not see changes nothing there.
    /// What an earlier, unfinished call left at the path is replaced.
    ///
    /// # Errors
    /// [`WorkspaceError`] tells what failed.
    fn create(
        &self,
        run: &RunView,
        task: &TaskView,
        attempt: u32,
        returned: Option<&ChangeView>,
        reads: &Reads,
    ) -> Result<Workspace, WorkspaceError>;
    /// Whether the commit of this change is in the hub, so that a new workspace can be made from it.
    fn has_commit(&self, change: &ChangeView) -> bool;
    /// Whether a snapshot holds anything else than the commit that its workspace began with.
    ///
    /// # Errors
    /// [`WorkspaceError`] when one of them is not there.
    fn differs(&self, base: &CommitId, snapshot: &CommitId) -> Result<bool, WorkspaceError> {
        Ok(base != snapshot)
    }
    /// Saves the whole workspace where the agent cannot reach it.
    ///
    /// # Errors
    /// [`WorkspaceError`] tells what failed.
    fn snapshot(&self, run: &RunView, task: &TaskView, path: &Path) -> Result<Snapshot, WorkspaceError>;
    /// Removes a workspace; harmless when it is gone.
    ///
    /// # Errors
    /// [`WorkspaceError`] tells what failed.
    fn remove(&self, path: &Path) -> Result<(), WorkspaceError>;
    /// Removes everything that all attempts of the task left; harmless when it is gone. The snapshots in the hub stay.
    ///
    /// # Errors
    /// [`WorkspaceError`] tells what failed.
    fn forget(&self, task: &TaskView) -> Result<(), WorkspaceError>;
    /// Lists what a commit holds, for the checks of a plan.
    ///
    /// # Errors
    /// [`WorkspaceError`] when the commit cannot be read.
    fn layout(&self, commit: &CommitId) -> Result<Layout, WorkspaceError>;
    /// Returns the mounts that a box needs so that git works in the workspace.
    ///
    /// # Errors
    /// [`WorkspaceError`] when the project is no longer where it was.
    fn mounts(&self) -> Result<Vec<BoxMount>, WorkspaceError>;
}
