//! Puts secrets in the place of what stands for them, behind the decision and the scan and before the request is written.
//!
//! The decision allowed a placeholder only in its secret's place; here it is replaced there and nowhere else. The value goes into the
//! request that is sent and into nothing else: no message, event or log of ours is made from a filled request.

use std::fmt::Write;

use aedile_core::ExposeSecret;
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;

use crate::error::Refused;
use crate::policy::{self, Place, SecretRule, Target};
use crate::sigv4;

/// Fills the request. Returns the secrets that it carries now.
///
/// # Errors
/// When a placeholder stands in its place in a form that cannot be filled; the sentence never holds a value.
pub(crate) fn fill<'a>(
    secrets: &'a [SecretRule],
    asked: &mut policy::Request,
    target: &mut Target,
) -> Result<Vec<&'a SecretRule>, Refused> {
    let mut used = Vec::new();
    // Also what the judge did not see is put nowhere else than where its secret may go.
    let bound: Vec<&SecretRule> = secrets.iter().filter(|secret| secret.is_bound_to(&asked.method, target) && has_value(secret)).collect();
    for secret in bound {
        let filled = match &secret.place {
            Place::Bearer => in_authorization(asked, |value| {
                let (scheme, rest) = value.split_at_checked("bearer ".len())?;
                let ours = scheme.eq_ignore_ascii_case("bearer ") && secret.stands_in(rest.as_bytes());
                ours.then(|| format!("{scheme}{}", secret.put(rest)))
            }),
            Place::Basic => in_authorization(asked, |value| {
                let plain = policy::basic(value).filter(|plain| secret.stands_in(plain.as_bytes()))?;
                Some(format!("{}{}", &value[.."basic ".len()], BASE64.encode(secret.put(&plain))))
            }),
            Place::Header(name) => in_header(secret, asked, name),
            Place::Query(name) => in_query(secret, target, name),
            Place::Json(pointer) => in_json(secret, asked, pointer)?,
            Place::SigV4 => sigv4::sign(secret, asked, target)?,
        };
        if filled {
            used.push(secret);
        }
    }
    Ok(used)
}

/// What is renewed has no value where no request was to carry it.
fn has_value(secret: &SecretRule) -> bool {
    !(secret.renews && secret.value.expose_secret().is_empty())
}

/// The secrets that have to be got before the request can be filled: they are renewed, and what stands for them is in it.
pub(crate) fn wanted<'a>(secrets: &'a [SecretRule], asked: &policy::Request, target: &Target) -> Vec<&'a SecretRule> {
    let stands = |secret: &SecretRule| {
        let held = |text: &str| secret.stands_in(text.as_bytes());
        let in_headers = || asked.headers.iter().any(|(_, value)| held(value) || policy::basic(value).is_some_and(|plain| held(&plain)));
        let in_body = || policy::unpacked(asked).is_ok_and(|body| secret.stands_in(&body));
        match &secret.place {
            Place::Query(_) => target.query.as_deref().is_some_and(held),
            Place::Json(_) => in_body(),
            _ => in_headers(),
        }
    };
    secrets.iter().filter(|secret| secret.renews && secret.is_bound_to(&asked.method, target) && stands(secret)).collect()
}

fn in_header(secret: &SecretRule, asked: &mut policy::Request, name: &str) -> bool {
    let held = |(header, value): &&mut (String, String)| header.eq_ignore_ascii_case(name) && secret.stands_in(value.as_bytes());
    let mut filled = false;
    for (_, value) in asked.headers.iter_mut().filter(held) {
        *value = secret.put(value);
        filled = true;
    }
    filled
}

/// Fills the `Authorization` header, where the rule says what it becomes.
fn in_authorization(asked: &mut policy::Request, filled: impl FnOnce(&str) -> Option<String>) -> bool {
    let header = asked.headers.iter_mut().find(|(name, _)| name.eq_ignore_ascii_case("authorization"));
    let Some((_, value)) = header else { return false };
    match filled(value) {
        Some(whole) => {
            *value = whole;
            true
        }
        None => false,
    }
}

