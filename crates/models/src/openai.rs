//! The OpenAI Chat Completions format, as OpenAI and the many servers that follow it speak it.

use aedile_core::limits::MODEL_OUTPUT_TOKENS_DEFAULT;
use aedile_core::model::{Block, DeltaSink, Media, Message, ModelError, ModelProvider, ModelRequest, ModelResponse, Role, ToolSpec};
use async_trait::async_trait;
use serde_json::{Map, Value, json};

use crate::anthropic::{input_object, others, texts};
use crate::call::Endpoint;
use crate::format::ApiFormat;
use crate::openai_stream::Reader;
use crate::{portable, schema};

/// A provider that speaks OpenAI Chat Completions.
#[derive(Clone)]
pub struct OpenAiChat {
    endpoint: Endpoint,
}

impl OpenAiChat {
    /// Speaks to the given endpoint.
    pub fn new(endpoint: Endpoint) -> Self {
        Self { endpoint }
    }
}

#[async_trait]
impl ModelProvider for OpenAiChat {
    async fn stream(&self, request: &ModelRequest, sink: &mut dyn DeltaSink) -> Result<ModelResponse, ModelError> {
        let request = &portable::for_format(request, ApiFormat::OpenAi);
        let body = request_to_wire(request, true);
        self.endpoint.ask((ApiFormat::OpenAi, &request.model), &body, || Reader::new(self.endpoint.entropy.clone()), sink).await
    }
}

/// Whether the model is one of OpenAI's that think before they answer.
pub(crate) fn reasons(model: &str) -> bool {
    let of_o = model.strip_prefix('o').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
    let of_gpt = model.strip_prefix("gpt-").is_some_and(|rest| rest.starts_with(|c: char| matches!(c, '5'..='9')));
    (of_o || of_gpt) && !model.contains("-chat")
}

/// The name of the output limit: OpenAI's own models since o1 want the new one, most other servers know only the old one.
pub(crate) fn output_limit_field(model: &str) -> &'static str {
    let own = reasons(model) || model.starts_with("chatgpt-") || (model.starts_with("gpt-") && !model.starts_with("gpt-oss"));
    if own { "max_completion_tokens" } else { "max_tokens" }
}

/// Writes the request as the body of `POST /v1/chat/completions`. A stream is asked to report its usage.
pub fn request_to_wire(request: &ModelRequest, stream: bool) -> Value {
    let mut body = Map::new();
    body.insert("model".into(), json!(request.model));
    let mut messages = Vec::new();
    if !request.system.is_empty() {
        messages.push(json!({"role": "system", "content": request.system}));
    }
    messages.extend(request.messages.iter().flat_map(message_to_wire));
    body.insert("messages".into(), Value::Array(messages));
    if !request.tools.is_empty() {
        let tool = |tool: &ToolSpec| json!({"type": "function", "function": {"name": tool.name, "description": tool.description, "parameters": tool.input_schema}});
        body.insert("tools".into(), request.tools.iter().map(tool).collect());
    }
    body.insert(output_limit_field(&request.model).into(), json!(request.max_output_tokens));
    if let Some(schema) = &request.output_schema {
        body.insert("response_format".into(), json!({"type": "json_schema", "json_schema": schema::for_openai(schema)}));
    }
    if stream {
        body.insert("stream".into(), json!(true));
        body.insert("stream_options".into(), json!({"include_usage": true}));
    }
    body.extend(request.extra.clone());
    Value::Object(body)
}

