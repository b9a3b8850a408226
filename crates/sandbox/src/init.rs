//! The first process of a box: it builds the box from the inside, gives up every privilege, starts the program, reaps, and ends
//! everything when the program or the parent ends.

use crate::exec::STARTING_PROGRAM;
use crate::fence::Fence;
use crate::idmap::INSIDE_ID;
use crate::launcher::no_namespaces;
use crate::watcher::Watcher;
use crate::wire::{self, Failure, Plan, Step, TERMINATE, Word};
use crate::{fence_landlock, fence_seccomp, home, limits, rootfs, sources, sys, terminal};
use aedile_core::sandbox::{BoxExit, BoxIo, BoxNet, DOOR_PORT, HOME_INSIDE};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::Mode;
use rustix::process::{Pid, Signal, WaitOptions};
use rustix::thread::{CapabilitySet, CapabilitySets};
use std::ffi::CString;
use std::io;
use std::net::TcpListener;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Runs as the box's first process. Returns when the box is to end.
pub(crate) fn run(plan: &Plan, prepared: Option<sources::Sources>, control: &OwnedFd) {
    match set_up(plan, prepared, control) {
        Ok(program) => {
            let mut program = program;
            let exit = watch(plan, control, &mut program);
            let _ = wire::send(control.as_fd(), &Word::Ended(exit), None);
        }
        Err(failure) => {
            let _ = wire::send(control.as_fd(), &Word::Failed(failure), None);
        }
    }
}

struct Program {
    pid: Pid,
    signals: OwnedFd,
    watcher: Watcher,
    /// Held until the box ends, so that its terminal ends with the box and not before.
    _terminal: Option<OwnedFd>,
}

fn set_up(plan: &Plan, prepared: Option<sources::Sources>, control: &OwnedFd) -> Result<Program, Failure> {
    // Where that fails, the filter keeps the caller's from being asked.
    let _ = sys::leave_key_ring();
    match (plan.has(Fence::Namespaces), plan.privileged) {
        (true, _) => become_agent(INSIDE_ID).step("taking on the box's user")?,
        (false, true) => become_agent(plan.box_id).step("taking on the box's user")?,
        (false, false) => {}
    }
    // The first act that needs a right in the new namespaces.
    if plan.has(Fence::Names) {
        rustix::system::sethostname(b"box").map_err(|error| no_namespaces(&error.into()))?;
    }
    let sources = match prepared {
        Some(sources) => sources,
        None if plan.has(Fence::Mounts) => sources::collect(plan)?,
        None => sources::Sources::default(),
    };
    if plan.has(Fence::Network) {
        sys::loopback_up().step("setting the loopback interface up")?;
    }
    let door = match plan.spec.net {
        BoxNet::None => None,
        BoxNet::Door => Some(TcpListener::bind(("127.0.0.1", DOOR_PORT)).step("opening the door")?),
    };
    let old = rustix::process::umask(Mode::empty());
    if plan.has(Fence::Mounts) {
        rootfs::enter(plan, &sources)?;
    }
    rustix::process::umask(old);
    let own_io = own_io();
    let places = Places::of(plan, &sources);
    let filter_only = sources.filter_only;
    drop(sources);
    if plan.has(Fence::Namespaces) {
        drop_capabilities().step("dropping capabilities")?;
    }
    if plan.has(Fence::Mounts) {
        home::seed(Path::new(HOME_INSIDE), &plan.toolchains);
    }
    // Outside a namespace of its own the number of processes would be that of the whole user.
    if plan.has(Fence::Limits) && plan.has(Fence::Namespaces) {
        limits::apply(&plan.spec.limits).step("setting limits")?;
    }
    let watched: Vec<&Path> = places.writable.iter().map(PathBuf::as_path).collect();
    let memory = limits::memory_bytes(&plan.spec.limits);
    let watcher = Watcher::new(&plan.spec.limits, memory, own_io, &watched, Path::new(rootfs::TEMPORARY), plan.strict);
    let terminal = terminal::make(plan.spec.io, control)?;
    let cwd = if plan.spec.tree.is_some() { plan.spec.tree_inside.as_path() } else { Path::new(HOME_INSIDE) };
    rustix::process::chdir(cwd).step_at("entering", cwd)?;
    let env = home::environment(plan);
    let program = home::find_program(&plan.spec.command, &env)?;
    rustix::thread::set_no_new_privs(true).step("giving up new privileges")?;
    if plan.has(Fence::Landlock) {
        fence_landlock::apply(&places.visible, &places.writable)?;
    }
    if plan.has(Fence::Seccomp) {
        fence_seccomp::apply()?;
    }
    // From here on nothing changes our credentials, so that the signal at the parent's death stays set.
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).step("tying the box to its parent")?;
    if gone(control) {
        return Err(Failure::refused("the process that asked for the box has ended"));
    }
    let signals = sys::child_signals().step("watching children")?;
    let pid = start(plan, &program, &env, terminal.as_ref())?;
    wire::send(control.as_fd(), &Word::Ready { filter_only }, door.as_ref().map(AsFd::as_fd)).step("reporting the box")?;
    drop(door);
    let _ = detach_streams();
    Ok(Program { pid, signals, watcher, _terminal: terminal })
}

