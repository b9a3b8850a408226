//! What is given to a name: `NAME = value` in the ways in which configuration, code, shells, JSON, YAML, XML and headers write it.

/// A value that is given to a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Assigned {
    /// The first byte of the name.
    pub(super) name_start: usize,
    /// Behind the last byte of the name.
    pub(super) name_end: usize,
    /// The first byte of the value, behind its quote.
    pub(super) start: usize,
    /// The quote around it.
    pub(super) quote: Option<u8>,
    /// Whether only a comma or a bracket stands between, so that it may be another thing's.
    pub(super) loose: bool,
}

/// How much of a name is looked at before and behind the word that was found in it.
const NAME_BYTES_MAX: usize = 48;

/// Bytes of further words between a word and the operator of its value.
const LOOSE_BYTES_MAX: usize = 70;

fn in_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.')
}

fn skip(text: &[u8], mut at: usize, most: usize, holds: impl Fn(u8) -> bool) -> usize {
    let end = at.saturating_add(most).min(text.len());
    while at < end && holds(text[at]) {
        at += 1;
    }
    at
}

/// Reads what is given to the name that holds the word at `word`.
pub(super) fn assigned(text: &[u8], word: (usize, usize)) -> Option<Assigned> {
    let name_start = word.0 - text[..word.0].iter().rev().take(NAME_BYTES_MAX).take_while(|byte| in_name(**byte)).count();
    // What stands for something that was taken out is no name.
    if text[..name_start].ends_with(b"[redacted ") || text[..name_start].ends_with(b"[secret ") {
        return None;
    }
    let name_end = skip(text, word.1, NAME_BYTES_MAX, in_name);
    if let Beside::Value(behind) = beside(text, name_end) {
        let (start, quote) = opened(text, behind);
        return Some(Assigned { name_start, name_end, start, quote, loose: false });
    }
    let flag = text[name_start..].starts_with(b"--") || (text[name_start] == b'-' && name_end - name_start > 2);
    let mut at = closers(text, name_end);
    // `twitter api key: ...`, `password for db = ...`: a few words more.
    for _ in 0..3 {
        let behind = skip(text, at, 4, |byte| byte == b' ' || byte == b'\t');
        if behind > at && text.get(behind).is_some_and(u8::is_ascii_alphabetic) && !flag {
            at = closers(text, skip(text, behind, 20, in_name));
        }
    }
    let spaced = skip(text, at, 60, |byte| byte == b' ' || byte == b'\t');
    let operator = operator(text, spaced);
    let behind = match operator {
        Some(behind) => behind,
        // `--token VALUE`, `PASSWORD 'x'`, `<add key="Password" value="x">`.
        None => {
            let first = skip(text, closers(text, name_end), 60, |byte| byte == b' ' || byte == b'\t');
            if let Some(value) = text.get(first..).filter(|rest| rest.starts_with(b"value=\"") || rest.starts_with(b"value='")) {
                return Some(Assigned { name_start, name_end, start: first + 7, quote: value.get(6).copied(), loose: false });
            }
            let quoted = matches!(text.get(first), Some(b'\'' | b'"'));
            (first > name_end && (flag || quoted || is_set_by_command(text, name_start))).then_some(first)?
        }
    };
    if let Some(start) = below(text, behind) {
        let (start, quote) = opened(text, start);
        return Some(Assigned { name_start, name_end, start, quote, loose: false });
    }
    let (start, quote) = opened(text, behind);
    let loose = matches!(text[behind - 1], b'(' | b',') && quote.is_none();
    let here = Assigned { name_start, name_end, start, quote, loose };
    // `password: String = "..."`: the type is no value.
    Some(behind_type(text, here).unwrap_or(here))
}

/// Where a value may begin behind a word whose values have a form of their own: further words, a few quotes and line ends, an operator, quotes.
/// It is how rules of gitleaks read a line.
pub(super) fn loosely_assigned(text: &[u8], word_end: usize) -> Option<usize> {
    let at = skip(text, word_end, LOOSE_BYTES_MAX, |byte| in_name(byte) || byte == b' ' || byte == b'\t');
    let at = skip(text, at, 3, |byte| byte.is_ascii_whitespace() || byte == b'\'' || byte == b'"');
    let behind = operator(text, at)?;
    Some(skip(text, behind, 5, |byte| byte.is_ascii_whitespace() || matches!(byte, b'`' | b'\'' | b'"' | b'=')))
}

