//! Words and signs of a text, each with the white space before it, and a three-way merge of them.
//!
//! Two changes of one line, or of two lines that touch, are no contradiction when the words that they change stand apart. The same holds
//! where one side only lays the text out anew.

use std::ops::Range;

use imara_diff::{Algorithm, Diff, InternedInput, TokenSource};

/// More words than this in one version are not merged one by one.
const WORDS_MAX: usize = 20_000;

/// A word or a sign, and what stands before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Word<'a> {
    /// The white space before it.
    pub space: &'a [u8],
    /// The word: letters, digits, `_` and what is not ASCII, a number with its dots; or one sign.
    pub text: &'a [u8],
}

/// The words of a text; what is behind the last is white space and returned apart.
#[must_use]
pub fn words(text: &[u8]) -> (Vec<Word<'_>>, &[u8]) {
    let (mut words, mut at) = (Vec::new(), 0);
    loop {
        let space = text[at..].iter().take_while(|byte| byte.is_ascii_whitespace()).count();
        let start = at + space;
        if start == text.len() {
            return (words, &text[at..]);
        }
        let length = word_length(&text[start..]);
        words.push(Word { space: &text[at..start], text: &text[start..start + length] });
        at = start + length;
    }
}

/// How long the word at the beginning is. A number holds the dots between its digits, so that a version is one word.
fn word_length(text: &[u8]) -> usize {
    let is_letter = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_' || !byte.is_ascii();
    let digit = |at: usize| text.get(at).is_some_and(u8::is_ascii_digit);
    let mut length = 0;
    while text.get(length).is_some_and(is_letter)
        || (length > 0 && text.get(length) == Some(&b'.') && digit(length - 1) && digit(length + 1))
    {
        length += 1;
    }
    length.max(1)
}

struct Texts<'a, 'b>(&'b [Word<'a>]);

impl<'a, 'b> TokenSource for Texts<'a, 'b> {
    type Token = &'a [u8];
    type Tokenizer = std::iter::Map<std::slice::Iter<'b, Word<'a>>, fn(&Word<'a>) -> &'a [u8]>;
    fn tokenize(&self) -> Self::Tokenizer {
        self.0.iter().map(|word| word.text)
    }
    fn estimate_tokens(&self) -> u32 {
        u32::try_from(self.0.len()).unwrap_or(u32::MAX)
    }
}

/// What one side changed: words of the base, and words of the side that stand there now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edit {
    /// Words of the base; empty for an insertion before the word of that number.
    pub base: Range<usize>,
    /// Words of the side.
    pub side: Range<usize>,
}

/// What `side` changed in the words of `base`, in order.
#[must_use]
pub fn edits(base: &[Word<'_>], side: &[Word<'_>]) -> Vec<Edit> {
    let input = InternedInput::new(Texts(base), Texts(side));
    let mut diff = Diff::compute(Algorithm::Myers, &input);
    diff.postprocess_no_heuristic(&input);
    let range = |range: Range<u32>| range.start as usize..range.end as usize;
    diff.hunks().map(|hunk| Edit { base: range(hunk.before), side: range(hunk.after) }).collect()
}

/// How a merge of words went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Merged {
    /// The text.
    pub text: Vec<u8>,
    /// The smallest number of words that both kept between a change of one side and a change of the other; none when only one changed words.
    pub apart: Option<usize>,
    /// Of 1,000 words of the base, how many the side kept that kept fewer.
    pub kept: usize,
    /// Whether neither side took a word out.
    pub only_added: bool,
}

