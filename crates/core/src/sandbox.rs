//! The box: what the rest of the program may ask of the sandbox.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Duration;

/// What may be written below the workspace.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum WriteScope {
    /// The whole tree.
    All,
    /// Only what these globs (relative to the tree, `/` between parts) allow, plus `also`.
    Globs {
        /// The scope.
        globs: Vec<String>,
        /// Further directories (relative) that are writable whatever the globs say: `.git`, declared build directories.
        also: Vec<String>,
        /// Globs of what is read-only whatever `globs` say.
        except: Vec<String>,
    },
    /// Nothing.
    Nothing,
}

/// A directory or file of the host that the box sees.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct BoxMount {
    /// Where it is on the host. Resolved without following symbolic links below its parent.
    pub host: PathBuf,
    /// Where the box sees it (absolute).
    pub inside: PathBuf,
    /// Whether the box may write to it.
    pub writable: bool,
}

/// What the box reaches besides itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum BoxNet {
    /// An empty network namespace with only loopback.
    None,
    /// The same, with one listener bound on `127.0.0.1:DOOR_PORT` inside whose descriptor the parent gets.
    Door,
}

/// The port of the door inside every box. Each box has its own network, so all may use the same.
pub const DOOR_PORT: u16 = 7070;
/// Where every agent's box sees its workspace: one path for all, so that compiler caches agree.
pub const WORKSPACE_INSIDE: &str = "/workspace";
/// Where a box sees its persistent home.
pub const HOME_INSIDE: &str = "/home/agent";
/// Where a box sees the hub's object directory, read-only; the workspaces' `alternates` name it.
pub const OBJECTS_INSIDE: &str = "/aedile/objects";
/// Where a box sees the aedile program; `/aedile/bin` is first on its PATH.
pub const PROGRAM_INSIDE: &str = "/aedile/bin/aedile";

/// Where a box sees the certificate of the authority that its door signs with, read-only.
pub const TRUST_INSIDE: &str = "/aedile/door.pem";

/// Limits of one box. `None` leaves the sandbox's own default.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct BoxLimits {
    /// Processes and threads.
    pub processes: Option<u64>,
    /// Bytes of one file.
    pub file_bytes: Option<u64>,
    /// Open descriptors of one process.
    pub descriptors: Option<u64>,
    /// Bytes of memory of the whole box: its processes together, its temporary files, its shared memory. One process can have no more either.
    pub memory_bytes: Option<u64>,
    /// Bytes that the processes of the box may write to disks together.
    pub disk_bytes: Option<u64>,
    /// Processor time of all processes of the box together.
    pub cpu: Option<Duration>,
    /// Wall time; the box is killed after it.
    pub wall: Option<Duration>,
}

/// How the program in the box is joined to the caller.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum BoxIo {
    /// The caller's own stdin, stdout and stderr.
    Inherit,
    /// Three pipes whose other ends the caller takes from the child.
    Piped,
    /// `/dev/null` as stdin; stdout and stderr share one pipe, taken as stdout.
    Captured,
    /// A terminal of the box's own, whose other side the caller takes from the child, in the place of those of the caller's streams that are
    /// terminals. The box never has the caller's terminal itself.
    Terminal {
        /// Which of stdin, stdout and stderr it takes the place of; the others are the caller's own.
        streams: [bool; 3],
        /// Its height in lines.
        rows: u16,
        /// Its width in columns.
        columns: u16,
    },
}

/// Everything that one box needs.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct BoxSpec {
    /// For reports and logs, for example `agent ada` or `gate test`.
    pub label: String,
    /// Program and arguments. The program is looked up on the box's PATH unless it has a `/`.
    pub command: Vec<String>,
    /// The tree: where it is on the host. `None` for a box without one.
    pub tree: Option<PathBuf>,
    /// Where the box sees the tree (absolute); also the working directory.
    pub tree_inside: PathBuf,
    /// What may be written in the tree.
    pub write: WriteScope,
    /// Further mounts.
    pub mounts: Vec<BoxMount>,
    /// A host directory that the box sees as its HOME, kept between incarnations; `None` gives a temporary one.
    pub home: Option<PathBuf>,
    /// The exact environment, apart from `HOME`, `PATH`, `TMPDIR`, `USER`, `LANG` and the toolchains' variables, which the sandbox sets.
    pub env: Vec<(String, String)>,
    /// Network.
    pub net: BoxNet,
    /// Limits.
    pub limits: BoxLimits,
    /// Standard streams.
    pub io: BoxIo,
}

/// How a box ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum BoxExit {
    /// The program ended with this code.
    Code(i32),
    /// The program was ended by this signal.
    Signal(i32),
    /// The wall limit of the box was reached and it was killed.
    TimedOut,
}

impl BoxExit {
    /// Whether the program ended with code 0.
    pub fn success(self) -> bool {
        self == Self::Code(0)
    }
}

/// Why a box could not be made. The box is never made with less than was asked for.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// The host lacks something that the box needs.
    #[error("this host cannot give a box: {missing}")]
    Unsupported {
        /// What is missing and what to do.
        missing: String,
    },
    /// The request itself is refused.
    #[error("{reason}")]
    Refused {
        /// Why.
        reason: String,
    },
    /// A step of the set-up failed.
    #[error("cannot set up the box at {step}: {source}")]
    Setup {
        /// The step.
        step: String,
        /// The operating system's answer.
        source: std::io::Error,
    },
}

/// A running box. Dropping it kills the box.
#[async_trait]
pub trait BoxChild: Send {
    /// Returns the host's process id of the box's first process (its pid 1) and that process's start time in clock ticks since boot.
    fn process(&self) -> (u32, u64);
    /// Takes the writing end of the program's stdin (`BoxIo::Piped`).
    fn take_stdin(&mut self) -> Option<OwnedFd>;
    /// Takes the reading end of the program's stdout (`BoxIo::Piped`, `BoxIo::Captured`).
    fn take_stdout(&mut self) -> Option<OwnedFd>;
    /// Takes the reading end of the program's stderr (`BoxIo::Piped`).
    fn take_stderr(&mut self) -> Option<OwnedFd>;
    /// Takes the other side of the box's own terminal (`BoxIo::Terminal`). It ends when the box has ended and all of its output was read.
    fn take_terminal(&mut self) -> Option<OwnedFd> {
        None
    }
    /// Takes the listener that is bound inside the box (`BoxNet::Door`).
    fn take_door(&mut self) -> Option<OwnedFd>;
    /// Waits for the end of the program and of everything it started.
    async fn wait(&mut self) -> Result<BoxExit, SandboxError>;
    /// Kills the whole box at once; harmless when it has ended.
    fn kill(&self);
    /// Asks the program to end (SIGTERM); harmless when it has ended.
    fn terminate(&self);
}

/// What this host gives, for `doctor`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SandboxReport {
    /// One short line, for example `namespaces + Landlock ABI 7 + seccomp`.
    pub level: String,
    /// Each mechanism: name, present or not, what its absence costs.
    pub mechanisms: Vec<(String, bool, String)>,
    /// The box's user id on the host.
    pub host_uid: u32,
}

/// The only starter of processes on the host.
pub trait Sandbox: Send + Sync {
    /// Starts a box. When this returns, the box is complete and the program is about to be executed in it.
    /// Blocking (milliseconds): call it from a thread that may block.
    ///
    /// # Errors
    /// [`SandboxError`]; nothing was started then.
    fn spawn(&self, spec: BoxSpec) -> Result<Box<dyn BoxChild>, SandboxError>;
    /// Says what this host gives.
    fn report(&self) -> SandboxReport;
}
