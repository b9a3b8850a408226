//! What a door lets pass and what it refuses.

use aedile_core::limits::{DOOR_BODY_BYTES_MAX, DOOR_CONCURRENT_MAX};
use aedile_testkit::{Conversation, ScriptedServer, Step};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::{ByHand, CLAUDE, GPT, KEY, Rig, ask, post, raw, soon, until};

#[tokio::test]
async fn everything_outside_the_list_is_refused_with_a_sentence() {
    let rig = Rig::new("http://127.0.0.1:9");
    let (_door, url) = rig.open(rig.grant(CLAUDE));
    for (path, status, part) in [
        ("/v1/files", 404, "no POST /v1/files"),
        ("/v1/messages/batches", 404, "no POST"),
        ("/v1/messages/", 404, "no POST"),
        ("//v1/messages", 404, "no POST"),
        ("/v1/../v1/messages", 404, "no POST"),
        ("/v1/responses/compact", 404, "no POST"),
        ("/v1/responses", 404, "this door leads to anthropic"),
        ("/v1/models", 404, "no POST /v1/models"),
        ("/v1/chat/completions", 404, "this door leads to anthropic"),
        ("/v1/messages?x=1", 400, "no query"),
        ("/aedile/v1/call?x", 400, "no query"),
    ] {
        let request = format!("POST {path} HTTP/1.1\r\nhost: d\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{{}}");
        let answer = raw(&url, &request).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")) && answer.contains(part), "{path}: {answer}");
        let body: Value = serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap();
        assert_eq!(body["type"], "error");
    }
    let (_door, url) = rig.open(rig.grant(GPT));
    let (status, _, text) = post(&url, "/v1/messages", &ask("gpt-test", false)).await;
    assert!(status == 404 && text.contains("/v1/chat/completions"), "{text}");
}

#[tokio::test]
async fn odd_forms_are_refused() {
    let rig = Rig::new("http://127.0.0.1:9");
    let (_door, url) = rig.open(rig.grant(CLAUDE));
    let body = ask("claude-test", false).to_string();
    let length = body.len();
    for (request, status) in [
        (format!("POST /v1/messages HTTP/1.1\r\nhost: d\r\ncontent-length: {length}\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"), 400),
        (format!("POST /v1/messages HTTP/1.1\r\nhost: d\r\ntransfer-encoding: chunked\r\ncontent-length: {length}\r\n\r\n0\r\n\r\n"), 400),
        ("POST /v1/messages HTTP/1.1\r\nhost: d\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n".to_owned(), 411),
        (format!("POST /v1/messages HTTP/1.1\r\nhost: d\r\ncontent-length: 1\r\ncontent-length: {length}\r\n\r\n{body}"), 400),
        (format!("POST /v1/messages HTTP/1.1\r\nhost: d\r\ncontent-encoding: gzip\r\ncontent-length: {length}\r\n\r\n{body}"), 400),
        ("POST http://example.com/v1/messages HTTP/1.1\r\nhost: example.com\r\ncontent-length: 0\r\n\r\n".to_owned(), 400),
        ("CONNECT example.com:443 HTTP/1.1\r\nhost: example.com:443\r\n\r\n".to_owned(), 405),
        ("OPTIONS * HTTP/1.1\r\nhost: d\r\n\r\n".to_owned(), 405),
        ("DELETE /v1/messages HTTP/1.1\r\nhost: d\r\n\r\n".to_owned(), 405),
        (format!("POST /v1/messages HTTP/1.1\r\nhost: d\r\nx: {}\r\n\r\n", "x".repeat(70_000)), 431),
        (format!("POST /v1/messages HTTP/1.1\r\nhost: d\r\n{}\r\n", "x: y\r\n".repeat(200)), 431),
        ("\x16\x03\x01 nonsense\r\n\r\n".to_owned(), 400),
    ] {
        let request = request.replacen("host:", "connection: close\r\nhost:", 1);
        let answer = raw(&url, &request).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{request:.80}: {answer}");
    }
}

