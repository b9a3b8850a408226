//! The values of secrets: held once, taken out of everything that is written down.

use std::fmt;

use aedile_core::{ExposeSecret, Redactor, SecretString};
use aho_corasick::{AhoCorasick, MatchKind};

use crate::forms::forms_of;

/// A shorter value (local servers are often given `x` or `ollama`) would be found in innocent text and is not searched for.
const SEARCHED_BYTES_MIN: usize = 8;
/// A longer value is a file rather than a key.
const SECRET_BYTES_MAX: usize = 64 * 1024;

/// A secret that the vault cannot keep.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the secret {name} {problem}")]
pub struct BadSecret {
    /// Its name.
    pub name: String,
    /// What is wrong with it.
    pub problem: String,
}

/// Holds secrets by name. The only place that keeps their values.
pub struct Vault {
    secrets: Vec<(String, SecretString)>,
    finder: Option<AhoCorasick>,
    /// What the finder looks for.
    patterns: Vec<String>,
    /// For each pattern of the finder the secret that it belongs to.
    owners: Vec<usize>,
}

impl fmt::Debug for Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.secrets.iter().map(|(name, _)| name)).finish()
    }
}

impl Vault {
    /// Takes the secrets. White space around a value (the line end of a key file) is dropped.
    ///
    /// # Errors
    /// [`BadSecret`] when a name has other characters than letters, digits, `_`, `-` and `.`, is given twice, or a value is empty
    /// or longer than 64 KiB. A value shorter than 8 bytes is kept and injected, but not taken out of texts.
    pub fn new(secrets: impl IntoIterator<Item = (String, SecretString)>) -> Result<Self, BadSecret> {
        let mut kept: Vec<(String, SecretString)> = Vec::new();
        for (name, value) in secrets {
            let value = SecretString::from(value.expose_secret().trim());
            let length = value.expose_secret().len();
            let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
            let problem = if name.is_empty() || name.len() > 100 || !name.chars().all(plain) {
                "must be named with 1 to 100 letters, digits, `_`, `-` and `.`".to_owned()
            } else if kept.iter().any(|(known, _)| *known == name) {
                "is given twice".to_owned()
            } else if !(1..=SECRET_BYTES_MAX).contains(&length) {
                format!("has {length} bytes; a value has 1 to {SECRET_BYTES_MAX}")
            } else {
                kept.push((name, value));
                continue;
            };
            return Err(BadSecret { name: name.chars().take(100).collect(), problem });
        }
        let (mut patterns, mut owners) = (Vec::new(), Vec::new());
        let searched = |value: &SecretString| value.expose_secret().len() >= SEARCHED_BYTES_MIN;
        for (owner, (_, value)) in kept.iter().enumerate().filter(|(_, (_, value))| searched(value)) {
            let forms = forms_of(value.expose_secret());
            owners.extend(std::iter::repeat_n(owner, forms.len()));
            patterns.extend(forms);
        }
        let build = || AhoCorasick::builder().match_kind(MatchKind::LeftmostLongest).build(&patterns);
        let finder = (!patterns.is_empty()).then(build).transpose();
        let failed =
            |error: aho_corasick::BuildError| BadSecret { name: "list".into(), problem: format!("cannot be searched for: {error}") };
        Ok(Self { finder: finder.map_err(failed)?, secrets: kept, patterns, owners })
    }

    /// Returns the names, for reports.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.secrets.iter().map(|(name, _)| name.as_str())
    }

    /// Returns a value, for injection.
    pub(crate) fn get(&self, name: &str) -> Option<&SecretString> {
        self.secrets.iter().find(|(known, _)| known == name).map(|(_, value)| value)
    }

    fn replacement(&self, pattern: usize) -> String {
        format!("[secret {}]", self.secrets[self.owners[pattern]].0)
    }
}

impl Redactor for Vault {
    fn redact_text(&self, text: &str) -> Option<String> {
        let redacted = self.redact_bytes(text.as_bytes())?;
        // Every pattern is whole text, so what is left is too.
        Some(String::from_utf8_lossy(&redacted).into_owned())
    }

    fn redact_bytes(&self, bytes: &[u8]) -> Option<Vec<u8>> {
        let finder = self.finder.as_ref()?;
        let mut out = Vec::new();
        let mut done = 0;
        for found in finder.find_iter(bytes) {
            out.extend_from_slice(&bytes[done..found.start()]);
            out.extend_from_slice(self.replacement(found.pattern().as_usize()).as_bytes());
            done = found.end();
        }
        if done == 0 {
            return None;
        }
        out.extend_from_slice(&bytes[done..]);
        Some(out)
    }

