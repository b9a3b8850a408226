//! The hub: our bare repository per project.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use aedile_core::sandbox::OBJECTS_INSIDE;
use aedile_core::{ChangeId, CommitId, RefName, RunId};

use crate::clean::remove_tree;
use crate::commit::commit_id;
use crate::error::{GitError, io};
use crate::objects;
use crate::project::{Project, delete_refs};
use crate::run::{Call, Git};
use crate::workspace::ObjectMount;

/// The hash that names a repository's objects.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ObjectFormat {
    /// SHA-1, 40 digits.
    Sha1,
    /// SHA-256, 64 digits.
    Sha256,
}

impl ObjectFormat {
    pub(crate) fn parse(text: &str) -> Result<Self, GitError> {
        match text {
            "sha1" => Ok(Self::Sha1),
            "sha256" => Ok(Self::Sha256),
            other => Err(GitError::Unreadable { command: "rev-parse --show-object-format".to_owned(), what: other.to_owned() }),
        }
    }

    /// Returns git's name for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sha1 => "sha1",
            Self::Sha256 => "sha256",
        }
    }

    /// Bytes of one id.
    pub(crate) fn bytes(self) -> usize {
        match self {
            Self::Sha1 => 20,
            Self::Sha256 => 32,
        }
    }
}

/// Our bare repository of one project. It borrows the project's objects (alternates), so a commit that the project has needs no copy;
/// [`Hub::adopt`] keeps such commits from being collected in either. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Hub {
    git: Git,
    dir: PathBuf,
    format: ObjectFormat,
}

/// Beside the hub's objects, a link to the project's. Both the host and a box see the pair side by side, so one relative line in
/// `objects/info/alternates` is right in both.
const PROJECT_OBJECTS: &str = "project-objects";
/// Where a box sees the project's objects.
const PROJECT_OBJECTS_INSIDE: &str = "/aedile/project-objects";

impl Hub {
    /// Opens the hub at `dir` (absolute, usually `<state>/hubs/<project id>.git`), making it when it is not there.
    ///
    /// # Errors
    /// [`GitError`] when it cannot be made or is the hub of a project with another object format.
    pub fn open_or_create(dir: &Path, project: &Project) -> Result<Self, GitError> {
        let hub = Self { git: project.git().clone(), dir: dir.to_owned(), format: project.format() };
        if !dir.join("HEAD").exists() {
            hub.create()?;
        }
        let config = fs::read_to_string(dir.join("config")).map_err(io("read", dir))?;
        if config.contains("objectformat = sha256") != (hub.format == ObjectFormat::Sha256) {
            return Err(GitError::FormatDiffers { dir: dir.to_owned() });
        }
        hub.join(project)?;
        Ok(hub)
    }

    /// Makes the repository beside its place and renames it, so that a crash leaves no half of one.
    fn create(&self) -> Result<(), GitError> {
        let partial = self.dir.with_extension("partial");
        remove_tree(&partial)?;
        if let Some(parent) = self.dir.parent() {
            fs::create_dir_all(parent).map_err(io("create", parent))?;
        }
        fs::create_dir(&partial).map_err(io("create", &partial))?;
        self.git
            .call(&partial, "init")
            .args(["--quiet", "--bare", "--template=", "--initial-branch=main"])
            .arg(format!("--object-format={}", self.format.name()))
            .arg(&partial)
            .output()?;
        let alternates = partial.join("objects/info/alternates");
        fs::create_dir_all(partial.join("objects/info")).map_err(io("create", &alternates))?;
        fs::write(&alternates, format!("../{PROJECT_OBJECTS}\n")).map_err(io("write", &alternates))?;
        fs::rename(&partial, &self.dir).map_err(io("rename", &partial))
    }

    /// Points the hub at the project, which may have moved.
    fn join(&self, project: &Project) -> Result<(), GitError> {
        let link = self.dir.join(PROJECT_OBJECTS);
        let target = project.common_dir().join("objects");
        if fs::read_link(&link).ok().as_deref() != Some(&target) {
            let fresh = self.dir.join("project-objects.new");
            let _ = fs::remove_file(&fresh);
            symlink(&target, &fresh).map_err(io("link", &fresh))?;
            fs::rename(&fresh, &link).map_err(io("rename", &fresh))?;
        }
        copy_shallow(project.common_dir(), &self.dir)
    }

