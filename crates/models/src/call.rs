//! One request to a provider over HTTP: sent, tried again while nothing has been answered, read as a stream.

use std::sync::Arc;
use std::time::Duration;

use aedile_core::limits::{DOOR_BODY_BYTES_MAX, MODEL_ANSWER_BYTES_MAX, MODEL_SILENT_MAX, MODEL_TRIES_MAX, RETRY_AFTER_MAX};
use aedile_core::model::{DeltaSink, ModelDelta, ModelError, ModelResponse};
use aedile_core::{Clock, Entropy, ExposeSecret, SecretString};
use bytes::Bytes;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use serde_json::Value;

use crate::anthropic::ANTHROPIC_VERSION;
use crate::format::ApiFormat;
use crate::grant::DOWN_ERROR;
use crate::sse::{SseEvent, SseParser};
use crate::{portable, retry};

/// Characters of a provider's error text that are passed on.
const ERROR_CHARS_MAX: usize = 2000;
/// Bytes of an error answer that are read.
const ERROR_BYTES_MAX: usize = 64 * 1024;
/// A line of a stream that must be looked at as a whole.
const LINE_BYTES_MAX: usize = crate::sse::SSE_EVENT_BYTES_MAX;

/// Where a provider is and how it is reached.
#[derive(Clone)]
pub struct Endpoint {
    /// The base URL, with or without `/v1`; see [`crate::ApiFormat::url`].
    pub base_url: String,
    /// The key; local providers need none.
    pub key: Option<SecretString>,
    /// The HTTP client, shared by all endpoints; see [`client_for`].
    pub client: reqwest::Client,
    /// Reads the dates of `Retry-After`.
    pub clock: Arc<dyn Clock>,
    /// Makes the waits between tries differ.
    pub entropy: Arc<dyn Entropy>,
}

impl Endpoint {
    /// Asks a model for a stream; `make` starts a new reader for each try. The answer is signed with whose it is.
    pub(crate) async fn ask<R: AnswerReader>(
        &self,
        (format, model): (ApiFormat, &str),
        body: &Value,
        make: impl Fn() -> R + Send + Sync,
        sink: &mut dyn DeltaSink,
    ) -> Result<ModelResponse, ModelError> {
        let url = format.url(&self.base_url, &format.chat_method(model, true));
        let call = Call { endpoint: self, url, headers: self.headers(format)?, body: body.to_string().into() };
        let answer = call.run(make, sink).await;
        answer.map(|answer| portable::signed(answer, portable::origin(format, model)))
    }

    /// The headers of a request in the format, with the key where it wants it.
    fn headers(&self, format: ApiFormat) -> Result<HeaderMap, ModelError> {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if format == ApiFormat::Anthropic {
            headers.insert(HeaderName::from_static("anthropic-version"), HeaderValue::from_static(ANTHROPIC_VERSION));
        }
        let Some(key) = self.key.as_ref().map(ExposeSecret::expose_secret) else { return Ok(headers) };
        let (name, value) = match format {
            ApiFormat::Anthropic => (HeaderName::from_static("x-api-key"), secret_header(key)?),
            ApiFormat::Gemini => (HeaderName::from_static("x-goog-api-key"), secret_header(key)?),
            ApiFormat::OpenAi | ApiFormat::Responses | ApiFormat::Ollama => (AUTHORIZATION, secret_header(&format!("Bearer {key}"))?),
        };
        headers.insert(name, value);
        Ok(headers)
    }
}

/// Makes a header value that is never printed.
fn secret_header(text: &str) -> Result<HeaderValue, ModelError> {
    let mut value = HeaderValue::from_str(text).map_err(|_| {
        ModelError::Protocol("the key holds characters that no header may hold; check the key for spaces and line ends".to_owned())
    })?;
    value.set_sensitive(true);
    Ok(value)
}

/// Makes the HTTP client for the given base URLs. It follows no redirects. When all of them are plain `http` no root
/// certificates are loaded and no proxy is asked for. A rustls crypto provider must have been installed by the program.
///
/// # Errors
/// The client cannot be set up, for example because the system's certificates cannot be read.
pub fn client_for<'a>(base_urls: impl IntoIterator<Item = &'a str>) -> Result<reqwest::Client, reqwest::Error> {
    let plain = base_urls.into_iter().all(|url| url.starts_with("http://"));
    if plain { plain_client().build() } else { any_client().build() }
}

fn any_client() -> reqwest::ClientBuilder {
    reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(Duration::from_secs(30))
        .pool_idle_timeout(Duration::from_secs(60))
}

