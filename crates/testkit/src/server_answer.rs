//! Writes the answers of the scripted server in the formats of Anthropic and OpenAI Chat.

use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};

use crate::server::WireFormat;

/// What a step answers.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) text: String,
    pub(crate) tools: Vec<(String, Value)>,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) raw: Option<(String, String)>,
    pub(crate) bad_json: bool,
    pub(crate) cut_after: Option<usize>,
    pub(crate) delay: Duration,
    pub(crate) piece_bytes: Option<usize>,
    pub(crate) usage: Option<[u64; 4]>,
}

impl Default for Answer {
    fn default() -> Self {
        Self {
            status: 200,
            text: String::new(),
            tools: Vec::new(),
            headers: Vec::new(),
            raw: None,
            bad_json: false,
            cut_after: None,
            delay: Duration::ZERO,
            piece_bytes: None,
            usage: Some([100, 10, 0, 0]),
        }
    }
}

/// An answer as it is sent.
pub(crate) struct Wire {
    pub(crate) status: u16,
    pub(crate) content_type: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) pieces: Vec<Bytes>,
    pub(crate) cut: bool,
    pub(crate) delay: Duration,
}

impl Wire {
    pub(crate) fn json(status: u16, body: &Value) -> Self {
        let pieces = vec![Bytes::from(body.to_string())];
        Self { status, content_type: "application/json".into(), headers: Vec::new(), pieces, cut: false, delay: Duration::ZERO }
    }
}

/// An error as the provider words it.
pub(crate) fn error_body(format: WireFormat, status: u16, message: &str) -> Value {
    let kind = match status {
        400 => "invalid_request_error",
        401 => "authentication_error",
        402 => "budget_exceeded",
        404 => "not_found_error",
        429 => "rate_limit_error",
        529 => "overloaded_error",
        _ => "api_error",
    };
    match format {
        WireFormat::Anthropic => json!({"type": "error", "error": {"type": kind, "message": message}}),
        WireFormat::OpenAi | WireFormat::Responses => json!({"error": {"message": message, "type": kind, "param": null, "code": null}}),
        WireFormat::Gemini if status == 402 => json!({"error": {"message": message, "type": kind}}),
        WireFormat::Gemini => json!({"error": {"code": status, "message": message, "status": google_status(status)}}),
        WireFormat::Ollama if status == 402 => json!({"error": {"message": message, "type": kind}}),
        WireFormat::Ollama => json!({"error": message}),
    }
}

fn google_status(status: u16) -> &'static str {
    match status {
        400 => "INVALID_ARGUMENT",
        401 => "UNAUTHENTICATED",
        403 => "PERMISSION_DENIED",
        404 => "NOT_FOUND",
        429 => "RESOURCE_EXHAUSTED",
        503 | 529 => "UNAVAILABLE",
        _ => "INTERNAL",
    }
}

impl Answer {
    /// Writes the answer. `turn` makes the ids of tool calls differ from request to request.
    pub(crate) fn write(&self, format: WireFormat, stream: bool, want_usage: bool, model: &str, turn: usize) -> Wire {
        if self.status != 200 {
            let mut wire = Wire::json(self.status, &error_body(format, self.status, &self.text));
            wire.headers.clone_from(&self.headers);
            wire.delay = self.delay;
            return wire;
        }
        let (content_type, events) = match (&self.raw, self.bad_json, stream) {
            (Some((kind, body)), _, _) => (kind.as_str(), vec![body.clone()]),
            (None, true, true) if format == WireFormat::Ollama => ("application/x-ndjson", vec!["{\"message\": {\n".to_owned()]),
            (None, true, true) => ("text/event-stream", vec!["data: {\"type\": \"content_\n\n".to_owned()]),
            (None, true, false) => ("application/json", vec!["{\"id\": ".to_owned()]),
            (None, false, true) if format == WireFormat::Ollama => ("application/x-ndjson", self.events(format, want_usage, model, turn)),
            (None, false, true) => ("text/event-stream", self.events(format, want_usage, model, turn)),
            (None, false, false) => ("application/json", vec![self.whole(format, model, turn).to_string()]),
        };
        let kept = self.cut_after.unwrap_or(events.len()).min(events.len());
        let pieces = match self.piece_bytes {
            None => events[..kept].iter().map(|event| Bytes::from(event.clone())).collect(),
            Some(size) => events[..kept].concat().as_bytes().chunks(size).map(Bytes::copy_from_slice).collect(),
        };
        Wire {
            status: 200,
            content_type: content_type.to_owned(),
            headers: self.headers.clone(),
            pieces,
            cut: self.cut_after.is_some(),
            delay: self.delay,
        }
    }

