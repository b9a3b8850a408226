//! Submitting from a real clone.

use aedile_core::agent_api::{AgentReply, AgentRequest};
use aedile_tools::{SubmitError, Submitted, clear_leftovers, clear_stale_locks, submit_work};
use serde_json::json;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;

use crate::support::{Bench, FakeDoor, git};

/// A clone of a small project, on the task's branch, with tools whose door is `door`.
fn clone(door: &FakeDoor, scope: &[&str]) -> Bench {
    let bench = Bench::with(scope, Some(door.client()));
    let origin = tempfile::tempdir().unwrap();
    for (name, content) in
        [(".gitignore", "target/\n"), ("src/lib.rs", "one\n"), ("src/old.rs", "old\n"), ("Cargo.lock", "v1\n"), ("README.md", "hi\n")]
    {
        fs::create_dir_all(origin.path().join(name).parent().unwrap()).unwrap();
        fs::write(origin.path().join(name), content).unwrap();
    }
    git(origin.path(), &["init", "-q", "-b", "main"]);
    git(origin.path(), &["add", "-A"]);
    git(origin.path(), &["commit", "-q", "-m", "start"]);
    git(bench.directory.path(), &["clone", "-q", origin.path().to_str().unwrap(), "."]);
    git(bench.directory.path(), &["checkout", "-q", "-b", "aedile/auth"]);
    bench
}

async fn submit(bench: &Bench, door: &FakeDoor) -> Result<Submitted, SubmitError> {
    submit_work(&door.client(), bench.directory.path(), "Add auth\n\nWith tests.\n").await
}

#[tokio::test]
async fn dirty_files_in_scope_are_committed_and_the_rest_is_named() {
    let door = FakeDoor::of_task(&["src/**"]);
    let bench = clone(&door, &["src/**"]);
    let root = bench.directory.path();
    bench.put("src/lib.rs", "two\n");
    bench.put("src/new [1].rs", "new\n");
    fs::remove_file(bench.path("src/old.rs")).unwrap();
    bench.put("target/out", "built\n");
    bench.put("README.md", "changed\n");
    bench.put("docs/a.md", "untracked\n");
    bench.put("Cargo.lock", "v2\n");
    git(root, &["add", "README.md"]);
    let output = bench.call("submit", json!({"summary": "Add auth\n\nWith tests."})).await;
    assert!(!output.is_error && output.ends_turn, "{}", output.text);
    assert!(output.text.contains("It waits to land."), "{}", output.text);
    assert!(output.text.contains("outside the task's scope: README.md, docs/a.md."), "{}", output.text);
    assert!(output.text.contains("Lock files that tools rewrite were left out too: Cargo.lock."), "{}", output.text);
    assert_eq!(git(root, &["show", "--format=", "--name-status", "HEAD"]), "M\tsrc/lib.rs\nA\tsrc/new [1].rs\nD\tsrc/old.rs");
    assert_eq!(git(root, &["log", "-1", "--format=%B"]), "Add auth\n\nWith tests.");
    let head = git(root, &["rev-parse", "HEAD"]);
    assert_eq!(git(root, &["rev-parse", "refs/heads/aedile/auth"]), head);
    // A machine may have an identity for everybody; where it has none, the agent is the author.
    if bench.call("bash", json!({"command": "git config user.email"})).await.is_error {
        assert_eq!(git(root, &["log", "-1", "--format=%an <%ae>"]), "ada <ada@aedile.invalid>");
    }
    assert_eq!((bench.get("README.md"), bench.get("Cargo.lock")), ("changed\n".to_owned(), "v2\n".to_owned()));
    let left_out = ["Cargo.lock", "README.md", "docs/a.md"].map(str::to_owned).to_vec();
    assert_eq!(
        door.submits(),
        [AgentRequest::Submit { commit: head.parse().unwrap(), summary: "Add auth\n\nWith tests.".to_owned(), left_out }]
    );
}

#[tokio::test]
async fn nothing_to_submit_is_refused_and_says_what_was_left_out() {
    let door = FakeDoor::of_task(&["src/**"]);
    let bench = clone(&door, &["src/**"]);
    assert_eq!(submit(&bench, &door).await, Err(SubmitError::Nothing { left_out: vec![] }));
    // A workspace without remotes names what it was given by this ref.
    git(bench.directory.path(), &["remote", "remove", "origin"]);
    git(bench.directory.path(), &["update-ref", "refs/aedile/base", "HEAD"]);
    bench.put("README.md", "changed\n");
    let output = bench.call("submit", json!({"summary": "x"})).await;
    assert!(output.is_error && !output.ends_turn);
    assert!(output.text.contains("nothing to submit") && output.text.contains("README.md"), "{}", output.text);
    assert!(door.submits().is_empty());
}

