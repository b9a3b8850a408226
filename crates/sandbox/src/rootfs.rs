//! The box's root directory: a small tmpfs with mounts on it, in place of the host's.

use crate::beneath::{make_dirs, mount_point, open_beneath, write_file};
use crate::fence::Fence;
use crate::idmap::INSIDE_ID;
use crate::limits;
use crate::locks;
use crate::sources::Sources;
use crate::sys::{self, attr};
use crate::wire::{Failure, Plan, Step};
use aedile_core::sandbox::HOME_INSIDE;
use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

const EMPTY_FILE: &str = "aedile/empty";
const EMPTY_DIRECTORY: &str = "aedile/nothing";
/// Files and directories of `/proc` that no build or test needs.
const KERNEL_FILES: &[&str] = &[
    "acpi",
    "bus",
    "cmdline",
    "config.gz",
    "fs",
    "interrupts",
    "irq",
    "kallsyms",
    "kcore",
    "key-users",
    "keys",
    "kmsg",
    "modules",
    "sched_debug",
    "scsi",
    "sysrq-trigger",
    "timer_list",
];
/// Where the memory is of which the temporary directories are parts.
pub(crate) const TEMPORARY: &str = "/aedile/temporary";
const NO_DEVICES: MountAttrFlags = MountAttrFlags::MOUNT_ATTR_NOSUID.union(MountAttrFlags::MOUNT_ATTR_NODEV);

/// Builds the new root and makes it the root of this mount namespace. The working directory is `/` afterwards.
pub(crate) fn enter(plan: &Plan, sources: &Sources) -> Result<(), Failure> {
    rustix::mount::mount_change("/", MountPropagationFlags::REC | MountPropagationFlags::PRIVATE).step("keeping mounts private")?;
    let root = filesystem("tmpfs", &[("mode", "0755"), ("size", "16m")], NO_DEVICES).step("making the root")?;
    let proc = processes(plan).map_err(|error| Failure::Unsupported {
        missing: format!("a fresh /proc in a new namespace ({error}); if this is a container, let it see its /proc without masks"),
    })?;
    attach(&root, CWD, Path::new("/")).step("attaching the root")?;
    let root_fd = root.as_fd();
    etc(root_fd, sources)?;
    for (inside, target) in &sources.links {
        let relative = inside.strip_prefix("/").unwrap_or(inside);
        rustix::fs::symlinkat(target, root_fd, relative).step_at("making the link", inside)?;
    }
    place(root_fd, &proc, Path::new("/proc"))?;
    temporary(root_fd, plan)?;
    for source in &sources.mounts {
        let point = mount_point(root_fd, &source.inside, source.directory)?;
        attach_here(&source.mount, &point).step_at("mounting", &source.inside)?;
    }
    devices(root_fd)?;
    kernel_files(root_fd)?;
    mask(root_fd, sources)?;
    locks::mount(root_fd, &sources.locks)?;
    sys::mount_setattr(root_fd, false, attr::RDONLY | attr::NOSUID | attr::NODEV, None).step("making the root read-only")?;
    rustix::process::fchdir(root_fd).step("entering the root")?;
    rustix::process::pivot_root(".", ".").step("changing the root")?;
    rustix::mount::unmount(".", UnmountFlags::DETACH).step("leaving the host's root")?;
    rustix::process::chdir("/").step("entering the root")
}

/// A `/proc` of the box's own processes.
fn processes(plan: &Plan) -> rustix::io::Result<OwnedFd> {
    if plan.has(Fence::Processes) {
        return filesystem("proc", &[], NO_DEVICES | MountAttrFlags::MOUNT_ATTR_NOEXEC);
    }
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_RECURSIVE;
    rustix::mount::open_tree(CWD, "/proc", flags)
}

pub(crate) fn filesystem(kind: &str, options: &[(&str, &str)], attributes: MountAttrFlags) -> rustix::io::Result<OwnedFd> {
    let context = rustix::mount::fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
    for (key, value) in options {
        rustix::mount::fsconfig_set_string(&context, *key, *value)?;
    }
    rustix::mount::fsconfig_create(&context)?;
    rustix::mount::fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
}

fn attach(mount: &OwnedFd, base: BorrowedFd<'_>, path: &Path) -> rustix::io::Result<()> {
    rustix::mount::move_mount(mount, "", base, path, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
}

pub(crate) fn attach_here(mount: &OwnedFd, point: &OwnedFd) -> rustix::io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    rustix::mount::move_mount(mount, "", point, "", flags)
}

pub(crate) fn place(root: BorrowedFd<'_>, mount: &OwnedFd, inside: &Path) -> Result<(), Failure> {
    let point = mount_point(root, inside, true)?;
    attach_here(mount, &point).step_at("mounting", inside)
}

