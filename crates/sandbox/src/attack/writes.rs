//! Writing where the box may not.

use super::inside::{EVIL, Here, call, n, plant, text};
use super::material::Looked;
use super::{Probe, Sign};
use crate::fence::Fence::{self, Landlock, Mounts, Namespaces, Seccomp};
use rustix::fs::{AtFlags, CWD, FallocateFlags, FlockOperation, Mode, OFlags, RenameFlags, Timestamps, XattrFlags};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::Path;

const BOTH: &[Fence] = &[Mounts, Landlock];

const fn outside(id: &'static str, fences: &'static [Fence], act: fn(&Here) -> io::Result<()>) -> Probe {
    Probe { id, class: "write", fences, act, sign: Sign::Outside }
}

const fn repository(id: &'static str, fences: &'static [Fence], act: fn(&Here) -> io::Result<()>) -> Probe {
    Probe { id, class: "write", fences, act, sign: Sign::Repository }
}

const fn set_id(id: &'static str, act: fn(&Here) -> io::Result<()>) -> Probe {
    Probe { id, class: "write", fences: &[Seccomp], act, sign: Sign::Looks(has_set_id) }
}

fn has_set_id(looked: &Looked) -> bool {
    let entries = fs::read_dir(looked.tree).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.metadata().ok()).any(|meta| meta.is_file() && meta.mode() & 0o6000 != 0)
}

fn victim_file(here: &Here) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).open(here.outside("victim.txt"))
}

