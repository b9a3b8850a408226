//! Processes of a box: how they end, and what they may do to others.

use crate::support::{Done, eventually, finish, host, is_root, outside, processes_named, wait};
use aedile_core::sandbox::{BoxExit, BoxIo, BoxLimits, BoxSpec, Sandbox};
use aedile_sandbox::BOX_HOST_ID;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::time::Duration;

#[test]
fn the_programs_end_is_passed_on_exactly() {
    let host = host();
    assert_eq!(host.script("exit 42").exit, BoxExit::Code(42));
    assert_eq!(host.script("kill -SEGV $$").exit, BoxExit::Signal(11));
    assert_eq!(host.run(BoxSpec { io: BoxIo::Inherit, ..host.spec("test ! -e /dev/fd/3 && exit 3") }).exit, BoxExit::Code(3));
    let missing = BoxSpec { command: vec!["no-such-program".into()], ..host.spec("") };
    assert!(host.sandbox.spawn(missing).err().unwrap().to_string().contains("no-such-program"));
    let not_a_program = BoxSpec { command: vec!["/etc/passwd".into()], ..host.spec("") };
    assert!(host.sandbox.spawn(not_a_program).err().unwrap().to_string().contains("/etc/passwd"));
}

#[test]
fn pipes_join_the_program_with_the_caller() {
    let host = host();
    let mut child = host.sandbox.spawn(BoxSpec { io: BoxIo::Piped, ..host.spec("cat; echo err >&2") }).unwrap();
    fs::File::from(child.take_stdin().unwrap()).write_all(b"through").unwrap();
    let mut err = String::new();
    let stderr = child.take_stderr().unwrap();
    assert_eq!(finish(child).ok(), "through");
    fs::File::from(stderr).read_to_string(&mut err).unwrap();
    assert_eq!(err, "err\n");
}

#[test]
fn terminate_asks_and_kill_does_not() {
    let host = host();
    let script = "trap 'echo bye; exit 7' TERM; echo up; while :; do sleep 0.02; done";
    for asked in [true, false] {
        let mut child = host.sandbox.spawn(host.spec(script)).unwrap();
        let mut output = BufReader::new(fs::File::from(child.take_stdout().unwrap())).lines();
        assert_eq!(output.next().unwrap().unwrap(), "up");
        if asked {
            child.terminate();
        } else {
            child.kill();
        }
        assert_eq!(wait(child.as_mut()), if asked { BoxExit::Code(7) } else { BoxExit::Signal(9) });
        assert_eq!(output.next().transpose().unwrap().as_deref(), asked.then_some("bye"));
        child.kill();
        child.terminate();
    }
}

#[test]
fn the_wall_limit_ends_the_box_even_if_nobody_waits() {
    let host = host();
    let limits = BoxLimits { wall: Some(Duration::from_millis(300)), ..BoxLimits::default() };
    let done = host.run(BoxSpec { limits, ..host.spec("trap '' TERM; echo up; sleep 60") });
    assert_eq!((done.exit, done.output.as_str()), (BoxExit::TimedOut, "up\n"));
}

#[test]
fn what_the_program_left_running_ends_with_it() {
    let host = host();
    let word = format!("97531.{}1", std::process::id());
    let script =
        format!("(setsid sh -c '(setsid sleep {word} &) &') & while ! grep -aq {word} /proc/[0-9]*/cmdline; do :; done; echo seen");
    let done = host.script(&script);
    assert_eq!(done.ok(), "seen");
    assert!(processes_named(&word).is_empty());
}

#[test]
fn dropping_a_box_ends_it() {
    let host = host();
    let word = format!("97531.{}2", std::process::id());
    let child = host.sandbox.spawn(host.spec(&format!("sleep {word}"))).unwrap();
    eventually("the program runs", || !processes_named(&word).is_empty());
    drop(child);
    assert!(processes_named(&word).is_empty());
}

const HOLD: &str = "AEDILE_TEST_HOLD";

/// Not a test of its own: the parent that the next test kills.
#[test]
#[expect(clippy::disallowed_methods, reason = "tells the two uses of this function apart")]
fn hold_a_box() {
    if let Some(word) = std::env::var_os(HOLD) {
        let host = host();
        let script = format!("setsid sleep {} & sleep 97531", word.to_str().unwrap());
        let mut child = host.sandbox.spawn(host.spec(&script)).unwrap();
        wait(child.as_mut());
    }
}

