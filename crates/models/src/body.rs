//! A request body that passes through a gateway: parsed once, understood as far as needed, written again.

use aedile_core::limits::{DOOR_BODY_BYTES_MAX, MODEL_OUTPUT_TOKENS_DEFAULT};
use aedile_core::media::media_tokens;
use serde_json::{Map, Value, json};

use crate::format::ApiFormat;
use crate::openai::output_limit_field;
use crate::prices::Terms;

/// Text of the provider's own that a request with tools adds. Anthropic's tool use guide lists 290 to 530 tokens by model.
const TOOLS_TOKENS: u64 = 600;
/// Framing of a request without tools.
const FRAME_TOKENS: u64 = 32;

/// Why a body is not a request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the request body cannot be used: {0}")]
pub struct BadBody(pub String);

/// What a gateway must know about a request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RequestFacts {
    /// The model that is asked for.
    pub model: String,
    /// The most output tokens of one answer; `None` when the request names no limit.
    pub max_output_tokens: Option<u64>,
    /// How many answers are asked for (`n` of OpenAI), each up to the limit.
    pub choices: u64,
    /// Whether a stream is asked for.
    pub stream: bool,
    /// Input tokens, estimated high; see [`estimate_tokens`].
    pub input_estimate: u64,
    /// Assistant messages in the conversation.
    pub assistant_messages: usize,
}

/// A parsed request body. Fields that we do not know are kept, in their order; of a field that is given twice the last
/// counts, for us and, since the body is written anew, for the provider.
#[derive(Clone, Debug)]
pub struct ModelBody {
    format: ApiFormat,
    fields: Map<String, Value>,
    facts: RequestFacts,
}

impl ModelBody {
    /// Parses a body that names its model and whether it wants a stream itself: every format but Gemini.
    ///
    /// # Errors
    /// [`BadBody`] when it is too large, not a JSON object, or a field that we rely on has a wrong type.
    pub fn parse(format: ApiFormat, bytes: &[u8]) -> Result<Self, BadBody> {
        let fields = object(bytes)?;
        let facts = facts(format, &fields).map_err(BadBody)?;
        Ok(Self { format, fields, facts })
    }

    /// Parses a body of Gemini, whose model and streaming stand in the path.
    ///
    /// # Errors
    /// As [`Self::parse`].
    pub fn parse_gemini(model: &str, stream: bool, bytes: &[u8]) -> Result<Self, BadBody> {
        let fields = object(bytes)?;
        let facts = gemini_facts(model, stream, &fields).map_err(BadBody)?;
        Ok(Self { format: ApiFormat::Gemini, fields, facts })
    }

    /// Returns what is known about the request, as it came; of the setters below only [`Self::set_model`] changes it.
    pub fn facts(&self) -> &RequestFacts {
        &self.facts
    }

    /// Returns the format.
    pub fn format(&self) -> ApiFormat {
        self.format
    }

    /// Returns all fields.
    pub fn fields(&self) -> &Map<String, Value> {
        &self.fields
    }

    /// Returns what the request asks for that changes its price.
    pub fn terms(&self) -> Terms {
        let text = |field: &str| self.fields.get(field).and_then(Value::as_str);
        let ordinary = ["auto", "default", "standard", "standard_only", "flex", "batch"];
        let tier = text("service_tier").filter(|tier| !ordinary.contains(tier));
        let speed = text("speed").filter(|speed| *speed != "standard");
        let geo = text("inference_geo").filter(|geo| *geo != "global").map(|_| "geo");
        let tiers = tier.into_iter().chain(speed).chain(geo).map(|tier| tier.chars().take(100).collect()).collect();
        Terms { tiers, long_cache: self.fields.values().any(keeps_long) }
    }

    /// Sets the model: in the body, or for a format whose model stands in the path in the facts alone.
    pub fn set_model(&mut self, model: &str) {
        model.clone_into(&mut self.facts.model);
        if self.format != ApiFormat::Gemini {
            self.fields.insert("model".to_owned(), json!(model));
        }
    }

