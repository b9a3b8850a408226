//! Merges in the object store and changes that go back.

use aedile_core::AgentName;
use aedile_git::{EntryMode, Identity, Merge};

use crate::support::{World, at, commit_id};

#[test]
fn clean_and_conflicting_merges_are_told_apart() {
    let world = World::new();
    let change = world.changed("t", "src/a.txt", "one\ntwo\nTHREE\n");
    let head = world.project.head().clone();
    assert!(matches!(world.hub.merge_tree(&head, &change).unwrap(), Merge::Clean { .. }));
    let target = commit_id(&world.repo.write("src/a.txt", "one\ntwo\ndrei\n").commit("theirs"));
    world.hub.adopt(&world.project, world.run, &target).unwrap();
    let Merge::Conflict { tree, paths, messages, .. } = world.hub.merge_tree(&target, &change).unwrap() else { panic!("no conflict") };
    assert_eq!(paths, [std::path::PathBuf::from("src/a.txt")]);
    assert!(messages.iter().any(|text| text.starts_with("CONFLICT (content)")), "{messages:?}");
    let text = aedile_testkit::TempRepo::open(world.hub.dir()).show(tree.as_str(), "src/a.txt");
    for part in ["<<<<<<<", "|||||||", "\nthree\n", "=======", "THREE", ">>>>>>>", "drei"] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
}

#[test]
fn a_conflict_goes_back_resolves_and_lands() {
    let world = World::new();
    let change = world.changed("t", "src/a.txt", "one\ntwo\nTHREE\n");
    let target = commit_id(&world.repo.write("src/a.txt", "one\ntwo\ndrei\n").write("src/new.txt", "n\n").commit("theirs"));
    world.hub.adopt(&world.project, world.run, &target).unwrap();
    let agent = Identity::agent(&AgentName::new("ada").unwrap());
    let back = world.hub.merge_back(&change, &target, &agent, at()).unwrap();
    assert_eq!(back.paths.len(), 1);
    let mut workspace = world.workspace_at("t-2", &back.commit);
    workspace.key = crate::support::key("t-2");
    assert!(workspace.repo.read("src/a.txt").contains("||||||| "), "{}", workspace.repo.read("src/a.txt"));
    assert_eq!(workspace.repo.read("src/new.txt"), "n\n");
    assert_eq!(workspace.git(&["status", "--porcelain"]), "");
    workspace.repo.write("src/a.txt", "one\ntwo\nTHREE drei\n");
    let solved = workspace.commit("solved");
    world.import(&workspace, &solved).unwrap();
    let Merge::Clean { .. } = world.hub.merge_tree(&target, &solved).unwrap() else { panic!("still a conflict") };
    // Against the target only the agent's own work differs.
    let changes = world.hub.diff_paths(&target, &solved).unwrap();
    assert_eq!(changes.iter().map(|change| change.path.to_str().unwrap()).collect::<Vec<_>>(), ["src/a.txt"]);
    assert!(world.hub.is_ancestor(&target, &solved).unwrap());
    assert_eq!(world.hub.merge_base(&target, &solved).unwrap(), Some(target));
}

#[test]
fn a_target_that_moved_without_conflict_goes_back_clean() {
    let world = World::new();
    let change = world.changed("t", "src/a.txt", "ONE\ntwo\nthree\n");
    let target = commit_id(&world.repo.write("src/b.txt", "bb\n").commit("theirs"));
    world.hub.adopt(&world.project, world.run, &target).unwrap();
    let back = world.hub.merge_back(&change, &target, &Identity::aedile(), at()).unwrap();
    assert!(back.paths.is_empty() && back.messages.is_empty());
    assert_eq!(world.hub.file_at(&back.commit, "src/b.txt").unwrap().unwrap(), b"bb\n");
}

#[test]
fn a_merge_program_of_the_project_never_runs_on_the_host() {
    let world = World::with(|repo| {
        repo.write("a.txt", "1\n2\n3\n").write(".gitattributes", "*.txt merge=evil\n");
    });
    let (program, mark) = crate::support::tripwire(world.state.path(), "driver");
    world.repo.git(&["config", "merge.evil.driver", &format!("{} %A", program.display())]);
    let change = world.changed("t", "a.txt", "1\n2\nthree\n");
    let target = commit_id(&world.repo.write("a.txt", "1\n2\ndrei\n").commit("theirs"));
    world.hub.adopt(&world.project, world.run, &target).unwrap();
    assert!(matches!(world.hub.merge_tree(&target, &change).unwrap(), Merge::Conflict { .. }));
    assert!(!mark.exists());
}

#[test]
fn the_targets_own_attributes_count_in_a_merge() {
    let world = World::with(|repo| {
        repo.write("list.txt", "a\n").write(".gitattributes", "list.txt merge=union\n");
    });
    let change = world.changed("t", "list.txt", "a\nfrom the agent\n");
    let target = commit_id(&world.repo.write("list.txt", "a\nfrom the person\n").commit("theirs"));
    world.hub.adopt(&world.project, world.run, &target).unwrap();
    let Merge::Clean { tree } = world.hub.merge_tree(&target, &change).unwrap() else { panic!("conflict") };
    let text = aedile_testkit::TempRepo::open(world.hub.dir()).show(tree.as_str(), "list.txt");
    assert_eq!(text, "a\nfrom the person\nfrom the agent\n");
}

#[test]
fn paths_are_exact_in_bytes_and_modes() {
    use std::os::unix::ffi::OsStrExt;
    let world = World::new();
    let workspace = world.workspace("t");
    let odd = std::path::PathBuf::from(std::ffi::OsStr::from_bytes(b"src/\xff\n\"q\"\ttab.txt"));
    std::fs::write(workspace.repo.path().join(&odd), "x").unwrap();
    workspace.repo.write_executable("src/run.sh", "#!/bin/sh\n").remove("src/b.txt");
    std::os::unix::fs::symlink("../../outside", workspace.path("src/link")).unwrap();
    std::os::unix::fs::symlink("a.txt", workspace.path("src/fine")).unwrap();
    workspace.git(&["add", "-A"]);
    let head = workspace.base.to_string();
    workspace.git(&["update-index", "--add", "--cacheinfo", &format!("160000,{head},src/module")]);
    workspace.git(&["commit", "-qm", "odd"]);
    let commit = commit_id(&workspace.git(&["rev-parse", "HEAD"]));
    world.import(&workspace, &commit).unwrap();
    let changes = world.hub.diff_paths(&workspace.base, &commit).unwrap();
    let mode = |path: &std::path::Path| {
        changes.iter().find(|change| change.path == path).map(|change| (change.status, change.old_mode, change.new_mode))
    };
    let name = std::path::Path::new;
    assert_eq!(mode(&odd), Some(('A', EntryMode::Absent, EntryMode::File)));
    assert_eq!(mode(name("src/run.sh")), Some(('A', EntryMode::Absent, EntryMode::Executable)));
    assert_eq!(mode(name("src/b.txt")), Some(('D', EntryMode::File, EntryMode::Absent)));
    assert_eq!(mode(name("src/module")), Some(('A', EntryMode::Absent, EntryMode::Gitlink)));
    assert_eq!(mode(name("src/link")), Some(('A', EntryMode::Absent, EntryMode::Link)));
}
