//! What a box may write, and to whom it belongs.

use crate::support::{Done, Host, host, is_root, outside};
use aedile_core::sandbox::{BoxMount, WriteScope};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// A tree with something in scope (`src`), something out of it, and something outside the tree.
fn prepared() -> Host {
    let host = host();
    host.write("src/in.txt", "in\n");
    host.write("other/victim.txt", "victim\n");
    host.write("top.txt", "top\n");
    fs::write(host.dir.path().join("outside.txt"), "outside\n").unwrap();
    fs::create_dir(host.dir.path().join("beside")).unwrap();
    host
}

fn env(host: &Host) -> Vec<(String, String)> {
    vec![("OUT".to_owned(), host.dir.path().to_str().unwrap().to_owned())]
}

/// Every file outside the scope with its text, mode and time.
fn untouchable(host: &Host) -> BTreeMap<PathBuf, (String, u32, i64)> {
    fn walk(path: &Path, into: &mut BTreeMap<PathBuf, (String, u32, i64)>) {
        for entry in fs::read_dir(path).unwrap().flatten() {
            let (path, meta) = (entry.path(), entry.metadata().unwrap());
            if path.ends_with("tree/src") {
                continue;
            }
            if meta.is_dir() {
                walk(&path, into);
            }
            let text = fs::read_to_string(&path).unwrap_or_default();
            into.insert(path, (text, meta.mode(), if meta.is_dir() { 0 } else { meta.mtime() }));
        }
    }
    let mut all = BTreeMap::new();
    walk(host.dir.path(), &mut all);
    all
}

fn in_scope(host: &Host, script: &str) -> Done {
    let write = WriteScope::Globs { globs: vec!["src/**".to_owned()], also: Vec::new(), except: Vec::new() };
    host.run(aedile_core::sandbox::BoxSpec { write, env: env(host), ..host.spec(script) })
}

#[test]
fn nothing_outside_the_scope_is_written() {
    let attacks = [
        "echo x > other/victim.txt",
        "echo x > other/new.txt",
        "echo x > new.txt",
        "mkdir newdir",
        "mv other/victim.txt src/",
        "mv src/in.txt other/",
        "rm other/victim.txt",
        "ln -s ../other/victim.txt src/l && echo x > src/l",
        "ln -s ../other/fresh.txt src/l && echo x > src/l",
        "ln other/victim.txt src/h && echo x > src/h",
        "ln src/in.txt other/h",
        "echo x > src/../other/victim.txt",
        "cd src && echo x > /proc/self/cwd/../other/victim.txt",
        "exec 9< other && echo x > /proc/self/fd/9/victim.txt",
        "truncate -s 0 other/victim.txt",
        "chmod 777 other/victim.txt",
        "touch -d 2001-01-01 other/victim.txt",
        "python3 -c \"import os; os.rename('other', 'src/o')\"",
        "python3 -c \"import os; os.rename('src', 'gone')\"",
        "echo x > \"$OUT/outside.txt\"",
        "echo x > ../outside.txt",
        "mkdir \"$OUT/beside/new\"",
        "ln -s \"$OUT/outside.txt\" src/l && echo x > src/l",
    ];
    for attack in attacks {
        let free = prepared();
        let done = outside(&free.tree, &env(&free), attack);
        assert!(done.exit.success(), "baseline of {attack}: {done:?}");
        let held = prepared();
        let before = untouchable(&held);
        let done = in_scope(&held, attack);
        assert!(!done.exit.success(), "{attack} succeeded in the box");
        assert_eq!(untouchable(&held), before, "{attack}: {}", done.output);
    }
}

#[test]
fn set_id_files_cannot_be_made() {
    let attacks = [
        "chmod u+s src/in.txt",
        "chmod 2755 src/in.txt",
        "python3 -c \"import os; os.open('src/s', os.O_CREAT | os.O_WRONLY, 0o4755)\" && test -u src/s",
        "python3 -c \"import os; os.open('src', os.O_TMPFILE | os.O_WRONLY, 0o4755)\"",
        "python3 -c \"import os; os.mknod('src/s', 0o104755)\" && test -u src/s",
        "cp src/in.txt src/s && install -m 4755 src/in.txt src/s2",
    ];
    for attack in attacks {
        let host = prepared();
        assert!(outside(&host.tree, &[], attack).exit.success(), "baseline of {attack}");
        let host = prepared();
        assert!(!in_scope(&host, attack).exit.success(), "{attack}");
        let set = |entry: fs::DirEntry| entry.metadata().unwrap().mode() & 0o6000 != 0;
        assert!(!fs::read_dir(host.tree.join("src")).unwrap().flatten().any(set), "{attack}");
    }
}

