//! The form of a credential: literal text and runs of characters, matched without a regular expression engine.
//!
//! A form is written as `ghp_<n36>`: literal characters, and in angle brackets a class of characters with how many of them there are
//! (`<n36>`, `<s20,64>`). `<uuid>` is a UUID. `^` marks where the anchor begins, where that is not the beginning of the form.

/// A set of bytes.
pub(super) type Class = [bool; 256];

const fn class(ranges: &[u8]) -> Class {
    let mut set = [false; 256];
    let mut at = 0;
    while at < ranges.len() {
        let mut byte = ranges[at];
        while byte <= ranges[at + 1] {
            set[byte as usize] = true;
            byte += 1;
        }
        at += 2;
    }
    set
}

/// The letters of the classes and what they stand for.
static CLASSES: &[(u8, Class)] = &[
    (b'd', class(b"09")),
    (b'h', class(b"09af")),
    (b'H', class(b"09afAF")),
    (b'l', class(b"az")),
    (b'u', class(b"AZ")),
    (b'a', class(b"azAZ")),
    (b'k', class(b"09az")),
    (b'U', class(b"09AZ")),
    (b'n', class(b"09azAZ")),
    (b'w', class(b"09azAZ__")),
    (b's', class(b"09azAZ__--")),
    (b'e', class(b"09azAZ__--==")),
    (b't', class(b"09azAZ__--..")),
    (b'q', class(b"09azAZ__--..==")),
    (b'r', class(b"09azAZ__--..~~")),
    (b'b', class(b"09azAZ++//")),
    (b'B', class(b"09azAZ++//==")),
    (b'm', class(b"09azAZ__--++//==")),
    (b'p', class(b"09azAZ__--%%")),
    (b'3', class(b"27AZ")),
    (b'2', class(b"27az")),
    (b'x', class(b"0023456789AACHJNPZ")),
    (b'=', class(b"==")),
    (b'/', class(b"//")),
    (b'.', class(b"09azAZ__--..~~++//==!!@@##$$%%^^&&**??::")),
];

/// Returns a class by its letter.
pub(super) fn class_named(letter: u8) -> Option<&'static Class> {
    CLASSES.iter().find(|(name, _)| *name == letter).map(|(_, class)| class)
}

/// A part of a form.
#[derive(Clone, Debug)]
pub(super) enum Piece {
    /// These bytes.
    Literal(Vec<u8>),
    /// Between `min` and `max` bytes of the class.
    Run { class: &'static Class, min: usize, max: usize },
}

/// A form, taken apart.
#[derive(Clone, Debug, Default)]
pub(super) struct Pattern {
    /// Its parts in order.
    pub(super) pieces: Vec<Piece>,
    /// The part at which the anchor begins.
    pub(super) anchor: usize,
}

/// How an anchor begins, with the case of letters folded away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Beginning {
    /// The first four bytes.
    pub(super) gram: u32,
    /// The bytes behind them, where `mask` has bits.
    pub(super) next: u32,
    /// Which of the bytes behind them are told by the anchor.
    pub(super) mask: u32,
}

/// Where a form was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Match {
    /// The first byte.
    pub(super) start: usize,
    /// Behind the last one.
    pub(super) end: usize,
    /// What the runs matched: the part that is random in a real credential.
    pub(super) random: Vec<u8>,
}

impl Pattern {
    /// Takes a form apart. What is not understood is taken literally; a test holds every form of the tables against that.
    pub(super) fn parse(form: &str) -> Self {
        let (mut pattern, mut literal, mut rest) = (Self::default(), Vec::new(), form);
        while let Some(first) = rest.chars().next() {
            let inside = rest.strip_prefix('<').and_then(|rest| rest.split_once('>'));
            match inside.and_then(|(spec, behind)| Some((pieces_of(spec)?, behind))) {
                Some((pieces, behind)) => {
                    pattern.flush(&mut literal);
                    pattern.pieces.extend(pieces);
                    rest = behind;
                }
                None => {
                    if first == '^' {
                        pattern.flush(&mut literal);
                        pattern.anchor = pattern.pieces.len();
                    } else {
                        literal.extend_from_slice(first.encode_utf8(&mut [0; 4]).as_bytes());
                    }
                    rest = &rest[first.len_utf8()..];
                }
            }
        }
        pattern.flush(&mut literal);
        pattern
    }

    fn flush(&mut self, literal: &mut Vec<u8>) {
        if !literal.is_empty() {
            self.pieces.push(Piece::Literal(std::mem::take(literal)));
        }
    }

    /// Matches with the anchor at `at`. The longest match is returned.
    pub(super) fn match_at(&self, text: &[u8], at: usize) -> Option<Match> {
        let before = &self.pieces[..self.anchor];
        let start = match before {
            [] => at,
            [Piece::Run { class, min, max }] => {
                let count = text[..at].iter().rev().take(*max).take_while(|byte| class[usize::from(**byte)]).count();
                (count >= *min).then(|| at - count)?
            }
            pieces => at.checked_sub(pieces.iter().map(Piece::least).sum())?,
        };
        let mut random = Vec::new();
        let end = walk(&self.pieces, text, start, &mut random)?;
        Some(Match { start, end, random })
    }

