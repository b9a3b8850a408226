//! What stops the queue itself. A change that cannot land is no error: it goes back with its evidence.

use std::path::PathBuf;

use aedile_core::policy::BadPolicy;
use aedile_core::sandbox::SandboxError;
use aedile_core::scope::BadScope;
use aedile_core::store::StoreError;
use aedile_git::GitError;

/// Why the queue could not do its work.
#[derive(Debug, thiserror::Error)]
pub enum LandingError {
    /// The store refused or failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// git failed, and not for anything in the change.
    #[error("the landing stopped at git: {0}")]
    Git(#[from] GitError),
    /// The box of a gate could not be made, so the gate said nothing about the change.
    #[error("the gate `{gate}` could not be started: {source}")]
    Gate {
        /// The gate.
        gate: String,
        /// Why there is no box; `aedile doctor` tells more.
        source: SandboxError,
    },
    /// A clean room could not be made or read.
    #[error("the clean room {room} cannot be used: {source}; is the disk full?")]
    Room {
        /// The directory.
        room: PathBuf,
        /// The operating system's answer.
        source: std::io::Error,
    },
    /// A scope or a protected path is no usable glob.
    #[error(transparent)]
    Scope(#[from] BadScope),
    /// A layer of policy cannot be read.
    #[error(transparent)]
    Policy(#[from] BadPolicy),
    /// The run's target cannot name a branch.
    #[error("the target {target:?} cannot be landed on: {problem}")]
    Target {
        /// The target.
        target: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The target kept moving, or kept being checked out, while the change was on its way.
    #[error("the change lost {tries} races for the target; it goes on when the target is quieter")]
    Restless {
        /// Steps that were taken.
        tries: u32,
    },
    /// A view that must exist does not.
    #[error("the state has no {noun} {id}; `aedile store rebuild` makes the views anew from the log")]
    Unknown {
        /// `run`, `task` or `change`.
        noun: &'static str,
        /// Its id.
        id: String,
    },
    /// The queue was asked to stop. The change goes on when a queue runs again.
    #[error("the landing was stopped; `aedile run --resume` goes on with it")]
    Stopped,
    /// A thread that did blocking work ended without a result.
    #[error("a worker thread of the landing failed: {0}")]
    Thread(#[from] tokio::task::JoinError),
}

impl LandingError {
    pub(crate) fn room(room: &std::path::Path) -> impl FnOnce(std::io::Error) -> Self {
        let room = room.to_owned();
        move |source| Self::Room { room, source }
    }

    /// Whether trying again may help while the store itself is well.
    pub(crate) fn concerns_one_change(&self) -> bool {
        matches!(self, Self::Store(StoreError::TooLarge { .. })) || !matches!(self, Self::Store(_) | Self::Stopped)
    }
}
