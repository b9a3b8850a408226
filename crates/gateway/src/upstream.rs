//! Where a model request goes: to the provider, or to a script that stands in for one.

use std::collections::VecDeque;

use aedile_core::limits::MODEL_SILENT_MAX;
use aedile_core::{ExposeSecret, SecretString};
use aedile_models::{ApiFormat, ModelBody, Script};
use bytes::Bytes;
use hyper::StatusCode;
use hyper::header::{ACCEPT_ENCODING, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};

/// What Anthropic wants in `anthropic-beta` beside a subscription's token.
const SUBSCRIPTION_BETA: &str = "oauth-2025-04-20";

/// Where a door's model requests go.
pub(crate) enum Upstream {
    /// A provider over HTTP.
    Provider(Endpoint),
    /// Written turns.
    Script(Script),
}

/// A provider as one door sees it.
pub(crate) struct Endpoint {
    pub(crate) name: String,
    pub(crate) format: ApiFormat,
    pub(crate) base_url: String,
    pub(crate) key: Option<SecretString>,
    /// The name of its key.
    pub(crate) key_name: Option<String>,
    /// The model's window, where it is known.
    pub(crate) context_tokens: Option<u64>,
    /// Whether the key is a subscription's token.
    pub(crate) token: bool,
    pub(crate) client: reqwest::Client,
}

/// Why there is no answer.
#[derive(Debug)]
pub(crate) enum NoAnswer {
    /// The provider was not reached.
    Unreached(String),
    /// The request was sent; what became of it is not known.
    Lost(String),
    /// Nobody waits for it any more; the request may have been sent.
    GivenUp(String),
    /// The request has a form that cannot be answered.
    Bad(String),
}

/// The head of an answer and its pieces.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pieces: Pieces,
}

enum Pieces {
    Http(reqwest::Response),
    Written(VecDeque<Bytes>),
}

impl Endpoint {
    /// Sends a request below the base URL with the real key; `method` may end with a query. `body` is `None` for a GET.
    pub(crate) async fn send(&self, method: &str, mut headers: HeaderMap, body: Option<Vec<u8>>) -> Result<Answer, NoAnswer> {
        self.inject(&mut headers).map_err(NoAnswer::Unreached)?;
        // Compressed answers could not be metered.
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        let url = self.format.url(&self.base_url, method);
        let request = match body {
            Some(body) => self.client.post(url).body(body),
            None => self.client.get(url),
        };
        let sent = tokio::time::timeout(MODEL_SILENT_MAX, request.headers(headers).send()).await;
        let response = match sent {
            Err(_) => return Err(NoAnswer::Lost(format!("{} did not answer within {} s", self.name, MODEL_SILENT_MAX.as_secs()))),
            Ok(Err(error)) if error.is_connect() || error.is_builder() => {
                return Err(NoAnswer::Unreached(format!("{} cannot be reached: {}", self.name, describe(error))));
            }
            Ok(Err(error)) => return Err(NoAnswer::Lost(format!("{} did not answer: {}", self.name, describe(error)))),
            Ok(Ok(response)) => response,
        };
        Ok(Answer { status: response.status(), headers: response.headers().clone(), pieces: Pieces::Http(response) })
    }

    fn inject(&self, headers: &mut HeaderMap) -> Result<(), String> {
        let Some(key) = &self.key else { return Ok(()) };
        if self.token {
            mark_subscription(headers);
        }
        let (name, value) = match self.format {
            ApiFormat::Anthropic if self.token => (AUTHORIZATION, format!("Bearer {}", key.expose_secret())),
            ApiFormat::Anthropic => (HeaderName::from_static("x-api-key"), key.expose_secret().to_owned()),
            ApiFormat::Gemini => (HeaderName::from_static("x-goog-api-key"), key.expose_secret().to_owned()),
            ApiFormat::OpenAi | ApiFormat::Responses | ApiFormat::Ollama => (AUTHORIZATION, format!("Bearer {}", key.expose_secret())),
        };
        let mut value = HeaderValue::from_str(&value)
            .map_err(|_| format!("the key of {} holds characters that no header may hold; check it for line ends", self.name))?;
        value.set_sensitive(true);
        headers.insert(name, value);
        Ok(())
    }
}

/// A subscription's token is only taken by a request that says so, besides whatever else it says.
fn mark_subscription(headers: &mut HeaderMap) {
    let name = HeaderName::from_static("anthropic-beta");
    let lines = headers.get_all(&name).iter().filter_map(|value| value.to_str().ok());
    let mut all: Vec<&str> = lines.flat_map(|line| line.split(',')).map(str::trim).filter(|beta| !beta.is_empty()).collect();
    if !all.contains(&SUBSCRIPTION_BETA) {
        all.push(SUBSCRIPTION_BETA);
    }
    let all = all.join(",");
    if let Ok(value) = HeaderValue::from_str(&all) {
        headers.insert(name, value);
    }
}

/// Plays the script's answer to the request.
pub(crate) async fn play(script: &Script, body: &ModelBody) -> Result<Answer, NoAnswer> {
    let written = script.answer(body).map_err(|bad| NoAnswer::Bad(bad.to_string()))?;
    tokio::time::sleep(written.wait).await;
    let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(written.content_type))]);
    Ok(Answer { status: StatusCode::OK, headers, pieces: Pieces::Written(written.chunks.into()) })
}

impl Answer {
    /// Returns the next piece, `None` at the end.
    pub(crate) async fn piece(&mut self) -> Result<Option<Bytes>, String> {
        match &mut self.pieces {
            Pieces::Written(pieces) => Ok(pieces.pop_front()),
            Pieces::Http(response) => match tokio::time::timeout(MODEL_SILENT_MAX, response.chunk()).await {
                Err(_) => Err(format!("nothing came for {} s", MODEL_SILENT_MAX.as_secs())),
                Ok(piece) => piece.map_err(describe),
            },
        }
    }

    /// Returns all that comes, up to `max` bytes.
    pub(crate) async fn rest(&mut self, max: usize) -> Result<Vec<u8>, String> {
        let mut bytes = Vec::new();
        while let Some(piece) = self.piece().await? {
            let room = max - bytes.len();
            bytes.extend_from_slice(&piece[..piece.len().min(room)]);
            if bytes.len() == max {
                break;
            }
        }
        Ok(bytes)
    }
}

/// The error and its causes, without the URL.
pub(crate) fn describe(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}
