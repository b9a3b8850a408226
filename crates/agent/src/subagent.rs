//! `task`: a sub-agent with a context of its own and a part of its parent's rights.

use aedile_core::clock::uuid_v7;
use aedile_core::ids::SessionId;
use aedile_core::limits::SUBAGENTS_AT_ONCE_MAX;
use aedile_core::model::ToolSpec;
use aedile_core::runtime::{SessionEvent, SessionSink, TurnEnd, TurnStop};
use aedile_core::tool::{Sight, Tool, ToolOutput, ToolRisk};
use async_trait::async_trait;
use serde_json::{Value, json};
use std::fmt::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use tokio::sync::{Semaphore, watch};

use crate::calls::CallRoom;
use crate::config::{AgentConfig, Current};
use crate::front_matter::Document;
use crate::hooks::Hooks;
use crate::journal::Journal;
use crate::library::Library;
use crate::live::Live;
use crate::public_names::own_name;
use crate::skill::Skill;
use crate::state::{Part, State, common_fields};
use crate::turn::Turn;

/// The tool's name.
pub(crate) const TASK: &str = "task";
const READ_ONLY: &str = "read-only";
const WRITING: &str = "writing";

/// What a sub-agent has from its parent.
pub(crate) struct Parent {
    pub(crate) config: AgentConfig,
    /// The model that it has now.
    pub(crate) current: Current,
    pub(crate) cwd: PathBuf,
    pub(crate) hooks: Hooks,
    pub(crate) library: Library,
    /// Where the journals of sub-agents are.
    pub(crate) directory: PathBuf,
    /// Counts the interruptions of its calls.
    pub(crate) interruptions: Arc<watch::Sender<u64>>,
}

/// The tool.
pub(crate) struct Task {
    parent: Parent,
    at_once: Semaphore,
    count: AtomicU32,
}

/// What a sub-agent is to be.
struct Order {
    prompt: String,
    kind: String,
    role: String,
    read_only: bool,
    /// The only tools, and those that are taken away; by our names.
    only: Option<Vec<String>>,
    without: Vec<String>,
}

impl Task {
    pub(crate) fn new(parent: Parent) -> Self {
        Self { parent, at_once: Semaphore::new(SUBAGENTS_AT_ONCE_MAX), count: AtomicU32::new(0) }
    }
}

#[async_trait]
impl Tool for Task {
    fn spec(&self) -> ToolSpec {
        let mut description = "Gives a part of the work to a sub-agent and waits for its answer. It sees none of your conversation, so say everything in \
             `prompt`. Use `read-only` to search or examine a lot without filling your own context, `writing` for a change that stands by itself. Several \
             calls in one answer run side by side; give those that write different files."
            .to_owned();
        let agents = &self.parent.library.agents;
        if !agents.is_empty() {
            description.push_str("\nAgents of the repository, for `agent`:");
        }
        for (name, entry) in agents {
            // Writing to a String cannot fail.
            let _ = write!(description, "\n- {name}: {}", entry.description.replace('\n', " "));
        }
        ToolSpec {
            name: TASK.to_owned(),
            description,
            input_schema: json!({
                "type": "object",
                "properties": {
                    "description": {"type": "string", "description": "Three to five words."},
                    "prompt": {"type": "string", "description": "The whole task, and what the answer must hold."},
                    "kind": {"type": "string", "enum": [READ_ONLY, WRITING], "description": "read-only when absent."},
                    "agent": {"type": "string", "description": "An agent of the repository; its file says what it can do."}
                },
                "required": ["description", "prompt"]
            }),
        }
    }

    fn risk(&self) -> ToolRisk {
        ToolRisk::Control
    }

    fn side_by_side(&self) -> bool {
        true
    }

    async fn call(&self, input: Value) -> ToolOutput {
        let order = match self.order(&input) {
            Ok(order) => order,
            Err(problem) => return ToolOutput::error(problem),
        };
        // An interruption counts from here on.
        let cancel = self.parent.interruptions.subscribe();
        // The semaphore is never closed.
        let _place = self.at_once.acquire().await;
        match Box::pin(self.run(order, cancel)).await {
            Ok(text) => ToolOutput::ok(text),
            Err(text) => ToolOutput::error(text),
        }
    }
}

impl Task {
    fn order(&self, input: &Value) -> Result<Order, String> {
        let text = |field: &str| input.get(field).and_then(Value::as_str).map(str::trim).filter(|text| !text.is_empty());
        let prompt = text("prompt").ok_or("the field `prompt` is missing: say what the sub-agent is to do")?.to_owned();
        let read_only = match text("kind") {
            None => text("agent").or(text("subagent_type")).is_none(),
            Some(READ_ONLY) => true,
            Some(WRITING) => false,
            Some(other) => return Err(format!("the field `kind` must be {READ_ONLY} or {WRITING}, not {other:?}")),
        };
        let Some(name) = text("agent").or(text("subagent_type")) else {
            let kind = if read_only { "explore" } else { "build" };
            return Ok(Order { prompt, kind: kind.to_owned(), role: String::new(), read_only, only: None, without: Vec::new() });
        };
        let agents = &self.parent.library.agents;
        let entry = agents.get(name).ok_or_else(|| {
            let names: Vec<&str> = agents.keys().map(String::as_str).collect();
            format!("the repository has no agent {name:?}; it has: {}", if names.is_empty() { "none".to_owned() } else { names.join(", ") })
        })?;
        let document = Document::read(&entry.path).and_then(|document| document.ok_or_else(|| "its file is gone".to_owned()));
        let document = document.map_err(|problem| format!("the agent {name} cannot be used any more: {problem}"))?;
        let own = |names: Vec<String>| names.iter().map(|name| own_name(name).to_owned()).collect::<Vec<_>>();
        Ok(Order {
            prompt,
            kind: name.to_owned(),
            role: document.body.clone(),
            read_only,
            only: document.names("tools").map(own).filter(|names| names.iter().all(|name| name != "*")),
            without: document.names("disallowedTools").map(own).unwrap_or_default(),
        })
    }

