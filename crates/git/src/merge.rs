//! Merges in the object store: no working tree is touched.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use aedile_core::{CommitId, RefName, Timestamp, TreeId};

use crate::commit::{CommitRequest, Identity};
use crate::diff::EntryMode;
use crate::error::GitError;
use crate::hub::Hub;

/// The outcome of a three-way merge.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Merge {
    /// git found no conflict.
    Clean {
        /// The merged tree.
        tree: TreeId,
    },
    /// git found conflicts.
    Conflict {
        /// A tree in which conflicting text carries diff3 markers.
        tree: TreeId,
        /// The paths in conflict, each once.
        paths: Vec<PathBuf>,
        /// What git says about each, for example `CONFLICT (content): Merge conflict in a.rs`.
        messages: Vec<String>,
        /// What each side has at these paths, in their order.
        stages: Vec<Stages>,
    },
}

/// The three versions of a path in conflict: mode and object, where there is one.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Stages {
    /// The path.
    pub path: PathBuf,
    /// What both began with, ours, theirs.
    pub versions: [Option<(EntryMode, String)>; 3],
}

/// A change that goes back to its agent, merged with the current target.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MergedBack {
    /// The commit for the new workspace. Its parents are the change and the target; it is kept by `refs/aedile/returns/<commit>`.
    pub commit: CommitId,
    /// Paths in conflict, with diff3 markers where they hold text; empty when the merge was clean.
    pub paths: Vec<PathBuf>,
    /// What git says about the conflicts.
    pub messages: Vec<String>,
}

impl Hub {
    /// Merges two commits of the hub. The attributes of `ours` (its `.gitattributes`) count, as they would in a checkout of it;
    /// merge programs never run. One process.
    ///
    /// # Errors
    /// [`GitError`] when a commit is missing or they have no common history.
    pub fn merge_tree(&self, ours: &CommitId, theirs: &CommitId) -> Result<Merge, GitError> {
        let answer = self
            .call("merge-tree")
            .env("GIT_ATTR_SOURCE", ours.as_str())
            .setting("merge.conflictStyle", "diff3")
            .args(["--write-tree", "-z", "--messages", ours.as_str(), theirs.as_str()])
            .accept(1)
            .output()?;
        let unreadable = || GitError::Unreadable {
            command: "merge-tree".to_owned(),
            what: String::from_utf8_lossy(&answer.stdout).chars().take(200).collect(),
        };
        let mut fields = answer.stdout.split(|byte| *byte == 0);
        let id = String::from_utf8_lossy(fields.next().ok_or_else(unreadable)?).into_owned();
        let tree = TreeId::new(id).map_err(|_| unreadable())?;
        if answer.code == 0 {
            return Ok(Merge::Clean { tree });
        }
        let mut stages: Vec<Stages> = Vec::new();
        // `<mode> <object> <stage>\t<path>` until an empty field, then the messages.
        for field in fields.by_ref().take_while(|field| !field.is_empty()) {
            let tab = field.iter().position(|byte| *byte == b'\t').ok_or_else(unreadable)?;
            let path = PathBuf::from(OsString::from_vec(field[tab + 1..].to_vec()));
            let (mode, id, stage) = read_stage(&field[..tab]).ok_or_else(unreadable)?;
            if stages.last().is_none_or(|last| last.path != path) {
                stages.push(Stages { path, ..Stages::default() });
            }
            if let Some(last) = stages.last_mut() {
                last.versions[stage] = Some((mode, id));
            }
        }
        let paths = stages.iter().map(|stages| stages.path.clone()).collect();
        let messages = read_messages(&mut fields).ok_or_else(unreadable)?;
        Ok(Merge::Conflict { tree, paths, messages, stages })
    }

    /// Merges a change with the current target for its agent: conflicts stand in the files with diff3 markers, as an ordinary commit,
    /// so that the new workspace is in no special state. Three processes.
    ///
    /// # Errors
    /// [`GitError`] when a commit is missing.
    pub fn merge_back(&self, change: &CommitId, target: &CommitId, agent: &Identity, at: Timestamp) -> Result<MergedBack, GitError> {
        let (tree, paths, messages) = match self.merge_tree(change, target)? {
            Merge::Clean { tree } => (tree, Vec::new(), Vec::new()),
            Merge::Conflict { tree, paths, messages, .. } => (tree, paths, messages),
        };
        let state = if paths.is_empty() { "clean" } else { "with conflicts marked in the files" };
        let commit = self.commit_tree(&CommitRequest {
            tree: &tree,
            parents: &[change.clone(), target.clone()],
            message: &format!("Merge the target into the change ({state})\n"),
            author: agent,
            committer: &Identity::aedile(),
            at,
            sign: None,
        })?;
        let unusable = |error: aedile_core::BadId| GitError::Unreadable { command: "commit-tree".to_owned(), what: error.to_string() };
        self.set_ref(&RefName::new(format!("refs/aedile/returns/{commit}")).map_err(unusable)?, &commit)?;
        Ok(MergedBack { commit, paths, messages })
    }
}

/// Reads `<mode> <object> <stage>`; the stages are counted from 0.
pub(crate) fn read_stage(text: &[u8]) -> Option<(EntryMode, String, usize)> {
    let mut words = std::str::from_utf8(text).ok()?.split(' ');
    let (mode, id) = (EntryMode::parse(words.next()?)?, words.next()?.to_owned());
    let stage = words.next()?.parse::<usize>().ok()?.checked_sub(1).filter(|stage| *stage < 3)?;
    Some((mode, id, stage))
}

/// Reads `<count> <path>... <type> <message>` records; keeps what tells of conflicts.
fn read_messages<'a>(fields: &mut impl Iterator<Item = &'a [u8]>) -> Option<Vec<String>> {
    let mut messages = Vec::new();
    while let Some(count) = fields.next().filter(|field| !field.is_empty()) {
        let count: usize = std::str::from_utf8(count).ok()?.parse().ok()?;
        for _ in 0..count {
            fields.next()?;
        }
        let kind = fields.next()?;
        let text = String::from_utf8_lossy(fields.next()?).trim().to_owned();
        if kind.starts_with(b"CONFLICT") || kind.starts_with(b"ERROR") {
            messages.push(text);
        }
    }
    Some(messages)
}