/// Reads a request body. What our types cannot hold stays in `extra` as it was.
///
/// # Errors
/// A sentence that names the field that has a wrong form.
pub fn request_from_wire(body: &Map<String, Value>) -> Result<ModelRequest, String> {
    let mut extra = body.clone();
    let model = extra.shift_remove("model");
    let model = model.as_ref().and_then(Value::as_str).ok_or("`model` must be a text")?.to_owned();
    let limit = extra.shift_remove(output_limit_field(&model));
    let limit = limit.as_ref().or_else(|| extra.get("max_tokens")).or_else(|| extra.get("max_completion_tokens"));
    let max_output_tokens = limit.and_then(Value::as_u64).and_then(|max| u32::try_from(max).ok()).unwrap_or(MODEL_OUTPUT_TOKENS_DEFAULT);
    extra.shift_remove("stream");
    extra.shift_remove("stream_options");
    let wire = extra.shift_remove("messages");
    let wire = wire.as_ref().and_then(Value::as_array).ok_or("`messages` must be an array")?;
    let mut system = Vec::new();
    let mut messages: Vec<Message> = Vec::new();
    for message in wire {
        match message.get("role").and_then(Value::as_str) {
            Some("system" | "developer") => system.push(content_text(&message["content"])),
            Some("tool") => add_result(&mut messages, tool_result_from_wire(message)),
            Some("user") => add_user(&mut messages, message),
            Some("assistant") => messages.push(message_from_wire(message)?),
            other => return Err(format!("the role of a message is not known: {other:?}")),
        }
    }
    let tools = extra.shift_remove("tools").unwrap_or(Value::Null);
    let specs: Vec<Option<ToolSpec>> = tools.as_array().into_iter().flatten().map(tool_from_wire).collect();
    if specs.iter().any(Option::is_none) {
        extra.insert("tools".into(), tools);
    }
    Ok(ModelRequest {
        model,
        system: system.join("\n"),
        messages,
        tools: specs.into_iter().flatten().collect(),
        max_output_tokens,
        output_schema: None,
        extra,
    })
}

fn tool_from_wire(tool: &Value) -> Option<ToolSpec> {
    let function = tool.get("function")?;
    let plain = others(tool, &["type", "function"]).is_empty() && others(function, &["name", "description", "parameters"]).is_empty();
    let text = |name: &str| function.get(name).and_then(Value::as_str).map(str::to_owned);
    let parameters = function.get("parameters").cloned().unwrap_or_else(|| json!({"type": "object"}));
    plain.then_some(ToolSpec { name: text("name")?, description: text("description").unwrap_or_default(), input_schema: parameters })
}

fn tool_result_from_wire(message: &Value) -> Block {
    let id = message.get("tool_call_id").and_then(Value::as_str).unwrap_or_default().to_owned();
    Block::tool_result(id, content_text(&message["content"]), false)
}

/// Results of one turn belong to one user message.
fn add_result(messages: &mut Vec<Message>, result: Block) {
    match messages.last_mut() {
        Some(last) if last.role == Role::User => last.content.push(result),
        _ => messages.push(Message::new(Role::User, vec![result])),
    }
}

/// A user's message that follows results belongs to them.
fn add_user(messages: &mut Vec<Message>, message: &Value) {
    let content = content_from_wire(&message["content"]);
    let extra = others(message, &["role", "content"]);
    match messages.last_mut() {
        Some(last) if last.role == Role::User && last.content.iter().all(|block| matches!(block, Block::ToolResult { .. })) => {
            last.content.extend(content);
            last.extra = extra;
        }
        _ => messages.push(Message { extra, ..Message::new(Role::User, content) }),
    }
}

fn content_text(content: &Value) -> String {
    content.as_str().map_or_else(|| texts(content).join("\n"), str::to_owned)
}

/// Writes a message; one of ours may be several here, because results of tools are messages of their own.
pub fn message_to_wire(message: &Message) -> Vec<Value> {
    let mut wire = Vec::new();
    let (mut parts, mut calls) = (Vec::new(), Vec::new());
    for block in &message.content {
        match block {
            Block::ToolResult { id, content, media, .. } => {
                wire.push(json!({"role": "tool", "tool_call_id": id, "content": content}));
                // A tool's message holds only text; what it shows comes in the user's message behind the results.
                if !media.is_empty() {
                    parts.push(json!({"type": "text", "text": format!("Shown by the tool call {id}:")}));
                    parts.extend(media.iter().map(media_to_wire));
                }
            }
            Block::Media { media } => parts.push(media_to_wire(media)),
            Block::ToolUse { id, name, input, extra } => calls.push(call_to_wire(id, name, input, extra)),
            Block::Text { text, extra } => parts.push(with(json!({"type": "text", "text": text}), extra)),
            Block::Other { value } => parts.push(value.clone()),
        }
    }
    match message.role {
        Role::User if parts.is_empty() => {}
        Role::User => wire.push(with(json!({"role": "user", "content": content_to_wire(parts)}), &message.extra)),
        Role::Assistant => {
            let content = if parts.is_empty() && !calls.is_empty() { Value::Null } else { content_to_wire(parts) };
            let mut value = json!({"role": "assistant", "content": content});
            if !calls.is_empty() {
                value["tool_calls"] = Value::Array(calls);
            }
            wire.push(with(value, &message.extra));
        }
    }
    wire
}

