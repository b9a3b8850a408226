//! Requests to models: keys, streams, errors.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use aedile_core::limits::MODEL_ANSWER_BYTES_MAX;
use aedile_testkit::{Conversation, ScriptedServer, Step};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::{ByHand, CLAUDE, GPT, KEY, Rig, SSE_HEAD, ask, chunk, post, soon, start_event, until};

#[tokio::test]
async fn the_real_key_takes_the_place_of_the_placeholder() {
    let step = || Step::text("hi").header("x-key", KEY).header("request-id", KEY);
    let server = ScriptedServer::start(vec![Conversation::any().step(step()).step(step())]);
    let rig = Rig::new(&server.url());
    let (_door, url) = rig.open(rig.grant(CLAUDE));
    let (status, headers, text) = post(&url, "/v1/messages?beta=true", &ask("claude-test", true)).await;
    assert!(status == 200 && text.contains("message_stop"), "{text}");
    assert!(!format!("{headers:?}{text}").contains(KEY));
    let (_door, url) = rig.open(rig.grant(GPT));
    let (status, headers, text) = post(&url, "/v1/chat/completions", &ask("gpt-test", true)).await;
    assert!(status == 200 && text.contains("[DONE]") && !format!("{headers:?}").contains(KEY), "{text}");

    let seen = server.finish();
    assert_eq!((seen[0].header("x-api-key"), seen[0].header("authorization")), (Some(KEY), None));
    assert_eq!((seen[0].header("anthropic-version"), seen[0].header("cookie")), (Some("2023-06-01"), None));
    assert_eq!(seen[0].body, ask("claude-test", true), "the body passes unchanged");
    assert_eq!((seen[1].header("x-api-key"), seen[1].header("authorization")), (None, Some(format!("Bearer {KEY}").as_str())));
    assert_eq!(seen[1].body["stream_options"], json!({"include_usage": true}));
    let costs = rig.costs();
    assert_eq!(
        costs.iter().map(|cost| (cost.usage.input_tokens, cost.usage.output_tokens, cost.usd.0)).collect::<Vec<_>>(),
        [(100, 10, 200); 2]
    );
}

/// Reads from the connection until what came holds the text.
async fn read_until(stream: &mut TcpStream, seen: &mut String, text: &str) {
    while !seen.contains(text) {
        let mut piece = [0; 4096];
        let length = soon(stream.read(&mut piece)).await.unwrap();
        assert!(length > 0, "the end came before {text:?}: {seen}");
        seen.push_str(std::str::from_utf8(&piece[..length]).unwrap());
    }
}

async fn send(url: &str, body: &Value) -> TcpStream {
    let mut client = TcpStream::connect(url.strip_prefix("http://").unwrap()).await.unwrap();
    let body = body.to_string();
    let head = format!("POST /v1/messages HTTP/1.1\r\nhost: d\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", body.len());
    client.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
    client
}

#[tokio::test]
async fn a_stream_passes_piece_by_piece() {
    let provider = ByHand::new().await;
    let rig = Rig::new(&provider.url);
    let (door, url) = rig.open(rig.grant(CLAUDE));
    let mut client = send(&url, &ask("claude-test", true)).await;
    let (head, body, mut out) = provider.take().await;
    assert!(head.contains("accept-encoding: identity") && head.contains(KEY) && body["stream"] == true, "{head}");
    let mut seen = String::new();
    out.write_all(SSE_HEAD.as_bytes()).await.unwrap();
    read_until(&mut client, &mut seen, "\r\n\r\n").await;
    assert!(seen.contains("request-id: r1") && !seen.contains("set-cookie"), "{seen}");
    assert_eq!(door.activity().last_flow, None);
    // Half an event is passed on before the other half exists.
    for piece in [start_event(40).as_str(), "event: message_de", "lta\n"] {
        out.write_all(chunk(piece).as_bytes()).await.unwrap();
        read_until(&mut client, &mut seen, piece.trim_end()).await;
    }
    assert!(door.activity().last_flow.is_some());
    assert_eq!(door.activity().in_flight, 1);
    let end = "data: {\"type\": \"message_delta\", \"usage\": {\"output_tokens\": 7}}\n\n";
    out.write_all(format!("{}0\r\n\r\n", chunk(end)).as_bytes()).await.unwrap();
    read_until(&mut client, &mut seen, "0\r\n\r\n").await;
    let activity = door.activity();
    assert_eq!((activity.usage.input_tokens, activity.usage.output_tokens, activity.spent.0), (40, 7, 110));
}

