//! Views: what an agent may read of a commit, alone in its workspace, and the way back of what is made there.

use std::fs;

use aedile_core::CommitId;
use aedile_core::policy::{LayerName, Policies, PolicyText, Reads, Who};
use aedile_git::{EntryMode, GitError};
use aedile_testkit::TempRepo;

use crate::support::{Workspace, World};

const KEY: &str = concat!("-----BEGIN ", "PRIVATE KEY-----\nMC4CAQ\n");

/// What an agent may read that has these globs and this policy.
fn reads(globs: &[&str], policy: &str) -> Reads {
    let text = PolicyText { layer: LayerName::Project, place: "p".into(), text: policy.to_owned() };
    let globs: Vec<String> = globs.iter().map(|glob| (*glob).to_owned()).collect();
    Policies::parse(if policy.is_empty() { &[] } else { std::slice::from_ref(&text) })
        .unwrap()
        .of(Who { role: "builder", agent: "ada", task: "t" })
        .reads(&globs)
        .unwrap()
}

fn world() -> World {
    World::with(|repo| {
        repo.write("src/a.txt", "one\n").write("src/sub/b.txt", "b\n").write("docs/c.txt", "c\n").write("tests/server.pem", KEY);
        repo.write(".env", "TOKEN=canary-value\n").write("certs/ca.pem", "-----BEGIN CERTIFICATE-----\n");
    })
}

/// A workspace that holds the view.
fn workspace(world: &World, reads: &Reads) -> Workspace {
    let view = world.hub.view(world.project.head(), reads).unwrap().unwrap();
    let mut workspace = world.workspace_of("t", &view.commit, true);
    workspace.base = world.project.head().clone();
    workspace
}

fn paths(world: &World, commit: &CommitId) -> Vec<String> {
    world.hub.files(commit).unwrap().into_iter().map(|file| file.path.to_string_lossy().into_owned()).collect()
}

#[test]
fn a_repository_without_anything_to_hide_is_seen_whole() {
    let world = World::new();
    assert_eq!(world.hub.view(world.project.head(), &reads(&[], "")).unwrap(), None);
    let (world, shown) = (self::world(), "[read]\nshow = [\".env\", \"tests/**\"]");
    assert_eq!(world.hub.view(world.project.head(), &reads(&[], shown)).unwrap(), None);
}

#[test]
fn a_view_holds_what_may_be_read_and_no_object_of_anything_else() {
    let world = {
        let world = world();
        world.repo.write("src/a.txt", "two\n").commit("second");
        World::around(world.repo)
    };
    for (globs, policy, seen) in [
        (&[][..], "", &["certs/ca.pem", "docs/c.txt", "src/a.txt", "src/sub/b.txt"][..]),
        (&[], "[read]\nshow = [\".env\"]", &[".env", "certs/ca.pem", "docs/c.txt", "src/a.txt", "src/sub/b.txt"]),
        (&[], "[read]\nhide = [\"docs/**\"]", &["certs/ca.pem", "src/a.txt", "src/sub/b.txt"]),
        (&["src/*.txt"], "", &["src/a.txt"]),
        (&["src"], "", &["src/a.txt", "src/sub/b.txt"]),
        (&["none/**"], "", &[]),
    ] {
        let reads = reads(globs, policy);
        let view = world.hub.view(world.project.head(), &reads).unwrap().unwrap();
        assert_eq!(
            (paths(&world, &view.commit), view.hidden),
            (seen.iter().map(|path| (*path).to_owned()).collect(), 6 - seen.len()),
            "{globs:?}"
        );
        assert_eq!(world.hub.view(world.project.head(), &reads).unwrap().unwrap(), view, "a view of the same is the same commit");
    }
    let workspace = workspace(&world, &reads(&["src/**"], ""));
    let all = workspace.git(&["cat-file", "--batch-all-objects", "--batch-check=%(objecttype)"]);
    let count = |kind: &str| all.lines().filter(|line| *line == kind).count();
    assert_eq!((count("commit"), count("blob"), count("tree")), (1, 2, 3), "one commit, two files, three directories");
    assert_eq!(workspace.git(&["log", "--format=%P"]), "");
    assert!(fs::read(workspace.path(".git/objects/info/alternates")).is_err() && !workspace.path(".env").exists());
    workspace.git(&["fsck", "--strict"]);
}

