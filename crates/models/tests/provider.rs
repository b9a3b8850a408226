use aedile_core::Usage;
use aedile_core::model::{Block, Message, ModelDelta, ModelError, ModelProvider as _, ModelStop, Role};
use aedile_testkit::{Conversation, ScriptedServer, Step, WireFormat};
use serde_json::{Value, json};

use crate::support::{ALL, ask, endpoint, plain, provider, request};

#[tokio::test]
async fn a_text_streams_and_ends_the_turn() {
    for format in ALL {
        let step = Step::text("Hello, wörld!")
            .expect(|request| if request.model() == "test-model" && request.wants_stream() { Ok(()) } else { Err(request.path.clone()) })
            .expect_system("You are tested.")
            .expect_tool("read")
            .expect_latest("hi")
            .in_pieces_of(7)
            .usage(100, 10, 30, 0);
        let step = match format {
            WireFormat::Anthropic => step
                .expect_header_value("x-api-key", "key-for-tests")
                .expect_header("anthropic-version")
                .expect_json("/max_tokens", json!(500))
                .expect_json("/system/0/cache_control/type", json!("ephemeral"))
                .expect_json("/messages/0/content/0/cache_control/type", json!("ephemeral")),
            WireFormat::OpenAi => step
                .expect_header_value("authorization", "Bearer key-for-tests")
                .expect_json("/max_tokens", json!(500))
                .expect_json("/stream_options/include_usage", json!(true)),
            WireFormat::Responses => step
                .expect_header_value("authorization", "Bearer key-for-tests")
                .expect_json("/max_output_tokens", json!(500))
                .expect_json("/store", json!(false)),
            WireFormat::Gemini => step
                .expect_header_value("x-goog-api-key", "key-for-tests")
                .expect_json("/generationConfig/maxOutputTokens", json!(500))
                .expect(|request| if request.query == "alt=sse" { Ok(()) } else { Err(request.query.clone()) }),
            WireFormat::Ollama => {
                step.expect_json("/options", json!({"num_predict": 500, "num_ctx": 20_000})).expect_json("/stream", json!(true))
            }
        };
        let server = ScriptedServer::start(vec![Conversation::any().step(step)]);
        let (answer, deltas) = ask(format, &server, &request("hi")).await;
        let answer = answer.unwrap();
        assert_eq!(plain(&answer.message), [Block::text("Hello, wörld!")]);
        assert_eq!((answer.message.role, &answer.stop), (Role::Assistant, &ModelStop::EndTurn));
        let cached = if format == WireFormat::Ollama { 0 } else { 30 };
        let usage = Usage { input_tokens: 100, output_tokens: 10, cache_read_tokens: cached, ..Usage::default() };
        assert_eq!(answer.usage, Some(usage), "{format:?}");
        let text: String =
            deltas.iter().map(|delta| if let ModelDelta::Text(text) = delta { text.as_str() } else { panic!("{delta:?}") }).collect();
        assert_eq!(text, "Hello, wörld!");
        server.finish();
    }
}

#[tokio::test]
async fn parallel_tool_calls_and_their_results() {
    for format in ALL {
        let first =
            Step::text("I look.").and_tool("read", json!({"path": "a"})).and_tool("read", json!({"path": "b", "n": [1, {"x": null}]}));
        let second = Step::text("Done.").expect_latest("content of a").expect_latest("no such file");
        let server = ScriptedServer::start(vec![Conversation::any().step(first.in_pieces_of(11)).step(second)]);
        let mut request = request("look");
        let (answer, deltas) = ask(format, &server, &request).await;
        let answer = answer.unwrap();
        assert_eq!(answer.stop, ModelStop::ToolUse);
        let calls: Vec<(&str, &Value)> = answer
            .message
            .content
            .iter()
            .filter_map(|block| match block {
                Block::ToolUse { id, input, .. } => Some((id.as_str(), input)),
                _ => None,
            })
            .collect();
        assert_eq!(
            calls.iter().map(|call| call.1.clone()).collect::<Vec<_>>(),
            [json!({"path": "a"}), json!({"path": "b", "n": [1, {"x": null}]})]
        );
        assert_eq!(deltas.iter().filter(|delta| matches!(delta, ModelDelta::ToolStarted { name } if name == "read")).count(), 2);
        let result = |at: usize, content: &str, is_error| Block::tool_result(calls[at].0, content, is_error);
        let results = vec![result(0, "content of a", false), result(1, "no such file", true)];
        request.messages.extend([answer.message.clone(), Message::new(Role::User, results)]);
        let (answer, _) = ask(format, &server, &request).await;
        assert_eq!(plain(&answer.unwrap().message), [Block::text("Done.")]);
        let seen = server.finish();
        let messages = seen[1].messages();
        let ids: Vec<&Value> = match format {
            WireFormat::Anthropic => messages[2]["content"].as_array().unwrap().iter().map(|block| &block["tool_use_id"]).collect(),
            WireFormat::OpenAi => messages[3..].iter().map(|message| &message["tool_call_id"]).collect(),
            WireFormat::Responses => messages[4..].iter().map(|item| &item["call_id"]).collect(),
            WireFormat::Gemini => messages[2]["parts"].as_array().unwrap().iter().map(|part| &part["functionResponse"]["id"]).collect(),
            WireFormat::Ollama => messages[3..].iter().map(|message| &message["tool_call_id"]).collect(),
        };
        assert_eq!(ids, [calls[0].0, calls[1].0]);
    }
}

