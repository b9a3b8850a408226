//! What a Gemini request may hold. Only what is listed passes; the format's second spelling of names (`file_data`) is not.

use serde_json::{Map, Value};

use crate::outward::{outside, set};

/// Not among them: `cachedContent`, which lives at the provider.
const FIELDS: &[&str] = &["contents", "systemInstruction", "tools", "toolConfig", "safetySettings", "generationConfig", "labels"];
/// Not among them: `routingConfig` and `modelConfig`, which choose another model.
const CONFIG: &[&str] = &[
    "stopSequences",
    "responseMimeType",
    "responseSchema",
    "responseJsonSchema",
    "responseFormat",
    "responseModalities",
    "candidateCount",
    "maxOutputTokens",
    "temperature",
    "topP",
    "topK",
    "seed",
    "presencePenalty",
    "frequencyPenalty",
    "responseLogprobs",
    "logprobs",
    "thinkingConfig",
    "mediaResolution",
];
/// Every other field of a tool (`googleSearch`, `urlContext`, `codeExecution`, `mcpServers`, ...) is done at the provider.
const TOOL: &[&str] = &["functionDeclarations"];
/// Not among them: `fileData`, an address.
const PART: &[&str] =
    &["text", "thought", "thoughtSignature", "inlineData", "functionCall", "functionResponse", "mediaResolution", "partMetadata"];
/// Not among them: the addresses of pictures.
const RESPONSE: &[&str] = &["id", "name", "response", "parts", "willContinue", "scheduling"];

/// Names the part of a request that would make the provider reach out or keep something, if there is one.
pub(crate) fn reaches_out(body: &Map<String, Value>) -> Option<String> {
    outside(body, FIELDS)
        .or_else(|| inner(body.get("generationConfig"), CONFIG))
        .or_else(|| list(body.get("tools")).find_map(|tool| inner(Some(tool), TOOL)))
        .or_else(|| content(body.get("systemInstruction")))
        .or_else(|| list(body.get("contents")).find_map(|inner| content(Some(inner))))
}

fn list(value: Option<&Value>) -> impl Iterator<Item = &Value> {
    value.and_then(Value::as_array).into_iter().flatten()
}

/// A field of an object that is not in the list; anything but an object is not understood.
fn inner(value: Option<&Value>, known: &[&str]) -> Option<String> {
    match value {
        None | Some(Value::Null) => None,
        Some(Value::Object(fields)) => outside(fields, known),
        Some(_) => Some("a part that is no object".to_owned()),
    }
}

fn content(content: Option<&Value>) -> Option<String> {
    inner(content, &["role", "parts"]).or_else(|| {
        let parts = content.and_then(|content| content.get("parts")).filter(|parts| set(parts));
        if parts.is_some_and(|parts| !parts.is_array()) {
            return Some("parts that are no list".to_owned());
        }
        list(parts).find_map(|part| {
            let answer = part.get("functionResponse");
            let shown = list(answer.and_then(|answer| answer.get("parts"))).find_map(|part| inner(Some(part), &["inlineData"]));
            inner(Some(part), PART).or_else(|| inner(answer, RESPONSE)).or(shown)
        })
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
        let part = |part: Value| json!({ "contents": [{ "role": "user", "parts": [part] }] });
        let file = json!({ "fileUri": "https://x/y.pdf", "mimeType": "application/pdf" });
        let tool = |name: &str| json!({ "contents": [], "tools": [{ "functionDeclarations": [] }, { name: {"x": 1} }] });
        for name in [
            "googleSearch",
            "googleSearchRetrieval",
            "google_search",
            "urlContext",
            "codeExecution",
            "googleMaps",
            "fileSearch",
            "retrieval",
            "enterpriseWebSearch",
            "computerUse",
            "mcpServers",
        ] {
            assert!(out(&tool(name)).is_some_and(|what| what.contains(name)), "{name}");
        }
        for (body, word) in [
            (json!({ "contents": [], "cachedContent": "cachedContents/x" }), "cachedContent"),
            (json!({ "contents": [], "cached_content": "cachedContents/x" }), "cached_content"),
            (json!({ "contents": [], "system_instruction": {"parts": []} }), "system_instruction"),
            (json!({ "contents": [], "model": "models/other" }), "model"),
            (json!({ "contents": [], "store": true }), "store"),
            (json!({ "contents": [], "generateContentRequest": {} }), "generateContentRequest"),
            (json!({ "contents": [], "generation_config": { "max_output_tokens": 1 } }), "generation_config"),
            (json!({ "contents": [], "generationConfig": { "max_output_tokens": 1 } }), "max_output_tokens"),
            (json!({ "contents": [], "generationConfig": { "routingConfig": { "autoMode": {} } } }), "routingConfig"),
            (json!({ "contents": [], "systemInstruction": { "parts": [{ "fileData": file }] } }), "fileData"),
            (part(json!({ "fileData": file })), "fileData"),
            (part(json!({ "file_data": file })), "file_data"),
            (part(json!({ "executableCode": { "code": "x" } })), "executableCode"),
            (part(json!({ "functionResponse": { "name": "a", "response": {}, "parts": [{ "fileData": file }] } })), "fileData"),
            (part(json!({ "functionResponse": { "name": "a", "fileData": file } })), "fileData"),
            (json!({ "contents": [{ "role": "user", "parts": { "fileData": file } }] }), "no list"),
            (part(json!("text")), "no object"),
        ] {
            assert!(out(&body).is_some_and(|what| what.contains(word)), "{body}: {:?}", out(&body));
        }
    }

    #[test]
    fn ordinary_requests_pass() {
        let body = json!({
            "systemInstruction": { "parts": [{ "text": "s" }] },
            "tools": [{ "functionDeclarations": [{ "name": "read" }] }],
            "generationConfig": { "maxOutputTokens": 9, "thinkingConfig": { "includeThoughts": true } },
            "contents": [
                { "role": "user", "parts": [{ "text": "https://x" }, { "inlineData": { "mimeType": "image/png", "data": "AA==" } }] },
                { "role": "model", "parts": [{ "functionCall": { "name": "read", "args": { "fileData": 1 } }, "thoughtSignature": "x" }] },
                { "role": "user", "parts": [{ "functionResponse": { "id": "1", "name": "read", "response": { "fileData": 1 } } }] }
            ]
        });
        assert_eq!(out(&body), None);
    }
}
