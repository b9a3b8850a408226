//! A project, its hub and its workspaces for one test.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use aedile_core::sandbox::Sandbox;
use aedile_core::{AgentName, ChangeId, CommitId, RefName, RunId, TaskId, TaskKey, Timestamp};
use aedile_git::{
    CommitRequest, Git, GitError, Hub, Identity, ImportRequest, Imported, Landing, Merge, Moved, PersonEnv, Project, Snapshotter,
    WorkspaceSpec,
};
use aedile_testkit::{SeededEntropy, SteppingClock, TempRepo};
use tempfile::TempDir;

use crate::boxes;

pub(crate) fn git() -> Git {
    #[expect(clippy::disallowed_methods, reason = "a test gives git the PATH it was given")]
    Git::find(&std::env::var_os("PATH").unwrap()).unwrap()
}

pub(crate) fn commit_id(text: &str) -> CommitId {
    CommitId::new(text).unwrap()
}

pub(crate) fn key(text: &str) -> TaskKey {
    TaskKey::new(text).unwrap()
}

pub(crate) fn refname(text: &str) -> RefName {
    RefName::new(text).unwrap()
}

pub(crate) fn at() -> Timestamp {
    Timestamp(1_780_000_000_000_000)
}

/// A person's project with one commit, a hub for it, and a run.
pub(crate) struct World {
    pub(crate) repo: TempRepo,
    pub(crate) state: TempDir,
    pub(crate) home: TempDir,
    pub(crate) git: Git,
    pub(crate) project: Project,
    pub(crate) hub: Hub,
    pub(crate) run: RunId,
    pub(crate) clock: SteppingClock,
    pub(crate) entropy: SeededEntropy,
    pub(crate) sandbox: Arc<dyn Sandbox>,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with(|repo| {
            repo.write("src/a.txt", "one\ntwo\nthree\n").write("src/b.txt", "b\n").write(".gitignore", "*.log\n/out/\n");
        })
    }

    pub(crate) fn with(fill: impl FnOnce(&TempRepo)) -> Self {
        let repo = TempRepo::new();
        fill(&repo);
        repo.commit("start");
        Self::around(repo)
    }

    pub(crate) fn around(repo: TempRepo) -> Self {
        Self::with_state(repo, TempDir::new().unwrap())
    }

    /// A project in a repository without a commit, with the state somewhere particular.
    pub(crate) fn in_state(repo: TempRepo, state: TempDir) -> Self {
        repo.write("src/b.txt", "b\n").commit("start");
        Self::with_state(repo, state)
    }

    fn with_state(repo: TempRepo, state: TempDir) -> Self {
        let (home, git) = (TempDir::new().unwrap(), git());
        let (clock, entropy) = (SteppingClock::default(), SeededEntropy::new(7));
        let project = Project::discover(&git, repo.path(), &person(home.path())).unwrap();
        let hub = Hub::open_or_create(&state.path().join("hubs/p.git"), &project).unwrap();
        let run = RunId::new(&clock, &entropy);
        hub.adopt(&project, run, project.head()).unwrap();
        Self { repo, state, home, git, project, hub, run, clock, entropy, sandbox: boxes::sandbox() }
    }

    /// Looks at the project again, as a new run would.
    pub(crate) fn rediscover(&self) -> Project {
        Project::discover(&self.git, self.repo.path(), &person(self.home.path())).unwrap()
    }

    pub(crate) fn workspace(&self, name: &str) -> Workspace {
        self.workspace_at(name, self.project.head())
    }

    pub(crate) fn workspace_at(&self, name: &str, commit: &CommitId) -> Workspace {
        self.workspace_of(name, commit, false)
    }

    /// A workspace that holds a commit, and nothing else of the hub when it stands `alone`.
    pub(crate) fn workspace_of(&self, name: &str, commit: &CommitId, alone: bool) -> Workspace {
        let (dir, snapshots) = (self.state.path().join("work").join(name), self.state.path().join("snapshots").join(name));
        let identity = Identity::agent(&AgentName::new("ada").unwrap());
        self.hub
            .create_workspace(&WorkspaceSpec {
                dest: &dir,
                snapshots: &snapshots,
                key: &key(name),
                commit,
                alone,
                identity: &identity,
                overlay: &[],
                build_dirs: &["target".to_owned()],
            })
            .unwrap();
        let objects = if alone { dir.join(".git/objects") } else { self.hub.dir().join("objects") };
        Workspace {
            repo: TempRepo::open(&dir),
            key: key(name),
            base: commit.clone(),
            view: alone.then(|| commit.clone()),
            objects,
            snapshots,
        }
    }

    pub(crate) fn change(&self) -> ChangeId {
        ChangeId::new(&self.clock, &self.entropy)
    }

    pub(crate) fn task(&self) -> TaskId {
        TaskId::new(&self.clock, &self.entropy)
    }

    pub(crate) fn snapshotter(&self, workspace: &Workspace) -> Snapshotter {
        Snapshotter::open(&self.hub, self.sandbox.clone(), workspace.repo.path(), &workspace.snapshots).unwrap()
    }

    pub(crate) fn import(&self, workspace: &Workspace, commit: &CommitId) -> Result<Imported, GitError> {
        self.import_with(self.sandbox.as_ref(), workspace, commit, None)
    }

    pub(crate) fn import_with(
        &self,
        sandbox: &dyn Sandbox,
        workspace: &Workspace,
        commit: &CommitId,
        limit: Option<u64>,
    ) -> Result<Imported, GitError> {
        let request = ImportRequest {
            workspace: workspace.repo.path(),
            key: &workspace.key,
            commit,
            base: &workspace.base,
            view: workspace.view.as_ref(),
            change: self.change(),
            limit,
        };
        self.hub.import_change(sandbox, &request)
    }

    /// A change that writes one file, imported.
    pub(crate) fn changed(&self, name: &str, path: &str, content: &str) -> CommitId {
        let workspace = self.workspace(name);
        workspace.repo.write(path, content);
        let commit = workspace.commit("work");
        self.import(&workspace, &commit).unwrap();
        commit
    }

    /// Joins a change with `base` as one landed commit.
    pub(crate) fn candidate(&self, base: &CommitId, change: &CommitId) -> CommitId {
        let Merge::Clean { tree } = self.hub.merge_tree(base, change).unwrap() else { panic!("conflict") };
        let agent = Identity::agent(&AgentName::new("ada").unwrap());
        self.hub
            .commit_tree(&CommitRequest {
                tree: &tree,
                parents: std::slice::from_ref(base),
                message: &format!("Do it\n\nAedile-Task: t\nAedile-Agent: ada\nAedile-Run: {}\n", self.run),
                author: &agent,
                committer: &self.project.committer(),
                at: at(),
                sign: None,
            })
            .unwrap()
    }

    /// Lands a change where it belongs now; returns the ref, the commit and what happened.
    pub(crate) fn land(&self, change: &CommitId) -> (Landing, Moved) {
        let point = self.project.landing_point(self.project.branch().unwrap()).unwrap();
        let landing = Landing { reference: point.reference, old: point.old, new: self.candidate(&point.base, change) };
        let moved = self.project.land(&self.hub, &landing, "aedile: land t").unwrap();
        (landing, moved)
    }
}

