//! Reads what a request used from the provider's answer, without changing it.

use aedile_core::Usage;
use aedile_core::limits::DOOR_BODY_BYTES_MAX;
use serde_json::Value;

use crate::format::ApiFormat;
use crate::sse::SseParser;

/// The usage that an object of the provider's states, as far as it states one.
///
/// Tokens read from or written to a cache, which OpenAI and Gemini count within the input, are taken out of the full-price input.
pub fn provider_usage(format: ApiFormat, value: &Value) -> Option<Usage> {
    let mut reader = UsageReader::new(format);
    reader.value(value);
    reader.usage()
}

/// Collects usage from the objects of one answer. Later numbers replace earlier ones, since all formats report running totals.
#[derive(Clone, Debug)]
pub(crate) struct UsageReader {
    format: ApiFormat,
    usage: Usage,
    /// What further requests of the provider to itself used, which Anthropic does not count within the usage.
    beside: Usage,
    seen: bool,
    /// Whether the last piece of the answer has come, where a usage alone does not say so.
    ended: bool,
    complete: bool,
}

impl UsageReader {
    pub(crate) fn new(format: ApiFormat) -> Self {
        Self { format, usage: Usage::default(), beside: Usage::default(), seen: false, ended: false, complete: false }
    }

    pub(crate) fn usage(&self) -> Option<Usage> {
        self.seen.then(|| self.usage.plus(&self.beside))
    }

    pub(crate) fn value(&mut self, value: &Value) {
        match self.format {
            ApiFormat::Anthropic => self.anthropic(value),
            ApiFormat::OpenAi => self.openai(value, "prompt_tokens", "completion_tokens"),
            // At the end of a stream it stands within the response.
            ApiFormat::Responses => self.openai(value.get("response").unwrap_or(value), "input_tokens", "output_tokens"),
            ApiFormat::Gemini => self.gemini(value),
            ApiFormat::Ollama => self.ollama(value),
        }
    }

    fn anthropic(&mut self, value: &Value) {
        let kind = value.get("type").and_then(Value::as_str).unwrap_or_default();
        let usage = value.get("usage").or_else(|| value.pointer("/message/usage")).filter(|usage| usage.is_object());
        let Some(usage) = usage else { return };
        let set = |slot: &mut u64, name: &str| {
            if let Some(count) = usage.get(name).and_then(Value::as_u64) {
                *slot = count;
            }
        };
        set(&mut self.usage.input_tokens, "input_tokens");
        set(&mut self.usage.output_tokens, "output_tokens");
        set(&mut self.usage.cache_read_tokens, "cache_read_input_tokens");
        if let Some(written) = usage.get("cache_creation_input_tokens").and_then(Value::as_u64) {
            // The sum holds the writes that are kept for an hour too; the last event may leave out how many they are.
            let hour = usage.pointer("/cache_creation/ephemeral_1h_input_tokens").and_then(Value::as_u64);
            let long = hour.unwrap_or(self.usage.cache_write_long_tokens).min(written);
            (self.usage.cache_write_tokens, self.usage.cache_write_long_tokens) = (written - long, long);
        }
        if let Some(iterations) = usage.get("iterations").and_then(Value::as_array) {
            let beside = iterations.iter().filter(|iteration| iteration.get("type").and_then(Value::as_str) != Some("message"));
            self.beside = beside.fold(Usage::default(), |sum, iteration| sum.plus(&iteration_usage(iteration)));
        }
        self.seen = true;
        self.complete |= matches!(kind, "message_delta" | "message");
    }

    fn openai(&mut self, value: &Value, input: &str, output: &str) {
        let Some(usage) = value.get("usage").filter(|usage| usage.is_object()) else { return };
        let count = |pointer: &str| usage.pointer(pointer).and_then(Value::as_u64).unwrap_or(0);
        let prompt = count(&format!("/{input}"));
        let cached = count(&format!("/{input}_details/cached_tokens")).min(prompt);
        let written = count(&format!("/{input}_details/cache_write_tokens")).min(prompt - cached);
        let long = count(&format!("/{input}_details/cache_write_tokens_details/ttl_12h_tokens")).min(written);
        self.usage = Usage {
            input_tokens: prompt - cached - written,
            output_tokens: count(&format!("/{output}")),
            cache_read_tokens: cached,
            cache_write_tokens: written - long,
            cache_write_long_tokens: long,
        };
        self.seen = true;
        self.complete = true;
    }

    /// Thinking is counted beside the answer, cached input within the prompt. Every chunk states a running total.
    fn gemini(&mut self, value: &Value) {
        let usage = value.get("usageMetadata").filter(|usage| usage.is_object());
        if let Some(usage) = usage {
            let count = |name: &str| usage.get(name).and_then(Value::as_u64).unwrap_or(0);
            let prompt = count("promptTokenCount") + count("toolUsePromptTokenCount");
            let cached = count("cachedContentTokenCount").min(prompt);
            self.usage = Usage {
                input_tokens: prompt - cached,
                output_tokens: count("candidatesTokenCount") + count("thoughtsTokenCount"),
                cache_read_tokens: cached,
                ..Usage::default()
            };
            self.seen = true;
        }
        let ended = value.pointer("/candidates/0/finishReason").or_else(|| value.pointer("/promptFeedback/blockReason"));
        self.ended |= ended.is_some_and(Value::is_string);
        self.complete = self.ended && self.seen;
    }

