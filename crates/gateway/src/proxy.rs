//! The HTTP proxy of a door: a request in absolute form is read whole, decided over, resolved once and sent to an address that was looked at.
//!
//! What the client said of the connection ends here; the request that goes out is written anew from the parts that were judged. Redirects
//! are passed on, not followed. Values of the vault are taken out of the answer as it flows.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use aedile_core::limits::{DOOR_BODY_BYTES_MAX, DOOR_HEADER_BYTES_MAX, DOOR_HEADER_LINES_MAX, PROXY_ANSWER_BYTES_MAX};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::{
    ACCEPT_ENCODING, CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, EXPECT, HOST, HeaderMap, HeaderName, HeaderValue, TE, TRAILER,
    TRANSFER_ENCODING, UPGRADE,
};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::timeout;

use crate::body::{self, DoorBody, full, streamed};
use crate::door::Room;
use crate::error::Refused;
use crate::policy::{self, Host, Target, host};

/// How long a name server may take.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long one address may take to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Pieces of an answer that wait for a slow client; the server waits then.
const PIECES_WAITING_MAX: usize = 8;
/// A larger body is looked at on a thread of its own.
const BODY_AT_ONCE_BYTES_MAX: usize = 64 * 1024;
/// Headers of one connection, which do not go on to the next.
const CONNECTION_HEADERS: [HeaderName; 8] = [
    CONNECTION,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    HeaderName::from_static("proxy-authenticate"),
];

/// Passes a request on and its answer back.
pub(crate) async fn pass(room: Arc<Room>, request: Request<Incoming>, permit: OwnedSemaphorePermit) -> Result<Response<DoorBody>, Refused> {
    if *request.method() == Method::CONNECT || request.uri().scheme().is_none() {
        let why = "this door passes only plain HTTP on to other hosts: ask for the address with http://, or read a page with the web tool";
        return Err(Refused::denied("proxy.connect", why));
    }
    let (head, incoming) = request.into_parts();
    let headers = asked_headers(&head.headers)?;
    let body = body::read_packed(&head.headers, incoming, DOOR_BODY_BYTES_MAX, room.read_timeout).await?;
    let asked = policy::Request { method: head.method.as_str().to_owned(), url: head.uri.to_string(), headers, body };
    let (asked, target) = decide(&room, asked).await?;
    let addresses = addresses(&target).await?;
    let response = send(&room, &target, &addresses, asked).await?;
    answer(room, &target, response, head.method == Method::HEAD, permit)
}

/// The headers as they were written, without those that speak to the proxy itself.
fn asked_headers(headers: &HeaderMap) -> Result<Vec<(String, String)>, Refused> {
    let of_connection = headers.get_all(CONNECTION).iter().flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    let known = |token: &[u8]| [&b""[..], b"close", b"keep-alive", b"te"].iter().any(|word| token.eq_ignore_ascii_case(word));
    if !of_connection.map(<[u8]>::trim_ascii).all(known) {
        let why = "the Connection header may say only close or keep-alive: leave the rest out";
        return Err(Refused::denied("header.connection", why));
    }
    let mut asked = Vec::new();
    for (name, value) in headers.iter().filter(|(name, _)| *name != "proxy-connection") {
        let Ok(value) = std::str::from_utf8(value.as_bytes()) else {
            return Err(Refused::denied("header.value", format!("the header {name} is not UTF-8: encode its value")));
        };
        asked.push((name.as_str().to_owned(), value.to_owned()));
    }
    Ok(asked)
}

