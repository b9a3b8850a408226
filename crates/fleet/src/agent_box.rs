//! An agent's box, its door and its session, made and ended together.

use std::path::Path;
use std::sync::Arc;

use aedile_core::agent_api::{AgentApi, DoorIdentity};
use aedile_core::egress::{Door, DoorGrant, UsableSecret, proxy_env};
use aedile_core::model::ModelRef;
use aedile_core::runtime::{AgentIo, AgentSession, Launch, LaunchFile, LaunchRequest, Runtime};
use aedile_core::sandbox::{
    BoxChild, BoxIo, BoxMount, BoxNet, BoxSpec, DOOR_PORT, PROGRAM_INSIDE, SandboxError, TRUST_INSIDE, WORKSPACE_INSIDE, WriteScope,
};
use aedile_core::view::{RunView, TaskView};
use aedile_core::{SessionId, crash};

use crate::allowed::Allowed;
use crate::parts::Parts;
use crate::prompts;
use crate::transcript::Transcript;

/// Why an agent could not be started.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// Trying again may help.
    Broke(String),
    /// Only a person can help: a setting is missing or the request is refused.
    Person(String),
}

/// A box that is made, before anything speaks with it.
pub(crate) struct MadeBox {
    request: LaunchRequest,
    child: Box<dyn BoxChild>,
    io: AgentIo,
    door: Box<dyn Door>,
    who: DoorIdentity,
    /// What the box may do, in words.
    pub(crate) grants: Vec<String>,
}

/// An agent that answers, in its box.
pub(crate) struct AgentBox {
    child: Box<dyn BoxChild>,
    /// The agent itself.
    pub(crate) agent: Agent,
}

/// An agent that answers.
pub(crate) struct Agent {
    /// Its door.
    pub(crate) door: Box<dyn Door>,
    /// Its session.
    pub(crate) session: Box<dyn AgentSession>,
    /// What it says and does.
    pub(crate) transcript: Transcript,
    /// The host's process id of its box.
    pub(crate) pid: u32,
}

fn request(
    parts: &Parts,
    run: &RunView,
    task: &TaskView,
    who: &DoorIdentity,
    (resume, allowed): (Option<&SessionId>, &Allowed),
) -> LaunchRequest {
    LaunchRequest {
        model: task.spec.model.clone(),
        door_url: format!("http://127.0.0.1:{DOOR_PORT}"),
        cwd: WORKSPACE_INSIDE.to_owned(),
        session: who.incarnation.to_string(),
        resume: resume.cloned(),
        instructions: prompts::instructions(run, task, &parts.egress.web_hosts()) + &prompts::denied(&allowed.policy),
    }
}

/// Returns the runtime of the task.
pub(crate) fn runtime<'a>(parts: &'a Parts, task: &TaskView) -> Result<&'a Arc<dyn Runtime>, Trouble> {
    let name = &task.spec.runtime;
    parts.runtime(name).ok_or_else(|| {
        let known = parts.runtimes.iter().map(|runtime| format!("`{}`", runtime.name())).collect::<Vec<_>>().join(", ");
        Trouble::Person(format!("there is no runtime `{name}`; known are {known}"))
    })
}

fn spec(
    parts: &Parts,
    run: &RunView,
    task: &TaskView,
    who: &DoorIdentity,
    workspace: &Path,
    (launch, allowed): (Launch, &Allowed),
) -> Result<BoxSpec, Trouble> {
    // A workspace that holds a view has its objects itself: from those of the hub everything could be read.
    let mut mounts = match &task.view {
        Some(_) => Vec::new(),
        None => parts.workspaces.mounts().map_err(|error| Trouble::Broke(error.to_string()))?,
    };
    mounts.push(BoxMount { host: parts.host.program.clone(), inside: PROGRAM_INSIDE.into(), writable: false });
    mounts.extend(overlay(parts, task, launch.files)?);
    let mut env = launch.env;
    reach(parts, task, who, allowed, (&mut mounts, &mut env))?;
    let also = std::iter::once(".git".to_owned()).chain(run.rules.build_dirs.iter().cloned()).collect();
    Ok(BoxSpec {
        label: Parts::label(who),
        command: launch.command,
        tree: Some(workspace.to_owned()),
        tree_inside: WORKSPACE_INSIDE.into(),
        write: WriteScope::Globs { globs: allowed.policy.narrowed(&task.spec.scope), also, except: allowed.policy.write_denied() },
        mounts,
        home: Some(parts.host.home(task.run, &task.spec.key)),
        env,
        net: BoxNet::Door,
        limits: allowed.policy.limits(),
        io: BoxIo::Piped,
    })
}

