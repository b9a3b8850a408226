//! What an Ollama request may hold. Its server fetches nothing for a chat; the list keeps it so when it learns to.

use serde_json::{Map, Value};

use crate::outward::{each, foreign_tool, outside};

const FIELDS: &[&str] =
    &["model", "messages", "tools", "stream", "format", "options", "think", "keep_alive", "truncate", "shift", "logprobs", "top_logprobs"];
const MESSAGE: &[&str] = &["role", "content", "thinking", "images", "tool_calls", "tool_name", "tool_call_id"];

/// Names the part of a request that would make the provider reach out, if there is one.
pub(crate) fn reaches_out(body: &Map<String, Value>) -> Option<String> {
    outside(body, FIELDS).or_else(|| foreign_tool(body.get("tools"), &["function"], false)).or_else(|| {
        each(body.get("messages"), |message| match message {
            Value::Object(fields) => outside(fields, MESSAGE).or_else(|| each(fields.get("images"), picture)),
            _ => Some("a message that is no object".to_owned()),
        })
    })
}

/// Pictures are data, never addresses.
fn picture(image: &Value) -> Option<String> {
    let base64 = |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'='));
    (!image.as_str().is_some_and(base64)).then(|| "an image address".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn out(body: &Value) -> Option<String> {
        reaches_out(body.as_object().unwrap())
    }

    #[test]
    fn every_way_out_is_named() {
        let message = |message: Value| json!({ "messages": [message] });
        for (body, word) in [
            (json!({ "web_search": true }), "web_search"),
            (json!({ "template": "x" }), "template"),
            (json!({ "tools": [{ "type": "web_search" }] }), "web_search"),
            (json!({ "tools": [{ "name": "x" }] }), "without a type"),
            (json!({ "tools": { "type": "web_search" } }), "no list"),
            (message(json!({ "role": "user", "images": "https://x/y.png" })), "no list"),
            (message(json!({ "role": "user", "content": "x", "file": "https://x" })), "file"),
            (message(json!({ "role": "user", "images": ["https://x/y.png"] })), "image address"),
            (message(json!("x")), "no object"),
        ] {
            assert!(out(&body).is_some_and(|what| what.contains(word)), "{body}: {:?}", out(&body));
        }
    }

    #[test]
    fn ordinary_requests_pass() {
        let body = json!({
            "model": "m", "stream": false, "options": { "num_ctx": 1 }, "tools": [{ "type": "function", "function": { "name": "x" } }],
            "messages": [
                { "role": "user", "content": "https://x", "images": ["AA=="] },
                { "role": "assistant", "content": "", "tool_calls": [{ "function": { "name": "x", "arguments": { "file": 1 } } }] },
                { "role": "tool", "tool_name": "x", "content": "y" }
            ]
        });
        assert_eq!(out(&body), None);
    }
}
