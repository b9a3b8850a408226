//! The HTTP proxy of a door: a request is read whole, decided over, resolved once and sent to an address that was looked at.
//!
//! It comes in absolute form in plain text, or inside a tunnel whose TLS ends here ([`crate::proxy_tunnel`]). What the client said of the
//! connection ends here; the request that goes out is written anew from the parts that were judged. Redirects are passed on, not followed.
//! Values of the vault are taken out of the answer as it flows.

use std::sync::Arc;

use aedile_core::limits::DOOR_BODY_BYTES_MAX;
use hyper::body::Incoming;
use hyper::header::{CONNECTION, HOST, HeaderMap};
use hyper::http::request::Parts;
use hyper::{Method, Request, Response};
use tokio::sync::OwnedSemaphorePermit;

use crate::body::{self, DoorBody};
use crate::door::Room;
use crate::error::Refused;
use crate::inject;
use crate::policy::{self, SecretRule, Target};
use crate::proxy_answer::answer;
use crate::proxy_send::send;
use crate::proxy_tunnel::Tunnel;

/// A larger body is looked at on a thread of its own.
const BODY_AT_ONCE_BYTES_MAX: usize = 64 * 1024;

/// Passes a request on and its answer back. `tunnel` is what it came through, if not in plain text.
pub(crate) async fn pass(
    room: Arc<Room>,
    tunnel: Option<&Tunnel>,
    request: Request<Incoming>,
    permit: OwnedSemaphorePermit,
) -> Result<Response<DoorBody>, Refused> {
    room.allowance.request()?;
    let (head, incoming) = request.into_parts();
    let url = match tunnel {
        None => plain_url(&head)?,
        Some(tunnel) => inner_url(tunnel, &head)?,
    };
    let headers = asked_headers(&head.headers)?;
    let body = body::read_packed(&head.headers, incoming, DOOR_BODY_BYTES_MAX, room.read_timeout).await?;
    let asked = policy::Request { method: head.method.as_str().to_owned(), url, headers, body };
    let (mut asked, mut target, rule, secrets) = decide(&room, asked).await?;
    // What goes out from here is `asked` to `target`: nothing behind this line looks at what the client sent.
    let used = inject::fill(&secrets, &mut asked, &mut target)?;
    room.used(&used, &asked.method, &target, &rule).await?;
    let (response, line) = send(&room, &target, asked).await?;
    answer(room, &target, response, line, head.method == Method::HEAD, permit)
}

/// The URL of a request in plain text.
fn plain_url(head: &Parts) -> Result<String, Refused> {
    match head.uri.scheme_str() {
        Some("http") => Ok(head.uri.to_string()),
        Some("https") => {
            let why = "an address with https:// is asked for through CONNECT, as programs do that are given the door as `https_proxy`";
            Err(Refused::denied("proxy.scheme", why))
        }
        _ => Err(Refused::denied("proxy.form", "ask for the whole address, with http://")),
    }
}

/// The URL of a request inside a tunnel: the tunnel's host, and only the path is the request's to say.
fn inner_url(tunnel: &Tunnel, head: &Parts) -> Result<String, Refused> {
    if head.uri.scheme().is_some() || head.uri.authority().is_some() || !head.uri.path().starts_with('/') {
        return Err(Refused::denied("proxy.form", "inside a tunnel the request line names only the path"));
    }
    if !head.headers.contains_key(HOST) {
        return Err(Refused::denied("header.host", "the request has no Host header"));
    }
    let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
    Ok(format!("https://{}{path}", tunnel.authority()))
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

/// Holds the request against the policy and the vault, and reads its URL the one way. The requests of one door are judged one after the other, so
/// that a box with large bodies keeps one processor busy and no other door waiting.
async fn decide(room: &Arc<Room>, asked: policy::Request) -> Result<(policy::Request, Target, String, Arc<[SecretRule]>), Refused> {
    let egress = room.network.clone().ok_or_else(Refused::no_proxy)?;
    let mut egress = egress.lock_owned().await;
    let secrets = egress.secrets();
    let large = asked.body.len() > BODY_AT_ONCE_BYTES_MAX;
    let judge = move || {
        let decision = egress.decide(&asked);
        (asked, decision)
    };
    let judged = if large { tokio::task::spawn_blocking(judge).await } else { Ok(judge()) };
    let (asked, decision) = judged.map_err(|error| Refused::store(format!("the request cannot be judged: {error}")))?;
    if !decision.allow {
        tracing::warn!(agent = %room.grant.who.agent, rule = decision.rule, "a request to another host was denied");
        return Err(Refused::denied(&decision.rule, decision.why));
    }
    match Target::parse(decision.url.as_deref().unwrap_or_default()) {
        Err(refusal) => Err(Refused::denied(refusal.rule, refusal.why)),
        Ok(target) => Ok((asked, target, decision.rule, secrets)),
    }
}
