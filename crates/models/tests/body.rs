use aedile_core::limits::MODEL_OUTPUT_TOKENS_DEFAULT;
use aedile_models::{ApiFormat, ModelBody, Terms};
use proptest::prelude::*;
use serde_json::{Value, json};

fn parse(format: ApiFormat, body: &Value) -> ModelBody {
    ModelBody::parse(format, body.to_string().as_bytes()).unwrap()
}

#[test]
fn facts_are_read_from_both_formats() {
    let messages = json!([{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}]);
    let body = parse(ApiFormat::Anthropic, &json!({"model": "m", "max_tokens": 9, "stream": true, "messages": messages}));
    let facts = body.facts();
    assert_eq!((facts.model.as_str(), facts.max_output_tokens, facts.stream, facts.assistant_messages), ("m", Some(9), true, 1));
    let mut body =
        parse(ApiFormat::OpenAi, &json!({"model": "m", "max_completion_tokens": 9, "max_tokens": 4, "n": 3, "messages": messages}));
    assert_eq!((body.facts().max_output_tokens, body.facts().choices, body.facts().stream), (Some(9), 3, false));
    assert_eq!(body.limit_output(), 27);
}

#[test]
fn a_request_without_a_limit_gets_one() {
    let cases = [
        (ApiFormat::OpenAi, "gpt-5.4", "max_completion_tokens"),
        (ApiFormat::OpenAi, "gpt-oss:20b", "max_tokens"),
        (ApiFormat::OpenAi, "o3", "max_completion_tokens"),
        (ApiFormat::OpenAi, "olmo", "max_tokens"),
        (ApiFormat::Anthropic, "m", "max_tokens"),
        (ApiFormat::Responses, "m", "max_output_tokens"),
    ];
    for (format, model, field) in cases {
        let mut body = parse(format, &json!({"model": model, "messages": [], "input": []}));
        assert_eq!(body.limit_output(), u64::from(MODEL_OUTPUT_TOKENS_DEFAULT));
        assert_eq!(body.fields()[field], json!(MODEL_OUTPUT_TOKENS_DEFAULT), "{model}");
    }
}

