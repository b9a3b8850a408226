//! Settles one contested piece of a file by its text. Each rule says what must hold for it; where none does, the piece stays contested.

use std::collections::HashMap;

use crate::names::Place;
use crate::tokens::{self, Word, words};
use crate::version;

/// A contested piece with what stands around it.
#[derive(Debug, Clone, Copy)]
pub struct Contested<'a> {
    /// The base's text; empty where both insert.
    pub base: &'a [u8],
    /// Ours.
    pub ours: &'a [u8],
    /// Theirs.
    pub theirs: &'a [u8],
    /// Lines before it that nobody contests, the nearest last.
    pub before: &'a [&'a [u8]],
    /// Lines behind it, the nearest first.
    pub behind: &'a [&'a [u8]],
    /// Where both insert; none in a file that is not understood, whose insertions are not joined.
    pub place: Option<Place>,
}

/// A rule that settles a piece, and its name in receipts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// Both wrote the same but for white space: ours stands.
    Space,
    /// Both raised one version string: the higher stands.
    Version,
    /// The words that they changed stand apart: both changes are made.
    Words,
    /// Only one changed words, the other laid the text out anew: the words of the one in the layout of the other.
    Layout,
    /// One did all that the other did, and more: it stands.
    Holds,
    /// Both inserted lines into a sorted list: they stand in its order.
    Sorted,
    /// Both inserted something of their own at one place: ours, then theirs.
    Joined,
}

impl Rule {
    /// The name in receipts.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Space => "space",
            Self::Version => "version",
            Self::Words => "words",
            Self::Layout => "layout",
            Self::Holds => "holds",
            Self::Sorted => "sorted",
            Self::Joined => "joined",
        }
    }
}

/// Two texts of which more than this many thousandths of the words are the same are two tries at the same thing, not two things.
const ALIKE_MAX: usize = 599;
/// First lines of so many words are compared, and say the same when more than so many thousandths of their words are.
const BEGIN_WORDS_MIN: usize = 4;
/// See [`BEGIN_WORDS_MIN`].
const BEGIN_ALIKE_MAX: usize = 449;
/// Lines with a letter or digit up to which an insertion among statements is too short to stand for itself.
const SHORT_LINES_MAX: usize = 2;
/// Lines around a piece that tell whether they are sorted.
pub const AROUND_LINES: usize = 4;
/// The least number of them.
const SORTED_LINES_MIN: usize = 2;

/// Settles a piece; returns the text and the rule.
#[must_use]
pub fn settle(piece: &Contested<'_>) -> Option<(Vec<u8>, Rule)> {
    let Contested { base, ours, theirs, .. } = *piece;
    if solid(ours) == solid(theirs) {
        return Some((ours.to_vec(), Rule::Space));
    }
    if base.is_empty() {
        return inserted(piece);
    }
    if let Some(newer) = version::newer(base, ours, theirs) {
        return Some((newer.to_vec(), Rule::Version));
    }
    if let Some(merged) = tokens::merge(base, ours, theirs) {
        match merged.apart {
            None => return Some((merged.text, Rule::Layout)),
            // One word between two changes is a sign more often than a border, and two insertions at most say that both wanted more.
            Some(apart) if apart > 1 && !merged.only_added => return Some((merged.text, Rule::Words)),
            Some(_) => {}
        }
    }
    let (o, t) = (Change::of(base, ours), Change::of(base, theirs));
    if t.is_part_of(&o) && !reorders(base, theirs, &t) {
        return Some((ours.to_vec(), Rule::Holds));
    }
    (o.is_part_of(&t) && !theirs.is_empty() && !reorders(base, ours, &o)).then(|| (theirs.to_vec(), Rule::Holds))
}

fn solid(text: &[u8]) -> Vec<u8> {
    text.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect()
}

/// Whether a side that adds no word put some in another place: that it did so is not to be seen in a rewrite of the same lines.
fn reorders(base: &[u8], side: &[u8], change: &Change<'_>) -> bool {
    let (base, side) = (words(base).0, words(side).0);
    let is_word = |word: &&Word<'_>| word.text.iter().any(u8::is_ascii_alphanumeric);
    let mut rest = base.iter();
    change.0.values().all(|count| *count < 0) && !side.iter().filter(is_word).all(|word| rest.any(|other| other.text == word.text))
}

/// What a side did to the words of a piece, wherever they stand: how many of each it added or took out.
struct Change<'a>(HashMap<&'a [u8], isize>);