#[test]
#[expect(clippy::disallowed_methods, reason = "starts the parent that is killed")]
fn no_process_survives_the_death_of_its_parent() {
    let word = format!("97531.{}3", std::process::id());
    let me = std::env::current_exe().unwrap();
    // What the killed parent leaves goes with this directory.
    let dir = tempfile::tempdir().unwrap();
    let mut parent = std::process::Command::new(me)
        .args(["processes::hold_a_box", "--exact"])
        .env(HOLD, &word)
        .env("TMPDIR", dir.path())
        .spawn()
        .unwrap();
    eventually("the box runs", || !processes_named(&word).is_empty());
    parent.kill().unwrap();
    parent.wait().unwrap();
    eventually("the box has ended", || processes_named(&word).is_empty());
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a process outside")]
fn processes_outside_cannot_be_reached() {
    let host = host();
    let mut other = std::process::Command::new("sleep").arg("97532").spawn().unwrap();
    let attack = format!("kill -CONT {0} && ls /proc/{0}/", other.id());
    assert!(outside(&host.tree, &[], &attack).exit.success());
    assert!(!host.script(&attack).exit.success());
    let done = host.script("kill -9 -1");
    assert!(matches!(done.exit, BoxExit::Signal(9) | BoxExit::Code(_)), "{done:?}");
    assert!(other.try_wait().unwrap().is_none());
    other.kill().unwrap();
    other.wait().unwrap();
}

#[test]
fn a_box_is_an_unprivileged_user_of_the_host() {
    let host = host();
    let mut child = host.sandbox.spawn(BoxSpec { io: BoxIo::Piped, ..host.spec("cat; cat /proc/self/status") }).unwrap();
    let (pid, started) = child.process();
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let id = if is_root() { BOX_HOST_ID } else { rustix::process::geteuid().as_raw() };
    for field in ["Uid", "Gid"] {
        assert!(status.contains(&format!("{field}:\t{id}\t{id}\t{id}\t{id}\n")), "{status}");
    }
    assert_eq!(host.sandbox.report().host_uid, id);
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    assert!(stat.contains(&format!(" {started} ")));
    drop(child.take_stdin());
    let Done { output, .. } = finish(child);
    for line in ["CapEff:\t0000000000000000", "CapPrm:\t0000000000000000", "CapBnd:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2"] {
        assert!(output.contains(line), "{line}: {output}");
    }
}

#[test]
fn limits_hold() {
    let host = host();
    let limits = BoxLimits {
        processes: Some(20),
        file_bytes: Some(1 << 20),
        descriptors: Some(64),
        memory_bytes: Some(256 << 20),
        ..BoxLimits::default()
    };
    let run = |script: &str| host.run(BoxSpec { limits: limits.clone(), ..host.spec(script) });
    let attacks = [
        "for i in $(seq 40); do sleep 5 & done; test $(ls -d /proc/[0-9]* | wc -l) -gt 30",
        "head -c 2000000 /dev/zero > big",
        "python3 -c 'import os; [os.dup(1) for _ in range(200)]'",
        "python3 -c 'x = bytearray(1 << 29)'",
    ];
    for attack in attacks {
        assert!(outside(&host.tree, &[], attack).exit.success(), "baseline of {attack}");
        let done = run(attack);
        assert!(!done.exit.success(), "{attack}: {done:?}");
    }
    assert_eq!(run("seq 3 | wc -l").ok(), "3");
}

#[test]
fn memory_for_temporary_files_is_one_small_piece() {
    let host = host();
    let ram: u64 = outside(&host.tree, &[], "awk '/^MemTotal/ {print $2}' /proc/meminfo").ok().parse().unwrap();
    let script = "for d in /tmp /var/tmp /dev/shm ~; do df -k --output=size $d | tail -1; done | sort -u; \
                  head -c 8388608 /dev/zero > /tmp/x; df -k --output=used /dev/shm | tail -1; rm /tmp/x; ulimit -d; ! echo x > /aedile/temporary/x";
    let done = host.script(script);
    let numbers: Vec<u64> = done.ok().split_whitespace().filter_map(|word| word.parse().ok()).collect();
    let &[size, used, data] = numbers.as_slice() else { panic!("{done:?}") };
    assert!(size <= (ram / 8).min(4 << 20) + 4 && used >= 8192, "{done:?}");
    assert!(data <= ram / 2, "{done:?}");
    let modes = host.script("stat -c %a /tmp /var/tmp /dev/shm ~; touch /tmp/a /var/tmp/a /dev/shm/a ~/a");
    assert_eq!(modes.ok(), "1777\n1777\n1777\n755");
}

#[test]
fn nothing_is_left_behind() {
    let host = host();
    // Other tests make mounts of their own.
    let mounts = || {
        fs::read_to_string("/proc/self/mountinfo")
            .unwrap()
            .lines()
            .filter(|line| !line.contains(" ramfs ") && !line.contains(" overlay "))
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let (before, entries) = (mounts(), fs::read_dir(host.dir.path()).unwrap().count());
    for _ in 0..3 {
        host.script("echo x > /tmp/x").ok();
    }
    assert_eq!(mounts(), before);
    assert_eq!(fs::read_dir(host.dir.path()).unwrap().count(), entries);
}
