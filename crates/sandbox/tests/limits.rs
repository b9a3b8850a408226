//! Every limit of a box changes what happens in it.

use crate::support::{Done, Host, is_root, outside, persons_host, skipped};
use aedile_core::sandbox::{BoxExit, BoxLimits, BoxSpec};
use aedile_sandbox::BoxNote;
use std::fs;
use std::time::{Duration, Instant};

const MB: u64 = 1 << 20;

fn run(host: &Host, limits: BoxLimits, script: &str) -> (Done, Vec<BoxNote>) {
    host.guarded(BoxSpec { limits, ..host.spec(script) }).unwrap()
}

fn python(code: &str) -> String {
    format!("python3 -c '{code}'")
}

/// Ended for what it used, with words that say so.
fn ended(done: &Done, notes: &[BoxNote], words: &str) {
    assert_eq!(done.exit, BoxExit::Signal(9), "{done:?}");
    assert!(notes.iter().any(|note| note.rule == "limit" && note.words.contains(words)), "{notes:?}");
}

#[test]
fn memory_of_all_processes_together_is_bounded() {
    let host = persons_host();
    let limits = BoxLimits { memory_bytes: Some(200 * MB), ..BoxLimits::default() };
    let part = |megabytes: u32| format!("import time; x = bytearray({megabytes} << 20); print(\"had\", flush=True); time.sleep(20)");
    let attack = format!("for i in 1 2 3 4; do {} & done; wait", python(&part(100)));
    let (done, notes) = run(&host, limits.clone(), &attack);
    ended(&done, &notes, "bytes of memory");
    let (done, notes) = run(&host, limits, &python(&part(80)).replace("time.sleep(20)", "time.sleep(1)"));
    assert_eq!((done.ok(), notes), ("had", vec![]));
}

#[test]
fn memory_that_is_in_files_or_segments_is_bounded_too() {
    let host = persons_host();
    let limits = BoxLimits { memory_bytes: Some(100 * MB), ..BoxLimits::default() };
    let kinds = [
        ("temporary", "head -c 60000000 /dev/zero > /dev/shm/a; head -c 60000000 /dev/zero > /tmp/b; sleep 20".to_owned()),
        (
            "memory files",
            python("import os, ctypes, time\nfor i in range(4):\n  f = ctypes.CDLL(None).syscall(NR, b\"m\", 8)\n  os.write(f, bytes(40 << 20))\ntime.sleep(20)")
                .replace("NR", if cfg!(target_arch = "x86_64") { "319" } else { "279" }),
        ),
        (
            "shared mappings",
            python("import mmap, os, time\nfor i in range(4):\n  m = mmap.mmap(-1, 40 << 20); m.write(bytes(40 << 20))\n  if os.fork() == 0: time.sleep(20)\ntime.sleep(20)"),
        ),
        (
            "segments",
            python("import ctypes, time\nc = ctypes.CDLL(None); c.shmat.restype = ctypes.c_void_p\nfor i in range(4):\n  s = c.shmget(0, 40 << 20, 0o1600); p = c.shmat(s, None, 0); ctypes.memset(p, 1, 40 << 20); c.shmdt(ctypes.c_void_p(p))\ntime.sleep(20)"),
        ),
    ];
    for (kind, attack) in kinds {
        let start = Instant::now();
        let (done, notes) = run(&host, limits.clone(), &attack);
        if kind == "temporary" && done.output.contains("No space") {
            continue;
        }
        assert!(start.elapsed() < Duration::from_secs(18), "{kind}");
        ended(&done, &notes, "bytes of memory");
    }
    let shared = "import mmap, os, time\nm = mmap.mmap(-1, 40 << 20); m.write(bytes(40 << 20))\nfor i in range(6):\n  if os.fork() == 0:\n    sum(m[::4096]); time.sleep(1); os._exit(0)\nos.wait(); print(\"fine\")";
    assert_eq!(run(&host, limits, &python(shared)).0.ok(), "fine", "what is shared counts once");
}

#[test]
fn processor_time_of_all_processes_together_is_bounded() {
    let host = persons_host();
    let limits = BoxLimits { cpu: Some(Duration::from_secs(1)), wall: Some(Duration::from_secs(60)), ..BoxLimits::default() };
    let (done, notes) = run(
        &host,
        limits.clone(),
        "for i in 1 2 3; do sh -c 'i=0; while [ $i -lt 30000 ]; do i=$((i+1)); done'; done; while :; do (:); done",
    );
    ended(&done, &notes, "processor time");
    run(&host, limits, "sleep 2").0.ok();
}

#[test]
fn disk_is_bounded() {
    let host = persons_host();
    let limits = BoxLimits { disk_bytes: Some(20 * MB), wall: Some(Duration::from_secs(60)), ..BoxLimits::default() };
    let fill =
        "import os\nn = 0\nwhile True:\n  n += 1; f = os.open(\"g%d\" % n, os.O_CREAT | os.O_RDWR); os.posix_fallocate(f, 0, 3000000)";
    for attack in ["while :; do n=$((n+1)); head -c 3000000 /dev/zero > f$n; done".to_owned(), python(fill)] {
        let (done, notes) = run(&host, limits.clone(), &attack);
        ended(&done, &notes, "bytes to disks");
        assert!(fs::read_dir(&host.tree).unwrap().count() > 1);
        assert!(outside(&host.tree, &[], "rm -f *").exit.success());
    }
    assert!(outside(&host.tree, &[], "fallocate -l 3000000 x && rm x").exit.success());
    assert!(!run(&host, limits.clone(), "fallocate -l 3000000 x").0.exit.success());
    run(&host, limits, "head -c 3000000 /dev/zero > f; sleep 1").0.ok();
}

