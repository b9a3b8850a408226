//! Reading from the web through a door.

use std::io::Write;
use std::time::Duration;

use aedile_core::agent_api::{AgentReply, AgentRequest};
use aedile_gateway::FetchRules;
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

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

/// Reads from a server of this machine that sends `first` and then `more` again and again, as fast as `every` says; at most a second long.
async fn dripping(first: &str, more: &str, every: Duration) -> String {
    let server = ByHand::new().await;
    let address = server.url.strip_prefix("http://").unwrap().to_owned();
    let mut rig = Rig::new("http://127.0.0.1:9");
    rig.gateway = rig.gateway.with_fetch(FetchRules::new(&[address]).unwrap().within(Duration::from_secs(1)));
    let (_door, door) = rig.open(rig.grant(CLAUDE));
    let drip = async {
        let (_, _, mut stream) = server.take().await;
        let mut written = stream.write_all(first.as_bytes()).await;
        while written.is_ok() {
            tokio::time::sleep(every).await;
            written = stream.write_all(more.as_bytes()).await;
        }
    };
    let said = tokio::select! {
        said = refusal(&door, &server.url) => said,
        () = drip => unreachable!("the reader has gone without a word"),
    };
    // The door answers others meanwhile and afterwards.
    assert!(refusal(&door, "https://example.com/").await.contains("not listed"));
    said
}

#[tokio::test]
async fn a_host_that_never_ends_is_given_up() {
    let (slow, whole) = (Duration::from_millis(20), "the host did not give its whole answer within 1 s");
    assert_eq!(soon(dripping("", "", slow)).await, whole, "not a word");
    assert_eq!(soon(dripping("HTTP/1.1 200 OK\r\n", "x: y\r\n", slow)).await, whole, "a head without an end");
    assert_eq!(soon(dripping("HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n\r\n", "z", slow)).await, whole, "a body in drops");
    let flood = soon(dripping("HTTP/1.1 200 OK\r\n", &format!("x: {}\r\n", "y".repeat(60_000)), Duration::ZERO)).await;
    assert!(flood.contains("127.0.0.1 was not read") || flood == whole, "a head that floods: {flood}");
}

/// What a server with a certificate of its own making sees of whoever connects, and the door's answer to the agent.
async fn with_certificate(names: &[&str]) -> (String, String) {
    let made = rcgen::generate_simple_self_signed(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.with_no_client_auth().with_single_cert(vec![made.cert.der().clone()], key).unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(std::sync::Arc::new(config));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let rig = rig(&[&address]);
    let (_door, door) = rig.open(rig.grant(CLAUDE));
    let serve = async {
        let (stream, _) = listener.accept().await.unwrap();
        match acceptor.accept(stream).await {
            // A client of TLS 1.3 tells what it thinks of the certificate after the handshake.
            Ok(mut stream) => {
                let mut bytes = [0; 1024];
                match stream.read(&mut bytes).await {
                    Ok(count) => String::from_utf8_lossy(&bytes[..count]).into_owned(),
                    Err(error) => error.to_string(),
                }
            }
            Err(error) => error.to_string(),
        }
    };
    let url = format!("https://{address}/secret-path");
    Box::pin(soon(async { tokio::join!(serve, refusal(&door, &url)) })).await
}

#[tokio::test]
async fn a_server_whose_certificate_nobody_trusts_is_told_nothing() {
    for names in [&["127.0.0.1"][..], &["docs.rs"]] {
        let (seen, said) = Box::pin(with_certificate(names)).await;
        assert!(!seen.contains("GET") && !seen.contains("secret-path"), "{names:?}: {seen}");
        assert!(said.contains("127.0.0.1 was not read") && said.contains("certificate"), "{names:?}: {said}");
    }
}
