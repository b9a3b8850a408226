//! A script's answers in the providers' formats, for a gateway that stands in for a provider.

use std::time::Duration;

use aedile_core::Usage;
use aedile_core::model::{Block, ModelResponse, ModelStop};
use bytes::Bytes;
use serde_json::{Value, json};

use crate::body::{BadBody, ModelBody};
use crate::format::ApiFormat;
use crate::script::{Played, Script};
use crate::{anthropic, gemini, ollama, openai, responses};

/// Characters in one piece of a streamed text.
const PIECE_CHARS: usize = 40;

/// An answer, ready to be sent with status 200.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WireAnswer {
    /// How long to wait before the first byte.
    pub wait: Duration,
    /// `text/event-stream`, `application/x-ndjson` or `application/json`.
    pub content_type: &'static str,
    /// The body; a stream in one piece per event.
    pub chunks: Vec<Bytes>,
    /// What the answer reports as used.
    pub usage: Usage,
}

impl Script {
    /// Answers a request body in its own format, as a stream when one is asked for.
    ///
    /// # Errors
    /// [`BadBody`] when the body is not a conversation in that format.
    pub fn answer(&self, body: &ModelBody) -> Result<WireAnswer, BadBody> {
        let request = match body.format() {
            ApiFormat::Anthropic => anthropic::request_from_wire(body.fields()),
            ApiFormat::OpenAi => openai::request_from_wire(body.fields()),
            ApiFormat::Responses => responses::request_from_wire(body.fields()),
            ApiFormat::Gemini => gemini::request_from_wire(&body.facts().model, body.fields()),
            ApiFormat::Ollama => ollama::request_from_wire(body.fields()),
        };
        let request = request.map_err(BadBody)?;
        let Played { response, wait } = self.play(&request);
        let usage = response.usage.unwrap_or_default();
        let id = format!("script_{}", body.facts().assistant_messages);
        let writer = Writer { id, model: request.model, usage, response };
        let stream = body.facts().stream;
        let chunks = match (body.format(), stream) {
            (ApiFormat::Anthropic, false) => vec![writer.anthropic_message().to_string()],
            (ApiFormat::Anthropic, true) => writer.anthropic_events().iter().map(named_event).collect(),
            (ApiFormat::OpenAi, false) => vec![writer.openai_completion().to_string()],
            (ApiFormat::OpenAi, true) => writer.openai_chunks().iter().map(plain_event).chain(["data: [DONE]\n\n".to_owned()]).collect(),
            (ApiFormat::Responses, false) => vec![writer.response("completed").to_string()],
            (ApiFormat::Responses, true) => writer.response_events().iter().map(named_event).collect(),
            (ApiFormat::Gemini, false) => vec![writer.gemini_answer().to_string()],
            (ApiFormat::Gemini, true) => writer.gemini_chunks().iter().map(plain_event).collect(),
            (ApiFormat::Ollama, false) => vec![writer.ollama_answer().to_string()],
            (ApiFormat::Ollama, true) => writer.ollama_lines().iter().map(|line| format!("{line}\n")).collect(),
        };
        let content_type = match (stream, body.format()) {
            (false, _) => "application/json",
            (true, ApiFormat::Ollama) => "application/x-ndjson",
            (true, _) => "text/event-stream",
        };
        Ok(WireAnswer { wait, content_type, chunks: chunks.into_iter().map(Bytes::from).collect(), usage })
    }
}

fn named_event(event: &Value) -> String {
    format!("event: {}\ndata: {event}\n\n", event["type"].as_str().unwrap_or_default())
}

fn plain_event(chunk: &Value) -> String {
    format!("data: {chunk}\n\n")
}

pub(crate) fn pieces(text: &str) -> Vec<String> {
    let chars: Vec<char> = text.chars().collect();
    chars.chunks(PIECE_CHARS).map(|piece| piece.iter().collect()).collect()
}

pub(crate) struct Writer {
    pub(crate) id: String,
    pub(crate) model: String,
    pub(crate) usage: Usage,
    pub(crate) response: ModelResponse,
}