#[tokio::test]
async fn an_answer_that_does_not_stream_is_read_too() {
    let anthropic = json!({"type": "message", "role": "assistant", "content": [{"type": "text", "text": "whole"}],
        "stop_reason": "max_tokens", "usage": {"input_tokens": 3, "output_tokens": 4}});
    let openai = json!({"choices": [{"message": {"role": "assistant", "content": "whole"}, "finish_reason": "length"}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 4}});
    let responses = json!({"object": "response", "status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"},
        "output": [{"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "whole", "annotations": []}]}],
        "usage": {"input_tokens": 3, "output_tokens": 4}});
    let gemini = json!({"candidates": [{"content": {"role": "model", "parts": [{"text": "whole"}]}, "finishReason": "MAX_TOKENS"}],
        "usageMetadata": {"promptTokenCount": 3, "candidatesTokenCount": 1, "thoughtsTokenCount": 3}});
    let ollama = json!({"message": {"role": "assistant", "content": "whole"}, "done": true, "done_reason": "length",
        "prompt_eval_count": 3, "eval_count": 4});
    for (format, body) in [
        (WireFormat::Anthropic, anthropic),
        (WireFormat::OpenAi, openai),
        (WireFormat::Responses, responses),
        (WireFormat::Gemini, gemini),
        (WireFormat::Ollama, ollama),
    ] {
        let server = ScriptedServer::start(vec![Conversation::any().step(Step::raw("application/json", &body.to_string()))]);
        let (answer, deltas) = ask(format, &server, &request("hi")).await;
        let answer = answer.unwrap();
        assert_eq!((answer.message.content, answer.stop), (vec![Block::text("whole")], ModelStop::MaxTokens));
        assert_eq!(answer.usage.unwrap().total(), 7);
        assert_eq!(deltas, [ModelDelta::Text("whole".to_owned())]);
    }
}

async fn openai_stream(chunks: &[Value], end: &str) -> Result<aedile_core::model::ModelResponse, ModelError> {
    let mut body = String::from(": keep-alive\n\n");
    chunks.iter().for_each(|chunk| body.push_str(&format!("data: {chunk}\n\n: ping\n\n")));
    body.push_str(end);
    let server = ScriptedServer::start(vec![Conversation::any().step(Step::raw("text/event-stream", &body))]);
    ask(WireFormat::OpenAi, &server, &request("hi")).await.0
}

fn delta(delta: Value) -> Value {
    json!({"choices": [{"delta": delta}]})
}

fn tools_of(message: &Message) -> Vec<(String, Value)> {
    message
        .content
        .iter()
        .filter_map(|block| match block {
            Block::ToolUse { id, name, input, .. } if !id.is_empty() => Some((name.clone(), input.clone())),
            _ => None,
        })
        .collect()
}

#[tokio::test]
async fn servers_that_are_careless_with_tool_calls_are_understood() {
    let whole = |index: Value, id: Value, name: &str, arguments: Value| {
        delta(json!({"content": null, "tool_calls": [{"index": index, "id": id, "function": {"name": name, "arguments": arguments}}]}))
    };
    let cases = [
        // Neither index nor id, arguments as an object.
        [whole(Value::Null, Value::Null, "read", json!({"p": 1})), whole(Value::Null, Value::Null, "list", json!("{\"p\": 2}"))],
        // One index for all calls.
        [whole(json!(0), json!("x"), "read", json!("{\"p\": 1}")), whole(json!(0), json!("y"), "list", json!("{\"p\": 2}"))],
        // Ids without an index.
        [whole(Value::Null, json!("x"), "read", json!("{\"p\": 1}")), whole(Value::Null, json!("y"), "list", json!("{\"p\": 2}"))],
    ];
    for chunks in cases {
        // No usage, `stop` although tools are called, no `[DONE]`.
        let end = format!("data: {}\n\n", json!({"choices": [{"delta": {}, "finish_reason": "stop"}], "usage": null}));
        let answer = openai_stream(&chunks, &end).await.unwrap();
        assert_eq!(tools_of(&answer.message), [("read".to_owned(), json!({"p": 1})), ("list".to_owned(), json!({"p": 2}))], "{chunks:?}");
        assert_eq!((answer.stop, answer.usage), (ModelStop::ToolUse, None));
    }
}

#[tokio::test]
async fn pieces_without_an_index_belong_to_the_last_call() {
    let chunks = [
        delta(json!({"role": "assistant", "tool_calls": [{"id": "x", "function": {"name": "read", "arguments": "{\"p\""}}]})),
        delta(json!({"tool_calls": [{"function": {"arguments": ": 1}"}}]})),
    ];
    let answer = openai_stream(&chunks, "data: [DONE]\n\n").await.unwrap();
    assert_eq!(tools_of(&answer.message), [("read".to_owned(), json!({"p": 1}))]);
}

#[tokio::test]
async fn reasoning_is_shown_kept_and_sent_back() {
    let chunks = [
        delta(json!({"reasoning_content": "first "})),
        delta(json!({"reasoning_content": "thought", "reasoning_details": [{"i": 0}]})),
        delta(json!({"content": "answer", "reasoning_details": [{"i": 1}]})),
    ];
    let answer = openai_stream(&chunks, "data: [DONE]\n\n").await.unwrap();
    let wire = &aedile_models::openai::message_to_wire(&answer.message)[0];
    assert_eq!(wire["reasoning_content"], "first thought");
    assert_eq!(wire["reasoning_details"], json!([{"i": 0}, {"i": 1}]));
    assert_eq!(wire["content"], "answer");
}

#[tokio::test]
async fn thinking_blocks_come_back_with_their_signature() {
    let events = [
        json!({"type": "message_start", "message": {"usage": {"input_tokens": 5, "output_tokens": 1}}}),
        json!({"type": "content_block_start", "index": 0, "content_block": {"type": "thinking", "thinking": "", "signature": ""}}),
        json!({"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": "hm"}}),
        json!({"type": "content_block_delta", "index": 0, "delta": {"type": "signature_delta", "signature": "c2ln"}}),
        json!({"type": "content_block_stop", "index": 0}),
        json!({"type": "content_block_start", "index": 1, "content_block": {"type": "redacted_thinking", "data": "opaque"}}),
        json!({"type": "something_new", "index": 1}),
        json!({"type": "content_block_start", "index": 2, "content_block": {"type": "tool_use", "id": "t", "name": "read", "input": {}, "caller": {"type": "direct"}}}),
        json!({"type": "content_block_delta", "index": 2, "delta": {"type": "input_json_delta", "partial_json": ""}}),
        json!({"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 9}}),
        json!({"type": "message_stop"}),
    ];
    let body: String = events.iter().map(|event| format!("event: {}\ndata: {event}\n\n", event["type"].as_str().unwrap())).collect();
    let server = ScriptedServer::start(vec![Conversation::any().step(Step::raw("text/event-stream", &body))]);
    let (answer, deltas) = ask(WireFormat::Anthropic, &server, &request("think")).await;
    let answer = answer.unwrap();
    assert!(deltas.contains(&ModelDelta::Thinking("hm".to_owned())));
    let wire = aedile_models::anthropic::message_to_wire(&answer.message);
    let expected = json!([
        {"type": "thinking", "thinking": "hm", "signature": "c2ln"},
        {"type": "redacted_thinking", "data": "opaque"},
        {"type": "tool_use", "id": "t", "name": "read", "input": {}, "caller": {"type": "direct"}}
    ]);
    assert_eq!(wire["content"], expected);
    assert_eq!(answer.usage, Some(Usage { input_tokens: 5, output_tokens: 9, ..Usage::default() }));
}

#[tokio::test]
async fn dropping_the_future_ends_the_request() {
    let server = ScriptedServer::start(vec![Conversation::any().step(Step::text("never").slow(std::time::Duration::from_secs(600)))]);
    let mut ignore = |_: ModelDelta| {};
    let provider = provider(WireFormat::Anthropic, &server.url());
    let asked = request("hi");
    let asking = provider.stream(&asked, &mut ignore);
    assert!(tokio::time::timeout(std::time::Duration::from_millis(200), asking).await.is_err());
    assert_eq!(server.finish().len(), 1);
}

#[tokio::test]
async fn a_local_server_needs_no_key_and_any_base_url_works() {
    let local = Conversation::any().step(Step::text("ok").expect(|request| match request.header("authorization") {
        None => Ok(()),
        Some(_) => Err("a key was sent".to_owned()),
    }));
    let server = ScriptedServer::start(vec![local]);
    let mut endpoint = endpoint(&format!("{}/api/v1/", server.url()));
    endpoint.key = None;
    aedile_models::OpenAiChat::new(endpoint).stream(&request("hi"), &mut |_: ModelDelta| {}).await.unwrap();
    assert_eq!(server.finish()[0].path, "/api/v1/chat/completions");
}
