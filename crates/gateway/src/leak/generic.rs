//! Values that are secret by the name they are given to, whatever made them.

use super::assigned::{Assigned, assigned, ends_value, value_end};
use super::judge::{entropy, is_example, is_hex, is_words, pairs, word_share};
use super::token_rules::Level;
use super::{Finding, Rank, checks, urls};

/// Words of names to which people give passwords.
pub(super) const PASSWORD_WORDS: &[&str] = &["password", "passwd", "passphrase", "_pass", "pwd", "passwort"];
/// Words of names to which programs' keys are given.
pub(super) const SECRET_WORDS: &[&str] = &[
    "secret",
    "token",
    "api_key",
    "apikey",
    "api-key",
    "api key",
    "accesskey",
    "access-key",
    "privatekey",
    "encryptionkey",
    "signingkey",
    "credential",
    "creds",
    "auth",
    "_key",
    "key",
    "?key",
    "&key",
];

/// A name with one of these words is given something else.
const OTHER_WORDS: &[&str] = &[
    "public",
    "primary",
    "foreign",
    "cache",
    "sort",
    "partition",
    "object",
    "dedup",
    "idempotency",
    "keys",
    "keyword",
    "keywords",
    "keyboard",
    "csrf",
    "csrfmiddlewaretoken",
    "authenticity",
    "xsrf",
    "hash",
    "digest",
    "fingerprint",
    "checksum",
    "id",
    "ids",
    "keyid",
    "name",
    "names",
    "file",
    "path",
    "url",
    "uri",
    "endpoint",
    "length",
    "len",
    "size",
    "count",
    "version",
    "type",
    "expires",
    "expiry",
    "expiration",
    "limit",
    "tokens",
    "tokenizer",
    "author",
    "authors",
    "authority",
    "label",
    "placeholder",
    "title",
    "hint",
    "regex",
    "pattern",
    "policy",
    "ref",
    "arn",
    "thumbprint",
    "max",
    "min",
    "total",
    "usage",
    "bos",
    "eos",
    "pad",
    "unk",
    "special",
    "tokenize",
    "message",
    "error",
    "selector",
    "field",
    "column",
    "budget",
    "sha",
    "sha1",
    "sha256",
    "sha512",
    "md5",
    "integrity",
    "etag",
    "cancel",
    "commit",
    "revision",
    "locale",
    "class",
    "style",
    "icon",
    "color",
    "apiversion",
    "schema",
    "secretname",
    "tokentype",
    "parser",
    "mode",
    "method",
    "provider",
    "scheme",
    "params",
    "bucket",
];

fn has(text: &[u8], words: &[&str]) -> bool {
    words.iter().any(|word| text.windows(word.len()).any(|part| part == word.as_bytes()))
}

/// Whether a word of the name says that something else is given: words end at signs and where a capital follows a small letter.
fn names_other(name: &[u8]) -> bool {
    let mut start = 0;
    for at in 1..=name.len() {
        let ends =
            at == name.len() || !name[at].is_ascii_alphanumeric() || (name[at].is_ascii_uppercase() && name[at - 1].is_ascii_lowercase());
        if ends {
            let word = name[start..at].to_ascii_lowercase();
            let word: &[u8] = word.iter().position(u8::is_ascii_alphanumeric).map_or(&[], |first| &word[first..]);
            if OTHER_WORDS.iter().any(|other| other.as_bytes() == word) {
                return true;
            }
            start = at;
        }
    }
    false
}

