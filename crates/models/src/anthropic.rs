//! The Anthropic Messages format.

use aedile_core::model::{Block, DeltaSink, Media, Message, ModelError, ModelProvider, ModelRequest, ModelResponse, Role, ToolSpec};
use async_trait::async_trait;
use serde_json::{Map, Value, json};

use crate::anthropic_stream::Reader;
use crate::call::Endpoint;
use crate::format::ApiFormat;
use crate::{portable, schema};

/// The version of the API that we speak.
pub const ANTHROPIC_VERSION: &str = "2023-06-01";

/// A provider that speaks Anthropic Messages.
#[derive(Clone)]
pub struct AnthropicMessages {
    endpoint: Endpoint,
}

impl AnthropicMessages {
    /// Speaks to the given endpoint.
    pub fn new(endpoint: Endpoint) -> Self {
        Self { endpoint }
    }
}

#[async_trait]
impl ModelProvider for AnthropicMessages {
    async fn stream(&self, request: &ModelRequest, sink: &mut dyn DeltaSink) -> Result<ModelResponse, ModelError> {
        let request = &portable::for_format(request, ApiFormat::Anthropic);
        let mut body = request_to_wire(request, true);
        mark_cached(&mut body);
        self.endpoint.ask((ApiFormat::Anthropic, &request.model), &body, Reader::default, sink).await
    }
}

/// Writes the request as the body of `POST /v1/messages`. Empty texts and messages without content are left out, because the API refuses them.
pub fn request_to_wire(request: &ModelRequest, stream: bool) -> Value {
    let mut body = Map::new();
    body.insert("model".into(), json!(request.model));
    body.insert("max_tokens".into(), json!(request.max_output_tokens));
    if !request.system.is_empty() {
        body.insert("system".into(), json!(request.system));
    }
    let messages: Vec<Value> =
        request.messages.iter().map(without_empty).filter(|m| !m.content.is_empty()).map(|m| message_to_wire(&m)).collect();
    body.insert("messages".into(), Value::Array(messages));
    if !request.tools.is_empty() {
        let tool = |tool: &ToolSpec| json!({"name": tool.name, "description": tool.description, "input_schema": tool.input_schema});
        body.insert("tools".into(), request.tools.iter().map(tool).collect());
    }
    if let Some(schema) = &request.output_schema {
        body.insert("output_config".into(), json!({"format": {"type": "json_schema", "schema": schema::for_anthropic(schema)}}));
    }
    if stream {
        body.insert("stream".into(), json!(true));
    }
    body.extend(request.extra.clone());
    Value::Object(body)
}

fn without_empty(message: &Message) -> Message {
    let empty = |block: &Block| matches!(block, Block::Text { text, .. } if text.is_empty());
    let mut message = message.clone();
    message.content.retain(|block| !empty(block));
    message
}

/// Reads a request body. What our types cannot hold (a system prompt in parts, tools of the provider) stays in `extra` as it was.
///
/// # Errors
/// A sentence that names the field that has a wrong form.
pub fn request_from_wire(body: &Map<String, Value>) -> Result<ModelRequest, String> {
    let mut extra = body.clone();
    let mut take = |name: &str| extra.shift_remove(name).unwrap_or(Value::Null);
    let model = take("model").as_str().ok_or("`model` must be a text")?.to_owned();
    let max_output_tokens =
        take("max_tokens").as_u64().and_then(|max| u32::try_from(max).ok()).ok_or("`max_tokens` must be a whole number")?;
    let messages = take("messages");
    let messages = messages.as_array().ok_or("`messages` must be an array")?;
    let messages = messages.iter().map(message_from_wire).collect::<Result<Vec<_>, _>>()?;
    let _stream = take("stream");
    let system = match take("system") {
        Value::Null => String::new(),
        Value::String(text) => text,
        parts => {
            let text = texts(&parts).join("\n");
            extra.insert("system".into(), parts);
            text
        }
    };
    let tools = extra.shift_remove("tools").unwrap_or(Value::Null);
    let specs: Vec<Option<ToolSpec>> = tools.as_array().into_iter().flatten().map(tool_from_wire).collect();
    if specs.iter().any(Option::is_none) || !(tools.is_null() || tools.is_array()) {
        extra.insert("tools".into(), tools);
    }
    Ok(ModelRequest {
        model,
        system,
        messages,
        tools: specs.into_iter().flatten().collect(),
        max_output_tokens,
        output_schema: None,
        extra,
    })
}

