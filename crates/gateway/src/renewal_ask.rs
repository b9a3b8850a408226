//! Asks a token endpoint for an access token (RFC 6749, section 6): one request to an address that was looked at, one bounded answer, no redirect.
//!
//! Nothing of the answer's text is repeated: it may hold what was sent.

use std::time::Duration;

use aedile_core::limits::{DOOR_HEADER_BYTES_MAX, DOOR_HEADER_LINES_MAX};
use aedile_core::{ExposeSecret, SecretString};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper::header::{ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue, USER_AGENT};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::time::timeout;
use zeroize::Zeroizing;

use crate::error::Refused;
use crate::inject::percent;
use crate::policy::Target;
use crate::proxy_send::{addresses, dial};
use crate::safe::{ClientAuth, OAuth, check_text};
use crate::tls_roots::Roots;

/// From the name to the last byte of the answer.
const ASK_TIMEOUT: Duration = Duration::from_secs(30);
/// The largest answer, in bytes.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// Errors that servers name; any other word is not repeated.
const ERRORS: [&str; 8] = [
    "invalid_request",
    "invalid_client",
    "invalid_grant",
    "unauthorized_client",
    "unsupported_grant_type",
    "invalid_scope",
    "bad_refresh_token",
    "incorrect_client_credentials",
];

/// What a token endpoint gave.
pub(crate) struct Answer {
    pub(crate) access_token: SecretString,
    /// How long it lasts, where the server says so.
    pub(crate) life: Option<Duration>,
    /// What takes the place of the refresh token.
    pub(crate) refresh_token: Option<SecretString>,
}

/// Why there is no token.
#[derive(Default)]
pub(crate) struct Unanswered {
    /// Holds nothing secret.
    pub(crate) why: String,
    /// The server has refused: asking again does not help.
    pub(crate) lasting: bool,
    /// What takes the place of the refresh token all the same.
    pub(crate) refresh_token: Option<SecretString>,
}

fn later(why: impl Into<String>) -> Unanswered {
    Unanswered { why: why.into(), ..Unanswered::default() }
}

/// Asks once.
pub(crate) async fn ask(roots: &Roots, grant: &OAuth) -> Result<Answer, Unanswered> {
    let target = grant.endpoint().map_err(|why| Unanswered { why: format!("it {why}"), lasting: true, ..Unanswered::default() })?;
    let asked = timeout(ASK_TIMEOUT, exchange(roots, grant, &target)).await;
    let (status, body) = asked.map_err(|_| later(format!("it gave no whole answer within {} s", ASK_TIMEOUT.as_secs())))??;
    read(status, &body)
}

async fn exchange(roots: &Roots, grant: &OAuth, target: &Target) -> Result<(StatusCode, Bytes), Unanswered> {
    let refused = |refused: Refused| later(refused.sentence());
    let wire = dial(roots, target, &addresses(target).await.map_err(refused)?).await.map_err(refused)?;
    let broken = |error: hyper::Error| later(format!("it did not answer as a web server does: {error}"));
    let (mut sender, connection) = http1::Builder::new()
        .max_buf_size(DOOR_HEADER_BYTES_MAX)
        .max_headers(DOOR_HEADER_LINES_MAX)
        .handshake(TokioIo::new(wire))
        .await
        .map_err(broken)?;
    let request = request(grant, target)?;
    let answered = async {
        let response = sender.send_request(request).await.map_err(broken)?;
        let status = response.status();
        let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
        let body = body.map_err(|_| later(format!("its answer broke off or has more than {ANSWER_BYTES_MAX} bytes")))?;
        Ok((status, body.to_bytes()))
    };
    // The connection lives as long as the exchange.
    let mut connection = std::pin::pin!(connection);
    let mut answered = std::pin::pin!(answered);
    tokio::select! {
        answer = &mut answered => answer,
        _ = &mut connection => answered.await,
    }
}

