//! A merge of the person's that stopped: the versions that the index holds, whether anybody has touched the file since, and how an answer is put down.

use std::ffi::OsString;
use std::fs::{Metadata, Permissions};
use std::io::Write;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::diff::EntryMode;
use crate::error::{GitError, io};
use crate::merge::{Stages, read_stage};
use crate::objects::each_blob;
use crate::project::Project;
use crate::version::GitVersion;

/// How git writes conflicts, and how it compares: what a file in conflict can look like when nobody has touched it.
const STYLES: [&str; 3] = ["merge", "diff3", "zdiff3"];
const ALGORITHMS: [&str; 2] = ["histogram", "myers"];
/// Since when `merge-file` can be told how to compare.
const TOLD_SINCE: GitVersion = GitVersion { major: 2, minor: 44, patch: 0 };

/// What git was doing when it met conflicts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Operation {
    /// `git merge`.
    Merge,
    /// `git rebase`.
    Rebase,
    /// `git cherry-pick`.
    CherryPick,
    /// `git revert`.
    Revert,
    /// `git am`.
    Am,
}

impl Operation {
    /// What git calls it: the command, which `--continue` and `--abort` end.
    #[must_use]
    pub fn command(self) -> &'static str {
        match self {
            Self::Merge => "merge",
            Self::Rebase => "rebase",
            Self::CherryPick => "cherry-pick",
            Self::Revert => "revert",
            Self::Am => "am",
        }
    }
}

/// A path in conflict.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Unmerged {
    /// The path and its versions: base, ours, theirs.
    pub stages: Stages,
    /// The driver that its attributes name: `unspecified`, `set`, `unset`, or a name.
    pub driver: String,
    /// The length of markers at this path.
    marker_size: String,
}

/// An answer to a conflict.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Resolved {
    /// The path.
    pub path: PathBuf,
    /// The bytes, as a blob has them.
    pub bytes: Vec<u8>,
    /// [`EntryMode::File`] or [`EntryMode::Executable`].
    pub mode: EntryMode,
    /// The working file for which the answer was made. One that is another by now is not replaced.
    pub instead_of: Vec<u8>,
}

impl Project {
    /// Returns what git is in the middle of; `None` after a stash pop or `checkout -m`, which are not continued.
    ///
    /// # Errors
    /// [`GitError`] when git fails.
    pub fn operation(&self) -> Result<Option<Operation>, GitError> {
        let answer = self.person_call("rev-parse").reading().arg("--absolute-git-dir").output()?;
        let dir = PathBuf::from(OsString::from_vec(answer.stdout.trim_ascii_end().to_vec()));
        let table = [
            ("rebase-merge", Operation::Rebase),
            ("rebase-apply/applying", Operation::Am),
            ("rebase-apply", Operation::Rebase),
            ("MERGE_HEAD", Operation::Merge),
            ("CHERRY_PICK_HEAD", Operation::CherryPick),
            ("REVERT_HEAD", Operation::Revert),
        ];
        Ok(table.into_iter().find(|(name, _)| dir.join(name).exists()).map(|(_, operation)| operation))
    }

    /// Returns the paths that the index of this worktree holds in conflict. Two processes.
    ///
    /// # Errors
    /// [`GitError`] when git fails.
    pub fn unmerged(&self) -> Result<Vec<Unmerged>, GitError> {
        let unreadable = |command: &str| GitError::Unreadable { command: command.to_owned(), what: "a field is missing".to_owned() };
        let answer = self.person_call("ls-files").reading().args(["--unmerged", "-z"]).output()?;
        let mut found: Vec<Unmerged> = Vec::new();
        for field in answer.stdout.split(|byte| *byte == 0).filter(|field| !field.is_empty()) {
            let tab = field.iter().position(|byte| *byte == b'\t').ok_or_else(|| unreadable("ls-files"))?;
            let path = PathBuf::from(OsString::from_vec(field[tab + 1..].to_vec()));
            let (mode, id, stage) = read_stage(&field[..tab]).ok_or_else(|| unreadable("ls-files"))?;
            if found.last().is_none_or(|last| last.stages.path != path) {
                let stages = Stages { path, ..Stages::default() };
                found.push(Unmerged { stages, driver: "unspecified".to_owned(), marker_size: String::new() });
            }
            if let Some(last) = found.last_mut() {
                last.stages.versions[stage] = Some((mode, id));
            }
        }
        let names: Vec<u8> = found.iter().flat_map(|one| [one.stages.path.as_os_str().as_bytes(), b"\0"].concat()).collect();
        let answer =
            self.person_call("check-attr").reading().args(["-z", "--stdin", "merge", "conflict-marker-size"]).input(names).output()?;
        let fields: Vec<&[u8]> = answer.stdout.split(|byte| *byte == 0).collect();
        for (attributes, one) in fields.chunks_exact(6).zip(&mut found) {
            one.driver = String::from_utf8_lossy(attributes[2]).into_owned();
            one.marker_size = String::from_utf8_lossy(attributes[5]).into_owned();
        }
        Ok(found)
    }

