//! Reads from the web for an agent: GET, from listed hosts, at an address that was looked at first.

use std::io::Read;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use aedile_core::Redactor;
use aedile_core::agent_api::AgentReply;
use encoding_rs::Encoding;
use flate2::read::MultiGzDecoder;
use reqwest::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, LOCATION, USER_AGENT};
use tokio::time::timeout;

use crate::address::special;
use crate::fetch_rules::{FetchRules, Target};
use crate::passages::Outcome;
use crate::passing::Passing;
use crate::vault::Vault;

/// The largest body that is read, and that is unpacked.
const BODY_BYTES_MAX: usize = 4 * 1024 * 1024;
/// How long a name server may take.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(10);
/// Media types that are text although they are not `text/`.
const TEXT_TYPES: &[&str] = &["json", "xml", "yaml", "toml", "javascript", "x-sh", "x-ndjson"];

/// Fetches, or says in a sentence why not.
pub(crate) async fn fetch(rules: &FetchRules, vault: &Vault, text: &str, passing: &Passing) -> AgentReply {
    match timeout(rules.timeout(), attempt(rules, vault, text, passing)).await {
        Ok(Ok(reply)) => reply,
        Ok(Err(message)) => AgentReply::Refused { message },
        Err(_) => AgentReply::Refused { message: format!("the host did not give its whole answer within {} s", rules.timeout().as_secs()) },
    }
}

async fn attempt(rules: &FetchRules, vault: &Vault, text: &str, passing: &Passing) -> Result<AgentReply, String> {
    passing.fetches(Outcome::Denied);
    let target = rules.target(text)?;
    refuse_secrets(vault, text, &target)?;
    passing.fetches(Outcome::Failed);
    let addresses = addresses(&target).await?;
    let mut response = request(&target, &addresses).await?;
    passing.fetches(Outcome::Passed);
    let status = response.status().as_u16();
    let headers = response.headers().clone();
    let header = |name| headers.get(name).and_then(|value| value.to_str().ok());
    if response.status().is_redirection() {
        let to = header(LOCATION).and_then(|location| target.url.join(location).ok());
        let to = to.map_or_else(|| "nowhere".to_owned(), |to| to.to_string());
        return Ok(AgentReply::Fetched { status, content_type: String::new(), redirected_to: Some(to), cut: false, text: String::new() });
    }
    let content_type = header(CONTENT_TYPE).unwrap_or("text/plain").to_owned();
    if !is_text(&content_type) {
        let kind: String = content_type.chars().take(100).collect();
        return Err(format!("{} answered with {kind:?}, and only text is read", target.host));
    }
    let (bytes, cut) = body(&mut response).await?;
    let (bytes, more) = unpacked(bytes, &headers)?;
    Ok(AgentReply::Fetched { status, text: decoded(&bytes, &content_type), content_type, redirected_to: None, cut: cut || more })
}

/// What leaves is the URL; nothing that is secret may be in it, in any form.
fn refuse_secrets(vault: &Vault, text: &str, target: &Target) -> Result<(), String> {
    let path_and_query = format!("{}?{}", target.url.path(), target.url.query().unwrap_or_default());
    let decoded = percent_decoded(&path_and_query);
    let found =
        [text, target.url.as_str()].into_iter().any(|text| vault.redact_text(text).is_some()) || vault.redact_bytes(&decoded).is_some();
    if found { Err("the URL holds a secret, so nothing was sent".to_owned()) } else { Ok(()) }
}

/// The bytes behind `%XX`; everything else as it is written.
pub(crate) fn percent_decoded(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let hex = tail.get(..2).and_then(|pair| std::str::from_utf8(pair).ok()).and_then(|pair| u8::from_str_radix(pair, 16).ok());
        match (*first, hex) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            (byte, _) => {
                bytes.push(byte);
                rest = tail;
            }
        }
    }
    bytes
}

