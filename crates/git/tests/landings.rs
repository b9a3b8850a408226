//! Landing: compare-and-swap, what it leaves alone, what it publishes, locks, recovery.

use std::fs;
use std::time::Duration;

use aedile_git::{Git, GitError, Landing, Moved, Project};
use aedile_testkit::TempRepo;

use crate::support::{World, commit_id, person, refname};

#[test]
fn the_swap_loses_when_the_target_moved() {
    let world = World::new();
    world.repo.branch("other");
    let change = world.changed("t", "src/b.txt", "better\n");
    let point = world.project.landing_point(&refname("refs/heads/main")).unwrap();
    let landing = Landing { new: world.candidate(&point.base, &change), reference: point.reference, old: point.old };
    world.repo.write("src/c.txt", "c\n").commit("elsewhere");
    world.repo.git(&["update-ref", "refs/heads/main", "refs/heads/other"]);
    let error = world.project.land(&world.hub, &landing, "aedile: land t").unwrap_err();
    assert!(matches!(error, GitError::RefMoved { .. }), "{error}");
    assert_eq!(world.repo.rev("main"), world.repo.rev("other"));
    assert!(!world.project.is_landed(&landing.reference, &landing.new).unwrap());
}

#[test]
fn a_landing_may_be_repeated_and_probed() {
    let world = World::new();
    world.repo.branch("other");
    let change = world.changed("t", "src/b.txt", "better\n");
    let point = world.project.landing_point(&refname("refs/heads/main")).unwrap();
    let landing = Landing { new: world.candidate(&point.base, &change), reference: point.reference, old: point.old };
    assert!(!world.project.is_landed(&landing.reference, &landing.new).unwrap());
    assert_eq!(world.project.land(&world.hub, &landing, "x").unwrap(), Moved::Now);
    assert!(world.project.is_landed(&landing.reference, &landing.new).unwrap());
    assert_eq!(world.project.land(&world.hub, &landing, "x").unwrap(), Moved::Before);
    // The person goes on from there; the landing still counts, and is not repeated.
    world.repo.checkout("main").write("src/c.txt", "c\n").commit("mine");
    assert!(world.project.is_landed(&landing.reference, &landing.new).unwrap());
    assert_eq!(world.project.land(&world.hub, &landing, "x").unwrap(), Moved::Before);
    assert!(!world.project.is_landed(&refname("refs/heads/none"), &landing.new).unwrap());
}

#[test]
fn the_persons_tree_index_stash_and_branches_stay_as_they_are() {
    let world = World::new();
    world.repo.write("src/a.txt", "stashed\n").git(&["stash", "push", "-q"]);
    world.repo.write("src/a.txt", "staged\n").git(&["add", "src/a.txt"]);
    world.repo.write("src/a.txt", "not staged\n").write("new file", "untracked\n").write("x.log", "ignored\n");
    let look = || {
        let status = world.repo.git(&["status", "--porcelain=v2", "--ignored"]);
        let rest = [&["diff"][..], &["diff", "--cached"], &["stash", "list"], &["stash", "show", "-p"], &["rev-parse", "HEAD", "main"]]
            .map(|args| world.repo.git(args));
        (status, rest, fs::read(world.repo.path().join(".git/index")).unwrap())
    };
    let before = look();
    world.land(&world.changed("t", "src/a.txt", "landed\n"));
    world.project.release(world.run).unwrap();
    assert_eq!(look(), before);
    // git refuses to overwrite the person's edits, so sync changes nothing.
    let error = world.project.sync(&refname("refs/heads/main")).unwrap_err();
    assert!(matches!(&error, GitError::SyncRefused { words } if words.contains("src/a.txt")), "{error}");
    assert_eq!(look(), before);
    let dirty = world.project.dirty().unwrap();
    assert_eq!((dirty.staged, dirty.changed, dirty.untracked, dirty.conflicted), (1, 1, 1, 0));
}