impl Writer {
    fn anthropic_stop(&self) -> &'static str {
        if self.response.stop == ModelStop::ToolUse { "tool_use" } else { "end_turn" }
    }

    fn anthropic_usage(&self, output_tokens: u64) -> Value {
        json!({
            "input_tokens": self.usage.input_tokens, "output_tokens": output_tokens,
            "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0
        })
    }

    fn anthropic_message(&self) -> Value {
        json!({
            "id": self.id, "type": "message", "role": "assistant", "model": self.model,
            "content": anthropic::message_to_wire(&self.response.message)["content"],
            "stop_reason": self.anthropic_stop(), "stop_sequence": null, "usage": self.anthropic_usage(self.usage.output_tokens)
        })
    }

    fn anthropic_events(&self) -> Vec<Value> {
        let mut message = self.anthropic_message();
        message["content"] = json!([]);
        message["stop_reason"] = Value::Null;
        message["usage"] = self.anthropic_usage(1);
        let mut events = vec![json!({"type": "message_start", "message": message})];
        for (index, block) in self.response.message.content.iter().enumerate() {
            let (start, deltas) = match block {
                Block::ToolUse { id, name, input, .. } => (
                    json!({"type": "tool_use", "id": id, "name": name, "input": {}}),
                    pieces(&input.to_string())
                        .into_iter()
                        .map(|piece| json!({"type": "input_json_delta", "partial_json": piece}))
                        .collect(),
                ),
                Block::Text { text, .. } => (
                    json!({"type": "text", "text": ""}),
                    pieces(text).into_iter().map(|piece| json!({"type": "text_delta", "text": piece})).collect::<Vec<_>>(),
                ),
                _ => continue,
            };
            events.push(json!({"type": "content_block_start", "index": index, "content_block": start}));
            events.extend(deltas.into_iter().map(|delta| json!({"type": "content_block_delta", "index": index, "delta": delta})));
            events.push(json!({"type": "content_block_stop", "index": index}));
        }
        let usage = self.anthropic_usage(self.usage.output_tokens);
        let delta = json!({"stop_reason": self.anthropic_stop(), "stop_sequence": null});
        events.push(json!({"type": "message_delta", "delta": delta, "usage": usage}));
        events.push(json!({"type": "message_stop"}));
        events
    }

    fn openai_stop(&self) -> &'static str {
        if self.response.stop == ModelStop::ToolUse { "tool_calls" } else { "stop" }
    }

    fn openai_usage(&self) -> Value {
        let (input, output) = (self.usage.input_tokens, self.usage.output_tokens);
        json!({"prompt_tokens": input, "completion_tokens": output, "total_tokens": input + output})
    }

    fn openai_completion(&self) -> Value {
        let message = openai::message_to_wire(&self.response.message).into_iter().next().unwrap_or_default();
        json!({
            "id": self.id, "object": "chat.completion", "created": 0, "model": self.model,
            "choices": [{"index": 0, "message": message, "finish_reason": self.openai_stop()}],
            "usage": self.openai_usage()
        })
    }

    fn openai_chunk(&self, choices: &Value, usage: &Value) -> Value {
        json!({"id": self.id, "object": "chat.completion.chunk", "created": 0, "model": self.model, "choices": choices, "usage": usage})
    }

    fn openai_chunks(&self) -> Vec<Value> {
        let delta =
            |delta: Value, stop: Value| self.openai_chunk(&json!([{"index": 0, "delta": delta, "finish_reason": stop}]), &Value::Null);
        let mut chunks = vec![delta(json!({"role": "assistant", "content": ""}), Value::Null)];
        let mut calls = 0;
        for block in &self.response.message.content {
            match block {
                Block::Text { text, .. } => {
                    chunks.extend(pieces(text).into_iter().map(|piece| delta(json!({"content": piece}), Value::Null)));
                }
                Block::ToolUse { id, name, input, .. } => {
                    let start = json!({"index": calls, "id": id, "type": "function", "function": {"name": name, "arguments": ""}});
                    chunks.push(delta(json!({"tool_calls": [start]}), Value::Null));
                    for piece in pieces(&input.to_string()) {
                        let more = json!({"index": calls, "function": {"arguments": piece}});
                        chunks.push(delta(json!({"tool_calls": [more]}), Value::Null));
                    }
                    calls += 1;
                }
                _ => {}
            }
        }
        chunks.push(delta(json!({}), json!(self.openai_stop())));
        chunks.push(self.openai_chunk(&json!([]), &self.openai_usage()));
        chunks
    }
}
