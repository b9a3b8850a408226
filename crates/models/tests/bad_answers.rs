//! What a provider can do wrong, for every format.

use std::time::Duration;

use aedile_core::limits::MODEL_ANSWER_BYTES_MAX;
use aedile_core::model::{Block, ModelDelta, ModelError, ModelStop};
use aedile_testkit::{Conversation, ScriptedServer, Step, WireFormat};
use serde_json::{Value, json};

use crate::support::{ALL, ask, request};

/// The answer to the steps, and how often and after how long it was tried again.
async fn answered(format: WireFormat, steps: Vec<Step>) -> (Result<(Vec<Block>, ModelStop), ModelError>, Vec<Duration>) {
    let server = ScriptedServer::start(vec![steps.into_iter().fold(Conversation::any(), Conversation::step)]);
    let (answer, deltas) = ask(format, &server, &request("hi")).await;
    server.finish();
    let wait = |delta: &ModelDelta| match delta {
        ModelDelta::Retrying { after, .. } => Some(*after),
        _ => None,
    };
    (answer.map(|answer| (answer.message.content, answer.stop)), deltas.iter().filter_map(wait).collect())
}

fn stream_kind(format: WireFormat) -> &'static str {
    if format == WireFormat::Ollama { "application/x-ndjson" } else { "text/event-stream" }
}

/// A stream of these objects.
fn stream(format: WireFormat, objects: &[Value]) -> Step {
    let frame = |object: &Value| if format == WireFormat::Ollama { format!("{object}\n") } else { format!("data: {object}\n\n") };
    Step::raw(stream_kind(format), &objects.iter().map(frame).collect::<String>())
}

#[tokio::test]
async fn refusals_are_final_and_in_the_providers_words() {
    for format in ALL {
        for status in [400, 401, 403, 404] {
            let (answer, waits) = answered(format, vec![Step::status(status, "no")]).await;
            assert_eq!(answer.unwrap_err(), ModelError::Refused { status, message: "no".to_owned() }, "{format:?}");
            assert_eq!(waits, []);
        }
    }
}

#[tokio::test]
async fn a_busy_provider_is_asked_again_at_its_reset_time_or_with_growing_waits() {
    for format in ALL {
        let steps = vec![Step::status(429, "slow").header("retry-after", "0.03"), Step::status(429, "slow"), Step::text("ok")];
        let (answer, waits) = answered(format, steps).await;
        answer.unwrap();
        assert_eq!(waits[0], Duration::from_millis(30), "{format:?}");
        assert!(waits[1] >= Duration::from_millis(500), "{format:?}: {waits:?}");
        for status in [500, 529] {
            let steps = vec![Step::status(status, "down").header("retry-after", "0"), Step::text("ok")];
            assert_eq!(answered(format, steps).await.1, [Duration::ZERO], "{format:?} {status}");
        }
    }
}

#[tokio::test]
async fn the_wait_among_the_details_of_googles_errors_is_kept() {
    let details = json!([{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "0.040s"}]);
    let error = json!({"error": {"code": 429, "message": "quota", "status": "RESOURCE_EXHAUSTED", "details": details}});
    // Within a stream, where there is no status, the code stands for it.
    let (answer, waits) = answered(WireFormat::Gemini, vec![stream(WireFormat::Gemini, &[error]), Step::text("ok")]).await;
    answer.unwrap();
    assert_eq!(waits, [Duration::from_millis(40)]);
}

#[tokio::test]
async fn broken_json_is_named_and_not_asked_again() {
    for format in ALL {
        let (answer, waits) = answered(format, vec![Step::bad_json()]).await;
        assert!(matches!(answer.unwrap_err(), ModelError::Protocol(message) if message.contains("broken JSON")), "{format:?}");
        assert_eq!(waits, []);
        let (answer, _) = answered(format, vec![Step::raw("application/json", "{\"id\": ")]).await;
        assert!(matches!(answer.unwrap_err(), ModelError::Protocol(_)), "{format:?}");
    }
}

