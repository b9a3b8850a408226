//! The few system calls that have no safe wrapper. All `unsafe` of this crate but the start of the launcher is here.

use rustix::process::Pid;
use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// The namespaces of a box.
pub(crate) const NAMESPACES: libc::c_int = libc::CLONE_NEWUSER
    | libc::CLONE_NEWNS
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWCGROUP;

/// Attributes of mounts, as `mount_setattr` takes them.
pub(crate) mod attr {
    pub(crate) const RDONLY: u64 = 0x1;
    pub(crate) const NOSUID: u64 = 0x2;
    pub(crate) const NODEV: u64 = 0x4;
    pub(crate) const NOEXEC: u64 = 0x8;
    pub(crate) const IDMAP: u64 = 0x0010_0000;
}

fn check(result: libc::c_long) -> io::Result<libc::c_long> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Forks with the given `CLONE_*` flags; `None` in the new process. Only for a process with one thread.
#[expect(unsafe_code, reason = "clone has no safe wrapper")]
pub(crate) fn clone_process(flags: libc::c_int) -> io::Result<Option<Pid>> {
    let flags = libc::c_long::from(flags | libc::SIGCHLD);
    let none: libc::c_long = 0;
    // SAFETY: without CLONE_VM this is fork: the child has its own copy of everything, and the launcher has one thread.
    let pid = check(unsafe { libc::syscall(libc::SYS_clone, flags, none, none, none, none) })?;
    Ok(i32::try_from(pid).ok().and_then(Pid::from_raw))
}

#[repr(C)]
struct MountAttr {
    set: u64,
    clear: u64,
    propagation: u64,
    userns: u64,
}

/// Sets attributes (`MOUNT_ATTR_*`) of the mount behind `mount`, and of those below it when `recursive`.
#[expect(unsafe_code, reason = "mount_setattr has no safe wrapper")]
pub(crate) fn mount_setattr(mount: BorrowedFd<'_>, recursive: bool, set: u64, userns: Option<BorrowedFd<'_>>) -> io::Result<()> {
    let userns = userns.map_or(0, |fd| u64::from(fd.as_raw_fd().unsigned_abs()));
    let attr = MountAttr { set, clear: 0, propagation: 0, userns };
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the path is an empty C string and `attr` outlives the call, whose size is given.
    check(unsafe {
        libc::syscall(libc::SYS_mount_setattr, mount.as_raw_fd(), c"".as_ptr(), flags, &raw const attr, size_of::<MountAttr>())
    })?;
    Ok(())
}

/// Takes ownership of a descriptor that the starter put at a fixed number.
#[expect(unsafe_code, reason = "a descriptor handed over by number")]
pub(crate) fn handed_over(number: i32) -> io::Result<OwnedFd> {
    // SAFETY: fcntl on any number is harmless, and it tells whether the descriptor is open.
    check(libc::c_long::from(unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) }))?;
    // SAFETY: the descriptor is open, and nothing else in this process knows its number.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Sets the loopback interface of this network namespace up.
#[expect(unsafe_code, reason = "interface flags are set by ioctl")]
pub(crate) fn loopback_up() -> io::Result<()> {
    let socket = rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::DGRAM, None)?;
    // SAFETY: an ifreq of zero bytes is valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = libc::c_char::from_ne_bytes([*from]);
    }
    request.ifr_ifru.ifru_flags = libc::c_short::try_from(libc::IFF_UP | libc::IFF_RUNNING).unwrap_or_default();
    // SAFETY: SIOCSIFFLAGS reads one ifreq, which lives here.
    check(libc::c_long::from(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) }))?;
    Ok(())
}

/// Blocks SIGCHLD and returns a descriptor that is readable when a child changed its state.
#[expect(unsafe_code, reason = "signalfd has no safe wrapper")]
pub(crate) fn child_signals() -> io::Result<OwnedFd> {
    // SAFETY: the set is initialised by sigemptyset before its use; the descriptor is new and ours.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, libc::SIGCHLD);
        check(libc::c_long::from(libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut())))?;
        let fd = libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK);
        check(libc::c_long::from(fd))?;
        Ok(OwnedFd::from_raw_fd(fd))
    }
}

