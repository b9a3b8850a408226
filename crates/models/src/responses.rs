//! The OpenAI Responses format, without anything that would be kept at the provider.

use aedile_core::limits::MODEL_OUTPUT_TOKENS_DEFAULT;
use aedile_core::model::{Block, DeltaSink, Media, Message, ModelError, ModelProvider, ModelRequest, ModelResponse, Role, ToolSpec};
use async_trait::async_trait;
use serde_json::{Map, Value, json};

use crate::anthropic::{input_object, others, texts};
use crate::call::Endpoint;
use crate::format::ApiFormat;
use crate::openai::{data_url, parse_arguments};
use crate::responses_stream::Reader;
use crate::{openai, portable, schema};

/// The field of a text's extras that holds the other fields of the message item that it came in.
const ITEM: &str = "item";

/// A provider that speaks OpenAI Responses.
#[derive(Clone)]
pub struct OpenAiResponses {
    endpoint: Endpoint,
}

impl OpenAiResponses {
    /// Speaks to the given endpoint.
    pub fn new(endpoint: Endpoint) -> Self {
        Self { endpoint }
    }
}

#[async_trait]
impl ModelProvider for OpenAiResponses {
    async fn stream(&self, request: &ModelRequest, sink: &mut dyn DeltaSink) -> Result<ModelResponse, ModelError> {
        let request = &portable::for_format(request, ApiFormat::Responses);
        let body = request_to_wire(request, true);
        self.endpoint.ask((ApiFormat::Responses, &request.model), &body, Reader::default, sink).await
    }
}

/// Writes the request as the body of `POST /v1/responses`. Nothing is stored at the provider, so a model that reasons is asked for
/// its reasoning in encrypted form, to be sent back with the next request.
pub fn request_to_wire(request: &ModelRequest, stream: bool) -> Value {
    let mut body = Map::new();
    body.insert("model".into(), json!(request.model));
    if !request.system.is_empty() {
        body.insert("instructions".into(), json!(request.system));
    }
    body.insert("input".into(), request.messages.iter().flat_map(message_to_wire).collect());
    if !request.tools.is_empty() {
        let tool = |tool: &ToolSpec| json!({"type": "function", "name": tool.name, "description": tool.description, "parameters": tool.input_schema, "strict": false});
        body.insert("tools".into(), request.tools.iter().map(tool).collect());
    }
    body.insert("max_output_tokens".into(), json!(request.max_output_tokens));
    if let Some(schema) = &request.output_schema {
        let mut format = schema::for_openai(schema);
        format["type"] = json!("json_schema");
        body.insert("text".into(), json!({"format": format}));
    }
    body.insert("store".into(), json!(false));
    if openai::reasons(&request.model) {
        body.insert("include".into(), json!(["reasoning.encrypted_content"]));
    }
    if stream {
        body.insert("stream".into(), json!(true));
    }
    body.extend(request.extra.clone());
    Value::Object(body)
}

/// Writes a message; one of ours may be several items here.
pub fn message_to_wire(message: &Message) -> Vec<Value> {
    let mut items: Vec<Value> = Vec::new();
    let mut parts = Vec::new();
    for block in &message.content {
        match block {
            Block::ToolResult { id, content, media, .. } => {
                items.push(json!({"type": "function_call_output", "call_id": id, "output": result_output(content, media)}));
            }
            Block::ToolUse { id, name, input, extra } => {
                let call = json!({"type": "function_call", "call_id": id, "name": name, "arguments": input_object(input).to_string()});
                items.push(with(call, extra));
            }
            Block::Text { text, extra } if message.role == Role::Assistant => say(&mut items, text, extra),
            Block::Text { text, .. } => parts.push(json!({"type": "input_text", "text": text})),
            Block::Media { media } => parts.push(media_to_wire(media)),
            Block::Other { value } if message.role == Role::Assistant => items.push(value.clone()),
            Block::Other { value } => parts.push(value.clone()),
        }
    }
    if !parts.is_empty() {
        items.push(with(json!({"type": "message", "role": "user", "content": parts}), &message.extra));
    }
    items
}

/// What the model said. Texts of one message item become one again; a text that was not said in this format is a plain message.
fn say(items: &mut Vec<Value>, text: &str, extra: &Map<String, Value>) {
    let Some(item) = extra.get(ITEM).and_then(Value::as_object) else {
        return items.push(json!({"role": "assistant", "content": text}));
    };
    let mut part = json!({"type": "output_text", "text": text, "annotations": []});
    if let Some(fields) = part.as_object_mut() {
        fields.extend(extra.iter().filter(|(key, _)| *key != ITEM).map(|(key, value)| (key.clone(), value.clone())));
    }
    let same = items.last_mut().filter(|last| last["type"] == "message" && last.get("id").is_some() && last.get("id") == item.get("id"));
    match same.and_then(|last| last["content"].as_array_mut()) {
        Some(content) => content.push(part),
        None => items.push(with(json!({"type": "message", "role": "assistant", "content": [part]}), item)),
    }
}

fn result_output(text: &str, media: &[Media]) -> Value {
    if media.is_empty() {
        return json!(text);
    }
    let text = (!text.is_empty()).then(|| json!({"type": "input_text", "text": text}));
    text.into_iter().chain(media.iter().map(media_to_wire)).collect()
}

fn media_to_wire(media: &Media) -> Value {
    if media.is_pdf() {
        json!({"type": "input_file", "filename": media.name.as_deref().unwrap_or("document.pdf"), "file_data": data_url(media)})
    } else {
        json!({"type": "input_image", "detail": "auto", "image_url": data_url(media)})
    }
}