/// Resolves the name once. One address that is not public spoils them all.
async fn addresses(target: &Target) -> Result<Vec<SocketAddr>, String> {
    if let Some(address) = target.literal {
        return Ok(vec![SocketAddr::new(address, target.port)]);
    }
    let host = &target.host;
    let found = timeout(RESOLVE_TIMEOUT, tokio::net::lookup_host((host.as_str(), target.port))).await;
    let found: Vec<SocketAddr> = found
        .map_err(|_| format!("the name {host} was not resolved within {} s", RESOLVE_TIMEOUT.as_secs()))?
        .map_err(|error| format!("the name {host} cannot be resolved: {error}"))?
        .collect();
    let bad = found.iter().find_map(|address| special(address.ip()).map(|what| (address.ip(), what)));
    match bad {
        Some((address, what)) => Err(refused_address(host, address, what)),
        None if found.is_empty() => Err(format!("the name {host} has no address")),
        None => Ok(found),
    }
}

fn refused_address(host: &str, address: IpAddr, what: &str) -> String {
    format!(
        "{host} leads to {address}, which belongs to {what} and is not read from. A server of this machine is listed by its address, such as \
         127.0.0.1:8080, in `[fetch] hosts` of aedile.toml"
    )
}

async fn request(target: &Target, addresses: &[SocketAddr]) -> Result<reqwest::Response, String> {
    // A proxy would resolve the name again.
    let client =
        reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).resolve_to_addrs(&target.host, addresses);
    let client = if target.url.scheme() == "http" { client.tls_certs_only([]) } else { client.https_only(true) };
    let client = client.build().map_err(|error| format!("the HTTP client cannot be set up: {error}"))?;
    let sent = client
        .get(target.url.clone())
        .header(USER_AGENT, concat!("aedile/", env!("CARGO_PKG_VERSION")))
        .header(ACCEPT, "text/html, text/plain, text/markdown, application/json;q=0.9, */*;q=0.5")
        .header(ACCEPT_ENCODING, "gzip")
        .send()
        .await;
    sent.map_err(|error| format!("{} was not read: {}", target.host, crate::upstream::describe(error)))
}

/// Reads up to the limit; says whether there was more.
async fn body(response: &mut reqwest::Response) -> Result<(Vec<u8>, bool), String> {
    let mut bytes = Vec::new();
    loop {
        match response.chunk().await {
            Ok(None) => return Ok((bytes, false)),
            Ok(Some(piece)) => {
                let room = BODY_BYTES_MAX - bytes.len();
                bytes.extend_from_slice(&piece[..piece.len().min(room)]);
                if piece.len() > room {
                    return Ok((bytes, true));
                }
            }
            Err(error) => return Err(format!("the answer broke off: {}", crate::upstream::describe(error))),
        }
    }
}

/// Unpacks what we said we take, in bounded memory.
fn unpacked(bytes: Vec<u8>, headers: &HeaderMap) -> Result<(Vec<u8>, bool), String> {
    let mut encodings = headers.get_all(CONTENT_ENCODING).iter();
    match (encodings.next().map(|value| value.as_bytes().to_ascii_lowercase()), encodings.next()) {
        (None, _) => Ok((bytes, false)),
        (Some(one), None) if one == b"identity" => Ok((bytes, false)),
        (Some(one), None) if one == b"gzip" => {
            let mut plain = Vec::new();
            let read = MultiGzDecoder::new(bytes.as_slice()).take(BODY_BYTES_MAX as u64 + 1).read_to_end(&mut plain);
            let more = plain.len() > BODY_BYTES_MAX;
            plain.truncate(BODY_BYTES_MAX);
            match read {
                // A body that was cut ends within its packing; what came is worth reading.
                Err(error) if plain.is_empty() => Err(format!("the answer cannot be unpacked: {error}")),
                Err(_) => Ok((plain, true)),
                Ok(_) => Ok((plain, more)),
            }
        }
        _ => Err("the answer is packed in a way that was not asked for".to_owned()),
    }
}

fn is_text(content_type: &str) -> bool {
    let kind = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let sub = kind.strip_prefix("application/").unwrap_or_default();
    kind.starts_with("text/") || TEXT_TYPES.iter().any(|text| sub == *text || sub.ends_with(&format!("+{text}")))
}

fn decoded(bytes: &[u8], content_type: &str) -> String {
    let charset = content_type.split(';').skip(1).find_map(|part| {
        let (name, value) = part.split_once('=')?;
        name.trim().eq_ignore_ascii_case("charset").then(|| value.trim().trim_matches('"').to_owned())
    });
    let encoding = charset.and_then(|label| Encoding::for_label(label.as_bytes())).unwrap_or(encoding_rs::UTF_8);
    encoding.decode(bytes).0.into_owned()
}
