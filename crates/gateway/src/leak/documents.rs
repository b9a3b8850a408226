//! Credentials that are documents of their own or stand in a certain kind of document: private keys, JSON web tokens, Kubernetes secrets, netrc.

use super::assigned::assigned;
use super::checks::base64;
use super::judge::{is_example, is_random};
use super::token_rules::Level;
use super::{Finding, Rank};

/// A private key has at least so much base64.
const KEY_CHARACTERS_MIN: usize = 40;

fn finding(start: usize, end: usize, rule: &'static str, level: Level) -> Finding {
    Finding { start, end, rule, level, rank: Rank::Document }
}

fn find(text: &[u8], what: &[u8], most: usize) -> Option<usize> {
    let text = &text[..text.len().min(most)];
    text.windows(what.len()).position(|part| part == what)
}

fn rfind(text: &[u8], what: &[u8], most: usize) -> Option<usize> {
    let from = text.len().saturating_sub(most);
    text[from..].windows(what.len()).rposition(|part| part == what).map(|place| place + from)
}

fn in_base64(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=')
}

/// A PEM or PGP private key, called for at `PRIVATE KEY` of its first line.
pub(super) fn private_key(text: &[u8], at: usize, out: &mut Vec<Finding>) {
    let Some(begin) = rfind(&text[..at], b"-----BEGIN", 40) else { return };
    let kind = &text[begin + 10..at];
    let label = |byte: &u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || matches!(byte, b' ' | b'_' | b'-');
    let Some(dashes) = find(&text[at..], b"-----", 24) else { return };
    if !kind.iter().all(label) {
        return;
    }
    let body = at + dashes + 5;
    // Lines of a program or of JSON may stand in quotes, with their line ends written out.
    let allowed = |byte: &u8| {
        in_base64(*byte)
            || byte.is_ascii_whitespace()
            || matches!(byte, b'\\' | b'"' | b'\'' | b',' | b':' | b'.' | b'(' | b')' | b'>' | b'#' | b'|' | b'*' | b'`')
    };
    let mut end = body;
    loop {
        end += text[end..].iter().take_while(|byte| allowed(byte)).count();
        // `DEK-Info: AES-128-CBC,...` has a dash of its own; the last line has five, and so has the next key's first.
        if text.get(end) != Some(&b'-') || text[end..].starts_with(b"-----") {
            break;
        }
        end += 1;
    }
    let content = &text[body..end];
    let letters = content.iter().filter(|byte| in_base64(**byte)).count();
    if letters < KEY_CHARACTERS_MIN || is_example_key(content) {
        return;
    }
    let closed = text[end..].starts_with(b"-----END").then(|| find(&text[end + 8..], b"-----", 60)).flatten();
    let rule = match kind {
        kind if kind.windows(3).any(|part| part == b"PGP") => "pgp-private-key",
        kind if kind.windows(7).any(|part| part == b"OPENSSH") => "openssh-private-key",
        kind if kind.windows(9).any(|part| part == b"ENCRYPTED") => "encrypted-private-key",
        _ => "private-key",
    };
    let end = closed.map_or_else(|| body + content.trim_ascii_end().len(), |last| end + 8 + last + 5);
    if content.iter().any(|byte| matches!(byte, b'"' | b'\'')) {
        // The quotes between the lines are not the key's.
        return lines(text, body, body + content.len(), rule, out);
    }
    out.push(finding(begin, end, rule, Level::Block));
}

/// A finding for each line of base64.
fn lines(text: &[u8], mut at: usize, end: usize, rule: &'static str, out: &mut Vec<Finding>) {
    while at < end {
        let count = text[at..end].iter().take_while(|byte| in_base64(**byte)).count();
        // The `n` of a written line end stands before the next line.
        if count >= 12 || (count >= 4 && text[at..at + count].contains(&b'=')) {
            let escape = usize::from(at > 0 && text[at - 1] == b'\\' && matches!(text[at], b'n' | b'r'));
            out.push(finding(at + escape, at + count, rule, Level::Block));
        }
        at += count.max(1);
    }
}

