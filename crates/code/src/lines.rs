//! The three-way merge by lines: what git's own merge would do with a file, as a list of pieces.
//!
//! Both sides are compared with the base by the histogram algorithm, as git's merge does it. Changes that touch each other, with no line of
//! the base between them, are one contested piece.

use std::ops::Range;

use imara_diff::{Algorithm, Diff, InternedInput, sources};

/// Whose text a piece of the merged file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// Both sides kept the base.
    Same,
    /// Only ours changed it.
    Ours,
    /// Only theirs changed it.
    Theirs,
    /// Both made the same change.
    Agreed,
    /// Both changed it, differently.
    Contested,
}

/// A piece of the file, as ranges of lines of each version. In order, the pieces cover all three versions whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// Whose text it is.
    pub origin: Origin,
    /// Its lines in the base.
    pub base: Range<usize>,
    /// Its lines in ours.
    pub ours: Range<usize>,
    /// Its lines in theirs.
    pub theirs: Range<usize>,
}

/// The lines of a text, each with its line end. The last may have none.
#[must_use]
pub fn split(text: &[u8]) -> Vec<&[u8]> {
    text.split_inclusive(|byte| *byte == b'\n').collect()
}

/// A change of one side: the lines of the base that it replaces, and what stands there now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The lines of the base that are replaced; empty for an insertion before the line of that number.
    pub base: Range<usize>,
    /// The lines of the side that stand there now; empty for a deletion.
    pub side: Range<usize>,
}

/// What `side` changed in `base`, in order.
#[must_use]
pub fn changes(base: &[u8], side: &[u8]) -> Vec<Change> {
    let input = InternedInput::new(sources::byte_lines(base), sources::byte_lines(side));
    let mut diff = Diff::compute(Algorithm::Histogram, &input);
    diff.postprocess_lines(&input);
    let range = |range: Range<u32>| range.start as usize..range.end as usize;
    diff.hunks().map(|hunk| Change { base: range(hunk.before), side: range(hunk.after) }).collect()
}

/// The pieces of the three-way merge by lines.
#[must_use]
pub fn pieces(base: &[u8], ours: &[u8], theirs: &[u8]) -> Vec<Piece> {
    let (ours_lines, theirs_lines) = (split(ours), split(theirs));
    let (left, right) = (changes(base, ours), changes(base, theirs));
    let mut walk = Walk { pieces: Vec::new(), base: 0, ours: 0, theirs: 0 };
    let (mut l, mut r) = (0, 0);
    while l < left.len() || r < right.len() {
        // The next group: the first change of either side and all that touch it, directly or over one another.
        let start = left.get(l).map(|c| c.base.start).into_iter().chain(right.get(r).map(|c| c.base.start)).min().unwrap_or(walk.base);
        let (first_l, first_r) = (l, r);
        let mut end = start;
        loop {
            let before = (l, r);
            while left.get(l).is_some_and(|change| change.base.start <= end) {
                end = end.max(left[l].base.end);
                l += 1;
            }
            while right.get(r).is_some_and(|change| change.base.start <= end) {
                end = end.max(right[r].base.end);
                r += 1;
            }
            if (l, r) == before {
                break;
            }
        }
        walk.keep_until(start);
        walk.group(end, &left[first_l..l], &right[first_r..r], &ours_lines, &theirs_lines);
    }
    walk.keep_until(split(base).len());
    walk.pieces
}

struct Walk {
    pieces: Vec<Piece>,
    base: usize,
    ours: usize,
    theirs: usize,
}

impl Walk {
    fn keep_until(&mut self, base: usize) {
        let length = base - self.base;
        if length > 0 {
            self.push(Origin::Same, length, length, length);
        }
    }

    fn push(&mut self, origin: Origin, base: usize, ours: usize, theirs: usize) {
        let piece = Piece {
            origin,
            base: self.base..self.base + base,
            ours: self.ours..self.ours + ours,
            theirs: self.theirs..self.theirs + theirs,
        };
        (self.base, self.ours, self.theirs) = (piece.base.end, piece.ours.end, piece.theirs.end);
        self.pieces.push(piece);
    }

    fn group(&mut self, end: usize, left: &[Change], right: &[Change], ours_lines: &[&[u8]], theirs_lines: &[&[u8]]) {
        let length = end - self.base;
        let grown = |changes: &[Change]| {
            let (removed, added) = changes.iter().fold((0, 0), |(removed, added), c| (removed + c.base.len(), added + c.side.len()));
            length + added - removed
        };
        let (ours, theirs) = (grown(left), grown(right));
        let origin = match (left.is_empty(), right.is_empty()) {
            (_, true) => Origin::Ours,
            (true, _) => Origin::Theirs,
            _ if ours_lines[self.ours..self.ours + ours] == theirs_lines[self.theirs..self.theirs + theirs] => Origin::Agreed,
            _ => Origin::Contested,
        };
        self.push(origin, length, ours, theirs);
    }
}
