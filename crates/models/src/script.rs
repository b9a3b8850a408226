//! Written turns instead of a model.
//!
//! A script is a JSON array. Each turn is a text, or an object:
//!
//! ```json
//! [
//!   {"text": "I look first.", "tools": [{"name": "read", "input": {"path": "src/lib.rs"}}]},
//!   {"when": "gate failed", "tools": [{"name": "bash", "input": {"command": "sed -i s/a/b/ src/lib.rs"}}]},
//!   "Done."
//! ]
//! ```
//!
//! * `text`: what is said. `tools`: calls made at once, in order.
//! * `shell`: a command, run by whatever tool of the agent runs commands, so that one script serves every agent.
//! * `when`: the turn is taken only if the *evidence* holds this text; else it is passed over.
//! * `wait_ms`: how long the model "thinks" before it answers.
//!
//! The *evidence* is all text (tool results included) that came since the previous assistant message.
//!
//! Nothing is remembered between requests: the conversation says which turn comes. It is walked from its start. At each
//! assistant message the position moves behind the turn that was played there, which is the first turn at or after the
//! position whose `when` is absent or holds. The same search then finds the turn for the request. If it finds none,
//! the answer is a closing sentence, which moves nothing, so that a later `when` can still be met. The ids of tool
//! calls name their turn (`script_4_0` is the first call of turn 4), so a walk starts behind the last turn that is named
//! and survives that older messages are dropped.
//!
//! A request that offers no tools is not one of the conversation (a title or a summary is wanted): where the turn would
//! call tools, it is answered with the closing sentence.

use std::time::Duration;

use aedile_core::Usage;
use aedile_core::model::{
    Block, DeltaSink, Message, ModelDelta, ModelError, ModelProvider, ModelRequest, ModelResponse, ModelStop, Role, ToolSpec,
};
use async_trait::async_trait;
use serde_json::{Map, Value, json};

/// The most turns of one script.
pub const SCRIPT_TURNS_MAX: usize = 1000;
/// The longest `wait_ms`.
pub const SCRIPT_WAIT_MS_MAX: u64 = 600_000;
/// Names under which agents offer a tool that runs a command, in the order in which they are looked for.
const SHELL_TOOLS: &[&str] =
    &["bash", "Bash", "run_shell_command", "shell", "shell_command", "exec_command", "run_command", "execute_command", "terminal"];
/// What is said when the script has no turn for a request.
pub const SCRIPT_CLOSING: &str = "The script has nothing more to say.";

/// A script that cannot be played.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("script{path}: {problem}")]
pub struct BadScript {
    /// Where, for example `[2].tools[0].input`; empty for the script itself.
    pub path: String,
    /// What is wrong and what is expected.
    pub problem: String,
}

#[derive(Clone, PartialEq, Debug, Default)]
struct Turn {
    text: String,
    tools: Vec<(String, Value)>,
    shell: Option<String>,
    when: Option<String>,
    wait: Duration,
}

/// A checked script.
#[derive(Clone, PartialEq, Debug)]
pub struct Script {
    turns: Vec<Turn>,
}

/// An answer of a script, and how long it takes.
#[derive(Clone, PartialEq, Debug)]
pub struct Played {
    /// The answer.
    pub response: ModelResponse,
    /// How long to wait before it is given.
    pub wait: Duration,
}

impl Script {
    /// Checks a script.
    ///
    /// # Errors
    /// [`BadScript`] names the field that is wrong.
    pub fn parse(value: &Value) -> Result<Self, BadScript> {
        let turns = value.as_array().ok_or_else(|| bad("", "must be an array of turns"))?;
        if turns.len() > SCRIPT_TURNS_MAX {
            return Err(bad("", &format!("has {} turns, the limit is {SCRIPT_TURNS_MAX}", turns.len())));
        }
        let turns = turns.iter().enumerate().map(|(at, turn)| parse_turn(&format!("[{at}]"), turn));
        Ok(Self { turns: turns.collect::<Result<_, _>>()? })
    }

