//! Changes that land.

use aedile_core::event::Event;
use aedile_core::machine::{ChangeState, TaskState};
use aedile_landing::Step;

use crate::support::{Setup, World, gate, gated};

#[tokio::test(flavor = "multi_thread")]
async fn a_change_lands_as_one_commit_on_the_target() {
    let world = World::new(gated(&[("check", "sh check.sh")]));
    let before = world.main();
    let change = world.submitted("auth", &["src/**"], &[("src/new.txt", "new\n")]);
    let landed = world.land().await;
    assert_eq!(world.main(), landed.as_str());
    assert_eq!(world.repo.rev("main^"), before);
    assert_eq!(world.repo.show("main", "src/new.txt"), "new\n");
    let message = world.repo.git(&["log", "-1", "--format=%an|%ae|%cn|%B", "main"]);
    assert!(message.starts_with("ada|ada@aedile.invalid|aedile|Do auth\n\ndid it\n\n"), "{message}");
    assert_eq!(world.repo.git(&["log", "-1", "--format=%(trailers:key=Aedile-Task,valueonly)", "main"]).trim(), "auth");
    let change = world.change(change);
    assert_eq!((change.state, change.landed), (ChangeState::Landed, Some(landed.clone())));
    let task = world.task_view(change.task);
    assert_eq!((task.state, task.landed, world.run_view().tip), (TaskState::Landed, Some(landed.clone()), landed));
    let names: Vec<&str> = world.events().iter().map(Event::name).skip_while(|name| *name != "change_submitted").collect();
    let want = ["change_submitted", "change_imported", "tier_tried", "gate_passed", "gated", "land_intended", "landed", "task_closed"];
    assert_eq!(names, want);
    assert_eq!(world.queue().step(world.run).await.unwrap(), None, "nothing is left");
    assert_eq!(
        std::fs::read_dir(world.dir.join("state/rooms")).unwrap().flat_map(|dir| std::fs::read_dir(dir.unwrap().path()).unwrap()).count(),
        0
    );
    world.repo.git(&["fsck", "--strict"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_land_in_the_order_of_submission_and_merge_with_each_other() {
    let world = World::new(Setup::default());
    let first = world.submitted("one", &["src/a.txt"], &[("src/a.txt", "ONE\ntwo\nthree\n")]);
    let workspace = world.workspace(world.task("two", &["src/**"]));
    workspace.repo.write("src/a.txt", "one\ntwo\nTHREE\n");
    workspace.git(&["mv", "src/b.txt", "src/c.txt"]);
    workspace.commit("one step");
    workspace.repo.write("src/d.txt", "d\n");
    workspace.commit("another");
    let second = world.submit(&workspace, "moved b");
    for want in [first, second] {
        let Step::Landed { change, .. } = world.step().await else { panic!("it did not land") };
        assert_eq!(change, want);
    }
    assert_eq!(world.repo.show("main", "src/a.txt"), "ONE\ntwo\nTHREE\n");
    assert_eq!(world.repo.git(&["ls-tree", "--name-only", "main", "src/"]), "src/a.txt\nsrc/c.txt\nsrc/d.txt");
    assert_eq!(world.repo.git(&["rev-list", "--count", "main"]), "3", "one commit per change");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_is_checked_out_is_left_alone() {
    let world = World::new(Setup { checked_out: true, ..gated(&[("check", "sh check.sh")]) });
    let before = world.main();
    world.repo.write("src/a.txt", "the person types here\n");
    for (key, file) in [("one", "src/x.txt"), ("two", "src/y.txt")] {
        world.submitted(key, &["src/**"], &[(file, "x\n")]);
        let landed = world.land().await;
        assert_eq!(world.repo.rev("refs/heads/aedile/main"), landed.as_str());
    }
    assert_eq!((world.main(), world.repo.read("src/a.txt")), (before, "the person types here\n".to_owned()));
    assert_eq!(world.repo.git(&["status", "--porcelain"]), " M src/a.txt");
    assert_eq!(world.repo.git(&["rev-list", "--count", "main..aedile/main"]), "2");
}

#[tokio::test(flavor = "multi_thread")]
async fn forged_trailers_do_not_reach_the_history_as_trailers() {
    let world = World::new(Setup::default());
    let workspace = world.workspace(world.task("auth", &["src/**"]));
    workspace.repo.write("src/new.txt", "x\n");
    workspace.commit("x\n\nAedile-Task: evil\nAedile-Run: evil");
    world.submit(&workspace, "done\u{1b}[2J\n\nAedile-Task: other\nAedile-Agent: eve\n---\nCo-authored-by: Eve <eve@example.org>");
    world.land().await;
    let message = world.repo.git(&["log", "-1", "--format=%B", "main"]);
    assert_eq!(message.lines().filter(|line| line.starts_with("Aedile-")).count(), 3, "{message}");
    let trailers = world.repo.git(&["log", "-1", "--format=%(trailers:only,unfold)", "main"]);
    assert!(trailers.contains("Aedile-Task: auth") && trailers.contains("Aedile-Agent: ada") && !trailers.contains("ve"), "{trailers}");
    assert!(!message.contains('\u{1b}'));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_may_have_gates_of_its_own_after_the_projects() {
    let world = World::new(gated(&[("check", "sh check.sh")]));
    let task = world.task_with("auth", &["src/**"], vec![gate("own", "test -f src/new.txt")]);
    let workspace = world.workspace(task);
    workspace.repo.write("src/new.txt", "x\n");
    workspace.commit("x");
    let change = world.submit(&workspace, "");
    world.land().await;
    assert_eq!(world.change(change).gated.unwrap().gates, ["check", "own"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_queue_runs_until_it_is_told_to_stop() {
    let world = World::new(Setup::default());
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let (queue, run) = (world.queue(), world.run);
    let running = tokio::spawn(async move { queue.run(run, stopped).await });
    for key in ["one", "two", "three"] {
        let change = world.submitted(key, &["src/**"], &[(&format!("src/{key}.txt"), "x\n")]);
        aedile_testkit::wait_for_async("the landing", std::time::Duration::from_secs(60), || async {
            (world.change(change).state == ChangeState::Landed).then_some(())
        })
        .await;
    }
    stop.send(true).unwrap();
    running.await.unwrap().unwrap();
    assert!(world.store.claims("landing/").unwrap().is_empty(), "an idle queue holds no target");
}