    /// The parent's tools as far as the order has them: never another sub-agent, nor what ends the work or speaks to others.
    fn tools(&self, order: &Order, sight: &Sight) -> Result<Vec<Arc<dyn Tool>>, String> {
        let parent = &self.parent;
        let mut tools = (parent.config.tools)(&parent.cwd, sight);
        if !parent.library.skills.is_empty() {
            tools.push(Arc::new(Skill { skills: parent.library.skills.clone(), cwd: parent.cwd.clone() }));
        }
        let may = |tool: &Arc<dyn Tool>| {
            let (name, risk) = (tool.spec().name, tool.risk());
            let by_kind = name == "todo" || risk == ToolRisk::Read || (!order.read_only && risk != ToolRisk::Control);
            by_kind && order.only.as_ref().is_none_or(|only| only.contains(&name)) && !order.without.contains(&name)
        };
        tools.retain(may);
        for name in order.only.iter().flatten().filter(|name| tools.iter().all(|tool| tool.spec().name != **name)) {
            parent.hooks.live.warn(format!("the sub-agent {} asks for the tool {name}, which it does not get here", order.kind));
        }
        if tools.is_empty() { Err(format!("the sub-agent {} has no tool that it may use here", order.kind)) } else { Ok(tools) }
    }

    async fn run(&self, order: Order, cancel: watch::Receiver<u64>) -> Result<String, String> {
        let parent = &self.parent;
        let config = &parent.config.clone().with_model(parent.current.get());
        let sight = config.sight();
        let tools = self.tools(&order, &sight)?;
        let name = format!("{}-{}", order.kind, self.count.fetch_add(1, Ordering::Relaxed) + 1);
        let id = SessionId::new(uuid_v7(&*config.clock, &*config.entropy).hyphenated().to_string()).map_err(|error| error.to_string())?;
        let journal = Journal::create_below(&parent.directory, &name.replace(':', "-"), &id).map_err(|error| error.to_string())?;
        let (live, sink) = (Live::default(), marked(&parent.hooks.live, &name));
        live.listen(&sink);
        let mut hooks = Hooks { live: live.clone(), ..parent.hooks.clone() };
        for field in ["session_id", "transcript_path"] {
            hooks.common.insert(field.to_owned(), parent.hooks.common.get(field).cloned().unwrap_or_default());
        }
        let own = common_fields(&id, &journal, &parent.cwd);
        hooks.common.insert("agent_id".to_owned(), id.as_str().into());
        hooks.common.insert("agent_type".to_owned(), order.kind.as_str().into());
        hooks.common.insert("agent_transcript_path".to_owned(), own.get("transcript_path").cloned().unwrap_or_default());
        let room = CallRoom { tools, hooks, live, interruptions: Arc::default(), sub: Some(name.clone()), sight };
        let part = Part::Sub { kind: order.kind, role: order.role };
        let mut state = State::with(config, &parent.cwd, room, parent.library.clone(), journal, Vec::new(), part);
        let mut turn = Turn::new(&mut state, &sink, cancel);
        let end = turn.run(&order.prompt).await;
        let said = if end.stop == TurnStop::EndTurn { std::mem::take(&mut turn.said) } else { state.conversation.last_said() };
        answer(&name, &end, said.trim())
    }
}

/// A sink whose events are marked with the sub-agent's name.
fn marked(live: &Live, name: &str) -> SessionSink {
    let (live, agent) = (live.clone(), name.to_owned());
    Arc::new(move |event| live.tell(SessionEvent::SubAgent { agent: agent.clone(), event: Box::new(event) }))
}

fn answer(name: &str, end: &TurnEnd, said: &str) -> Result<String, String> {
    let otherwise = if end.stop == TurnStop::Cancelled { "it was interrupted" } else { "it did not finish" };
    let detail = end.detail.as_deref().unwrap_or(otherwise);
    match (end.stop, said) {
        (TurnStop::EndTurn, "") => Err(format!("the sub-agent {name} ended without an answer")),
        (TurnStop::EndTurn, said) => Ok(said.to_owned()),
        (_, "") => Err(format!("the sub-agent {name} stopped: {detail}")),
        (_, said) => Err(format!("the sub-agent {name} stopped: {detail}. It said last:\n{said}")),
    }
}
