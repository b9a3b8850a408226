//! A script's answers in the formats of Responses, Gemini and Ollama.

use aedile_core::model::{Block, ModelStop};
use serde_json::{Value, json};

use crate::gemini;
use crate::script_wire::{Writer, pieces};

impl Writer {
    fn response_items(&self) -> Vec<Value> {
        let item = |(at, block): (usize, &Block)| match block {
            Block::Text { text, .. } => Some(json!({
                "type": "message", "id": format!("msg_{}_{at}", self.id), "role": "assistant", "status": "completed",
                "content": [{"type": "output_text", "text": text, "annotations": []}]
            })),
            Block::ToolUse { id, name, input, .. } => Some(json!({
                "type": "function_call", "id": format!("fc_{id}"), "call_id": id, "name": name, "arguments": input.to_string(), "status": "completed"
            })),
            _ => None,
        };
        self.response.message.content.iter().enumerate().filter_map(item).collect()
    }

    pub(crate) fn response(&self, status: &str) -> Value {
        let (input, output) = (self.usage.input_tokens, self.usage.output_tokens);
        let done = status == "completed";
        let usage = json!({
            "input_tokens": input, "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
            "output_tokens": output, "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": input + output
        });
        json!({
            "id": self.id, "object": "response", "created_at": 0, "model": self.model, "status": status, "error": null,
            "incomplete_details": null, "output": if done { self.response_items() } else { Vec::new() },
            "usage": if done { usage } else { Value::Null }, "parallel_tool_calls": true, "tool_choice": "auto", "tools": []
        })
    }

    pub(crate) fn response_events(&self) -> Vec<Value> {
        let mut events = vec![
            json!({"type": "response.created", "response": self.response("in_progress")}),
            json!({"type": "response.in_progress", "response": self.response("in_progress")}),
        ];
        for (index, item) in self.response_items().into_iter().enumerate() {
            let mut opened = item.clone();
            opened["status"] = json!("in_progress");
            let (text, kind) = if item["type"] == "message" {
                opened["content"] = json!([]);
                (item.pointer("/content/0/text"), "response.output_text.delta")
            } else {
                opened["arguments"] = json!("");
                (item.get("arguments"), "response.function_call_arguments.delta")
            };
            events.push(json!({"type": "response.output_item.added", "output_index": index, "item": opened}));
            for piece in pieces(text.and_then(Value::as_str).unwrap_or_default()) {
                events.push(json!({
                    "type": kind, "item_id": item["id"], "output_index": index, "content_index": 0, "delta": piece, "logprobs": []
                }));
            }
            events.push(json!({"type": "response.output_item.done", "output_index": index, "item": item}));
        }
        events.push(json!({"type": "response.completed", "response": self.response("completed")}));
        for (number, event) in events.iter_mut().enumerate() {
            event["sequence_number"] = json!(number);
        }
        events
    }

    fn gemini_chunk(&self, parts: &Value, ended: bool) -> Value {
        let (input, output) = (self.usage.input_tokens, self.usage.output_tokens);
        let mut candidate = json!({"content": {"role": "model", "parts": parts}, "index": 0});
        if ended {
            candidate["finishReason"] = json!("STOP");
        }
        json!({
            "candidates": [candidate], "modelVersion": self.model, "responseId": self.id,
            "usageMetadata": {"promptTokenCount": input, "candidatesTokenCount": output, "totalTokenCount": input + output}
        })
    }

    pub(crate) fn gemini_answer(&self) -> Value {
        let names = gemini::call_names(&[]);
        let mut content = gemini::message_to_wire(&self.response.message, &names);
        unsign(&mut content["parts"]);
        self.gemini_chunk(&content["parts"], true)
    }

    pub(crate) fn gemini_chunks(&self) -> Vec<Value> {
        let whole = self.gemini_answer();
        let parts = whole.pointer("/candidates/0/content/parts").and_then(Value::as_array).cloned().unwrap_or_default();
        let mut chunks = Vec::new();
        for part in parts {
            match part.get("text").and_then(Value::as_str) {
                Some(text) => chunks.extend(pieces(text).iter().map(|piece| self.gemini_chunk(&json!([{"text": piece}]), false))),
                None => chunks.push(self.gemini_chunk(&json!([part]), false)),
            }
        }
        chunks.push(self.gemini_chunk(&json!([{"text": ""}]), true));
        chunks
    }

    fn ollama_line(&self, message: &Value, ended: bool) -> Value {
        let mut line = json!({"model": self.model, "created_at": "1970-01-01T00:00:00Z", "message": message, "done": ended});
        if ended {
            line["done_reason"] = json!("stop");
            line["prompt_eval_count"] = json!(self.usage.input_tokens);
            line["eval_count"] = json!(self.usage.output_tokens);
        }
        line
    }

    fn ollama_calls(&self) -> Vec<Value> {
        let call = |block: &Block| match block {
            Block::ToolUse { id, name, input, .. } => Some(json!({"id": id, "function": {"name": name, "arguments": input}})),
            _ => None,
        };
        self.response.message.content.iter().filter_map(call).collect()
    }

    fn said(&self) -> String {
        let text = |block: &Block| match block {
            Block::Text { text, .. } => Some(text.clone()),
            _ => None,
        };
        self.response.message.content.iter().filter_map(text).collect()
    }

    pub(crate) fn ollama_answer(&self) -> Value {
        let mut message = json!({"role": "assistant", "content": self.said()});
        if self.response.stop == ModelStop::ToolUse {
            message["tool_calls"] = Value::Array(self.ollama_calls());
        }
        self.ollama_line(&message, true)
    }

    pub(crate) fn ollama_lines(&self) -> Vec<Value> {
        let text = pieces(&self.said());
        let mut lines: Vec<Value> =
            text.iter().map(|piece| self.ollama_line(&json!({"role": "assistant", "content": piece}), false)).collect();
        for call in self.ollama_calls() {
            lines.push(self.ollama_line(&json!({"role": "assistant", "content": "", "tool_calls": [call]}), false));
        }
        lines.push(self.ollama_line(&json!({"role": "assistant", "content": ""}), true));
        lines
    }
}

/// The mark that a call was made by another model belongs into requests only.
fn unsign(parts: &mut Value) {
    for fields in parts.as_array_mut().into_iter().flatten().filter_map(Value::as_object_mut) {
        fields.shift_remove("thoughtSignature");
    }
}
