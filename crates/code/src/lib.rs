//! What a file says, not only how its lines stand: grammars and three-way merge. Pure: bytes in, bytes out, no clock, no I/O, no model.
//! The same input gives the same bytes on every machine; limits are counted in bytes, nodes and steps.

pub mod evidence;
pub mod hunk;
pub mod language;
pub mod lines;
pub mod merge;
pub mod names;
pub mod tokens;
pub mod version;

pub use language::Language;

/// The three versions of one file, and where it lies.
#[derive(Debug, Clone, Copy)]
pub struct Sides<'a> {
    /// What both sides began with; empty when both added the file.
    pub base: &'a [u8],
    /// The first parent's version: what is on the target.
    pub ours: &'a [u8],
    /// The second parent's version: what is to be merged into it.
    pub theirs: &'a [u8],
    /// The path in the repository, with `/`. The language is told from it.
    pub path: &'a str,
}