#[test]
fn what_is_written_belongs_to_the_owner_of_the_tree() {
    let host = prepared();
    let owner = if is_root() { 4321 } else { rustix::process::geteuid().as_raw() };
    if is_root() {
        for path in [host.tree.clone(), host.tree.join("src"), host.tree.join("src/in.txt")] {
            std::os::unix::fs::chown(path, Some(owner), Some(owner)).unwrap();
        }
    }
    in_scope(&host, "echo x > src/new && mkdir src/d && echo y >> src/in.txt && stat -c %u src/in.txt").ok();
    for path in ["src/new", "src/d", "src/in.txt"] {
        assert_eq!(fs::metadata(host.tree.join(path)).unwrap().uid(), owner, "{path}");
    }
    if is_root() {
        assert_eq!(fs::metadata(host.tree.join("other/victim.txt")).unwrap().uid(), 0, "nothing is given away in place");
    }
}

#[test]
fn missing_scope_directories_are_made_for_the_owner() {
    let host = prepared();
    host.scoped(&["fresh/deep/**"], &["build"], "echo x > fresh/deep/a && echo y > build/b").ok();
    let owner = fs::metadata(&host.tree).unwrap().uid();
    for path in ["fresh", "fresh/deep", "fresh/deep/a", "build", "build/b"] {
        assert_eq!(fs::metadata(host.tree.join(path)).unwrap().uid(), owner, "{path}");
    }
}

#[test]
fn a_file_scope_lets_its_file_be_replaced_and_holds_the_others() {
    let host = prepared();
    let script =
        "sed -i s/top/new/ top.txt && printf z > t && mv t top.txt && ! rm -rf other/victim.txt && ! touch src/in.txt && cat top.txt";
    assert_eq!(host.scoped(&["top.txt"], &[], script).output.lines().last(), Some("z"));
    assert_eq!(fs::read_to_string(host.tree.join("other/victim.txt")).unwrap(), "victim\n");
    assert_eq!(fs::read_to_string(host.tree.join("top.txt")).unwrap(), "z");
}

#[test]
fn a_scope_that_leads_through_a_link_is_refused() {
    let host = prepared();
    std::os::unix::fs::symlink("../beside", host.tree.join("link")).unwrap();
    let write = WriteScope::Globs { globs: vec!["link/new/**".to_owned()], also: Vec::new(), except: Vec::new() };
    let spec = aedile_core::sandbox::BoxSpec { write, ..host.spec("true") };
    let error = aedile_core::sandbox::Sandbox::spawn(&host.sandbox, spec).err().unwrap().to_string();
    assert!(error.contains("symbolic link"), "{error}");
    assert_eq!(fs::read_dir(host.dir.path().join("beside")).unwrap().count(), 0);
}

#[test]
fn a_read_only_mount_stays_as_it_is_and_a_writable_one_is_written() {
    let host = prepared();
    fs::set_permissions(host.dir.path().join("outside.txt"), fs::Permissions::from_mode(0o600)).unwrap();
    let mount = |name: &str, inside: &str, writable| BoxMount { host: host.dir.path().join(name), inside: PathBuf::from(inside), writable };
    let mounts = vec![mount("outside.txt", "/given/file", false), mount("beside", "/given/dir", true)];
    let script = "cat /given/file; echo w > /given/dir/w; ! echo x > /given/file; ! rm /given/file; ! echo x > /given/new";
    let done = host.run(aedile_core::sandbox::BoxSpec { mounts, write: WriteScope::Nothing, ..host.spec(script) });
    assert!(done.ok().starts_with("outside"), "{done:?}");
    assert_eq!(fs::read_to_string(host.dir.path().join("outside.txt")).unwrap(), "outside\n");
    assert_eq!(fs::read_to_string(host.dir.path().join("beside/w")).unwrap(), "w\n");
}

#[test]
fn a_tree_that_may_not_be_written_is_not() {
    let host = prepared();
    let done = host.run(aedile_core::sandbox::BoxSpec { write: WriteScope::Nothing, ..host.spec("cat src/in.txt; echo x > src/in.txt") });
    assert!(!done.exit.success() && done.output.starts_with("in\n"), "{done:?}");
    assert!(!host.script("echo x > /usr/x || echo x > /etc/passwd || echo x > /x || echo x > /aedile/x").exit.success());
}

#[test]
fn lock_files_out_of_scope_are_written_for_the_box_alone() {
    let host = prepared();
    for path in ["Cargo.lock", "src/Cargo.lock", "other/Cargo.lock"] {
        host.write(path, "old\n");
    }
    let script = "echo new > Cargo.lock && echo new > src/Cargo.lock && cat Cargo.lock && ! rm Cargo.lock && ! echo new > other/Cargo.lock";
    assert!(host.scoped(&["src/**"], &[], script).ok().starts_with("new"));
    let read = |path: &str| fs::read_to_string(host.tree.join(path)).unwrap();
    assert_eq!((read("Cargo.lock"), read("src/Cargo.lock"), read("other/Cargo.lock")), ("old\n".into(), "new\n".into(), "old\n".into()));
    assert_eq!(host.scoped(&["src/**"], &[], "cat Cargo.lock").ok(), "old");
}