#[tokio::test]
async fn own_commits_on_a_detached_head_are_submitted() {
    let door = FakeDoor::of_task(&["**"]);
    let bench = clone(&door, &["**"]);
    let root = bench.directory.path();
    git(root, &["checkout", "-q", "--detach"]);
    bench.put("src/lib.rs", "two\n");
    git(root, &["commit", "-q", "-a", "-m", "mine"]);
    let submitted = submit(&bench, &door).await.unwrap();
    assert_eq!(submitted.commit.as_str(), git(root, &["rev-parse", "HEAD"]));
    assert_eq!(git(root, &["rev-parse", "refs/heads/aedile/auth"]), submitted.commit.as_str());
    assert_eq!(git(root, &["log", "-1", "--format=%s"]), "mine");
    assert_eq!(submit(&bench, &door).await.unwrap().commit, submitted.commit, "submitting again changes nothing");
}

#[tokio::test]
async fn the_configured_author_stays_and_hooks_do_not_run() {
    let door = FakeDoor::of_task(&["**"]);
    let bench = clone(&door, &["**"]);
    let root = bench.directory.path();
    git(root, &["config", "user.name", "Ada"]);
    git(root, &["config", "user.email", "ada@example.com"]);
    fs::create_dir_all(bench.path(".git/hooks")).unwrap();
    bench.put(".git/hooks/pre-commit", "#!/bin/sh\nexit 1\n");
    bench.ok("bash", json!({"command": "chmod +x .git/hooks/pre-commit"})).await;
    bench.put("src/lib.rs", "two\n");
    submit(&bench, &door).await.unwrap();
    assert_eq!(git(root, &["log", "-1", "--format=%an <%ae>"]), "Ada <ada@example.com>");
}

#[tokio::test]
async fn markers_and_half_done_operations_are_refused() {
    let door = FakeDoor::of_task(&["src/**"]);
    let bench = clone(&door, &["src/**"]);
    let root = bench.directory.path();
    git(root, &["checkout", "-q", "-b", "side"]);
    bench.put("src/lib.rs", "side\n");
    git(root, &["commit", "-q", "-a", "-m", "side"]);
    git(root, &["checkout", "-q", "aedile/auth"]);
    bench.put("src/lib.rs", "ours\n");
    git(root, &["commit", "-q", "-a", "-m", "ours"]);
    bench.call("bash", json!({"command": "git -c user.name=Ada -c user.email=ada@example.com merge side"})).await;
    assert!(bench.get("src/lib.rs").contains("<<<<<<<"));
    let error = submit(&bench, &door).await.unwrap_err();
    assert_eq!(error, SubmitError::Conflicts(vec!["src/lib.rs".to_owned()]));
    bench.put("src/lib.rs", "both\n");
    let submitted = submit(&bench, &door).await.unwrap();
    let parents = git(root, &["log", "-1", "--format=%P", submitted.commit.as_str()]);
    assert_eq!(parents.split(' ').count(), 2, "the merge is ended");
    fs::create_dir(bench.path(".git/rebase-merge")).unwrap();
    assert_eq!(submit(&bench, &door).await, Err(SubmitError::HalfDone("rebase".to_owned())));
}

#[tokio::test]
async fn committed_markers_are_refused_too() {
    let door = FakeDoor::of_task(&["src/**"]);
    let bench = clone(&door, &["src/**"]);
    bench.put("src/lib.rs", "<<<<<<< a\none\n=======\ntwo\n>>>>>>> b\n");
    git(bench.directory.path(), &["commit", "-q", "-a", "-m", "oops"]);
    assert_eq!(submit(&bench, &door).await, Err(SubmitError::Conflicts(vec!["src/lib.rs".to_owned()])));
}