fn mode(path: &Path, mode: u32) -> io::Result<()> {
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

fn directory(path: &Path) -> io::Result<std::os::fd::OwnedFd> {
    Ok(rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
}

fn write_at(base: impl AsFd, path: &str) -> io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::CLOEXEC;
    File::from(rustix::fs::openat(base, path, flags, Mode::from_raw_mode(0o644))?).write_all(EVIL.as_bytes())
}

pub(super) const PROBES: &[Probe] = &[
    outside("write-absolute", BOTH, |here| plant(here.outside("victim.txt"))),
    outside("write-relative", BOTH, |_| plant("../outside/victim.txt")),
    outside("write-dotdot-inside-path", BOTH, |here| plant(here.tree("sub/../../outside/victim.txt"))),
    outside("write-append", BOTH, |here| OpenOptions::new().append(true).open(here.outside("victim.txt"))?.write_all(b"evil")),
    outside("write-through-link", BOTH, |here| plant(here.tree("link-file"))),
    outside("write-through-link-of-ours", BOTH, |here| {
        symlink(here.outside("victim.txt"), here.tree("mine"))?;
        plant(here.tree("mine"))
    }),
    outside("write-through-dangling-link", BOTH, |here| plant(here.tree("link-new"))),
    outside("write-through-directory-link", BOTH, |here| plant(here.tree("link-dir/victim.txt"))),
    outside("write-chain-of-links", BOTH, |here| {
        symlink("link-dir", here.tree("second"))?;
        plant(here.tree("second/fresh"))
    }),
    outside("write-proc-self-cwd", BOTH, |_| plant("/proc/self/cwd/../outside/victim.txt")),
    outside("write-proc-self-root", BOTH, |here| {
        plant(Path::new("/proc/self/root").join(here.outside("victim.txt").strip_prefix("/").unwrap_or(Path::new(""))))
    }),
    outside("write-proc-self-fd", BOTH, |here| {
        let tree = directory(&here.tree)?;
        plant(format!("/proc/self/fd/{}/../outside/victim.txt", std::os::fd::AsRawFd::as_raw_fd(&tree)))
    }),
    outside("write-proc-victim-cwd", &[Namespaces, Landlock], |here| plant(format!("/proc/{}/cwd/victim.txt", here.victim))),
    outside("write-proc-victim-root", &[Namespaces, Landlock], |here| {
        plant(format!("/proc/{}/root{}", here.victim, here.outside("victim.txt").display()))
    }),
    outside("write-dirfd-dotdot", BOTH, |here| write_at(directory(&here.tree)?, "../outside/fresh")),
    outside("create-file", BOTH, |here| plant(here.outside("fresh"))),
    outside("create-by-creat", BOTH, |here| {
        let path = text(here.outside("fresh"));
        #[cfg(target_arch = "x86_64")]
        return call(libc::SYS_creat, &[path.as_ptr().addr(), 0o644]).map(drop);
        #[cfg(not(target_arch = "x86_64"))]
        call(libc::SYS_openat, &[n(libc::AT_FDCWD), path.as_ptr().addr(), n(libc::O_CREAT | libc::O_WRONLY | libc::O_TRUNC), 0o644])
            .map(drop)
    }),
    outside("create-directory", BOTH, |here| fs::create_dir(here.outside("fresh"))),
    outside("create-link", BOTH, |here| symlink("/etc/passwd", here.outside("fresh"))),
    outside("create-fifo", BOTH, |here| {
        let path = text(here.outside("fresh"));
        call(libc::SYS_mknodat, &[n(libc::AT_FDCWD), path.as_ptr().addr(), 0o010_644, 0]).map(drop)
    }),
    outside("create-socket", BOTH, |here| std::os::unix::net::UnixListener::bind(here.outside("fresh")).map(drop)),
    outside("truncate-path", BOTH, |here| {
        let path = text(here.outside("victim.txt"));
        call(libc::SYS_truncate, &[path.as_ptr().addr(), 0]).map(drop)
    }),
    outside("truncate-open", BOTH, |here| OpenOptions::new().write(true).truncate(true).open(here.outside("victim.txt")).map(drop)),
    outside("truncate-descriptor", BOTH, |here| victim_file(here)?.set_len(0)),
    outside("write-through-mapping", BOTH, |here| {
        let file = victim_file(here)?;
        let fd = n(std::os::fd::AsRawFd::as_raw_fd(&file));
        let at = call(libc::SYS_mmap, &[0, 4096, n(libc::PROT_READ | libc::PROT_WRITE), n(libc::MAP_SHARED), fd, 0])?;
        // The kernel writes into the mapping: what is read from the tree's own file lands there.
        let from = File::open(here.tree("file.txt"))?;
        call(libc::SYS_read, &[n(std::os::fd::AsRawFd::as_raw_fd(&from)), at, 4]).map(drop)
    }),
    outside("write-by-copy-file-range", BOTH, |here| {
        let (from, to) = (File::open(here.tree("file.txt"))?, victim_file(here)?);
        Ok(rustix::fs::copy_file_range(&from, None, &to, None, 4).map(drop)?)
    }),
    outside("write-by-sendfile", BOTH, |here| {
        let (from, to) = (File::open(here.tree("file.txt"))?, victim_file(here)?);
        Ok(rustix::fs::sendfile(&to, &from, None, 4).map(drop)?)
    }),
    outside("write-by-fallocate", BOTH, |here| {
        Ok(rustix::fs::fallocate(victim_file(here)?, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, 0, 4)?)
    }),
    outside("rename-out", BOTH, |here| fs::rename(here.tree("file.txt"), here.outside("fresh"))),
    outside("rename-in", BOTH, |here| fs::rename(here.outside("victim.txt"), here.tree("taken"))),
    outside("rename-over", BOTH, |here| fs::rename(here.tree("file.txt"), here.outside("victim.txt"))),
    outside("rename-exchange", BOTH, |here| {
        let (ours, theirs) = (here.tree("file.txt"), here.outside("victim.txt"));
        Ok(rustix::fs::renameat_with(CWD, ours, CWD, theirs, RenameFlags::EXCHANGE)?)
    }),
    outside("rename-directory-out", BOTH, |here| fs::rename(here.tree("sub"), here.outside("fresh"))),
    outside("hard-link-in", BOTH, |here| {
        fs::hard_link(here.outside("victim.txt"), here.tree("mine"))?;
        plant(here.tree("mine"))
    }),
    outside("hard-link-out", BOTH, |here| fs::hard_link(here.tree("file.txt"), here.outside("fresh"))),
    outside("temporary-file-linked-out", BOTH, |here| {
        let file = rustix::fs::open(&here.tree, OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC, Mode::from_raw_mode(0o644))?;
        let from = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file));
        Ok(rustix::fs::linkat(CWD, from, CWD, here.outside("fresh"), AtFlags::SYMLINK_FOLLOW)?)
    }),
    outside("remove-file", BOTH, |here| fs::remove_file(here.outside("victim.txt"))),
    outside("remove-directory", BOTH, |here| fs::remove_dir(here.outside("empty"))),
    outside("change-mode", &[Mounts], |here| mode(&here.outside("victim.txt"), 0o600)),
    outside("change-mode-of-directory", &[Mounts], |here| mode(&here.outside("empty"), 0o700)),
    outside("change-times", &[Mounts], |here| {
        let early = rustix::fs::Timespec { tv_sec: 1, tv_nsec: 0 };
        let times = Timestamps { last_access: early, last_modification: early };
        Ok(rustix::fs::utimensat(CWD, here.outside("victim.txt"), &times, AtFlags::empty())?)
    }),
    outside("change-attribute", &[Mounts], |here| {
        Ok(rustix::fs::setxattr(here.outside("victim.txt"), "user.attack", b"evil", XattrFlags::empty())?)
    }),
    outside("change-owner-to-same", &[Mounts], |here| {
        let meta = fs::metadata(here.outside("victim.txt"))?;
        std::os::unix::fs::chown(here.outside("victim.txt"), Some(meta.uid()), Some(meta.gid()))
    }),
    outside("write-shown-file", BOTH, |here| plant(here.shown.join("file.txt"))),
    outside("create-beside-shown-file", BOTH, |here| plant(here.shown.join("fresh"))),
    outside("remove-shown-file", BOTH, |here| fs::remove_file(here.shown.join("file.txt"))),
    outside("rename-shown-file", BOTH, |here| fs::rename(here.shown.join("file.txt"), here.shown.join("other"))),
    outside("link-shown-file", BOTH, |here| {
        fs::hard_link(here.shown.join("file.txt"), here.tree("mine"))?;
        plant(here.tree("mine"))
    }),
    outside("change-mode-of-shown-file", &[Mounts], |here| mode(&here.shown.join("file.txt"), 0o600)),
    Probe {
        id: "lock-outside",
        class: "write",
        fences: BOTH,
        act: |here| {
            let file = File::open(here.outside("victim.txt"))?;
            rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive)?;
            std::mem::forget(file);
            Ok(())
        },
        sign: Sign::Looks(|looked| {
            File::open(looked.outside.join("victim.txt"))
                .is_ok_and(|file| rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_err())
        }),
    },
    set_id("set-user-id", |here| mode(&here.tree("file.txt"), 0o4755)),
    set_id("set-group-id", |here| mode(&here.tree("file.txt"), 0o2755)),
    set_id("set-id-by-descriptor", |here| File::open(here.tree("file.txt"))?.set_permissions(fs::Permissions::from_mode(0o6755))),
    set_id("set-id-at-open", |here| OpenOptions::new().write(true).create_new(true).mode(0o4755).open(here.tree("mine")).map(drop)),
    set_id("set-id-by-mknod", |here| {
        let path = text(here.tree("mine"));
        call(libc::SYS_mknodat, &[n(libc::AT_FDCWD), path.as_ptr().addr(), 0o104_755, 0]).map(drop)
    }),
    set_id("set-id-by-fchmodat2", |here| {
        let path = text(here.tree("file.txt"));
        call(452, &[n(libc::AT_FDCWD), path.as_ptr().addr(), 0o4755, 0]).map(drop)
    }),
    repository("repository-new-file", BOTH, |here| {
        let fresh = here.repository.join(EVIL);
        plant(&fresh)?;
        fs::remove_file(fresh)
    }),
    repository("repository-new-hook", BOTH, |here| {
        let hook = here.repository.join(".git/hooks").join(EVIL);
        plant(&hook)?;
        fs::remove_file(hook)
    }),
    repository("repository-mode-of-configuration", &[Mounts], |here| {
        let config = here.repository.join(".git/config");
        let permissions = fs::metadata(&config)?.permissions();
        fs::set_permissions(config, permissions)
    }),
];
