//! Snapshots: everything that is in a workspace, whatever the agent did to it.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;

use aedile_git::{Snapshot, Snapshotter};
use aedile_testkit::TempRepo;

use crate::support::{Workspace, World, at, tripwire};

struct Saved {
    world: World,
    workspace: Workspace,
    snapshotter: Snapshotter,
    turn: u32,
}

impl Saved {
    fn new(world: World) -> Self {
        let workspace = world.workspace("t");
        let snapshotter = world.snapshotter(&workspace);
        Self { world, workspace, snapshotter, turn: 0 }
    }

    fn take(&mut self) -> Snapshot {
        self.turn += 1;
        self.snapshotter.snapshot(self.world.run, self.world.task(), (1, self.turn), at()).unwrap()
    }

    fn hub(&self) -> TempRepo {
        TempRepo::open(self.world.hub.dir())
    }

    fn files(&self, snapshot: &Snapshot) -> BTreeSet<String> {
        self.hub()
            .git(&["-c", "core.quotePath=false", "ls-tree", "-r", "--name-only", snapshot.commit.as_str()])
            .lines()
            .map(str::to_owned)
            .collect()
    }
}

#[test]
fn half_written_files_of_a_killed_tool_are_not_saved_and_what_it_set_aside_is() {
    let mut saved = Saved::new(World::new());
    saved.workspace.repo.write("src/.aedile-7-1.tmp", "half").write(".aedile-7-2.tmp/b.txt", "b\n").remove("src/b.txt");
    let snapshot = saved.take();
    assert_eq!(saved.files(&snapshot), set(&[".aedile-7-2.tmp/b.txt", ".gitignore", "src/a.txt"]));
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[test]
fn untracked_changed_and_removed_files_are_saved() {
    let mut saved = Saved::new(World::new());
    let first = saved.take();
    assert_eq!(saved.files(&first), set(&[".gitignore", "src/a.txt", "src/b.txt"]));
    // What the agent did not touch was not read again: two trees and the commit are new, no file is.
    let count = TempRepo::open(&saved.workspace.snapshots.join("repository")).git(&["count-objects"]);
    assert!(count.starts_with("3 ") || count.starts_with("1 "), "{count}");
    assert_eq!(saved.world.hub.commit_info(&first.commit).unwrap().parents, [saved.workspace.base.clone()]);
    saved.workspace.repo.write("notes/plan.md", "plan\n").write("src/a.txt", "changed\n").remove("src/b.txt");
    std::os::unix::fs::symlink("/etc/passwd", saved.workspace.path("link")).unwrap();
    saved.workspace.repo.write_executable("run.sh", "#!/bin/sh\n");
    let second = saved.take();
    assert_eq!(saved.files(&second), set(&[".gitignore", "link", "notes/plan.md", "run.sh", "src/a.txt"]));
    let hub = saved.hub();
    assert_eq!(hub.show(second.commit.as_str(), "src/a.txt"), "changed\n");
    assert_eq!(hub.show(second.commit.as_str(), "link"), "/etc/passwd");
    assert!(hub.git(&["ls-tree", second.commit.as_str(), "run.sh"]).starts_with("100755"));
    // Same size, same second: still seen. A directory becomes a file and a file a directory.
    saved.workspace.repo.write("src/a.txt", "CHANGED\n").remove("notes/plan.md");
    fs::remove_dir(saved.workspace.path("notes")).unwrap();
    saved.workspace.repo.write("notes", "now a file\n").remove("run.sh").write("run.sh/now.txt", "a directory\n");
    let third = saved.take();
    assert_eq!(saved.files(&third), set(&[".gitignore", "link", "notes", "run.sh/now.txt", "src/a.txt"]));
    assert_eq!(hub.show(third.commit.as_str(), "src/a.txt"), "CHANGED\n");
    // A link where a directory was: what lay below is gone, and nothing behind the link is taken.
    fs::remove_dir_all(saved.workspace.path("src")).unwrap();
    std::os::unix::fs::symlink("/usr", saved.workspace.path("src")).unwrap();
    let fourth = saved.take();
    assert_eq!(saved.files(&fourth), set(&[".gitignore", "link", "notes", "run.sh/now.txt", "src"]));
    assert_eq!(hub.show(second.commit.as_str(), "src/a.txt"), "changed\n");
}

#[test]
fn an_unchanged_workspace_in_the_same_second_is_the_same_snapshot() {
    let mut saved = Saved::new(World::new());
    let first = saved.take();
    saved.turn -= 1;
    let second = saved.take();
    assert_eq!(first.commit, second.commit);
}

#[test]
fn a_restart_goes_on_where_it_was() {
    let mut saved = Saved::new(World::new());
    saved.workspace.repo.write("new.txt", "new\n");
    saved.take();
    // Killed while git in the box held its lock.
    fs::write(saved.workspace.snapshots.join("repository/index.lock"), "").unwrap();
    saved.snapshotter = saved.world.snapshotter(&saved.workspace);
    saved.workspace.repo.remove("new.txt").write("newer.txt", "newer\n");
    let snapshot = saved.take();
    assert_eq!(saved.files(&snapshot), set(&[".gitignore", "newer.txt", "src/a.txt", "src/b.txt"]));
    assert_eq!(saved.world.hub.refs(&format!("refs/aedile/snapshots/{}/", saved.world.run)).unwrap().len(), 2);
    saved.world.hub.forget_snapshots(saved.world.run, None).unwrap();
    assert!(saved.world.hub.refs("refs/aedile/snapshots/").unwrap().is_empty());
    // Even when all earlier ones were forgotten.
    saved.snapshotter = saved.world.snapshotter(&saved.workspace);
    saved.take();
}

#[test]
fn ignore_rules_are_the_targets_not_the_agents() {
    let mut saved = Saved::new(World::with(|repo| {
        repo.write(".gitignore", "*.log\n/out/\n!keep.log\n").write("deep/.gitignore", "/tmp\n!*.log\n").write("a.txt", "a\n");
        repo.write("out/tracked.txt", "tracked although ignored\n").git(&["add", "-f", "out/tracked.txt"]);
    }));
    for path in ["x.log", "keep.log", "out/y", "deep/tmp/z", "deep/q.log", "deep/more/tmp/w", "target/debug/bin", "sub/target/not.ours"] {
        saved.workspace.repo.write(path, "x\n");
    }
    // An agent that hides its work from git does not hide it from us.
    saved.workspace.repo.write(".gitignore", "*\n").write("hidden.txt", "hidden\n");
    fs::write(saved.workspace.path(".git/info/exclude"), "*\n").unwrap();
    let snapshot = saved.take();
    let want = [
        ".gitignore",
        "a.txt",
        "deep/.gitignore",
        "deep/more/tmp/w",
        "deep/q.log",
        "hidden.txt",
        "keep.log",
        "out/tracked.txt",
        "sub/target/not.ours",
    ];
    assert_eq!(saved.files(&snapshot), set(&want));
}

/// The trap: `git add` (and `status`) by the host goes into nested repositories and runs what their configuration says.
#[test]
fn a_nested_repository_is_ordinary_files_and_runs_nothing() {
    let mut saved = Saved::new(World::new());
    let (program, mark) = tripwire(saved.world.state.path(), "filter");
    let nested = TempRepo::init(&saved.workspace.path("vendor/lib"));
    nested.write("lib.c", "int x;\n").write(".gitattributes", "*.c filter=evil\n").commit("nested");
    nested.git(&["config", "filter.evil.clean", program.to_str().unwrap()]);
    nested.git(&["config", "core.fsmonitor", program.to_str().unwrap()]);
    nested.write("lib.c", "int y;\n");
    let _ = saved.workspace.command(&["add", "-A"]).output().unwrap();
    let _ = saved.workspace.command(&["status"]).output().unwrap();
    assert!(mark.exists(), "the trap no longer springs");
    fs::remove_file(&mark).unwrap();
    let snapshot = saved.take();
    assert!(!mark.exists());
    let files = saved.files(&snapshot);
    assert!(files.contains("vendor/lib/lib.c") && files.contains("vendor/lib/.gitattributes"), "{files:?}");
    assert!(!files.iter().any(|path| path.contains(".git/")), "{files:?}");
    assert_eq!(saved.hub().show(snapshot.commit.as_str(), "vendor/lib/lib.c"), "int y;\n");
}

/// The trap: with `working-tree-encoding` in a `.gitattributes`, `git add` refuses the whole tree.
#[test]
fn attributes_of_an_agent_cannot_stop_a_snapshot() {
    let mut saved = Saved::new(World::new());
    saved.workspace.repo.write(".gitattributes", "*.txt working-tree-encoding=UTF-16 ident\n*.c text eol=crlf filter=none\n");
    saved.workspace.repo.write("plain.txt", "not UTF-16 \u{e4} $Id$\n").write("crlf.c", "a\r\nb\n");
    let add = saved.workspace.command(&["add", "-A"]).output().unwrap();
    assert!(!add.status.success(), "the trap no longer springs");
    let snapshot = saved.take();
    assert_eq!(saved.hub().show(snapshot.commit.as_str(), "plain.txt"), "not UTF-16 \u{e4} $Id$\n");
    assert_eq!(saved.hub().show(snapshot.commit.as_str(), "crlf.c"), "a\r\nb\n");
    // One that never ends when it is read.
    saved.workspace.repo.remove(".gitattributes");
    rustix::fs::mknodat(rustix::fs::CWD, saved.workspace.path(".gitattributes"), rustix::fs::FileType::Fifo, 0o644.into(), 0).unwrap();
    let snapshot = saved.take();
    assert_eq!(snapshot.left_out.len(), 1);
    assert_eq!(snapshot.left_out[0].why, "is no file");
}

#[test]
fn odd_names_large_files_and_unreadable_ones_do_not_stop_it() {
    let mut saved = Saved::new(World::new());
    for name in [b"new\nline".as_slice(), b"q\"uote", b"tab\t", b"\xff\xfe", b"-dash", b"git~1", b" "] {
        fs::write(saved.workspace.repo.path().join(std::ffi::OsStr::from_bytes(name)), "x").unwrap();
    }
    saved.workspace.repo.write("closed/secret", "x").write("shut.txt", "x").write("lib/.GIT/config", "x").write("barred/x", "x");
    fs::set_permissions(saved.workspace.path("barred"), fs::Permissions::from_mode(0o000)).unwrap();
    fs::set_permissions(saved.workspace.path("shut.txt"), fs::Permissions::from_mode(0o000)).unwrap();
    let large = fs::File::create(saved.workspace.path("large\n.bin")).unwrap();
    large.set_len(aedile_core::limits::SNAPSHOT_FILE_BYTES_MAX + 1).unwrap();
    let snapshot = saved.take();
    assert_eq!(
        saved
            .hub()
            .git(&["ls-tree", "-r", "-z", "--name-only", snapshot.commit.as_str()])
            .split('\0')
            .filter(|name| !name.is_empty())
            .count(),
        3 + 7 + 1
    );
    let why =
        |path: &str| snapshot.left_out.iter().find(|left| left.path == std::path::Path::new(path)).map(|left| left.why.clone()).unwrap();
    assert_eq!(why("shut.txt"), "cannot be read");
    assert_eq!(why("barred"), "is a directory that cannot be read");
    assert_eq!(why("lib/.GIT"), "has a name that git refuses");
    let hash = saved.hub().git(&["hash-object", saved.workspace.path("large\n.bin").to_str().unwrap()]);
    assert!(why("large\n.bin").contains(&hash), "{}", why("large\n.bin"));
    let message = saved.world.hub.commit_info(&snapshot.commit).unwrap().message;
    assert!(message.contains(&hash) && message.contains("large\\n.bin") && message.contains("shut.txt"), "{message}");
}

#[test]
fn a_box_that_fails_says_so_and_loses_nothing() {
    let mut saved = Saved::new(World::new());
    let first = saved.take();
    let mut broken = Snapshotter::open(
        &saved.world.hub,
        std::sync::Arc::new(crate::boxes::Writes(b"short".to_vec())),
        saved.workspace.repo.path(),
        &saved.workspace.snapshots,
    )
    .unwrap();
    broken.snapshot(saved.world.run, saved.world.task(), (1, 9), at()).unwrap_err();
    assert_eq!(saved.world.hub.resolve(first.reference.as_str()).unwrap(), Some(first.commit));
    saved.workspace.repo.write("more.txt", "more\n");
    let next = saved.take();
    assert!(saved.files(&next).contains("more.txt"));
}
