//! The host's side of one probe: what it may try to change, read and reach, and how that looks afterwards.

use super::PROBE_ARGUMENT;
use super::inside::{EVIL, Here, VICTIM, call, n};
use std::collections::BTreeMap;
use std::fs;
use std::io::{self, BufRead, BufReader};
use std::net::{Ipv4Addr, Ipv6Addr, TcpListener, UdpSocket};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::{MetadataExt, symlink};
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixListener};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Bytes of the secret: a random identifier in text.
const ID: &str = "/proc/sys/kernel/random/uuid";

/// Everything about one file that somebody could change.
type Print = (u32, u64, u64, i64, i64, i64, i64, Vec<u8>);

struct Listeners {
    tcp: TcpListener,
    tcp6: Option<TcpListener>,
    udp: UdpSocket,
    udp6: Option<UdpSocket>,
    streams: Vec<UnixListener>,
    datagram: UnixDatagram,
}

/// The material of one run.
pub(crate) struct Material {
    dir: PathBuf,
    secrets: Vec<Vec<u8>>,
    listeners: Listeners,
    victim: Child,
    victim_before: Vec<String>,
    before: BTreeMap<PathBuf, Print>,
    repository_before: Vec<(PathBuf, i64, i64)>,
    pub(crate) here: Here,
}

/// The user to whom things are given, where the host is root.
pub(crate) type Owner = Option<u32>;

impl Material {
    /// Makes it below `dir`, which does not exist yet.
    pub(crate) fn make(dir: &Path, program: &Path, owner: Owner, repository: Option<&Path>) -> io::Result<Self> {
        fs::create_dir(dir)?;
        let canary = fs::read_to_string(ID)?.trim().to_owned();
        files(dir, &canary)?;
        let name = |kind: &str| format!("aedile-attack-{kind}-{canary}");
        let abstract_name = |kind: &str| SocketAddr::from_abstract_name(name(kind));
        let listeners = Listeners {
            tcp: TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0))?,
            tcp6: TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).ok(),
            udp: UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?,
            udp6: UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)).ok(),
            streams: vec![
                UnixListener::bind_addr(&abstract_name("stream")?)?,
                UnixListener::bind(dir.join("outside/socket"))?,
                UnixListener::bind(dir.join("tree/sub/socket"))?,
            ],
            datagram: UnixDatagram::bind_addr(&abstract_name("datagram")?)?,
        };
        listeners.quiet()?;
        if let Some(id) = owner {
            crate::give::give(dir, id)?;
            std::os::unix::fs::chown(dir.join("outside/linked.txt"), Some(id), Some(id))?;
        }
        let (victim, victim_at) = start_victim(&dir.join("outside"), program, &canary, owner)?;
        let port = |listener: &Option<TcpListener>| listener.as_ref().and_then(|one| one.local_addr().ok()).map_or(1, |at| at.port());
        let here = Here {
            tree: dir.join("tree"),
            outside: dir.join("outside"),
            shown: dir.join("shown"),
            repository: repository.map_or_else(|| dir.join("twin"), Path::to_owned),
            victim: i32::try_from(victim.id()).unwrap_or(0),
            victim_at,
            tcp: listeners.tcp.local_addr()?.port(),
            tcp6: port(&listeners.tcp6),
            udp: listeners.udp.local_addr()?.port(),
            udp6: listeners.udp6.as_ref().and_then(|one| one.local_addr().ok()).map_or(1, |at| at.port()),
            stream: name("stream"),
            datagram: name("datagram"),
            segment: segment(&canary)?,
            queue: queue(&canary)?,
        };
        let victim_before = looks_of(here.victim);
        let (before, repository_before) = (prints(dir)?, times(&here.repository));
        Ok(Self { dir: dir.to_owned(), secrets: secrets(&canary), listeners, victim, victim_before, before, repository_before, here })
    }

    pub(crate) fn tree(&self) -> PathBuf {
        self.dir.join("tree")
    }

    /// Whether something outside the tree has changed.
    pub(crate) fn changed(&self) -> bool {
        prints(&self.dir).map_or(true, |after| after != self.before)
    }

    /// Whether the repository has changed where probes try it.
    pub(crate) fn repository_changed(&self) -> bool {
        times(&self.here.repository) != self.repository_before
    }

    /// Whether the attacker's word stands there.
    pub(crate) fn planted(&self, path: &str) -> bool {
        fs::read(self.tree().join(path)).is_ok_and(|bytes| bytes.windows(EVIL.len()).any(|window| window == EVIL.as_bytes()))
    }

    /// Whether the output holds what only a secret holds.
    pub(crate) fn betrayed(&self, output: &[u8]) -> bool {
        self.secrets.iter().any(|secret| output.windows(secret.len()).any(|window| window == secret))
    }

    /// Whether some listener was reached.
    pub(crate) fn reached(&self) -> bool {
        let mut bytes = [0; 64];
        let Listeners { tcp, tcp6, udp, udp6, streams, datagram } = &self.listeners;
        tcp.accept().is_ok()
            || tcp6.as_ref().is_some_and(|one| one.accept().is_ok())
            || udp.recv(&mut bytes).is_ok()
            || udp6.as_ref().is_some_and(|one| one.recv(&mut bytes).is_ok())
            || streams.iter().any(|one| one.accept().is_ok())
            || datagram.recv(&mut bytes).is_ok()
    }

    /// Whether the victim is not as it was.
    pub(crate) fn victim_changed(&self) -> bool {
        looks_of(self.here.victim) != self.victim_before
    }
}

