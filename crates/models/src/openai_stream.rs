//! Reads an answer in the OpenAI Chat Completions format, from chunks or as a whole.
//!
//! Servers differ. Tolerated: no usage, `content: null`, calls without an index or an id, one index for several calls,
//! arguments as an object, keep-alive comments, an end without `[DONE]`, `stop` as the reason although tools are called.

use std::sync::Arc;

use aedile_core::Entropy;
use aedile_core::model::{Block, DeltaSink, ModelDelta, ModelResponse, ModelStop};
use serde_json::{Map, Value, json};

use crate::call::{AnswerReader, Problem, ProviderError};
use crate::format::ApiFormat;
use crate::meter::UsageReader;
use crate::openai::message_from_wire;
use crate::sse::SseEvent;

/// A tool call while it is being collected.
struct OpenCall {
    index: Option<u64>,
    id: String,
    name: String,
    arguments: String,
    extra: Map<String, Value>,
}

/// Collects one answer.
pub(crate) struct Reader {
    entropy: Arc<dyn Entropy>,
    text: String,
    calls: Vec<OpenCall>,
    extra: Map<String, Value>,
    stop: Option<String>,
    done: bool,
    begun: bool,
    usage: UsageReader,
}

impl Reader {
    pub(crate) fn new(entropy: Arc<dyn Entropy>) -> Self {
        let usage = UsageReader::new(ApiFormat::OpenAi);
        Self { entropy, text: String::new(), calls: Vec::new(), extra: Map::new(), stop: None, done: false, begun: false, usage }
    }

    /// Takes the `delta` of a chunk or the `message` of a whole answer.
    fn piece(&mut self, piece: &Map<String, Value>, sink: &mut dyn DeltaSink) {
        for (field, value) in piece {
            match (field.as_str(), value) {
                ("role" | "function_call", _) | (_, Value::Null) => {}
                ("content", Value::String(text)) if text.is_empty() => {}
                ("content", Value::String(text)) => {
                    self.begun = true;
                    self.text.push_str(text);
                    sink.delta(ModelDelta::Text(text.clone()));
                }
                ("tool_calls", Value::Array(calls)) => calls.iter().for_each(|call| self.call(call, sink)),
                (_, value) => self.unknown(field, value, sink),
            }
        }
    }

    /// Joins the pieces of a field that we do not know: texts and arrays grow, anything else is replaced.
    fn unknown(&mut self, field: &str, value: &Value, sink: &mut dyn DeltaSink) {
        if let (Value::String(text), "reasoning_content" | "reasoning") = (value, field) {
            self.begun |= !text.is_empty();
            sink.delta(ModelDelta::Thinking(text.clone()));
        }
        match (self.extra.get_mut(field), value) {
            (Some(Value::String(old)), Value::String(new)) => old.push_str(new),
            (Some(Value::Array(old)), Value::Array(new)) => old.extend(new.iter().cloned()),
            _ => {
                self.extra.insert(field.to_owned(), value.clone());
            }
        }
    }

    fn call(&mut self, call: &Value, sink: &mut dyn DeltaSink) {
        self.begun = true;
        let text = |value: Option<&Value>| value.and_then(Value::as_str).unwrap_or_default().to_owned();
        let (index, id) = (call.get("index").and_then(Value::as_u64), text(call.get("id")));
        let name = text(call.pointer("/function/name"));
        let at = self.slot(index, &id, &name).unwrap_or_else(|| {
            self.calls.push(OpenCall { index, id: id.clone(), name: String::new(), arguments: String::new(), extra: Map::new() });
            self.calls.len() - 1
        });
        let slot = &mut self.calls[at];
        if slot.id.is_empty() {
            slot.id = id;
        }
        if slot.name.is_empty() && !name.is_empty() {
            sink.delta(ModelDelta::ToolStarted { name: name.clone() });
            slot.name = name;
        }
        match call.pointer("/function/arguments") {
            Some(Value::String(piece)) => slot.arguments.push_str(piece),
            Some(Value::Null) | None => {}
            Some(whole) => slot.arguments = whole.to_string(),
        }
        let extra = crate::anthropic::others(call, &["id", "type", "function", "index"]);
        slot.extra.extend(extra.into_iter().filter(|(_, value)| !value.is_null()));
    }

