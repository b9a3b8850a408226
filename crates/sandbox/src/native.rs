//! The sandbox that runs boxes on this kernel.

use crate::aside::Sweep;
use crate::bar::Bar;
use crate::child::{AtEnd, Ends, NativeChild};
use crate::copy::Copied;
use crate::cow::Cow;
use crate::features::{self, Feature};
use crate::fence::Fence;
use crate::starter::{Start, Starter, Streams};
use crate::survey::{Guard, Held};
use crate::toolchain::Toolchains;
use crate::unfinished::Record;
use crate::wire::{self, Failure, Plan, Word};
use crate::{check, give, guarded, limits, report};
use aedile_core::sandbox::{BoxChild, BoxIo, BoxSpec, Sandbox, SandboxError, SandboxReport, WriteScope};
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
    /// Whose the trees are.
    pub trees: Trees,
}

/// Whose the directories are that boxes write to. It decides what root does where the file system has no id-mapped mounts (an overlay, as
/// in most containers), and what a scope is worth that mounts cannot hold.
#[derive(Clone, Debug)]
pub enum Trees {
    /// What lies below these directories is aedile's own: it is given to [`BOX_HOST_ID`] where it cannot be mapped. A box that would write
    /// anything else there is refused. Entries out of scope that cannot be held read-only are left to the import, which looks at the scope.
    Own(Vec<PathBuf>),
    /// They are a person's, and nothing looks at the scope later: nothing is given away, a box works on a copy where its directory cannot be
    /// mapped, and a scope that mounts cannot hold is refused.
    Persons,
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

    /// Tries each feature of the kernel that boxes use, in a process of its own. Blocking (milliseconds).
    ///
    /// # Errors
    /// When that process cannot be started or gives no answer.
    pub fn features(&self) -> Result<Vec<Feature>, SandboxError> {
        features::of_this_host(&self.config.launcher, &self.config.runtime_dir).map_err(setup("trying the kernel's features"))
    }

    /// Starts the smallest box, with a writable tree if given. Nothing is copied for it.
    fn try_box(&self, tree: Option<&Path>) -> Result<(), SandboxError> {
        Ok(self.launch(&self.plan(report::trial(tree))).map(drop)?)
    }

    fn plan(&self, spec: BoxSpec) -> Plan {
        let privileged = rustix::process::geteuid().is_root();
        let strict = matches!(self.config.trees, Trees::Persons);
        let tmp_bytes = limits::temporary_bytes(&spec.limits);
        let held = Held::default();
        Plan {
            spec,
            privileged,
            box_id: BOX_HOST_ID,
            toolchains: self.config.toolchains.clone(),
            tmp_bytes,
            strict,
            held,
            name_box: None,
            without: Vec::new(),
        }
    }

    /// Lets the box write `host`, which cannot be mapped: gives aedile's own to it, or puts a copy of a person's in the place.
    fn make_writable(&self, plan: &mut Plan, host: &Path) -> Result<Option<Copied>, SandboxError> {
        let place = writable(&mut plan.spec).find(|place| host.starts_with(place.as_path()));
        let place = place.ok_or_else(|| unmapped(host))?;
        match &self.config.trees {
            Trees::Own(own) if lies_in(place, own) => {
                give::give(place, plan.box_id).map_err(setup("giving the box what it may write"))?;
                if give::belongs(host, plan.box_id) { Ok(None) } else { Err(unmapped(host)) }
            }
            Trees::Own(_) => Err(unmapped(place)),
            Trees::Persons => {
                let copied = Copied::make(place, &self.config.runtime_dir, plan.box_id).map_err(setup("copying what the box may write"))?;
                tracing::info!(host = %place.display(), "the file system has no id-mapped mounts; the box works on a copy");
                *place = copied.path();
                Ok(Some(copied))
            }
        }
    }