impl Drop for Material {
    fn drop(&mut self) {
        let _ = self.victim.kill();
        let _ = self.victim.wait();
        let remove = n(libc::IPC_RMID);
        let _ = call(libc::SYS_shmctl, &[n(self.here.segment), remove, 0]);
        let _ = call(libc::SYS_msgctl, &[n(self.here.queue), remove, 0]);
        let _ = fs::remove_dir_all(&self.dir);
    }
}

impl Listeners {
    fn quiet(&self) -> io::Result<()> {
        self.tcp.set_nonblocking(true)?;
        self.tcp6.iter().try_for_each(|one| one.set_nonblocking(true))?;
        self.udp.set_nonblocking(true)?;
        self.udp6.iter().try_for_each(|one| one.set_nonblocking(true))?;
        self.streams.iter().try_for_each(|one| one.set_nonblocking(true))?;
        self.datagram.set_nonblocking(true)
    }
}

/// The directory that the attacker may write, and what lies beside it.
fn files(dir: &Path, canary: &str) -> io::Result<()> {
    let key = format!("-----BEGIN PRIVATE KEY-----\n{canary}\n");
    for directory in [
        "tree/.git/hooks",
        "tree/.git/objects",
        "tree/.git/refs/heads",
        "tree/nested/.git/hooks",
        "tree/nested/.git/objects",
        "twin/.git/hooks",
    ] {
        fs::create_dir_all(dir.join(directory))?;
    }
    for directory in ["tree/nested/.git/refs", "tree/sub", "tree/.vscode", "outside/empty", "shown"] {
        fs::create_dir_all(dir.join(directory))?;
    }
    fs::create_dir_all(dir.join("outside/names").join(canary))?;
    for (path, text) in [
        ("tree/file.txt", "ordinary\n"),
        ("tree/.git/HEAD", "ref: refs/heads/main\n"),
        ("tree/.git/config", "[core]\n"),
        ("tree/nested/.git/HEAD", "ref: refs/heads/main\n"),
        ("tree/nested/.git/config", "[core]\n"),
        ("tree/.vscode/settings.json", "{}\n"),
        ("tree/rules.md", "rules\n"),
        ("tree/.env", canary),
        ("tree/sub/.env.local", canary),
        ("tree/sub/server.pem", &key),
        ("tree/sub/store.p12", canary),
        ("outside/victim.txt", "victim of an attack\n"),
        ("outside/secret.txt", canary),
        ("outside/linked.txt", "linked\n"),
        ("shown/file.txt", "shown\n"),
        ("twin/.git/config", "[core]\n"),
    ] {
        fs::write(dir.join(path), text)?;
    }
    fs::hard_link(dir.join("outside/linked.txt"), dir.join("tree/linked"))?;
    symlink(canary, dir.join("outside/pointer"))?;
    symlink("rules.md", dir.join("tree/CLAUDE.md"))?;
    for (name, target) in [("link-file", "outside/victim.txt"), ("link-new", "outside/fresh"), ("link-dir", "outside")] {
        symlink(dir.join(target), dir.join("tree").join(name))?;
    }
    // A file system without attributes has one probe less.
    let _ = rustix::fs::setxattr(dir.join("outside/victim.txt"), "user.secret", canary.as_bytes(), rustix::fs::XattrFlags::empty());
    Ok(())
}

