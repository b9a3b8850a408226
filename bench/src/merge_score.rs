//! Scores one answer of a merge against what a person committed, in classes and counts of normalised lines.

use std::collections::HashMap;

use aedile_code::Sides;

/// What an answer is worth.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Class {
    /// The person's bytes.
    Exact,
    /// The same but for white space.
    Space,
    /// The same normalised lines in another order.
    Bag,
    /// A line that a side added and the person kept is not there.
    Lossy,
    /// Anything else.
    Other,
}

impl Class {
    /// Whether the answer is the person's, or differs in white space alone.
    pub(crate) fn is_right(self) -> bool {
        matches!(self, Self::Exact | Self::Space)
    }

    /// Whether it is wrong without a word.
    pub(crate) fn is_wrong(self) -> bool {
        matches!(self, Self::Lossy | Self::Other)
    }
}

/// A clean answer, scored.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Score {
    /// What it is worth.
    pub(crate) class: Class,
    /// Lines that a side added and the person kept, and the answer lacks.
    pub(crate) lost: usize,
    /// Lines that a side deleted and the person left out, and the answer has.
    pub(crate) resurrected: usize,
}

/// Scores a clean answer.
pub(crate) fn score(sides: &Sides<'_>, human: &[u8], answer: &[u8]) -> Score {
    let (b, o, t, h, r) = (bag(sides.base), bag(sides.ours), bag(sides.theirs), bag(human), bag(answer));
    let (mut lost, mut resurrected) = (0, 0);
    let mut lines: Vec<&Vec<u8>> = b.keys().chain(o.keys()).chain(t.keys()).collect();
    lines.sort_unstable();
    lines.dedup();
    for line in lines {
        let count = |bag: &Bag| bag.get(line).copied().unwrap_or(0);
        let (base, ours, theirs, human, result) = (count(&b), count(&o), count(&t), count(&h), count(&r));
        let added = ours.saturating_sub(base) + theirs.saturating_sub(base);
        let deleted = base.saturating_sub(ours) + base.saturating_sub(theirs);
        lost += added.min(human.saturating_sub(result));
        resurrected += deleted.min(result.saturating_sub(human));
    }
    let class = if answer == human {
        Class::Exact
    } else if solid(answer) == solid(human) {
        Class::Space
    } else if h == r {
        Class::Bag
    } else if lost > 0 {
        Class::Lossy
    } else {
        Class::Other
    };
    Score { class, lost, resurrected }
}

type Bag = HashMap<Vec<u8>, usize>;

/// Normalised lines with their counts: white space is one blank, and lines without a letter or digit are none.
fn bag(text: &[u8]) -> Bag {
    let mut bag = Bag::new();
    for line in text.split(|byte| *byte == b'\n') {
        let words: Vec<&[u8]> = line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty()).collect();
        if line.iter().any(u8::is_ascii_alphanumeric) {
            *bag.entry(words.join(&b' ')).or_default() += 1;
        }
    }
    bag
}

/// The text without white space.
fn solid(text: &[u8]) -> Vec<u8> {
    text.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_class_is_what_it_says() {
        let sides = Sides { base: b"a\nb\nc\n", ours: b"a\nB\nc\nd\n", theirs: b"a\nc\ne\n", path: "x" };
        let of = |answer: &[u8]| score(&sides, b"a\nB\nc\nd\ne\n", answer);
        assert_eq!(of(b"a\nB\nc\nd\ne\n"), Score { class: Class::Exact, lost: 0, resurrected: 0 });
        assert_eq!(of(b"a\n B\nc\n\nd\ne").class, Class::Space);
        assert_eq!(of(b"a\nB\nc\ne\nd\n").class, Class::Bag);
        assert_eq!(of(b"a\nB\nc\nd\n"), Score { class: Class::Lossy, lost: 1, resurrected: 0 });
        assert_eq!(of(b"a\nb\nB\nc\nd\ne\n"), Score { class: Class::Other, lost: 0, resurrected: 1 });
        assert_eq!(of(b"a\nB\nc\nd\ne\nx\n").class, Class::Other, "a line from nowhere");
        assert_eq!(of(b"a\nB\nc\nd\ne\n---\n").class, Class::Bag, "lines without a letter do not count");
    }
}
