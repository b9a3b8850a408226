//! `read`, `write`, `edit`.

use serde_json::json;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use crate::support::Bench;

#[tokio::test]
async fn read_numbers_lines_and_goes_on_at_an_offset() {
    let bench = Bench::new();
    bench.put("a.txt", (1..=2500).map(|n| format!("line {n}\n")).collect::<String>());
    let text = bench.ok("read", json!({"path": "a.txt"})).await;
    assert!(text.starts_with("     1\tline 1\n     2\tline 2\n"), "{text}");
    let next = text.rsplit("offset ").next().unwrap().trim_end_matches(']').parse::<usize>().unwrap();
    assert!(text.contains(&format!("[lines 1 to {} are shown", next - 1)));
    let more = bench.ok("read", json!({"path": "a.txt", "offset": next, "limit": 2})).await;
    assert!(more.starts_with(&format!("{next:>6}\tline {next}\n")), "{more}");
    assert!(bench.err("read", json!({"path": "a.txt", "offset": 9999})).await.contains("only 2500 lines"));
    assert!(bench.ok("read", json!({"path": "a.txt", "offset": "2500"})).await.ends_with("line 2500\n"));
}

#[tokio::test]
async fn read_refuses_what_is_not_text_and_explains() {
    let bench = Bench::new();
    bench.put("image", b"\x7fELF\0\0\0");
    bench.put("empty", "");
    bench.put("long", "x".repeat(50_000));
    bench.put("big", vec![b'a'; 11 * 1024 * 1024]);
    assert!(bench.err("read", json!({"path": "image"})).await.contains("not text"));
    assert!(bench.err("read", json!({"path": "."})).await.contains("use `ls`"));
    assert!(bench.err("read", json!({"path": "none"})).await.contains("does not exist"));
    assert!(bench.err("read", json!({"path": "big"})).await.contains("more than 10 MiB"));
    assert!(bench.err("read", json!({})).await.contains("`path` is missing"));
    assert!(bench.err("read", json!({"path": 5})).await.contains("`path` must be a text"));
    assert!(bench.err("read", json!("oops")).await.contains("not valid JSON"));
    assert_eq!(bench.ok("read", json!({"path": "empty"})).await, "[empty is empty]");
    let long = bench.ok("read", json!({"file_path": "long"})).await;
    assert!(long.len() < 2100 && long.ends_with("[line cut]\n"), "{}", long.len());
    assert!(bench.ok("read", json!({"path": "big", "offset": 1, "limit": 1})).await.contains("[line cut]"));
}

#[tokio::test]
async fn write_makes_directories_keeps_the_mode_and_follows_links() {
    let bench = Bench::new();
    assert!(
        bench
            .ok("write", json!({"path": "src/deep/a.rs", "content": "fn a() {}\n"}))
            .await
            .starts_with("created src/deep/a.rs (1 lines, 10 bytes)")
    );
    bench.put("run.sh", "old");
    fs::set_permissions(bench.path("run.sh"), fs::Permissions::from_mode(0o750)).unwrap();
    symlink("run.sh", bench.path("link")).unwrap();
    bench.ok("write", json!({"path": "link", "content": "new"})).await;
    assert_eq!(bench.get("run.sh"), "new");
    assert!(bench.path("link").is_symlink());
    assert_eq!(fs::metadata(bench.path("run.sh")).unwrap().permissions().mode() & 0o777, 0o750);
    assert!(bench.err("write", json!({"path": "src", "content": ""})).await.contains("not a regular file"));
    assert_eq!(fs::read_dir(bench.directory.path()).unwrap().count(), 3, "no temporary file may stay");
}

#[tokio::test]
async fn a_write_outside_the_scope_is_explained() {
    let bench = Bench::with(&["src/**"], None);
    // Nobody, not even root, creates files there.
    let refused = bench.err("write", json!({"path": "/sys/aedile-test", "content": "x"})).await;
    assert!(refused.contains("/sys/aedile-test is outside the task's scope") && refused.contains("may change: src/**"), "{refused}");
    let refused = bench.err("bash", json!({"command": "echo x > /sys/aedile-test"})).await;
    assert!(refused.contains("This task may change: src/**"), "{refused}");
    let noted = bench.ok("write", json!({"path": "docs/a.md", "content": "x"})).await;
    assert!(noted.contains("note: docs/a.md is outside the task's scope"), "{noted}");
    assert!(!bench.ok("write", json!({"path": "src/a.rs", "content": "x"})).await.contains("note"));
}

