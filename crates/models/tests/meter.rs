use aedile_core::Usage;
use aedile_models::{ApiFormat, Metered, ModelBody, Script, UsageMeter};
use proptest::prelude::*;
use serde_json::json;

fn feed(format: ApiFormat, bytes: &[u8], piece: usize) -> Metered {
    let mut meter = UsageMeter::new(format);
    bytes.chunks(piece.max(1)).for_each(|piece| meter.feed(piece));
    meter.finish()
}

fn answer(format: ApiFormat, stream: bool, text: &str) -> (Vec<u8>, Usage) {
    let turn = json!([{"role": "user", "content": "hi", "parts": [{"text": "hi"}]}]);
    let body = json!({"model": "m", "max_tokens": 100, "stream": stream, "messages": turn, "input": turn, "contents": turn}).to_string();
    let body = match format {
        ApiFormat::Gemini => ModelBody::parse_gemini("m", stream, body.as_bytes()).unwrap(),
        format => ModelBody::parse(format, body.as_bytes()).unwrap(),
    };
    let answer = Script::parse(&json!([text])).unwrap().answer(&body).unwrap();
    (answer.chunks.concat(), answer.usage)
}

fn format() -> impl Strategy<Value = ApiFormat> {
    proptest::sample::select(ApiFormat::ALL.to_vec())
}

proptest! {
    #[test]
    fn whole_answers_are_metered_however_they_are_split(text in "\\PC{1,80}", stream: bool, format in format(), piece in 1..40_usize) {
        let (bytes, usage) = answer(format, stream, &text);
        prop_assert_eq!(feed(format, &bytes, piece), Metered { usage: Some(usage), complete: true });
    }

    #[test]
    fn cut_answers_are_never_called_complete(cut in any::<prop::sample::Index>(), stream: bool, format in format()) {
        let (bytes, usage) = answer(format, stream, "some text that is long enough to be cut");
        let cut = cut.index(bytes.len());
        let metered = feed(format, &bytes[..cut], 16);
        // What follows the final usage (`message_stop`, `[DONE]`) may be missing.
        prop_assert!(!metered.complete || metered.usage == Some(usage), "{metered:?}");
        prop_assert!(!metered.complete || stream);
    }

    #[test]
    fn any_bytes_are_survived(bytes: Vec<u8>, format in format()) {
        prop_assert!(!feed(format, &bytes, 3).complete);
    }
}

#[test]
fn a_stream_without_usage_is_not_complete() {
    let bytes = b"data: {\"choices\": [{\"delta\": {\"content\": \"hi\"}}]}\n\ndata: [DONE]\n\n";
    assert_eq!(feed(ApiFormat::OpenAi, bytes, 5), Metered { usage: None, complete: false });
}

#[test]
fn thinking_of_gemini_is_paid_and_its_cache_not_counted_twice() {
    let body = json!({"candidates": [{"content": {"parts": []}, "finishReason": "STOP"}], "usageMetadata": {"promptTokenCount": 100,
        "cachedContentTokenCount": 60, "candidatesTokenCount": 5, "thoughtsTokenCount": 20, "toolUsePromptTokenCount": 3}});
    let usage = Usage { input_tokens: 43, output_tokens: 25, cache_read_tokens: 60, ..Usage::default() };
    assert_eq!(feed(ApiFormat::Gemini, body.to_string().as_bytes(), 8), Metered { usage: Some(usage), complete: true });
    let begun = format!("data: {}\n\n", body.to_string().replace("STOP", "FINISH").replace("finishReason", "x"));
    assert!(!feed(ApiFormat::Gemini, begun.as_bytes(), 8).complete, "every chunk states a usage; only the end makes it final");
}

#[test]
fn writes_that_are_kept_for_an_hour_are_told_apart() {
    let usage = json!({"input_tokens": 1, "output_tokens": 2, "cache_creation_input_tokens": 30,
        "cache_creation": {"ephemeral_5m_input_tokens": 10, "ephemeral_1h_input_tokens": 20}});
    let start = json!({"type": "message_start", "message": {"usage": usage}});
    let end = json!({"type": "message_delta", "delta": {}, "usage": {"output_tokens": 9, "cache_creation_input_tokens": 30}});
    let bytes = format!("data: {start}\n\ndata: {end}\n\n");
    let usage = Usage { input_tokens: 1, output_tokens: 9, cache_write_tokens: 10, cache_write_long_tokens: 20, ..Usage::default() };
    assert_eq!(feed(ApiFormat::Anthropic, bytes.as_bytes(), 7), Metered { usage: Some(usage), complete: true });
}

#[test]
fn a_cut_anthropic_stream_shows_what_is_known() {
    let bytes = b"event: message_start\ndata: {\"type\": \"message_start\", \"message\": {\"usage\": {\"input_tokens\": 7, \"output_tokens\": 1, \"cache_creation_input_tokens\": 3}}}\n\n";
    let usage = Usage { input_tokens: 7, output_tokens: 1, cache_write_tokens: 3, ..Usage::default() };
    assert_eq!(feed(ApiFormat::Anthropic, bytes, 9), Metered { usage: Some(usage), complete: false });
}

#[test]
fn cached_tokens_of_openai_are_not_counted_twice() {
    let body = json!({"choices": [], "usage": {"prompt_tokens": 100, "completion_tokens": 5,
        "prompt_tokens_details": {"cached_tokens": 60, "cache_write_tokens": 30, "cache_write_tokens_details": {"ttl_12h_tokens": 10}}}});
    let usage = Usage { input_tokens: 10, output_tokens: 5, cache_read_tokens: 60, cache_write_tokens: 20, cache_write_long_tokens: 10 };
    assert_eq!(feed(ApiFormat::OpenAi, body.to_string().as_bytes(), 8), Metered { usage: Some(usage), complete: true });
}

#[test]
fn what_the_provider_asked_itself_is_counted() {
    let iterations = json!([
        {"type": "compaction", "input_tokens": 180_000, "output_tokens": 3_500, "cache_read_input_tokens": 10},
        {"type": "message", "input_tokens": 23_000, "output_tokens": 1_000},
    ]);
    let body = json!({"type": "message", "usage": {"input_tokens": 23_000, "output_tokens": 1_000, "iterations": iterations}});
    let usage = Usage { input_tokens: 203_000, output_tokens: 4_500, cache_read_tokens: 10, ..Usage::default() };
    assert_eq!(feed(ApiFormat::Anthropic, body.to_string().as_bytes(), 9), Metered { usage: Some(usage), complete: true });
}
