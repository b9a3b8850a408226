//! Three-way merge of one file: by lines, and where that leaves something contested, by what the text says, with the evidence for it.
//!
//! What only one side changed is taken over byte by byte. A contested piece is settled by a [rule](crate::hunk::Rule), and a text in which
//! every piece is settled must stand against the [evidence](crate::evidence), or it is a conflict all the same.

use std::ops::Range;

use serde::Serialize;
use tree_sitter::Tree;

use crate::hunk::{self, AROUND_LINES, Contested, Rule};
use crate::lines::{Origin, Piece, pieces, split};
use crate::names::{self, Place};
use crate::{Language, Sides, evidence};

/// The largest version that is merged, bytes.
pub const BYTES_MAX: usize = 64 << 20;
/// A file with a zero byte among so many first ones is no text, as git says it too.
const BINARY_BYTES: usize = 8000;
/// The largest version whose contested pieces are settled, bytes; larger ones are merged by lines alone.
const SETTLED_BYTES_MAX: usize = 2 << 20;

/// What a merge gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The merged file.
    Clean {
        /// Its bytes.
        bytes: Vec<u8>,
        /// Where everything went.
        receipt: Receipt,
    },
    /// The file with conflict markers in diff3 style, labelled `ours`, `base` and `theirs`.
    Conflict {
        /// Its bytes.
        bytes: Vec<u8>,
        /// What was settled, and why the rest was not.
        receipt: Receipt,
    },
    /// It is no text, or too large.
    Declined {
        /// Why.
        reason: &'static str,
    },
}

/// What became of the contested regions of a file, and why the whole is or is not believed.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Receipt {
    /// The lines that each side changed and that nobody contested: kept as that side has them.
    pub taken: Taken,
    /// The contested regions, in order.
    pub regions: Vec<Region>,
    /// What spoke against a text in which every region is settled.
    pub refused: Option<String>,
}

/// Changes that one side made alone, or both alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Taken {
    /// Places that only ours changed.
    pub ours: usize,
    /// Places that only theirs changed.
    pub theirs: usize,
    /// Places that both changed alike.
    pub both: usize,
}

/// A region that both sides changed differently. Lines are counted from 1; a range does not hold its end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Region {
    /// Its lines in the base.
    pub base: Range<usize>,
    /// Its lines in ours.
    pub ours: Range<usize>,
    /// Its lines in theirs.
    pub theirs: Range<usize>,
    /// The rule that settled it; none where it stays contested.
    pub by: Option<&'static str>,
}

/// Merges the three versions of a file. The same bytes give the same answer on every machine.
#[must_use]
pub fn merge(sides: &Sides<'_>) -> Outcome {
    let versions = [sides.base, sides.ours, sides.theirs];
    if versions.iter().any(|side| side.len() > BYTES_MAX) {
        return Outcome::Declined { reason: "a version has more than 64 MiB" };
    }
    if versions.iter().any(|side| side.iter().take(BINARY_BYTES).any(|byte| *byte == 0)) {
        return Outcome::Declined { reason: "a version is no text" };
    }
    let small = versions.iter().all(|side| side.len() <= SETTLED_BYTES_MAX);
    let language = Language::of_path(sides.path).filter(|language| small && language.grammar().is_some());
    let mut merged = joined(sides, language, small);
    if !merged.open && !merged.receipt.regions.is_empty() {
        merged.receipt.refused = evidence::against(language, sides, &merged.bytes, merged.receipt.joins());
        if merged.receipt.refused.is_some() {
            // Nothing is kept of what is not believed.
            let refused = merged.receipt.refused.take();
            merged = joined(sides, None, false);
            merged.receipt.refused = refused;
        }
    }
    let Merged { bytes, receipt, open } = merged;
    if open { Outcome::Conflict { bytes, receipt } } else { Outcome::Clean { bytes, receipt } }
}

impl Receipt {
    /// Whether two insertions were put one behind the other.
    fn joins(&self) -> bool {
        self.regions.iter().any(|region| region.by == Some(Rule::Joined.name()))
    }
}

