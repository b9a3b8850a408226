//! Requests that would make the *provider* fetch, search, execute or keep something: a way round the box, so they are refused.

use aedile_models::ApiFormat;
use serde_json::{Map, Value};

use crate::{outward_anthropic, outward_chat, outward_gemini, outward_ollama, outward_responses};

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

/// The items of a list. Where a list belongs and something else stands, providers take that for its only item: it is refused.
pub(crate) fn items(value: Option<&Value>) -> Result<&[Value], String> {
    match value {
        None => Ok(&[]),
        Some(Value::Array(items)) => Ok(items),
        Some(other) if !set(other) => Ok(&[]),
        Some(_) => Err("something that is no list where a list belongs".to_owned()),
    }
}

/// Asks each item of a list; the first answer counts.
pub(crate) fn each(value: Option<&Value>, mut ask: impl FnMut(&Value) -> Option<String>) -> Option<String> {
    match items(value) {
        Ok(items) => items.iter().find_map(&mut ask),
        Err(what) => Some(what),
    }
}

/// A tool that is not executed by the client. `untyped`: whether one without a type is.
pub(crate) fn foreign_tool(tools: Option<&Value>, known: &[&str], untyped: bool) -> Option<String> {
    each(tools, |tool| match tool.get("type") {
        None if untyped && tool.is_object() => None,
        Some(Value::String(kind)) if known.contains(&kind.as_str()) => None,
        Some(Value::String(kind)) => Some(format!("the tool type `{}`", kind.chars().take(100).collect::<String>())),
        _ => Some("a tool without a type".to_owned()),
    })
}

/// A field of an object that is not in the list; anything but an object is not understood.
pub(crate) fn inner(value: Option<&Value>, known: &[&str]) -> Option<String> {
    match value {
        None | Some(Value::Null) => None,
        Some(Value::Object(fields)) => outside(fields, known),
        Some(_) => Some("a part that is no object".to_owned()),
    }
}

/// Whether a value is an address, or could be read as one: anything but a text that holds the data itself.
pub(crate) fn is_address(value: &Value) -> bool {
    set(value) && !value.as_str().is_some_and(|text| text.get(..5).is_some_and(|start| start.eq_ignore_ascii_case("data:")))
}

/// The body without the tools that policy lets the provider execute; `None` when there are none. `opened` is asked with what names a tool's kind:
/// its `type`, in Gemini's format its field (`googleSearch`).
pub(crate) fn without_opened(format: ApiFormat, body: &Map<String, Value>, opened: impl Fn(&str) -> bool) -> Option<Map<String, Value>> {
    if format == ApiFormat::Gemini {
        return outward_gemini::without_opened(body, opened);
    }
    let foreign = |tool: &Value| tool.get("type").and_then(Value::as_str).is_some_and(&opened);
    let tools = body.get("tools")?.as_array()?;
    tools.iter().any(foreign).then(|| {
        let mut body = body.clone();
        body.insert("tools".to_owned(), tools.iter().filter(|tool| !foreign(tool)).cloned().collect());
        body
    })
}

/// Names the part of a request that would make the provider reach out, if there is one.
pub(crate) fn reaches_out(format: ApiFormat, body: &Map<String, Value>) -> Option<String> {
    match format {
        ApiFormat::Anthropic => outward_anthropic::reaches_out(body),
        ApiFormat::OpenAi => outward_chat::reaches_out(body),
        ApiFormat::Responses => outward_responses::reaches_out(body),
        ApiFormat::Gemini => outward_gemini::reaches_out(body),
        ApiFormat::Ollama => outward_ollama::reaches_out(body),
    }
}

/// Looks at every object in a value, from outside in, except below the fields that are only text to the provider.
pub(crate) fn search(value: &Value, opaque: &[&str], ask: &impl Fn(&Map<String, Value>) -> Option<String>) -> Option<String> {
    search_below(value, opaque, ask, 0)
}

fn search_below(value: &Value, opaque: &[&str], ask: &impl Fn(&Map<String, Value>) -> Option<String>, depth: usize) -> Option<String> {
    if depth > DEPTH_MAX {
        return Some("a message that is nested this deep".to_owned());
    }
    match value {
        Value::Array(items) => items.iter().find_map(|item| search_below(item, opaque, ask, depth + 1)),
        Value::Object(fields) => ask(fields).or_else(|| {
            let mut inner = fields.iter().filter(|(name, _)| !opaque.contains(&name.as_str()));
            inner.find_map(|(_, inner)| search_below(inner, opaque, ask, depth + 1))
        }),
        _ => None,
    }
}
