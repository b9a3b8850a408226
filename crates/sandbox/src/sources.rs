//! Everything that a box sees of the host, as detached mounts. Made by the launcher while it may still open it all:
//! on the host when root, in the box's own mount namespace otherwise.

use crate::beneath::{is_dir, make_dirs, open_beneath, open_host};
use crate::idmap::IdMaps;
use crate::locks::{self, LockFile};
use crate::scope_plan::{self, WritePlan};
use crate::sys::{self, attr};
use crate::wire::{Failure, Plan, Step};
use aedile_core::sandbox::{HOME_INSIDE, WriteScope};
use aedile_core::scope::Scope;
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::mount::OpenTreeFlags;
use std::ffi::OsStr;
use std::fs;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Directories of the system that every box sees read-only, or as the link that they are.
pub(crate) const SYSTEM: &[&str] = &["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/nix/store", "/gnu/store"];
/// Directories of `/etc` that programs need and that hold nothing secret.
const ETC_DIRS: &[&str] = &["alternatives", "ssl", "pki", "ca-certificates", "crypto-policies", "fonts", "maven", "ld.so.conf.d"];
/// Files of `/etc` that are copied.
const ETC_FILES: &[&str] = &[
    "ld.so.cache",
    "ld.so.conf",
    "localtime",
    "timezone",
    "os-release",
    "mime.types",
    "services",
    "protocols",
    "inputrc",
    "debian_version",
    "locale.alias",
    "host.conf",
    "gai.conf",
    "shells",
];
const ETC_FILE_BYTES_MAX: u64 = 1024 * 1024;
/// Files below the system's directories that may hold credentials.
const SYSTEM_CREDENTIALS: &[&str] = &["/usr/etc/npmrc", "/usr/local/etc/npmrc", "/usr/lib/node_modules/npm/npmrc"];
/// Devices that every box has.
const DEVICES: &[&str] = &["null", "zero", "full", "random", "urandom", "tty"];

/// One detached mount.
pub(crate) struct Source {
    pub(crate) mount: OwnedFd,
    pub(crate) inside: PathBuf,
    pub(crate) directory: bool,
    pub(crate) writable: bool,
}

/// What the new root is made of.
#[derive(Default)]
pub(crate) struct Sources {
    pub(crate) mounts: Vec<Source>,
    pub(crate) links: Vec<(PathBuf, PathBuf)>,
    pub(crate) etc: Vec<(&'static str, Vec<u8>)>,
    pub(crate) masked: Vec<PathBuf>,
    pub(crate) locks: Vec<LockFile>,
    pub(crate) filter_only: bool,
}

/// How a mount is to look.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Look {
    Writable,
    ReadOnly,
    /// Of the system: read-only, owners as they are.
    System,
    Device,
}

struct Collector {
    maps: Option<IdMaps>,
    sources: Sources,
}

/// Opens everything that the plan names.
pub(crate) fn collect(plan: &Plan) -> Result<Sources, Failure> {
    let mut collector = Collector { maps: plan.privileged.then(|| IdMaps::new(plan.box_id)), sources: Sources::default() };
    collector.system()?;
    // Tools in the tree itself, of an environment that lies there for example, are the tree's.
    let of_the_tree = |host: &Path| plan.spec.tree.as_ref().is_some_and(|tree| host.starts_with(tree));
    for mount in plan.toolchains.mounts.iter().filter(|mount| !of_the_tree(&mount.host)) {
        match open_host(&mount.host) {
            Ok(fd) => collector.add(fd.as_fd(), &mount.host, &mount.inside, Look::ReadOnly)?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error).step_at("opening the tool directory", &mount.host),
        }
        collector.sources.masked.extend(mount.masked.iter().map(|path| mount.inside.join(path)));
    }
    if let Some(home) = &plan.spec.home {
        let fd = open_host(home).step_at("opening the box's home", home)?;
        collector.add(fd.as_fd(), home, Path::new(HOME_INSIDE), Look::Writable)?;
    }
    if let Some(tree) = &plan.spec.tree {
        collector.tree(plan, tree)?;
    }
    for mount in &plan.spec.mounts {
        let fd = open_host(&mount.host).step_at("opening", &mount.host)?;
        collector.add(fd.as_fd(), &mount.host, &mount.inside, if mount.writable { Look::Writable } else { Look::ReadOnly })?;
    }
    collector.sources.masked.extend(plan.held.hidden.iter().map(|path| PathBuf::from(OsStr::from_bytes(path))));
    // Outer mounts before inner ones; of two at one place the later wins.
    collector.sources.mounts.sort_by(|a, b| a.inside.cmp(&b.inside));
    Ok(collector.sources)
}

