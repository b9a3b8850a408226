//! A judged request on its way to another host: resolved once, dialled at an address that was looked at, written anew.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use aedile_core::limits::{DOOR_HEADER_BYTES_MAX, DOOR_HEADER_LINES_MAX};
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::{
    ACCEPT_ENCODING, CONNECTION, EXPECT, HOST, HeaderMap, HeaderName, HeaderValue, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::either::Either;

use crate::door::Room;
use crate::error::Refused;
use crate::policy::{self, Host, Target, host};
use crate::proxy_pool::{Heard, Line};
use crate::tls_roots::Roots;

/// How long a name server may take.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long one address may take to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long all addresses of a name, and TLS behind them, may take together.
const REACH_TIMEOUT: Duration = Duration::from_secs(25);
/// Addresses of one name that are tried.
const ADDRESSES_MAX: usize = 8;
/// Headers of one connection, which do not go on to the next.
pub(crate) const CONNECTION_HEADERS: [HeaderName; 8] = [
    CONNECTION,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    HeaderName::from_static("proxy-authenticate"),
];

/// Resolves the name once. One address that may not be dialled spoils them all.
pub(crate) async fn addresses(target: &Target) -> Result<Vec<SocketAddr>, Refused> {
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

/// A connection to another host, with or without TLS.
pub(crate) type Wire = Either<TcpStream, TlsStream<TcpStream>>;

/// Reaches the host at one of its addresses, and believes it before anything is said.
pub(crate) async fn dial(roots: &Roots, target: &Target, addresses: &[SocketAddr]) -> Result<Wire, Refused> {
    let deadline = Instant::now() + REACH_TIMEOUT;
    let stream = connect(target, addresses, deadline).await?;
    if !target.secure {
        return Ok(Either::Left(stream));
    }
    let client = roots.client().await.map_err(Refused::upstream)?;
    let name = match &target.host {
        Host::Address(address) => ServerName::from(*address),
        Host::Name(name) => {
            ServerName::try_from(name.clone()).map_err(|error| Refused::upstream(format!("{name} has no name for TLS: {error}")))?
        }
    };
    match timeout_at(deadline, TlsConnector::from(client).connect(name, stream)).await {
        Ok(Ok(stream)) => Ok(Either::Right(stream)),
        Ok(Err(error)) => Err(Refused::upstream(untrusted(target, &error))),
        Err(_) => Err(Refused::upstream(format!("{} did not finish its TLS handshake in time", target.host))),
    }
}

/// Says what is wrong with a server's TLS. A certificate is the matter of a person: nothing in the box mends it.
fn untrusted(target: &Target, error: &std::io::Error) -> String {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match inner {
        Some(rustls::Error::InvalidCertificate(why)) => format!(
            "the certificate of {} was not accepted ({why}), so nothing was sent; if it is signed by an authority of your own network, a person \
             names its root in SSL_CERT_FILE where aedile is started",
            target.host
        ),
        _ => format!("{} does not speak TLS on port {}: {error}", target.host, target.port),
    }
}

async fn connect(target: &Target, addresses: &[SocketAddr], deadline: Instant) -> Result<TcpStream, Refused> {
    let mut last = String::new();
    for address in addresses.iter().take(ADDRESSES_MAX) {
        match timeout_at(deadline.min(Instant::now() + CONNECT_TIMEOUT), TcpStream::connect(address)).await {
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

/// Methods whose requests may be made twice (RFC 9110).
const REPEATABLE: [&str; 8] = ["GET", "HEAD", "OPTIONS", "PROPFIND", "REPORT", "QUERY", "PUT", "DELETE"];

/// Why a request on an open connection has no answer.
struct Unanswered {
    /// The server had closed the connection before it could have seen the request, or before it said anything to one that may be repeated.
    again: bool,
    refused: Refused,
}

/// Sends the request, written anew, and waits for the head of its answer. It goes on a connection that is open already, where there is one; the name is
/// resolved where there is none.
pub(crate) async fn send(room: &Arc<Room>, target: &Target, mut asked: policy::Request) -> Result<(Response<Incoming>, Line), Refused> {
    let body = Bytes::from(std::mem::take(&mut asked.body));
    room.allowance.open()?;
    room.allowance.send(u64::try_from(asked.size() + body.len()).unwrap_or(u64::MAX))?;
    if let Some(line) = room.pool.take(target) {
        match ask(room, target, line, outgoing(target, &asked, body.clone())?).await {
            Ok(answered) => return Ok(answered),
            Err(Unanswered { again: true, .. }) => {}
            Err(Unanswered { refused, .. }) => return Err(refused),
        }
    }
    let line = open(room, target, &addresses(target).await?).await?;
    ask(room, target, line, outgoing(target, &asked, body)?).await.map_err(|unanswered| unanswered.refused)
}

/// Sends a request that asks for a WebSocket, on a connection of its own, with these further headers.
pub(crate) async fn send_upgrade(
    room: &Arc<Room>,
    target: &Target,
    asked: &policy::Request,
    further: HeaderMap,
) -> Result<(Response<Incoming>, Line), Refused> {
    room.allowance.open()?;
    room.allowance.send(u64::try_from(asked.url.len()).unwrap_or(u64::MAX))?;
    let mut request = outgoing(target, asked, Bytes::new())?;
    further.into_iter().for_each(|(name, value)| {
        if let Some(name) = name {
            request.headers_mut().insert(name, value);
        }
    });
    let line = open(room, target, &addresses(target).await?).await?;
    ask(room, target, line, request).await.map_err(|unanswered| unanswered.refused)
}

fn failed(target: &Target, error: &hyper::Error) -> Refused {
    let cause = std::error::Error::source(error).map(|cause| format!(": {cause}")).unwrap_or_default();
    Refused::upstream(format!("{} did not answer as a web server does: {error}{cause}", target.host))
}

/// Opens a connection for requests.
async fn open(room: &Arc<Room>, target: &Target, addresses: &[SocketAddr]) -> Result<Line, Refused> {
    let heard = Arc::new(AtomicBool::new(false));
    let stream = Heard { stream: dial(&room.roots, target, addresses).await?, heard: heard.clone() };
    let (sender, connection) = http1::Builder::new()
        .max_buf_size(DOOR_HEADER_BYTES_MAX)
        .max_headers(DOOR_HEADER_LINES_MAX)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|error| failed(target, &error))?;
    let closed = room.closed.clone();
    tokio::spawn(async move {
        tokio::select! {
            // What breaks it is told where the answer is read.
            _ = connection.with_upgrades() => {}
            () = closed.cancelled() => {}
        }
    });
    Ok(Line::new(target, sender, heard))
}

async fn ask(
    room: &Room,
    target: &Target,
    mut line: Line,
    request: Request<Full<Bytes>>,
) -> Result<(Response<Incoming>, Line), Unanswered> {
    let repeatable = REPEATABLE.contains(&request.method().as_str());
    line.heard.store(false, Ordering::Release);
    match timeout(room.read_timeout, line.sender.try_send_request(request)).await {
        Ok(Ok(response)) => Ok((response, line)),
        Ok(Err(mut error)) => {
            let again = error.take_message().is_some() || repeatable && !line.heard.load(Ordering::Acquire);
            Err(Unanswered { again, refused: failed(target, error.error()) })
        }
        Err(_) => {
            let why = format!("{} gave no whole head within {} s", target.host, room.read_timeout.as_secs_f32());
            Err(Unanswered { again: false, refused: Refused::upstream(why) })
        }
    }
}

fn outgoing(target: &Target, asked: &policy::Request, body: Bytes) -> Result<Request<Full<Bytes>>, Refused> {
    let bad = |what: &str| Refused::denied("request.form", format!("the {what} cannot be sent: write it in its plain form"));
    let path = target.query.as_ref().map_or_else(|| target.path.clone(), |query| format!("{}?{query}", target.path));
    let method = Method::from_bytes(asked.method.as_bytes()).map_err(|_| bad("method"))?;
    let mut request = Request::new(Full::new(body));
    *request.method_mut() = method;
    *request.uri_mut() = path.parse().map_err(|_| bad("path"))?;
    let headers = request.headers_mut();
    for (name, value) in &asked.headers {
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| bad("name of a header"))?;
        if !CONNECTION_HEADERS.contains(&name) && name != EXPECT {
            headers.append(name, HeaderValue::from_str(value).map_err(|_| bad("value of a header"))?);
        }
    }
    headers.insert(HOST, HeaderValue::from_str(&target.authority()).map_err(|_| bad("host"))?);
    // A packed answer could not be looked into as it flows.
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    Ok(request)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
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
    fn any_request_that_is_sent_reads_as_what_was_judged() {
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
            let mut url = [
                "http://a.example.org",
                "https://a.example.org",
                "https://a.example.org:80",
                "http://a.example.org:8080",
                "http://1.1.1.1",
                "https://[2606:4700::1]:81",
            ][next(6)]
            .to_owned();
            (0..next(9)).for_each(|_| url.push_str(PARTS[next(PARTS.len())]));
            let Ok(target) = Target::parse(&url) else { continue };
            let headers = [("host", "evil.example"), ("connection", "x-own"), ("transfer-encoding", "chunked"), ("x-own", "1")];
            let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
            let asked = Request { method: "GET".to_owned(), url: url.clone(), headers, body: Vec::new() };
            let Ok(request) = outgoing(&target, &asked, Bytes::new()) else {
                refused += 1;
                continue;
            };
            sent += 1;
            let hosts: Vec<_> = request.headers().get_all(HOST).iter().collect();
            assert_eq!(hosts.len(), 1, "{url}");
            let scheme = if target.secure { "https" } else { "http" };
            let said = format!("{scheme}://{}{}", hosts[0].to_str().unwrap(), request.uri());
            assert_eq!(Target::parse(&said).as_ref(), Ok(&target), "{url} -> {said}");
            assert!(request.uri().authority().is_none() && request.uri().path().starts_with('/'), "{url}");
            assert!(!request.headers().contains_key(TRANSFER_ENCODING) && !request.headers().contains_key(CONNECTION), "{url}");
        }
        assert!(sent > 2000, "{sent} sent, {refused} refused");
    }
}
