//! What snapshots there are, and what one holds only by name.

use aedile_core::{CommitId, RefName, RunId, TaskId, Timestamp};

use crate::error::GitError;
use crate::hub::Hub;

/// A saved state that the hub keeps.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SavedTurn {
    /// The commit that holds it.
    pub commit: CommitId,
    /// The commit that its workspace began with.
    pub base: CommitId,
    /// The task's workspace, from 1.
    pub attempt: u32,
    /// The turn after which it was taken.
    pub turn: u32,
    /// Which of several states of that turn, from 1.
    pub state: u32,
    /// When.
    pub at: Timestamp,
    /// What it holds only by name, one line each: quoted path, then why, or the size and hash.
    pub missing: Vec<String>,
}

impl Hub {
    /// Lists the snapshots of a task, oldest first. One process.
    ///
    /// # Errors
    /// [`GitError`] when git fails.
    pub fn snapshots(&self, run: RunId, task: TaskId) -> Result<Vec<SavedTurn>, GitError> {
        let prefix = format!("refs/aedile/snapshots/{run}/{task}/");
        let format = "--format=%(refname) %(objectname) %(parent) %(committerdate:unix)%00%(contents)%00";
        let text = self.call("for-each-ref").reading().args([format, &prefix]).text()?;
        let mut fields = text.split('\0');
        let mut found = Vec::new();
        while let (Some(head), Some(message)) = (fields.next(), fields.next()) {
            let head = head.trim_start_matches('\n');
            let read = saved(head, message);
            found.push(read.ok_or_else(|| GitError::Unreadable { command: "for-each-ref".to_owned(), what: head.to_owned() })?);
        }
        found.sort_by_key(|saved| (saved.attempt, saved.turn, saved.state));
        Ok(found)
    }

    /// Keeps a commit of the hub as the change's: `refs/aedile/changes/<change>`, as an import does.
    ///
    /// # Errors
    /// [`GitError`] when the commit is not there.
    pub fn keep_change(&self, change: aedile_core::ChangeId, commit: &CommitId) -> Result<RefName, GitError> {
        let reference = crate::import::change_ref(change)?;
        self.set_ref(&reference, commit)?;
        Ok(reference)
    }
}

/// Reads `<ref> <commit> <parent> <seconds>` and the message that the snapshot was written with.
fn saved(head: &str, message: &str) -> Option<SavedTurn> {
    let mut words = head.split(' ');
    let mut numbers = words.next()?.rsplit('/').next()?.split('-').map(|number| number.parse::<u32>().ok());
    let (attempt, turn, state) = (numbers.next()??, numbers.next()??, numbers.next().unwrap_or(Some(1))?);
    let (commit, base) = (CommitId::new(words.next()?).ok()?, CommitId::new(words.next()?).ok()?);
    let at = Timestamp(words.next()?.parse::<i64>().ok()?.saturating_mul(1_000_000));
    Some(SavedTurn { commit, base, attempt, turn, state, at, missing: missing(message) })
}

fn missing(message: &str) -> Vec<String> {
    let (named, hashes) = message.split_once("\nTheir hashes in the same order:\n").unwrap_or((message, ""));
    let mut hashes = hashes.lines();
    let line = |line: &str| {
        if let Some(large) = line.strip_prefix("Too large: ") {
            let hash = hashes.next().map(|hash| format!("; its git hash is {hash}")).unwrap_or_default();
            return Some(format!("{large}{hash}"));
        }
        line.strip_prefix("Left out: ").map(str::to_owned)
    };
    named.lines().filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_tells_what_is_there_only_by_name() {
        let message = "Snapshot after turn 2\n\nLeft out: \"pipe\\n\" is no file\nToo large: \"a\" has 9 bytes\nToo large: \"b\" has 8 bytes\n\nTheir hashes in the same order:\n11\n22\n";
        let expected = [r#""pipe\n" is no file"#, r#""a" has 9 bytes; its git hash is 11"#, r#""b" has 8 bytes; its git hash is 22"#];
        assert_eq!(missing(message), expected);
        assert!(missing("Snapshot after turn 1\n\n").is_empty());
    }
}
