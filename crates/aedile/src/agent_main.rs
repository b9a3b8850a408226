//! Our coding agent as a program: it speaks the agent protocol on stdio, and to the world only through its door.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use aedile_agent::{Agent, AgentConfig, ModelChoice};
use aedile_core::SecretString;
use aedile_core::agent_api::{AgentReply, AgentRequest};
use aedile_core::limits::{PLAN_STEPS_MAX, SETTINGS_BYTES_MAX};
use aedile_core::model::{Abilities, ModelRef};
use aedile_core::policy::Named;
use aedile_core::tool::{Sight, Tool};
use aedile_models::{Endpoint, Granted, door_client};
use aedile_runtimes::PLACEHOLDER_KEY;
use aedile_tools::{BoxCommands, DoorClient, ToolBox, clear_leftovers, clear_stale_locks};

use crate::clock::{OsEntropy, SystemClock};
use crate::output::Output;
use crate::{env, exit, wiring};

/// Runs the agent until its stdin ends.
pub fn main() -> ExitCode {
    let served = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| error.to_string())
        .and_then(|runtime| runtime.block_on(serve()));
    match served {
        Ok(()) => ExitCode::from(exit::OK),
        Err(message) => {
            Output { json: false }.warn(format!("error: {message}"));
            ExitCode::from(exit::FAILURE)
        }
    }
}

async fn serve() -> Result<(), String> {
    let url = env::text(env::DOOR).ok_or("AEDILE_DOOR is not set: this program runs in a box that aedile makes")?;
    let model: ModelRef = env::text(env::MODEL).ok_or("AEDILE_MODEL is not set")?.parse()?;
    let door = DoorClient::new(&url).map_err(|error| error.to_string())?;
    let Task { scope, notes, has_task, plans, named } = task(&door).await?;
    if has_task {
        // A git that was killed with an earlier box would block every commit here, and half-written files would be part of it.
        let workspace = std::env::current_dir().map_err(|error| error.to_string())?;
        clear_stale_locks(&workspace);
        clear_leftovers(&workspace);
    }
    let tools: aedile_agent::ToolFactory = Arc::new(move |cwd: &Path, sees: &Sight| -> Vec<Arc<dyn Tool>> {
        let tools = ToolBox { sees: sees.clone() };
        let mut tools = match plans {
            true => tools.planning(cwd, door.clone()),
            false => tools.tools(cwd, &scope, has_task.then(|| door.clone())),
        };
        // The kernel and the door decide what can be done; a tool that policy denies is not even offered.
        tools.retain(|tool| named.iter().all(|named| left(named, &tool.spec().name)));
        tools
    });
    let home = env::home().unwrap_or_else(|| PathBuf::from("/tmp"));
    let (clock, entropy) = (Arc::new(SystemClock), Arc::new(OsEntropy));
    let choices = choices(url).await?;
    let own = found(&choices, &model)?;
    let (provider, name) = (Arc::clone(&own.provider), own.model.clone());
    let mut config = AgentConfig::new(provider, name, tools, Arc::new(BoxCommands), home, clock, entropy).with_model(own);
    config.notes = notes;
    config.own_settings = own_settings()?;
    config.models = Some(Arc::new(move |name: &str| found(&choices, &name.parse()?)));
    if plans {
        config.max_steps = PLAN_STEPS_MAX;
    }
    let agent = Arc::new(Agent::new(config));
    aedile_runtimes::serve_acp(agent, tokio::io::stdin(), tokio::io::stdout()).await.map_err(|error| error.to_string())
}

/// The person's own settings, read once, before the agent can do anything.
fn own_settings() -> Result<Option<(String, String)>, String> {
    let Some(path) = env::text(env::SETTINGS) else { return Ok(None) };
    let mut text = String::new();
    let read = File::open(&path).and_then(|file| file.take(SETTINGS_BYTES_MAX + 1).read_to_string(&mut text));
    read.map_err(|error| format!("AEDILE_SETTINGS names {path}, which cannot be read: {error}"))?;
    if text.len() as u64 > SETTINGS_BYTES_MAX {
        return Err(format!("AEDILE_SETTINGS names {path}, which has more than {SETTINGS_BYTES_MAX} bytes"));
    }
    Ok(Some((path, text)))
}

/// The task's scope, and what the system prompt says of it.
#[derive(Default)]
struct Task {
    scope: Vec<String>,
    notes: String,
    has_task: bool,
    /// Whether it is to make a plan.
    plans: bool,
    /// What policy says of tools.
    named: Vec<Named>,
}

/// Whether policy leaves a tool: by its own name, and by that of the call that it makes.
fn left(named: &Named, tool: &str) -> bool {
    let call = match tool {
        "submit_plan" => "plan",
        "web_fetch" => "fetch",
        "mail_send" | "mail_read" => "mail",
        other => other,
    };
    tool == "task_info" || named.leaves(call) && (call == tool || !named.deny.contains(tool))
}

/// Asks the door. One without a task belongs to a box that a person made; whoever speaks the protocol says what is to be done then.
async fn task(door: &DoorClient) -> Result<Task, String> {
    match door.call(&AgentRequest::TaskInfo {}).await.map_err(|error| error.to_string())? {
        AgentReply::Task { scope, agent, plans: true, tools, .. } => {
            let notes = format!(
                "You are {agent}. You make a plan and change nothing: the workspace is read-only.\nWhen the plan is ready, call `submit_plan`; nothing counts before."
            );
            Ok(Task { scope, notes, has_task: true, plans: true, named: tools })
        }
        AgentReply::Task { scope, agent, tools, .. } => {
            let notes = format!(
                "You are {agent}. You may change only these paths (globs): {}. The kernel refuses writes anywhere else.\nWhen the work is done and checked, call `submit`; nothing counts before.",
                scope.join(" ")
            );
            Ok(Task { scope, notes, has_task: true, plans: false, named: tools })
        }
        AgentReply::Refused { .. } => Ok(Task::default()),
        other => Err(format!("the door does not tell the task: {other:?}")),
    }
}

/// A model that the door grants, by its whole name.
fn found(choices: &[(ModelRef, ModelChoice)], model: &ModelRef) -> Result<ModelChoice, String> {
    choices.iter().find(|(known, _)| known == model).map(|(_, choice)| choice.clone()).ok_or_else(|| {
        let known: Vec<String> = choices.iter().map(|(known, _)| known.to_string()).collect();
        format!("the door of this box does not lead to {model}; it leads to {} (`[agents] fallback` in aedile.toml)", known.join(", "))
    })
}

/// The models that the door grants, each spoken to in the format that the door names.
async fn choices(base_url: String) -> Result<Vec<(ModelRef, ModelChoice)>, String> {
    wiring::install_crypto();
    let client = door_client().map_err(|error| error.to_string())?;
    let granted = Granted::ask(&client, &base_url).await?;
    let key = Some(SecretString::from(PLACEHOLDER_KEY));
    let endpoint = Endpoint { base_url, key, client, clock: Arc::new(SystemClock), entropy: Arc::new(OsEntropy) };
    let choice = |granted: Granted| {
        let can = Abilities { structured: granted.structured_beside_tools(), ..granted.can };
        let (provider, context_tokens) = (granted.provider(endpoint.clone()), granted.context_tokens);
        (granted.model.clone(), ModelChoice { provider, model: granted.model.model, context_tokens, can })
    };
    Ok(granted.into_iter().map(choice).collect())
}