/// Holds the request against the policy and the vault, and reads its URL the one way.
async fn decide(room: &Arc<Room>, asked: policy::Request) -> Result<(policy::Request, Target), Refused> {
    let judging = room.clone();
    let large = asked.body.len() > BODY_AT_ONCE_BYTES_MAX;
    let judge = move || {
        let decision = judging.network.as_ref().map(|egress| egress.lock().unwrap_or_else(PoisonError::into_inner).decide(&asked));
        (asked, decision)
    };
    let judged = if large { tokio::task::spawn_blocking(judge).await } else { Ok(judge()) };
    let (asked, decision) = judged.map_err(|error| Refused::store(format!("the request cannot be judged: {error}")))?;
    let decision = decision.ok_or_else(Refused::no_proxy)?;
    if !decision.allow {
        tracing::warn!(agent = %room.grant.who.agent, rule = decision.rule, "a request to another host was denied");
        return Err(Refused::denied(&decision.rule, decision.why));
    }
    match Target::parse(decision.url.as_deref().unwrap_or_default()) {
        Err(refusal) => Err(Refused::denied(refusal.rule, refusal.why)),
        Ok(target) if target.secure => {
            Err(Refused::denied("proxy.connect", "a request in plain text cannot ask for an address with https://: use http://"))
        }
        Ok(target) => Ok((asked, target)),
    }
}

/// Resolves the name once. One address that may not be dialled spoils them all.
async fn addresses(target: &Target) -> Result<Vec<SocketAddr>, Refused> {
    let name = match &target.host {
        Host::Address(address) => return Ok(vec![SocketAddr::new(*address, target.port)]),
        Host::Name(name) => name,
    };
    let found = timeout(RESOLVE_TIMEOUT, tokio::net::lookup_host((name.as_str(), target.port))).await;
    let found: Vec<SocketAddr> = found
        .map_err(|_| Refused::upstream(format!("the name {name} was not resolved within {} s", RESOLVE_TIMEOUT.as_secs())))?
        .map_err(|error| Refused::upstream(format!("the name {name} cannot be resolved: {error}")))?
        .collect();
    judged(name, found)
}

fn judged(name: &str, found: Vec<SocketAddr>) -> Result<Vec<SocketAddr>, Refused> {
    // A name of this machine or network passed only because a rule names it; its address is what the rule means.
    let named = host::name(name).is_some();
    let bad = found.iter().find_map(|address| {
        let refusal = host::address(address.ip()).filter(|refusal| !named || host::is_closed(refusal))?;
        Some((address.ip(), refusal))
    });
    match bad {
        Some((address, refusal)) => Err(Refused::denied(refusal.rule, format!("{name} leads to {address}: {}", refusal.why))),
        None if found.is_empty() => Err(Refused::upstream(format!("the name {name} has no address"))),
        None => Ok(found),
    }
}

async fn dial(target: &Target, addresses: &[SocketAddr]) -> Result<TcpStream, Refused> {
    let mut last = String::new();
    for address in addresses {
        match timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                let _ = stream.set_nodelay(true);
                return Ok(stream);
            }
            Ok(Err(error)) => last = error.to_string(),
            Err(_) => last = format!("no answer within {} s", CONNECT_TIMEOUT.as_secs()),
        }
    }
    Err(Refused::upstream(format!("{} cannot be reached on port {}: {last}", target.host, target.port)))
}

/// Sends the request, written anew, and waits for the head of its answer.
async fn send(room: &Arc<Room>, target: &Target, addresses: &[SocketAddr], asked: policy::Request) -> Result<Response<Incoming>, Refused> {
    let request = outgoing(target, asked)?;
    let failed = |error: hyper::Error| {
        let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
        Refused::upstream(format!("{} did not answer as a web server does: {error}{cause}", target.host))
    };
    let stream = dial(target, addresses).await?;
    let (mut sender, connection) = http1::Builder::new()
        .max_buf_size(DOOR_HEADER_BYTES_MAX)
        .max_headers(DOOR_HEADER_LINES_MAX)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(failed)?;
    let closed = room.closed.clone();
    tokio::spawn(async move {
        tokio::select! {
            // What breaks it is told where the answer is read.
            _ = connection => {}
            () = closed.cancelled() => {}
        }
    });
    match timeout(room.read_timeout, sender.send_request(request)).await {
        Err(_) => Err(Refused::upstream(format!("{} gave no whole head within {} s", target.host, room.read_timeout.as_secs_f32()))),
        Ok(sent) => sent.map_err(failed),
    }
}

