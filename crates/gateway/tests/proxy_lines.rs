//! Connections to other hosts that are kept for the next request.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use http_body_util::Full;
use hyper::Response;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::support::{CLAUDE, Rig, soon};
use crate::support_site::{Asked, Site};
use crate::support_tls::head;

fn ok() -> Option<Response<Full<bytes::Bytes>>> {
    Some(Response::builder().status(204).body(Full::default()).unwrap())
}

/// Asks so many times on one connection to the door; returns the statuses.
async fn ask_often(door: &str, port: u16, method: &str, times: usize) -> Vec<String> {
    let mut statuses = Vec::new();
    let mut stream = TcpStream::connect(door.strip_prefix("http://").unwrap()).await.unwrap();
    for at in 0..times {
        let body = if method == "GET" { "\r\n".to_owned() } else { "Content-Length: 2\r\n\r\nab".to_owned() };
        let request = format!("{method} http://localhost:{port}/{method}{at} HTTP/1.1\r\nHost: localhost:{port}\r\n{body}");
        stream.write_all(request.as_bytes()).await.unwrap();
        let came = head(&mut stream).await;
        let (status, more) = (came[9..12].to_owned(), came.to_ascii_lowercase());
        if more.contains("content-length: ") {
            stream = TcpStream::connect(door.strip_prefix("http://").unwrap()).await.unwrap();
        }
        statuses.push(status);
    }
    statuses
}

fn lines(asked: &[Asked]) -> HashSet<usize> {
    asked.iter().map(|asked| asked.line).collect()
}

#[tokio::test]
async fn requests_of_one_door_share_connections_and_those_of_two_doors_do_not() {
    for secure in [false, true] {
        let site = Site::new(secure, |_| ok()).await;
        let rig = site.rig("");
        let (_one, first) = rig.open(rig.grant(CLAUDE));
        if secure {
            let mut tunnel = crate::support_tls::through(&rig, &first, site.port).await;
            for at in 0..20 {
                let request = format!("GET /{at} HTTP/1.1\r\nHost: localhost:{}\r\n\r\n", site.port);
                tunnel.write_all(request.as_bytes()).await.unwrap();
                assert!(head(&mut tunnel).await.starts_with("HTTP/1.1 204 "));
            }
        } else {
            assert_eq!(ask_often(&first, site.port, "GET", 20).await, vec!["204"; 20]);
        }
        let used = lines(&site.asked());
        assert!(used.len() < 10, "{used:?}");
        assert!(site.asked().iter().all(|asked| asked.header("connection").is_empty()));
        if !secure {
            let before = site.asked().len();
            let (_two, second) = rig.open(rig.grant(CLAUDE));
            ask_often(&second, site.port, "GET", 3).await;
            assert!(lines(&site.asked()[before..]).is_disjoint(&used), "the doors shared one");
        }
    }
}

#[tokio::test]
async fn what_may_be_repeated_is_asked_again_where_a_kept_connection_had_ended_and_nothing_else() {
    // Each connection answers once and then ends without a word.
    let counts: Arc<Mutex<HashMap<usize, usize>>> = Arc::default();
    let site = Site::new(false, move |asked| {
        let mut counts = counts.lock().unwrap();
        let count = counts.entry(asked.line).or_default();
        *count += 1;
        (*count == 1).then(ok).flatten()
    })
    .await;
    let rig = site.rig("");
    let (_door, door) = rig.open(rig.grant(CLAUDE));
    let times = |asked: &[Asked]| {
        let mut times: HashMap<String, usize> = HashMap::new();
        asked.iter().for_each(|asked| *times.entry(asked.path.clone()).or_default() += 1);
        times
    };
    assert_eq!(ask_often(&door, site.port, "GET", 20).await, vec!["204"; 20]);
    let asked = times(&site.asked());
    assert!(asked.values().any(|times| *times == 2) && asked.values().all(|times| *times <= 2), "{asked:?}");
    let before = site.asked().len();
    let statuses = ask_often(&door, site.port, "POST", 20).await;
    assert!(statuses.contains(&"502".to_owned()) && statuses.contains(&"204".to_owned()), "{statuses:?}");
    assert!(times(&site.asked()[before..]).values().all(|times| *times == 1));
}

#[tokio::test]
async fn a_request_is_asked_once_where_the_server_was_heard() {
    // It begins to answer and breaks off.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let count = Arc::new(AtomicUsize::new(0));
    let counted = count.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let counted = counted.clone();
            tokio::spawn(async move {
                let _ = head(&mut stream).await;
                stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
                if head(&mut stream).await.is_empty() {
                    return;
                }
                counted.fetch_add(1, Ordering::SeqCst);
                stream.write_all(b"HTTP/1.1 20").await.unwrap();
            });
        }
    });
    let mut rig = Rig::new("http://127.0.0.1:9");
    let policy = format!("[[network]]\nid = \"near\"\nhosts = [\"localhost\"]\nports = [{port}]\nschemes = [\"http\"]\n");
    rig.layer(aedile_core::policy::LayerName::Run, &policy);
    let (_door, door) = rig.open(rig.grant(CLAUDE));
    let statuses = soon(ask_often(&door, port, "GET", 20)).await;
    let broken = statuses.iter().filter(|status| *status == "502").count();
    assert!(broken > 0 && broken == count.load(Ordering::SeqCst), "{statuses:?}");
}

#[tokio::test]
async fn a_kept_connection_is_closed_when_nobody_uses_it() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut rig = Rig::new("http://127.0.0.1:9");
    let policy = format!("[[network]]\nid = \"near\"\nhosts = [\"localhost\"]\nports = [{port}]\nschemes = [\"http\"]\n");
    rig.layer(aedile_core::policy::LayerName::Run, &policy);
    let (_door, door) = rig.open(rig.grant(CLAUDE));
    let serve = async {
        let (mut stream, _) = soon(listener.accept()).await.unwrap();
        let _ = head(&mut stream).await;
        stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
        let answered = std::time::Instant::now();
        assert_eq!(soon(tokio::io::AsyncReadExt::read(&mut stream, &mut [0])).await.unwrap(), 0);
        assert!(answered.elapsed() > std::time::Duration::from_secs(2), "it was kept for a while");
    };
    let (statuses, ()) = tokio::join!(ask_often(&door, port, "GET", 1), serve);
    assert_eq!(statuses, ["204"]);
}
