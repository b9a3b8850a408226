//! What of the kernel the box uses, one by one: whether this host has it, and what it costs where it has not.
//!
//! Each is tried, in a process of its own that has done nothing else ([`FEATURES_ARGUMENT`]): no version number is believed.

mod probe;
mod spaces;

use crate::host_command::{Asked, ask_command};
use serde::{Deserialize, Serialize};
use std::ffi::OsStr;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

/// First argument of the launcher program when it is to try what the kernel has; the second is a directory of ours.
pub const FEATURES_ARGUMENT: &str = "__features";
/// All trying together takes milliseconds.
const TRYING_MAX: Duration = Duration::from_secs(30);
const ANSWER_BYTES_MAX: usize = 256 * 1024;

/// One feature of the kernel that the box uses.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Feature {
    /// Its name.
    pub name: &'static str,
    /// Whether it was there when it was tried.
    pub present: bool,
    /// What the box uses it for, or what was answered where it is missing.
    pub detail: String,
    /// What its absence costs, and what keeps the promise then; none where it is present.
    pub cost: Option<&'static str>,
}

/// What became of trying one: what was found, or why not.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct Tried {
    name: String,
    found: Result<String, String>,
}

/// An answer of a probe.
type Found = Result<String, String>;

/// A feature that can be tried.
struct Entry {
    name: &'static str,
    /// What the box does with it.
    used: &'static str,
    cost: &'static str,
    /// Only boxes that root starts use it.
    roots: bool,
    probe: fn(&Path) -> Found,
}

const fn entry(name: &'static str, used: &'static str, cost: &'static str, probe: fn(&Path) -> Found) -> Entry {
    Entry { name, used, cost, roots: false, probe }
}

