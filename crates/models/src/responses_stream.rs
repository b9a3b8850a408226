//! Reads an answer in the OpenAI Responses format, from events or as a whole.

use aedile_core::model::{Block, DeltaSink, Message, ModelDelta, ModelResponse, ModelStop, Role};
use serde_json::Value;

use crate::call::{AnswerReader, Problem, ProviderError};
use crate::format::ApiFormat;
use crate::meter::UsageReader;
use crate::responses::item_from_wire;
use crate::sse::SseEvent;

/// Collects the items of one answer.
pub(crate) struct Reader {
    /// Items that are whole, by their place in the output.
    items: Vec<(u64, Value)>,
    stop: Option<ModelStop>,
    refused: bool,
    begun: bool,
    usage: UsageReader,
}

impl Default for Reader {
    fn default() -> Self {
        Self { items: Vec::new(), stop: None, refused: false, begun: false, usage: UsageReader::new(ApiFormat::Responses) }
    }
}

impl AnswerReader for Reader {
    fn event(&mut self, event: &SseEvent, sink: &mut dyn DeltaSink) -> Result<(), Problem> {
        if event.data.trim() == "[DONE]" {
            return Ok(());
        }
        let value: Value =
            serde_json::from_str(&event.data).map_err(|error| Problem::Protocol(format!("an event is broken JSON: {error}")))?;
        let piece = || value.get("delta").and_then(Value::as_str).unwrap_or_default().to_owned();
        match value.get("type").and_then(Value::as_str).unwrap_or(&event.name) {
            "response.output_item.added" => {
                self.begun = true;
                if value.pointer("/item/type").is_some_and(|kind| kind == "function_call") {
                    let name = value.pointer("/item/name").and_then(Value::as_str).unwrap_or_default().to_owned();
                    sink.delta(ModelDelta::ToolStarted { name });
                }
            }
            "response.output_text.delta" => {
                self.begun = true;
                sink.delta(ModelDelta::Text(piece()));
            }
            "response.refusal.delta" => {
                (self.begun, self.refused) = (true, true);
                sink.delta(ModelDelta::Text(piece()));
            }
            "response.reasoning_summary_text.delta" | "response.reasoning_text.delta" => {
                self.begun = true;
                sink.delta(ModelDelta::Thinking(piece()));
            }
            "response.output_item.done" => self.item(&value)?,
            "response.completed" | "response.incomplete" | "response.failed" | "response.cancelled" => {
                let response = value.get("response").ok_or_else(|| Problem::Protocol("the last event holds no response".to_owned()))?;
                self.end(response)?;
            }
            "error" => return Err(provider_error(&value)),
            // Beginnings and ends of parts hold nothing more for us; new kinds must be ignored.
            _ if value.get("error").is_some_and(Value::is_object) => return Err(provider_error(&value)),
            _ => {}
        }
        Ok(())
    }

    fn whole(&mut self, answer: Value, sink: &mut dyn DeltaSink) -> Result<(), Problem> {
        if answer.get("output").is_none() {
            return Err(provider_error(&answer));
        }
        self.end(&answer)?;
        self.begun = true;
        for block in self.items.iter().flat_map(|(_, item)| item_from_wire(item.clone())) {
            match block {
                Block::Text { text, .. } => sink.delta(ModelDelta::Text(text)),
                Block::ToolUse { name, .. } => sink.delta(ModelDelta::ToolStarted { name }),
                _ => {}
            }
        }
        Ok(())
    }

    fn begun(&self) -> bool {
        self.begun
    }

    fn finish(self) -> Option<Result<ModelResponse, Problem>> {
        let stop = self.stop?;
        let content: Vec<Block> = self.items.into_iter().flat_map(|(_, item)| item_from_wire(item)).collect();
        let called = content.iter().any(|block| matches!(block, Block::ToolUse { .. }));
        let stop = match stop {
            ModelStop::EndTurn if called => ModelStop::ToolUse,
            ModelStop::EndTurn if self.refused => ModelStop::Refusal,
            stop => stop,
        };
        Some(Ok(ModelResponse { message: Message::new(Role::Assistant, content), stop, usage: self.usage.usage() }))
    }
}

impl Reader {
    fn item(&mut self, value: &Value) -> Result<(), Problem> {
        self.begun = true;
        let item = value.get("item").filter(|item| item.is_object());
        let item = item.ok_or_else(|| Problem::Protocol("an item ends without an item".to_owned()))?.clone();
        let at = value.get("output_index").and_then(Value::as_u64).unwrap_or(self.items.len() as u64);
        let place = self.items.partition_point(|(index, _)| *index <= at);
        self.items.insert(place, (at, item));
        Ok(())
    }

    /// Takes the response as it is at the end. Its items count only where none came before.
    fn end(&mut self, response: &Value) -> Result<(), Problem> {
        self.usage.value(response);
        let reason = response.pointer("/incomplete_details/reason").and_then(Value::as_str);
        self.stop = Some(match (response.get("status").and_then(Value::as_str), reason) {
            (Some("failed" | "cancelled"), _) => return Err(provider_error(response)),
            (Some("incomplete"), Some("max_output_tokens")) => ModelStop::MaxTokens,
            (Some("incomplete"), Some("content_filter")) => ModelStop::Refusal,
            (Some("incomplete"), other) => ModelStop::Other(other.unwrap_or("incomplete").to_owned()),
            _ => ModelStop::EndTurn,
        });
        if self.items.is_empty() {
            let output = response.get("output").and_then(Value::as_array).into_iter().flatten();
            self.items = output.enumerate().map(|(at, item)| (at as u64, item.clone())).collect();
        }
        let refusal = |(_, item): &(u64, Value)| {
            item.get("content").and_then(Value::as_array).into_iter().flatten().any(|part| part["type"] == "refusal")
        };
        self.refused |= self.items.iter().any(refusal);
        Ok(())
    }
}

/// An error under `error`, or the event `error` that holds one itself.
fn provider_error(value: &Value) -> Problem {
    let itself = || value.get("message").is_some().then(|| ProviderError::from_json(&serde_json::json!({"error": value}), None)).flatten();
    match ProviderError::from_json(value, None).or_else(itself) {
        Some(error) => Problem::Provider(error),
        None => Problem::Protocol("the answer holds neither output nor an error".to_owned()),
    }
}