struct Merged {
    bytes: Vec<u8>,
    receipt: Receipt,
    open: bool,
}

/// Joins the pieces; contested ones are settled where `settles` says so.
fn joined(sides: &Sides<'_>, language: Option<Language>, settles: bool) -> Merged {
    let lines = [split(sides.base), split(sides.ours), split(sides.theirs)];
    let mut work = Work { sides, lines, language: language.filter(|_| settles), trees: None };
    let mut merged = Merged { bytes: Vec::new(), receipt: Receipt::default(), open: false };
    for piece in pieces(sides.base, sides.ours, sides.theirs) {
        let taken = &mut merged.receipt.taken;
        match piece.origin {
            Origin::Same => merged.bytes.extend(work.ours(&piece)),
            Origin::Ours => {
                taken.ours += 1;
                merged.bytes.extend(work.ours(&piece));
            }
            Origin::Theirs => {
                taken.theirs += 1;
                merged.bytes.extend(work.theirs(&piece));
            }
            Origin::Agreed => {
                taken.both += 1;
                merged.bytes.extend(work.ours(&piece));
            }
            Origin::Contested => {
                let mut settled = if settles { work.settle(&piece) } else { None };
                if settles && settled.is_none() {
                    settled = work.in_parts(&piece);
                }
                match settled {
                    Some((text, regions)) => {
                        merged.receipt.regions.extend(regions);
                        merged.bytes.extend(text);
                    }
                    None => {
                        merged.open = true;
                        merged.receipt.regions.push(region(&piece, None));
                        mark(&mut merged.bytes, &work.texts(&piece));
                    }
                }
            }
        }
    }
    merged
}

fn region(piece: &Piece, by: Option<Rule>) -> Region {
    let lines = |range: &Range<usize>| range.start + 1..range.end + 1;
    Region { base: lines(&piece.base), ours: lines(&piece.ours), theirs: lines(&piece.theirs), by: by.map(Rule::name) }
}

/// The versions by lines, and their trees once somebody asked where something stands.
struct Work<'a> {
    sides: &'a Sides<'a>,
    lines: [Vec<&'a [u8]>; 3],
    language: Option<Language>,
    trees: Option<[Option<Tree>; 2]>,
}

