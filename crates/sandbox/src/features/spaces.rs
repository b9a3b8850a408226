//! Namespaces and mounts, each tried in a process that is alone in new ones.

use super::Found;
use crate::idmap::{INSIDE_ID, IdMaps, write_maps};
use crate::native::BOX_HOST_ID;
use crate::rootfs::filesystem;
use crate::sys::{self, attr};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags};
use rustix::process::{Pid, WaitId, WaitIdOptions, WaitIdStatus};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

/// Runs `act` in a process of its own, in namespaces of these kinds, and hears what it found.
pub(super) fn apart(namespaces: libc::c_int, act: impl FnOnce() -> io::Result<String>) -> Found {
    heard(namespaces, act).unwrap_or_else(|error| Err(error.to_string()))
}

fn heard(namespaces: libc::c_int, act: impl FnOnce() -> io::Result<String>) -> io::Result<Found> {
    let pipe = || rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC);
    let ((go, ready), (answer, say)) = (pipe()?, pipe()?);
    let Some(pid) = sys::clone_process(namespaces)? else {
        drop((ready, answer));
        let found = match sys::wait_byte(&go) {
            Ok(true) => enter(namespaces).and_then(|()| act()).map_err(|error| error.to_string()),
            _ => Err("the process that tries was left alone".to_owned()),
        };
        let bytes = serde_json::to_vec(&found).unwrap_or_default();
        let _ = rustix::io::write(&say, &bytes);
        sys::leave(0);
    };
    drop((go, say));
    let mapped = if namespaces & libc::CLONE_NEWUSER == 0 { Ok(()) } else { map(pid) };
    if mapped.is_ok() {
        let _ = rustix::io::write(&ready, b"G");
    }
    drop(ready);
    let mut bytes = Vec::new();
    File::from(answer).read_to_end(&mut bytes)?;
    let ended = rustix::io::retry_on_intr(|| rustix::process::waitid(WaitId::Pid(pid), WaitIdOptions::EXITED))?;
    mapped.map_err(|error| io::Error::new(error.kind(), format!("its user cannot be mapped: {error}")))?;
    let signal = ended.as_ref().and_then(WaitIdStatus::terminating_signal);
    Ok(signal.map_or_else(
        || serde_json::from_slice(&bytes).unwrap_or_else(|_| Err("the process that tries gave no answer".to_owned())),
        |signal| Err(format!("the process that tries was ended by signal {signal}")),
    ))
}

fn map(pid: Pid) -> io::Result<()> {
    let root = rustix::process::geteuid().is_root();
    let own = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    write_maps(pid, (INSIDE_ID, INSIDE_ID), if root { (BOX_HOST_ID, BOX_HOST_ID) } else { own }, !root)
}

/// Becomes the box's user, with every right in its namespaces.
fn enter(namespaces: libc::c_int) -> io::Result<()> {
    if namespaces & libc::CLONE_NEWUSER != 0 {
        let (uid, gid) = (rustix::process::Uid::from_raw(INSIDE_ID), rustix::process::Gid::from_raw(INSIDE_ID));
        rustix::thread::set_thread_res_gid(gid, gid, gid)?;
        rustix::thread::set_thread_res_uid(uid, uid, uid)?;
    }
    Ok(())
}

/// Tries `act` in new namespaces of a kind, of which this process must not be one already.
fn space(kind: &str, namespace: libc::c_int, act: impl FnOnce() -> io::Result<()>) -> Found {
    let link = || std::fs::read_link(format!("/proc/self/ns/{kind}"));
    let here = link().map_err(|error| error.to_string())?;
    apart(libc::CLONE_NEWUSER | namespace, || {
        if link()? == here {
            return Err(io::Error::other("the kernel gave none of its own"));
        }
        act().map(|()| String::new())
    })
}

pub(super) fn user(_: &Path) -> Found {
    // An act for which a right in the new one is enough, and needed.
    space("user", 0, || Ok(rustix::process::chroot("/")?))
}

pub(super) fn mounts(_: &Path) -> Found {
    space("mnt", libc::CLONE_NEWNS, private)
}

pub(super) fn processes(_: &Path) -> Found {
    space("pid", libc::CLONE_NEWPID, || match rustix::process::getpid().as_raw_nonzero().get() {
        1 => Ok(()),
        other => Err(io::Error::other(format!("its first process has the number {other}"))),
    })
}