/// For plain `http` alone.
pub(crate) fn plain_client() -> reqwest::ClientBuilder {
    any_client().no_proxy().tls_certs_only([])
}

/// How the pieces of a stream are set apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Framing {
    /// Server-sent events.
    Events,
    /// A JSON object a line.
    Lines,
}

/// Collects an answer from events.
pub(crate) trait AnswerReader: Send {
    /// How the stream is cut; a line is given as an event without a name.
    const FRAMING: Framing = Framing::Events;
    /// Takes one event of the stream.
    fn event(&mut self, event: &SseEvent, sink: &mut dyn DeltaSink) -> Result<(), Problem>;
    /// Takes a whole answer that came as plain JSON.
    fn whole(&mut self, answer: Value, sink: &mut dyn DeltaSink) -> Result<(), Problem>;
    /// Whether a piece of content has come, so that another try would say things twice.
    fn begun(&self) -> bool;
    /// Returns the answer; `None` when the end was not seen.
    fn finish(self) -> Option<Result<ModelResponse, Problem>>;
}

/// What can be wrong within an answer.
#[derive(Debug)]
pub(crate) enum Problem {
    /// The provider reports an error.
    Provider(ProviderError),
    /// The bytes are not in the provider's format.
    Protocol(String),
}

/// An error object of a provider.
#[derive(Debug)]
pub(crate) struct ProviderError {
    /// HTTP status, or the one that the error's type stands for.
    pub(crate) status: u16,
    /// The `type` (or `code`) of the error.
    pub(crate) kind: String,
    /// The provider's words.
    pub(crate) message: String,
    /// How long to wait before the next try, where the error itself says so.
    pub(crate) after: Option<Duration>,
    /// The model that a door names in place of one whose provider is down.
    pub(crate) next: Option<String>,
}

impl ProviderError {
    /// Reads the error object that providers put under `error` (a bare text and `message`/`detail` are understood too).
    pub(crate) fn from_json(answer: &Value, status: Option<u16>) -> Option<Self> {
        // Some answer with a list of one.
        let answer = answer.get(0).unwrap_or(answer);
        let error = match answer.get("error") {
            Some(Value::Null) | None => status.map(|_| answer)?,
            Some(error) => error,
        };
        let text = |name: &str| error.get(name).and_then(Value::as_str);
        let kind = text("type").or_else(|| text("code")).or_else(|| text("status")).unwrap_or_default().to_owned();
        let code = error.get("code").and_then(Value::as_u64).and_then(|code| u16::try_from(code).ok());
        let message = error.as_str().or_else(|| text("message")).or_else(|| text("detail"));
        let message = message.map_or_else(|| error.to_string(), str::to_owned);
        let status = status.or(code.filter(|code| (400..600).contains(code)));
        let status = status.unwrap_or_else(|| status_of(&kind));
        let next = text("next").filter(|_| kind == DOWN_ERROR).map(str::to_owned);
        Some(Self { status, kind, message: shorten(&message), after: retry_delay(error), next })
    }

    fn into_failure(self, after: Option<Duration>) -> Failure {
        if let Some(next) = self.next {
            Failure::Final(ModelError::Down { message: self.message, next })
        } else if self.kind == "budget_exceeded" && matches!(self.status, 402 | 429) {
            Failure::Final(ModelError::OverBudget { message: self.message })
        } else if retry::status_is_retryable(self.status) && self.kind != "insufficient_quota" {
            Failure::Retry { reason: format!("{}: {}", self.status, self.message), after: after.or(self.after) }
        } else {
            Failure::Final(ModelError::Refused { status: self.status, message: self.message })
        }
    }
}

/// The wait that Google's APIs put among the details of an error, for example `"retryDelay": "34s"`.
fn retry_delay(error: &Value) -> Option<Duration> {
    let details = error.get("details").and_then(Value::as_array).into_iter().flatten();
    let delay = details.filter_map(|detail| detail.get("retryDelay")?.as_str()?.strip_suffix('s')).next()?;
    Duration::try_from_secs_f64(delay.parse().ok()?).ok()
}

