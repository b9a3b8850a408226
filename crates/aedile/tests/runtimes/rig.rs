//! A runtime in a real box, behind a real door, before the scripted model server.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aedile_core::agent_api::{AgentApi, AgentReply, AgentRequest, DoorIdentity};
use aedile_core::egress::{Door, DoorGrant, Egress};
use aedile_core::money::Budget;
use aedile_core::runtime::{AgentIo, AgentSession, LaunchRequest, Runtime, RuntimeError, SessionEvent};
use aedile_core::sandbox::{BoxChild, BoxIo, BoxLimits, BoxMount, BoxNet, BoxSpec, PROGRAM_INSIDE, Sandbox, SandboxError, WriteScope};
use aedile_core::{AgentName, Entropy, IncarnationId, RunId, SecretString, SessionId, TaskId, TaskKey};
use aedile_gateway::{Gateway, Provider, ProviderKey, Vault};
use aedile_models::{ApiFormat, PriceTable};
use aedile_sandbox::{NativeSandbox, SandboxConfig, ToolSearch, Trees};
use aedile_store::MemoryStore;
use aedile_testkit::{OsEntropy, SystemClock, wait_for_async};
use async_trait::async_trait;

/// How long anything may take here.
pub(super) const LIMIT: Duration = Duration::from_secs(60);
/// What stands for a key of the person's.
pub(super) const KEY: &str = "sk-ant-real-key-of-the-person";

/// There is a task, and nobody to write to.
struct Quiet;

#[async_trait]
impl AgentApi for Quiet {
    async fn call(&self, who: &DoorIdentity, request: AgentRequest) -> AgentReply {
        match request {
            AgentRequest::TaskInfo {} => AgentReply::Task {
                key: who.key.clone(),
                title: "t".to_owned(),
                prompt: "p".to_owned(),
                scope: vec!["**".to_owned()],
                agent: who.agent.clone(),
                agents: Vec::new(),
                plans: false,
                tools: Vec::new(),
            },
            _ => AgentReply::Done { message: "done".to_owned() },
        }
    }
}

/// Everything round one agent that outlives its processes.
pub(super) struct Rig {
    place: tempfile::TempDir,
    sandbox: NativeSandbox,
    gateway: Gateway,
    runtime: Arc<dyn Runtime>,
    provider: &'static str,
}

/// One life of the agent.
pub(super) struct Life {
    pub(super) session: Box<dyn AgentSession>,
    pub(super) child: Box<dyn BoxChild>,
    pub(super) events: Arc<Mutex<Vec<SessionEvent>>>,
    _door: Box<dyn Door>,
}

/// Why there is no life.
#[derive(Debug)]
pub(super) enum NoLife {
    Box(SandboxError),
    Runtime(RuntimeError),
}

impl Rig {
    /// An agent whose door leads to the server at `url`; `provider` is `anthropic` or `openai`.
    pub(super) fn new(runtime: Arc<dyn Runtime>, provider: &'static str, url: &str) -> Self {
        let place = tempfile::tempdir().unwrap();
        for name in ["boxes", "tree", "home", "files"] {
            std::fs::create_dir(place.path().join(name)).unwrap();
        }
        let path = super::path();
        let programs = super::programs();
        let toolchains = aedile_sandbox::discover(&ToolSearch { home: super::home(), path, programs, ..ToolSearch::default() });
        let sandbox = NativeSandbox::new(SandboxConfig {
            launcher: crate::program(),
            toolchains,
            runtime_dir: place.path().join("boxes"),
            trees: Trees::Own(vec![place.path().to_owned()]),
        });
        // Fails when another test of this process has done it.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let vault = Arc::new(Vault::new([("KEY".to_owned(), SecretString::from(KEY))]).unwrap());
        let clock = Arc::new(SystemClock);
        let format = if provider == "openai" { ApiFormat::OpenAi } else { ApiFormat::Anthropic };
        let provider_of = Provider {
            name: provider.to_owned(),
            format,
            base_url: url.to_owned(),
            key: ProviderKey::Secret("KEY".to_owned()),
            context_tokens: None,
        };
        let gateway = Gateway::new(
            vec![provider_of],
            PriceTable::parse("price = []").unwrap(),
            vault,
            Arc::new(MemoryStore::new(Arc::clone(&clock) as Arc<_>)),
            clock,
            Arc::new(OsEntropy),
            tokio::runtime::Handle::current(),
        );
        Self { place, sandbox: sandbox.unwrap(), gateway: gateway.unwrap(), runtime, provider }
    }

