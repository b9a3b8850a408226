//! A box on a copy: what reaches the person's directory.

use crate::support::{Host, persons_host, wait};
use aedile_core::sandbox::{BoxSpec, WriteScope};
use aedile_sandbox::{Change, ChangeKind, Guard};
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

fn run(host: &Host, spec: BoxSpec) -> (Vec<Change>, aedile_sandbox::Cow) {
    let guard = Guard { protect: true, mask: true, ..Guard::default() };
    let (mut child, cow) = host.sandbox.spawn_on_copy(spec, &guard).unwrap();
    assert!(wait(&mut child).success());
    (cow.changes().unwrap(), cow)
}

fn told(changes: &[Change]) -> Vec<(&str, ChangeKind, Option<&str>)> {
    changes.iter().map(|change| (change.path.to_str().unwrap(), change.kind, change.refused.as_ref().map(|(rule, _)| *rule))).collect()
}

#[test]
fn changes_reach_the_directory_after_the_box_and_not_before() {
    let host = persons_host();
    host.write("keep", "keep\n");
    host.write("change", "old\n");
    host.write("gone/deep/file", "x\n");
    host.write("same", "same\n");
    let script = "echo new > change && rm -r gone && mkdir -p made/dir && echo m > made/dir/file && ln -s ../change made/link && chmod 755 keep \
                  && echo same > same && touch keep && mv made/dir/file made/dir/moved";
    let (changes, cow) = run(&host, host.spec(script));
    let read = |path: &str| fs::read_to_string(host.tree.join(path)).unwrap();
    assert_eq!(read("change"), "old\n");
    use ChangeKind::{Added, Changed, Removed};
    let want = [
        ("change", Changed, None),
        ("gone", Removed, None),
        ("gone/deep", Removed, None),
        ("gone/deep/file", Removed, None),
        ("keep", Changed, None),
        ("made", Added, None),
        ("made/dir", Added, None),
        ("made/dir/moved", Added, None),
        ("made/link", Added, None),
    ];
    assert_eq!(told(&changes), want);
    assert_eq!(cow.apply(&changes).unwrap(), None);
    assert_eq!((read("change"), read("made/dir/moved"), read("made/link")), ("new\n".into(), "m\n".into(), "new\n".into()));
    assert_eq!(fs::metadata(host.tree.join("keep")).unwrap().permissions().mode() & 0o777, 0o755);
    assert!(!host.tree.join("gone").exists());
    let left: Vec<_> = fs::read_dir(host.dir.path()).unwrap().flatten().map(|entry| entry.file_name()).collect();
    assert_eq!(left, ["tree"]);
}

#[test]
fn what_the_filter_refuses_is_named_and_kept() {
    let host = persons_host();
    host.write(".git/config", "old\n");
    host.write(".env", "canary\n");
    host.write("src/a", "old\n");
    let beside = host.dir.path().join("outside");
    fs::write(&beside, "old\n").unwrap();
    fs::hard_link(&beside, host.tree.join("src/planted")).unwrap();
    let script = "! test -e .env && ! grep -rq canary . && echo evil > .git/config && mkdir .git/hooks && echo evil > .git/hooks/x && mkdir -p .vscode src/.Idea \
                  && echo evil > .vscode/tasks.json && echo evil > src/.Idea/x && echo evil > .env && ln -s /etc/passwd src/abs && ln -s ../../x src/up \
                  && mkfifo src/fifo && echo new > src/a && echo new > src/planted && echo new > top && python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind(\"src/s\")'";
    let spec = BoxSpec { write: WriteScope::Globs { globs: vec!["src/**".to_owned()], also: Vec::new() }, ..host.spec(script) };
    let (changes, cow) = run(&host, spec);
    use ChangeKind::{Added, Changed};
    let want = [
        (".env", Added, Some("scope")),
        (".git", Changed, Some("git-directory")),
        (".vscode", Added, Some("editor-vscode")),
        ("src/.Idea", Added, Some("editor-jetbrains")),
        ("src/a", Changed, None),
        ("src/abs", Added, Some("link-leaves-tree")),
        ("src/fifo", Added, Some("special-file")),
        ("src/planted", Changed, None),
        ("src/s", Added, Some("special-file")),
        ("src/up", Added, Some("link-leaves-tree")),
        ("top", Added, Some("scope")),
    ];
    assert_eq!(told(&changes), want);
    let kept = cow.apply(&changes).unwrap().unwrap();
    assert_eq!(fs::read_to_string(kept.join(".vscode/tasks.json")).unwrap(), "evil\n");
    let read = |path: &str| fs::read_to_string(host.tree.join(path)).unwrap();
    assert_eq!(
        (read(".git/config"), read(".env"), read("src/a"), read("src/planted")),
        ("old\n".into(), "canary\n".into(), "new\n".into(), "new\n".into())
    );
    assert_eq!(fs::read_to_string(&beside).unwrap(), "old\n", "a file with a name outside is replaced, not written");
    for path in [".vscode", "src/.Idea", "src/abs", "src/fifo", "src/s", "src/up", "top", ".git/hooks"] {
        assert!(fs::symlink_metadata(host.tree.join(path)).is_err(), "{path}");
    }
}

#[test]
fn what_somebody_changed_meanwhile_is_not_overwritten() {
    let host = persons_host();
    host.write("both", "old\n");
    host.write("theirs", "old\n");
    let guard = Guard { protect: true, mask: true, ..Guard::default() };
    let (mut child, cow) = host.sandbox.spawn_on_copy(host.spec("echo box > both; rm theirs"), &guard).unwrap();
    wait(&mut child);
    host.write("both", "person\n");
    host.write("theirs", "person\n");
    let changes = cow.changes().unwrap();
    assert!(told(&changes).iter().all(|(_, _, rule)| *rule == Some("changed-meanwhile")), "{changes:?}");
    cow.apply(&changes).unwrap().unwrap();
    assert_eq!(fs::read_to_string(host.tree.join("both")).unwrap(), "person\n");
    assert!(host.tree.join("theirs").exists());
}

#[test]
fn a_directory_that_became_a_link_meanwhile_is_not_followed() {
    let host = persons_host();
    host.write("sub/file", "old\n");
    let beside = host.dir.path().join("beside");
    fs::create_dir(&beside).unwrap();
    let guard = Guard { protect: true, mask: true, ..Guard::default() };
    let (mut child, cow) = host.sandbox.spawn_on_copy(host.spec("echo new > sub/new; echo new > sub/file"), &guard).unwrap();
    wait(&mut child);
    fs::rename(host.tree.join("sub"), host.tree.join("s2")).unwrap();
    symlink(&beside, host.tree.join("sub")).unwrap();
    let changes = cow.changes().unwrap();
    let error = cow.apply(&changes).unwrap_err().to_string();
    assert!(error.contains("sub/") && error.contains("kept in"), "{error}");
    assert_eq!(fs::read_dir(Path::new(&beside)).unwrap().count(), 0);
}
