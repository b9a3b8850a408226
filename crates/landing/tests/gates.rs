//! What gates may and may not do.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use aedile_core::event::{Event, ReturnReason};
use aedile_core::machine::{ChangeState, TaskState};
use aedile_core::sandbox::{BoxChild, BoxSpec, Sandbox, SandboxError, SandboxReport};
use aedile_core::task::GateSpec;
use aedile_landing::{LandingDeps, LandingError, LandingQueue};

use crate::support::{Setup, World, gate, gated};

#[tokio::test(flavor = "multi_thread")]
async fn a_red_gate_goes_back_with_its_output() {
    let world = World::new(gated(&[
        ("first", "true"),
        ("check", "echo looking; sh check.sh || { printf '\\033[31mbroken!\\033[0m\\n' >&2; exit 3; }"),
        ("never", "true"),
    ]));
    let before = world.main();
    world.submitted("auth", &["src/**"], &[("src/a.txt", "broken\n")]);
    let (reason, text) = world.go_back().await;
    assert_eq!(reason, ReturnReason::Gate { gate: "check".to_owned() });
    for part in ["`check` was red", "exit code 3", "sh check.sh", "looking\nbroken!\n"] {
        assert!(text.contains(part), "{part} in {text}");
    }
    assert_eq!((world.main(), world.count("gate_passed"), world.count("gate_failed")), (before, 1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gate_that_edits_files_changes_neither_what_lands_nor_what_the_next_gate_sees() {
    let world = World::new(gated(&[
        ("edits", "echo fixed > src/a.txt && rm check.sh && echo built > out.txt && echo x > .gitignore"),
        ("sees", "test \"$(cat src/a.txt)\" = mine && test -f check.sh"),
        ("builds", "mkdir target && echo x > target/x"),
        ("is alone", "! test -e target && ! test -e out.txt"),
    ]));
    world.submitted("auth", &["src/**"], &[("src/a.txt", "mine\n")]);
    world.land().await;
    assert_eq!(world.repo.show("main", "src/a.txt"), "mine\n");
    assert_eq!(world.repo.git(&["ls-tree", "--name-only", "main"]), "README.md\ncheck.sh\nsrc");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gate_has_git_a_home_and_no_network_and_no_trace_of_the_host() {
    let world = World::new(gated(&[
        ("git", "git status --porcelain && test -z \"$(git status --porcelain)\" && git ls-files --error-unmatch src/a.txt"),
        ("home", "echo x > \"$HOME/x\" && test -w /tmp && test \"$PWD\" = /workspace"),
        ("net", "test \"$(ls /sys/class/net 2>/dev/null | grep -v '^lo$' | wc -l)\" = 0"),
        ("user", "test \"$(id -u)\" != 0"),
    ]));
    world.submitted("auth", &["src/**"], &[("src/a.txt", "mine\n")]);
    world.land().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gate_that_hangs_is_ended() {
    let mut setup = Setup::default();
    setup.rules.gates = vec![GateSpec { timeout_s: Some(1), ..gate("hangs", "echo begun; sleep 1000") }];
    let world = World::new(setup);
    world.submitted("auth", &["src/**"], &[("src/a.txt", "mine\n")]);
    let began = Instant::now();
    let (reason, text) = world.go_back().await;
    assert_eq!(reason, ReturnReason::Gate { gate: "hangs".to_owned() });
    assert!(text.contains("still running after its limit of 1 s") && text.contains("begun"), "{text}");
    assert!(began.elapsed() < Duration::from_secs(60));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gate_that_leaves_a_daemon_ends_all_the_same() {
    let world = World::new(gated(&[("daemon", "sh -c 'while :; do sleep 1; done' & setsid sleep 1000 & echo green")]));
    world.submitted("auth", &["src/**"], &[("src/a.txt", "mine\n")]);
    let began = Instant::now();
    world.land().await;
    assert!(began.elapsed() < Duration::from_secs(60));
}

#[tokio::test(flavor = "multi_thread")]
async fn much_output_is_cut_in_the_middle() {
    let world = World::new(gated(&[("loud", "echo BEGIN; yes | head -c 3000000; echo END; exit 1")]));
    world.submitted("auth", &["src/**"], &[("src/a.txt", "mine\n")]);
    let (_, text) = world.go_back().await;
    assert!(text.contains("BEGIN") && text.contains("END") && text.contains("bytes cut"), "{}", text.len());
    let failed = world.events().into_iter().find_map(|event| match event {
        Event::GateFailed { output, .. } => Some(output),
        _ => None,
    });
    let output = world.store.get_blob(&failed.unwrap()).unwrap().unwrap();
    assert!(output.len() <= aedile_core::limits::GATE_OUTPUT_BYTES_MAX + 100 && text.len() < output.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_during_a_gate_ends_the_gate_and_the_change_goes_on_later() {
    let world = World::new(gated(&[("waits", "test ! -f src/wait || sleep 1000")]));
    let change = world.submitted("auth", &["src/**"], &[("src/wait", "x\n")]);
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let (queue, run) = (world.queue(), world.run);
    let running = tokio::spawn(async move { queue.run(run, stopped).await });
    aedile_testkit::wait_for_async("the gate", Duration::from_secs(60), || async { (world.count("tier_tried") == 1).then_some(()) }).await;
    stop.send(true).unwrap();
    let began = Instant::now();
    running.await.unwrap().unwrap();
    assert!(began.elapsed() < Duration::from_secs(20));
    assert_eq!(world.change(change).state, ChangeState::Imported);
}

/// A sandbox that makes no box for gates until it is mended.
struct Broken {
    inner: Arc<dyn Sandbox>,
    mended: Arc<AtomicBool>,
}

impl Sandbox for Broken {
    fn spawn(&self, spec: BoxSpec) -> Result<Box<dyn BoxChild>, SandboxError> {
        if spec.label.starts_with("gate") && !self.mended.load(Ordering::SeqCst) {
            return Err(SandboxError::Unsupported { missing: "user namespaces are switched off".to_owned() });
        }
        self.inner.spawn(spec)
    }
    fn report(&self) -> SandboxReport {
        self.inner.report()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gate_without_a_box_is_neither_green_nor_red() {
    let world = World::new(gated(&[("check", "true")]));
    let before = world.main();
    let change = world.submitted("auth", &["src/**"], &[("src/a.txt", "mine\n")]);
    let mended = Arc::new(AtomicBool::new(false));
    let sandbox: Arc<dyn Sandbox> = Arc::new(Broken { inner: Arc::clone(&world.sandbox), mended: Arc::clone(&mended) });
    let queue = LandingQueue::new(LandingDeps { sandbox, ..world.deps("tester") });
    assert!(matches!(queue.step(world.run).await, Err(LandingError::Gate { .. })));
    assert_eq!((world.change(change).state, world.main()), (ChangeState::Imported, before));
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let (running, run) = (queue.clone(), world.run);
    let running = tokio::spawn(async move { running.run(run, stopped).await });
    let task = world.change(change).task;
    aedile_testkit::wait_for_async("the person", Duration::from_secs(60), || async {
        (world.task_view(task).state == TaskState::Waiting).then_some(())
    })
    .await;
    assert!(world.task_view(task).why.unwrap().contains("user namespaces are switched off"));
    stop.send(true).unwrap();
    running.await.unwrap().unwrap();
}
