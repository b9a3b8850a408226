//! What a landing costs: CPU of import and landing beside `git merge` on a repository of the same shape.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use aedile_core::event::Event;
use aedile_core::machine::ChangeState;
use aedile_core::project::ProjectRules;
use aedile_core::store::{Append, Store};
use aedile_core::{AgentName, ChangeId, CommitId, IncarnationId, ProjectId, RefName, RunId, TaskId};
use aedile_git::{Git, Hub, Identity, PersonEnv, Project, WorkspaceSpec};
use aedile_landing::{GateBox, LandingDeps, LandingQueue};
use aedile_sandbox::{NativeSandbox, SandboxConfig, Toolchains, Trees};
use aedile_testkit::{OsEntropy, SystemClock, TempRepo};
use anyhow::ensure;

use crate::figure::{Amount, Figure, Target};
use crate::fixture;
use crate::measure::{cpu_of, directory, median, own_cpu, runtime, variable};

const ROUNDS: usize = 15;
const FILES: usize = 200;

/// Measures landings in turns with merges.
pub(crate) fn figures(program: &Path) -> anyhow::Result<Vec<Figure>> {
    let holder = directory()?;
    let dir = holder.path().canonicalize()?;
    let ours = sample(&dir.join("repo"));
    let peer = sample(&dir.join("peer"));
    // The target is not checked out anywhere, so that the landing moves it as `git merge` does.
    ours.branch("person");
    let world = World::new(&dir, program, &ours)?;
    let runtime = runtime()?;
    let (mut imports, mut landings, mut merges) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let change = world.submitted(round)?;
        let before = own_cpu();
        ensure!(runtime.block_on(world.queue.advance(change))? == ChangeState::Imported, "the change was not imported");
        let middle = own_cpu();
        while !matches!(runtime.block_on(world.queue.advance(change))?, ChangeState::Landed) {}
        imports.push(middle - before);
        landings.push(own_cpu() - middle);
        merges.push(merge(&peer, round)?);
    }
    let merge = ("git merge", Amount::millis(median(merges)));
    Ok(vec![
        Figure::beside("CPU of a landing, imported to landed, no gates", Amount::millis(median(landings)), merge, Target::TimesAtMost(4.0)),
        Figure::beside("CPU of the import before it", Amount::millis(median(imports)), merge, Target::AtMost(60.0)),
    ])
}

/// A project of 200 files in 20 directories.
fn sample(path: &Path) -> TempRepo {
    let repo = TempRepo::init(path);
    for file in 0..FILES {
        let lines: String = (0..40).map(|line| format!("line {line} of file {file}\n")).collect();
        repo.write(&format!("src/d{:02}/f{file:03}.txt", file % 20), lines);
    }
    repo.commit("first");
    repo
}

/// Merges a branch that changes one file and adds one into a branch that has moved on since, and returns the CPU time.
fn merge(repo: &TempRepo, round: usize) -> anyhow::Result<f64> {
    let side = format!("side{round}");
    let first = repo.git(&["rev-list", "--max-parents=0", "main"]);
    repo.git(&["checkout", "-q", "-b", &side, &first]);
    work(repo, round);
    repo.commit("work");
    repo.git(&["checkout", "-q", "main"]);
    cpu_of(repo.command(&["merge", "-q", "--no-edit", &side]))
}

fn work(repo: &TempRepo, round: usize) {
    let path = format!("src/d{:02}/f{round:03}.txt", round % 20);
    let text = format!("{}one line more\n", repo.read(&path));
    repo.write(&path, text).write(&format!("src/new/{round}.txt"), "new\n");
}

struct World {
    dir: PathBuf,
    store: Arc<dyn Store>,
    hub: Hub,
    objects: std::ffi::OsString,
    run: RunId,
    base: CommitId,
    queue: LandingQueue,
}

