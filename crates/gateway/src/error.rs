//! Answers of the door's own.

use std::time::Duration;

use aedile_core::Timestamp;
use aedile_core::model::ModelRef;
use aedile_core::policy::LayerName;
use aedile_models::Down;
use aedile_models::grant::DOWN_ERROR;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use hyper::{Response, StatusCode};
use serde_json::json;

use crate::body::{DoorBody, full};
use crate::denials::Denial;
use crate::passages::Outcome;

/// Marks an answer of the door's own, before which the request's body may not have been read.
#[derive(Clone, Copy)]
pub(crate) struct Ours;

/// A refusal: a status, the kind of error and a sentence. Its form is understood by the clients of every wire format.
#[derive(Debug)]
pub(crate) struct Refused {
    status: StatusCode,
    kind: &'static str,
    message: String,
    /// When the same request may pass.
    after: Option<Duration>,
    /// The model that can be asked instead.
    next: Option<String>,
    /// The rule that denies it.
    rule: Option<String>,
    /// The layer of the rule.
    layer: Option<LayerName>,
    /// Whether the rule asks a person.
    asked: bool,
}

impl Refused {
    fn new(status: StatusCode, kind: &'static str, message: impl Into<String>) -> Self {
        Self { status, kind, message: message.into(), after: None, next: None, rule: None, layer: None, asked: false }
    }

    /// The provider, or the model, is left alone for now. `next` is said to a client that can change to it.
    pub(crate) fn down(what: &str, down: &Down, now: Timestamp, next: Option<&ModelRef>) -> Self {
        // Whole seconds, rounded up: a client that comes back earlier would be refused again.
        // While another request tries it, the time is over: a second is still waited.
        let seconds = down.again.since(now).as_micros().div_ceil(1_000_000).try_into().unwrap_or(u64::MAX);
        let after = Duration::from_secs(seconds.max(1));
        let message = format!(
            "{what} is left alone by all agents since it failed, and tried again in {} s; it answered last: {}",
            after.as_secs(),
            down.why
        );
        let kind = if next.is_some() { DOWN_ERROR } else { "overloaded_error" };
        let refused = Self::new(StatusCode::SERVICE_UNAVAILABLE, kind, message);
        Self { after: Some(after), next: next.map(ToString::to_string), ..refused }
    }

    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_request_error", message)
    }

    pub(crate) fn forbidden(message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "permission_error", message)
    }

    /// A rule denies it; the sentence begins with the rule's name.
    pub(crate) fn denied(rule: &str, why: impl std::fmt::Display) -> Self {
        Self { rule: Some(rule.to_owned()), ..Self::forbidden(format!("{rule}: {why}")) }
    }

    /// A rule asks a person about it; that is no denial yet.
    pub(crate) fn asked(rule: &str, why: impl std::fmt::Display) -> Self {
        Self { asked: true, ..Self::denied(rule, why) }
    }

    /// The same, by a rule of this layer.
    pub(crate) fn in_layer(self, layer: Option<LayerName>) -> Self {
        Self { layer, ..self }
    }

    /// What was denied by a rule.
    pub(crate) fn denial(&self) -> Option<Denial> {
        self.rule.as_ref().filter(|_| !self.asked).map(|rule| Denial { layer: self.layer, rule: rule.clone(), why: self.message.clone() })
    }

    pub(crate) fn no_proxy() -> Self {
        Self::bad_request("a door is no proxy: name only the path in the request line")
    }

    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found_error", message)
    }

    pub(crate) fn method() -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "invalid_request_error", "a door takes only GET and POST")
    }

    pub(crate) fn length_required() -> Self {
        let message = "a door takes only bodies with a Content-Length and no Transfer-Encoding";
        Self::new(StatusCode::LENGTH_REQUIRED, "invalid_request_error", message)
    }

    pub(crate) fn too_large(max: usize) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "request_too_large", format!("the body has more than {max} bytes, the limit of a door"))
    }

    pub(crate) fn too_slow() -> Self {
        Self::new(StatusCode::REQUEST_TIMEOUT, "timeout_error", "the body did not come in time")
    }

    pub(crate) fn busy(max: usize) -> Self {
        let message = format!("{max} requests are under way through this door already; try again when one has ended");
        Self::new(StatusCode::TOO_MANY_REQUESTS, "rate_limit_error", message)
    }

    /// More than the policy's requests in a minute.
    pub(crate) fn too_many(per_minute: u64, after: Duration) -> Self {
        let message = format!("limits.requests_per_minute: {per_minute} requests to other hosts may go in a minute; try again later");
        let refused = Self::new(StatusCode::TOO_MANY_REQUESTS, "rate_limit_error", message);
        let after = Some(Duration::from_secs(after.as_secs_f64().ceil() as u64));
        Self { after, rule: Some("limits.requests_per_minute".to_owned()), ..refused }
    }

    pub(crate) fn budget(message: impl Into<String>) -> Self {
        Self::new(StatusCode::PAYMENT_REQUIRED, "budget_exceeded", message)
    }

    pub(crate) fn upstream(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_GATEWAY, "api_error", message)
    }

    pub(crate) fn store(message: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "api_error", message)
    }

    /// What the log says of it: what became of the request, and the rule with its layer.
    pub(crate) fn outcome(&self) -> (Outcome, Option<LayerName>, Option<&str>) {
        let outcome = match &self.rule {
            Some(_) if self.asked => Outcome::Asked,
            Some(_) => Outcome::Denied,
            None => Outcome::Failed,
        };
        (outcome, self.layer, self.rule.as_deref())
    }

    /// What is wrong, for where there is no answer to say it in.
    pub(crate) fn sentence(&self) -> &str {
        &self.message
    }

    pub(crate) fn into_response(self) -> Response<DoorBody> {
        let mut body = json!({"type": "error", "error": {"type": self.kind, "message": self.message}});
        if let Some(next) = self.next {
            body["error"]["next"] = next.into();
        }
        if let Some(rule) = self.rule {
            body["error"]["rule"] = rule.into();
        }
        if let Some(layer) = self.layer {
            body["error"]["layer"] = layer.as_str().into();
        }
        let mut response = Response::new(full(body.to_string()));
        *response.status_mut() = self.status;
        response.extensions_mut().insert(Ours);
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        match self.status {
            StatusCode::METHOD_NOT_ALLOWED => drop(headers.insert(ALLOW, HeaderValue::from_static("GET, POST"))),
            StatusCode::TOO_MANY_REQUESTS => drop(headers.insert(RETRY_AFTER, HeaderValue::from_static("1"))),
            _ => {}
        }
        if let Some(after) = self.after {
            headers.insert(RETRY_AFTER, HeaderValue::from(after.as_secs()));
        }
        response
    }
}
