//! Workspaces over the hub of one project.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use aedile_core::bounded::few;
use aedile_core::policy::Reads;
use aedile_core::sandbox::{BoxMount, Sandbox};
use aedile_core::scope::Scope;
use aedile_core::view::{ChangeView, RunView, TaskView};
use aedile_core::{Clock, CommitId, Redactor, RefName, RunId};
use aedile_git::{AddedSecret, GitError, Hub, Identity, OverlayFile, Project, Snapshotter, WorkspaceSpec, remove_tree};

use crate::goal::Layout;
use crate::workspaces::{Snapshot, Workspace, WorkspaceError, Workspaces};

/// Makes workspaces from the hub of a project, below the state directory: `workspaces/<run>/<task>/<attempt>`, with the directory of the
/// snapshots beside the tree.
pub struct HubWorkspaces {
    /// The hub.
    pub hub: Hub,
    /// Its project.
    pub project: Project,
    /// Snapshots run in boxes.
    pub sandbox: Arc<dyn Sandbox>,
    /// The state directory.
    pub state: PathBuf,
    /// Knows what is secret.
    pub redactor: Arc<dyn Redactor>,
    /// Wall time.
    pub clock: Arc<dyn Clock>,
}

impl From<GitError> for WorkspaceError {
    fn from(error: GitError) -> Self {
        Self(error.to_string())
    }
}

/// The tree and, beside it, our own directory for its snapshots.
const TREE: &str = "tree";
const SNAPSHOTS: &str = "snapshots";

impl HubWorkspaces {
    /// Returns where the workspaces of a run are.
    pub fn of_run(&self, run: RunId) -> PathBuf {
        self.state.join("workspaces").join(run.to_string())
    }

    fn of_task(&self, task: &TaskView) -> PathBuf {
        self.of_run(task.run).join(task.spec.key.as_str())
    }

    /// The target as it is now, in the hub and safe from the project's `gc`.
    fn target(&self, run: &RunView) -> Result<CommitId, GitError> {
        let tip = match RefName::new(format!("refs/heads/{}", run.target.trim_start_matches("refs/heads/"))) {
            Ok(target) => self.project.landing_point(&target)?.base,
            Err(_) => run.tip.clone(),
        };
        self.hub.adopt(&self.project, run.run, &tip)?;
        Ok(tip)
    }
}

impl HubWorkspaces {
    /// Cargo writes its lock file before it does anything else, and in a workspace whose root is read-only it could not make one.
    /// An empty one that git does not see, which the box lets tools rewrite without effect, is enough for it.
    fn missing_lock(&self, commit: &CommitId, task: &TaskView) -> Result<Vec<OverlayFile>, GitError> {
        let allowed = Scope::new(&task.spec.scope).is_ok_and(|scope| scope.allows(CARGO_LOCK));
        if allowed || self.hub.file_at(commit, "Cargo.toml")?.is_none() || self.hub.file_at(commit, CARGO_LOCK)?.is_some() {
            return Ok(Vec::new());
        }
        Ok(vec![OverlayFile { path: CARGO_LOCK.into(), bytes: Vec::new() }])
    }
}

/// Cargo's lock file.
const CARGO_LOCK: &str = "Cargo.lock";

fn agent(task: &TaskView) -> Identity {
    task.agent.as_ref().map_or_else(Identity::aedile, Identity::agent)
}

impl Workspaces for HubWorkspaces {
    fn create(
        &self,
        run: &RunView,
        task: &TaskView,
        attempt: u32,
        returned: Option<&ChangeView>,
        reads: &Reads,
    ) -> Result<Workspace, WorkspaceError> {
        let at = self.of_task(task).join(attempt.to_string());
        remove_tree(&at)?;
        let identity = agent(task);
        // What is kept for a person is made from what they had before them, not from what has landed beside it; also when it came back.
        let base = match run.rules.hold && !task.released {
            true => {
                self.hub.adopt(&self.project, run.run, &run.base)?;
                run.base.clone()
            }
            false => self.target(run)?,
        };
        let (commit, conflicts) = match returned {
            Some(change) => {
                let merged = self.hub.merge_back(&change.commit, &base, &identity, self.clock.now())?;
                let paths = few(merged.paths.iter().map(|path| path.to_string_lossy().into_owned()));
                (merged.commit, paths)
            }
            None => (base.clone(), Vec::new()),
        };
        let (path, snapshots) = (at.join(TREE), at.join(SNAPSHOTS));
        let view = self.hub.view(&commit, reads)?.map(|view| view.commit);
        let commit = view.clone().unwrap_or(commit);
        self.hub.create_workspace(&WorkspaceSpec {
            dest: &path,
            snapshots: &snapshots,
            key: &task.spec.key,
            commit: &commit,
            alone: view.is_some(),
            identity: &identity,
            overlay: &self.missing_lock(&commit, task)?,
            build_dirs: &run.rules.build_dirs,
        })?;
        Ok(Workspace { path, base, view, conflicts })
    }

    fn has_commit(&self, change: &ChangeView) -> bool {
        self.hub.resolve(change.commit.as_str()).is_ok_and(|found| found.is_some())
    }

    fn differs(&self, base: &CommitId, snapshot: &CommitId) -> Result<bool, WorkspaceError> {
        Ok(!self.hub.diff_paths(base, snapshot)?.is_empty())
    }

    fn snapshot(&self, run: &RunView, task: &TaskView, path: &Path) -> Result<Snapshot, WorkspaceError> {
        let mut snapshotter = Snapshotter::open(&self.hub, Arc::clone(&self.sandbox), path, &path.with_file_name(SNAPSHOTS))?;
        // The workspace may be older than the task's present attempt.
        let attempt = path.parent().and_then(|of| of.file_name()?.to_str()?.parse().ok()).unwrap_or(task.attempt);
        let saved = snapshotter.snapshot(run.run, task.task, (attempt, task.turn), self.clock.now())?;
        let oversized = few(saved.left_out.iter().map(|left| format!("{}: {}", left.path.display(), left.why)));
        let base = snapshotter.base();
        let secrets = self.hub.secrets_added(&*self.redactor, base, &saved.commit)?;
        let secrets = few(secrets.into_iter().filter(AddedSecret::is_found).map(|secret| format!("{} [{}]", secret.path, secret.rule)));
        Ok(Snapshot { commit: saved.commit, oversized, secrets })
    }

    fn remove(&self, path: &Path) -> Result<(), WorkspaceError> {
        // The tree's parent is the directory of its attempt.
        Ok(remove_tree(path.parent().unwrap_or(path))?)
    }

    fn forget(&self, task: &TaskView) -> Result<(), WorkspaceError> {
        Ok(remove_tree(&self.of_task(task))?)
    }

    fn layout(&self, commit: &CommitId) -> Result<Layout, WorkspaceError> {
        Ok(Layout::of_tree(self.hub.files(commit)?, |path| self.hub.file_at(commit, path).ok().flatten()))
    }

    fn mounts(&self) -> Result<Vec<BoxMount>, WorkspaceError> {
        let mounts = self.hub.object_mounts()?;
        Ok(mounts.into_iter().map(|mount| BoxMount { host: mount.host, inside: mount.inside, writable: false }).collect())
    }
}
