//! A project, its state and agents that a test plays.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use aedile_core::event::{Event, Position, ReturnReason};
use aedile_core::machine::TaskState;
use aedile_core::model::ModelRef;
use aedile_core::project::ProjectRules;
use aedile_core::redact::NoSecrets;
use aedile_core::sandbox::{BoxChild, BoxSpec, Sandbox, SandboxError, SandboxReport};
use aedile_core::store::{Append, Store, list, load};
use aedile_core::task::{GateSpec, TaskSpec};
use aedile_core::view::{ChangeView, RunView, TaskView};
use aedile_core::{AgentName, ChangeId, CommitId, IncarnationId, ProjectId, RefName, RunId, TaskId, TaskKey};
use aedile_git::{Git, Hub, Identity, PersonEnv, Project, WorkspaceSpec};
use aedile_landing::{GateBox, LandingDeps, LandingQueue, Step};
use aedile_sandbox::{NativeSandbox, SandboxConfig, Toolchains, Trees};
use aedile_store::{Options, SqliteStore};
use aedile_testkit::{OsEntropy, SystemClock, TempRepo};

/// A project at `dir/repo` with its state at `dir/state`; opening the same directory again is what a new worker does.
pub(crate) struct World {
    pub(crate) dir: PathBuf,
    pub(crate) repo: TempRepo,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) hub: Hub,
    pub(crate) project: Project,
    pub(crate) run: RunId,
    pub(crate) sandbox: Arc<dyn Sandbox>,
    _holder: Option<tempfile::TempDir>,
}

/// What a run is started with.
#[derive(Default)]
pub(crate) struct Setup {
    pub(crate) rules: ProjectRules,
    /// Leaves `main` checked out, so that landings go aside.
    pub(crate) checked_out: bool,
}

pub(crate) fn gate(name: &str, command: &str) -> GateSpec {
    GateSpec { name: name.to_owned(), command: command.to_owned(), timeout_s: None }
}

pub(crate) fn gated(gates: &[(&str, &str)]) -> Setup {
    let gates = gates.iter().map(|(name, command)| gate(name, command)).collect();
    Setup { rules: ProjectRules { gates, build_dirs: vec!["target".to_owned()], ..ProjectRules::default() }, checked_out: false }
}

/// The real sandbox, with a word before each box.
struct Watched {
    inner: Arc<dyn Sandbox>,
    before: Box<dyn Fn(&BoxSpec) + Send + Sync>,
}

pub(crate) fn watched(inner: &Arc<dyn Sandbox>, before: impl Fn(&BoxSpec) + Send + Sync + 'static) -> Arc<dyn Sandbox> {
    Arc::new(Watched { inner: Arc::clone(inner), before: Box::new(before) })
}

impl Sandbox for Watched {
    fn spawn(&self, spec: BoxSpec) -> Result<Box<dyn BoxChild>, SandboxError> {
        (self.before)(&spec);
        self.inner.spawn(spec)
    }
    fn report(&self) -> SandboxReport {
        self.inner.report()
    }
}

#[expect(clippy::disallowed_methods, reason = "tests find git where the person has it")]
fn find_git() -> Git {
    Git::find(&std::env::var_os("PATH").unwrap()).unwrap()
}

impl World {
    pub(crate) fn new(setup: Setup) -> Self {
        let (holder, dir) = directory();
        let store = open_store(&dir);
        Self { _holder: Some(holder), ..Self::make(&dir, setup, store) }
    }

    /// The same with another store.
    pub(crate) fn with_store(setup: Setup, store: Arc<dyn Store>) -> Self {
        let (holder, dir) = directory();
        Self { _holder: Some(holder), ..Self::make(&dir, setup, store) }
    }

    fn make(dir: &Path, setup: Setup, store: Arc<dyn Store>) -> Self {
        let repo = TempRepo::init(&dir.join("repo"));
        repo.write("README.md", "# sample\n").write("src/a.txt", "one\ntwo\nthree\n").write("src/b.txt", "b\n");
        repo.write("check.sh", "test \"$(cat src/a.txt)\" != broken\n").commit("first");
        let base = CommitId::new(repo.head()).unwrap();
        if !setup.checked_out {
            repo.branch("person");
        }
        std::fs::create_dir_all(dir.join("home")).unwrap();
        let (hub, project) = open_git(dir);
        let (run, id) = (RunId::new(&SystemClock, &OsEntropy), ProjectId::new(&SystemClock, &OsEntropy));
        let point = project.landing_point(&RefName::new("refs/heads/main").unwrap()).unwrap();
        hub.adopt(&project, run, &base).unwrap();
        let append = Append::of(run, Event::ProjectAdded { project: id, root: repo.path().to_owned() }).and(Event::RunStarted {
            run,
            project: id,
            root: repo.path().to_owned(),
            goal: "a goal".to_owned(),
            target: "main".to_owned(),
            landing_ref: point.reference,
            base,
            slots: 4,
            rules: setup.rules,
        });
        store.append(append).unwrap();
        Self { dir: dir.to_owned(), repo, store, hub, project, run, sandbox: sandbox(dir), _holder: None }
    }

