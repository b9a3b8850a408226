//! Requests that would make the *provider* fetch, search, execute or keep something: a way round the box, so they are refused.

use aedile_models::ApiFormat;
use serde_json::{Map, Value};

use crate::{outward_gemini, outward_ollama, outward_responses};

/// Top-level fields of Anthropic's Messages that name servers or containers at the provider, go on with what it kept, answer with another
/// model than the granted one, or charge another account.
const ANTHROPIC_FIELDS: &[&str] =
    &["mcp_servers", "container", "thread", "fallbacks", "fallback_credit_token", "billing_policy", "workspace_id", "user_profile_id"];
/// Top-level fields of OpenAI's Chat Completions that search the web, keep the conversation or call another model.
const OPENAI_FIELDS: &[&str] = &["web_search_options", "store", "background", "previous_response_id", "moderation"];
/// How deep a message is looked into; deeper ones are refused.
const DEPTH_MAX: usize = 64;

/// Whether a field says anything.
pub(crate) fn set(value: &Value) -> bool {
    !matches!(value, Value::Null | Value::Bool(false)) && value.as_array().is_none_or(|list| !list.is_empty())
}

/// The first field that is set and not in the list.
pub(crate) fn outside(fields: &Map<String, Value>, known: &[&str]) -> Option<String> {
    let found = fields.iter().find(|(name, value)| set(value) && !known.contains(&name.as_str()));
    found.map(|(name, _)| format!("`{}`", name.chars().take(100).collect::<String>()))
}

/// Names the part of a request that would make the provider reach out, if there is one.
pub(crate) fn reaches_out(format: ApiFormat, body: &Map<String, Value>) -> Option<String> {
    let fields = match format {
        ApiFormat::Anthropic => ANTHROPIC_FIELDS,
        ApiFormat::OpenAi => OPENAI_FIELDS,
        ApiFormat::Responses => return outward_responses::reaches_out(body),
        ApiFormat::Gemini => return outward_gemini::reaches_out(body),
        ApiFormat::Ollama => return outward_ollama::reaches_out(body),
    };
    if let Some(field) = fields.iter().find(|field| body.get(**field).is_some_and(set)) {
        return Some(format!("`{field}`"));
    }
    let tools = body.get("tools").and_then(Value::as_array).into_iter().flatten();
    // Tools that the client executes have no type, `custom` or `function`; every other type is executed at the provider.
    let foreign = tools.filter_map(|tool| tool.get("type").and_then(Value::as_str)).find(|kind| !matches!(*kind, "custom" | "function"));
    if let Some(kind) = foreign {
        return Some(format!("the tool type `{kind}`"));
    }
    body.get("messages").and_then(|messages| source_outside(messages, 0))
}

/// Looks for content that the provider would fetch: a source of type `url`, an uploaded file, an image address that is no data URL.
fn source_outside(value: &Value, depth: usize) -> Option<String> {
    if depth > DEPTH_MAX {
        return Some("a message that is nested this deep".to_owned());
    }
    match value {
        Value::Array(items) => items.iter().find_map(|item| source_outside(item, depth + 1)),
        Value::Object(fields) => {
            let kind = fields.get("type").and_then(Value::as_str);
            let source = fields.get("source").and_then(|source| source.get("type")).and_then(Value::as_str);
            if matches!(kind, Some("image" | "document")) && matches!(source, Some("url" | "file")) {
                return Some(format!("a source of type `{}`", source.unwrap_or_default()));
            }
            let image = fields.get("image_url").and_then(|image| image.get("url").unwrap_or(image).as_str());
            if kind == Some("image_url") && image.is_some_and(|url| !url.starts_with("data:")) {
                return Some("an image address".to_owned());
            }
            if kind == Some("file") && fields.get("file").is_some_and(|file| file.get("file_id").is_some()) {
                return Some("an uploaded file".to_owned());
            }
            // What a tool was given and what it answered is text to the provider, whatever it looks like.
            fields.iter().filter(|(name, _)| name.as_str() == "content").find_map(|(_, inner)| source_outside(inner, depth + 1))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn out(format: ApiFormat, body: &Value) -> Option<String> {
        reaches_out(format, body.as_object().unwrap())
    }

    #[test]
    fn what_reaches_out_is_named() {
        let picture = |source: Value| json!({ "messages": [{ "role": "user", "content": [{ "type": "image", "source": source }] }] });
        let nested = json!({ "messages": [{ "role": "user", "content": [{ "type": "tool_result", "content": [{ "type": "document", "source": { "type": "file", "file_id": "f" } }] }] }] });
        for (body, part) in [
            (json!({ "mcp_servers": [{ "url": "https://x" }] }), "mcp_servers"),
            (json!({ "container": "c" }), "container"),
            (json!({ "thread": { "id": "t" } }), "thread"),
            (json!({ "fallbacks": [{ "model": "dearer" }] }), "fallbacks"),
            (json!({ "fallback_credit_token": "x" }), "fallback_credit_token"),
            (json!({ "billing_policy": {} }), "billing_policy"),
            (json!({ "workspace_id": "w" }), "workspace_id"),
            (json!({ "user_profile_id": "u" }), "user_profile_id"),
            (json!({ "tools": [{ "type": "web_search_20250305", "name": "web_search" }] }), "web_search"),
            (picture(json!({ "type": "url", "url": "https://x" })), "url"),
            (nested, "file"),
        ] {
            assert!(out(ApiFormat::Anthropic, &body).is_some_and(|what| what.contains(part)), "{body}");
        }
        let image =
            |url: &str| json!({ "messages": [{ "role": "user", "content": [{ "type": "image_url", "image_url": { "url": url } }] }] });
        for (body, part) in [
            (json!({ "web_search_options": {} }), "web_search_options"),
            (json!({ "store": true }), "store"),
            (json!({ "background": true }), "background"),
            (json!({ "previous_response_id": "r" }), "previous_response_id"),
            (json!({ "moderation": { "model": "m" } }), "moderation"),
            (json!({ "tools": [{ "type": "web_search" }] }), "web_search"),
            (image("https://x/y.png"), "image"),
        ] {
            assert!(out(ApiFormat::OpenAi, &body).is_some_and(|what| what.contains(part)), "{body}");
        }
        assert_eq!(out(ApiFormat::OpenAi, &image("data:image/png;base64,AA==")), None);
    }

    #[test]
    fn ordinary_requests_pass() {
        let call = json!({ "type": "tool_use", "id": "1", "name": "bash", "input": { "type": "image", "source": { "type": "url" } } });
        let body = json!({ "mcp_servers": [], "tools": [{ "name": "bash", "input_schema": {} }, { "type": "custom", "name": "x" }], "messages": [{ "role": "assistant", "content": [call] }] });
        assert_eq!(out(ApiFormat::Anthropic, &body), None);
        assert_eq!(
            out(
                ApiFormat::OpenAi,
                &json!({ "store": false, "tools": [{ "type": "function" }], "messages": [{ "role": "user", "content": "https://x" }] })
            ),
            None
        );
    }
}