fn is_example_key(content: &[u8]) -> bool {
    let longest = content.split(|byte| !in_base64(*byte)).map(<[u8]>::len).max().unwrap_or(0);
    longest < 16 || content.windows(3).any(|part| part == b"...")
}

/// A PuTTY private key, called for at `PuTTY-User-Key-File-`.
pub(super) fn putty_key(text: &[u8], at: usize, out: &mut Vec<Finding>) {
    let Some(lines) = find(&text[at..], b"Private-Lines:", 8192) else { return };
    let body = at + lines + 14;
    let count = text[body..].iter().take_while(|byte| in_base64(**byte) || byte.is_ascii_whitespace()).count();
    let content = text[body..body + count].trim_ascii_end();
    if content.len() >= KEY_CHARACTERS_MIN {
        out.push(finding(body, body + content.len(), "putty-private-key", Level::Block));
    }
}

fn in_jwt(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-')
}

fn segment(text: &[u8], at: usize) -> usize {
    at + text[at..].iter().take_while(|byte| in_jwt(**byte)).count()
}

/// A JSON web token, whole, called for at its `ey`.
pub(super) fn jwt(text: &[u8], at: usize, out: &mut Vec<Finding>) {
    if at > 0 && in_jwt(text[at - 1]) && !super::engine::escaped_before(text, at) && !super::engine::behind_sign(text, at) {
        return;
    }
    let header = segment(text, at);
    if header - at < 17 || text.get(header) != Some(&b'.') {
        return;
    }
    let payload = segment(text, header + 1);
    let decoded = base64(&text[at..header], 512);
    let is_header = decoded.starts_with(b"{")
        && [b"\"alg\"".as_slice(), b"\"typ\"", b"\"enc\"", b"\"kid\""].iter().any(|name| find(&decoded, name, 512).is_some());
    // The key of an encrypted token may be empty.
    if payload - header < 12 && !is_header {
        return;
    }
    let mut end = payload;
    let mut parts = 2;
    while parts < 5 && text.get(end) == Some(&b'.') && text.get(end + 1).is_some_and(|byte| in_jwt(*byte) || *byte == b'.') {
        end = segment(text, end + 1);
        parts += 1;
    }
    let signed = text.get(end.min(text.len()).wrapping_sub(1)).is_some_and(|byte| in_jwt(*byte));
    let content = base64(&text[header + 1..payload], 4096);
    if is_public_example(&content) || parts < 2 || !signed || text[at..end].windows(8).any(|part| part == b"xxxxxxxx") {
        return;
    }
    let second_is_json = text[header + 1..].starts_with(b"ey");
    let level = match (is_header, second_is_json) {
        (true, _) => Level::Redact,
        (false, true) if payload - header > 17 => Level::Warn,
        _ => return,
    };
    out.push(finding(at, end, "jwt", level));
}

/// The tokens of tutorials.
fn is_public_example(payload: &[u8]) -> bool {
    [b"John Doe".as_slice(), b"1234567890", b"Jane Doe", b"loggedInAs", b"example.com/is_root"]
        .iter()
        .any(|part| find(payload, part, 4096).is_some())
}

/// A JSON web token that was encoded once more, called for at its `ZXlK`.
pub(super) fn jwt_base64(text: &[u8], at: usize, out: &mut Vec<Finding>) {
    if at > 0
        && (in_base64(text[at - 1]) && text[at - 1] != b'=' || text[at - 1] == b'-')
        && !super::engine::escaped_before(text, at)
        && !super::engine::behind_sign(text, at)
    {
        return;
    }
    let allowed = |byte: &u8| in_base64(*byte) || matches!(byte, b'-' | b'_');
    let end = at + text[at..].iter().take_while(|byte| allowed(byte)).count();
    let inner = base64(&text[at..end], 8192);
    // `{"alg"`, `{"typ"` and the other first words of a header, encoded.
    let first = base64(&inner, 8);
    if inner.len() >= 30 && inner.starts_with(b"eyJ") && first.starts_with(b"{\"") {
        out.push(finding(at, end, "jwt-base64", Level::Redact));
    }
}

/// The rule for the values of a Kubernetes secret.
const KUBERNETES: &str = "kubernetes-secret";

