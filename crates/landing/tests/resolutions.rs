//! Changes that went back and come again: what their agents did in a workspace that held the target already.

use std::sync::Arc;
use std::time::Duration;

use aedile_core::event::{Event, ReturnReason};
use aedile_core::machine::TaskState;
use aedile_core::sandbox::{BoxChild, BoxSpec, Sandbox, SandboxError, SandboxReport};
use aedile_core::{AgentName, ChangeId, CommitId, TaskId};
use aedile_git::Identity;
use aedile_landing::{LandingDeps, LandingQueue, Step};
use aedile_testkit::{OsEntropy, SystemClock};

use crate::support::{Setup, Workspace, World, gated};

/// Two tasks change the same line of `src/a.txt`; the first lands with one line more. Returns the second's task and its change, which went back.
async fn conflict(world: &World) -> (TaskId, ChangeId) {
    let one = world.workspace(world.task("one", &["src/**"]));
    let task = world.task("two", &["src/**"]);
    let two = world.workspace(task);
    one.repo.write("src/a.txt", "ONE\ntwo\nthree\n").write("src/guard.txt", "check the key\n");
    two.repo.write("src/a.txt", "uno\ntwo\nthree\n");
    for ws in [&one, &two] {
        ws.commit("x");
    }
    world.submit(&one, "done");
    let change = world.submit(&two, "done");
    world.land().await;
    let (reason, _) = world.go_back().await;
    assert!(matches!(reason, ReturnReason::Conflict { .. }), "{reason:?}");
    (task, change)
}

/// The workspace that a change that went back gets; returns it with the paths that the merge left in conflict.
fn again(world: &World, task: TaskId, change: ChangeId) -> (Workspace, Vec<String>) {
    let (commit, target) = (world.change(change).commit, CommitId::new(world.main()).unwrap());
    let identity = Identity::agent(&AgentName::new("ada").unwrap());
    let merged = world.hub.merge_back(&commit, &target, &identity, aedile_core::Timestamp(1_780_000_000_000_000)).unwrap();
    let workspace = world.workspace_from(task, &merged.commit);
    let conflicts: Vec<String> = merged.paths.iter().map(|path| path.to_string_lossy().into_owned()).collect();
    let (path, base, attempt) = (workspace.repo.path().to_owned(), workspace.base.clone(), world.task_view(task).attempt);
    world.append(Event::WorkspaceReady { task, attempt, path, base, view: None, conflicts: conflicts.clone() });
    (workspace, conflicts)
}

