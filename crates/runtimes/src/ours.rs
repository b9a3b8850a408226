//! What our own two ends add to the protocol, where it lets them: fields of `_meta`, and one method.

use serde::Deserialize;
use serde_json::Value;

/// Ours, beside the protocol: a message into the present turn; answered when the agent has taken it in or will not.
pub const SESSION_MESSAGE: &str = "_aedile/session/message";

/// What is added to an agent's capabilities; others than ours are not read.
#[derive(Debug, Deserialize)]
pub struct AgentMeta {
    /// What our own agent says.
    #[serde(default)]
    pub aedile: Option<OurAgent>,
}

/// What our own agent says of itself.
#[derive(Debug, Default, Deserialize)]
pub struct OurAgent {
    /// It takes messages within a turn.
    #[serde(default)]
    pub messages: bool,
}

/// Parameters of our message into a turn.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MessageParams {
    /// The session.
    pub session_id: String,
    /// The message.
    pub text: String,
}

/// Result of our message into a turn.
#[derive(Debug, Deserialize)]
pub struct Messaged {
    /// Whether the agent has taken it in.
    pub taken: bool,
}

/// What is added to a client's capabilities; others than ours are not read.
#[derive(Debug, Deserialize)]
pub struct ClientMeta {
    /// What our own client says.
    #[serde(default)]
    pub aedile: Option<OurClient>,
}

/// What our own client says of itself.
#[derive(Debug, Default, Deserialize)]
pub struct OurClient {
    /// Nobody sits behind it who could answer.
    #[serde(default)]
    pub unattended: bool,
}

/// What is added to a prompt; others than ours are not read.
#[derive(Debug, Deserialize)]
pub struct PromptMeta {
    /// What our own agent takes.
    #[serde(default)]
    pub aedile: Option<OurPrompt>,
}

/// What our own agent takes with a prompt.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OurPrompt {
    /// JSON schema of the turn's answer.
    #[serde(default)]
    pub output_schema: Option<Value>,
}

/// What our agent adds to the end of a turn.
#[derive(Debug, Deserialize)]
pub struct PromptedMeta {
    /// What happened, in one sentence.
    #[serde(default)]
    pub detail: Option<String>,
}

/// What is added to an update; others than ours are not read.
#[derive(Debug, Deserialize)]
pub struct UpdateMeta {
    /// What our own agent says of the update.
    #[serde(default)]
    pub aedile: Option<OurMeta>,
}

/// What our own agent says of an update.
#[derive(Debug, Default, Deserialize)]
pub struct OurMeta {
    /// A thought that is a warning of the program.
    #[serde(default)]
    pub warning: bool,
    /// A thought that is the turn's answer by a schema.
    #[serde(default)]
    pub output: bool,
    /// A thought that says why the model is asked again.
    #[serde(default)]
    pub retrying: Option<Retrying>,
    /// Words of the person's that reached the agent within the turn.
    #[serde(default)]
    pub message: bool,
    /// The sub-agent whose update it is.
    #[serde(default)]
    pub subagent: Option<String>,
}

/// Which try of a model request comes, and when.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Retrying {
    /// From 2.
    pub attempt: u32,
    /// Milliseconds until then.
    pub wait_ms: u64,
}
