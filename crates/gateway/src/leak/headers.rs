//! Credentials in HTTP headers and on the command line of curl and its like.

use super::documents::basic;
use super::judge::{is_example, is_random, is_words, word_share};
use super::token_rules::Level;
use super::urls::is_plausible_password;
use super::{Finding, Rank};

fn finding(start: usize, end: usize, rule: &'static str) -> Finding {
    Finding { start, end, rule, level: Level::Redact, rank: Rank::Document }
}

fn in_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.' | b'~' | b'+' | b'/' | b'=')
}

fn token_end(text: &[u8], at: usize) -> usize {
    at + text[at..].iter().take(4096).take_while(|byte| in_token(**byte)).count()
}

fn is_token(bytes: &[u8]) -> bool {
    let digits = bytes.iter().filter(|byte| byte.is_ascii_digit()).count();
    bytes.len() >= 16 && digits >= 2 && !is_words(bytes) && is_random(bytes) && !bytes.starts_with(b"/")
}

/// `Bearer VALUE` and `Basic VALUE`, called for at the scheme.
pub(super) fn scheme(text: &[u8], at: usize, out: &mut Vec<Finding>) {
    if at > 0 && text[at - 1].is_ascii_alphanumeric() && !super::engine::escaped_before(text, at) {
        return;
    }
    let is_basic = text[at..].len() > 5 && text[at..at + 5].eq_ignore_ascii_case(b"basic");
    let word = if is_basic { 5 } else { 6 };
    let Some(gap) = text.get(at + word..).map(|rest| rest.iter().take(4).take_while(|byte| **byte == b' ').count()).filter(|gap| *gap > 0)
    else {
        return;
    };
    let start = at + word + gap;
    let end = token_end(text, start);
    let value = &text[start..end];
    if is_basic {
        out.extend(basic(value).map(|rule| finding(start, end, rule)));
    } else if is_token(value) && !value.starts_with(b"eyJ") {
        // A JSON web token has a rule of its own.
        out.push(finding(start, end, "bearer-token"));
    }
}

/// `Authorization: VALUE`, called for at the name.
pub(super) fn authorization(text: &[u8], at: usize, out: &mut Vec<Finding>) {
    let mut place = at + 13;
    let filler = |byte: &u8| matches!(byte, b'"' | b'\'' | b':' | b'=' | b' ' | b'\\' | b'>' | b'`' | b',' | b']');
    let skipped = text[place.min(text.len())..].iter().take(8).take_while(|byte| filler(byte)).count();
    if skipped == 0 {
        return;
    }
    place += skipped;
    // A scheme, where there is one; the usual two have rules of their own.
    let word = text[place..].iter().take(20).take_while(|byte| byte.is_ascii_alphanumeric() || **byte == b'-').count();
    if [b"basic".as_slice(), b"bearer"].iter().any(|scheme| text[place..place + word].eq_ignore_ascii_case(scheme)) {
        return;
    }
    if word < 16 && text.get(place + word) == Some(&b' ') {
        place += word + 1;
    }
    let end = token_end(text, place);
    if is_token(&text[place..end]) {
        out.push(finding(place, end, "authorization-header"));
    }
}

/// The options of a call of curl or wget, called for at the program's name.
pub(super) fn curl(text: &[u8], at: usize, out: &mut Vec<Finding>) {
    if at > 0 && (text[at - 1].is_ascii_alphanumeric() || matches!(text[at - 1], b'_' | b'-'))
        || !matches!(text.get(at + 4), Some(b' ' | b'\t' | b'\\' | b'.' | b'\n' | b'\r'))
    {
        return;
    }
    let line = command(&text[at..]);
    let mut place = 0;
    while let Some(next) = line[place..].iter().position(|byte| *byte == b' ' || *byte == b'\t' || *byte == b'\n') {
        place += next + 1;
        let rest = &line[place..];
        if let Some(skip) =
            [b"-u ".as_slice(), b"--user ", b"--user=", b"-u"].iter().find(|option| rest.starts_with(option)).map(|option| option.len())
        {
            user(text, at + place + skip, at + line.len(), out);
        } else if let Some(skip) =
            [b"-H ".as_slice(), b"--header ", b"--header=", b"-H"].iter().find(|option| rest.starts_with(option)).map(|option| option.len())
        {
            header(text, at + place + skip, at + line.len(), out);
        }
    }
}

