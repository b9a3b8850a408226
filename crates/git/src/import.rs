//! Import: one submitted commit leaves its workspace and becomes part of the hub.

use std::path::Path;

use aedile_core::limits::IMPORT_PACK_BYTES_MAX;
use aedile_core::sandbox::{BoxMount, Sandbox};
use aedile_core::{ChangeId, CommitId, RefName, TaskKey};

use crate::boxes::{self, Script};
use crate::error::GitError;
use crate::hub::Hub;
use crate::quarantine::Quarantine;

/// What is imported.
#[derive(Clone, Copy, Debug)]
pub struct ImportRequest<'a> {
    /// The workspace on the host.
    pub workspace: &'a Path,
    /// Only `refs/heads/aedile/<key>` is ever taken.
    pub key: &'a TaskKey,
    /// The submitted commit; the branch must be exactly there.
    pub commit: &'a CommitId,
    /// The commit that the workspace started from.
    pub base: &'a CommitId,
    /// The view that the workspace holds instead, when it does ([`Hub::view`]).
    pub view: Option<&'a CommitId>,
    /// Names the ref that it gets in the hub.
    pub change: ChangeId,
    /// The largest pack in bytes; `None` is [`IMPORT_PACK_BYTES_MAX`].
    pub limit: Option<u64>,
}

/// What was imported.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Imported {
    /// What the ref is at: the submitted commit, or, when that was made on a view, what it is on the whole repository ([`Hub::graft`]).
    pub commit: CommitId,
    /// `refs/aedile/changes/<change>` in the hub.
    pub reference: RefName,
    /// Objects that came.
    pub objects: usize,
    /// Bytes of their pack.
    pub bytes: u64,
}

/// Exit code of the script when the branch is not at the submitted commit.
const MOVED: i32 = 33;

/// Runs in a box that sees the workspace and the hub's objects, both read-only, and nothing else of the host. This is what `upload-pack`
/// would do after its negotiation, without a protocol whose every message the host would have to parse: one commit, one known base, one
/// pack on stdout. `$1` branch, `$2` commit, `$3` base.
const SCRIPT: &str = r#"
at=$(git rev-parse --verify --quiet --end-of-options "$1") || exit 33
test "$at" = "$2" || exit 33
printf '%s\n^%s\n' "$2" "$3" | git pack-objects --revs --thin --stdout --delta-base-offset -q
"#;

impl Hub {
    /// Imports the submitted commit of a workspace as `refs/aedile/changes/<change>`. git on the host never reads the workspace: a box
    /// writes a pack, which is checked in quarantine (size, every object's form, nothing but what is in it or reachable from `base`).
    /// On the host three processes, eight more for a view.
    ///
    /// # Errors
    /// [`GitError::SubmitMoved`], [`GitError::PackTooLarge`], [`GitError::ImportRefused`], [`GitError::BoxFailed`]; the hub is as it was then.
    pub fn import_change(&self, sandbox: &dyn Sandbox, request: &ImportRequest<'_>) -> Result<Imported, GitError> {
        let label = format!("import {}", request.key);
        let began = request.view.unwrap_or(request.base);
        let mut running = boxes::start(
            sandbox,
            Script {
                label,
                text: SCRIPT,
                args: vec![format!("refs/heads/aedile/{}", request.key), request.commit.to_string(), began.to_string()],
                workspace: request.workspace,
                mounts: self.box_mounts()?,
                git_dir: "/workspace/.git",
                env: Vec::new(),
                limit: self.git().limit(),
            },
        )?;
        let limit = request.limit.unwrap_or(IMPORT_PACK_BYTES_MAX);
        let quarantine = Quarantine::new(self, &format!("change-{}", request.change))?;
        let pipe = running.stdout()?;
        let pack = match quarantine.read(pipe, limit, true) {
            Ok(pack) => pack,
            Err(error @ (GitError::PackTooLarge { .. } | GitError::TimedOut { .. })) => {
                running.kill();
                return Err(error);
            }
            Err(error) => return Err(self.why_no_pack(running, request, error)),
        };
        if running.finish(MOVED)? == MOVED {
            return Err(GitError::SubmitMoved { expected: request.commit.clone() });
        }
        quarantine.check(&pack, request.commit, &[began])?;
        quarantine.accept(&pack)?;
        let reference = change_ref(request.change)?;
        let commit = match request.view {
            Some(view) => self.graft(view, request.commit)?,
            None => request.commit.clone(),
        };
        self.set_ref(&reference, &commit)?;
        Ok(Imported { commit, reference, objects: pack.ids.len(), bytes: pack.bytes })
    }

    /// A box that failed sends no whole pack; its own words tell more than those of the reader.
    fn why_no_pack(&self, running: boxes::Running, request: &ImportRequest<'_>, error: GitError) -> GitError {
        match running.finish(MOVED) {
            _ if error.is_hosts() => error,
            Err(of_box) if of_box.is_hosts() => of_box,
            Ok(MOVED) => GitError::SubmitMoved { expected: request.commit.clone() },
            Ok(_) => error,
            Err(GitError::BoxFailed { stderr, .. }) if !stderr.is_empty() => GitError::ImportRefused { reason: stderr },
            Err(other) => other,
        }
    }

    /// The object directories as mounts.
    pub(crate) fn box_mounts(&self) -> Result<Vec<BoxMount>, GitError> {
        let mounts = self.object_mounts()?;
        Ok(mounts.into_iter().map(|mount| BoxMount { host: mount.host, inside: mount.inside, writable: false }).collect())
    }

    /// Forgets an imported change; its objects go at the next [`Hub::collect_garbage`].
    ///
    /// # Errors
    /// [`GitError`] when git fails.
    pub fn forget_change(&self, change: ChangeId) -> Result<(), GitError> {
        self.delete_ref(&change_ref(change)?)
    }
}

/// The hub's ref for a change.
pub(crate) fn change_ref(change: ChangeId) -> Result<RefName, GitError> {
    RefName::new(format!("refs/aedile/changes/{change}")).map_err(|error| GitError::BadText { what: "the ref", text: error.to_string() })
}