/// A field that holds the value of what another field names: `"name": "TOKEN", "value": "..."`, `- name: TOKEN` above `value: ...`,
/// `<name>TOKEN</name><value>...`.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Beside {
    /// Behind its operator.
    Value(usize),
    /// The text ends before it could be told.
    Ends,
    No,
}

/// So far from the name the field of its value begins.
const BESIDE_BYTES_MAX: usize = 80;

/// Looks for the field of the value behind a name, or behind the bracket that a name is given.
fn beside(text: &[u8], from: usize) -> Beside {
    let between = |byte: u8| byte.is_ascii_whitespace() || matches!(byte, b'"' | b'\'' | b',' | b'/' | b'>' | b'<' | b';' | b'{');
    let mut at = from;
    while at < from + BESIDE_BYTES_MAX {
        match text.get(at..).unwrap_or_default() {
            [] => return Beside::Ends,
            [b'<', b'/', ..] => at = skip(text, at, 30, |byte| byte != b'>'),
            [byte, ..] if between(*byte) => at += 1,
            rest => {
                let word = b"value";
                let holds = rest.len().min(word.len());
                if at == from || !rest[..holds].eq_ignore_ascii_case(&word[..holds]) {
                    return Beside::No;
                }
                let Some(operator) = text.get(closers(text, at + holds)..).filter(|_| holds == word.len()) else { return Beside::Ends };
                let blanks = operator.iter().take(8).take_while(|byte| **byte == b' ').count();
                return match operator.get(blanks) {
                    None => Beside::Ends,
                    Some(b':' | b'=' | b'>') => Beside::Value(text.len() - operator.len() + blanks + 1),
                    Some(_) => Beside::No,
                };
            }
        }
    }
    Beside::No
}

/// Where a value begins that stands below its name: `<name>` and a line of its own, `name: |`, `"name": {"value": ...`. The operator ends at `behind`.
fn below(text: &[u8], behind: usize) -> Option<usize> {
    let blank = |byte: u8| byte == b' ' || byte == b'\t';
    let first = skip(text, behind, 60, blank);
    match (text[behind - 1], text.get(first)?) {
        (b'>', b'\n' | b'\r') => Some(skip(text, first, 120, |byte| byte.is_ascii_whitespace())),
        (b':' | b'=', b'{') => match beside(text, first) {
            Beside::Value(behind) => Some(behind),
            _ => None,
        },
        (b':', b'|' | b'>') => {
            let line = skip(text, first + 1, 2, |byte| matches!(byte, b'-' | b'+' | b'0'..=b'9'));
            matches!(text.get(line), Some(b'\n' | b'\r')).then(|| skip(text, line, 120, |byte| byte.is_ascii_whitespace()))
        }
        _ => None,
    }
}

/// Commands that give a name the word behind it: of Dockerfiles, web servers and shells.
const SETTERS: &[&[u8]] = &[b"env", b"arg", b"setenv", b"passenv", b"setx", b"set -x", b"set -gx", b"set -ux"];

/// Whether the command at the beginning of the line gives the name behind it the next word.
fn is_set_by_command(text: &[u8], name_start: usize) -> bool {
    let near = name_start.saturating_sub(32);
    let line = text[near..name_start].iter().rposition(|byte| matches!(byte, b'\n' | b'\r' | b';')).map(|at| near + at + 1);
    let Some(line) = line.or((near == 0).then_some(0)) else { return false };
    let before = text[line..name_start].to_ascii_lowercase();
    before.last().is_some_and(|byte| matches!(byte, b' ' | b'\t')) && SETTERS.contains(&before.trim_ascii())
}

fn closers(text: &[u8], at: usize) -> usize {
    skip(text, at, 6, |byte| matches!(byte, b'"' | b'\'' | b'`' | b']' | b')' | b'\\' | b'*'))
}

