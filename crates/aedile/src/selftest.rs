//! A runtime tried for real: in a box, through a door, with written turns for a model.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aedile_core::agent_api::{AgentApi, AgentReply, AgentRequest, DoorIdentity};
use aedile_core::egress::{DoorGrant, Egress};
use aedile_core::money::Budget;
use aedile_core::runtime::{AgentIo, Launch, LaunchRequest, SessionEvent, TurnEnd, TurnStop};
use aedile_core::sandbox::{
    BoxExit, BoxIo, BoxLimits, BoxMount, BoxNet, BoxSpec, DOOR_PORT, PROGRAM_INSIDE, Sandbox, WORKSPACE_INSIDE, WriteScope,
};
use aedile_core::{AgentName, IncarnationId, RunId, TaskId, TaskKey};
use aedile_sandbox::NativeSandbox;
use async_trait::async_trait;
use serde_json::json;

use crate::clock::{OsEntropy, SystemClock};
use crate::config::file::ConfigFile;
use crate::error::CliError;
use crate::runtimes::{CLAUDE, Catalogue, Entry, Found};
use crate::{output, wiring};

/// How long the whole test of one runtime may take once its box is made.
const TEST_LIMIT: Duration = Duration::from_secs(180);
/// How long a program may take to print its version.
const VERSION_LIMIT: Duration = Duration::from_secs(60);
/// What the agent is made to do with its own tool for commands.
const WORK: &str = "git init -q -b aedile/selftest . && git -c user.name=t -c user.email=t@t commit -q --allow-empty -m start \
                    && echo well > proof.txt && aedile submit -m 'the self-test'";

/// One finding.
#[derive(Debug)]
pub struct Check {
    /// What was tried.
    pub what: &'static str,
    /// Whether it went well.
    pub good: bool,
    /// What came of it.
    pub words: String,
    /// What to do now, when it did not go well.
    pub next: Option<String>,
}

impl Check {
    fn good(what: &'static str, words: impl Into<String>) -> Self {
        Self { what, good: true, words: words.into(), next: None }
    }

    fn bad(what: &'static str, words: impl Into<String>, next: impl Into<String>) -> Self {
        Self { what, good: false, words: output::one_line(&words.into(), 600), next: Some(next.into()) }
    }
}

/// Tries a runtime; the first thing that fails ends the list.
///
/// # Errors
/// This host gives no box, or there is no place for it: nothing is said of the runtime then.
pub fn run(catalogue: &Catalogue, entry: &Entry) -> Result<Vec<Check>, CliError> {
    let mut checks = Vec::new();
    checks.push(match entry.found() {
        Found::Own => Check::good("found", "this program"),
        Found::At(place) => Check::good("found", place.display().to_string()),
        Found::Missing => {
            let error = entry.missing();
            return Ok(vec![Check::bad("found", error.message, error.hints.join("; "))]);
        }
    });
    let scratch = tempfile::Builder::new().prefix("aedile-runtime-").tempdir()?;
    let place = scratch.path().canonicalize()?;
    for name in ["boxes", "tree", "home", "state"] {
        std::fs::create_dir(place.join(name))?;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let _inside = runtime.enter();
    let trial = Trial { sandbox: Arc::new(wiring::sandbox(&place, catalogue)?), entry: entry.clone(), place };
    let version = runtime.block_on(trial.version())?;
    let good = version.good;
    checks.push(version);
    if good {
        checks.extend(runtime.block_on(trial.work())?);
    }
    runtime.shutdown_timeout(Duration::from_secs(1));
    scratch.close()?;
    Ok(checks)
}

struct Trial {
    sandbox: Arc<NativeSandbox>,
    entry: Entry,
    place: PathBuf,
}

/// Answers as a task would, and keeps what is submitted.
#[derive(Default)]
struct Task(Mutex<Option<String>>);

#[async_trait]
impl AgentApi for Task {
    async fn call(&self, who: &DoorIdentity, request: AgentRequest) -> AgentReply {
        match request {
            AgentRequest::TaskInfo {} => AgentReply::Task {
                key: who.key.clone(),
                title: "self-test".to_owned(),
                prompt: "Show that you work.".to_owned(),
                scope: vec!["**".to_owned()],
                agent: who.agent.clone(),
                agents: Vec::new(),
                plans: false,
                tools: Vec::new(),
            },
            AgentRequest::Submit { commit, .. } => {
                *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(commit.to_string());
                AgentReply::Done { message: "Submitted. End your turn now.".to_owned() }
            }
            AgentRequest::PlanSubmit { .. } => AgentReply::Refused { message: "a self-test wants no plan".to_owned() },
            AgentRequest::MailSend { .. } => AgentReply::Refused { message: "there is nobody to write to in a self-test".to_owned() },
            AgentRequest::MailRead { .. } => AgentReply::Mail { mail: Vec::new() },
            AgentRequest::WebFetch { .. } => AgentReply::Refused { message: "there is no web in a self-test".to_owned() },
        }
    }
}

impl Task {
    fn submitted(&self) -> Check {
        match &*self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(commit) => Check::good("submits", format!("commit {}", &commit[..10.min(commit.len())])),
            None => Check::bad("submits", "`aedile submit` did not reach its door", "look at the output of its tool above"),
        }
    }
}

