//! Workspaces: what an agent gets and what its work may not become.

use std::fs;
use std::path::PathBuf;

use aedile_core::AgentName;
use aedile_git::{GitError, Identity, OverlayFile, WorkspaceSpec};

use crate::support::{World, key};

#[test]
fn a_workspace_is_a_private_repository_on_its_own_branch() {
    let world = World::new();
    let workspace = world.workspace("t");
    assert_eq!(workspace.git(&["symbolic-ref", "HEAD"]), "refs/heads/aedile/t");
    assert_eq!(workspace.git(&["rev-parse", "refs/aedile/base"]), world.project.head().as_str());
    assert_eq!(workspace.git(&["status", "--porcelain"]), "");
    assert_eq!(workspace.git(&["config", "user.email"]), "ada@aedile.invalid");
    assert_eq!(fs::read_to_string(workspace.path(".git/objects/info/alternates")).unwrap(), "/aedile/objects\n");
    let mounts = world.hub.object_mounts().unwrap();
    assert_eq!(mounts[0].inside, PathBuf::from("/aedile/objects"));
    assert_eq!(mounts[1].host, world.repo.path().join(".git/objects"));
    // Build directories are not the agent's work.
    workspace.repo.write("target/debug/x", "x");
    assert_eq!(workspace.git(&["status", "--porcelain"]), "");
    assert!(!workspace.path(".git/hooks").exists());
}

#[test]
fn overlay_files_stay_out_of_every_change_and_never_replace_the_projects() {
    let world = World::with(|repo| {
        repo.write("AGENTS.md", "the project's own\n");
        std::os::unix::fs::symlink("/tmp", repo.path().join("away")).unwrap();
    });
    let identity = Identity::agent(&AgentName::new("ada").unwrap());
    let make = |name: &str, path: &str| {
        let overlay = [OverlayFile { path: path.into(), bytes: b"do this\n".to_vec() }];
        let (dest, snapshots) = (world.state.path().join(name), world.state.path().join(format!("{name}-s")));
        let spec = WorkspaceSpec {
            dest: &dest,
            snapshots: &snapshots,
            key: &key(name),
            commit: world.project.head(),
            alone: false,
            identity: &identity,
            overlay: &overlay,
            build_dirs: &[],
        };
        world.hub.create_workspace(&spec).map(|()| dest)
    };
    let dest = make("a", ".aedile/TASK [1].md").unwrap();
    assert_eq!(fs::read_to_string(dest.join(".aedile/TASK [1].md")).unwrap(), "do this\n");
    let repo = aedile_testkit::TempRepo::open(&dest);
    let mut status = repo.command(&["status", "--porcelain", "-uall"]);
    let status = status.env("GIT_ALTERNATE_OBJECT_DIRECTORIES", world.hub.dir().join("objects")).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&status.stdout), "");
    for (name, path) in
        [("b", "AGENTS.md"), ("c", "../x"), ("d", ".git/hooks/pre-commit"), ("e", "away/x"), ("f", "/etc/x"), ("g", "AGENTS.md/x")]
    {
        let error = make(name, path).unwrap_err();
        assert!(matches!(error, GitError::OverlayExists { .. }), "{path}: {error}");
        assert!(!world.state.path().join(name).exists(), "{path}");
        // What was left of the attempt does not stand in the way.
        make(name, "fine.md").unwrap();
    }
}

#[test]
fn a_workspace_can_be_removed_whatever_the_agent_did_to_it() {
    use std::os::unix::fs::PermissionsExt;
    let world = World::new();
    let workspace = world.workspace("t");
    workspace.repo.write("locked/deep/file", "x");
    fs::set_permissions(workspace.path("locked/deep"), fs::Permissions::from_mode(0o000)).unwrap();
    let outside = world.state.path().join("outside");
    fs::write(&outside, "stays").unwrap();
    std::os::unix::fs::symlink(world.state.path(), workspace.path("link")).unwrap();
    assert!(aedile_git::disk_use(workspace.repo.path()).entries > 10);
    aedile_git::remove_tree(workspace.repo.path()).unwrap();
    aedile_git::remove_tree(workspace.repo.path()).unwrap();
    assert!(!workspace.repo.path().exists() && outside.exists());
    assert_eq!(aedile_git::disk_use(workspace.repo.path()).bytes, 0);
}