/// The trap: git takes a file that it ignores for one that may go.
#[test]
fn sync_overwrites_no_ignored_file() {
    let world = World::new();
    let workspace = world.workspace("t");
    workspace.repo.write("notes.log", "the agent's\n");
    workspace.git(&["add", "-f", "notes.log"]);
    let commit = workspace.commit("work");
    world.import(&workspace, &commit).unwrap();
    world.land(&commit);
    world.repo.write("notes.log", "the person's own\n");
    let error = world.project.sync(&refname("refs/heads/main")).unwrap_err();
    assert!(matches!(&error, GitError::SyncRefused { words } if words.contains("notes.log")), "{error}");
    assert_eq!(world.repo.read("notes.log"), "the person's own\n");
    world.repo.remove("notes.log");
    world.project.sync(&refname("refs/heads/main")).unwrap();
    assert_eq!(world.repo.read("notes.log"), "the agent's\n");
}

#[test]
fn sync_stays_out_of_other_branches() {
    let world = World::new();
    let error = world.project.sync(&refname("refs/heads/main")).unwrap_err();
    assert!(error.to_string().contains("nothing has landed"), "{error}");
    world.land(&world.changed("t", "src/b.txt", "better\n"));
    world.repo.branch("other");
    let error = world.project.sync(&refname("refs/heads/main")).unwrap_err();
    assert!(error.to_string().contains("not checked out"), "{error}");
    assert_eq!(world.repo.rev("other"), world.project.head().as_str());
}

/// The trap: whatever is in the project is published by `push --mirror`.
#[test]
fn a_mirror_push_publishes_only_what_landed() {
    let world = World::new();
    let refused = world.changed("refused", "src/secret.txt", "never landed\n");
    let landed = world.changed("t", "src/b.txt", "better\n");
    let workspace = world.workspace("s");
    workspace.repo.write("src/wip.txt", "unfinished\n");
    let snapshot = world.snapshotter(&workspace).snapshot(world.run, world.task(), (1, 1), crate::support::at()).unwrap();
    let (landing, _) = world.land(&landed);
    let path = world.state.path().join("public.git");
    fs::create_dir(&path).unwrap();
    let public = TempRepo::open(&path);
    public.git(&["init", "-q", "--bare", "-b", "main"]);
    world.repo.git(&["push", "-q", "--mirror", path.to_str().unwrap()]);
    let refs = public.git(&["for-each-ref", "--format=%(refname) %(objectname)"]);
    let head = world.project.head();
    let want = format!("refs/aedile/keep/{}/{head} {head}\nrefs/heads/aedile/main {}\nrefs/heads/main {head}", world.run, landing.new);
    assert_eq!(refs, want);
    for hidden in [refused, snapshot.commit, landed] {
        assert!(world.hub.resolve(hidden.as_str()).unwrap().is_some());
        assert!(public.try_git(&["cat-file", "-e", hidden.as_str()]).is_err(), "{hidden} was published");
        assert!(world.repo.try_git(&["cat-file", "-e", hidden.as_str()]).is_err(), "{hidden} is in the project");
    }
    world.project.release(world.run).unwrap();
    world.repo.git(&["push", "-q", "--mirror", path.to_str().unwrap()]);
    assert!(!public.git(&["for-each-ref", "--format=%(refname)"]).contains("keep"));
}

/// The trap: without a ref of ours, the person's own clean-up takes away what workspaces borrow.
#[test]
fn the_persons_gc_breaks_only_what_is_not_kept() {
    for kept in [true, false] {
        let world = World::new();
        let workspace = world.workspace("t");
        if !kept {
            world.project.release(world.run).unwrap();
            world.hub.release(world.run).unwrap();
        }
        // The commit that the workspace started from disappears from the person's history.
        world.repo.write("src/a.txt", "other\n").git(&["commit", "-qa", "--amend", "-m", "amended"]);
        world.repo.git(&["reflog", "expire", "--expire=now", "--all"]);
        world.repo.git(&["gc", "-q", "--prune=now"]);
        let worked = workspace.command(&["log", "-p", "--all"]).output().unwrap().status.success();
        assert_eq!(worked, kept, "kept: {kept}");
    }
}

#[test]
fn keeps_are_listed_and_released() {
    let world = World::new();
    assert_eq!(world.project.kept_runs().unwrap(), [world.run]);
    let later = commit_id(&world.repo.write("src/c.txt", "c\n").commit("later"));
    world.hub.adopt(&world.project, world.run, &later).unwrap();
    world.hub.adopt(&world.project, world.run, &later).unwrap();
    assert_eq!(world.repo.git(&["for-each-ref", "refs/aedile"]).lines().count(), 2);
    assert_eq!(world.project.kept_runs().unwrap(), [world.run]);
    world.project.release(world.run).unwrap();
    world.project.release(world.run).unwrap();
    assert!(world.project.kept_runs().unwrap().is_empty());
    let error = world.hub.adopt(&world.project, world.run, &commit_id(&"1".repeat(40))).unwrap_err();
    assert!(matches!(error, GitError::Failed { .. }), "{error}");
}

