//! The program that makes one box. It starts with an empty environment and three descriptors besides the streams' own: nothing of
//! the caller's is in its memory. It makes the namespaces, hands over to the box's first process, and ends.

use crate::attack::PROBE_ARGUMENT;
use crate::features::FEATURES_ARGUMENT;
use crate::fence::Fence;
use crate::idmap::{INSIDE_ID, write_maps};
use crate::wire::{self, CONTROL_FD, Failure, PLAN_FD, Plan, Step, Word};
use crate::{init, sources, sys, unfinished};
use rustix::process::{Pid, Signal};
use rustix::thread::CapabilitySet;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::fd::{AsFd, OwnedFd};
use std::process::ExitCode;

/// The launcher's main function. Call it before any thread starts, when the program was started with
/// [`LAUNCHER_ARGUMENT`](crate::LAUNCHER_ARGUMENT), [`PROBE_ARGUMENT`] or [`FEATURES_ARGUMENT`] as its first argument. Without the descriptors that the sandbox hands over it does nothing and fails.
pub fn launcher_main() -> ExitCode {
    if std::env::args_os().nth(1).is_some_and(|argument| argument == PROBE_ARGUMENT) {
        return crate::attack::probe_main();
    }
    if std::env::args_os().nth(1).is_some_and(|argument| argument == FEATURES_ARGUMENT) {
        return crate::features::features_main();
    }
    let Ok(control) = sys::handed_over(CONTROL_FD) else {
        return ExitCode::FAILURE;
    };
    match launch(&control) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let _ = wire::send(control.as_fd(), &Word::Failed(failure), None);
            ExitCode::FAILURE
        }
    }
}

fn read_plan() -> io::Result<Plan> {
    let mut file = File::from(sys::handed_over(PLAN_FD)?);
    file.rewind()?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(serde_json::from_slice(&bytes)?)
}

fn launch(control: &OwnedFd) -> Result<(), Failure> {
    let plan = read_plan().step("reading the plan")?;
    let prepared = if plan.privileged {
        may_map()?;
        rustix::thread::set_thread_groups(&[]).step("leaving the host's groups")?;
        Some(if plan.has(Fence::Mounts) { sources::collect(&plan)? } else { sources::Sources::default() })
    } else {
        None
    };
    let (go, ready) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).step("making a pipe")?;
    // CLONE_PARENT: the box's first process is a child of the sandbox's starter, which outlives this program.
    let namespaces = plan.without.iter().fold(sys::NAMESPACES, |flags, fence| flags & !fence.namespace());
    let Some(pid) = sys::clone_process(namespaces | libc::CLONE_PARENT).map_err(|error| no_namespaces(&error))? else {
        drop(ready);
        if sys::wait_byte(&go).unwrap_or(false) {
            init::run(&plan, prepared, control);
        }
        sys::leave(0);
    };
    let mapped = wire::send(control.as_fd(), &Word::Started { pid: pid.as_raw_nonzero().get() }, None)
        .step("reporting the box")
        .and_then(|()| plan.name_box.as_deref().map_or(Ok(()), |file| unfinished::name_box(file, pid).step_at("writing", file)))
        .and_then(|()| map(&plan, pid))
        .and_then(|()| rustix::io::write(&ready, b"G").step("starting the box"));
    if let Err(failure) = mapped {
        let _ = rustix::process::kill_process(pid, Signal::KILL);
        return Err(failure);
    }
    Ok(())
}

/// Root makes mounts and maps on the host; in a container it often may not.
fn may_map() -> Result<(), Failure> {
    let needed = CapabilitySet::SYS_ADMIN | CapabilitySet::SETUID | CapabilitySet::SETGID | CapabilitySet::CHOWN;
    let held = rustix::thread::capabilities(None).step("asking for capabilities")?.effective;
    if held.contains(needed) {
        return Ok(());
    }
    let missing =
        "root here has not the capabilities SYS_ADMIN, SETUID, SETGID and CHOWN; run as an ordinary user, or give the container these"
            .to_owned();
    Err(Failure::Unsupported { missing })
}

fn map(plan: &Plan, pid: Pid) -> Result<(), Failure> {
    let own = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    if !plan.has(Fence::Namespaces) {
        return Ok(());
    }
    let outside = if plan.privileged { (plan.box_id, plan.box_id) } else { own };
    write_maps(pid, (INSIDE_ID, INSIDE_ID), outside, !plan.privileged).step("mapping the box's user")
}

/// What to do where the kernel refuses namespaces, or gives them without any right in them.
pub(crate) fn no_namespaces(error: &io::Error) -> Failure {
    Failure::Unsupported {
        missing: format!(
            "new user, mount, pid, ipc, uts, net and cgroup namespaces ({error}); allow them: sysctl user.max_user_namespaces above 0, \
             kernel.unprivileged_userns_clone=1 on Debian, kernel.apparmor_restrict_unprivileged_userns=0 or a profile on Ubuntu"
        ),
    }
}
