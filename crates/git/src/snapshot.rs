//! Snapshots: after each turn everything in a workspace is saved where the agent cannot reach.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aedile_core::limits::IMPORT_PACK_BYTES_MAX;
use aedile_core::sandbox::{BoxMount, Sandbox, WORKSPACE_INSIDE};
use aedile_core::{CommitId, RefName, RunId, TaskId, Timestamp};

use crate::boxes::{self, Script};
use crate::commit::commit_id;
use crate::error::{GitError, io};
use crate::hub::{Hub, ObjectFormat};
use crate::ignored::Rules;
use crate::objects;
use crate::quarantine::Quarantine;
use crate::walk::{self, Listing};
use crate::workspace::{WorkspaceSpec, write_file};

/// Where the box sees our git directory.
const GIT_DIR_INSIDE: &str = "/aedile/snapshot";
/// A name that is left out takes at most this many bytes in the message.
const SHOWN_MAX: usize = 300;
/// The most names in the message.
const NAMED_MAX: usize = 1000;

/// No rule of a `.gitattributes` counts: bytes are stored as they are, no program runs. `working-tree-encoding` must be unspecified; unset,
/// it is an error to git.
const ATTRIBUTES: &str = "* -text !eol -ident -filter !working-tree-encoding -diff -merge\n";

/// Runs in a box in which the workspace is read-only and only our git directory is writable. The host has put lists there: what is gone,
/// what is there, what is too large. Writes the commit's id and then a pack. `$1` base, `$2` the snapshot before (may be empty).
const SCRIPT: &str = r#"
set -eu
at="$GIT_DIR/aedile"
if test -s "$at/gone"; then git update-index -z --force-remove --stdin <"$at/gone"; fi
git update-index -z --add --replace --stdin <"$at/paths"
: >"$at/hashes"
if test -s "$at/oversized"; then git hash-object --no-filters --stdin-paths <"$at/oversized" >"$at/hashes"; fi
tree=$(git write-tree)
commit=$(cat "$at/message" "$at/hashes" | git commit-tree "$tree" -p "$1")
printf '%s\n' "$commit"
printf '%s\n' "$commit" "^$1" ${2:+"^$2"} | git pack-objects --revs --thin --stdout --delta-base-offset -q
"#;

/// Something in the workspace that the snapshot has only by name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LeftOut {
    /// The path, relative.
    pub path: PathBuf,
    /// Why, for example `is no file`, or its size and hash.
    pub why: String,
}

/// A saved state.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Snapshot {
    /// A commit in the hub whose parent is the commit that the workspace started from.
    pub commit: CommitId,
    /// `refs/aedile/snapshots/<run>/<task>/<attempt>-<turn>`, where attempts are the task's workspaces; `-2`, `-3`, ... for further ones.
    pub reference: RefName,
    /// Files and links in it.
    pub files: usize,
    /// What it has only by name.
    pub left_out: Vec<LeftOut>,
}

/// Saves the states of one workspace.
pub struct Snapshotter {
    hub: Hub,
    sandbox: Arc<dyn Sandbox>,
    workspace: PathBuf,
    dir: PathBuf,
    base: CommitId,
    rules: Rules,
    /// What git's index in the box may hold.
    listed: BTreeSet<Vec<u8>>,
    last: Option<CommitId>,
}