    /// Opens what another process left in the directory.
    pub(crate) fn open(dir: &Path) -> Self {
        let store = open_store(dir);
        let (hub, project) = open_git(dir);
        let run = list::<RunView>(&*store, None).unwrap()[0].run;
        let repo = TempRepo::open(&dir.join("repo"));
        Self { dir: dir.to_owned(), repo, store, hub, project, run, sandbox: sandbox(dir), _holder: None }
    }

    pub(crate) fn deps(&self, holder: &str) -> LandingDeps {
        LandingDeps {
            redactor: Arc::new(NoSecrets),
            store: Arc::clone(&self.store),
            sandbox: Arc::clone(&self.sandbox),
            hub: self.hub.clone(),
            project: self.project.clone(),
            clock: Arc::new(SystemClock),
            rooms: self.dir.join("state/rooms"),
            gate_box: GateBox::default(),
            policy: Vec::new(),
            holder: holder.to_owned(),
            dead: Vec::new(),
            verifiers: 4,
        }
    }

    pub(crate) fn queue(&self) -> LandingQueue {
        LandingQueue::new(self.deps("tester"))
    }

    /// Lands or returns the oldest change.
    pub(crate) async fn step(&self) -> Step {
        self.queue().step(self.run).await.unwrap().unwrap()
    }

    /// Lands the oldest change.
    pub(crate) async fn land(&self) -> CommitId {
        match self.step().await {
            Step::Landed { commit, .. } => commit,
            other => panic!("{other:?}: {}", self.last_evidence()),
        }
    }

    /// Sends the oldest change back; returns why and the evidence.
    pub(crate) async fn go_back(&self) -> (ReturnReason, String) {
        let Step::Returned { change } = self.step().await else { panic!("the change did not go back") };
        let change = self.change(change);
        let task = self.task_view(change.task);
        assert_eq!((task.state, &task.returned, &task.evidence), (TaskState::Returned, &change.returned, &change.evidence));
        let text = self.store.get_blob(&change.evidence.unwrap()).unwrap().unwrap();
        (change.returned.unwrap(), String::from_utf8(text).unwrap())
    }

    fn last_evidence(&self) -> String {
        let changes = list::<ChangeView>(&*self.store, Some(self.run)).unwrap();
        let evidence = changes.iter().rev().find_map(|change| change.evidence.clone());
        evidence
            .and_then(|id| self.store.get_blob(&id).unwrap())
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }

    pub(crate) fn run_view(&self) -> RunView {
        load(&*self.store, &self.run.to_string()).unwrap().unwrap()
    }

    pub(crate) fn change(&self, change: ChangeId) -> ChangeView {
        load(&*self.store, &change.to_string()).unwrap().unwrap()
    }

    pub(crate) fn task_view(&self, task: TaskId) -> TaskView {
        load(&*self.store, &task.to_string()).unwrap().unwrap()
    }

    pub(crate) fn append(&self, event: Event) {
        self.store.append(Append::of(self.run, event)).unwrap();
    }

    /// Returns the names of all events so far.
    pub(crate) fn events(&self) -> Vec<Event> {
        self.store.read(Position(0), 10_000).unwrap().into_iter().map(|envelope| envelope.event).collect()
    }

    pub(crate) fn count(&self, name: &str) -> usize {
        self.events().iter().filter(|event| event.name() == name).count()
    }

    pub(crate) fn main(&self) -> String {
        self.repo.rev("refs/heads/main")
    }

    /// Opens a task.
    pub(crate) fn task(&self, key: &str, scope: &[&str]) -> TaskId {
        self.task_with(key, scope, Vec::new())
    }

    pub(crate) fn task_with(&self, key: &str, scope: &[&str], gates: Vec<GateSpec>) -> TaskId {
        let task = TaskId::new(&SystemClock, &OsEntropy);
        let spec = TaskSpec {
            key: TaskKey::new(key).unwrap(),
            title: format!("Do {key}"),
            prompt: "work".to_owned(),
            read: Vec::new(),
            scope: scope.iter().map(|glob| (*glob).to_owned()).collect(),
            after: Vec::new(),
            gates,
            role: "builder".to_owned(),
            runtime: "aedile".to_owned(),
            model: ModelRef { provider: "script".to_owned(), model: "script".to_owned() },
            budget_usd: None,
            script: None,
        };
        self.append(Event::TaskOpened { run: self.run, task, spec });
        task
    }

    /// An agent takes the task (again) and gets a workspace on what has landed so far.
    pub(crate) fn workspace(&self, task: TaskId) -> Workspace {
        let point = self.project.landing_point(&RefName::new("refs/heads/main").unwrap()).unwrap();
        self.workspace_from(task, &point.base)
    }