impl World {
    fn new(dir: &Path, program: &Path, repo: &TempRepo) -> anyhow::Result<Self> {
        let (home, boxes) = (dir.join("home"), dir.join("state/boxes"));
        std::fs::create_dir_all(&home)?;
        std::fs::create_dir_all(&boxes)?;
        let store: Arc<dyn Store> = Arc::new(fixture::open_store(&dir.join("state"))?);
        let git = Git::find(&variable("PATH"))?;
        let project = Project::discover(&git, repo.path(), &PersonEnv(vec![("HOME".into(), home.into())]))?;
        let hub = Hub::open_or_create(&dir.join("state/hub.git"), &project)?;
        let objects = std::env::join_paths([hub.dir().join("objects"), project.common_dir().join("objects")])?;
        let (run, base) = (RunId::new(&SystemClock, &OsEntropy), CommitId::new(repo.head())?);
        hub.adopt(&project, run, &base)?;
        store.append(start(run, repo.path(), &project, &base)?)?;
        let trees = Trees::Own(vec![dir.to_owned()]);
        let config = SandboxConfig { launcher: program.to_owned(), toolchains: Toolchains::default(), runtime_dir: boxes, trees };
        let sandbox = NativeSandbox::new(config)?;
        let queue = LandingQueue::new(LandingDeps {
            store: Arc::clone(&store),
            sandbox: Arc::new(sandbox),
            hub: hub.clone(),
            project,
            clock: Arc::new(SystemClock),
            rooms: dir.join("state/rooms"),
            gate_box: GateBox::default(),
            policy: Vec::new(),
            redactor: Arc::new(aedile_gateway::Vault::empty()),
            holder: "bench".to_owned(),
            dead: Vec::new(),
            verifiers: aedile_landing::verifiers(),
        });
        Ok(Self { dir: dir.to_owned(), store, hub, objects, run, base, queue })
    }

    /// A task whose agent began at the first commit, changed one file, added one and submitted.
    fn submitted(&self, round: usize) -> anyhow::Result<ChangeId> {
        let (task, incarnation) = (TaskId::new(&SystemClock, &OsEntropy), IncarnationId::new(&SystemClock, &OsEntropy));
        let mut spec = fixture::task(&format!("task-{round}"))?;
        spec.scope = vec!["src/**".to_owned()];
        let agent = AgentName::new("ada")?;
        let path = self.dir.join(format!("state/workspaces/{round}"));
        let identity = Identity::agent(&agent);
        self.hub.create_workspace(&WorkspaceSpec {
            dest: &path,
            snapshots: &self.dir.join(format!("state/snapshots/{round}")),
            key: &spec.key,
            commit: &self.base,
            alone: false,
            identity: &identity,
            overlay: &[],
            build_dirs: &[],
        })?;
        let append = Append::of(self.run, Event::TaskOpened { run: self.run, task, spec })
            .and(Event::TaskReady { task })
            .and(Event::TaskClaimed { task, agent: agent.clone(), incarnation, fence: 1, attempt: 1 })
            .and(Event::WorkspaceReady {
                task,
                attempt: 1,
                path: path.clone(),
                base: self.base.clone(),
                view: None,
                conflicts: Vec::new(),
            });
        self.store.append(append)?;
        let commit = self.commit(&path, round)?;
        let change = ChangeId::new(&SystemClock, &OsEntropy);
        let (run, base, summary) = (self.run, self.base.clone(), "did it".to_owned());
        let submitted = Event::ChangeSubmitted { change, run, task, agent, workspace: path, base, commit, summary, left_out: Vec::new() };
        self.store.append(Append::of(self.run, submitted))?;
        Ok(change)
    }

    /// What the agent does in its box, where the shared objects are at another path.
    fn commit(&self, path: &Path, round: usize) -> anyhow::Result<CommitId> {
        let workspace = TempRepo::open(path);
        work(&workspace, round);
        for args in [&["add", "-A"] as &[&str], &["commit", "-q", "-m", "work"]] {
            cpu_of({
                let mut command = workspace.command(args);
                command.env("GIT_ALTERNATE_OBJECT_DIRECTORIES", &self.objects);
                command
            })?;
        }
        Ok(CommitId::new(workspace.head())?)
    }
}

fn start(run: RunId, root: &Path, project: &Project, base: &CommitId) -> anyhow::Result<Append> {
    let id = ProjectId::new(&SystemClock, &OsEntropy);
    let point = project.landing_point(&RefName::new("refs/heads/main")?)?;
    Ok(Append::of(run, Event::ProjectAdded { project: id, root: root.to_owned() }).and(Event::RunStarted {
        run,
        project: id,
        root: root.to_owned(),
        goal: "measure".to_owned(),
        target: "main".to_owned(),
        landing_ref: point.reference,
        base: base.clone(),
        slots: 4,
        rules: ProjectRules::default(),
    }))
}
