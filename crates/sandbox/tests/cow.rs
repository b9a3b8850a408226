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
    let spec = BoxSpec {
        write: WriteScope::Globs { globs: vec!["src/**".to_owned()], also: Vec::new(), except: Vec::new() },
        ..host.spec(script)
    };
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
fn what_somebody_changes_while_a_person_is_asked_is_not_overwritten() {
    let host = persons_host();
    host.write("both", "old\n");
    let guard = Guard { protect: true, mask: true, ..Guard::default() };
    let (mut child, cow) = host.sandbox.spawn_on_copy(host.spec("echo box > both; echo box > early; echo box > late"), &guard).unwrap();
    wait(&mut child);
    let changes = cow.changes().unwrap();
    assert!(told(&changes).iter().all(|(_, _, rule)| rule.is_none()), "{changes:?}");
    host.write("both", "person\n");
    host.write("late", "person\n");
    let error = cow.apply(&changes).unwrap_err().to_string();
    assert!(error.contains("both was changed") && error.contains("nothing was changed") && error.contains("kept in"), "{error}");
    let read = |path: &str| fs::read_to_string(host.tree.join(path)).unwrap();
    assert_eq!((read("both").as_str(), read("late").as_str(), host.tree.join("early").exists()), ("person\n", "person\n", false));
}

#[test]
fn a_directory_that_became_a_link_meanwhile_is_not_followed() {
    let host = persons_host();
    host.write("sub/file", "old\n");
    let beside = host.dir.path().join("beside");
    fs::create_dir(&beside).unwrap();
    let guard = Guard { protect: true, mask: true, ..Guard::default() };
    let (mut child, cow) =
        host.sandbox.spawn_on_copy(host.spec("echo new > sub/new; echo new > sub/file; echo new > early"), &guard).unwrap();
    wait(&mut child);
    fs::rename(host.tree.join("sub"), host.tree.join("s2")).unwrap();
    symlink(&beside, host.tree.join("sub")).unwrap();
    let changes = cow.changes().unwrap();
    let error = cow.apply(&changes).unwrap_err().to_string();
    assert!(error.contains("sub/") && error.contains("kept in"), "{error}");
    assert!(error.contains("nothing was changed") && !host.tree.join("early").exists(), "{error}");
    assert_eq!(fs::read_dir(Path::new(&beside)).unwrap().count(), 0);
}

/// What each change became, after it was applied.
fn applied(host: &Host, guard: &Guard, script: &str) -> Vec<(String, Option<&'static str>)> {
    let (mut child, cow) = host.sandbox.spawn_on_copy(host.spec(script), guard).unwrap();
    assert!(wait(&mut child).success());
    let changes = cow.changes().unwrap();
    cow.apply(&changes).unwrap();
    changes.iter().map(|change| (change.path.to_str().unwrap().to_owned(), change.refused.as_ref().map(|(rule, _)| *rule))).collect()
}