/// What the programs in the box need to find and believe their door as a proxy, where policy lets it pass something on.
fn reach(
    parts: &Parts,
    task: &TaskView,
    who: &DoorIdentity,
    allowed: &Allowed,
    (mounts, env): (&mut Vec<BoxMount>, &mut Vec<(String, String)>),
) -> Result<(), Trouble> {
    let mut add = |more: Vec<(String, String)>| {
        let new: Vec<_> = more.into_iter().filter(|(name, _)| env.iter().all(|(given, _)| given != name)).collect();
        env.extend(new);
    };
    let mut secrets = parts.egress.secrets(&who.role, &allowed.policy);
    if !parts.egress.passes(who, &allowed.layers).map_err(Trouble::Person)? {
        secrets.retain(|secret| secret.canary);
        add(UsableSecret::variables(&secrets));
        return Ok(());
    }
    add(proxy_env());
    add(UsableSecret::variables(&secrets));
    if let Some(trust) = parts.egress.trust(who.run, &allowed.layers).map_err(Trouble::Person)? {
        let dir = parts.host.overlay(task.run, &task.spec.key);
        let host = dir.join(CERTIFICATE);
        let written = std::fs::create_dir_all(&dir).and_then(|()| std::fs::write(&host, &trust.pem));
        written.map_err(|error| Trouble::Broke(format!("writing the door's certificate to {} failed: {error}", host.display())))?;
        mounts.push(BoxMount { host, inside: TRUST_INSIDE.into(), writable: false });
        add(trust.env);
    }
    Ok(())
}

/// The file of the door's certificate, beside those of the runtime, which are numbered.
const CERTIFICATE: &str = "door.pem";

/// Writes the files that the runtime wants where the agent cannot change them, and returns their mounts.
fn overlay(parts: &Parts, task: &TaskView, files: Vec<LaunchFile>) -> Result<Vec<BoxMount>, Trouble> {
    let dir = parts.host.overlay(task.run, &task.spec.key);
    let mount = |(at, file): (usize, LaunchFile)| {
        let host = dir.join(at.to_string());
        std::fs::create_dir_all(&dir).and_then(|()| std::fs::write(&host, &file.text)).map(|()| BoxMount {
            host,
            inside: file.inside,
            writable: false,
        })
    };
    let mounts: std::io::Result<Vec<BoxMount>> = files.into_iter().enumerate().map(mount).collect();
    mounts.map_err(|error| Trouble::Broke(format!("writing the agent's instructions to {} failed: {error}", dir.display())))
}

/// The models that the agent may change to.
fn others(run: &RunView, task: &TaskView) -> Vec<ModelRef> {
    run.rules.fallback.iter().filter(|model| **model != task.spec.model).cloned().collect()
}

fn grants(parts: &Parts, spec: &BoxSpec, run: &RunView, task: &TaskView, allowed: &Allowed) -> Vec<String> {
    let mut grants = vec![format!("model {}", task.spec.model)];
    grants.extend(others(run, task).iter().map(|model| format!("model {model}, in its place")));
    let proxy = spec.env.iter().any(|(name, _)| name == "http_proxy");
    grants.push(if proxy { "network: only the door, which passes on what policy allows" } else { "network: only the door" }.to_owned());
    let (canaries, secrets): (Vec<_>, Vec<_>) =
        parts.egress.secrets(&task.spec.role, &allowed.policy).into_iter().partition(|secret| secret.canary);
    if proxy {
        grants.extend(secrets.iter().map(|secret| format!("secret {} to {}", secret.name, secret.hosts.join(", "))));
    }
    grants.extend(canaries.iter().filter(|canary| canary.env.is_some()).map(|canary| format!("secret {} nowhere, a canary", canary.name)));
    if let WriteScope::Globs { globs, also, except } = &spec.write {
        grants.push(format!("write {}", globs.join(", ")));
        grants.push(format!("write, never part of a change: {}", also.join(", ")));
        grants.extend((!except.is_empty()).then(|| format!("read-only in all of it: {}", except.join(", "))));
    }
    if task.view.is_some() {
        let globs = if task.spec.read.is_empty() { "the repository".to_owned() } else { task.spec.read.join(", ") };
        grants.push(format!("read {globs}, without its history and without files for secrets or hidden ones"));
    }
    let read_only = spec.mounts.iter().filter(|mount| !mount.writable).map(|mount| format!("read {}", mount.inside.display()));
    grants.extend(read_only);
    grants
}

