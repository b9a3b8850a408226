//! A sum over processes of which each holds also what its ended children had, if it waited for them. Those for whom nobody waited count with
//! what they had when they were last seen.

use std::collections::{BTreeMap, BTreeSet};

/// A process, as the kernel tells one from a later one of the same number.
pub(crate) type Id = (u32, u64);

/// What one process has used.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Used {
    pub(crate) id: Id,
    pub(crate) parent: u32,
    /// Its own and that of the children that it waited for.
    pub(crate) amount: u64,
}

/// What was seen, and what has vanished.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    last: BTreeMap<Id, Used>,
    lost: u64,
}

impl Ledger {
    /// What a process had used at the last look.
    pub(crate) fn last(&self, id: Id) -> u64 {
        self.last.get(&id).map_or(0, |used| used.amount)
    }

    /// The sum after one look. What vanished is in the sums of those above it or of the box's first process when it was waited for; what these
    /// have not grown by since is lost to them and is kept here.
    pub(crate) fn sum(&mut self, now: &[Used]) -> u64 {
        let seen: BTreeMap<Id, Used> = now.iter().map(|used| (used.id, *used)).collect();
        let numbers: BTreeMap<u32, Id> = self.last.keys().map(|id| (id.0, *id)).collect();
        let (mut gone, mut above) = (0u64, BTreeSet::new());
        for used in self.last.values().filter(|used| !seen.contains_key(&used.id)) {
            gone = gone.saturating_add(used.amount);
            let mut parent = used.parent;
            // The box's first process takes over whoever is left alone.
            above.extend(numbers.get(&1));
            while let Some(id) = numbers.get(&parent).filter(|id| above.insert(**id)) {
                parent = self.last.get(id).map_or(0, |used| used.parent);
            }
        }
        let grown = |id: &Id| {
            let before = self.last.get(id).map_or(0, |used| used.amount);
            seen.get(id).map_or(0, |used| used.amount.saturating_sub(before))
        };
        let explained: u64 = above.iter().map(grown).sum();
        self.lost = self.lost.saturating_add(gone.saturating_sub(explained));
        self.last = seen;
        self.last.values().map(|used| used.amount).sum::<u64>().saturating_add(self.lost)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn used(pid: u32, parent: u32, amount: u64) -> Used {
        Used { id: (pid, 0), parent, amount }
    }

    #[test]
    fn what_vanished_counts_once() {
        let mut ledger = Ledger::default();
        assert_eq!(ledger.sum(&[used(1, 0, 0), used(2, 1, 5), used(3, 2, 10)]), 15);
        assert_eq!(ledger.sum(&[used(1, 0, 0), used(2, 1, 16)]), 16, "its parent waited for it");
        assert_eq!(ledger.sum(&[used(1, 0, 0), used(2, 1, 16), used(4, 2, 20), used(5, 2, 1)]), 37);
        assert_eq!(ledger.sum(&[used(1, 0, 0), used(2, 1, 16), used(5, 2, 21)]), 57, "nobody waited for it, and another took its place");
        assert_eq!(ledger.sum(&[used(1, 0, 37)]), 57, "the first process waited for what was left");
    }
}