impl Collector {
    fn add(&mut self, opened: BorrowedFd<'_>, host: &Path, inside: &Path, look: Look) -> Result<(), Failure> {
        let directory = is_dir(opened).step_at("looking at", host)?;
        let clone = |recursive: OpenTreeFlags| {
            let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH | recursive;
            rustix::mount::open_tree(opened, "", flags).step_at("taking a mount of", host)
        };
        let mut mount = clone(OpenTreeFlags::AT_RECURSIVE)?;
        let mut recursive = true;
        if let Some(maps) = self.maps.as_mut().filter(|_| matches!(look, Look::Writable | Look::ReadOnly)) {
            let mut mapped = maps.apply(mount.as_fd(), true).step_at("mapping the owner of", host)?;
            if !mapped {
                // A file system mounted below may be what cannot be mapped; it is left out then.
                let alone = clone(OpenTreeFlags::empty())?;
                mapped = maps.apply(alone.as_fd(), false).step_at("mapping the owner of", host)?;
                if mapped {
                    (mount, recursive) = (alone, false);
                }
            }
            if !mapped && look == Look::Writable {
                return Err(Failure::Unmapped { host: host.to_owned() });
            }
        }
        let attributes = match look {
            Look::Writable => attr::NOSUID | attr::NODEV,
            Look::ReadOnly | Look::System => attr::RDONLY | attr::NOSUID | attr::NODEV,
            Look::Device => attr::NOSUID | attr::NOEXEC,
        };
        sys::mount_setattr(mount.as_fd(), recursive, attributes, None).step_at("restricting the mount of", host)?;
        self.sources.mounts.push(Source { mount, inside: inside.to_owned(), directory, writable: look == Look::Writable });
        Ok(())
    }

    fn system(&mut self) -> Result<(), Failure> {
        for path in SYSTEM.iter().map(Path::new) {
            if let Ok(target) = fs::read_link(path) {
                self.sources.links.push((path.to_owned(), target));
            } else if let Ok(fd) = open_host(path) {
                self.add(fd.as_fd(), path, path, Look::System)?;
            }
        }
        let java = fs::read_dir("/etc").into_iter().flatten().flatten().map(|entry| entry.file_name());
        let java = java.filter_map(|name| name.into_string().ok()).filter(|name| name.starts_with("java"));
        for name in ETC_DIRS.iter().map(|name| (*name).to_owned()).chain(java) {
            let path = Path::new("/etc").join(name);
            match open_host(&path) {
                Ok(fd) if is_dir(&fd).unwrap_or(false) => self.add(fd.as_fd(), &path, &path, Look::System)?,
                _ => {}
            }
        }
        for name in ETC_FILES {
            let path = Path::new("/etc").join(name);
            if fs::metadata(&path).is_ok_and(|meta| meta.is_file() && meta.len() <= ETC_FILE_BYTES_MAX)
                && let Ok(bytes) = fs::read(&path)
            {
                self.sources.etc.push((name, bytes));
            }
        }
        self.sources.masked.extend(SYSTEM_CREDENTIALS.iter().map(PathBuf::from));
        for name in DEVICES {
            let path = Path::new("/dev").join(name);
            let fd = open_host(&path).step_at("opening the device", &path)?;
            self.add(fd.as_fd(), &path, &path, Look::Device)?;
        }
        Ok(())
    }

