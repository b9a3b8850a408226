//! Commits that we make: message, trailers, author, committer, signature.

use aedile_core::{AgentName, CommitId, Timestamp, TreeId};

use crate::error::GitError;
use crate::hub::Hub;
use crate::person::Signing;
use crate::run::Call;

/// Name and address of an author or committer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Identity {
    name: String,
    email: String,
}

impl Identity {
    /// Checks and wraps a name and an address.
    ///
    /// # Errors
    /// [`GitError::BadText`] when one is empty, too long (200 bytes) or holds what a commit cannot (`<`, `>`, control characters).
    pub fn new(name: &str, email: &str) -> Result<Self, GitError> {
        for (what, text) in [("the name", name), ("the address", email)] {
            let bad = |c: char| c.is_control() || matches!(c, '<' | '>');
            if text.trim().is_empty() || text.len() > 200 || text.chars().any(bad) {
                return Err(GitError::BadText { what, text: text.chars().take(80).collect() });
            }
        }
        Ok(Self { name: name.trim().to_owned(), email: email.trim().to_owned() })
    }

    /// The agent as an author.
    pub fn agent(agent: &AgentName) -> Self {
        Self { name: agent.to_string(), email: format!("{agent}@aedile.invalid") }
    }

    /// aedile itself: the committer where git knows no person.
    pub fn aedile() -> Self {
        Self { name: "aedile".to_owned(), email: "aedile@localhost".to_owned() }
    }

    /// Returns the name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the address.
    pub fn email(&self) -> &str {
        &self.email
    }
}

/// A commit to be made.
#[derive(Clone, Debug)]
pub struct CommitRequest<'a> {
    /// Its tree, present in the hub.
    pub tree: &'a TreeId,
    /// Its parents, present in the hub.
    pub parents: &'a [CommitId],
    /// The whole message; see [`message`].
    pub message: &'a str,
    /// Who wrote the change.
    pub author: &'a Identity,
    /// Who puts it in: the person where git knows one, else [`Identity::aedile`].
    pub committer: &'a Identity,
    /// When, in seconds.
    pub at: Timestamp,
    /// The person's signing settings, when they sign their commits ([`crate::Project::signing`]).
    pub sign: Option<&'a Signing>,
}

/// What a commit says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CommitInfo {
    /// The commit.
    pub id: CommitId,
    /// Its tree.
    pub tree: TreeId,
    /// Its parents.
    pub parents: Vec<CommitId>,
    /// Its message, lossy where it is not UTF-8.
    pub message: String,
}

impl Hub {
    /// Makes a commit in the hub. One process, two with a signature.
    ///
    /// # Errors
    /// [`GitError`]; with a signature also what the signing program said.
    pub fn commit_tree(&self, request: &CommitRequest<'_>) -> Result<CommitId, GitError> {
        let mut call = self.call("commit-tree");
        if let Some(signing) = request.sign {
            call = call.speaking_as(&signing.person.0).may_ask().arg("-S");
            for (key, value) in &signing.settings {
                call = call.setting(key, value);
            }
        }
        let text = stamped(call, request.author, request.committer, request.at)
            .arg(request.tree.as_str())
            .args(request.parents.iter().flat_map(|parent| ["-p", parent.as_str()]))
            .args(["-F", "-"])
            .input(request.message)
            .text()?;
        commit_id("commit-tree", &text)
    }

    /// Reads a commit.
    ///
    /// # Errors
    /// [`GitError::Missing`] when the hub has no such commit.
    pub fn commit_info(&self, id: &CommitId) -> Result<CommitInfo, GitError> {
        let answer = self.call("cat-file").reading().args(["commit", id.as_str()]).output().map_err(|error| match error {
            GitError::Failed { dir, .. } => GitError::Missing { what: format!("commit {id}"), dir },
            other => other,
        })?;
        let text = String::from_utf8_lossy(&answer.stdout);
        let (head, message) = text.split_once("\n\n").unwrap_or((&text, ""));
        let values =
            |key: &str| head.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix(' ')).map(str::to_owned).collect::<Vec<_>>();
        let bad = |what: String| GitError::Unreadable { command: "cat-file".to_owned(), what };
        let tree = TreeId::new(values("tree").concat()).map_err(|error| bad(error.to_string()))?;
        let parents = values("parent").into_iter().map(CommitId::new).collect::<Result<_, _>>().map_err(|error| bad(error.to_string()))?;
        Ok(CommitInfo { id: id.clone(), tree, parents, message: message.to_owned() })
    }
}

/// Gives a call its author, committer and time.
pub(crate) fn stamped(call: Call, author: &Identity, committer: &Identity, at: Timestamp) -> Call {
    let date = format!("@{} +0000", at.0.div_euclid(1_000_000).max(0));
    call.env("GIT_AUTHOR_NAME", &author.name)
        .env("GIT_AUTHOR_EMAIL", &author.email)
        .env("GIT_AUTHOR_DATE", &date)
        .env("GIT_COMMITTER_NAME", &committer.name)
        .env("GIT_COMMITTER_EMAIL", &committer.email)
        .env("GIT_COMMITTER_DATE", &date)
}

/// Reads a commit id from git's answer.
pub(crate) fn commit_id(command: &str, text: &str) -> Result<CommitId, GitError> {
    CommitId::new(text.trim()).map_err(|error| GitError::Unreadable { command: command.to_owned(), what: error.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identities_are_what_git_can_store() {
        assert_eq!(Identity::new(" Pat ", "p@e").unwrap().name(), "Pat");
        for (name, email) in [("", "a@b"), ("a", ""), ("a <b>", "a@b"), ("a\nb", "a@b"), ("a", "a>b")] {
            assert!(Identity::new(name, email).is_err(), "{name:?} {email:?}");
        }
    }
}