#[tokio::test]
async fn edit_replaces_one_place_or_all() {
    let bench = Bench::new();
    bench.put("a.rs", "let a = 1;\nlet b = 1;\nlet c = 2;\nlet d = 1;\n");
    let text = bench.ok("edit", json!({"path": "a.rs", "old_string": "c = 2", "new_string": "c = 3"})).await;
    assert!(text.contains("     3\tlet c = 3;"), "{text}");
    let refused = bench.err("edit", json!({"path": "a.rs", "old_string": "= 1;", "new_string": "= 9;"})).await;
    assert!(refused.contains("3 times, at lines 1, 2, 4"), "{refused}");
    assert_eq!(bench.get("a.rs"), "let a = 1;\nlet b = 1;\nlet c = 3;\nlet d = 1;\n");
    bench.ok("edit", json!({"path": "a.rs", "old_string": "= 1;", "new_string": "= 9;", "replace_all": true})).await;
    assert_eq!(bench.get("a.rs"), "let a = 9;\nlet b = 9;\nlet c = 3;\nlet d = 9;\n");
}

#[tokio::test]
async fn edit_says_why_nothing_was_found() {
    let bench = Bench::new();
    bench.put("a.rs", "fn a() {\n    one();\n    two();\n}\n");
    let edit = |old: &str| json!({"path": "a.rs", "old_string": old, "new_string": "x"});
    let spaces = bench.err("edit", edit("one();\n  two();")).await;
    assert!(spaces.contains("differs only in white space is at line 2"), "{spaces}");
    assert!(bench.err("edit", edit("     2\t    one();")).await.contains("line numbers of `read`"));
    assert!(bench.err("edit", edit("three")).await.contains("not in a.rs"));
    assert!(bench.err("edit", edit("")).await.contains("`old_string` is empty"));
    assert!(bench.err("edit", edit("x")).await.contains("are the same"));
    bench.put("bin", [0xff, 0xfe, 0x00]);
    assert!(bench.err("edit", json!({"path": "bin", "old_string": "a", "new_string": "b"})).await.contains("not UTF-8"));
}

#[tokio::test]
async fn edit_keeps_crlf_line_ends() {
    let bench = Bench::new();
    bench.put("dos.txt", "one\r\ntwo\r\nthree\r\n");
    assert!(bench.ok("read", json!({"path": "dos.txt"})).await.contains("CRLF"));
    bench.ok("edit", json!({"path": "dos.txt", "old_string": "one\ntwo", "new_string": "1\n2\n2.5"})).await;
    assert_eq!(bench.get("dos.txt"), "1\r\n2\r\n2.5\r\nthree\r\n");
    bench.put("mixed.txt", "one\r\ntwo\nthree\n");
    bench.ok("edit", json!({"path": "mixed.txt", "old_string": "two\nthree", "new_string": "2\n3"})).await;
    assert_eq!(bench.get("mixed.txt"), "one\r\n2\n3\n");
}

#[test]
fn a_file_in_a_closed_directory_is_written_in_place() {
    let bench = Bench::new();
    let mode = |name: &str, mode: u32| fs::set_permissions(bench.path(name), fs::Permissions::from_mode(mode)).unwrap();
    for (name, bits) in [("closed/a.txt", 0o666), ("closed/b.txt", 0o444)] {
        bench.put(name, "old");
        mode(name, bits);
    }
    mode("closed", 0o555);
    mode(".", 0o755);
    let calls = || {
        // Rights do not bind root; only this thread and those it starts become an ordinary user.
        if rustix::process::geteuid().is_root() {
            rustix::thread::set_thread_uid(rustix::process::Uid::from_raw(65534)).unwrap();
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            bench.ok("write", json!({"path": "closed/a.txt", "content": "new"})).await;
            bench.err("write", json!({"path": "closed/b.txt", "content": "new"})).await
        })
    };
    let refused = std::thread::scope(|scope| scope.spawn(calls).join().unwrap());
    assert!(refused.contains("closed/b.txt may not be written here"), "{refused}");
    assert_eq!(bench.get("closed/a.txt"), "new");
    mode("closed", 0o755);
}
