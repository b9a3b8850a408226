//! The forms in which a secret's value is met.

use std::collections::BTreeSet;
use std::fmt::Write;

const STANDARD: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const URL_SAFE: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// Returns the value as it is, JSON-escaped, URL-encoded, in hex and in base64 at each alignment, without doubles.
pub(crate) fn forms_of(value: &str) -> BTreeSet<String> {
    let bytes = value.as_bytes();
    let mut forms = BTreeSet::from([value.to_owned(), json_escaped(value), hex(bytes, false), hex(bytes, true)]);
    for upper in [false, true] {
        forms.insert(url_encoded(bytes, upper, ""));
        forms.insert(url_encoded(bytes, upper, "/:@"));
    }
    for alphabet in [STANDARD, URL_SAFE] {
        for offset in 0..3 {
            forms.insert(base64_within(bytes, offset, alphabet));
        }
    }
    forms
}

fn json_escaped(value: &str) -> String {
    let quoted = serde_json::Value::from(value).to_string();
    quoted[1..quoted.len() - 1].to_owned()
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