impl Trial {
    fn spec(&self, label: &str, command: Vec<String>) -> BoxSpec {
        BoxSpec {
            label: format!("{label} of the runtime {}", self.entry.name),
            command,
            tree: Some(self.place.join("tree")),
            tree_inside: WORKSPACE_INSIDE.into(),
            write: WriteScope::All,
            mounts: Vec::new(),
            home: Some(self.place.join("home")),
            env: Vec::new(),
            net: BoxNet::None,
            limits: BoxLimits::default(),
            io: BoxIo::Captured,
        }
    }

    /// What the program says of itself. Only Claude Code has to be new enough.
    async fn version(&self) -> Result<Check, CliError> {
        const WHAT: &str = "version";
        let Some(command) = self.entry.version_command() else { return Ok(Check::good(WHAT, env!("CARGO_PKG_VERSION"))) };
        let mut spec = self.spec("version", command);
        spec.limits.wall = Some(VERSION_LIMIT);
        let next = || format!("run `{} --version` yourself; if it works there, what it needs is not visible in a box", self.program());
        let mut child = self.sandbox.spawn(spec)?;
        let text = match child.take_stdout() {
            Some(stdout) => tokio::task::spawn_blocking(move || first_line(stdout)).await.unwrap_or_default(),
            None => String::new(),
        };
        let exit = child.wait().await?;
        let version = text.split_whitespace().next().unwrap_or_default();
        Ok(match (exit, self.entry.name.as_str()) {
            (BoxExit::Code(0), CLAUDE) => match aedile_runtimes::is_old(version) {
                None => Check::good(WHAT, version),
                Some(what) => {
                    let needed = aedile_runtimes::CLAUDE_VERSION_MIN;
                    Check::bad(
                        WHAT,
                        format!("{what}; {needed} or newer is needed"),
                        "`claude update`, or `npm install -g @anthropic-ai/claude-code`",
                    )
                }
            },
            (BoxExit::Code(0), _) => Check::good(WHAT, text),
            // Not every agent has the flag; whether it works is tried next.
            (_, name) if name != CLAUDE => Check::good(WHAT, "it does not say"),
            (exit, _) => Check::bad(WHAT, format!("`{} --version` ended with {exit:?} in a box: {text}", self.program()), next()),
        })
    }

    fn program(&self) -> &str {
        self.entry.program.as_deref().unwrap_or("aedile")
    }

    /// Starts the agent and lets it do one piece of work.
    async fn work(&self) -> Result<Vec<Check>, CliError> {
        let limit = tokio::time::timeout(TEST_LIMIT, self.agent());
        let late = || {
            vec![Check::bad(
                "in time",
                format!("it was not done after {} s", TEST_LIMIT.as_secs()),
                "try again when the machine is less busy",
            )]
        };
        limit.await.unwrap_or_else(|_| Ok(late()))
    }

