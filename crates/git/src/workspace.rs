//! Workspaces: private repositories that borrow the hub's objects.

use std::fs;
use std::path::{Component, Path, PathBuf};

use aedile_core::sandbox::OBJECTS_INSIDE;
use aedile_core::{CommitId, TaskKey};

use crate::clean::remove_tree;
use crate::commit::Identity;
use crate::error::{GitError, io};
use crate::hub::{Hub, copy_shallow};
use crate::objects;
use crate::run::Call;
use crate::snapshot;

/// A directory of objects that a box must see, read-only.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ObjectMount {
    /// Where it is on the host.
    pub host: PathBuf,
    /// Where the box sees it.
    pub inside: PathBuf,
}

/// A file of ours in a workspace, such as instructions for the agent. It is never part of a change.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OverlayFile {
    /// Relative to the root of the workspace, without `..`.
    pub path: PathBuf,
    /// Its content.
    pub bytes: Vec<u8>,
}

/// A workspace to be made.
#[derive(Clone, Debug)]
pub struct WorkspaceSpec<'a> {
    /// Where (absolute). Must not exist; its parent is made.
    pub dest: &'a Path,
    /// Our own directory for the snapshots of this workspace (absolute), made or replaced. No agent ever sees it.
    pub snapshots: &'a Path,
    /// The branch is `aedile/<key>`.
    pub key: &'a TaskKey,
    /// The commit to start from, in the hub.
    pub commit: &'a CommitId,
    /// Whether the commit is a view ([`Hub::view`]): then the workspace holds the objects of that commit itself, and nothing else of the hub can be
    /// read from it.
    pub alone: bool,
    /// Who commits in it: the agent.
    pub identity: &'a Identity,
    /// Files of ours.
    pub overlay: &'a [OverlayFile],
    /// Directories that builds write (relative), kept out of the index and of snapshots.
    pub build_dirs: &'a [String],
}

impl Hub {
    /// Makes a workspace: a private repository as `clone --shared` makes it, checked out at the commit, on branch `aedile/<key>`, with
    /// `refs/aedile/base` at the same commit. Its alternates name the hub's objects where the box sees them ([`Hub::object_mounts`]), so
    /// git works in it only inside a box; one that stands `alone` has none and needs no mount. It appears at `dest` complete or not at all. Two processes, three with its snapshot directory.
    ///
    /// # Errors
    /// [`GitError::OverlayExists`] when a file of ours would replace one of the project's; [`GitError`] when something cannot be made.
    pub fn create_workspace(&self, spec: &WorkspaceSpec<'_>) -> Result<(), GitError> {
        let partial = self.checkout(spec.dest, spec.commit, Head::Branch { key: spec.key, alone: spec.alone })?;
        let git_dir = partial.join(".git");
        let settings = format!(
            "[user]\n\tname = {}\n\temail = {}\n[commit]\n\tgpgsign = false\n[merge]\n\tconflictStyle = diff3\n[gc]\n\tauto = 0\n[maintenance]\n\tauto = false\n",
            quoted(spec.identity.name()),
            quoted(spec.identity.email())
        );
        append(&git_dir.join("config"), &settings)?;
        write_file(&git_dir.join("refs/aedile/base"), format!("{}\n", spec.commit).as_bytes())?;
        let hidden = hidden_paths(spec);
        write_file(&git_dir.join("info/exclude"), hidden.join("\n").as_bytes())?;
        for file in spec.overlay {
            put_overlay(&partial, file)?;
        }
        snapshot::prepare(self, spec, &git_dir.join("index"), &hidden)?;
        fs::rename(&partial, spec.dest).map_err(io("rename", &partial))
    }

    /// Makes a clean-room tree for gates: what the commit holds and nothing else, as a private repository with a detached HEAD, because
    /// ordinary tools (version stamps, `git ls-files` in a test) ask git. Like a workspace it borrows the hub's objects inside a box.
    /// Two processes.
    ///
    /// # Errors
    /// [`GitError`] when something cannot be made.
    pub fn export_tree(&self, commit: &CommitId, dest: &Path) -> Result<(), GitError> {
        let partial = self.checkout(dest, commit, Head::Detached)?;
        fs::rename(&partial, dest).map_err(io("rename", &partial))
    }

