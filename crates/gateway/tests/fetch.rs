//! Reading from the web through a door.

use std::io::Write;

use aedile_core::agent_api::{AgentReply, AgentRequest};
use aedile_gateway::FetchRules;
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::json;
use tokio::io::AsyncWriteExt;

use crate::support::{ByHand, CLAUDE, KEY, Rig, post, soon};

/// A gateway that lets agents read from these hosts.
fn rig(hosts: &[&str]) -> Rig {
    let mut rig = Rig::new("http://127.0.0.1:9");
    let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
    rig.gateway = rig.gateway.with_fetch(FetchRules::new(&hosts).unwrap());
    rig
}

async fn ask(door: &str, url: &str) -> AgentReply {
    let (status, _, text) = post(door, "/aedile/v1/call", &json!(AgentRequest::WebFetch { url: url.to_owned() })).await;
    assert_eq!(status, 200, "{text}");
    serde_json::from_str(&text).unwrap()
}

/// Why nothing was read.
async fn refusal(door: &str, url: &str) -> String {
    match ask(door, url).await {
        AgentReply::Refused { message } => message,
        other => unreachable!("{url}: {other:?}"),
    }
}

/// Reads a page that a server of this machine answers with these bytes; returns what the server was asked too.
async fn read(path: &str, answer: Vec<u8>) -> (AgentReply, String) {
    let server = ByHand::new().await;
    let address = server.url.strip_prefix("http://").unwrap().to_owned();
    let rig = rig(&[&address]);
    let (_door, door) = rig.open(rig.grant(CLAUDE));
    let serve = async {
        let (head, _, mut stream) = server.take().await;
        // The reader may have enough before the end.
        let _ = stream.write_all(&answer).await;
        head
    };
    let url = format!("{}{path}", server.url);
    let (head, reply) = tokio::join!(serve, ask(&door, &url));
    (reply, head)
}

fn answer(head: &str, body: &[u8]) -> Vec<u8> {
    [format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n{head}\r\n\r\n", body.len()).as_bytes(), body].concat()
}

#[tokio::test]
async fn a_page_is_read_without_anything_of_ours_and_without_secrets() {
    let body = format!("gr\u{fc}n {KEY}").chars().map(|c| c as u8).collect::<Vec<u8>>();
    let (reply, asked) = read("/a?b=c#d", answer("content-type: text/plain; charset=iso-8859-1\r\nset-cookie: x=y", &body)).await;
    let AgentReply::Fetched { status, content_type, redirected_to, cut, text } = reply else { panic!("{reply:?}") };
    assert_eq!((status, content_type.as_str(), redirected_to, cut), (200, "text/plain; charset=iso-8859-1", None, false));
    assert_eq!(text, "gr\u{fc}n [secret KEY]");
    assert!(asked.starts_with("get /a?b=c http/1.1"), "{asked}");
    for absent in ["cookie", "authorization", "x-api-key", "referer"] {
        assert!(!asked.contains(absent), "{asked}");
    }
}

#[tokio::test]
async fn what_is_not_listed_or_not_public_is_refused_with_the_setting() {
    let rig0 = rig(&[]);
    let (_door, door) = rig0.open(rig0.grant(CLAUDE));
    assert!(refusal(&door, "https://docs.rs/").await.contains("none is listed as `[fetch] hosts` in aedile.toml"));
    let server = ByHand::new().await;
    let port = server.url.rsplit(':').next().unwrap();
    let rig = rig(&["docs.rs", &format!("localhost:{port}")]);
    let (_door, door) = rig.open(rig.grant(CLAUDE));
    assert!(refusal(&door, "https://example.com/").await.contains("example.com may not be read from"));
    assert!(refusal(&door, &server.url).await.contains("not listed"));
    let local = refusal(&door, &format!("https://localhost:{port}/")).await;
    assert!(local.contains("belongs to the loopback") && local.contains("`[fetch] hosts`"), "{local}");
    for secret in
        [format!("https://docs.rs/?k={KEY}"), format!("https://docs.rs/{}", KEY.replace('-', "%2D")), format!("https://docs.rs/#{KEY}")]
    {
        assert_eq!(refusal(&door, &secret).await, "the URL holds a secret, so nothing was sent");
    }
}

#[tokio::test]
async fn redirections_are_named_and_not_followed() {
    let moved = b"HTTP/1.1 302 Found\r\nlocation: //169.254.169.254/latest\r\ncontent-length: 0\r\n\r\n".to_vec();
    let (reply, _) = read("/x", moved).await;
    let AgentReply::Fetched { status: 302, redirected_to: Some(to), .. } = reply else { panic!("{reply:?}") };
    assert_eq!(to, "http://169.254.169.254/latest");
}

#[tokio::test]
async fn bombs_and_endless_answers_are_cut() {
    let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
    packed.write_all(&vec![b'x'; 8 * 1024 * 1024]).unwrap();
    let bomb = packed.finish().unwrap();
    assert!(bomb.len() < 100_000);
    let (reply, _) = read("/", answer("content-type: text/plain\r\ncontent-encoding: gzip", &bomb)).await;
    let AgentReply::Fetched { cut: true, text, .. } = reply else { panic!("not cut") };
    assert_eq!(text.len(), 4 * 1024 * 1024);
    let endless = [b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n\r\n".to_vec(), vec![b'y'; 6 * 1024 * 1024]].concat();
    let (reply, _) = soon(read("/", endless)).await;
    assert!(matches!(reply, AgentReply::Fetched { cut: true, ref text, .. } if text.len() == 4 * 1024 * 1024));
}

#[tokio::test]
async fn what_is_not_text_or_not_asked_for_is_refused() {
    for (head, part) in [
        ("content-type: application/zip", "only text is read"),
        ("content-type: text/plain\r\ncontent-encoding: br", "not asked for"),
        ("content-type: text/plain\r\ncontent-encoding: gzip\r\ncontent-encoding: gzip", "not asked for"),
        ("content-type: text/plain\r\ncontent-encoding: gzip", "cannot be unpacked"),
    ] {
        let (reply, _) = read("/", answer(head, b"PK\x03\x04")).await;
        assert!(matches!(&reply, AgentReply::Refused { message } if message.contains(part)), "{head}: {reply:?}");
    }
    let (reply, _) = read("/", b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 100\r\n\r\nshort".to_vec()).await;
    assert!(matches!(&reply, AgentReply::Refused { message } if message.contains("broke off")), "{reply:?}");
    // A server that cannot prove who it is is not read, not even on this machine.
    let server = ByHand::new().await;
    let address = server.url.strip_prefix("http://").unwrap().to_owned();
    let rig = rig(&[&address]);
    let (_door, door) = rig.open(rig.grant(CLAUDE));
    let url = format!("https://{address}/");
    let (said, ()) = tokio::join!(refusal(&door, &url), server.hang_up());
    assert!(said.contains("127.0.0.1 was not read"), "{said}");
}