/// The status that stands for an error type within a stream, where there is none.
fn status_of(kind: &str) -> u16 {
    match kind {
        "invalid_request_error" => 400,
        "authentication_error" => 401,
        "billing_error" | "budget_exceeded" | "insufficient_quota" => 402,
        "permission_error" => 403,
        "not_found_error" => 404,
        "request_too_large" => 413,
        "rate_limit_error" | "rate_limit_exceeded" => 429,
        "overloaded_error" => 529,
        "invalid_prompt" | "invalid_image" | "INVALID_ARGUMENT" | "FAILED_PRECONDITION" => 400,
        "UNAUTHENTICATED" => 401,
        "PERMISSION_DENIED" => 403,
        "NOT_FOUND" => 404,
        "RESOURCE_EXHAUSTED" => 429,
        _ => 500,
    }
}

enum Failure {
    Final(ModelError),
    Retry { reason: String, after: Option<Duration> },
}

/// A request that is ready to be sent, as often as needed.
struct Call<'a> {
    endpoint: &'a Endpoint,
    url: String,
    headers: HeaderMap,
    body: Bytes,
}

impl Call<'_> {
    /// Sends the request until it is answered; `make` starts a new reader for each try.
    async fn run<R: AnswerReader>(
        &self,
        make: impl Fn() -> R + Send + Sync,
        sink: &mut dyn DeltaSink,
    ) -> Result<ModelResponse, ModelError> {
        let mut tries = 0;
        loop {
            tries += 1;
            let (reason, after) = match self.attempt(make(), sink).await {
                Ok(response) => return Ok(response),
                Err(Failure::Final(error)) => return Err(error),
                Err(Failure::Retry { reason, after }) => (reason, after),
            };
            if tries >= MODEL_TRIES_MAX {
                return Err(ModelError::Exhausted { tries, last: reason });
            }
            let Some(after) = retry::wait_before(tries + 1, after, &*self.endpoint.entropy) else {
                let asked = after.unwrap_or_default().as_secs();
                let last = format!("{reason} (it asks to wait {asked} s; at most {} s are waited)", RETRY_AFTER_MAX.as_secs());
                return Err(ModelError::Exhausted { tries, last });
            };
            tracing::info!(attempt = tries + 1, wait_ms = after.as_millis(), reason, "model request is tried again");
            sink.delta(ModelDelta::Retrying { attempt: tries + 1, after, reason });
            tokio::time::sleep(after).await;
        }
    }

    async fn attempt<R: AnswerReader>(&self, reader: R, sink: &mut dyn DeltaSink) -> Result<ModelResponse, Failure> {
        let request = self.endpoint.client.post(&self.url).headers(self.headers.clone()).body(self.body.clone());
        let sent = tokio::time::timeout(MODEL_SILENT_MAX, request.send()).await;
        let response = match sent {
            Err(_) => return Err(retry_soon(format!("no answer within {} s", MODEL_SILENT_MAX.as_secs()))),
            Ok(Err(error)) if error.is_builder() => {
                let message = format!("the address {} cannot be used: {}; check the base URL", self.url, describe(error));
                return Err(Failure::Final(ModelError::Protocol(message)));
            }
            Ok(Err(error)) => return Err(retry_soon(format!("cannot reach the model provider: {}", describe(error)))),
            Ok(Ok(response)) => response,
        };
        if !response.status().is_success() {
            return Err(self.refusal(response).await);
        }
        let kind = response.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        if kind.starts_with("application/json") {
            read_json(response, reader, sink).await
        } else {
            read_stream(response, reader, sink).await
        }
    }

    async fn refusal(&self, response: reqwest::Response) -> Failure {
        let status = response.status().as_u16();
        let after = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
        let after = after.and_then(|value| retry::parse_retry_after(value, self.endpoint.clock.now()));
        let body = read_limited(response, ERROR_BYTES_MAX).await.unwrap_or_default();
        let parsed = serde_json::from_slice::<Value>(&body).ok();
        let error = parsed.and_then(|answer| ProviderError::from_json(&answer, Some(status)));
        let error = error.unwrap_or_else(|| {
            let text = String::from_utf8_lossy(&body);
            let message = if text.trim().is_empty() { "no explanation".to_owned() } else { shorten(text.trim()) };
            ProviderError { status, kind: String::new(), message, after: None, next: None }
        });
        error.into_failure(after)
    }
}

/// Cuts a stream into the pieces that a reader takes.
enum Splitter {
    Events(SseParser),
    Lines(Vec<u8>),
}