/// The values of a Kubernetes secret, called for at `kind`.
pub(super) fn kubernetes(text: &[u8], at: usize, out: &mut Vec<Finding>) {
    let line = &text[at..text.len().min(at + 40)];
    let rest = line[4..].trim_ascii_start();
    let quotes = |byte: &u8| matches!(byte, b'"' | b'\'' | b':' | b' ' | b'\t');
    let value: Vec<u8> = rest.iter().copied().skip_while(quotes).take_while(u8::is_ascii_alphanumeric).collect();
    if !value.eq_ignore_ascii_case(b"secret") || !rest.iter().take(3).any(|byte| *byte == b':') {
        return;
    }
    let from = rfind(&text[..at], b"\n---", 2000).unwrap_or_else(|| at.saturating_sub(2000));
    let to = at + find(&text[at..], b"\n---", 8000).unwrap_or_else(|| (text.len() - at).min(8000));
    let Some(data) = find(&text[from..to], b"data", 10_000).map(|place| from + place) else { return };
    // What another `kind` of the same document has found is not found again.
    let done = out.iter().rev().take(1000).find(|known| known.rule == KUBERNETES).map_or(0, |known| known.end);
    let mut start = data;
    for line in text[data..to].split(|byte| *byte == b'\n' || *byte == b',').take(400) {
        let value = kubernetes_value(line).filter(|(from, _)| start + from >= done);
        out.extend(value.map(|(from, to)| finding(start + from, start + to, KUBERNETES, Level::Redact)));
        start += line.len() + 1;
    }
}

/// Where the value of `name: BASE64` stands in the line.
fn kubernetes_value(line: &[u8]) -> Option<(usize, usize)> {
    let colon = line.iter().rposition(|byte| *byte == b':')?;
    let name = line[..colon]
        .iter()
        .rev()
        .skip_while(|byte| matches!(byte, b'"' | b'\''))
        .take_while(|byte| in_jwt(**byte) || **byte == b'.')
        .count();
    let from = colon + 1 + line[colon + 1..].iter().take_while(|byte| matches!(byte, b' ' | b'\t' | b'"' | b'\'')).count();
    let to = from + line[from..].iter().take_while(|byte| in_base64(**byte)).count();
    (name > 0 && to - from >= 10 && (to - from) % 4 == 0 && is_data(&line[from..to])).then_some((from, to))
}

/// Whether the base64 holds something that was put there.
fn is_data(text: &[u8]) -> bool {
    let decoded = base64(text, 4096);
    let word = !text.iter().any(u8::is_ascii_digit) && !text.iter().any(u8::is_ascii_uppercase);
    !decoded.is_empty() && !word && !is_example(&decoded) && text.iter().any(u8::is_ascii_uppercase)
}

/// `machine HOST login NAME password VALUE`, called for at `machine`.
pub(super) fn netrc(text: &[u8], at: usize, out: &mut Vec<Finding>) {
    let line = &text[at..text.len().min(at + 400)];
    let mut words = Vec::new();
    let mut place = 0;
    while place < line.len() && words.len() < 8 {
        let length = line[place..].iter().take_while(|byte| !byte.is_ascii_whitespace()).count();
        if length > 0 {
            words.push((place, &line[place..place + length]));
        }
        place += length + 1;
    }
    let Some(password) = words.iter().position(|(_, word)| *word == b"password") else { return };
    if words[0].1 != b"machine" || password > 5 || !words.iter().any(|(_, word)| *word == b"login") {
        return;
    }
    let real = |value: &[u8]| {
        value.len() >= 6 && !is_example(value) && !value.starts_with(b"$") && !value.iter().any(|byte| b"<>'\"\\".contains(byte))
    };
    if let Some((place, value)) = words.get(password + 1).filter(|(_, value)| real(value)) {
        out.push(finding(at + place, at + place + value.len(), "netrc-password", Level::Redact));
    }
}

/// `"auth": "BASE64"` of a registry's configuration, called for at `auth`: the decoded text is a name and a password.
pub(super) fn registry_auth(text: &[u8], at: usize, out: &mut Vec<Finding>) {
    let word = if text[at] == b'_' { 5 } else { 4 };
    let Some(value) = assigned(text, (at, at + word)) else { return };
    let count = text[value.start..].iter().take(600).take_while(|byte| in_base64(**byte)).count();
    if let Some(rule) = basic(&text[value.start..value.start + count]) {
        out.push(finding(value.start, value.start + count, rule, Level::Redact));
    }
}

