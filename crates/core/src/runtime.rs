//! Runtimes: what executes an agent. Ours and other vendors' look alike from here.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;

use crate::ids::SessionId;
use crate::model::ModelRef;
use crate::money::Usage;

/// What a runtime needs to know to be started in a box.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LaunchRequest {
    /// The model; the door speaks for its provider.
    pub model: ModelRef,
    /// The base URL of the door inside the box, for example `http://127.0.0.1:7070`.
    pub door_url: String,
    /// The working directory inside the box.
    pub cwd: String,
    /// The name of a session that begins, a UUID. Runtimes that name their sessions themselves ignore it.
    pub session: String,
    /// The earlier session of the same `HOME` that goes on; `None` begins a new one.
    pub resume: Option<SessionId>,
    /// What holds for the whole task whatever is said later: plain text, which survives a compaction where the runtime can keep it.
    pub instructions: String,
}

/// How a runtime is started: goes into a `BoxSpec`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Launch {
    /// Program and arguments inside the box.
    pub command: Vec<String>,
    /// Environment; keys of providers are placeholders.
    pub env: Vec<(String, String)>,
    /// Files that the box sees read-only, outside the workspace and its index.
    pub files: Vec<LaunchFile>,
}

/// A read-only file of a box.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LaunchFile {
    /// Where the box sees it (absolute).
    pub inside: PathBuf,
    /// Its text.
    pub text: String,
}

/// The standard streams of a started agent.
#[derive(Debug)]
pub struct AgentIo {
    /// Writing end of its stdin.
    pub stdin: OwnedFd,
    /// Reading end of its stdout.
    pub stdout: OwnedFd,
    /// Reading end of its stderr, kept as evidence.
    pub stderr: OwnedFd,
}

/// Something that happens while an agent works.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum SessionEvent {
    /// The agent says something.
    Text {
        /// A piece of text.
        text: String,
    },
    /// A tool call begins.
    ToolStarted {
        /// The call's id.
        id: String,
        /// A short title, for example `bash cargo test`.
        title: String,
    },
    /// A tool call has ended.
    ToolEnded {
        /// The call's id.
        id: String,
        /// Whether it failed.
        is_error: bool,
        /// Its output, cut.
        output: String,
    },
    /// Something is not as it should be and the work goes on without it: a hook that failed, a skill file that cannot be read.
    Warning {
        /// What, and what follows from it.
        text: String,
    },
    /// The turn's answer, for a prompt that asked for one by a schema.
    Output {
        /// It follows the schema.
        value: Value,
    },
    /// Something happens in a sub-agent.
    SubAgent {
        /// Its name within the session, for example `explore-2`.
        agent: String,
        /// What.
        event: Box<Self>,
    },
    /// A message that was sent within the turn has reached the agent.
    Message {
        /// The message.
        text: String,
    },
    /// The model did not answer, and the agent asks it again by itself.
    Retrying {
        /// Which try comes, from 2.
        attempt: u32,
        /// What happened, in words: a rate limit, an outage.
        why: String,
        /// How long the agent waits before, in milliseconds.
        wait_ms: u64,
    },
    /// What the turn used as the agent itself counts it. What is charged is what the door counts.
    Used {
        /// Tokens.
        usage: Usage,
        /// Dollars, where the agent knows prices.
        usd: Option<f64>,
    },
}

/// Why a turn ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TurnStop {
    /// The agent had no more to do.
    EndTurn,
    /// Its own limit of steps, or a loop it noticed.
    Limit,
    /// The output limit of the model.
    MaxTokens,
    /// The model declined.
    Refusal,
    /// It was interrupted.
    Cancelled,
    /// It broke: the process ended, the protocol was violated or the model gave no answer.
    Failed,
}

/// The end of a turn.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TurnEnd {
    /// Why.
    pub stop: TurnStop,
    /// For `Failed` and `Limit`: what happened, in one sentence.
    pub detail: Option<String>,
}

/// Why a runtime cannot go on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("runtime {runtime}: {message}")]
pub struct RuntimeError {
    /// The runtime's name.
    pub runtime: String,
    /// What happened.
    pub message: String,
}

/// Receives a session's events in order; must not block.
pub type SessionSink = Arc<dyn Fn(SessionEvent) + Send + Sync>;

/// A way to execute agents.
#[async_trait]
pub trait Runtime: Send + Sync {
    /// Returns the name that tasks and configuration use, for example `aedile`.
    fn name(&self) -> &str;
    /// Says how to start it.
    fn launch(&self, request: &LaunchRequest) -> Launch;
    /// Joins a process that was started with the same request: handshake, then a new session or, with `resume`, the earlier one.
    ///
    /// # Errors
    /// [`RuntimeError`] when the process ends, answers nonsense, is too old or cannot resume.
    async fn attach(&self, io: AgentIo, request: &LaunchRequest, sink: SessionSink) -> Result<Box<dyn AgentSession>, RuntimeError>;
}