/// Makes the directory for a new workspace's snapshots. The index of the fresh checkout comes along: what the agent does not touch is
/// then never read again.
pub(crate) fn prepare(hub: &Hub, spec: &WorkspaceSpec<'_>, index: &Path, hidden: &[String]) -> Result<(), GitError> {
    crate::clean::remove_tree(spec.snapshots)?;
    let repository = spec.snapshots.join("repository");
    fs::create_dir_all(&repository).map_err(io("create", &repository))?;
    hub.git()
        .call(&repository, "init")
        .args(["--quiet", "--bare", "--template=", "--initial-branch=main"])
        .arg(format!("--object-format={}", hub.format().name()))
        .arg(&repository)
        .output()?;
    fs::copy(index, repository.join("index")).map_err(io("copy", index))?;
    crate::hub::copy_shallow(hub.dir(), &repository)?;
    write_file(&repository.join("info/attributes"), ATTRIBUTES.as_bytes())?;
    write_file(&repository.join("objects/info/alternates"), format!("{}\n", aedile_core::sandbox::OBJECTS_INSIDE).as_bytes())?;
    write_file(&spec.snapshots.join("hidden"), hidden.join("\n").as_bytes())?;
    write_file(&spec.snapshots.join("base"), spec.commit.as_str().as_bytes())
}

impl Snapshotter {
    /// Opens what [`Hub::create_workspace`] prepared at `snapshots`; also after a restart. Three processes.
    ///
    /// # Errors
    /// [`GitError::Io`] when it was not prepared.
    pub fn open(hub: &Hub, sandbox: Arc<dyn Sandbox>, workspace: &Path, snapshots: &Path) -> Result<Self, GitError> {
        let read = |name: &str| fs::read_to_string(snapshots.join(name)).map_err(io("read", &snapshots.join(name)));
        let base = commit_id("snapshot", &read("base")?)?;
        let hidden: Vec<String> = read("hidden")?.lines().map(str::to_owned).collect();
        let rules = Rules::read(hub, &base, &hidden)?;
        let listed = match fs::read(snapshots.join("listed")) {
            Ok(bytes) => bytes.split(|byte| *byte == 0).filter(|path| !path.is_empty()).map(<[u8]>::to_vec).collect(),
            Err(_) => rules.tracked().clone(),
        };
        let last = match read("last") {
            Ok(text) => hub.resolve(text.trim())?,
            Err(_) => None,
        };
        Ok(Self { hub: hub.clone(), sandbox, workspace: workspace.to_owned(), dir: snapshots.to_owned(), base, rules, listed, last })
    }

    /// The commit that the workspace began with.
    pub fn base(&self) -> &CommitId {
        &self.base
    }

    /// Saves the workspace as it is now: every file that the target's rules do not ignore, untracked ones and those of nested repositories
    /// included, as `refs/aedile/snapshots/<run>/<task>/<attempt>-<turn>`. A ref that is there never moves: another state of the same turn gets
    /// `-2`, `-3`, ... behind it, the same state is the snapshot that is there. A workspace that changes meanwhile is tried twice. One box, four processes
    /// on the host.
    ///
    /// # Errors
    /// [`GitError::BoxFailed`] and others; earlier snapshots stay.
    pub fn snapshot(&mut self, run: RunId, task: TaskId, (attempt, turn): (u32, u32), at: Timestamp) -> Result<Snapshot, GitError> {
        let reference = RefName::new(format!("refs/aedile/snapshots/{run}/{task}/{attempt}-{turn}"))
            .map_err(|error| GitError::BadText { what: "the ref", text: error.to_string() })?;
        match self.attempt(&reference, turn, at) {
            Err(GitError::BoxFailed { stderr, .. }) => {
                tracing::debug!(%reference, stderr, "the workspace changed under a snapshot; once more");
                self.attempt(&reference, turn, at)
            }
            other => other,
        }
    }