    async fn agent(&self) -> Result<Vec<Check>, CliError> {
        let runtime = self.entry.runtime();
        let who = identity().map_err(|error| CliError::failure(error.to_string()))?;
        let request = LaunchRequest {
            model: "script/turns".parse().map_err(CliError::failure)?,
            door_url: format!("http://127.0.0.1:{DOOR_PORT}"),
            cwd: WORKSPACE_INSIDE.to_owned(),
            session: who.incarnation.to_string(),
            resume: None,
            instructions: "This is a test of aedile. Do as you are told and end your turn.\n".to_owned(),
        };
        let mut child = self.sandbox.spawn(self.agent_box(runtime.launch(&request))?)?;
        let (Some(stdin), Some(stdout), Some(stderr), Some(listener)) =
            (child.take_stdin(), child.take_stdout(), child.take_stderr(), child.take_door())
        else {
            return Err(CliError::failure("the box came without its pipes or its door"));
        };
        let (_store, gateway) = wiring::store_and_gateway(&self.place.join("state"), &ConfigFile::default())?;
        let task = Arc::new(Task::default());
        let none = Budget::default();
        let grant = DoorGrant {
            who,
            model: request.model.clone(),
            others: Vec::new(),
            script: Some(json!([{ "text": "I show that I work.", "shell": WORK }, "It is done."])),
            agent_budget: none,
            task_budget: none,
            run_budget: none,
            policy: Vec::new(),
            api: Arc::clone(&task) as Arc<dyn AgentApi>,
        };
        let _door = gateway.open_door(listener, grant).map_err(|error| CliError::failure(error.to_string()))?;
        let events: Arc<Mutex<Vec<SessionEvent>>> = Arc::default();
        let into = Arc::clone(&events);
        let sink = Arc::new(move |event| into.lock().unwrap_or_else(PoisonError::into_inner).push(event));
        let session = match runtime.attach(AgentIo { stdin, stdout, stderr }, &request, sink).await {
            Ok(session) => session,
            Err(error) => {
                return Ok(vec![Check::bad(
                    "starts",
                    error.message,
                    format!("run `{}` yourself and look at what it says", self.program()),
                )]);
            }
        };
        let end = session.prompt("Show that you work: do what the test wants, then end your turn.").await;
        let events = events.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Ok(vec![
            Check::good("starts", format!("session {}", session.id())),
            took_turn(end, &session.stderr_tail()),
            ran_tool(&events, &self.place.join("tree/proof.txt")),
            task.submitted(),
        ])
    }

    /// The agent's box, with its files and our program in it.
    fn agent_box(&self, launch: Launch) -> Result<BoxSpec, CliError> {
        let mut mounts = vec![BoxMount { host: wiring::program()?, inside: PROGRAM_INSIDE.into(), writable: false }];
        for (at, file) in launch.files.into_iter().enumerate() {
            let host = self.place.join(format!("file-{at}"));
            std::fs::write(&host, file.text)?;
            mounts.push(BoxMount { host, inside: file.inside, writable: false });
        }
        Ok(BoxSpec { env: launch.env, net: BoxNet::Door, io: BoxIo::Piped, mounts, ..self.spec("test", launch.command) })
    }
}

fn identity() -> Result<DoorIdentity, aedile_core::BadId> {
    Ok(DoorIdentity {
        run: RunId::new(&SystemClock, &OsEntropy),
        task: TaskId::new(&SystemClock, &OsEntropy),
        key: TaskKey::new("selftest")?,
        role: "builder".to_owned(),
        agent: AgentName::new("tester")?,
        incarnation: IncarnationId::new(&SystemClock, &OsEntropy),
    })
}

fn took_turn(end: TurnEnd, stderr: &str) -> Check {
    const WHAT: &str = "takes a turn";
    if end.stop == TurnStop::EndTurn {
        return Check::good(WHAT, "through its door, with the granted model");
    }
    let next = match stderr.trim() {
        "" => "look at the agent's settings".to_owned(),
        words => format!("its stderr: {}", output::one_line(words, 400)),
    };
    Check::bad(WHAT, format!("its turn ended with {:?}: {}", end.stop, end.detail.unwrap_or_default()), next)
}

/// Whether the agent's tool did the work, and said so.
fn ran_tool(events: &[SessionEvent], proof: &Path) -> Check {
    const WHAT: &str = "runs a tool";
    let title = events.iter().find_map(|event| match event {
        SessionEvent::ToolStarted { title, .. } => Some(title.split_whitespace().next().unwrap_or_default().to_owned()),
        _ => None,
    });
    let output = events.iter().find_map(|event| match event {
        SessionEvent::ToolEnded { output, .. } => Some(output.clone()),
        _ => None,
    });
    // The directory was the agent's: what lies there is looked at, not followed.
    match (title, proof.symlink_metadata().is_ok_and(|meta| meta.is_file())) {
        (Some(title), true) => Check::good(WHAT, format!("{title}, and its result is in the workspace")),
        (Some(title), false) => Check::bad(WHAT, format!("{title} left nothing: {}", output.unwrap_or_default()), "look at the output"),
        (None, _) => Check::bad(WHAT, "it called no tool", "it offers no tool for commands, or under a name that aedile does not know"),
    }
}

fn first_line(stdout: std::os::fd::OwnedFd) -> String {
    use std::io::Read;
    let mut text = Vec::new();
    // What it says beyond this, or after an error, is not its version.
    let _ = std::fs::File::from(stdout).take(4096).read_to_end(&mut text);
    String::from_utf8_lossy(&text).lines().find(|line| !line.trim().is_empty()).unwrap_or_default().trim().to_owned()
}
