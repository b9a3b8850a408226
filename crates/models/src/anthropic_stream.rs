//! Reads an answer in the Anthropic Messages format, from events or as a whole.

use aedile_core::model::{Block, DeltaSink, Message, ModelDelta, ModelResponse, ModelStop, Role};
use serde_json::{Value, json};

use crate::anthropic::block_from_wire;
use crate::call::{AnswerReader, Problem, ProviderError};
use crate::format::ApiFormat;
use crate::meter::UsageReader;
use crate::sse::SseEvent;

/// A block while it is being collected.
struct Open {
    index: u64,
    value: Value,
    /// The input of a tool call, in pieces of JSON text.
    input: String,
}

/// Collects the blocks of one answer.
pub(crate) struct Reader {
    blocks: Vec<Open>,
    stop: Option<String>,
    usage: UsageReader,
    begun: bool,
}

impl Default for Reader {
    fn default() -> Self {
        Self { blocks: Vec::new(), stop: None, usage: UsageReader::new(ApiFormat::Anthropic), begun: false }
    }
}

impl AnswerReader for Reader {
    fn event(&mut self, event: &SseEvent, sink: &mut dyn DeltaSink) -> Result<(), Problem> {
        let value: Value =
            serde_json::from_str(&event.data).map_err(|error| Problem::Protocol(format!("an event is broken JSON: {error}")))?;
        self.usage.value(&value);
        match value.get("type").and_then(Value::as_str).unwrap_or(&event.name) {
            "content_block_start" => self.start(&value, sink),
            "content_block_delta" => self.delta(&value, sink),
            "message_delta" => {
                if let Some(stop) = value.pointer("/delta/stop_reason").and_then(Value::as_str) {
                    self.stop = Some(stop.to_owned());
                }
                Ok(())
            }
            "error" => Err(provider_error(&value)),
            // `message_start`, `content_block_stop`, `message_stop` and `ping` hold nothing more for us; new kinds must be ignored.
            _ => Ok(()),
        }
    }

    fn whole(&mut self, answer: Value, sink: &mut dyn DeltaSink) -> Result<(), Problem> {
        if answer.get("type").and_then(Value::as_str) == Some("error") || answer.get("content").is_none() {
            return Err(provider_error(&answer));
        }
        self.usage.value(&answer);
        for (index, block) in answer["content"].as_array().into_iter().flatten().enumerate() {
            if let Some(text) = block.get("text").and_then(Value::as_str) {
                sink.delta(ModelDelta::Text(text.to_owned()));
            }
            self.start(&json!({"index": index, "content_block": block}), sink)?;
        }
        self.begun = true;
        self.stop = Some(answer.get("stop_reason").and_then(Value::as_str).unwrap_or("end_turn").to_owned());
        Ok(())
    }

    fn begun(&self) -> bool {
        self.begun
    }

    fn finish(self) -> Option<Result<ModelResponse, Problem>> {
        let stop = match self.stop?.as_str() {
            "end_turn" | "stop_sequence" => ModelStop::EndTurn,
            "tool_use" => ModelStop::ToolUse,
            "max_tokens" | "model_context_window_exceeded" => ModelStop::MaxTokens,
            "refusal" => ModelStop::Refusal,
            other => ModelStop::Other(other.to_owned()),
        };
        let content = self.blocks.into_iter().map(close).collect();
        let message = Message::new(Role::Assistant, content);
        Some(Ok(ModelResponse { message, stop, usage: self.usage.usage() }))
    }
}

impl Reader {
    fn start(&mut self, value: &Value, sink: &mut dyn DeltaSink) -> Result<(), Problem> {
        self.begun = true;
        let block = value.get("content_block").filter(|block| block.is_object());
        let block = block.ok_or_else(|| Problem::Protocol("a content block starts without a block".to_owned()))?;
        if block.get("type").and_then(Value::as_str) == Some("tool_use") {
            let name = block.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
            sink.delta(ModelDelta::ToolStarted { name });
        }
        let index = value.get("index").and_then(Value::as_u64).unwrap_or(self.blocks.len() as u64);
        self.blocks.push(Open { index, value: block.clone(), input: String::new() });
        Ok(())
    }

    fn delta(&mut self, value: &Value, sink: &mut dyn DeltaSink) -> Result<(), Problem> {
        let index = value.get("index").and_then(Value::as_u64);
        let block = match index {
            Some(index) => self.blocks.iter_mut().rev().find(|block| block.index == index),
            None => self.blocks.last_mut(),
        };
        let block = block.ok_or_else(|| Problem::Protocol("a piece came for a content block that had not started".to_owned()))?;
        let delta = &value["delta"];
        let piece = |name: &str| delta.get(name).and_then(Value::as_str).unwrap_or_default();
        match delta.get("type").and_then(Value::as_str).unwrap_or_default() {
            "text_delta" => {
                append(&mut block.value, "text", piece("text"));
                sink.delta(ModelDelta::Text(piece("text").to_owned()));
            }
            "thinking_delta" => {
                append(&mut block.value, "thinking", piece("thinking"));
                sink.delta(ModelDelta::Thinking(piece("thinking").to_owned()));
            }
            "signature_delta" => append(&mut block.value, "signature", piece("signature")),
            "input_json_delta" => block.input.push_str(piece("partial_json")),
            "citations_delta" => push(&mut block.value, "citations", delta["citation"].clone()),
            // New kinds of pieces must be ignored.
            _ => {}
        }
        Ok(())
    }
}

fn append(block: &mut Value, field: &str, piece: &str) {
    match block.get_mut(field) {
        Some(Value::String(text)) => text.push_str(piece),
        _ => block[field] = json!(piece),
    }
}

fn push(block: &mut Value, field: &str, item: Value) {
    match block.get_mut(field) {
        Some(Value::Array(items)) => items.push(item),
        _ => block[field] = json!([item]),
    }
}

/// Ends a block. The input of a tool is what its pieces say; text that is not JSON stays text.
fn close(mut block: Open) -> Block {
    if !block.input.is_empty() {
        block.value["input"] = serde_json::from_str(&block.input).unwrap_or(Value::String(block.input));
    }
    block_from_wire(block.value)
}

fn provider_error(value: &Value) -> Problem {
    match ProviderError::from_json(value, None) {
        Some(error) => Problem::Provider(error),
        None => Problem::Protocol("the answer holds neither content nor an error".to_owned()),
    }
}