    pub(crate) fn workspace_from(&self, task: TaskId, base: &CommitId) -> Workspace {
        let view = self.task_view(task);
        let (agent, attempt) = (AgentName::new("ada").unwrap(), view.attempt + 1);
        let incarnation = IncarnationId::new(&SystemClock, &OsEntropy);
        let dest = self.dir.join(format!("state/workspaces/{}-{attempt}", view.spec.key));
        let identity = Identity::agent(&agent);
        let spec = WorkspaceSpec {
            dest: &dest,
            snapshots: &self.dir.join(format!("state/snapshots/{}", view.spec.key)),
            key: &view.spec.key,
            commit: base,
            alone: false,
            identity: &identity,
            overlay: &[],
            build_dirs: &[],
        };
        self.hub.create_workspace(&spec).unwrap();
        self.append(Event::TaskReady { task });
        self.append(Event::TaskClaimed { task, agent: agent.clone(), incarnation, fence: view.fence + 1, attempt });
        self.append(Event::WorkspaceReady { task, attempt, path: dest.clone(), base: base.clone(), view: None, conflicts: Vec::new() });
        let objects = [self.hub.dir().join("objects"), self.project.common_dir().join("objects")];
        Workspace { task, agent, base: base.clone(), repo: TempRepo::open(&dest), objects: std::env::join_paths(objects).unwrap() }
    }

    /// The agent submits what its branch holds.
    pub(crate) fn submit(&self, workspace: &Workspace, summary: &str) -> ChangeId {
        let change = ChangeId::new(&SystemClock, &OsEntropy);
        self.append(Event::ChangeSubmitted {
            change,
            run: self.run,
            task: workspace.task,
            agent: workspace.agent.clone(),
            workspace: workspace.repo.path().to_owned(),
            base: workspace.base.clone(),
            commit: CommitId::new(workspace.git(&["rev-parse", "HEAD"])).unwrap(),
            summary: summary.to_owned(),
            left_out: Vec::new(),
        });
        change
    }

    /// A task whose agent writes these files and submits.
    pub(crate) fn submitted(&self, key: &str, scope: &[&str], files: &[(&str, &str)]) -> ChangeId {
        let workspace = self.workspace(self.task(key, scope));
        for (path, text) in files {
            workspace.repo.write(path, text);
        }
        workspace.commit("work");
        self.submit(&workspace, "did it")
    }

    /// What the person does to `main` meanwhile, without a checkout.
    pub(crate) fn person_commits(&self, path: &str, text: &str) -> String {
        person_commits(self.repo.path(), path, text)
    }
}

pub(crate) fn person_commits(repo: &Path, path: &str, text: &str) -> String {
    let copy = tempfile::Builder::new().prefix("aedile-person-").tempdir().unwrap();
    let clone = TempRepo::open(copy.path());
    clone.git(&["clone", "-q", "-b", "main", repo.to_str().unwrap(), "."]);
    clone.write(path, text).commit("the person's own");
    clone.git(&["push", "-q", "origin", "main"]);
    clone.head()
}

fn directory() -> (tempfile::TempDir, PathBuf) {
    let holder = tempfile::Builder::new().prefix("aedile-landing-").tempdir().unwrap();
    let dir = holder.path().canonicalize().unwrap();
    (holder, dir)
}

fn open_store(dir: &Path) -> Arc<dyn Store> {
    let options = Options { clock: Arc::new(SystemClock), redactor: Arc::new(NoSecrets), read_only: false };
    Arc::new(SqliteStore::open(&dir.join("state/store"), options).unwrap())
}

fn open_git(dir: &Path) -> (Hub, Project) {
    let person = PersonEnv(vec![("HOME".into(), dir.join("home").into())]);
    let project = Project::discover(&find_git(), &dir.join("repo"), &person).unwrap();
    let hub = Hub::open_or_create(&dir.join("state/hub.git"), &project).unwrap();
    (hub, project)
}

/// A workspace with the agent in it.
pub(crate) struct Workspace {
    task: TaskId,
    agent: AgentName,
    pub(crate) base: CommitId,
    pub(crate) repo: TempRepo,
    objects: std::ffi::OsString,
}

impl Workspace {
    /// git as the agent would call it in its box, where the shared objects are at another path.
    pub(crate) fn git(&self, args: &[&str]) -> String {
        self.git_with(args, std::process::Stdio::null())
    }

    pub(crate) fn git_with(&self, args: &[&str], stdin: std::process::Stdio) -> String {
        let output = self.repo.command(args).env("GIT_ALTERNATE_OBJECT_DIRECTORIES", &self.objects).stdin(stdin).output().unwrap();
        assert!(output.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
    }

    pub(crate) fn commit(&self, message: &str) {
        self.git(&["add", "-A"]);
        self.git(&["commit", "-q", "--allow-empty", "-m", message]);
    }
}

/// The sandbox of this kernel. Its launcher is an example of this crate, which lies beside the directory of the test program.
fn sandbox(dir: &Path) -> Arc<dyn Sandbox> {
    let test = std::env::current_exe().unwrap();
    let launcher = test.parent().unwrap().parent().unwrap().join("examples/landing-launcher");
    let runtime_dir = dir.join("state/run");
    std::fs::create_dir_all(&runtime_dir).unwrap();
    let trees = Trees::Own(vec![dir.to_owned()]);
    Arc::new(NativeSandbox::new(SandboxConfig { launcher, toolchains: Toolchains::default(), runtime_dir, trees }).unwrap())
}
