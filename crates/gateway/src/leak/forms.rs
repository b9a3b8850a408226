//! The forms in which a secret's value is met.

use std::collections::BTreeSet;
use std::fmt::Write;

const STANDARD: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const URL_SAFE: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// Returns the value as it is and in every form in which texts hold one: JSON-, shell-, HTML- and URL-escaped, in hex and in base64 at each
/// alignment, from back to front; without doubles.
pub(crate) fn forms_of(value: &str) -> BTreeSet<Vec<u8>> {
    let bytes = value.as_bytes();
    let json = json_escaped(value);
    let mut forms = BTreeSet::from([
        value.to_owned(),
        json.replace('/', "\\/"),
        json_escaped(&json),
        json,
        hex(bytes, false),
        hex(bytes, true),
        value.replace('\'', "'\\''"),
        shell_escaped(value),
        html_escaped(value),
        value.chars().rev().collect(),
        spelled(bytes, "%", false),
        spelled(bytes, "%", true),
        spelled(bytes, "\\x", false),
        spelled(bytes, "\\u00", false),
    ]);
    for upper in [false, true] {
        forms.insert(url_encoded(bytes, upper, ""));
        forms.insert(url_encoded(bytes, upper, "/:@"));
        forms.insert(url_encoded(bytes, upper, "").replace("%20", "+"));
    }
    for alphabet in [STANDARD, URL_SAFE] {
        for offset in 0..3 {
            forms.insert(base64_within(bytes, offset, alphabet));
        }
    }
    forms.into_iter().map(String::into_bytes).collect()
}

/// A backslash before everything that a shell would take for its own.
fn shell_escaped(value: &str) -> String {
    value
        .chars()
        .flat_map(|c| (c.is_ascii() && !c.is_ascii_alphanumeric() && !"-_./:=,@%+".contains(c)).then_some('\\').into_iter().chain([c]))
        .collect()
}

fn html_escaped(value: &str) -> String {
    value.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;").replace('\'', "&#39;")
}

/// Every byte as two digits behind a sign.
fn spelled(bytes: &[u8], sign: &str, upper: bool) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = if upper { write!(text, "{sign}{byte:02X}") } else { write!(text, "{sign}{byte:02x}") };
        text
    })
}

fn json_escaped(value: &str) -> String {
    value.chars().fold(String::new(), |mut text, c| {
        match c {
            '"' => text.push_str("\\\""),
            '\\' => text.push_str("\\\\"),
            '\n' => text.push_str("\\n"),
            '\r' => text.push_str("\\r"),
            '\t' => text.push_str("\\t"),
            '\u{8}' => text.push_str("\\b"),
            '\u{c}' => text.push_str("\\f"),
            // Writing to a String cannot fail.
            c if c < ' ' => drop(write!(text, "\\u{:04x}", u32::from(c))),
            c => text.push(c),
        }
        text
    })
}

fn hex(bytes: &[u8], upper: bool) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = if upper { write!(text, "{byte:02X}") } else { write!(text, "{byte:02x}") };
        text
    })
}

fn url_encoded(bytes: &[u8], upper: bool, also_plain: &str) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let c = char::from(*byte);
        if c.is_ascii_alphanumeric() || "-_.~".contains(c) || also_plain.contains(c) {
            text.push(c);
        } else {
            // Writing to a String cannot fail.
            let _ = if upper { write!(text, "%{byte:02X}") } else { write!(text, "%{byte:02x}") };
        }
        text
    })
}

/// The characters of a base64 text that depend on the value alone, when `offset` (0 to 2) other bytes stand before it in its first group.
fn base64_within(bytes: &[u8], offset: usize, alphabet: &[u8; 64]) -> String {
    let bit = |at: usize| at.checked_sub(offset * 8).map(|at| bytes[at / 8] >> (7 - at % 8) & 1);
    let bits = (offset + bytes.len()) * 8;
    // A character holds six bits; those that hold a bit of something else, before or behind, are left out.
    let characters = (offset * 8).div_ceil(6)..bits / 6;
    let sextet = |at: usize| (at * 6..at * 6 + 6).fold(0_u8, |sextet, at| sextet << 1 | bit(at).unwrap_or(0));
    characters.map(|at| char::from(alphabet[usize::from(sextet(at))])).collect()
}
