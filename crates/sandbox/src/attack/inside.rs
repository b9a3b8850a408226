//! The attacker's side: a program in the box, or without one.

use crate::attack::probes;
use serde::{Deserialize, Serialize};
use std::ffi::CString;
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// The attacker's word in what it plants.
pub(crate) const EVIL: &str = "aedile-attack-evil";
/// What the attacker says when it has acted.
pub(crate) const ACTED: &str = "\nacted\n";
/// Before each namespace in which the attacker began.
pub(crate) const GIVEN: &str = "given ";
const NAMESPACES: [&str; 4] = ["user", "mnt", "net", "pid"];
/// Instead of a probe's name: the process that is attacked.
pub(crate) const VICTIM: &str = "victim";

/// Where everything is.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Here {
    /// The directory that the attacker may write.
    pub(crate) tree: PathBuf,
    /// A directory of the host's with things to change and to read.
    pub(crate) outside: PathBuf,
    /// A directory that is shown read-only.
    pub(crate) shown: PathBuf,
    /// A repository that is shown read-only: the person's, or a twin where that would be harmed.
    pub(crate) repository: PathBuf,
    pub(crate) victim: i32,
    /// Where the victim has the secret in its memory.
    pub(crate) victim_at: usize,
    pub(crate) tcp: u16,
    pub(crate) tcp6: u16,
    pub(crate) udp: u16,
    pub(crate) udp6: u16,
    /// Names of abstract sockets.
    pub(crate) stream: String,
    pub(crate) datagram: String,
    /// Identifiers of the host's shared memory and of its message queue.
    pub(crate) segment: i32,
    pub(crate) queue: i32,
}

impl Here {
    pub(crate) fn outside(&self, name: &str) -> PathBuf {
        self.outside.join(name)
    }

    pub(crate) fn tree(&self, name: &str) -> PathBuf {
        self.tree.join(name)
    }
}

/// The main function of a probe.
pub fn probe_main() -> ExitCode {
    let mut arguments = std::env::args().skip(2);
    let (id, here) = (arguments.next().unwrap_or_default(), arguments.next().unwrap_or_default());
    if id == VICTIM {
        return victim();
    }
    let Ok(here) = serde_json::from_str::<Here>(&here) else { return ExitCode::FAILURE };
    let Some(probe) = probes().into_iter().find(|probe| probe.id == id) else { return ExitCode::FAILURE };
    let _ = std::env::set_current_dir(&here.tree);
    // Where it begins, so that the host sees whether it went elsewhere: the box's first process cannot be asked by an ordinary user.
    for kind in NAMESPACES {
        let given = std::fs::read_link(format!("/proc/self/ns/{kind}")).unwrap_or_default();
        say(format!("{GIVEN}{}\n", given.display()).as_bytes());
    }
    let answer = (probe.act)(&here);
    if let Err(error) = &answer {
        say(format!("failed: {error}").as_bytes());
    }
    say(ACTED.as_bytes());
    // The host looks at us until it closes this.
    let _ = io::stdin().read_to_end(&mut Vec::new());
    if answer.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Holds the secret in memory and says where, until its stdin ends.
fn victim() -> ExitCode {
    // The first descriptor after the streams, kept open.
    let Ok(mut file) = std::fs::File::open("secret.txt") else { return ExitCode::FAILURE };
    let mut secret = Vec::new();
    let _ = file.read_to_end(&mut secret);
    say(format!("{}\n", secret.as_ptr().addr()).as_bytes());
    let _ = io::stdin().read_to_end(&mut Vec::new());
    if secret.is_empty() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// Writes to our stdout, which the host reads.
pub(crate) fn say(bytes: &[u8]) {
    let mut out = io::stdout().lock();
    let _ = out.write_all(bytes).and_then(|()| out.flush());
}

/// Reads a file and says what is in it.
pub(crate) fn tell(path: impl AsRef<Path>) -> io::Result<()> {
    say(&std::fs::read(path)?);
    Ok(())
}

/// Plants the attacker's word.
pub(crate) fn plant(path: impl AsRef<Path>) -> io::Result<()> {
    std::fs::write(path, EVIL)
}

/// A path for a system call.
pub(crate) fn text(path: impl AsRef<Path>) -> CString {
    CString::new(path.as_ref().as_os_str().as_bytes()).unwrap_or_default()
}

/// A system call by number. Pointers among the arguments are addresses of what the caller keeps.
#[expect(unsafe_code, reason = "attacks are system calls that no library makes")]
pub(crate) fn call(number: libc::c_long, arguments: &[usize]) -> io::Result<usize> {
    let at = |place: usize| arguments.get(place).copied().unwrap_or(0);
    // SAFETY: the callers pass addresses of values that outlive the call and have the size that the kernel expects.
    let answer = unsafe { libc::syscall(number, at(0), at(1), at(2), at(3), at(4), at(5)) };
    usize::try_from(answer).map_err(|_| io::Error::last_os_error())
}

/// Forks; 0 in the child.
pub(crate) fn fork() -> io::Result<usize> {
    call(libc::SYS_clone, &[usize::try_from(libc::SIGCHLD).unwrap_or(0)])
}

/// A number as an argument.
pub(crate) fn n(value: i32) -> usize {
    value as isize as usize
}
