//! Signs requests to AWS anew: the client in the box signs with a placeholder as its key id, and that signature goes.
//!
//! Signature Version 4 as AWS documents it ("Create a signed AWS API request"): a canonical form of the request is hashed, and the hash signed
//! with a key that is derived from the secret key, the date, the region and the service.

use std::collections::BTreeMap;
use std::fmt::Write;

use aedile_core::ExposeSecret;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

use crate::error::Refused;
use crate::fetch::percent_decoded;
use crate::inject::percent;
use crate::leak::unescaped;
use crate::policy::{self, SecretRule, Target};

const ALGORITHM: &str = "AWS4-HMAC-SHA256";
/// Headers that hops on the way change or that the door sets itself: they are sent unsigned.
const UNSIGNED: &[&str] = &[
    "authorization",
    "connection",
    "expect",
    "accept-encoding",
    "user-agent",
    "content-length",
    "transfer-encoding",
    "te",
    "trailer",
    "upgrade",
    "keep-alive",
    "x-amzn-trace-id",
];

/// The parts of what a client says that it signed.
struct Said<'a> {
    /// `DATE/REGION/SERVICE/aws4_request`.
    scope: &'a str,
    service: &'a str,
    signed: Vec<&'a str>,
}

/// Signs the request where its key id is the placeholder; whether it was.
pub(crate) fn sign(secret: &SecretRule, asked: &mut policy::Request, target: &Target) -> Result<bool, Refused> {
    let find = |asked: &policy::Request, wanted: &str| {
        asked.headers.iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted)).map(|(_, value)| value.clone())
    };
    let Some(authorization) = find(asked, "authorization").filter(|value| value.contains(&secret.placeholder)) else { return Ok(false) };
    let refused =
        |what: &str| Refused::denied("secret.sigv4", format!("the request with the placeholder of the secret {} {what}", secret.name));
    let said = said(&authorization, &secret.placeholder)
        .ok_or_else(|| refused("is not signed as AWS documents it: use the placeholder as the access key id"))?;
    let date = find(asked, "x-amz-date").ok_or_else(|| refused("has no x-amz-date header"))?;
    if date.len() != 16 || !date.starts_with(&said.scope[..said.scope.find('/').unwrap_or(0)]) {
        return Err(refused("has an x-amz-date that is not of the day that it was signed for"));
    }
    let value = secret.value.expose_secret();
    let mut parts = value.splitn(3, ':');
    let (Some(id), Some(key)) = (parts.next(), parts.next()) else {
        return Err(refused("cannot be signed: the secret must be ACCESS_KEY_ID:SECRET_KEY or ACCESS_KEY_ID:SECRET_KEY:SESSION_TOKEN"));
    };
    let token = parts.next().map(str::to_owned);
    let hash = match find(asked, "x-amz-content-sha256").as_deref() {
        Some(streaming) if streaming.starts_with("STREAMING-") => return Err(refused("is signed in chunks: sign its body as a whole")),
        Some("UNSIGNED-PAYLOAD") => "UNSIGNED-PAYLOAD".to_owned(),
        Some(_) => {
            let hash = hex(&Sha256::digest(&asked.body));
            set(asked, "x-amz-content-sha256", &hash);
            hash
        }
        None => hex(&Sha256::digest(&asked.body)),
    };
    asked.headers.retain(|(name, _)| !name.eq_ignore_ascii_case("x-amz-security-token"));
    if let Some(token) = &token {
        set(asked, "x-amz-security-token", token);
    }
    let headers = signed_headers(asked, target, &said.signed);
    let names = headers.keys().map(String::as_str).collect::<Vec<_>>().join(";");
    let canonical = canonical(asked, target, said.service, &headers, &names, &hash);
    let to_sign = format!("{ALGORITHM}\n{date}\n{}\n{}", said.scope, hex(&Sha256::digest(canonical.as_bytes())));
    let signature = hex(&mac(&signing_key(key, said.scope), to_sign.as_bytes()));
    let authorization = format!("{ALGORITHM} Credential={id}/{}, SignedHeaders={names}, Signature={signature}", said.scope);
    set(asked, "authorization", &authorization);
    Ok(true)
}

