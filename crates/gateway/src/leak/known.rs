//! Values that are known, in every form, found in one pass.
//!
//! A text is looked at in steps of four bytes only. Each pattern has seven bytes somewhere in it of which the four groups of four are entered in
//! a table; wherever the pattern stands, one of the steps falls onto one of them. The seven bytes are the rarest of the pattern among all
//! patterns, so thousands of keys with one beginning do not slow each other down.

use std::collections::HashMap;

/// A shorter pattern would be found in innocent text and is not searched for.
pub(crate) const PATTERN_BYTES_MIN: usize = 8;
/// How many groups of four bytes are entered for each pattern, and how far apart a text is looked at.
const STEP: usize = 4;
/// How many places of a pattern are compared for the rarest.
const PLACES_MAX: usize = 64;
/// Entries are found by so many bits of their hash, and then one by one.
const BUCKET_BITS: u32 = 16;

/// A value that was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hit {
    /// The first byte.
    pub(crate) start: usize,
    /// Behind the last byte.
    pub(crate) end: usize,
    /// Whose value it is: the number given with the pattern.
    pub(crate) owner: usize,
}

struct Entry {
    hash: u32,
    gram: u32,
    pattern: u32,
    /// Where in the pattern the four bytes stand.
    offset: u32,
}

/// The patterns, made ready.
pub(crate) struct Known {
    patterns: Vec<(Vec<u8>, usize)>,
    longest: usize,
    shift: u32,
    bits: Box<[u64]>,
    starts: Box<[u32]>,
    entries: Box<[Entry]>,
}

fn hash(gram: u32) -> u32 {
    gram.wrapping_mul(0x9e37_79b1)
}

fn gram(bytes: &[u8]) -> u32 {
    bytes.iter().take(4).rev().fold(0, |gram, byte| gram << 8 | u32::from(*byte))
}

impl Known {
    /// Takes patterns with the numbers of their owners. Those shorter than [`PATTERN_BYTES_MIN`] are left out; of the same pattern twice, the first counts.
    pub(crate) fn new(patterns: impl IntoIterator<Item = (Vec<u8>, usize)>) -> Self {
        let mut patterns: Vec<(Vec<u8>, usize)> = patterns.into_iter().filter(|(pattern, _)| pattern.len() >= PATTERN_BYTES_MIN).collect();
        patterns.sort();
        patterns.dedup_by(|one, other| one.0 == other.0);
        let mut counts: HashMap<u32, u32> = HashMap::new();
        for (pattern, _) in &patterns {
            pattern.windows(4).take(PLACES_MAX + STEP).for_each(|window| *counts.entry(gram(window)).or_default() += 1);
        }
        let mut entries = Vec::new();
        for (number, (pattern, _)) in patterns.iter().enumerate() {
            let cost = |at: usize| (at..at + STEP).map(|at| counts.get(&gram(&pattern[at..])).copied().unwrap_or(0)).sum::<u32>();
            let places = (pattern.len() - (STEP + 3)).min(PLACES_MAX);
            let at = (0..=places).min_by_key(|at| cost(*at)).unwrap_or(0);
            entries.extend((at..at + STEP).map(|offset| {
                let gram = gram(&pattern[offset..]);
                Entry { hash: hash(gram), gram, pattern: small(number), offset: small(offset) }
            }));
        }
        Self::table(patterns, entries)
    }

