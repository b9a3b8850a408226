//! Started as root, what depends on rights runs a second time as an ordinary user.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use aedile_testkit::require;

use crate::boxes::{LAUNCHER_VARIABLE, launcher};

#[test]
fn the_suite_holds_for_an_ordinary_user() {
    let root = rustix::process::geteuid().is_root();
    if !require("the_suite_holds_for_an_ordinary_user", (!root).then_some("it already runs as an ordinary user")) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let (suite, starter) = (dir.path().join("suite"), dir.path().join("launcher"));
    fs::copy(std::env::current_exe().unwrap(), &suite).unwrap();
    fs::copy(launcher(), &starter).unwrap();
    let temp = dir.path().join("tmp");
    fs::create_dir(&temp).unwrap();
    fs::set_permissions(&temp, fs::Permissions::from_mode(0o777)).unwrap();
    #[expect(clippy::disallowed_methods, reason = "the suite is started again as another user")]
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(&suite);
    command.args(["--test-threads=2", "snapshots::", "imports::", "hostile::", "checkouts::a_checked_out"]);
    command.env("TMPDIR", &temp).env(LAUNCHER_VARIABLE, &starter).current_dir("/");
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("a_nested_repository_is_ordinary_files_and_runs_nothing ... ok"), "{text}");
}
