//! The filter of system calls: what no build, test or tool needs and what past escapes used.

use crate::wire::Failure;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen as Len, SeccompCmpOp as Op, SeccompCondition as Condition, SeccompFilter, SeccompRule,
    TargetArch, sock_filter,
};
use std::collections::BTreeMap;

type Rules = BTreeMap<i64, Vec<SeccompRule>>;
type Outcome<T> = Result<T, seccompiler::Error>;

/// Refused with EPERM whatever the arguments.
const DENIED: &[libc::c_long] = &[
    // Other processes' memory and descriptors.
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_kcmp,
    libc::SYS_move_pages,
    libc::SYS_migrate_pages,
    libc::SYS_process_mrelease,
    libc::SYS_pidfd_getfd,
    // Ways into the kernel.
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_kexec_load,
    libc::SYS_kexec_file_load,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_reboot,
    libc::SYS_syslog,
    libc::SYS_acct,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_quotactl,
    libc::SYS_quotactl_fd,
    libc::SYS_nfsservctl,
    libc::SYS_vhangup,
    libc::SYS_fanotify_init,
    libc::SYS_fanotify_mark,
    libc::SYS_lookup_dcookie,
    libc::SYS_memfd_secret,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_adjtimex,
    libc::SYS_clock_adjtime,
    // Mounts, roots and namespaces.
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    SYS_OPEN_TREE_ATTR,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_open_by_handle_at,
    libc::SYS_name_to_handle_at,
    // Names of this machine.
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
];

/// Refused as if the kernel did not have them, so that callers take the older call, whose arguments can be judged.
const ABSENT: &[libc::c_long] =
    &[libc::SYS_clone3, libc::SYS_openat2, libc::SYS_io_uring_setup, libc::SYS_io_uring_enter, libc::SYS_io_uring_register];

#[cfg(target_arch = "x86_64")]
const DENIED_HERE: &[libc::c_long] = &[libc::SYS_iopl, libc::SYS_ioperm, libc::SYS_modify_ldt, libc::SYS_uselib, libc::SYS__sysctl];
#[cfg(not(target_arch = "x86_64"))]
const DENIED_HERE: &[libc::c_long] = &[];

const SYS_OPEN_TREE_ATTR: libc::c_long = 467;
/// The last call that this filter was written for (Linux 6.18, `file_setattr`). What comes after it is judged when it is known.
const LAST_KNOWN: u32 = 469;
/// `memfd_create` with this flag makes a file that can never be executed (Linux 6.3).
const MFD_NOEXEC_SEAL: u64 = 8;
const SYS_FCHMODAT2: libc::c_long = 452;
/// Terminal requests that put bytes into a terminal's input (`TIOCSTI`, `TIOCLINUX`), take the console or change the line discipline.
const TERMINAL_REQUESTS: [u64; 4] = [0x5412, 0x541c, 0x541d, 0x5423];
const FILE_KIND: u64 = 0o170_000;
const DEVICE_KINDS: [u64; 2] = [0o020_000, 0o060_000];
const SET_ID_BITS: [u64; 2] = [0o4000, 0o2000];
const IPPROTO_MPTCP: u64 = 262;
const NETLINK_ROUTE: u64 = 0;
const SOCKET_TYPE_MASK: u64 = 0xf;
const SOCK_PACKET: u64 = 10;
/// `personality` values that only describe or make addresses fixed, as debuggers and build tools do.
const PERSONALITIES: [u64; 4] = [0, 0x0004_0000, 0x8, 0xffff_ffff];

/// Installs the filters for this process and all it starts; nothing can take them off.
pub(crate) fn apply() -> Result<(), Failure> {
    install().map_err(|error| Failure::Unsupported { missing: format!("filters of system calls ({error})") })
}