/// A picture or document as an address that holds it.
pub(crate) fn data_url(media: &Media) -> String {
    format!("data:{};base64,{}", media.media_type, media.data)
}

fn media_to_wire(media: &Media) -> Value {
    let data = data_url(media);
    if media.is_pdf() {
        json!({"type": "file", "file": {"filename": media.name.as_deref().unwrap_or("document.pdf"), "file_data": data}})
    } else {
        json!({"type": "image_url", "image_url": {"url": data}})
    }
}

/// One plain text is a string, anything else an array of parts.
fn content_to_wire(mut parts: Vec<Value>) -> Value {
    let plain = |part: &Value| part["type"] == "text" && part.as_object().is_some_and(|fields| fields.len() == 2);
    match parts.len() {
        0 => json!(""),
        1 if plain(&parts[0]) => parts[0]["text"].take(),
        _ => Value::Array(parts),
    }
}

fn call_to_wire(id: &str, name: &str, input: &Value, extra: &Map<String, Value>) -> Value {
    let arguments = input_object(input).to_string();
    with(json!({"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}), extra)
}

fn with(mut value: Value, extra: &Map<String, Value>) -> Value {
    if let Some(fields) = value.as_object_mut() {
        fields.extend(extra.clone());
    }
    value
}

/// Reads an assistant's message: text first, then its calls; unknown fields (`reasoning_content`, for example) are kept.
///
/// # Errors
/// A sentence that names what is missing.
pub fn message_from_wire(message: &Value) -> Result<Message, String> {
    if !message.is_object() {
        return Err("a message must be an object".to_owned());
    }
    let mut content = content_from_wire(&message["content"]);
    for call in message.get("tool_calls").and_then(Value::as_array).into_iter().flatten() {
        content.push(call_from_wire(call).ok_or("a tool call must have an id and a function with a name")?);
    }
    Ok(Message { extra: others(message, &["role", "content", "tool_calls"]), ..Message::new(Role::Assistant, content) })
}

fn content_from_wire(content: &Value) -> Vec<Block> {
    match content {
        Value::String(text) if text.is_empty() => Vec::new(),
        Value::String(text) => vec![Block::text(text)],
        Value::Array(parts) => parts.iter().map(part_from_wire).collect(),
        _ => Vec::new(),
    }
}

fn part_from_wire(part: &Value) -> Block {
    match (part.get("type").and_then(Value::as_str), part.get("text").and_then(Value::as_str)) {
        (Some("text"), Some(text)) => Block::Text { text: text.to_owned(), extra: others(part, &["type", "text"]) },
        _ => Block::Other { value: part.clone() },
    }
}

fn call_from_wire(call: &Value) -> Option<Block> {
    let function = call.get("function")?;
    let id = call.get("id")?.as_str()?.to_owned();
    let name = function.get("name")?.as_str()?.to_owned();
    let input = match function.get("arguments") {
        Some(Value::String(text)) => parse_arguments(text),
        Some(Value::Null) | None => json!({}),
        Some(value) => value.clone(),
    };
    Some(Block::ToolUse { id, name, input, extra: others(call, &["id", "type", "function", "index"]) })
}

/// Nothing is an empty object; text that is not a JSON object stays text.
pub(crate) fn parse_arguments(text: &str) -> Value {
    if text.trim().is_empty() {
        return json!({});
    }
    match serde_json::from_str(text) {
        Ok(value @ Value::Object(_)) => value,
        _ => Value::String(text.to_owned()),
    }
}