    /// Returns the hub's directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Returns the hash that names objects here.
    pub fn format(&self) -> ObjectFormat {
        self.format
    }

    pub(crate) fn git(&self) -> &Git {
        &self.git
    }

    /// A call on the hub.
    pub(crate) fn call(&self, subcommand: &str) -> Call {
        self.git.at(&self.dir, subcommand)
    }

    /// The hub's object directory.
    pub(crate) fn objects(&self) -> PathBuf {
        self.dir.join("objects")
    }

    /// Takes a commit that the project has as one to work from in this run, to be called for every commit that a workspace starts from: `refs/aedile/keep/<run>/<commit>` in the project, so that
    /// the person's `gc` cannot take it away, and in the hub, first there: what the project keeps for a run, the hub names. Repeating it is harmless.
    ///
    /// # Errors
    /// [`GitError`] when the project has no such commit or a ref cannot be written.
    pub fn adopt(&self, project: &Project, run: RunId, commit: &CommitId) -> Result<(), GitError> {
        let line = format!("update refs/aedile/keep/{run}/{commit} {commit}\n");
        copy_shallow(project.common_dir(), &self.dir)?;
        self.call("update-ref").args(["--no-deref", "--stdin"]).input(line.as_str()).output()?;
        project.call("update-ref").args(["--no-deref", "--stdin"]).input(line).output()?;
        Ok(())
    }

    /// Returns the runs for which the hub keeps commits.
    ///
    /// # Errors
    /// [`GitError`] when git fails.
    pub fn kept_runs(&self) -> Result<Vec<RunId>, GitError> {
        let refs = self.refs("refs/aedile/keep/")?;
        let mut runs: Vec<RunId> = refs.iter().filter_map(|(name, _)| name.as_str().split('/').nth(3)?.parse().ok()).collect();
        runs.dedup();
        Ok(runs)
    }

    /// Returns the changes whose commits the hub keeps.
    ///
    /// # Errors
    /// [`GitError`] when git fails.
    pub fn kept_changes(&self) -> Result<Vec<ChangeId>, GitError> {
        let refs = self.refs("refs/aedile/changes/")?;
        Ok(refs.iter().filter_map(|(name, _)| name.as_str().rsplit('/').next()?.parse().ok()).collect())
    }