/// One conversation with a started agent.
#[async_trait]
pub trait AgentSession: Send + Sync {
    /// Returns the session's id, with which it can be resumed.
    fn id(&self) -> SessionId;
    /// Gives the agent a message and waits for the end of its turn.
    async fn prompt(&self, text: &str) -> TurnEnd;
    /// Asks the agent to end its present turn; `prompt` then returns `Cancelled`.
    async fn interrupt(&self);
    /// Whether a message can reach the agent in the middle of a turn.
    fn takes_messages(&self) -> bool {
        false
    }
    /// Gives the agent a message within its present turn and waits until the agent has taken it in. Returns `false` when it has not:
    /// there is no turn, the turn ended before, or the runtime takes no messages.
    async fn message(&self, _text: &str) -> bool {
        false
    }
    /// Returns the last bytes of the agent's stderr, as evidence.
    fn stderr_tail(&self) -> String;
}

/// A question to the person: may this call be made?
#[derive(Clone, PartialEq, Debug)]
pub struct PermissionQuestion {
    /// The session.
    pub session: SessionId,
    /// The call's id, as its events have it.
    pub call: String,
    /// A short title, for example `bash cargo test`.
    pub title: String,
    /// The call's input.
    pub input: Value,
    /// The rule that an answer for all times adds to the session; `None` where only this call can be allowed.
    pub always: Option<String>,
}

/// What the person answers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PermissionAnswer {
    /// This call may be made.
    Once,
    /// This one and, in this session, all that the rule is for.
    Always,
    /// It may not.
    Rejected,
    /// No answer came.
    Unanswered,
}

/// Whoever asks the person. Dropping the future takes the question back.
#[async_trait]
pub trait PermissionAsker: Send + Sync {
    /// Asks and waits for the answer, as long as the person takes.
    async fn ask(&self, question: PermissionQuestion) -> PermissionAnswer;
}

/// How much a session asks.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SessionMode {
    /// For the protocol.
    pub id: String,
    /// For people.
    pub name: String,
    /// What it means.
    pub description: String,
}

/// The modes of a session.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SessionModes {
    /// The id of the present one.
    pub current: String,
    /// All of them.
    pub available: Vec<SessionMode>,
}

/// A coding agent in this process, as the server end of a protocol (ACP on stdio) drives it.
/// Sessions are independent of each other; each is kept on disk and can be loaded by a later process with the same `HOME`.
#[async_trait]
pub trait LocalAgent: Send + Sync {
    /// Begins a conversation whose tools work in `cwd` (absolute).
    ///
    /// # Errors
    /// [`RuntimeError`] when the session cannot be stored or `cwd` is no directory.
    async fn new_session(&self, cwd: &str) -> Result<SessionId, RuntimeError>;
    /// Goes on with an earlier conversation, up to its last whole step. Loading a session that is open already does nothing.
    ///
    /// # Errors
    /// [`RuntimeError`] when there is no such session or it cannot be read.
    async fn load_session(&self, id: &SessionId, cwd: &str) -> Result<(), RuntimeError>;
    /// Gives the session a message and waits for the end of the turn; events go to `sink` in order.
    /// A session that is not open, or is in a turn already, answers `Failed`. Dropping the future ends the turn like `cancel`.
    async fn prompt(&self, session: &SessionId, text: &str, sink: SessionSink) -> TurnEnd;
    /// Like `prompt`, and the last answer is one JSON value that follows the schema; it comes as [`SessionEvent::Output`]. When the agent
    /// does not give one, the turn ends with `Failed`.
    async fn prompt_for_output(&self, session: &SessionId, text: &str, schema: &Value, sink: SessionSink) -> TurnEnd;
    /// Begins a session that goes on from another's history so far, which stays as it is.
    ///
    /// # Errors
    /// [`RuntimeError`] when there is no such session, or the new one cannot be stored.
    async fn fork_session(&self, id: &SessionId, cwd: &str) -> Result<SessionId, RuntimeError>;
    /// Changes the session's model (`provider/model`) from its next prompt on. What only the old model understands stays behind.
    ///
    /// # Errors
    /// [`RuntimeError`] when there is no such session, it is in a turn, or there is no such model.
    async fn set_model(&self, session: &SessionId, model: &str) -> Result<(), RuntimeError>;
    /// Gives the session a message within its present turn and waits until it has taken it in. Returns `false` when it has not: it is not
    /// open, there is no turn, or the turn ended before.
    async fn message(&self, session: &SessionId, text: &str) -> bool;
    /// Ends the session's present turn; its `prompt` then returns `Cancelled`. Does nothing between turns.
    async fn cancel(&self, session: &SessionId);
    /// Somebody can be asked from now on; called before the first session. Without this call nobody can, and the box alone decides.
    fn attended(&self, _asker: Arc<dyn PermissionAsker>) {}
    /// Returns how much the session asks; `None` when it knows no modes or is not open.
    fn modes(&self, _session: &SessionId) -> Option<SessionModes> {
        None
    }
    /// Changes how much the session asks, from its next call on.
    ///
    /// # Errors
    /// [`RuntimeError`] when there is no such session or mode.
    fn set_mode(&self, session: &SessionId, _mode: &str) -> Result<(), RuntimeError> {
        Err(RuntimeError { runtime: "local".to_owned(), message: format!("the session {session} has no modes") })
    }
    /// Called once when the program ends, after the last turn; takes a few seconds at most.
    async fn close(&self) {}
}
