//! What a person takes of a held change: its difference onto their checkout, or a branch of it.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use aedile_core::{CommitId, RefName};

use crate::diff::EntryMode;
use crate::error::GitError;
use crate::hub::Hub;
use crate::land::Landing;
use crate::project::Project;

/// What of the working tree no commit has: an agent that starts from HEAD does not see it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Unseen {
    /// Changed, staged, conflicted and untracked paths relative to the root, in git's order. Ignored ones are not listed.
    pub paths: Vec<PathBuf>,
}

impl Unseen {
    /// Whether everything is committed.
    pub fn is_empty(&self) -> bool {
        self.paths.is_empty()
    }

    /// Returns the paths as they can be shown.
    pub fn shown(&self) -> Vec<String> {
        self.paths.iter().map(|path| shown(path)).collect()
    }
}

fn is_attributes(path: &&Path) -> bool {
    path.file_name().is_some_and(|name| name == ".gitattributes")
}

fn shown(path: &Path) -> String {
    path.to_string_lossy().chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

impl Project {
    /// Lists the paths whose content in this worktree is in no commit, each file by itself. Takes no lock and changes nothing.
    ///
    /// # Errors
    /// [`GitError`] when git fails.
    pub fn unseen(&self) -> Result<Unseen, GitError> {
        let answer = self
            .person_call("status")
            .setting("core.fsmonitor", "false")
            .reading()
            .args(["--porcelain=v2", "-z", "--no-renames", "--untracked-files=all", "--ignore-submodules=dirty"])
            .output()?;
        // Blanks before the path: `1 XY sub mH mI mW hH hI path`, `u XY sub m1 m2 m3 mW h1 h2 h3 path`, `? path`.
        let blanks = |kind: u8| match kind {
            b'1' => Some(8),
            b'u' => Some(10),
            b'?' => Some(1),
            _ => None,
        };
        let path_of = |entry: &[u8]| {
            let path = entry.splitn(blanks(*entry.first()?)? + 1, |byte| *byte == b' ').last()?;
            Some(PathBuf::from(OsString::from_vec(path.to_vec())))
        };
        Ok(Unseen { paths: answer.stdout.split(|byte| *byte == 0).filter_map(path_of).collect() })
    }

    /// Puts the difference between two commits of the hub onto this worktree, as `git apply` does: files only, the index and everything
    /// else stay as they are. Returns the changed paths. No hook runs, and no attribute of the change counts while its files are written,
    /// so that it cannot choose a filter.
    ///
    /// # Errors
    /// [`GitError::Overlaps`] when a path of the change is changed, untracked or in the way here; [`GitError::ApplyRefused`] when it does
    /// not fit. Nothing was changed then.
    pub fn apply(&self, hub: &Hub, base: &CommitId, commit: &CommitId) -> Result<Vec<String>, GitError> {
        let changes = hub.diff_paths(base, commit)?;
        let unseen = self.unseen()?;
        let mut in_the_way: BTreeSet<&Path> = BTreeSet::new();
        for change in &changes {
            let appears = change.old_mode == EntryMode::Absent && self.root().join(&change.path).symlink_metadata().is_ok();
            let overlaps = |path: &&PathBuf| path.starts_with(&change.path) || change.path.starts_with(path);
            in_the_way.extend(unseen.paths.iter().filter(overlaps).map(PathBuf::as_path));
            if appears && in_the_way.iter().all(|path| !path.starts_with(&change.path)) {
                in_the_way.insert(&change.path);
            }
        }
        if !in_the_way.is_empty() {
            return Err(GitError::Overlaps { paths: in_the_way.into_iter().map(shown).collect() });
        }
        self.apply_patch(&["--check"], hub.patch(base, commit, &[])?)?;
        let (mut attributes, rest): (Vec<&Path>, Vec<&Path>) = changes.iter().map(|change| change.path.as_path()).partition(is_attributes);
        if !rest.is_empty() {
            self.apply_patch(&[], hub.patch(base, commit, &[":(top,exclude,glob)**/.gitattributes".into()])?)?;
        }
        // Only now, deepest first: none of these is ever read while another file is written.
        attributes.sort_by_key(|path| std::cmp::Reverse(path.components().count()));
        for path in attributes {
            let mut only = OsString::from(":(top,literal)");
            only.push(path);
            self.apply_patch(&[], hub.patch(base, commit, &[only])?)?;
        }
        Ok(changes.iter().map(|change| shown(&change.path)).collect())
    }

    fn apply_patch(&self, options: &[&str], patch: Vec<u8>) -> Result<(), GitError> {
        let call = self.person_call("apply").setting("core.fsmonitor", "false").args(options);
        match call.args(["--whitespace=nowarn", "-"]).input(patch).output() {
            Ok(_) => Ok(()),
            Err(GitError::Failed { stderr, .. }) if !stderr.is_empty() => Err(GitError::ApplyRefused { words: stderr.replace('\n', "; ") }),
            Err(error) => Err(error),
        }
    }

    /// Makes the branch `name` at a commit of the hub whose parents the project has; its objects are copied. Nothing is checked out and no other ref moves.
    ///
    /// # Errors
    /// [`GitError::BranchExists`], [`GitError::RefUnusable`] for a name that git does not take; nothing was made then.
    pub fn make_branch(&self, hub: &Hub, name: &str, commit: &CommitId) -> Result<RefName, GitError> {
        let reference = self.branch_free(name)?;
        let landing = Landing { reference: reference.clone(), old: None, new: commit.clone() };
        self.copy_objects(hub, commit, &hub.commit_info(commit)?.parents)?;
        match self.swap(hub, &landing, "aedile: branch of a held change") {
            Ok(_) => Ok(reference),
            Err(GitError::RefMoved { found: Some(at), .. }) => Err(GitError::BranchExists { name: name.to_owned(), at }),
            Err(error) => Err(error),
        }
    }

    /// Checks that a branch of that name can be made, and returns its full name.
    ///
    /// # Errors
    /// As [`Self::make_branch`].
    pub fn branch_free(&self, name: &str) -> Result<RefName, GitError> {
        let full = format!("refs/heads/{name}");
        // Never reaches git as an option or a path of its own.
        let reference = RefName::new(full.clone()).map_err(|error| GitError::BadText { what: "the branch", text: error.to_string() })?;
        let unusable = || GitError::RefUnusable {
            reference: reference.clone(),
            why: "git takes no branch of that name (`git help check-ref-format`)".to_owned(),
        };
        if name.starts_with('-') || self.call("check-ref-format").reading().arg(&full).output().is_err() {
            return Err(unusable());
        }
        match self.resolve(&full)? {
            Some(at) => Err(GitError::BranchExists { name: name.to_owned(), at }),
            None => Ok(reference),
        }
    }
}

impl Hub {
    /// Returns the difference between two commits as a patch that loses nothing: binary content, modes, whole object names, no renames.
    /// Pathspecs, if any, limit it.
    ///
    /// # Errors
    /// [`GitError`] when a commit is missing.
    pub fn patch(&self, base: &CommitId, commit: &CommitId, pathspecs: &[OsString]) -> Result<Vec<u8>, GitError> {
        let options = ["-r", "-p", "--binary", "--full-index", "--no-renames", "--no-ext-diff", "--no-textconv", "--no-color"];
        let call = self.call("diff-tree").reading().args(options).args([base.as_str(), commit.as_str(), "--"]).args(pathspecs);
        Ok(call.output()?.stdout)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt;

    use super::*;

    #[test]
    fn odd_names_are_shown_on_one_line() {
        assert_eq!(shown(Path::new(std::ffi::OsStr::from_bytes(b"a\nb\x1b[2J"))), "a?b?[2J");
    }
}
