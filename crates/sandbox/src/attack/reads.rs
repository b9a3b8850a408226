//! Reading what the box may not see.

use super::inside::{Here, call, n, say, tell, text};
use super::{Probe, Sign};
use crate::fence::Fence::{self, Landlock, Masks, Mounts, Names, Namespaces, Seccomp};
use rustix::fs::{FlockOperation, Mode, OFlags};
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, symlink};

const BOTH: &[Fence] = &[Mounts, Landlock];
/// What keeps one process from looking into another.
const OTHERS: &[Fence] = &[Namespaces, Landlock];
/// Bytes of the secret that are taken from the victim's memory.
const SECRET_BYTES: usize = 36;

const fn canary(id: &'static str, class: &'static str, fences: &'static [Fence], act: fn(&Here) -> io::Result<()>) -> Probe {
    Probe { id, class, fences, act, sign: Sign::Canary }
}

/// Takes a descriptor that the kernel gave.
#[expect(unsafe_code, reason = "the kernel's answer is a new descriptor")]
fn given(fd: usize) -> OwnedFd {
    // SAFETY: the system call that returned it gave it to nobody else.
    unsafe { OwnedFd::from_raw_fd(i32::try_from(fd).unwrap_or(-1)) }
}

pub(super) const PROBES: &[Probe] = &[
    canary("read-absolute", "read", BOTH, |here| tell(here.outside("secret.txt"))),
    canary("read-relative", "read", BOTH, |_| tell("../outside/secret.txt")),
    canary("read-through-link", "read", BOTH, |here| {
        symlink(here.outside("secret.txt"), here.tree("mine"))?;
        tell(here.tree("mine"))
    }),
    canary("read-through-directory-link", "read", BOTH, |here| tell(here.tree("link-dir/secret.txt"))),
    canary("read-proc-self-root", "read", BOTH, |here| tell(format!("/proc/self/root{}", here.outside("secret.txt").display()))),
    canary("read-proc-self-cwd", "read", BOTH, |_| tell("/proc/self/cwd/../outside/secret.txt")),
    canary("read-proc-victim-cwd", "read", OTHERS, |here| tell(format!("/proc/{}/cwd/secret.txt", here.victim))),
    canary("read-proc-victim-root", "read", OTHERS, |here| {
        tell(format!("/proc/{}/root{}", here.victim, here.outside("secret.txt").display()))
    }),
    canary("read-mapped", "read", BOTH, |here| {
        let file = File::open(here.outside("secret.txt"))?;
        let at = call(libc::SYS_mmap, &[0, 4096, n(libc::PROT_READ), n(libc::MAP_PRIVATE), n(file.as_raw_fd()), 0])?;
        call(libc::SYS_write, &[1, at, SECRET_BYTES]).map(drop)
    }),
    canary("read-hard-link", "read", BOTH, |here| {
        fs::hard_link(here.outside("secret.txt"), here.tree("mine"))?;
        tell(here.tree("mine"))
    }),
    canary("read-renamed", "read", BOTH, |here| {
        fs::rename(here.outside("secret.txt"), here.tree("mine"))?;
        tell(here.tree("mine"))
    }),
    canary("read-by-handle-of-directory", "read", BOTH, |here| {
        let base = rustix::fs::open(&here.outside, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
        let file = rustix::fs::openat(&base, "secret.txt", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
        let mut bytes = Vec::new();
        File::from(file).read_to_end(&mut bytes)?;
        say(&bytes);
        Ok(())
    }),
    canary("read-locked-descriptor-reopened", "read", BOTH, |here| {
        let opened = rustix::fs::open(here.outside("secret.txt"), OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
        let again = File::open(format!("/proc/self/fd/{}", opened.as_raw_fd()))?;
        rustix::fs::flock(&again, FlockOperation::NonBlockingLockShared)?;
        let mut bytes = vec![0; SECRET_BYTES];
        again.read_at(&mut bytes, 0)?;
        say(&bytes);
        Ok(())
    }),
    canary("list-directory", "read", &[Mounts], |here| {
        for entry in fs::read_dir(here.outside("names"))? {
            say(entry?.file_name().as_bytes());
        }
        Ok(())
    }),
    canary("read-link-target", "read", &[Mounts], |here| {
        say(fs::read_link(here.outside("pointer"))?.as_os_str().as_bytes());
        Ok(())
    }),
    canary("read-attribute", "read", &[Mounts], |here| {
        let mut value = vec![0_u8; 256];
        let length = rustix::fs::getxattr(here.outside("victim.txt"), "user.secret", &mut value)?;
        say(&value[..length]);
        Ok(())
    }),
    canary("read-environment-of-victim", "information", OTHERS, |here| tell(format!("/proc/{}/environ", here.victim))),
    canary("read-command-line-of-victim", "information", &[Mounts], |here| tell(format!("/proc/{}/cmdline", here.victim))),
    canary("read-memory-of-victim", "read", OTHERS, |here| {
        let mut bytes = vec![0; SECRET_BYTES];
        File::open(format!("/proc/{}/mem", here.victim))?.read_exact_at(&mut bytes, here.victim_at as u64)?;
        say(&bytes);
        Ok(())
    }),
    canary("read-by-process-vm-readv", "read", &[Namespaces, Landlock, Seccomp], |here| {
        let mut bytes = vec![0_u8; SECRET_BYTES];
        let (ours, theirs) = ([bytes.as_mut_ptr().addr(), SECRET_BYTES], [here.victim_at, SECRET_BYTES]);
        call(libc::SYS_process_vm_readv, &[n(here.victim), ours.as_ptr().addr(), 1, theirs.as_ptr().addr(), 1, 0])?;
        say(std::hint::black_box(&bytes));
        Ok(())
    }),
    canary("take-descriptor-of-victim", "read", &[Namespaces, Landlock, Seccomp], |here| {
        let pidfd = call(libc::SYS_pidfd_open, &[n(here.victim), 0])?;
        // The victim's fourth descriptor is the secret.
        let taken = given(call(libc::SYS_pidfd_getfd, &[pidfd, 3, 0])?);
        let mut bytes = vec![0; SECRET_BYTES];
        File::from(taken).read_at(&mut bytes, 0)?;
        say(&bytes);
        Ok(())
    }),
    canary("read-users-of-host", "information", BOTH, |_| tell("/etc/passwd").and_then(|()| tell("/etc/machine-id").or(Ok(())))),
    canary("read-kernel-command-line", "information", &[Mounts], |_| tell("/proc/cmdline")),
    canary("read-host-name", "information", &[Names], |_| {
        say(&[b"host=", rustix::system::uname().nodename().to_bytes(), b"\n"].concat());
        Ok(())
    }),
    canary("read-env-file", "secrets", &[Masks], |here| tell(here.tree(".env"))),
    canary("read-nested-env-file", "secrets", &[Masks], |here| tell(here.tree("sub/.env.local"))),
    canary("read-private-key", "secrets", &[Masks], |here| tell(here.tree("sub/server.pem"))),
    canary("read-key-store", "secrets", &[Masks], |here| tell(here.tree("sub/store.p12"))),
    canary("read-env-file-after-rename", "secrets", &[Masks], |here| {
        fs::rename(here.tree("sub"), here.tree("moved"))?;
        tell(here.tree("moved/.env.local"))
    }),
    canary("read-env-file-by-descriptor", "secrets", &[Masks], |here| {
        let path = text(here.tree(".env"));
        let opened = given(call(libc::SYS_openat, &[n(libc::AT_FDCWD), path.as_ptr().addr(), n(libc::O_PATH), 0])?);
        tell(format!("/proc/self/fd/{}", opened.as_raw_fd()))
    }),
    canary("read-env-file-proc-root", "secrets", &[Masks], |here| tell(format!("/proc/self/root{}", here.tree(".env").display()))),
];
