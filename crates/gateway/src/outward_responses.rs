//! What an OpenAI Responses request may hold. The format can do much at the provider, so only what is listed passes.

use serde_json::{Map, Value};

use crate::outward::{each, foreign_tool, is_address, outside, set};

/// Fields that change nothing but the answer itself. Not among them: `background`, `store`, `previous_response_id`, `conversation`,
/// `prompt` (all of which live at the provider), `context_management` and `moderation` (which call further models).
const FIELDS: &[&str] = &[
    "model",
    "input",
    "instructions",
    "max_output_tokens",
    "max_tool_calls",
    "tools",
    "tool_choice",
    "parallel_tool_calls",
    "stream",
    "stream_options",
    "include",
    "text",
    "reasoning",
    "temperature",
    "top_p",
    "top_logprobs",
    "truncation",
    "metadata",
    "client_metadata",
    "user",
    "safety_identifier",
    "prompt_cache_key",
    "prompt_cache_retention",
    "service_tier",
];
/// Tools that the client executes.
const TOOLS: &[&str] = &["function", "custom", "local_shell", "apply_patch", "namespace"];
/// Items of a conversation that hold all that they mean.
const ITEMS: &[&str] = &[
    "message",
    "reasoning",
    "compaction",
    "function_call",
    "function_call_output",
    "custom_tool_call",
    "custom_tool_call_output",
    "local_shell_call",
    "local_shell_call_output",
    "apply_patch_call",
    "apply_patch_call_output",
];
/// Parts of messages and of what tools answered.
const PARTS: &[&str] = &["text", "input_text", "output_text", "refusal", "summary_text", "reasoning_text", "input_image", "input_file"];

/// Names the part of a request that would make the provider reach out or keep something, if there is one.
pub(crate) fn reaches_out(body: &Map<String, Value>) -> Option<String> {
    outside(body, FIELDS).or_else(|| tools(body.get("tools"))).or_else(|| items(body.get("input")))
}

fn tools(tools: Option<&Value>) -> Option<String> {
    // A namespace holds tools of its own.
    foreign_tool(tools, TOOLS, false)
        .or_else(|| each(tools, |tool| (tool["type"] == "namespace").then(|| self::tools(tool.get("tools"))).flatten()))
}

fn items(input: Option<&Value>) -> Option<String> {
    if input.is_some_and(Value::is_string) {
        return None;
    }
    each(input, |item| {
        let kind = item.get("type").and_then(Value::as_str).unwrap_or("message");
        if !ITEMS.contains(&kind) {
            return Some(format!("an item of type `{kind}`"));
        }
        parts(item.get("content")).or_else(|| parts(item.get("output")))
    })
}

