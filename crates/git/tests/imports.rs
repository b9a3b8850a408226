//! Import: what comes out of a workspace, and what does not.

use std::fs;
use std::process::Stdio;
use std::time::Duration;

use aedile_core::CommitId;
use aedile_git::{GitError, Hub, ImportRequest, Project};
use aedile_testkit::TempRepo;

use crate::boxes::{Refuses, Writes};
use crate::support::{Workspace, World, commit_id, person, tripwire};

fn pack(workspace: &Workspace, list: &str, thin: bool) -> Vec<u8> {
    use std::io::Write;
    let mut args = vec!["pack-objects", "--stdout", "-q"];
    if thin {
        args.extend(["--revs", "--thin"]);
    }
    let mut child = workspace.command(&args).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(list.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    output.stdout
}

#[test]
fn a_submitted_commit_arrives_whole() {
    let world = World::new();
    let workspace = world.workspace("t");
    workspace.repo.write("src/a.txt", "ONE\ntwo\nthree\n").write("src/deep/er/c.txt", "c\n");
    workspace.commit("first");
    workspace.repo.write("src/b.txt", "bb\n");
    let commit = workspace.commit("second");
    let imported = world.import(&workspace, &commit).unwrap();
    assert!(imported.objects > 5 && imported.bytes > 100);
    assert_eq!(world.hub.resolve(imported.reference.as_str()).unwrap(), Some(commit.clone()));
    assert_eq!(world.hub.commit_info(&commit).unwrap().parents.len(), 1);
    TempRepo::open(world.hub.dir()).git(&["fsck", "--strict", "--connectivity-only"]);
    assert_eq!(fs::read_dir(world.hub.dir().join("quarantine")).unwrap().count(), 0);
    // A second import of the same commit, as after a crash.
    world.import(&workspace, &commit).unwrap();
}

#[test]
fn only_the_submitted_commit_of_the_right_branch_is_taken() {
    let world = World::new();
    let workspace = world.workspace("t");
    workspace.repo.write("src/b.txt", "bb\n");
    let submitted = workspace.commit("submitted");
    workspace.repo.write("src/b.txt", "bbb\n");
    workspace.commit("and on");
    let error = world.import(&workspace, &submitted).unwrap_err();
    assert!(matches!(error, GitError::SubmitMoved { .. }), "{error}");
    workspace.git(&["branch", "-m", "aedile/t", "elsewhere"]);
    let error = world.import(&workspace, &submitted).unwrap_err();
    assert!(matches!(error, GitError::SubmitMoved { .. }), "{error}");
    workspace.git(&["branch", "aedile/t", workspace.base.as_str()]);
    let error = world.import(&workspace, &workspace.base).unwrap_err();
    assert!(matches!(&error, GitError::ImportRefused { reason } if reason.contains("adds nothing")), "{error}");
    assert!(world.hub.refs("refs/aedile/changes/").unwrap().is_empty());
}

#[test]
fn a_pack_that_is_too_large_is_refused() {
    let world = World::new();
    let workspace = world.workspace("t");
    let mut noise = vec![0_u8; 200_000];
    aedile_core::Entropy::fill(&world.entropy, &mut noise);
    workspace.repo.write("src/noise", noise);
    let commit = workspace.commit("large");
    let error = world.import_with(world.sandbox.as_ref(), &workspace, &commit, Some(50_000)).unwrap_err();
    assert!(matches!(error, GitError::PackTooLarge { limit: 50_000 }), "{error}");
    assert!(world.hub.resolve(commit.as_str()).unwrap().is_none());
    world.import(&workspace, &commit).unwrap();
}

/// The trap: with `objects/info/alternates` an agent names objects it was never given, and a plain `fetch` on the host serves them.
#[test]
fn alternates_of_an_agent_smuggle_nothing() {
    let world = World::new();
    let foreign = TempRepo::init(&world.state.path().join("foreign"));
    foreign.write("secret.txt", "the other project's secret\n").commit("secret");
    let tree = foreign.rev("HEAD^{tree}");
    let workspace = world.workspace("t");
    let alternates = workspace.path(".git/objects/info/alternates");
    let lines = [workspace.objects.clone(), foreign.path().join(".git/objects"), "/aedile/objects".into()];
    fs::write(&alternates, lines.map(|line| format!("{}\n", line.display())).concat()).unwrap();
    let commit = commit_id(&workspace.git(&["commit-tree", &tree, "-p", workspace.base.as_str(), "-m", "smuggled"]));
    workspace.git(&["update-ref", "refs/heads/aedile/t", commit.as_str()]);
    // The trap springs for a fetch by the host.
    let naive = TempRepo::init(&world.state.path().join("naive"));
    naive.git(&["fetch", "-q", world.repo.path().to_str().unwrap(), "main"]);
    naive.git(&["fetch", "-q", workspace.repo.path().to_str().unwrap(), "aedile/t"]);
    assert_eq!(naive.show("FETCH_HEAD", "secret.txt"), "the other project's secret\n");
    // Our import has nothing to serve it from.
    let error = world.import(&workspace, &commit).unwrap_err();
    assert!(matches!(error, GitError::ImportRefused { .. }), "{error}");
    assert!(world.hub.resolve(commit.as_str()).unwrap().is_none());
}

/// Knowing the id of an object that lies in the store is not enough to make it part of a change.
#[test]
fn objects_that_no_ref_of_ours_reaches_do_not_count() {
    let world = World::new();
    let hidden = world.repo.git(&["hash-object", "-w", "--", "src/a.txt"]);
    assert_eq!(hidden.len(), 40);
    world.repo.write("loose.txt", "somebody's unfinished thought\n");
    let blob = world.repo.git(&["hash-object", "-w", "loose.txt"]);
    let workspace = world.workspace("t");
    workspace.git(&["update-index", "--add", "--cacheinfo", &format!("100644,{blob},src/stolen.txt")]);
    workspace.git(&["commit", "-qm", "stolen"]);
    let commit = commit_id(&workspace.git(&["rev-parse", "HEAD"]));
    let tree = workspace.git(&["rev-parse", "HEAD^{tree}"]);
    let src = workspace.git(&["rev-parse", "HEAD:src"]);
    let partial = pack(&workspace, &format!("{commit}\n{tree}\n{src}\n"), false);
    let error = world.import_with(&Writes(partial), &workspace, &commit, None).unwrap_err();
    assert!(matches!(&error, GitError::ImportRefused { reason } if reason.contains(&blob)), "{error}");
    let whole = pack(&workspace, &format!("{commit}\n{tree}\n{src}\n{blob}\n"), false);
    world.import_with(&Writes(whole), &workspace, &commit, None).unwrap();
}

#[test]
fn broken_packs_and_malformed_objects_are_refused() {
    let world = World::new();
    let workspace = world.workspace("t");
    workspace.repo.write("src/b.txt", "bb\n");
    let good = workspace.commit("good");
    let refused = |bytes: Vec<u8>, commit: &CommitId, what: &str| {
        let error = world.import_with(&Writes(bytes), &workspace, commit, None).unwrap_err();
        assert!(matches!(error, GitError::ImportRefused { .. }), "{what}: {error}");
        assert!(world.hub.resolve(commit.as_str()).unwrap().is_none(), "{what}");
    };
    let list = format!("{good}\n^{}\n", workspace.base);
    let mut cut = pack(&workspace, &list, true);
    cut.truncate(cut.len() - 5);
    refused(cut, &good, "a cut pack");
    refused(b"no pack at all".to_vec(), &good, "no pack");
    refused(Vec::new(), &good, "nothing");
    let mut flipped = pack(&workspace, &list, true);
    let middle = flipped.len() / 2;
    flipped[middle] ^= 0x40;
    refused(flipped, &good, "a flipped bit");
    // A whole pack of something else.
    let other = pack(&workspace, &format!("{}\n", workspace.base), true);
    refused(other, &good, "another commit");
    // A tree with an entry `.git`, which no git would make but which can be written by hand.
    let blob = workspace.git(&["hash-object", "-w", "src/b.txt"]);
    let entries = format!("100644 blob {blob}\t.git\n");
    let mut mktree = workspace.command(&["mktree"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    std::io::Write::write_all(&mut mktree.stdin.take().unwrap(), entries.as_bytes()).unwrap();
    let tree = String::from_utf8(mktree.wait_with_output().unwrap().stdout).unwrap().trim().to_owned();
    let bad = commit_id(&workspace.git(&["commit-tree", &tree, "-p", workspace.base.as_str(), "-m", "bad"]));
    workspace.git(&["update-ref", "refs/heads/aedile/t", bad.as_str()]);
    refused(pack(&workspace, &format!("{bad}\n^{}\n", workspace.base), true), &bad, "a tree with .git");
    assert!(world.import(&workspace, &bad).is_err());
    workspace.git(&["update-ref", "refs/heads/aedile/t", good.as_str()]);
    world.import(&workspace, &good).unwrap();
}

/// A file of the repository that never ends when it is read costs one limit, not the landing queue.
#[test]
fn a_repository_that_never_answers_is_given_up() {
    let world = World::new();
    let workspace = world.workspace("t");
    let commit = workspace.commit("work");
    let reference = workspace.path(".git/refs/heads/aedile/t");
    fs::remove_file(&reference).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, &reference, rustix::fs::FileType::Fifo, 0o644.into(), 0).unwrap();
    let hasty = world.git.clone().with_limit(Duration::from_secs(3));
    let project = Project::discover(&hasty, world.repo.path(), &person(world.home.path())).unwrap();
    let hub = Hub::open_or_create(world.hub.dir(), &project).unwrap();
    let (change, limit) = (world.change(), None);
    let request = ImportRequest {
        workspace: workspace.repo.path(),
        key: &workspace.key,
        commit: &commit,
        base: &workspace.base,
        view: None,
        change,
        limit,
    };
    hub.import_change(world.sandbox.as_ref(), &request).unwrap_err();
    assert!(world.hub.resolve(commit.as_str()).unwrap().is_none());
}

#[test]
fn a_box_that_cannot_be_made_imports_nothing() {
    let world = World::new();
    let workspace = world.workspace("t");
    workspace.repo.write("src/b.txt", "bb\n");
    let commit = workspace.commit("work");
    let error = world.import_with(&Refuses, &workspace, &commit, None).unwrap_err();
    assert!(error.to_string().contains("user namespaces"), "{error}");
}

#[test]
fn nothing_planted_in_a_workspace_fires_on_the_host() {
    let world = World::new();
    let workspace = world.workspace("t");
    let snapshotter = &mut world.snapshotter(&workspace);
    workspace.repo.write("src/b.txt", "bb\n").write(".gitattributes", "* filter=evil diff=evil merge=evil\n");
    let commit = workspace.commit("work");
    let (program, mark) = tripwire(world.state.path(), "planted");
    let run = program.display();
    let config = format!(
        "[core]\n\tfsmonitor = {run}\n\thooksPath = {}\n\tsshCommand = {run}\n\talternateRefsCommand = {run}\n\tgitProxy = {run}\n\tpager = {run}\n\teditor = {run}\n\taskPass = {run}\n\
         [filter \"evil\"]\n\tclean = {run}\n\tsmudge = {run}\n\tprocess = {run}\n\trequired = true\n[diff \"evil\"]\n\ttextconv = {run}\n\tcommand = {run}\n\
         [uploadpack]\n\tpackObjectsHook = {run}\n[gpg]\n\tprogram = {run}\n[commit]\n\tgpgsign = true\n",
        workspace.path(".git/hooks").display()
    );
    let mut all = fs::read_to_string(workspace.path(".git/config")).unwrap();
    all.push_str(&config);
    fs::write(workspace.path(".git/config"), all).unwrap();
    fs::create_dir_all(workspace.path(".git/hooks")).unwrap();
    for hook in ["reference-transaction", "post-checkout", "pre-auto-gc", "post-index-change", "fsmonitor-watchman", "pre-commit", "update"]
    {
        fs::copy(&program, workspace.path(".git/hooks").join(hook)).unwrap();
    }
    // The trap springs for git on the host.
    workspace.command(&["status"]).output().unwrap();
    assert!(mark.exists(), "the trap no longer springs");
    fs::remove_file(&mark).unwrap();
    world.import(&workspace, &commit).unwrap();
    snapshotter.snapshot(world.run, world.task(), (1, 1), crate::support::at()).unwrap();
    world.land(&commit);
    aedile_git::disk_use(workspace.repo.path());
    aedile_git::remove_tree(workspace.repo.path()).unwrap();
    assert!(!mark.exists(), "{}", fs::read_to_string(&mark).unwrap());
}
