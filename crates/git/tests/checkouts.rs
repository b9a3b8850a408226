//! A ref that somebody has checked out never moves.

use aedile_git::{GitError, Landing, Moved, Project};

use crate::support::{World, refname};

#[test]
fn a_checked_out_target_lands_aside_and_sync_brings_it_home() {
    let world = World::new();
    let change = world.changed("t", "src/b.txt", "better\n");
    let (landing, moved) = world.land(&change);
    assert_eq!((landing.reference.as_str(), moved), ("refs/heads/aedile/main", Moved::Now));
    assert_eq!(world.repo.rev("main"), world.project.head().as_str());
    assert_eq!(world.repo.read("src/b.txt"), "b\n");
    let words = world.project.sync(&refname("refs/heads/main")).unwrap();
    assert!(words.contains("Fast-forward"), "{words}");
    assert_eq!(world.repo.read("src/b.txt"), "better\n");
    assert_eq!(world.repo.rev("main"), landing.new.as_str());
    // What was landed aside is the target now, and the next landing starts there.
    let point = world.project.landing_point(&refname("refs/heads/main")).unwrap();
    assert_eq!((point.base, point.old), (landing.new.clone(), Some(landing.new)));
}

/// The trap: git lets a plumbing command move a checked-out branch, and the person's next commit then undoes the landing in silence.
#[test]
fn moving_a_checked_out_branch_would_revert_the_landing() {
    let world = World::new();
    let change = world.changed("t", "src/b.txt", "better\n");
    let (landing, _) = world.land(&change);
    world.repo.git(&["update-ref", "refs/heads/main", landing.new.as_str()]);
    world.repo.write("src/a.txt", "the person's own work\n");
    world.repo.git(&["commit", "-qam", "mine"]);
    assert_eq!(world.repo.show("main", "src/b.txt"), "b\n", "the trap no longer springs; the rule may be relaxed");
}

#[test]
fn with_our_rule_the_persons_next_commit_keeps_everything() {
    let world = World::new();
    let change = world.changed("t", "src/b.txt", "better\n");
    world.repo.write("src/a.txt", "the person's own work\n");
    let (landing, _) = world.land(&change);
    world.repo.git(&["commit", "-qam", "mine"]);
    assert_eq!(world.repo.show("main", "src/b.txt"), "b\n");
    assert_eq!(world.repo.show(landing.new.as_str(), "src/b.txt"), "better\n");
    // Both moved on: nothing is guessed.
    let error = world.project.landing_point(&refname("refs/heads/main")).unwrap_err();
    assert!(matches!(error, GitError::Diverged { .. }), "{error}");
    let error = world.project.sync(&refname("refs/heads/main")).unwrap_err();
    assert!(matches!(&error, GitError::SyncRefused { words } if words.contains("fast-forward")), "{error}");
    world.repo.git(&["merge", "-q", "--no-edit", "aedile/main"]);
    let point = world.project.landing_point(&refname("refs/heads/main")).unwrap();
    assert_eq!(point.base.as_str(), world.repo.rev("main"));
    assert_eq!(point.old, Some(landing.new));
}

/// The trap: the target is free again but has moved, and the next landing would build on it alone.
#[test]
fn work_that_landed_beside_a_target_is_never_left_out() {
    let world = World::new();
    let (landing, _) = world.land(&world.changed("t", "src/b.txt", "better\n"));
    world.repo.write("src/a.txt", "the person's own work\n").commit("mine");
    world.repo.branch("other");
    let error = world.project.landing_point(&refname("refs/heads/main")).unwrap_err();
    let words = error.to_string();
    assert!(matches!(&error, GitError::Diverged { only, .. } if only.len() == 1 && only[0].ends_with(" Do it")), "{error:?}");
    assert!(words.contains("landed work is only on refs/heads/aedile/main") && words.contains("would lose"), "{words}");
    world.repo.checkout("main").git(&["merge", "-q", "--no-edit", "aedile/main"]);
    world.repo.git(&["checkout", "-q", "other"]);
    let point = world.project.landing_point(&refname("refs/heads/main")).unwrap();
    assert_eq!((point.reference.as_str(), point.base.as_str()), ("refs/heads/main", world.repo.rev("main").as_str()));
    assert_eq!(world.repo.show("main", "src/b.txt"), world.repo.show(landing.new.as_str(), "src/b.txt"));
}