/// A tool in the plain form; `None` for a tool of the provider or one with further fields.
fn tool_from_wire(tool: &Value) -> Option<ToolSpec> {
    let fields = tool.as_object()?;
    if fields.keys().any(|key| !matches!(key.as_str(), "name" | "description" | "input_schema")) {
        return None;
    }
    let text = |name: &str| fields.get(name).and_then(Value::as_str).map(str::to_owned);
    Some(ToolSpec { name: text("name")?, description: text("description")?, input_schema: fields.get("input_schema")?.clone() })
}

/// The texts of an array of content parts.
pub(crate) fn texts(parts: &Value) -> Vec<String> {
    parts.as_array().into_iter().flatten().filter_map(|part| part.get("text")?.as_str().map(str::to_owned)).collect()
}

/// Writes a message.
pub fn message_to_wire(message: &Message) -> Value {
    let role = match message.role {
        Role::User => "user",
        Role::Assistant => "assistant",
    };
    let content: Vec<Value> = message.content.iter().map(block_to_wire).collect();
    let mut fields = Map::new();
    fields.insert("role".into(), json!(role));
    fields.insert("content".into(), Value::Array(content));
    fields.extend(message.extra.clone());
    Value::Object(fields)
}

fn block_to_wire(block: &Block) -> Value {
    let (mut value, extra) = match block {
        Block::Text { text, extra } => (json!({"type": "text", "text": text}), Some(extra)),
        Block::ToolUse { id, name, input, extra } => {
            (json!({"type": "tool_use", "id": id, "name": name, "input": input_object(input)}), Some(extra))
        }
        Block::ToolResult { id, content, is_error, media } => {
            let content = result_content(content, media);
            (json!({"type": "tool_result", "tool_use_id": id, "content": content, "is_error": is_error}), None)
        }
        Block::Media { media } => (media_to_wire(media), None),
        Block::Other { value } => (value.clone(), None),
    };
    if let (Some(fields), Some(extra)) = (value.as_object_mut(), extra) {
        fields.extend(extra.clone());
    }
    value
}

/// What a tool answered: a text, or parts when it shows something.
fn result_content(text: &str, media: &[Media]) -> Value {
    if media.is_empty() {
        return json!(text);
    }
    let text = (!text.is_empty()).then(|| json!({"type": "text", "text": text}));
    text.into_iter().chain(media.iter().map(media_to_wire)).collect()
}

fn media_to_wire(media: &Media) -> Value {
    let source = json!({"type": "base64", "media_type": media.media_type, "data": media.data});
    match &media.name {
        Some(name) if media.is_pdf() => json!({"type": "document", "source": source, "title": name}),
        _ if media.is_pdf() => json!({"type": "document", "source": source}),
        _ => json!({"type": "image", "source": source}),
    }
}

/// Providers refuse an input that is not an object, so text that the model wrote instead goes back inside one.
pub(crate) fn input_object(input: &Value) -> Value {
    if input.is_object() { input.clone() } else { json!({"invalid_json": input}) }
}