/// Gives every signal its default action and blocks none.
#[expect(unsafe_code, reason = "signal actions have no safe wrapper")]
pub(crate) fn default_signals() {
    // SAFETY: SIG_DFL is valid for every signal; the kernel refuses the few that cannot be changed, which is fine.
    unsafe {
        for signal in 1..=64 {
            libc::signal(signal, libc::SIG_DFL);
        }
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const set, std::ptr::null_mut());
    }
}

/// Replaces this process; returns only the error.
#[expect(unsafe_code, reason = "execve has no safe wrapper")]
pub(crate) fn exec(program: &CString, args: &[CString], env: &[CString]) -> io::Error {
    let ends = |list: &[CString]| list.iter().map(|text| text.as_ptr()).chain([std::ptr::null()]).collect::<Vec<_>>();
    let (args, env) = (ends(args), ends(env));
    // SAFETY: both lists end with a null pointer and point at strings that live until execve returns.
    unsafe { libc::execve(program.as_ptr(), args.as_ptr(), env.as_ptr()) };
    io::Error::last_os_error()
}

/// Leaves at once, without running anything that the parent had registered.
#[expect(unsafe_code, reason = "_exit has no safe wrapper")]
pub(crate) fn leave(code: i32) -> ! {
    // SAFETY: _exit does not return and touches no memory.
    unsafe { libc::_exit(code) }
}

/// Marks every descriptor from `first` on to be closed by the next exec. Async-signal-safe.
#[expect(unsafe_code, reason = "close_range has no safe wrapper")]
pub(crate) fn close_from_on_exec(first: u32) -> io::Result<()> {
    // SAFETY: only flags of descriptors change; none is closed under its owner.
    check(unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) })?;
    Ok(())
}

/// Puts a copy of `from` at number `to`, kept over exec. Async-signal-safe.
#[expect(unsafe_code, reason = "dup2 to a number that nobody owns yet")]
pub(crate) fn put_at(from: i32, to: i32) -> io::Result<()> {
    // SAFETY: the callers use numbers of streams, or numbers that nothing owns between fork and exec.
    check(libc::c_long::from(unsafe { libc::dup2(from, to) }))?;
    Ok(())
}

/// Blocks until the other end of a pipe is closed or a byte comes; true for a byte.
pub(crate) fn wait_byte(pipe: impl AsFd) -> io::Result<bool> {
    let mut byte = [0u8; 1];
    Ok(rustix::io::retry_on_intr(|| rustix::io::read(&pipe, &mut byte))? == 1)
}

/// The level of Landlock that the kernel has; 0 for none.
#[expect(unsafe_code, reason = "the question for the version has no safe wrapper")]
pub(crate) fn landlock_level() -> i64 {
    let (none, version): (libc::c_long, libc::c_long) = (0, 1);
    // SAFETY: with a null pointer, size 0 and the version flag the call only answers a number.
    check(unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, none, none, version) }).unwrap_or(0)
}

/// Makes a set of Landlock rules that handles these rights on files (`LANDLOCK_ACCESS_FS_*`) and scopes; a kernel that does not know them refuses.
#[expect(unsafe_code, reason = "the library hides what the kernel does not know")]
pub(crate) fn landlock_rules(files: u64, scopes: u64) -> io::Result<OwnedFd> {
    let attributes: [u64; 3] = [files, 0, scopes];
    let none: libc::c_long = 0;
    // SAFETY: the attributes outlive the call, which is told their size.
    let fd = check(unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, attributes.as_ptr(), size_of_val(&attributes), none) })?;
    let fd = i32::try_from(fd).map_err(io::Error::other)?;
    // SAFETY: the descriptor is new and nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Ticks of `/proc/PID/stat` in a second.
#[expect(unsafe_code, reason = "sysconf has no safe wrapper")]
pub(crate) fn clock_ticks() -> u64 {
    // SAFETY: sysconf only answers a number.
    u64::try_from(unsafe { libc::sysconf(libc::_SC_CLK_TCK) }).unwrap_or(100)
}

/// Leaves the session key ring of whoever started us for a new, empty one. A kernel without key rings (`ENOSYS`) has none to leave.
#[expect(unsafe_code, reason = "keyctl has no safe wrapper")]
pub(crate) fn leave_key_ring() -> io::Result<()> {
    const JOIN_SESSION_KEYRING: libc::c_long = 1;
    let none: libc::c_long = 0;
    // SAFETY: a null name asks for an anonymous key ring; no memory is touched.
    check(unsafe { libc::syscall(libc::SYS_keyctl, JOIN_SESSION_KEYRING, none) }).map(|_| ())
}