impl<'a> Change<'a> {
    fn of(base: &'a [u8], side: &'a [u8]) -> Self {
        let mut counts: HashMap<&[u8], isize> = HashMap::new();
        let is_word = |word: &&[u8]| word.iter().any(|byte| byte.is_ascii_alphanumeric() || !byte.is_ascii());
        let texts = |text| words(text).0.into_iter().map(|word: Word<'a>| word.text);
        texts(side).filter(is_word).for_each(|word| *counts.entry(word).or_default() += 1);
        texts(base).filter(is_word).for_each(|word| *counts.entry(word).or_default() -= 1);
        counts.retain(|_, count| *count != 0);
        Self(counts)
    }

    /// Whether the other did all that this one did.
    fn is_part_of(&self, other: &Self) -> bool {
        let did_too = |(word, count): (&&[u8], &isize)| {
            let there = other.0.get(word).copied().unwrap_or(0);
            count.signum() == there.signum() && count.abs() <= there.abs()
        };
        !self.0.is_empty() && self.0.iter().all(did_too)
    }
}

/// Both inserted at one place.
fn inserted(piece: &Contested<'_>) -> Option<(Vec<u8>, Rule)> {
    let (ours, theirs) = (piece.ours, piece.theirs);
    let (o, t) = (words(ours).0, words(theirs).0);
    if o.is_empty() || t.is_empty() {
        return None;
    }
    let holds = |all: &[Word<'_>], part: &[Word<'_>]| {
        let mut rest = all.iter();
        part.iter().all(|word| rest.any(|other| other.text == word.text))
    };
    if holds(&o, &t) {
        return Some((ours.to_vec(), Rule::Holds));
    }
    let place = piece.place.filter(|_| !holds(&t, &o))?;
    if let Some(text) = sorted(piece) {
        return Some((text, Rule::Sorted));
    }
    let apart = match place {
        Place::List => !share_a_line(ours, theirs),
        Place::Ordered => {
            let same = tokens::edits(&o, &t).iter().fold(o.len(), |same, edit| same - edit.base.len());
            2000 * same / (o.len() + t.len()) <= ALIKE_MAX
                && full_lines(ours).len().max(full_lines(theirs).len()) > SHORT_LINES_MAX
                && !begin_alike(ours, theirs)
        }
    };
    (apart && ours.ends_with(b"\n")).then(|| ([ours, theirs].concat(), Rule::Joined))
}

/// Whether the first lines of both say much the same, as the comments above two tries at one thing do.
fn begin_alike(ours: &[u8], theirs: &[u8]) -> bool {
    let first = |text| full_lines(text).first().copied().unwrap_or_default();
    let said = |line| {
        let is_word = |word: &Word<'_>| word.text.iter().any(u8::is_ascii_alphanumeric);
        words(line).0.into_iter().filter(is_word).collect::<Vec<_>>()
    };
    let (o, t) = (said(first(ours)), said(first(theirs)));
    let same = tokens::edits(&o, &t).iter().fold(o.len(), |same, edit| same - edit.base.len());
    o.len().min(t.len()) >= BEGIN_WORDS_MIN && 2000 * same / (o.len() + t.len()) > BEGIN_ALIKE_MAX
}

/// Lines with a letter or digit, without the white space around.
fn full_lines(text: &[u8]) -> Vec<&[u8]> {
    text.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii).filter(|line| line.iter().any(u8::is_ascii_alphanumeric)).collect()
}

/// Whether both have a line that says something: then it is not clear whether it is wanted twice. Marks above items and ends of blocks say nothing.
fn share_a_line(ours: &[u8], theirs: &[u8]) -> bool {
    let says =
        |line: &&[u8]| !line.starts_with(b"#[") && !line.starts_with(b"@") && !line.starts_with(b"}") && !line.starts_with(b"return");
    let o = full_lines(ours);
    full_lines(theirs).iter().filter(|line| says(line)).any(|line| o.contains(line))
}

/// Merges two insertions of whole lines into lines that are sorted: what stands around, with either of them.
fn sorted(piece: &Contested<'_>) -> Option<Vec<u8>> {
    let lines = |text: &'_ [u8]| -> Vec<Vec<u8>> { text.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect() };
    let (o, t) = (lines(piece.ours), lines(piece.theirs));
    let indent = |line: &[u8]| line.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
    let level = indent(o.first()?);
    let fits = |line: &[u8]| indent(line) == level && line.iter().any(u8::is_ascii_alphanumeric) && line.ends_with(b"\n");
    if !o.iter().chain(&t).all(|line| fits(line)) {
        return None;
    }
    let before: Vec<&[u8]> = piece.before.iter().rev().copied().take_while(|line| fits(line)).collect();
    let behind: Vec<&[u8]> = piece.behind.iter().copied().take_while(|line| fits(line)).collect();
    if before.len() + behind.len() < SORTED_LINES_MIN {
        return None;
    }
    let with = |own: &[Vec<u8>]| {
        let own = own.iter().map(|line| key(line));
        before.iter().rev().map(|line| key(line)).chain(own).chain(behind.iter().map(|line| key(line))).collect::<Vec<_>>().is_sorted()
    };
    if !with(&o) || !with(&t) {
        return None;
    }
    let mut all: Vec<Vec<u8>> = o.into_iter().chain(t).collect();
    all.sort_by_key(|line| key(line));
    all.dedup();
    Some(all.concat())
}

/// What a line is sorted by: its letters, digits and the signs inside of names, without their case.
fn key(line: &[u8]) -> Vec<u8> {
    let counts = |byte: &&u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'/' | b'.' | b':');
    line.iter().filter(counts).map(u8::to_ascii_lowercase).collect()
}
