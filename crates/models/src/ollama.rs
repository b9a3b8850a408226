//! Ollama's own format (`/api/chat`): one JSON object a line.

use std::sync::Arc;

use aedile_core::Entropy;
use aedile_core::limits::MODEL_OUTPUT_TOKENS_DEFAULT;
use aedile_core::model::{
    Block, DeltaSink, Media, Message, ModelDelta, ModelError, ModelProvider, ModelRequest, ModelResponse, ModelStop, Role, ToolSpec,
};
use async_trait::async_trait;
use serde_json::{Map, Value, json};

use crate::anthropic::{input_object, others};
use crate::call::{AnswerReader, Endpoint, Framing, Problem, ProviderError};
use crate::format::ApiFormat;
use crate::gemini::call_names;
use crate::meter::UsageReader;
use crate::openai::parse_arguments;
use crate::openai_stream::new_id;
use crate::portable;
use crate::sse::SseEvent;

/// A provider that speaks Ollama's own format.
#[derive(Clone)]
pub struct Ollama {
    endpoint: Endpoint,
    context_tokens: u64,
}

impl Ollama {
    /// Speaks to the given endpoint and asks for a window of so many tokens. Without being asked the server takes a small one and drops
    /// the beginning of longer conversations in silence.
    pub fn new(endpoint: Endpoint, context_tokens: u64) -> Self {
        Self { endpoint, context_tokens }
    }
}

#[async_trait]
impl ModelProvider for Ollama {
    async fn stream(&self, request: &ModelRequest, sink: &mut dyn DeltaSink) -> Result<ModelResponse, ModelError> {
        let request = &portable::for_format(request, ApiFormat::Ollama);
        let mut body = request_to_wire(request, true);
        if let Some(options) = body["options"].as_object_mut() {
            options.entry("num_ctx").or_insert(json!(self.context_tokens));
        }
        self.endpoint.ask((ApiFormat::Ollama, &request.model), &body, || Reader::new(self.endpoint.entropy.clone()), sink).await
    }
}

/// Writes the request as the body of `POST /api/chat`.
pub fn request_to_wire(request: &ModelRequest, stream: bool) -> Value {
    let mut body = Map::new();
    body.insert("model".into(), json!(request.model));
    let mut messages = Vec::new();
    if !request.system.is_empty() {
        messages.push(json!({"role": "system", "content": request.system}));
    }
    let names = call_names(&request.messages);
    let name_of = |id: &str| names.get(id).map_or("unknown", String::as_str).to_owned();
    messages.extend(request.messages.iter().flat_map(|message| message_to_wire(message, &name_of)));
    body.insert("messages".into(), Value::Array(messages));
    if !request.tools.is_empty() {
        let tool = |tool: &ToolSpec| json!({"type": "function", "function": {"name": tool.name, "description": tool.description, "parameters": tool.input_schema}});
        body.insert("tools".into(), request.tools.iter().map(tool).collect());
    }
    if let Some(schema) = &request.output_schema {
        body.insert("format".into(), schema.clone());
    }
    body.insert("stream".into(), json!(stream));
    body.insert("options".into(), json!({"num_predict": request.max_output_tokens}));
    body.extend(request.extra.clone());
    Value::Object(body)
}