#[test]
fn what_is_made_on_a_view_is_grafted_and_nothing_that_was_not_there_goes() {
    let world = world();
    let workspace = workspace(&world, &reads(&["src/**", "docs/**"], ""));
    fs::remove_dir_all(workspace.path("docs")).unwrap();
    workspace.repo.write("src/a.txt", "ONE\n").write("src/new/d.txt", "d\n").write("docs", "a file now\n");
    workspace.commit("first");
    fs::remove_file(workspace.path("src/sub/b.txt")).unwrap();
    let commit = workspace.commit("second");
    let imported = world.import(&workspace, &commit).unwrap();
    assert_ne!(imported.commit, commit);
    assert_eq!(world.hub.resolve(imported.reference.as_str()).unwrap(), Some(imported.commit.clone()));
    let parents = world.hub.commit_info(&imported.commit).unwrap().parents;
    assert_eq!(parents, [world.project.head().clone(), commit.clone()], "the work stays with what it became");
    let changed: Vec<(String, EntryMode)> = world
        .hub
        .diff_paths(world.project.head(), &imported.commit)
        .unwrap()
        .into_iter()
        .map(|change| (change.path.to_string_lossy().into_owned(), change.new_mode))
        .collect();
    let expected = [
        ("docs", EntryMode::File),
        ("docs/c.txt", EntryMode::Absent),
        ("src/a.txt", EntryMode::File),
        ("src/new/d.txt", EntryMode::File),
        ("src/sub/b.txt", EntryMode::Absent),
    ];
    assert_eq!(changed, expected.map(|(path, mode)| (path.to_owned(), mode)));
    let (landing, _) = world.land(&imported.commit);
    let landed = paths(&world, &landing.new);
    assert!([".env", "certs/ca.pem", "tests/server.pem"].iter().all(|path| landed.iter().any(|there| there == path)), "{landed:?}");
    assert_eq!(world.hub.commit_info(&landing.new).unwrap().parents.len(), 1);
    TempRepo::open(world.hub.dir()).git(&["fsck", "--strict", "--connectivity-only"]);
    // A second import of the same commit, as after a crash, is the same.
    assert_eq!(world.import(&workspace, &commit).unwrap().commit, imported.commit);
}

#[test]
fn a_change_that_would_replace_what_it_cannot_see_is_refused() {
    for (path, says) in [(".env", ".env"), ("certs", "certs"), (".env/x", ".env/x"), ("tests/server.pem", "tests/server.pem")] {
        let world = world();
        let workspace = workspace(&world, &reads(&["src/**"], ""));
        workspace.repo.write(path, "mine\n");
        let commit = workspace.commit("over it");
        let error = world.import(&workspace, &commit).unwrap_err();
        assert!(matches!(&error, GitError::ImportRefused { reason } if reason.contains(&format!("at {says} that"))), "{error}");
        assert!(world.hub.refs("refs/aedile/changes/").unwrap().is_empty());
    }
}

#[test]
fn a_snapshot_of_a_view_stands_on_it() {
    let world = world();
    let workspace = workspace(&world, &reads(&["src/**"], ""));
    workspace.repo.write("src/a.txt", "saved\n");
    let view = workspace.view.clone().unwrap();
    let mut snapshotter = world.snapshotter(&workspace);
    let saved = snapshotter.snapshot(world.run, world.task(), (1, 1), crate::support::at()).unwrap();
    assert_eq!(world.hub.commit_info(&saved.commit).unwrap().parents, std::slice::from_ref(&view));
    assert_eq!(paths(&world, &saved.commit), ["src/a.txt", "src/sub/b.txt"]);
    assert_eq!(world.hub.diff_paths(&view, &saved.commit).unwrap().len(), 1);
}
