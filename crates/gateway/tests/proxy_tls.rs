//! Other hosts through a door, in TLS that ends at the door.

use std::time::Duration;

use aedile_core::policy::LayerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::{CLAUDE, KEY, Rig, raw, soon};
use crate::support_tls::{TlsByHand, connect, head, raw_within, secured, through, trust};

fn get(server: &TlsByHand, path: &str, more: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: localhost:{}\r\nConnection: close\r\n{more}\r\n", server.port)
}

#[tokio::test]
async fn a_request_inside_tls_is_judged_written_anew_and_its_answer_comes_without_secrets() {
    let server = TlsByHand::new().await;
    let rig = server.rig();
    let (_door, door) = rig.open(rig.grant(CLAUDE));
    let mut tunnel = through(&rig, &door, server.port).await;
    let serve = async {
        let (asked, mut stream) = server.take().await;
        let answer = format!("HTTP/1.1 200 OK\r\nx-note: {KEY}\r\ncontent-length: {}\r\n\r\na {KEY} b", KEY.len() + 4);
        stream.write_all(answer.as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        asked
    };
    let request = get(&server, "/a/./b%41?c=d", "Accept-Encoding: br\r\nX-Own: 1\r\n");
    let (asked, came) = tokio::join!(serve, raw_within(&mut tunnel, request.as_bytes()));
    assert!(asked.starts_with("GET /a/bA?c=d HTTP/1.1\r\n") && asked.contains(&format!("host: localhost:{}\r\n", server.port)), "{asked}");
    assert!(asked.contains("accept-encoding: identity") && asked.contains("x-own: 1"), "{asked}");
    assert!(came.starts_with("HTTP/1.1 200 OK\r\n") && came.contains("a [secret KEY] b") && !came.contains("x-note"), "{came}");
}

#[tokio::test]
async fn what_is_denied_inside_tls_names_its_rule_and_reaches_nobody() {
    let server = TlsByHand::new().await;
    let mut rig = server.rig();
    let denies = format!(
        "[[network]]\nid = \"no-admin\"\neffect = \"deny\"\nhosts = [\"localhost\"]\nports = [{}]\npaths = [\"/admin/**\"]\n",
        server.port
    );
    rig.layer(LayerName::Project, &denies);
    let (_door, door) = rig.open(rig.grant(CLAUDE));
    let port = server.port;
    for (request, rule) in [
        (get(&server, "/admin/x", ""), "no-admin"),
        (get(&server, "//admin/x", ""), "no-admin"),
        (get(&server, "/Admin;a=b/x", ""), "no-admin"),
        (get(&server, &format!("/?k={KEY}"), ""), "secret.value"),
        (get(&server, "/", "Authorization: Bearer aedile-secret-KEY\r\n"), "secret.placeholder"),
        (get(&server, "/", "Upgrade: websocket\r\n"), "header.connection"),
        (get(&server, "/", "Host: evil.example\r\n"), "header.twice"),
        (get(&server, "/", "Transfer_Encoding: chunked\r\n"), "header.misleading"),
        (format!("DELETE / HTTP/1.1\r\nHost: localhost:{port}\r\nConnection: close\r\n\r\n"), "host.local"),
        ("GET / HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n".to_owned(), "header.host"),
        (format!("GET / HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n"), "header.host"),
        ("GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".to_owned(), "header.host"),
        ("GET / HTTP/1.1\r\nConnection: close\r\n\r\n".to_owned(), "header.host"),
        (get(&server, &format!("https://localhost:{port}/"), ""), "proxy.form"),
        (get(&server, &format!("http://localhost:{port}/"), ""), "proxy.form"),
        (format!("CONNECT localhost:{port} HTTP/1.1\r\nHost: localhost:{port}\r\nConnection: close\r\n\r\n"), "proxy.form"),
    ] {
        let came = raw_within(&mut through(&rig, &door, port).await, request.as_bytes()).await;
        assert!(came.starts_with("HTTP/1.1 403 ") && came.contains(&format!("\"rule\":\"{rule}\"")), "{request}: {came}");
        assert!(!came.contains(KEY), "{came}");
    }
    assert!(server.is_left_alone().await);
}

#[tokio::test]
async fn a_tunnel_that_no_rule_could_use_is_not_opened() {
    let server = TlsByHand::new().await;
    let rig = server.rig();
    let (_door, door) = rig.open(rig.grant(CLAUDE));
    let port = server.port;
    for (authority, rule) in [
        ("example.org:443".to_owned(), "policy.default"),
        ("localhost:1".to_owned(), "host.local"),
        ("169.254.169.254:443".to_owned(), "address.metadata"),
        (format!("2130706433:{port}"), "host.numeric"),
        (format!("[::ffff:127.0.0.1]:{port}"), "address.embedded"),
        (format!("a@localhost:{port}"), "url.userinfo"),
        ("localhost".to_owned(), "proxy.connect"),
        ("localhost:0443".to_owned(), "url.port"),
    ] {
        let asked = format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\nConnection: close\r\n\r\n");
        let came = raw(&door, &asked).await;
        let refused = came.starts_with("HTTP/1.1 403 ") && came.contains(&format!("\"rule\":\"{rule}\""));
        assert!(refused || came.starts_with("HTTP/1.1 400 "), "{authority}: {came}");
    }
    for (more, rule) in [
        ("Host: example.org:443\r\n", "header.host"),
        ("Content-Length: 3\r\n", "header.framing"),
        ("Transfer-Encoding: chunked\r\n", "header.framing"),
    ] {
        let came = raw(&door, &format!("CONNECT localhost:{port} HTTP/1.1\r\nConnection: close\r\n{more}\r\nabc")).await;
        assert!(came.starts_with("HTTP/1.1 403 ") && came.contains(rule), "{more}: {came}");
    }
    let came = raw(&door, &format!("GET https://localhost:{port}/ HTTP/1.1\r\nConnection: close\r\n\r\n")).await;
    assert!(came.contains("proxy.scheme"), "{came}");
    assert!(server.is_left_alone().await);
    // A door without rules has no tunnels.
    let bare = Rig::today(&server.pem);
    let (_door, door) = bare.open(bare.grant(CLAUDE));
    let came = raw(&door, &format!("CONNECT localhost:{port} HTTP/1.1\r\nConnection: close\r\n\r\n")).await;
    assert!(came.starts_with("HTTP/1.1 4"), "{came}");
}

#[tokio::test]
async fn a_tunnel_carries_only_tls_for_its_own_host() {
    let server = TlsByHand::new().await;
    let mut rig = server.rig();
    rig.gateway = rig.gateway.with_read_timeout(Duration::from_secs(1));
    let (_door, door) = rig.open(rig.grant(CLAUDE));
    let port = server.port;
    for opaque in ["SSH-2.0-OpenSSH_9.9\r\n", "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", "\0\0\0\u{8}\u{4}"] {
        let (granted, mut stream) = connect(&door, &format!("localhost:{port}")).await;
        assert!(granted.starts_with("HTTP/1.1 200 "), "{granted}");
        stream.write_all(opaque.as_bytes()).await.unwrap();
        let mut came = Vec::new();
        let _ = soon(stream.read_to_end(&mut came)).await;
        assert!(String::from_utf8_lossy(&came).contains("proxy.tunnel"), "{opaque:?}: {}", String::from_utf8_lossy(&came));
    }
    // Whoever says nothing is waited for a while.
    let (_, mut silent) = connect(&door, &format!("localhost:{port}")).await;
    assert_eq!(soon(silent.read(&mut [0])).await.unwrap_or(0), 0);
    // Another name, no name, and a name for an address.
    for (authority, name) in [("localhost", "example.org"), ("localhost", "127.0.0.1"), ("127.0.0.1", "localhost")] {
        let (_, stream) = connect(&door, &format!("{authority}:{port}")).await;
        assert!(secured(stream, &trust(&rig), name, &[]).await.is_err(), "{authority} {name}");
    }
    let (_, stream) = connect(&door, &format!("127.0.0.1:{port}")).await;
    assert!(secured(stream, &trust(&rig), "127.0.0.1", &[]).await.is_ok());
    assert!(server.is_left_alone().await);
}

#[tokio::test]
async fn a_server_that_is_not_believed_is_told_of_and_gets_nothing() {
    let (server, other) = (TlsByHand::new().await, TlsByHand::new().await);
    let wrong = TlsByHand::named(&["example.org"]).await;
    let plain = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    for (port, roots, part, serve) in [
        (server.port, &other.pem, "the certificate of localhost was not accepted", Some(&server)),
        (wrong.port, &wrong.pem, "the certificate of localhost was not accepted", Some(&wrong)),
        (plain.local_addr().unwrap().port(), &server.pem, "does not speak TLS", None),
    ] {
        let mut rig = Rig::today(roots);
        rig.layer(LayerName::Run, &server.rule("").replace(&server.port.to_string(), &port.to_string()));
        let (_door, door) = rig.open(rig.grant(CLAUDE));
        let mut tunnel = through(&rig, &door, port).await;
        let serving = async {
            match serve {
                Some(server) => assert!(soon(server.accept()).await.is_err(), "it was believed"),
                None => drop(soon(plain.accept()).await.unwrap().0.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await),
            }
        };
        let request = format!("GET / HTTP/1.1\r\nHost: localhost:{port}\r\nConnection: close\r\n\r\n");
        let ((), came) = tokio::join!(serving, raw_within(&mut tunnel, request.as_bytes()));
        assert!(came.starts_with("HTTP/1.1 502 ") && came.contains(part), "{came}");
    }
}

#[tokio::test]
async fn many_requests_go_through_one_tunnel_and_a_closed_door_ends_it() {
    let server = TlsByHand::new().await;
    let rig = server.rig();
    let (held, door) = rig.open(rig.grant(CLAUDE));
    let mut tunnel = through(&rig, &door, server.port).await;
    let serve = async {
        for at in 0..3 {
            let (asked, mut stream) = server.take().await;
            assert!(asked.starts_with(&format!("GET /{at} ")), "{asked}");
            stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
        }
    };
    let ask = async {
        for at in 0..3 {
            let request = format!("GET /{at} HTTP/1.1\r\nHost: localhost:{}\r\n\r\n", server.port);
            tunnel.write_all(request.as_bytes()).await.unwrap();
            let came = head(&mut tunnel).await;
            assert!(came.starts_with("HTTP/1.1 204 "), "{came}");
        }
    };
    tokio::join!(serve, ask);
    drop(held);
    assert_eq!(soon(tunnel.read(&mut [0])).await.unwrap_or(0), 0);
}