    fn table(patterns: Vec<(Vec<u8>, usize)>, mut entries: Vec<Entry>) -> Self {
        entries.sort_unstable_by_key(|entry| (entry.hash, entry.pattern, entry.offset));
        // Eight places for each entry, so that few places of a text are looked at for nothing.
        let size = (entries.len() * 8).next_power_of_two().trailing_zeros().clamp(BUCKET_BITS, 24);
        let mut bits = vec![0_u64; 1 << (size - 6)].into_boxed_slice();
        let mut starts = vec![0_u32; (1 << BUCKET_BITS) + 1].into_boxed_slice();
        for entry in &entries {
            let place = (entry.hash >> (32 - size)) as usize;
            bits[place >> 6] |= 1 << (place & 63);
            starts[(entry.hash >> (32 - BUCKET_BITS)) as usize + 1] += 1;
        }
        for place in 1..starts.len() {
            starts[place] += starts[place - 1];
        }
        let longest = patterns.iter().map(|(pattern, _)| pattern.len()).max().unwrap_or(0);
        Self { patterns, longest, shift: 32 - size, bits, starts, entries: entries.into_boxed_slice() }
    }

    /// The length of the longest pattern, in bytes; 0 when there is none.
    pub(crate) fn longest(&self) -> usize {
        self.longest
    }

    /// The patterns.
    pub(crate) fn patterns(&self) -> impl Iterator<Item = &[u8]> {
        self.patterns.iter().map(|(pattern, _)| pattern.as_slice())
    }

    /// Finds the values, leftmost first, of those that begin at one place the longest; they do not meet.
    pub(crate) fn find(&self, text: &[u8]) -> Vec<Hit> {
        let mut hits = Vec::new();
        if self.patterns.is_empty() {
            return hits;
        }
        for (step, group) in text.chunks_exact(STEP).enumerate() {
            let gram = u32::from_le_bytes([group[0], group[1], group[2], group[3]]);
            let hash = hash(gram);
            let place = (hash >> self.shift) as usize;
            if self.bits[place >> 6] >> (place & 63) & 1 == 1 {
                self.look(text, step * STEP, gram, hash, &mut hits);
            }
        }
        hits.sort_unstable_by(|one: &Hit, other| (one.start, other.end).cmp(&(other.start, one.end)));
        let mut end = 0;
        hits.retain(|hit| {
            let kept = hit.start >= end;
            end = if kept { hit.end } else { end };
            kept
        });
        hits
    }

    #[cold]
    fn look(&self, text: &[u8], at: usize, gram: u32, hash: u32, hits: &mut Vec<Hit>) {
        let bucket = (hash >> (32 - BUCKET_BITS)) as usize;
        let entries = &self.entries[self.starts[bucket] as usize..self.starts[bucket + 1] as usize];
        for entry in entries.iter().filter(|entry| entry.gram == gram) {
            let (pattern, owner) = &self.patterns[entry.pattern as usize];
            let Some(start) = at.checked_sub(entry.offset as usize) else { continue };
            if text[start..].starts_with(pattern) {
                hits.push(Hit { start, end: start + pattern.len(), owner: *owner });
            }
        }
    }
}

/// There are never four thousand million patterns.
fn small(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pattern_is_found_at_every_place_and_only_there() {
        let patterns: Vec<(Vec<u8>, usize)> =
            (0..2000).map(|number| (format!("key-of-many-{number:05}-the-same-end").into_bytes(), number)).collect();
        let known = Known::new(patterns.clone());
        for (pattern, owner) in patterns.iter().step_by(7) {
            for before in 0..5 {
                let text = [vec![b'x'; before], pattern.clone(), b"y".to_vec()].concat();
                assert_eq!(known.find(&text), [Hit { start: before, end: before + pattern.len(), owner: *owner }]);
                assert_eq!(known.find(&text[..text.len() - 2]), []);
            }
        }
        let short = Known::new([(b"12345678".to_vec(), 0), (b"123456789abc".to_vec(), 1), (b"short".to_vec(), 2)]);
        assert_eq!(short.find(b"..123456789abc"), [Hit { start: 2, end: 14, owner: 1 }]);
        assert_eq!(short.find(b".12345678123456789abd"), [Hit { start: 1, end: 9, owner: 0 }, Hit { start: 9, end: 17, owner: 0 }]);
        assert_eq!((short.longest(), Known::new([]).find(b"12345678")), (12, Vec::new()));
    }
}
