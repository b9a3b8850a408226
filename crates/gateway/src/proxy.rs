//! The HTTP proxy of a door: a request is read whole, decided over, resolved once and sent to an address that was looked at.
//!
//! It comes in absolute form in plain text, or inside a tunnel whose TLS ends here ([`crate::proxy_tunnel`]). What the client said of the
//! connection ends here; the request that goes out is written anew from the parts that were judged. Redirects are passed on, not followed.
//! Values of the vault are taken out of the answer as it flows.

use std::sync::Arc;

use aedile_core::limits::DOOR_BODY_BYTES_MAX;
use aedile_core::policy::LayerName;
use hyper::body::Incoming;
use hyper::header::{CONNECTION, CONTENT_TYPE, COOKIE, HOST, HeaderMap, HeaderName, IF_RANGE, RANGE, UPGRADE};
use hyper::http::request::Parts;
use hyper::upgrade::OnUpgrade;
use hyper::{Method, Request, Response, Version};
use tokio::sync::OwnedSemaphorePermit;

use crate::body::{self, DoorBody};
use crate::door::Room;
use crate::error::Refused;
use crate::passing::Passing;
use crate::policy::{self, SecretRule, Target};
use crate::proxy_answer::answer;
use crate::proxy_send::send;
use crate::proxy_tunnel::Tunnel;
use crate::{inject, proxy_websocket};

/// A larger body is looked at on a thread of its own.
pub(crate) const BODY_AT_ONCE_BYTES_MAX: usize = 64 * 1024;

/// Passes a request on and its answer back. `tunnel` is what it came through, if not in plain text.
pub(crate) async fn pass(
    room: Arc<Room>,
    tunnel: Option<&Tunnel>,
    request: Request<Incoming>,
    permit: OwnedSemaphorePermit,
    passing: &Arc<Passing>,
) -> Result<Response<DoorBody>, Refused> {
    room.allowance.request()?;
    let (mut head, incoming) = request.into_parts();
    let upgrade = head.extensions.remove::<OnUpgrade>();
    let url = match tunnel {
        None => plain_url(&head)?,
        Some(tunnel) => inner_url(tunnel, &head)?,
    };
    let headers = asked_headers(&head.headers)?;
    let body = body::read_packed(&head.headers, incoming, DOOR_BODY_BYTES_MAX, room.read_timeout).await?;
    let asked = policy::Request { method: head.method.as_str().to_owned(), url, headers, body };
    let Judged { mut asked, mut target, layer, rule, secrets } = decide(&room, asked).await?;
    // What goes out from here is `asked` to `target`: nothing behind this line looks at what the client sent.
    let plain = target.clone();
    let secrets = renewed(&room, secrets, &asked, &target).await?;
    let used = inject::fill(&secrets, &mut asked, &mut target)?;
    for (secret, source) in used.iter().filter_map(|secret| Some((secret, secret.ask.as_ref()?))) {
        room.ask(Some(source.layer), &format!("{} {}", source.key("secrets.ask"), secret.name), &asked.method, &plain).await?;
    }
    passing.by(layer, &rule, &used);
    room.used(&used, &asked.method, &target, &rule).await?;
    passing.sends(asked.size());
    if let Some(upgrade) = upgrade.filter(|_| head.headers.contains_key(UPGRADE)) {
        return proxy_websocket::pass(room, target, asked, upgrade, permit, passing).await;
    }
    let (response, line) = send(&room, &target, asked).await?;
    answer(room, &target, response, line, head.method == Method::HEAD, permit)
}

/// The secrets with the access tokens that the request is to carry. Where a person is to be asked first, nothing is got before that.
async fn renewed(
    room: &Arc<Room>,
    secrets: Arc<[SecretRule]>,
    asked: &policy::Request,
    target: &Target,
) -> Result<Arc<[SecretRule]>, Refused> {
    let wanted = inject::wanted(&secrets, asked, target);
    if wanted.is_empty() {
        return Ok(secrets);
    }
    let mut values = Vec::new();
    for secret in wanted {
        if let Some(source) = &secret.ask {
            room.ask(Some(source.layer), &format!("{} {}", source.key("secrets.ask"), secret.name), &asked.method, target).await?;
        }
        values.push((secret.name.clone(), room.vault.renewals().token(&secret.name, room).await?));
    }
    let with_value = |secret: &SecretRule| {
        let value = values.iter().find(|(name, _)| *name == secret.name).map(|(_, value)| value.clone());
        value.map_or_else(|| secret.clone(), |value| SecretRule { value, ..secret.clone() })
    };
    Ok(secrets.iter().map(with_value).collect())
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
    let uri = &head.uri;
    let form = |why| Err(Refused::denied("proxy.form", why));
    if !uri.path().starts_with('/') {
        return form("inside a tunnel a request names a path");
    }
    if head.version == Version::HTTP_2 {
        if uri.scheme_str() != Some("https") {
            return form("inside a tunnel the scheme of a request is https");
        }
        if !uri.authority().is_some_and(|authority| tunnel.is(authority.as_str().as_bytes())) {
            return Err(Refused::denied("header.host", "the request names another host than CONNECT"));
        }
    } else {
        if uri.scheme().is_some() || uri.authority().is_some() {
            return form("inside a tunnel the request line names only the path");
        }
        if !head.headers.contains_key(HOST) {
            return Err(Refused::denied("header.host", "the request has no Host header"));
        }
    }
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    Ok(format!("https://{}{path}", tunnel.authority()))
}