/// Returns what stands behind the operator at `at`.
fn operator(text: &[u8], at: usize) -> Option<usize> {
    let rest = text.get(at..)?;
    let known: [&[u8]; 19] = [
        b"===", b":::=", b"::=", b":=", b"=>", b"->", b"==", b"||=", b"||", b"??=", b"?=", b".=", b"+=", b"%3D", b"=", b":", b">", b",",
        b"(",
    ];
    let found = known.iter().find(|operator| rest.starts_with(operator))?;
    let behind = at + found.len();
    // `std::token::x`, `https://`.
    (!(**found == *b":" && matches!(text.get(behind), Some(b':' | b'/')))).then_some(behind)
}

/// Skips white space and the opening quote, with what may stand before it.
fn opened(text: &[u8], at: usize) -> (usize, Option<u8>) {
    let mut at = skip(text, at, 60, |byte| matches!(byte, b' ' | b'\t' | b'='));
    if text.get(at) == Some(&b'(') {
        at = skip(text, at + 1, 4, |byte| byte == b' ');
    }
    for prefix in [b"&quot;".as_slice(), b"%22", b"b\"", b"r\"", b"f\"", b"u\"", b"b'", b"u'", b"r'", b"f'", b"@\"", b"$'", b"E'", b"N'"] {
        if text[at..].starts_with(prefix) {
            let quote = prefix.last().copied().filter(|last| matches!(last, b'"' | b'\''));
            return (at + prefix.len(), quote);
        }
    }
    let slashes = skip(text, at, 3, |byte| byte == b'\\');
    match text.get(slashes) {
        Some(quote @ (b'"' | b'\'' | b'`')) => {
            // Written by several hands there may be more than one.
            let more = skip(text, slashes, 5, |byte| matches!(byte, b'"' | b'\'' | b'`' | b' ' | b'='));
            let last = text[slashes..more].iter().rfind(|byte| matches!(byte, b'"' | b'\'' | b'`')).copied();
            (more, last.or(Some(*quote)))
        }
        _ => (at, None),
    }
}

fn behind_type(text: &[u8], value: Assigned) -> Option<Assigned> {
    if value.quote.is_some() {
        return None;
    }
    let kind = |byte: u8| {
        byte.is_ascii_alphabetic() || matches!(byte, b'&' | b'\'' | b'<' | b'>' | b'?' | b'_' | b'[' | b']' | b'|' | b' ' | b'*')
    };
    let end = skip(text, value.start, 32, kind);
    if end == value.start || text.get(end) != Some(&b'=') || matches!(text.get(end + 1), Some(b'=' | b'>')) {
        return None;
    }
    let (start, quote) = opened(text, end + 1);
    quote.map(|quote| Assigned { start, quote: Some(quote), ..value })
}

/// Returns the end of the value: its closing quote, or where an unquoted one ends.
pub(super) fn value_end(text: &[u8], value: &Assigned) -> usize {
    let most = 512;
    match value.quote {
        Some(quote) => skip(text, value.start, most, |byte| byte != quote && !matches!(byte, b'\n' | b'\r' | b'\\')),
        None => skip(text, value.start, most, |byte| {
            !byte.is_ascii_whitespace()
                && byte >= b' '
                && !matches!(byte, b'"' | b'\'' | b'`' | b'<' | b'>' | b',' | b';' | b')' | b']' | b'}' | b'|' | b'\\' | b'&')
        }),
    }
}

