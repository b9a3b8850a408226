//! The Gemini format (`generateContent`).

use std::collections::HashMap;

use aedile_core::limits::MODEL_OUTPUT_TOKENS_DEFAULT;
use aedile_core::model::{Block, DeltaSink, Media, Message, ModelError, ModelProvider, ModelRequest, ModelResponse, Role, ToolSpec};
use async_trait::async_trait;
use serde_json::{Map, Value, json};

use crate::anthropic::{input_object, others, texts};
use crate::call::Endpoint;
use crate::format::ApiFormat;
use crate::gemini_stream::Reader;
use crate::portable;

/// The signature that the vendor gives for calls which another model made: newer models refuse calls of the current turn without one.
const NO_SIGNATURE: &str = "skip_thought_signature_validator";
/// The part's field that must come back exactly as it came.
const SIGNATURE: &str = "thoughtSignature";

/// A provider that speaks Gemini.
#[derive(Clone)]
pub struct Gemini {
    endpoint: Endpoint,
}

impl Gemini {
    /// Speaks to the given endpoint.
    pub fn new(endpoint: Endpoint) -> Self {
        Self { endpoint }
    }
}

#[async_trait]
impl ModelProvider for Gemini {
    async fn stream(&self, request: &ModelRequest, sink: &mut dyn DeltaSink) -> Result<ModelResponse, ModelError> {
        let request = &portable::for_format(request, ApiFormat::Gemini);
        let body = request_to_wire(request);
        self.endpoint.ask((ApiFormat::Gemini, &request.model), &body, || Reader::new(self.endpoint.entropy.clone()), sink).await
    }
}

/// Writes the request as the body of `POST /v1beta/models/MODEL:generateContent`; the model's name belongs into the path.
pub fn request_to_wire(request: &ModelRequest) -> Value {
    let mut body = Map::new();
    let names = call_names(&request.messages);
    let contents = request.messages.iter().map(|message| message_to_wire(message, &names));
    let contents: Vec<Value> = contents.filter(|content| content["parts"].as_array().is_some_and(|parts| !parts.is_empty())).collect();
    body.insert("contents".into(), Value::Array(contents));
    if !request.system.is_empty() {
        body.insert("systemInstruction".into(), json!({"parts": [{"text": request.system}]}));
    }
    if !request.tools.is_empty() {
        let tool = |tool: &ToolSpec| json!({"name": tool.name, "description": tool.description, "parametersJsonSchema": tool.input_schema});
        let declared: Vec<Value> = request.tools.iter().map(tool).collect();
        body.insert("tools".into(), json!([{"functionDeclarations": declared}]));
    }
    let mut config = json!({"maxOutputTokens": request.max_output_tokens});
    if let Some(schema) = &request.output_schema {
        config["responseMimeType"] = json!("application/json");
        config["responseJsonSchema"] = schema.clone();
    }
    body.insert("generationConfig".into(), config);
    body.extend(request.extra.clone());
    Value::Object(body)
}

/// The names of the calls: an answer to a call names its function.
pub(crate) fn call_names(messages: &[Message]) -> HashMap<String, String> {
    let call = |block: &Block| match block {
        Block::ToolUse { id, name, .. } => Some((id.clone(), name.clone())),
        _ => None,
    };
    messages.iter().flat_map(|message| &message.content).filter_map(call).collect()
}

/// Writes a message.
pub fn message_to_wire(message: &Message, names: &HashMap<String, String>) -> Value {
    let mut parts = Vec::new();
    let mut signed = false;
    for block in &message.content {
        match block {
            Block::Text { text, extra } if !text.is_empty() => parts.push(with(json!({"text": text}), extra)),
            Block::Text { .. } => {}
            Block::ToolUse { id, name, input, extra } => {
                let mut part = with(json!({"functionCall": {"id": id, "name": name, "args": input_object(input)}}), extra);
                // Only the first of several calls made at once bears a signature.
                if !signed && message.origin.as_deref().is_none_or(|origin| !origin.starts_with("gemini/")) {
                    part[SIGNATURE] = json!(NO_SIGNATURE);
                }
                signed = true;
                parts.push(part);
            }
            Block::ToolResult { id, content, is_error, media } => {
                let name = names.get(id).map_or("unknown", String::as_str);
                let field = if *is_error { "error" } else { "output" };
                parts.push(json!({"functionResponse": {"id": id, "name": name, "response": {field: content}}}));
                parts.extend(media.iter().map(media_to_wire));
            }
            Block::Media { media } => parts.push(media_to_wire(media)),
            Block::Other { value } => parts.push(value.clone()),
        }
    }
    let role = match message.role {
        Role::User => "user",
        Role::Assistant => "model",
    };
    with(json!({"role": role, "parts": parts}), &message.extra)
}