impl Splitter {
    fn feed(&mut self, bytes: &[u8], each: &mut dyn FnMut(SseEvent)) -> Result<(), String> {
        let rest = match self {
            Self::Events(parser) => return parser.feed(bytes, each).map_err(|error| error.to_string()),
            Self::Lines(rest) => rest,
        };
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            if rest.len() + piece.len() > LINE_BYTES_MAX {
                return Err(format!("one line of the stream is larger than {LINE_BYTES_MAX} bytes"));
            }
            rest.extend_from_slice(piece);
            if rest.ends_with(b"\n") {
                let line = String::from_utf8_lossy(rest.trim_ascii()).into_owned();
                rest.clear();
                if !line.is_empty() {
                    each(SseEvent { name: String::new(), data: line });
                }
            }
        }
        Ok(())
    }
}

async fn read_stream<R: AnswerReader>(
    mut response: reqwest::Response,
    mut reader: R,
    sink: &mut dyn DeltaSink,
) -> Result<ModelResponse, Failure> {
    let mut parser = match R::FRAMING {
        Framing::Events => Splitter::Events(SseParser::new()),
        Framing::Lines => Splitter::Lines(Vec::new()),
    };
    let mut passed = 0;
    let cut = loop {
        let chunk = match tokio::time::timeout(MODEL_SILENT_MAX, response.chunk()).await {
            Err(_) => break format!("nothing came for {} s", MODEL_SILENT_MAX.as_secs()),
            Ok(Err(error)) => break describe(error),
            Ok(Ok(None)) => break "the stream ended before the answer did".to_owned(),
            Ok(Ok(Some(chunk))) => chunk,
        };
        passed += chunk.len();
        if passed > MODEL_ANSWER_BYTES_MAX {
            let endless = format!("the answer does not end within {MODEL_ANSWER_BYTES_MAX} bytes");
            return Err(Failure::Final(ModelError::Protocol(endless)));
        }
        let mut problem = None;
        let fed = parser.feed(&chunk, &mut |event| {
            if problem.is_none() {
                problem = reader.event(&event, sink).err();
            }
        });
        if let Some(problem) = problem {
            return Err(failure_of(problem, reader.begun()));
        }
        fed.map_err(|error| Failure::Final(ModelError::Protocol(error)))?;
    };
    let begun = reader.begun();
    match reader.finish() {
        Some(answer) => answer.map_err(|problem| failure_of(problem, begun)),
        None if begun => Err(Failure::Final(ModelError::Cut(cut))),
        None => Err(retry_soon(cut)),
    }
}

async fn read_json<R: AnswerReader>(
    response: reqwest::Response,
    mut reader: R,
    sink: &mut dyn DeltaSink,
) -> Result<ModelResponse, Failure> {
    let body = read_limited(response, DOOR_BODY_BYTES_MAX).await.map_err(retry_soon)?;
    let protocol = |message: String| Failure::Final(ModelError::Protocol(message));
    let answer: Value = serde_json::from_slice(&body).map_err(|error| protocol(format!("its JSON is broken: {error}")))?;
    reader.whole(answer, sink).map_err(|problem| failure_of(problem, false))?;
    match reader.finish() {
        Some(answer) => answer.map_err(|problem| failure_of(problem, true)),
        None => Err(protocol("it holds no message".to_owned())),
    }
}

async fn read_limited(mut response: reqwest::Response, max: usize) -> Result<Vec<u8>, String> {
    let mut body = Vec::new();
    loop {
        match tokio::time::timeout(MODEL_SILENT_MAX, response.chunk()).await {
            Err(_) => return Err(format!("nothing came for {} s", MODEL_SILENT_MAX.as_secs())),
            Ok(Err(error)) => return Err(describe(error)),
            Ok(Ok(None)) => return Ok(body),
            Ok(Ok(Some(chunk))) => {
                body.extend_from_slice(&chunk[..chunk.len().min(max - body.len())]);
                if body.len() == max {
                    return Ok(body);
                }
            }
        }
    }
}

/// An error of the provider within a stream that had begun is a cut: saying it again would say the beginning twice.
fn failure_of(problem: Problem, begun: bool) -> Failure {
    match problem {
        Problem::Protocol(message) => Failure::Final(ModelError::Protocol(message)),
        Problem::Provider(error) => match error.into_failure(None) {
            Failure::Retry { reason, .. } if begun => Failure::Final(ModelError::Cut(reason)),
            failure => failure,
        },
    }
}

fn retry_soon(reason: String) -> Failure {
    Failure::Retry { reason, after: None }
}

/// The error and its causes, without the URL, which may hold credentials.
pub(crate) fn describe(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    text
}

fn shorten(text: &str) -> String {
    if text.chars().count() <= ERROR_CHARS_MAX {
        text.to_owned()
    } else {
        text.chars().take(ERROR_CHARS_MAX).chain("...".chars()).collect()
    }
}
