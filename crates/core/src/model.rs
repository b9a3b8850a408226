//! Requests to and answers from models, independent of a provider's wire format.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::limits::{AGENT_CONTEXT_TOKENS_DEFAULT, MODEL_OUTPUT_TOKENS_DEFAULT};
pub use crate::media::Media;
use crate::money::Usage;

/// A model of a provider, written `provider/model`, for example `anthropic/claude-sonnet-4-5` or `script/demo`.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ModelRef {
    /// The provider: `anthropic`, `openai` (and everything that speaks its format), `gemini`, `ollama` or `script`.
    pub provider: String,
    /// The model's name at that provider; may hold `/`.
    pub model: String,
}

impl FromStr for ModelRef {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('/') {
            Some((provider, model)) if !provider.is_empty() && !model.is_empty() => {
                Ok(Self { provider: provider.to_owned(), model: model.to_owned() })
            }
            _ => Err(format!("model {text:?} must be written PROVIDER/MODEL, for example anthropic/claude-sonnet-4-5")),
        }
    }
}

impl TryFrom<String> for ModelRef {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<ModelRef> for String {
    fn from(model: ModelRef) -> Self {
        model.to_string()
    }
}

impl fmt::Display for ModelRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.provider, self.model)
    }
}

/// What a model can do.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Abilities {
    /// Its window, input and output together, in tokens.
    pub context: u64,
    /// The longest answer in tokens.
    pub output: u64,
    /// Whether it understands pictures.
    pub images: bool,
    /// Whether it understands PDF documents.
    pub pdf: bool,
    /// Whether it thinks before it answers.
    pub thinking: bool,
    /// Whether its answer can be held to a JSON schema.
    pub structured: bool,
}

impl Abilities {
    /// What is assumed of a model that is not in the catalogue: a middling window, short answers, and no more than text and tools.
    pub const UNKNOWN: Self = Self {
        context: AGENT_CONTEXT_TOKENS_DEFAULT,
        output: MODEL_OUTPUT_TOKENS_DEFAULT as u64,
        images: false,
        pdf: false,
        thinking: false,
        structured: false,
    };
    /// What written turns can do: everything that a request may hold.
    pub const WRITTEN: Self = Self { images: true, pdf: true, structured: true, ..Self::UNKNOWN };
}

/// Who speaks.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// The person, or the program on its behalf; also carries tool results.
    User,
    /// The model.
    Assistant,
}

/// One piece of a message.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Block {
    /// Text.
    Text {
        /// The text.
        text: String,
        /// Fields of the provider that we do not know; sent back unchanged.
        #[serde(default, skip_serializing_if = "Map::is_empty")]
        extra: Map<String, Value>,
    },
    /// The model wants a tool to be called.
    ToolUse {
        /// The provider's id of the call.
        id: String,
        /// The tool.
        name: String,
        /// Its input; `Value::String` when the model's text was not JSON.
        input: Value,
        /// Unknown fields.
        #[serde(default, skip_serializing_if = "Map::is_empty")]
        extra: Map<String, Value>,
    },
    /// What a tool answered.
    ToolResult {
        /// The id of the call.
        id: String,
        /// The answer, for the model.
        content: String,
        /// Whether the call failed.
        is_error: bool,
        /// Pictures and documents of the answer.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        media: Vec<Media>,
    },
    /// A picture or a document.
    Media {
        /// It.
        #[serde(flatten)]
        media: Media,
    },
    /// A piece that we do not interpret (thinking, for example), sent back exactly as it came.
    Other {
        /// The piece.
        value: Value,
    },
}

impl Block {
    /// Makes a text block.
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text { text: text.into(), extra: Map::new() }
    }

    /// Makes the answer to a tool call.
    pub fn tool_result(id: impl Into<String>, content: impl Into<String>, is_error: bool) -> Self {
        Self::ToolResult { id: id.into(), content: content.into(), is_error, media: Vec::new() }
    }
}

/// One message of a conversation.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// What is said.
    pub content: Vec<Block>,
    /// Unknown fields of the provider, sent back unchanged.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub extra: Map<String, Value>,
    /// Whose answer it is, as `format/model` (`anthropic/claude-sonnet-4-5`): what is kept here without being understood (thinking,
    /// signatures, unknown fields) goes back only to a model that speaks the same format. `None` for what no model said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<String>,
}

