//! A world of fakes round a real driver: boxes, doors, workspaces and agents that do what a test says and break where it says.

use std::collections::BTreeMap;
use std::fs::File;
use std::future::Future;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aedile_core::agent_api::{AgentApi, AgentReply, AgentRequest, DoorIdentity};
use aedile_core::egress::{Door, DoorActivity, DoorGrant, Egress, EgressError, Trust};
use aedile_core::policy::{PolicyText, Reads};
use aedile_core::runtime::{AgentIo, AgentSession, Launch, LaunchRequest, Runtime, RuntimeError, SessionSink, TurnEnd, TurnStop};
use aedile_core::sandbox::{BoxChild, BoxExit, BoxMount, BoxSpec, Sandbox, SandboxError, SandboxReport};
use aedile_core::store::Store;
use aedile_core::view::{ChangeView, RunView, TaskView};
use aedile_core::{CommitId, RunId, SessionId};
use aedile_fleet::goal::{EntryKind, Layout};
use aedile_fleet::workspaces::{Snapshot, Workspace, WorkspaceError};
use aedile_fleet::{FleetError, HostFacts, Onlooker, Pace, Parts, RunDriver, RunReport, StopWish, Workspaces};
use aedile_testkit::{OsEntropy, SystemClock};
use async_trait::async_trait;
use tokio::sync::{Notify, watch};

use crate::support::{self, Landing};

type Play = Box<dyn Fn(Turn) -> Pin<Box<dyn Future<Output = TurnEnd> + Send>> + Send + Sync>;

/// Who speaks through a door, and what answers.
type OpenDoor = (DoorIdentity, Arc<dyn AgentApi>);

/// What happens in a test's world, and what a test lets go wrong.
pub(crate) struct World {
    pub(crate) dir: tempfile::TempDir,
    play: Play,
    doors: Mutex<BTreeMap<String, OpenDoor>>,
    prompts: Mutex<Vec<(String, String)>>,
    /// Whether agents hear messages within a turn, which ones they were told, and when they take them in.
    pub(crate) hears: AtomicBool,
    pub(crate) heard: Mutex<Vec<String>>,
    pub(crate) takes_in: Notify,
    /// Boxes that were made.
    pub(crate) specs: Mutex<Vec<BoxSpec>>,
    /// Boxes that are there now, and the most there ever were.
    pub(crate) boxes: AtomicU32,
    pub(crate) boxes_most: AtomicU32,
    made: AtomicU32,
    /// Sessions that were resumed.
    pub(crate) resumed: AtomicU32,
    /// Work of the host's processes, as a test says.
    pub(crate) ticks: AtomicU64,
    pub(crate) orphans: Mutex<Vec<(u32, u64)>>,
    /// What fails.
    pub(crate) no_box: Mutex<Vec<SandboxError>>,
    pub(crate) no_door: AtomicBool,
    pub(crate) no_resume: AtomicBool,
    pub(crate) no_snapshot: AtomicU32,
    /// What snapshots of a task leave out.
    pub(crate) oversized: Mutex<BTreeMap<String, Vec<String>>>,
    /// What doors were opened with.
    pub(crate) grants: Mutex<Vec<DoorGrant>>,
    /// What was done to workspaces.
    pub(crate) workspaces: Mutex<Vec<String>>,
    snapshots: AtomicU64,
}

/// One turn that an agent takes.
pub(crate) struct Turn {
    pub(crate) world: Arc<World>,
    pub(crate) key: String,
    /// The number of this prompt for this task, from 1.
    pub(crate) number: usize,
    pub(crate) prompt: String,
    interrupted: watch::Receiver<bool>,
}

impl Turn {
    pub(crate) async fn call(&self, request: AgentRequest) -> AgentReply {
        let (who, api) = self.world.doors.lock().unwrap().get(&self.key).map(|(who, api)| (who.clone(), Arc::clone(api))).unwrap();
        api.call(&who, request).await
    }

    pub(crate) async fn submit(&self) -> AgentReply {
        let commit = support::commit(5000 + self.number as u64);
        self.call(AgentRequest::Submit { commit, summary: "done".to_owned(), left_out: Vec::new() }).await
    }

    pub(crate) async fn send(&self, to: &str, subject: &str) -> AgentReply {
        self.call(AgentRequest::MailSend { to: to.to_owned(), subject: subject.to_owned(), body: "the text".to_owned() }).await
    }

    /// Works until somebody interrupts it.
    pub(crate) async fn for_ever(mut self) -> TurnEnd {
        let _ = self.interrupted.wait_for(|interrupted| *interrupted).await;
        TurnEnd { stop: TurnStop::Cancelled, detail: None }
    }
}

