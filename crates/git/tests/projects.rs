//! Finding the person's repository and reading it.

use std::fs;

use aedile_git::{GitError, Hub, ObjectFormat, Project};
use aedile_testkit::TempRepo;
use tempfile::TempDir;

use crate::support::{World, git, person};

#[test]
fn a_project_is_found_from_below_and_from_another_worktree() {
    let world = World::new();
    let from_below = Project::discover(&world.git, &world.repo.path().join("src"), &person(world.home.path())).unwrap();
    assert_eq!(from_below.root(), world.repo.path());
    assert_eq!(from_below.branch().unwrap().as_str(), "refs/heads/main");
    assert_eq!(from_below.format(), ObjectFormat::Sha1);
    let other = world.state.path().join("other");
    world.repo.git(&["worktree", "add", "-q", "-b", "side", other.to_str().unwrap()]);
    let project = Project::discover(&world.git, &other, &person(world.home.path())).unwrap();
    assert_eq!(project.common_dir(), world.project.common_dir());
    assert_eq!(project.branch().unwrap().as_str(), "refs/heads/side");
    assert_eq!(project.checkouts().unwrap().len(), 2);
    world.repo.git(&["checkout", "-q", "--detach"]);
    assert_eq!(world.rediscover().branch(), None);
}

#[test]
fn what_is_no_project_is_named() {
    let (dir, home, git) = (TempDir::new().unwrap(), TempDir::new().unwrap(), git());
    let find = |path: &std::path::Path| Project::discover(&git, path, &person(home.path())).unwrap_err();
    assert!(matches!(find(dir.path()), GitError::NotARepository { .. }), "{}", find(dir.path()));
    let repo = TempRepo::init(&dir.path().join("empty"));
    assert!(matches!(find(repo.path()), GitError::NoCommit { .. }), "{}", find(repo.path()));
    assert!(matches!(find(&repo.path().join(".git")), GitError::NotAWorkTree { .. }), "{}", find(&repo.path().join(".git")));
}

#[test]
fn projects_of_every_format_work_from_workspace_to_landing() {
    for (option, digits) in [("--object-format=sha256", 64), ("--ref-format=reftable", 40)] {
        let holder = TempDir::new().unwrap();
        let path = holder.path().join("repo");
        fs::create_dir_all(&path).unwrap();
        let repo = TempRepo::open(&path);
        // Older gits know no reftable, so there is none to meet.
        if repo.try_git(&["init", "-q", "-b", "main", option]).is_err() {
            continue;
        }
        repo.write("src/b.txt", "b\n").commit("start");
        let world = World::around(repo);
        assert_eq!(world.hub.format() == ObjectFormat::Sha256, digits == 64);
        let workspace = world.workspace("s");
        let snapshot = world.snapshotter(&workspace).snapshot(world.run, world.task(), (1, 1), crate::support::at()).unwrap();
        assert_eq!(snapshot.commit.as_str().len(), digits);
        let (landing, _) = world.land(&world.changed("t", "src/b.txt", "better\n"));
        assert_eq!(landing.reference.as_str(), "refs/heads/aedile/main", "{option}");
        assert_eq!(world.repo.show(landing.new.as_str(), "src/b.txt"), "better\n");
        world.project.sync(world.project.branch().unwrap()).unwrap();
        world.project.release(world.run).unwrap();
    }
}

#[test]
fn the_person_is_read_from_their_own_configuration() {
    let world = World::new();
    assert!(world.project.identity().is_none());
    let config = "[user]\n\tname = Pat\n\temail = pat@example.org\n\tsigningkey = KEY\n[commit]\n\tgpgsign = yes\n[gpg]\n\tformat = ssh\n";
    fs::write(world.home.path().join(".gitconfig"), config).unwrap();
    world.repo.git(&["config", "user.email", "pat@work.example"]);
    let project = world.rediscover();
    let who = project.identity().unwrap();
    assert_eq!((who.name(), who.email()), ("Pat", "pat@work.example"));
    let signing = project.signing().unwrap();
    assert_eq!((signing.format(), signing.key()), ("ssh", Some("KEY")));
}

