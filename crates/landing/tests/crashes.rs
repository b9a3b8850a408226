//! The process dies at each crash point of the landing, the store at each append; the next life ends in the same state.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use aedile_core::ChangeId;
use aedile_core::event::Event;
use aedile_core::machine::{ChangeState, TaskState};
use aedile_core::store::list;
use aedile_core::view::{ChangeView, TaskView};
use aedile_landing::{LandingDeps, LandingQueue, Step};
use aedile_store::{Crash, MemoryStore};
use aedile_testkit::SystemClock;

use crate::support::{World, gated};

static DIE_AT: OnceLock<String> = OnceLock::new();

fn die(point: &'static str) {
    if DIE_AT.get().is_some_and(|at| at == point) {
        std::process::abort();
    }
}

/// The process that dies. It is this test program again, told by its environment where the world is; alone it does nothing.
#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::disallowed_methods, reason = "the parent test speaks through the environment")]
async fn life() {
    let (Some(dir), Some(point)) = (std::env::var_os("LANDING_WORLD"), std::env::var_os("LANDING_DIE_AT")) else { return };
    DIE_AT.set(point.into_string().unwrap()).unwrap();
    aedile_core::crash::install(die);
    let world = World::open(&PathBuf::from(dir));
    LandingQueue::new(world.deps("first")).step(world.run).await.unwrap();
}

#[expect(clippy::disallowed_methods, reason = "a second process is what dies")]
fn live_until(world: &World, life_of: &str, point: &str) {
    let mut life = std::process::Command::new(std::env::current_exe().unwrap());
    life.args(["--exact", life_of, "--nocapture"]).env("LANDING_WORLD", &world.dir).env("LANDING_DIE_AT", point);
    let ended = life.output().unwrap();
    use std::os::unix::process::ExitStatusExt as _;
    assert_eq!(ended.status.signal(), Some(6), "it did not die at {point}: {}", String::from_utf8_lossy(&ended.stderr));
}

async fn dies_at(point: &str, state: ChangeState) {
    let world = World::new(gated(&[("check", "sh check.sh")]));
    let before = world.main();
    let change = world.submitted("auth", &["src/**"], &[("src/new.txt", "x\n")]);
    live_until(&world, "crashes::life", point);
    let world = Reopened::of(world);
    assert_eq!(world.change(change).state, state);
    // Its claim is still there, and its holder is known to be dead.
    assert_eq!(LandingQueue::new(world.deps("second")).step(world.run).await.unwrap(), None);
    let queue = LandingQueue::new(LandingDeps { dead: vec!["first".to_owned()], ..world.deps("second") });
    let step = queue.step(world.run).await.unwrap().unwrap();
    assert!(matches!(step, Step::Landed { .. }), "{step:?}");
    assert_eq!(world.repo.rev("main^"), before, "landed once");
    assert_eq!((world.count("landed"), world.count("task_closed"), world.count("change_imported")), (1, 1, 1));
    let tasks = list::<TaskView>(&*world.store, Some(world.run)).unwrap();
    let changes = list::<ChangeView>(&*world.store, Some(world.run)).unwrap();
    assert!(tasks.iter().all(|task| task.state == TaskState::Landed) && changes.iter().all(|change| change.state == ChangeState::Landed));
    assert_eq!(changes[0].landed.as_ref().unwrap().as_str(), world.main());
    let rooms: Vec<_> = std::fs::read_dir(world.dir.join("state/rooms")).into_iter().flatten().map(|dir| dir.unwrap().path()).collect();
    assert!(rooms.iter().all(|dir| std::fs::read_dir(dir).unwrap().count() == 0), "no room is left");
    world.repo.git(&["fsck", "--strict"]);
}

/// What the next life opens; the first one keeps the directory alive.
struct Reopened {
    world: World,
    _first: World,
}

impl Reopened {
    fn of(first: World) -> Self {
        Self { world: World::open(&first.dir), _first: first }
    }
}

impl std::ops::Deref for Reopened {
    type Target = World;
    fn deref(&self) -> &World {
        &self.world
    }
}

/// The process that dies among several changes: it runs the queue as a worker does.
#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::disallowed_methods, reason = "the parent test speaks through the environment")]
async fn life_of_many() {
    let (Some(dir), Some(point)) = (std::env::var_os("LANDING_WORLD"), std::env::var_os("LANDING_DIE_AT")) else { return };
    DIE_AT.set(point.into_string().unwrap()).unwrap();
    aedile_core::crash::install(die);
    let world = World::open(&PathBuf::from(dir));
    let (_stop, stopped) = tokio::sync::watch::channel(false);
    LandingQueue::new(world.deps("first")).run(world.run, stopped).await.unwrap();
}