#[tokio::test]
async fn a_wrong_model_and_a_broken_body_are_refused() {
    let rig = Rig::new("http://127.0.0.1:9");
    let (_door, url) = rig.open(rig.grant(CLAUDE));
    let (status, _, text) = post(&url, "/v1/messages", &ask("claude-dearer", true)).await;
    assert!(status == 403 && text.contains("claude-test") && text.contains("permission_error"), "{text}");
    let (status, _, text) = post(&url, "/v1/messages/count_tokens", &ask("claude-dearer", true)).await;
    assert!(status == 403, "{text}");
    for body in [json!([]), json!({"model": "claude-test"}), json!({"model": ["claude-test"], "messages": []})] {
        let (status, _, text) = post(&url, "/v1/messages", &body).await;
        assert!(status == 400 && text.contains("invalid_request_error"), "{text}");
    }
    assert!(rig.costs().is_empty());
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused_before_it_is_read() {
    let rig = Rig::new("http://127.0.0.1:9");
    let (_door, url) = rig.open(rig.grant(CLAUDE));
    let length = DOOR_BODY_BYTES_MAX + 1;
    let answer = raw(&url, &format!("POST /v1/messages HTTP/1.1\r\nhost: d\r\ncontent-length: {length}\r\n\r\n")).await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    let call = format!("POST /aedile/v1/call HTTP/1.1\r\nhost: d\r\ncontent-length: {}\r\n\r\n", 2 * 1024 * 1024);
    assert!(raw(&url, &call).await.starts_with("HTTP/1.1 413 "));
}

#[tokio::test]
async fn a_large_body_passes_whole() {
    let server = ScriptedServer::start(vec![Conversation::any().step(Step::text("ok"))]);
    let rig = Rig::new(&server.url());
    let (_door, url) = rig.open(rig.grant(CLAUDE));
    let mut body = ask("claude-test", false);
    body["messages"][0]["content"] = json!("x".repeat(8 * 1024 * 1024));
    let (status, _, _) = post(&url, "/v1/messages", &body).await;
    assert_eq!(status, 200);
    assert_eq!(server.finish()[0].messages()[0]["content"].as_str().unwrap().len(), 8 * 1024 * 1024);
}

#[tokio::test]
async fn the_agents_own_api_answers_without_secrets() {
    let rig = Rig::new("http://127.0.0.1:9");
    let (_door, url) = rig.open(rig.grant(CLAUDE));
    let (status, _, text) = post(&url, "/aedile/v1/call", &json!({"method": "mail_read"})).await;
    assert_eq!(status, 200, "{text}");
    let reply: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(reply["reply"], "done");
    assert!(reply["message"].as_str().unwrap().starts_with("ada MailRead") && text.contains("[secret KEY]") && !text.contains(KEY));
    let (status, _, text) = post(&url, "/aedile/v1/call", &json!({"method": "mail_read", "who": "bob"})).await;
    assert!(status == 400 && text.contains("not understood"), "{text}");
}

#[tokio::test]
async fn one_request_too_many_is_told_to_wait() {
    let provider = ByHand::new().await;
    let rig = Rig::new(&provider.url);
    let (door, url) = rig.open(rig.grant(CLAUDE));
    let mut waiting = Vec::new();
    let mut held = Vec::new();
    for _ in 0..DOOR_CONCURRENT_MAX {
        let url = url.clone();
        waiting.push(tokio::spawn(async move { post(&url, "/v1/messages", &ask("claude-test", false)).await }));
        held.push(provider.take().await.2);
    }
    assert_eq!(door.activity().in_flight as usize, DOOR_CONCURRENT_MAX);
    let (status, headers, text) = post(&url, "/v1/messages", &ask("claude-test", false)).await;
    assert!(status == 429 && headers["retry-after"] == "1", "{text}");
    for mut connection in held {
        let body = json!({"type": "message", "usage": {"input_tokens": 10, "output_tokens": 2}}).to_string();
        let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len());
        connection.write_all(answer.as_bytes()).await.unwrap();
    }
    for request in waiting {
        assert_eq!(soon(request).await.unwrap().0, 200);
    }
    assert_eq!(rig.costs()[0].usage.input_tokens, 10 * DOOR_CONCURRENT_MAX as u64);
    until("nothing is under way", || door.activity().in_flight == 0).await;
}

#[tokio::test]
async fn a_closed_door_is_closed() {
    let rig = Rig::new("http://127.0.0.1:9");
    let (door, url) = rig.open(rig.grant(CLAUDE));
    let mut idle = TcpStream::connect(url.strip_prefix("http://").unwrap()).await.unwrap();
    idle.write_all(b"POST /v1/messages HTTP/1.1\r\ncontent-length: 9\r\n\r\n").await.unwrap();
    drop(door);
    let mut rest = Vec::new();
    // An end or a reset, but no more answers.
    let _ = soon(idle.read_to_end(&mut rest)).await;
    assert!(rest.is_empty());
    let address: std::net::SocketAddr = url.strip_prefix("http://").unwrap().parse().unwrap();
    until("the port is free", || std::net::TcpListener::bind(address).is_ok()).await;
    soon(rig.gateway.settled()).await;
}

#[tokio::test]
async fn a_door_that_leads_nowhere_is_not_opened() {
    let rig = Rig::new("http://127.0.0.1:9");
    let refused = |model: &str| rig.try_open(rig.grant(model)).err().unwrap().to_string();
    assert_eq!(refused("wants-key/x"), "cannot open the door of ada: set WANTS_KEY");
    assert!(refused("acme/x").contains("known are anthropic, gemini, ollama, openai, script, wants-key"));
    assert!(refused("script/demo").contains("give the task a `script`"));
    let mut grant = rig.grant("script/demo");
    grant.script = Some(json!([{"say": "x"}]));
    assert!(rig.try_open(grant).err().unwrap().message.contains("[0].say"));
    let file: std::os::fd::OwnedFd = std::fs::File::open("/dev/null").unwrap().into();
    assert!(aedile_core::egress::Egress::open_door(&rig.gateway, file, rig.grant(CLAUDE)).is_err());
}

/// The resident memory of this process in bytes.
fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

#[tokio::test]
async fn an_idle_door_takes_little_memory() {
    let rig = Rig::new("http://127.0.0.1:9");
    let before = resident();
    let mut doors = Vec::new();
    for _ in 0..100 {
        let (door, url) = rig.open(rig.grant(CLAUDE));
        let (status, _, _) = post(&url, "/v1/messages", &ask("another", false)).await;
        assert_eq!(status, 403);
        doors.push(door);
    }
    // Other tests of this process may grow meanwhile, so the limit is far above what a door takes.
    let each = resident().saturating_sub(before) / 100;
    println!("an idle door takes {each} bytes");
    assert!(each < 1024 * 1024, "{each} bytes for each door");
}
