//! Ways into the kernel that a box does not have.

use crate::support::{host, is_root, outside, skipped};
use aedile_core::sandbox::BoxExit;
use aedile_core::sandbox::Sandbox;

/// Calls one system call by number and prints the name of its error, or nothing.
fn call(number: u32, args: &str) -> String {
    format!(
        "import ctypes, errno\nc = ctypes.CDLL(None, use_errno=True)\nr = c.syscall({number}, {args})\nprint(errno.errorcode.get(ctypes.get_errno()) if r < 0 else \"done\")"
    )
}

#[test]
fn no_namespace_can_be_made_inside() {
    let host = host();
    for attack in ["unshare -U true", "unshare -Ur true", "unshare -Urm true", "unshare -Un true", "unshare -Urp -f true"] {
        assert!(outside(&host.tree, &[], attack).exit.success(), "baseline of {attack}");
        assert!(!host.script(attack).exit.success(), "{attack}");
    }
    if cfg!(target_arch = "x86_64") {
        // clone(CLONE_NEWUSER | SIGCHLD): the child, if there is one, leaves at once.
        let code = format!("import os, sys\n{}\nsys.stdout.flush()\nos._exit(0)", call(56, "0x10000011, 0, 0, 0, 0"));
        assert!(outside(&host.tree, &[], &format!("python3 -c '{code}'")).ok().contains("done"));
        assert_eq!(host.script(&format!("python3 -c '{code}'")).ok(), "EPERM");
    }
}

#[test]
fn dangerous_calls_are_refused() {
    // Numbers that x86-64 and arm64 have in common.
    let calls = [
        (435, "ctypes.c_void_p(0), 0", "ENOSYS", "clone3"),
        (437, "-1, ctypes.c_void_p(0), ctypes.c_void_p(0), 0", "ENOSYS", "openat2"),
        (425, "1, ctypes.c_void_p(0)", "ENOSYS", "io_uring_setup"),
        (428, "-100, b\"/\", 1", "EPERM", "open_tree"),
        (429, "-1, b\"\", -100, b\"/tmp\", 4", "EPERM", "move_mount"),
        (430, "b\"tmpfs\", 0", "EPERM", "fsopen"),
        (442, "-100, b\"/\", 0, ctypes.c_void_p(0), 0", "EPERM", "mount_setattr"),
        (438, "-1, 0, 0", "EPERM", "pidfd_getfd"),
        (467, "-100, b\"/\", 1", "EPERM", "open_tree_attr"),
    ];
    let host = host();
    for (number, args, error, name) in calls {
        assert_eq!(host.script(&format!("python3 -c '{}'", call(number, args))).ok(), error, "{name}");
    }
    if cfg!(target_arch = "x86_64") {
        for (number, name) in [
            (101, "ptrace"),
            (321, "bpf"),
            (298, "perf_event_open"),
            (323, "userfaultfd"),
            (250, "keyctl"),
            (248, "add_key"),
            (165, "mount"),
            (161, "chroot"),
            (272, "unshare"),
            (308, "setns"),
            (304, "open_by_handle_at"),
            (246, "kexec_load"),
            (175, "init_module"),
        ] {
            assert_eq!(host.script(&format!("python3 -c '{}'", call(number, "0, 0, 0, 0, 0"))).ok(), "EPERM", "{name}");
        }
    }
}

#[test]
fn terminals_cannot_be_fed() {
    let code = "import os, fcntl, errno\nm, s = os.openpty()\nfor r in (0x5412, 0x541c):\n  try: fcntl.ioctl(s, r, b\"x\")\n  except OSError as e: print(errno.errorcode[e.errno], end=\" \")";
    assert_eq!(host().script(&format!("python3 -c '{code}'")).ok(), "EPERM EPERM");
}

#[test]
fn foreign_system_calls_kill() {
    if !cfg!(target_arch = "x86_64") {
        return skipped("foreign_system_calls_kill", "only x86-64 has 32-bit and x32 entries");
    }
    let run = |code: &str| {
        format!(
            "python3 -c 'import ctypes, mmap\nm = mmap.mmap(-1, 4096, prot=7)\nm.write({code})\nf = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(m)))\nprint(f())'"
        )
    };
    let host = host();
    // mov eax, 20 (getpid of i386); int 0x80; ret
    let foreign = run("b\"\\xb8\\x14\\x00\\x00\\x00\\xcd\\x80\\xc3\"");
    if outside(&host.tree, &[], &foreign).exit.success() {
        assert_eq!(host.script(&format!("exec {foreign}")).exit, BoxExit::Signal(31));
    } else {
        skipped("foreign_system_calls_kill", "this kernel has no 32-bit system calls");
    }
    // The same for x32: mov eax, 0x40000027; syscall; ret
    let x32 = run("b\"\\xb8\\x27\\x00\\x00\\x40\\x0f\\x05\\xc3\"");
    assert_eq!(host.script(&format!("exec {x32}")).exit, BoxExit::Signal(31));
}

