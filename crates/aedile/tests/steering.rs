//! A person lets runs rest, go on and stop, and changes tasks.

use std::time::Duration;

use aedile_testkit::environment::Finished;
use aedile_testkit::wait_for;
use serde_json::Value;

use crate::control::release;
use crate::scenario::{LIMIT, Scenario, bash, hold, submit, task, turn, write};

fn words(scenario: &Scenario, args: &str) -> Finished {
    scenario.run(&args.split(' ').collect::<Vec<_>>())
}

fn state(scenario: &Scenario) -> Value {
    words(scenario, "status --json").last_json()["runs"][0].take()
}

/// Two tasks for one agent at a time; the first is held up.
fn two_in_a_row() -> Scenario {
    let scenario = Scenario::new();
    let one = task("one", "", &[turn(None, &[hold("one")]), turn(None, &[write("one", "ok"), submit("Write one")])]);
    let two = task("two", "", &[turn(None, &[write("two", "ok"), submit("Write two")])]);
    scenario.tasks(&format!("goal = \"Parts\"\n{one}{two}"));
    scenario
}

#[test]
fn a_paused_run_starts_nothing_lands_what_is_submitted_and_goes_on() {
    let scenario = two_in_a_row();
    let mut worker = scenario.start(&["--agents", "1"]);
    let go = scenario.held("one");
    let paused = words(&scenario, "run pause");
    assert!(paused.success().contains(&format!("process {} waits", worker.id())), "{}", paused.stdout);
    assert!(words(&scenario, "run pause").expect_code(1).contains("no run is running"));
    release(&go);
    wait_for("the landing of what was submitted", LIMIT, || (!scenario.events_of("landed").is_empty()).then_some(()));
    wait_for("the end of the agent", LIMIT, || (!scenario.events_of("agent_ended").is_empty()).then_some(()));
    let run = state(&scenario);
    assert_eq!((&run["state"], &run["tasks"][0]["state"], &run["tasks"][1]["state"]), (&"paused".into(), &"landed".into(), &"open".into()));
    assert!(run["tasks"][1]["waits_for"].as_str().unwrap().contains("aedile run resume"), "{run}");
    let said = words(&scenario, "status");
    assert!(said.success().contains("paused since ") && !said.stdout.contains("no worker"), "{}", said.stdout);
    assert!(worker.is_running() && scenario.events_of("task_claimed").len() == 1);
    let resumed = words(&scenario, "run resume");
    assert!(resumed.success().contains(&format!("goes on; process {} drives it", worker.id())), "{}", resumed.stdout);
    assert!(worker.wait(LIMIT).success().contains("2 of 2 landed"));
    assert!(words(&scenario, "run stop").expect_code(1).contains("no run is running or paused"));
    scenario.env.assert_nothing_left();
}

#[test]
fn a_paused_run_whose_worker_died_is_resumed_by_a_new_one() {
    let scenario = two_in_a_row();
    let worker = scenario.start(&["--agents", "1"]);
    let go = scenario.held("one");
    words(&scenario, "run pause").success();
    release(&go);
    wait_for("the landing of what was submitted", LIMIT, || (!scenario.events_of("landed").is_empty()).then_some(()));
    worker.kill_9();
    let said = words(&scenario, "status");
    assert!(said.success().contains("paused since ") && said.stdout.contains("no worker drives it"), "{}", said.stdout);
    let resumed = words(&scenario, "run resume");
    assert!(resumed.success().contains("2 of 2 landed"), "{}", resumed.stdout);
    scenario.env.assert_nothing_left();
}

#[test]
fn a_run_is_stopped_from_outside_with_and_without_a_worker() {
    let scenario = two_in_a_row();
    let worker = scenario.start(&["--agents", "1"]);
    scenario.held("one");
    let stopped = words(&scenario, "run stop --now --json").last_json();
    assert_eq!((&stopped["state"], &stopped["worker"]), (&"stopping".into(), &format!("process {}", worker.id()).into()), "{stopped}");
    worker.wait(Duration::from_secs(30)).expect_code(3);
    assert_eq!(state(&scenario)["state"], "stopped");
    assert!(words(&scenario, "run stop").expect_code(1).contains("no run is running or paused"));

    let again = scenario.env.start(scenario.command(&["run", "--resume"]));
    wait_for("the next life of the agent", LIMIT, || (scenario.events_of("agent_started").len() == 2).then_some(()));
    again.kill_9();
    let left = words(&scenario, "run stop");
    assert!(left.success().contains("no worker drove it any more"), "{}", left.stdout);
    assert_eq!(state(&scenario)["state"], "stopped");
    for (args, code, part) in [
        ("run pause zzzz", 2, "zzzz"),
        ("run stop zzzz", 2, "zzzz"),
        ("run resume zzzz", 2, "zzzz"),
        ("run", 2, "--tasks"),
        ("run --tasks x pause", 2, "cannot be used with"),
    ] {
        assert!(words(&scenario, args).expect_code(code).contains(part), "{args}");
    }
}