#[tokio::test]
async fn nothing_at_all_is_asked_again_and_an_answer_without_content_is_one() {
    for format in ALL {
        let (answer, waits) = answered(format, vec![Step::raw(stream_kind(format), ""), Step::text("")]).await;
        assert_eq!(answer.unwrap(), (Vec::new(), ModelStop::EndTurn), "{format:?}");
        assert_eq!(waits.len(), 1);
    }
}

#[tokio::test]
async fn an_endless_answer_is_given_up_on() {
    for format in ALL {
        let more = "x".repeat(1 << 20);
        let piece = match format {
            WireFormat::Anthropic => json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": more}}),
            WireFormat::OpenAi => json!({"choices": [{"index": 0, "delta": {"content": more}}]}),
            WireFormat::Responses => json!({"type": "response.output_text.delta", "output_index": 0, "content_index": 0, "delta": more}),
            WireFormat::Gemini => json!({"candidates": [{"content": {"role": "model", "parts": [{"text": more}]}}]}),
            WireFormat::Ollama => json!({"message": {"content": more}, "done": false}),
        };
        let frame = if format == WireFormat::Ollama { format!("{piece}\n") } else { format!("data: {piece}\n\n") };
        let start = match format {
            WireFormat::Anthropic => {
                "data: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\n"
            }
            _ => "",
        };
        let body = format!("{start}{}", frame.repeat(MODEL_ANSWER_BYTES_MAX / (1 << 20) + 1));
        let (answer, waits) = answered(format, vec![Step::raw(stream_kind(format), &body)]).await;
        let fault = answer.unwrap_err();
        assert!(matches!(&fault, ModelError::Protocol(message) if message.contains("does not end within")), "{format:?}: {fault}");
        assert_eq!(waits, [], "{format:?}: it is not asked for again");
    }
    // Comments keep a stream alive and are no answer either.
    let body = format!(": {}\n\n", "x".repeat(1 << 20)).repeat(MODEL_ANSWER_BYTES_MAX / (1 << 20) + 1);
    let (answer, _) = answered(WireFormat::OpenAi, vec![Step::raw("text/event-stream", &body)]).await;
    assert!(matches!(answer.unwrap_err(), ModelError::Protocol(message) if message.contains("does not end within")));
    let line = "x".repeat(aedile_models::sse::SSE_EVENT_BYTES_MAX + 2);
    let (answer, _) = answered(WireFormat::Ollama, vec![Step::raw("application/x-ndjson", &line)]).await;
    assert!(matches!(answer.unwrap_err(), ModelError::Protocol(message) if message.contains("one line")));
}