fn with(mut value: Value, extra: &Map<String, Value>) -> Value {
    if let Some(fields) = value.as_object_mut() {
        fields.extend(extra.clone());
    }
    value
}

/// Reads a request body. What our types cannot hold stays in `extra` as it was.
///
/// # Errors
/// A sentence that names the field that has a wrong form.
pub fn request_from_wire(body: &Map<String, Value>) -> Result<ModelRequest, String> {
    let mut extra = body.clone();
    let mut take = |name: &str| extra.shift_remove(name).unwrap_or(Value::Null);
    let model = take("model").as_str().ok_or("`model` must be a text")?.to_owned();
    let max_output_tokens =
        take("max_output_tokens").as_u64().and_then(|max| u32::try_from(max).ok()).unwrap_or(MODEL_OUTPUT_TOKENS_DEFAULT);
    take("stream");
    let mut system: Vec<String> = take("instructions").as_str().map(str::to_owned).into_iter().collect();
    let messages = match take("input") {
        Value::String(text) => vec![Message::user(text)],
        Value::Array(items) => messages_from_wire(items, &mut system)?,
        _ => return Err("`input` must be a text or an array".to_owned()),
    };
    let tools = extra.shift_remove("tools").unwrap_or(Value::Null);
    let specs: Vec<Option<ToolSpec>> = tools.as_array().into_iter().flatten().map(tool_from_wire).collect();
    if specs.iter().any(Option::is_none) {
        extra.insert("tools".into(), tools);
    }
    let tools = specs.into_iter().flatten().collect();
    Ok(ModelRequest { model, system: system.join("\n"), messages, tools, max_output_tokens, output_schema: None, extra })
}

fn tool_from_wire(tool: &Value) -> Option<ToolSpec> {
    let text = |name: &str| tool.get(name).and_then(Value::as_str).map(str::to_owned);
    if tool.get("type")? != "function" {
        return None;
    }
    let input_schema = tool.get("parameters").filter(|schema| schema.is_object()).cloned().unwrap_or_else(|| json!({"type": "object"}));
    Some(ToolSpec { name: text("name")?, description: text("description").unwrap_or_default(), input_schema })
}

/// Items that follow each other and belong to one speaker are one message.
fn messages_from_wire(items: Vec<Value>, system: &mut Vec<String>) -> Result<Vec<Message>, String> {
    let mut messages: Vec<Message> = Vec::new();
    for item in items {
        let (role, blocks) = match (item.get("type").and_then(Value::as_str), item.get("role").and_then(Value::as_str)) {
            (None | Some("message"), Some("system" | "developer")) => {
                system.push(item["content"].as_str().map_or_else(|| texts(&item["content"]).join("\n"), str::to_owned));
                continue;
            }
            (None | Some("message"), Some("user")) => (Role::User, user_content(&item["content"])),
            (None | Some("message"), Some("assistant")) | (Some("function_call" | "reasoning"), _) => {
                (Role::Assistant, item_from_wire(item))
            }
            (Some("function_call_output"), _) => {
                let id = item["call_id"].as_str().unwrap_or_default();
                let output = item["output"].as_str().map_or_else(|| texts(&item["output"]).join("\n"), str::to_owned);
                (Role::User, vec![Block::tool_result(id, output, false)])
            }
            (Some(kind), _) if kind.ends_with("_output") => (Role::User, vec![Block::Other { value: item }]),
            (Some(_), None) => (Role::Assistant, vec![Block::Other { value: item }]),
            (_, role) => return Err(format!("the role of an item is not known: {role:?}")),
        };
        match messages.last_mut() {
            Some(last) if last.role == role => last.content.extend(blocks),
            _ => messages.push(Message::new(role, blocks)),
        }
    }
    Ok(messages)
}

fn user_content(content: &Value) -> Vec<Block> {
    let part = |part: &Value| match part.get("text").and_then(Value::as_str) {
        Some(text) => Block::text(text),
        None => Block::Other { value: part.clone() },
    };
    match content {
        Value::String(text) => vec![Block::text(text)],
        content => content.as_array().into_iter().flatten().map(part).collect(),
    }
}

/// The blocks of one item of an answer.
pub(crate) fn item_from_wire(item: Value) -> Vec<Block> {
    let text = |name: &str| item.get(name).and_then(Value::as_str);
    match (item.get("type").and_then(Value::as_str), text("call_id"), text("name")) {
        (Some("function_call"), Some(id), Some(name)) => {
            let input = parse_arguments(text("arguments").unwrap_or_default());
            let extra = others(&item, &["type", "call_id", "name", "arguments"]);
            vec![Block::ToolUse { id: id.to_owned(), name: name.to_owned(), input, extra }]
        }
        (None | Some("message"), ..) => said(&item),
        _ => vec![Block::Other { value: item }],
    }
}

fn said(item: &Value) -> Vec<Block> {
    let fields = others(item, &["type", "role", "content"]);
    let block = |part: &Value| {
        let text = part.get("text").or_else(|| part.get("refusal")).and_then(Value::as_str)?.to_owned();
        let mut extra = others(part, &["type", "text", "refusal", "logprobs"]);
        extra.retain(|_, value| !value.as_array().is_some_and(Vec::is_empty));
        if !fields.is_empty() {
            extra.insert(ITEM.to_owned(), Value::Object(fields.clone()));
        }
        Some(Block::Text { text, extra })
    };
    match &item["content"] {
        Value::String(text) => vec![Block::text(text)],
        content => content.as_array().into_iter().flatten().filter_map(block).collect(),
    }
}
