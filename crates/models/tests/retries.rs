use std::time::Duration;

use aedile_core::limits::MODEL_TRIES_MAX;
use aedile_core::model::{ModelDelta, ModelError};
use aedile_testkit::{Conversation, ScriptedServer, Step, WireFormat};

use crate::support::{ALL, ask, provider, request};

/// How many events of a stream come before one that holds content.
fn events_before_content(format: WireFormat) -> usize {
    match format {
        WireFormat::Anthropic => 3,
        WireFormat::OpenAi => 1,
        WireFormat::Responses => 2,
        WireFormat::Gemini | WireFormat::Ollama => 0,
    }
}

fn retries(deltas: &[ModelDelta]) -> Vec<(u32, Duration)> {
    let retry = |delta: &ModelDelta| match delta {
        ModelDelta::Retrying { attempt, after, .. } => Some((*attempt, *after)),
        _ => None,
    };
    deltas.iter().filter_map(retry).collect()
}

#[tokio::test]
async fn a_busy_provider_is_asked_again_when_it_says() {
    for format in ALL {
        let steps = Conversation::any()
            .step(Step::status(429, "slow down").header("retry-after", "0.05"))
            .step(Step::status(529, "overloaded").header("retry-after", "Thu, 01 Jan 1970 00:00:00 GMT"))
            .step(Step::status(500, "oops"))
            .step(Step::text("at last"));
        let server = ScriptedServer::start(vec![steps]);
        let (answer, deltas) = ask(format, &server, &request("hi")).await;
        answer.unwrap();
        let retries = retries(&deltas);
        assert_eq!(retries[..2], [(2, Duration::from_millis(50)), (3, Duration::ZERO)]);
        assert_eq!(retries[2].0, 4);
        assert!(retries[2].1 >= Duration::from_secs(1), "without a word of the provider the wait grows: {:?}", retries[2].1);
        server.finish();
    }
}

#[tokio::test]
async fn tries_have_a_limit() {
    let steps = (0..MODEL_TRIES_MAX).fold(Conversation::any(), |steps, _| steps.step(Step::status(503, "down").header("retry-after", "0")));
    let server = ScriptedServer::start(vec![steps]);
    let (answer, _) = ask(WireFormat::OpenAi, &server, &request("hi")).await;
    assert_eq!(answer.unwrap_err(), ModelError::Exhausted { tries: MODEL_TRIES_MAX, last: "503: down".to_owned() });
    server.finish();
}

#[tokio::test]
async fn a_wait_that_is_too_long_is_not_waited() {
    let server = ScriptedServer::start(vec![Conversation::any().step(Step::status(429, "tomorrow").header("retry-after", "86400"))]);
    let (answer, _) = ask(WireFormat::Anthropic, &server, &request("hi")).await;
    let error = answer.unwrap_err();
    assert!(matches!(&error, ModelError::Exhausted { tries: 1, last } if last.contains("86400 s")), "{error}");
}

#[tokio::test]
async fn what_another_try_does_not_change_is_not_tried_again() {
    for format in ALL {
        for status in [400, 401, 403, 404, 413] {
            let server = ScriptedServer::start(vec![Conversation::any().step(Step::status(status, "no"))]);
            let (answer, _) = ask(format, &server, &request("hi")).await;
            assert_eq!(answer.unwrap_err(), ModelError::Refused { status, message: "no".to_owned() });
            server.finish();
        }
    }
}

#[tokio::test]
async fn an_account_without_credit_is_not_asked_again() {
    let body = r#"{"error": {"type": "insufficient_quota", "code": "insufficient_quota", "message": "add credit"}}"#;
    let stream = format!("data: {body}\n\n");
    let server = ScriptedServer::start(vec![Conversation::any().step(Step::raw("text/event-stream", &stream))]);
    let (answer, _) = ask(WireFormat::OpenAi, &server, &request("hi")).await;
    assert_eq!(answer.unwrap_err(), ModelError::Refused { status: 402, message: "add credit".to_owned() });
}

