//! Which places of a text are worth a closer look: a table of how anchors begin.

use super::pattern::fold;

/// The table has two to the power of so many places.
const BITS: u32 = 17;

/// Finds the places at which an anchor may begin, by the hash of four bytes with the case of letters folded away.
pub(super) struct Prefilter {
    /// One bit for each hash: small enough for the first cache.
    bits: Box<[u64]>,
    /// For each hash where its entries begin.
    starts: Box<[u32]>,
    /// The four bytes, folded, and the number of the anchor.
    entries: Box<[(u32, u16)]>,
}

fn hash(gram: u32) -> usize {
    (gram.wrapping_mul(0x9e37_79b1) >> (32 - BITS)) as usize
}

impl Prefilter {
    /// Builds the table of all beginnings.
    pub(super) fn new(mut entries: Vec<(u32, u16)>) -> Self {
        entries.sort_unstable_by_key(|(gram, anchor)| (hash(*gram), *gram, *anchor));
        entries.dedup();
        let mut bits = vec![0_u64; 1 << (BITS - 6)].into_boxed_slice();
        let mut starts = vec![0_u32; (1 << BITS) + 1].into_boxed_slice();
        for (gram, _) in &entries {
            let hash = hash(*gram);
            bits[hash >> 6] |= 1 << (hash & 63);
            starts[hash + 1] += 1;
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
                self.look(gram, hash, |anchor| found(from + place, anchor));
            }
        }
    }

    #[cold]
    fn look(&self, gram: u32, hash: usize, mut found: impl FnMut(u16)) {
        let (from, to) = (self.starts[hash] as usize, self.starts[hash + 1] as usize);
        self.entries[from..to].iter().filter(|(known, _)| *known == gram).for_each(|(_, anchor)| found(*anchor));
    }

    /// How many beginnings there are.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }
}