fn set(asked: &mut policy::Request, wanted: &str, value: &str) {
    match asked.headers.iter_mut().find(|(name, _)| name.eq_ignore_ascii_case(wanted)) {
        Some((_, known)) => value.clone_into(known),
        None => asked.headers.push((wanted.to_owned(), value.to_owned())),
    }
}

/// Reads `AWS4-HMAC-SHA256 Credential=PLACEHOLDER/DATE/REGION/SERVICE/aws4_request, SignedHeaders=..., Signature=...`.
fn said<'a>(authorization: &'a str, placeholder: &str) -> Option<Said<'a>> {
    let (algorithm, rest) = authorization.split_once(' ')?;
    let mut fields = rest.split(',').map(str::trim);
    let mut field = |name: &str| fields.find_map(|field| field.strip_prefix(name)?.strip_prefix('='));
    let scope = field("Credential")?.strip_prefix(placeholder)?.strip_prefix('/')?;
    let signed = field("SignedHeaders")?.split(';').collect();
    let [date, region, service, end] = scope.split('/').collect::<Vec<_>>()[..] else { return None };
    let plain = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    let good = algorithm.eq_ignore_ascii_case(ALGORITHM) && date.len() == 8 && plain(date) && plain(region) && plain(service);
    (good && end == "aws4_request").then_some(Said { scope, service, signed })
}

/// The headers that are signed: the host, AWS's own, the type of the body, and what the client had signed and still goes out.
fn signed_headers(asked: &policy::Request, target: &Target, signed: &[&str]) -> BTreeMap<String, String> {
    let mut headers: BTreeMap<String, String> = BTreeMap::new();
    for (name, value) in &asked.headers {
        let name = name.to_ascii_lowercase();
        let own = name.starts_with("x-amz-") || name == "content-type" || signed.contains(&name.as_str());
        if own && name != "host" && !UNSIGNED.contains(&name.as_str()) {
            let value = value.split_ascii_whitespace().collect::<Vec<_>>().join(" ");
            headers.entry(name).and_modify(|known| *known = format!("{known},{value}")).or_insert(value);
        }
    }
    headers.insert("host".to_owned(), target.authority());
    headers
}

fn canonical(
    asked: &policy::Request,
    target: &Target,
    service: &str,
    headers: &BTreeMap<String, String>,
    names: &str,
    hash: &str,
) -> String {
    let segment = |segment: &str| {
        let plain = String::from_utf8_lossy(&unescaped(segment.as_bytes()).0).into_owned();
        let once = percent(&plain);
        // S3 alone takes a path as it is sent; everywhere else it is encoded once more.
        if service == "s3" { once } else { percent(&once) }
    };
    let path = target.path.split('/').map(segment).collect::<Vec<_>>().join("/");
    let decoded = |text: &str| percent(&String::from_utf8_lossy(&percent_decoded(text)));
    let query = target.query.as_deref().unwrap_or_default();
    let mut pairs: Vec<(String, String)> = query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(name, value)| (decoded(name), decoded(value)))
        .collect();
    pairs.sort();
    let query = pairs.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("&");
    let mut text = format!("{}\n{path}\n{query}\n", asked.method);
    for (name, value) in headers {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{name}:{value}");
    }
    let _ = write!(text, "\n{names}\n{hash}");
    text
}

fn mac(key: &[u8], text: &[u8]) -> [u8; 32] {
    // Any length of key will do for HMAC, so this cannot fail.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else { return [0; 32] };
    mac.update(text);
    mac.finalize().into_bytes().into()
}