fn media_to_wire(media: &Media) -> Value {
    json!({"inlineData": {"mimeType": media.media_type, "data": media.data}})
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
pub fn request_from_wire(model: &str, body: &Map<String, Value>) -> Result<ModelRequest, String> {
    let mut extra = body.clone();
    let contents = extra.shift_remove("contents").unwrap_or(Value::Null);
    let messages = match contents {
        Value::Array(contents) => contents.into_iter().map(message_from_wire).collect::<Result<Vec<_>, _>>()?,
        _ => return Err("`contents` must be an array".to_owned()),
    };
    let system = extra.shift_remove("systemInstruction").map(|system| texts(&system["parts"]).join("\n")).unwrap_or_default();
    let tools: Vec<ToolSpec> = body.get("tools").and_then(Value::as_array).into_iter().flatten().flat_map(declared).collect();
    if !tools.is_empty() {
        extra.shift_remove("tools");
    }
    let limit = body.get("generationConfig").and_then(|config| config.get("maxOutputTokens")).and_then(Value::as_u64);
    let max_output_tokens = limit.and_then(|max| u32::try_from(max).ok()).unwrap_or(MODEL_OUTPUT_TOKENS_DEFAULT);
    Ok(ModelRequest { model: model.to_owned(), system, messages, tools, max_output_tokens, output_schema: None, extra })
}

fn declared(tool: &Value) -> Vec<ToolSpec> {
    let spec = |function: &Value| {
        let text = |name: &str| function.get(name).and_then(Value::as_str).map(str::to_owned);
        let schema = function.get("parametersJsonSchema").or_else(|| function.get("parameters"));
        let input_schema = schema.cloned().unwrap_or_else(|| json!({"type": "object"}));
        Some(ToolSpec { name: text("name")?, description: text("description").unwrap_or_default(), input_schema })
    };
    tool.get("functionDeclarations").and_then(Value::as_array).into_iter().flatten().filter_map(spec).collect()
}

/// Reads a message of a request.
fn message_from_wire(mut content: Value) -> Result<Message, String> {
    let role = match content.get("role").and_then(Value::as_str) {
        Some("user" | "function") | None => Role::User,
        Some("model") => Role::Assistant,
        Some(other) => return Err(format!("the role of a content must be `user` or `model`, not {other:?}")),
    };
    let parts = content.get_mut("parts").map(Value::take).unwrap_or_default();
    let parts = parts.as_array().cloned().unwrap_or_default();
    let extra = others(&content, &["role", "parts"]);
    Ok(Message { extra, ..Message::new(role, parts.into_iter().map(|part| part_from_wire(part, "")).collect()) })
}

/// Reads a part; a call without an id gets the given one.
pub(crate) fn part_from_wire(part: Value, id: &str) -> Block {
    let text = |value: &Value, name: &str| value.get(name).and_then(Value::as_str).map(str::to_owned);
    if let (Some(said), false) = (text(&part, "text"), part.get("thought") == Some(&Value::Bool(true))) {
        return match said.is_empty() && part.get(SIGNATURE).is_some() {
            true => Block::Other { value: part },
            false => Block::Text { text: said, extra: others(&part, &["text", "thought"]) },
        };
    }
    if let Some((call, name)) = part.get("functionCall").and_then(|call| Some((call, text(call, "name")?))) {
        let id = text(call, "id").filter(|id| !id.is_empty()).unwrap_or_else(|| id.to_owned());
        let input = match call.get("args") {
            None | Some(Value::Null) => json!({}),
            Some(Value::Object(args)) => Value::Object(args.clone()),
            Some(other) => Value::String(other.to_string()),
        };
        return Block::ToolUse { id, name, input, extra: others(&part, &["functionCall"]) };
    }
    if let Some(answer) = part.get("functionResponse") {
        let response = &answer["response"];
        let content = text(response, "output").or_else(|| text(response, "error")).unwrap_or_else(|| response.to_string());
        return Block::tool_result(text(answer, "id").unwrap_or_default(), content, response.get("error").is_some());
    }
    Block::Other { value: part }
}
