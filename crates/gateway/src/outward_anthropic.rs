//! What an Anthropic Messages request may hold. Only what is listed passes at the top; in messages, everything whose content is there.

use serde_json::{Map, Value};

use crate::outward::{each, foreign_tool, inner, outside, search, set};

/// Not among them: `mcp_servers`, `container`, `thread` (servers and places at the provider), `fallbacks` and what pays for them (another
/// model, another account), `compaction`, `workspace_id`, `user_profile_id`, `billing_policy`.
const FIELDS: &[&str] = &[
    "model",
    "messages",
    "system",
    "tools",
    "tool_choice",
    "max_tokens",
    "metadata",
    "stop_sequences",
    "stream",
    "temperature",
    "top_k",
    "top_p",
    "thinking",
    "output_config",
    "output_format",
    "context_management",
    "cache_control",
    "service_tier",
    "speed",
    "inference_geo",
    "diagnostics",
];
/// Edits that only leave something out. Every other one (`compact_...`) asks a model once more, beside what was reserved for the request.
const EDITS: &[&str] = &["clear_tool_uses_20250919", "clear_thinking_20251015"];
/// Tools that the client executes, besides those without a type: its own, and those whose form alone is Anthropic's.
const TOOLS: &[&str] = &[
    "custom",
    "bash_20241022",
    "bash_20250124",
    "text_editor_20241022",
    "text_editor_20250124",
    "text_editor_20250429",
    "text_editor_20250728",
    "memory_20250818",
];
/// Kinds of sources whose content stands in the request; a `content` source holds further blocks.
const SOURCES: &[&str] = &["base64", "text", "content"];
/// What a tool was given is text to the provider, whatever it looks like.
const OPAQUE: &[&str] = &["input"];

/// Names the part of a request that would make the provider reach out or keep something, if there is one.
pub(crate) fn reaches_out(body: &Map<String, Value>) -> Option<String> {
    outside(body, FIELDS)
        .or_else(|| edits(body.get("context_management")))
        .or_else(|| foreign_tool(body.get("tools"), TOOLS, true))
        .or_else(|| body.get("messages").and_then(|messages| search(messages, OPAQUE, &source_outside)))
        .or_else(|| body.get("system").and_then(|system| search(system, OPAQUE, &source_outside)))
}

fn edits(management: Option<&Value>) -> Option<String> {
    inner(management, &["edits"]).or_else(|| {
        each(management.and_then(|management| management.get("edits")), |edit| match edit.get("type").and_then(Value::as_str) {
            Some(kind) if EDITS.contains(&kind) => None,
            kind => Some(format!("the context edit `{}`", kind.unwrap_or_default().chars().take(100).collect::<String>())),
        })
    })
}

/// A source that the provider would fetch, or a file that lies there.
fn source_outside(fields: &Map<String, Value>) -> Option<String> {
    if fields.get("file_id").is_some_and(set) {
        return Some("a source of type `file`".to_owned());
    }
    match fields.get("source") {
        // A source that is a text only says where something came from.
        None | Some(Value::Null | Value::String(_)) => None,
        Some(source) => match source.get("type").and_then(Value::as_str) {
            Some(kind) if SOURCES.contains(&kind) => None,
            kind => Some(format!("a source of type `{}`", kind.unwrap_or_default().chars().take(100).collect::<String>())),
        },
    }
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
        let picture = |source: Value| json!({ "type": "image", "source": source });
        let url = json!({ "type": "url", "url": "https://x/y.png" });
        let held = |inner: Value| json!({ "type": "document", "source": { "type": "content", "content": inner } });
        for (body, word) in [
            (json!({ "mcp_servers": [{ "url": "https://x" }] }), "mcp_servers"),
            (json!({ "mcp_servers": { "url": "https://x" } }), "mcp_servers"),
            (json!({ "container": "c" }), "container"),
            (json!({ "thread": { "id": "t" } }), "thread"),
            (json!({ "fallbacks": [{ "model": "dearer" }] }), "fallbacks"),
            (json!({ "fallback_credit_token": "x" }), "fallback_credit_token"),
            (json!({ "billing_policy": {} }), "billing_policy"),
            (json!({ "workspace_id": "w" }), "workspace_id"),
            (json!({ "user_profile_id": "u" }), "user_profile_id"),
            (json!({ "compaction": { "enabled": true } }), "compaction"),
            (json!({ "something_new": 1 }), "something_new"),
            (json!({ "context_management": { "edits": [{ "type": "compact_20260112" }] } }), "compact_20260112"),
            (json!({ "context_management": { "edits": { "type": "compact_20260112" } } }), "no list"),
            (json!({ "context_management": { "other": 1 } }), "other"),
            (json!({ "tools": [{ "type": "web_search_20250305", "name": "web_search" }] }), "web_search"),
            (json!({ "tools": { "type": "web_search_20250305", "name": "web_search" } }), "no list"),
            (json!({ "tools": [{ "type": ["web_search_20250305"] }] }), "without a type"),
            (part(picture(url.clone())), "url"),
            (part(picture(json!({ "type": "file", "file_id": "f" }))), "file"),
            (part(picture(json!(["https://x"]))), "source of type"),
            (part(json!({ "type": "container_upload", "file_id": "f" })), "file"),
            (part(held(json!([picture(url.clone())]))), "url"),
            (part(held(picture(url.clone()))), "url"),
            (part(json!({ "type": "tool_result", "content": [held(json!([picture(url.clone())]))] })), "url"),
            (json!({ "messages": { "role": "user", "content": [picture(url.clone())] } }), "url"),
            (json!({ "system": [picture(url)] }), "url"),
        ] {
            assert!(out(&body).is_some_and(|what| what.contains(word)), "{body}: {:?}", out(&body));
        }
    }

    #[test]
    fn ordinary_requests_pass() {
        let call = json!({ "type": "tool_use", "id": "1", "name": "bash", "input": { "type": "image", "source": { "type": "url" }, "file_id": 1 } });
        let body = json!({
            "model": "m", "max_tokens": 1, "mcp_servers": [], "system": [{ "type": "text", "text": "s", "cache_control": { "type": "ephemeral" } }],
            "tools": [{ "name": "bash", "input_schema": {} }, { "type": "custom", "name": "x" }, { "type": "bash_20250124", "name": "bash" }],
            "context_management": { "edits": [{ "type": "clear_thinking_20251015", "keep": "all" }] },
            "messages": [
                { "role": "assistant", "content": [call] },
                { "role": "user", "content": [
                    { "type": "image", "source": { "type": "base64", "media_type": "image/png", "data": "AA==" } },
                    { "type": "search_result", "source": "https://x", "title": "t", "content": [{ "type": "text", "text": "https://x" }] }
                ] }
            ]
        });
        assert_eq!(out(&body), None);
    }
}
