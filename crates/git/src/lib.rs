//! Every git call: hub, workspaces, snapshots, import, merges, refs.
//!
//! Two repositories matter. The **project** is the person's; it receives only landed commits and `refs/aedile/keep/<run>/<commit>`,
//! which point at commits it already had. The **hub** is ours: bare, in the state directory, with the project's objects as alternates.
//! Workspaces borrow the hub's objects. Once an agent has been in a workspace, git on the host never reads it again: snapshots and
//! imports run in boxes and hand over a pack, which is checked before anything in it becomes part of the hub.
//!
//! All functions block; call them from a thread that may block (`spawn_blocking`). Those that take a [`Sandbox`](aedile_core::sandbox::Sandbox)
//! wait for the box on the tokio runtime of that thread, or on one of their own when there is none.

mod applying;
mod boxes;
mod clean;
mod commit;
mod config;
mod conflicts;
mod diff;
mod error;
mod history;
mod hub;
mod ignored;
mod import;
mod init;
mod land;
mod leaks;
mod locks;
mod merge;
mod objects;
mod patch;
mod person;
mod process;
mod project;
mod quarantine;
mod restore;
mod revert;
mod run;
mod snapshot;
mod take;
mod tree;
mod version;
mod view;
mod walk;
mod workspace;

pub use clean::{DiskUse, disk_use, remove_tree};
pub use commit::{CommitInfo, CommitRequest, Identity};
pub use config::{Config, ConfigEntry, ConfigPlace};
pub use conflicts::{Operation, Resolved, Unmerged};
pub use diff::{EntryMode, PathChange};
pub use error::GitError;
pub use history::SavedTurn;
pub use hub::{Hub, ObjectFormat};
pub use import::{ImportRequest, Imported};
pub use land::{Landing, LandingPoint, Moved};
pub use leaks::AddedSecret;
pub use merge::{Merge, MergedBack, Stages};
pub use patch::{DiffForm, FileStat};
pub use person::{PersonEnv, Signing};
pub use project::{Checkout, Dirty, Project};
pub use restore::Restored;
pub use revert::Reverted;
pub use run::Git;
pub use snapshot::{LeftOut, Snapshot, Snapshotter};
pub use take::Unseen;
pub use tree::TreeFile;
pub use version::GitVersion;
pub use view::{VIEWS, View};
pub use workspace::{ObjectMount, OverlayFile, WorkspaceSpec};