/// What Landlock lets the box see and write.
struct Places {
    visible: Vec<PathBuf>,
    writable: Vec<PathBuf>,
}

impl Places {
    fn of(plan: &Plan, sources: &sources::Sources) -> Self {
        let paths = |paths: &[&str]| paths.iter().map(PathBuf::from).collect::<Vec<_>>();
        if !plan.has(Fence::Mounts) {
            let shown = plan.spec.mounts.iter().map(|mount| mount.host.clone());
            let visible = paths(sources::SYSTEM).into_iter().chain(shown).collect();
            return Self { visible, writable: plan.spec.tree.iter().cloned().collect() };
        }
        let of = |writable| sources.mounts.iter().filter(move |source| source.writable == writable).map(|source| source.inside.clone());
        let locks = sources.locks.iter().map(|lock| lock.inside.clone());
        let temporary = paths(&["/tmp", "/var/tmp", "/dev/shm", HOME_INSIDE]);
        Self { visible: of(false).chain(paths(&["/etc", "/aedile"])).collect(), writable: of(true).chain(locks).chain(temporary).collect() }
    }
}

/// The count of this process's own writing, which is closed to it by name once it cannot be looked into.
fn own_io() -> Option<std::fs::File> {
    use rustix::process::{DumpableBehavior, set_dumpable_behavior};
    set_dumpable_behavior(DumpableBehavior::Dumpable).ok()?;
    let opened = std::fs::File::open("/proc/self/io").ok();
    set_dumpable_behavior(DumpableBehavior::NotDumpable).ok()?;
    opened
}

/// Takes on the user of the box. The capabilities in the box's own user namespace stay until the box is built.
fn become_agent(id: u32) -> io::Result<()> {
    let (uid, gid) = (rustix::process::Uid::from_raw(id), rustix::process::Gid::from_raw(id));
    rustix::thread::set_thread_res_gid(gid, gid, gid)?;
    rustix::thread::set_thread_res_uid(uid, uid, uid)?;
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)?;
    Ok(())
}

fn drop_capabilities() -> io::Result<()> {
    rustix::thread::clear_ambient_capability_set()?;
    for number in 0..64 {
        let Some(capability) = CapabilitySet::from_bits(1 << number) else { continue };
        match rustix::thread::remove_capability_from_bounding_set(capability) {
            Ok(()) | Err(rustix::io::Errno::INVAL) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let none = CapabilitySet::empty();
    Ok(rustix::thread::set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none })?)
}

/// Whether the parent has closed its end.
fn gone(control: &OwnedFd) -> bool {
    let mut polled = [PollFd::new(control, PollFlags::empty())];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    rustix::event::poll(&mut polled, Some(&now)).is_ok() && polled[0].revents().contains(PollFlags::HUP)
}