#[test]
fn a_strangers_lock_is_waited_for_and_named_ours_is_removed() {
    let world = World::new();
    world.repo.branch("other");
    let change = world.changed("t", "src/b.txt", "better\n");
    let point = world.project.landing_point(&refname("refs/heads/main")).unwrap();
    let landing = Landing { new: world.candidate(&point.base, &change), reference: point.reference, old: point.old };
    let lock = world.repo.path().join(".git/refs/heads/main.lock");
    let record = world.hub.dir().join("child-4194304.json");
    let text = serde_json::json!({ "pid": 4_194_304, "started": 1, "boot": "an earlier one", "locks": [lock] }).to_string();
    // Older than any record of ours: a stranger's.
    fs::write(&lock, "").unwrap();
    let hasty =
        Project::discover(&world.git.clone().with_limit(Duration::from_secs(2)), world.repo.path(), &person(world.home.path())).unwrap();
    let error = hasty.land(&world.hub, &landing, "x").unwrap_err();
    assert!(matches!(&error, GitError::Locked { lock: named } if *named == lock), "{error}");
    assert!(lock.exists());
    fs::remove_file(&lock).unwrap();
    // Our child wrote itself down, took the lock and was killed.
    fs::write(&record, text).unwrap();
    fs::write(&lock, "").unwrap();
    assert_eq!(world.project.land(&world.hub, &landing, "x").unwrap(), Moved::Now);
    assert!(!record.exists() && !lock.exists());
}

#[test]
fn a_large_landing_arrives_as_one_pack() {
    let world = World::new();
    let workspace = world.workspace("t");
    for number in 0..1100 {
        workspace.repo.write(&format!("src/many/{number}.txt"), format!("{number}\n"));
    }
    let commit = workspace.commit("many");
    world.import(&workspace, &commit).unwrap();
    let (landing, _) = world.land(&commit);
    assert_eq!(world.repo.git(&["ls-tree", "-r", "--name-only", landing.new.as_str(), "src/many"]).lines().count(), 1100);
    world.repo.git(&["fsck", "--strict"]);
}

#[test]
fn the_commit_says_who_did_what_for_whom() {
    let world = World::new();
    let (landing, _) = world.land(&world.changed("t", "src/b.txt", "better\n"));
    let shown = world.repo.git(&["log", "-1", "--format=%an <%ae>|%cn <%ce>|%s|%(trailers:only)", landing.new.as_str()]);
    let want =
        format!("ada <ada@aedile.invalid>|aedile <aedile@localhost>|Do it|Aedile-Task: t\nAedile-Agent: ada\nAedile-Run: {}", world.run);
    assert_eq!(shown.trim(), want);
    fs::write(world.home.path().join(".gitconfig"), "[user]\n\tname = Pat\n\temail = pat@example.org\n").unwrap();
    let project = world.rediscover();
    assert_eq!((project.committer().name(), project.committer().email()), ("Pat", "pat@example.org"));
    assert!(project.signing().is_none());
}

#[test]
fn an_old_or_missing_git_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let error = Git::find(dir.path().as_os_str()).unwrap_err();
    assert!(matches!(error, GitError::NotFound { .. }), "{error}");
    use std::os::unix::fs::PermissionsExt;
    fs::write(dir.path().join("git"), "#!/bin/sh\necho git version 2.45.0\n").unwrap();
    fs::set_permissions(dir.path().join("git"), fs::Permissions::from_mode(0o755)).unwrap();
    let error = Git::find(dir.path().as_os_str()).unwrap_err();
    assert!(matches!(&error, GitError::TooOld { found, .. } if found == "2.45.0"), "{error}");
    // A directory that is only right by chance is not searched.
    assert!(matches!(Git::find(std::ffi::OsStr::new(".:")).unwrap_err(), GitError::NotFound { .. }));
}
