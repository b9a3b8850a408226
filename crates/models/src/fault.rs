//! What an answer that is none says of its provider.

use std::time::Duration;

use aedile_core::Timestamp;
use aedile_core::limits::{BREAKER_PAUSE_MAX, RETRY_AFTER_MAX};
use serde_json::Value;

use crate::call::ProviderError;
use crate::retry::parse_retry_after;

/// Something is wrong with a provider, not with a request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fault {
    /// What happened, for people.
    pub why: String,
    /// What follows from it.
    pub kind: FaultKind,
    /// Of what it speaks.
    pub of: FaultOf,
}

/// What a fault speaks of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FaultOf {
    /// The whole provider: its server, its key, its account.
    Provider,
    /// The model that was asked: rate limits and permissions are given by model, and the others may answer.
    Model,
}

/// What follows from a fault.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FaultKind {
    /// It may be over with the next request; several in a row mean an outage.
    Passing,
    /// The provider itself says that it takes nothing before this has passed.
    Until(Duration),
    /// Only a person can help: a key that is refused, an account without money.
    Person,
}

impl Fault {
    /// Reads the fault from the status, the `Retry-After` and the beginning of the body of an answer. `None` when they speak of the
    /// request alone, or of a rate limit that is over soon.
    pub fn read(status: u16, retry_after: Option<&str>, body: &[u8], now: Timestamp) -> Option<(FaultKind, FaultOf)> {
        let said = serde_json::from_slice::<Value>(body).ok();
        let error = said.and_then(|answer| ProviderError::from_json(&answer, Some(status)));
        let kind = error.as_ref().map(|error| error.kind.as_str()).unwrap_or_default();
        let after = retry_after.and_then(|value| parse_retry_after(value, now)).or(error.as_ref().and_then(|error| error.after));
        let far = after.filter(|after| *after > RETRY_AFTER_MAX).map(|after| FaultKind::Until(after.min(BREAKER_PAUSE_MAX)));
        match status {
            401 => Some((FaultKind::Person, FaultOf::Provider)),
            429 if kind == "insufficient_quota" => Some((FaultKind::Person, FaultOf::Provider)),
            // A model that the account may not use, or cannot pay for.
            402 | 403 => Some((FaultKind::Person, FaultOf::Model)),
            429 => Some((far.or_else(|| after.is_none().then_some(FaultKind::Passing))?, FaultOf::Model)),
            // Not implemented is said of the request.
            501 => None,
            500.. => Some((far.unwrap_or(FaultKind::Passing), FaultOf::Provider)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_speaks_of_the_provider_is_a_fault() {
        let read = |status, after, body: &str| Fault::read(status, after, body.as_bytes(), Timestamp(0));
        for status in [500, 502, 503, 504, 529] {
            assert_eq!(read(status, None, "<html>"), Some((FaultKind::Passing, FaultOf::Provider)), "{status}");
        }
        for status in [400, 404, 408, 413, 422, 501] {
            assert_eq!(read(status, None, "{}"), None, "{status}");
        }
        for (status, of) in [(401, FaultOf::Provider), (402, FaultOf::Model), (403, FaultOf::Model)] {
            assert_eq!(read(status, None, ""), Some((FaultKind::Person, of)), "{status}");
        }
        assert_eq!(read(429, Some("7"), ""), None, "a limit that is over soon is waited for");
        assert_eq!(read(429, None, ""), Some((FaultKind::Passing, FaultOf::Model)));
        assert_eq!(read(429, Some("200"), ""), Some((FaultKind::Until(Duration::from_secs(200)), FaultOf::Model)));
        assert_eq!(
            read(503, Some("99999"), ""),
            Some((FaultKind::Until(BREAKER_PAUSE_MAX), FaultOf::Provider)),
            "it is tried again before"
        );
        let quota = r#"{"error": {"type": "insufficient_quota", "code": "insufficient_quota", "message": "no money"}}"#;
        assert_eq!(read(429, None, quota), Some((FaultKind::Person, FaultOf::Provider)));
        let google = r#"{"error": {"status": "RESOURCE_EXHAUSTED", "details": [{"retryDelay": "150s"}]}}"#;
        assert_eq!(read(429, None, google), Some((FaultKind::Until(Duration::from_secs(150)), FaultOf::Model)));
    }
}