/// Writes a message; one of ours may be several here, because results of tools are messages of their own.
fn message_to_wire(message: &Message, name_of: &dyn Fn(&str) -> String) -> Vec<Value> {
    let (mut wire, mut calls, mut images, mut text) = (Vec::new(), Vec::new(), Vec::new(), String::new());
    let mut say = |line: &str| {
        if !text.is_empty() {
            text.push('\n');
        }
        text.push_str(line);
    };
    for block in &message.content {
        match block {
            Block::Text { text, .. } => say(text),
            Block::ToolUse { id, name, input, .. } => {
                calls.push(json!({"id": id, "function": {"name": name, "arguments": input_object(input)}}));
            }
            Block::ToolResult { id, content, media, .. } => {
                let mut answer = json!({"role": "tool", "tool_name": name_of(id), "tool_call_id": id, "content": content});
                let (shown, told) = pictures(media);
                told.iter().for_each(|line| say(line));
                if !shown.is_empty() {
                    answer["images"] = json!(shown);
                }
                wire.push(answer);
            }
            Block::Media { media } => {
                let (shown, told) = pictures(std::slice::from_ref(media));
                images.extend(shown);
                told.iter().for_each(|line| say(line));
            }
            Block::Other { .. } => {}
        }
    }
    let role = if message.role == Role::User { "user" } else { "assistant" };
    let mut said = json!({"role": role, "content": text});
    let silent = text.is_empty() && images.is_empty() && calls.is_empty();
    if !images.is_empty() {
        said["images"] = json!(images);
    }
    if !calls.is_empty() {
        said["tool_calls"] = Value::Array(calls);
    }
    if let Some(fields) = said.as_object_mut() {
        fields.extend(message.extra.clone());
    }
    if !silent {
        wire.push(said);
    }
    wire
}

/// The pictures, and a word for each document: the format knows only pictures.
fn pictures(media: &[Media]) -> (Vec<&str>, Vec<String>) {
    let shown = media.iter().filter(|media| !media.is_pdf()).map(|media| media.data.as_str()).collect();
    let name = |media: &Media| format!("[{}: this model cannot be shown PDF documents]", media.name.as_deref().unwrap_or("document.pdf"));
    (shown, media.iter().filter(|media| media.is_pdf()).map(name).collect())
}

/// Reads a request body. What our types cannot hold stays in `extra` as it was.
///
/// # Errors
/// A sentence that names the field that has a wrong form.
pub fn request_from_wire(body: &Map<String, Value>) -> Result<ModelRequest, String> {
    let mut extra = body.clone();
    let model = body.get("model").and_then(Value::as_str).ok_or("`model` must be a text")?.to_owned();
    let wire = body.get("messages").and_then(Value::as_array).ok_or("`messages` must be an array")?;
    let (mut system, mut messages): (Vec<String>, Vec<Message>) = (Vec::new(), Vec::new());
    for (at, message) in wire.iter().enumerate() {
        let text = message.get("content").and_then(Value::as_str).unwrap_or_default();
        let (role, blocks) = match message.get("role").and_then(Value::as_str) {
            Some("system") => {
                system.push(text.to_owned());
                continue;
            }
            Some("user") => (Role::User, vec![Block::text(text)]),
            Some("tool") => {
                let id = message.get("tool_call_id").and_then(Value::as_str).unwrap_or_default();
                (Role::User, vec![Block::tool_result(id, text, false)])
            }
            Some("assistant") => (Role::Assistant, said(message, |number| format!("call_{at}_{number}"))),
            other => return Err(format!("the role of a message is not known: {other:?}")),
        };
        match messages.last_mut() {
            Some(last) if last.role == role && role == Role::User => last.content.extend(blocks),
            _ => messages.push(Message::new(role, blocks)),
        }
    }
    let spec = |tool: &Value| {
        let function = tool.get("function")?;
        let text = |name: &str| function.get(name).and_then(Value::as_str).map(str::to_owned);
        let input_schema = function.get("parameters").cloned().unwrap_or_else(|| json!({"type": "object"}));
        Some(ToolSpec { name: text("name")?, description: text("description").unwrap_or_default(), input_schema })
    };
    let tools = body.get("tools").and_then(Value::as_array).into_iter().flatten().filter_map(spec).collect();
    let limit = body.get("options").and_then(|options| options.get("num_predict")).and_then(Value::as_u64);
    let max_output_tokens = limit.and_then(|max| u32::try_from(max).ok()).unwrap_or(MODEL_OUTPUT_TOKENS_DEFAULT);
    for name in ["model", "messages", "tools", "stream"] {
        extra.shift_remove(name);
    }
    Ok(ModelRequest { model, system: system.join("\n"), messages, tools, max_output_tokens, output_schema: None, extra })
}

