//! Doing something to other processes, or outliving the box.

use super::inside::{Here, call, fork, n, say};
use super::{Probe, Sign};
use crate::fence::Fence::{self, Ipc, Landlock, Namespaces, Processes, Seccomp};
use std::io;
use std::time::Duration;

const SIGNALS: &[Fence] = &[Processes, Landlock];

const fn victim(id: &'static str, fences: &'static [Fence], act: fn(&Here) -> io::Result<()>) -> Probe {
    Probe { id, class: "processes", fences, act, sign: Sign::Victim }
}

const fn canary(id: &'static str, act: fn(&Here) -> io::Result<()>) -> Probe {
    Probe { id, class: "processes", fences: &[Ipc], act, sign: Sign::Canary }
}

/// Starts a process that lives on for a while and writes that it does.
fn leave_behind(here: &Here, detach: fn() -> io::Result<()>) -> io::Result<()> {
    if fork()? == 0 {
        let _ = detach();
        if fork().is_ok_and(|pid| pid == 0) {
            let _ = std::fs::write(here.tree("alive"), "once");
            // Longer than the host waits for the end of the box, shorter than a person would notice.
            std::thread::sleep(Duration::from_millis(300));
            for _ in 0..20 {
                let _ = std::fs::write(here.tree("alive"), "longer");
                std::thread::sleep(Duration::from_millis(50));
            }
        }
        crate::sys::leave(0);
    }
    while std::fs::metadata(here.tree("alive")).is_err() {
        std::thread::yield_now();
    }
    // The program ends at once; what it left is on its own.
    say(super::inside::ACTED.as_bytes());
    crate::sys::leave(0)
}

const fn left(id: &'static str, act: fn(&Here) -> io::Result<()>) -> Probe {
    let sign = Sign::Left(|material| {
        std::thread::sleep(Duration::from_millis(600));
        std::fs::read_to_string(material.tree().join("alive")).is_ok_and(|text| text == "longer")
    });
    Probe { id, class: "processes", fences: &[Processes], act, sign }
}

pub(super) const PROBES: &[Probe] = &[
    victim("kill", SIGNALS, |here| call(libc::SYS_kill, &[n(here.victim), n(libc::SIGTERM)]).map(drop)),
    victim("stop", SIGNALS, |here| call(libc::SYS_kill, &[n(here.victim), n(libc::SIGSTOP)]).map(drop)),
    victim("kill-thread", SIGNALS, |here| call(libc::SYS_tgkill, &[n(here.victim), n(here.victim), n(libc::SIGTERM)]).map(drop)),
    victim("kill-task", SIGNALS, |here| call(libc::SYS_tkill, &[n(here.victim), n(libc::SIGTERM)]).map(drop)),
    victim("kill-by-descriptor", SIGNALS, |here| {
        let pidfd = call(libc::SYS_pidfd_open, &[n(here.victim), 0])?;
        call(libc::SYS_pidfd_send_signal, &[pidfd, n(libc::SIGTERM), 0, 0]).map(drop)
    }),
    victim("queue-signal", SIGNALS, |here| {
        let mut info = [0_u8; 128];
        info[..4].copy_from_slice(&libc::SIGTERM.to_ne_bytes());
        info[8..12].copy_from_slice(&(-1_i32).to_ne_bytes());
        call(libc::SYS_rt_sigqueueinfo, &[n(here.victim), n(libc::SIGTERM), info.as_ptr().addr()]).map(drop)
    }),
    victim("trace", &[Namespaces, Landlock, Seccomp], |here| {
        // PTRACE_SEIZE does not stop the victim, which the host would have to wake.
        call(libc::SYS_ptrace, &[0x4206, n(here.victim), 0, 0]).map(drop)
    }),
    victim("change-priority", &[Processes], |here| call(libc::SYS_setpriority, &[0, n(here.victim), 10]).map(drop)),
    victim("change-affinity", &[Processes], |here| {
        let one = [1_u64];
        call(libc::SYS_sched_setaffinity, &[n(here.victim), 8, one.as_ptr().addr()]).map(drop)
    }),
    victim("change-scheduler", &[Processes], |here| {
        let batch = 3;
        let parameter = [0_i32];
        call(libc::SYS_sched_setscheduler, &[n(here.victim), batch, parameter.as_ptr().addr()]).map(drop)
    }),
    victim("change-limit", &[Processes], |here| {
        let lower = [16_u64, 16];
        call(libc::SYS_prlimit64, &[n(here.victim), 7, lower.as_ptr().addr(), 0]).map(drop)
    }),
    left("outlive-by-session", |here| leave_behind(here, || Ok(rustix::process::setsid().map(drop)?))),
    left("outlive-by-double-fork", |here| {
        leave_behind(here, || {
            fork().map(|pid| {
                if pid != 0 {
                    crate::sys::leave(0)
                }
            })
        })
    }),
    left("outlive-by-ignoring-signals", |here| {
        leave_behind(here, || {
            let mask = [u64::MAX];
            call(libc::SYS_rt_sigprocmask, &[0, mask.as_ptr().addr(), 0, 8]).map(drop)
        })
    }),
    canary("shared-memory-of-host", |here| {
        let at = call(libc::SYS_shmat, &[n(here.segment), 0, n(libc::SHM_RDONLY)])?;
        call(libc::SYS_write, &[1, at, 64]).map(drop)
    }),
    canary("message-queue-of-host", |here| {
        let mut message = [0_u8; 128];
        let length = call(libc::SYS_msgrcv, &[n(here.queue), message.as_mut_ptr().addr(), 100, 0, n(libc::IPC_NOWAIT)])?;
        say(&std::hint::black_box(message)[8..8 + length]);
        Ok(())
    }),
    canary("list-shared-memory-of-host", |here| {
        let mut state = [0_u8; 256];
        call(libc::SYS_shmctl, &[n(here.segment), n(libc::IPC_STAT), state.as_mut_ptr().addr()])?;
        let at = call(libc::SYS_shmat, &[n(here.segment), 0, n(libc::SHM_RDONLY)])?;
        call(libc::SYS_write, &[1, at, 64]).map(drop)
    }),
];
