//! What a Gemini request may hold. Only what is listed passes; the format's second spelling of names (`file_data`) is not.

use serde_json::{Map, Value};

use crate::outward::{each, inner, outside};

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
/// A tool that runs code at the provider, and the parts in which its work comes back with the next request.
const CODE: (&str, [&str; 2]) = ("codeExecution", ["executableCode", "codeExecutionResult"]);
/// Not among them: `fileData`, an address.
const PART: &[&str] =
    &["text", "thought", "thoughtSignature", "inlineData", "functionCall", "functionResponse", "mediaResolution", "partMetadata"];
/// Not among them: the addresses of pictures.
const RESPONSE: &[&str] = &["id", "name", "response", "parts", "willContinue", "scheduling"];

/// Names the part of a request that would make the provider reach out or keep something, if there is one.
pub(crate) fn reaches_out(body: &Map<String, Value>) -> Option<String> {
    outside(body, FIELDS)
        .or_else(|| inner(body.get("generationConfig"), CONFIG))
        .or_else(|| each(body.get("tools"), |tool| inner(Some(tool), TOOL)))
        .or_else(|| content(body.get("systemInstruction")))
        .or_else(|| each(body.get("contents"), |one| content(Some(one))))
}

/// The body without the tools that policy opens, and without the parts of theirs that a conversation holds; `None` when there are none.
pub(crate) fn without_opened(body: &Map<String, Value>, opened: impl Fn(&str) -> bool) -> Option<Map<String, Value>> {
    let mut left = body.clone();
    let mut found = false;
    let mut take = |fields: &mut Map<String, Value>, gone: &dyn Fn(&str) -> bool| {
        let before = fields.len();
        fields.retain(|name, _| !gone(name));
        found |= fields.len() < before;
    };
    for tool in objects(left.get_mut("tools")) {
        take(tool, &|name| !TOOL.contains(&name) && opened(name));
    }
    if opened(CODE.0) {
        for content in objects(left.get_mut("contents")) {
            objects(content.get_mut("parts")).for_each(|part| take(part, &|name| CODE.1.contains(&name)));
        }
    }
    found.then_some(left)
}

fn objects(list: Option<&mut Value>) -> impl Iterator<Item = &mut Map<String, Value>> {
    list.and_then(Value::as_array_mut).into_iter().flatten().filter_map(Value::as_object_mut)
}

fn content(content: Option<&Value>) -> Option<String> {
    inner(content, &["role", "parts"]).or_else(|| {
        each(content.and_then(|content| content.get("parts")), |part| {
            let answer = part.get("functionResponse");
            inner(Some(part), PART)
                .or_else(|| inner(answer, RESPONSE))
                .or_else(|| each(answer.and_then(|answer| answer.get("parts")), |part| inner(Some(part), &["inlineData"])))
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
            (json!({ "contents": [], "tools": { "googleSearch": {} } }), "no list"),
            (json!({ "contents": { "role": "user", "parts": [{ "fileData": file }] } }), "no list"),
            (part(json!({ "functionResponse": { "name": "a", "parts": { "fileData": file } } })), "no list"),
        ] {
            assert!(out(&body).is_some_and(|what| what.contains(word)), "{body}: {:?}", out(&body));
        }
    }

    #[test]
    fn only_what_policy_opens_is_looked_past() {
        let left = |body: &Value, open: &[&str]| {
            let fields = body.as_object().unwrap();
            reaches_out(without_opened(fields, |kind| open.contains(&kind)).as_ref().unwrap_or(fields))
        };
        let search = json!({ "contents": [], "tools": [{ "functionDeclarations": [] }, { "googleSearch": {} }] });
        assert_eq!(left(&search, &["googleSearch"]), None);
        assert!(left(&search, &["google_search", "urlContext"]).is_some_and(|what| what.contains("googleSearch")));
        let both = json!({ "contents": [], "tools": [{ "googleSearch": {}, "urlContext": {}, "functionDeclarations": [] }] });
        assert!(left(&both, &["googleSearch"]).is_some_and(|what| what.contains("urlContext")));
        assert_eq!(left(&both, &["googleSearch", "urlContext"]), None);
        let ran =
            json!({ "contents": [{ "role": "model", "parts": [{ "executableCode": { "code": "1" } }, { "codeExecutionResult": {} }] }] });
        assert!(left(&ran, &["googleSearch"]).is_some_and(|what| what.contains("executableCode")));
        assert_eq!(left(&ran, &["codeExecution"]), None);
        for (body, word) in [
            (json!({ "contents": [{ "parts": [{ "codeExecution": {} }] }] }), "codeExecution"),
            (json!({ "contents": [{ "parts": [{ "executableCode": {}, "fileData": {"fileUri": "https://x"} }] }] }), "fileData"),
            (json!({ "contents": [], "tools": { "codeExecution": {} } }), "no list"),
            (json!({ "contents": [], "codeExecution": {"x": 1} }), "codeExecution"),
        ] {
            assert!(left(&body, &["codeExecution", "executableCode"]).is_some_and(|what| what.contains(word)), "{body}");
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
