//! The main job, as the README's second command runs it.

use std::time::Duration;

use aedile_testkit::environment::User;
use aedile_testkit::{TempRepo, TestEnvironment};

const LIMIT: Duration = Duration::from_secs(120);

/// Lands everything, leaves nothing behind, and the kept repository is what the closing object says.
fn demo(user: User, agents: usize) {
    let env = TestEnvironment::for_user(super::program(), user);
    let kept = env.work().join("kept");
    let mut command = env.command();
    command.args(["demo", "--json", "--agents", &agents.to_string(), "--keep"]).arg(&kept);
    let finished = env.run_command(command, LIMIT);
    let last = finished.last_json();
    finished.expect_code(0);
    assert_eq!(last["landed"], agents, "{last}");
    assert_eq!(last["failed"], 0);
    assert_eq!(last["agents"], agents, "each has a task of its own");
    assert!(last["wall_ms"].as_u64().unwrap() > 0);
    let repo = TempRepo::open(&kept);
    assert_eq!(last["repository"].as_str().unwrap(), kept.canonicalize().unwrap().to_string_lossy());
    let range = format!("{}..{}", last["target_before"].as_str().unwrap(), last["target_after"].as_str().unwrap());
    let trailers = repo.git(&["log", "--format=%(trailers:key=Aedile-Task,valueonly,separator=%x2C)", &range]);
    let mut tasks: Vec<&str> = trailers.lines().filter(|line| !line.is_empty()).collect();
    tasks.sort_unstable();
    tasks.dedup();
    assert_eq!(tasks.len(), agents, "{trailers}");
    assert_eq!(repo.git(&["status", "--porcelain"]), "");
    assert!(super::output_of("sh", &["tests/run.sh"], &kept).contains(", 0 failed"));
    env.assert_nothing_left();
}

#[test]
fn five_agents_land_as_the_person_who_runs_the_tests() {
    demo(User::Same, 5);
}

#[test]
fn five_agents_land_as_an_ordinary_user() {
    demo(User::Ordinary, 5);
}

#[test]
fn thirty_agents_land() {
    demo(User::Same, 30);
}

#[test]
fn a_plain_demo_leaves_nothing_and_says_that_it_is_scripted() {
    let env = TestEnvironment::new(super::program());
    let finished = env.run(["demo"]);
    let said = finished.success().to_owned();
    for part in ["scripted", "5 of 5 landed", "goes back: gate `test` was red"] {
        assert!(said.contains(part), "{said}");
    }
    assert!(!env.state().exists(), "the demo has a state of its own");
    env.assert_nothing_left();
}

#[test]
fn what_the_demo_refuses() {
    let env = TestEnvironment::new(super::program());
    env.run(["demo", "--agents", "0"]).expect_code(2);
    env.run(["demo", "--agents", "1000"]).expect_code(2);
    let full = env.work().join("full");
    std::fs::create_dir_all(&full).unwrap();
    std::fs::write(full.join("mine"), "mine").unwrap();
    let finished = env.run(["demo", "--keep", &full.to_string_lossy()]);
    assert!(finished.stderr.contains("not empty"), "{}", finished.stderr);
    assert_eq!(std::fs::read_to_string(full.join("mine")).unwrap(), "mine");
}