#[test]
fn a_task_is_changed_while_nobody_works_on_it_and_its_agent_is_told() {
    let scenario = Scenario::new();
    let wide = bash("printf 'ok one\\n' > parts/one.txt; printf 'ok wide\\n' > parts/wide.txt");
    let one = task("one", "", &[turn(None, &[hold("one")]), turn(Some("A person has changed the task"), &[wide, submit("Write both")])]);
    let two = task("two", "\"one\"", &[turn(None, &[write("two", "ok"), submit("Write two")])]);
    scenario.tasks(&format!("goal = \"Parts\"\n{one}{two}"));
    let worker = scenario.start(&[]);
    scenario.held("one");
    let refused = words(&scenario, "task edit one --title Wider");
    assert!(
        refused.expect_code(1).contains("an agent works on it") && refused.stderr.contains("aedile mail send ada"),
        "{}",
        refused.stderr
    );
    let other = words(&scenario, "task edit two --title Second --budget-usd 3 --json").last_json();
    assert_eq!((&other["task"]["title"], &other["told_to_agent"]), (&"Second".into(), &false.into()), "{other}");
    words(&scenario, "run stop --now").success();
    worker.wait(Duration::from_secs(30)).expect_code(3);

    let cases: [(&[&str], i32, &str); 8] = [
        (&["one"], 2, "--prompt"),
        (&["one", "--after", "two"], 1, "circle"),
        (&["one", "--after", "zero"], 1, "`zero`, which is no task"),
        (&["one", "--scope", "../x"], 1, "leave"),
        (&["one", "--prompt", " "], 1, "prompt is empty"),
        (&["one", "--model", "x"], 2, "PROVIDER/MODEL"),
        (&["one", "--budget-usd", "-1"], 2, "--budget-usd"),
        (&["onne", "--title", "x"], 2, "did you mean `one`?"),
    ];
    for (args, code, part) in cases {
        let refused = scenario.run(&[&["task", "edit"], args].concat());
        assert!(refused.expect_code(code).contains(part), "{args:?}: {}", refused.stderr);
    }
    let changed =
        scenario.run(&["task", "edit", "one", "--prompt", "Write two parts.", "--scope", "parts/one.txt", "--scope", "parts/wide.txt"]);
    assert!(changed.success().contains("its agent is told") && changed.stdout.contains("aedile run --resume"), "{}", changed.stdout);
    words(&scenario, "run --resume").success();
    let parts: Vec<String> = scenario.parts("aedile/main").into_iter().map(|(name, _)| name).collect();
    assert_eq!(parts, ["parts/one.txt", "parts/two.txt", "parts/wide.txt"]);
    assert_eq!(scenario.events_of("task_edited").len(), 2);
    assert!(words(&scenario, "task edit one --title x").expect_code(1).contains("it is closed"));
    assert!(words(&scenario, "transcript ada").success().contains("> Write two parts."));
}

#[test]
fn a_cancelled_task_of_a_run_without_a_worker_says_what_it_waits_for() {
    let scenario = two_in_a_row();
    let worker = scenario.start(&["--agents", "1"]);
    scenario.held("one");
    worker.kill_9();
    let said = words(&scenario, "task cancel one");
    assert!(said.success().contains("no worker drives run") && said.stdout.contains("aedile run --resume"), "{}", said.stdout);
    assert!(state(&scenario)["tasks"][0]["waits_for"].as_str().unwrap().contains("cancellation"));
    let ended = words(&scenario, "run --resume");
    ended.expect_code(3);
    assert!(ended.stdout.contains("1 of 2 landed") && ended.stdout.contains("one is cancelled"), "{}", ended.stdout);
    scenario.env.assert_nothing_left();
}
