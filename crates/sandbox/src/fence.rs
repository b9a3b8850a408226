//! The fences of a box by name, so that the attack suite can take single ones away and show what each is worth.

use serde::{Deserialize, Serialize};

/// One fence.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fence {
    /// The user namespace, with every other namespace, since none is to be had without it.
    Namespaces,
    /// The mount namespace with the root of its own.
    Mounts,
    /// The pid namespace, which also ends everything with its first process.
    Processes,
    /// The network namespace.
    Network,
    /// The ipc namespace.
    Ipc,
    /// The uts namespace.
    Names,
    /// Landlock.
    Landlock,
    /// The filter of system calls.
    Seccomp,
    /// The kernel's limits per process.
    Limits,
    /// The watcher over all processes together.
    Watcher,
    /// The limit of time.
    Time,
    /// What is held of a person's directory because it runs code outside, or has a name or a listener there.
    Guard,
    /// The masks over files for secrets.
    Masks,
}

impl Fence {
    /// Its name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Namespaces => "namespaces",
            Self::Mounts => "mounts",
            Self::Processes => "processes",
            Self::Network => "network",
            Self::Ipc => "ipc",
            Self::Names => "names",
            Self::Landlock => "landlock",
            Self::Seccomp => "seccomp",
            Self::Limits => "limits",
            Self::Watcher => "watcher",
            Self::Time => "time",
            Self::Guard => "guard",
            Self::Masks => "masks",
        }
    }

    /// The namespace that it is, as a flag of `clone`.
    pub(crate) fn namespace(self) -> libc::c_int {
        match self {
            Self::Mounts => libc::CLONE_NEWNS,
            Self::Processes => libc::CLONE_NEWPID,
            Self::Network => libc::CLONE_NEWNET,
            Self::Ipc => libc::CLONE_NEWIPC,
            Self::Names => libc::CLONE_NEWUTS,
            Self::Namespaces => crate::sys::NAMESPACES,
            _ => 0,
        }
    }
}