    /// Returns the most output tokens of the whole request, after setting the default limit when it names none.
    pub fn limit_output(&mut self) -> u64 {
        let limit = self.facts.max_output_tokens.unwrap_or_else(|| {
            let (section, field) = match self.format {
                ApiFormat::Anthropic => (None, "max_tokens"),
                ApiFormat::OpenAi => (None, output_limit_field(&self.facts.model)),
                ApiFormat::Responses => (None, "max_output_tokens"),
                ApiFormat::Gemini => (Some("generationConfig"), "maxOutputTokens"),
                ApiFormat::Ollama => (Some("options"), "num_predict"),
            };
            let limit = json!(MODEL_OUTPUT_TOKENS_DEFAULT);
            match section {
                None => drop(self.fields.insert(field.to_owned(), limit)),
                Some(section) => match self.fields.entry(section).or_insert_with(|| json!({})) {
                    Value::Object(inner) => drop(inner.insert(field.to_owned(), limit)),
                    other => *other = json!({ field: limit }),
                },
            }
            u64::from(MODEL_OUTPUT_TOKENS_DEFAULT)
        });
        limit.saturating_mul(self.facts.choices)
    }

    /// Tells the provider to keep nothing, where it would keep the answer unless it is told.
    pub fn keep_nothing(&mut self) {
        if self.format == ApiFormat::Responses {
            self.fields.insert("store".to_owned(), json!(false));
        }
    }

    /// Makes an OpenAI stream report its usage; the client gets one more chunk with empty `choices`, which all clients accept.
    /// Nothing changes for other requests.
    pub fn want_usage(&mut self) {
        if self.format != ApiFormat::OpenAi || !self.facts.stream {
            return;
        }
        let options = self.fields.entry("stream_options").or_insert_with(|| json!({}));
        if !options.is_object() {
            *options = json!({});
        }
        options["include_usage"] = json!(true);
    }

    /// Writes the body.
    pub fn to_bytes(&self) -> Vec<u8> {
        let text = serde_json::to_string(&self.fields);
        // A map with text keys can always be written.
        text.unwrap_or_default().into_bytes()
    }
}

fn object(bytes: &[u8]) -> Result<Map<String, Value>, BadBody> {
    if bytes.len() > DOOR_BODY_BYTES_MAX {
        return Err(BadBody(format!("it has {} bytes, the limit is {DOOR_BODY_BYTES_MAX}", bytes.len())));
    }
    match serde_json::from_slice(bytes) {
        Ok(Value::Object(fields)) => Ok(fields),
        Ok(_) => Err(BadBody("it is not a JSON object".to_owned())),
        Err(error) => Err(BadBody(format!("it is not JSON: {error}"))),
    }
}

/// Whether a cache mark anywhere in it asks for another time than the shortest.
fn keeps_long(value: &Value) -> bool {
    match value {
        Value::Array(items) => items.iter().any(keeps_long),
        Value::Object(fields) => {
            let ttl = fields.get("ttl").and_then(Value::as_str);
            ttl.is_some_and(|ttl| !matches!(ttl, "5m" | "30m")) || fields.values().any(keeps_long)
        }
        _ => false,
    }
}

/// A whole number that may be absent.
fn number(place: Option<&Value>, name: &str) -> Result<Option<u64>, String> {
    match place {
        None | Some(Value::Null) => Ok(None),
        Some(value) => value.as_u64().map(Some).ok_or(format!("`{name}` must be a whole number")),
    }
}

fn facts(format: ApiFormat, fields: &Map<String, Value>) -> Result<RequestFacts, String> {
    let model = fields.get("model").and_then(Value::as_str).ok_or("`model` must be a text")?.to_owned();
    let field = if format == ApiFormat::Responses { "input" } else { "messages" };
    let messages = match fields.get(field) {
        Some(Value::Array(messages)) => messages.as_slice(),
        Some(Value::String(_)) if format == ApiFormat::Responses => &[],
        _ => return Err(format!("`{field}` must be an array")),
    };
    let number = |name: &str| number(fields.get(name), name);
    let max_output_tokens = match format {
        ApiFormat::Anthropic => number("max_tokens")?,
        // Should both be given, the larger one is assumed.
        ApiFormat::OpenAi => number("max_completion_tokens")?.max(number("max_tokens")?),
        ApiFormat::Responses => number("max_output_tokens")?,
        // A negative number means no limit.
        ApiFormat::Ollama => fields.get("options").and_then(|options| options.get("num_predict")).and_then(Value::as_u64),
        ApiFormat::Gemini => return Err("the model of a Gemini request stands in its path".to_owned()),
    };
    let choices = if format == ApiFormat::OpenAi { number("n")?.unwrap_or(1).max(1) } else { 1 };
    let stream = match fields.get("stream") {
        // Ollama streams unless it is told not to.
        None | Some(Value::Null) => format == ApiFormat::Ollama,
        Some(value) => value.as_bool().ok_or("`stream` must be true or false")?,
    };
    let said = |message: &&Value| message["role"] == "assistant" || message["type"] == "function_call";
    let assistant_messages = messages.iter().filter(said).count();
    let input_estimate = estimate_tokens(fields);
    Ok(RequestFacts { model, max_output_tokens, choices, stream, input_estimate, assistant_messages })
}