pub(crate) fn end_turn() -> TurnEnd {
    TurnEnd { stop: TurnStop::EndTurn, detail: None }
}

pub(crate) fn failed(why: &str) -> TurnEnd {
    TurnEnd { stop: TurnStop::Failed, detail: Some(why.to_owned()) }
}

impl World {
    pub(crate) fn new<F: Future<Output = TurnEnd> + Send + 'static>(play: impl Fn(Turn) -> F + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self {
            dir: tempfile::tempdir().unwrap(),
            play: Box::new(move |turn| Box::pin(play(turn))),
            doors: Mutex::default(),
            prompts: Mutex::default(),
            hears: AtomicBool::new(false),
            heard: Mutex::default(),
            takes_in: Notify::new(),
            specs: Mutex::default(),
            boxes: AtomicU32::new(0),
            boxes_most: AtomicU32::new(0),
            made: AtomicU32::new(0),
            resumed: AtomicU32::new(0),
            ticks: AtomicU64::new(0),
            orphans: Mutex::default(),
            no_box: Mutex::default(),
            no_door: AtomicBool::new(false),
            no_resume: AtomicBool::new(false),
            no_snapshot: AtomicU32::new(0),
            oversized: Mutex::default(),
            grants: Mutex::default(),
            workspaces: Mutex::default(),
            snapshots: AtomicU64::new(100_000),
        })
    }

    pub(crate) fn prompts(&self, key: &str) -> Vec<String> {
        self.prompts.lock().unwrap().iter().filter(|(of, _)| of == key).map(|(_, prompt)| prompt.clone()).collect()
    }

    pub(crate) fn parts(self: &Arc<Self>, store: &Arc<dyn Store>, holder: &str) -> Parts {
        let (looks, kills) = (Arc::clone(self), Arc::clone(self));
        Parts {
            store: Arc::clone(store),
            sandbox: Arc::new(FakeSandbox(Arc::clone(self))),
            egress: Arc::new(FakeEgress(Arc::clone(self))),
            runtimes: vec![Arc::new(FakeRuntime(Arc::clone(self)))],
            workspaces: Arc::new(FakeWorkspaces(Arc::clone(self))),
            clock: Arc::new(SystemClock),
            entropy: Arc::new(OsEntropy),
            host: HostFacts {
                program: "/usr/bin/true".into(),
                state: self.dir.path().to_owned(),
                holder: holder.to_owned(),
                dead: vec!["dead".to_owned()],
                cpu_ticks: Arc::new(move |_| Some(looks.ticks.load(Ordering::SeqCst))),
                kill_orphan: Arc::new(move |pid, start| kills.orphans.lock().unwrap().push((pid, start))),
            },
            pace: Pace {
                restart_backoff: Duration::from_millis(1),
                term_grace: Duration::from_millis(200),
                look_every: Duration::from_millis(10),
                mail_every: Duration::from_millis(5),
                ..Pace::default()
            },
            onlooker: Onlooker::default(),
            policy: Vec::new(),
        }
    }

    /// Drives the run while a landing of events works beside it.
    pub(crate) async fn drive(self: &Arc<Self>, store: &Arc<dyn Store>, run: RunId, landing: Landing) -> Result<RunReport, FleetError> {
        self.drive_with(store, run, landing, self.parts(store, "worker"), StopWish::No).await
    }

    pub(crate) async fn drive_with(
        self: &Arc<Self>,
        store: &Arc<dyn Store>,
        run: RunId,
        mut landing: Landing,
        parts: Parts,
        wish: StopWish,
    ) -> Result<RunReport, FleetError> {
        let (_stop, stops) = watch::channel(wish);
        let driver = RunDriver::new(parts).run(run, stops);
        let lands = async {
            loop {
                landing.work(store.as_ref(), run);
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        let limit = tokio::time::sleep(Duration::from_secs(30));
        tokio::select! {
            report = driver => report,
            () = lands => unreachable!(),
            () = limit => panic!("the run did not end: {:?}", support::names(store.as_ref())),
        }
    }
}

struct FakeSandbox(Arc<World>);

impl Sandbox for FakeSandbox {
    fn spawn(&self, spec: BoxSpec) -> Result<Box<dyn BoxChild>, SandboxError> {
        if let Some(error) = self.0.no_box.lock().unwrap().pop() {
            return Err(error);
        }
        let key = spec.home.as_ref().unwrap().file_name().unwrap().to_string_lossy().into_owned();
        assert!(spec.home.as_ref().unwrap().is_dir() && spec.tree.as_ref().unwrap().is_dir());
        // The fake runtime reads from the agent's stdout which task this is.
        let (stdout, mut write) = std::io::pipe().unwrap();
        write.write_all(key.as_bytes()).unwrap();
        let null = || OwnedFd::from(File::open("/dev/null").unwrap());
        self.0.specs.lock().unwrap().push(spec);
        let now = self.0.boxes.fetch_add(1, Ordering::SeqCst) + 1;
        self.0.boxes_most.fetch_max(now, Ordering::SeqCst);
        let pid = 1000 + self.0.made.fetch_add(1, Ordering::SeqCst);
        let (ended, _) = watch::channel(false);
        Ok(Box::new(FakeChild {
            world: Arc::clone(&self.0),
            pid,
            stdin: Some(null()),
            stdout: Some(stdout.into()),
            door: Some(null()),
            ended,
        }))
    }

    fn report(&self) -> SandboxReport {
        SandboxReport { level: "none".to_owned(), mechanisms: Vec::new(), host_uid: 0 }
    }
}

struct FakeChild {
    world: Arc<World>,
    pid: u32,
    stdin: Option<OwnedFd>,
    stdout: Option<OwnedFd>,
    door: Option<OwnedFd>,
    ended: watch::Sender<bool>,
}

#[async_trait]
impl BoxChild for FakeChild {
    fn process(&self) -> (u32, u64) {
        (self.pid, 77)
    }
    fn take_stdin(&mut self) -> Option<OwnedFd> {
        self.stdin.take()
    }
    fn take_stdout(&mut self) -> Option<OwnedFd> {
        self.stdout.take()
    }
    fn take_stderr(&mut self) -> Option<OwnedFd> {
        Some(File::open("/dev/null").unwrap().into())
    }
    fn take_door(&mut self) -> Option<OwnedFd> {
        self.door.take()
    }
    async fn wait(&mut self) -> Result<BoxExit, SandboxError> {
        let _ = self.ended.subscribe().wait_for(|ended| *ended).await;
        Ok(BoxExit::Code(0))
    }
    fn kill(&self) {
        self.ended.send_replace(true);
    }
    fn terminate(&self) {
        self.ended.send_replace(true);
    }
}

impl Drop for FakeChild {
    fn drop(&mut self) {
        self.world.boxes.fetch_sub(1, Ordering::SeqCst);
    }
}

struct FakeEgress(Arc<World>);
struct FakeDoor(Arc<World>, String);

impl Egress for FakeEgress {
    fn open_door(&self, _listener: OwnedFd, grant: DoorGrant) -> Result<Box<dyn Door>, EgressError> {
        if self.0.no_door.load(Ordering::SeqCst) {
            return Err(EgressError { agent: grant.who.agent.to_string(), message: "OPENAI_API_KEY is not set".to_owned() });
        }
        self.0.grants.lock().unwrap().push(grant.clone());
        let key = grant.who.key.to_string();
        self.0.doors.lock().unwrap().insert(key.clone(), (grant.who, grant.api));
        Ok(Box::new(FakeDoor(Arc::clone(&self.0), key)))
    }

    fn passes(&self, _who: &DoorIdentity, policy: &[PolicyText]) -> Result<bool, String> {
        Ok(some_network(policy))
    }

    fn trust(&self, _run: RunId, policy: &[PolicyText]) -> Result<Option<Trust>, String> {
        let env = vec![("X_CERT".to_owned(), "there".to_owned())];
        Ok(some_network(policy).then(|| Trust { pem: "the door's".to_owned(), env }))
    }
}

fn some_network(policy: &[PolicyText]) -> bool {
    policy.iter().any(|text| text.text.contains("[[network]]"))
}

impl Door for FakeDoor {
    fn activity(&self) -> DoorActivity {
        DoorActivity::default()
    }
}

impl Drop for FakeDoor {
    fn drop(&mut self) {
        self.0.doors.lock().unwrap().remove(&self.1);
    }
}

struct FakeRuntime(Arc<World>);

#[async_trait]
impl Runtime for FakeRuntime {
    fn name(&self) -> &'static str {
        "fake"
    }
    fn launch(&self, _request: &LaunchRequest) -> Launch {
        Launch { command: vec!["agent".to_owned()], env: vec![("KEY".to_owned(), "placeholder".to_owned())], files: Vec::new() }
    }
    async fn attach(&self, io: AgentIo, request: &LaunchRequest, _sink: SessionSink) -> Result<Box<dyn AgentSession>, RuntimeError> {
        let resume = request.resume.as_ref();
        let mut key = String::new();
        File::from(io.stdout).read_to_string(&mut key).unwrap();
        if resume.is_some() {
            if self.0.no_resume.load(Ordering::SeqCst) {
                return Err(RuntimeError { runtime: "fake".to_owned(), message: "there is no such session".to_owned() });
            }
            self.0.resumed.fetch_add(1, Ordering::SeqCst);
        }
        let id = resume.cloned().unwrap_or_else(|| SessionId::new(format!("session-{key}")).unwrap());
        let (interrupt, _) = watch::channel(false);
        Ok(Box::new(FakeSession { world: Arc::clone(&self.0), key, id, interrupt }))
    }
}

