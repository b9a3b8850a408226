//! What this host gives, found out by trying.

use crate::native::{BOX_HOST_ID, NativeSandbox};
use crate::sys;
use aedile_core::sandbox::{BoxIo, BoxLimits, BoxNet, BoxSpec, Sandbox, SandboxReport, WriteScope};
use std::path::PathBuf;

/// Tries a box and lists the mechanisms.
pub(crate) fn report(sandbox: &NativeSandbox) -> SandboxReport {
    let tried = sandbox.spawn(trial()).map(drop);
    let landlock = sys::landlock_level();
    let why = tried.as_ref().err().map(|error| format!("no box can be started: {error}"));
    let boxes = tried.is_ok();
    let absent = |cost: &str| why.clone().unwrap_or_else(|| cost.to_owned());
    let mut mechanisms = vec![
        ("namespaces".to_owned(), boxes, absent("without them nothing is started at all")),
        ("system call filter".to_owned(), boxes, absent("without it nothing is started at all")),
        (
            "Landlock".to_owned(),
            landlock > 0,
            "the second fence round files, signals and abstract sockets; without it the namespaces hold alone".to_owned(),
        ),
        (
            "limits per process".to_owned(),
            true,
            "processes, file size, descriptors and memory of one process are always limited".to_owned(),
        ),
        (
            "limits per box".to_owned(),
            false,
            "no cgroup is used: memory of many processes together is limited only by the machine".to_owned(),
        ),
    ];
    let root = rustix::process::geteuid().is_root();
    if root {
        let cost = format!("started as root, boxes run as host id {BOX_HOST_ID}; what they write belongs to the directory's owner");
        mechanisms.push(("unprivileged id".to_owned(), boxes, cost));
    }
    let level = if !boxes {
        "no box can be started".to_owned()
    } else if landlock > 0 {
        format!("namespaces + Landlock ABI {landlock} + seccomp")
    } else {
        "namespaces + seccomp, no Landlock".to_owned()
    };
    let host_uid = if root { BOX_HOST_ID } else { rustix::process::geteuid().as_raw() };
    SandboxReport { level, mechanisms, host_uid }
}

/// The smallest box.
fn trial() -> BoxSpec {
    BoxSpec {
        label: "doctor".to_owned(),
        command: vec!["true".to_owned()],
        tree: None,
        tree_inside: PathBuf::from("/workspace"),
        write: WriteScope::Nothing,
        mounts: Vec::new(),
        home: None,
        env: Vec::new(),
        net: BoxNet::None,
        limits: BoxLimits::default(),
        io: BoxIo::Captured,
    }
}