    fn attempt(&mut self, reference: &RefName, turn: u32, at: Timestamp) -> Result<Snapshot, GitError> {
        let listing = walk::list(&self.workspace, &self.rules);
        self.write_orders(&listing, turn)?;
        let mut running = boxes::start(self.sandbox.as_ref(), self.script(reference, at)?)?;
        let mut pipe = File::from(running.stdout()?);
        let mut line = vec![0_u8; self.hub.format().bytes() * 2 + 1];
        if pipe.read_exact(&mut line).is_err() {
            drop(pipe);
            running.finish(0)?;
            return Err(GitError::Unreadable { command: "snapshot".to_owned(), what: "it ended without a commit".to_owned() });
        }
        let commit = commit_id("snapshot", &String::from_utf8_lossy(&line))?;
        if self.last.as_ref() == Some(&commit) {
            // The same files within the same second make the very same commit: it is in the hub, and the pack is empty.
            drop(std::io::copy(&mut pipe, &mut std::io::sink()));
            running.finish(0)?;
            let (commit, reference) = self.keep(reference, commit)?;
            return Ok(Snapshot { commit, reference, files: listing.paths.len(), left_out: self.left_out(&listing) });
        }
        let quarantine = Quarantine::new(&self.hub, &format!("snapshot-{}", reference.as_str().replace('/', "-")))?;
        // Names that git would not check out are no reason to lose the work, so the form of trees is not judged here.
        let pack = quarantine.read(OwnedFd::from(pipe), IMPORT_PACK_BYTES_MAX, false);
        running.finish(0)?;
        let pack = pack?;
        let known: Vec<&CommitId> = [&self.base].into_iter().chain(&self.last).collect();
        quarantine.check(&pack, &commit, &known)?;
        quarantine.accept(&pack)?;
        let (commit, reference) = self.keep(reference, commit)?;
        write_file(&self.dir.join("last"), commit.as_str().as_bytes())?;
        self.last = Some(commit.clone());
        Ok(Snapshot { commit, reference, files: listing.paths.len(), left_out: self.left_out(&listing) })
    }

    /// Gives the commit a ref that no other one has. What is saved there already in the same state stands for it.
    fn keep(&self, reference: &RefName, commit: CommitId) -> Result<(CommitId, RefName), GitError> {
        let there: BTreeMap<RefName, CommitId> = self.hub.refs(&format!("{reference}*"))?.into_iter().collect();
        let mut name = reference.clone();
        for again in 2.. {
            let Some(at) = there.get(&name) else { break };
            let same = *at == commit || {
                let (old, new) = (self.hub.commit_info(at)?, self.hub.commit_info(&commit)?);
                (old.tree, old.parents, old.message) == (new.tree, new.parents, new.message)
            };
            if same {
                return Ok((at.clone(), name));
            }
            name = RefName::new(format!("{reference}-{again}"))
                .map_err(|error| GitError::BadText { what: "the ref", text: error.to_string() })?;
        }
        self.hub.set_ref(&name, &commit)?;
        Ok((commit, name))
    }

    fn repository(&self) -> PathBuf {
        self.dir.join("repository")
    }

    /// Writes the lists that the script works from. `listed` is on disk before the index can hold more than it says.
    fn write_orders(&mut self, listing: &Listing, turn: u32) -> Result<(), GitError> {
        let now: BTreeSet<Vec<u8>> = listing.paths.iter().map(|path| path.as_os_str().as_bytes().to_vec()).collect();
        let gone: Vec<&Vec<u8>> = self.listed.difference(&now).collect();
        let orders = self.repository().join("aedile");
        let join = |paths: &mut dyn Iterator<Item = &Vec<u8>>| paths.flat_map(|path| path.iter().copied().chain([0])).collect::<Vec<u8>>();
        write_file(&orders.join("gone"), &join(&mut gone.into_iter()))?;
        write_file(&orders.join("paths"), &join(&mut now.iter()))?;
        let oversized: Vec<u8> = listing.oversized.iter().flat_map(|(path, _)| [objects::quoted(path), b"\n".to_vec()].concat()).collect();
        write_file(&orders.join("oversized"), &oversized)?;
        write_file(&orders.join("message"), message(listing, turn).as_bytes())?;
        self.listed.extend(now);
        write_file(&self.dir.join("listed"), &join(&mut self.listed.iter()))?;
        // Boxes end with their worker, so a lock can only be that of a dead one.
        let _ = fs::remove_file(self.repository().join("index.lock"));
        Ok(())
    }

