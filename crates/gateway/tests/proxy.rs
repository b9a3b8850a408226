//! Other hosts through a door, in plain HTTP.

use std::io::Write;
use std::time::Duration;

use aedile_core::agent_api::DoorIdentity;
use aedile_core::egress::DoorGrant;
use aedile_core::policy::LayerName;
use flate2::Compression;
use flate2::write::GzEncoder;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::{ByHand, CLAUDE, KEY, Rig, raw, soon};

/// A gateway whose doors reach these paths of a server of this machine.
fn rig(server: &ByHand) -> Rig {
    let port = server.url.rsplit(':').next().unwrap();
    let rule = format!("hosts = [\"127.0.0.1\", \"localhost\"]\nports = [{port}]\nschemes = [\"http\"]\n");
    let policy = format!(
        "[[network]]\nid = \"near\"\nmethods = [\"GET\", \"POST\", \"HEAD\"]\n{rule}\n[[network]]\nid = \"no-admin\"\neffect = \"deny\"\npaths = [\"/admin/**\"]\n{rule}"
    );
    let mut rig = Rig::new("http://127.0.0.1:9");
    rig.layer(LayerName::Run, &policy);
    rig.gateway = rig.gateway.with_read_timeout(Duration::from_secs(1));
    rig
}

/// Asks through a door; the server answers with these bytes. Returns what the server was asked and what came back.
async fn exchange(request: impl FnOnce(&str) -> String, answer: &[&[u8]]) -> (String, String) {
    let server = ByHand::new().await;
    let rig = rig(&server);
    let (_door, door) = rig.open(rig.grant(CLAUDE));
    let serve = async {
        let (head, _, mut stream) = server.take().await;
        for piece in answer {
            // The door may have enough before the end.
            let _ = stream.write_all(piece).await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        head
    };
    let request = request(&server.url);
    tokio::join!(serve, raw(&door, &request))
}

fn get(url: &str, more: &str) -> String {
    format!("GET {url} HTTP/1.1\r\nConnection: close\r\n{more}\r\n")
}

#[tokio::test]
async fn an_allowed_request_is_written_anew_and_its_answer_comes_without_secrets() {
    let (first, second) = KEY.split_at(9);
    let pieces = [
        format!(
            "HTTP/1.1 302 Found\r\nlocation: http://169.254.169.254/\r\nx-note: {KEY}\r\nset-cookie: a=b\r\nkeep-alive: 1\r\n\r\nbegin {first}"
        ),
        format!("{second} end"),
    ];
    let (asked, came) = exchange(
        |url| get(&format!("{url}/a/./b%41?c=d"), "Proxy-Connection: keep-alive\r\nAccept-Encoding: gzip\r\nTE: trailers\r\nX-Own: 1\r\n"),
        &[pieces[0].as_bytes(), pieces[1].as_bytes()],
    )
    .await;
    assert!(asked.starts_with("get /a/ba?c=d http/1.1\r\n"), "{asked}");
    assert!(asked.contains("host: 127.0.0.1:") && asked.contains("x-own: 1") && asked.contains("accept-encoding: identity"), "{asked}");
    for absent in ["proxy-connection", "gzip", "trailers"] {
        assert!(!asked.contains(absent), "{absent}: {asked}");
    }
    assert!(came.starts_with("HTTP/1.1 302 Found\r\n") && came.contains("location: http://169.254.169.254/\r\n"), "{came}");
    assert!(came.contains("set-cookie: a=b") && !came.contains("keep-alive") && !came.contains("x-note"), "{came}");
    assert!(came.contains("begin [secret KEY] end") || came.contains("[secret KEY] end") && came.contains("begin "), "{came}");
    assert!(!came.contains(first) && !came.contains(second), "{came}");
}

#[tokio::test]
async fn a_door_reaches_what_every_layer_allows_to_its_own_agent() {
    let server = ByHand::new().await;
    let mut rig = rig(&server);
    let port = server.url.rsplit(':').next().unwrap();
    let rule = format!("hosts = [\"127.0.0.1\"]\nports = [{port}]\nschemes = [\"http\"]\npaths = [\"/docs/**\"]\n");
    rig.layer(LayerName::Project, &format!("[[rule]]\nid = \"scouts\"\nroles = [\"scout\"]\n[[rule.network]]\nid = \"docs\"\n{rule}"));
    let scout = DoorIdentity { role: "scout".to_owned(), ..rig.another() };
    let (_scout, door) = rig.open(DoorGrant { who: scout, ..rig.grant(CLAUDE) });
    let serve = async {
        let (_, _, mut stream) = server.take().await;
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\nread").await.unwrap();
    };
    let request = get(&format!("{}/docs/a", server.url), "");
    let ((), came) = tokio::join!(serve, raw(&door, &request));
    assert!(came.starts_with("HTTP/1.1 200") && came.contains("read"), "{came}");
    let came = raw(&door, &get(&format!("{}/other", server.url), "")).await;
    assert!(came.starts_with("HTTP/1.1 403") && came.contains("address.loopback"), "{came}");
    // The builder is told that nothing is left.
    let (_builder, door) = rig.open(rig.grant(CLAUDE));
    let came = raw(&door, &get(&format!("{}/docs/a", server.url), "")).await;
    assert!(came.starts_with("HTTP/1.1 403") && came.contains("address.loopback"), "{came}");
}

#[tokio::test]
async fn a_policy_that_cannot_be_read_opens_no_door() {
    let mut rig = Rig::new("http://127.0.0.1:9");
    rig.layer(LayerName::Project, "[[network]]\nid = \"x\"\nhost = \"http://x\"\n");
    let error = rig.try_open(rig.grant(CLAUDE)).err().unwrap().to_string();
    assert!(error.contains("project.toml") && error.contains("http://x"), "{error}");
}

#[tokio::test]
async fn a_body_goes_on_whole_and_a_head_keeps_its_length() {
    let body = |url: &str| format!("POST {url}/x HTTP/1.1\r\nConnection: close\r\nContent-Length: 7\r\n\r\n\"plain\"");
    let (asked, came) = exchange(body, &[b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"]).await;
    assert!(asked.contains("content-length: 7"), "{asked}");
    assert!(came.starts_with("HTTP/1.1 200 OK") && came.contains("\r\nok\r\n"), "{came}");
    let head = |url: &str| format!("HEAD {url}/x HTTP/1.1\r\nConnection: close\r\n\r\n");
    let (_, came) = exchange(head, &[b"HTTP/1.1 200 OK\r\ncontent-length: 2000\r\n\r\n"]).await;
    assert!(came.contains("content-length: 2000"), "{came}");
}

#[tokio::test]
async fn what_is_denied_names_its_rule_and_reaches_nobody() {
    let server = ByHand::new().await;
    let rig = rig(&server);
    let (_door, door) = rig.open(rig.grant(CLAUDE));
    let url = &server.url;
    let port = url.rsplit(':').next().unwrap();
    let posted = |more: &str, body: &str| {
        format!("POST {url}/x HTTP/1.1\r\nConnection: close\r\n{more}Content-Length: {}\r\n\r\n{body}", body.len())
    };
    for (request, rule) in [
        (get("http://example.org/", ""), "policy.default"),
        (get("http://127.0.0.1:1/", ""), "address.loopback"),
        (get("http://169.254.169.254/latest", ""), "address.metadata"),
        (get(&format!("http://2130706433:{port}/"), ""), "host.numeric"),
        (get(&format!("http://[::ffff:127.0.0.1]:{port}/"), ""), "address.embedded"),
        (get(&format!("http://a@127.0.0.1:{port}/"), ""), "url.userinfo"),
        (get(&format!("{url}/admin/x"), ""), "no-admin"),
        (get(&format!("{url}/y/../admin/x"), ""), "no-admin"),
        (get(&format!("{url}/%2e%2e/x"), ""), "path.encoded"),
        (get(&format!("{url}/?k={KEY}"), ""), "secret.value"),
        (get(&format!("{url}/"), &format!("X-A: {KEY}\r\n")), "secret.value"),
        (posted("", KEY), "secret.value"),
        (get(&format!("{url}/"), "Authorization: Bearer aedile-secret-KEY\r\n"), "secret.placeholder"),
        (get(&format!("{url}/"), "Host: evil.example\r\n"), "header.host"),
        (get(&format!("{url}/"), "Upgrade: websocket\r\n"), "header.connection"),
        (get(&format!("{url}/"), "Connection: X-Own\r\nX-Own: 1\r\n"), "header.connection"),
        (get(&format!("{url}/"), "X-Original-Url: /admin\r\n"), "header.misleading"),
        (get(&format!("{url}/"), "Proxy-Authorization: Basic eA==\r\n"), "header.connection"),
        (posted("Content-Encoding: br\r\n", "not packed so"), "body.encoding"),
        (posted("Content-Encoding: compress\r\n", "x"), "body.encoding"),
        (get(&format!("https://127.0.0.1:{port}/"), ""), "proxy.scheme"),
        (get(&format!("{url}//admin/x"), ""), "no-admin"),
        (get(&format!("{url}/ADMIN/"), ""), "no-admin"),
        (get(&format!("{url}/"), "Content_Length: 3\r\n"), "header.misleading"),
        (format!("CONNECT 127.0.0.1:{port} HTTP/1.1\r\nConnection: close\r\n\r\n"), "address.loopback"),
        (format!("DELETE {url}/x HTTP/1.1\r\nConnection: close\r\n\r\n"), "address.loopback"),
    ] {
        let came = raw(&door, &request).await;
        assert!(came.starts_with("HTTP/1.1 403 ") && came.contains(&format!("\"rule\":\"{rule}\"")), "{request}: {came}");
        assert!(!came.contains(KEY), "{came}");
    }
    for (framing, status) in [("Content-Length: 99999999999\r\n\r\nabc", "413"), ("Content-Length: 3\r\n\r\nab", "408")] {
        let came = raw(&door, &format!("POST {url}/x HTTP/1.1\r\nConnection: close\r\n{framing}")).await;
        assert!(came.starts_with(&format!("HTTP/1.1 {status} ")), "{framing}: {came}");
    }
    let reached = tokio::time::timeout(Duration::from_millis(100), server.take()).await;
    assert!(reached.is_err(), "something reached the server");
}

#[tokio::test]
async fn a_bomb_is_not_unpacked_beyond_the_limit() {
    let mut packed = GzEncoder::new(Vec::new(), Compression::best());
    for _ in 0..65 {
        packed.write_all(&vec![b'x'; 1024 * 1024]).unwrap();
    }
    let bomb = packed.finish().unwrap();
    let server = ByHand::new().await;
    let rig = rig(&server);
    let (_door, door) = rig.open(rig.grant(CLAUDE));
    let mut stream = TcpStream::connect(door.strip_prefix("http://").unwrap()).await.unwrap();
    let head =
        format!("POST {}/x HTTP/1.1\r\nConnection: close\r\nContent-Encoding: gzip\r\nContent-Length: {}\r\n\r\n", server.url, bomb.len());
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(&bomb).await.unwrap();
    let mut came = String::new();
    soon(stream.read_to_string(&mut came)).await.unwrap();
    assert!(came.starts_with("HTTP/1.1 403 ") && came.contains("\"rule\":\"body.size\""), "{came}");
}

#[tokio::test]
async fn servers_that_misbehave_are_given_up_with_a_sentence() {
    for (answer, part) in [
        (&b""[..], "did not answer as a web server does"),
        (b"SSH-2.0-x\r\n\r\n", "did not answer as a web server does"),
        (b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n", "changed the protocol"),
        (b"HTTP/1.1 200 OK\r\ncontent-encoding: compress\r\ncontent-length: 1\r\n\r\nx", "packed its answer"),
        (b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip, br\r\ncontent-length: 1\r\n\r\nx", "packed its answer"),
        (b"HTTP/1.1 206 Partial Content\r\ncontent-encoding: gzip\r\ncontent-length: 1\r\n\r\nx", "a part of a packed answer"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nxy", "did not answer as a web server does"),
    ] {
        let (_, came) = exchange(|url| get(&format!("{url}/"), ""), &[answer]).await;
        assert!(came.starts_with("HTTP/1.1 502 ") && came.contains(part), "{}: {came}", String::from_utf8_lossy(answer));
    }
    // A cut answer does not look whole.
    let (_, came) = exchange(|url| get(&format!("{url}/"), ""), &[b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc"]).await;
    assert!(came.starts_with("HTTP/1.1 200 OK") && !came.ends_with("0\r\n\r\n"), "{came}");
}

#[tokio::test]
async fn a_head_that_never_ends_is_given_up() {
    let server = ByHand::new().await;
    let rig = rig(&server);
    let (_door, door) = rig.open(rig.grant(CLAUDE));
    let drip = async {
        let (_, _, mut stream) = server.take().await;
        let mut written = stream.write_all(b"HTTP/1.1 200 OK\r\n").await;
        while written.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
            written = stream.write_all(b"x: y\r\n").await;
        }
    };
    let request = get(&server.url, "");
    // The connection to the server is ended too, or the first would wait for ever.
    let ((), came) = soon(async { tokio::join!(drip, raw(&door, &request)) }).await;
    assert!(came.starts_with("HTTP/1.1 502 "), "{came}");
}

#[tokio::test]
async fn without_a_policy_a_door_is_no_proxy() {
    let rig = Rig::new("http://127.0.0.1:9");
    let (_door, door) = rig.open(rig.grant(CLAUDE));
    let came = raw(&door, &get("http://127.0.0.1:9/v1/models", "")).await;
    assert!(came.starts_with("HTTP/1.1 400 ") && came.contains("a door is no proxy"), "{came}");
}

#[tokio::test]
async fn connections_that_say_nothing_do_not_keep_others_out_for_ever() {
    let mut rig = Rig::new("http://127.0.0.1:9");
    rig.gateway = rig.gateway.with_read_timeout(Duration::from_millis(100));
    let (_door, door) = rig.open(rig.grant(CLAUDE));
    let address = door.strip_prefix("http://").unwrap().to_owned();
    let mut silent = Vec::new();
    for at in 0..500 {
        let mut stream = soon(TcpStream::connect(&address)).await.unwrap();
        // Some begin a head and do not go on.
        if at % 2 == 0 {
            let _ = stream.write_all(b"GET / HTTP/1.1\r\nX-A").await;
        }
        silent.push(stream);
    }
    let came = raw(&door, "GET /nothing HTTP/1.1\r\nConnection: close\r\n\r\n").await;
    assert!(came.starts_with("HTTP/1.1 404 "), "{came}");
    assert_eq!(silent.len(), 500);
}
