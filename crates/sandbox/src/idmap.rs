//! User namespaces that serve as a map for a mount: what belongs to one owner on the disk belongs to the box's user through it.

use crate::sys;
use rustix::process::{Pid, WaitId, WaitIdOptions};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// The user inside every box.
pub(crate) const INSIDE_ID: u32 = 1000;

/// Maps one process's only id inside (`inside`) to `outside` on the host.
pub(crate) fn write_maps(pid: Pid, inside: (u32, u32), outside: (u32, u32), deny_setgroups: bool) -> io::Result<()> {
    let proc = format!("/proc/{}", pid.as_raw_nonzero());
    if deny_setgroups {
        fs::write(format!("{proc}/setgroups"), "deny")?;
    }
    fs::write(format!("{proc}/uid_map"), format!("{} {} 1", inside.0, outside.0))?;
    fs::write(format!("{proc}/gid_map"), format!("{} {} 1", inside.1, outside.1))
}

/// The maps that one launcher has made, one for each owner.
pub(crate) struct IdMaps {
    box_id: u32,
    made: BTreeMap<(u32, u32), OwnedFd>,
}

impl IdMaps {
    pub(crate) fn new(box_id: u32) -> Self {
        Self { box_id, made: BTreeMap::new() }
    }

    /// Maps the owner of the detached mount to the box's user. `false` when its file system cannot do that.
    pub(crate) fn apply(&mut self, mount: BorrowedFd<'_>, recursive: bool) -> io::Result<bool> {
        let stat = rustix::fs::fstat(mount)?;
        let owner = (stat.st_uid, stat.st_gid);
        if owner == (self.box_id, self.box_id) {
            return Ok(true);
        }
        let map = match self.made.entry(owner) {
            std::collections::btree_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::btree_map::Entry::Vacant(entry) => entry.insert(mapping(owner, self.box_id)?),
        };
        match sys::mount_setattr(mount, recursive, sys::attr::IDMAP, Some(map.as_fd())) {
            Ok(()) => Ok(true),
            Err(error) if matches!(error.raw_os_error(), Some(libc::EINVAL | libc::EOPNOTSUPP | libc::ENOSYS)) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// Makes a user namespace in which `owner` stands for the box's host id.
fn mapping(owner: (u32, u32), box_id: u32) -> io::Result<OwnedFd> {
    let (wait, hold) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    let Some(pid) = sys::clone_process(libc::CLONE_NEWUSER)? else {
        // The holder of the namespace: it lives until the map is written and opened.
        drop(hold);
        let _ = sys::wait_byte(&wait);
        sys::leave(0);
    };
    let made = write_maps(pid, owner, (box_id, box_id), false)
        .and_then(|()| fs::File::open(format!("/proc/{}/ns/user", pid.as_raw_nonzero())))
        .map(OwnedFd::from);
    drop(hold);
    rustix::io::retry_on_intr(|| rustix::process::waitid(WaitId::Pid(pid), WaitIdOptions::EXITED))?;
    made
}
