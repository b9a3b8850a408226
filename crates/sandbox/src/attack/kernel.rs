//! Ways into the kernel that a box does not have.

use super::inside::{Here, call, fork, n, text};
use super::material::{Looked, acted_well};
use super::{Probe, Sign};
use crate::fence::Fence::Seccomp;
use std::io;

/// The kind of namespace.
const USER: &str = "user";

const fn probe(id: &'static str, act: fn(&Here) -> io::Result<()>, sign: fn(&Looked) -> bool) -> Probe {
    Probe { id, class: "kernel", fences: &[Seccomp], act, sign: Sign::Looks(sign) }
}

fn flags(flags: &[i32]) -> usize {
    flags.iter().fold(0, |all, flag| all | n(*flag))
}

/// A child in new namespaces by `clone`, which stays as long as we do.
fn child_with(flags: usize) -> io::Result<()> {
    let pid = call(libc::SYS_clone, &[flags | n(libc::SIGCHLD)])?;
    if pid == 0 {
        let _ = io::Read::read_to_end(&mut io::stdin(), &mut Vec::new());
        crate::sys::leave(0);
    }
    Ok(())
}

/// Executes a copy of a small program that lies in memory only; it waits there for the end of its stdin.
fn execute_memory(flags: usize) -> io::Result<()> {
    let name = text("attack");
    let fd = call(libc::SYS_memfd_create, &[name.as_ptr().addr(), flags])?;
    let mut program = std::fs::File::open("/bin/cat")?;
    let path = format!("/proc/self/fd/{fd}");
    io::copy(&mut program, &mut std::fs::OpenOptions::new().write(true).open(&path)?)?;
    if fork()? == 0 {
        let (path, own_name) = (text(&path), text("cat"));
        let (none, arguments) = ([0_usize], [own_name.as_ptr().addr(), 0]);
        let _ = call(libc::SYS_execve, &[path.as_ptr().addr(), arguments.as_ptr().addr(), none.as_ptr().addr()]);
        crate::sys::leave(9);
    }
    // Long enough for the exec, which the host looks at.
    std::thread::sleep(std::time::Duration::from_millis(100));
    Ok(())
}

#[cfg(target_arch = "x86_64")]
#[expect(unsafe_code, reason = "the entry of another architecture is an instruction")]
fn foreign_call() -> io::Result<()> {
    let answer: u64;
    // SAFETY: getpid of the 32-bit table touches no memory; rbx is saved because the compiler keeps it.
    unsafe {
        std::arch::asm!("push rbx", "int 0x80", "pop rbx", inout("rax") 20_u64 => answer, out("r8") _, out("r9") _, out("r10") _, out("r11") _);
    }
    let pid = u64::from(std::process::id());
    if answer == pid { Ok(()) } else { Err(io::Error::from_raw_os_error(libc::ENOSYS)) }
}

#[cfg(not(target_arch = "x86_64"))]
fn foreign_call() -> io::Result<()> {
    Err(io::Error::from_raw_os_error(libc::ENOSYS))
}

pub(super) const PROBES: &[Probe] = &[
    probe(
        "io-uring",
        |_| {
            let parameters = [0_u8; 256];
            call(libc::SYS_io_uring_setup, &[4, parameters.as_ptr().addr()]).map(drop)
        },
        |looked| looked.holds("anon_inode:[io_uring]"),
    ),
    probe(
        "userfaultfd",
        |_| call(libc::SYS_userfaultfd, &[n(libc::O_CLOEXEC) | 1]).map(drop),
        |looked| looked.holds("anon_inode:[userfaultfd]"),
    ),
    probe(
        "perf-event",
        |_| {
            let mut attributes = [0_u8; 128];
            attributes[0] = 1;
            attributes[4] = 112;
            attributes[8] = 1;
            // Of user space only.
            attributes[40] = 0b110_0000;
            call(libc::SYS_perf_event_open, &[attributes.as_ptr().addr(), 0, n(-1), n(-1), 0]).map(drop)
        },
        |looked| looked.holds("anon_inode:[perf_event]"),
    ),
    probe(
        "fanotify",
        |_| call(libc::SYS_fanotify_init, &[0x200, n(libc::O_RDONLY)]).map(drop),
        |looked| looked.holds("anon_inode:[fanotify]"),
    ),
    probe("secret-memory", |_| call(libc::SYS_memfd_secret, &[0]).map(drop), |looked| looked.holds("secretmem")),
    probe("namespace-by-unshare", |_| call(libc::SYS_unshare, &[n(libc::CLONE_NEWUSER)]).map(drop), |looked| looked.left_namespace(USER)),
    probe(
        "mount-namespace-by-unshare",
        |_| call(libc::SYS_unshare, &[flags(&[libc::CLONE_NEWUSER, libc::CLONE_NEWNS])]).map(drop),
        |looked| looked.left_namespace("mnt"),
    ),
    probe(
        "network-namespace-by-unshare",
        |_| call(libc::SYS_unshare, &[flags(&[libc::CLONE_NEWUSER, libc::CLONE_NEWNET])]).map(drop),
        |looked| looked.left_namespace("net"),
    ),
    probe("namespace-by-clone", |_| child_with(n(libc::CLONE_NEWUSER)), |looked| looked.left_namespace(USER)),
    probe(
        "pid-namespace-by-clone",
        |_| child_with(flags(&[libc::CLONE_NEWUSER, libc::CLONE_NEWPID])),
        |looked| looked.left_namespace("pid"),
    ),
    probe(
        "namespace-by-clone3",
        |_| {
            let mut arguments = [0_u64; 11];
            arguments[0] = flags(&[libc::CLONE_NEWUSER]) as u64;
            arguments[4] = u64::from(libc::SIGCHLD.unsigned_abs());
            if call(libc::SYS_clone3, &[arguments.as_ptr().addr(), 88])? == 0 {
                let _ = io::Read::read_to_end(&mut io::stdin(), &mut Vec::new());
                crate::sys::leave(0);
            }
            Ok(())
        },
        |looked| looked.left_namespace(USER),
    ),
    probe(
        "mount-in-namespace",
        |here| {
            call(libc::SYS_unshare, &[flags(&[libc::CLONE_NEWUSER, libc::CLONE_NEWNS])])?;
            let (kind, at) = (text("tmpfs"), text(&here.tree));
            call(libc::SYS_mount, &[kind.as_ptr().addr(), at.as_ptr().addr(), kind.as_ptr().addr(), 0, 0]).map(drop)
        },
        |looked| looked.left_namespace("mnt"),
    ),
    probe("personality", |_| call(libc::SYS_personality, &[0x0040_0000]).map(drop), |looked| looked.personality() & 0x0040_0000 != 0),
    probe("foreign-architecture", |_| foreign_call(), acted_well),
    probe("execute-memory-file", |_| execute_memory(0), |looked| looked.runs("/memfd:")),
    probe("execute-memory-file-asked-for", |_| execute_memory(0x10), |looked| looked.runs("/memfd:")),
];
