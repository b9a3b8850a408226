//! The leak scan: credentials known by their form, by the name they are given to, or by the document they stand in.
//!
//! One pass over the text compares the four bytes at every place with a table of how anchors may begin ([`prefilter`]); only where that
//! hits, a rule looks closer, within [`REACH`] bytes. So the time is linear, and what is found at a place depends on its neighbourhood
//! alone: a text that comes in pieces gives the same findings as the whole ([`Shapes::scan_range`]).

mod assigned;
mod bigrams;
mod checks;
mod deep;
mod documents;
mod engine;
mod forms;
mod generic;
mod headers;
mod judge;
mod known;
mod named_rules;
mod pattern;
mod prefilter;
mod published;
mod secrets;
mod settled;
mod stream;
mod token_rules;
mod token_rules_new;
mod token_rules_trade;
mod token_rules_work;
mod urls;

#[cfg(test)]
mod tests;

pub use checks::{decode_base64, decoy};
pub(crate) use deep::unescaped;
pub use engine::{Shapes, rule_names};
pub(crate) use secrets::Values;
pub use secrets::{MEMORY_BYTES, Secrets};
pub use stream::{KNOWN_RULE, Stream};

use token_rules::Level;

/// How far a rule looks before and behind the place that it was called for, in bytes.
pub const REACH: usize = 64 * 1024;

/// What a text is, by the worst that was found in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// Nothing was found.
    Clean,
    /// Something looks like a credential and may be none: it has the form and a wrong checksum, or is a public name of one.
    Warn,
    /// Something is a credential by its place: it is taken out of what is stored and shown.
    Redact,
    /// Something is a credential by its own form: the same, and it is not sent anywhere.
    Block,
}

impl Verdict {
    /// The word of the report.
    pub fn word(self) -> &'static str {
        match self {
            Self::Clean => "clean",
            Self::Warn => "warn",
            Self::Redact => "redact",
            Self::Block => "block",
        }
    }
}

/// A part of a text that is a credential. Byte offsets; a span never cuts a character.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// The first byte.
    pub start: usize,
    /// Behind the last byte.
    pub end: usize,
    /// The rule that found it.
    pub rule: &'static str,
    /// What it is.
    pub verdict: Verdict,
}

/// Which finding gives a span its name when several meet, least first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Generic,
    Named,
    Document,
    Token,
    Known,
}

/// What a rule found, before what meets is made one.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Finding {
    start: usize,
    end: usize,
    rule: &'static str,
    level: Level,
    rank: Rank,
}

impl Finding {
    fn verdict(&self) -> Verdict {
        match self.level {
            Level::Warn => Verdict::Warn,
            Level::Redact => Verdict::Redact,
            Level::Block => Verdict::Block,
        }
    }
}

/// Returns the worst of the spans.
pub fn verdict(spans: &[Span]) -> Verdict {
    spans.iter().map(|span| span.verdict).max().unwrap_or(Verdict::Clean)
}

/// Makes findings that meet one span, sorted, with the name of the most telling.
fn merged(mut findings: Vec<Finding>) -> Vec<Span> {
    findings.sort_by(|one, other| (one.start, other.end).cmp(&(other.start, one.end)));
    let mut spans: Vec<(Span, (Level, Rank))> = Vec::new();
    for finding in findings {
        let telling = (finding.level, finding.rank);
        match spans.last_mut() {
            Some((span, best)) if finding.start < span.end => {
                span.end = span.end.max(finding.end);
                span.verdict = span.verdict.max(finding.verdict());
                if telling > *best {
                    (*best, span.rule) = (telling, finding.rule);
                }
            }
            _ => spans.push((Span { start: finding.start, end: finding.end, rule: finding.rule, verdict: finding.verdict() }, telling)),
        }
    }
    spans.into_iter().map(|(span, _)| span).collect()
}

/// How many cases the tests over any input try: `AEDILE_CASES=1000000 cargo nextest run --release -p aedile-gateway -E 'test(any_)'` tries more.
#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a switch of these tests alone")]
pub(crate) fn cases() -> usize {
    std::env::var("AEDILE_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(20_000)
}