#[tokio::test(flavor = "multi_thread")]
async fn markers_do_not_land_after_the_second_try_either() {
    let world = World::new(Setup::default());
    let (task, mut change) = conflict(&world).await;
    let before = world.main();
    for round in 0..3 {
        let (ws, conflicts) = again(&world, task, change);
        assert_eq!(conflicts.is_empty(), round > 0, "only the first merge has conflicts");
        ws.repo.write("src/other.txt", format!("{round}\n"));
        match round {
            // Without the labels, in an encoding that is not UTF-8.
            2 => std::fs::write(ws.repo.path().join("src/a.txt"), b"\xe4\n<<<<<<<\nuno\n=======\nONE\n>>>>>>>\n").unwrap(),
            _ => assert!(ws.repo.read("src/a.txt").contains("<<<<<<<")),
        }
        ws.commit("as it is");
        change = world.submit(&ws, "resolved");
        let (reason, text) = world.go_back().await;
        assert_eq!(reason, ReturnReason::Conflict { paths: vec!["src/a.txt".to_owned()] }, "{round}");
        assert!(text.contains("still carry conflict markers"), "{text}");
    }
    assert_eq!(world.main(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resolution_that_keeps_both_sides_lands_at_once() {
    let world = World::new(Setup::default());
    let (task, change) = conflict(&world).await;
    let (ws, _) = again(&world, task, change);
    ws.repo.write("src/a.txt", "ONE and uno\ntwo\nthree\n");
    // A test of a merge tool may hold markers of its own.
    ws.repo.write("src/fixture.txt", "<<<<<<< ours\na\n=======\nb\n>>>>>>> theirs\n");
    ws.commit("both");
    world.submit(&ws, "both");
    world.land().await;
    assert_eq!(world.repo.show("main", "src/a.txt"), "ONE and uno\ntwo\nthree\n");
    assert_eq!((world.count("lines_dropped"), world.task_view(task).why), (0, None));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resolution_that_drops_what_others_landed_is_asked_about_then_held_and_never_lands_in_silence() {
    let world = World::new(gated(&[("check", "true")]));
    let (task, first) = conflict(&world).await;
    let before = world.main();
    let (ws, _) = again(&world, task, first);
    ws.git(&["checkout", "HEAD^1", "--", "src/"]);
    ws.git(&["rm", "-q", "src/guard.txt"]);
    ws.commit("my side");
    let second = world.submit(&ws, "resolved");
    let (reason, text) = world.go_back().await;
    let ReturnReason::Dropped { lines } = &reason else { panic!("{reason:?}") };
    assert_eq!(lines, &["src/guard.txt: is gone again", "src/a.txt:1: ONE", "src/guard.txt:1: check the key"]);
    assert!(text.contains("src/a.txt:1: ONE") && text.contains(&format!("git show {before}:PATH")), "{text}");

    // Asked once: the same again is a person's to decide, and the target stays.
    let (ws, _) = again(&world, task, second);
    ws.repo.write("src/own.txt", "mine\n");
    ws.commit("ONE is not wanted");
    let third = world.submit(&ws, "ONE is not wanted any more");
    assert_eq!(world.step().await, Step::Dropped { change: third });
    let view = world.task_view(task);
    let why = view.why.unwrap();
    assert!(
        view.state == TaskState::Held && why.contains("leaves out what others have landed") && why.contains("src/a.txt:1: ONE"),
        "{why}"
    );
    assert_eq!((world.main(), world.count("gated"), world.count("lines_dropped")), (before, 1, 2));

    // The person says yes: it lands, and the record stays with it.
    world.append(Event::TaskReleased { task });
    world.land().await;
    assert_eq!((world.repo.show("main", "src/a.txt"), world.count("lines_dropped")), ("uno\ntwo\nthree\n".to_owned(), 3));
    assert_eq!(world.task_view(task).why.as_deref(), Some(why.as_str()));
    assert_eq!(world.change(third).dropped.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_puts_back_what_was_missing_needs_no_person() {
    let world = World::new(Setup::default());
    let (task, first) = conflict(&world).await;
    let (ws, _) = again(&world, task, first);
    ws.repo.write("src/a.txt", "uno\ntwo\nthree\n");
    ws.commit("mine");
    let second = world.submit(&ws, "resolved");
    assert!(matches!(world.go_back().await.0, ReturnReason::Dropped { .. }));
    let (ws, _) = again(&world, task, second);
    ws.repo.write("src/a.txt", "ONE\nuno\ntwo\nthree\n");
    ws.commit("both");
    world.submit(&ws, "both");
    world.land().await;
    assert_eq!(world.task_view(task).why, None);
}

/// The real sandbox, whose boxes for imports have no time.
struct Hasty(Arc<dyn Sandbox>);

impl Sandbox for Hasty {
    fn spawn(&self, mut spec: BoxSpec) -> Result<Box<dyn BoxChild>, SandboxError> {
        if spec.label.starts_with("import") {
            spec.command = vec!["sleep".to_owned(), "60".to_owned()];
            spec.limits.wall = Some(Duration::from_millis(50));
        }
        self.0.spawn(spec)
    }
    fn report(&self) -> SandboxReport {
        self.0.report()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_is_too_slow_is_not_the_agents_fault() {
    let world = World::new(Setup::default());
    let change = world.submitted("auth", &["src/**"], &[("src/new.txt", "x\n")]);
    let queue = LandingQueue::new(LandingDeps { sandbox: Arc::new(Hasty(Arc::clone(&world.sandbox))), ..world.deps("tester") });
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let run = world.run;
    let running = tokio::spawn(async move { queue.run(run, stopped).await });
    let task = world.change(change).task;
    aedile_testkit::wait_for_async("the task to wait", Duration::from_secs(60), || async {
        (world.task_view(task).state == TaskState::Waiting).then_some(())
    })
    .await;
    stop.send(true).unwrap();
    running.await.unwrap().unwrap();
    let why = world.task_view(task).why.unwrap();
    assert!(why.contains("the landing cannot go on") && why.contains("out of time"), "{why}");
    assert_eq!(world.count("change_returned"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn links_by_the_hundreds_are_each_judged() {
    let world = World::new(Setup::default());
    let ws = world.workspace(world.task("auth", &["src/**"]));
    for n in 0..600 {
        let target = if n == 431 { "/etc/passwd".to_owned() } else { format!("{n}.txt") };
        std::os::unix::fs::symlink(target, ws.repo.path().join(format!("src/link{n}"))).unwrap();
    }
    ws.commit("x");
    world.submit(&ws, "links");
    let (reason, _) = world.go_back().await;
    let want = "src/link431: is a symbolic link to an absolute path [link]".to_owned();
    assert_eq!(reason, ReturnReason::Scope { violations: vec![want] });
}

#[tokio::test(flavor = "multi_thread")]
async fn an_undo_may_bring_back_what_no_new_change_may_hold() {
    let world = World::new(Setup::default());
    // The person's own: a link out of the tree and a submodule.
    let main = world.main();
    world.repo.checkout("main");
    std::os::unix::fs::symlink("/usr/share", world.repo.path().join("src/share")).unwrap();
    world.repo.git(&["update-index", "--add", "--cacheinfo", &format!("160000,{main},src/sub")]);
    world.repo.git(&["add", "src/share"]);
    world.repo.git(&["commit", "-q", "-m", "the person's own"]);
    world.repo.git(&["checkout", "-q", "-f", "person"]);
    let before = world.repo.rev("main");
    let ws = world.workspace(world.task("auth", &["src/**"]));
    ws.git(&["rm", "-q", "-f", "--cached", "src/share", "src/sub"]);
    let _ = std::fs::remove_file(ws.repo.path().join("src/share"));
    ws.git(&["commit", "-q", "-m", "clean up"]);
    let removed = world.submit(&ws, "clean up");
    let landed = world.land().await;

    let task = world.task("undo-auth", &["**"]);
    world.append(Event::UndoPlanned { run: world.run, task, undoes: vec![removed] });
    let change = ChangeId::new(&SystemClock, &OsEntropy);
    let at = aedile_core::Timestamp(1_780_000_000_000_000);
    let aedile_landing::Undo::Tree(tree) = aedile_landing::plan_undo(&world.hub, &landed, &landed, at).unwrap() else { panic!("no tree") };
    let us = Identity::aedile();
    let commit = world
        .hub
        .commit_tree(&aedile_git::CommitRequest {
            tree: &tree,
            parents: std::slice::from_ref(&landed),
            message: "Undo\n",
            author: &us,
            committer: &us,
            at,
            sign: None,
        })
        .unwrap();
    world.hub.keep_change(change, &commit).unwrap();
    world.append(Event::ChangeSubmitted {
        change,
        run: world.run,
        task,
        agent: AgentName::new("person").unwrap(),
        workspace: std::path::PathBuf::new(),
        base: landed.clone(),
        commit,
        summary: "undo".to_owned(),
        left_out: Vec::new(),
    });
    world.append(Event::ChangeImported { change, paths: 2, commit: None });
    world.land().await;
    assert_eq!(world.repo.rev("main^{tree}"), world.repo.rev(&format!("{before}^{{tree}}")));
}