    /// Takes a line of a stream; only the last one states a usage.
    fn line(&mut self, line: &[u8]) {
        if let Ok(value) = serde_json::from_slice(line) {
            self.value(&value);
        }
    }

    fn ollama(&mut self, value: &Value) {
        if value.get("done") != Some(&Value::Bool(true)) {
            return;
        }
        let count = |name: &str| value.get(name).and_then(Value::as_u64);
        if let Some(output) = count("eval_count") {
            // The server leaves the input out when all of it was in its cache.
            let input = count("prompt_eval_count").unwrap_or(0);
            self.usage = Usage { input_tokens: input, output_tokens: output, ..Usage::default() };
            (self.seen, self.complete) = (true, true);
        }
    }
}

/// One entry of Anthropic's `usage.iterations`. Writes that are kept for an hour are not told apart there from the others.
fn iteration_usage(iteration: &Value) -> Usage {
    let count = |name: &str| iteration.get(name).and_then(Value::as_u64).unwrap_or(0);
    Usage {
        input_tokens: count("input_tokens"),
        output_tokens: count("output_tokens"),
        cache_read_tokens: count("cache_read_input_tokens"),
        cache_write_tokens: count("cache_creation_input_tokens"),
        ..Usage::default()
    }
}

/// What passed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Metered {
    /// The last usage that the provider stated; `None` when it stated none.
    pub usage: Option<Usage>,
    /// Whether that usage is the final one. If not, the answer was cut (or the provider never says), and the caller charges its reserve.
    pub complete: bool,
}

/// Is fed the bytes of one successful answer as they pass, a stream or plain JSON, and knows the usage at the end.
/// The bytes must not be compressed: ask the provider for `identity`.
#[derive(Debug)]
pub struct UsageMeter {
    reader: UsageReader,
    body: Body,
    complained: bool,
}

#[derive(Debug)]
enum Body {
    /// Only white space so far.
    Unknown,
    Json(Vec<u8>),
    Stream(SseParser),
    /// A line of a stream of JSON objects.
    Line(Vec<u8>),
    /// Too large or broken: what passes is no longer looked at.
    Lost,
}

impl UsageMeter {
    /// Makes a meter for one answer.
    pub fn new(format: ApiFormat) -> Self {
        Self { reader: UsageReader::new(format), body: Body::Unknown, complained: false }
    }

    /// Takes the next bytes.
    pub fn feed(&mut self, bytes: &[u8]) {
        if matches!(self.body, Body::Unknown) {
            match bytes.iter().find(|byte| !byte.is_ascii_whitespace()) {
                None => return,
                Some(_) if self.reader.format == ApiFormat::Ollama => self.body = Body::Line(Vec::new()),
                Some(b'{') => self.body = Body::Json(Vec::new()),
                Some(_) => self.body = Body::Stream(SseParser::new()),
            }
        }
        let (reader, complained) = (&mut self.reader, &mut self.complained);
        let lost = match &mut self.body {
            Body::Json(body) => {
                body.extend_from_slice(bytes);
                body.len() > DOOR_BODY_BYTES_MAX
            }
            Body::Stream(parser) => parser
                .feed(bytes, |event| {
                    *complained |=
                        event.name == "error" || event.data.starts_with("{\"error\"") || event.data.starts_with("{\"type\":\"error\"");
                    // Most events are pieces of text; only those that can hold a usage or the end are parsed.
                    if ["\"usage", "\"finishReason\"", "\"blockReason\""].iter().any(|key| event.data.contains(key))
                        && let Ok(value) = serde_json::from_str(&event.data)
                    {
                        reader.value(&value);
                    }
                })
                .is_err(),
            Body::Line(line) => bytes.split_inclusive(|byte| *byte == b'\n').any(|piece| {
                line.extend_from_slice(piece);
                if line.ends_with(b"\n") {
                    *complained |= line.starts_with(b"{\"error\"");
                    reader.line(line);
                    line.clear();
                }
                line.len() > DOOR_BODY_BYTES_MAX
            }),
            Body::Unknown | Body::Lost => false,
        };
        if lost {
            self.body = Body::Lost;
        }
    }

    /// Whether the provider has reported an error within the stream.
    pub fn complained(&self) -> bool {
        self.complained
    }

    /// Returns what was used once the answer has ended or was given up.
    pub fn finish(mut self) -> Metered {
        if let Body::Json(body) = &self.body
            && let Ok(value) = serde_json::from_slice(body)
        {
            self.reader.value(&value);
        }
        if let Body::Line(line) = &self.body {
            self.reader.line(line);
        }
        let complete = self.reader.complete && !matches!(self.body, Body::Lost);
        Metered { usage: self.reader.usage(), complete }
    }
}