/// Everything that the box uses, in the order in which it is shown.
const TABLE: &[Entry] = &[
    entry(
        "user namespaces",
        "the box has no right outside, and its limit of processes counts its own only",
        "no box can be started, and nothing runs without one; allow them: sysctl user.max_user_namespaces above 0, \
         kernel.unprivileged_userns_clone=1 on Debian, kernel.apparmor_restrict_unprivileged_userns=0 or a profile on Ubuntu",
        spaces::user,
    ),
    entry(
        "mount namespaces",
        "the box has a root of its own",
        "no box can be started: Landlock alone would have to keep it from the host's files; allow them: sysctl user.max_mnt_namespaces above 0",
        spaces::mounts,
    ),
    entry(
        "pid namespaces",
        "the box sees and reaches its own processes only, and all end with its first",
        "no box can be started: what it leaves behind would live on, and other processes could be looked into; allow them: sysctl \
         user.max_pid_namespaces above 0",
        spaces::processes,
    ),
    entry(
        "network namespaces",
        "the box has a network of its own with nothing in it but its door",
        "no box can be started: everything that this host reaches would be reached; allow them: sysctl user.max_net_namespaces above 0",
        spaces::network,
    ),
    entry(
        "ipc namespaces",
        "the box has no shared segment, queue or semaphore of the host's",
        "no box can be started: shared memory and queues of the host would be reached; allow them: sysctl user.max_ipc_namespaces above 0",
        spaces::ipc,
    ),
    entry(
        "uts namespaces",
        "the box does not know this host's name",
        "no box can be started: the host's name would be told; allow them: sysctl user.max_uts_namespaces above 0",
        spaces::names,
    ),
    entry(
        "cgroup namespaces",
        "the box does not know where in the host's tree of cgroups it runs",
        "no box can be started: the host's cgroups would be told; allow them: sysctl user.max_cgroup_namespaces above 0",
        spaces::cgroups,
    ),
    entry(
        "mounts by descriptor",
        "fsopen, open_tree and move_mount: nothing is mounted that was not opened before",
        "no box can be started: what is mounted by name could be replaced by a link meanwhile",
        spaces::by_descriptor,
    ),
    entry(
        "mount_setattr",
        "a whole tree of mounts is made read-only in one step",
        "no box can be started: mounts below a read-only one would stay writable",
        spaces::attributes,
    ),
    entry(
        "a /proc of its own",
        "the box sees its own processes in it",
        "no box can be started: the host's processes would be seen; a container that masks its own /proc has this effect, let it see \
         /proc without masks",
        spaces::proc,
    ),
    Entry {
        name: "id-mapped mounts",
        used: "what a box of root's writes belongs to the directory's owner",
        cost: "workspaces are given to the box's host id, and `aedile sandbox exec` works on a copy of its directory; as an ordinary user \
               neither is needed",
        roots: true,
        probe: spaces::id_mapped,
    },
    entry(
        "openat2",
        "what a person's directory holds is opened without following a link or leaving it",
        "no box can be started: a link that is put in a path's place meanwhile would be followed",
        probe::open_beneath,
    ),
    entry(
        "pidfd",
        "a box is ended and waited for by descriptor",
        "no box can be started: a signal could meet a later process of the same number",
        probe::process_descriptors,
    ),
    entry(
        "close_range",
        "no descriptor of the caller's is in the box",
        "no box can be started: a descriptor that somebody opened meanwhile would be in it",
        probe::close_range,
    ),
    entry(
        "memory files with seals",
        "what a box is to be is handed over in memory that nobody changes any more",
        "no box can be started: its plan would have to lie in a file that another program of yours could change",
        probe::sealed_memory,
    ),
    entry(
        "seccomp",
        "the calls that past escapes used do not exist in a box",
        "no box can be started: the kernel's rarely used parts would be open to it",
        probe::seccomp,
    ),
    entry(
        "memfd_noexec",
        "memory files that cannot be executed are the only ones in a box",
        "programs that ask for such memory are refused too, and must take a temporary file; the filter of system calls keeps the promise \
         that memory files are not executed",
        probe::memory_not_executed,
    ),
    entry(
        "session key rings",
        "the box has an empty one",
        "the caller's key ring is still the box's; the filter of system calls alone keeps its keys from being read",
        probe::key_ring,
    ),
    entry(
        "Landlock",
        "the second fence round files (level 1): what may be read, written, made, removed and executed",
        "there is no second fence: the mount namespace alone keeps reads and writes to what the box was given, and what a fault of the \
         kernel's mounts opens is open",
        probe::landlock,
    ),
    entry(
        "Landlock: moves",
        "files are moved and linked from one writable directory into another (level 2)",
        "no promise is lost, but Landlock then refuses every move and link from one directory into another: programs have to copy",
        |_| probe::landlock_right(1 << 13, 0),
    ),
    entry(
        "Landlock: cutting",
        "the second fence also keeps files from being cut short (level 3)",
        "Landlock lets files that may be opened be cut short; read-only mounts alone keep them whole",
        |_| probe::landlock_right(1 << 14, 0),
    ),
    entry(
        "Landlock: device requests",
        "the second fence also keeps requests to devices (ioctl) to those in the box's /dev (level 5)",
        "Landlock lets requests to every device pass that can be opened; the mounts alone show none but the harmless ones, and the filter of \
         system calls alone refuses to feed terminals",
        |_| probe::landlock_right(1 << 15, 0),
    ),
    entry(
        "Landlock: abstract sockets",
        "the second fence also keeps abstract sockets to those of the box (level 6)",
        "Landlock lets abstract sockets outside be reached; the network namespace alone keeps them apart",
        |_| probe::landlock_right(0, 1),
    ),
    entry(
        "Landlock: signals",
        "the second fence also keeps signals within the box (level 6)",
        "Landlock lets signals to other processes pass; the pid namespace alone keeps them within the box",
        |_| probe::landlock_right(0, 2),
    ),
    entry(
        "Landlock: path sockets",
        "the second fence also keeps sockets that are files to those in directories that the box may write (level 9)",
        "Landlock lets sockets that lie as files be reached; the mounts alone show none of the host's",
        |_| probe::landlock_right(1 << 16, 0),
    ),
    entry(
        "counts of written bytes",
        "`disk_bytes` is held by /proc/PID/io",
        "`disk_bytes` is not held by anything; a box still ends when half of what was free on a disk is taken",
        probe::written_bytes,
    ),
    entry(
        "counts of shared memory",
        "what processes share counts once (/proc/PID/smaps_rollup)",
        "what processes share counts once for each of them: a box reaches its limit of memory earlier than it should",
        probe::shared_memory,
    ),
    entry(
        "cgroup v2 delegation",
        "it is here but not used: the box's first process watches over memory, processor time and disk of all processes",
        "nothing that boxes use: memory, processor time and disk of all processes together are held by the box's first process, which looks \
         every 25 to 200 ms, so that a box can be above its memory for that long",
        probe::cgroup_delegation,
    ),
    entry(
        "overlay file systems",
        "they are here but not used: `--cow` works on a copy, which has none of an overlay's limits",
        "nothing that boxes use: `--cow` works on a copy, which costs the time to make it and the room that it takes",
        spaces::overlay,
    ),
];

