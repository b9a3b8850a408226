//! Quarantine: a pack from a box is complete, sound and small enough before anything in it is ours.

use std::collections::HashSet;
use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use aedile_core::CommitId;

use crate::clean::remove_tree;
use crate::error::{GitError, io};
use crate::hub::{Hub, ObjectFormat};
use crate::objects;
use crate::run::Call;

/// The largest single allocation of git while it reads a foreign pack: a small pack may unfold to very large objects.
const ALLOCATION_MAX: &str = "1g";

/// An object directory of its own beside the hub's. Dropping it removes what was not accepted.
pub(crate) struct Quarantine<'a> {
    hub: &'a Hub,
    dir: PathBuf,
}

impl Drop for Quarantine<'_> {
    fn drop(&mut self) {
        let _ = remove_tree(&self.dir);
    }
}

/// A pack that was read.
pub(crate) struct ReadPack {
    name: String,
    /// Bytes on disk, completed.
    pub(crate) bytes: u64,
    /// The objects in it.
    pub(crate) ids: HashSet<String>,
}

impl<'a> Quarantine<'a> {
    /// Makes an empty one; `name` is unique among imports at work.
    pub(crate) fn new(hub: &'a Hub, name: &str) -> Result<Self, GitError> {
        let dir = hub.dir().join("quarantine").join(name);
        remove_tree(&dir)?;
        fs::create_dir_all(dir.join("pack")).map_err(io("create", &dir))?;
        Ok(Self { hub, dir })
    }

    fn call(&self, subcommand: &str) -> Call {
        self.hub
            .call(subcommand)
            .env("GIT_OBJECT_DIRECTORY", &self.dir)
            .env("GIT_ALTERNATE_OBJECT_DIRECTORIES", objects::alternate(&self.hub.objects()))
            .env("GIT_QUARANTINE_PATH", &self.dir)
            .env("GIT_ALLOC_LIMIT", ALLOCATION_MAX)
    }

    /// Reads a pack from the pipe. `strict` also refuses objects that git's own check calls malformed.
    pub(crate) fn read(&self, pipe: OwnedFd, limit: u64, strict: bool) -> Result<ReadPack, GitError> {
        let answer = self
            .call("index-pack")
            .args(["--stdin", "--fix-thin"])
            .args(strict.then_some("--strict"))
            .arg(format!("--max-input-size={limit}"))
            .input_from(pipe)
            .output()
            .map_err(|error| refusal(error, limit))?;
        let name = answer.text().rsplit('\t').next().unwrap_or_default().to_owned();
        let pack = self.dir.join(format!("pack/pack-{name}.pack"));
        let index = pack.with_extension("idx");
        let bytes = fs::metadata(&pack).map_err(io("read", &pack))?.len();
        let ids = read_index(&fs::read(&index).map_err(io("read", &index))?, self.hub.format())
            .ok_or_else(|| GitError::Unreadable { command: "index-pack".to_owned(), what: "its index has another form".to_owned() })?;
        Ok(ReadPack { name, bytes, ids })
    }

    /// Checks that `commit` is a commit of the pack and that everything it adds to `known` is in the pack too. What merely lies about in
    /// the hub's or the project's object store does not count, so nothing can be brought in by knowing its name.
    pub(crate) fn check(&self, pack: &ReadPack, commit: &CommitId, known: &[&CommitId]) -> Result<(), GitError> {
        let refused = |reason: String| GitError::ImportRefused { reason };
        let listed = self
            .call("rev-list")
            .reading()
            .args(["--objects", "--no-object-names", commit.as_str()])
            .args(known.iter().map(|id| format!("^{id}")))
            .arg("--")
            .text()
            .map_err(|error| match error {
                error @ GitError::Failed { .. } if error.is_hosts() => error,
                GitError::Failed { stderr, .. } => refused(format!("the commit is not complete ({stderr})")),
                other => other,
            })?;
        let mut lines = listed.lines();
        match lines.next() {
            Some(first) if first == commit.as_str() => {}
            Some(_) => return Err(refused(format!("{commit} is not a commit"))),
            None => return Err(refused(format!("{commit} adds nothing; it is part of what the workspace started from"))),
        }
        match listed.lines().find(|id| !pack.ids.contains(*id)) {
            Some(id) => Err(refused(format!("object {id} is neither in the pack nor reachable from where the workspace started"))),
            None => Ok(()),
        }
    }

    /// Makes the pack part of the hub: the index last, since a pack counts from then on.
    pub(crate) fn accept(self, pack: &ReadPack) -> Result<(), GitError> {
        let target = self.hub.objects().join("pack");
        fs::create_dir_all(&target).map_err(io("create", &target))?;
        for extension in ["pack", "rev", "idx"] {
            let name = format!("pack-{}.{extension}", pack.name);
            let from = self.dir.join("pack").join(&name);
            if from.exists() {
                fs::rename(&from, target.join(&name)).map_err(io("rename", &from))?;
            }
        }
        sync_dir(&target)
    }
}

fn sync_dir(dir: &Path) -> Result<(), GitError> {
    fs::File::open(dir).and_then(|file| file.sync_all()).map_err(io("sync", dir))
}

/// What git said of a pack that it did not read. Only the pack's own faults are the sender's: a full disk is not.
fn refusal(error: GitError, limit: u64) -> GitError {
    match error {
        GitError::Failed { stderr, .. } if stderr.contains("exceeds maximum allowed size") => GitError::PackTooLarge { limit },
        error @ GitError::Failed { .. } if error.is_hosts() => error,
        GitError::Failed { stderr, .. } => GitError::ImportRefused { reason: format!("git's check of the pack says: {stderr}") },
        other => other,
    }
}

/// Reads the object ids of a version 2 pack index.
fn read_index(bytes: &[u8], format: ObjectFormat) -> Option<HashSet<String>> {
    const FANOUT: usize = 8;
    if bytes.get(..FANOUT)? != b"\xfftOc\0\0\0\x02" {
        return None;
    }
    let last = bytes.get(FANOUT + 255 * 4..FANOUT + 256 * 4)?;
    let count = usize::try_from(u32::from_be_bytes(last.try_into().ok()?)).ok()?;
    let start = FANOUT + 256 * 4;
    let names = bytes.get(start..start.checked_add(count.checked_mul(format.bytes())?)?)?;
    Some(names.chunks_exact(format.bytes()).map(hex).collect())
}

/// Lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]).map(|half| char::from(DIGITS[usize::from(half)])).collect()
}