    /// The call that a piece belongs to; `None` when it begins a new one. A new id with a name begins a new call even under an old index.
    fn slot(&self, index: Option<u64>, id: &str, name: &str) -> Option<usize> {
        let starts = |slot: &OpenCall| !id.is_empty() && !slot.id.is_empty() && slot.id != id && !name.is_empty();
        match index {
            Some(_) => self.calls.iter().rposition(|slot| slot.index == index && !starts(slot)),
            None if !id.is_empty() => self.calls.iter().rposition(|slot| slot.id == id),
            None if !name.is_empty() => None,
            None => self.calls.len().checked_sub(1),
        }
    }

    fn choice(&mut self, choice: &Value, piece: &str, sink: &mut dyn DeltaSink) {
        if let Some(fields) = choice.get(piece).and_then(Value::as_object) {
            self.piece(fields, sink);
        }
        if let Some(stop) = choice.get("finish_reason").and_then(Value::as_str) {
            self.stop = Some(stop.to_owned());
        }
    }
}

/// An id for a call that came without one.
pub(crate) fn new_id(entropy: &dyn Entropy) -> String {
    let mut random = [0_u8; 8];
    entropy.fill(&mut random);
    format!("call_{:016x}", u64::from_le_bytes(random))
}

impl AnswerReader for Reader {
    fn event(&mut self, event: &SseEvent, sink: &mut dyn DeltaSink) -> Result<(), Problem> {
        if event.data.trim() == "[DONE]" {
            self.done = true;
            return Ok(());
        }
        let chunk: Value =
            serde_json::from_str(&event.data).map_err(|error| Problem::Protocol(format!("a chunk is broken JSON: {error}")))?;
        if let Some(error) = ProviderError::from_json(&chunk, None) {
            return Err(Problem::Provider(error));
        }
        self.usage.value(&chunk);
        if let Some(choice) = chunk.pointer("/choices/0") {
            self.choice(choice, "delta", sink);
        }
        Ok(())
    }

    fn whole(&mut self, answer: Value, sink: &mut dyn DeltaSink) -> Result<(), Problem> {
        if let Some(error) = ProviderError::from_json(&answer, None) {
            return Err(Problem::Provider(error));
        }
        self.usage.value(&answer);
        if let Some(choice) = answer.pointer("/choices/0") {
            self.choice(choice, "message", sink);
            self.done = true;
        }
        Ok(())
    }

    fn begun(&self) -> bool {
        self.begun
    }

    fn finish(self) -> Option<Result<ModelResponse, Problem>> {
        if self.stop.is_none() && !self.done {
            return None;
        }
        let mut calls = Vec::with_capacity(self.calls.len());
        for call in &self.calls {
            let id = if call.id.is_empty() { new_id(&*self.entropy) } else { call.id.clone() };
            let mut value = json!({"id": id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}});
            if let Some(fields) = value.as_object_mut() {
                fields.extend(call.extra.clone());
            }
            calls.push(value);
        }
        let mut message = json!({"role": "assistant", "content": self.text, "tool_calls": calls});
        if let Some(fields) = message.as_object_mut() {
            fields.extend(self.extra);
        }
        let usage = self.usage.usage();
        let response = |message: aedile_core::model::Message| {
            let called = message.content.iter().any(|block| matches!(block, Block::ToolUse { .. }));
            ModelResponse { stop: stop_of(self.stop.as_deref(), called), message, usage }
        };
        Some(message_from_wire(&message).map(response).map_err(Problem::Protocol))
    }
}

fn stop_of(reason: Option<&str>, called: bool) -> ModelStop {
    match reason {
        Some("length") => ModelStop::MaxTokens,
        Some("content_filter") => ModelStop::Refusal,
        _ if called => ModelStop::ToolUse,
        None | Some("stop" | "tool_calls" | "function_call" | "eos") => ModelStop::EndTurn,
        Some(other) => ModelStop::Other(other.to_owned()),
    }
}
