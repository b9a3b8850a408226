//! The messages of the Agent Client Protocol, version 1, as JSON-RPC 2.0 lines: those that we send and the parts that we read.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{DeserializeOwned, Deserializer, IgnoredAny, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::ours::{AgentMeta, ClientMeta, PromptMeta, PromptedMeta, UpdateMeta};

/// The version that we speak.
pub const PROTOCOL_VERSION: u16 = 1;

/// `initialize`: versions and capabilities.
pub const INITIALIZE: &str = "initialize";
/// `authenticate`: picks a way to log in.
pub const AUTHENTICATE: &str = "authenticate";
/// `session/new`: begins a conversation.
pub const SESSION_NEW: &str = "session/new";
/// `session/load`: goes on with one.
pub const SESSION_LOAD: &str = "session/load";
/// `session/prompt`: one turn; answered when it ends.
pub const SESSION_PROMPT: &str = "session/prompt";
/// `session/cancel`: a notification that ends the turn.
pub const SESSION_CANCEL: &str = "session/cancel";
/// `session/set_mode`: changes how much the agent asks.
pub const SESSION_SET_MODE: &str = "session/set_mode";
/// `session/fork`: begins a conversation with the history of another.
pub const SESSION_FORK: &str = "session/fork";
/// `session/set_model`: changes the model.
pub const SESSION_SET_MODEL: &str = "session/set_model";
/// `session/update`: a notification about the turn.
pub const SESSION_UPDATE: &str = "session/update";
/// `session/request_permission`: the agent asks whether it may.
pub const REQUEST_PERMISSION: &str = "session/request_permission";

/// JSON-RPC: not JSON.
pub const PARSE_ERROR: i64 = -32700;
/// JSON-RPC: not a request.
pub const INVALID_REQUEST: i64 = -32600;
/// JSON-RPC: no such method.
pub const METHOD_NOT_FOUND: i64 = -32601;
/// JSON-RPC: the parameters do not fit.
pub const INVALID_PARAMS: i64 = -32602;
/// JSON-RPC: it failed.
pub const INTERNAL_ERROR: i64 = -32603;

/// Items of a list that are read; the rest is skipped.
const LIST_ITEMS_MAX: usize = 1024;

/// The id of a request.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize)]
#[serde(untagged)]
pub enum Id {
    /// A number.
    Number(i64),
    /// A text.
    Text(String),
}

impl<'de> Deserialize<'de> for Id {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Read;
        impl Visitor<'_> for Read {
            type Value = Id;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a whole number or a text")
            }
            fn visit_i64<E>(self, number: i64) -> Result<Id, E> {
                Ok(Id::Number(number))
            }
            fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<Id, E> {
                i64::try_from(number).map(Id::Number).map_err(E::custom)
            }
            fn visit_str<E>(self, text: &str) -> Result<Id, E> {
                Ok(Id::Text(text.to_owned()))
            }
        }
        from.deserialize_any(Read)
    }
}

/// What every message has.
#[derive(Deserialize)]
struct Head {
    #[serde(default)]
    id: Option<Id>,
    #[serde(default)]
    method: Option<String>,
    #[serde(default)]
    result: Option<IgnoredAny>,
    #[serde(default)]
    error: Option<RpcError>,
}

/// An error answer.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct RpcError {
    /// Its number.
    #[serde(default)]
    pub code: i64,
    /// Its words.
    #[serde(default)]
    pub message: String,
}

/// What kind of message a line is. Its content is read with [`params`] or [`result`] from the same line.
#[derive(Debug, PartialEq, Eq)]
pub enum Kind {
    /// Wants an answer.
    Request(Id, String),
    /// Wants none.
    Notification(String),
    /// Is an answer.
    Answer(Id),
    /// Is an error answer.
    Failed(Id, RpcError),
}

