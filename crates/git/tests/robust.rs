//! Odd places, many at once, programs that hang, and clean-up.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use aedile_git::{Git, GitError, Landing, Project};
use aedile_testkit::{TempRepo, wait_for};

use crate::support::{World, at, person, refname};

#[test]
fn odd_characters_in_directories_are_fine() {
    let holder = tempfile::tempdir().unwrap();
    let world = World::in_state(
        TempRepo::init(&holder.path().join("a: 'b' \"c\" \\d #e")),
        tempfile::Builder::new().prefix("st:a te\"'").tempdir().unwrap(),
    );
    let workspace = world.workspace("s");
    world.snapshotter(&workspace).snapshot(world.run, world.task(), (1, 1), at()).unwrap();
    world.land(&world.changed("t", "src/b.txt", "better\n"));
    world.project.sync(&refname("refs/heads/main")).unwrap();
    assert_eq!(world.repo.read("src/b.txt"), "better\n");
}

#[test]
fn many_workspaces_work_side_by_side() {
    let world = World::new();
    std::thread::scope(|scope| {
        for number in 0..8 {
            let world = &world;
            scope.spawn(move || {
                let name = format!("t{number}");
                let workspace = world.workspace(&name);
                let mut snapshotter = world.snapshotter(&workspace);
                world.hub.adopt(&world.project, world.run, world.project.head()).unwrap();
                workspace.repo.write(&format!("src/{name}.txt"), "mine\n");
                snapshotter.snapshot(world.run, world.task(), (1, 1), at()).unwrap();
                let commit = workspace.commit("mine");
                world.import(&workspace, &commit).unwrap();
            });
        }
    });
    assert_eq!(world.hub.refs("refs/aedile/changes/").unwrap().len(), 8);
    assert_eq!(world.hub.refs("refs/aedile/snapshots/").unwrap().len(), 8);
    TempRepo::open(world.hub.dir()).git(&["fsck", "--connectivity-only"]);
}

#[test]
fn a_git_that_hangs_is_killed_with_its_children() {
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join("git");
    fs::write(
        &program,
        "#!/bin/sh\ncase \"$*\" in *version*) echo git version 2.47.0; exit;; esac\nsleep 777 & echo $! >\"$0.pid\"\nwait\n",
    )
    .unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:/usr/bin:/bin", dir.path().display());
    let git = Git::find(path.as_ref()).unwrap().with_limit(Duration::from_millis(400));
    let world = World::new();
    let before = Instant::now();
    let slow = Project::discover(&git, world.repo.path(), &person(world.home.path())).unwrap_err();
    assert!(matches!(slow, GitError::TimedOut { .. }), "{slow}");
    assert!(before.elapsed() < Duration::from_secs(60));
    let child = fs::read_to_string(dir.path().join("git.pid")).unwrap();
    wait_for("the end of git's own child", Duration::from_secs(10), || {
        (!std::path::Path::new("/proc").join(child.trim()).exists()).then_some(())
    });
}

#[test]
fn garbage_is_what_no_ref_reaches() {
    let world = World::new();
    let kept = world.changed("kept", "src/kept.txt", "k\n");
    let workspace = world.workspace("gone");
    workspace.repo.write("src/gone.txt", "g\n");
    let gone = workspace.commit("gone");
    let change = world.change();
    let request = aedile_git::ImportRequest {
        workspace: workspace.repo.path(),
        key: &workspace.key,
        commit: &gone,
        base: &workspace.base,
        view: None,
        change,
        limit: None,
    };
    world.hub.import_change(world.sandbox.as_ref(), &request).unwrap();
    world.hub.forget_change(change).unwrap();
    world.hub.forget_change(change).unwrap();
    fs::create_dir_all(world.hub.dir().join("quarantine/left/pack")).unwrap();
    world.hub.collect_garbage(std::time::Duration::ZERO).unwrap();
    assert!(world.hub.resolve(gone.as_str()).unwrap().is_none());
    assert!(!world.hub.dir().join("quarantine").exists());
    world.land(&kept);
    world.import(&workspace, &gone).unwrap();
}

#[test]
fn a_landing_that_would_drop_commits_is_refused() {
    let world = World::new();
    world.repo.branch("other");
    let change = world.changed("t", "src/b.txt", "better\n");
    let (landing, _) = world.land(&change);
    let stale = world.candidate(world.project.head(), &world.changed("u", "src/a.txt", "x\n"));
    let dropping = Landing { reference: landing.reference, old: Some(landing.new.clone()), new: stale.clone() };
    let error = world.project.land(&world.hub, &dropping, "x").unwrap_err();
    assert!(matches!(error, GitError::RefUnusable { .. }), "{error}");
    assert_eq!(world.repo.rev("main"), landing.new.as_str());
    assert!(world.repo.try_git(&["cat-file", "-e", stale.as_str()]).is_err());
}