#[test]
fn what_hides_or_vanishes_counts_against_its_limit() {
    let host = persons_host();
    let limits = BoxLimits { disk_bytes: Some(30 * MB), wall: Some(Duration::from_secs(60)), ..BoxLimits::default() };
    let hidden = python(
        "import ctypes\nc = ctypes.CDLL(None); assert c.prctl(4, 0, 0, 0, 0) == 0 and c.prctl(3, 0, 0, 0, 0) == 1\nn = 0\nwhile True:\n  n += 1; open(\"g%d\" % n, \"wb\").write(bytes(3000000))",
    );
    let (done, notes) = run(&host, limits.clone(), &hidden);
    ended(&done, &notes, "bytes to disks");
    let unread = "cp $(command -v sleep) ./s; chmod 111 s; ./s 20";
    let (done, notes) = run(&host, limits.clone(), unread);
    ended(&done, &notes, "does not show what it writes");
    // Each child lives long enough to be seen, writes a part of the limit and goes without being waited for.
    let vanish = "import os, signal, time\nsignal.signal(signal.SIGCHLD, signal.SIG_IGN)\nfor n in range(40):\n  if os.fork() == 0:\n    open(\"v%d\" % n, \"wb\").write(bytes(5000000)); time.sleep(0.6); os._exit(0)\n  time.sleep(0.8)";
    let (done, notes) = run(&host, limits, &python(vanish));
    ended(&done, &notes, "bytes to disks");
    let limits = BoxLimits { cpu: Some(Duration::from_secs(2)), wall: Some(Duration::from_secs(60)), ..BoxLimits::default() };
    let vanish = "import os, signal, time\nsignal.signal(signal.SIGCHLD, signal.SIG_IGN)\nfor n in range(40):\n  if os.fork() == 0:\n    e = time.process_time() + 0.6\n    while time.process_time() < e: pass\n    os._exit(0)\n  time.sleep(1)";
    let (done, notes) = run(&host, limits, &python(vanish));
    ended(&done, &notes, "processor time");
}

#[test]
fn processes_descriptors_files_and_time_are_bounded() {
    let host = persons_host();
    let count = "for i in $(seq 40); do sleep 5 & done; ls -d /proc/[0-9]* | wc -l";
    let processes = |limit| BoxLimits { processes: Some(limit), wall: Some(Duration::from_secs(30)), ..BoxLimits::default() };
    assert!(!run(&host, processes(20), count).0.exit.success());
    assert!(run(&host, processes(100), count).0.ok().parse::<u32>().unwrap() >= 40);
    let descriptors = |limit| BoxLimits { descriptors: Some(limit), ..BoxLimits::default() };
    let open = python("import os; [os.dup(1) for _ in range(100)]");
    assert!(!run(&host, descriptors(64), &open).0.exit.success());
    run(&host, descriptors(200), &open).0.ok();
    let file = |limit| BoxLimits { file_bytes: Some(limit), ..BoxLimits::default() };
    assert!(!run(&host, file(MB), "head -c 2000000 /dev/zero > big").0.exit.success());
    run(&host, file(4 * MB), "head -c 2000000 /dev/zero > big").0.ok();
    let wall = |millis| BoxLimits { wall: Some(Duration::from_millis(millis)), ..BoxLimits::default() };
    assert_eq!(run(&host, wall(300), "sleep 5").0.exit, BoxExit::TimedOut);
    run(&host, wall(30_000), "sleep 0.5").0.ok();
}

#[test]
fn a_crash_leaves_no_core_and_starts_no_program_of_the_host() {
    let host = persons_host();
    let crash = "ulimit -c unlimited 2>/dev/null; ulimit -c 0; sh -c 'kill -SEGV $$'; prlimit --core; ls";
    let (done, _) = run(&host, BoxLimits::default(), crash);
    assert!(!done.output.contains("core\n") && !done.output.contains("unlimited"), "{done:?}");
    if !is_root() {
        return;
    }
    let pattern = "/proc/sys/kernel/core_pattern";
    let Ok(old) = fs::read(pattern) else { return skipped("the program of a core_pattern", "there is no core_pattern") };
    let proof = host.dir.path().join("proof");
    let script = host.dir.path().join("handler");
    fs::write(&script, format!("#!/bin/sh\necho ran > {}\n", proof.display())).unwrap();
    fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    if fs::write(pattern, format!("|{}", script.display())).is_err() {
        return skipped("the program of a core_pattern", "core_pattern cannot be written");
    }
    let (done, _) = run(&host, BoxLimits::default(), "ulimit -c 0; sh -c 'kill -SEGV $$'; true");
    let boxed = proof.exists();
    outside(&host.tree, &[], "ulimit -c 0; sh -c 'kill -SEGV $$'");
    let end = Instant::now() + Duration::from_secs(5);
    while !proof.exists() && Instant::now() < end {
        std::thread::yield_now();
    }
    let free = proof.exists();
    fs::write(pattern, old).unwrap();
    done.ok();
    assert!(free && !boxed, "outside it ran: {free}, from the box: {boxed}");
}
