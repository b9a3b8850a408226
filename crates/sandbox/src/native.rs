//! The sandbox that runs boxes on this kernel.

use crate::child::{AtEnd, Ends, NativeChild};
use crate::copy::Copied;
use crate::starter::{Start, Starter, Streams};
use crate::toolchain::Toolchains;
use crate::wire::{self, Failure, Plan, Word};
use crate::{check, limits, report};
use aedile_core::sandbox::{BoxChild, BoxIo, BoxSpec, Sandbox, SandboxError, SandboxReport};
use rustix::fs::{MemfdFlags, SealFlags};
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use rustix::pipe::PipeFlags;
use rustix::process::{Pid, PidfdFlags, Signal, WaitId, WaitIdOptions};
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

/// The host id of every box that root starts: high, unprivileged and nobody's.
pub const BOX_HOST_ID: u32 = 64_231;
/// A launcher that is silent this long is given up.
const SETUP_TIMEOUT: Duration = Duration::from_secs(60);

/// What the sandbox is told once.
#[derive(Clone, Debug)]
pub struct SandboxConfig {
    /// The program that is executed with [`LAUNCHER_ARGUMENT`](crate::LAUNCHER_ARGUMENT) as its only argument and whose `main` then
    /// calls [`launcher_main`](crate::launcher_main): in the product the running program itself.
    pub launcher: PathBuf,
    /// The tools that every box sees.
    pub toolchains: Toolchains,
    /// A directory of ours for temporary things, on a disk with room.
    pub runtime_dir: PathBuf,
}

/// Boxes by namespaces, Landlock and system call filters.
#[derive(Debug)]
pub struct NativeSandbox {
    config: SandboxConfig,
    starter: Arc<Starter>,
}

fn setup(step: &str) -> impl Fn(io::Error) -> SandboxError + '_ {
    move |source| SandboxError::Setup { step: step.to_owned(), source }
}

impl NativeSandbox {
    /// Makes the sandbox and its thread.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn new(config: SandboxConfig) -> Result<Self, SandboxError> {
        let starter = Arc::new(Starter::new().map_err(setup("starting the thread of the boxes"))?);
        Ok(Self { config, starter })
    }

    /// Starts the smallest box, with a writable tree if given. Nothing is copied for it.
    fn try_box(&self, tree: Option<&Path>) -> Result<(), SandboxError> {
        Ok(self.launch(&self.plan(report::trial(tree))).map(drop)?)
    }

    fn plan(&self, spec: BoxSpec) -> Plan {
        let privileged = rustix::process::geteuid().is_root();
        let tmp_bytes = limits::machine_memory() / 2;
        Plan { spec, privileged, box_id: BOX_HOST_ID, toolchains: self.config.toolchains.clone(), tmp_bytes }
    }

    /// Replaces a writable directory of the plan by a copy that belongs to the box.
    fn work_on_copy(&self, plan: &mut Plan, host: &Path) -> Result<Copied, SandboxError> {
        let spec = &mut plan.spec;
        let writable = spec.mounts.iter_mut().filter(|mount| mount.writable).map(|mount| &mut mount.host);
        let mut places = spec.tree.iter_mut().chain(spec.home.iter_mut()).chain(writable);
        let place = places.find(|place| host.starts_with(place.as_path())).ok_or_else(|| SandboxError::Unsupported {
            missing: format!("id-mapped mounts for {}; run as an ordinary user", host.display()),
        })?;
        let copied = Copied::make(place, &self.config.runtime_dir, plan.box_id).map_err(setup("copying what the box may write"))?;
        tracing::info!(host = %place.display(), "the file system has no id-mapped mounts; the box works on a copy");
        *place = copied.path();
        Ok(copied)
    }

    /// Starts the launcher and listens to it until the program runs.
    fn launch(&self, plan: &Plan) -> Result<NativeChild, Failure> {
        use wire::Step;
        let (streams, mut ends) = streams(plan.spec.io).step("making the program's streams")?;
        let (control, theirs) =
            rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).step("making a socket")?;
        rustix::net::sockopt::set_socket_timeout(&control, rustix::net::sockopt::Timeout::Recv, Some(SETUP_TIMEOUT))
            .step("making a socket")?;
        let start =
            Start { launcher: self.config.launcher.clone(), streams, control: theirs, plan: memory_file(plan).step("writing the plan")? };
        let mut launcher = self.starter.start(start).step_at("starting the launcher", &self.config.launcher)?;
        let heard = listen(&control);
        if heard.is_err() {
            let _ = launcher.kill();
        }
        let _ = launcher.wait();
        let (pid, door, filter_only) = heard?;
        if filter_only {
            tracing::warn!(label = %plan.spec.label, "too many entries lie beside the scope to be held read-only; the import filter alone decides there");
        }
        ends.door = door;
        let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty()).step("watching the box")?;
        let started = start_time(pid).step("reading the box's start time")?;
        Ok(NativeChild { pid, started, pidfd, control, ends, exit: None, at_end: None, _starter: Arc::clone(&self.starter) })
    }
}

