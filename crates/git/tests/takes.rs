//! What a person takes of a change: all of it or nothing.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use aedile_core::CommitId;
use aedile_git::GitError;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::support::World;

fn change(world: &World, work: impl FnOnce(&crate::support::Workspace)) -> CommitId {
    let workspace = world.workspace("t");
    work(&workspace);
    let commit = workspace.commit("work");
    world.import(&workspace, &commit).unwrap();
    commit
}

#[test]
fn a_write_that_fails_half_way_changes_nothing() {
    let world = World::new();
    symlink("a.txt", world.repo.path().join("src/link")).unwrap();
    world.repo.write_executable("src/run.sh", "#!/bin/sh\n").commit("more");
    let world = World { project: world.rediscover(), ..world };
    world.hub.adopt(&world.project, world.run, world.project.head()).unwrap();
    let commit = change(&world, |ws| {
        ws.repo
            .write("new/deep/file.txt", "new\n")
            .write("src/a.txt", "changed\n")
            .write("zz/large.txt", "0123456789abcdef\n".repeat(200_000));
        fs::remove_file(ws.path("src/run.sh")).unwrap();
        fs::remove_file(ws.path("src/link")).unwrap();
        symlink("b.txt", ws.path("src/link")).unwrap();
    });
    world.repo.write("loose.txt", "mine\n");
    // As a full disk does, this lets git end in the middle of a file.
    let full = getrlimit(Resource::Fsize);
    setrlimit(Resource::Fsize, Rlimit { current: Some(1 << 20), maximum: full.maximum }).unwrap();
    let error = world.project.apply(&world.hub, world.project.head(), &commit).unwrap_err();
    setrlimit(Resource::Fsize, full).unwrap();
    assert!(matches!(error, GitError::ApplyBroke { .. }) && error.to_string().starts_with("nothing was changed"), "{error}");
    assert_eq!(world.repo.git(&["status", "--porcelain", "--ignored"]), "?? loose.txt");
    assert!(!world.repo.path().join("new").exists() && !world.repo.path().join("zz").exists());
    assert_eq!(fs::metadata(world.repo.path().join("src/run.sh")).unwrap().permissions().mode() & 0o111, 0o111);
    assert_eq!(fs::read_link(world.repo.path().join("src/link")).unwrap().to_str(), Some("a.txt"));
    assert_eq!(fs::read_dir(world.hub.dir().join("applying")).unwrap().count(), 0);
    // With room it goes as a whole.
    assert_eq!(world.project.apply(&world.hub, world.project.head(), &commit).unwrap().len(), 5);
    assert_eq!(world.repo.read("new/deep/file.txt"), "new\n");
}

#[test]
fn a_directory_makes_room_for_a_file_when_nothing_else_is_in_it() {
    let world = World::with(|repo| {
        repo.write("conf/a", "a\n").write("conf/sub/b", "b\n").write(".gitignore", "*.log\n");
    });
    let commit = change(&world, |ws| {
        fs::remove_dir_all(ws.path("conf")).unwrap();
        ws.repo.write("conf", "one file\n");
    });
    let apply = || world.project.apply(&world.hub, world.project.head(), &commit);
    world.repo.write("conf/sub/my.log", "ignored, and mine\n");
    let error = apply().unwrap_err();
    assert!(matches!(&error, GitError::Overlaps { paths } if paths == &["conf/sub/my.log"]), "{error}");
    assert_eq!(world.repo.read("conf/sub/my.log"), "ignored, and mine\n");
    world.repo.remove("conf/sub/my.log");
    assert_eq!(apply().unwrap(), ["conf", "conf/a", "conf/sub/b"]);
    assert_eq!(world.repo.read("conf"), "one file\n");
}