fn in_query(secret: &SecretRule, target: &mut Target, name: &str) -> bool {
    let Some(query) = &target.query else { return false };
    let ours = |pair: &str| pair.split_once('=').is_some_and(|(known, value)| known == name && value == secret.placeholder);
    if !query.split('&').any(ours) {
        return false;
    }
    let fill = |pair: &str| if ours(pair) { format!("{name}={}", percent(secret.value.expose_secret())) } else { pair.to_owned() };
    target.query = Some(query.split('&').map(fill).collect::<Vec<_>>().join("&"));
    true
}

/// Everything but letters, digits and `-._~`, as RFC 3986 has it.
pub(crate) fn percent(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

/// Fills a string of a JSON body where it is written, so that everything else of the body stays as it was.
fn in_json(secret: &SecretRule, asked: &mut policy::Request, pointer: &str) -> Result<bool, Refused> {
    let body = policy::unpacked(asked).map_err(|refusal| Refused::denied(refusal.rule, refusal.why))?;
    let Ok(text) = std::str::from_utf8(&body) else { return Ok(false) };
    let written = format!("\"{}\"", secret.placeholder);
    match text.matches(secret.placeholder.as_str()).count() {
        0 => return Ok(false),
        _ if !secret.stands_in(text.as_bytes()) => return Ok(false),
        1 if text.contains(&written) => {}
        _ => {
            let why = format!("the placeholder of the secret {} must stand in the body once, as a whole string at {pointer}", secret.name);
            return Err(Refused::denied("secret.placeholder", why));
        }
    }
    let value = serde_json::to_string(secret.value.expose_secret()).unwrap_or_default();
    let body = text.replacen(&written, &value, 1).into_bytes();
    // What was replaced must be what the pointer names: the placeholder can be written there with escapes, and stand plainly somewhere else.
    let read: Option<serde_json::Value> = serde_json::from_slice(&body).ok();
    if read.as_ref().and_then(|read| read.pointer(pointer)).and_then(serde_json::Value::as_str) != Some(secret.value.expose_secret()) {
        let why =
            format!("the placeholder of the secret {} must stand plainly, without escapes, at {pointer} and nowhere else", secret.name);
        return Err(Refused::denied("secret.placeholder", why));
    }
    asked.body = body;
    asked
        .headers
        .retain(|(name, _)| !["content-length", "content-encoding", "content-md5"].iter().any(|gone| name.eq_ignore_ascii_case(gone)));
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::SecretsFile;

    const VALUE: &str = "s3cr/t+\"v\\al=ue&x";

    fn rules(place: &str) -> Vec<SecretRule> {
        let value = serde_json::to_string(VALUE).unwrap();
        let text = format!(
            "{{\"secret\": [{{\"name\": \"api\", \"value\": {value}, \"host\": \"api.example.org\", \"place\": \"{place}\", \"placeholder\": \"PLACEHOLDER-1\"}}]}}"
        );
        SecretsFile::parse(&text).unwrap().secrets
    }

    fn request(url: &str, headers: &[(&str, &str)], body: &[u8]) -> (policy::Request, Target) {
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let request = policy::Request { method: "POST".to_owned(), url: url.to_owned(), headers, body: body.to_vec() };
        (request, Target::parse(url).unwrap())
    }

    fn filled(place: &str, headers: &[(&str, &str)], body: &[u8]) -> (policy::Request, Vec<String>) {
        let rules = rules(place);
        let (mut asked, mut target) = request("https://api.example.org/v1", headers, body);
        let used = fill(&rules, &mut asked, &mut target).unwrap_or_default().into_iter().map(|secret| secret.name.clone()).collect();
        (asked, used)
    }

    #[test]
    fn headers_are_filled_in_their_place_and_nowhere_else() {
        let (asked, used) = filled("bearer", &[("Authorization", "Bearer PLACEHOLDER-1"), ("x-other", "PLACEHOLDER-1")], b"PLACEHOLDER-1");
        assert_eq!((asked.headers[0].1.as_str(), asked.headers[1].1.as_str()), (format!("Bearer {VALUE}").as_str(), "PLACEHOLDER-1"));
        assert_eq!((asked.body.as_slice(), used), (b"PLACEHOLDER-1".as_slice(), vec!["api".to_owned()]));
        let basic = format!("basic {}", BASE64.encode("user:PLACEHOLDER-1"));
        let (asked, _) = filled("basic", &[("authorization", &basic)], b"");
        assert_eq!(asked.headers[0].1, format!("basic {}", BASE64.encode(format!("user:{VALUE}"))));
        let (asked, _) = filled("header:x-key", &[("X-Key", "k PLACEHOLDER-1"), ("authorization", "Bearer PLACEHOLDER-1")], b"");
        assert_eq!((asked.headers[0].1.as_str(), asked.headers[1].1.as_str()), (format!("k {VALUE}").as_str(), "Bearer PLACEHOLDER-1"));
        for (place, header) in
            [("bearer", "Basic PLACEHOLDER-1"), ("basic", "Bearer PLACEHOLDER-1"), ("basic", "Basic not!base64"), ("bearer", "x")]
        {
            let (asked, used) = filled(place, &[("authorization", header)], b"");
            assert!(asked.headers[0].1 == header && used.is_empty(), "{place} {header}");
        }
    }

    #[test]
    fn a_parameter_is_filled_in_its_encoded_form() {
        let rules = rules("query:key");
        let (mut asked, mut target) = request("https://api.example.org/v1?a=PLACEHOLDER-1&key=PLACEHOLDER-1&key=x", &[], b"");
        let used = fill(&rules, &mut asked, &mut target).unwrap();
        assert!(matches!(used[..], [rule] if rule.name == "api"));
        assert_eq!(target.query.unwrap(), "a=PLACEHOLDER-1&key=s3cr%2Ft%2B%22v%5Cal%3Due%26x&key=x");
    }

    #[test]
    fn a_json_body_is_filled_where_it_is_written_also_when_it_is_packed() {
        let body = br#"{ "n": 1.0e5, "auth": {"token": "PLACEHOLDER-1"}}"#;
        let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        std::io::Write::write_all(&mut packer, body).unwrap();
        let packed = packer.finish().unwrap();
        for (coding, body) in [("identity", body.to_vec()), ("gzip", packed)] {
            let headers = [("content-encoding", coding), ("content-length", "9"), ("content-type", "application/json")];
            let (asked, used) = filled("json:/auth/token", &headers, &body);
            let text = String::from_utf8(asked.body).unwrap();
            assert_eq!(text, format!("{{ \"n\": 1.0e5, \"auth\": {{\"token\": {}}}}}", serde_json::to_string(VALUE).unwrap()));
            assert_eq!((asked.headers.len(), used.len()), (1, 1), "what tells the length goes");
        }
        let twice = br#"{"auth": {"token": "PLACEHOLDER-1"}, "b": "PLACEHOLDER-1"}"#;
        let rules = rules("json:/auth/token");
        for body in [&twice[..], br#"{"auth": {"token": "PLACEHOLDER-1 "}}"#] {
            let (mut asked, mut target) = request("https://api.example.org/v1", &[], body);
            assert!(fill(&rules, &mut asked, &mut target).is_err());
            assert_eq!(asked.body, body);
        }
    }

    /// What the judge lets pass and what is filled are one: whatever the header looks like, a value goes where its secret may go, and nowhere else.
    #[test]
    fn no_value_goes_where_its_secret_may_not() {
        let open = "[[network]]\nid = \"all\"\nhosts = [\"api.example.org\", \"other.example.org\"]\nmethods = [\"*\"]\nschemes = [\"http\", \"https\"]\n";
        let open = open.replace("methods = [\"*\"]\n", "methods = [\"POST\"]\n");
        let long = "u".repeat(6000);
        for scheme in ["Basic ", "basic ", "BASIC ", "Basic  ", "Basic \t", "Basic\t", "Basic"] {
            for user in ["user", long.as_str()] {
                let header = format!("{scheme}{}", BASE64.encode(format!("{user}:PLACEHOLDER-1")));
                for url in ["http://api.example.org/v1", "https://other.example.org/v1", "https://api.example.org/v1"] {
                    let secrets = rules("basic");
                    let (mut asked, mut target) = request(url, &[("authorization", &header)], b"");
                    let file = SecretsFile { secrets: secrets.clone() };
                    let decision = policy::Egress::new(policy::Policy::parse(&open).unwrap(), file).decide(&asked);
                    let used = fill(&secrets, &mut asked, &mut target).unwrap();
                    let bound = url == "https://api.example.org/v1";
                    assert!(bound || used.is_empty(), "{scheme:?} {url}");
                    assert_eq!(used.is_empty(), asked.headers[0].1 == header, "{scheme:?} {url}");
                    // A placeholder that the reader of `Basic` finds is an alarm where it may not go.
                    let read = policy::basic(&header).is_some();
                    assert_eq!(decision.rule == "secret.placeholder", read && !bound, "{scheme:?} {url}: {decision:?}");
                    assert_eq!(used.is_empty(), !(bound && read));
                }
            }
        }
    }

    #[test]
    fn a_placeholder_that_is_written_with_escapes_moves_no_value_to_another_field() {
        let rules = rules("json:/auth/token");
        for body in [
            r#"{"auth":{"token":"\u0050LACEHOLDER-1"},"title":"PLACEHOLDER-1"}"#,
            r#"{"title":"PLACEHOLDER-1","title":"x","auth":{"token":"\u0050LACEHOLDER-1"}}"#,
            r#"{"auth":{"token":"\u0050LACEHOLDER-1"},"PLACEHOLDER-1":1}"#,
        ] {
            let (mut asked, mut target) = request("https://api.example.org/v1", &[], body.as_bytes());
            assert!(fill(&rules, &mut asked, &mut target).is_err(), "{body}");
            assert_eq!(asked.body, body.as_bytes());
        }
    }

    #[test]
    fn a_placeholder_that_begins_another_is_not_taken_for_it() {
        let mut rules = rules("bearer");
        let longer = SecretRule {
            name: "admin".to_owned(),
            value: "other-value".into(),
            placeholder: "PLACEHOLDER-1-admin".to_owned(),
            ..rules[0].clone()
        };
        rules.push(longer);
        for (text, becomes, name) in [
            ("Bearer PLACEHOLDER-1-admin", "Bearer other-value".to_owned(), "admin"),
            ("Bearer PLACEHOLDER-1", format!("Bearer {VALUE}"), "api"),
            ("Bearer PLACEHOLDER-1, PLACEHOLDER-1.", format!("Bearer {VALUE}, {VALUE}."), "api"),
        ] {
            let (mut asked, mut target) = request("https://api.example.org/v1", &[("authorization", text)], b"");
            let used = fill(&rules, &mut asked, &mut target).unwrap();
            assert!(matches!(used[..], [rule] if rule.name == name));
            assert_eq!(asked.headers[0].1, becomes);
        }
    }

    #[test]
    fn any_request_holds_a_value_in_its_place_only() {
        const PARTS: &[&str] = &["PLACEHOLDER-1", "Bearer ", "Basic ", "key=", "&", "\"", "{", "}", ":", "a", "token", "%", "=", " "];
        let mut state = 3_u64;
        let mut next = |most: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            usize::try_from(state >> 33).unwrap() % most
        };
        for _ in 0..crate::leak::cases() {
            let place = ["bearer", "basic", "header:x-key", "query:key", "json:/token"][next(5)];
            let rules = rules(place);
            let mut text = |most: usize| (0..next(most)).map(|_| PARTS[next(PARTS.len())]).collect::<String>();
            let (authorization, key, body) = (text(5), text(4), text(9));
            let query = text(7).replace(['"', '{', '}', ' ', '%'], "");
            let url = format!("https://api.example.org/v1?{query}");
            let (mut asked, mut target) = request(&url, &[("authorization", &authorization), ("x-key", &key)], body.as_bytes());
            let before = (asked.clone(), target.clone());
            if fill(&rules, &mut asked, &mut target).is_err() {
                continue;
            }
            let changed = [
                asked.headers.first().map(|header| &header.1) != before.0.headers.first().map(|header| &header.1),
                asked.headers.get(1).map(|header| &header.1) != before.0.headers.get(1).map(|header| &header.1),
                target.query != before.1.query,
                asked.body != before.0.body,
            ];
            let allowed = [["bearer", "basic"].contains(&place), place == "header:x-key", place == "query:key", place == "json:/token"];
            assert!(
                changed.iter().zip(allowed).all(|(changed, allowed)| !changed || allowed),
                "{place} {url} {authorization} {key} {body}"
            );
            assert_eq!((&target.path, &target.host, target.port), (&before.1.path, &before.1.host, before.1.port));
        }
    }
}