/// The call `read` with arguments that are no object.
fn broken_call(format: WireFormat) -> Vec<Value> {
    match format {
        WireFormat::Anthropic => vec![
            json!({"type": "content_block_start", "index": 0, "content_block": {"type": "tool_use", "id": "t", "name": "read", "input": {}}}),
            json!({"type": "content_block_delta", "index": 0, "delta": {"type": "input_json_delta", "partial_json": "{\"path\": "}}),
            json!({"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 1}}),
        ],
        WireFormat::OpenAi => vec![
            json!({"choices": [{"delta": {"tool_calls": [{"index": 0, "id": "t", "function": {"name": "read", "arguments": "{\"path\": "}}]}}]}),
            json!({"choices": [{"delta": {}, "finish_reason": "tool_calls"}]}),
        ],
        WireFormat::Responses => vec![
            json!({"type": "response.output_item.done", "output_index": 0, "item":
                {"type": "function_call", "id": "fc", "call_id": "t", "name": "read", "arguments": "{\"path\": "}}),
            json!({"type": "response.completed", "response": {"status": "completed", "output": []}}),
        ],
        WireFormat::Gemini => vec![json!({"candidates": [{"content": {"role": "model", "parts":
            [{"functionCall": {"id": "t", "name": "read", "args": "{\"path\": "}}]}, "finishReason": "STOP"}]})],
        WireFormat::Ollama => vec![
            json!({"message": {"tool_calls": [{"id": "t", "function": {"name": "read", "arguments": "{\"path\": "}}]}, "done": false}),
            json!({"done": true, "done_reason": "stop"}),
        ],
    }
}

#[tokio::test]
async fn broken_arguments_stay_text_and_go_back_inside_an_object() {
    for format in ALL {
        let (answer, _) = answered(format, vec![stream(format, &broken_call(format))]).await;
        let (content, stop) = answer.unwrap();
        let [Block::ToolUse { name, input: Value::String(input), .. }] = content.as_slice() else { panic!("{format:?}: {content:?}") };
        assert!(name == "read" && input.contains("path") && stop == ModelStop::ToolUse, "{format:?}");

        let server = ScriptedServer::start(vec![Conversation::any().step(Step::text("ok"))]);
        let mut again = request("hi");
        let said = aedile_core::model::Message::new(aedile_core::model::Role::Assistant, content);
        again.messages.extend([
            said,
            aedile_core::model::Message::new(aedile_core::model::Role::User, vec![Block::tool_result("t", "no such", true)]),
        ]);
        ask(format, &server, &again).await.0.unwrap();
        assert!(server.finish()[0].body.to_string().contains("invalid_json"), "{format:?}");
    }
}

#[tokio::test]
async fn a_call_that_gemini_could_not_write_is_asked_for_again() {
    let malformed = json!({"candidates": [{"content": {"role": "model"}, "finishReason": "MALFORMED_FUNCTION_CALL"}]});
    let (answer, waits) = answered(WireFormat::Gemini, vec![stream(WireFormat::Gemini, &[malformed]), Step::text("ok")]).await;
    assert_eq!((answer.unwrap().0, waits.len()), (vec![Block::text("ok")], 1));
}

#[tokio::test]
async fn refusals_to_answer_are_told_apart() {
    let cases = [
        (WireFormat::Gemini, json!({"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}}), ModelStop::Refusal),
        (WireFormat::Gemini, json!({"candidates": [{"finishReason": "SAFETY"}]}), ModelStop::Refusal),
        (
            WireFormat::Responses,
            json!({"type": "response.incomplete", "response": {"status": "incomplete", "incomplete_details": {"reason": "content_filter"}, "output": []}}),
            ModelStop::Refusal,
        ),
        (WireFormat::Ollama, json!({"done": true, "done_reason": "load"}), ModelStop::Other("load".to_owned())),
    ];
    for (format, object, stop) in cases {
        assert_eq!(answered(format, vec![stream(format, &[object])]).await.0.unwrap().1, stop, "{format:?}");
    }
}

#[tokio::test]
async fn errors_within_the_new_streams_are_understood() {
    let failed = json!({"type": "response.failed", "response": {"status": "failed", "error": {"code": "server_error", "message": "oops"}}});
    let error = json!({"type": "error", "code": "rate_limit_exceeded", "message": "slow down", "param": null, "sequence_number": 1});
    let ollama = json!({"error": "llama runner process has terminated"});
    for (format, object) in [(WireFormat::Responses, failed), (WireFormat::Responses, error), (WireFormat::Ollama, ollama)] {
        let (answer, waits) = answered(format, vec![stream(format, &[object]), Step::text("ok")]).await;
        assert_eq!((answer.unwrap().0.len(), waits.len()), (1, 1), "{format:?}");
    }
    let refused =
        json!({"type": "response.failed", "response": {"status": "failed", "error": {"code": "invalid_prompt", "message": "no"}}});
    let (answer, _) = answered(WireFormat::Responses, vec![stream(WireFormat::Responses, &[refused])]).await;
    assert_eq!(answer.unwrap_err(), ModelError::Refused { status: 400, message: "no".to_owned() });
}

#[tokio::test]
async fn a_tool_that_was_not_offered_is_the_agents_to_answer() {
    for format in ALL {
        let (answer, _) = answered(format, vec![Step::tool("launch", json!({"where": "moon"}))]).await;
        let (content, stop) = answer.unwrap();
        assert!(matches!(&content[..], [Block::ToolUse { name, .. }] if name == "launch") && stop == ModelStop::ToolUse, "{content:?}");
    }
}