#[tokio::test]
async fn a_nested_repository_is_left_out() {
    let door = FakeDoor::of_task(&["**"]);
    let bench = clone(&door, &["**"]);
    bench.put("inner/a.txt", "a");
    git(&bench.path("inner"), &["init", "-q"]);
    git(&bench.path("inner"), &["add", "-A"]);
    git(&bench.path("inner"), &["commit", "-q", "-m", "inner"]);
    bench.put("src/lib.rs", "two\n");
    let submitted = submit(&bench, &door).await.unwrap();
    assert_eq!(submitted.left_out, ["inner/"]);
    assert_eq!(git(bench.directory.path(), &["show", "--format=", "--name-only", "HEAD"]), "src/lib.rs");
}

#[tokio::test]
async fn a_name_that_is_not_utf_8_is_left_out_and_the_rest_is_submitted() {
    let door = FakeDoor::of_task(&["src/**"]);
    let bench = clone(&door, &["src/**"]);
    let root = bench.directory.path();
    let odd = OsStr::from_bytes(b"caf\xe9.rs");
    bench.put("src/lib.rs", "two\n");
    fs::write(bench.path("src").join(odd), "odd\n").unwrap();
    git(root, &["add", "-A"]);
    let submitted = submit(&bench, &door).await.unwrap();
    assert_eq!(git(root, &["show", "--format=", "--name-only", "HEAD"]), "src/lib.rs");
    assert_eq!(submitted.left_out, ["src/caf\u{fffd}.rs"]);
    assert!(submitted.text().contains("names are not UTF-8, which cannot land; rename them: src/caf\u{fffd}.rs."), "{}", submitted.text());
    assert_eq!(fs::read_to_string(bench.path("src").join(odd)).unwrap(), "odd\n");
}

#[tokio::test]
async fn what_a_killed_tool_left_is_no_work_and_is_mended_at_the_next_start() {
    let door = FakeDoor::of_task(&["**"]);
    let bench = clone(&door, &["**"]);
    bench.put("src/lib.rs", "two\n");
    bench.put("src/.aedile-71-0.tmp", "half of a fi");
    submit(&bench, &door).await.unwrap();
    assert_eq!(git(bench.directory.path(), &["show", "--format=", "--name-only", "HEAD"]), "src/lib.rs");
    // One file was on its way out, another has been written anew since.
    fs::create_dir(bench.path("src/.aedile-71-1.tmp")).unwrap();
    fs::rename(bench.path("src/old.rs"), bench.path("src/.aedile-71-1.tmp/old.rs")).unwrap();
    bench.put(".aedile-71-2.tmp/README.md", "earlier\n");
    bench.put("src/.aedile-71.tmp", "not ours\n");
    assert_eq!(clear_leftovers(bench.directory.path()), 2);
    assert_eq!(bench.get("src/old.rs"), "old\n");
    assert!(!bench.path("src/.aedile-71-0.tmp").exists() && !bench.path("src/.aedile-71-1.tmp").exists());
    assert_eq!((bench.get("README.md").as_str(), bench.get(".aedile-71-2.tmp/README.md").as_str()), ("hi\n", "earlier\n"));
    assert!(bench.path("src/.aedile-71.tmp").exists());
}

#[tokio::test]
async fn the_orchestrators_refusal_is_passed_on() {
    let door = FakeDoor::new(|request| match request {
        AgentRequest::TaskInfo {} => AgentReply::Refused { message: "The task is stopped.".to_owned() },
        _ => AgentReply::Done { message: String::new() },
    });
    let bench = clone(&door, &["**"]);
    assert_eq!(submit(&bench, &door).await, Err(SubmitError::Refused("The task is stopped.".to_owned())));
}

#[tokio::test]
async fn locks_of_a_killed_git_are_removed_before_anything_runs() {
    let door = FakeDoor::of_task(&["src/**"]);
    let bench = clone(&door, &["src/**"]);
    bench.put("src/lib.rs", "two\n");
    for lock in [".git/HEAD.lock", ".git/index.lock", ".git/refs/heads/aedile/auth.lock"] {
        bench.put(lock, "");
    }
    assert!(matches!(submit(&bench, &door).await, Err(SubmitError::Git { .. })));
    let elsewhere = tempfile::tempdir().unwrap();
    fs::write(elsewhere.path().join("Cargo.lock"), "mine").unwrap();
    std::os::unix::fs::symlink(elsewhere.path(), bench.path(".git/linked")).unwrap();
    assert_eq!(clear_stale_locks(bench.directory.path()), 3);
    assert!(elsewhere.path().join("Cargo.lock").exists(), "links are not followed");
    assert!(bench.path("Cargo.lock").exists());
    submit(&bench, &door).await.unwrap();
}
