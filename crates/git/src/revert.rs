//! Reverts in the object store: what landed commits changed is taken out of a later tree.

use aedile_core::{CommitId, Timestamp, TreeId};

use crate::commit::{CommitRequest, Identity, commit_id};
use crate::error::GitError;
use crate::hub::Hub;
use crate::merge::Merge;

/// What taking commits back gives.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Reverted {
    /// git found no conflict.
    Clean {
        /// The tree without what they changed.
        tree: TreeId,
    },
    /// A later commit changed the same lines.
    Conflict {
        /// The paths, lossy where they are not UTF-8.
        paths: Vec<String>,
    },
}

impl Hub {
    /// Takes commits back from the tree of `onto`, which has each of them among its ancestors, in the given order (newest first). A merge
    /// is taken back against its first parent. At most four processes for each commit; no ref moves.
    ///
    /// # Errors
    /// [`GitError::Missing`] when a commit is not there, or has no parent.
    pub fn revert(&self, onto: &CommitId, commits: &[CommitId], at: Timestamp) -> Result<Reverted, GitError> {
        let mut tree = self.commit_info(onto)?.tree;
        let mut current = onto.clone();
        for commit in commits {
            let info = self.commit_info(commit)?;
            let before = info
                .parents
                .first()
                .ok_or_else(|| GitError::Missing { what: format!("a parent of {commit}"), dir: self.dir().to_owned() })?;
            let before = self.commit_info(before)?.tree;
            // A child of the commit with the tree before it: its merge with what came later is the three-way revert.
            let back = self.bare_commit(&before, commit, at)?;
            match self.merge_tree(&current, &back)? {
                Merge::Clean { tree: merged } => tree = merged,
                Merge::Conflict { paths, .. } => {
                    return Ok(Reverted::Conflict { paths: paths.iter().map(|path| path.to_string_lossy().into_owned()).collect() });
                }
            }
            current = self.bare_commit(&tree, &current, at)?;
        }
        Ok(Reverted::Clean { tree })
    }

    /// A commit that nobody but us ever sees.
    fn bare_commit(&self, tree: &TreeId, parent: &CommitId, at: Timestamp) -> Result<CommitId, GitError> {
        let us = Identity::aedile();
        self.commit_tree(&CommitRequest {
            tree,
            parents: std::slice::from_ref(parent),
            message: "A step of a revert\n",
            author: &us,
            committer: &us,
            at,
            sign: None,
        })
    }

    /// Lists the commits between `from` (not included) and `to` along the first parents of `to`, oldest first. One process.
    ///
    /// # Errors
    /// [`GitError`] when a commit is missing.
    pub fn line(&self, from: &CommitId, to: &CommitId) -> Result<Vec<CommitId>, GitError> {
        let range = format!("{from}..{to}");
        let text = self.call("rev-list").reading().args(["--first-parent", "--reverse", &range, "--"]).text()?;
        text.lines().map(|line| commit_id("rev-list", line)).collect()
    }

    /// Says in a line who made a commit and what its subject is, for people: the text is whatever the commit holds.
    ///
    /// # Errors
    /// [`GitError`] when the commit is missing.
    pub fn describe(&self, commit: &CommitId) -> Result<String, GitError> {
        self.call("log").reading().args(["-1", "--no-show-signature", "--format=%an: %s", commit.as_str(), "--"]).text()
    }
}