#[test]
fn the_report_says_what_holds() {
    let report = host().sandbox.report();
    assert!(report.level.starts_with("namespaces"), "{report:?}");
    let names: Vec<_> = report.mechanisms.iter().filter(|(_, present, _)| *present).map(|(name, _, _)| name.as_str()).collect();
    assert!(names.contains(&"namespaces") && names.contains(&"system call filter"), "{report:?}");
    // What no host can give is no mechanism that this one lacks.
    assert!(!report.mechanisms.iter().any(|(name, _, _)| name == "limits per box"), "{report:?}");
    assert!(report.mechanisms.iter().any(|(_, _, words)| words.contains("no cgroup is used")), "{report:?}");
    assert_eq!(names.contains(&"unprivileged id") && names.contains(&"id-mapped mounts"), is_root());
    let trees = aedile_sandbox::Trees::Persons;
    let config = aedile_sandbox::SandboxConfig {
        launcher: "/nonexistent".into(),
        toolchains: Default::default(),
        runtime_dir: "/tmp".into(),
        trees,
    };
    let broken = aedile_sandbox::NativeSandbox::new(config).unwrap().report();
    assert!(broken.level == "no box can be started" && broken.mechanisms[0].2.contains("/nonexistent"), "{broken:?}");
}

#[test]
fn landlock_is_in_force() {
    // A process can be restricted sixteen times; the box is the first of them.
    let code = "import ctypes\nc = ctypes.CDLL(None)\na = (ctypes.c_uint64 * 1)(1)\nf = c.syscall(444, a, 8, 0)\nc.prctl(38, 1, 0, 0, 0)\nn = 0\nwhile c.syscall(446, f, 0) == 0: n += 1\nprint(n)";
    let host = host();
    let count = format!("python3 -c '{code}'");
    match outside(&host.tree, &[], &count).ok() {
        "16" => assert_eq!(host.script(&count).ok(), "15"),
        other => skipped("landlock_is_in_force", &format!("a process here can be restricted {other} times, not 16")),
    }
}

#[test]
fn anonymous_memory_cannot_be_executed() {
    let host = host();
    let make = if cfg!(target_arch = "x86_64") { 319 } else { 279 };
    let exec = |flags: u32| {
        format!(
            "python3 -c 'import ctypes, os, errno\nc = ctypes.CDLL(None, use_errno=True)\nf = c.syscall({make}, b\"m\", {flags})\nif f < 0: print(errno.errorcode[ctypes.get_errno()]); exit(1)\nos.write(f, open(\"/bin/true\", \"rb\").read())\ntry: os.fchmod(f, 0o755)\nexcept OSError: pass\nos.execve(f, [\"true\"], {{}})'"
        )
    };
    assert!(outside(&host.tree, &[], &exec(0)).exit.success());
    for flags in [0, 1, 2, 16] {
        let done = host.script(&exec(flags));
        assert!(!done.exit.success() && done.output.contains("ENOSYS"), "{flags}: {done:?}");
    }
    let done = host.script(&exec(8));
    assert!(!done.exit.success() && done.output.contains("PermissionError"), "{done:?}");
    assert!(!host.script("cp /bin/true /dev/shm/t && /dev/shm/t").exit.success());
    host.script("cp /bin/true /tmp/t && /tmp/t").ok();
}

#[test]
fn calls_that_are_not_known_yet_do_not_exist() {
    for number in [470, 480, 999] {
        assert_eq!(host().script(&format!("python3 -c '{}'", call(number, "0, 0, 0, 0, 0"))).ok(), "ENOSYS", "{number}");
    }
}

#[test]
fn the_kernel_tells_nothing_about_itself_or_its_keys() {
    let host = host();
    let files = "/proc/keys /proc/key-users /proc/kallsyms /proc/cmdline /proc/modules /proc/config.gz /proc/timer_list";
    let done = host.script(&format!("cat {files} 2>/dev/null | wc -c; ls /proc/acpi /proc/fs /proc/irq /proc/scsi /proc/bus 2>/dev/null | grep -v : | tr -d '\\n' | wc -c"));
    assert_eq!(done.ok(), "0\n0");
    assert!(!host.script("echo x > /proc/sys/kernel/hostname || echo x > /proc/self/../sys/vm/drop_caches").exit.success());
    host.script("cat /proc/cpuinfo /proc/meminfo /proc/stat /proc/sys/kernel/ostype > /dev/null").ok();
}