impl Sandbox for NativeSandbox {
    fn spawn(&self, spec: BoxSpec) -> Result<Box<dyn BoxChild>, SandboxError> {
        check::spec(&spec)?;
        let mut plan = self.plan(spec);
        let mut copies = Vec::new();
        loop {
            match self.launch(&plan) {
                Ok(mut child) => {
                    child.at_end = (!copies.is_empty()).then(|| give_back(copies));
                    return Ok(Box::new(child));
                }
                Err(Failure::NeedsCopy { host }) => copies.push(self.work_on_copy(&mut plan, &host)?),
                Err(failure) => return Err(failure.into()),
            }
        }
    }

    fn report(&self) -> SandboxReport {
        report::report(self.try_box(None).err(), || self.try_box(Some(&self.config.runtime_dir)).is_ok())
    }
}

fn give_back(copies: Vec<Copied>) -> AtEnd {
    Box::new(move || copies.into_iter().try_for_each(|copied| copied.give_back().map_err(setup("copying the box's work back"))))
}

/// Hears the launcher until the box is ready or has failed; a box that failed is ended.
fn listen(control: &OwnedFd) -> Result<(Pid, Option<OwnedFd>, bool), Failure> {
    let mut first = None;
    let failure = loop {
        match wire::receive(control, true) {
            Ok(Some((Word::Started { pid }, _))) => first = Pid::from_raw(pid),
            Ok(Some((Word::Ready { filter_only }, door))) => {
                if let Some(pid) = first {
                    return Ok((pid, door, filter_only));
                }
            }
            Ok(Some((Word::Failed(failure), _))) => break failure,
            Ok(Some((Word::Ended(_), _)) | None) => {
                break Failure::setup("the launcher, which ended without a word", &io::Error::from_raw_os_error(libc::EPIPE));
            }
            Err(error) => break Failure::setup("hearing the launcher", &error),
        }
    };
    if let Some(pid) = first {
        let _ = rustix::process::kill_process(pid, Signal::KILL);
        let _ = rustix::io::retry_on_intr(|| rustix::process::waitid(WaitId::Pid(pid), WaitIdOptions::EXITED));
    }
    Err(failure)
}

fn streams(io: BoxIo) -> io::Result<(Streams, Ends)> {
    let pipe = || rustix::pipe::pipe_with(PipeFlags::CLOEXEC);
    match io {
        BoxIo::Inherit => Ok((Streams { stdin: Stdio::inherit(), stdout: Stdio::inherit(), stderr: Stdio::inherit() }, Ends::default())),
        BoxIo::Piped => {
            let ((stdin, to_stdin), (from_stdout, stdout), (from_stderr, stderr)) = (pipe()?, pipe()?, pipe()?);
            let ends = Ends { stdin: Some(to_stdin), stdout: Some(from_stdout), stderr: Some(from_stderr), door: None };
            Ok((Streams { stdin: stdin.into(), stdout: stdout.into(), stderr: stderr.into() }, ends))
        }
        BoxIo::Captured => {
            let (from, to) = pipe()?;
            let ends = Ends { stdout: Some(from), ..Ends::default() };
            Ok((Streams { stdin: Stdio::null(), stdout: to.try_clone()?.into(), stderr: to.into() }, ends))
        }
    }
}

/// The plan as a sealed file in memory: nothing of it is in arguments or environment.
fn memory_file(plan: &Plan) -> io::Result<OwnedFd> {
    let fd = rustix::fs::memfd_create("plan", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    let mut file = std::fs::File::from(fd);
    file.write_all(&serde_json::to_vec(plan)?)?;
    rustix::fs::fcntl_add_seals(file.as_fd(), SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE)?;
    Ok(file.into())
}

/// The start time of a process in clock ticks since boot.
fn start_time(pid: Pid) -> io::Result<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()))?;
    // The second field is the name in parentheses, which may hold anything; the start time is the 20th after it.
    let after = stat.rsplit_once(')').map_or("", |(_, after)| after);
    after.split_whitespace().nth(19).and_then(|ticks| ticks.parse().ok()).ok_or_else(|| io::Error::other("unreadable /proc/PID/stat"))
}
