//! Reads an answer in the Gemini format, from chunks or as a whole.

use std::sync::Arc;

use aedile_core::Entropy;
use aedile_core::model::{Block, DeltaSink, Message, ModelDelta, ModelResponse, ModelStop, Role};
use serde_json::{Value, json};

use crate::call::{AnswerReader, Problem, ProviderError};
use crate::format::ApiFormat;
use crate::gemini::part_from_wire;
use crate::meter::UsageReader;
use crate::openai_stream::new_id;
use crate::sse::SseEvent;

/// Collects the parts of one answer.
pub(crate) struct Reader {
    entropy: Arc<dyn Entropy>,
    parts: Vec<Value>,
    stop: Option<String>,
    begun: bool,
    usage: UsageReader,
}

impl Reader {
    pub(crate) fn new(entropy: Arc<dyn Entropy>) -> Self {
        Self { entropy, parts: Vec::new(), stop: None, begun: false, usage: UsageReader::new(ApiFormat::Gemini) }
    }

    fn chunk(&mut self, chunk: &Value, sink: &mut dyn DeltaSink) -> Result<(), Problem> {
        if let Some(error) = ProviderError::from_json(chunk, None) {
            return Err(Problem::Provider(error));
        }
        self.usage.value(chunk);
        if let Some(reason) = chunk.pointer("/promptFeedback/blockReason").and_then(Value::as_str) {
            self.stop = Some(reason.to_owned());
        }
        let Some(candidate) = chunk.pointer("/candidates/0") else { return Ok(()) };
        for part in candidate.pointer("/content/parts").and_then(Value::as_array).into_iter().flatten() {
            self.part(part, sink);
        }
        match candidate.get("finishReason").and_then(Value::as_str) {
            None | Some("FINISH_REASON_UNSPECIFIED") => {}
            // The model wrote a call that cannot be read; another try usually mends it.
            Some(reason @ ("MALFORMED_FUNCTION_CALL" | "UNEXPECTED_TOOL_CALL" | "MALFORMED_RESPONSE")) => {
                let said = candidate.get("finishMessage").and_then(Value::as_str).unwrap_or_default();
                let message = format!("{reason} {said}").trim_end().to_owned();
                return Err(Problem::Provider(ProviderError { status: 500, kind: reason.to_owned(), message, after: None, next: None }));
            }
            Some(reason) => self.stop = Some(reason.to_owned()),
        }
        Ok(())
    }

    /// Takes a part. Texts of the same kind grow together until one bears a signature, which belongs to exactly its part.
    fn part(&mut self, part: &Value, sink: &mut dyn DeltaSink) {
        self.begun = true;
        let thought = part.get("thought") == Some(&Value::Bool(true));
        if let Some(name) = part.pointer("/functionCall/name").and_then(Value::as_str) {
            sink.delta(ModelDelta::ToolStarted { name: name.to_owned() });
        }
        let Some(text) = part.get("text").and_then(Value::as_str) else { return self.parts.push(part.clone()) };
        if !text.is_empty() {
            sink.delta(if thought { ModelDelta::Thinking(text.to_owned()) } else { ModelDelta::Text(text.to_owned()) });
        }
        let plain =
            |part: &Value| part.as_object().is_some_and(|fields| fields.keys().all(|key| matches!(key.as_str(), "text" | "thought")));
        let grows = |last: &&mut Value| plain(last) && last.get("text").is_some() && (last.get("thought") == Some(&json!(true))) == thought;
        match self.parts.last_mut().filter(|_| plain(part)).filter(grows) {
            Some(last) => last["text"] = json!(format!("{}{text}", last["text"].as_str().unwrap_or_default())),
            None => self.parts.push(part.clone()),
        }
    }
}

impl AnswerReader for Reader {
    fn event(&mut self, event: &SseEvent, sink: &mut dyn DeltaSink) -> Result<(), Problem> {
        let chunk: Value =
            serde_json::from_str(&event.data).map_err(|error| Problem::Protocol(format!("a chunk is broken JSON: {error}")))?;
        self.chunk(&chunk, sink)
    }

    fn whole(&mut self, answer: Value, sink: &mut dyn DeltaSink) -> Result<(), Problem> {
        self.chunk(&answer, sink)
    }

    fn begun(&self) -> bool {
        self.begun
    }

    fn finish(self) -> Option<Result<ModelResponse, Problem>> {
        let reason = self.stop?;
        let empty =
            |part: &Value| part.as_object().is_some_and(|fields| fields.len() == 1) && part.get("text").is_some_and(|text| text == "");
        let parts = self.parts.into_iter().filter(|part| !empty(part));
        let content: Vec<Block> = parts.map(|part| part_from_wire(part, &new_id(&*self.entropy))).collect();
        let called = content.iter().any(|block| matches!(block, Block::ToolUse { .. }));
        let stop = match reason.as_str() {
            "MAX_TOKENS" => ModelStop::MaxTokens,
            "STOP" if called => ModelStop::ToolUse,
            "STOP" => ModelStop::EndTurn,
            "SAFETY" | "RECITATION" | "BLOCKLIST" | "PROHIBITED_CONTENT" | "SPII" | "LANGUAGE" | "IMAGE_SAFETY" | "OTHER"
                if content.is_empty() =>
            {
                ModelStop::Refusal
            }
            "SAFETY" | "RECITATION" | "BLOCKLIST" | "PROHIBITED_CONTENT" | "SPII" => ModelStop::Refusal,
            other => ModelStop::Other(other.to_owned()),
        };
        Some(Ok(ModelResponse { message: Message::new(Role::Assistant, content), stop, usage: self.usage.usage() }))
    }
}
