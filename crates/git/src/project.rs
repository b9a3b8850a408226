//! The person's repository.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use aedile_core::{CommitId, RefName, RunId};

use crate::commit::{Identity, commit_id};
use crate::error::{GitError, io};
use crate::hub::ObjectFormat;
use crate::objects;
use crate::person::{self, PersonEnv, Signing};
use crate::run::{Call, Git};

/// The person's repository as one of its worktrees shows it.
#[derive(Clone, Debug)]
pub struct Project {
    git: Git,
    root: PathBuf,
    common_dir: PathBuf,
    format: ObjectFormat,
    branch: Option<RefName>,
    head: CommitId,
    identity: Option<Identity>,
    signing: Option<Signing>,
    person: PersonEnv,
}

/// A branch that a worktree holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Checkout {
    /// The worktree.
    pub worktree: PathBuf,
    /// The branch; `None` when the worktree's HEAD is detached and nothing else holds a branch.
    pub reference: Option<RefName>,
    /// `HEAD`, `rebase` or `bisect`.
    pub how: &'static str,
}

/// How a working tree differs from its HEAD.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Dirty {
    /// Paths whose index entry differs from HEAD.
    pub staged: usize,
    /// Paths that differ from the index.
    pub changed: usize,
    /// Untracked paths that are not ignored (a directory counts once).
    pub untracked: usize,
    /// Paths with a merge conflict.
    pub conflicted: usize,
}

impl Dirty {
    /// Whether nothing differs.
    pub fn is_clean(self) -> bool {
        self == Self::default()
    }
}

impl Project {
    /// Finds the repository round `path` (absolute) and reads what matters of it.
    ///
    /// # Errors
    /// [`GitError::NotARepository`], [`GitError::NotAWorkTree`], [`GitError::NotTrusted`], [`GitError::NoCommit`], or git's own error.
    pub fn discover(git: &Git, path: &Path, person: &PersonEnv) -> Result<Self, GitError> {
        let ask = |subcommand: &str| git.call(path, subcommand).speaking_as(&person.0).setting("core.fsmonitor", "false").reading();
        let answer = ask("rev-parse")
            .args(["--path-format=absolute", "--show-object-format", "--git-common-dir", "--show-toplevel"])
            .output()
            .map_err(|error| discovery_error(error, path))?;
        let mut lines = answer.stdout.split(|byte| *byte == b'\n');
        let mut next = || lines.next().filter(|line| !line.is_empty()).map(|line| PathBuf::from(OsString::from_vec(line.to_vec())));
        let unreadable = || GitError::Unreadable { command: "rev-parse".to_owned(), what: "three lines were expected".to_owned() };
        let format = ObjectFormat::parse(&next().ok_or_else(unreadable)?.to_string_lossy())?;
        let (common_dir, root) = (next().ok_or_else(unreadable)?, next().ok_or_else(unreadable)?);
        let head = ask("rev-parse").args(["--verify", "--quiet", "HEAD^{commit}"]).accept(1).text()?;
        if head.is_empty() {
            return Err(GitError::NoCommit { path: root });
        }
        let branch = ask("symbolic-ref").args(["--quiet", "HEAD"]).accept(1).text()?;
        let config = ask("config").args(["-z", "--includes", "--get-regexp", person::PATTERN]).accept(1).output()?;
        let (identity, signing) = person::read(&config.stdout, person);
        Ok(Self {
            git: git.clone(),
            common_dir: common_dir.canonicalize().map_err(io("find", &common_dir))?,
            root,
            format,
            branch: RefName::new(branch).ok(),
            head: commit_id("rev-parse", &head)?,
            identity,
            signing,
            person: person.clone(),
        })
    }

    /// Returns the root of the worktree in which the project was found.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Returns the git directory that all worktrees share.
    pub fn common_dir(&self) -> &Path {
        &self.common_dir
    }

    /// Returns the hash that names objects here.
    pub fn format(&self) -> ObjectFormat {
        self.format
    }