pub(super) fn network(_: &Path) -> Found {
    space("net", libc::CLONE_NEWNET, sys::loopback_up)
}

pub(super) fn ipc(_: &Path) -> Found {
    space("ipc", libc::CLONE_NEWIPC, || Ok(()))
}

pub(super) fn names(_: &Path) -> Found {
    space("uts", libc::CLONE_NEWUTS, || Ok(rustix::system::sethostname(b"box")?))
}

pub(super) fn cgroups(_: &Path) -> Found {
    space("cgroup", libc::CLONE_NEWCGROUP, || Ok(()))
}

const MOUNTING: libc::c_int = libc::CLONE_NEWUSER | libc::CLONE_NEWNS;

fn private() -> io::Result<()> {
    Ok(rustix::mount::mount_change("/", MountPropagationFlags::REC | MountPropagationFlags::PRIVATE)?)
}

/// A small file system in memory that lies over `/`, as a descriptor.
fn memory() -> io::Result<OwnedFd> {
    private()?;
    let root = filesystem("tmpfs", &[("mode", "0755"), ("size", "1m")], MountAttrFlags::MOUNT_ATTR_NOSUID)?;
    rustix::mount::move_mount(&root, "", CWD, "/", MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
    Ok(root)
}

pub(super) fn by_descriptor(_: &Path) -> Found {
    apart(MOUNTING, || {
        let root = memory()?;
        rustix::fs::mkdirat(&root, "part", Mode::RWXU)?;
        let part = rustix::mount::open_tree(&root, "part", OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC)?;
        rustix::fs::mkdirat(&part, "inner", Mode::RWXU)?;
        rustix::fs::statat(&root, "part/inner", rustix::fs::AtFlags::empty())?;
        Ok(String::new())
    })
}

pub(super) fn attributes(_: &Path) -> Found {
    apart(MOUNTING, || {
        let root = memory()?;
        rustix::fs::mkdirat(&root, "before", Mode::RWXU)?;
        sys::mount_setattr(root.as_fd(), true, attr::RDONLY, None)?;
        match rustix::fs::mkdirat(&root, "after", Mode::RWXU) {
            Err(Errno::ROFS) => Ok(String::new()),
            _ => Err(io::Error::other("a mount that was made read-only can be written")),
        }
    })
}

pub(super) fn proc(_: &Path) -> Found {
    apart(MOUNTING | libc::CLONE_NEWPID, || {
        private()?;
        let proc = filesystem("proc", &[], MountAttrFlags::MOUNT_ATTR_NOSUID)?;
        let own = rustix::fs::readlinkat(&proc, "self", Vec::new())?;
        if own.to_bytes() == b"1" { Ok(String::new()) } else { Err(io::Error::other("it shows other processes")) }
    })
}

/// Where root's boxes put things.
pub(super) fn id_mapped(dir: &Path) -> Found {
    apart(0, || {
        let place = dir.ancestors().find(|place| place.is_dir()).unwrap_or(Path::new("/"));
        let mount = rustix::mount::open_tree(CWD, place, OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC)?;
        if IdMaps::new(BOX_HOST_ID).apply(mount.as_fd(), false)? {
            return Ok(format!("tried at {}", place.display()));
        }
        let kind = crate::give::file_system(place);
        Err(io::Error::other(format!("the file system of {} ({kind}) has none", place.display())))
    })
}

pub(super) fn overlay(_: &Path) -> Found {
    apart(MOUNTING, || {
        let root = memory()?;
        for name in ["lower", "upper", "work"] {
            rustix::fs::mkdirat(&root, name, Mode::RWXU)?;
        }
        let context = rustix::mount::fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
        for (key, name) in [("lowerdir", "lower"), ("upperdir", "upper"), ("workdir", "work")] {
            rustix::mount::fsconfig_set_string(&context, key, format!("/proc/self/fd/{}/{name}", root.as_raw_fd()))?;
        }
        rustix::mount::fsconfig_set_flag(&context, "userxattr")?;
        rustix::mount::fsconfig_create(&context)?;
        let both = rustix::mount::fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())?;
        let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::CLOEXEC;
        rustix::fs::openat(&both, "new", flags, Mode::RUSR)?;
        rustix::fs::statat(&root, "upper/new", rustix::fs::AtFlags::empty())?;
        Ok(String::new())
    })
}