    /// Returns the bytes of blobs by their ids; `None` for what is missing, is no blob, or has more than `max` bytes.
    ///
    /// # Errors
    /// [`GitError`] when git fails.
    pub fn blobs(&self, ids: &[String], max: usize) -> Result<Vec<Option<Vec<u8>>>, GitError> {
        let mut found: Vec<Option<Vec<u8>>> = vec![None; ids.len()];
        each_blob(|subcommand| self.person_call(subcommand), ids, max, |at, bytes| found[at] = Some(bytes))?;
        Ok(found)
    }

    /// Reads an ordinary file of the working tree; `None` when there is none, or a link stands on the way to it.
    ///
    /// # Errors
    /// [`GitError::Io`] when it cannot be read.
    pub fn working_file(&self, path: &Path) -> Result<Option<Vec<u8>>, GitError> {
        let file = self.root().join(path);
        match file.symlink_metadata() {
            Ok(there) if there.is_file() && self.reached_without_links(&file) => std::fs::read(&file).map(Some).map_err(io("read", &file)),
            _ => Ok(None),
        }
    }

    fn reached_without_links(&self, file: &Path) -> bool {
        let dirs = file.ancestors().skip(1).take_while(|dir| *dir != self.root());
        dirs.into_iter().all(|dir| dir.symlink_metadata().is_ok_and(|there| there.is_dir()))
    }

