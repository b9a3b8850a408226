//! CONNECT: a tunnel whose TLS ends here. There are no tunnels that cannot be looked into.
//!
//! The host that CONNECT names, the one that TLS names (SNI) and the one that each request inside names are one and the same, or nothing passes.
//! Nothing is dialled for a tunnel: each request inside it takes the way of a plain one, with TLS of our own behind it.

use std::sync::{Arc, Mutex, PoisonError};

use hyper::body::Incoming;
use hyper::header::{CONTENT_LENGTH, HOST, TRANSFER_ENCODING};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper::{Request, Response, Uri};
use hyper_util::rt::TokioIo;
use rustls::server::Acceptor;
use tokio::io::AsyncWriteExt;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;

use crate::body::{DoorBody, full};
use crate::denials::Denial;
use crate::door::{Room, serve_http};
use crate::error::Refused;
use crate::policy::{Host, Target};
use crate::proxy_h2::serve_h2;
use crate::routes;

/// What a client that does not speak TLS is told in its tunnel.
const NO_TLS: &str = "proxy.tunnel: a door carries only TLS in a tunnel, and looks into it: other protocols do not pass\n";

/// Where a tunnel leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tunnel {
    host: Host,
    port: u16,
}

impl Tunnel {
    /// Reads what CONNECT names: a host and a port, in their plain form.
    pub(crate) fn parse(uri: &Uri) -> Result<Self, Refused> {
        let text = uri.to_string();
        let target = Target::parse(&format!("https://{text}")).map_err(|refusal| Refused::denied(refusal.rule, refusal.why))?;
        let tunnel = Self { host: target.host, port: target.port };
        if !text.eq_ignore_ascii_case(&tunnel.whole()) {
            return Err(Refused::denied(
                "proxy.connect",
                "CONNECT names a host and a port and nothing else, such as `api.example.org:443`",
            ));
        }
        Ok(tunnel)
    }

    fn whole(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    /// The host, with the port where it is not the usual one.
    pub(crate) fn authority(&self) -> String {
        if self.port == 443 { self.host.to_string() } else { self.whole() }
    }

    /// Whether a request names the same host and port.
    pub(crate) fn is(&self, authority: &[u8]) -> bool {
        [self.whole(), self.authority()].iter().any(|name| name.as_bytes().eq_ignore_ascii_case(authority))
    }

    /// Where a path of it leads.
    pub(crate) fn to(&self, path: &str) -> String {
        format!("https://{}{path}", self.authority())
    }

    /// Whether TLS names the same host. A client names no address.
    fn is_named(&self, sni: Option<&str>) -> bool {
        match (&self.host, sni) {
            (Host::Name(name), Some(sni)) => name.eq_ignore_ascii_case(sni),
            (Host::Address(_), None) => true,
            _ => false,
        }
    }
}

/// A tunnel that was granted on a connection and begins when its answer has gone.
pub(crate) type Granted = Mutex<Option<(Tunnel, OnUpgrade)>>;

/// Answers CONNECT.
pub(crate) async fn open(room: &Room, mut request: Request<Incoming>, granted: &Granted) -> Result<Response<DoorBody>, Refused> {
    let egress = room.network.as_ref().ok_or_else(Refused::no_proxy)?;
    let tunnel = Tunnel::parse(request.uri())?;
    let headers = request.headers();
    if headers.get_all(HOST).iter().count() > 1 || !headers.get_all(HOST).iter().all(|host| tunnel.is(host.as_bytes())) {
        return Err(Refused::denied("header.host", "the Host header names another host than CONNECT"));
    }
    if headers.contains_key(TRANSFER_ENCODING) || headers.get(CONTENT_LENGTH).is_some_and(|length| length != "0") {
        return Err(Refused::denied("header.framing", "CONNECT has no body"));
    }
    if let Err(denied) = egress.lock().await.layers().decide_tunnel(&tunnel.host, tunnel.port) {
        return Err(Refused::denied(&denied.rule, denied.why).in_layer(denied.layer));
    }
    let upgrade = hyper::upgrade::on(&mut request);
    *granted.lock().unwrap_or_else(PoisonError::into_inner) = Some((tunnel, upgrade));
    Ok(Response::new(full("")))
}

/// Serves the tunnel that was granted on a connection, if one was. Ends with it.
pub(crate) async fn serve(room: Arc<Room>, granted: &Granted) {
    let taken = granted.lock().unwrap_or_else(PoisonError::into_inner).take();
    let Some((tunnel, upgrade)) = taken else { return };
    // A client that breaks off is no event.
    let Ok(upgraded) = upgrade.await else { return };
    match accepted(&room, &tunnel, upgraded).await {
        Err(Unaccepted::Broken(why)) => {
            tracing::info!(agent = %room.grant.who.agent, host = %tunnel.host, why, "a tunnel was ended before anything passed");
        }
        Err(Unaccepted::Denied(why)) => {
            let denial = Denial { layer: None, rule: "proxy.tunnel".to_owned(), why: why.to_owned() };
            room.denied(denial, &format!("CONNECT {}", tunnel.whole())).await;
        }
        Ok(stream) => {
            let tunnel = Arc::new(tunnel);
            let answer = |request| {
                let (room, tunnel) = (room.clone(), tunnel.clone());
                async move { routes::inside(room, &tunnel, request).await }
            };
            if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
                serve_h2(&room, stream, answer).await;
            } else {
                serve_http(&room, stream, answer).await;
            }
        }
    }
}