    /// Returns the branch that was checked out at discovery: the default target. `None` when HEAD was detached.
    pub fn branch(&self) -> Option<&RefName> {
        self.branch.as_ref()
    }

    /// Returns the commit that was checked out at discovery.
    pub fn head(&self) -> &CommitId {
        &self.head
    }

    /// Returns who the person is, if git knows.
    pub fn identity(&self) -> Option<&Identity> {
        self.identity.as_ref()
    }

    /// Returns the committer of what lands: the person, or aedile where git knows none.
    pub fn committer(&self) -> Identity {
        self.identity.clone().unwrap_or_else(Identity::aedile)
    }

    /// Returns how commits are signed, when the person's configuration asks for it.
    pub fn signing(&self) -> Option<&Signing> {
        self.signing.as_ref()
    }

    pub(crate) fn git(&self) -> &Git {
        &self.git
    }

    /// A call on the repository as a whole, from no worktree, with no configuration of the person's but the repository's own.
    pub(crate) fn call(&self, subcommand: &str) -> Call {
        self.git.at(&self.common_dir, subcommand)
    }

    /// A call in the worktree as the person.
    pub(crate) fn person_call(&self, subcommand: &str) -> Call {
        self.git.call(&self.root, subcommand).speaking_as(&self.person.0)
    }

    /// Returns the commit that a revision (`refs/heads/main`, an id) stands for, `None` when there is no such thing.
    ///
    /// # Errors
    /// [`GitError`] when git fails.
    pub fn resolve(&self, revision: &str) -> Result<Option<CommitId>, GitError> {
        let text = self
            .call("rev-parse")
            .reading()
            .args(["--verify", "--quiet", "--end-of-options", &format!("{revision}^{{commit}}")])
            .accept(1)
            .text()?;
        if text.is_empty() { Ok(None) } else { commit_id("rev-parse", &text).map(Some) }
    }

    /// Returns the bytes of a file at a commit, `None` when the commit has no file there.
    ///
    /// # Errors
    /// [`GitError::Missing`] when there is no such commit.
    pub fn file_at(&self, commit: &CommitId, path: &str) -> Result<Option<Vec<u8>>, GitError> {
        objects::file_at(self.call("cat-file"), &self.common_dir, commit, path)
    }

    /// Counts how the worktree differs from its HEAD. Takes no lock and changes nothing.
    ///
    /// # Errors
    /// [`GitError`] when git fails.
    pub fn dirty(&self) -> Result<Dirty, GitError> {
        let answer = self
            .person_call("status")
            .setting("core.fsmonitor", "false")
            .reading()
            .args(["--porcelain=v2", "-z", "--no-renames", "--untracked-files=normal", "--ignore-submodules=dirty"])
            .output()?;
        let mut dirty = Dirty::default();
        for entry in answer.stdout.split(|byte| *byte == 0) {
            match entry {
                [b'1' | b'2', b' ', staged, changed, ..] => {
                    dirty.staged += usize::from(*staged != b'.');
                    dirty.changed += usize::from(*changed != b'.');
                }
                [b'u', ..] => dirty.conflicted += 1,
                [b'?', ..] => dirty.untracked += 1,
                _ => {}
            }
        }
        Ok(dirty)
    }

    /// Lists what every worktree holds now: its HEAD, and branches that a rebase or bisect will write back to. Asked of git each time.
    ///
    /// # Errors
    /// [`GitError`] when git fails.
    pub fn checkouts(&self) -> Result<Vec<Checkout>, GitError> {
        let answer = self.call("worktree").reading().args(["list", "--porcelain", "-z"]).output()?;
        let mut found = Vec::new();
        for field in answer.stdout.split(|byte| *byte == 0) {
            if let Some(path) = field.strip_prefix(b"worktree ") {
                let worktree = PathBuf::from(OsString::from_vec(path.to_vec()));
                found.push(Checkout { worktree, reference: None, how: "HEAD" });
            } else if let Some(name) = field.strip_prefix(b"branch ")
                && let Some(last) = found.last_mut()
            {
                last.reference = RefName::new(String::from_utf8_lossy(name)).ok();
            }
        }
        self.add_operations(&mut found);
        Ok(found)
    }