    /// Gives what the host has added since to the box to whom the rest was given.
    fn give_again(&self, plan: &mut Plan) -> Result<(), SandboxError> {
        let Trees::Own(own) = &self.config.trees else { return Ok(()) };
        let box_id = plan.box_id;
        let mut places = writable(&mut plan.spec).filter(|place| give::belongs(place, box_id) && lies_in(place, own));
        places.try_for_each(|place| give::give(place, box_id)).map_err(setup("giving the box what it may write"))
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
        let Heard { pid, door, terminal, filter_only } = heard?;
        if filter_only {
            tracing::warn!(label = %plan.spec.label, "not everything beside the scope can be held read-only; the import filter alone decides there");
        }
        (ends.door, ends.terminal) = (door, terminal);
        let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty()).step("watching the box")?;
        let started = start_time(pid).step("reading the box's start time")?;
        Ok(NativeChild {
            pid,
            started,
            pidfd,
            control,
            ends,
            exit: None,
            at_end: None,
            notes: Vec::new(),
            _starter: Arc::clone(&self.starter),
        })
    }
}

impl NativeSandbox {
    /// Starts a box whose tree is held to `guard` besides its scope. Blocking: besides what [`Sandbox::spawn`] does it walks through the tree.
    ///
    /// # Errors
    /// As [`Sandbox::spawn`]; also when the guard asks for more than mounts can hold.
    pub fn spawn_guarded(&self, spec: BoxSpec, guard: &Guard) -> Result<NativeChild, SandboxError> {
        self.spawn_without(spec, guard, &[])
    }

    /// The same with some fences taken away. Only the attack suite does that, to show what each of them stops.
    pub(crate) fn spawn_without(&self, spec: BoxSpec, guard: &Guard, without: &[Fence]) -> Result<NativeChild, SandboxError> {
        check::spec(&spec)?;
        let mut plan = self.plan(spec);
        plan.without = without.to_vec();
        let (sweep, notes) = guarded::hold(&mut plan, guard, &self.config.runtime_dir)?;
        let mut copies = Vec::new();
        let bar = if plan.strict { Bar::make(&plan.spec).map_err(setup("keeping .git from being made"))? } else { None };
        let record = match &plan.spec.tree {
            Some(tree) if plan.strict && (bar.is_some() || sweep.is_some()) => {
                let record = Record::make(&self.config.runtime_dir, tree, bar.is_some(), sweep.as_ref());
                let step = format!("writing down in {} what is to be done at the end", self.config.runtime_dir.display());
                Some(record.map_err(setup(&step))?)
            }
            _ => None,
        };
        plan.name_box = record.as_ref().map(Record::of_box);
        if plan.privileged {
            self.give_again(&mut plan)?;
        }
        loop {
            match self.launch(&plan) {
                Ok(mut child) => {
                    let anything = bar.is_some() || !copies.is_empty() || sweep.is_some();
                    child.at_end = anything.then(|| at_end(copies, bar, sweep, record));
                    child.notes = notes;
                    return Ok(child);
                }
                Err(Failure::Unmapped { host }) => copies.extend(self.make_writable(&mut plan, &host)?),
                Err(failure) => return Err(failure.into()),
            }
        }
    }

    /// Starts a box that works on a copy of its tree, in which it may write everything; what becomes of its changes is the caller's to say once
    /// it has ended. The copy has nothing in it of what the guard masks.
    ///
    /// # Errors
    /// As [`Sandbox::spawn`]; also when the tree is too large to be copied.
    pub fn spawn_on_copy(&self, mut spec: BoxSpec, guard: &Guard) -> Result<(NativeChild, Cow), SandboxError> {
        check::spec(&spec)?;
        let refused = || SandboxError::Refused { reason: "a box without a tree has nothing to be copied".to_owned() };
        let tree = spec.tree.clone().ok_or_else(refused)?;
        let cow = Cow::make(&tree, guard, &spec.write, &self.config.runtime_dir, (BOX_HOST_ID, BOX_HOST_ID))?;
        (spec.tree, spec.write) = (Some(cow.path()), WriteScope::All);
        Ok((self.spawn_guarded(spec, &Guard { protect: false, ..guard.clone() })?, cow))
    }
}

impl Sandbox for NativeSandbox {
    fn spawn(&self, spec: BoxSpec) -> Result<Box<dyn BoxChild>, SandboxError> {
        Ok(Box::new(self.spawn_guarded(spec, &Guard::default())?))
    }

