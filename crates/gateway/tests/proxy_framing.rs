//! Where a request ends: what two readers could read differently does not pass, in plain text and inside TLS.

use std::io::Write;
use std::time::Duration;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http_body_util::Full;
use hyper::Response;

use crate::support::{CLAUDE, KEY, raw};
use crate::support_site::Site;
use crate::support_tls::ask;

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut packed = GzEncoder::new(Vec::new(), Compression::best());
    packed.write_all(bytes).unwrap();
    packed.finish().unwrap()
}

#[tokio::test]
async fn ambiguous_lengths_and_heads_are_refused_and_reach_nobody() {
    const CHUNKED: &str = "Transfer-Encoding: chunked\r\n\r\n";
    for secure in [false, true] {
        let site = Site::polite(secure).await;
        let mut rig = site.rig("");
        rig.gateway = rig.gateway.with_read_timeout(Duration::from_secs(1));
        let (_door, door) = rig.open(rig.grant(CLAUDE));
        let chunks = |chunks: &str| format!("{CHUNKED}{chunks}");
        for rest in [
            "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".to_owned(),
            "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n".to_owned(),
            "Transfer-Encoding: chunked\r\nX-A: b\r\ncontent-length:5\r\n\r\n0\r\n\r\n".to_owned(),
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".to_owned(),
            "Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n".to_owned(),
            "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n".to_owned(),
            "Transfer-Encoding: identity\r\n\r\n".to_owned(),
            "Transfer-Encoding: xchunked\r\n\r\nabc".to_owned(),
            "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n".to_owned(),
            "Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n".to_owned(),
            "Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc".to_owned(),
            "Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd".to_owned(),
            "Content-Length: 3, 3\r\n\r\nabc".to_owned(),
            "Content-Length: +3\r\n\r\nabc".to_owned(),
            "Content-Length: 0x3\r\n\r\nabc".to_owned(),
            "Content-Length: -1\r\n\r\nabc".to_owned(),
            "X-A: b\r\n c\r\n\r\n".to_owned(),
            "X-A : b\r\n\r\n".to_owned(),
            "X-A: b\nX-B: c\r\n\r\n".to_owned(),
            "X-A: b\r\n\n".to_owned(),
            "X-A: b\rX-B: c\r\n\r\n".to_owned(),
            "X-A: b\0c\r\n\r\n".to_owned(),
            ": b\r\n\r\n".to_owned(),
            chunks("3\nabc\n0\n\n"),
            chunks("+3\r\nabc\r\n0\r\n\r\n"),
            chunks("0x3\r\nabc\r\n0\r\n\r\n"),
            chunks("-3\r\nabc\r\n0\r\n\r\n"),
            chunks("\r\nabc\r\n0\r\n\r\n"),
            chunks("3\r\nabcd\r\n0\r\n\r\n"),
            chunks("fffffffffffffffff\r\nabc\r\n0\r\n\r\n"),
            chunks("3;\nx\r\nabc\r\n0\r\n\r\n"),
        ] {
            let came = ask(&rig, &door, (secure, site.port), "POST", "/x", &rest).await;
            assert!(came.starts_with("HTTP/1.1 400 "), "{secure} {rest:?}: {came}");
        }
        let cut = ask(&rig, &door, (secure, site.port), "POST", "/x", &chunks("3\r\nab")).await;
        assert!(cut.starts_with("HTTP/1.1 408 "), "{cut}");
        assert!(site.asked().is_empty(), "{:?}", site.asked());
    }
}

