//! `glob`, `grep`, `ls`, `todo`.

use serde_json::json;
use std::fs::File;
use std::os::unix::fs::symlink;
use std::time::{Duration, SystemTime};

use crate::support::Bench;

fn bench() -> Bench {
    let bench = Bench::new();
    bench.put(".gitignore", "target/\n");
    bench.put("target/out.rs", "fn needle() {}");
    bench.put(".git/config.rs", "needle");
    bench.put(".github/ci.yml", "needle: 1");
    bench.put("src/lib.rs", "mod a;\nfn needle() {}\nfn other() {}\n// Needle\n");
    bench.put("src/a.rs", "fn a() {}\n");
    bench.put("src/bin.dat", b"needle\0needle");
    bench
}

#[tokio::test]
async fn glob_lists_newest_first_without_ignored_files() {
    let bench = bench();
    let old = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
    File::options().write(true).open(bench.path("src/a.rs")).unwrap().set_modified(old).unwrap();
    assert_eq!(bench.ok("glob", json!({"pattern": "*.rs"})).await, "src/lib.rs\nsrc/a.rs");
    assert_eq!(
        bench.ok("glob", json!({"pattern": "src/*.rs", "limit": 1})).await,
        "src/lib.rs\n[1 of 2 files are shown; narrow the pattern]"
    );
    assert_eq!(bench.ok("glob", json!({"pattern": "**/*.yml"})).await, ".github/ci.yml");
    assert_eq!(bench.ok("glob", json!({"pattern": "a.rs", "path": "src"})).await, "src/a.rs");
    assert!(bench.ok("glob", json!({"pattern": "*.py"})).await.contains("no file matches"));
    assert!(bench.err("glob", json!({"pattern": "[z"})).await.contains("`pattern` is not a usable pattern"));
}

#[tokio::test]
async fn grep_shows_content_files_and_counts() {
    let bench = bench();
    let text = bench.ok("grep", json!({"pattern": "needle"})).await;
    assert_eq!(text, ".github/ci.yml:1:needle: 1\nsrc/lib.rs:2:fn needle() {}\n");
    let text = bench.ok("grep", json!({"pattern": "needle", "glob": "*.rs", "mode": "files"})).await;
    assert_eq!(text, "src/lib.rs\n");
    let text = bench.ok("grep", json!({"pattern": "NEEDLE", "ignore_case": true, "mode": "count", "path": "src"})).await;
    assert_eq!(text, "src/lib.rs:2\n");
    let text = bench.ok("grep", json!({"pattern": r"fn needle\(", "context": 1, "path": "src/lib.rs"})).await;
    assert_eq!(text, "src/lib.rs-1-mod a;\nsrc/lib.rs:2:fn needle() {}\nsrc/lib.rs-3-fn other() {}\n");
    let text = bench.ok("grep", json!({"pattern": "fn", "limit": 1})).await;
    assert!(text.ends_with("[only the first 1 lines are shown; narrow the search]"), "{text}");
    assert!(bench.ok("grep", json!({"pattern": "nowhere"})).await.contains("no match"));
    assert!(bench.err("grep", json!({"pattern": "("})).await.contains("`pattern` is not a usable regular expression"));
    assert!(bench.err("grep", json!({"pattern": "a", "mode": "all"})).await.contains("`mode` must be"));
    assert!(bench.err("grep", json!({"pattern": "a", "path": "none"})).await.contains("does not exist"));
}

#[tokio::test]
async fn long_lines_and_many_matches_are_cut() {
    let bench = Bench::new();
    bench.put("a.txt", format!("{}\n", "needle ".repeat(1000)).repeat(500));
    let text = bench.ok("grep", json!({"pattern": "needle", "limit": 2000})).await;
    assert!(text.len() <= 30_000 && text.contains("[line cut]") && text.contains("[only the first"), "{}", text.len());
}

#[tokio::test]
async fn ls_shows_kinds_and_sizes() {
    let bench = bench();
    symlink("src/lib.rs", bench.path("link")).unwrap();
    let text = bench.ok("ls", json!({})).await;
    assert_eq!(text, ".git/\n.github/\n.gitignore (8)\nlink -> src/lib.rs\nsrc/\ntarget/");
    assert!(bench.err("ls", json!({"path": "src/lib.rs"})).await.contains("use `read`"));
}

#[tokio::test]
async fn todo_keeps_the_list() {
    let bench = Bench::new();
    assert_eq!(bench.ok("todo", json!({})).await, "[the list is empty]");
    bench.ok("todo", json!({"items": [{"text": "look", "status": "done"}, {"text": "write", "status": "doing"}, {"text": "test", "status": "pending"}]})).await;
    assert_eq!(bench.ok("todo", json!({})).await, "[x] look\n[>] write\n[ ] test");
    assert!(bench.err("todo", json!({"items": [{"text": "x", "status": "maybe"}]})).await.contains("`status` must be"));
}