/// The headers as they were written, without those that speak to the proxy itself.
fn asked_headers(headers: &HeaderMap) -> Result<Vec<(String, String)>, Refused> {
    let upgrades = headers.contains_key(UPGRADE);
    let of_connection = headers.get_all(CONNECTION).iter().flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    let known = |token: &[u8]| {
        [&b""[..], b"close", b"keep-alive", b"te"]
            .iter()
            .chain(upgrades.then_some(&&b"upgrade"[..]))
            .any(|word| token.eq_ignore_ascii_case(word))
    };
    if !of_connection.map(<[u8]>::trim_ascii).all(known) {
        let why = "the Connection header may say only close or keep-alive: leave the rest out";
        return Err(Refused::denied("header.connection", why));
    }
    if headers.get(CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().to_ascii_lowercase().starts_with(b"application/grpc")) {
        let why = "gRPC needs HTTP/2 up to the server, and a door speaks HTTP/1.1 to it: use the server's JSON interface";
        return Err(Refused::denied("proxy.grpc", why));
    }
    let mut asked: Vec<(String, String)> = Vec::new();
    // A part of an answer can hold a part of a value, which nothing finds in it: every answer comes whole.
    let goes = |name: &HeaderName| *name != "proxy-connection" && *name != RANGE && *name != IF_RANGE;
    for (name, value) in headers.iter().filter(|(name, _)| goes(name)) {
        let Ok(value) = std::str::from_utf8(value.as_bytes()) else {
            return Err(Refused::denied("header.value", format!("the header {name} is not UTF-8: encode its value")));
        };
        // HTTP/2 may send the cookies one by one; they are one header.
        match asked.iter_mut().find(|(known, _)| name == COOKIE && known == COOKIE.as_str()) {
            Some((_, cookies)) => *cookies = format!("{cookies}; {value}"),
            None => asked.push((name.as_str().to_owned(), value.to_owned())),
        }
    }
    Ok(asked)
}

/// A request that may pass: where to, by which rule, and the secrets that there are.
struct Judged {
    asked: policy::Request,
    target: Target,
    layer: Option<LayerName>,
    rule: String,
    secrets: Arc<[SecretRule]>,
}

/// Holds the request against the policy and the vault, and reads its URL the one way. The requests of one door are judged one after the other, so
/// that a box with large bodies keeps one processor busy and no other door waiting.
async fn decide(room: &Arc<Room>, asked: policy::Request) -> Result<Judged, Refused> {
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
    if !decision.allow && !decision.ask {
        return Err(Refused::denied(&decision.rule, decision.why).in_layer(decision.layer));
    }
    match Target::parse(decision.url.as_deref().unwrap_or_default()) {
        Err(refusal) => Err(Refused::denied(refusal.rule, refusal.why)),
        Ok(target) => {
            if decision.ask {
                room.ask(decision.layer, &decision.rule, &asked.method, &target).await?;
            }
            Ok(Judged { asked, target, layer: decision.layer, rule: decision.rule, secrets })
        }
    }
}

#[cfg(test)]
mod tests {
    use hyper::header::HOST;
    use hyper::{Request, Uri, Version};

    use super::{asked_headers, inner_url};
    use crate::policy::Target;
    use crate::proxy_tunnel::Tunnel;

    #[test]
    fn no_part_of_an_answer_is_asked_for() {
        let request = Request::builder().header("range", "bytes=0-10").header("If-Range", "x").header("accept", "*/*").body(()).unwrap();
        assert_eq!(asked_headers(request.headers()).unwrap(), [("accept".to_owned(), "*/*".to_owned())]);
    }

    #[test]
    fn any_request_inside_a_tunnel_is_for_its_host_or_refused() {
        const PARTS: &[&str] = &[
            "/",
            "//",
            "a.example",
            "b.example",
            ":443",
            ":80",
            "@",
            "?",
            "#",
            "a=b",
            "%2f",
            "..",
            "https://",
            "http://",
            "*",
            "[::1]",
            "evil",
            ";",
            "\\",
        ];
        let tunnel = Tunnel::parse(&Uri::from_static("a.example:443")).unwrap();
        let mut state = 3_u64;
        let mut next = |most: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            usize::try_from(state >> 33).unwrap() % most
        };
        let mut taken = [0, 0];
        for _ in 0..crate::leak::cases() {
            let begin = ["/", "https://a.example/", "https://a.example:443/", "https://", ""][next(5)];
            let text: String = std::iter::once(begin).chain((0..next(5)).map(|_| PARTS[next(PARTS.len())])).collect();
            let Ok(uri) = text.parse::<Uri>() else { continue };
            for (at, version) in [Version::HTTP_11, Version::HTTP_2].into_iter().enumerate() {
                let mut request = Request::builder().uri(uri.clone()).version(version).body(()).unwrap();
                request.headers_mut().insert(HOST, "a.example".parse().unwrap());
                let Ok(url) = inner_url(&tunnel, &request.into_parts().0) else { continue };
                taken[at] += 1;
                let Ok(target) = Target::parse(&url) else { continue };
                assert!(target.secure && target.host.to_string() == "a.example" && target.port == 443, "{text}: {target}");
            }
        }
        assert!(taken.iter().all(|count| *count > crate::leak::cases() / 20), "{taken:?}");
    }
}
