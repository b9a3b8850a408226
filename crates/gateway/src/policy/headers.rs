//! Which headers a request may have: those that two servers would read in two ways, or that lead elsewhere, are refused.

use super::{Refusal, Target};

/// Headers that replace the method, the host or the path behind the back of whoever checked them.
const MISLEADING: &[&str] = &[
    "x-http-method-override",
    "x-http-method",
    "x-method-override",
    "x-original-url",
    "x-rewrite-url",
    "x-forwarded-host",
    "x-forwarded-server",
    "x-host",
    "x-original-host",
    "x-http-host-override",
    "forwarded",
    "x-forwarded-prefix",
    "x-forwarded-uri",
    "x-forwarded-path",
    "x-forwarded-method",
    "x-original-uri",
    "x-original-method",
    "x-envoy-original-path",
    "x-override-url",
];
/// Headers of the connection, which are the gateway's own.
const CONNECTION: &[&str] =
    &["upgrade", "http2-settings", "proxy-connection", "proxy-authorization", "proxy-authenticate", "keep-alive-proxy", "te-proxy"];
/// Headers that may stand only once.
const ONCE: &[&str] = &[
    "host",
    "upgrade",
    "sec-websocket-key",
    "content-length",
    "content-type",
    "content-encoding",
    "transfer-encoding",
    "authorization",
    "content-location",
];

/// Further headers that mean something to whoever passes a request on.
const OWN: &[&str] = &["connection", "upgrade", "te", "trailer", "expect", "cookie", "proxy-connection", "proxy-authorization"];

/// Checks the headers of a request with a body of so many bytes. `upgrades`: it asks for a WebSocket, and was looked at for that.
pub(super) fn check(headers: &[(String, String)], target: &Target, body: usize, upgrades: bool) -> Result<(), Refusal> {
    for (name, value) in headers {
        check_one(name, value, upgrades)?;
    }
    let all = |wanted: &str| {
        headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case(wanted)).map(|(_, value)| value.as_str()).collect::<Vec<_>>()
    };
    if let Some(name) = ONCE.iter().find(|name| all(name).len() > 1) {
        return Err(Refusal::new("header.twice", format!("the header {name} stands more than once")));
    }
    if let [host] = all("host").as_slice() {
        let usual = if target.secure { 443 } else { 80 };
        let port = format!("{}:{}", target.host, target.port);
        let lower = host.to_ascii_lowercase();
        if lower != port && (target.port != usual || lower != target.host.to_string()) {
            return Err(Refusal::new("header.host", "the Host header names another host than the URL"));
        }
    }
    let (length, coding) = (all("content-length"), all("transfer-encoding"));
    if !length.is_empty() && !coding.is_empty() {
        return Err(Refusal::new("header.framing", "the request tells its length in two ways"));
    }
    if let [length] = length.as_slice()
        && (!length.bytes().all(|byte| byte.is_ascii_digit()) || length.parse() != Ok(body))
    {
        return Err(Refusal::new("header.framing", "the Content-Length is not that of the body"));
    }
    if let [coding] = coding.as_slice()
        && !coding.eq_ignore_ascii_case("chunked")
    {
        return Err(Refusal::new("header.framing", "the Transfer-Encoding is not `chunked`"));
    }
    Ok(())
}

fn check_one(name: &str, value: &str, upgrades: bool) -> Result<(), Refusal> {
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if name.is_empty() || !name.bytes().all(token) {
        return Err(Refusal::new("header.name", "the name of a header holds characters that it may not hold"));
    }
    if value.bytes().any(|byte| (byte < b' ' && byte != b'\t') || byte == 0x7f) {
        return Err(Refusal::new("header.value", format!("the header {name} holds a line end or another control character")));
    }
    let lower = name.to_ascii_lowercase();
    // `X_Original_Url` becomes the same variable as `X-Original-Url` in many servers.
    let plain = lower.replace('_', "-");
    if MISLEADING.contains(&plain.as_str()) || (lower != plain && (ONCE.contains(&plain.as_str()) || OWN.contains(&plain.as_str()))) {
        return Err(Refusal::new("header.misleading", format!("the header {name} would change what was checked")));
    }
    if upgrades && ["upgrade", "connection"].contains(&lower.as_str()) {
        return Ok(());
    }
    if CONNECTION.contains(&lower.as_str()) || (lower == "connection" && value.to_ascii_lowercase().contains("upgrade")) {
        return Err(Refusal::new("header.connection", format!("the header {name} is the connection's, which is the gateway's own")));
    }
    Ok(())
}