/// A PEM private key that was encoded once more, as in a kubeconfig, called for at the encoded `-----BEGIN`.
pub(super) fn private_key_base64(text: &[u8], at: usize, out: &mut Vec<Finding>) {
    if at > 0 && in_base64(text[at - 1]) && text[at - 1] != b'=' && !super::engine::escaped_before(text, at) {
        return;
    }
    let count = text[at..].iter().take(16_000).take_while(|byte| in_base64(**byte)).count();
    let decoded = base64(&text[at..at + count], 16_000);
    if decoded.len() > 100 && find(&decoded, b"PRIVATE KEY", 40).is_some() {
        out.push(finding(at, at + count, "private-key-base64", Level::Block));
    }
}

/// `HOST:5432:DATABASE:NAME:PASSWORD` of a .pgpass file, called for at `:5432:`.
pub(super) fn pgpass(text: &[u8], at: usize, out: &mut Vec<Finding>) {
    let from = at + 6;
    let line = &text[from..from + text[from..].iter().take(300).take_while(|byte| !byte.is_ascii_whitespace()).count()];
    let fields: Vec<&[u8]> = line.splitn(3, |byte| *byte == b':').collect();
    if let [database, name, password] = fields.as_slice() {
        let plain = |part: &[u8]| part.iter().all(|byte| in_jwt(*byte) || matches!(byte, b'*' | b'.'));
        if plain(database) && plain(name) && password.len() >= 6 && super::urls::is_plausible_password(name, password) {
            let start = from + database.len() + name.len() + 2;
            out.push(finding(start, start + password.len(), "pgpass-password", Level::Redact));
        }
    }
}

/// Whether base64 is `name:password` with a password that is none of a tutorial.
pub(super) fn basic(text: &[u8]) -> Option<&'static str> {
    let decoded = base64(text, 600);
    let colon = decoded.iter().position(|byte| *byte == b':')?;
    let (name, password) = (&decoded[..colon], &decoded[colon + 1..]);
    let printable = decoded.iter().all(|byte| (b' '..=b'~').contains(byte));
    let real = password.len() >= 4 && !is_example(password) && super::urls::is_plausible_password(name, password);
    (text.len() >= 8 && printable && real).then_some("basic-credentials")
}

/// `NUMBER|CHARACTERS`, an application's token, called for at `facebook`: the name stands near it rather than before it.
pub(super) fn facebook(text: &[u8], at: usize, out: &mut Vec<Finding>) {
    let end = text.len().min(at + 400);
    let mut place = at;
    while place < end {
        let digits = text[place..end].iter().take(40).take_while(|byte| byte.is_ascii_digit()).count();
        let sign = place + digits;
        if matches!(digits, 15 | 16) && matches!(text.get(sign), Some(b'|' | b'%')) {
            let count = text[sign + 1..].iter().take(45).take_while(|byte| in_jwt(**byte)).count();
            if (27..=42).contains(&count) && is_random(&text[sign + 1..sign + 1 + count]) {
                out.push(finding(place, sign + 1 + count, "facebook-app-token", Level::Redact));
            }
        }
        place += digits.max(1);
    }
}

/// Forty characters of base64 behind an AWS access key, called for at the end of the key.
pub(super) fn aws_pair(text: &[u8], at: usize, out: &mut Vec<Finding>) {
    let end = text.len().min(at + 300);
    let mut place = at;
    while place < end {
        let count = text[place..].iter().take(80).take_while(|byte| in_base64(**byte)).count();
        let part = &text[place..place + count];
        let mixed =
            part.iter().any(u8::is_ascii_lowercase) && part.iter().any(u8::is_ascii_uppercase) && part.iter().any(u8::is_ascii_digit);
        if count == 40 && mixed && is_random(part) {
            out.push(finding(place, place + count, "aws-secret-key", Level::Block));
            return;
        }
        place += count.max(1);
    }
}
