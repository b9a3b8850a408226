//! Secrets in what a commit adds to another.

use std::collections::{BTreeMap, HashMap};

use aedile_core::CommitId;
use aedile_core::redact::{Leak, Redactor};

use crate::diff::{EntryMode, PathChange};
use crate::error::GitError;
use crate::hub::Hub;

/// A larger file is not looked into.
const FILE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Of a change so many bytes are looked into; what is beyond is told as a file that is too large.
const CHANGE_BYTES_MAX: usize = 1 << 30;
/// The rule of a file that is not looked into.
const SIZE_RULE: &str = "leak.size";

/// Something secret that a commit adds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AddedSecret {
    /// The path, in its exact characters where it is UTF-8.
    pub path: String,
    /// The rule: `secret.NAME`, `leak.RULE`, or `leak.size` for a file that is too large, or one too many, to be looked into.
    pub rule: String,
    /// Whether it is a known value.
    pub known: bool,
}

impl AddedSecret {
    /// Whether something was found; a file that is too large to be looked into only may hold one.
    pub fn is_found(&self) -> bool {
        self.rule != SIZE_RULE
    }
}

impl Hub {
    /// Looks for secrets in what differs between two commits, in bytes and names of files: what was there before, at its path and as often, is
    /// not the later one's. Three processes, one more for each file that holds something.
    ///
    /// # Errors
    /// [`GitError`] when a commit is missing.
    pub fn secrets_added(&self, redactor: &dyn Redactor, from: &CommitId, to: &CommitId) -> Result<Vec<AddedSecret>, GitError> {
        added(self, redactor, from, to)
    }
}

fn added(hub: &Hub, redactor: &dyn Redactor, from: &CommitId, to: &CommitId) -> Result<Vec<AddedSecret>, GitError> {
    let mut changes = hub.diff_paths(from, to)?;
    changes.retain(|change| matches!(change.new_mode, EntryMode::File | EntryMode::Executable | EntryMode::Link));
    // Each object is looked into once, however many paths have it, and none is kept.
    let mut ids: Vec<String> = changes.iter().map(|change| change.new_id.clone()).collect();
    ids.sort_unstable();
    ids.dedup();
    let (mut now, mut read) = (HashMap::new(), 0_usize);
    hub.each_blob(&ids, FILE_BYTES_MAX, |at, bytes| {
        read += bytes.len();
        if read <= CHANGE_BYTES_MAX {
            now.insert(ids[at].as_str(), redactor.leaks(&bytes));
        }
    })?;
    let mut found = Vec::new();
    for change in &changes {
        let path = change.path.to_string_lossy();
        let mut add = |rule: String, known| found.push(AddedSecret { path: path.clone().into_owned(), rule, known });
        redactor.leaks(path.as_bytes()).into_iter().filter(|leak| leak.known).for_each(|leak| add(leak.rule, leak.known));
        match now.get(change.new_id.as_str()) {
            None => add(SIZE_RULE.to_owned(), false),
            Some(leaks) if leaks.is_empty() => {}
            Some(leaks) => {
                beyond(leaks.clone(), &before(hub, redactor, change)?).into_iter().for_each(|leak| add(leak.rule, leak.known));
            }
        }
    }
    Ok(found)
}

/// What the path held before.
fn before(hub: &Hub, redactor: &dyn Redactor, change: &PathChange) -> Result<Vec<Leak>, GitError> {
    if change.old_mode == EntryMode::Absent {
        return Ok(Vec::new());
    }
    let old = hub.blobs(std::slice::from_ref(&change.old_id), FILE_BYTES_MAX)?;
    Ok(old.into_iter().flatten().flat_map(|bytes| redactor.leaks(&bytes)).collect())
}

/// The rules that hold more often than before, each once.
fn beyond(now: Vec<Leak>, before: &[Leak]) -> Vec<Leak> {
    let mut counts: BTreeMap<Leak, usize> = BTreeMap::new();
    now.into_iter().for_each(|leak| *counts.entry(leak).or_default() += 1);
    let more = |(leak, count): (Leak, usize)| (before.iter().filter(|old| **old == leak).count() < count).then_some(leak);
    counts.into_iter().filter_map(more).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_there_before_is_not_the_changes() {
        let leak = |rule: &str| Leak { rule: rule.to_owned(), known: false, what: 0 };
        let (a, b) = (leak("leak.a"), leak("leak.b"));
        assert_eq!(beyond(vec![a.clone(), b.clone()], std::slice::from_ref(&a)), std::slice::from_ref(&b));
        assert_eq!(beyond(vec![a.clone(), a.clone()], std::slice::from_ref(&a)), std::slice::from_ref(&a));
        assert!(beyond(vec![a.clone()], &[a.clone(), b]).is_empty());
        let other = Leak { what: 1, ..a.clone() };
        assert_eq!(beyond(vec![other.clone()], &[a]), [other], "another credential of the same form");
    }
}