#[test]
fn a_target_that_nobody_has_checked_out_moves_itself() {
    let world = World::new();
    world.repo.branch("other");
    let (landing, _) = world.land(&world.changed("t", "src/b.txt", "better\n"));
    assert_eq!(landing.reference.as_str(), "refs/heads/main");
    assert_eq!(world.repo.rev("main"), landing.new.as_str());
    assert_eq!(world.repo.try_git(&["rev-parse", "--verify", "-q", "refs/heads/aedile/main"]).ok(), None);
    let log = world.repo.git(&["reflog", "show", "--format=%gs", "main"]);
    assert!(log.starts_with("aedile: land t"), "{log}");
}

#[test]
fn other_worktrees_rebases_and_bisects_hold_a_branch_too() {
    let world = World::new();
    world.repo.write("src/c.txt", "c\n").commit("second");
    world.repo.branch("other");
    let main = refname("refs/heads/main");
    let project: Project = world.rediscover();
    let lands_aside = |how: &str| {
        let checkouts = project.checkouts().unwrap();
        let found =
            checkouts.iter().find(|checkout| checkout.reference.as_ref() == Some(&main)).unwrap_or_else(|| panic!("{how}: {checkouts:?}"));
        assert_eq!(found.how, how);
        assert_eq!(project.landing_point(&main).unwrap().reference.as_str(), "refs/heads/aedile/main", "{how}");
    };
    let elsewhere = world.state.path().join("second tree");
    world.repo.git(&["worktree", "add", "-q", elsewhere.to_str().unwrap(), "main"]);
    lands_aside("HEAD");
    let second = aedile_testkit::TempRepo::open(&elsewhere);
    second.git(&["bisect", "start", "-q", "HEAD", "HEAD~1"]);
    second.git(&["checkout", "-q", "--detach", "HEAD"]);
    lands_aside("bisect");
    second.git(&["bisect", "reset"]);
    // A rebase that stops: HEAD is detached, and the branch is written when it ends.
    let mut rebase = second.command(&["rebase", "-q", "-i", "HEAD~1"]);
    assert!(rebase.env("GIT_SEQUENCE_EDITOR", "sed -i s/^pick/edit/").status().unwrap().success());
    assert!(second.try_git(&["symbolic-ref", "-q", "HEAD"]).is_err());
    lands_aside("rebase");
    second.git(&["rebase", "--abort"]);
    second.git(&["checkout", "-q", "--detach"]);
    assert_eq!(project.landing_point(&main).unwrap().reference, main);
}

#[test]
fn a_checkout_between_the_question_and_the_move_is_seen() {
    let world = World::new();
    world.repo.branch("other");
    let change = world.changed("t", "src/b.txt", "better\n");
    let point = world.project.landing_point(&refname("refs/heads/main")).unwrap();
    let landing = Landing { new: world.candidate(&point.base, &change), reference: point.reference, old: point.old };
    world.repo.checkout("main");
    let error = world.project.land(&world.hub, &landing, "aedile: land t").unwrap_err();
    assert!(matches!(error, GitError::CheckedOut { how: "HEAD", .. }), "{error}");
    assert_eq!(world.repo.rev("main"), world.project.head().as_str());
}

#[test]
fn symbolic_and_odd_targets_are_refused() {
    let world = World::new();
    world.repo.git(&["symbolic-ref", "refs/heads/alias", "refs/heads/main"]);
    let error = world.project.landing_point(&refname("refs/heads/alias")).unwrap_err();
    assert!(matches!(error, GitError::RefUnusable { .. }), "{error}");
    let error = world.project.landing_point(&refname("refs/tags/v1")).unwrap_err();
    assert!(matches!(error, GitError::RefUnusable { .. }), "{error}");
    let error = world.project.landing_point(&refname("refs/heads/none")).unwrap_err();
    assert!(matches!(error, GitError::Missing { .. }), "{error}");
    // A branch called `aedile` leaves no room for `aedile/main`.
    world.repo.git(&["branch", "aedile"]);
    let change = world.changed("t", "src/b.txt", "better\n");
    let point = world.project.landing_point(&refname("refs/heads/main")).unwrap();
    let landing = Landing { new: world.candidate(&point.base, &change), reference: point.reference, old: point.old };
    let error = world.project.land(&world.hub, &landing, "aedile: land t").unwrap_err();
    assert!(matches!(error, GitError::RefUnusable { .. }), "{error}");
}
