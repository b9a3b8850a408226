use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use aedile_testkit::{Conversation, ScriptedServer, Step};
use serde_json::{Value, json};

/// Sends a request and returns the status and the raw rest of the answer.
fn send(server: &ScriptedServer, method: &str, path: &str, body: &Value) -> (u16, String) {
    let mut stream = TcpStream::connect(server.url().trim_start_matches("http://")).unwrap();
    let body = body.to_string();
    let head =
        format!("{method} {path} HTTP/1.1\r\nhost: x\r\nx-api-key: k\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", body.len());
    stream.write_all((head + &body).as_bytes()).unwrap();
    let mut bytes = Vec::new();
    // A cut connection ends with an error or with the end of the bytes.
    let _ = stream.read_to_end(&mut bytes);
    let text = String::from_utf8_lossy(&bytes).into_owned();
    (text.split(' ').nth(1).unwrap().parse().unwrap(), text)
}

fn ask(server: &ScriptedServer, text: &str) -> (u16, String) {
    let body = json!({"model": "m", "stream": true, "system": [{"type": "text", "text": "sys"}], "messages": [{"role": "user", "content": text}],
        "tools": [{"name": "read"}]});
    send(server, "POST", "/v1/messages", &body)
}

#[test]
fn conversations_are_served_side_by_side() {
    let server = ScriptedServer::start(vec![
        Conversation::about("task-a").step(Step::text("a1")).step(Step::text("a2")),
        Conversation::about("task-b").step(Step::text("b1")).afterwards(Step::text("b-again")),
    ]);
    let answers = ["task-a", "task-b", "task-a", "task-b", "task-b"].map(|task| ask(&server, task).1);
    for (answer, part) in answers.iter().zip(["a", "b", "a", "b-", "b-"]) {
        assert!(answer.contains("message_stop") && answer.contains(&format!("\"text\":\"{part}")), "{answer}");
    }
    assert_eq!(server.requests_of("task-b").len(), 3);
    assert_eq!(server.finish().len(), 5);
}

#[test]
fn what_is_expected_is_checked() {
    let step = Step::text("x")
        .expect_header("x-api-key")
        .expect_json("/model", json!("m"))
        .expect_tool("read")
        .expect_latest("hello")
        .expect_system("sys");
    let server = ScriptedServer::start(vec![Conversation::any().step(step)]);
    assert_eq!(ask(&server, "hello").0, 200);
    server.finish();
}

#[test]
#[should_panic(expected = "the tool write is not offered")]
fn a_mismatch_fails_the_test() {
    let server = ScriptedServer::start(vec![Conversation::any().step(Step::text("x").expect_tool("write"))]);
    let (status, answer) = ask(&server, "hello");
    assert_eq!(status, 500);
    assert!(answer.contains("the tool write is not offered"));
    server.finish();
}

#[test]
#[should_panic(expected = "one request more than its 1 steps")]
fn a_request_too_many_fails_the_test_at_drop() {
    let server = ScriptedServer::start(vec![Conversation::any().step(Step::text("x"))]);
    ask(&server, "one");
    assert_eq!(ask(&server, "two").0, 500);
}

#[test]
#[should_panic(expected = "no conversation takes POST /v1/messages")]
fn a_stranger_fails_the_test() {
    let server = ScriptedServer::start(vec![Conversation::about("task-a")]);
    ask(&server, "task-z");
    server.finish();
}

#[test]
#[should_panic(expected = "1 steps were played, 1 were not asked for")]
fn a_step_that_is_not_asked_for_fails_the_test() {
    let server = ScriptedServer::start(vec![Conversation::any().step(Step::text("x")).step(Step::text("y"))]);
    ask(&server, "one");
    server.finish();
}

#[test]
fn answers_can_be_bad_in_many_ways() {
    let server = ScriptedServer::start(vec![
        Conversation::any()
            .step(Step::status(429, "later").header("retry-after", "3"))
            .step(Step::text("long enough").cut_after(3))
            .step(Step::bad_json())
            .step(Step::tool("read", json!({"path": "a"})).and_tool("read", json!({"path": "b"})).without_usage()),
    ]);
    let (status, busy) = ask(&server, "1");
    assert_eq!(status, 429);
    assert!(busy.contains("retry-after: 3") && busy.contains("rate_limit_error"));
    let cut = ask(&server, "2").1;
    assert!(cut.contains("content_block_start") && !cut.contains("message_stop") && !cut.contains("\r\n0\r\n"), "{cut}");
    assert!(ask(&server, "3").1.contains("content_\n"));
    assert_eq!(ask(&server, "4").1.matches("\"name\":\"read\"").count(), 2);
    server.finish();
}

#[test]
fn models_and_counts_need_no_step() {
    let server = ScriptedServer::start(vec![]);
    assert!(send(&server, "GET", "/v1/models", &Value::Null).1.contains("\"object\":\"list\""));
    assert!(send(&server, "POST", "/v1/messages/count_tokens", &json!({"messages": []})).1.contains("input_tokens"));
    assert_eq!(server.finish().len(), 2);
}