fn request(grant: &OAuth, target: &Target) -> Result<Request<Full<Bytes>>, Unanswered> {
    let bad = |what: &str| Unanswered { why: format!("the {what} cannot be sent"), lasting: true, ..Unanswered::default() };
    let path = target.query.as_ref().map_or_else(|| target.path.clone(), |query| format!("{}?{query}", target.path));
    let in_header = grant.client_secret.as_ref().filter(|_| grant.client_auth == ClientAuth::Basic);
    let mut request = Request::new(Full::new(Bytes::from(form(grant, in_header.is_none()))));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = path.parse().map_err(|_| bad("path of its token endpoint"))?;
    let headers = request.headers_mut();
    headers.insert(HOST, HeaderValue::from_str(&target.authority()).map_err(|_| bad("host of its token endpoint"))?);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
    headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    headers.insert(USER_AGENT, HeaderValue::from_static(concat!("aedile/", env!("CARGO_PKG_VERSION"))));
    if let Some(secret) = in_header {
        // Both are encoded as in a form first (RFC 6749, section 2.3.1).
        let pair = Zeroizing::new(format!("{}:{}", percent(&grant.client_id), percent(secret.expose_secret())));
        let line = Zeroizing::new(format!("Basic {}", BASE64.encode(pair.as_bytes())));
        let mut line = HeaderValue::from_str(&line).map_err(|_| bad("client secret"))?;
        line.set_sensitive(true);
        headers.insert(AUTHORIZATION, line);
    }
    Ok(request)
}

fn form(grant: &OAuth, client: bool) -> String {
    let mut form = format!("grant_type=refresh_token&refresh_token={}", percent(grant.refresh_token.expose_secret()));
    if client {
        form.push_str("&client_id=");
        form.push_str(&percent(&grant.client_id));
        if let Some(secret) = &grant.client_secret {
            form.push_str("&client_secret=");
            form.push_str(&percent(secret.expose_secret()));
        }
    }
    if let Some(scope) = &grant.scope {
        form.push_str("&scope=");
        form.push_str(&percent(scope));
    }
    form
}