/// Looks at a line.
///
/// # Errors
/// What is wrong: not JSON, or not a JSON-RPC message.
pub fn kind_of(line: &[u8]) -> Result<Kind, String> {
    let head: Head = serde_json::from_slice(line).map_err(|error| error.to_string())?;
    match head {
        Head { id: Some(id), method: Some(method), .. } => Ok(Kind::Request(id, method)),
        Head { id: None, method: Some(method), .. } => Ok(Kind::Notification(method)),
        Head { id: Some(id), error: Some(error), .. } => Ok(Kind::Failed(id, error)),
        // A result of `null` counts: some agents answer `session/load` so.
        Head { id: Some(id), .. } => Ok(Kind::Answer(id)),
        Head { result, error, .. } => {
            Err(error.map_or_else(|| format!("no method and no id (result: {})", result.is_some()), |error| error.message))
        }
    }
}

/// Reads the parameters of a request or notification.
///
/// # Errors
/// Which field is missing or wrong.
pub fn params<T: DeserializeOwned>(line: &[u8]) -> Result<T, String> {
    #[derive(Deserialize)]
    struct Whole<T> {
        params: T,
    }
    serde_json::from_slice::<Whole<T>>(line).map(|whole| whole.params).map_err(|error| error.to_string())
}

/// Reads the result of an answer.
///
/// # Errors
/// Which field is missing or wrong.
pub fn result<T: DeserializeOwned>(line: &[u8]) -> Result<T, String> {
    #[derive(Deserialize)]
    struct Whole<T> {
        result: T,
    }
    serde_json::from_slice::<Whole<T>>(line).map(|whole| whole.result).map_err(|error| error.to_string())
}

/// Writes a request.
pub fn request(id: i64, method: &str, params: &Value) -> String {
    json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}).to_string()
}

/// Writes a notification.
pub fn notification(method: &str, params: &Value) -> String {
    json!({"jsonrpc": "2.0", "method": method, "params": params}).to_string()
}

/// Writes an answer.
pub fn answer(id: &Id, result: &Value) -> String {
    json!({"jsonrpc": "2.0", "id": id, "result": result}).to_string()
}

/// Writes an error answer; `None` as id when the request's could not be read.
pub fn failure(id: Option<&Id>, code: i64, message: &str) -> String {
    json!({"jsonrpc": "2.0", "id": id, "error": {"code": code, "message": message}}).to_string()
}

/// Result of `initialize`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Initialized {
    /// The version that the agent speaks.
    pub protocol_version: u16,
    /// What it can.
    #[serde(default)]
    pub agent_capabilities: AgentCapabilities,
}

/// What an agent can.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AgentCapabilities {
    /// Whether it goes on with earlier sessions.
    #[serde(default)]
    pub load_session: bool,
    /// Our addition.
    #[serde(rename = "_meta", default)]
    pub meta: Option<AgentMeta>,
}

/// Parameters or result that name a session.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SessionNamed {
    /// The session.
    pub session_id: String,
}

/// Parameters of `initialize`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InitializeParams {
    /// The version that the client speaks.
    pub protocol_version: u16,
    /// What the client can.
    #[serde(default)]
    pub client_capabilities: ClientCapabilities,
}

/// What a client can, as far as we ask.
#[derive(Debug, Default, Deserialize)]
pub struct ClientCapabilities {
    /// What our own client says.
    #[serde(rename = "_meta", default)]
    pub meta: Option<ClientMeta>,
}

/// Parameters of `session/set_mode`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SetModeParams {
    /// The session.
    pub session_id: String,
    /// The mode.
    pub mode_id: String,
}

/// Parameters of `session/new`, `session/load` and `session/fork`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OpenParams {
    /// The session; `session/new` has none.
    #[serde(default)]
    pub session_id: Option<String>,
    /// The working directory (absolute).
    pub cwd: String,
}

/// Parameters of `session/prompt`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PromptParams {
    /// The session.
    pub session_id: String,
    /// The message.
    #[serde(deserialize_with = "some_of")]
    pub prompt: Vec<ContentBlock>,
    /// Our addition.
    #[serde(rename = "_meta", default)]
    pub meta: Option<PromptMeta>,
}

/// Parameters of `session/set_model`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SetModelParams {
    /// The session.
    pub session_id: String,
    /// The model, `provider/model`.
    pub model_id: String,
}

/// Result of `session/prompt`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Prompted {
    /// Why the turn ended.
    pub stop_reason: String,
    /// Our addition.
    #[serde(rename = "_meta", default)]
    pub meta: Option<PromptedMeta>,
}