    /// A pattern may begin in the text and go on behind it; a whole one that reaches into such a beginning is not cut either.
    fn settled(&self, text: &str) -> usize {
        let bytes = text.as_bytes();
        let longest = self.patterns.iter().map(String::len).max().unwrap_or(0);
        let begins = |at: usize| {
            let rest = &bytes[at..];
            self.patterns.iter().any(|pattern| pattern.len() > rest.len() && pattern.as_bytes().starts_with(rest))
        };
        let Some(open) = (bytes.len().saturating_sub(longest.saturating_sub(1))..bytes.len()).find(|at| begins(*at)) else {
            return bytes.len();
        };
        let found = self.finder.iter().flat_map(|finder| finder.find_iter(bytes));
        let cut = found.map(|found| found.range()).find(|found| found.contains(&open)).map_or(open, |found| found.start);
        text.floor_char_boundary(cut)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "sk-ant-\"q\"/+\u{e9}~0123456789abcdef";

    fn vault() -> Vault {
        Vault::new([
            ("ANTHROPIC_API_KEY".to_owned(), SecretString::from(format!("  {KEY}\n"))),
            ("OTHER".to_owned(), "hunter2-hunter2".into()),
        ])
        .unwrap()
    }

    #[test]
    fn every_form_is_replaced_and_the_rest_stays() {
        let vault = vault();
        let json = serde_json::to_string(KEY).unwrap();
        let upper_hex: String = KEY.bytes().map(|byte| format!("{byte:02X}")).collect();
        for form in [KEY.to_owned(), json.trim_matches('"').to_owned(), upper_hex.to_lowercase(), upper_hex] {
            assert_eq!(vault.redact_text(&format!("a {form} b hunter2-hunter2")).unwrap(), "a [secret ANTHROPIC_API_KEY] b [secret OTHER]");
        }
        assert_eq!(
            vault.redact_text("https://x/?k=sk-ant-%22q%22%2F%2B%C3%A9~0123456789abcdef&b").unwrap(),
            "https://x/?k=[secret ANTHROPIC_API_KEY]&b"
        );
        assert_eq!(vault.redact_text("hunter2 is not enough"), None);
        assert_eq!(vault.redact_bytes(b"\xff\0hunter2-hunter2\xfe").unwrap(), b"\xff\0[secret OTHER]\xfe");
    }

    #[test]
    fn a_secret_in_pieces_is_found_whatever_the_cut() {
        let vault = vault();
        let text = format!("sk-an, s {KEY}sk-{KEY}: hunter2-hunter2-hunter2-hunter2 sk-ant-\u{e9}");
        let clean = "sk-an, s [secret ANTHROPIC_API_KEY]sk-[secret ANTHROPIC_API_KEY]: [secret OTHER]-[secret OTHER] sk-ant-\u{e9}";
        for size in 1..=text.chars().count() {
            let mut pieces = aedile_core::redact::Pieces::default();
            let chars: Vec<char> = text.chars().collect();
            let mut shown: String = chars.chunks(size).map(|piece| pieces.add(&vault, &piece.iter().collect::<String>())).collect();
            shown += &pieces.end(&vault);
            assert_eq!(shown, clean, "pieces of {size}");
        }
        assert_eq!(vault.settled("nothing of it here."), 19, "ordinary text is not held back");
        let two = Vault::new([
            ("A".to_owned(), "12345678".into()),
            ("B".to_owned(), "12345678-long".into()),
            ("C".to_owned(), "78-other".into()),
        ]);
        let two = two.unwrap();
        for (text, settled) in [("x 12345678", 2), ("x 12345678-", 2), ("x 12345678-l", 2), ("x 12345678-o", 2), ("x 12345678-o ", 13)] {
            assert_eq!(two.settled(text), settled, "{text}");
        }
    }

    #[test]
    fn base64_is_found_at_every_alignment() {
        let vault = vault();
        for before in ["", "u", "us", "use", "user:"] {
            for after in ["", "x", "xy", "xyz"] {
                for url_safe in [false, true] {
                    let text = base64(format!("{before}{KEY}{after}").as_bytes(), url_safe);
                    let clean = vault.redact_text(&text).unwrap_or_else(|| panic!("{before:?} {after:?} {url_safe}"));
                    assert!(clean.contains("[secret ANTHROPIC_API_KEY]") && clean.len() < 40, "{clean}");
                }
            }
        }
    }

    fn base64(bytes: &[u8], url_safe: bool) -> String {
        let alphabet: &[u8] = if url_safe {
            b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
        } else {
            b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
        };
        let mut text = String::new();
        for chunk in bytes.chunks(3) {
            let word = chunk.iter().fold(0_u32, |word, byte| word << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
            for sextet in 0..=chunk.len() {
                text.push(char::from(alphabet[(word >> (18 - 6 * sextet)) as usize & 63]));
            }
        }
        text
    }

    #[test]
    fn bad_secrets_are_refused_without_their_value() {
        let refused = |name: &str, value: &str| Vault::new([(name.to_owned(), SecretString::from(value))]).unwrap_err().to_string();
        assert_eq!(refused("K", " "), "the secret K has 0 bytes; a value has 1 to 65536");
        assert!(refused("a b", "0123456789").contains("must be named"));
        assert!(!format!("{:?}", vault()).contains("sk-ant"));
        let short = Vault::new([("LOCAL".to_owned(), "ollama".into())]).unwrap();
        assert_eq!((short.redact_text("ollama"), short.get("LOCAL").is_some()), (None, true));
        assert_eq!(Vault::new([]).unwrap().redact_text("x"), None);
    }
}