    /// Answers a request.
    pub fn play(&self, request: &ModelRequest) -> Played {
        let turn = self.turn_for(request).map(|at| (at, &self.turns[at]));
        let turn = turn.filter(|(_, turn)| turn.calls_nothing() || !request.tools.is_empty() || request.extra.contains_key("tools"));
        let mut content = Vec::new();
        let (mut wait, mut stop) = (Duration::ZERO, ModelStop::EndTurn);
        if let Some((at, turn)) = turn {
            wait = turn.wait;
            if !turn.text.is_empty() {
                content.push(Block::text(&turn.text));
            }
            let shell = turn.shell.iter().map(|command| shell_call(command, &request.tools));
            for (number, (name, input)) in turn.tools.iter().cloned().chain(shell).enumerate() {
                stop = ModelStop::ToolUse;
                let id = format!("script_{at}_{number}");
                content.push(Block::ToolUse { id, name, input, extra: Map::new() });
            }
        } else {
            content.push(Block::text(SCRIPT_CLOSING));
        }
        let usage = Some(usage(request, &content));
        let message = Message::new(Role::Assistant, content);
        Played { response: ModelResponse { message, stop, usage }, wait }
    }

    /// The turn that answers the request; `None` when the script has none.
    fn turn_for(&self, request: &ModelRequest) -> Option<usize> {
        let messages = &request.messages;
        let named = messages.iter().rposition(|message| played_turn(message).is_some());
        let mut position = named.and_then(|at| played_turn(&messages[at])).map_or(0, |turn| turn + 1);
        let mut evidence = String::new();
        for message in &messages[named.map_or(0, |at| at + 1)..] {
            match message.role {
                Role::User => collect_text(message, &mut evidence),
                Role::Assistant => {
                    position = self.next_turn(position, &evidence).map_or(position, |turn| turn + 1);
                    evidence.clear();
                }
            }
        }
        self.next_turn(position, &evidence)
    }

    fn next_turn(&self, position: usize, evidence: &str) -> Option<usize> {
        let holds = |turn: &Turn| turn.when.as_ref().is_none_or(|when| evidence.contains(when.as_str()));
        (position..self.turns.len()).find(|at| holds(&self.turns[*at]))
    }
}

impl Turn {
    fn calls_nothing(&self) -> bool {
        self.tools.is_empty() && self.shell.is_none()
    }
}

/// A call of the agent's own tool for commands, with the inputs that it has besides the command.
fn shell_call(command: &str, tools: &[ToolSpec]) -> (String, Value) {
    let offered = SHELL_TOOLS.iter().find_map(|name| tools.iter().find(|tool| tool.name == *name));
    let Some(tool) = offered else { return (SHELL_TOOLS[0].to_owned(), json!({"command": command})) };
    let takes = |name: &str| tool.input_schema.pointer(&format!("/properties/{name}")).is_some();
    let mut input = Map::from_iter([(if takes("cmd") { "cmd" } else { "command" }.to_owned(), json!(command))]);
    for (name, value) in [("description", json!("run the command")), ("is_background", json!(false))] {
        if takes(name) {
            input.insert(name.to_owned(), value);
        }
    }
    (tool.name.clone(), Value::Object(input))
}

/// The turn that an assistant message names in the ids of its calls.
fn played_turn(message: &Message) -> Option<usize> {
    if message.role != Role::Assistant {
        return None;
    }
    message.content.iter().find_map(|block| match block {
        Block::ToolUse { id, .. } => id.strip_prefix("script_")?.split_once('_')?.0.parse().ok(),
        _ => None,
    })
}

/// Adds the texts of a message, those within parts that our types do not hold included.
fn collect_text(message: &Message, evidence: &mut String) {
    for block in &message.content {
        match block {
            Block::Text { text, .. } => evidence.push_str(text),
            Block::ToolResult { content, .. } => evidence.push_str(content),
            Block::ToolUse { .. } | Block::Media { .. } => {}
            Block::Other { value } => collect_value(value, evidence),
        }
        evidence.push('\n');
    }
}

fn collect_value(value: &Value, evidence: &mut String) {
    match value {
        Value::String(text) => {
            evidence.push_str(text);
            evidence.push('\n');
        }
        Value::Array(items) => items.iter().for_each(|item| collect_value(item, evidence)),
        Value::Object(fields) => fields.values().for_each(|item| collect_value(item, evidence)),
        _ => {}
    }
}