/// A piece of content.
#[derive(Debug, Deserialize)]
pub struct ContentBlock {
    /// `text`, `resource_link`, ...
    #[serde(rename = "type")]
    pub kind: String,
    /// The text of a `text`.
    #[serde(default)]
    pub text: Option<String>,
    /// The address of a `resource_link`.
    #[serde(default)]
    pub uri: Option<String>,
}

/// Parameters of `session/update`.
#[derive(Debug, Deserialize)]
pub struct UpdateParams<T> {
    /// What is new.
    pub update: T,
}

/// The kind of an update; what it holds is read afterwards as the type that belongs to the kind.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UpdateKind {
    /// `agent_message_chunk`, `tool_call`, `tool_call_update`, or one that we do not use: thoughts, plans, modes, usage.
    pub session_update: String,
    /// Our addition.
    #[serde(rename = "_meta", default)]
    pub meta: Option<UpdateMeta>,
}

/// The agent says or thinks something.
#[derive(Debug, Deserialize)]
pub struct Chunk {
    /// What.
    pub content: ContentBlock,
}

/// A tool call, or what changes about it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ToolCall {
    /// Its id.
    pub tool_call_id: String,
    /// For people.
    #[serde(default)]
    pub title: Option<String>,
    /// `pending`, `in_progress`, `completed`, `failed`.
    #[serde(default)]
    pub status: Option<String>,
    /// Its output so far.
    #[serde(default, deserialize_with = "maybe_some_of")]
    pub content: Option<Vec<ToolContent>>,
}

/// A piece of a tool call's output.
#[derive(Debug, Deserialize)]
pub struct ToolContent {
    /// Present in the kind `content`; differences and terminals have none.
    #[serde(default)]
    pub content: Option<ContentBlock>,
}

/// Parameters of `session/request_permission`.
#[derive(Debug, Deserialize)]
pub struct PermissionParams {
    /// What may be answered.
    #[serde(deserialize_with = "some_of")]
    pub options: Vec<PermissionOption>,
}

/// Result of `session/request_permission`.
#[derive(Debug, Deserialize)]
pub struct Answered {
    /// What was chosen.
    pub outcome: Chosen,
}

/// What was chosen.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Chosen {
    /// The option; none when the question was cancelled.
    #[serde(default)]
    pub option_id: Option<String>,
}

/// One possible answer.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PermissionOption {
    /// Its id.
    pub option_id: String,
    /// `allow_once`, `allow_always`, `reject_once`, `reject_always`.
    pub kind: String,
}

fn some_of<'de, D: Deserializer<'de>, T: Deserialize<'de>>(from: D) -> Result<Vec<T>, D::Error> {
    struct Some<T>(PhantomData<T>);
    impl<'de, T: Deserialize<'de>> Visitor<'de> for Some<T> {
        type Value = Vec<T>;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list")
        }
        fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<T>, A::Error> {
            let mut items = Vec::new();
            while items.len() < LIST_ITEMS_MAX {
                match seq.next_element()? {
                    Option::Some(item) => items.push(item),
                    None => return Ok(items),
                }
            }
            while seq.next_element::<IgnoredAny>()?.is_some() {}
            Ok(items)
        }
    }
    from.deserialize_seq(Some(PhantomData))
}

fn maybe_some_of<'de, D: Deserializer<'de>, T: Deserialize<'de>>(from: D) -> Result<Option<Vec<T>>, D::Error> {
    struct Maybe<T>(PhantomData<T>);
    impl<'de, T: Deserialize<'de>> Visitor<'de> for Maybe<T> {
        type Value = Option<Vec<T>>;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list or null")
        }
        fn visit_unit<E>(self) -> Result<Self::Value, E> {
            Ok(None)
        }
        fn visit_none<E>(self) -> Result<Self::Value, E> {
            Ok(None)
        }
        fn visit_some<D: Deserializer<'de>>(self, from: D) -> Result<Self::Value, D::Error> {
            some_of(from).map(Some)
        }
    }
    from.deserialize_option(Maybe(PhantomData))
}