fn install() -> Outcome<()> {
    let arch = TargetArch::try_from(std::env::consts::ARCH)?;
    let compile = |rules: Rules, action: SeccompAction| -> Outcome<BpfProgram> {
        Ok(SeccompFilter::new(rules, SeccompAction::Allow, action, arch)?.try_into()?)
    };
    let absent = compile(absent()?, SeccompAction::Errno(errno(libc::ENOSYS)))?;
    let unsupported = compile(unsupported()?, SeccompAction::Errno(errno(libc::EOPNOTSUPP)))?;
    let pretended = compile(pretended()?, SeccompAction::Errno(0))?;
    let denied = compile(denied()?, SeccompAction::Errno(errno(libc::EPERM)))?;
    seccompiler::apply_filter(&other_numbers())?;
    seccompiler::apply_filter(&pretended)?;
    seccompiler::apply_filter(&unsupported)?;
    seccompiler::apply_filter(&absent)?;
    seccompiler::apply_filter(&denied)
}

fn errno(value: i32) -> u32 {
    value.unsigned_abs()
}

/// x32 numbers name the same calls a second time; the compiled filters, which kill other architectures, would not see them. Numbers beyond
/// those that are known do not exist.
fn other_numbers() -> BpfProgram {
    let line = |code: u32, jt: u8, jf: u8, k: u32| sock_filter { code: u16::try_from(code).unwrap_or_default(), jt, jf, k };
    let foreign = if cfg!(target_arch = "x86_64") { libc::SECCOMP_RET_KILL_PROCESS } else { libc::SECCOMP_RET_ERRNO | errno(libc::ENOSYS) };
    vec![
        line(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        line(libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K, 0, 1, 0x4000_0000),
        line(libc::BPF_RET | libc::BPF_K, 0, 0, foreign),
        line(libc::BPF_JMP | libc::BPF_JGT | libc::BPF_K, 0, 1, LAST_KNOWN),
        line(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ERRNO | errno(libc::ENOSYS)),
        line(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW),
    ]
}

/// Calls that do not exist in a box. `memfd_create` is there for memory that cannot be executed; without that wish it is as on a kernel that
/// has none, for which programs have another way.
fn absent() -> Outcome<Rules> {
    let mut rules: Rules = ABSENT.iter().map(|call| (*call, Vec::new())).collect();
    rules.insert(libc::SYS_memfd_create, vec![rule([is(1, Op::MaskedEq(MFD_NOEXEC_SEAL), 0)])?]);
    Ok(rules)
}

/// `fallocate` that takes room without writing, which no count of written bytes would show. Programs write instead, as on file systems without it.
fn unsupported() -> Outcome<Rules> {
    let punch_hole = u64::from(libc::FALLOC_FL_PUNCH_HOLE.unsigned_abs());
    Ok(Rules::from([(libc::SYS_fallocate, vec![rule([is(1, Op::MaskedEq(punch_hole), 0)])?])]))
}

/// Calls that are answered with success and change nothing: hiding from the watcher, which nobody else could look at it anyway; and the limit of core files, which a program may not lower from one byte to none,
/// since the kernel starts a `core_pattern` that names a program of the host's only then.
fn pretended() -> Outcome<Rules> {
    let core = u64::from(libc::RLIMIT_CORE);
    let changes = Condition::new(2, Len::Qword, Op::Ne, 0)?;
    Ok(Rules::from([
        (libc::SYS_prctl, vec![rule([is(0, Op::Eq, u64::from(libc::PR_SET_DUMPABLE.unsigned_abs()))])?]),
        (libc::SYS_setrlimit, vec![rule([is(0, Op::Eq, core)])?]),
        (libc::SYS_prlimit64, vec![rule([is(1, Op::Eq, core), Ok(changes)])?]),
    ]))
}

fn is(arg: u8, op: Op, value: u64) -> Result<Condition, seccompiler::BackendError> {
    Condition::new(arg, Len::Dword, op, value)
}

fn rule(conditions: impl IntoIterator<Item = Result<Condition, seccompiler::BackendError>>) -> Outcome<SeccompRule> {
    Ok(SeccompRule::new(conditions.into_iter().collect::<Result<Vec<_>, _>>()?)?)
}

fn denied() -> Outcome<Rules> {
    let mut rules: Rules = DENIED.iter().chain(DENIED_HERE).map(|call| (*call, Vec::new())).collect();
    rules.insert(libc::SYS_clone, new_namespaces()?);
    rules.insert(libc::SYS_socket, sockets()?);
    rules.insert(libc::SYS_ioctl, TERMINAL_REQUESTS.iter().map(|request| rule([is(1, Op::Eq, *request)])).collect::<Outcome<_>>()?);
    rules.insert(libc::SYS_personality, vec![rule(PERSONALITIES.map(|value| is(0, Op::Ne, value)))?]);
    for (call, mode) in set_mode_calls() {
        rules.insert(call, SET_ID_BITS.iter().map(|bit| rule([is(mode, Op::MaskedEq(*bit), *bit)])).collect::<Outcome<_>>()?);
    }
    for (call, mode) in special_file_calls() {
        let devices = DEVICE_KINDS.map(|kind| rule([is(mode, Op::MaskedEq(FILE_KIND), kind)]));
        rules.entry(call).or_default().extend(devices.into_iter().collect::<Outcome<Vec<_>>>()?);
    }
    for (call, flags) in creating_calls() {
        let making = [libc::O_CREAT, libc::O_TMPFILE & !libc::O_DIRECTORY].map(|flag| u64::from(flag.unsigned_abs()));
        let pairs = making.iter().flat_map(|flag| SET_ID_BITS.iter().map(move |bit| (*flag, *bit)));
        let refused = pairs.map(|(flag, bit)| rule([is(flags, Op::MaskedEq(flag), flag), is(flags + 1, Op::MaskedEq(bit), bit)]));
        rules.insert(call, refused.collect::<Outcome<_>>()?);
    }
    Ok(rules)
}

/// `clone` may make processes and threads, not namespaces.
fn new_namespaces() -> Outcome<Vec<SeccompRule>> {
    let flags = [
        libc::CLONE_NEWNS,
        libc::CLONE_NEWCGROUP,
        libc::CLONE_NEWUTS,
        libc::CLONE_NEWIPC,
        libc::CLONE_NEWUSER,
        libc::CLONE_NEWPID,
        libc::CLONE_NEWNET,
    ];
    flags.iter().map(|flag| u64::from(flag.unsigned_abs())).map(|flag| rule([is(0, Op::MaskedEq(flag), flag)])).collect()
}

/// Unix, IPv4 and IPv6 sockets, and the netlink protocol by which tools list interfaces; no other family and no multipath TCP.
fn sockets() -> Outcome<Vec<SeccompRule>> {
    let family = |value: i32| u64::from(value.unsigned_abs());
    let known = [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK];
    Ok(vec![
        rule(known.map(|value| is(0, Op::Ne, family(value))))?,
        rule([is(0, Op::Eq, family(libc::AF_NETLINK)), is(2, Op::Ne, NETLINK_ROUTE)])?,
        rule([is(2, Op::Eq, IPPROTO_MPTCP)])?,
        rule([is(1, Op::MaskedEq(SOCKET_TYPE_MASK), SOCK_PACKET)])?,
    ])
}

/// Calls that set a mode, with the number of the mode's argument.
fn set_mode_calls() -> Vec<(libc::c_long, u8)> {
    let mut calls = vec![(libc::SYS_fchmod, 1), (libc::SYS_fchmodat, 2), (SYS_FCHMODAT2, 2), (libc::SYS_mknodat, 2)];
    #[cfg(target_arch = "x86_64")]
    calls.extend([(libc::SYS_chmod, 1), (libc::SYS_creat, 1), (libc::SYS_mknod, 1)]);
    calls
}

/// Calls that may make a device, with the number of the mode's argument.
fn special_file_calls() -> Vec<(libc::c_long, u8)> {
    let mut calls = vec![(libc::SYS_mknodat, 2)];
    #[cfg(target_arch = "x86_64")]
    calls.extend([(libc::SYS_mknod, 1)]);
    calls
}

/// Calls that may make a file, with the number of the flags' argument; the mode follows it.
fn creating_calls() -> Vec<(libc::c_long, u8)> {
    let mut calls = vec![(libc::SYS_openat, 2)];
    #[cfg(target_arch = "x86_64")]
    calls.extend([(libc::SYS_open, 1)]);
    calls
}