#[tokio::test]
async fn a_secret_in_a_conversation_is_not_told_to_the_provider() {
    let server = ScriptedServer::start(vec![Conversation::any().step(Step::text("ok")).step(Step::text("ok"))]);
    let rig = Rig::new(&server.url());
    let (_door, url) = rig.open(rig.grant(CLAUDE));
    let with = |text: &str| json!({"model": "claude-test", "max_tokens": 9, "messages": [{"role": "user", "content": text}]});
    assert_eq!(post(&url, "/v1/messages", &with(&format!("the file says KEY={KEY} here"))).await.0, 200);
    assert_eq!(post(&url, "/v1/messages", &with("nothing")).await.0, 200);
    let seen = server.finish();
    assert_eq!(seen[0].body["messages"][0]["content"], "the file says KEY=[secret KEY] here");
    assert_eq!(seen[0].header("x-api-key"), Some(KEY), "it still opens the provider's door");
}

#[tokio::test]
async fn errors_of_the_provider_pass_with_their_headers_and_without_secrets() {
    let server = ScriptedServer::start(vec![
        Conversation::any()
            .step(Step::status(429, "slow down").header("retry-after", "7"))
            .step(Step::status(401, &format!("bad key {KEY}")))
            .step(Step::status(529, "overloaded"))
            .step(Step::status(302, "moved").header("location", "http://169.254.169.254/")),
    ]);
    let rig = Rig::new(&server.url());
    let (_door, url) = rig.open(rig.grant(CLAUDE));
    let body = ask("claude-test", true);
    let (status, headers, text) = post(&url, "/v1/messages", &body).await;
    assert!(status == 429 && headers["retry-after"] == "7" && text.contains("slow down"), "{text}");
    let (status, _, text) = post(&url, "/v1/messages", &body).await;
    assert!(status == 401 && text.contains("bad key [secret KEY]"), "{text}");
    assert_eq!(post(&url, "/v1/messages", &body).await.0, 529);
    let (status, headers, text) = post(&url, "/v1/messages", &body).await;
    assert!(status == 502 && text.contains("redirect") && !headers.contains_key("location"), "{text}");
    assert_eq!(rig.costs()[0].usd.0, 0, "what the provider refuses costs nothing");
    assert_eq!(server.finish().len(), 4, "a door tries nothing twice and follows nothing");
}

#[tokio::test]
async fn a_provider_that_is_away_costs_nothing() {
    let rig = Rig::new("http://127.0.0.1:9");
    let (_door, url) = rig.open(rig.grant(CLAUDE));
    let (status, _, text) = post(&url, "/v1/messages", &ask("claude-test", false)).await;
    assert!(status == 502 && text.contains("anthropic cannot be reached") && !text.contains("127.0.0.1"), "{text}");
    assert_eq!((rig.costs()[0].usd.0, rig.costs()[0].estimated), (0, 0));
}

