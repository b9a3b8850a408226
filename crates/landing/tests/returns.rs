//! Changes that go back, each with evidence, while the target stays where it was.

use aedile_core::event::{Event, ReturnReason, TierOutcome};
use aedile_core::machine::TaskState;
use aedile_landing::Step;

use crate::support::{Setup, Workspace, World, gated};

/// Submits what `work` does in a workspace whose task may change `src/**`, and returns why it went back.
async fn refused(work: impl FnOnce(&Workspace)) -> (ReturnReason, String) {
    let world = World::new(Setup::default());
    refused_in(&world, &["src/**"], work).await
}

async fn refused_in(world: &World, scope: &[&str], work: impl FnOnce(&Workspace)) -> (ReturnReason, String) {
    let before = world.main();
    let workspace = world.workspace(world.task("auth", scope));
    work(&workspace);
    world.submit(&workspace, "done");
    let back = world.go_back().await;
    assert_eq!(world.main(), before, "the target did not move");
    back
}

async fn violates(rule: &str, work: impl FnOnce(&Workspace)) {
    let (reason, text) = refused(work).await;
    let ReturnReason::Scope { violations } = reason else { panic!("{reason:?}") };
    assert!(violations.iter().any(|line| line.contains(rule)), "{rule} in {violations:?}");
    assert!(text.contains(rule) && text.contains("src/**") && text.contains("submit again"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_path_outside_the_scope_is_refused() {
    violates("README.md: is outside", |ws| {
        ws.repo.write("README.md", "mine\n").write("src/a.txt", "fine\n");
        ws.commit("x");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rename_counts_on_both_sides() {
    violates("check.sh: is outside", |ws| {
        ws.git(&["mv", "check.sh", "src/check.sh"]);
        ws.commit("x");
    })
    .await;
    violates("docs/b.txt: is outside", |ws| {
        std::fs::create_dir(ws.repo.path().join("docs")).unwrap();
        ws.git(&["mv", "src/b.txt", "docs/b.txt"]);
        ws.commit("x");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn links_out_of_the_tree_are_refused() {
    for target in ["/etc/passwd", "../../outside", "sub/../../.."] {
        violates("src/link: is a symbolic link", |ws| {
            std::os::unix::fs::symlink(target, ws.repo.path().join("src/link")).unwrap();
            ws.commit("x");
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn links_within_the_tree_land() {
    let world = World::new(Setup::default());
    let ws = world.workspace(world.task("auth", &["src/**"]));
    for (at, target) in [("src/near", "a.txt"), ("src/up", "../README.md")] {
        std::os::unix::fs::symlink(target, ws.repo.path().join(at)).unwrap();
    }
    ws.commit("x");
    world.submit(&ws, "links");
    world.land().await;
    assert_eq!(world.repo.show("main", "src/up"), "../README.md");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_without_the_projects_history_is_refused() {
    let (reason, text) = refused(|ws| {
        ws.repo.write("src/a.txt", "x\n");
        ws.git(&["add", "-A"]);
        let tree = ws.git(&["write-tree"]);
        let orphan = ws.git(&["commit-tree", &tree, "-m", "from nowhere"]);
        ws.git(&["update-ref", "HEAD", &orphan]);
    })
    .await;
    assert!(matches!(reason, ReturnReason::Import { .. }), "{reason:?}");
    assert!(text.contains("history"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_nested_repository_is_refused() {
    violates("src/nested: is a nested repository", |ws| {
        let head = ws.git(&["rev-parse", "HEAD"]);
        ws.git(&["update-index", "--add", "--cacheinfo", &format!("160000,{head},src/nested")]);
        ws.git(&["commit", "-q", "-m", "x"]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn git_directories_in_any_spelling_never_land() {
    for name in [".GIT", "git~1", ".git. "] {
        let (reason, _) = refused(|ws| {
            let blob = ws.git(&["hash-object", "-w", "src/a.txt"]);
            let inner = tree(ws, &format!("100644 blob {blob}\tconfig\n"));
            let src = tree(ws, &format!("100644 blob {blob}\ta.txt\n040000 tree {inner}\t{name}\n"));
            commit_with(ws, &src);
        })
        .await;
        assert!(matches!(reason, ReturnReason::Scope { .. } | ReturnReason::Import { .. }), "{name}: {reason:?}");
    }
}

/// Makes a tree from `ls-tree` lines, whatever they say.
fn tree(ws: &Workspace, lines: &str) -> String {
    let file = ws.repo.path().join("lines");
    std::fs::write(&file, lines).unwrap();
    ws.git_with(&["mktree"], std::fs::File::open(file).unwrap().into())
}

/// Commits the base's tree with another `src`.
fn commit_with(ws: &Workspace, src: &str) {
    let root: String =
        ws.git(&["ls-tree", "HEAD"]).lines().filter(|line| !line.ends_with("\tsrc")).map(|line| format!("{line}\n")).collect();
    let root = tree(ws, &format!("{root}040000 tree {src}\tsrc\n"));
    let commit = ws.git(&["commit-tree", &root, "-p", "HEAD", "-m", "x"]);
    ws.git(&["update-ref", "HEAD", &commit]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_takes_back_what_others_landed_is_refused() {
    let world = World::new(Setup::default());
    world.submitted("other", &["README.md"], &[("README.md", "better\n")]);
    world.land().await;
    // The agent's commit has the target as its parent, but the tree of before.
    let (reason, _) = refused_in(&world, &["src/**"], |ws| {
        ws.repo.write("src/a.txt", "mine\n").write("README.md", "# sample\n");
        ws.commit("looks innocent");
    })
    .await;
    assert!(matches!(&reason, ReturnReason::Scope { violations } if violations[0].starts_with("README.md")), "{reason:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_violation_below_the_named_base_is_found_in_the_merge() {
    let world = World::new(Setup::default());
    let mut ws = world.workspace(world.task("auth", &["src/**"]));
    ws.repo.write("README.md", "mine\n");
    ws.commit("outside");
    let hidden = aedile_core::CommitId::new(ws.git(&["rev-parse", "HEAD"])).unwrap();
    world.submit(&ws, "first try");
    let (reason, _) = world.go_back().await;
    assert!(matches!(reason, ReturnReason::Scope { .. }));
    // The next workspace begins with the commit that was refused; what is new is within the scope.
    let task = world
        .events()
        .iter()
        .find_map(|event| match event {
            Event::TaskOpened { task, .. } => Some(*task),
            _ => None,
        })
        .unwrap();
    ws = world.workspace_from(task, &hidden);
    ws.repo.write("src/a.txt", "fine\n");
    ws.commit("inside");
    world.submit(&ws, "second try");
    let (reason, _) = world.go_back().await;
    assert!(matches!(&reason, ReturnReason::Scope { violations } if violations[0].starts_with("README.md")), "{reason:?}");
    assert_eq!(world.task_view(task).returns, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn protected_paths_need_a_persons_word() {
    let mut setup = Setup::default();
    setup.rules.protected = vec!["check.sh".to_owned(), ".github/**".to_owned()];
    let world = World::new(setup);
    let (reason, text) = refused_in(&world, &["**"], |ws| {
        ws.repo.write("check.sh", "true\n");
        ws.commit("x");
    })
    .await;
    assert_eq!(reason, ReturnReason::Protected { paths: vec!["check.sh [protected-path]".to_owned()] });
    assert!(text.contains("person's word") && text.contains("check.sh"), "{text}");

    let mut setup = Setup::default();
    (setup.rules.protected, setup.rules.allow_protected) = (vec!["check.sh".to_owned()], true);
    let world = World::new(setup);
    world.submitted("auth", &["**"], &[("check.sh", "true\n")]);
    world.land().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn paths_that_differ_only_in_case_go_back() {
    let world = World::new(Setup::default());
    let (reason, text) = refused_in(&world, &["**"], |ws| {
        ws.repo.write("src/One.rs", "1\n");
        ws.repo.write("src/one.rs", "2\n");
        ws.commit("x");
    })
    .await;
    assert!(matches!(&reason, ReturnReason::Scope { violations } if violations[0].contains("[path-twin]")), "{reason:?}");
    assert!(text.contains("path-twin"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conflict_goes_back_with_its_paths() {
    let world = World::new(Setup::default());
    let one = world.workspace(world.task("one", &["src/**"]));
    let two = world.workspace(world.task("two", &["src/**"]));
    for (ws, text) in [(&one, "ONE\ntwo\nthree\n"), (&two, "uno\ntwo\nthree\n")] {
        ws.repo.write("src/a.txt", text);
        ws.commit("x");
        world.submit(ws, "done");
    }
    let landed = world.land().await;
    let (reason, text) = world.go_back().await;
    assert_eq!(reason, ReturnReason::Conflict { paths: vec!["src/a.txt".to_owned()] });
    assert!(text.contains("src/a.txt") && text.contains(landed.as_str()) && text.contains("<<<<<<<"), "{text}");
    assert_eq!(world.main(), landed.as_str());
    let tried = world.events().into_iter().rev().find_map(|event| match event {
        Event::TierTried { outcome, tier, .. } if tier == "clean" => Some(outcome),
        _ => None,
    });
    assert!(matches!(tried, Some(TierOutcome::Conflict { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn markers_left_in_a_file_that_was_in_conflict_are_refused() {
    let world = World::new(Setup::default());
    let task = world.task("auth", &["src/**"]);
    let ws = world.workspace(task);
    let (path, base) = (ws.repo.path().to_owned(), ws.base.clone());
    world.append(Event::WorkspaceReady { task, attempt: 1, path, base, view: None, conflicts: vec!["src/a.txt".to_owned()] });
    ws.repo.write("src/a.txt", "<<<<<<< ours\none\n||||||| base\n=======\ntwo\n>>>>>>> theirs\n");
    ws.commit("x");
    world.submit(&ws, "resolved");
    let (reason, text) = world.go_back().await;
    assert_eq!(reason, ReturnReason::Conflict { paths: vec!["src/a.txt".to_owned()] });
    assert!(text.contains("still carry conflict markers"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_without_a_difference_goes_back() {
    let (reason, text) = refused(|ws| ws.commit("nothing")).await;
    assert_eq!(reason, ReturnReason::Empty);
    assert!(text.contains("changes nothing"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_branch_that_moved_after_the_submit_is_not_imported() {
    let world = World::new(Setup::default());
    let ws = world.workspace(world.task("auth", &["src/**"]));
    ws.repo.write("src/a.txt", "one\n");
    ws.commit("submitted");
    world.submit(&ws, "done");
    ws.repo.write("src/a.txt", "another\n");
    ws.commit("and one more");
    let (reason, text) = world.go_back().await;
    assert!(matches!(reason, ReturnReason::Import { .. }), "{reason:?}");
    assert!(text.contains("submit again"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_clean_changes_that_break_each_other_do_not_both_land() {
    // Red when both words are there: neither change alone is wrong, and their files differ.
    let world = World::new(gated(&[("together", "! (test -f src/left && test -f src/right)")]));
    let one = world.workspace(world.task("one", &["src/**"]));
    let two = world.workspace(world.task("two", &["src/**"]));
    for (ws, file) in [(&one, "src/left"), (&two, "src/right")] {
        ws.repo.write(file, "x\n");
        ws.commit("x");
        world.submit(ws, "done");
    }
    let landed = world.land().await;
    let (reason, _) = world.go_back().await;
    assert_eq!(reason, ReturnReason::Gate { gate: "together".to_owned() });
    assert_eq!(world.main(), landed.as_str());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_task_does_not_land() {
    let world = World::new(Setup::default());
    let before = world.main();
    let change = world.submitted("auth", &["src/**"], &[("src/a.txt", "x\n")]);
    let task = world.change(change).task;
    world.append(Event::TaskCancelRequested { task });
    assert_eq!(world.queue().step(world.run).await.unwrap(), None);
    assert_eq!((world.main(), world.task_view(task).state), (before, TaskState::Submitted));
    // A change that was mended lands afterwards: the queue is not blocked.
    world.submitted("other", &["src/**"], &[("src/b.txt", "y\n")]);
    assert!(matches!(world.step().await, Step::Landed { .. }));
}
