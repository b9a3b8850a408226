//! Texts that come in pieces and are shown at once: what of them is whole.

use super::assigned::may_get_value;
use super::engine::{Anchor, Shapes};
use super::pattern::Piece;
use super::{REACH, documents, headers};

/// A name and its value stand within so many bytes.
const NAME_AND_VALUE_BYTES_MAX: usize = 400;
/// A longer word is shown although more of it may come.
const WORD_BYTES_MAX: usize = 4096;
/// A word of letters that is longer is none of a language.
const PLAIN_WORD_BYTES_MAX: usize = 16;
/// The end of a word is taken for the beginning of a name when it has so many letters of it.
const NAME_BEGINNING_MIN: usize = 3;

impl Shapes {
    /// Returns how many bytes at the beginning of the text are whole, although more of it is to come: the last word may be the beginning of a
    /// credential, a name may get its value, a private key its end. Ordinary words are not waited for.
    pub fn settled(&self, text: &[u8]) -> usize {
        let tail = text.len().saturating_sub(REACH);
        let begin = b"-----BEGIN";
        if let Some(key) = text[tail..].windows(begin.len()).rposition(|part| part == begin)
            && !text[tail + key..].windows(8).any(|part| part == b"-----END")
        {
            return tail + key;
        }
        let near = text.len().saturating_sub(NAME_AND_VALUE_BYTES_MAX);
        let line = text[near..].iter().rposition(|byte| *byte == b'\n').map_or(near, |at| near + at + 1);
        let mut settled = self.last_word(text);
        // A value may stand below its name; what else goes on stands on one line.
        self.prefilter.each(text, near, text.len(), |at, anchor| {
            let waits = match &self.anchors[usize::from(anchor)] {
                Anchor::Token(..) => false,
                Anchor::Word(word) => holds(text, at, &word.word) && may_get_value(text, (at, at + word.word.len()), settled),
                Anchor::Document(..) if at < line => false,
                Anchor::Document(word, _, rule) => holds(text, at, word) && may_go_on(text, at + word.len(), *rule),
            };
            settled = if waits { settled.min(at) } else { settled };
        });
        settled
    }

    /// Where the last word begins if it may be the beginning of a credential; behind it otherwise.
    fn last_word(&self, text: &[u8]) -> usize {
        let from = text.len().saturating_sub(WORD_BYTES_MAX);
        let start = text[from..].iter().rposition(u8::is_ascii_whitespace).map_or(from, |at| from + at + 1);
        let word = &text[start..];
        // Behind a quote or a bracket another word begins.
        let inner = word
            .iter()
            .rposition(|byte| matches!(byte, b'"' | b'\'' | b'`' | b'(' | b'<' | b'=' | b':' | b','))
            .map_or(word, |at| &word[at + 1..]);
        let plain = word.iter().all(|byte| byte.is_ascii_alphabetic() || !byte.is_ascii() || b".,!?;)\"'(".contains(byte));
        let waits = !plain || word.len() > PLAIN_WORD_BYTES_MAX || (!inner.is_empty() && self.may_begin(inner));
        if waits { start } else { text.len() }
    }

    /// Whether a credential, or the name of one, may begin with the word or with its end.
    fn may_begin(&self, word: &[u8]) -> bool {
        let ends = (0..word.len()).filter(|at| *at == 0 || word.len() - at >= NAME_BEGINNING_MIN);
        let name =
            |name: &[u8]| ends.clone().any(|at| name.get(..word.len() - at).is_some_and(|start| start.eq_ignore_ascii_case(&word[at..])));
        self.anchors.iter().any(|anchor| match anchor {
            Anchor::Token(_, pattern) => match pattern.pieces.first() {
                Some(Piece::Literal(bytes)) => bytes.starts_with(word) || word.starts_with(bytes),
                _ => false,
            },
            Anchor::Word(known) => name(&known.word),
            Anchor::Document(known, ..) => name(known),
        })
    }
}

fn holds(text: &[u8], at: usize, word: &[u8]) -> bool {
    text.get(at..at + word.len()).is_some_and(|here| here.eq_ignore_ascii_case(word))
}

/// Whether the rest of the line may still belong to what began.
fn may_go_on(text: &[u8], end: usize, rule: super::engine::Document) -> bool {
    let rest = text[end..].trim_ascii_start();
    let is = |other: super::engine::Document| std::ptr::fn_addr_eq(rule, other);
    if is(headers::curl) || is(headers::command_password) {
        return rest.is_empty() || rest.windows(2).any(|part| part == b" -") || rest.starts_with(b"-");
    }
    if is(documents::netrc) {
        return true;
    }
    // One word follows, or two: `Authorization: Basic VALUE`.
    rest.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty()).count() <= if is(headers::authorization) { 2 } else { 1 }
        && (rest.is_empty() || !text.last().is_some_and(u8::is_ascii_whitespace))
        && (is(headers::scheme) || is(headers::authorization) || is(super::urls::credentials))
}
