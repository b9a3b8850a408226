//! A box round any command.

use crate::support::{finish, host, host_with};
use aedile_core::sandbox::{BoxIo, BoxLimits, BoxNet, BoxSpec, Sandbox};
use aedile_sandbox::{ExecRequest, ToolSearch, check_exec_dir, discover, exec_spec};
use std::fs;
use std::path::{Path, PathBuf};

fn request(dir: &Path, script: &str) -> ExecRequest {
    ExecRequest {
        dir: dir.to_owned(),
        write: Vec::new(),
        read_only: Vec::new(),
        env: vec![("X".to_owned(), "y".to_owned())],
        net: BoxNet::None,
        command: ["sh", "-c", script].map(str::to_owned).to_vec(),
        limits: BoxLimits::default(),
        io: BoxIo::Inherit,
    }
}

#[test]
fn directories_that_hold_more_than_a_project_are_refused() {
    let host = host();
    let (home, state) = (host.dir.path().join("home"), host.dir.path().join("home/.state"));
    fs::create_dir_all(state.join("hub")).unwrap();
    fs::create_dir_all(home.join("project")).unwrap();
    std::os::unix::fs::symlink(&home, home.join("project/link")).unwrap();
    let refused = [
        PathBuf::from("/"),
        home.clone(),
        host.dir.path().to_owned(),
        state.clone(),
        state.join("hub"),
        home.join("project/link"),
        home.join("none"),
        "/etc".into(),
        "/etc/ssl".into(),
        "/usr".into(),
        "/usr/lib".into(),
        "/usr/local".into(),
        "/var/lib".into(),
        "/var/tmp".into(),
        "/dev/shm".into(),
    ];
    for dir in refused {
        assert!(check_exec_dir(&dir, Some(&home), &state).is_err(), "{}", dir.display());
    }
    assert_eq!(check_exec_dir(&home.join("project"), Some(&home), &state).unwrap(), fs::canonicalize(home.join("project")).unwrap());
    let project = tempfile::tempdir_in("/var/tmp").unwrap();
    assert_eq!(check_exec_dir(project.path(), Some(&home), &state).unwrap(), project.path());
    let read_only = ExecRequest { read_only: vec![home.clone()], ..request(&home.join("project"), "") };
    assert!(exec_spec(read_only, Some(&home), &state).is_err());
}

#[test]
fn a_command_works_in_its_directory_and_nowhere_else() {
    let host = host();
    let state = host.dir.path().join("state");
    host.write("a/x", "1\n");
    fs::create_dir(host.dir.path().join("given")).unwrap();
    fs::write(host.dir.path().join("given/f"), "given\n").unwrap();
    let given = host.dir.path().join("given");
    let script = format!("pwd; cat {0}/f; echo $X; echo 2 > a/x; ! echo 3 > b; ! echo 3 > {0}/f", given.display());
    let asked = ExecRequest { write: vec!["a/**".to_owned()], read_only: vec![given], ..request(&host.tree, &script) };
    let spec = exec_spec(asked, None, &state).unwrap();
    assert_eq!(spec.io, BoxIo::Inherit);
    let done = finish(host.sandbox.spawn(BoxSpec { io: BoxIo::Captured, ..spec }).unwrap());
    assert!(done.ok().starts_with(&format!("{}\ngiven\ny\n", fs::canonicalize(&host.tree).unwrap().display())), "{done:?}");
    assert_eq!(fs::read_to_string(host.tree.join("a/x")).unwrap(), "2\n");
    assert!(!host.tree.join("b").exists());
}

#[test]
fn tools_that_lie_in_the_directory_stay_writable() {
    let tools = tempfile::tempdir().unwrap();
    let bin = fs::canonicalize(tools.path()).unwrap().join("env/bin");
    fs::create_dir_all(&bin).unwrap();
    fs::set_permissions(tools.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let found = discover(&ToolSearch { path: vec![bin.clone()], ..ToolSearch::default() });
    let host = host_with(found);
    let spec = exec_spec(request(tools.path(), "echo x > env/bin/new && echo $PATH"), None, Path::new("/nonexistent")).unwrap();
    let done = finish(host.sandbox.spawn(BoxSpec { io: BoxIo::Captured, ..spec }).unwrap());
    assert!(done.ok().contains(bin.to_str().unwrap()));
}
