//! What the starter and the launcher tell each other: one JSON message per packet on a socket pair.

use crate::fence::Fence;
use crate::survey::Held;
use crate::toolchain::Toolchains;
use aedile_core::sandbox::{BoxExit, BoxSpec, SandboxError};
use rustix::io::Errno;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags};
use serde::{Deserialize, Serialize};
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

/// The largest message; texts in failures are short.
const MESSAGE_BYTES_MAX: usize = 16 * 1024;

/// Number of the control socket in the launcher.
pub(crate) const CONTROL_FD: i32 = 3;
/// Number of the descriptor that holds the plan in the launcher.
pub(crate) const PLAN_FD: i32 = 4;
/// What the starter sends to ask for SIGTERM to the program.
pub(crate) const TERMINATE: &[u8] = b"T";

/// Everything that the launcher needs.
#[derive(Serialize, Deserialize)]
pub(crate) struct Plan {
    pub(crate) spec: BoxSpec,
    /// Whether the launcher is root on the host and maps the box to `box_id`.
    pub(crate) privileged: bool,
    /// The host id of the box when `privileged`.
    pub(crate) box_id: u32,
    pub(crate) toolchains: Toolchains,
    /// Bytes that all temporary directories together may hold.
    pub(crate) tmp_bytes: u64,
    /// Whether a scope that mounts cannot hold is refused.
    pub(crate) strict: bool,
    /// What is held besides the scope.
    pub(crate) held: Held,
    /// Where the launcher says which process the box's first is, before that does anything.
    pub(crate) name_box: Option<PathBuf>,
    /// Fences that are taken away; only the attack suite does that.
    pub(crate) without: Vec<Fence>,
}

impl Plan {
    /// Whether the box has this fence.
    pub(crate) fn has(&self, fence: Fence) -> bool {
        let with_all = fence.namespace() != 0 && self.without.contains(&Fence::Namespaces);
        !with_all && !self.without.contains(&fence)
    }
}

/// Why the launcher gave up.
#[derive(Serialize, Deserialize, Debug)]
pub(crate) enum Failure {
    Setup {
        step: String,
        errno: i32,
    },
    Unsupported {
        missing: String,
    },
    Refused {
        reason: String,
    },
    /// This writable directory is on a file system without id-mapped mounts.
    Unmapped {
        host: PathBuf,
    },
}

impl Failure {
    pub(crate) fn setup(step: impl Into<String>, error: &io::Error) -> Self {
        Self::Setup { step: step.into(), errno: error.raw_os_error().unwrap_or(libc::EIO) }
    }

    pub(crate) fn refused(reason: impl Into<String>) -> Self {
        Self::Refused { reason: reason.into() }
    }
}

impl From<Failure> for SandboxError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Setup { step, errno } => Self::Setup { step, source: io::Error::from_raw_os_error(errno) },
            Failure::Unsupported { missing } => Self::Unsupported { missing },
            Failure::Refused { reason } => Self::Refused { reason },
            Failure::Unmapped { host } => {
                Self::Unsupported { missing: format!("id-mapped mounts for {}; run as an ordinary user", host.display()) }
            }
        }
    }
}

/// Names the step that an operating system error belongs to.
pub(crate) trait Step<T> {
    fn step(self, step: &str) -> Result<T, Failure>;
    fn step_at(self, step: &str, path: &std::path::Path) -> Result<T, Failure>;
}

impl<T, E: Into<io::Error>> Step<T> for Result<T, E> {
    fn step(self, step: &str) -> Result<T, Failure> {
        self.map_err(|error| Failure::setup(step, &error.into()))
    }

    fn step_at(self, step: &str, path: &std::path::Path) -> Result<T, Failure> {
        self.map_err(|error| Failure::setup(format!("{step} {}", path.display()), &error.into()))
    }
}

/// What the launcher and the box's first process say.
#[derive(Serialize, Deserialize, Debug)]
pub(crate) enum Word {
    /// The box's first process has this id on the host.
    Started { pid: i32 },
    /// The box has a terminal of its own; carries its other side.
    Terminal,
    /// The program runs; carries the door's listener if one was asked for.
    /// `filter_only`: not everything out of scope is held read-only, so that only the import filter decides there.
    Ready { filter_only: bool },
    /// Nothing was started.
    Failed(Failure),
    /// The box went beyond a limit and is about to be ended for it.
    Over(String),
    /// The program ended; the box is about to.
    Ended(BoxExit),
}

/// Sends one message, with a descriptor if given.
pub(crate) fn send(control: BorrowedFd<'_>, word: &Word, fd: Option<BorrowedFd<'_>>) -> io::Result<()> {
    let bytes = serde_json::to_vec(word)?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let fds: Vec<BorrowedFd<'_>> = fd.into_iter().collect();
    if !fds.is_empty() {
        ancillary.push(SendAncillaryMessage::ScmRights(&fds));
    }
    rustix::io::retry_on_intr(|| rustix::net::sendmsg(control, &[IoSlice::new(&bytes)], &mut ancillary, SendFlags::NOSIGNAL))?;
    Ok(())
}

/// Receives one message; `None` when the other side is gone, or when `wait` is false and nothing is there.
pub(crate) fn receive(control: impl AsFd, wait: bool) -> io::Result<Option<(Word, Option<OwnedFd>)>> {
    let mut bytes = vec![0u8; MESSAGE_BYTES_MAX];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC | if wait { RecvFlags::empty() } else { RecvFlags::DONTWAIT };
    let answer = loop {
        match rustix::net::recvmsg(control.as_fd(), &mut [IoSliceMut::new(&mut bytes)], &mut ancillary, flags) {
            Err(Errno::INTR) => {}
            other => break other,
        }
    };
    let length = match answer {
        Ok(message) => message.bytes,
        Err(Errno::AGAIN) if !wait => return Ok(None),
        Err(Errno::CONNRESET | Errno::PIPE) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    if length == 0 {
        return Ok(None);
    }
    let fd = ancillary.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    });
    Ok(Some((serde_json::from_slice(&bytes[..length])?, fd)))
}