pub(crate) fn person(home: &Path) -> PersonEnv {
    PersonEnv(vec![(OsString::from("HOME"), home.into())])
}

/// A workspace as the agent has it.
pub(crate) struct Workspace {
    pub(crate) repo: TempRepo,
    pub(crate) key: TaskKey,
    pub(crate) base: CommitId,
    /// The view that it holds instead.
    pub(crate) view: Option<CommitId>,
    pub(crate) objects: PathBuf,
    pub(crate) snapshots: PathBuf,
}

impl Workspace {
    /// git as the agent would call it in its box, where the alternates resolve.
    pub(crate) fn git(&self, args: &[&str]) -> String {
        let output = self.command(args).output().unwrap();
        assert!(output.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim_end_matches('\n').to_owned()
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = self.repo.command(args);
        let objects = self.objects.to_str().unwrap().replace('\\', "\\\\").replace('"', "\\\"");
        command.env("GIT_ALTERNATE_OBJECT_DIRECTORIES", format!("\"{objects}\""));
        command
    }

    pub(crate) fn commit(&self, message: &str) -> CommitId {
        self.git(&["add", "-A"]);
        self.git(&["commit", "-q", "--allow-empty", "-m", message]);
        commit_id(&self.git(&["rev-parse", "HEAD"]))
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.repo.path().join(name)
    }
}

/// A program that leaves a mark when it runs.
pub(crate) fn tripwire(dir: &Path, name: &str) -> (PathBuf, PathBuf) {
    use std::os::unix::fs::PermissionsExt;
    let (program, mark) = (dir.join(name), dir.join(format!("{name}.fired")));
    fs::write(&program, format!("#!/bin/sh\necho \"$0 $*\" >>{}\ncat\n", mark.display())).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    (program, mark)
}
