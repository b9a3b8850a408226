//! Which places of a text are worth a closer look: a table of how anchors begin.

use super::pattern::{Beginning, fold};

/// The table has two to the power of so many places.
const BITS: u32 = 19;
const WORDS: usize = 1 << (BITS - 6);
/// Entries are found by so many bits of the hash, and then one by one.
const BUCKET_BITS: u32 = 13;
const BUCKETS: usize = 1 << BUCKET_BITS;

/// Finds the places at which an anchor may begin, by the hash of four bytes with the case of letters folded away.
pub(super) struct Prefilter {
    /// One bit for each hash: few are set, so that few places are looked at for nothing.
    bits: Box<[u64; WORDS]>,
    /// For the first bits of each hash where its entries begin: few, so that they stay in the nearest caches.
    starts: Box<[u16; BUCKETS + 1]>,
    /// How the anchor begins, and its number.
    entries: Box<[(Beginning, u16)]>,
}

fn hash(gram: u32) -> usize {
    (gram.wrapping_mul(0x9e37_79b1) >> (32 - BITS)) as usize
}

impl Prefilter {
    /// Builds the table of all beginnings.
    pub(super) fn new(mut entries: Vec<(Beginning, u16)>) -> Self {
        entries.sort_unstable_by_key(|(beginning, anchor)| (hash(beginning.gram), *beginning, *anchor));
        entries.dedup();
        let mut bits = Box::new([0_u64; WORDS]);
        let mut starts = Box::new([0_u16; BUCKETS + 1]);
        for (beginning, _) in &entries {
            let hash = hash(beginning.gram);
            bits[hash >> 6] |= 1 << (hash & 63);
            starts[(hash >> (BITS - BUCKET_BITS)) + 1] += 1;
        }
        for place in 1..starts.len() {
            starts[place] += starts[place - 1];
        }
        Self { bits, starts, entries: entries.into_boxed_slice() }
    }

    /// Calls `found` with each place in `from..to` at which an anchor may begin, and the anchor.
    pub(super) fn each(&self, text: &[u8], from: usize, to: usize, mut found: impl FnMut(usize, u16)) {
        let last = to.saturating_add(3).min(text.len());
        let Some(part) = text.get(from..last) else { return };
        for (place, window) in part.windows(4).enumerate() {
            let gram = fold(u32::from_le_bytes([window[0], window[1], window[2], window[3]]));
            let hash = hash(gram);
            if self.bits[hash >> 6] >> (hash & 63) & 1 == 1 {
                self.look(text, from + place, gram, &mut found);
            }
        }
    }

    #[inline(never)]
    fn look(&self, text: &[u8], at: usize, gram: u32, found: &mut impl FnMut(usize, u16)) {
        let bucket = hash(gram) >> (BITS - BUCKET_BITS);
        let (from, to) = (usize::from(self.starts[bucket]), usize::from(self.starts[bucket + 1]));
        let next = text.get(at + 4..at + 8).map_or_else(
            || text[at + 4..].iter().rev().fold(0, |next, byte| next << 8 | u32::from(*byte)),
            |next| u32::from_le_bytes([next[0], next[1], next[2], next[3]]),
        );
        let next = fold(next);
        for (beginning, anchor) in &self.entries[from..to] {
            if beginning.gram == gram && next & beginning.mask == beginning.next {
                found(at, *anchor);
            }
        }
    }

    /// How many beginnings there are.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }
}
