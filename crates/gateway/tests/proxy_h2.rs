//! HTTP/2 inside a tunnel.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2::{self, SendRequest};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use crate::support::{CLAUDE, KEY, Rig, soon};
use crate::support_site::Site;
use crate::support_tls::{connect, secured, trust};

async fn tunnel(rig: &Rig, door: &str, port: u16) -> TlsStream<TcpStream> {
    let (granted, stream) = connect(door, &format!("localhost:{port}")).await;
    assert!(granted.starts_with("HTTP/1.1 200 "), "{granted}");
    let stream = secured(stream, &trust(rig), "localhost", &["h2", "http/1.1"]).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    stream
}

async fn client(rig: &Rig, door: &str, port: u16) -> SendRequest<Full<Bytes>> {
    let stream = tunnel(rig, door, port).await;
    let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    sender
}

async fn send(sender: &SendRequest<Full<Bytes>>, request: Request<Full<Bytes>>) -> (StatusCode, String) {
    let response: Response<_> = soon(sender.clone().send_request(request)).await.unwrap();
    let status = response.status();
    let body = soon(response.into_body().collect()).await.unwrap().to_bytes();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

fn get(port: u16, path: &str) -> Request<Full<Bytes>> {
    Request::builder().uri(format!("https://localhost:{port}{path}")).body(Full::default()).unwrap()
}

#[tokio::test]
async fn requests_side_by_side_are_judged_and_go_on_one_by_one() {
    let site = Site::new(true, |asked| {
        let text = format!("{} {} {KEY}", asked.path, String::from_utf8_lossy(&asked.body));
        Some(Response::builder().header("connection", "x").header("x-own", "1").body(Full::new(text.into())).unwrap())
    })
    .await;
    let rig = site.rig("");
    let (_door, door) = rig.open(rig.grant(CLAUDE));
    let sender = client(&rig, &door, site.port).await;
    let mut all = tokio::task::JoinSet::new();
    for at in 0..40 {
        let (sender, port) = (sender.clone(), site.port);
        all.spawn(async move {
            let mut request = get(port, &format!("/{at}?a=b"));
            *request.method_mut() = "POST".parse().unwrap();
            *request.body_mut() = Full::new(format!("body {at}").into());
            (at, send(&sender, request).await)
        });
    }
    for (at, (status, body)) in all.join_all().await {
        assert_eq!((status.as_u16(), body), (200, format!("/{at}?a=b body {at} [secret KEY]")));
    }
    let mut request = get(site.port, "/");
    for cookie in ["a=b", "c=d"] {
        request.headers_mut().append("cookie", cookie.parse().unwrap());
    }
    request.headers_mut().insert("te", "trailers".parse().unwrap());
    assert_eq!(send(&sender, request).await.0, 200);
    let asked = site.asked().pop().unwrap();
    assert_eq!((asked.header("cookie"), asked.header("host")), (vec!["a=b; c=d"], vec![format!("localhost:{}", site.port).as_str()]));
    assert!(asked.header("te").is_empty());
}

#[tokio::test]
async fn what_is_denied_over_http_2_names_its_rule_and_reaches_nobody() {
    let site = Site::polite(true).await;
    let rig = site.rig("");
    let (_door, door) = rig.open(rig.grant(CLAUDE));
    let sender = client(&rig, &door, site.port).await;
    let with = |name: &'static str, value: &str| {
        let mut request = get(site.port, "/");
        request.headers_mut().append(name, value.parse().unwrap());
        request
    };
    let other = |uri: &str| Request::builder().uri(uri).body(Full::default()).unwrap();
    let (begin, end) = KEY.split_at(9);
    let mut crumbs = with("cookie", &format!("a={begin}"));
    crumbs.headers_mut().append("cookie", end.parse().unwrap());
    let mut delete = get(site.port, "/");
    *delete.method_mut() = "DELETE".parse().unwrap();
    for (request, rule) in [
        (other("https://evil.example/"), "header.host"),
        (other(&format!("https://localhost:{}/", site.port + 1)), "header.host"),
        (other("https://localhost/"), "header.host"),
        (other(&format!("https://a@localhost:{}/", site.port)), "header.host"),
        (other(&format!("http://localhost:{}/", site.port)), "proxy.form"),
        (with("host", "evil.example"), "header.host"),
        (with("x-a", KEY), "secret.value"),
        (crumbs, "secret.value"),
        (get(site.port, &format!("/?k={KEY}")), "secret.value"),
        (get(site.port, "/%2e%2e/x"), "path.encoded"),
        (with("content-type", "application/grpc+proto"), "proxy.grpc"),
        (with("x-http-method-override", "DELETE"), "header.misleading"),
        (delete, "host.local"),
    ] {
        let said = format!("{request:?}");
        let (status, body) = send(&sender, request).await;
        assert!(status == 403 && body.contains(&format!("\"rule\":\"{rule}\"")), "{rule} {said}: {status} {body}");
        assert!(!body.contains(KEY), "{body}");
    }
    assert!(site.asked().is_empty());
    let large = with("x-a", &"x ".repeat(40_000));
    let refused = soon(sender.clone().send_request(large)).await;
    assert!(refused.is_err() || refused.is_ok_and(|response| response.status() == 431));
    assert_eq!(send(&client(&rig, &door, site.port).await, get(site.port, "/")).await.0, 200);
}