impl Work<'_> {
    fn ours(&self, piece: &Piece) -> Vec<u8> {
        self.lines[1][piece.ours.clone()].concat()
    }

    fn theirs(&self, piece: &Piece) -> Vec<u8> {
        self.lines[2][piece.theirs.clone()].concat()
    }

    fn texts(&self, piece: &Piece) -> [Vec<u8>; 3] {
        [self.lines[0][piece.base.clone()].concat(), self.ours(piece), self.theirs(piece)]
    }

    /// Settles a contested piece by one rule.
    fn settle(&mut self, piece: &Piece) -> Option<(Vec<u8>, Vec<Region>)> {
        let place = self.place(piece);
        let ([base_text, ours, theirs], base) = (self.texts(piece), &self.lines[0]);
        let contested = Contested {
            base: &base_text,
            ours: &ours,
            theirs: &theirs,
            before: &base[piece.base.start.saturating_sub(AROUND_LINES)..piece.base.start],
            behind: &base[piece.base.end..base.len().min(piece.base.end + AROUND_LINES)],
            place,
        };
        hunk::settle(&contested).map(|(text, rule)| (text, vec![region(piece, Some(rule))]))
    }

    /// Settles a contested piece in parts, between lines that all have but for their white space: a side that aligns or indents its neighbours anew
    /// makes one large piece of several small ones.
    fn in_parts(&mut self, piece: &Piece) -> Option<(Vec<u8>, Vec<Region>)> {
        let ranges = [piece.base.clone(), piece.ours.clone(), piece.theirs.clone()];
        let solid = |at: usize| {
            let line = |line: &&[u8]| line.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).chain([b'\n']).collect::<Vec<u8>>();
            self.lines[at][ranges[at].clone()].iter().map(line).collect::<Vec<_>>().concat()
        };
        let parts = pieces(&solid(0), &solid(1), &solid(2));
        if parts.len() < 2 {
            return None;
        }
        let (mut text, mut regions) = (Vec::new(), Vec::new());
        for part in parts {
            let moved = |range: &Range<usize>, by: &Range<usize>| range.start + by.start..range.end + by.start;
            let [base, ours, theirs] = [moved(&part.base, &ranges[0]), moved(&part.ours, &ranges[1]), moved(&part.theirs, &ranges[2])];
            let part = Piece { origin: part.origin, base, ours, theirs };
            match part.origin {
                Origin::Same => text.extend(self.respaced(&part)?),
                Origin::Ours | Origin::Agreed => text.extend(self.ours(&part)),
                Origin::Theirs => text.extend(self.theirs(&part)),
                Origin::Contested => {
                    let (settled, of) = self.settle(&part)?;
                    text.extend(settled);
                    regions.extend(of);
                }
            }
        }
        if regions.is_empty() {
            regions.push(region(piece, Some(Rule::Layout)));
        }
        Some((text, regions))
    }

    /// Lines that are the same but for white space, as the side has them that changed that. None where both did.
    fn respaced(&self, part: &Piece) -> Option<Vec<u8>> {
        let mut text = Vec::new();
        for at in 0..part.base.len() {
            let [base, ours, theirs] =
                [self.lines[0][part.base.start + at], self.lines[1][part.ours.start + at], self.lines[2][part.theirs.start + at]];
            match (ours == base, theirs == base || theirs == ours) {
                (_, true) => text.extend_from_slice(ours),
                (true, false) => text.extend_from_slice(theirs),
                (false, false) => return None,
            }
        }
        Some(text)
    }

    /// The place where both insert. Two files that were added under one name have none: they are two tries at one thing.
    fn place(&mut self, piece: &Piece) -> Option<Place> {
        let language = self.language.filter(|_| piece.base.is_empty() && !self.sides.base.is_empty())?;
        let texts = [self.sides.ours, self.sides.theirs];
        let bytes = |lines: &[&[u8]], range: &Range<usize>| {
            let length = |lines: &[&[u8]]| lines.iter().map(|line| line.len()).sum::<usize>();
            let start = length(&lines[..range.start]);
            start..start + length(&lines[range.clone()])
        };
        let ranges = [bytes(&self.lines[1], &piece.ours), bytes(&self.lines[2], &piece.theirs)];
        let [ours, theirs] = self.trees.get_or_insert_with(|| texts.map(|text| language.parse(text)));
        let one = names::place(ours.as_ref()?, texts[0], ranges[0].clone())?;
        let other = names::place(theirs.as_ref()?, texts[1], ranges[1].clone())?;
        Some(if one == other { one } else { Place::Ordered })
    }
}

/// Writes a conflict as git does, in the line ends of the file.
fn mark(out: &mut Vec<u8>, [base, ours, theirs]: &[Vec<u8>; 3]) {
    let crlf =
        [ours, theirs, base].iter().find_map(|text| text.iter().position(|byte| *byte == b'\n').map(|at| at > 0 && text[at - 1] == b'\r'));
    let end: &[u8] = if crlf == Some(true) { b"\r\n" } else { b"\n" };
    if !out.is_empty() && !out.ends_with(b"\n") {
        out.extend_from_slice(end);
    }
    for (marker, text) in [("<<<<<<< ours", ours), ("||||||| base", base), ("=======", theirs)] {
        out.extend_from_slice(marker.as_bytes());
        out.extend_from_slice(end);
        out.extend_from_slice(text);
        if text.last().is_some_and(|byte| *byte != b'\n') {
            out.extend_from_slice(end);
        }
    }
    out.extend_from_slice(b">>>>>>> theirs");
    out.extend_from_slice(end);
}