    fn whole(&self, format: WireFormat, model: &str, turn: usize) -> Value {
        match format {
            WireFormat::Anthropic => self.anthropic_message(model, turn),
            WireFormat::OpenAi => self.openai_completion(model, turn),
            WireFormat::Responses => self.response(model, turn),
            WireFormat::Gemini => self.gemini_answer(model, turn),
            WireFormat::Ollama => self.ollama_answer(model, turn),
        }
    }

    fn events(&self, format: WireFormat, want_usage: bool, model: &str, turn: usize) -> Vec<String> {
        match format {
            WireFormat::Anthropic => {
                let events = self.anthropic_events(model, turn);
                events.iter().map(|event| format!("event: {}\ndata: {event}\n\n", event["type"].as_str().unwrap())).collect()
            }
            WireFormat::OpenAi => {
                let chunks = self.openai_chunks(want_usage, model, turn);
                chunks.iter().map(|chunk| format!("data: {chunk}\n\n")).chain(["data: [DONE]\n\n".to_owned()]).collect()
            }
            WireFormat::Responses => {
                let events = self.response_events(model, turn);
                events.iter().map(|event| format!("event: {}\ndata: {event}\n\n", event["type"].as_str().unwrap())).collect()
            }
            WireFormat::Gemini => self.gemini_chunks(model, turn).iter().map(|chunk| format!("data: {chunk}\r\n\r\n")).collect(),
            WireFormat::Ollama => self.ollama_lines(model, turn).iter().map(|line| format!("{line}\n")).collect(),
        }
    }

    fn anthropic_usage(&self) -> Value {
        match self.usage {
            None => Value::Null,
            Some([input, output, read, write]) => json!({
                "input_tokens": input, "output_tokens": output,
                "cache_read_input_tokens": read, "cache_creation_input_tokens": write
            }),
        }
    }