/// Three changes that wait together, and the process dies; `meanwhile` happens before the next life.
async fn many_die_at(point: &str, state: ChangeState, meanwhile: impl FnOnce(&World, &[ChangeId])) -> (Reopened, Vec<ChangeId>) {
    let world = World::new(gated(&[("check", "sh check.sh")]));
    let changes: Vec<ChangeId> =
        (0..3).map(|n| world.submitted(&format!("t{n}"), &["src/**"], &[(&format!("src/n{n}.txt"), "x\n")])).collect();
    live_until(&world, "crashes::life_of_many", point);
    let world = Reopened::of(world);
    let states: Vec<ChangeState> = changes.iter().map(|change| world.change(*change).state).collect();
    assert_eq!(states, [state; 3], "at {point}");
    meanwhile(&world, &changes);
    let queue = LandingQueue::new(LandingDeps { dead: vec!["first".to_owned()], ..world.deps("second") });
    crate::together::drain_with(&world, queue).await;
    world.repo.git(&["fsck", "--strict"]);
    (world, changes)
}

#[tokio::test(flavor = "multi_thread")]
async fn death_among_many_ends_with_each_landed_once() {
    let points = [("gate", ChangeState::Imported), ("before-ref-move", ChangeState::Intended), ("after-ref-move", ChangeState::Intended)];
    for (point, state) in points {
        let (world, changes) = many_die_at(point, state, |_, _| {}).await;
        assert_eq!((world.count("landed"), world.count("task_closed"), world.count("change_imported")), (3, 3, 3), "{point}");
        assert_eq!(world.repo.git(&["rev-list", "--count", "person..main"]), "3", "{point}");
        let last = world.change(changes[2]).landed.unwrap();
        assert_eq!(last.as_str(), world.main(), "{point}");
        // What was intended as one landed as one: the verified tree, and no step in between.
        if state == ChangeState::Intended {
            let moves = world.repo.git(&["reflog", "show", "--format=%gs", "main"]);
            assert_eq!(moves.lines().filter(|line| line.starts_with("aedile: land")).count(), 1, "{moves}");
            assert_eq!(world.count("land_abandoned"), 0);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_to_land_together_does_not_land_in_part_when_one_task_is_cancelled() {
    let (world, changes) = many_die_at("before-ref-move", ChangeState::Intended, |world, changes| {
        let task = world.change(changes[2]).task;
        world.append(Event::TaskCancelRequested { task });
    })
    .await;
    assert_eq!(world.count("land_abandoned"), 3);
    let landed: Vec<bool> = changes.iter().map(|change| world.change(*change).state == ChangeState::Landed).collect();
    assert_eq!(landed, [true, true, false]);
    assert!(!world.repo.git(&["ls-tree", "-r", "--name-only", "main"]).contains("n2.txt"));
    // The two were verified anew without the third.
    assert!(world.count("gate_passed") >= 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_to_land_together_is_abandoned_together_when_the_target_has_moved() {
    let (world, _) = many_die_at("before-ref-move", ChangeState::Intended, |world, _| {
        world.person_commits("person.txt", "mine\n");
    })
    .await;
    assert_eq!((world.count("land_abandoned"), world.count("landed")), (3, 3));
    assert_eq!(world.repo.git(&["rev-list", "--count", "person..main"]), "4");
    assert!(world.repo.git(&["ls-tree", "-r", "--name-only", "main"]).contains("person.txt"));
}

#[tokio::test(flavor = "multi_thread")]
async fn death_at_the_import() {
    dies_at("import", ChangeState::Submitted).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn death_at_a_gate() {
    dies_at("gate", ChangeState::Imported).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn death_before_the_ref_moves() {
    dies_at("before-ref-move", ChangeState::Intended).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn death_after_the_ref_has_moved() {
    dies_at("after-ref-move", ChangeState::Intended).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn death_of_the_store_at_any_append_ends_in_the_same_state() {
    let mut store = MemoryStore::new(Arc::new(SystemClock));
    let mut world = World::with_store(gated(&[("check", "sh check.sh")]), Arc::new(store.reopen()));
    let mut landed = 0;
    for (name, crash) in [("w", Crash::BeforeWrite), ("r", Crash::BeforeReply), ("a", Crash::AfterReply)] {
        for append in 1.. {
            store = store.reopen();
            world.store = Arc::new(store.reopen());
            let (key, before) = (format!("{name}{append}"), world.main());
            let change = world.submitted(&key, &["src/**"], &[(&format!("src/{key}.txt"), "x\n")]);
            let dying = Arc::new(store.reopen().with_crash_after(append, crash));
            let _ = LandingQueue::new(LandingDeps { store: Arc::clone(&dying) as _, ..world.deps("first") }).step(world.run).await;
            let died = dying.crashed();
            world.store = Arc::new(dying.reopen());
            let queue = LandingQueue::new(LandingDeps { dead: vec!["first".to_owned()], ..world.deps("second") });
            while queue.step(world.run).await.unwrap().is_some() {}
            landed += 1;
            let view = world.change(change);
            assert_eq!((view.state, world.task_view(view.task).state), (ChangeState::Landed, TaskState::Landed), "{key}");
            assert_eq!((world.repo.rev("main^"), world.main().as_str()), (before, view.landed.unwrap().as_str()), "{key}");
            assert_eq!((world.count("landed"), world.count("task_closed")), (landed, landed), "{key}");
            if !died {
                break;
            }
        }
    }
    assert!(landed > 3 * 5, "only {landed} deaths were tried");
}
