use aedile_models::{anthropic, openai};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "\\PC{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::vec(("[a-z]{1,6}", inner), 0..4).prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

/// Fields that no format knows.
fn unknown_fields() -> impl Strategy<Value = Map<String, Value>> {
    proptest::collection::vec(("x_[a-z]{1,5}", json_value()), 0..3).prop_map(|fields| fields.into_iter().collect())
}

fn object() -> impl Strategy<Value = Value> {
    proptest::collection::vec(("[a-z]{1,6}", json_value()), 0..4).prop_map(|fields| Value::Object(fields.into_iter().collect()))
}

fn with(mut value: Value, extra: Map<String, Value>) -> Value {
    value.as_object_mut().unwrap().extend(extra);
    value
}

fn anthropic_block() -> impl Strategy<Value = Value> {
    let text = ("\\PC{0,20}", unknown_fields()).prop_map(|(text, extra)| with(json!({"type": "text", "text": text}), extra));
    let cached = "\\PC{0,20}".prop_map(|text| json!({"type": "text", "text": text, "cache_control": {"type": "ephemeral"}}));
    let thinking = ("\\PC{0,20}", "[a-zA-Z0-9+/=]{0,20}")
        .prop_map(|(text, signature)| json!({"type": "thinking", "thinking": text, "signature": signature}));
    let tool = ("[a-z_0-9]{1,8}", "[a-z]{1,8}", object(), unknown_fields())
        .prop_map(|(id, name, input, extra)| with(json!({"type": "tool_use", "id": id, "name": name, "input": input}), extra));
    let result = ("[a-z_0-9]{1,8}", "\\PC{0,20}", any::<bool>())
        .prop_map(|(id, text, error)| json!({"type": "tool_result", "tool_use_id": id, "content": text, "is_error": error}));
    let rich = ("[a-z_0-9]{1,8}", json_value()).prop_map(|(id, part)| json!({"type": "tool_result", "tool_use_id": id, "content": [part]}));
    let other = ("[a-z]{1,3}_block", unknown_fields()).prop_map(|(kind, extra)| with(json!({"type": kind}), extra));
    prop_oneof![text, cached, thinking, tool, result, rich, other]
}

fn openai_assistant() -> impl Strategy<Value = Value> {
    let call = ("[a-z_0-9]{1,8}", "[a-z]{1,8}", object(), unknown_fields()).prop_map(|(id, name, input, extra)| {
        with(json!({"id": id, "type": "function", "function": {"name": name, "arguments": input.to_string()}}), extra)
    });
    let calls = proptest::collection::vec(call, 0..3);
    ("\\PC{0,20}", calls, unknown_fields(), proptest::option::of("\\PC{1,20}")).prop_map(|(text, calls, extra, reasoning)| {
        let content = if text.is_empty() && !calls.is_empty() { Value::Null } else { json!(text) };
        let mut message = json!({"role": "assistant", "content": content});
        if !calls.is_empty() {
            message["tool_calls"] = Value::Array(calls);
        }
        if let Some(reasoning) = reasoning {
            message["reasoning_content"] = json!(reasoning);
        }
        with(message, extra)
    })
}

proptest! {
    #[test]
    fn anthropic_messages_come_back_as_they_were(
        user: bool, content in proptest::collection::vec(anthropic_block(), 0..5), extra in unknown_fields(),
    ) {
        let wire = with(json!({"role": if user { "user" } else { "assistant" }, "content": content}), extra);
        let message = anthropic::message_from_wire(&wire).unwrap();
        prop_assert_eq!(anthropic::message_to_wire(&message), wire);
    }

    #[test]
    fn anthropic_requests_come_back_as_they_were(extra in unknown_fields(), rich_system: bool, provider_tool: bool) {
        let system = if rich_system { json!([{"type": "text", "text": "s", "cache_control": {"type": "ephemeral"}}]) } else { json!("s") };
        let plain = json!({"name": "read", "description": "d", "input_schema": {"type": "object"}});
        let tools = if provider_tool { json!([plain, {"type": "web_search_20250305", "name": "web_search"}]) } else { json!([plain]) };
        let wire = json!({
            "model": "m", "max_tokens": 5, "system": system, "messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}],
            "tools": tools, "stream": true, "thinking": {"type": "enabled", "budget_tokens": 1024}
        });
        let wire = with(wire, extra);
        let request = anthropic::request_from_wire(wire.as_object().unwrap()).unwrap();
        prop_assert_eq!(anthropic::request_to_wire(&request, true), wire);
    }

    #[test]
    fn openai_messages_come_back_as_they_were(wire in openai_assistant()) {
        let message = openai::message_from_wire(&wire).unwrap();
        prop_assert_eq!(openai::message_to_wire(&message), vec![wire]);
    }

    #[test]
    fn openai_requests_come_back_as_they_were(assistant in openai_assistant(), extra in unknown_fields()) {
        let wire = json!({
            "model": "m",
            "messages": [
                {"role": "system", "content": "s"},
                {"role": "user", "content": "do it", "name": "pat"},
                assistant,
                {"role": "tool", "tool_call_id": "a", "content": "one"},
                {"role": "tool", "tool_call_id": "b", "content": "two"},
                {"role": "user", "content": [{"type": "text", "text": "look"}, {"type": "image_url", "image_url": {"url": "http://x/"}}]}
            ],
            "tools": [{"type": "function", "function": {"name": "read", "description": "d", "parameters": {"type": "object"}}}],
            "max_tokens": 5, "stream": true, "stream_options": {"include_usage": true}
        });
        let wire = with(wire, extra);
        let request = openai::request_from_wire(wire.as_object().unwrap()).unwrap();
        prop_assert_eq!(openai::request_to_wire(&request, true), wire);
    }
}

#[test]
fn input_that_is_no_object_goes_back_inside_one() {
    let wire = json!({"role": "assistant", "content": null, "tool_calls": [
        {"id": "a", "type": "function", "function": {"name": "read", "arguments": "{broken"}},
        {"id": "b", "type": "function", "function": {"name": "read", "arguments": ""}}
    ]});
    let message = openai::message_from_wire(&wire).unwrap();
    let back = &openai::message_to_wire(&message)[0];
    assert_eq!(back["tool_calls"][0]["function"]["arguments"], r#"{"invalid_json":"{broken"}"#);
    assert_eq!(back["tool_calls"][1]["function"]["arguments"], "{}");
}

#[test]
fn wrong_forms_are_named() {
    let parse = |value: Value| anthropic::request_from_wire(value.as_object().unwrap()).unwrap_err();
    assert!(parse(json!({"max_tokens": 1, "messages": []})).contains("model"));
    assert!(parse(json!({"model": "m", "messages": []})).contains("max_tokens"));
    assert!(parse(json!({"model": "m", "max_tokens": 1})).contains("messages"));
    assert!(parse(json!({"model": "m", "max_tokens": 1, "messages": [{"role": "narrator"}]})).contains("role"));
}