struct FakeSession {
    world: Arc<World>,
    key: String,
    id: SessionId,
    interrupt: watch::Sender<bool>,
}

#[async_trait]
impl AgentSession for FakeSession {
    fn id(&self) -> SessionId {
        self.id.clone()
    }
    async fn prompt(&self, text: &str) -> TurnEnd {
        let number = {
            let mut prompts = self.world.prompts.lock().unwrap();
            prompts.push((self.key.clone(), text.to_owned()));
            prompts.iter().filter(|(key, _)| *key == self.key).count()
        };
        let (world, interrupted) = (Arc::clone(&self.world), self.interrupt.subscribe());
        let turn = Turn { world, key: self.key.clone(), number, prompt: text.to_owned(), interrupted };
        (self.world.play)(turn).await
    }
    async fn interrupt(&self) {
        self.interrupt.send_replace(true);
    }
    fn takes_messages(&self) -> bool {
        self.world.hears.load(Ordering::SeqCst)
    }
    async fn message(&self, text: &str) -> bool {
        let taken_in = self.world.takes_in.notified();
        self.world.heard.lock().unwrap().push(text.to_owned());
        taken_in.await;
        true
    }
    fn stderr_tail(&self) -> String {
        "its last words".to_owned()
    }
}

struct FakeWorkspaces(Arc<World>);

