//! `bash`, `job_output` and `job_kill`: real processes.

use serde_json::json;
use std::time::{Duration, Instant};

use crate::support::{Bench, eventually, is_alive};

#[tokio::test]
async fn the_working_directory_is_kept_and_may_go() {
    let bench = Bench::new();
    bench.put("src/a.rs", "");
    let text = bench.ok("bash", json!({"command": "cd src && X=1"})).await;
    assert_eq!(text, "[working directory: src]");
    assert_eq!(bench.ok("bash", json!({"command": "ls; echo \"x$X\""})).await, "a.rs\nx1");
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
    assert!(text.len() < 31_000 && text.starts_with("first\n") && text.contains("\nlast\n[the whole"), "{}", text.len());
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
    let text = bench.ok("job_output", json!({"id": 2, "wait_s": 10})).await;
    assert!(text.ends_with("[job 2: exit code 0]"), "{text}");
    eventually("the job runs", || bench.path("pid").exists() && !bench.get("pid").is_empty()).await;
    let list = bench.ok("job_output", json!({})).await;
    assert_eq!(list, "1: echo one; echo $$ > pid; sleep 600 (running)\n2: echo short (exit code 0)");
    assert_eq!(bench.ok("job_output", json!({"id": 1})).await, "one\n[job 1: running]");
    assert_eq!(bench.ok("job_output", json!({"id": 1})).await, "[job 1: running]", "output is shown once");
    assert!(bench.ok("job_kill", json!({"id": 1})).await.contains("[job 1: stopped]"));
    assert!(!is_alive(&bench.get("pid")));
    assert!(bench.err("job_kill", json!({"id": 9})).await.contains("no background job 9"));
    assert!(bench.err("job_kill", json!({})).await.contains("`id` is missing"));
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

#[tokio::test]
async fn variables_functions_and_the_directory_are_kept() {
    let bench = Bench::new();
    let run = async |command: &str| bench.ok("bash", json!({ "command": command })).await;
    run("export A='a  b'; B=$'two\nlines'; declare -A MAP=([k]=v); LIST=(1 '2 3'); f() { echo \"f $1\"; }; mkdir sub; cd sub; unset HOME")
        .await;
    assert_eq!(
        run("f x; echo \"$A|$B|${MAP[k]}|${LIST[1]}|${HOME-none}\"; env | grep ^A=; basename \"$PWD\"").await,
        "f x\na  b|two\nlines|v|2 3|none\nA=a  b\nsub"
    );
    // Whatever ends a command, what it had set is there, and options are not.
    assert!(bench.err("bash", json!({"command": "set -e; C=kept; IFS=,; false; C=not"})).await.contains("exit code 1"));
    assert!(bench.err("bash", json!({"command": "D=$C; exit 3"})).await.contains("exit code 3"));
    assert_eq!(run("set -xuC; trap 'echo own trap' EXIT; false; E=$D").await.lines().last(), Some("own trap"));
    assert_eq!(
        run("false; echo \"$E $-\"; cd - >/dev/null; pwd").await.replace(&*bench.directory.path().to_string_lossy(), "ROOT"),
        "kept hBc\nROOT\n[working directory: .]"
    );
    run("f() { echo new; }; unset A; pwd() { echo mine; }; compgen() { false; }; export -f f").await;
    assert_eq!(run("f; echo ${A-gone}; bash -c f").await, "new\ngone\nnew");
    let job = bench.ok("bash", json!({"command": "f; echo $E", "background": true})).await;
    assert!(job.contains("background job 1"), "{job}");
    assert!(bench.ok("job_output", json!({"id": 1, "wait_s": 10})).await.starts_with("new\nkept\n"));
}

#[tokio::test]
async fn a_state_that_is_lost_or_too_large_costs_nothing_else() {
    let bench = Bench::new();
    let run = async |command: &str| bench.ok("bash", json!({ "command": command })).await;
    run("A=1; mkdir sub; cd sub").await;
    let timed_out = bench.err("bash", json!({"command": "A=2; cd /; sleep 600", "timeout_s": 1})).await;
    assert!(timed_out.contains("what it set is not kept"), "{timed_out}");
    assert_eq!(run("echo $A; basename \"$PWD\"").await, "1\nsub");
    run("exec true").await;
    assert_eq!(run("echo $A").await, "1");
    let large = run("BIG=$(printf '%05000000d' 0); A=3").await;
    assert!(large.contains("more than 4194304, and were not kept"), "{large}");
    assert_eq!(run("echo $A ${#BIG}").await, "1 0");
    run("rm -rf \"$(dirname \"$(ls -d ${TMPDIR:-/tmp}/aedile-shell-*/state | head -1)\")\"/*; A=4").await;
    assert!(!run("ls; A=5").await.contains("command not found"));
    assert_eq!(run("echo $A").await, "5");
}

#[tokio::test]
async fn the_whole_of_a_long_output_stands_in_a_file() {
    let bench = Bench::new();
    let text = bench.ok("bash", json!({"command": "echo first; seq 1 100000; echo last"})).await;
    let path = text.split("[the whole output is in ").nth(1).and_then(|rest| rest.split(';').next()).unwrap().to_owned();
    let page = bench.ok("read", json!({"path": path, "offset": 50_001, "limit": 2})).await;
    assert!(page.starts_with(" 50001\t50000\n 50002\t50001\n"), "{page}");
    assert!(bench.ok("grep", json!({"path": path, "pattern": "^last$"})).await.contains(":100002:last"));
    let flood = bench.ok("bash", json!({"command": "yes 0123456789 | head -c 20000000"})).await;
    assert!(flood.contains("the beginning of the output, up to 16 MiB, is in"), "{flood}");
    for _ in 0..8 {
        bench.ok("bash", json!({"command": "seq 1 100000"})).await;
    }
    assert!(!std::path::Path::new(&path).exists(), "only the last outputs are kept");
    let directory = std::path::Path::new(&path).parent().unwrap().to_owned();
    assert!(directory.exists());
    drop(bench);
    assert!(!directory.exists(), "nothing stays behind");
}

#[tokio::test]
async fn a_job_is_waited_for_filtered_and_its_end_is_told_once() {
    let bench = Bench::new();
    let notice = || bench.tools.iter().filter_map(|tool| tool.notice()).collect::<Vec<_>>();
    let command =
        "echo starting; while [ ! -e go ]; do sleep 0.05; done; echo listening on 80; while [ ! -e end ]; do sleep 0.05; done; exit 4";
    bench.ok("bash", json!({"command": command, "background": true})).await;
    let none = bench.ok("job_output", json!({"id": 1, "wait_s": 1, "filter": "listening"})).await;
    assert!(none.starts_with("[0 of ") && none.ends_with("[job 1: running]"), "{none}");
    bench.put("go", "");
    let ready = bench.ok("job_output", json!({"id": 1, "wait_s": 60, "filter": "^listening"})).await;
    assert_eq!(ready, "listening on 80\n[1 of 1 new lines match]\n[job 1: running]");
    assert!(notice().is_empty());
    bench.put("end", "");
    let mut told = Vec::new();
    eventually("the job ends", || {
        told = notice();
        !told.is_empty()
    })
    .await;
    assert!(told[0].starts_with("Background job 1 has ended (exit code 4): echo starting;"), "{told:?}");
    assert!(notice().is_empty(), "it is told once");
    assert!(bench.err("job_output", json!({"id": 1, "filter": "("})).await.contains("`filter` is not a usable"));
}