/// What the model said: text, then calls; a call without an id gets one.
fn said(message: &Value, id: impl Fn(usize) -> String) -> Vec<Block> {
    let text = message.get("content").and_then(Value::as_str).filter(|text| !text.is_empty());
    let mut blocks: Vec<Block> = text.map(Block::text).into_iter().collect();
    for (number, call) in message.get("tool_calls").and_then(Value::as_array).into_iter().flatten().enumerate() {
        let Some(name) = call.pointer("/function/name").and_then(Value::as_str) else { continue };
        let input = match call.pointer("/function/arguments") {
            Some(Value::Object(fields)) => Value::Object(fields.clone()),
            Some(Value::String(text)) => parse_arguments(text),
            None | Some(Value::Null) => json!({}),
            Some(other) => Value::String(other.to_string()),
        };
        let id = call.get("id").and_then(Value::as_str).filter(|id| !id.is_empty()).map_or_else(|| id(number), str::to_owned);
        blocks.push(Block::ToolUse { id, name: name.to_owned(), input, extra: Map::new() });
    }
    blocks
}

/// Collects one answer.
struct Reader {
    entropy: Arc<dyn Entropy>,
    text: String,
    thinking: String,
    calls: Vec<Value>,
    stop: Option<String>,
    begun: bool,
    usage: UsageReader,
}

impl Reader {
    fn new(entropy: Arc<dyn Entropy>) -> Self {
        let usage = UsageReader::new(ApiFormat::Ollama);
        Self { entropy, text: String::new(), thinking: String::new(), calls: Vec::new(), stop: None, begun: false, usage }
    }
}

impl AnswerReader for Reader {
    const FRAMING: Framing = Framing::Lines;

    fn event(&mut self, event: &SseEvent, sink: &mut dyn DeltaSink) -> Result<(), Problem> {
        let line = serde_json::from_str(&event.data).map_err(|error| Problem::Protocol(format!("a line is broken JSON: {error}")))?;
        self.whole(line, sink)
    }

    fn whole(&mut self, answer: Value, sink: &mut dyn DeltaSink) -> Result<(), Problem> {
        if let Some(error) = ProviderError::from_json(&answer, None) {
            return Err(Problem::Provider(error));
        }
        self.usage.value(&answer);
        let piece = |pointer: &str| answer.pointer(pointer).and_then(Value::as_str).filter(|text| !text.is_empty());
        if let Some(text) = piece("/message/thinking") {
            self.thinking.push_str(text);
            sink.delta(ModelDelta::Thinking(text.to_owned()));
        }
        if let Some(text) = piece("/message/content") {
            self.text.push_str(text);
            sink.delta(ModelDelta::Text(text.to_owned()));
        }
        for call in answer.pointer("/message/tool_calls").and_then(Value::as_array).into_iter().flatten() {
            let name = call.pointer("/function/name").and_then(Value::as_str).unwrap_or_default().to_owned();
            sink.delta(ModelDelta::ToolStarted { name });
            self.calls.push(call.clone());
        }
        self.begun |= !self.thinking.is_empty() || !self.text.is_empty() || !self.calls.is_empty();
        if answer.get("done") == Some(&Value::Bool(true)) {
            self.stop = Some(answer.get("done_reason").and_then(Value::as_str).unwrap_or("stop").to_owned());
        }
        Ok(())
    }

    fn begun(&self) -> bool {
        self.begun
    }

    fn finish(self) -> Option<Result<ModelResponse, Problem>> {
        let reason = self.stop?;
        let message = json!({"content": self.text, "tool_calls": self.calls});
        let content = said(&message, |_| new_id(&*self.entropy));
        let called = content.iter().any(|block| matches!(block, Block::ToolUse { .. }));
        let stop = match reason.as_str() {
            "length" => ModelStop::MaxTokens,
            _ if called => ModelStop::ToolUse,
            "stop" => ModelStop::EndTurn,
            other => ModelStop::Other(other.to_owned()),
        };
        let mut message = Message::new(Role::Assistant, content);
        if !self.thinking.is_empty() {
            message.extra = others(&json!({"thinking": self.thinking}), &[]);
        }
        Some(Ok(ModelResponse { message, stop, usage: self.usage.usage() }))
    }
}