/// `/etc`: what programs look up, and nothing about the host's users.
fn etc(root: BorrowedFd<'_>, sources: &Sources) -> Result<(), Failure> {
    for directory in ["etc", EMPTY_DIRECTORY, "run", "var/tmp", "var/lib", "home", "root"] {
        make_dirs(root, Path::new(directory), None).step_at("making", Path::new(directory))?;
    }
    for (name, bytes) in &sources.etc {
        write_file(root, &format!("etc/{name}"), bytes)?;
    }
    let passwd = format!(
        "root:x:0:0:root:/root:/usr/sbin/nologin\nagent:x:{INSIDE_ID}:{INSIDE_ID}:agent:{HOME_INSIDE}:/bin/sh\nnobody:x:65534:65534:nobody:/:/usr/sbin/nologin\n"
    );
    write_file(root, "etc/passwd", passwd.as_bytes())?;
    write_file(root, "etc/group", format!("root:x:0:\nagent:x:{INSIDE_ID}:\nnogroup:x:65534:\n").as_bytes())?;
    write_file(root, "etc/hosts", b"127.0.0.1 localhost box\n::1 localhost\n")?;
    write_file(root, "etc/hostname", b"box\n")?;
    write_file(root, "etc/resolv.conf", b"")?;
    write_file(
        root,
        "etc/nsswitch.conf",
        b"passwd: files\ngroup: files\nshadow: files\nhosts: files dns\nservices: files\nprotocols: files\n",
    )?;
    write_file(root, EMPTY_FILE, b"")?;
    rustix::fs::symlinkat("/proc/mounts", root, "etc/mtab").step("making the link /etc/mtab")
}

/// `/tmp`, `/var/tmp`, `/dev/shm` and, when the box keeps none, `HOME`: parts of one piece of memory that goes with the box.
fn temporary(root: BorrowedFd<'_>, plan: &Plan) -> Result<(), Failure> {
    let (size, entries) = (plan.tmp_bytes.to_string(), limits::temporary_entries(plan.tmp_bytes).to_string());
    let holder = filesystem("tmpfs", &[("mode", "0755"), ("size", &size), ("nr_inodes", &entries)], NO_DEVICES);
    let holder = holder.step("making a temporary file system")?;
    place(root, &holder, Path::new(TEMPORARY))?;
    let own = plan.spec.home.is_none().then_some(("home", 0o755, HOME_INSIDE));
    for (name, mode, inside) in [("tmp", 0o1777, "/tmp"), ("shm", 0o1777, "/dev/shm"), ("var", 0o1777, "/var/tmp")].into_iter().chain(own) {
        let inside = Path::new(inside);
        let part = format!("{}/{name}", TEMPORARY.trim_start_matches('/'));
        rustix::fs::mkdirat(root, &part, Mode::from_raw_mode(mode)).step_at("making", inside)?;
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        let mount = rustix::mount::open_tree(root, &part, flags).step_at("making", inside)?;
        if name == "shm" {
            sys::mount_setattr(mount.as_fd(), false, attr::NOEXEC, None).step_at("making", inside)?;
        }
        place(root, &mount, inside)?;
    }
    sys::mount_setattr(holder.as_fd(), false, attr::RDONLY | attr::NOSUID | attr::NODEV, None).step("closing the temporary file system")
}

/// What `/dev` needs besides the devices themselves.
fn devices(root: BorrowedFd<'_>) -> Result<(), Failure> {
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    let pts = filesystem("devpts", &[("ptmxmode", "0666"), ("mode", "0620")], attributes).step("making terminals")?;
    place(root, &pts, Path::new("/dev/pts"))?;
    let links =
        [("pts/ptmx", "dev/ptmx"), ("/proc/self/fd", "dev/fd"), ("/proc/self/fd/0", "dev/stdin"), ("/proc/self/fd/1", "dev/stdout")];
    for (target, path) in links.into_iter().chain([("/proc/self/fd/2", "dev/stderr")]) {
        rustix::fs::symlinkat(target, root, path).step_at("making the link", Path::new(path))?;
    }
    Ok(())
}

/// Closes what of `/proc` tells about the kernel, its keys and other boxes, and its switches.
fn kernel_files(root: BorrowedFd<'_>) -> Result<(), Failure> {
    for name in KERNEL_FILES {
        let path = Path::new("/proc").join(name);
        if let Ok(point) = open_beneath(root, &Path::new("proc").join(name), OFlags::PATH) {
            cover(root, &point, &path)?;
        }
    }
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let switches = Path::new("/proc/sys");
    let mount = rustix::mount::open_tree(root, "proc/sys", flags).step_at("closing", switches)?;
    sys::mount_setattr(mount.as_fd(), false, attr::RDONLY | attr::NOSUID | attr::NODEV | attr::NOEXEC, None)
        .step_at("closing", switches)?;
    let point = open_beneath(root, Path::new("proc/sys"), OFlags::PATH).step_at("closing", switches)?;
    attach_here(&mount, &point).step_at("closing", switches)
}

/// Lays an empty file over what must not be seen: credential files of the tool directories, secrets and sockets of the tree.
fn mask(root: BorrowedFd<'_>, sources: &Sources) -> Result<(), Failure> {
    for path in &sources.masked {
        match open_beneath(root, path.strip_prefix("/").unwrap_or(path), OFlags::PATH) {
            Ok(point) => cover(root, &point, path)?,
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::ACCESS) => {}
            Err(error) => return Err(error).step_at("hiding", path),
        }
    }
    Ok(())
}

/// Lays an empty file or an empty directory over one place.
fn cover(root: BorrowedFd<'_>, point: &OwnedFd, path: &Path) -> Result<(), Failure> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let nothing = if crate::beneath::is_dir(point).unwrap_or(false) { EMPTY_DIRECTORY } else { EMPTY_FILE };
    let empty = rustix::mount::open_tree(root, nothing, flags).step_at("hiding", path)?;
    sys::mount_setattr(empty.as_fd(), false, attr::RDONLY | attr::NOSUID | attr::NODEV, None).step_at("hiding", path)?;
    attach_here(&empty, point).step_at("hiding", path)
}
