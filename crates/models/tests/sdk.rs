//! Our formats held against the vendors' own libraries: what we send has the types that they send, and what we read they read alike.
//!
//! `AEDILE_SDK_PYTHON` names a Python that has them; `.ci/run` installs it.

use std::path::Path;
use std::process::Command;

use aedile_core::model::{Block, Media, Message, ModelRequest, Role};
use aedile_testkit::{Conversation, ScriptedServer, Step, WireFormat, require};
use serde_json::{Map, Value, json};

use crate::support::{ALL, api, ask, request};

/// A Python with the vendors' libraries.
#[expect(clippy::disallowed_methods, reason = "the environment says where it is")]
fn python(test: &str) -> Option<String> {
    let python = std::env::var("AEDILE_SDK_PYTHON").ok().filter(|python| Path::new(python).is_file());
    let missing =
        python.is_none().then_some("AEDILE_SDK_PYTHON names no Python with anthropic, openai, google-genai and ollama (see .ci/run)");
    require(test, missing).then_some(python).flatten()
}

#[expect(clippy::disallowed_methods, reason = "a test asks Python")]
fn run(python: &str, arguments: &[&str]) -> String {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sdk/check.py");
    let output = Command::new(python).arg(script).args(arguments).env("PYTHONDONTWRITEBYTECODE", "1").output().unwrap();
    let (said, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{arguments:?}: {errors}");
    said.into_owned()
}

/// A request with everything in it: pictures, documents, calls made at once, results, a failed one, a schema.
fn rich() -> ModelRequest {
    let picture = Media::new("image/png", b"\x89PNG", None);
    let plan = Media::new("application/pdf", b"%PDF-1.4", Some("plan.pdf".to_owned()));
    let call = |id: &str| Block::ToolUse { id: id.into(), name: "read".into(), input: json!({"path": "a"}), extra: Map::new() };
    let seen = Block::ToolResult { id: "call_1".into(), content: "a picture".into(), is_error: false, media: vec![picture.clone()] };
    let talk = vec![
        Message::new(Role::User, vec![Block::text("look"), Block::Media { media: picture }, Block::Media { media: plan }]),
        Message::new(Role::Assistant, vec![Block::text("I look."), call("call_1"), call("call_2")]),
        Message::new(Role::User, vec![seen, Block::tool_result("call_2", "no such file", true), Block::text("go on")]),
    ];
    let schema = json!({"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]});
    ModelRequest { messages: talk, output_schema: Some(schema), ..request("") }
}

/// What a model thought and said in a format, with all that must come back.
fn thought(format: WireFormat) -> Message {
    let text = |extra: Value| Block::Text { text: "Let me see.".to_owned(), extra: extra.as_object().unwrap().clone() };
    let content = match format {
        WireFormat::Anthropic => vec![
            Block::Other { value: json!({"type": "thinking", "thinking": "hm", "signature": "c2ln"}) },
            Block::Other { value: json!({"type": "redacted_thinking", "data": "b3BhcXVl"}) },
            text(json!({})),
        ],
        WireFormat::Responses => vec![
            Block::Other { value: json!({"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "b3BhcXVl"}) },
            text(json!({"item": {"id": "msg_1", "status": "completed"}})),
        ],
        WireFormat::Gemini => {
            vec![Block::Other { value: json!({"text": "hm", "thought": true}) }, text(json!({"thoughtSignature": "c2ln"}))]
        }
        _ => vec![text(json!({}))],
    };
    Message { origin: Some(format!("{}/test-model", api(format).name())), ..Message::new(Role::Assistant, content) }
}

#[tokio::test]
async fn our_requests_have_the_types_of_the_vendors_libraries() {
    let Some(python) = python("our_requests_have_the_types_of_the_vendors_libraries") else { return };
    let mut cases = Vec::new();
    for format in ALL {
        let server = ScriptedServer::start(vec![Conversation::any().afterwards(Step::text("ok"))]);
        let mut think = request("hi");
        think.messages.extend([thought(format), Message::user("go on")]);
        for asked in [request("hi"), rich(), think] {
            ask(format, &server, &asked).await.0.unwrap();
        }
        // An answer of its own goes back as it came.
        let answered = ScriptedServer::start(vec![
            Conversation::any().step(Step::text("I look.").and_tool("read", json!({"path": "a"}))).step(Step::text("ok")),
        ]);
        let mut asked = request("hi");
        let said = ask(format, &answered, &asked).await.0.unwrap().message;
        let id = said.content.iter().find_map(|block| if let Block::ToolUse { id, .. } = block { Some(id.clone()) } else { None });
        asked.messages.extend([said, Message::new(Role::User, vec![Block::tool_result(id.unwrap(), "content", false)])]);
        ask(format, &answered, &asked).await.0.unwrap();
        let bodies = server.finish().into_iter().chain(answered.finish()).map(|seen| seen.body);
        cases.extend(bodies.map(|body| json!({"format": api(format).name(), "body": body})));
    }
    assert_eq!(cases.len(), 25);
    let file = tempfile::NamedTempFile::new().unwrap();
    serde_json::to_writer(&file, &cases).unwrap();
    let said = run(&python, &["requests", file.path().to_str().unwrap()]);
    assert_eq!(said.matches("5 requests are as the library would write them").count(), 5, "{said}");
}

#[tokio::test]
async fn the_libraries_read_what_we_read() {
    let Some(python) = python("the_libraries_read_what_we_read") else { return };
    for format in ALL {
        let step = || {
            Step::text("Hällo, I look.")
                .and_tool("read", json!({"path": "a"}))
                .and_tool("read", json!({"path": "ü/b"}))
                .usage(100, 10, 30, 0)
                .in_pieces_of(11)
        };
        let server = ScriptedServer::start(vec![Conversation::any().step(step()).step(step())]);
        let ours = ask(format, &server, &request("hi")).await.0.unwrap();
        let url = server.url();
        let (name, asked) = (api(format).name(), python.clone());
        let theirs = tokio::task::spawn_blocking(move || run(&asked, &["answer", name, &url])).await.unwrap();
        let theirs: Value = serde_json::from_str(&theirs).unwrap();
        let (mut text, mut calls) = (String::new(), Vec::new());
        for block in &ours.message.content {
            match block {
                Block::Text { text: piece, .. } => text.push_str(piece),
                Block::ToolUse { name, input, .. } => calls.push(json!([name, input])),
                _ => {}
            }
        }
        let usage = ours.usage.unwrap();
        let usage = json!([usage.input_tokens, usage.output_tokens, usage.cache_read_tokens]);
        assert_eq!(theirs, json!({"text": text, "calls": calls, "usage": usage}), "{format:?}");
        server.finish();
    }
}
