//! What a Chat Completions request may hold. Many servers speak the format and do things of their own, so only what is listed passes.

use serde_json::{Map, Value};

use crate::outward::{each, foreign_tool, is_address, outside, search, set};

/// Fields of OpenAI's and of the servers that speak its format which change nothing but the answer itself. Not among them:
/// `web_search_options`, `search_parameters`, `plugins` (which search), `store`, `background`, `previous_response_id` (which keep),
/// `models`, `route`, `provider`, `moderation` (which ask another model or another server).
const FIELDS: &[&str] = &[
    "model",
    "messages",
    "tools",
    "tool_choice",
    "parallel_tool_calls",
    "functions",
    "function_call",
    "stream",
    "stream_options",
    "tool_stream",
    "max_tokens",
    "max_completion_tokens",
    "min_tokens",
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "typical_p",
    "frequency_penalty",
    "presence_penalty",
    "repetition_penalty",
    "logit_bias",
    "logprobs",
    "top_logprobs",
    "n",
    "seed",
    "random_seed",
    "stop",
    "stop_token_ids",
    "ignore_eos",
    "skip_special_tokens",
    "guided_json",
    "guided_regex",
    "guided_choice",
    "guided_grammar",
    "response_format",
    "prediction",
    "modalities",
    "audio",
    "verbosity",
    "reasoning_effort",
    "reasoning",
    "reasoning_format",
    "reasoning_split",
    "include_reasoning",
    "thinking",
    "thinking_budget",
    "enable_thinking",
    "chat_template_kwargs",
    "chat_template_args",
    "safe_prompt",
    "metadata",
    "user",
    "safety_identifier",
    "service_tier",
    "prompt_cache_key",
    "prompt_cache_retention",
    "cache_prompt",
    "cache_control",
    "usage",
];
/// Tools that the client executes.
const TOOLS: &[&str] = &["function", "custom"];
/// Parts of a message whose content stands in the request.
const PARTS: &[&str] = &["text", "refusal", "thinking", "reasoning", "image_url", "input_audio", "file"];

/// Names the part of a request that would make the provider reach out or keep something, if there is one.
pub(crate) fn reaches_out(body: &Map<String, Value>) -> Option<String> {
    outside(body, FIELDS)
        .or_else(|| foreign_tool(body.get("tools"), TOOLS, false))
        .or_else(|| each(body.get("messages"), |message| content(message.get("content"))))
}

fn content(content: Option<&Value>) -> Option<String> {
    if content.is_some_and(Value::is_string) {
        return None;
    }
    each(content, |part| {
        let kind = part.get("type").and_then(Value::as_str).unwrap_or("text");
        if !PARTS.contains(&kind) {
            return Some(format!("a part of type `{}`", kind.chars().take(100).collect::<String>()));
        }
        search(part, &[], &address)
    })
}

/// An address or an uploaded file anywhere in a part, whatever the part calls itself.
fn address(fields: &Map<String, Value>) -> Option<String> {
    fields.iter().find_map(|(name, value)| match name.as_str() {
        "file_id" if set(value) => Some("an uploaded file".to_owned()),
        "input_audio" if value.get("data").is_some_and(|data| set(data) && !data.as_str().is_some_and(is_base64)) => {
            Some("the address of a sound".to_owned())
        }
        "file_data" if value.as_str().is_some_and(|data| data.contains("://")) => Some("the address of a file".to_owned()),
        "url" if is_address(value) => Some("an address".to_owned()),
        name if name.ends_with("_url") && !value.is_object() && is_address(value) => Some(format!("an address in `{name}`")),
        _ => None,
    })
}

fn is_base64(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=' | b'-' | b'_'))
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
        let part = |part: Value| json!({ "messages": [{ "role": "user", "content": [part] }] });
        for (body, word) in [
            (json!({ "web_search_options": {} }), "web_search_options"),
            (json!({ "search_parameters": { "mode": "on" } }), "search_parameters"),
            (json!({ "plugins": [{ "id": "web" }] }), "plugins"),
            (json!({ "models": ["dearer"] }), "models"),
            (json!({ "route": "fallback" }), "route"),
            (json!({ "provider": { "order": ["x"] } }), "provider"),
            (json!({ "store": true }), "store"),
            (json!({ "background": true }), "background"),
            (json!({ "previous_response_id": "r" }), "previous_response_id"),
            (json!({ "moderation": { "model": "m" } }), "moderation"),
            (json!({ "tools": [{ "type": "web_search" }] }), "web_search"),
            (json!({ "tools": { "type": "web_search" } }), "no list"),
            (json!({ "tools": [{ "name": "x" }] }), "without a type"),
            (part(json!({ "type": "image_url", "image_url": { "url": "https://x/y.png" } })), "address"),
            (part(json!({ "type": "image_url", "image_url": "https://x/y.png" })), "address"),
            (part(json!({ "image_url": "https://x/y.png" })), "address"),
            (part(json!({ "type": "text", "text": "x", "image_url": { "url": ["https://x"] } })), "address"),
            (part(json!({ "type": "video_url", "video_url": { "url": "https://x" } })), "video_url"),
            (part(json!({ "type": "document_url", "document_url": "https://x" })), "document_url"),
            (part(json!({ "type": "file", "file": { "file_id": "f" } })), "uploaded file"),
            (part(json!({ "type": "file", "file": { "file_data": "https://x" } })), "address of a file"),
            (part(json!({ "type": "input_audio", "input_audio": { "data": "https://x/y.wav", "format": "wav" } })), "address of a sound"),
            (json!({ "messages": [{ "role": "user", "content": { "type": "video_url" } }] }), "no list"),
            (json!({ "messages": { "role": "user", "content": [{ "type": "video_url" }] } }), "no list"),
        ] {
            assert!(out(&body).is_some_and(|what| what.contains(word)), "{body}: {:?}", out(&body));
        }
    }

    #[test]
    fn ordinary_requests_pass() {
        let image = |image: Value| json!({ "type": "image_url", "image_url": image });
        let body = json!({
            "model": "m", "store": false, "web_search_options": null, "stream_options": { "include_usage": true },
            "tools": [{ "type": "function", "function": { "name": "f", "parameters": { "url": "https://x" } } }],
            "messages": [
                { "role": "user", "content": "https://x" },
                { "role": "user", "content": [
                    image(json!({ "url": "data:image/png;base64,AA==" })),
                    image(json!("data:image/png;base64,AA==")),
                    { "type": "file", "file": { "filename": "a.pdf", "file_data": "data:application/pdf;base64,AA==" } },
                    { "type": "input_audio", "input_audio": { "data": "UklGRg+/AA==", "format": "wav" } },
                    { "type": "text", "text": "https://x" }
                ] },
                { "role": "assistant", "content": null, "tool_calls": [{ "function": { "name": "f", "arguments": "{\"image_url\": \"https://x\"}" } }] },
                { "role": "tool", "content": "https://x" }
            ]
        });
        assert_eq!(out(&body), None);
    }
}