    fn anthropic_stop(&self) -> &'static str {
        if self.tools.is_empty() { "end_turn" } else { "tool_use" }
    }

    fn anthropic_content(&self, turn: usize) -> Vec<Value> {
        let text = (!self.text.is_empty()).then(|| json!({"type": "text", "text": self.text}));
        let tools = self.tools.iter().enumerate();
        let tools =
            tools.map(|(at, (name, input))| json!({"type": "tool_use", "id": format!("toolu_{turn}_{at}"), "name": name, "input": input}));
        text.into_iter().chain(tools).collect()
    }

    fn anthropic_message(&self, model: &str, turn: usize) -> Value {
        json!({
            "id": format!("msg_{turn}"), "type": "message", "role": "assistant", "model": model,
            "content": self.anthropic_content(turn), "stop_reason": self.anthropic_stop(), "stop_sequence": null,
            "usage": self.anthropic_usage()
        })
    }

    fn anthropic_events(&self, model: &str, turn: usize) -> Vec<Value> {
        let mut message = self.anthropic_message(model, turn);
        message["content"] = json!([]);
        message["stop_reason"] = Value::Null;
        let mut events = vec![json!({"type": "message_start", "message": message}), json!({"type": "ping"})];
        for (index, mut block) in self.anthropic_content(turn).into_iter().enumerate() {
            let (field, kind, whole) = if block["type"] == "text" {
                ("text", "text_delta", block["text"].as_str().unwrap().to_owned())
            } else {
                ("partial_json", "input_json_delta", block["input"].to_string())
            };
            if field == "text" {
                block["text"] = json!("");
            } else {
                block["input"] = json!({});
            }
            events.push(json!({"type": "content_block_start", "index": index, "content_block": block}));
            for piece in halves(&whole) {
                let mut delta = json!({"type": kind});
                delta[field] = json!(piece);
                events.push(json!({"type": "content_block_delta", "index": index, "delta": delta}));
            }
            events.push(json!({"type": "content_block_stop", "index": index}));
        }
        let delta = json!({"stop_reason": self.anthropic_stop(), "stop_sequence": null});
        events.push(json!({"type": "message_delta", "delta": delta, "usage": self.anthropic_usage()}));
        events.push(json!({"type": "message_stop"}));
        events
    }

    fn openai_usage(&self) -> Value {
        match self.usage {
            None => Value::Null,
            Some([input, output, read, _]) => json!({
                "prompt_tokens": input + read, "completion_tokens": output, "total_tokens": input + read + output,
                "prompt_tokens_details": {"cached_tokens": read}
            }),
        }
    }

    fn openai_stop(&self) -> &'static str {
        if self.tools.is_empty() { "stop" } else { "tool_calls" }
    }

    fn openai_calls(&self, turn: usize) -> Vec<Value> {
        let call = |(at, (name, input)): (usize, &(String, Value))| {
            let function = json!({"name": name, "arguments": input.to_string()});
            json!({"id": format!("call_{turn}_{at}"), "type": "function", "function": function})
        };
        self.tools.iter().enumerate().map(call).collect()
    }

    fn openai_completion(&self, model: &str, turn: usize) -> Value {
        let mut message = json!({"role": "assistant", "content": self.text});
        if !self.tools.is_empty() {
            message["tool_calls"] = Value::Array(self.openai_calls(turn));
        }
        json!({
            "id": format!("chatcmpl-{turn}"), "object": "chat.completion", "created": 0, "model": model,
            "choices": [{"index": 0, "message": message, "finish_reason": self.openai_stop()}], "usage": self.openai_usage()
        })
    }

    fn openai_chunks(&self, want_usage: bool, model: &str, turn: usize) -> Vec<Value> {
        let chunk = |choices: Value| json!({"id": format!("chatcmpl-{turn}"), "object": "chat.completion.chunk", "created": 0, "model": model, "choices": choices});
        let delta = |delta: Value| chunk(json!([{"index": 0, "delta": delta, "finish_reason": null}]));
        let mut chunks = vec![delta(json!({"role": "assistant", "content": ""}))];
        chunks.extend(halves(&self.text).into_iter().map(|piece| delta(json!({"content": piece}))));
        for (index, mut call) in self.openai_calls(turn).into_iter().enumerate() {
            let arguments = call["function"]["arguments"].as_str().unwrap().to_owned();
            call["index"] = json!(index);
            call["function"]["arguments"] = json!("");
            chunks.push(delta(json!({"tool_calls": [call]})));
            let piece = |piece: &str| delta(json!({"tool_calls": [{"index": index, "function": {"arguments": piece}}]}));
            chunks.extend(halves(&arguments).into_iter().map(piece));
        }
        chunks.push(chunk(json!([{"index": 0, "delta": {}, "finish_reason": self.openai_stop()}])));
        if want_usage && self.usage.is_some() {
            let mut last = chunk(json!([]));
            last["usage"] = self.openai_usage();
            chunks.push(last);
        }
        chunks
    }
}

/// Splits a text in two, so that every reader must join pieces.
pub(crate) fn halves(text: &str) -> Vec<&str> {
    let middle = (text.len() / 2..=text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    let (first, second) = text.split_at(middle);
    [first, second].into_iter().filter(|half| !half.is_empty()).collect()
}