#[tokio::test]
async fn token_counts_and_model_lists_pass_and_are_free() {
    let provider = ByHand::new().await;
    let rig = Rig::new(&provider.url);
    let (_door, url) = rig.open(rig.grant(CLAUDE));
    let answer = |body: &str| {
        format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len())
    };
    let serve = async {
        let (head, _, mut out) = provider.take().await;
        assert!(head.starts_with("post /v1/messages/count_tokens "), "{head}");
        out.write_all(answer("{\"input_tokens\":12}").as_bytes()).await.unwrap();
    };
    let body = json!({"model": "claude-test", "messages": []});
    let ((status, _, text), ()) = tokio::join!(post(&url, "/v1/messages/count_tokens", &body), serve);
    assert_eq!((status, text.as_str()), (200, "{\"input_tokens\":12}"));
    let (_door, url) = rig.open(rig.grant(GPT));
    let serve = async {
        let (head, _, mut out) = provider.take().await;
        assert!(head.starts_with("get /v1/models ") && head.contains(KEY), "{head}");
        out.write_all(answer(&format!("{{\"data\":[],\"key\":\"{KEY}\"}}")).as_bytes()).await.unwrap();
    };
    let (text, ()) = tokio::join!(crate::support::raw(&url, "GET /v1/models HTTP/1.1\r\nhost: d\r\nconnection: close\r\n\r\n"), serve);
    assert!(text.starts_with("HTTP/1.1 200") && text.contains("[secret KEY]"), "{text}");
    assert!(rig.costs().is_empty());
}

#[tokio::test]
async fn a_script_answers_in_both_formats() {
    let rig = Rig::new("http://127.0.0.1:9");
    let mut grant = rig.grant("script/demo");
    grant.script = Some(json!(["first", {"tools": [{"name": "bash", "input": {"command": "ls"}}]}]));
    grant.run_budget = crate::support::usd(0);
    let (door, url) = rig.open(grant);
    let (status, headers, text) = post(&url, "/v1/messages", &ask("demo", true)).await;
    assert!(status == 200 && headers["content-type"] == "text/event-stream" && text.contains("first"), "{text}");
    let (status, _, text) = post(&url, "/v1/chat/completions", &ask("demo", false)).await;
    assert!(status == 200 && serde_json::from_str::<Value>(&text).unwrap()["choices"][0]["message"]["content"] == "first", "{text}");
    let (status, _, text) = post(&url, "/v1/messages/count_tokens", &ask("demo", false)).await;
    assert!(status == 200 && serde_json::from_str::<Value>(&text).unwrap()["input_tokens"].as_u64().unwrap() > 0, "{text}");
    let models = crate::support::raw(&url, "GET /v1/models HTTP/1.1\r\nhost: d\r\nconnection: close\r\n\r\n").await;
    assert!(models.contains("\"id\":\"demo\""), "{models}");
    let activity = door.activity();
    assert!(activity.usage.total() > 0 && activity.spent.0 == 0 && activity.last_flow.is_some());
    assert_eq!((rig.costs()[0].requests, rig.costs()[0].estimated), (2, 0));
}

#[tokio::test]
async fn a_client_that_sends_too_slowly_is_given_up_on() {
    let mut rig = Rig::new("http://127.0.0.1:9");
    rig.gateway = rig.gateway.with_read_timeout(Duration::from_millis(50));
    let (_door, url) = rig.open(rig.grant(CLAUDE));
    let address = url.strip_prefix("http://").unwrap().to_owned();
    let mut head = TcpStream::connect(&address).await.unwrap();
    head.write_all(b"POST /v1/mess").await.unwrap();
    let mut body = TcpStream::connect(&address).await.unwrap();
    body.write_all(b"POST /v1/messages HTTP/1.1\r\nhost: d\r\ncontent-length: 99\r\n\r\n{").await.unwrap();
    let (mut first, mut second) = (Vec::new(), Vec::new());
    let _ = soon(head.read_to_end(&mut first)).await;
    let _ = soon(body.read_to_end(&mut second)).await;
    let second = String::from_utf8(second).unwrap();
    assert!(second.starts_with("HTTP/1.1 408 "), "{second}");
}

