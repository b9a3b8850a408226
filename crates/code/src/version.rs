//! Version strings: where three texts differ in one version alone, the higher one stands.

use std::cmp::Ordering;

/// The text of the side with the higher version, where base, ours and theirs are the same but for one version each, and both raised it.
#[must_use]
pub fn newer<'a>(base: &'a [u8], ours: &'a [u8], theirs: &'a [u8]) -> Option<&'a [u8]> {
    let [b, o, t] = [base, ours, theirs].map(parts);
    if o.around != t.around || b.around != o.around || b.versions.len() != 1 || o.versions.len() != 1 || t.versions.len() != 1 {
        return None;
    }
    let (was, one, other) = (&b.versions[0], &o.versions[0], &t.versions[0]);
    if order(one, was) != Ordering::Greater || order(other, was) != Ordering::Greater {
        return None;
    }
    match order(one, other) {
        Ordering::Less => Some(theirs),
        _ => Some(ours),
    }
}

/// A text with its versions taken out.
struct Parts {
    around: Vec<u8>,
    versions: Vec<String>,
}

fn parts(text: &[u8]) -> Parts {
    let (mut around, mut versions, mut at) = (Vec::new(), Vec::new(), 0);
    while at < text.len() {
        let length = version_at(text, at);
        if length > 0 {
            versions.push(String::from_utf8_lossy(&text[at..at + length]).into_owned());
            around.push(0);
            at += length;
        } else {
            around.push(text[at]);
            at += 1;
        }
    }
    Parts { around, versions }
}

/// How many bytes of a version begin here: two numbers at least with dots between, and what makes it an early one.
fn version_at(text: &[u8], at: usize) -> usize {
    let is_word = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b'+');
    if at > 0 && (is_word(&text[at - 1]) && text[at - 1] != b'v') || !text[at].is_ascii_digit() {
        return 0;
    }
    let word = text[at..].iter().take_while(|byte| is_word(byte)).count();
    let word = &text[at..at + word];
    let numbers = word.split(|byte| *byte == b'.').take_while(|part| part.first().is_some_and(u8::is_ascii_digit)).count();
    if numbers >= 2 { word.len() } else { 0 }
}

/// Numbers by their value, then what is finished before what is early (`-dev`, `rc1`, `.beta2`).
fn order(a: &str, b: &str) -> Ordering {
    let (a, b) = (numbers(a), numbers(b));
    let length = a.0.len().max(b.0.len());
    let full = |numbers: &[u64]| (0..length).map(|at| numbers.get(at).copied().unwrap_or(0)).collect::<Vec<_>>();
    full(&a.0).cmp(&full(&b.0)).then_with(|| match (a.1.is_empty(), b.1.is_empty()) {
        (true, true) => Ordering::Equal,
        (true, false) => Ordering::Greater,
        (false, true) => Ordering::Less,
        (false, false) => a.1.cmp(&b.1),
    })
}

/// The leading numbers, and the rest.
fn numbers(version: &str) -> (Vec<u64>, String) {
    let (mut numbers, mut rest) = (Vec::new(), version);
    loop {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let Ok(number) = rest[..digits].parse() else { return (numbers, rest.to_owned()) };
        numbers.push(number);
        rest = &rest[digits..];
        match rest.strip_prefix('.').filter(|more| more.starts_with(|c: char| c.is_ascii_digit())) {
            Some(more) => rest = more,
            None => return (numbers, rest.to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::newer;

    #[test]
    fn the_higher_version_stands_where_both_raised_it() {
        for (base, ours, theirs, expected) in [
            ("v = '0.9.2-dev'", "v = '0.10-dev'", "v = '0.9.3-dev'", Some("v = '0.10-dev'")),
            ("\"version\": \"1.2.3\",", "\"version\": \"1.2.4\",", "\"version\": \"1.3.0-rc1\",", Some("\"version\": \"1.3.0-rc1\",")),
            ("v1.2", "v1.3-dev", "v1.3", Some("v1.3")),
            ("a 1.2 b", "a 1.3 b", "a 1.4 c", None),
            ("a 1.2", "a 1.1", "a 1.3", None),
            ("a 1.2 2.0", "a 1.3 2.0", "a 1.4 2.0", None),
            ("port 80", "port 81", "port 82", None),
        ] {
            let found = newer(base.as_bytes(), ours.as_bytes(), theirs.as_bytes());
            assert_eq!(found.map(|text| std::str::from_utf8(text).unwrap()), expected, "{base}");
        }
    }
}