#[test]
fn files_are_read_from_a_commit_not_from_the_checkout() {
    let world = World::new();
    world.repo.write("src/b.txt", "edited\n");
    let head = world.project.head();
    assert_eq!(world.project.file_at(head, "src/b.txt").unwrap().unwrap(), b"b\n");
    assert_eq!(world.project.file_at(head, "aedile.toml").unwrap(), None);
    assert_eq!(world.project.file_at(head, "src").unwrap(), None);
    assert_eq!(world.hub.file_at(head, "src/b.txt").unwrap().unwrap(), b"b\n");
    let error = world.project.file_at(&crate::support::commit_id(&"1".repeat(40)), "a").unwrap_err();
    assert!(matches!(error, GitError::Missing { .. }), "{error}");
}

#[test]
fn a_project_that_moved_keeps_its_hub() {
    let holder = TempDir::new().unwrap();
    let repo = TempRepo::init(&holder.path().join("before"));
    repo.write("a", "a\n").commit("start");
    let world = World::around(repo);
    let after = holder.path().join("after");
    fs::rename(world.repo.path(), &after).unwrap();
    let project = Project::discover(&world.git, &after, &person(world.home.path())).unwrap();
    let hub = Hub::open_or_create(world.hub.dir(), &project).unwrap();
    assert!(hub.resolve(project.head().as_str()).unwrap().is_some());
    assert_eq!(hub.object_mounts().unwrap()[1].host, after.canonicalize().unwrap().join(".git/objects"));
}

#[test]
fn a_shallow_project_and_one_that_borrows_objects_work() {
    let origin = World::new();
    origin.repo.write("src/c.txt", "c\n").commit("second");
    let holder = TempDir::new().unwrap();
    for (name, extra) in [("shallow", "--depth=1"), ("borrowed", "--shared")] {
        let path = holder.path().join(name);
        let url = format!("{}{}", if name == "shallow" { "file://" } else { "" }, origin.repo.path().display());
        origin.repo.git(&["clone", "-q", extra, &url, path.to_str().unwrap()]);
        let world = World::around(TempRepo::open(&path));
        let change = world.changed("t", "src/b.txt", "better\n");
        let (landing, _) = world.land(&change);
        assert_eq!(world.repo.show(landing.new.as_str(), "src/b.txt"), "better\n", "{name}");
        let workspace = world.workspace("s");
        world.snapshotter(&workspace).snapshot(world.run, world.task(), (1, 1), crate::support::at()).unwrap();
    }
}

/// Commits are signed by the person's own key and program when their configuration asks for it, and say so when that fails.
#[test]
fn a_landed_commit_is_signed_when_the_person_signs() {
    let world = World::new();
    let (key, program) = (world.home.path().join("key"), world.home.path().join("signer"));
    // A signing program as git calls it for the ssh format: `-Y sign ... FILE`, answer in FILE.sig.
    fs::write(&program, "#!/bin/sh\nfor file; do :; done\nprintf -- '-----BEGIN SSH SIGNATURE-----\\nU1NI\\n-----END SSH SIGNATURE-----\\n' >\"$file.sig\"\n").unwrap();
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(&key, "key\n").unwrap();
    let config = |program: &std::path::Path| {
        format!(
            "[user]\n\tname = Pat\n\temail = p@e\n\tsigningkey = {}\n[commit]\n\tgpgsign = true\n[gpg]\n\tformat = ssh\n[gpg \"ssh\"]\n\tprogram = {}\n",
            key.display(),
            program.display()
        )
    };
    fs::write(world.home.path().join(".gitconfig"), config(&program)).unwrap();
    let sign = |world: &World| {
        let project = world.rediscover();
        let info = world.hub.commit_info(project.head()).unwrap();
        let who = project.committer();
        world.hub.commit_tree(&aedile_git::CommitRequest {
            tree: &info.tree,
            parents: &[info.id],
            message: "signed\n",
            author: &who,
            committer: &who,
            at: crate::support::at(),
            sign: project.signing(),
        })
    };
    let commit = sign(&world).unwrap();
    let raw = TempRepo::open(world.hub.dir()).git(&["cat-file", "commit", commit.as_str()]);
    assert!(raw.contains("BEGIN SSH SIGNATURE"), "{raw}");
    fs::write(world.home.path().join(".gitconfig"), config(std::path::Path::new("/nonexistent/signer"))).unwrap();
    let error = sign(&world).unwrap_err();
    assert!(matches!(&error, GitError::Failed { stderr, .. } if stderr.contains("/nonexistent/signer")), "{error}");
}