/// Makes the box and opens its door.
pub(crate) async fn make(
    parts: &Parts,
    run: &RunView,
    task: &TaskView,
    who: &DoorIdentity,
    workspace: &Path,
    (api, resume): (Arc<dyn AgentApi>, Option<&SessionId>),
) -> Result<MadeBox, Trouble> {
    let allowed = Allowed::of(parts, run, who)?;
    allowed.start(&task.spec)?;
    let request = request(parts, run, task, who, (resume, &allowed));
    let launch = runtime(parts, task)?.launch(&request);
    let spec = spec(parts, run, task, who, workspace, (launch, &allowed))?;
    let grants = grants(parts, &spec, run, task, &allowed);
    let sandbox = Arc::clone(&parts.sandbox);
    let spawned = tokio::task::spawn_blocking(move || {
        if let Some(home) = &spec.home {
            std::fs::create_dir_all(home).map_err(|source| SandboxError::Setup { step: format!("making {}", home.display()), source })?;
        }
        sandbox.spawn(spec)
    });
    let mut child =
        spawned.await.map_err(|error| Trouble::Broke(format!("making the box broke: {error}")))?.map_err(|error| box_trouble(&error))?;
    crash::point("spawn");
    let (Some(stdin), Some(stdout), Some(stderr), Some(listener)) =
        (child.take_stdin(), child.take_stdout(), child.take_stderr(), child.take_door())
    else {
        return Err(Trouble::Broke("the box came without its pipes or its door".to_owned()));
    };
    let [agent_budget, task_budget, run_budget] = allowed.budgets(run, task);
    let grant = DoorGrant {
        who: who.clone(),
        model: task.spec.model.clone(),
        others: others(run, task).into_iter().filter(|model| allowed.policy.may_ask_model(&model.to_string()).allowed).collect(),
        script: task.spec.script.clone(),
        agent_budget,
        task_budget,
        run_budget,
        policy: allowed.layers,
        api,
    };
    // A door that cannot be opened lacks a setting (a key, a provider, a price): trying again does not help.
    let door = parts.egress.open_door(listener, grant).map_err(|error| Trouble::Person(error.to_string()))?;
    Ok(MadeBox { request, child, io: AgentIo { stdin, stdout, stderr }, door, who: who.clone(), grants })
}

fn box_trouble(error: &SandboxError) -> Trouble {
    match error {
        SandboxError::Setup { .. } => Trouble::Broke(error.to_string()),
        SandboxError::Unsupported { .. } | SandboxError::Refused { .. } => Trouble::Person(error.to_string()),
    }
}

impl MadeBox {
    /// Process id and start time of the box.
    pub(crate) fn process(&self) -> (u32, u64) {
        self.child.process()
    }

    /// Joins the runtime in the box.
    pub(crate) async fn attach(self, parts: &Parts, task: &TaskView) -> Result<AgentBox, Trouble> {
        let Self { request, mut child, io, door, who, .. } = self;
        let (pid, _) = child.process();
        let transcript = Transcript::default();
        let attach = runtime(parts, task)?.attach(io, &request, transcript.sink(&who, parts.onlooker.sees.clone()));
        let joined = match tokio::time::timeout(parts.pace.attach, attach).await {
            Ok(Ok(session)) => Ok(session),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err(format!("the runtime `{}` did not answer within {} s", task.spec.runtime, parts.pace.attach.as_secs())),
        };
        match joined {
            Ok(session) => Ok(AgentBox { child, agent: Agent { door, session, transcript, pid } }),
            Err(why) => {
                end(parts, child.as_mut()).await;
                Err(Trouble::Broke(why))
            }
        }
    }
}

impl AgentBox {
    /// Ends the agent and everything in its box; when this returns, nothing of it writes any more.
    pub(crate) async fn close(self, parts: &Parts) {
        let Self { mut child, agent: Agent { door, session, .. } } = self;
        drop(session);
        end(parts, child.as_mut()).await;
        drop(door);
    }
}

async fn end(parts: &Parts, child: &mut dyn BoxChild) {
    child.terminate();
    if tokio::time::timeout(parts.pace.term_grace, child.wait()).await.is_err() {
        child.kill();
        if let Ok(Err(error)) = tokio::time::timeout(parts.pace.term_grace, child.wait()).await {
            tracing::warn!(%error, "the end of a box could not be watched");
        }
    }
}