#[tokio::test]
async fn a_body_in_chunks_goes_on_in_one_piece_and_is_looked_into() {
    for secure in [false, true] {
        let site = Site::polite(secure).await;
        let rig = site.rig("");
        let (_door, door) = rig.open(rig.grant(CLAUDE));
        let chunked = |body: &str| format!("Transfer-Encoding: chunked\r\nTrailer: X-T\r\n\r\n{body}");
        let odd = chunked("3;a=\"b;c\"\r\nabc\r\n2 ; x\r\nde\r\n0\r\nX-T: 1\r\nContent-Length: 99\r\n\r\n");
        let came = ask(&rig, &door, (secure, site.port), "POST", "/x", &odd).await;
        assert!(came.starts_with("HTTP/1.1 200 "), "{came}");
        let (begin, end) = KEY.split_at(7);
        let secret = chunked(&format!("{:x}\r\n{begin}\r\n{:x}\r\n{end}\r\n0\r\n\r\n", begin.len(), end.len()));
        let came = ask(&rig, &door, (secure, site.port), "POST", "/x", &secret).await;
        assert!(came.contains("secret.value"), "{came}");
        let [asked] = &site.asked()[..] else { panic!("{:?}", site.asked()) };
        assert_eq!((&asked.body[..], asked.header("content-length")), (&b"abcde"[..], vec!["5"]));
        for gone in ["transfer-encoding", "trailer", "x-t"] {
            assert!(asked.header(gone).is_empty(), "{asked:?}");
        }
    }
}

#[tokio::test]
async fn a_request_behind_another_one_is_none() {
    let site = Site::polite(false).await;
    let rig = site.rig("");
    let (_door, door) = rig.open(rig.grant(CLAUDE));
    let one = |path: &str| format!("GET http://localhost:{0}{path} HTTP/1.1\r\nHost: localhost:{0}\r\n\r\n", site.port);
    let came = raw(&door, &format!("{}{}", one("/a"), one("/b"))).await;
    assert!(came.starts_with("HTTP/1.1 200 ") && came.contains("HTTP/1.1 400 "), "{came}");
    assert_eq!(site.asked().iter().map(|asked| asked.path.as_str()).collect::<Vec<_>>(), ["/a"]);
    // What stands behind a body that was refused is not taken for a request.
    let smuggled = format!(
        "POST http://localhost:{0}/x HTTP/1.1\r\nHost: localhost:{0}\r\nContent-Length: 4\r\nX-A: {KEY}\r\n\r\nabcd{1}",
        site.port,
        one("/c")
    );
    let came = raw(&door, &smuggled).await;
    assert!(came.starts_with("HTTP/1.1 403 ") && came.matches("HTTP/1.1").count() == 1, "{came}");
    assert_eq!(site.asked().len(), 1);
}

#[tokio::test]
async fn an_answer_that_is_packed_all_the_same_comes_unpacked_and_without_secrets() {
    let texts = |text: &str| Bytes::from(text.to_owned());
    let zstd = |text: &[u8]| {
        let length = u8::try_from(text.len()).unwrap();
        [&[0x28, 0xb5, 0x2f, 0xfd, 0x20, length][..], &((u32::from(length) << 3) | 1).to_le_bytes()[..3], text].concat()
    };
    let secret = format!("begin {KEY} end");
    let (packed, frame, bomb) = (gzip(secret.as_bytes()), zstd(secret.as_bytes()), gzip(&vec![0; 64 * 1024 * 1024]));
    let site = Site::new(true, move |asked| {
        let (coding, body) = match asked.path.as_str() {
            "/gzip" => ("gzip", Bytes::from(packed.clone())),
            "/zstd" => ("zstd", Bytes::from(frame.clone())),
            "/cut" => ("gzip", Bytes::from(packed[..packed.len() - 9].to_vec())),
            "/bomb" => ("gzip", Bytes::from(bomb.clone())),
            _ => ("gzip", texts("no such packing")),
        };
        Some(Response::builder().header("content-encoding", coding).body(Full::new(body)).unwrap())
    })
    .await;
    let rig = site.rig("");
    let (_door, door) = rig.open(rig.grant(CLAUDE));
    for (path, whole) in [("/gzip", true), ("/zstd", true), ("/cut", false), ("/bomb", false), ("/other", false)] {
        let came = ask(&rig, &door, (true, site.port), "GET", path, "\r\n").await;
        assert!(came.starts_with("HTTP/1.1 200 ") && !came.contains("content-encoding") && !came.contains(KEY), "{path}");
        assert_eq!(came.ends_with("\r\n0\r\n\r\n"), whole, "{path} has {} bytes", came.len());
        assert!(!whole || came.contains("begin [secret KEY] end"), "{came}");
        assert!(came.len() < 24 * 1024 * 1024, "{path} has {} bytes", came.len());
    }
}