    fn tree(&mut self, plan: &Plan, host: &Path) -> Result<(), Failure> {
        let inside = &plan.spec.tree_inside;
        let tree = open_host(host).step_at("opening the tree", host)?;
        if !is_dir(&tree).step_at("looking at", host)? {
            return Err(Failure::refused(format!("{} is not a directory", host.display())));
        }
        let except_scope;
        let (globs, also) = match &plan.spec.write {
            WriteScope::All => {
                self.add(tree.as_fd(), host, inside, Look::Writable)?;
                return self.held(plan, &tree, host);
            }
            WriteScope::Nothing => return self.add(tree.as_fd(), host, inside, Look::ReadOnly),
            WriteScope::Globs { globs, also, except } => {
                except_scope = Scope::new(except).map_err(|error| Failure::refused(error.to_string()))?;
                (globs, also)
            }
        };
        let scope = Scope::new(globs).map_err(|error| Failure::refused(error.to_string()))?;
        let stat = rustix::fs::fstat(&tree).step_at("looking at", host)?;
        let owner = plan.privileged.then_some((stat.st_uid, stat.st_gid));
        let WritePlan { writable, frozen, pinned, loose } = scope_plan::plan(tree.as_fd(), &scope, also, &except_scope);
        if let Some(why) = loose.as_ref().filter(|_| plan.strict) {
            return Err(Failure::refused(format!(
                "the scope cannot be held: {why}; name whole directories in it, such as `docs/**`, or let the box write all of {}",
                host.display()
            )));
        }
        self.sources.filter_only = loose.is_some();
        self.sources.locks = locks::collect(tree.as_fd(), inside, &scope, also);
        if !writable.iter().any(String::is_empty) {
            self.add(tree.as_fd(), host, inside, Look::ReadOnly)?;
        }
        for directory in &writable {
            let path = host.join(directory);
            match make_dirs(tree.as_fd(), Path::new(directory), owner) {
                Ok(fd) => self.add(fd.as_fd(), &path, &inside.join(directory), Look::Writable)?,
                // `.git` of a linked worktree is a file: it stays as it is.
                Err(error) if leads_elsewhere(&error) && also.contains(directory) => {}
                Err(error) if leads_elsewhere(&error) => {
                    let reason =
                        format!("the scope's directory {} leads through a symbolic link or a file; name a real directory", path.display());
                    return Err(Failure::refused(reason));
                }
                Err(error) => return Err(error).step_at("making the scope's directory", &path),
            }
        }
        let by_scope = pinned.iter().map(|entry| (entry, Look::Writable)).chain(frozen.iter().map(|entry| (entry, Look::ReadOnly)));
        for (entry, look) in by_scope {
            self.entry(&tree, host, inside, entry, look)?;
        }
        self.held(plan, &tree, host)
    }

    /// What the guard holds, whatever the scope says.
    fn held(&mut self, plan: &Plan, tree: &OwnedFd, host: &Path) -> Result<(), Failure> {
        let of = |paths: &[Vec<u8>], look: Look| -> Vec<(PathBuf, Look)> {
            paths.iter().map(|path| (PathBuf::from(OsStr::from_bytes(path)), look)).collect()
        };
        let (pinned, frozen) = (of(&plan.held.pinned, Look::Writable), of(&plan.held.frozen, Look::ReadOnly));
        pinned.iter().chain(&frozen).try_for_each(|(entry, look)| self.entry(tree, host, &plan.spec.tree_inside, entry, *look))
    }

    /// Mounts one entry of the tree on itself.
    fn entry(&mut self, tree: &OwnedFd, host: &Path, inside: &Path, entry: &Path, look: Look) -> Result<(), Failure> {
        match open_beneath(tree, entry, OFlags::PATH) {
            Ok(fd) => self.add(fd.as_fd(), &host.join(entry), &inside.join(entry), look),
            Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(error).step_at("opening", &host.join(entry)),
        }
    }
}

/// Whether a part of the path was a link or a file instead of a directory.
fn leads_elsewhere(error: &std::io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOTDIR | libc::ELOOP))
}