fn outgoing(target: &Target, asked: policy::Request) -> Result<Request<Full<Bytes>>, Refused> {
    let bad = |what: &str| Refused::denied("request.form", format!("the {what} cannot be sent: write it in its plain form"));
    let path = target.query.as_ref().map_or_else(|| target.path.clone(), |query| format!("{}?{query}", target.path));
    let method = Method::from_bytes(asked.method.as_bytes()).map_err(|_| bad("method"))?;
    let host = if target.port == 80 { target.host.to_string() } else { format!("{}:{}", target.host, target.port) };
    let mut request = Request::new(Full::new(Bytes::from(asked.body)));
    *request.method_mut() = method;
    *request.uri_mut() = path.parse().map_err(|_| bad("path"))?;
    let headers = request.headers_mut();
    for (name, value) in &asked.headers {
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| bad("name of a header"))?;
        if !CONNECTION_HEADERS.contains(&name) && name != EXPECT {
            headers.append(name, HeaderValue::from_str(value).map_err(|_| bad("value of a header"))?);
        }
    }
    headers.insert(HOST, HeaderValue::from_str(&host).map_err(|_| bad("host"))?);
    // A packed answer could not be looked into as it flows.
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    Ok(request)
}

/// Passes the answer back.
fn answer(
    room: Arc<Room>,
    target: &Target,
    response: Response<Incoming>,
    head_only: bool,
    permit: OwnedSemaphorePermit,
) -> Result<Response<DoorBody>, Refused> {
    let (head, incoming) = response.into_parts();
    if head.status == StatusCode::SWITCHING_PROTOCOLS {
        return Err(Refused::upstream(format!("{} changed the protocol, which nobody asked for", target.host)));
    }
    if head.headers.get_all(CONTENT_ENCODING).iter().any(|coding| coding != "identity") {
        return Err(Refused::upstream(format!("{} packed its answer, which it was asked not to do", target.host)));
    }
    let empty = head_only || matches!(head.status, StatusCode::NOT_MODIFIED | StatusCode::NO_CONTENT);
    let mut headers = HeaderMap::new();
    for (name, value) in &head.headers {
        // The length changes where a value is taken out.
        let ours = CONNECTION_HEADERS.contains(name) || (name == CONTENT_LENGTH && !empty);
        if !ours && room.vault.redact_known_bytes(value.as_bytes()).is_none() {
            headers.append(name.clone(), value.clone());
        }
    }
    let body = if empty {
        full(Bytes::new())
    } else {
        let (to, pieces) = mpsc::channel(PIECES_WAITING_MAX);
        let tasks = room.tasks.clone();
        tasks.spawn(async move {
            let _permit = permit;
            tokio::select! {
                () = flow(&room, incoming, &to) => {}
                () = to.closed() => {}
                () = room.closed.cancelled() => {}
            }
        });
        streamed(pieces)
    };
    let mut response = Response::new(body);
    *response.status_mut() = head.status;
    *response.headers_mut() = headers;
    Ok(response)
}

/// Passes the pieces on, without the values of the vault; what may be the beginning of one waits for the next piece.
async fn flow(room: &Room, mut incoming: Incoming, to: &mpsc::Sender<io::Result<Bytes>>) {
    let mut held = Vec::new();
    let mut passed = 0_u64;
    let end = loop {
        let data = match timeout(room.read_timeout, incoming.frame()).await {
            Err(_) => break Some("nothing came in time".to_owned()),
            Ok(None) => break None,
            Ok(Some(Err(error))) => break Some(error.to_string()),
            Ok(Some(Ok(frame))) => frame.into_data().unwrap_or_default(),
        };
        passed = passed.saturating_add(data.len() as u64);
        if passed > PROXY_ANSWER_BYTES_MAX {
            break Some(format!("the answer does not end within {PROXY_ANSWER_BYTES_MAX} bytes"));
        }
        held.extend_from_slice(&data);
        let rest = held.split_off(room.vault.settled_known(&held));
        let whole = std::mem::replace(&mut held, rest);
        if !whole.is_empty() && to.send(Ok(room.vault.redact_known_bytes(&whole).unwrap_or(whole).into())).await.is_err() {
            return;
        }
    };
    let last = match end {
        Some(why) => Err(io::Error::other(why)),
        None if held.is_empty() => return,
        None => Ok(room.vault.redact_known_bytes(&held).unwrap_or(held).into()),
    };
    // A client that has gone wants no more.
    let _ = to.send(last).await;
}

