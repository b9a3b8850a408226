//! Changes that wait together: batches, bisections, pairs and conflicts through the real queue, gates and repository.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use aedile_core::ChangeId;
use aedile_core::event::{Event, ReturnReason};
use aedile_core::machine::{ChangeState, TaskState};
use aedile_core::store::{list, load};
use aedile_core::view::{ChangeView, TaskView};
use aedile_landing::LandingQueue;
use tokio::sync::watch;

use crate::support::{Setup, World, gated, watched};

/// Runs the queue until no change of the run is on its way.
async fn drain(world: &World) {
    drain_with(world, world.queue()).await;
}

/// The same with a queue of its own. A change whose task no longer wants it is on no way.
pub(crate) async fn drain_with(world: &World, queue: LandingQueue) {
    let (stop, stopped) = watch::channel(false);
    let running = tokio::spawn({
        let run = world.run;
        async move { queue.run(run, stopped).await }
    });
    let store = Arc::clone(&world.store);
    let run = world.run;
    tokio::task::spawn_blocking(move || {
        loop {
            let seen = store.last().unwrap();
            let changes = list::<ChangeView>(&*store, Some(run)).unwrap();
            let wanted = |change: &ChangeView| {
                let task: TaskView = load(&*store, &change.task.to_string()).unwrap().unwrap();
                (task.state == TaskState::Submitted && !task.cancel_requested) || change.state == ChangeState::Intended
            };
            if !changes.iter().any(wanted) {
                return;
            }
            store.wait_for_change(seen, Duration::from_secs(5)).unwrap();
        }
    })
    .await
    .unwrap();
    stop.send(true).unwrap();
    running.await.unwrap().unwrap();
}

fn states(world: &World, changes: &[ChangeId]) -> Vec<ChangeState> {
    changes.iter().map(|change| world.change(*change).state).collect()
}