/// Four bytes of JSON for a token, so that budgets and figures look as they would with a model.
fn usage(request: &ModelRequest, answer: &[Block]) -> Usage {
    let tokens = |bytes: usize| (bytes as u64).div_ceil(4).max(1);
    let length = |value: serde_json::Result<String>| value.map_or(0, |text| text.len());
    Usage {
        input_tokens: tokens(length(serde_json::to_string(request))),
        output_tokens: tokens(length(serde_json::to_string(answer))),
        ..Usage::default()
    }
}

fn bad(path: &str, problem: &str) -> BadScript {
    BadScript { path: path.to_owned(), problem: problem.to_owned() }
}

fn parse_turn(path: &str, value: &Value) -> Result<Turn, BadScript> {
    if let Some(text) = value.as_str() {
        let turn = Turn { text: text.to_owned(), ..Turn::default() };
        return if text.is_empty() { Err(bad(path, "must not be empty")) } else { Ok(turn) };
    }
    let fields = value.as_object().ok_or_else(|| bad(path, "must be a text or an object"))?;
    let mut turn = Turn::default();
    for (name, value) in fields {
        let path = format!("{path}.{name}");
        let text = || value.as_str().filter(|text| !text.is_empty()).ok_or_else(|| bad(&path, "must be a text that is not empty"));
        match name.as_str() {
            "text" => turn.text = text()?.to_owned(),
            "shell" => turn.shell = Some(text()?.to_owned()),
            "when" => turn.when = Some(text()?.to_owned()),
            "tools" => turn.tools = parse_tools(&path, value)?,
            "wait_ms" => {
                let wait = value.as_u64().filter(|wait| *wait <= SCRIPT_WAIT_MS_MAX);
                let problem = || bad(&path, &format!("must be a whole number of milliseconds up to {SCRIPT_WAIT_MS_MAX}"));
                turn.wait = Duration::from_millis(wait.ok_or_else(problem)?);
            }
            _ => return Err(bad(&path, "is not known; a turn has `text`, `tools`, `shell`, `when`, `wait_ms`")),
        }
    }
    if turn.text.is_empty() && turn.calls_nothing() {
        return Err(bad(path, "must have `text`, `tools` or `shell`"));
    }
    Ok(turn)
}

fn parse_tools(path: &str, value: &Value) -> Result<Vec<(String, Value)>, BadScript> {
    let tools = value.as_array().ok_or_else(|| bad(path, "must be an array of {\"name\", \"input\"}"))?;
    let parse = |(at, tool): (usize, &Value)| {
        let path = format!("{path}[{at}]");
        let fields = tool.as_object().ok_or_else(|| bad(&path, "must be an object with `name` and `input`"))?;
        if let Some(unknown) = fields.keys().find(|key| !matches!(key.as_str(), "name" | "input")) {
            return Err(bad(&format!("{path}.{unknown}"), "is not known; a tool call has `name` and `input`"));
        }
        let name = fields.get("name").and_then(Value::as_str).filter(|name| !name.is_empty());
        let name = name.ok_or_else(|| bad(&format!("{path}.name"), "must be the name of a tool"))?;
        let input = fields.get("input").cloned().unwrap_or_else(|| Value::Object(Map::new()));
        if !input.is_object() {
            return Err(bad(&format!("{path}.input"), "must be an object"));
        }
        Ok((name.to_owned(), input))
    };
    tools.iter().enumerate().map(parse).collect()
}

/// Plays a script as a provider.
#[derive(Clone, Debug)]
pub struct ScriptModel {
    script: Script,
}

impl ScriptModel {
    /// Plays the given script.
    pub fn new(script: Script) -> Self {
        Self { script }
    }
}

#[async_trait]
impl ModelProvider for ScriptModel {
    async fn stream(&self, request: &ModelRequest, sink: &mut dyn DeltaSink) -> Result<ModelResponse, ModelError> {
        let Played { response, wait } = self.script.play(request);
        tokio::time::sleep(wait).await;
        for block in &response.message.content {
            match block {
                Block::Text { text, .. } => sink.delta(ModelDelta::Text(text.clone())),
                Block::ToolUse { name, .. } => sink.delta(ModelDelta::ToolStarted { name: name.clone() }),
                _ => {}
            }
        }
        Ok(response)
    }
}
