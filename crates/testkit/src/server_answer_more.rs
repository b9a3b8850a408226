//! Writes the answers of the scripted server in the formats of Responses, Gemini and Ollama.

use serde_json::{Value, json};

use crate::server_answer::{Answer, halves};

impl Answer {
    fn response_items(&self, turn: usize) -> Vec<Value> {
        let text = (!self.text.is_empty()).then(|| {
            let part = json!({"type": "output_text", "text": self.text, "annotations": [], "logprobs": []});
            json!({"type": "message", "id": format!("msg_{turn}"), "role": "assistant", "status": "completed", "content": [part]})
        });
        let call = |(at, (name, input)): (usize, &(String, Value))| {
            json!({"type": "function_call", "id": format!("fc_{turn}_{at}"), "call_id": format!("call_{turn}_{at}"), "name": name,
                "arguments": input.to_string(), "status": "completed"})
        };
        text.into_iter().chain(self.tools.iter().enumerate().map(call)).collect()
    }

    fn response_usage(&self) -> Value {
        match self.usage {
            None => Value::Null,
            Some([input, output, read, write]) => json!({
                "input_tokens": input + read + write, "input_tokens_details": {"cached_tokens": read, "cache_write_tokens": write},
                "output_tokens": output, "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": input + read + write + output
            }),
        }
    }

    pub(crate) fn response(&self, model: &str, turn: usize) -> Value {
        json!({
            "id": format!("resp_{turn}"), "object": "response", "created_at": 0, "model": model, "status": "completed", "error": null,
            "incomplete_details": null, "instructions": null, "metadata": {}, "parallel_tool_calls": true, "temperature": 1.0,
            "top_p": 1.0, "tool_choice": "auto", "tools": [], "output": self.response_items(turn), "usage": self.response_usage()
        })
    }

    pub(crate) fn response_events(&self, model: &str, turn: usize) -> Vec<Value> {
        let mut begun = self.response(model, turn);
        begun["status"] = json!("in_progress");
        begun["output"] = json!([]);
        begun["usage"] = Value::Null;
        let mut events =
            vec![json!({"type": "response.created", "response": begun}), json!({"type": "response.in_progress", "response": begun})];
        for (index, item) in self.response_items(turn).into_iter().enumerate() {
            let place = json!({"item_id": item["id"], "output_index": index});
            let at = |kind: &str, fields: Value| {
                let mut event = json!({"type": kind});
                for more in [&place, &fields] {
                    event.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
                }
                event
            };
            let mut opened = item.clone();
            opened["status"] = json!("in_progress");
            if item["type"] == "message" {
                opened["content"] = json!([]);
                events.push(json!({"type": "response.output_item.added", "output_index": index, "item": opened}));
                let part = |text: &str| json!({"content_index": 0, "part": {"type": "output_text", "text": text, "annotations": []}});
                events.push(at("response.content_part.added", part("")));
                let piece = |piece: &str| at("response.output_text.delta", json!({"content_index": 0, "delta": piece, "logprobs": []}));
                events.extend(halves(&self.text).into_iter().map(piece));
                events.push(at("response.output_text.done", json!({"content_index": 0, "text": self.text, "logprobs": []})));
                events.push(at("response.content_part.done", part(&self.text)));
            } else {
                let arguments = item["arguments"].as_str().unwrap();
                opened["arguments"] = json!("");
                events.push(json!({"type": "response.output_item.added", "output_index": index, "item": opened}));
                let piece = |piece: &str| at("response.function_call_arguments.delta", json!({"delta": piece}));
                events.extend(halves(arguments).into_iter().map(piece));
                let done = json!({"name": item["name"], "arguments": arguments});
                events.push(at("response.function_call_arguments.done", done));
            }
            events.push(json!({"type": "response.output_item.done", "output_index": index, "item": item}));
        }
        events.push(json!({"type": "response.completed", "response": self.response(model, turn)}));
        for (number, event) in events.iter_mut().enumerate() {
            event["sequence_number"] = json!(number);
        }
        events
    }

    fn gemini_chunk(&self, parts: &[Value], ended: bool, model: &str, turn: usize) -> Value {
        let mut candidate = json!({"content": {"role": "model", "parts": parts}, "index": 0});
        if ended {
            candidate["finishReason"] = json!("STOP");
        }
        let mut chunk = json!({"candidates": [candidate], "modelVersion": model, "responseId": format!("response_{turn}")});
        if let Some([input, output, read, _]) = self.usage {
            chunk["usageMetadata"] = json!({
                "promptTokenCount": input + read, "cachedContentTokenCount": read, "candidatesTokenCount": output,
                "totalTokenCount": input + read + output
            });
        }
        chunk
    }

    fn gemini_calls(&self, turn: usize) -> Vec<Value> {
        let call = |(at, (name, input)): (usize, &(String, Value))| {
            let mut part = json!({"functionCall": {"name": name, "args": input}});
            if at == 0 {
                part["thoughtSignature"] = json!(format!("c2lnbmF0dXJl{turn:04}"));
            }
            part
        };
        self.tools.iter().enumerate().map(call).collect()
    }

    pub(crate) fn gemini_answer(&self, model: &str, turn: usize) -> Value {
        let text = (!self.text.is_empty()).then(|| json!({"text": self.text}));
        let parts: Vec<Value> = text.into_iter().chain(self.gemini_calls(turn)).collect();
        self.gemini_chunk(&parts, true, model, turn)
    }

    pub(crate) fn gemini_chunks(&self, model: &str, turn: usize) -> Vec<Value> {
        let texts = halves(&self.text).into_iter().map(|piece| json!({"text": piece}));
        let parts: Vec<Value> = texts.chain(self.gemini_calls(turn)).collect();
        let mut chunks: Vec<Value> = parts.iter().map(|part| self.gemini_chunk(std::slice::from_ref(part), false, model, turn)).collect();
        chunks.push(self.gemini_chunk(&[json!({"text": ""})], true, model, turn));
        chunks
    }

    fn ollama_line(&self, message: &Value, ended: bool, model: &str) -> Value {
        let mut line = json!({"model": model, "created_at": "2026-01-01T00:00:00Z", "message": message, "done": ended});
        if ended {
            line["done_reason"] = json!("stop");
            if let Some([input, output, ..]) = self.usage {
                line["prompt_eval_count"] = json!(input);
                line["eval_count"] = json!(output);
            }
        }
        line
    }

    fn ollama_calls(&self) -> Vec<Value> {
        self.tools.iter().map(|(name, input)| json!({"function": {"name": name, "arguments": input}})).collect()
    }

    pub(crate) fn ollama_answer(&self, model: &str, _turn: usize) -> Value {
        self.ollama_line(&json!({"role": "assistant", "content": self.text, "tool_calls": self.ollama_calls()}), true, model)
    }

    pub(crate) fn ollama_lines(&self, model: &str, _turn: usize) -> Vec<Value> {
        let said = |piece: &str| json!({"role": "assistant", "content": piece});
        let mut lines: Vec<Value> = halves(&self.text).into_iter().map(|piece| self.ollama_line(&said(piece), false, model)).collect();
        for call in self.ollama_calls() {
            let message = json!({"role": "assistant", "content": "", "tool_calls": [call]});
            lines.push(self.ollama_line(&message, false, model));
        }
        lines.push(self.ollama_line(&said(""), true, model));
        lines
    }
}
