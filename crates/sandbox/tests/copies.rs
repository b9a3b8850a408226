//! Root's boxes on a file system without id-mapped mounts.

use crate::support::{Host, host, is_root, outside, persons_host, skipped};
use aedile_core::sandbox::{BoxIo, BoxSpec, Sandbox};
use aedile_sandbox::BOX_HOST_ID;
use std::ffi::OsStr;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

/// A mount over a directory of the host's, gone at the end.
struct Mounted(PathBuf);

impl Mounted {
    /// Mounts over the tree; says so and answers nothing where that is not possible.
    fn over_tree(host: &Host, test: &str, kind: &str) -> Option<Self> {
        let tree = host.tree.to_str().unwrap();
        let layers = "mkdir lower upper work && mount -t overlay -o lowerdir=lower,upperdir=upper,workdir=work overlay";
        let command = if kind == "overlay" { layers } else { "mount -t ramfs ramfs" };
        let done = outside(host.dir.path(), &[], &format!("{command} {tree}"));
        if !done.exit.success() {
            skipped(test, &format!("{kind} cannot be mounted: {}", done.output));
            return None;
        }
        Some(Self(host.tree.clone()))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        outside(std::path::Path::new("/"), &[], &format!("umount -l {}", self.0.display()));
    }
}

#[test]
fn what_is_ours_is_given_to_the_box_and_the_host_sees_each_write_at_once() {
    let test = "what_is_ours_is_given_to_the_box_and_the_host_sees_each_write_at_once";
    if !is_root() {
        return;
    }
    let host = host();
    let Some(_mounted) = Mounted::over_tree(&host, test, "overlay") else { return };
    host.write("src/a.txt", "old\n");
    std::os::unix::fs::symlink("/etc/passwd", host.tree.join("link")).unwrap();
    fs::write(host.dir.path().join("outside.txt"), "x").unwrap();
    let script = "cat src/a.txt; echo new > src/a.txt; echo w > made; echo ready; read go; cat src/later";
    let mut child = host.sandbox.spawn(BoxSpec { io: BoxIo::Piped, ..host.spec(script) }).unwrap();
    let (mut stdin, mut stdout) = (fs::File::from(child.take_stdin().unwrap()), fs::File::from(child.take_stdout().unwrap()));
    let mut said = [0u8; 10];
    stdout.read_exact(&mut said).unwrap();
    assert_eq!(&said, b"old\nready\n");
    let read = |path: &str| fs::read_to_string(host.tree.join(path)).unwrap();
    assert_eq!((read("src/a.txt"), read("made")), ("new\n".into(), "w\n".into()), "the host sees it while the box lives");
    fs::write(host.tree.join("src/later"), "from the host\n").unwrap();
    stdin.write_all(b"go\n").unwrap();
    let mut rest = String::new();
    stdout.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "from the host\n");
    drop(child);
    host.script("echo x >> src/later").ok();
    assert_eq!(read("src/later"), "from the host\nx\n", "what the host added is the next box's too");
    assert_eq!(fs::metadata(host.tree.join("src/a.txt")).unwrap().uid(), BOX_HOST_ID);
    assert_eq!(fs::metadata("/etc/passwd").unwrap().uid(), 0, "no link is followed");
    assert_eq!(fs::metadata(host.dir.path().join("outside.txt")).unwrap().uid(), 0);
    let copies = fs::read_dir(host.dir.path()).unwrap().flatten().filter(|entry| entry.file_name().to_string_lossy().contains("copy"));
    assert_eq!(copies.count(), 0);
}

#[test]
fn what_is_neither_ours_nor_a_persons_is_refused() {
    if !is_root() {
        return;
    }
    let (mut host, other) = (host(), host());
    host.tree.clone_from(&other.tree);
    let Some(_mounted) = Mounted::over_tree(&other, "what_is_neither_ours_nor_a_persons_is_refused", "overlay") else { return };
    host.write("a.txt", "old\n");
    let error = host.sandbox.spawn(host.spec("echo x > a.txt")).err().unwrap().to_string();
    assert!(error.contains("(overlay)") && error.contains("ordinary user"), "{error}");
    assert_eq!(fs::metadata(host.tree.join("a.txt")).unwrap().uid(), 0);
}

#[test]
fn a_box_works_on_a_copy_that_is_given_back() {
    if !is_root() {
        return;
    }
    let host = persons_host();
    let Some(mounted) = Mounted::over_tree(&host, "a_box_works_on_a_copy_that_is_given_back", "ramfs") else { return };
    for (path, text) in
        [("keep.txt", "keep\n"), ("change.txt", "old\n"), ("gone/a.txt", "x\n"), ("becomes/dir.txt", "x\n"), ("src/s.txt", "s\n")]
    {
        std::os::unix::fs::chown(host.write(path, text), Some(4321), Some(4321)).unwrap();
    }
    std::os::unix::fs::chown(&host.tree, Some(4321), Some(4321)).unwrap();
    let odd = OsStr::from_bytes(b"odd\xff");
    fs::create_dir(host.tree.join(odd)).unwrap();
    fs::write(host.tree.join(odd).join(odd), "odd\n").unwrap();
    let kept = fs::metadata(host.tree.join("keep.txt")).unwrap();
    let script = "cat keep.txt && echo new > change.txt && rm -r gone && rm -r becomes && echo f > becomes && mkdir -p made/deep && echo d > made/deep/f && ln -s keep.txt l && chmod 755 change.txt && cat odd*/odd* && echo n > \"$(printf 'new\\376')\"";
    let first = host.script(script);
    let scoped = host.scoped(&["src/**"], &[], "echo t > src/t.txt; echo x > keep.txt");
    let read = |path: &str| fs::read_to_string(host.tree.join(path)).unwrap_or_default();
    let seen = (read("change.txt"), read("becomes"), read("made/deep/f"), read("l"), read("src/t.txt"), host.tree.join("gone").exists());
    assert_eq!(fs::read_to_string(host.tree.join(OsStr::from_bytes(b"new\xfe"))).unwrap(), "n\n");
    assert_eq!(fs::read_to_string(host.tree.join(odd).join(odd)).unwrap(), "odd\n");
    let (now, made) = (fs::metadata(host.tree.join("keep.txt")).unwrap(), fs::metadata(host.tree.join("made/deep/f")).unwrap());
    let mode = fs::metadata(host.tree.join("change.txt")).unwrap().mode() & 0o777;
    drop(mounted);
    assert_eq!(first.ok(), "keep\nodd");
    assert!(!scoped.exit.success());
    let want = ["new\n", "f\n", "d\n", "keep\n", "t\n"].map(str::to_owned);
    assert_eq!(seen, (want[0].clone(), want[1].clone(), want[2].clone(), want[3].clone(), want[4].clone(), false));
    assert_eq!((now.ino(), now.uid(), made.uid(), mode), (kept.ino(), 4321, 4321, 0o755));
    let left: Vec<_> = fs::read_dir(host.dir.path()).unwrap().flatten().map(|entry| entry.file_name()).collect();
    assert_eq!(left, ["tree"]);
}
