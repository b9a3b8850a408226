//! What this host gives, found out by trying.

use crate::native::BOX_HOST_ID;
use crate::sys;
use aedile_core::sandbox::{BoxIo, BoxLimits, BoxNet, BoxSpec, SandboxError, SandboxReport, WriteScope};
use std::path::{Path, PathBuf};

/// The first level of Landlock that also holds signals and abstract sockets.
const LANDLOCK_WITH_SCOPES: i64 = 6;

/// Lists the mechanisms. `failed` is why the smallest box did not start; `mapped` tries one with a writable tree.
pub(crate) fn report(failed: Option<SandboxError>, mapped: impl FnOnce() -> bool) -> SandboxReport {
    let (boxes, landlock) = (failed.is_none(), sys::landlock_level());
    let why = failed.map(|error| format!("no box can be started: {error}"));
    let needed = |cost: &str| why.clone().unwrap_or_else(|| cost.to_owned());
    let mut mechanisms = vec![
        ("namespaces".to_owned(), boxes, needed("without them nothing is started at all")),
        ("system call filter".to_owned(), boxes, needed("without it nothing is started at all")),
        ("Landlock".to_owned(), landlock > 0, "the second fence round files; without it the namespaces hold alone".to_owned()),
        (
            "Landlock scopes".to_owned(),
            landlock >= LANDLOCK_WITH_SCOPES,
            "the second fence round signals and abstract sockets; without it the namespaces hold alone".to_owned(),
        ),
        (
            "limits per process".to_owned(),
            boxes,
            needed("processes, file size, descriptors and memory of one process are limited in every box by the kernel"),
        ),
        (
            "limits of the whole box".to_owned(),
            boxes,
            needed(
                "memory, processor time and disk of all processes together are watched by the box's first process, every 25 to 200 ms; no \
                 cgroup is used, so what the kernel itself keeps for pipes and sockets is bounded by the number of descriptors only",
            ),
        ),
    ];
    let root = rustix::process::geteuid().is_root();
    if root {
        let id = format!("started as root, boxes run as host id {BOX_HOST_ID}; what they write belongs to the directory's owner");
        mechanisms.push(("unprivileged id".to_owned(), boxes, needed(&id)));
        let given = format!(
            "without them the workspaces are given to host id {BOX_HOST_ID}, and `aedile sandbox exec` works on a copy of its directory; run \
             as an ordinary user to avoid both"
        );
        mechanisms.push(("id-mapped mounts".to_owned(), boxes && mapped(), needed(&given)));
    }
    let level = match (boxes, landlock) {
        (false, _) => "no box can be started".to_owned(),
        (true, 0) => "namespaces + seccomp, no Landlock".to_owned(),
        (true, level) => format!("namespaces + Landlock ABI {level} + seccomp"),
    };
    let host_uid = if root { BOX_HOST_ID } else { rustix::process::geteuid().as_raw() };
    SandboxReport { level, mechanisms, host_uid }
}

/// The smallest box.
pub(crate) fn trial(tree: Option<&Path>) -> BoxSpec {
    BoxSpec {
        label: "doctor".to_owned(),
        command: vec!["true".to_owned()],
        tree: tree.map(Path::to_path_buf),
        tree_inside: PathBuf::from("/workspace"),
        write: WriteScope::All,
        mounts: Vec::new(),
        home: None,
        env: Vec::new(),
        net: BoxNet::None,
        limits: BoxLimits::default(),
        io: BoxIo::Captured,
    }
}