/// Tries everything in a process of its own. `dir` is a directory of ours on the disk where boxes put things. Blocks for milliseconds.
pub(crate) fn of_this_host(launcher: &Path, dir: &Path) -> io::Result<Vec<Feature>> {
    let parts = [launcher.as_os_str(), OsStr::new(FEATURES_ARGUMENT), dir.as_os_str()];
    match ask_command(&parts, TRYING_MAX, ANSWER_BYTES_MAX)? {
        Asked::Wrote(bytes) => Ok(describe(&serde_json::from_slice::<Vec<Tried>>(&bytes)?)),
        Asked::Failed(code) => Err(io::Error::other(format!("the program that tries them ended with {code:?}"))),
        Asked::TooLong | Asked::TooMuch => Err(io::Error::other("the program that tries them gave no answer")),
    }
}

/// That process: it tries each feature, and writes what it found.
pub(crate) fn features_main() -> ExitCode {
    let dir = std::env::args_os().nth(2).map_or_else(|| PathBuf::from("/"), PathBuf::from);
    let root = rustix::process::geteuid().is_root();
    let used = TABLE.iter().filter(|entry| root || !entry.roots);
    let tried: Vec<Tried> = used.map(|entry| Tried { name: entry.name.to_owned(), found: (entry.probe)(&dir) }).collect();
    let written = serde_json::to_vec(&tried).map_err(io::Error::from).and_then(|bytes| io::stdout().write_all(&bytes));
    if written.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Says of what was tried what it means.
fn describe(tried: &[Tried]) -> Vec<Feature> {
    let one = |tried: &Tried| {
        let entry = TABLE.iter().find(|entry| entry.name == tried.name)?;
        let detail = match &tried.found {
            Ok(found) if found.is_empty() => entry.used.to_owned(),
            Ok(found) => format!("{}; {found}", entry.used),
            Err(why) => why.clone(),
        };
        let present = tried.found.is_ok();
        Some(Feature { name: entry.name, present, detail, cost: (!present).then_some(entry.cost) })
    };
    tried.iter().filter_map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A host that has everything but one.
    fn without(missing: &str) -> Vec<Feature> {
        let found = |name: &str| if name == missing { Err("no".to_owned()) } else { Ok(String::new()) };
        describe(&TABLE.iter().map(|entry| Tried { name: entry.name.to_owned(), found: found(entry.name) }).collect::<Vec<_>>())
    }

    #[test]
    fn a_host_without_one_feature_is_told_what_that_costs() {
        let mut costs = std::collections::BTreeSet::new();
        for entry in TABLE {
            let features = without(entry.name);
            assert_eq!(features.len(), TABLE.len());
            for feature in features {
                let missing = feature.name == entry.name;
                assert_eq!((feature.present, feature.cost), (!missing, missing.then_some(entry.cost)), "{}", feature.name);
                assert_eq!(feature.detail, if missing { "no" } else { TABLE.iter().find(|of| of.name == feature.name).unwrap().used });
            }
            assert!(costs.insert(entry.cost) && !entry.used.is_empty(), "{} costs what another does", entry.name);
        }
        assert!(without("").iter().all(|feature| feature.present && feature.cost.is_none()));
    }

    #[test]
    fn the_page_lists_every_feature() {
        let page = include_str!("../../../docs/security.md");
        for entry in TABLE {
            assert!(page.contains(&format!("| {} |", entry.name)), "docs/security.md says nothing of {}", entry.name);
        }
    }
}
