//! Ordinary work goes on in a box.

use crate::support::{Host, host, host_with, skipped};
use aedile_core::sandbox::{BoxSpec, WriteScope};
use aedile_sandbox::{TOOL_VARIABLES, ToolSearch, Toolchains, discover};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

#[test]
fn a_box_runs_a_program_in_its_tree() {
    let host = host();
    host.write("a.txt", "hello\n");
    assert_eq!(host.script("pwd; cat a.txt; id -u; id -un; hostname").ok(), "/workspace\nhello\n1000\nagent\nbox");
}

#[test]
fn files_are_edited_as_tools_edit_them() {
    let host = host();
    host.write("src/a.txt", "one\n");
    let script = "sed -i s/one/two/ src/a.txt && printf 'x\\n' > src/t && mv src/t src/b.txt && mkdir -p src/new/deep && cp src/a.txt src/new/deep/ && chmod +x src/b.txt \
                  && ln -s a.txt src/l && rm src/b.txt && touch -d 2001-01-01 src/a.txt && cat src/new/deep/a.txt src/l";
    assert_eq!(host.scoped(&["src/**"], &[], script).ok(), "two\ntwo");
}

#[test]
fn shells_and_scripts_work() {
    let host = host();
    let script = "f=$(mktemp) && seq 5 | sort -r | head -n 1 > $f && cat $f && python3 -c 'import json, threading, subprocess; print(json.dumps(1), subprocess.check_output([\"echo\", \"x\"]))' \
                  && echo ok > /dev/null && test -c /dev/tty && python3 -c 'import os, pty; pty.spawn([\"true\"]); import multiprocessing as m; m.Lock()' && date +%Y > /dev/null && git --version > /dev/null";
    assert_eq!(host.script(script).ok(), "5\n1 b'x\\n'");
}

#[test]
fn node_lists_its_interfaces() {
    let host = host();
    if !host.script("command -v node").exit.success() {
        return skipped("node_lists_its_interfaces", "node is not installed in /usr");
    }
    // Development servers do this at their start; it needs netlink.
    assert_eq!(host.script("node -e 'console.log(Object.keys(require(\"os\").networkInterfaces())[0])'").ok(), "lo");
}

#[test]
fn git_works_in_the_whole_tree_and_beside_a_scope() {
    let host = host();
    let who = "export GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@b GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@b;";
    host.write("src/a", "1");
    host.script(&format!("{who} git init -q . && git add -A && git commit -qm one")).ok();
    let done = host.scoped(
        &["src/**"],
        &[".git"],
        &format!("{who} echo 2 > src/a && git commit -qam two && git log --format=%s && git status --short"),
    );
    assert_eq!(done.ok(), "two\none");
}

/// The tools of the user who runs the tests.
#[expect(clippy::disallowed_methods, reason = "the test takes the part of the binary, which reads the environment")]
pub(crate) fn persons_tools() -> Toolchains {
    discover(&ToolSearch {
        home: std::env::var_os("HOME").map(PathBuf::from),
        path: std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()).collect(),
        variables: TOOL_VARIABLES.iter().filter_map(|name| Some(((*name).to_owned(), std::env::var(name).ok()?))).collect(),
        ..ToolSearch::default()
    })
}

fn with_rust() -> Option<Host> {
    let host = host_with(persons_tools());
    let done = host.script("cargo --version && rustc --version");
    if !done.exit.success() {
        skipped("cargo", &format!("cargo cannot be used by this user: {}", done.output));
        return None;
    }
    Some(host)
}

#[test]
fn cargo_tests_a_crate_without_a_lock_file() {
    let Some(host) = with_rust() else { return };
    host.write("Cargo.toml", "[package]\nname = \"small\"\nversion = \"0.1.0\"\nedition = \"2021\"\n");
    host.write("src/lib.rs", "#[test]\nfn holds() { assert_eq!(1 + 1, 2); }\n");
    let done = host.script("cargo test --offline 2>&1");
    assert!(done.ok().contains("1 passed"), "{done:?}");
    // Beside a scope the lock file is rewritten for the box alone, when a version changes for example.
    let lock = fs::read_to_string(host.tree.join("Cargo.lock")).unwrap();
    host.write("Cargo.toml", "[package]\nname = \"small\"\nversion = \"0.2.0\"\nedition = \"2021\"\n");
    assert!(host.scoped(&["src/**"], &["target"], "cargo test --offline 2>&1").ok().contains("1 passed"));
    assert_eq!(fs::read_to_string(host.tree.join("Cargo.lock")).unwrap(), lock);
}

#[test]
fn cargo_takes_dependencies_from_the_persons_registry() {
    let Some(host) = with_rust() else { return };
    let held = host.script("ls $CARGO_HOME/registry/cache/*/ | grep '^cfg-if-1'");
    if !held.exit.success() {
        return skipped("cargo_takes_dependencies_from_the_persons_registry", "cfg-if is not in the registry");
    }
    host.write("Cargo.toml", "[package]\nname = \"small\"\nversion = \"0.1.0\"\nedition = \"2021\"\n[dependencies]\ncfg-if = \"1\"\n");
    host.write(
        "src/lib.rs",
        "cfg_if::cfg_if! { if #[cfg(unix)] { pub fn f() -> u8 { 1 } } }\n#[test]\nfn holds() { assert_eq!(f(), 1); }\n",
    );
    let home = host.dir.path().join("kept");
    fs::create_dir(&home).unwrap();
    for _ in 0..2 {
        let done =
            host.run(BoxSpec { home: Some(home.clone()), write: WriteScope::All, ..host.spec("rm -rf target; cargo test --offline 2>&1") });
        assert!(done.ok().contains("1 passed"), "{done:?}");
    }
}

#[test]
fn tools_in_a_home_work_and_stay_as_they_are() {
    let home = tempfile::tempdir().unwrap();
    let bin = fs::canonicalize(home.path()).unwrap().join(".pyenv/bin");
    fs::create_dir_all(&bin).unwrap();
    fs::write(bin.join("tool"), "#!/bin/sh\necho \"$PYENV_ROOT\"\n").unwrap();
    for (path, mode) in [(home.path().to_owned(), 0o711), (bin.join("tool"), 0o755)] {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }
    let search = ToolSearch { home: Some(home.path().to_owned()), path: vec![bin.clone()], ..ToolSearch::default() };
    let done = host_with(discover(&search)).script(&format!("tool && ! echo x > {0}/tool && ! touch {0}/new", bin.display()));
    assert_eq!(done.ok().lines().next(), bin.parent().unwrap().to_str());
    assert_eq!(fs::read_dir(&bin).unwrap().count(), 1);
}