fn is(got: &[(String, Option<&'static str>)], path: &str, rule: Option<&str>) {
    assert!(got.iter().any(|(at, refused)| at == path && *refused == rule), "{path} {rule:?}: {got:?}");
}

#[test]
fn files_that_the_box_does_not_see_are_not_replaced() {
    let host = persons_host();
    let key = "-----BEGIN PRIVATE KEY-----\ncanary\n";
    for (path, text) in [("certs/tls.key", key), ("data/people.csv", "canary\n"), ("real/settings", "canary\n"), ("ci/.env.ci", "shown\n")]
    {
        host.write(path, text);
    }
    symlink("real/settings", host.tree.join(".env")).unwrap();
    assert!(crate::support::outside(&host.tree, &[], "mkfifo pipe").exit.success());
    let owned = |glob: &str| vec![glob.to_owned()];
    let guard = Guard { protect: true, mask: true, hide: owned("data/**"), show: owned("ci/.env.ci") };
    let script = "! grep -rq canary . && test ! -e certs/tls.key && cat ci/.env.ci && echo new > certs/tls.key && mkdir -p data && echo new > data/people.csv && echo new > data/more \
                  && echo new > real/settings && echo new > ci/.env.ci && echo new > certs/fresh.key && echo new > pipe && echo new > id_rsa";
    let got = applied(&host, &guard, script);
    for path in ["certs/tls.key", "data/people.csv", "data/more", "real/settings", "id_rsa"] {
        is(&got, path, Some("masked"));
    }
    is(&got, "pipe", Some("changed-meanwhile"));
    is(&got, "certs/fresh.key", None);
    is(&got, "ci/.env.ci", None);
    let read = |path: &str| fs::read_to_string(host.tree.join(path)).unwrap();
    assert_eq!((read("certs/tls.key"), read("data/people.csv"), read("real/settings")), (key.into(), "canary\n".into(), "canary\n".into()));
    assert_eq!((read("ci/.env.ci"), read("certs/fresh.key")), ("new\n".into(), "new\n".into()));
    let got = applied(&host, &guard, "rm -rf certs && echo x > certs");
    is(&got, "certs", Some("masked"));
    assert_eq!(read("certs/tls.key"), key);
}

#[test]
fn repositories_links_and_closed_directories_do_not_pass_the_filter() {
    let host = persons_host();
    host.write("half/HEAD", "x\n");
    host.write("dot/keep", "x\n");
    host.write("docs/rules.md", "old\n");
    symlink("dot", host.tree.join(".config")).unwrap();
    symlink("docs/rules.md", host.tree.join("AGENTS.md")).unwrap();
    let script = "git init -q --bare sub && git -C sub config core.fsmonitor ./evil && mkdir -p half/objects half/refs b .hg && echo evil > b/config && ln -s b .bundle \
                  && echo evil > .hg/hgrc && chmod 0311 .hg && mkdir dot/git && echo evil > dot/git/config && echo evil > docs/rules.md \
                  && mkdir objects refs && echo x > HEAD && echo fine > plain";
    let got = applied(&host, &Guard { protect: true, mask: true, ..Guard::default() }, script);
    for path in ["sub", "half"] {
        is(&got, path, Some("git-bare-repository"));
    }
    is(&got, ".bundle", Some("packages-ruby"));
    is(&got, ".hg/hgrc", Some("vcs-other"));
    is(&got, "docs/rules.md", Some("agent-instructions"));
    is(&got, "HEAD", Some("git-bare-repository"));
    is(&got, "plain", None);
    for path in ["sub", "half/objects", ".bundle", ".hg/hgrc", "dot/git", "HEAD", "objects"] {
        assert!(fs::symlink_metadata(host.tree.join(path)).is_err(), "{path}");
    }
    assert_eq!(fs::read_to_string(host.tree.join("docs/rules.md")).unwrap(), "old\n");
}

#[test]
fn directories_that_forbid_their_owner_to_write_are_copied_both_ways() {
    let host = persons_host();
    host.write("closed/deep/file", "old\n");
    host.write("closed/.env", "canary\n");
    let mode = |path: &str, mode: u32| fs::set_permissions(host.tree.join(path), fs::Permissions::from_mode(mode)).unwrap();
    mode("closed/deep", 0o555);
    mode("closed", 0o555);
    let script = "test ! -e closed/.env && chmod 755 closed/deep && echo new > closed/deep/file && chmod 555 closed/deep \
                  && mkdir -p made/deep && echo m > made/deep/file && chmod 000 made/deep/file && chmod 555 made/deep made";
    let got = applied(&host, &Guard { protect: true, mask: true, ..Guard::default() }, script);
    assert!(got.iter().all(|(_, refused)| refused.is_none()), "{got:?}");
    let bits = |path: &str| fs::metadata(host.tree.join(path)).unwrap().permissions().mode() & 0o777;
    assert_eq!(
        (bits("closed"), bits("closed/deep"), bits("made"), bits("made/deep"), bits("made/deep/file")),
        (0o555, 0o555, 0o555, 0o555, 0)
    );
    assert_eq!(fs::read_to_string(host.tree.join("closed/deep/file")).unwrap(), "new\n");
    let left: Vec<_> = fs::read_dir(host.dir.path()).unwrap().flatten().map(|entry| entry.file_name()).collect();
    assert_eq!(left, ["tree"]);
    assert!(crate::support::outside(&host.tree, &[], "chmod -R u+rwX .").exit.success());
}

#[test]
fn files_become_directories_and_directories_files() {
    let host = persons_host();
    host.write("file", "old\n");
    host.write("dir/deep/a", "old\n");
    host.write("kept/a", "old\n");
    host.write("kept/.env", "canary\n");
    host.write("theirs", "old\n");
    let guard = Guard { protect: true, mask: true, ..Guard::default() };
    let script = "rm file && mkdir file && echo new > file/in && rm -r dir && echo new > dir && rm -r kept && echo new > kept \
                  && rm theirs && mkdir theirs && echo new > theirs/in";
    let (mut child, cow) = host.sandbox.spawn_on_copy(host.spec(script), &guard).unwrap();
    assert!(wait(&mut child).success());
    host.write("theirs", "person\n");
    let changes = cow.changes().unwrap();
    let refused: Vec<&str> = changes.iter().filter(|change| change.refused.is_some()).map(|change| change.path.to_str().unwrap()).collect();
    assert_eq!(refused, ["kept", "kept/a", "theirs", "theirs/in"]);
    cow.apply(&changes).unwrap().unwrap();
    let read = |path: &str| fs::read_to_string(host.tree.join(path)).unwrap();
    let got = (read("file/in"), read("dir"), read("kept/a"), read("kept/.env"), read("theirs"));
    assert_eq!(got, ("new\n".into(), "new\n".into(), "old\n".into(), "canary\n".into(), "person\n".into()));
}
