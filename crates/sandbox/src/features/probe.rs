//! Calls and files of the kernel, each tried in a process of its own.

use super::Found;
use super::spaces::apart;
use crate::sys;
use landlock::{Access, AccessFs, Ruleset, RulesetAttr, RulesetStatus};
use rustix::fs::{CWD, MemfdFlags, Mode, OFlags, ResolveFlags, SealFlags};
use rustix::io::{Errno, FdFlags};
use rustix::process::{PidfdFlags, Signal, WaitId, WaitIdOptions};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, TargetArch};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

fn other(words: &str) -> io::Error {
    io::Error::other(words.to_owned())
}

/// `Ok` when what should be refused was refused with this error.
fn refused<T>(answer: &rustix::io::Result<T>, with: Errno, words: &str) -> io::Result<String> {
    match answer {
        Err(error) if *error == with => Ok(String::new()),
        _ => Err(other(words)),
    }
}

pub(super) fn open_beneath(_: &Path) -> Found {
    apart(0, || {
        let open = |path: &str| {
            let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
            rustix::fs::openat2(CWD, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), resolve)
        };
        open("/proc")?;
        refused(&open("/proc/self/status"), Errno::LOOP, "it follows links that it was told not to follow")
    })
}

pub(super) fn process_descriptors(_: &Path) -> Found {
    apart(0, || {
        let (wait, hold) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
        let Some(pid) = sys::clone_process(0)? else {
            drop(hold);
            let _ = sys::wait_byte(&wait);
            sys::leave(0);
        };
        let by_descriptor = || {
            let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty())?;
            rustix::process::pidfd_send_signal(&pidfd, Signal::KILL)?;
            rustix::io::retry_on_intr(|| rustix::process::waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED))
        };
        let ended = by_descriptor();
        drop(hold);
        if ended.is_err() {
            let _ = rustix::process::waitid(WaitId::Pid(pid), WaitIdOptions::EXITED);
        }
        let signal = ended?.and_then(|status| status.terminating_signal());
        if signal == Some(libc::SIGKILL) { Ok(String::new()) } else { Err(other("a signal by descriptor did not arrive")) }
    })
}

pub(super) fn close_range(_: &Path) -> Found {
    apart(0, || {
        let file = rustix::fs::open("/", OFlags::PATH | OFlags::DIRECTORY, Mode::empty())?;
        sys::close_from_on_exec(3)?;
        let closed = rustix::io::fcntl_getfd(&file)?.contains(FdFlags::CLOEXEC);
        if closed { Ok(String::new()) } else { Err(other("a descriptor would stay open")) }
    })
}