    fn script(&self, reference: &RefName, at: Timestamp) -> Result<Script<'_>, GitError> {
        let mut mounts = self.hub.box_mounts()?;
        mounts.push(BoxMount { host: self.repository(), inside: PathBuf::from(GIT_DIR_INSIDE), writable: true });
        let date = format!("@{} +0000", at.0.div_euclid(1_000_000).max(0));
        let empty_tree = match self.hub.format() {
            ObjectFormat::Sha1 => "4b825dc642cb6eb9a060e54bf8d69288fbee4904",
            ObjectFormat::Sha256 => "6ef19b41225c5369f1c104d45d8d85efa9b057b53b14b4b9b939dd74decc5321",
        };
        let mut env =
            vec![("GIT_WORK_TREE".to_owned(), WORKSPACE_INSIDE.to_owned()), ("GIT_ATTR_SOURCE".to_owned(), empty_tree.to_owned())];
        for who in ["AUTHOR", "COMMITTER"] {
            env.push((format!("GIT_{who}_NAME"), "aedile".to_owned()));
            env.push((format!("GIT_{who}_EMAIL"), "aedile@localhost".to_owned()));
            env.push((format!("GIT_{who}_DATE"), date.clone()));
        }
        Ok(Script {
            label: format!("snapshot {}", reference.as_str().trim_start_matches("refs/aedile/snapshots/")),
            text: SCRIPT,
            args: vec![self.base.to_string(), self.last.as_ref().map(ToString::to_string).unwrap_or_default()],
            workspace: &self.workspace,
            mounts,
            git_dir: GIT_DIR_INSIDE,
            env,
            limit: self.hub.git().limit(),
        })
    }

    fn left_out(&self, listing: &Listing) -> Vec<LeftOut> {
        let hashes = fs::read_to_string(self.repository().join("aedile/hashes")).unwrap_or_default();
        let mut hashes = hashes.lines();
        let large = listing.oversized.iter().map(|(path, size)| LeftOut {
            path: path.clone(),
            why: format!("has {size} bytes; recorded as {}", hashes.next().unwrap_or("(not hashed)")),
        });
        let mut all: Vec<LeftOut> = large.collect();
        all.extend(listing.left_out.iter().map(|(path, why)| LeftOut { path: path.clone(), why: (*why).to_owned() }));
        all
    }
}

/// The message of a snapshot: what it has only by name. The hashes follow in the script.
fn message(listing: &Listing, turn: u32) -> String {
    let name = |path: &Path| format!("{:?}", path.to_string_lossy().chars().take(SHOWN_MAX).collect::<String>());
    let left_out = listing.left_out.iter().take(NAMED_MAX).map(|(path, why)| format!("Left out: {} {why}\n", name(path)));
    let oversized = listing.oversized.iter().take(NAMED_MAX).map(|(path, size)| format!("Too large: {} has {size} bytes\n", name(path)));
    let hashes = if listing.oversized.is_empty() { "" } else { "\nTheir hashes in the same order:\n" };
    [format!("Snapshot after turn {turn}\n\n")].into_iter().chain(left_out).chain(oversized).chain([hashes.to_owned()]).collect()
}

impl Hub {
    /// Forgets the snapshots of a task, or of a whole run; their objects go at the next [`Hub::collect_garbage`].
    ///
    /// # Errors
    /// [`GitError`] when git fails.
    pub fn forget_snapshots(&self, run: RunId, task: Option<TaskId>) -> Result<(), GitError> {
        match task {
            Some(task) => self.delete_refs(&format!("refs/aedile/snapshots/{run}/{task}/")),
            None => self.delete_refs(&format!("refs/aedile/snapshots/{run}/")),
        }
    }

    /// Forgets what the hub keeps for a run: the commits it started from. See [`crate::Project::release`] for the project's side.
    ///
    /// # Errors
    /// [`GitError`] when git fails.
    pub fn release(&self, run: RunId) -> Result<(), GitError> {
        self.delete_refs(&format!("refs/aedile/keep/{run}/"))
    }
}