    /// A path in the workspace.
    pub(super) fn tree(&self, name: &str) -> PathBuf {
        self.place.path().join("tree").join(name)
    }

    /// Puts an executable file into the workspace.
    pub(super) fn put(&self, name: &str, text: &str) -> &Self {
        use std::os::unix::fs::PermissionsExt;
        std::fs::write(self.tree(name), text).unwrap();
        std::fs::set_permissions(self.tree(name), std::fs::Permissions::from_mode(0o755)).unwrap();
        self
    }

    /// Waits until the agent has made a file.
    pub(super) async fn made(&self, name: &str) {
        let path = self.tree(name);
        wait_for_async(name, LIMIT, || {
            let there = path.exists().then_some(());
            async move { there }
        })
        .await;
    }

    /// Starts the agent; `resume` goes on with an earlier session.
    pub(super) async fn start(&self, resume: Option<SessionId>) -> Result<Life, NoLife> {
        let name = |text: &str| AgentName::new(text).unwrap();
        let (clock, entropy) = (SystemClock, &OsEntropy as &dyn Entropy);
        let who = DoorIdentity {
            run: RunId::new(&clock, entropy),
            task: TaskId::new(&clock, entropy),
            key: TaskKey::new("t").unwrap(),
            role: "builder".to_owned(),
            agent: name("ada"),
            incarnation: IncarnationId::new(&clock, entropy),
        };
        let request = LaunchRequest {
            model: format!("{}/model-1", self.provider).parse().unwrap(),
            door_url: "http://127.0.0.1:7070".to_owned(),
            cwd: "/workspace".to_owned(),
            session: who.incarnation.to_string(),
            resume,
            instructions: "The rule of this task: be kind to cats.\n".to_owned(),
        };
        let launch = self.runtime.launch(&request);
        let mut mounts = vec![BoxMount { host: crate::program(), inside: PROGRAM_INSIDE.into(), writable: false }];
        for (at, file) in launch.files.iter().enumerate() {
            let host = self.place.path().join("files").join(at.to_string());
            std::fs::write(&host, &file.text).unwrap();
            mounts.push(BoxMount { host, inside: file.inside.clone(), writable: false });
        }
        let spec = BoxSpec {
            label: "conformance".to_owned(),
            command: launch.command,
            tree: Some(self.tree("")),
            tree_inside: "/workspace".into(),
            write: WriteScope::All,
            mounts,
            home: Some(self.place.path().join("home")),
            env: launch.env,
            net: BoxNet::Door,
            limits: BoxLimits::default(),
            io: BoxIo::Piped,
        };
        let mut child = self.sandbox.spawn(spec).map_err(NoLife::Box)?;
        let io = AgentIo { stdin: child.take_stdin().unwrap(), stdout: child.take_stdout().unwrap(), stderr: child.take_stderr().unwrap() };
        let none = Budget::default();
        let grant = DoorGrant {
            who,
            model: request.model.clone(),
            others: Vec::new(),
            script: None,
            agent_budget: none,
            task_budget: none,
            run_budget: none,
            policy: Vec::new(),
            api: Arc::new(Quiet),
        };
        let door = self.gateway.open_door(child.take_door().unwrap(), grant).unwrap();
        let events: Arc<Mutex<Vec<SessionEvent>>> = Arc::default();
        let into = Arc::clone(&events);
        let sink = Arc::new(move |event| into.lock().unwrap().push(event));
        let session = tokio::time::timeout(LIMIT, self.runtime.attach(io, &request, sink)).await.unwrap();
        Ok(Life { session: session.map_err(NoLife::Runtime)?, child, events, _door: door })
    }
}

impl Life {
    pub(super) fn events(&self) -> Vec<SessionEvent> {
        self.events.lock().unwrap().clone()
    }

    /// Everything that the agent said.
    pub(super) fn text(&self) -> String {
        let events = self.events();
        let texts = events.iter().filter_map(|event| match event {
            SessionEvent::Text { text } => Some(text.as_str()),
            _ => None,
        });
        texts.collect()
    }

    /// Kills the box with all that is in it.
    pub(super) async fn kill(&mut self) {
        self.child.kill();
        soon(self.child.wait()).await.unwrap();
    }
}

/// Waits with a limit.
pub(super) async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(LIMIT, future).await.unwrap()
}