#[cfg(test)]
mod tests {
    use hyper::header::{CONNECTION, HOST, TRANSFER_ENCODING};

    use super::{judged, outgoing};
    use crate::policy::{Request, Target};

    #[test]
    fn a_public_name_that_leads_inside_is_not_dialled() {
        let at = |addresses: &[&str]| addresses.iter().map(|address| format!("{address}:80").parse().unwrap()).collect();
        assert_eq!(judged("a.example.org", at(&["1.1.1.1", "8.8.8.8"])).unwrap().len(), 2);
        for inside in ["127.0.0.1", "10.0.0.1", "169.254.169.254", "[::1]", "[::ffff:127.0.0.1]", "[64:ff9b::7f00:1]"] {
            assert!(judged("a.example.org", at(&["1.1.1.1", inside])).is_err(), "{inside}");
        }
        // A name of this network is dialled where a rule names it, but never the addresses that no rule opens.
        assert!(judged("localhost", at(&["127.0.0.1", "[::1]"])).is_ok());
        assert!(judged("db.internal", at(&["10.0.0.1"])).is_ok());
        assert!(judged("db.internal", at(&["169.254.169.254"])).is_err());
        assert!(judged("a.example.org", Vec::new()).is_err());
    }

    #[test]
    fn what_is_sent_reads_as_what_was_judged() {
        const PARTS: &[&str] = &[
            "a", "/", "//", ".", "..", "%41", "%7e", "%2F", "%zz", "?", "b=c", "&", "#", "@", ":", ";", "*", "~", "|", "{", "}", "\"", "<",
            "^", "`", "'", "[", "]", "%", "+", ",", "!", "$", "=", "http://", "HTTP/1.1", "%0d%0a", "xn--", "8080",
        ];
        let mut state = 5_u64;
        let mut next = |most: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            usize::try_from(state >> 33).unwrap() % most
        };
        let (mut sent, mut refused) = (0, 0);
        for _ in 0..crate::leak::cases() {
            let mut url =
                ["http://a.example.org", "http://a.example.org:8080", "http://1.1.1.1", "http://[2606:4700::1]:81"][next(4)].to_owned();
            (0..next(9)).for_each(|_| url.push_str(PARTS[next(PARTS.len())]));
            let Ok(target) = Target::parse(&url) else { continue };
            let headers = [("host", "evil.example"), ("connection", "x-own"), ("transfer-encoding", "chunked"), ("x-own", "1")];
            let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
            let Ok(request) = outgoing(&target, Request { method: "GET".to_owned(), url: url.clone(), headers, body: Vec::new() }) else {
                refused += 1;
                continue;
            };
            sent += 1;
            let hosts: Vec<_> = request.headers().get_all(HOST).iter().collect();
            assert_eq!(hosts.len(), 1, "{url}");
            let said = format!("http://{}{}", hosts[0].to_str().unwrap(), request.uri());
            assert_eq!(Target::parse(&said).as_ref(), Ok(&target), "{url} -> {said}");
            assert!(request.uri().authority().is_none() && request.uri().path().starts_with('/'), "{url}");
            assert!(!request.headers().contains_key(TRANSFER_ENCODING) && request.headers()[CONNECTION] == "close", "{url}");
        }
        assert!(sent > 2000, "{sent} sent, {refused} refused");
    }
}
