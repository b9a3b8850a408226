//! Which headers pass a door.

use aedile_core::Redactor;
use hyper::header::{ACCEPT, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};

/// From the box to the provider. Everything else (keys, cookies, forwarding, the client's own telemetry) stays here.
const OUT: [HeaderName; 4] =
    [CONTENT_TYPE, ACCEPT, HeaderName::from_static("anthropic-version"), HeaderName::from_static("anthropic-beta")];
/// From the provider to the box, besides the rate limits.
const BACK: [HeaderName; 8] = [
    CONTENT_TYPE,
    CONTENT_ENCODING,
    CACHE_CONTROL,
    RETRY_AFTER,
    HeaderName::from_static("retry-after-ms"),
    HeaderName::from_static("x-should-retry"),
    HeaderName::from_static("request-id"),
    HeaderName::from_static("x-request-id"),
];
const RATE_LIMITS: [&str; 2] = ["anthropic-ratelimit-", "x-ratelimit-"];

/// Returns the headers of a request that go on to the provider.
pub(crate) fn outward(headers: &HeaderMap) -> HeaderMap {
    kept(headers, |name| OUT.contains(name))
}

/// Whether a request asks for a larger window than the model's usual one (`anthropic-beta: context-1m-...`).
pub(crate) fn wants_wider_window(headers: &HeaderMap) -> bool {
    headers.get_all("anthropic-beta").iter().any(|value| value.as_bytes().windows(8).any(|part| part.eq_ignore_ascii_case(b"context-")))
}

/// Returns the headers of an answer that go on into the box, without those that hold a secret.
pub(crate) fn back(headers: &HeaderMap, redactor: &dyn Redactor) -> HeaderMap {
    let passes = |name: &HeaderName| BACK.contains(name) || RATE_LIMITS.iter().any(|prefix| name.as_str().starts_with(prefix));
    let mut kept = kept(headers, passes);
    let holds_secret = |value: &HeaderValue| redactor.redact_bytes(value.as_bytes()).is_some();
    let bad: Vec<HeaderName> = kept.iter().filter(|(_, value)| holds_secret(value)).map(|(name, _)| name.clone()).collect();
    for name in bad {
        kept.remove(name);
    }
    kept
}

fn kept(headers: &HeaderMap, passes: impl Fn(&HeaderName) -> bool) -> HeaderMap {
    headers.iter().filter(|(name, _)| passes(name)).map(|(name, value)| (name.clone(), value.clone())).collect()
}