/// Why a tunnel ends before anything passes.
enum Unaccepted {
    /// The client has gone, or does not believe the door.
    Broken(String),
    Denied(&'static str),
}

impl From<String> for Unaccepted {
    fn from(why: String) -> Self {
        Self::Broken(why)
    }
}

/// Takes the client's TLS as the host that the tunnel leads to.
async fn accepted(room: &Room, tunnel: &Tunnel, upgraded: Upgraded) -> Result<TlsStream<TokioIo<Upgraded>>, Unaccepted> {
    let authority = room.authority.as_ref().ok_or_else(|| "the door has no authority".to_owned())?;
    let late = |_| format!("TLS did not begin within {} s", room.read_timeout.as_secs_f32());
    let deadline = Instant::now() + room.read_timeout;
    let mut acceptor = LazyConfigAcceptor::new(Acceptor::default(), TokioIo::new(upgraded));
    let start = match timeout_at(deadline, &mut acceptor).await.map_err(late)? {
        Ok(start) => start,
        Err(error) => {
            if error.kind() == std::io::ErrorKind::InvalidData
                && let Some(mut stream) = acceptor.take_io()
            {
                let answer = format!("HTTP/1.1 403 Forbidden\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{NO_TLS}", NO_TLS.len());
                // It may have gone, or not read.
                let _ = timeout_at(deadline, stream.write_all(answer.as_bytes())).await;
                let _ = timeout_at(deadline, stream.shutdown()).await;
                return Err(Unaccepted::Denied("a door carries only TLS in a tunnel"));
            }
            return Err(error.to_string().into());
        }
    };
    let sni = start.client_hello().server_name().map(str::to_owned);
    if !tunnel.is_named(sni.as_deref()) {
        return Err(Unaccepted::Denied("TLS names another host than CONNECT"));
    }
    let config = authority.config(&tunnel.host)?;
    timeout_at(deadline, start.into_stream(config)).await.map_err(late)?.map_err(|error| error.to_string().into())
}

#[cfg(test)]
mod tests {
    use super::{Tunnel, Uri};

    fn read(text: &str) -> Option<Tunnel> {
        text.parse::<Uri>().ok().and_then(|uri| Tunnel::parse(&uri).ok())
    }

    #[test]
    fn only_a_host_and_a_port_are_a_tunnel() {
        for (text, whole, authority) in [
            ("api.example.org:443", "api.example.org:443", "api.example.org"),
            ("API.example.org:8443", "api.example.org:8443", "api.example.org:8443"),
            ("127.0.0.1:443", "127.0.0.1:443", "127.0.0.1"),
            ("[2001:db8::7]:443", "[2001:db8::7]:443", "[2001:db8::7]"),
        ] {
            let tunnel = read(text).unwrap_or_else(|| panic!("{text}"));
            assert_eq!((tunnel.whole().as_str(), tunnel.authority().as_str()), (whole, authority));
        }
        for text in [
            "api.example.org",
            "api.example.org:",
            "api.example.org:0",
            "api.example.org:0443",
            "api.example.org:65536",
            "a@b.example:443",
            "b.example:443/",
            "https://b.example:443",
            "b.example:443?x",
            "b.example.:443",
            "2130706433:443",
            "127.1:443",
            "0x7f.0.0.1:443",
            "[::ffff:127.0.0.1%25lo]:443",
            "[0:0:0:0:0:0:0:1]:443",
            "b_c.example:443",
            "b..example:443",
            "b.example:443:443",
            "*:443",
            "/x",
            "b.example%2e:443",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn any_connect_target_is_read_one_way_or_refused() {
        const PARTS: &[&str] = &[
            "a",
            "example",
            ".",
            "..",
            "org",
            ":",
            "443",
            "8443",
            "0",
            "1",
            "127.0.0.1",
            "[",
            "]",
            "::1",
            "@",
            "/",
            "?",
            "#",
            "%41",
            "%2e",
            "xn--",
            "-",
            "_",
            "*",
            "0x7f",
            "65536",
            "http://",
            "https://",
            "A",
            "\\",
            " ",
            "localhost",
        ];
        let mut state = 11_u64;
        let mut next = |most: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            usize::try_from(state >> 33).unwrap() % most
        };
        let mut read_ones = 0;
        for _ in 0..crate::leak::cases() {
            let mut text: String = (0..next(6)).map(|_| PARTS[next(PARTS.len())]).collect();
            if next(2) == 0 {
                text.push_str(":443");
            }
            let Some(tunnel) = read(&text) else { continue };
            read_ones += 1;
            // It is what was written, it reads as itself, and another reader finds the same host and port.
            assert!(tunnel.whole().eq_ignore_ascii_case(&text), "{text}");
            assert_eq!(read(&tunnel.whole()).as_ref(), Some(&tunnel), "{text}");
            let other = reqwest::Url::parse(&format!("https://{text}/")).unwrap();
            assert_eq!(other.host_str().unwrap(), tunnel.host.to_string(), "{text}");
            assert_eq!(other.port_or_known_default(), Some(tunnel.port), "{text}");
        }
        assert!(read_ones > crate::leak::cases() / 100, "{read_ones}");
    }
}