/// Looks at what is given to the name that holds the word at `word`.
pub(super) fn find(text: &[u8], word: (usize, usize), password: bool, out: &mut Vec<Finding>) {
    // `pass` begins other words.
    if text[word.0..word.1].eq_ignore_ascii_case(b"_pass") && text.get(word.1).is_some_and(u8::is_ascii_lowercase) {
        return;
    }
    let Some(value) = assigned(text, word) else { return };
    let mut end = value_end(text, &value);
    let is_closed = closed(text, end, &value);
    if !is_closed && value.quote.is_some() {
        // A quote that is not closed: written by hand, or cut.
        end = value.start + text[value.start..].iter().take(400).take_while(|byte| in_key(**byte)).count();
    }
    let name = &text[value.name_start..value.name_end];
    let bytes = &text[value.start..end];
    let ended = is_closed || value.quote.is_some() && ends_value(text.get(end));
    if bytes.len() < 8 || bytes.len() > 400 || value.loose || names_other(name) || !ended {
        return;
    }
    let decoded = checks::decode_base64(&String::from_utf8_lossy(bytes)).unwrap_or_default();
    // A sum of Go modules.
    if text[..value.start].ends_with(b" h1:") {
        return;
    }
    // What is made to be public, and the secret of the published example of one-time passwords.
    if bytes.starts_with(b"pk.") || bytes.starts_with(b"pk_") || bytes == b"JBSWY3DPEHPK3PXP" {
        return;
    }
    if urls::is_common(bytes) || is_example(&decoded) || urls::is_common(&decoded) {
        return;
    }
    // A name that is only `key` says little.
    let vague = text[word.0..word.1].eq_ignore_ascii_case(b"key") && !is_vague_key(name, bytes);
    let rule = match password {
        true if is_closed && is_password(bytes, value.quote.is_some()) => "generic-password",
        _ if !vague && (is_key(bytes) || is_closed && value.quote.is_some() && is_signed_key(bytes)) => "generic-secret",
        _ => return,
    };
    out.push(Finding { start: value.start, end, rule, level: Level::Redact, rank: Rank::Generic });
}

/// Whether what is given to a bare `key` is more than the name of something: capitals, small letters and digits in one run.
fn is_vague_key(name: &[u8], bytes: &[u8]) -> bool {
    let [small, capital, digit, other] = kinds(bytes);
    name.eq_ignore_ascii_case(b"key") && bytes.len() >= 20 && small >= 3 && capital >= 3 && digit >= 2 && other == 0
}

fn in_key(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'+' | b'/' | b'=' | b'.' | b'~' | b':')
}

fn closed(text: &[u8], end: usize, value: &Assigned) -> bool {
    match value.quote {
        Some(quote) => text.get(end).is_some_and(|byte| *byte == quote || *byte == b'\\'),
        // `token = call(...)`, `token = a[0]`, `token = x.y ? ...` are code.
        None => !matches!(text.get(end), Some(b'(' | b'[' | b'{')),
    }
}

/// The kinds of characters: small, capital, digit, other.
fn kinds(bytes: &[u8]) -> [usize; 4] {
    let mut kinds = [0; 4];
    for byte in bytes {
        let kind = match byte {
            b'a'..=b'z' => 0,
            b'A'..=b'Z' => 1,
            b'0'..=b'9' => 2,
            _ => 3,
        };
        kinds[kind] += 1;
    }
    kinds
}

/// Whether it is code, a reference or a path rather than a value.
fn is_reference(bytes: &[u8]) -> bool {
    let first = bytes[0];
    matches!(first, b'$' | b'%' | b'<' | b'{' | b'[' | b'(' | b'*' | b'/' | b'.' | b'~' | b'@' | b'&' | b':')
        || has(bytes, &["${", "{{", "$(", "#{", "%(", "://", "](", "()", "->", "::", "process.env", "os.environ", "...", "%s", "{}", "\\u"])
        || bytes.iter().any(|byte| matches!(byte, b'(' | b'{' | b'[' | b'<' | b'|' | b'"'))
}