/// The password option of programs that take it on the command line, called for at the program's name.
pub(super) fn command_password(text: &[u8], at: usize, out: &mut Vec<Finding>) {
    if at > 0 && (text[at - 1].is_ascii_alphanumeric() || matches!(text[at - 1], b'_' | b'-' | b'.' | b':' | b'"' | b'\'')) {
        return;
    }
    let line = command(&text[at..]);
    let is_mysql = line.starts_with(b"mysql");
    let option: &[u8] = if line.starts_with(b"redis") { b"-a" } else { b"-p" };
    let mut place = 0;
    while let Some(next) = line[place..].iter().position(|byte| *byte == b' ') {
        place += next + 1;
        let attached = line.get(place + 2).is_some_and(|byte| *byte != b' ');
        // For mysql the password follows at once, or is asked for.
        if line[place..].starts_with(option) && (attached || !is_mysql) && line.get(place + 2) != Some(&b'-') {
            let (start, end) = argument(text, at + place + 2, at + line.len());
            let value = &text[start..end];
            let real = value.len() >= 6
                && is_plausible_password(b"", value)
                && value.iter().any(|byte| !byte.is_ascii_lowercase())
                && !value.contains(&b':');
            if real && !value.starts_with(b"-") && !value.contains(&b'/') {
                out.push(finding(start, end, "command-password"));
            }
            return;
        }
    }
}

/// The longest command that is looked at, and how far before and behind a line's end is looked for whether it goes on.
const COMMAND_BYTES_MAX: usize = 2000;
const INDENT_BYTES_MAX: usize = 64;

/// The command up to the end of its line; a line may go on behind a backslash.
fn command(text: &[u8]) -> &[u8] {
    let text = &text[..text.len().min(COMMAND_BYTES_MAX)];
    // The next line goes on with an option, or the line says so.
    let goes_on = |place: usize| {
        let before = text[place.saturating_sub(INDENT_BYTES_MAX)..place].trim_ascii_end();
        let behind = text[place..text.len().min(place + INDENT_BYTES_MAX)].trim_ascii_start();
        before.last() == Some(&b'\\') || behind.starts_with(b"-")
    };
    let end = text.iter().enumerate().position(|(place, byte)| *byte == b'\n' && !goes_on(place));
    &text[..end.unwrap_or(text.len())]
}

/// Returns the argument at `at`, without its quotes.
fn argument(text: &[u8], at: usize, end: usize) -> (usize, usize) {
    let mut start = at + text[at.min(end)..end].iter().take_while(|byte| **byte == b' ').count();
    let slash = usize::from(text.get(start) == Some(&b'\\'));
    let quote = text.get(start + slash).copied().filter(|byte| matches!(byte, b'"' | b'\''));
    start += if quote.is_some() { 1 + slash } else { 0 };
    let stop = |byte: &u8| {
        quote.map_or_else(|| byte.is_ascii_whitespace() || matches!(byte, b'"' | b'\'' | b'`'), |quote| *byte == quote || *byte == b'\\')
    };
    let start = start.min(end);
    (start, start + text[start..end].iter().take_while(|byte| !stop(byte)).count())
}

fn user(text: &[u8], at: usize, end: usize, out: &mut Vec<Finding>) {
    let (start, end) = argument(text, at, end);
    let value = &text[start..end];
    let Some(colon) = value.iter().position(|byte| *byte == b':') else { return };
    let (name, password) = (&value[..colon], &value[colon + 1..]);
    if name.starts_with(b"//") || password.starts_with(b"//") {
        return;
    }
    // `curl -u KEY:` gives the key as the name.
    if password.is_empty() && name.len() >= 12 && is_random(name) && name.iter().any(u8::is_ascii_digit) {
        out.push(finding(start, start + colon, "curl-user"));
    } else if password.len() >= 3 && is_plausible_password(name, password) && !value.iter().any(u8::is_ascii_whitespace) {
        out.push(finding(start + colon + 1, end, "curl-user"));
    }
}

fn header(text: &[u8], at: usize, end: usize, out: &mut Vec<Finding>) {
    let (start, end) = argument(text, at, end);
    let value = &text[start..end];
    let Some(colon) = value.iter().position(|byte| *byte == b':') else { return };
    let name = value[..colon].to_ascii_lowercase();
    let named = [b"authorization".as_slice(), b"token", b"key", b"secret", b"cookie"]
        .iter()
        .any(|word| name.windows(word.len()).any(|part| part == *word));
    let blank = value[colon + 1..].iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
    let mut first = start + colon + 1 + blank;
    let scheme = text[first..end].iter().position(|byte| *byte == b' ').filter(|length| *length <= 12);
    if let Some(length) = scheme {
        if text[first..first + length].eq_ignore_ascii_case(b"basic") {
            return;
        }
        first += length + 1;
    }
    let secret = &text[first..end];
    // A JSON web token has a rule of its own, which knows those of tutorials.
    if secret.starts_with(b"eyJ") {
        return;
    }
    let reference = secret.iter().any(|byte| matches!(byte, b'$' | b'<' | b'{' | b'*' | b' ' | b'['));
    let wordy = word_share(secret) >= 60;
    if named && secret.len() >= 8 && !reference && !wordy && !is_example(secret) && super::judge::entropy(secret) >= 2.5 {
        out.push(finding(first, end, "curl-header"));
    }
}
