//! WebSockets through a door, in plain text and inside TLS.

use std::time::Duration;

use aedile_core::policy::LayerName;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::{client, server};

use crate::support::{CLAUDE, KEY, Rig, soon, until};
use crate::support_tls::{TlsByHand, head, through};

const CLIENT_KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const CLIENT_ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

fn rig(server: &TlsByHand, websocket: &str) -> Rig {
    let mut rig = Rig::today(&server.pem);
    rig.layer(LayerName::Run, &server.rule(websocket));
    rig
}

fn ask(port: u16, more: &str) -> String {
    format!(
        "GET /live?a=b HTTP/1.1\r\nHost: localhost:{port}\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: {CLIENT_KEY}\r\n{more}\r\n"
    )
}

/// What a server answers that opens what it was asked for.
fn opening(asked: &str) -> String {
    let line = |name: &str| {
        asked
            .lines()
            .find_map(|line| Some(line.to_ascii_lowercase().strip_prefix(name)?.len()).map(|rest| line[line.len() - rest..].trim()))
    };
    let key = line("sec-websocket-key:").unwrap();
    let accept = STANDARD.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11").as_bytes()));
    format!("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n")
}

/// A frame of a client (masked) or of a server.
fn frame(code: u8, masked: bool, payload: &[u8]) -> Vec<u8> {
    let (bit, mask) = if masked { (0x80, [1, 2, 3, 4]) } else { (0, [0; 4]) };
    let length = u16::try_from(payload.len()).unwrap();
    let mut frame = vec![0x80 | code];
    if length < 126 {
        frame.push(bit | u8::try_from(length).unwrap());
    } else {
        frame.push(bit | 126);
        frame.extend(length.to_be_bytes());
    }
    if masked {
        frame.extend(mask);
    }
    frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

/// Reads a frame: its code and what it says.
async fn read(stream: &mut (impl AsyncRead + Unpin)) -> (u8, Vec<u8>) {
    let code = soon(stream.read_u8()).await.unwrap();
    assert_eq!(code & 0xf0, 0x80, "one frame, no extension");
    let length = soon(stream.read_u8()).await.unwrap();
    let size = if length & 0x7f == 126 { usize::from(soon(stream.read_u16()).await.unwrap()) } else { usize::from(length & 0x7f) };
    let mut mask = [0; 4];
    if length & 0x80 != 0 {
        soon(stream.read_exact(&mut mask)).await.unwrap();
    }
    let mut payload = vec![0; size];
    soon(stream.read_exact(&mut payload)).await.unwrap();
    payload.iter_mut().zip(mask.iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
    (code & 0x0f, payload)
}

/// Opens a WebSocket and returns both ends, and what the server was asked.
async fn opened(
    rig: &Rig,
    door: &str,
    server: &TlsByHand,
    more: &str,
) -> (client::TlsStream<TcpStream>, server::TlsStream<TcpStream>, String) {
    let mut client = through(rig, door, server.port).await;
    client.write_all(ask(server.port, more).as_bytes()).await.unwrap();
    let (asked, mut far) = server.take().await;
    far.write_all(format!("{}\r\n", opening(&asked)).as_bytes()).await.unwrap();
    let came = head(&mut client).await;
    assert!(came.starts_with("HTTP/1.1 101 ") && came.contains(CLIENT_ACCEPT), "{came}");
    (client, far, asked)
}

#[tokio::test]
async fn messages_pass_in_both_directions_without_secrets() {
    let server = TlsByHand::new().await;
    let rig = rig(&server, "websocket = true");
    let (_door, door) = rig.open(rig.grant(CLAUDE));
    let more = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\nOrigin: https://localhost\r\n";
    let (mut client, mut far, asked) = opened(&rig, &door, &server, more).await;
    let lower = asked.to_ascii_lowercase();
    assert!(asked.starts_with("GET /live?a=b HTTP/1.1\r\n") && lower.contains("origin: https://localhost"), "{asked}");
    assert!(!lower.contains("extensions") && !asked.contains(CLIENT_KEY), "{asked}");
    let long = "y ".repeat(500);
    for (code, said) in [(1, "hello"), (2, "\u{1}\u{2}"), (1, long.as_str()), (9, "ping"), (10, "")] {
        client.write_all(&frame(code, true, said.as_bytes())).await.unwrap();
        assert_eq!(read(&mut far).await, (code, said.as_bytes().to_vec()));
        far.write_all(&frame(code, false, said.as_bytes())).await.unwrap();
        assert_eq!(read(&mut client).await, (code, said.as_bytes().to_vec()));
    }
    // In parts, with a ping between them.
    let parts = [&[0x01, 0x81, 0, 0, 0, 0, b'a'][..], &frame(9, true, b"p"), &[0x80, 0x81, 0, 0, 0, 0, b'b']].concat();
    client.write_all(&parts).await.unwrap();
    assert_eq!((read(&mut far).await, read(&mut far).await), ((9, b"p".to_vec()), (1, b"ab".to_vec())));
    far.write_all(&frame(1, false, format!("a {KEY} b").as_bytes())).await.unwrap();
    assert_eq!(read(&mut client).await, (1, b"a [secret KEY] b".to_vec()));
    // Who ends it is answered.
    client.write_all(&frame(8, true, &[3, 232])).await.unwrap();
    assert_eq!(read(&mut far).await, (8, vec![3, 232]));
    far.write_all(&frame(8, false, &[3, 232])).await.unwrap();
    assert_eq!(read(&mut client).await, (8, vec![3, 232]));
    assert_eq!(soon(client.read(&mut [0])).await.unwrap_or(0), 0);
}

#[tokio::test]
async fn a_secret_in_a_message_ends_the_connection_and_does_not_arrive() {
    let (begin, end) = KEY.split_at(11);
    let said = |text: &str| frame(1, true, text.as_bytes());
    for (frames, rule) in [
        (vec![said(&format!("a {KEY} b"))], "secret.value"),
        (vec![frame(2, true, STANDARD.encode(KEY).as_bytes())], "secret.value"),
        (vec![said(begin), said(end)], "secret.value"),
        (vec![frame(9, true, KEY.as_bytes())], "secret.value"),
        (vec![said("aedile-secret-KEY")], "secret.placeholder"),
        (vec![said(&["glpat", "-q8Zt2LmP0vRx7KdWb3Nc"].concat())], "leak."),
        (vec![vec![0xc1, 0x81, 0, 0, 0, 0, b'a']], "extension"),
        (vec![frame(1, false, b"a")], "masked"),
    ] {
        let server = TlsByHand::new().await;
        let rig = rig(&server, "websocket = true");
        let (_door, door) = rig.open(rig.grant(CLAUDE));
        let (mut client, mut far, _) = opened(&rig, &door, &server, "").await;
        client.write_all(&frames.concat()).await.unwrap();
        let (code, told) = read(&mut client).await;
        assert!(code == 8 && String::from_utf8_lossy(&told).contains(rule), "{rule}: {}", String::from_utf8_lossy(&told));
        assert_eq!(u16::from_be_bytes([told[0], told[1]]), if frames[0][0] == 0xc1 || rule == "masked" { 1002 } else { 1008 });
        let mut arrived = Vec::new();
        loop {
            let (code, payload) = read(&mut far).await;
            if code == 8 {
                break;
            }
            arrived.extend(payload);
        }
        assert!(!String::from_utf8_lossy(&arrived).contains(KEY) && arrived.len() <= begin.len(), "{}", String::from_utf8_lossy(&arrived));
        if rule == "secret.value" {
            until("the denial is written down", || !rig.events(&["request_denied"]).is_empty()).await;
        }
    }
}

#[tokio::test]
async fn a_websocket_is_opened_only_where_a_rule_of_every_layer_says_so() {
    let server = TlsByHand::new().await;
    let refused = async |rig: &Rig, request: String, rule: &str| {
        let (_door, door) = rig.open(rig.grant(CLAUDE));
        let mut client = through(rig, &door, server.port).await;
        client.write_all(request.as_bytes()).await.unwrap();
        let mut came = vec![0; 4096];
        let read = soon(client.read(&mut came)).await.unwrap();
        let came = String::from_utf8_lossy(&came[..read]).into_owned();
        assert!(came.starts_with("HTTP/1.1 403 "), "{came}");
        let mut body = vec![0; 4096];
        let more = tokio::time::timeout(Duration::from_millis(200), client.read(&mut body)).await.map_or(0, |read| read.unwrap_or(0));
        let came = format!("{came}{}", String::from_utf8_lossy(&body[..more]));
        assert!(came.contains(&format!("\"rule\":\"{rule}\"")), "{rule}: {came}");
    };
    let plain = rig(&server, "");
    refused(&plain, ask(server.port, ""), "header.connection").await;
    let mut two = rig(&server, "websocket = true");
    two.layer(LayerName::Project, &server.rule(""));
    refused(&two, ask(server.port, ""), "header.connection").await;
    let open = rig(&server, "websocket = true");
    let asked = ask(server.port, "");
    for (request, rule) in [
        (asked.replace("Upgrade: websocket", "Upgrade: h2c"), "header.connection"),
        (asked.replace("Upgrade: websocket\r\n", "Upgrade: websocket\r\nUpgrade: websocket\r\n"), "header.twice"),
        (asked.replace("Version: 13", "Version: 8"), "header.connection"),
        (asked.replace(CLIENT_KEY, "abc"), "header.connection"),
        (asked.replace("keep-alive, Upgrade", "keep-alive"), "header.connection"),
        (asked.replace("keep-alive, Upgrade", "X-Own, Upgrade"), "header.connection"),
        (asked.replace("GET", "POST"), "header.connection"),
        (asked.replace("?a=b", &format!("?a={KEY}")), "secret.value"),
    ] {
        refused(&open, request, rule).await;
    }
    assert!(server.is_left_alone().await);
}

#[tokio::test]
async fn a_server_that_opens_something_else_is_given_up() {
    let server = TlsByHand::new().await;
    let rig = rig(&server, "websocket = true");
    let (_door, door) = rig.open(rig.grant(CLAUDE));
    let more = "Sec-WebSocket-Protocol: chat, other\r\n";
    for (answer, status) in [
        ("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: x\r\n".to_owned(), 502),
        ("KEY".to_owned() + "Sec-WebSocket-Extensions: permessage-deflate\r\n", 502),
        ("KEY".to_owned() + "Sec-WebSocket-Protocol: third\r\n", 502),
        ("HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n".to_owned(), 404),
        ("KEY".to_owned() + "Sec-WebSocket-Protocol: chat\r\n", 101),
    ] {
        let mut client = through(&rig, &door, server.port).await;
        client.write_all(ask(server.port, more).as_bytes()).await.unwrap();
        let (asked, mut far) = server.take().await;
        assert!(asked.to_ascii_lowercase().contains("sec-websocket-protocol: chat, other"), "{asked}");
        far.write_all(format!("{}\r\nno", answer.replace("KEY", &opening(&asked))).as_bytes()).await.unwrap();
        let came = head(&mut client).await;
        assert!(came.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}: {came}");
        assert_eq!(came.contains("sec-websocket-protocol: chat"), status == 101, "{came}");
    }
}

#[tokio::test]
async fn bytes_of_messages_count_and_a_closed_door_ends_them() {
    let server = TlsByHand::new().await;
    let mut rig = Rig::today(&server.pem);
    rig.layer(LayerName::Run, &format!("[limits]\nbytes_out = 500\n{}", server.rule("websocket = true")));
    let (held, door) = rig.open(rig.grant(CLAUDE));
    let (mut client, mut far, _) = opened(&rig, &door, &server, "").await;
    client.write_all(&frame(1, true, "z ".repeat(100).as_bytes())).await.unwrap();
    assert_eq!(read(&mut far).await.0, 1);
    client.write_all(&frame(1, true, "z ".repeat(200).as_bytes())).await.unwrap();
    let (code, told) = read(&mut client).await;
    assert!(code == 8 && String::from_utf8_lossy(&told).contains("limits.bytes_out"), "{}", String::from_utf8_lossy(&told));
    rig.policy.clear();
    rig.layer(LayerName::Run, &server.rule("websocket = true"));
    drop(held);
    let (held, door) = rig.open(rig.grant(CLAUDE));
    let (mut client, mut far, _) = opened(&rig, &door, &server, "").await;
    drop(held);
    assert_eq!(soon(client.read(&mut [0])).await.unwrap_or(0), 0);
    assert_eq!(soon(far.read(&mut [0])).await.unwrap_or(0), 0);
}