/// Whether a person may have chosen or been given it as a password.
fn is_password(bytes: &[u8], quoted: bool) -> bool {
    let [small, capital, digit, other] = kinds(bytes);
    let used = [small, capital, digit, other].iter().filter(|count| **count > 0).count();
    let printable = bytes.iter().all(|byte| (b'!'..=b'~').contains(byte));
    if !printable || bytes.len() > 128 || is_reference(bytes) || is_example(bytes) {
        return false;
    }
    // `a.b.c1`, `user-name-2`, `Some_Name`: names of things.
    let symbols = bytes.iter().filter(|byte| !byte.is_ascii_alphanumeric() && !matches!(byte, b'_' | b'-' | b'.' | b'/' | b':')).count();
    if is_words(bytes) {
        // Words with digits and signs in them.
        return symbols > 0 && digit > 0 && capital > 0 && small > 0 && bytes.len() <= 40 && symbols <= 4;
    }
    if entropy(bytes) < 2.6 || plain_number(bytes) {
        return false;
    }
    let mixed = digit > 0 && used >= 3 || used == 2 && small + capital > 0 && digit >= 2 && (quoted || bytes.len() >= 10);
    mixed || quoted && (used >= 3 || small >= 3 && capital >= 3 && word_share(bytes) < 30) || is_letters(bytes, quoted)
}

/// Whether it is small letters without words: how some mail services make passwords for programs.
fn is_letters(bytes: &[u8], quoted: bool) -> bool {
    let (pairs, common) = pairs(bytes);
    bytes.iter().all(u8::is_ascii_lowercase)
        && common * 100 <= pairs * 55
        && (bytes.len() == 16 || quoted && bytes.len() >= 10)
        && bytes.len() <= 24
}

/// Whether it is a number, a date, a version, an address.
fn plain_number(bytes: &[u8]) -> bool {
    let letters = bytes.iter().filter(|byte| byte.is_ascii_alphabetic()).count();
    letters * 5 < bytes.len()
}

/// Whether a program may have made it as a key.
fn is_key(bytes: &[u8]) -> bool {
    let [small, capital, digit, other] = kinds(bytes);
    if bytes.len() < 16 || !bytes.iter().all(|byte| in_key(*byte)) || is_reference(bytes) || is_example(bytes) || plain_number(bytes) {
        return false;
    }
    let separators = bytes.iter().filter(|byte| matches!(byte, b'.' | b':' | b'/')).count();
    let mixed = digit >= 2 && small + capital >= 3 || small >= 5 && capital >= 5 && digit + other > 0;
    let wordy = !is_hex(bytes) && word_share(bytes) >= 40;
    mixed && !wordy && other * 4 <= bytes.len() && separators <= 3 && entropy(bytes) >= if bytes.len() < 24 { 3.0 } else { 3.2 }
}

/// Whether a framework may have made it of all characters: long, quoted, with signs everywhere.
fn is_signed_key(bytes: &[u8]) -> bool {
    let signs = bytes.iter().filter(|byte| byte.is_ascii_punctuation()).count();
    let printable = bytes.iter().all(|byte| (b'!'..=b'~').contains(byte));
    // Hashes of passwords begin with a dollar sign.
    printable
        && bytes[0] != b'$'
        && bytes.len() >= 32
        && signs * 8 >= bytes.len()
        && !has(bytes, &["${", "{{", "://", "()", "\\"])
        && entropy(bytes) >= 4.0
        && word_share(bytes) < 35
        && !is_example(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_told_from_names() {
        for real in ["Xk9#mP2$vL5n", "tr0ub4dor&3Zx", "q7wm2zk9xp", "Zx8!kLm2Qr"] {
            assert!(is_password(real.as_bytes(), true), "{real}");
        }
        for other in [
            "changeme",
            "${PASSWORD}",
            "password123",
            "your-password",
            "auth.password.v2",
            "getPassword()",
            "/etc/passwd.d",
            "********",
            "user_name_2",
        ] {
            assert!(!is_password(other.as_bytes(), true), "{other}");
        }
        for real in ["9f3c1b7ae2d465081f", "Zq8xKvJw2LmPr7TdYs5G", "kq83-zv92jw-lm47tr-bg"] {
            assert!(is_key(real.as_bytes()), "{real}");
        }
        for other in ["next_page_token_v2_beta", "com.example.service.TokenStore1", "1234567890123456789", "request.headers.x2.token"] {
            assert!(!is_key(other.as_bytes()), "{other}");
        }
    }
}
