//! The one thread that starts boxes. The kernel ends a box when the *thread* that forked it ends, so it is this one, which lives as
//! long as any box or sandbox of this process.

use crate::sys;
use crate::wire::{CONTROL_FD, PLAN_FD};
use rustix::process::Signal;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;

/// Boxes that may wait to be started.
const QUEUE_MAX: usize = 64;

/// First argument of the launcher program.
pub const LAUNCHER_ARGUMENT: &str = "__box";

/// The standard streams of one box.
pub(crate) struct Streams {
    pub(crate) stdin: Stdio,
    pub(crate) stdout: Stdio,
    pub(crate) stderr: Stdio,
}

pub(crate) struct Start {
    pub(crate) launcher: PathBuf,
    pub(crate) streams: Streams,
    pub(crate) control: OwnedFd,
    pub(crate) plan: OwnedFd,
}

type Job = (Start, SyncSender<io::Result<Child>>);

/// A handle to the thread; the thread ends with the last handle.
#[derive(Debug)]
pub(crate) struct Starter {
    jobs: SyncSender<Job>,
}

impl Starter {
    pub(crate) fn new() -> io::Result<Self> {
        let (jobs, queue) = sync_channel::<Job>(QUEUE_MAX);
        thread::Builder::new().name("box-starter".to_owned()).spawn(move || {
            for (start, answer) in queue {
                let _ = answer.send(launch(start));
            }
        })?;
        Ok(Self { jobs })
    }

    /// Starts the launcher; its first process becomes a child of this process too.
    pub(crate) fn start(&self, start: Start) -> io::Result<Child> {
        let ended = || io::Error::other("the thread that starts boxes has ended");
        let (answer, result) = sync_channel(1);
        self.jobs.send((start, answer)).map_err(|_| ended())?;
        result.recv().map_err(|_| ended())?
    }
}

#[expect(clippy::disallowed_methods, reason = "this crate is the starter of processes")]
#[expect(unsafe_code, reason = "descriptors are put in place between fork and exec")]
fn launch(start: Start) -> io::Result<Child> {
    let Start { launcher, streams, control, plan } = start;
    let mut command = Command::new(launcher);
    command.arg(LAUNCHER_ARGUMENT).env_clear().current_dir("/").stdin(streams.stdin).stdout(streams.stdout).stderr(streams.stderr);
    // Out of the way of the fixed numbers first, so that neither overwrites the other.
    let (from_control, from_plan) = (control.as_raw_fd(), plan.as_raw_fd());
    let place = move || {
        let safe = |fd: i32| rustix::io::fcntl_dupfd_cloexec(borrowed(fd), PLAN_FD + 1);
        let (control, plan) = (safe(from_control)?, safe(from_plan)?);
        sys::put_at(control.as_raw_fd(), CONTROL_FD)?;
        sys::put_at(plan.as_raw_fd(), PLAN_FD)?;
        std::mem::forget((control, plan));
        sys::close_from_on_exec(u32::try_from(PLAN_FD + 1).unwrap_or(u32::MAX))?;
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
        Ok(())
    };
    // SAFETY: the closure makes system calls only; it allocates nothing and takes no lock.
    unsafe { command.pre_exec(place) };
    command.spawn()
}

#[expect(unsafe_code, reason = "a descriptor that the forking thread holds open")]
fn borrowed(fd: i32) -> std::os::fd::BorrowedFd<'static> {
    // SAFETY: the owner lives in `launch` until after the fork, and the child is a copy of that moment.
    unsafe { std::os::fd::BorrowedFd::borrow_raw(fd) }
}
