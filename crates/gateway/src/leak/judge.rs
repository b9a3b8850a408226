//! Whether a text that has the form of a credential looks like a real one: chance, not words, and no example.

/// Words of examples. A credential that holds one is taken for an example.
const EXAMPLES: &[&str] = &[
    "example",
    "exampl",
    "your",
    "placeholder",
    "changeme",
    "change_me",
    "change-me",
    "change-it",
    "dummy",
    "sample",
    "redacted",
    "xxxx",
    "fake",
    "foobar",
    "insert",
    "replace",
    "notreal",
    "not-real",
    "not_real",
    "not-a-",
    "not_a_",
    "my-secret",
    "my_secret",
    "mysecret",
    "mytoken",
    "my-token",
    "my_token",
    "my-api",
    "my_api",
    "myapi",
    "mykey",
    "my-key",
    "my_key",
    "-here",
    "_here",
    "keyhere",
    "tokenhere",
    "secrethere",
    "deadbeef",
    "cafebabe",
    "lorem",
    "ipsum",
    "qwerty",
    "asdfgh",
    "testtest",
    "test-token",
    "test_token",
    "test-key",
    "test_key",
    "testkey",
    "testtoken",
    "test-secret",
    "test_secret",
    "no-such",
    "invalid",
    "goes-here",
    "goeshere",
    "some-",
    "some_",
    "abc123",
    "abcd1234",
    "123abc",
    "secret123",
    "1234abcd",
    "a1b2c3",
    "1a2b3c",
    "0000000",
    "bogus",
    "todo",
    "password",
    "passwd",
    "undefined",
    "template",
    "unused",
    "mock",
];

/// Shannon's entropy in bits for a byte.
#[expect(clippy::cast_precision_loss, reason = "lengths are far below 2^24")]
pub(super) fn entropy(bytes: &[u8]) -> f32 {
    let mut counts = [0_u32; 256];
    bytes.iter().for_each(|byte| counts[usize::from(*byte)] += 1);
    let total = bytes.len().max(1) as f32;
    counts.iter().filter(|count| **count > 0).map(|count| *count as f32 / total).map(|share| -share * share.log2()).sum()
}

/// The least entropy of a random text of this length; hexadecimal ones have less.
fn floor(length: usize) -> f32 {
    match length {
        0..=9 => 1.9,
        10..=15 => 2.3,
        16..=23 => 2.6,
        _ => 2.9,
    }
}

/// Whether the bytes are an example rather than a value that somebody was given.
pub(super) fn is_example(bytes: &[u8]) -> bool {
    if bytes.is_empty() {
        return false;
    }
    let lower = bytes.to_ascii_lowercase();
    let holds = |word: &&str| lower.windows(word.len()).any(|part| part == word.as_bytes());
    longest_run(&lower, 0) >= 6
        || longest_run(&lower, 1) >= 6
        || longest_run(&lower, -1) >= 6
        || repeats(&lower)
        || EXAMPLES.iter().any(holds)
}

/// Whether the random part of a form is chance enough.
pub(super) fn is_random(bytes: &[u8]) -> bool {
    bytes.len() < 6 || (entropy(bytes) >= floor(bytes.len()) && !is_example(bytes) && !is_words(bytes))
}

/// The longest run in which each byte is `step` more than the one before.
fn longest_run(bytes: &[u8], step: i16) -> usize {
    let (mut best, mut now) = (1, 1);
    for pair in bytes.windows(2) {
        now = if i16::from(pair[1]) - i16::from(pair[0]) == step { now + 1 } else { 1 };
        best = best.max(now);
    }
    best
}

/// Whether it is a short text over and over.
fn repeats(bytes: &[u8]) -> bool {
    (1..=bytes.len() / 3).take(16).any(|period| bytes.iter().zip(&bytes[period..]).all(|(one, other)| one == other))
}

/// How much of a text is words, in hundredths: runs of letters, of which a capital behind a small letter begins a new one, whose neighbours
/// are mostly common ones in English and in names of programs. Chance has few runs of three letters and more that look so.
pub(super) fn word_share(bytes: &[u8]) -> usize {
    let (mut letters, mut start) = (0, 0);
    for at in 1..=bytes.len() {
        let goes_on = at < bytes.len()
            && bytes[at].is_ascii_alphabetic()
            && bytes[at - 1].is_ascii_alphabetic()
            && !(bytes[at].is_ascii_uppercase() && bytes[at - 1].is_ascii_lowercase());
        if !goes_on {
            let run = &bytes[start..at];
            letters += if is_word(run) { run.len() } else { 0 };
            start = at;
        }
    }
    letters * 100 / bytes.len().max(1)
}

fn is_word(run: &[u8]) -> bool {
    let (pairs, common) = pairs(run);
    pairs >= 2 && common * 100 >= pairs * 70
}

/// How many neighbours there are among the letters of a run, and how many of them are common.
pub(super) fn pairs(run: &[u8]) -> (usize, usize) {
    let common = run.windows(2).filter(|pair| super::bigrams::is_common(pair[0] | 0x20, pair[1] | 0x20)).count();
    (run.len().saturating_sub(1), common)
}

/// Whether it is a number in hexadecimal, or several with dashes between: its letters form no words.
pub(super) fn is_hex(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| byte.is_ascii_hexdigit() || *byte == b'-') && bytes.iter().any(u8::is_ascii_digit)
}

/// Whether the letters form words.
pub(super) fn is_words(bytes: &[u8]) -> bool {
    !is_hex(bytes) && word_share(bytes) >= 50
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn examples_are_known() {
        for example in [
            "abcdefghijklmnop",
            "xxxxxxxxxxxxxxxx",
            "YOUR_API_KEY",
            "IOSFODNN7EXAMPLE",
            "12345678901234567890",
            "abcabcabcabcabc",
            "0000000000",
        ] {
            assert!(is_example(example.as_bytes()), "{example}");
        }
        for real in ["q8Zt2LmP0vRx7Kd", "9f3c1b7ae2d46508"] {
            assert!(!is_example(real.as_bytes()), "{real}");
        }
    }

    #[test]
    fn words_are_told_from_chance() {
        for words in ["authentication-provider-name", "getUserAccessTokenFromRequest", "internal_server_error_handler"] {
            assert!(is_words(words.as_bytes()), "{words}");
        }
        for chance in ["kqzvxwjplmtrbgfd", "Zq8xKvJw2LmPr7Td", "9f3c1b7ae2d465081f"] {
            assert!(!is_words(chance.as_bytes()), "{chance}");
        }
    }
}