    /// Adds branches that are held by an unfinished rebase or bisect, though no HEAD names them.
    fn add_operations(&self, found: &mut Vec<Checkout>) {
        let mut dirs = vec![self.common_dir.clone()];
        if let Ok(entries) = std::fs::read_dir(self.common_dir.join("worktrees")) {
            dirs.extend(entries.flatten().map(|entry| entry.path()));
        }
        for dir in dirs {
            let worktree = std::fs::read_to_string(dir.join("gitdir")).map_or_else(
                |_| self.common_dir.parent().unwrap_or(&self.common_dir).to_owned(),
                |text| PathBuf::from(text.trim().trim_end_matches("/.git")),
            );
            let read = |file: &str| std::fs::read_to_string(dir.join(file)).unwrap_or_default();
            let rebased = ["rebase-merge/head-name", "rebase-apply/head-name"].map(read).join("\n");
            let updated = read("rebase-merge/update-refs");
            let bisected = read("BISECT_START");
            let bisected = if bisected.starts_with("refs/") { bisected } else { format!("refs/heads/{}", bisected.trim()) };
            for (text, how) in [(rebased, "rebase"), (updated, "rebase"), (bisected, "bisect")] {
                let names = text.lines().filter_map(|line| RefName::new(line.trim()).ok());
                found.extend(names.map(|name| Checkout { worktree: worktree.clone(), reference: Some(name), how }));
            }
        }
    }

    /// Returns the worktree that holds the ref, if one does.
    pub(crate) fn held(&self, reference: &RefName) -> Result<Option<Checkout>, GitError> {
        Ok(self.checkouts()?.into_iter().find(|checkout| checkout.reference.as_ref() == Some(reference)))
    }

    /// Removes what a run kept in the project: `refs/aedile/keep/<run>/*`. Harmless when there is nothing.
    ///
    /// # Errors
    /// [`GitError`] when git fails.
    pub fn release(&self, run: RunId) -> Result<(), GitError> {
        delete_refs(|subcommand| self.call(subcommand), &format!("refs/aedile/keep/{run}/"))
    }

    /// Returns the runs for which the project keeps commits.
    ///
    /// # Errors
    /// [`GitError`] when git fails.
    pub fn kept_runs(&self) -> Result<Vec<RunId>, GitError> {
        let text = self.call("for-each-ref").reading().args(["--format=%(refname)", "refs/aedile/keep/"]).text()?;
        let mut runs: Vec<RunId> = text.lines().filter_map(|line| line.split('/').nth(3)?.parse().ok()).collect();
        runs.dedup();
        Ok(runs)
    }
}

/// Deletes all refs that start with the prefix, in one transaction.
pub(crate) fn delete_refs(call: impl Fn(&str) -> Call, prefix: &str) -> Result<(), GitError> {
    let text = call("for-each-ref").reading().args(["--format=delete %(refname)", prefix]).text()?;
    if !text.is_empty() {
        call("update-ref").args(["--no-deref", "--stdin"]).input(text + "\n").output()?;
    }
    Ok(())
}

/// Names what `git` said about a directory in which it found no usable repository.
pub(crate) fn discovery_error(error: GitError, path: &Path) -> GitError {
    let GitError::Failed { stderr, .. } = &error else { return error };
    let path = path.to_owned();
    if stderr.contains("dubious ownership") {
        return GitError::NotTrusted { path, words: stderr.clone() };
    }
    if stderr.contains("not a git repository") {
        return GitError::NotARepository { path };
    }
    if stderr.contains("must be run in a work tree") {
        return GitError::NotAWorkTree { path };
    }
    error
}