impl Message {
    /// Makes a message.
    pub fn new(role: Role, content: Vec<Block>) -> Self {
        Self { role, content, extra: Map::new(), origin: None }
    }

    /// Makes a user message of one text.
    pub fn user(text: impl Into<String>) -> Self {
        Self::new(Role::User, vec![Block::text(text)])
    }
}

/// A tool as the model sees it.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct ToolSpec {
    /// Its name.
    pub name: String,
    /// What it does and when to use it.
    pub description: String,
    /// JSON schema of its input.
    pub input_schema: Value,
}

/// One request.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct ModelRequest {
    /// The model's name at its provider.
    pub model: String,
    /// The system prompt.
    pub system: String,
    /// The conversation.
    pub messages: Vec<Message>,
    /// The tools.
    pub tools: Vec<ToolSpec>,
    /// The most output tokens.
    pub max_output_tokens: u32,
    /// JSON schema that the text of the answer must follow, in the provider's own way of structured output. Its root is an object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_schema: Option<Value>,
    /// Further top-level fields, passed through.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub extra: Map<String, Value>,
}

/// Why the model stopped.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ModelStop {
    /// It had finished.
    EndTurn,
    /// It waits for tool results.
    ToolUse,
    /// The output limit was reached.
    MaxTokens,
    /// It declined.
    Refusal,
    /// Something else, in the provider's word.
    Other(String),
}

/// A whole answer.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct ModelResponse {
    /// The message.
    pub message: Message,
    /// Why it ended.
    pub stop: ModelStop,
    /// What it used, as the provider says; `None` when the provider did not say.
    pub usage: Option<Usage>,
}

/// A piece of an answer while it streams.
#[derive(Clone, PartialEq, Debug)]
pub enum ModelDelta {
    /// More text.
    Text(String),
    /// More thinking.
    Thinking(String),
    /// A tool call has begun.
    ToolStarted {
        /// The tool.
        name: String,
    },
    /// The provider is tried again.
    Retrying {
        /// Which try comes next, from 2.
        attempt: u32,
        /// How long is waited first.
        after: Duration,
        /// Why.
        reason: String,
    },
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ModelError {
    /// The provider refused with a status that another try does not change.
    #[error("the model provider answered {status}: {message}")]
    Refused {
        /// HTTP status.
        status: u16,
        /// The provider's words.
        message: String,
    },
    /// A budget does not allow the request.
    #[error("{message}")]
    OverBudget {
        /// Which budget, how much is left, which setting.
        message: String,
    },
    /// The provider is left alone for now: nothing is sent to it, whoever asks.
    #[error("{message}")]
    Down {
        /// Which provider, since when, and what it said.
        message: String,
        /// The model that can be asked instead, `provider/model`.
        next: String,
    },
    /// Still no answer after all tries.
    #[error("no answer from the model provider after {tries} tries: {last}")]
    Exhausted {
        /// How many tries were made.
        tries: u32,
        /// The last failure.
        last: String,
    },
    /// The stream ended before the answer was whole and nothing more can be tried.
    #[error("the model's answer was cut: {0}")]
    Cut(String),
    /// The answer is not in the provider's format.
    #[error("the model provider's answer is not understood: {0}")]
    Protocol(String),
}

/// Receives the pieces of an answer in order.
pub trait DeltaSink: Send {
    /// Takes one piece.
    fn delta(&mut self, delta: ModelDelta);
}

impl<F: FnMut(ModelDelta) + Send> DeltaSink for F {
    fn delta(&mut self, delta: ModelDelta) {
        self(delta);
    }
}

/// A model behind one wire format. Dropping the future cancels the request.
#[async_trait]
pub trait ModelProvider: Send + Sync {
    /// Sends the request and returns the whole answer; pieces go to `sink` as they arrive.
    async fn stream(&self, request: &ModelRequest, sink: &mut dyn DeltaSink) -> Result<ModelResponse, ModelError>;
}