fn secret<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<SecretString>, D::Error> {
    Ok(Option::<String>::deserialize(deserializer)?.map(SecretString::from))
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Raw {
    #[serde(deserialize_with = "secret")]
    access_token: Option<SecretString>,
    #[serde(deserialize_with = "secret")]
    refresh_token: Option<SecretString>,
    token_type: Option<String>,
    expires_in: Option<Seconds>,
    error: Option<String>,
}

/// Some servers write the number as a string.
#[derive(Deserialize)]
#[serde(untagged)]
enum Seconds {
    Number(f64),
    Text(String),
}

impl Seconds {
    fn duration(&self) -> Option<Duration> {
        let seconds = match self {
            Self::Number(seconds) => *seconds,
            Self::Text(text) => text.trim().parse().ok()?,
        };
        Duration::try_from_secs_f64(seconds.max(0.0)).ok()
    }
}

fn read(status: StatusCode, body: &[u8]) -> Result<Answer, Unanswered> {
    if status.is_redirection() {
        return Err(Unanswered {
            why: format!("it answered with {} and leads elsewhere, where nothing is sent", status.as_u16()),
            lasting: true,
            ..Unanswered::default()
        });
    }
    let raw: Option<Raw> = serde_json::from_slice(body).ok();
    if let Some(error) = raw.as_ref().and_then(|raw| raw.error.as_deref()) {
        let word = ERRORS.iter().find(|known| **known == error).copied().unwrap_or("with an error that is not repeated here");
        let server = status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS;
        return Err(Unanswered {
            why: format!("it refused the refresh token ({}, {word})", status.as_u16()),
            lasting: !server,
            ..Unanswered::default()
        });
    }
    if !status.is_success() {
        let lasting = status.is_client_error() && ![StatusCode::TOO_MANY_REQUESTS, StatusCode::REQUEST_TIMEOUT].contains(&status);
        return Err(Unanswered { why: format!("it answered with {}", status.as_u16()), lasting, ..Unanswered::default() });
    }
    // What the server gave instead of the spent one is kept, whatever else is wrong with the answer.
    let next = serde_json::from_slice(body).ok().and_then(|Next { refresh_token }| refresh_token);
    let next = next.filter(|token| check_text(token.expose_secret()).is_ok());
    token(raw).map_err(|failed| Unanswered { refresh_token: next, ..failed })
}

/// The one field of an answer that must not be lost.
#[derive(Deserialize)]
struct Next {
    #[serde(default, deserialize_with = "secret")]
    refresh_token: Option<SecretString>,
}

fn token(raw: Option<Raw>) -> Result<Answer, Unanswered> {
    let raw = raw.ok_or_else(|| later("its answer is no JSON of a token"))?;
    if raw.token_type.as_ref().is_some_and(|kind| !kind.eq_ignore_ascii_case("bearer")) {
        return Err(Unanswered { why: "it gave a token that is no bearer token".to_owned(), lasting: true, ..Unanswered::default() });
    }
    let access_token = raw.access_token.ok_or_else(|| later("its answer holds no access token"))?;
    for (what, token) in [("access", Some(&access_token)), ("refresh", raw.refresh_token.as_ref())] {
        if let Some(Err(wrong)) = token.map(|token| check_text(token.expose_secret())) {
            return Err(later(format!("it gave a {what} token that {wrong}")));
        }
    }
    Ok(Answer { access_token, life: raw.expires_in.as_ref().and_then(Seconds::duration), refresh_token: raw.refresh_token })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, body: &str) -> Result<(String, Option<u64>, bool), (String, bool)> {
        let read = read(StatusCode::from_u16(status).unwrap(), body.as_bytes());
        let read = read.map(|answer| {
            (answer.access_token.expose_secret().to_owned(), answer.life.map(|life| life.as_secs()), answer.refresh_token.is_some())
        });
        read.map_err(|failed| (failed.why, failed.lasting))
    }

    #[test]
    fn answers_are_read_as_servers_write_them() {
        assert_eq!(answer(200, r#"{"access_token":"a","token_type":"Bearer","expires_in":3600}"#), Ok(("a".to_owned(), Some(3600), false)));
        assert_eq!(
            answer(200, r#"{"access_token":"a","expires_in":"90","refresh_token":"r","x":[]}"#),
            Ok(("a".to_owned(), Some(90), true))
        );
        assert_eq!(answer(200, r#"{"access_token":"a","expires_in":-5,"refresh_token":null}"#), Ok(("a".to_owned(), Some(0), false)));
        assert_eq!(answer(200, r#"{"access_token":"a"}"#), Ok(("a".to_owned(), None, false)));
    }

    #[test]
    fn a_failure_says_nothing_of_what_the_server_wrote() {
        for (status, body, part, lasting) in [
            (400, r#"{"error":"invalid_grant","error_description":"token hush-hush expired"}"#, "invalid_grant", true),
            (200, r#"{"error":"bad_refresh_token"}"#, "bad_refresh_token", true),
            (400, r#"{"error":"hush-hush"}"#, "not repeated", true),
            (503, r#"{"error":"invalid_request"}"#, "503", false),
            (429, "hush-hush", "429", false),
            (403, "hush-hush", "403", true),
            (302, "hush-hush", "elsewhere", true),
            (200, "hush-hush", "no JSON", false),
            (200, r#"{"token":"hush-hush"}"#, "no access token", false),
            (200, r#"{"access_token":"hush-hush\n"}"#, "visible", false),
            (200, r#"{"access_token":"a","refresh_token":"hush hush "}"#, "refresh token", false),
            (200, r#"{"access_token":"hush-hush","token_type":"mac"}"#, "bearer", true),
        ] {
            let (why, lasts) = answer(status, body).unwrap_err();
            assert!(why.contains(part) && lasts == lasting && !why.contains("hush"), "{body}: {why}");
        }
    }

    #[test]
    fn what_replaces_the_refresh_token_outlives_a_wrong_answer() {
        for body in [
            r#"{"access_token":"a","refresh_token":"next","token_type":"bot"}"#,
            r#"{"refresh_token":"next"}"#,
            r#"{"access_token":"a b\n","refresh_token":"next"}"#,
            r#"{"access_token":7,"refresh_token":"next","token_type":1}"#,
        ] {
            let failed = read(StatusCode::OK, body.as_bytes()).err().unwrap();
            assert_eq!(failed.refresh_token.as_ref().map(ExposeSecret::expose_secret), Some("next"), "{body}");
        }
        for (status, body) in [
            (StatusCode::BAD_REQUEST, r#"{"error":"invalid_grant","refresh_token":"next"}"#),
            (StatusCode::FOUND, r#"{"refresh_token":"next"}"#),
            (StatusCode::OK, r#"{"refresh_token":"not one\nword"}"#),
        ] {
            assert!(read(status, body.as_bytes()).err().unwrap().refresh_token.is_none(), "{body}");
        }
        assert!(read(StatusCode::CREATED, br#"{"access_token":"a"}"#).is_ok());
    }
}
