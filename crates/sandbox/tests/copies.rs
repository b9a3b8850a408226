//! Root's boxes on a file system without id-mapped mounts.

use crate::support::{host, is_root, outside, skipped};
use std::fs;
use std::os::unix::fs::MetadataExt;

#[test]
fn a_box_works_on_a_copy_that_is_given_back() {
    if !is_root() {
        return;
    }
    let host = host();
    let tree = host.tree.to_str().unwrap().to_owned();
    if !outside(host.dir.path(), &[], &format!("mount -t ramfs ramfs {tree}")).exit.success() {
        return skipped("a_box_works_on_a_copy_that_is_given_back", "a ramfs cannot be mounted");
    }
    for (path, text) in
        [("keep.txt", "keep\n"), ("change.txt", "old\n"), ("gone/a.txt", "x\n"), ("becomes/dir.txt", "x\n"), ("src/s.txt", "s\n")]
    {
        std::os::unix::fs::chown(host.write(path, text), Some(4321), Some(4321)).unwrap();
    }
    std::os::unix::fs::chown(&host.tree, Some(4321), Some(4321)).unwrap();
    let kept = fs::metadata(host.tree.join("keep.txt")).unwrap();
    let script = "cat keep.txt && echo new > change.txt && rm -r gone && rm -r becomes && echo f > becomes && mkdir -p made/deep && echo d > made/deep/f && ln -s keep.txt l && chmod 755 change.txt";
    let first = host.script(script);
    let scoped = host.scoped(&["src/**"], &[], "echo t > src/t.txt; echo x > keep.txt");
    let read = |path: &str| fs::read_to_string(host.tree.join(path)).unwrap_or_default();
    let seen = (read("change.txt"), read("becomes"), read("made/deep/f"), read("l"), read("src/t.txt"), host.tree.join("gone").exists());
    let (now, made) = (fs::metadata(host.tree.join("keep.txt")).unwrap(), fs::metadata(host.tree.join("made/deep/f")).unwrap());
    let mode = fs::metadata(host.tree.join("change.txt")).unwrap().mode() & 0o777;
    assert!(outside(host.dir.path(), &[], &format!("umount {tree}")).exit.success());
    assert_eq!(first.ok(), "keep");
    assert!(!scoped.exit.success());
    let want = ["new\n", "f\n", "d\n", "keep\n", "t\n"].map(str::to_owned);
    assert_eq!(seen, (want[0].clone(), want[1].clone(), want[2].clone(), want[3].clone(), want[4].clone(), false));
    assert_eq!((now.ino(), now.uid(), made.uid(), mode), (kept.ino(), 4321, 4321, 0o755));
    let left: Vec<_> = fs::read_dir(host.dir.path()).unwrap().flatten().map(|entry| entry.file_name()).collect();
    assert_eq!(left, ["tree"]);
}