    /// Checks the commit out beside `dest`; returns where. Nobody else has been there, so git on the host may work in it.
    fn checkout(&self, dest: &Path, commit: &CommitId, head: Head<'_>) -> Result<PathBuf, GitError> {
        let mut name = dest.file_name().unwrap_or_default().to_owned();
        name.push(".partial");
        let partial = dest.with_file_name(name);
        remove_tree(&partial)?;
        fs::create_dir_all(&partial).map_err(io("create", &partial))?;
        let branch = match head {
            Head::Branch { key, .. } => format!("aedile/{key}"),
            Head::Detached => "main".to_owned(),
        };
        self.git()
            .call(&partial, "init")
            .args(["--quiet", "--template="])
            .arg(format!("--initial-branch={branch}"))
            .arg(format!("--object-format={}", self.format().name()))
            .arg(&partial)
            .output()?;
        let git_dir = partial.join(".git");
        let alone = matches!(head, Head::Branch { alone: true, .. });
        if alone {
            let packs = git_dir.join("objects/pack/pack");
            self.call("pack-objects").args(["--revs", "-q"]).arg(packs).input(format!("{commit}\n")).output()?;
        } else {
            copy_shallow(self.dir(), &git_dir)?;
        }
        // The agent's git reads everything back from disk, so the power cut rule of our other calls would only cost time here.
        let call = self.inside(&partial).setting("core.fsync", "none").arg("--quiet");
        match head {
            Head::Branch { .. } => call.args(["-B", &branch, commit.as_str(), "--"]).output()?,
            Head::Detached => call.args(["--detach", commit.as_str(), "--"]).output()?,
        };
        if !alone {
            write_file(&git_dir.join("objects/info/alternates"), format!("{OBJECTS_INSIDE}\n").as_bytes())?;
        }
        Ok(partial)
    }

    fn inside(&self, tree: &Path) -> Call {
        self.git()
            .call(tree, "checkout")
            .env("GIT_DIR", tree.join(".git"))
            .env("GIT_WORK_TREE", tree)
            .env("GIT_ALTERNATE_OBJECT_DIRECTORIES", objects::alternate(&self.objects()))
    }
}

#[derive(Clone, Copy)]
enum Head<'a> {
    Branch { key: &'a TaskKey, alone: bool },
    Detached,
}

/// Ignore rules for what is never part of a change.
fn hidden_paths(spec: &WorkspaceSpec<'_>) -> Vec<String> {
    let escape = |text: &str| {
        text.chars()
            .flat_map(|c| matches!(c, '*' | '?' | '[' | '\\' | '!' | '#' | ' ').then_some('\\').into_iter().chain([c]))
            .collect::<String>()
    };
    let overlay = spec.overlay.iter().map(|file| format!("/{}", escape(&file.path.to_string_lossy())));
    let builds = spec.build_dirs.iter().map(|dir| format!("/{}/", escape(dir.trim_matches('/'))));
    overlay.chain(builds).chain([String::new()]).collect()
}

fn put_overlay(tree: &Path, file: &OverlayFile) -> Result<(), GitError> {
    let plain = file.path.components().all(|part| matches!(part, Component::Normal(name) if !name.eq_ignore_ascii_case(".git")));
    let mut at = tree.to_owned();
    let mut linked = false;
    for part in file.path.components() {
        at.push(part);
        linked |= fs::symlink_metadata(&at).is_ok_and(|meta| !meta.is_dir());
    }
    // Also refuses to go through a link that the project holds at one of the file's directories.
    if !plain || linked || fs::symlink_metadata(&at).is_ok() {
        return Err(GitError::OverlayExists { path: file.path.clone() });
    }
    write_file(&at, &file.bytes)
}

/// Writes a file, making its directories.
pub(crate) fn write_file(path: &Path, bytes: &[u8]) -> Result<(), GitError> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(io("create", parent))?;
    }
    fs::write(path, bytes).map_err(io("write", path))
}

fn append(path: &Path, text: &str) -> Result<(), GitError> {
    let mut whole = fs::read_to_string(path).map_err(io("read", path))?;
    whole.push_str(text);
    fs::write(path, whole).map_err(io("write", path))
}

/// A value in git's configuration syntax.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}