    /// What a box needs to see so that a workspace finds its objects; all read-only.
    ///
    /// # Errors
    /// [`GitError::Io`] when the project is no longer where it was.
    pub fn object_mounts(&self) -> Result<Vec<ObjectMount>, GitError> {
        let link = self.dir.join(PROJECT_OBJECTS);
        let project = link.canonicalize().map_err(io("find the project's objects at", &link))?;
        let objects = self.objects().canonicalize().map_err(io("find", &self.dir))?;
        let mut mounts = vec![
            ObjectMount { host: objects, inside: OBJECTS_INSIDE.into() },
            ObjectMount { host: project.clone(), inside: PROJECT_OBJECTS_INSIDE.into() },
        ];
        // A project that itself borrows objects names them by absolute path; a box sees them under the same one.
        let mut todo = vec![project];
        while let Some(dir) = todo.pop() {
            let text = fs::read_to_string(dir.join("info/alternates")).unwrap_or_default();
            for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
                let Ok(host) = dir.join(line).canonicalize() else { continue };
                let inside = if line.starts_with('/') { PathBuf::from(line) } else { Path::new(PROJECT_OBJECTS_INSIDE).join(line) };
                if mounts.len() < 16 && !mounts.iter().any(|mount| mount.host == host) {
                    mounts.push(ObjectMount { host: host.clone(), inside: normal(&inside) });
                    todo.push(host);
                }
            }
        }
        Ok(mounts)
    }

    /// Returns the commit that a ref or revision stands for in the hub, `None` when there is none.
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

    /// Sets a ref of the hub under `refs/aedile/`.
    ///
    /// # Errors
    /// [`GitError`] when the commit is not there.
    pub fn set_ref(&self, reference: &RefName, commit: &CommitId) -> Result<(), GitError> {
        self.call("update-ref").args(["--no-deref", reference.as_str(), commit.as_str()]).output().map(drop)
    }

    /// Deletes a ref of the hub; harmless when it does not exist.
    ///
    /// # Errors
    /// [`GitError`] when git fails.
    pub fn delete_ref(&self, reference: &RefName) -> Result<(), GitError> {
        self.call("update-ref").args(["--no-deref", "-d", reference.as_str()]).output().map(drop)
    }

    /// Lists the refs of the hub below a prefix such as `refs/aedile/snapshots/`, with their commits.
    ///
    /// # Errors
    /// [`GitError`] when git fails.
    pub fn refs(&self, prefix: &str) -> Result<Vec<(RefName, CommitId)>, GitError> {
        let text = self.call("for-each-ref").reading().args(["--format=%(objectname) %(refname)", prefix]).text()?;
        let read = |line: &str| {
            let (id, name) = line.split_once(' ')?;
            Some((RefName::new(name).ok()?, CommitId::new(id).ok()?))
        };
        Ok(text.lines().filter_map(read).collect())
    }

    /// Deletes all refs of the hub below a prefix that ends with `/`.
    ///
    /// # Errors
    /// [`GitError`] when git fails.
    pub fn delete_refs(&self, prefix: &str) -> Result<(), GitError> {
        delete_refs(|subcommand| self.call(subcommand), prefix)
    }

    /// Returns the bytes of a file at a commit, `None` when the commit has no file there.
    ///
    /// # Errors
    /// [`GitError::Missing`] when there is no such commit.
    pub fn file_at(&self, commit: &CommitId, path: &str) -> Result<Option<Vec<u8>>, GitError> {
        objects::file_at(self.call("cat-file"), &self.dir, commit, path)
    }

    /// Whether `ancestor` is reachable from `commit`. Both must be in the hub.
    ///
    /// # Errors
    /// [`GitError`] when one is missing.
    pub fn is_ancestor(&self, ancestor: &CommitId, commit: &CommitId) -> Result<bool, GitError> {
        let answer = self.call("merge-base").reading().args(["--is-ancestor", ancestor.as_str(), commit.as_str()]).accept(1).output()?;
        Ok(answer.code == 0)
    }

    /// Returns the best common ancestor of two commits, `None` when they have none.
    ///
    /// # Errors
    /// [`GitError`] when one is missing.
    pub fn merge_base(&self, a: &CommitId, b: &CommitId) -> Result<Option<CommitId>, GitError> {
        let text = self.call("merge-base").reading().args([a.as_str(), b.as_str()]).accept(1).text()?;
        if text.is_empty() { Ok(None) } else { commit_id("merge-base", &text).map(Some) }
    }

    /// Packs the hub's loose objects and small packs, and drops what no ref reaches and what unfinished imports left, when it is older than
    /// `age` (whole seconds): what a run that has just begun writes meanwhile is younger, and has no ref yet.
    ///
    /// # Errors
    /// [`GitError`] when git fails.
    pub fn collect_garbage(&self, age: std::time::Duration) -> Result<(), GitError> {
        let old = |meta: std::io::Result<fs::Metadata>| {
            meta.and_then(|meta| meta.modified()).is_ok_and(|at| at.elapsed().is_ok_and(|since| since >= age))
        };
        for entry in fs::read_dir(self.dir.join("quarantine")).into_iter().flatten().flatten().filter(|entry| old(entry.metadata())) {
            remove_tree(&entry.path())?;
        }
        // What is younger keeps it.
        let _ = fs::remove_dir(self.dir.join("quarantine"));
        self.call("gc").arg("--quiet").arg(format!("--prune={}.seconds.ago", age.as_secs())).output().map(drop)
    }
}

/// A shallow project's history ends at the same commits in the repositories that borrow from it.
pub(crate) fn copy_shallow(from: &Path, to: &Path) -> Result<(), GitError> {
    let (source, copy) = (from.join("shallow"), to.join("shallow"));
    match fs::read(&source) {
        Ok(bytes) => fs::write(&copy, bytes).map_err(io("write", &copy)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => match fs::remove_file(&copy) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(io("remove", &copy)(error)),
            _ => Ok(()),
        },
        Err(error) => Err(io("read", &source)(error)),
    }
}

/// Resolves `..` in a path as it is written.
fn normal(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
            std::path::Component::ParentDir => {
                out.pop();
            }
            other => out.push(other),
        }
    }
    out
}