pub(super) fn sealed_memory(_: &Path) -> Found {
    apart(0, || {
        let file = rustix::fs::memfd_create("features", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
        rustix::fs::fcntl_add_seals(&file, SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE)?;
        refused(&rustix::io::write(&file, b"x"), Errno::PERM, "a sealed file can be written")
    })
}

pub(super) fn memory_not_executed(_: &Path) -> Found {
    apart(0, || {
        let file = rustix::fs::memfd_create("features", MemfdFlags::CLOEXEC | MemfdFlags::NOEXEC_SEAL)?;
        refused(&rustix::fs::fchmod(&file, Mode::RWXU), Errno::PERM, "such a file can be made executable")
    })
}

pub(super) fn seccomp(_: &Path) -> Found {
    apart(0, || {
        rustix::thread::set_no_new_privs(true)?;
        let made = || -> Result<BpfProgram, seccompiler::Error> {
            let arch = TargetArch::try_from(std::env::consts::ARCH)?;
            let rules = BTreeMap::from([(libc::SYS_getpriority, Vec::new())]);
            let refuse = SeccompAction::Errno(Errno::DOM.raw_os_error().unsigned_abs());
            Ok(SeccompFilter::new(rules, SeccompAction::Allow, refuse, arch)?.try_into()?)
        };
        let applied = made().and_then(|filter| seccompiler::apply_filter(&filter));
        applied.map_err(|error| io::Error::other(error.to_string()))?;
        refused(&rustix::process::getpriority_process(None), Errno::DOM, "a call that is filtered passes")
    })
}

pub(super) fn key_ring(_: &Path) -> Found {
    apart(0, || match sys::leave_key_ring() {
        Err(error) if error.raw_os_error() == Some(libc::ENOSYS) => Ok("this kernel has none, so there is none to leave".to_owned()),
        other => other.map(|()| String::new()),
    })
}

pub(super) fn landlock(_: &Path) -> Found {
    apart(0, || {
        let level = sys::landlock_level();
        if level == 0 {
            return Err(other("the kernel answers no level of it: it is not built in, or not named in `lsm=` at boot"));
        }
        let restrict = || Ruleset::default().handle_access(AccessFs::from_all(landlock::ABI::V1))?.create()?.restrict_self();
        let status = restrict().map_err(|error| io::Error::other(error.to_string()))?;
        match (status.ruleset, fs::File::open("/proc/self/status")) {
            (RulesetStatus::FullyEnforced, Err(error)) if error.raw_os_error() == Some(libc::EACCES) => {
                Ok(format!("this kernel's level is {level}"))
            }
            _ => Err(other("a file that no rule allows can be read")),
        }
    })
}

/// Whether the kernel takes these rights on files, or scopes, into a set of rules.
pub(super) fn landlock_right(files: u64, scopes: u64) -> Found {
    apart(0, || match sys::landlock_rules(files, scopes) {
        Ok(_) => Ok(String::new()),
        Err(error) => Err(io::Error::other(format!("the kernel's Landlock (level {}) does not know it ({error})", sys::landlock_level()))),
    })
}

pub(super) fn written_bytes(_: &Path) -> Found {
    apart(0, || {
        let io = fs::read_to_string("/proc/self/io")?;
        if io.contains("write_bytes:") { Ok(String::new()) } else { Err(other("/proc/self/io has no `write_bytes`")) }
    })
}

pub(super) fn shared_memory(_: &Path) -> Found {
    apart(0, || {
        let rollup = fs::read_to_string("/proc/self/smaps_rollup")?;
        if rollup.contains("Pss_Anon:") { Ok(String::new()) } else { Err(other("/proc/self/smaps_rollup has no `Pss_Anon`")) }
    })
}

/// Makes a group of its own below that of this process, looks for the controllers of memory and processes in it, and takes it away again.
pub(super) fn cgroup_delegation(_: &Path) -> Found {
    apart(0, || {
        let mounts = fs::read_to_string("/proc/self/mountinfo")?;
        let tree = mounts.lines().find_map(|line| {
            let (place, kind) = line.split_once(" - ")?;
            kind.starts_with("cgroup2 ").then(|| place.split(' ').nth(4)).flatten()
        });
        let tree = PathBuf::from(tree.ok_or_else(|| other("no cgroup v2 file system is mounted"))?);
        let groups = fs::read_to_string("/proc/self/cgroup")?;
        let own = groups.lines().find_map(|line| line.strip_prefix("0::/")).ok_or_else(|| other("this process is in no cgroup v2"))?;
        let group = tree.join(own).join(format!("aedile-{}", rustix::process::getpid().as_raw_nonzero()));
        let at = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", group.display()));
        fs::create_dir(&group).map_err(at)?;
        let limits = ["memory.max", "pids.max"];
        let open = |name: &&str| fs::OpenOptions::new().write(true).open(group.join(name)).is_err();
        let missing: Vec<&str> = limits.into_iter().filter(open).collect();
        fs::remove_dir(&group).map_err(at)?;
        if missing.is_empty() { Ok(String::new()) } else { Err(other(&format!("groups here have no {}", missing.join(" and no ")))) }
    })
}
