//! The same suite once more as an ordinary user, when it was started as root.

use crate::support::{LAUNCHER_VARIABLE, is_root, launcher};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

const ORDINARY: &str = "65534";

/// Bind mounts, in a mount namespace that ends with the suite, show the user tools that lie in root's home.
fn shown(dir: &Path) -> (String, Vec<(&'static str, PathBuf)>) {
    #[expect(clippy::disallowed_methods, reason = "the test takes the part of the binary, which reads the environment")]
    let variable = |name: &str, usual: &str| {
        let home = std::env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
        std::env::var_os(name).map_or_else(|| home.join(usual), PathBuf::from)
    };
    let (mut script, mut found) = (String::new(), Vec::new());
    for (name, usual, own) in [("RUSTUP_HOME", ".rustup", "rustup"), ("CARGO_HOME", ".cargo", "cargo")] {
        let (from, to) = (variable(name, usual), dir.join(own));
        if from.is_dir() {
            fs::create_dir(&to).unwrap();
            script += &["mount --bind ", from.to_str().unwrap(), " ", to.to_str().unwrap(), " && "].concat();
            found.push((name, to));
        }
    }
    (script, found)
}

#[test]
#[expect(clippy::disallowed_methods, reason = "starts this suite again")]
fn as_an_ordinary_user() {
    if !is_root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (suite, launch) = (dir.path().join("suite"), dir.path().join("launcher"));
    fs::copy(std::env::current_exe().unwrap(), &suite).unwrap();
    fs::copy(launcher(), &launch).unwrap();
    for path in [dir.path(), &suite, &launch] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let (mounts, tools) = shown(dir.path());
    let script = format!("{mounts}exec setpriv --reuid {ORDINARY} --regid {ORDINARY} --clear-groups {} --nocapture", suite.display());
    let mut command = Command::new("unshare");
    command.args(["-m", "--propagation", "private", "sh", "-c", &script]).current_dir("/").env_clear();
    let cargo_bin =
        tools.iter().find(|(name, _)| *name == "CARGO_HOME").map(|(_, path)| format!("{}/bin:", path.display())).unwrap_or_default();
    command.env("PATH", format!("{cargo_bin}/usr/local/bin:/usr/bin:/bin:/usr/sbin")).env(LAUNCHER_VARIABLE, &launch).envs(tools);
    if let Some(all) = std::env::var_os("AEDILE_REQUIRE_ALL") {
        command.env("AEDILE_REQUIRE_ALL", all);
    }
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines().filter(|line| line.contains("SKIPPED")).for_each(|line| println!("{line} (as an ordinary user)"));
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
}