/// Reads a message of a request or an answer (of which the envelope's own fields are dropped).
///
/// # Errors
/// A sentence that names what is missing.
pub fn message_from_wire(message: &Value) -> Result<Message, String> {
    let mut extra = message.as_object().ok_or("a message must be an object")?.clone();
    let role = match extra.shift_remove("role").as_ref().and_then(Value::as_str) {
        // What the system says in the middle of a conversation comes from the caller, as the user's words do.
        Some("user" | "system") => Role::User,
        Some("assistant") => Role::Assistant,
        other => return Err(format!("the role of a message must be `user` or `assistant`, not {other:?}")),
    };
    let content = match extra.shift_remove("content") {
        Some(Value::String(text)) => vec![Block::text(text)],
        Some(Value::Array(blocks)) => blocks.into_iter().map(block_from_wire).collect(),
        Some(Value::Null) | None => Vec::new(),
        Some(_) => return Err("the content of a message must be a text or an array".to_owned()),
    };
    Ok(Message { role, content, extra, origin: None })
}

pub(crate) fn block_from_wire(value: Value) -> Block {
    let known = match value.get("type").and_then(Value::as_str) {
        Some("text") => text_from_wire(&value),
        Some("tool_use") => tool_use_from_wire(&value),
        Some("tool_result") => tool_result_from_wire(&value),
        _ => None,
    };
    known.unwrap_or(Block::Other { value })
}

fn text_from_wire(value: &Value) -> Option<Block> {
    let text = value.get("text")?.as_str()?.to_owned();
    Some(Block::Text { text, extra: others(value, &["type", "text"]) })
}

fn tool_use_from_wire(value: &Value) -> Option<Block> {
    let text = |name: &str| value.get(name).and_then(Value::as_str).map(str::to_owned);
    let input = value.get("input").cloned().unwrap_or_else(|| json!({}));
    Some(Block::ToolUse { id: text("id")?, name: text("name")?, input, extra: others(value, &["type", "id", "name", "input"]) })
}

/// A result with parts other than text, or with fields of its own, stays as it is.
fn tool_result_from_wire(value: &Value) -> Option<Block> {
    if !others(value, &["type", "tool_use_id", "content", "is_error"]).is_empty() {
        return None;
    }
    let content = match value.get("content") {
        None => String::new(),
        Some(content) => content.as_str()?.to_owned(),
    };
    let is_error = value.get("is_error").and_then(Value::as_bool).unwrap_or(false);
    Some(Block::tool_result(value.get("tool_use_id")?.as_str()?, content, is_error))
}

/// The fields of an object but the named ones.
pub(crate) fn others(value: &Value, known: &[&str]) -> Map<String, Value> {
    let fields = value.as_object().into_iter().flatten();
    fields.filter(|(key, _)| !known.contains(&key.as_str())).map(|(key, value)| (key.clone(), value.clone())).collect()
}

/// Asks the provider to cache what comes again with the next turn: tools and system prompt, and the conversation so far.
/// A request that says anything about caching itself is left alone.
fn mark_cached(body: &mut Value) {
    if body.to_string().contains("\"cache_control\"") {
        return;
    }
    let mark = json!({"type": "ephemeral"});
    if let Some(system) = body.get_mut("system").filter(|system| system.is_string()) {
        *system = json!([{"type": "text", "text": system.take(), "cache_control": mark}]);
    }
    // Tools stand before the system prompt, so a mark on the latter holds for both.
    let bare = body.get("system").is_none();
    let tool = body.get_mut("tools").filter(|_| bare).and_then(Value::as_array_mut).and_then(|tools| tools.last_mut());
    if let Some(fields) = tool.and_then(Value::as_object_mut) {
        fields.insert("cache_control".into(), mark.clone());
    }
    let messages = body.get_mut("messages").and_then(Value::as_array_mut).into_iter().flatten();
    // The mark before the last one finds the cache of the previous turn again, however much this turn added.
    let users = messages.rev().filter(|message| message["role"] == "user").take(2);
    let cacheable =
        |block: &&mut Value| matches!(block.get("type").and_then(Value::as_str), Some("text" | "tool_result" | "image" | "document"));
    let blocks = users.filter_map(|message| message.get_mut("content")?.as_array_mut()?.iter_mut().rev().find(cacheable));
    for fields in blocks.filter_map(Value::as_object_mut) {
        fields.insert("cache_control".into(), mark.clone());
    }
}