    fn report(&self) -> SandboxReport {
        report::report(self.try_box(None).err(), || self.try_box(Some(&self.config.runtime_dir)).is_ok())
    }
}

/// The host's places that the box may write to.
fn writable(spec: &mut BoxSpec) -> impl Iterator<Item = &mut PathBuf> {
    let mounts = spec.mounts.iter_mut().filter(|mount| mount.writable).map(|mount| &mut mount.host);
    let tree = spec.tree.as_mut().filter(|_| spec.write != WriteScope::Nothing);
    tree.into_iter().chain(spec.home.iter_mut()).chain(mounts)
}

/// Whether `path`, with its links followed, lies in one of the directories.
fn lies_in(path: &Path, directories: &[PathBuf]) -> bool {
    let Ok(path) = std::fs::canonicalize(path) else { return false };
    directories.iter().any(|directory| std::fs::canonicalize(directory).is_ok_and(|directory| path.starts_with(directory)))
}

fn unmapped(host: &Path) -> SandboxError {
    let kind = give::file_system(&std::fs::canonicalize(host).unwrap_or_else(|_| host.to_owned()));
    SandboxError::Unsupported {
        missing: format!(
            "{} is on a file system ({kind}) without id-mapped mounts, so a box of root's cannot write there as another user; \
             run as an ordinary user, or move it to ext4, xfs or btrfs",
            host.display()
        ),
    }
}

fn at_end(copies: Vec<Copied>, bar: Option<Bar>, sweep: Option<Sweep>, record: Option<Record>) -> AtEnd {
    Box::new(move || {
        let given = copies.into_iter().try_for_each(|copied| copied.give_back().map_err(setup("copying the box's work back")));
        drop(bar);
        let (notes, moved) = sweep.map_or_else(|| (Vec::new(), Ok(())), |sweep| sweep.run());
        drop(record);
        (notes, given.and(moved.map_err(setup("moving away what was planted"))))
    })
}

/// What the launcher said of a box that runs.
struct Heard {
    pid: Pid,
    door: Option<OwnedFd>,
    terminal: Option<OwnedFd>,
    filter_only: bool,
}

/// Hears the launcher until the box is ready or has failed; a box that failed is ended.
fn listen(control: &OwnedFd) -> Result<Heard, Failure> {
    let (mut first, mut terminal) = (None, None);
    let failure = loop {
        match wire::receive(control, true) {
            Ok(Some((Word::Started { pid }, _))) => first = Pid::from_raw(pid),
            Ok(Some((Word::Terminal, other_side))) => terminal = other_side,
            Ok(Some((Word::Ready { filter_only }, door))) => {
                if let Some(pid) = first {
                    return Ok(Heard { pid, door, terminal, filter_only });
                }
            }
            Ok(Some((Word::Failed(failure), _))) => break failure,
            Ok(Some((Word::Ended(_) | Word::Over(_), _)) | None) => {
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
        // What the terminal takes the place of is not even the launcher's.
        BoxIo::Terminal { streams, .. } => {
            let [stdin, stdout, stderr] = streams.map(|own| if own { Stdio::null() } else { Stdio::inherit() });
            Ok((Streams { stdin, stdout, stderr }, Ends::default()))
        }
        BoxIo::Inherit => Ok((Streams { stdin: Stdio::inherit(), stdout: Stdio::inherit(), stderr: Stdio::inherit() }, Ends::default())),
        BoxIo::Piped => {
            let ((stdin, to_stdin), (from_stdout, stdout), (from_stderr, stderr)) = (pipe()?, pipe()?, pipe()?);
            let ends = Ends { stdin: Some(to_stdin), stdout: Some(from_stdout), stderr: Some(from_stderr), ..Ends::default() };
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
pub(crate) fn start_time(pid: Pid) -> io::Result<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()))?;
    // The second field is the name in parentheses, which may hold anything; the start time is the 20th after it.
    let after = stat.rsplit_once(')').map_or("", |(_, after)| after);
    after.split_whitespace().nth(19).and_then(|ticks| ticks.parse().ok()).ok_or_else(|| io::Error::other("unreadable /proc/PID/stat"))
}