/// What only the host knows.
fn secrets(canary: &str) -> Vec<Vec<u8>> {
    let host = [b"host=", rustix::system::uname().nodename().to_bytes(), b"\n"].concat();
    let users = fs::read("/etc/passwd").unwrap_or_default();
    let first = users.split_inclusive(|byte| *byte == b'\n').next().unwrap_or_default().to_vec();
    let all = [canary.as_bytes().to_vec(), host, first, fs::read("/proc/cmdline").unwrap_or_default()];
    all.into_iter().filter(|secret| secret.len() > 6).collect()
}

/// A process of the host with the secret in its environment, command line, memory and descriptors.
#[expect(clippy::disallowed_methods, reason = "this crate is the starter of processes")]
fn start_victim(dir: &Path, program: &Path, canary: &str, owner: Owner) -> io::Result<(Child, usize)> {
    let mut command = Command::new(program);
    command.args([PROBE_ARGUMENT, VICTIM, canary]).env_clear().env("AEDILE_ATTACK_SECRET", canary).current_dir(dir);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    if let Some(id) = owner {
        command.uid(id).gid(id);
    }
    let mut child = command.spawn()?;
    let mut line = String::new();
    if let Some(stdout) = child.stdout.as_mut() {
        BufReader::new(stdout).read_line(&mut line)?;
    }
    let at = line.trim().parse().map_err(|_| io::Error::other("the process that is attacked did not start"))?;
    Ok((child, at))
}

/// A segment of shared memory that everybody may read.
fn segment(canary: &str) -> io::Result<i32> {
    let id = call(libc::SYS_shmget, &[0, 4096, 0o1666])?;
    let at = call(libc::SYS_shmat, &[id, 0, 0])?;
    // The kernel copies it there out of a pipe.
    let (from, to) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    rustix::io::write(&to, canary.as_bytes())?;
    call(libc::SYS_read, &[n(from.as_raw_fd()), at, canary.len()])?;
    call(libc::SYS_shmdt, &[at])?;
    Ok(i32::try_from(id).unwrap_or(-1))
}

/// A message queue that everybody may read, with one message.
fn queue(canary: &str) -> io::Result<i32> {
    let id = call(libc::SYS_msgget, &[0, 0o1666])?;
    let message = [&1_i64.to_ne_bytes()[..], canary.as_bytes()].concat();
    call(libc::SYS_msgsnd, &[id, message.as_ptr().addr(), canary.len(), n(libc::IPC_NOWAIT)])?;
    Ok(i32::try_from(id).unwrap_or(-1))
}

/// What of a process others could change.
fn looks_of(pid: i32) -> Vec<String> {
    let read = |name: &str| fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap_or_default();
    let stat = read("stat");
    let fields: Vec<&str> = stat.rsplit_once(')').map_or("", |(_, after)| after).split_whitespace().collect();
    let field = |place: usize| fields.get(place).copied().unwrap_or_default().to_owned();
    let stopped = matches!(field(0).as_str(), "T" | "t" | "Z" | "X" | "");
    let status = read("status");
    let lines = status.lines().filter(|line| line.starts_with("TracerPid") || line.starts_with("Cpus_allowed:")).map(str::to_owned);
    // Nice value and policy are the 17th and 39th field after the name.
    [stopped.to_string(), field(16), field(38), read("limits")].into_iter().chain(lines).collect()
}

/// Everything outside the tree.
fn prints(dir: &Path) -> io::Result<BTreeMap<PathBuf, Print>> {
    let (mut all, mut open) = (BTreeMap::new(), vec![dir.join("outside"), dir.join("shown")]);
    while let Some(place) = open.pop() {
        let meta = fs::symlink_metadata(&place)?;
        if meta.is_dir() {
            for entry in fs::read_dir(&place)? {
                open.push(entry?.path());
            }
        }
        let bytes = if meta.is_file() { fs::read(&place).unwrap_or_default() } else { Vec::new() };
        let print = (meta.mode(), meta.ino(), meta.nlink(), meta.mtime(), meta.mtime_nsec(), meta.ctime(), meta.ctime_nsec(), bytes);
        all.insert(place, print);
    }
    Ok(all)
}

/// Change times of a repository's places that probes try.
fn times(repository: &Path) -> Vec<(PathBuf, i64, i64)> {
    let places = ["", ".git", ".git/hooks", ".git/config"].map(|place| repository.join(place));
    places.into_iter().filter_map(|place| fs::metadata(&place).ok().map(|meta| (place, meta.ctime(), meta.ctime_nsec()))).collect()
}

