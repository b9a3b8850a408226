//! What a commit holds, listed.

use std::path::Path;

use aedile_git::{EntryMode, TreeFile};

use crate::support::{World, commit_id};

#[test]
fn every_path_is_listed_with_its_kind_and_size() {
    let world = World::new();
    world.repo.write("a tab\tand ü.txt", "12345").write("deep/er/run.sh", "#!/bin/sh\n");
    world.repo.git(&["add", "-A"]);
    world.repo.git(&["update-index", "--chmod=+x", "deep/er/run.sh"]);
    std::os::unix::fs::symlink("deep", world.repo.path().join("link")).unwrap();
    world.repo.git(&["add", "link"]);
    let head = world.repo.rev("HEAD");
    world.repo.git(&["update-index", "--add", "--cacheinfo", &format!("160000,{head},sub")]);
    world.repo.git(&["commit", "-q", "-m", "everything"]);
    let commit = commit_id(&world.repo.rev("HEAD"));
    let files = world.project.files(&commit).unwrap();
    let found = |path: &str| files.iter().find(|file| file.path == Path::new(path)).cloned();
    let id = |path: &str| world.repo.rev(&format!("{}:{path}", commit.as_str()));
    let file = |path: &str, mode, size| Some(TreeFile { path: path.into(), mode, id: id(path), size });
    assert_eq!(found("a tab\tand ü.txt"), file("a tab\tand ü.txt", EntryMode::File, 5));
    assert_eq!(found("deep/er/run.sh"), file("deep/er/run.sh", EntryMode::Executable, 10));
    assert_eq!(found("link"), file("link", EntryMode::Link, 4));
    assert_eq!(found("sub"), file("sub", EntryMode::Gitlink, 0));
    assert_eq!(world.hub.files(&commit).unwrap(), files);
}

#[test]
fn blobs_come_in_order_and_what_is_large_or_missing_is_none() {
    let world = World::new();
    let head = world.project.head().as_str();
    let id = |path: &str| world.repo.rev(&format!("{head}:{path}"));
    let ids = [id("src/b.txt"), "1".repeat(40), id("src/a.txt"), world.repo.rev(&format!("{head}:src")), id("src/b.txt")];
    let found = world.hub.blobs(&ids, 2).unwrap();
    assert_eq!(found, [Some(b"b\n".to_vec()), None, None, None, Some(b"b\n".to_vec())]);
    assert_eq!(world.hub.blobs(&ids, 100).unwrap()[2].as_deref(), Some(&b"one\ntwo\nthree\n"[..]));
}