/// One commit for each landed change, in a line.
fn assert_linear(world: &World, from: &str, landed: usize) {
    let commits = world.repo.git(&["rev-list", "--parents", &format!("{from}..main")]);
    assert_eq!(commits.lines().count(), landed, "{commits}");
    assert!(commits.lines().all(|line| line.split(' ').count() == 2), "{commits}");
    world.repo.git(&["fsck", "--strict"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_that_wait_together_land_in_one_step() {
    let mut world = World::new(gated(&[("check", "sh check.sh")]));
    let runs = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&runs);
    world.sandbox = watched(&world.sandbox, move |spec| {
        if spec.label.starts_with("gate") {
            counted.fetch_add(1, Ordering::Relaxed);
        }
    });
    let before = world.main();
    let changes: Vec<ChangeId> =
        (0..6).map(|n| world.submitted(&format!("t{n}"), &["src/**"], &[(&format!("src/n{n}.txt"), "x\n")])).collect();
    drain(&world).await;
    assert_eq!(states(&world, &changes), [ChangeState::Landed; 6]);
    assert_linear(&world, &before, 6);
    let runs = runs.load(Ordering::Relaxed);
    assert!((1..=3).contains(&runs), "{runs} runs of the gate for six changes");
    let moves = world.repo.git(&["reflog", "show", "--format=%gs", "main"]);
    assert!(moves.lines().filter(|line| line.starts_with("aedile: land")).count() < 6, "{moves}");
    // Each commit holds what its change did, and says so.
    for (n, change) in changes.iter().enumerate() {
        let commit = world.change(*change).landed.unwrap();
        assert_eq!(world.repo.git(&["diff", "--name-only", &format!("{commit}^"), commit.as_str()]), format!("src/n{n}.txt"));
        assert_eq!(world.task_view(world.change(*change).task).state, TaskState::Landed);
    }
    // Who was in a longer chain says which tree passed.
    let passed: Vec<_> = world
        .events()
        .into_iter()
        .filter_map(|event| match event {
            Event::Gated { passed, .. } => Some(passed),
            _ => None,
        })
        .collect();
    assert!(passed.len() == 6 && passed.iter().any(Option::is_some), "{passed:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_culprit_of_a_batch_goes_back() {
    let world = World::new(gated(&[("check", "test ! -e src/bad")]));
    let before = world.main();
    let changes: Vec<ChangeId> = (0..7)
        .map(|n| {
            let path = if n == 2 { "src/bad".to_owned() } else { format!("src/n{n}.txt") };
            world.submitted(&format!("t{n}"), &["src/**"], &[(&path, "x\n")])
        })
        .collect();
    drain(&world).await;
    let mut wanted = [ChangeState::Landed; 7];
    wanted[2] = ChangeState::Returned;
    assert_eq!(states(&world, &changes), wanted);
    assert_linear(&world, &before, 6);
    let bad = world.change(changes[2]);
    assert_eq!(bad.returned, Some(ReturnReason::Gate { gate: "check".to_owned() }));
    let text = String::from_utf8(world.store.get_blob(&bad.evidence.unwrap()).unwrap().unwrap()).unwrap();
    assert!(text.contains("test ! -e src/bad") && !text.contains("fail only together"), "{text}");
    assert_eq!((world.count("change_returned"), world.count("gate_failed")), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_that_fail_only_together_the_second_goes_back_and_hears_of_the_first() {
    let world = World::new(gated(&[("check", "test ! -e src/one.txt || test ! -e src/two.txt")]));
    let changes: Vec<ChangeId> = ["a", "one", "b", "two", "c"]
        .iter()
        .map(|name| world.submitted(name, &["src/**"], &[(&format!("src/{name}.txt"), &format!("the text of {name}\n"))]))
        .collect();
    drain(&world).await;
    let back: Vec<usize> = (0..5).filter(|&n| world.change(changes[n]).state == ChangeState::Returned).collect();
    assert_eq!(back.len(), 1, "{back:?}");
    let (second, first) = if back[0] == 3 { ("two", "one") } else { ("one", "two") };
    let change = world.change(changes[back[0]]);
    assert_eq!(world.task_view(change.task).spec.key.as_str(), second);
    let text = String::from_utf8(world.store.get_blob(&change.evidence.unwrap()).unwrap().unwrap()).unwrap();
    assert!(text.contains("fail only together") && text.contains(&format!("+the text of {first}")), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conflict_with_what_has_not_landed_waits_for_it() {
    // The first is red: what conflicts with it lands, and is not blamed.
    let world = World::new(gated(&[("check", "! grep -q broken src/a.txt")]));
    let changes = [
        world.submitted("first", &["src/**"], &[("src/a.txt", "broken\n")]),
        world.submitted("second", &["src/**"], &[("src/a.txt", "one\nmine\nthree\n")]),
        world.submitted("third", &["src/**"], &[("src/c.txt", "c\n")]),
    ];
    drain(&world).await;
    assert_eq!(states(&world, &changes), [ChangeState::Returned, ChangeState::Landed, ChangeState::Landed]);
    assert!(matches!(world.change(changes[0]).returned, Some(ReturnReason::Gate { .. })));
    // Both are good: the first lands, and the second conflicts with the target.
    let world = World::new(Setup::default());
    let changes = [
        world.submitted("first", &["src/**"], &[("src/a.txt", "one\nyours\nthree\n")]),
        world.submitted("second", &["src/**"], &[("src/a.txt", "one\nmine\nthree\n")]),
    ];
    drain(&world).await;
    assert_eq!(states(&world, &changes), [ChangeState::Landed, ChangeState::Returned]);
    assert!(matches!(world.change(changes[1]).returned, Some(ReturnReason::Conflict { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_gates_of_every_task_in_a_batch_run_on_what_lands() {
    let world = World::new(gated(&[("check", "true")]));
    let strict =
        world.task_with("strict", &["src/**"], vec![crate::support::gate("own", "test -e src/strict.txt && test ! -e src/loose.txt")]);
    let workspace = world.workspace(strict);
    workspace.repo.write("src/strict.txt", "x\n");
    workspace.commit("work");
    let strict = world.submit(&workspace, "did it");
    let loose = world.submitted("loose", &["src/**"], &[("src/other.txt", "x\n")]);
    drain(&world).await;
    assert_eq!(states(&world, &[strict, loose]), [ChangeState::Landed; 2]);
    let own = world.events().into_iter().filter(|event| matches!(event, Event::GatePassed { gate, .. } if gate == "own")).count();
    assert!(own >= 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_the_person_moves_meanwhile_is_verified_anew() {
    let mut world = World::new(gated(&[("check", "sh check.sh")]));
    let moved = Arc::new(AtomicUsize::new(0));
    let repo = world.repo.path().to_owned();
    world.sandbox = watched(&world.sandbox, move |spec| {
        if spec.label.starts_with("gate") && moved.fetch_add(1, Ordering::SeqCst) == 0 {
            crate::support::person_commits(&repo, "person.txt", "mine\n");
        }
    });
    let before = world.main();
    let changes: Vec<ChangeId> =
        (0..3).map(|n| world.submitted(&format!("t{n}"), &["src/**"], &[(&format!("src/n{n}.txt"), "x\n")])).collect();
    drain(&world).await;
    assert_eq!(states(&world, &changes), [ChangeState::Landed; 3]);
    assert_linear(&world, &before, 4);
    for change in changes {
        let gated = world.change(change).gated.unwrap();
        assert!(
            world.repo.git(&["ls-tree", "--name-only", gated.tree.as_str()]).contains("person.txt"),
            "what landed holds the person's commit"
        );
    }
}