/// A frame of HTTP/2.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// GET / of this authority.
fn head(port: u16) -> Vec<u8> {
    let authority = format!("localhost:{port}");
    [&[0x82, 0x87, 0x84, 0x41, u8::try_from(authority.len()).unwrap()][..], authority.as_bytes()].concat()
}

const BEGIN: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

#[tokio::test]
async fn floods_end_their_own_connection_and_nothing_else() {
    let site = Site::polite(true).await;
    let mut rig = site.rig("");
    rig.gateway = rig.gateway.with_read_timeout(Duration::from_secs(2));
    let (_door, door) = rig.open(rig.grant(CLAUDE));
    let head = head(site.port);
    let resets: Vec<u8> =
        (0..20_000_u32).flat_map(|at| [frame(1, 5, at * 2 + 1, &head), frame(3, 0, at * 2 + 1, &[0, 0, 0, 8])].concat()).collect();
    let endless: Vec<u8> = [frame(1, 1, 1, &head), frame(9, 0, 1, &[0, 1, b'a', 1, b'b']).repeat(50_000)].concat();
    let settings = frame(4, 0, 0, &[]).repeat(100_000);
    for (name, flood) in [("resets", resets), ("a head without an end", endless), ("settings", settings)] {
        let (mut from, mut to) = tokio::io::split(tunnel(&rig, &door, site.port).await);
        let reading = async {
            let mut came = Vec::new();
            // An error is an end as well.
            let _ = from.read_to_end(&mut came).await;
        };
        let writing = async {
            if to.write_all(BEGIN).await.is_ok() && to.write_all(&flood).await.is_ok() {
                std::future::pending::<()>().await;
            }
        };
        let ended = async {
            tokio::select! {
                () = reading => {}
                () = writing => {}
            }
        };
        assert!(tokio::time::timeout(Duration::from_secs(20), ended).await.is_ok(), "{name} did not end");
        assert_eq!(send(&client(&rig, &door, site.port).await, get(site.port, "/")).await.0, 200, "{name}");
    }
}

#[tokio::test]
async fn a_connection_on_which_nothing_is_asked_is_ended() {
    let site = Site::polite(true).await;
    let mut rig = site.rig("");
    rig.gateway = rig.gateway.with_read_timeout(Duration::from_millis(200));
    let (_door, door) = rig.open(rig.grant(CLAUDE));
    let mut silent = tunnel(&rig, &door, site.port).await;
    let mut begun = tunnel(&rig, &door, site.port).await;
    begun.write_all(BEGIN).await.unwrap();
    for stream in [&mut silent, &mut begun] {
        let mut came = Vec::new();
        let _ = soon(stream.read_to_end(&mut came)).await;
    }
}

#[tokio::test]
async fn a_closed_door_ends_what_is_under_way() {
    let server = crate::support_tls::TlsByHand::new().await;
    let rig = server.rig();
    let (held, door) = rig.open(rig.grant(CLAUDE));
    let sender = client(&rig, &door, server.port).await;
    let mut sender_too = sender.clone();
    let request = get(server.port, "/");
    let asking = tokio::spawn(async move { sender_too.send_request(request).await });
    let (_, mut stream) = server.take().await;
    drop(held);
    // Both sides are let go.
    assert!(soon(asking).await.unwrap().is_err());
    assert_eq!(soon(stream.read(&mut [0])).await.unwrap_or(0), 0);
}
