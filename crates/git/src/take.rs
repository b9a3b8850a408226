//! What a person takes of a held change: its difference onto their checkout, or a branch of it.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use aedile_core::{CommitId, RefName, crash};

use crate::applying::{Applying, may_be};
use crate::diff::{EntryMode, PathChange};
use crate::error::{GitError, io};
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
    /// so that it cannot choose a filter. What is there is noted first: a try that fails puts it back, and after one that was killed the
    /// next for the same change begins with that.
    ///
    /// # Errors
    /// [`GitError::Overlaps`] when a path of the change is changed, untracked or in the way here; [`GitError::ApplyRefused`] when it does
    /// not fit; [`GitError::ApplyBroke`] when writing failed. Nothing was changed then. [`GitError::HalfApplied`] names what could not be put back.
    pub fn apply(&self, hub: &Hub, base: &CommitId, commit: &CommitId) -> Result<Vec<String>, GitError> {
        let changes = hub.diff_paths(base, commit)?;
        self.finish_left(hub, commit, &changes)?;
        let unseen = self.unseen()?;
        let mut in_the_way: BTreeSet<PathBuf> = BTreeSet::new();
        for change in &changes {
            let overlaps = |path: &&PathBuf| path.starts_with(&change.path) || change.path.starts_with(path);
            in_the_way.extend(unseen.paths.iter().filter(overlaps).cloned());
            if change.old_mode == EntryMode::Absent && in_the_way.iter().all(|path| !path.starts_with(&change.path)) {
                in_the_way.extend(self.where_it_appears(change, &changes)?);
            }
        }
        if !in_the_way.is_empty() {
            return Err(GitError::Overlaps { paths: in_the_way.iter().map(|path| shown(path)).collect() });
        }
        self.apply_patch(&["--check"], hub.patch(base, commit, &[])?)?;
        let noted = Applying::begin(hub, self.root(), commit, &changes)?;
        if let Err(error) = self.write(hub, (base, commit), &changes) {
            let left = noted.take_back(|_| true);
            let words = match error {
                GitError::ApplyRefused { words } => words,
                other => other.to_string(),
            };
            if left.is_empty() {
                noted.done()?;
                return Err(GitError::ApplyBroke { words });
            }
            return Err(GitError::HalfApplied { words, paths: left.iter().map(|path| shown(path)).collect() });
        }
        noted.done()?;
        Ok(changes.iter().map(|change| shown(&change.path)).collect())
    }

    /// What stands where a path of the change appears. A directory of which the change removes every file makes room by itself.
    fn where_it_appears(&self, appears: &PathChange, changes: &[PathChange]) -> Result<Vec<PathBuf>, GitError> {
        let at = self.root().join(&appears.path);
        match at.symlink_metadata() {
            Err(_) => return Ok(Vec::new()),
            Ok(meta) if !meta.is_dir() => return Ok(vec![appears.path.clone()]),
            Ok(_) => {}
        }
        let goes: BTreeSet<&Path> =
            changes.iter().filter(|change| change.new_mode == EntryMode::Absent).map(|change| change.path.as_path()).collect();
        let (mut stays, mut open) = (Vec::new(), vec![appears.path.clone()]);
        while let Some(dir) = open.pop() {
            let place = self.root().join(&dir);
            for entry in std::fs::read_dir(&place).map_err(io("read", &place))? {
                let entry = entry.map_err(io("read", &place))?;
                let path = dir.join(entry.file_name());
                match entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    true => open.push(path),
                    false if goes.contains(path.as_path()) => {}
                    false => stays.push(path),
                }
            }
        }
        Ok(stays)
    }

    /// Writes the files of the change.
    fn write(&self, hub: &Hub, (base, commit): (&CommitId, &CommitId), changes: &[PathChange]) -> Result<(), GitError> {
        let (mut attributes, rest): (Vec<&Path>, Vec<&Path>) = changes.iter().map(|change| change.path.as_path()).partition(is_attributes);
        if !rest.is_empty() {
            self.apply_patch(&[], hub.patch(base, commit, &[":(top,exclude,glob)**/.gitattributes".into()])?)?;
        }
        crash::point("apply");
        // Only now, deepest first: none of these is ever read while another file is written.
        attributes.sort_by_key(|path| std::cmp::Reverse(path.components().count()));
        for path in attributes {
            let mut only = OsString::from(":(top,literal)");
            only.push(path);
            self.apply_patch(&[], hub.patch(base, commit, &[only])?)?;
        }
        Ok(())
    }

    /// Puts back what an earlier try of the same change had written when it was killed. What somebody has committed or changed since stays.
    fn finish_left(&self, hub: &Hub, commit: &CommitId, changes: &[PathChange]) -> Result<(), GitError> {
        let Some(left) = Applying::left(hub, self.root(), commit) else { return Ok(()) };
        let unseen = self.unseen()?;
        let ids: Vec<String> = changes.iter().map(|change| change.new_id.clone()).collect();
        let written: BTreeMap<&Path, Option<Vec<u8>>> =
            changes.iter().map(|change| change.path.as_path()).zip(hub.blobs(&ids, usize::MAX)?).collect();
        let ours = |path: &Path| {
            let at = self.root().join(path);
            let wrote = written.get(path).and_then(Option::as_deref);
            unseen.paths.iter().any(|unseen| unseen == path)
                && match at.symlink_metadata() {
                    Err(_) => true,
                    // Only what the change puts into it is removed.
                    Ok(meta) if meta.is_dir() => true,
                    Ok(meta) if meta.is_symlink() => std::fs::read_link(&at).is_ok_and(|to| Some(to.as_os_str().as_bytes()) == wrote),
                    Ok(_) => std::fs::read(&at).is_ok_and(|found| wrote.is_some_and(|wrote| may_be(&found, wrote))),
                }
        };
        match left.take_back(ours) {
            paths if paths.is_empty() => left.done(),
            paths => Err(GitError::HalfApplied {
                words: "an earlier try was killed".to_owned(),
                paths: paths.iter().map(|path| shown(path)).collect(),
            }),
        }
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
