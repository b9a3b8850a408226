//! What a scope of single files or of everything holds, when nothing looks at the scope later.

use crate::support::{Done, Host, finish, host, persons_host};
use aedile_core::sandbox::{BoxSpec, Sandbox, WriteScope};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;

fn spec(host: &Host, glob: &str, script: &str) -> BoxSpec {
    BoxSpec { write: WriteScope::Globs { globs: vec![glob.to_owned()], also: Vec::new(), except: Vec::new() }, ..host.spec(script) }
}

fn run(host: &Host, glob: &str, script: &str) -> Done {
    finish(host.sandbox.spawn(spec(host, glob, script)).unwrap())
}

#[test]
fn a_repository_of_any_form_is_held_at_the_root_and_below() {
    for git in [".git", "sub/deep/.git"] {
        for form in [git.to_owned(), format!("{git}/config")] {
            let host = persons_host();
            let path = host.write(&form, "old\n");
            host.write("sub/x", "x\n");
            for attack in ["echo evil > F", "rm -rf G", "mv G G2", "mv sub sub2 && mkdir -p sub/deep && echo evil > G", "mkdir G/new"] {
                let done = run(&host, "**", &attack.replace('F', &form).replace('G', git));
                assert!(!done.exit.success() || fs::read_to_string(&path).unwrap() == "old\n", "{form}: {attack}: {done:?}");
                assert_eq!(fs::read_to_string(&path).unwrap(), "old\n", "{form}: {attack}");
            }
            run(&host, "**", "echo y > sub/x && echo y > sub/deep-new").ok();
        }
    }
}

#[test]
fn no_repository_can_be_made_at_the_root() {
    for glob in ["**", "*.md"] {
        let host = persons_host();
        host.write("a.md", "old\n");
        let script = "echo new > a.md; ! mkdir .git 2>&- || exit 3; ! echo evil > .git || exit 4; ! echo x > .git/config || exit 5; \
                      ! rmdir .git || exit 6; ! mv .git g || exit 7";
        run(&host, glob, script).ok();
        let left: Vec<_> = fs::read_dir(&host.tree).unwrap().flatten().map(|entry| entry.file_name()).collect();
        assert_eq!(left, ["a.md"], "{glob}");
        assert_eq!(fs::read_to_string(host.tree.join("a.md")).unwrap(), "new\n");
    }
    let host = persons_host();
    run(&host, "src/**", "! mkdir .git").ok();
    let mut first = host.sandbox.spawn(spec(&host, "**", "exec sleep 60")).unwrap();
    run(&host, "**", "! mkdir .git/x").ok();
    assert!(host.tree.join(".git").is_dir(), "another box needs it still");
    first.kill();
    crate::support::wait(first.as_mut());
    drop(first);
    assert!(!host.tree.join(".git").exists());
}

#[test]
fn what_is_held_cannot_be_moved_away_with_its_directory() {
    let host = persons_host();
    host.write("src/a/b/x.rs", "x\n");
    let held = host.write("src/a/b/y.c", "y\n");
    for attack in ["mv src/a src/c", "mv src/a/b src/a/c", "mv src s2", "rm -rf src/a; mkdir -p src/a/b && echo evil > src/a/b/y.c"] {
        let done = run(&host, "src/**/x.rs", attack);
        assert!(!done.exit.success(), "{attack}");
        assert_eq!(fs::read_to_string(&held).unwrap(), "y\n", "{attack}");
    }
    run(&host, "src/**/x.rs", "echo new > src/a/b/t && mv src/a/b/t src/a/b/x.rs && mkdir src/d && echo n > src/d/x.rs").ok();
    assert_eq!(fs::read_to_string(host.tree.join("src/a/b/x.rs")).unwrap(), "new\n");
}

#[test]
fn names_that_are_no_text_are_held_too() {
    let host = persons_host();
    host.write("a.md", "old\n");
    let odd = host.tree.join(OsStr::from_bytes(b"odd\xff"));
    fs::write(&odd, "old\n").unwrap();
    let dir = host.tree.join(OsStr::from_bytes(b"dir\xff"));
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join("a.md"), "old\n").unwrap();
    let script = "exec 2>/dev/null; echo new > a.md; for f in odd*; do ! echo x > \"$f\" || exit 3; ! rm -f \"$f\" || exit 4; done; ! rm -rf dir* || exit 5";
    run(&host, "*.md", script).ok();
    assert_eq!((fs::read_to_string(&odd).unwrap(), fs::read_to_string(dir.join("a.md")).unwrap()), ("old\n".into(), "old\n".into()));
}

#[test]
fn a_persons_scope_that_cannot_be_held_is_refused() {
    for (glob, link) in [("*.md", "link"), ("**", ".git")] {
        let persons = persons_host();
        std::os::unix::fs::symlink("elsewhere", persons.tree.join(link)).unwrap();
        let error = persons.sandbox.spawn(spec(&persons, glob, "true")).err().unwrap().to_string();
        assert!(error.contains(link) && error.contains("symbolic link") && error.contains("docs/**"), "{error}");
    }
    let ours = host();
    std::os::unix::fs::symlink("elsewhere", ours.tree.join("link")).unwrap();
    run(&ours, "*.md", "echo x > a.md").ok();
}