/// Whether the text ends before the value that is given to the name is whole: behind the name, its operator, or within the value; or the
/// value reaches behind `settled`.
pub(super) fn may_get_value(text: &[u8], word: (usize, usize), settled: usize) -> bool {
    let blank = |byte: u8| byte == b' ' || byte == b'\t';
    let at = skip(text, closers(text, skip(text, word.1, NAME_BYTES_MAX, in_name)), 60, blank);
    if at == text.len() || beside(text, skip(text, word.1, NAME_BYTES_MAX, in_name)) == Beside::Ends {
        return true;
    }
    if let Some(behind) = operator(text, at) {
        let bracket = skip(text, behind, 60, |byte| blank(byte) || matches!(byte, b'|' | b'>' | b'-' | b'+' | b'\n' | b'\r'));
        let opens = matches!(text.get(bracket), Some(b'{')) && beside(text, bracket) == Beside::Ends;
        if bracket == text.len() || opens {
            return true;
        }
    }
    let quoted = matches!(text[at], b'\'' | b'"');
    match assigned(text, word) {
        Some(value) => value_end(text, &value) >= settled,
        // `:` may become `:=`, `= ` may get its value.
        None => quoted || operator(text, at).is_some_and(|behind| skip(text, behind, 60, blank) == text.len()),
    }
}

/// Whether a value may end before this byte.
pub(super) fn ends_value(byte: Option<&u8>) -> bool {
    byte.is_none_or(|byte| {
        byte.is_ascii_whitespace()
            || matches!(byte, b'"' | b'\'' | b'`' | b'<' | b'>' | b',' | b';' | b')' | b']' | b'}' | b'|' | b'\\' | b'&' | b'#' | b'@')
            || *byte < b' '
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str, word: &str) -> Option<String> {
        let at = text.to_ascii_lowercase().find(word).unwrap();
        let found = assigned(text.as_bytes(), (at, at + word.len()))?;
        Some(text[found.start..value_end(text.as_bytes(), &found)].to_owned())
    }

    #[test]
    fn a_word_whose_values_have_a_form_is_read_loosely() {
        for text in
            ["looker app secret 2' := `v4lue`", "looker_id.x\n: 'v4lue", "looker | | looker == \"v4lue", "looker key =>\n\t\"v4lue\""]
        {
            let at = loosely_assigned(text.as_bytes(), 6).map(|at| &text[at..]);
            assert_eq!(at.is_some_and(|at| at.starts_with("v4lue")), !text.contains(" | "), "{text}");
        }
        assert_eq!(loosely_assigned(format!("looker{}=v4lue", " a".repeat(60)).as_bytes(), 6), None);
    }

    #[test]
    fn values_are_found_in_every_way_of_writing() {
        for text in [
            "DB_PASSWORD=v4lue",
            "export DB_PASSWORD='v4lue'",
            "password: v4lue",
            "\"password\": \"v4lue\"",
            "\"password\":\"v4lue\"",
            "\\\"password\\\":\\\"v4lue\\\"",
            "password := \"v4lue\"",
            "'password' => 'v4lue',",
            "let password: &str = \"v4lue\";",
            "set_password(\"v4lue\")",
            "<password>v4lue</password>",
            "<add key=\"ClearTextPassword\" value=\"v4lue\" />",
            "mysql --password v4lue db",
            "mysql --password=v4lue db",
            "WITH PASSWORD 'v4lue'",
            "config['password'] = 'v4lue'",
            "twitter password for the app: v4lue",
            "?password=v4lue&x=1",
            "password = b\"v4lue\"",
            "$password .= \"v4lue\"",
            "<password>\n    v4lue\n</password>",
            "{\"name\": \"password\", \"value\": \"v4lue\"}",
            "{\n  \"key\": \"DB_PASSWORD\",\n  \"value\" : \"v4lue\"\n}",
            "- name: DB_PASSWORD\n  value: v4lue\n",
            "<name>password</name>\n<value>v4lue</value>",
            "<entry>\n  <name=\"password\" />\n  <value=\"v4lue\" />",
            "\"password\": {\"value\": \"v4lue\"}",
            "password: |\n  v4lue\n",
            "password: >-\n    v4lue\n",
            "FROM x\nENV DB_PASSWORD v4lue\n",
            "SetEnv DB_PASSWORD v4lue",
            "set -gx DB_PASSWORD v4lue",
        ] {
            assert_eq!(value(text, "password").as_deref(), Some("v4lue"), "{text}");
        }
        for text in [
            "my env password is used",
            "the password values of it",
            "password {\n  valued: x",
            "the password is used",
            "password::verify",
            "password\n= x",
            "password",
        ] {
            assert_eq!(value(text, "password"), None, "{text}");
        }
    }
}