#[test]
fn limits_within_a_section_are_found_and_set() {
    let mut body = ModelBody::parse_gemini("m", true, br#"{"contents": [], "generationConfig": {"candidateCount": 2}}"#).unwrap();
    assert_eq!((body.limit_output(), body.facts().stream), (2 * u64::from(MODEL_OUTPUT_TOKENS_DEFAULT), true));
    assert_eq!(body.fields()["generationConfig"], json!({"candidateCount": 2, "maxOutputTokens": MODEL_OUTPUT_TOKENS_DEFAULT}));
    let limit = |text: &str| ModelBody::parse_gemini("m", false, text.as_bytes()).map(|mut body| body.limit_output());
    assert_eq!(limit(r#"{"contents": [], "generationConfig": {"maxOutputTokens": 7}}"#), Ok(7));
    assert!(limit(r#"{"contents": [], "generationConfig": 1}"#).is_err() && limit("{}").is_err());
    // A negative number is Ollama's word for no limit.
    for (options, limit) in [(json!({"num_predict": 9}), 9), (json!({"num_predict": -1}), u64::from(MODEL_OUTPUT_TOKENS_DEFAULT))] {
        let mut body = parse(ApiFormat::Ollama, &json!({"model": "m", "messages": [], "options": options}));
        assert_eq!((body.limit_output(), body.fields()["options"]["num_predict"].as_u64()), (limit, Some(limit)));
        assert!(body.facts().stream, "Ollama streams unless it is told not to");
    }
}

#[test]
fn terms_that_change_the_price_are_found() {
    let terms = |body: Value| parse(ApiFormat::Anthropic, &body).terms();
    assert_eq!(terms(json!({"model": "m", "messages": [], "service_tier": "auto", "inference_geo": "global"})), Terms::default());
    let dear = terms(json!({"model": "m", "messages": [], "service_tier": "priority", "speed": "fast", "inference_geo": "us"}));
    assert_eq!(dear.tiers, ["priority", "fast", "geo"]);
    let marked = |ttl: &str| json!({"model": "m", "messages": [{"role": "user", "content": [{"type": "text", "cache_control": {"type": "ephemeral", "ttl": ttl}}]}]});
    assert!(terms(marked("1h")).long_cache && !terms(marked("5m")).long_cache);
}

#[test]
fn responses_are_never_kept() {
    for body in [json!({"model": "m", "input": "hi"}), json!({"model": "m", "input": [], "store": true})] {
        let mut body = parse(ApiFormat::Responses, &body);
        body.keep_nothing();
        assert_eq!(body.fields()["store"], json!(false));
    }
}

#[test]
fn what_is_changed_is_changed_and_nothing_else() {
    let text = r#"{"z":1,"stream":true,"model":"old","stream_options":{"x":2},"messages":[],"a":[1.5,null]}"#;
    let mut body = ModelBody::parse(ApiFormat::OpenAi, text.as_bytes()).unwrap();
    body.set_model("new");
    body.want_usage();
    let expected = r#"{"z":1,"stream":true,"model":"new","stream_options":{"x":2,"include_usage":true},"messages":[],"a":[1.5,null]}"#;
    assert_eq!(String::from_utf8(body.to_bytes()).unwrap(), expected);
}

#[test]
fn usage_is_only_asked_of_openai_streams() {
    for (format, stream) in [(ApiFormat::Anthropic, true), (ApiFormat::OpenAi, false)] {
        let mut body = parse(format, &json!({"model": "m", "messages": [], "stream": stream}));
        body.want_usage();
        assert!(!body.fields().contains_key("stream_options"));
    }
}

#[test]
fn bodies_that_are_no_request_are_refused_with_the_field() {
    let cases = [
        ("[]", "object"),
        ("{", "JSON"),
        (r#"{"messages": []}"#, "model"),
        (r#"{"model": "m"}"#, "messages"),
        (r#"{"model": "m", "messages": [], "max_tokens": -1}"#, "max_tokens"),
        (r#"{"model": "m", "messages": [], "stream": 1}"#, "stream"),
    ];
    for (text, word) in cases {
        let error = ModelBody::parse(ApiFormat::Anthropic, text.as_bytes()).unwrap_err().to_string();
        assert!(error.contains(word), "{text}: {error}");
    }
}

#[test]
fn images_count_as_images_but_text_cannot_hide_in_one() {
    let image = |data: &str| json!([{"role": "user", "content": [{"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": data}}]}]);
    let estimate = |data: &str| parse(ApiFormat::Anthropic, &json!({"model": "m", "messages": image(data)})).facts().input_estimate;
    let data = "iVBORw0KGgo=".repeat(100_000);
    assert!((4_800..6_000).contains(&estimate(&data)));
    assert!(estimate(&data.replace("iVBO", "no, ")) > 400_000);
    let url = format!("data:image/png;base64,{data}");
    let messages = json!([{"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}]);
    assert!((4_800..6_000).contains(&parse(ApiFormat::OpenAi, &json!({"model": "m", "messages": messages})).facts().input_estimate));
}

proptest! {
    #[test]
    fn the_estimate_grows_with_the_text(text in "\\PC{0,400}") {
        let estimate = |text: &str| parse(ApiFormat::OpenAi, &json!({"model": "m", "messages": [{"role": "user", "content": text}]})).facts().input_estimate;
        let (short, long) = (estimate(&text), estimate(&format!("{text}{text}")));
        prop_assert!(long >= short);
        prop_assert!(short * 5 >= text.len() as u64 * 2, "at least two tokens for five bytes");
    }

    #[test]
    fn any_bytes_are_survived(bytes: Vec<u8>) {
        let _ = ModelBody::parse(ApiFormat::OpenAi, &bytes);
    }
}

#[test]
fn addresses_are_made_from_any_base_url() {
    let cases = [
        (ApiFormat::Anthropic, "https://api.anthropic.com", "https://api.anthropic.com/v1/messages"),
        (ApiFormat::Anthropic, "http://127.0.0.1:8080/v1/", "http://127.0.0.1:8080/v1/messages"),
        (ApiFormat::Anthropic, "https://proxy.example/anthropic", "https://proxy.example/anthropic/v1/messages"),
        (ApiFormat::OpenAi, "https://api.openai.com/v1", "https://api.openai.com/v1/chat/completions"),
        (ApiFormat::OpenAi, "http://localhost:11434", "http://localhost:11434/v1/chat/completions"),
        (ApiFormat::Responses, "https://api.openai.com", "https://api.openai.com/v1/responses"),
        (ApiFormat::Gemini, "https://x.googleapis.com", "https://x.googleapis.com/v1beta/models/m:streamGenerateContent?alt=sse"),
        (ApiFormat::Gemini, "http://127.0.0.1:1/v1beta/", "http://127.0.0.1:1/v1beta/models/m:streamGenerateContent?alt=sse"),
        (ApiFormat::Ollama, "http://127.0.0.1:11434", "http://127.0.0.1:11434/api/chat"),
        (ApiFormat::Ollama, "https://proxy.example/ollama/api/", "https://proxy.example/ollama/api/chat"),
        (ApiFormat::OpenAi, "https://openrouter.ai/api/v1/", "https://openrouter.ai/api/v1/chat/completions"),
    ];
    for (format, base, expected) in cases {
        assert_eq!(format.url(base, &format.chat_method("m", true)), expected);
    }
}
