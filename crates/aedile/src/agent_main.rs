//! Our coding agent as a program: it speaks the agent protocol on stdio, and to the world only through its door.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use aedile_agent::{Agent, AgentConfig};
use aedile_core::SecretString;
use aedile_core::agent_api::{AgentReply, AgentRequest};
use aedile_core::limits::PLAN_STEPS_MAX;
use aedile_core::model::{ModelProvider, ModelRef};
use aedile_core::tool::Tool;
use aedile_models::{Endpoint, Granted, client_for};
use aedile_runtimes::PLACEHOLDER_KEY;
use aedile_tools::{BoxCommands, DoorClient, ToolBox, clear_stale_locks};

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
    let Task { scope, notes, has_task, plans } = task(&door).await?;
    if has_task {
        // A git that was killed with an earlier box would block every commit here.
        clear_stale_locks(&std::env::current_dir().map_err(|error| error.to_string())?);
    }
    let tools: aedile_agent::ToolFactory = Arc::new(move |cwd: &Path| -> Vec<Arc<dyn Tool>> {
        match plans {
            true => ToolBox::planning(cwd, door.clone()),
            false => ToolBox::standard(cwd, &scope, has_task.then(|| door.clone())),
        }
    });
    let home = env::home().unwrap_or_else(|| PathBuf::from("/tmp"));
    let (clock, entropy) = (Arc::new(SystemClock), Arc::new(OsEntropy));
    let (granted, provider) = granted(url).await?;
    let (own, through) = (model.provider, Arc::clone(&provider));
    let mut config = AgentConfig::new(provider, model.model, tools, Arc::new(BoxCommands), home, clock, entropy);
    config.notes = notes;
    config.context_tokens = granted.context_tokens;
    config.models = Some(Arc::new(move |name: &str| {
        let model: ModelRef = name.parse()?;
        if model.provider != own {
            return Err(format!("the door speaks for {own} only, not for {}", model.provider));
        }
        Ok((Arc::clone(&through), model.model))
    }));
    if plans {
        config.max_steps = PLAN_STEPS_MAX;
    }
    let agent = Arc::new(Agent::new(config));
    aedile_runtimes::serve_acp(agent, tokio::io::stdin(), tokio::io::stdout()).await.map_err(|error| error.to_string())
}

/// The task's scope, and what the system prompt says of it.
#[derive(Default)]
struct Task {
    scope: Vec<String>,
    notes: String,
    has_task: bool,
    /// Whether it is to make a plan.
    plans: bool,
}

/// Asks the door. One without a task belongs to a box that a person made; whoever speaks the protocol says what is to be done then.
async fn task(door: &DoorClient) -> Result<Task, String> {
    match door.call(&AgentRequest::TaskInfo {}).await.map_err(|error| error.to_string())? {
        AgentReply::Task { scope, agent, plans: true, .. } => {
            let notes = format!(
                "You are {agent}. You make a plan and change nothing: the workspace is read-only.\nWhen the plan is ready, call `submit_plan`; nothing counts before."
            );
            Ok(Task { scope, notes, has_task: true, plans: true })
        }
        AgentReply::Task { scope, agent, .. } => {
            let notes = format!(
                "You are {agent}. You may change only these paths (globs): {}. The kernel refuses writes anywhere else.\nWhen the work is done and checked, call `submit`; nothing counts before.",
                scope.join(" ")
            );
            Ok(Task { scope, notes, has_task: true, plans: false })
        }
        AgentReply::Refused { .. } => Ok(Task::default()),
        other => Err(format!("the door does not tell the task: {other:?}")),
    }
}

/// Speaks to the door's model in the format that the door names.
async fn granted(base_url: String) -> Result<(Granted, Arc<dyn ModelProvider>), String> {
    wiring::install_crypto();
    let client = client_for([base_url.as_str()]).map_err(|error| error.to_string())?;
    let granted = Granted::ask(&client, &base_url).await?;
    let key = Some(SecretString::from(PLACEHOLDER_KEY));
    let endpoint = Endpoint { base_url, key, client, clock: Arc::new(SystemClock), entropy: Arc::new(OsEntropy) };
    Ok((granted, granted.provider(endpoint)))
}