#[tokio::test]
async fn a_spent_budget_is_final_and_says_which() {
    for format in ALL {
        let message = "the task's budget of $1.00 is spent; raise `budget_usd`";
        let server = ScriptedServer::start(vec![Conversation::any().step(Step::status(402, message))]);
        let (answer, _) = ask(format, &server, &request("hi")).await;
        assert_eq!(answer.unwrap_err(), ModelError::OverBudget { message: message.to_owned() });
        server.finish();
    }
}

#[tokio::test]
async fn a_stream_that_is_cut_before_content_is_tried_again() {
    for format in ALL {
        let server = ScriptedServer::start(vec![
            Conversation::any().step(Step::text("hello").cut_after(events_before_content(format).min(1))).step(Step::text("hello")),
        ]);
        let (answer, deltas) = ask(format, &server, &request("hi")).await;
        answer.unwrap();
        assert_eq!(retries(&deltas).len(), 1);
        server.finish();
    }
}

#[tokio::test]
async fn a_stream_that_is_cut_within_content_is_the_callers() {
    for format in ALL {
        let server =
            ScriptedServer::start(vec![Conversation::any().step(Step::text("hello world").cut_after(events_before_content(format) + 1))]);
        let (answer, deltas) = ask(format, &server, &request("hi")).await;
        assert!(matches!(answer.unwrap_err(), ModelError::Cut(_)));
        assert_eq!(retries(&deltas), []);
        server.finish();
    }
}

#[tokio::test]
async fn errors_within_a_stream_are_understood() {
    let anthropic =
        "event: error\ndata: {\"type\": \"error\", \"error\": {\"type\": \"overloaded_error\", \"message\": \"Overloaded\"}}\n\n";
    let openai = "data: {\"error\": {\"message\": \"upstream\", \"code\": 502}}\n\n";
    for (format, body) in [(WireFormat::Anthropic, anthropic), (WireFormat::OpenAi, openai)] {
        let steps = Conversation::any().step(Step::raw("text/event-stream", body)).step(Step::text("ok"));
        let server = ScriptedServer::start(vec![steps]);
        let (answer, deltas) = ask(format, &server, &request("hi")).await;
        answer.unwrap();
        assert_eq!(retries(&deltas).len(), 1);
        server.finish();
    }
    let begun = "data: {\"choices\": [{\"delta\": {\"content\": \"half\"}}]}\n\ndata: {\"error\": \"the model crashed\"}\n\n";
    let server = ScriptedServer::start(vec![Conversation::any().step(Step::raw("text/event-stream", begun))]);
    let (answer, _) = ask(WireFormat::OpenAi, &server, &request("hi")).await;
    assert_eq!(answer.unwrap_err(), ModelError::Cut("500: the model crashed".to_owned()));
}

#[tokio::test]
async fn broken_json_is_named() {
    for format in ALL {
        let server = ScriptedServer::start(vec![Conversation::any().step(Step::bad_json())]);
        let (answer, _) = ask(format, &server, &request("hi")).await;
        assert!(matches!(answer.unwrap_err(), ModelError::Protocol(_)));
    }
}

#[tokio::test]
async fn a_provider_that_cannot_be_reached_is_tried_again_and_named() {
    let provider = provider(WireFormat::OpenAi, "http://127.0.0.1:1");
    let mut reasons = Vec::new();
    let mut sink = |delta: ModelDelta| match delta {
        ModelDelta::Retrying { reason, .. } => reasons.push(reason),
        other => panic!("{other:?}"),
    };
    let asked = request("hi");
    let asking = provider.stream(&asked, &mut sink);
    assert!(tokio::time::timeout(Duration::from_millis(300), asking).await.is_err(), "it waits before it tries again");
    assert!(reasons[0].starts_with("cannot reach the model provider: "), "{reasons:?}");
}