impl FakeWorkspaces {
    fn note(&self, what: String) {
        self.0.workspaces.lock().unwrap().push(what);
    }
    fn of_task(&self, task: &TaskView) -> PathBuf {
        self.0.dir.path().join("workspaces").join(task.spec.key.as_str())
    }
}

impl Workspaces for FakeWorkspaces {
    fn create(
        &self,
        run: &RunView,
        task: &TaskView,
        attempt: u32,
        returned: Option<&ChangeView>,
        _: &Reads,
    ) -> Result<Workspace, WorkspaceError> {
        let path = self.of_task(task).join(attempt.to_string());
        std::fs::create_dir_all(&path).unwrap();
        self.note(format!("create {} {attempt}", task.spec.key));
        let conflicts = returned.map(|_| vec!["src/a.rs".to_owned()]).unwrap_or_default();
        Ok(Workspace { path, base: run.tip.clone(), view: None, conflicts })
    }
    fn has_commit(&self, _change: &ChangeView) -> bool {
        true
    }
    fn snapshot(&self, _run: &RunView, task: &TaskView, path: &Path) -> Result<Snapshot, WorkspaceError> {
        assert!(path.is_dir());
        if self.0.no_snapshot.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok() {
            return Err(WorkspaceError("the disk is full".to_owned()));
        }
        self.note(format!("snapshot {}", task.spec.key));
        let oversized = self.0.oversized.lock().unwrap().get(task.spec.key.as_str()).cloned().unwrap_or_default();
        Ok(Snapshot { commit: support::commit(self.0.snapshots.fetch_add(1, Ordering::SeqCst)), oversized, secrets: Vec::new() })
    }
    fn remove(&self, path: &Path) -> Result<(), WorkspaceError> {
        self.note(format!("remove {}", path.file_name().unwrap().to_string_lossy()));
        std::fs::remove_dir_all(path).map_err(|error| WorkspaceError(error.to_string()))
    }
    fn forget(&self, task: &TaskView) -> Result<(), WorkspaceError> {
        self.note(format!("forget {}", task.spec.key));
        aedile_git::remove_tree(&self.of_task(task)).map_err(|error| WorkspaceError(error.to_string()))
    }
    fn layout(&self, _: &CommitId) -> Result<Layout, WorkspaceError> {
        let file = |path: &str| (path.to_owned(), EntryKind::File, 100);
        Ok(Layout::new(["src/lib.rs", "src/a.rs", "src/b.rs", "README.md"].map(file)))
    }

    fn mounts(&self) -> Result<Vec<BoxMount>, WorkspaceError> {
        Ok(Vec::new())
    }
}
