//! A running box, as its starter sees it.

use crate::aside::BoxNote;
use crate::starter::Starter;
use crate::wire::{self, TERMINATE, Word};
use aedile_core::sandbox::{BoxChild, BoxExit, SandboxError};
use async_trait::async_trait;
use rustix::net::SendFlags;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// The caller's ends of the program's streams, of the door and of the box's own terminal.
#[derive(Default)]
pub(crate) struct Ends {
    pub(crate) stdin: Option<OwnedFd>,
    pub(crate) stdout: Option<OwnedFd>,
    pub(crate) stderr: Option<OwnedFd>,
    pub(crate) door: Option<OwnedFd>,
    pub(crate) terminal: Option<OwnedFd>,
}

/// What is to be done when the box has ended, for example copying a tree back. What there is to tell is told also when it fails.
pub(crate) type AtEnd = Box<dyn FnOnce() -> (Vec<BoxNote>, Result<(), SandboxError>) + Send + Sync>;

/// A running box of [`NativeSandbox`](crate::NativeSandbox).
pub struct NativeChild {
    pub(crate) pid: Pid,
    pub(crate) started: u64,
    pub(crate) pidfd: OwnedFd,
    pub(crate) control: OwnedFd,
    pub(crate) ends: Ends,
    pub(crate) exit: Option<BoxExit>,
    pub(crate) at_end: Option<AtEnd>,
    pub(crate) notes: Vec<BoxNote>,
    /// The box lives as long as the thread that started it.
    pub(crate) _starter: Arc<Starter>,
}

impl NativeChild {
    /// Takes what the person should be told: what was held when the box started, and, once it was waited for, which limit ended it and what
    /// of its work was moved away.
    pub fn take_notes(&mut self) -> Vec<BoxNote> {
        std::mem::take(&mut self.notes)
    }

    /// Collects the ended first process, whose end is the end of everything in the box. Blocks until then.
    fn collect(&mut self) -> Result<BoxExit, SandboxError> {
        if let Some(exit) = self.exit {
            return Ok(exit);
        }
        let failed = |source: io::Error| SandboxError::Setup { step: "waiting for the box".to_owned(), source };
        rustix::io::retry_on_intr(|| rustix::process::waitid(WaitId::PidFd(self.pidfd.as_fd()), WaitIdOptions::EXITED))
            .map_err(|error| failed(error.into()))?;
        let mut exit = BoxExit::Signal(libc::SIGKILL);
        while let Some((word, _)) = wire::receive(&self.control, false).map_err(failed)? {
            match word {
                Word::Ended(ended) => exit = ended,
                Word::Over(words) => self.notes.push(BoxNote { rule: "limit".to_owned(), path: PathBuf::new(), words }),
                _ => {}
            }
        }
        self.exit = Some(exit);
        Ok(exit)
    }
}

#[async_trait]
impl BoxChild for NativeChild {
    fn process(&self) -> (u32, u64) {
        (self.pid.as_raw_nonzero().get().unsigned_abs(), self.started)
    }

    fn take_stdin(&mut self) -> Option<OwnedFd> {
        self.ends.stdin.take()
    }

    fn take_stdout(&mut self) -> Option<OwnedFd> {
        self.ends.stdout.take()
    }

    fn take_stderr(&mut self) -> Option<OwnedFd> {
        self.ends.stderr.take()
    }

    fn take_door(&mut self) -> Option<OwnedFd> {
        self.ends.door.take()
    }

    fn take_terminal(&mut self) -> Option<OwnedFd> {
        self.ends.terminal.take()
    }

    async fn wait(&mut self) -> Result<BoxExit, SandboxError> {
        if self.exit.is_none() {
            let failed = |source: io::Error| SandboxError::Setup { step: "waiting for the box".to_owned(), source };
            let watched = self.pidfd.try_clone().and_then(watch).map_err(failed)?;
            let _ended = watched.readable().await.map_err(failed)?;
        }
        let exit = self.collect()?;
        if let Some(at_end) = self.at_end.take() {
            let failed = |error| SandboxError::Setup { step: "finishing the box".to_owned(), source: io::Error::other(error) };
            let (notes, done) = tokio::task::spawn_blocking(at_end).await.map_err(failed)?;
            self.notes.extend(notes);
            done?;
        }
        Ok(exit)
    }

    fn kill(&self) {
        let _ = rustix::process::pidfd_send_signal(&self.pidfd, Signal::KILL);
    }

    fn terminate(&self) {
        let _ = rustix::net::send(&self.control, TERMINATE, SendFlags::NOSIGNAL | SendFlags::DONTWAIT);
    }
}

#[expect(unsafe_code, reason = "registration trusts that the object answers with its own open descriptor")]
fn watch(pidfd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an OwnedFd holds one open descriptor for its whole life and always answers with that.
    unsafe { AsyncFd::register_with_interest(pidfd, Interest::READABLE) }.map_err(Into::into)
}

impl Drop for NativeChild {
    fn drop(&mut self) {
        let mut ended = Ok(());
        if self.exit.is_none() {
            self.kill();
            ended = self.collect().map(drop);
        }
        if let Some(at_end) = self.at_end.take() {
            ended = ended.and(at_end().1);
        }
        if let Err(error) = ended {
            tracing::warn!(%error, "a box that was dropped did not end cleanly");
        }
    }
}