fn parts(content: Option<&Value>) -> Option<String> {
    if content.is_some_and(Value::is_string) {
        return None;
    }
    each(content, |part| {
        let kind = part.get("type").and_then(Value::as_str).unwrap_or("text");
        if !PARTS.contains(&kind) {
            Some(format!("a part of type `{kind}`"))
        } else if part.get("file_id").is_some_and(set) {
            Some("an uploaded file".to_owned())
        } else if part.get("file_url").is_some_and(set) {
            Some("`file_url`".to_owned())
        } else if part.get("image_url").is_some_and(is_address) {
            Some("an image address".to_owned())
        } else {
            None
        }
    })
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
        let part = |part: Value| json!({ "input": [{ "role": "user", "content": [part] }] });
        let output = |part: Value| json!({ "input": [{ "type": "function_call_output", "call_id": "c", "output": [part] }] });
        for (body, word) in [
            (json!({ "background": true }), "background"),
            (json!({ "store": true }), "store"),
            (json!({ "previous_response_id": "resp_1" }), "previous_response_id"),
            (json!({ "conversation": "conv_1" }), "conversation"),
            (json!({ "prompt": { "id": "pmpt_1" } }), "prompt"),
            (json!({ "context_management": [{ "type": "compaction" }] }), "context_management"),
            (json!({ "moderation": { "model": "m" } }), "moderation"),
            (json!({ "background_options": { "completion_window": "2h" } }), "background_options"),
            (json!({ "prompt_cache_options": { "prewarm": true } }), "prompt_cache_options"),
            (json!({ "image": {} }), "image"),
            (json!({ "something_new": 1 }), "something_new"),
            (json!({ "tools": [{ "type": "web_search" }] }), "web_search"),
            (json!({ "tools": [{ "type": "web_search_preview" }] }), "web_search_preview"),
            (json!({ "tools": [{ "type": "file_search", "vector_store_ids": ["v"] }] }), "file_search"),
            (json!({ "tools": [{ "type": "code_interpreter" }] }), "code_interpreter"),
            (json!({ "tools": [{ "type": "mcp", "server_url": "https://x" }] }), "mcp"),
            (json!({ "tools": [{ "type": "image_generation" }] }), "image_generation"),
            (json!({ "tools": [{ "type": "computer" }] }), "computer"),
            (json!({ "tools": [{ "type": "shell" }] }), "shell"),
            (json!({ "tools": [{ "type": "tool_search" }] }), "tool_search"),
            (json!({ "tools": [{ "name": "x" }] }), "without a type"),
            (json!({ "tools": [{ "type": "namespace", "tools": [{ "type": "mcp" }] }] }), "mcp"),
            (json!({ "input": [{ "type": "item_reference", "id": "msg_1" }] }), "item_reference"),
            (json!({ "input": [{ "type": "mcp_approval_response" }] }), "mcp_approval_response"),
            (json!({ "input": [{ "type": "additional_tools", "tools": [] }] }), "additional_tools"),
            (part(json!({ "type": "input_image", "image_url": "https://x/y.png" })), "image address"),
            (part(json!({ "type": "input_image", "image_url": { "url": "https://x/y.png" } })), "image address"),
            (part(json!({ "type": "input_image", "file_id": "file-1" })), "uploaded file"),
            (part(json!({ "type": "input_file", "file_url": "https://x/y.pdf" })), "file_url"),
            (part(json!({ "type": "input_file", "file_id": "file-1" })), "uploaded file"),
            (part(json!({ "type": "input_video" })), "input_video"),
            (output(json!({ "type": "input_image", "image_url": "https://x/y.png" })), "image address"),
            (json!({ "tools": { "type": "web_search" } }), "no list"),
            (json!({ "input": { "type": "item_reference", "id": "msg_1" } }), "no list"),
            (json!({ "input": [{ "role": "user", "content": { "type": "input_file", "file_id": "f" } }] }), "no list"),
            (output(json!({ "type": "input_file", "file_id": "file-1" })), "uploaded file"),
        ] {
            assert!(out(&body).is_some_and(|what| what.contains(word)), "{body}: {:?}", out(&body));
        }
    }

    #[test]
    fn ordinary_requests_pass() {
        let body = json!({
            "model": "gpt-6-sol", "instructions": "s", "store": false, "background": false, "previous_response_id": null, "stream": true,
            "tools": [{ "type": "function", "name": "a" }, { "type": "custom", "name": "b" }, { "type": "namespace", "tools": [{ "type": "function" }] }],
            "input": [
                { "role": "user", "content": "https://x" },
                { "type": "message", "role": "user", "content": [{ "type": "input_image", "image_url": "data:image/png;base64,AA==" }] },
                { "type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "x" },
                { "type": "function_call", "call_id": "c", "name": "a", "arguments": "{\"file_id\": 1}" },
                { "type": "function_call_output", "call_id": "c", "output": "{\"image_url\": \"https://x\"}" }
            ]
        });
        assert_eq!(out(&body), None);
        assert_eq!(out(&json!({ "input": "hello" })), None);
    }
}
