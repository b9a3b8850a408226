//! `bash` and `job`: real processes.

use serde_json::json;
use std::time::{Duration, Instant};

use crate::support::{Bench, eventually, is_alive};

#[tokio::test]
async fn the_working_directory_is_kept_and_variables_are_not() {
    let bench = Bench::new();
    bench.put("src/a.rs", "");
    let text = bench.ok("bash", json!({"command": "cd src && X=1"})).await;
    assert_eq!(text, "[working directory: src]");
    assert_eq!(bench.ok("bash", json!({"command": "ls; echo \"x$X\""})).await, "a.rs\nx");
    let text = bench.err("bash", json!({"command": "cd ..; set -- a b c; exit 3"})).await;
    assert_eq!(text, "[exit code 3]\n[working directory: .]");
    bench.ok("bash", json!({"command": "mkdir gone && cd gone && rmdir ../gone"})).await;
    let text = bench.ok("bash", json!({"command": "ls"})).await;
    assert!(text.starts_with("src"), "{text}");
}

#[tokio::test]
async fn output_is_joined_and_cut_in_the_middle() {
    let bench = Bench::new();
    assert_eq!(bench.ok("bash", json!({"command": "echo out; echo err >&2"})).await, "out\nerr");
    assert_eq!(bench.ok("bash", json!({"command": "true"})).await, "[no output]");
    let text = bench.ok("bash", json!({"command": "echo first; yes 0123456789 | head -n 100000; echo last"})).await;
    assert!(text.len() < 31_000 && text.starts_with("first\n") && text.ends_with("last"), "{}", text.len());
    assert!(text.contains("bytes cut"));
    // stdin is empty, not the terminal.
    assert_eq!(bench.ok("bash", json!({"command": "cat; echo end"})).await, "end");
}

#[tokio::test]
async fn a_daemon_that_holds_the_output_does_not_block() {
    let bench = Bench::new();
    let start = Instant::now();
    let text = bench.ok("bash", json!({"command": "setsid sh -c 'echo $$ > pid; sleep 60; echo late' & echo started"})).await;
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
    assert!(text.starts_with("started") && text.contains("still holds its output"), "{text}");
    eventually("the daemon runs", || bench.path("pid").exists() && !bench.get("pid").is_empty()).await;
    let pid = bench.get("pid");
    assert!(is_alive(&pid), "a daemon goes on after its command");
    bench.ok("bash", json!({"command": format!("kill -9 -- -{}", pid.trim())})).await;
}

#[tokio::test]
async fn the_time_limit_ends_the_whole_group_even_if_it_ignores_term() {
    let bench = Bench::new();
    let command = "trap '' TERM; (trap '' TERM; echo $BASHPID > pid; sleep 600) & while true; do sleep 1; done";
    let start = Instant::now();
    let text = bench.err("bash", json!({"command": command, "timeout_s": 1})).await;
    assert!(text.contains("ended at its time limit of 1 s"), "{text}");
    assert!(start.elapsed() >= Duration::from_secs(1) && start.elapsed() < Duration::from_secs(30));
    let pid = bench.get("pid");
    eventually("the child is killed", || !is_alive(&pid)).await;
}

#[tokio::test]
async fn dropping_a_call_ends_its_programs() {
    let bench = Bench::new();
    let call = bench.call("bash", json!({"command": "echo $$ > pid; sleep 600"}));
    tokio::select! {
        _ = call => unreachable!("the command lasts"),
        () = eventually("the command runs", || bench.path("pid").exists() && !bench.get("pid").is_empty()) => {}
    }
    let pid = bench.get("pid");
    eventually("the command is ended", || !is_alive(&pid)).await;
}

#[tokio::test]
async fn background_jobs_are_started_listed_read_and_killed() {
    let bench = Bench::new();
    let text = bench.ok("bash", json!({"command": "echo one; echo $$ > pid; sleep 600", "background": true})).await;
    assert!(text.contains("background job 1"), "{text}");
    bench.ok("bash", json!({"command": "echo short", "background": true})).await;
    let text = bench.ok("job", json!({"action": "output", "id": 2, "wait_s": 10})).await;
    assert!(text.ends_with("[job 2: exit code 0]"), "{text}");
    eventually("the job runs", || bench.path("pid").exists() && !bench.get("pid").is_empty()).await;
    let list = bench.ok("job", json!({"action": "list"})).await;
    assert_eq!(list, "1: echo one; echo $$ > pid; sleep 600 (running)\n2: echo short (exit code 0)");
    assert_eq!(bench.ok("job", json!({"action": "output", "id": 1})).await, "one\n[job 1: running]");
    assert_eq!(bench.ok("job", json!({"action": "output", "id": 1})).await, "[job 1: running]", "output is shown once");
    assert!(bench.ok("job", json!({"action": "kill", "id": 1})).await.contains("[job 1: stopped]"));
    assert!(!is_alive(&bench.get("pid")));
    assert!(bench.err("job", json!({"action": "kill", "id": 9})).await.contains("no background job 9"));
    assert!(bench.err("job", json!({"action": "kill"})).await.contains("`id` is missing"));
}

#[tokio::test]
async fn dropping_the_tools_ends_the_jobs() {
    let mut bench = Bench::new();
    bench.ok("bash", json!({"command": "echo $$ > pid; sleep 600", "background": true})).await;
    eventually("the job runs", || bench.path("pid").exists() && !bench.get("pid").is_empty()).await;
    bench.tools.clear();
    let pid = bench.get("pid");
    eventually("the job is ended", || !is_alive(&pid)).await;
}