#[tokio::test]
async fn a_client_that_reads_slowly_holds_the_provider_back_and_gets_everything() {
    let provider = ByHand::new().await;
    let rig = Rig::new(&provider.url);
    let (_door, url) = rig.open(rig.grant(CLAUDE));
    let mut client = send(&url, &ask("claude-test", true)).await;
    let (_, _, mut out) = provider.take().await;
    let piece = chunk(&format!(": {}\n", "x".repeat(1 << 20)));
    let total = 48;
    let sent = Arc::new(AtomicUsize::new(0));
    let counter = sent.clone();
    let serve = tokio::spawn(async move {
        out.write_all(format!("{SSE_HEAD}{}", chunk(&start_event(1))).as_bytes()).await.unwrap();
        for _ in 0..total {
            out.write_all(piece.as_bytes()).await.unwrap();
            counter.fetch_add(1, Ordering::SeqCst);
        }
        out.write_all(b"0\r\n\r\n").await.unwrap();
    });
    let mut seen = String::new();
    read_until(&mut client, &mut seen, "message_start").await;
    // Nobody reads: buffers fill and the provider stands still, long before all has been sent.
    let mut last = usize::MAX;
    until("the provider stands still", || std::mem::replace(&mut last, sent.load(Ordering::SeqCst)) == sent.load(Ordering::SeqCst)).await;
    assert!(sent.load(Ordering::SeqCst) < total, "{}", sent.load(Ordering::SeqCst));
    let mut rest = Vec::new();
    soon(client.read_to_end(&mut rest)).await.unwrap();
    soon(serve).await.unwrap();
    assert!(seen.len() + rest.len() > total << 20);
}

#[tokio::test]
async fn an_answer_that_does_not_end_is_cut_and_charged_as_it_was_reserved() {
    let provider = ByHand::new().await;
    let rig = Rig::new(&provider.url);
    let (_door, url) = rig.open(rig.grant(CLAUDE));
    let mut client = send(&url, &ask("claude-test", true)).await;
    let (_, _, mut out) = provider.take().await;
    let serve = tokio::spawn(async move {
        out.write_all(format!("{SSE_HEAD}{}", chunk(&start_event(1))).as_bytes()).await.unwrap();
        let piece = chunk(&format!(": {}\n", "x".repeat(1 << 20)));
        // The door hangs up.
        while out.write_all(piece.as_bytes()).await.is_ok() {}
    });
    let mut seen = Vec::new();
    let _ = soon(client.read_to_end(&mut seen)).await;
    soon(serve).await.unwrap();
    assert!(!seen.ends_with(b"0\r\n\r\n") && seen.len() < MODEL_ANSWER_BYTES_MAX + (4 << 20), "{}", seen.len());
    until("the settlement", || rig.costs().first().is_some_and(|cost| cost.estimated == 1)).await;
}

#[tokio::test]
async fn a_subscriptions_token_is_put_in_and_its_beta_stands_beside_those_of_the_client() {
    let step = || Step::text(KEY).header("request-id", KEY);
    let server = ScriptedServer::start(vec![Conversation::any().step(step()).step(step())]);
    let rig = Rig::with_subscription(&server.url());
    let (_door, url) = rig.open(rig.grant("subscription/claude-test"));
    let client = aedile_models::client_for(["http://"]).unwrap();
    for asked in [["one-2025-01-01,two-2025-02-02", "three-2025-03-03"], ["oauth-2025-04-20", "one-2025-01-01"]] {
        let mut request = client.post(format!("{url}/v1/messages")).header("authorization", "Bearer aedile-placeholder");
        for beta in asked {
            request = request.header("anthropic-beta", beta);
        }
        let answer =
            soon(request.header("x-api-key", "aedile-placeholder").body(ask("claude-test", false).to_string()).send()).await.unwrap();
        assert!(answer.status() == 200 && !format!("{:?}", answer.headers()).contains(KEY), "{answer:?}");
    }
    let seen = server.finish();
    for request in &seen {
        assert_eq!((request.header("authorization"), request.header("x-api-key")), (Some(format!("Bearer {KEY}").as_str()), None));
    }
    let betas: Vec<_> = seen.iter().map(|request| request.header("anthropic-beta")).collect();
    let all = "one-2025-01-01,two-2025-02-02,three-2025-03-03,oauth-2025-04-20";
    assert_eq!(betas, [Some(all), Some("oauth-2025-04-20,one-2025-01-01")]);
}