/// Merges word by word. None where both sides changed the same words differently or inserted at one place, or where it is too long.
#[must_use]
pub fn merge(base: &[u8], ours: &[u8], theirs: &[u8]) -> Option<Merged> {
    let ((b, _), (o, o_end), (t, t_end)) = (words(base), words(ours), words(theirs));
    if b.len().max(o.len()).max(t.len()) > WORDS_MAX {
        return None;
    }
    let (left, right) = (edits(&b, &o), edits(&b, &t));
    let mut out = Out { text: Vec::new(), at: 0, o: 0, t: 0, b: &b, ours: &o, theirs: &t };
    let (mut l, mut r, mut apart) = (0, 0, None::<usize>);
    let mut last: Option<(bool, usize)> = None;
    while l < left.len() || r < right.len() {
        let start = left.get(l).map(|edit| edit.base.start).into_iter().chain(right.get(r).map(|edit| edit.base.start)).min()?;
        let (first_l, first_r, mut end) = (l, r, start);
        loop {
            let before = (l, r);
            while let Some(edit) = left.get(l).filter(|edit| edit.base.start <= end) {
                (l, end) = (l + 1, end.max(edit.base.end));
            }
            while let Some(edit) = right.get(r).filter(|edit| edit.base.start <= end) {
                (r, end) = (r + 1, end.max(edit.base.end));
            }
            if (l, r) == before {
                break;
            }
        }
        out.keep_until(start);
        let grown = |edits: &[Edit]| {
            end - start + edits.iter().map(|edit| edit.side.len()).sum::<usize>() - edits.iter().map(|edit| edit.base.len()).sum::<usize>()
        };
        let (in_o, in_t) = (out.o..out.o + grown(&left[first_l..l]), out.t..out.t + grown(&right[first_r..r]));
        let of_left = match (first_l < l, first_r < r) {
            (true, false) => Some(true),
            (false, true) => Some(false),
            _ if same(&o[in_o.clone()], &t[in_t.clone()]) => None,
            _ => return None,
        };
        if let (Some((of, before)), Some(now)) = (last, of_left)
            && of != now
        {
            apart = Some(apart.map_or(start - before, |apart| apart.min(start - before)));
        }
        let (taken, other) =
            if of_left == Some(false) { (&t[in_t.clone()], &o[in_o.clone()]) } else { (&o[in_o.clone()], &t[in_t.clone()]) };
        match (taken.split_first(), b[start..end].first(), other.first()) {
            // A word in the place of another stands where the side has moved that one which changed nothing else.
            (Some((first, rest)), Some(base), Some(other)) if of_left.is_some() && first.space == base.space => {
                out.put(other.space, first.text);
                out.put_all(rest);
            }
            _ => out.put_all(taken),
        }
        (out.at, out.o, out.t) = (end, in_o.end, in_t.end);
        last = of_left.map(|of| (of, end));
    }
    out.keep_until(b.len());
    let base_end = words(base).1;
    out.text.extend_from_slice(if o_end == base_end { t_end } else { o_end });
    let kept = |edits: &[Edit]| 1000 - 1000 * edits.iter().map(|edit| edit.base.len()).sum::<usize>() / b.len().max(1);
    let only_added = left.iter().chain(&right).all(|edit| edit.base.is_empty());
    Some(Merged { text: out.text, apart, kept: kept(&left).min(kept(&right)), only_added })
}

/// Whether the words are the same, whatever stands between them.
fn same(a: &[Word<'_>], b: &[Word<'_>]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.text == b.text)
}

/// The merged text as it grows, and how far each version is taken over.
struct Out<'a, 'b> {
    text: Vec<u8>,
    at: usize,
    o: usize,
    t: usize,
    b: &'b [Word<'a>],
    ours: &'b [Word<'a>],
    theirs: &'b [Word<'a>],
}

impl Out<'_, '_> {
    /// Words that all have; the white space is that of the side that changed it.
    fn keep_until(&mut self, base: usize) {
        while self.at < base {
            let (word, ours, theirs) = (self.b[self.at], self.ours[self.o], self.theirs[self.t]);
            self.put(if ours.space == word.space { theirs.space } else { ours.space }, word.text);
            (self.at, self.o, self.t) = (self.at + 1, self.o + 1, self.t + 1);
        }
    }

    fn put(&mut self, space: &[u8], text: &[u8]) {
        self.text.extend_from_slice(space);
        self.text.extend_from_slice(text);
    }

    fn put_all(&mut self, words: &[Word<'_>]) {
        for word in words {
            self.put(word.space, word.text);
        }
    }
}