/// The key for one day, region and service.
fn signing_key(secret: &str, scope: &str) -> [u8; 32] {
    let first = zeroize::Zeroizing::new(format!("AWS4{secret}"));
    let mut parts = scope.split('/');
    let day = mac(first.as_bytes(), parts.next().unwrap_or_default().as_bytes());
    parts.fold(day, |key, part| mac(&key, part.as_bytes()))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::SecretsFile;

    /// The credentials of AWS's own examples.
    const ID: &str = "AKIDEXAMPLE";
    const KEY: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";

    fn rule(value: &str) -> SecretRule {
        let text = format!("[[secret]]\nname = \"aws\"\nvalue = \"{value}\"\nhost = \"*.amazonaws.com\"\nplace = \"sigv4\"\n");
        SecretsFile::parse(&text).unwrap().secrets.remove(0)
    }

    fn signed(url: &str, service: &str, headers: &[(&str, &str)], value: &str) -> Result<(bool, policy::Request), Refused> {
        let said = format!(
            "{ALGORITHM} Credential=aedile-secret-aws/20150830/us-east-1/{service}/aws4_request, SignedHeaders=host;x-amz-date, Signature=00"
        );
        let mut all = vec![("authorization".to_owned(), said), ("X-Amz-Date".to_owned(), "20150830T123600Z".to_owned())];
        all.extend(headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        let mut asked = policy::Request { method: "GET".to_owned(), url: url.to_owned(), headers: all, body: Vec::new() };
        let target = Target::parse(url).unwrap();
        sign(&rule(value), &mut asked, &target).map(|signed| (signed, asked))
    }

    fn authorization(asked: &policy::Request) -> &str {
        &asked.headers.iter().find(|(name, _)| name == "authorization").unwrap().1
    }

    #[test]
    fn signatures_are_those_of_the_published_examples() {
        let value = format!("{ID}:{KEY}");
        let (_, plain) = signed("https://example.amazonaws.com/", "service", &[], &value).unwrap();
        let wanted = "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31";
        assert_eq!(
            authorization(&plain),
            format!(
                "{ALGORITHM} Credential={ID}/20150830/us-east-1/service/aws4_request, SignedHeaders=host;x-amz-date, Signature={wanted}"
            )
        );
        let kind = [("content-type", "application/x-www-form-urlencoded; charset=utf-8")];
        let (_, users) = signed("https://iam.amazonaws.com/?Action=ListUsers&Version=2010-05-08", "iam", &kind, &value).unwrap();
        assert!(
            authorization(&users).ends_with("Signature=5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7"),
            "{}",
            authorization(&users)
        );
        // Parameters stand by name, then by value.
        let (_, asked) = signed("https://example.amazonaws.com/?Param2=value2&Param1=value1", "service", &[], &value).unwrap();
        let wanted = "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500";
        assert!(authorization(&asked).ends_with(wanted), "{}", authorization(&asked));
    }

    #[test]
    fn a_session_token_and_the_hash_of_the_body_go_with_it() {
        let headers = [("x-amz-content-sha256", "wrong"), ("x-amz-security-token", "of the box"), ("User-Agent", "x")];
        let (_, asked) = signed("https://b.amazonaws.com/k%20v", "s3", &headers, &format!("{ID}:{KEY}:the/token")).unwrap();
        let header = |wanted: &str| asked.headers.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.as_str());
        assert_eq!(header("x-amz-content-sha256"), Some("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"));
        assert_eq!(header("x-amz-security-token"), Some("the/token"));
        assert!(authorization(&asked).contains("SignedHeaders=host;x-amz-content-sha256;x-amz-date;x-amz-security-token,"));
    }

    #[test]
    fn what_cannot_be_signed_is_refused_without_the_value() {
        let good = format!("{ID}:{KEY}");
        for (headers, value) in
            [(&[("x-amz-content-sha256", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD")][..], good.as_str()), (&[], "no-colon-in-this-one")]
        {
            assert!(signed("https://b.amazonaws.com/", "s3", headers, value).is_err());
        }
        assert!(signed("https://b.amazonaws.com/", "s3/x", &[], &good).is_err(), "an odd scope");
        let mut other =
            policy::Request { headers: vec![("authorization".to_owned(), "Bearer x".to_owned())], ..policy::Request::default() };
        assert!(!sign(&rule(&good), &mut other, &Target::parse("https://b.amazonaws.com/").unwrap()).unwrap_or(true));
    }
}