fn gemini_facts(model: &str, stream: bool, fields: &Map<String, Value>) -> Result<RequestFacts, String> {
    let contents = fields.get("contents").and_then(Value::as_array).ok_or("`contents` must be an array")?;
    let config = match fields.get("generationConfig") {
        None | Some(Value::Null) => None,
        Some(Value::Object(config)) => Some(config),
        Some(_) => return Err("`generationConfig` must be an object".to_owned()),
    };
    let number = |name: &str| number(config.and_then(|config| config.get(name)), name);
    Ok(RequestFacts {
        model: model.to_owned(),
        max_output_tokens: number("maxOutputTokens")?,
        choices: number("candidateCount")?.unwrap_or(1).max(1),
        stream,
        input_estimate: estimate_tokens(fields),
        assistant_messages: contents.iter().filter(|content| content["role"] == "model").count(),
    })
}

/// Estimates the input tokens of a body from its JSON text: two tokens for five ASCII bytes, one for two other bytes, a fixed
/// number for each image and each page of a PDF, and the provider's own text for tools.
///
/// Providers say that a token is about 3.5 (Anthropic's glossary) to 4 (OpenAI's tokenizer page) characters of English. Code, JSON
/// and the tokenizers of newer models need more tokens, so this assumes 2.5; it is meant to be too high.
pub fn estimate_tokens(fields: &Map<String, Value>) -> u64 {
    let mut count = Count::default();
    for (key, value) in fields {
        count.text(key);
        count.value(value);
    }
    let frame = if fields.contains_key("tools") { TOOLS_TOKENS } else { FRAME_TOKENS };
    (count.ascii * 2).div_ceil(5) + count.other.div_ceil(2) + count.media + frame
}

#[derive(Default)]
struct Count {
    ascii: u64,
    other: u64,
    media: u64,
}

impl Count {
    fn text(&mut self, text: &str) {
        let ascii = text.bytes().filter(u8::is_ascii).count();
        self.ascii += ascii as u64 + 3;
        self.other += (text.len() - ascii) as u64;
    }

    /// One of a list of pictures, which are nothing but their data.
    fn picture(&mut self, value: &Value) {
        match value.as_str() {
            Some(data) if is_media("image/png", data) => self.media += media_tokens("image/png", data),
            _ => self.value(value),
        }
    }

    fn value(&mut self, value: &Value) {
        match value {
            Value::Null | Value::Bool(_) | Value::Number(_) => self.ascii += 6,
            Value::String(text) => self.text(text),
            Value::Array(items) => items.iter().for_each(|item| self.value(item)),
            Value::Object(fields) => {
                let media = media_data(fields);
                self.media += media.map_or(0, |(_, kind, data)| media_tokens(kind, data));
                for (key, value) in fields {
                    self.text(key);
                    match value {
                        Value::Array(items) if key == "images" => items.iter().for_each(|item| self.picture(item)),
                        value if media.is_none_or(|(field, ..)| field != key.as_str()) => self.value(value),
                        _ => {}
                    }
                }
            }
        }
    }
}

/// The field that holds the data of an image or a PDF in the body itself, its media type and the data, in any format. Only
/// base64 is taken for data, so that text cannot be hidden in it.
fn media_data(fields: &Map<String, Value>) -> Option<(&'static str, &str, &str)> {
    let text = |name: &str| fields.get(name).and_then(Value::as_str);
    let kind = text("mimeType").or_else(|| text("media_type").filter(|_| text("type") == Some("base64")));
    if let (Some(kind), Some(data)) = (kind, text("data")) {
        return is_media(kind, data).then_some(("data", kind, data));
    }
    ["url", "image_url", "file_data"].into_iter().find_map(|field| {
        let (kind, data) = text(field)?.strip_prefix("data:")?.split_once(";base64,")?;
        is_media(kind, data).then_some((field, kind, data))
    })
}

fn is_media(kind: &str, data: &str) -> bool {
    let known = kind == "application/pdf" || (kind.starts_with("image/") && kind.len() < 40);
    known && data.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'='))
}