    /// Returns every way in which the anchor may begin, folded with [`fold`].
    pub(super) fn beginnings(&self) -> Vec<Beginning> {
        let mut grams = vec![0_u32];
        let mut places = self.pieces[self.anchor..].iter().flat_map(Piece::sets);
        for place in 0..4 {
            let set: Vec<u32> = places.next().map_or_else(|| fold_set(|_| true), |set| fold_set(|byte| set[usize::from(byte)]));
            grams = grams.iter().flat_map(|gram| set.iter().map(move |byte| gram | byte << (8 * place))).collect();
        }
        let (mut next, mut mask) = (0, 0);
        for place in 0..4 {
            let Some(set) = places.next() else { break };
            let folded = fold_set(|byte| set[usize::from(byte)]);
            let [byte] = folded.as_slice() else { break };
            next |= byte << (8 * place);
            mask |= 0xff << (8 * place);
        }
        grams.into_iter().map(|gram| Beginning { gram, next, mask }).collect()
    }

    /// The class of the last part, if it is a run.
    pub(super) fn last_class(&self) -> Option<&'static Class> {
        match self.pieces.last()? {
            Piece::Run { class, .. } => Some(class),
            Piece::Literal(_) => None,
        }
    }
}

/// Makes letters of both cases one: what the prefilter compares.
pub(super) const fn fold(gram: u32) -> u32 {
    gram | 0x2020_2020
}

fn fold_set(holds: impl Fn(u8) -> bool) -> Vec<u32> {
    let mut set: Vec<u32> = (0..=255_u8).filter(|byte| holds(*byte)).map(|byte| u32::from(byte | 0x20)).collect();
    set.sort_unstable();
    set.dedup();
    set
}

impl Piece {
    fn least(&self) -> usize {
        match self {
            Self::Literal(bytes) => bytes.len(),
            Self::Run { min, .. } => *min,
        }
    }

    fn sets(&self) -> Vec<Class> {
        match self {
            Self::Literal(bytes) => bytes.iter().map(|byte| class(&[*byte, *byte])).collect(),
            Self::Run { class, min, .. } => vec![**class; (*min).min(4)],
        }
    }
}

fn pieces_of(spec: &str) -> Option<Vec<Piece>> {
    if spec == "uuid" {
        let hex = class_named(b'H')?;
        let run = |count| Piece::Run { class: hex, min: count, max: count };
        let dash = || Piece::Literal(b"-".to_vec());
        return Some(vec![run(8), dash(), run(4), dash(), run(4), dash(), run(4), dash(), run(12)]);
    }
    let (letter, counts) = spec.split_at_checked(1)?;
    let class = class_named(letter.bytes().next()?)?;
    let (min, max) = counts.split_once(',').unwrap_or((counts, counts));
    Some(vec![Piece::Run { class, min: min.parse().ok()?, max: max.parse().ok()? }])
}

/// Greedy, with a way back: a run gives up characters until the rest fits. Runs are short, so the ways are few.
fn walk(pieces: &[Piece], text: &[u8], at: usize, random: &mut Vec<u8>) -> Option<usize> {
    match pieces.split_first() {
        None => Some(at),
        Some((Piece::Literal(bytes), rest)) => {
            text.get(at..)?.starts_with(bytes).then_some(())?;
            walk(rest, text, at + bytes.len(), random)
        }
        Some((Piece::Run { class, min, max }, rest)) => {
            let count = text.get(at..)?.iter().take(*max).take_while(|byte| class[usize::from(**byte)]).count();
            let kept = random.len();
            for taken in (*min..=count).rev() {
                random.extend_from_slice(&text[at..at + taken]);
                if let Some(end) = walk(rest, text, at + taken, random) {
                    return Some(end);
                }
                random.truncate(kept);
            }
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_are_matched_greedily_with_a_way_back() {
        let pattern = Pattern::parse("ab_<n2,6>XY<d2>");
        let found = pattern.match_at(b"-ab_abXYXY12!", 1).unwrap();
        assert_eq!((found.start, found.end, found.random), (1, 12, b"abXY12".to_vec()));
        assert_eq!(pattern.match_at(b"ab_aXY12", 0), None);
        let middle = Pattern::parse("<n3>^_mmk");
        assert_eq!(middle.match_at(b"ab1_mmk", 3).unwrap().end, 7);
        assert_eq!(middle.match_at(b"b1_mmk", 2), None);
        let counted = Pattern::parse("<d2,4>^:A<n2>");
        assert_eq!(counted.match_at(b"99999:Abc", 5).unwrap().start, 1);
    }

    #[test]
    fn anchors_give_every_beginning() {
        let one = Beginning { gram: u32::from_le_bytes(*b"ghp\x7f"), next: u32::from(b'x'), mask: 0xff };
        assert_eq!(Pattern::parse("GHP_x").beginnings(), [one]);
        assert_eq!(Pattern::parse("ab-<d1>").beginnings().len(), 10);
        assert_eq!(Pattern::parse("x<uuid>").pieces.len(), 10);
    }
}