/// Forks and executes the program; returns once it has been executed.
fn start(plan: &Plan, program: &Path, env: &[(String, String)], terminal: Option<&OwnedFd>) -> Result<Pid, Failure> {
    let text = |text: &str| CString::new(text).map_err(|_| Failure::refused(format!("{text:?} holds a NUL byte")));
    let path = text(&program.to_string_lossy())?;
    let args = plan.spec.command.iter().map(|arg| text(arg)).collect::<Result<Vec<_>, _>>()?;
    let env = env.iter().map(|(name, value)| text(&format!("{name}={value}"))).collect::<Result<Vec<_>, _>>()?;
    let (result, report) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).step("making a pipe")?;
    let Some(pid) = sys::clone_process(0).step("forking")? else {
        drop(result);
        sys::default_signals();
        if plan.spec.io != BoxIo::Inherit {
            let _ = rustix::process::setsid();
        }
        let seated = terminal.map_or(Ok(()), |terminal| terminal::sit_at(plan.spec.io, terminal));
        let error = match seated.and_then(|()| sys::close_from_on_exec(3)) {
            Ok(()) => sys::exec(&path, &args, &env),
            Err(error) => error,
        };
        let _ = rustix::io::write(&report, &error.raw_os_error().unwrap_or(libc::EIO).to_ne_bytes());
        sys::leave(127);
    };
    drop(report);
    let mut errno = [0u8; 4];
    let length = rustix::io::retry_on_intr(|| rustix::io::read(&result, &mut errno)).step("waiting for the program")?;
    if length == errno.len() {
        let error = io::Error::from_raw_os_error(i32::from_ne_bytes(errno));
        return Err(error).step_at(STARTING_PROGRAM, program);
    }
    Ok(pid)
}

/// Lets go of the program's streams, so that its pipes end with it.
fn detach_streams() -> io::Result<()> {
    let null = rustix::fs::open("/dev/null", rustix::fs::OFlags::RDWR | rustix::fs::OFlags::CLOEXEC, Mode::empty())?;
    (0..3).try_for_each(|stream| sys::put_at(null.as_raw_fd(), stream))
}

/// Waits for the program's end, the parent's end, the parent's wish or the wall limit.
fn watch(plan: &Plan, control: &OwnedFd, program: &mut Program) -> BoxExit {
    let end = plan.spec.limits.wall.filter(|_| plan.has(Fence::Time)).and_then(|wall| Instant::now().checked_add(wall));
    let mut look_at = Instant::now() + program.watcher.pause();
    loop {
        if Instant::now() >= look_at {
            // Without a `/proc` of the box's own it would look at others.
            let watches = [Fence::Watcher, Fence::Mounts, Fence::Processes].iter().all(|fence| plan.has(*fence));
            if let Some(words) = watches.then(|| program.watcher.look()).flatten() {
                let _ = wire::send(control.as_fd(), &Word::Over(words), None);
                return BoxExit::Signal(libc::SIGKILL);
            }
            look_at = Instant::now() + program.watcher.pause();
        }
        let left = end.map(|end| end.saturating_duration_since(Instant::now()));
        if left.is_some_and(|left| left.is_zero()) {
            return BoxExit::TimedOut;
        }
        let pause = look_at.saturating_duration_since(Instant::now());
        let left = Timespec::try_from(left.map_or(pause, |left| left.min(pause))).ok();
        let mut polled = [PollFd::new(&program.signals, PollFlags::IN), PollFd::new(control, PollFlags::IN)];
        match rustix::event::poll(&mut polled, left.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(_) => return BoxExit::Signal(libc::SIGKILL),
        }
        let (child, parent) = (!polled[0].revents().is_empty(), !polled[1].revents().is_empty());
        if child && let Some(exit) = reap(program) {
            return exit;
        }
        if parent {
            let mut bytes = [0u8; 16];
            match rustix::io::read(control, &mut bytes) {
                Ok(length) if &bytes[..length] == TERMINATE => {
                    let _ = rustix::process::kill_process(program.pid, Signal::TERM);
                }
                Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => {}
                _ => return BoxExit::Signal(libc::SIGKILL),
            }
        }
    }
}

/// Collects every ended child; the program's end if it was among them.
fn reap(program: &Program) -> Option<BoxExit> {
    let mut drain = [0u8; 512];
    let _ = rustix::io::read(&program.signals, &mut drain);
    while let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::NOHANG) {
        if pid == program.pid {
            let signal = BoxExit::Signal(status.terminating_signal().unwrap_or(libc::SIGKILL));
            return Some(status.exit_status().map_or(signal, BoxExit::Code));
        }
    }
    None
}