    /// Whether the working file is as git left it when it met the conflict: as the tree has it that git keeps for that (`AUTO_MERGE`), or as a merge of the three versions by lines
    /// in one of git's styles. What cannot be told counts as touched.
    ///
    /// # Errors
    /// [`GitError`] when git fails.
    pub fn is_as_git_left_it(&self, one: &Unmerged, working: &[u8], versions: &[Vec<u8>; 3]) -> Result<bool, GitError> {
        let path = one.stages.path.as_path();
        let mut named = OsString::from("--path=");
        named.push(path);
        let hashed = self.person_call("hash-object").arg("--stdin").arg(named).input(working).text()?;
        if !path.as_os_str().as_bytes().contains(&b'\n') {
            let name = String::from_utf8_lossy(path.as_os_str().as_bytes());
            let kept =
                self.person_call("rev-parse").reading().args(["--verify", "--quiet", &format!("AUTO_MERGE:{name}")]).accept(128).text()?;
            if kept == hashed {
                return Ok(true);
            }
        }
        let dir = tempfile::tempdir().map_err(io("make a directory in", &std::env::temp_dir()))?;
        for (name, bytes) in ["base", "ours", "theirs"].iter().zip(versions) {
            let file = dir.path().join(name);
            std::fs::write(&file, bytes).map_err(io("write", &file))?;
        }
        let size = one.marker_size.parse::<usize>().ok().filter(|size| *size > 0).unwrap_or(7);
        let label = |marker: char| {
            let start = marker.to_string().repeat(size) + " ";
            let line = working.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(start.as_bytes()));
            OsString::from_vec(line.unwrap_or_default().trim_ascii_end().to_vec())
        };
        let labels = [label('<'), label('|'), label('>')];
        let algorithms = if self.git().version() >= TOLD_SINCE { ALGORITHMS.as_slice() } else { &ALGORITHMS[..1] };
        for (style, algorithm) in STYLES.iter().flat_map(|style| algorithms.iter().map(move |algorithm| (style, algorithm))) {
            let mut call = self.person_call("merge-file").setting("merge.conflictStyle", style);
            call = call.args(["-p", "-q", &format!("--marker-size={size}")]);
            if algorithms.len() > 1 {
                call = call.arg(format!("--diff-algorithm={algorithm}"));
            }
            for label in &labels {
                call = call.arg("-L").arg(label);
            }
            let files = ["ours", "base", "theirs"].map(|name| dir.path().join(name));
            // As many as there are conflicts, to 127; what is more is a refusal.
            let Ok(answer) = call.args(files).accept(127).output() else { continue };
            if self.person_call("hash-object").arg("--stdin").input(answer.stdout).text()? == hashed {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Returns the working file that an answer stands for: its bytes with the line ends and filters of the path. The blob is written to the repository.
    fn in_the_working_tree(&self, answer: &Resolved) -> Result<(String, Vec<u8>), GitError> {
        let id = self.person_call("hash-object").args(["-w", "--stdin", "--no-filters"]).input(answer.bytes.as_slice()).text()?;
        let mut named = OsString::from("--path=");
        named.push(&answer.path);
        let working = self.person_call("cat-file").arg("--filters").arg(named).arg(&id).output()?.stdout;
        Ok((id, working))
    }

    /// Whether the working file holds this answer already.
    ///
    /// # Errors
    /// [`GitError`] when git fails.
    pub fn holds(&self, answer: &Resolved) -> Result<bool, GitError> {
        let mut named = OsString::from("--path=");
        named.push(&answer.path);
        let id = |bytes: &[u8], arg: OsString| self.person_call("hash-object").arg("--stdin").arg(arg).input(bytes).text();
        Ok(id(&answer.instead_of, named)? == id(&answer.bytes, "--no-filters".into())?)
    }

    /// Puts answers into the working tree and the index. Each file is replaced as a whole; the index is written once, behind the files. Returns for each answer whether it was put down: a
    /// file that is not the one that the answer was made for is left alone, and its path stays in conflict. `git checkout -m -- PATH` brings a conflict back.
    ///
    /// # Errors
    /// [`GitError`] when git or a file refuses. Files that were replaced then hold their answers, and a further call stages them.
    pub fn put_down(&self, answers: &[Resolved]) -> Result<Vec<bool>, GitError> {
        let (mut done, mut index) = (Vec::with_capacity(answers.len()), Vec::new());
        for answer in answers {
            let (id, working) = self.in_the_working_tree(answer)?;
            let same = self.working_file(&answer.path)?.as_ref() == Some(&answer.instead_of);
            if same && working != answer.instead_of {
                self.replace(&answer.path, &working, answer.mode)?;
            }
            if same {
                index.extend_from_slice(format!("{} {id} 0\t", answer.mode.octal()).as_bytes());
                index.extend_from_slice(answer.path.as_os_str().as_bytes());
                index.push(0);
            }
            done.push(same);
        }
        if !index.is_empty() {
            self.person_call("update-index").args(["-z", "--index-info"]).input(index).output()?;
            // 1: there are other paths that differ, which are the person's.
            self.person_call("update-index").args(["-q", "--refresh"]).accept(1).output()?;
        }
        Ok(done)
    }

    fn replace(&self, path: &Path, bytes: &[u8], mode: EntryMode) -> Result<(), GitError> {
        let file = self.root().join(path);
        let write = || {
            let there: Metadata = file.symlink_metadata()?;
            let mut new = tempfile::NamedTempFile::new_in(file.parent().unwrap_or_else(|| self.root()))?;
            new.write_all(bytes)?;
            let bits = there.permissions().mode() & 0o777;
            let bits = if mode == EntryMode::Executable { bits | (bits & 0o444) >> 2 } else { bits & !0o111 };
            new.as_file().set_permissions(Permissions::from_mode(bits))?;
            new.persist(&file).map_err(std::io::Error::from).map(drop)
        };
        write().map_err(io("replace", &file))
    }
}
