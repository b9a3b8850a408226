//! Three-way merge of one file: by lines, and where that leaves something contested, by what the text says, with the evidence for it.
//!
//! What only one side changed is taken over byte by byte. A contested piece is settled by a [rule](crate::hunk::Rule), and a text in which
//! every piece is settled must stand against the [evidence](crate::evidence), or it is a conflict all the same.

use std::ops::Range;

use serde::Serialize;
use tree_sitter::Tree;

use crate::hunk::{self, AROUND_LINES, Contested};
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
        merged.receipt.refused = evidence::against(language, sides, &merged.bytes);
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

struct Merged {
    bytes: Vec<u8>,
    receipt: Receipt,
    open: bool,
}

/// Joins the pieces; contested ones are settled where `settles` says so.
fn joined(sides: &Sides<'_>, language: Option<Language>, settles: bool) -> Merged {
    let mut places = Places { sides, language: language.filter(|_| settles), trees: None };
    let [base, ours, theirs] = [split(sides.base), split(sides.ours), split(sides.theirs)];
    let mut merged = Merged { bytes: Vec::new(), receipt: Receipt::default(), open: false };
    for piece in pieces(sides.base, sides.ours, sides.theirs) {
        let texts = [base[piece.base.clone()].concat(), ours[piece.ours.clone()].concat(), theirs[piece.theirs.clone()].concat()];
        let taken = &mut merged.receipt.taken;
        match piece.origin {
            Origin::Same => merged.bytes.extend_from_slice(&texts[1]),
            Origin::Ours => {
                taken.ours += 1;
                merged.bytes.extend_from_slice(&texts[1]);
            }
            Origin::Theirs => {
                taken.theirs += 1;
                merged.bytes.extend_from_slice(&texts[2]);
            }
            Origin::Agreed => {
                taken.both += 1;
                merged.bytes.extend_from_slice(&texts[1]);
            }
            Origin::Contested => {
                let contested = Contested {
                    base: &texts[0],
                    ours: &texts[1],
                    theirs: &texts[2],
                    before: &base[piece.base.start.saturating_sub(AROUND_LINES)..piece.base.start],
                    behind: &base[piece.base.end..base.len().min(piece.base.end + AROUND_LINES)],
                    place: places.of(&piece, [&ours, &theirs]),
                };
                let settled = if settles { hunk::settle(&contested) } else { None };
                let lines = |range: Range<usize>| range.start + 1..range.end + 1;
                let (base, ours, theirs) = (lines(piece.base), lines(piece.ours), lines(piece.theirs));
                merged.receipt.regions.push(Region { base, ours, theirs, by: settled.as_ref().map(|(_, rule)| rule.name()) });
                match settled {
                    Some((text, _)) => merged.bytes.extend(text),
                    None => {
                        merged.open = true;
                        mark(&mut merged.bytes, &texts);
                    }
                }
            }
        }
    }
    merged
}

/// Tells where the insertions of a piece stand. The versions are parsed when that is asked first.
struct Places<'a> {
    sides: &'a Sides<'a>,
    language: Option<Language>,
    trees: Option<[Option<Tree>; 2]>,
}

impl Places<'_> {
    /// The place where both insert. Two files that were added under one name have none: they are two tries at one thing.
    fn of(&mut self, piece: &Piece, lines: [&[&[u8]]; 2]) -> Option<Place> {
        let language = self.language.filter(|_| piece.base.is_empty() && !self.sides.base.is_empty())?;
        let texts = [self.sides.ours, self.sides.theirs];
        let [ours, theirs] = self.trees.get_or_insert_with(|| texts.map(|text| language.parse(text)));
        let bytes = |lines: &[&[u8]], range: &Range<usize>| {
            let length = |lines: &[&[u8]]| lines.iter().map(|line| line.len()).sum::<usize>();
            let start = length(&lines[..range.start]);
            start..start + length(&lines[range.clone()])
        };
        let one = names::place(ours.as_ref()?, texts[0], bytes(lines[0], &piece.ours))?;
        let other = names::place(theirs.as_ref()?, texts[1], bytes(lines[1], &piece.theirs))?;
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
