//! A home, a workspace, and a model that answers by a function.

use aedile_agent::{AgentConfig, ModelChoice, Session};
use aedile_core::Usage;
use aedile_core::clock::{SeededEntropy, SteppingClock};
use aedile_core::ids::SessionId;
use aedile_core::model::{
    Abilities, Block, DeltaSink, Message, ModelDelta, ModelError, ModelProvider, ModelRequest, ModelResponse, ModelStop, Role, ToolSpec,
};
use aedile_core::runtime::{SessionEvent, SessionSink, TurnEnd};
use aedile_core::tool::{Sight, Tool, ToolOutput, ToolRisk};
use aedile_tools::{BoxCommands, ToolBox};
use async_trait::async_trait;
use serde_json::{Map, Value, json};
use std::collections::{HashSet, VecDeque};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::sync::Barrier;

/// One answer of the played model.
pub(crate) enum Turn {
    Say(&'static str),
    Calls(Vec<(&'static str, Value)>),
    Stop(&'static str, ModelStop),
    CutCall(&'static str),
    Fail(ModelError),
    /// Never answers.
    Hang,
}

/// Plays its turns in order, remembers the requests and checks that each is valid.
#[derive(Default)]
pub(crate) struct Played {
    turns: Mutex<VecDeque<Turn>>,
    pub(crate) requests: Mutex<Vec<ModelRequest>>,
}

impl Played {
    pub(crate) fn new(turns: Vec<Turn>) -> Arc<Self> {
        Arc::new(Self { turns: Mutex::new(turns.into()), requests: Mutex::default() })
    }

    pub(crate) fn request(&self, index: usize) -> ModelRequest {
        self.requests.lock().unwrap()[index].clone()
    }

    pub(crate) fn count(&self) -> usize {
        self.requests.lock().unwrap().len()
    }
}

#[async_trait]
impl ModelProvider for Played {
    async fn stream(&self, request: &ModelRequest, sink: &mut dyn DeltaSink) -> Result<ModelResponse, ModelError> {
        assert_valid(&request.messages);
        let number = {
            let mut requests = self.requests.lock().unwrap();
            requests.push(request.clone());
            requests.len()
        };
        if request.tools.is_empty() {
            return Ok(counted(0, vec![Block::text("SUMMARY")], ModelStop::EndTurn));
        }
        let size = all_text(request).len() as u64 / 4;
        let response = |content, stop| counted(size, content, stop);
        let turn = self.turns.lock().unwrap().pop_front();
        let tool_use = |(index, (name, input)): (usize, (&'static str, Value))| Block::ToolUse {
            id: format!("call_{number}_{index}"),
            name: name.to_owned(),
            input,
            extra: Map::new(),
        };
        match turn {
            Some(Turn::Say(text)) => {
                sink.delta(ModelDelta::Text(text.to_owned()));
                Ok(response(vec![Block::text(text)], ModelStop::EndTurn))
            }
            Some(Turn::Calls(calls)) => Ok(response(calls.into_iter().enumerate().map(tool_use).collect(), ModelStop::ToolUse)),
            Some(Turn::Stop(text, stop)) => Ok(response(vec![Block::text(text)], stop)),
            Some(Turn::CutCall(name)) => Ok(response(vec![tool_use((0, (name, Value::from("{\"path\": \"a"))))], ModelStop::MaxTokens)),
            Some(Turn::Fail(error)) => Err(error),
            Some(Turn::Hang) => std::future::pending().await,
            None => Ok(response(vec![Block::text("Nothing more.")], ModelStop::EndTurn)),
        }
    }
}

fn counted(input_tokens: u64, content: Vec<Block>, stop: ModelStop) -> ModelResponse {
    let usage = Some(Usage { input_tokens, output_tokens: 10, ..Usage::default() });
    ModelResponse { message: Message::new(Role::Assistant, content), stop, usage }
}

/// Roles alternate from the user on, no message is empty, and every call has exactly one result, in the next message.
pub(crate) fn assert_valid(messages: &[Message]) {
    let mut open: HashSet<String> = HashSet::new();
    for (index, message) in messages.iter().enumerate() {
        assert_eq!(message.role, if index % 2 == 0 { Role::User } else { Role::Assistant }, "message {index}");
        assert!(!message.content.is_empty(), "message {index} is empty");
        for block in &message.content {
            if let Block::ToolResult { id, .. } = block {
                assert!(open.remove(id), "a result without a call: {id}");
            }
        }
        assert!(open.is_empty(), "calls without a result: {open:?}");
        for block in &message.content {
            if let Block::ToolUse { id, .. } = block {
                assert!(open.insert(id.clone()), "the id {id} is used twice");
            }
        }
    }
    assert!(open.is_empty(), "calls without a result: {open:?}");
}

/// The results that a request ends with.
pub(crate) fn last_results(request: &ModelRequest) -> Vec<(String, bool)> {
    let content = &request.messages.last().unwrap().content;
    content
        .iter()
        .filter_map(|block| match block {
            Block::ToolResult { content, is_error, .. } => Some((content.clone(), *is_error)),
            _ => None,
        })
        .collect()
}

/// All text of a request's messages.
pub(crate) fn all_text(request: &ModelRequest) -> String {
    serde_json::to_string(&request.messages).unwrap()
}

/// A workspace and a home.
pub(crate) struct Bench {
    pub(crate) directory: TempDir,
    pub(crate) home: TempDir,
    pub(crate) model: Arc<Played>,
    pub(crate) config: AgentConfig,
    events: Arc<Mutex<Vec<SessionEvent>>>,
}

impl Bench {
    pub(crate) fn new(turns: Vec<Turn>) -> Self {
        let (directory, home) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let model = Played::new(turns);
        let tools = Arc::new(|cwd: &Path, sees: &Sight| ToolBox { sees: sees.clone() }.tools(cwd, &[], None));
        let clock = Arc::new(SteppingClock::default());
        let entropy = Arc::new(SeededEntropy::new(1));
        let mut config = AgentConfig::new(
            Arc::clone(&model) as Arc<dyn ModelProvider>,
            "played",
            tools,
            Arc::new(BoxCommands),
            home.path(),
            clock,
            entropy,
        );
        config.can = Abilities::WRITTEN;
        Self { directory, home, model, config, events: Arc::default() }
    }

    /// Replaces the model.
    pub(crate) fn next_life(&mut self, turns: Vec<Turn>) {
        self.model = Played::new(turns);
        self.config.provider = Arc::clone(&self.model) as Arc<dyn ModelProvider>;
    }

    pub(crate) fn session(&self) -> Session {
        Session::create(&self.config, self.directory.path()).unwrap()
    }

    pub(crate) async fn open(&self, id: &SessionId) -> Session {
        Session::open(&self.config, id, self.directory.path()).await.unwrap()
    }

    pub(crate) fn sink(&self) -> SessionSink {
        let events = Arc::clone(&self.events);
        Arc::new(move |event| events.lock().unwrap().push(event))
    }

    pub(crate) async fn prompt(&self, text: &str) -> TurnEnd {
        self.session().prompt(text, &self.sink()).await
    }

    /// Writes hooks: event, matcher, command.
    pub(crate) fn hooks(&self, hooks: &[(&str, &str, &str)]) {
        let mut events: Map<String, Value> = Map::new();
        for (event, matcher, command) in hooks {
            let group = json!({"matcher": matcher, "hooks": [{"type": "command", "command": command, "timeout": 5}]});
            events.entry(*event).or_insert_with(|| json!([])).as_array_mut().unwrap().push(group);
        }
        self.put(".claude/settings.json", &json!({"hooks": events}).to_string());
    }

    /// All warnings so far.
    pub(crate) fn warnings(&self) -> String {
        let texts = self.events().into_iter().filter_map(|event| match event {
            SessionEvent::Warning { text } => Some(text),
            _ => None,
        });
        texts.collect::<Vec<_>>().join("\n")
    }

    pub(crate) fn events(&self) -> Vec<SessionEvent> {
        self.events.lock().unwrap().clone()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn put(&self, name: &str, content: &str) {
        fs::create_dir_all(self.path(name).parent().unwrap()).unwrap();
        fs::write(self.path(name), content).unwrap();
    }

    pub(crate) fn get(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    pub(crate) fn journal(&self, id: &SessionId) -> PathBuf {
        self.home.path().join(format!(".aedile/sessions/{id}.jsonl"))
    }
}

/// A model that can do everything, as a session chooses it.
pub(crate) fn choice(model: &Arc<Played>, name: &str) -> ModelChoice {
    let provider = Arc::clone(model) as Arc<dyn ModelProvider>;
    ModelChoice { provider, model: name.to_owned(), context_tokens: 128_000, can: Abilities::WRITTEN }
}

/// Waits for a condition, at most ten seconds.
pub(crate) async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < Duration::from_secs(10), "{what} did not happen");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Whether a process is there and not a zombie.
pub(crate) fn is_alive(pid: &str) -> bool {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with('Z'))
}

/// A tool `pair` whose calls are answered only when two of them are at work at once.
pub(crate) fn two_at_once() -> Arc<dyn Tool> {
    Arc::new(Pair(Barrier::new(2)))
}

struct Pair(Barrier);

#[async_trait]
impl Tool for Pair {
    fn spec(&self) -> ToolSpec {
        ToolSpec { name: "pair".to_owned(), description: String::new(), input_schema: json!({"type": "object"}) }
    }
    fn risk(&self) -> ToolRisk {
        ToolRisk::Read
    }
    async fn call(&self, _input: Value) -> ToolOutput {
        let met = tokio::time::timeout(Duration::from_secs(10), self.0.wait()).await;
        ToolOutput { is_error: met.is_err(), ..ToolOutput::ok("met") }
    }
}