/// The attacker's processes while they run.
pub(crate) struct Looked<'a> {
    pub(crate) tree: &'a Path,
    pub(crate) outside: &'a Path,
    /// The first process: the box's own, or the attacker where there is no box.
    pub(crate) first: u32,
    /// Whether there is no box.
    pub(crate) alone: bool,
    pub(crate) pids: Vec<u32>,
    pub(crate) output: &'a [u8],
}

impl Looked<'_> {
    fn links(&self) -> impl Iterator<Item = (u32, String, String)> + '_ {
        self.pids.iter().flat_map(|pid| {
            let entries = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
            entries.filter_map(|entry| {
                let target = fs::read_link(entry.path()).ok()?;
                Some((*pid, entry.file_name().to_string_lossy().into_owned(), target.to_string_lossy().into_owned()))
            })
        })
    }

    /// Whether a descriptor of this kind is open.
    pub(crate) fn holds(&self, kind: &str) -> bool {
        self.links().any(|(_, _, target)| target.contains(kind))
    }

    /// Whether some process is in a namespace that it was not given.
    pub(crate) fn left_namespace(&self, kind: &str) -> bool {
        let (text, prefix) = (String::from_utf8_lossy(self.output), format!("{}{kind}:", super::inside::GIVEN));
        let Some(given) = text.lines().find(|line| line.starts_with(&prefix)).and_then(|line| line.strip_prefix(super::inside::GIVEN))
        else {
            return false;
        };
        let elsewhere = |pid: &u32| fs::read_link(format!("/proc/{pid}/ns/{kind}")).is_ok_and(|space| space.to_string_lossy() != given);
        // The box's first process, the parent of the attacker, is not to be judged; without a box the attacker is the first.
        self.pids.iter().filter(|pid| **pid != self.first || self.alone).any(elsewhere)
    }

    /// All personality flags.
    pub(crate) fn personality(&self) -> u64 {
        let one = |pid: &u32| u64::from_str_radix(fs::read_to_string(format!("/proc/{pid}/personality")).ok()?.trim(), 16).ok();
        self.pids.iter().filter_map(one).fold(0, |all, one| all | one)
    }

    /// Whether some process executes a file whose name begins so.
    pub(crate) fn runs(&self, prefix: &str) -> bool {
        self.pids.iter().any(|pid| fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe.to_string_lossy().starts_with(prefix)))
    }

    pub(crate) fn processes(&self) -> usize {
        self.pids.len()
    }

    pub(crate) fn threads(&self) -> usize {
        self.pids.iter().map(|pid| fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count)).sum()
    }

    /// The most that one process has open.
    pub(crate) fn descriptors(&self) -> usize {
        self.pids.iter().map(|pid| fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count)).max().unwrap_or(0)
    }

    /// Whether the attacker came to its end, and well.
    fn acted_well(&self) -> bool {
        let text = String::from_utf8_lossy(self.output);
        text.contains(super::inside::ACTED) && !text.contains("failed: ")
    }

    /// Family and protocol of every socket that is open.
    pub(crate) fn socket_families(&self) -> Vec<(i32, i32)> {
        let sockets = self.links().filter(|(_, _, target)| target.starts_with("socket:"));
        sockets.filter_map(|(pid, fd, _)| family(pid, fd.parse().ok()?).ok()).collect()
    }
}

/// As [`Looked::acted_well`], for the tables of probes.
pub(crate) fn acted_well(looked: &Looked<'_>) -> bool {
    looked.acted_well()
}

/// Takes a copy of another process's socket and asks what it is.
#[expect(unsafe_code, reason = "the kernel's answer is a new descriptor")]
fn family(pid: u32, fd: i32) -> io::Result<(i32, i32)> {
    let pidfd = call(libc::SYS_pidfd_open, &[pid as usize, 0])?;
    let taken = call(libc::SYS_pidfd_getfd, &[pidfd, n(fd), 0]);
    // SAFETY: both were just given by the kernel, and nobody else has them.
    let _pidfd = unsafe { OwnedFd::from_raw_fd(i32::try_from(pidfd).unwrap_or(-1)) };
    let taken = taken?;
    // SAFETY: as above.
    let _taken = unsafe { OwnedFd::from_raw_fd(i32::try_from(taken).unwrap_or(-1)) };
    let option = |name: i32| {
        let (mut value, mut length) = ([0_i32], [4_u32]);
        call(libc::SYS_getsockopt, &[taken, n(libc::SOL_SOCKET), n(name), value.as_mut_ptr().addr(), length.as_mut_ptr().addr()])?;
        Ok::<i32, io::Error>(std::hint::black_box(value)[0])
    };
    Ok((option(libc::SO_DOMAIN)?, option(libc::SO_PROTOCOL)?))
}
