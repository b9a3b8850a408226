//! How much goes through one door, and what it costs the others.

use std::time::Duration;

use http_body_util::Full;
use hyper::Response;
use tokio::net::TcpStream;

use crate::support::{CLAUDE, raw, soon};
use crate::support_site::Site;
use crate::support_tls::ask;

#[tokio::test]
async fn more_requests_than_the_policy_allows_in_a_minute_are_told_when_to_come_again() {
    let site = Site::polite(true).await;
    let rig = site.rig("[limits]\nrequests_per_minute = 3");
    let (_door, door) = rig.open(rig.grant(CLAUDE));
    for _ in 0..3 {
        let came = ask(&rig, &door, (true, site.port), "GET", "/", "\r\n").await;
        assert!(came.starts_with("HTTP/1.1 200 "), "{came}");
    }
    let came = ask(&rig, &door, (true, site.port), "GET", "/", "\r\n").await;
    assert!(came.starts_with("HTTP/1.1 429 ") && came.contains("\"rule\":\"limits.requests_per_minute\""), "{came}");
    let after = came.lines().find_map(|line| line.strip_prefix("retry-after: ")?.parse().ok()).unwrap_or(0);
    assert!((1..=20).contains(&after), "{came}");
    assert_eq!(site.asked().len(), 3);
    // Each door counts for itself.
    let (_other, other) = rig.open(rig.grant(CLAUDE));
    assert!(ask(&rig, &other, (true, site.port), "GET", "/", "\r\n").await.starts_with("HTTP/1.1 200 "));
}

#[tokio::test]
async fn a_door_sends_and_gets_as_many_bytes_as_the_policy_allows() {
    let site = Site::new(false, |_| Some(Response::new(Full::new(vec![b'x'; 600].into())))).await;
    let body = |length: usize| format!("Content-Length: {length}\r\n\r\n{}", "y ".repeat(length / 2));
    let rig = site.rig("[limits]\nbytes_out = 1000");
    let (_door, door) = rig.open(rig.grant(CLAUDE));
    assert!(ask(&rig, &door, (false, site.port), "POST", "/", &body(700)).await.starts_with("HTTP/1.1 200 "));
    let came = ask(&rig, &door, (false, site.port), "POST", "/", &body(700)).await;
    assert!(came.starts_with("HTTP/1.1 403 ") && came.contains("\"rule\":\"limits.bytes_out\""), "{came}");
    assert!(ask(&rig, &door, (false, site.port), "GET", "/", "\r\n").await.starts_with("HTTP/1.1 200 "), "a small one still goes");
    assert_eq!(site.asked().len(), 2);
    let rig = site.rig("[limits]\nbytes_in = 1000");
    let (_door, door) = rig.open(rig.grant(CLAUDE));
    assert!(ask(&rig, &door, (false, site.port), "GET", "/", "\r\n").await.ends_with("0\r\n\r\n"));
    let cut = ask(&rig, &door, (false, site.port), "GET", "/", "\r\n").await;
    assert!(!cut.ends_with("0\r\n\r\n"), "{cut}");
    let came = ask(&rig, &door, (false, site.port), "GET", "/", "\r\n").await;
    assert!(came.starts_with("HTTP/1.1 403 ") && came.contains("\"rule\":\"limits.bytes_in\""), "{came}");
    assert_eq!(site.asked().len(), 4);
}

#[tokio::test]
async fn a_door_whose_limits_cannot_be_read_is_not_opened() {
    let site = Site::polite(false).await;
    let rig = site.rig("[limits]\nbytes_out = \"few\"");
    assert!(rig.try_open(rig.grant(CLAUDE)).is_err_and(|error| error.message.contains("run.toml")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_connections_to_one_door_take_nothing_from_another() {
    // As many as this process may have.
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let wanted = rustix::process::Rlimit { current: limit.maximum, maximum: limit.maximum };
    let _ = rustix::process::setrlimit(rustix::process::Resource::Nofile, wanted);
    let most = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(1 << 20);
    let count = usize::try_from(most.saturating_sub(500)).unwrap().min(10_000);
    let site = Site::polite(false).await;
    let mut rig = site.rig("");
    rig.gateway = rig.gateway.with_read_timeout(Duration::from_secs(2));
    let (_flooded, flooded) = rig.open(rig.grant(CLAUDE));
    let (_other, other) = rig.open(rig.grant(CLAUDE));
    let address = flooded.strip_prefix("http://").unwrap().to_owned();
    let before = descriptors();
    let mut flood = tokio::task::JoinSet::new();
    for _ in 0..count {
        let address = address.clone();
        flood.spawn(async move {
            let stream = TcpStream::connect(address).await;
            std::future::pending::<()>().await;
            drop(stream);
        });
    }
    crate::support::until("the flood is on its way", || descriptors() > before + count / 2).await;
    let get = format!("GET http://localhost:{0}/ HTTP/1.1\r\nHost: localhost:{0}\r\nConnection: close\r\n\r\n", site.port);
    for _ in 0..20 {
        assert!(raw(&other, &get).await.starts_with("HTTP/1.1 200 "));
    }
    // The clients have one each; the door holds few of them.
    assert!(descriptors() < before + count + 300, "{} descriptors for {count} connections", descriptors() - before);
    flood.abort_all();
    while flood.join_next().await.is_some() {}
    // What waits in the queue of the listener is gone through.
    assert!(soon(raw(&flooded, &get)).await.starts_with("HTTP/1.1 200 "));
}

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count)
}
