//! `aedile undo`: landed changes are taken back through the queue and its gates.

use std::os::unix::process::ExitStatusExt as _;

use aedile_testkit::environment::Finished;
use serde_json::Value;

use crate::control::release;
use crate::scenario::{LIMIT, Scenario, bash, hold, submit, task, turn, write};

/// The crash point of undoing alone; the others are in the tests of crashes.
pub(crate) const CRASH_POINTS: [&str; 1] = ["undo-adopt"];

const TARGET: &str = "refs/heads/aedile/main";

fn words(scenario: &Scenario, args: &str) -> Finished {
    scenario.run(&args.split(' ').collect::<Vec<_>>())
}

/// Tasks that each write their part, one after the other.
fn landed(scenario: &Scenario, names: &[&str]) {
    let tasks: Vec<String> = names
        .iter()
        .enumerate()
        .map(|(at, name)| {
            let after = if at == 0 { String::new() } else { format!("\"{}\"", names[at - 1]) };
            task(name, &after, &[turn(None, &[write(name, &format!("ok {name}")), submit(&format!("Write {name}"))])])
        })
        .collect();
    scenario.tasks(&format!("goal = \"Parts\"\n{}", tasks.concat()));
    scenario.finish(&[]).success();
}

fn names(scenario: &Scenario) -> Vec<String> {
    scenario.parts(TARGET).into_iter().map(|(name, _)| name.trim_start_matches("parts/").trim_end_matches(".txt").to_owned()).collect()
}

#[test]
fn a_change_is_taken_back_beside_a_run_under_way_and_brought_back() {
    let scenario = Scenario::new();
    scenario.repo.git(&["config", "user.name", "Pat Person"]);
    scenario.repo.git(&["config", "user.email", "pat@example.org"]);
    landed(&scenario, &["a", "b"]);
    scenario.tasks(&format!("goal = \"More\"\n{}", task("c", "", &[turn(None, &[hold("c"), write("c", "ok c"), submit("Write c")])])));
    let worker = scenario.start(&[]);
    let go = scenario.held("c");
    let checkout = || (scenario.repo.git(&["status", "--porcelain"]), scenario.repo.head());
    let before = checkout();

    let done = words(&scenario, "undo a");
    for part in ["undo-a: takes back a (", "undo-a: gate test green", "undo-a: landed on aedile/main", "1 of 1 landed", "aedile sync"] {
        assert!(done.success().contains(part), "{part}: {}", done.stdout);
    }
    assert_eq!(names(&scenario), ["b"]);
    let commit = scenario.repo.git(&["log", "-1", "--format=%an|%s|%b", TARGET]);
    assert!(commit.starts_with("Pat Person|Undo: a|Takes back ") && commit.contains("Aedile-Task: undo-a"), "{commit}");
    assert_eq!(checkout(), before, "the person's checkout");
    let listed = words(&scenario, "landing list --json").last_json();
    assert_eq!((&listed["changes"][0]["task"], &listed["changes"][0]["state"]), (&"undo-a".into(), &"landed".into()), "{listed}");
    assert_eq!(scenario.events_of("undo_planned").len(), 1);
    let first = scenario.run(&["landing", "list", "--run", scenario.events_of("run_started")[0]["run"].as_str().unwrap()]);
    assert!(first.success().contains(", taken back by "), "{}", first.stdout);
    release(&go);
    worker.wait(LIMIT).success();
    assert_eq!(names(&scenario), ["b", "c"]);

    assert!(words(&scenario, "undo a").expect_code(1).contains("`aedile undo undo-a` brings it back"));
    assert!(words(&scenario, "diff undo-a").success().contains("deleted file"));
    words(&scenario, "undo undo-a").success();
    assert_eq!(names(&scenario), ["a", "b", "c"]);
    words(&scenario, "undo a --json").success();
    assert_eq!(names(&scenario), ["b", "c"], "what was brought back can be taken back again");
    words(&scenario, "store rebuild").success();
    words(&scenario, "store check").success();
    for (args, code, part) in [
        ("undo aa", 2, "did you mean"),
        ("undo zzzz", 2, "there is no task zzzz"),
        ("undo a --run zzzz", 2, "zzzz"),
        ("task retry undo-a", 1, "is an undo"),
    ] {
        assert!(words(&scenario, args).expect_code(code).contains(part), "{args}");
    }
    scenario.env.assert_nothing_left();
}

#[test]
fn what_was_built_upon_is_named_and_taken_back_with_it() {
    let scenario = Scenario::new();
    let edit = |name: &str, after: &str, line: &str| {
        let turns = [turn(None, &[bash(&format!("echo {line} >> parts/a.txt")), submit(&format!("Add {line}"))])];
        task(name, after, &turns).replace(&format!("parts/{name}.txt"), "parts/a.txt")
    };
    let first = task("a", "", &[turn(None, &[write("a", "ok a"), submit("Write a")])]);
    let other = task("c", "", &[turn(None, &[write("c", "ok c"), submit("Write c")])]);
    scenario.tasks(&format!("goal = \"g\"\n{first}{}{}{other}", edit("b", "\"a\"", "more"), edit("d", "\"b\"", "most")));
    scenario.finish(&[]).success();
    let tip = scenario.repo.rev(TARGET);

    let refused = words(&scenario, "undo a");
    let said = refused.expect_code(1);
    assert!(said.contains("later commits build upon it") && said.contains("\n  b (") && said.contains("\n  d ("), "{said}");
    assert!(!said.contains("\n  c (") && said.contains("--with-dependents"), "{said}");
    assert_eq!((scenario.repo.rev(TARGET), scenario.events_of("undo_planned").len()), (tip, 0), "nothing was begun");
    let done = words(&scenario, "undo a --with-dependents");
    assert!(done.success().contains("3 changes are taken back from aedile/main, newest first"), "{}", done.stdout);
    assert_eq!(names(&scenario), ["c"]);
    assert_eq!(scenario.repo.git(&["log", "-1", "--format=%s", TARGET]), "Undo: a, and 2 built upon it");
    assert!(words(&scenario, "undo d").expect_code(1).contains("taken back already"));

    // What the person built upon is theirs.
    words(&scenario, "sync").success();
    scenario.repo.write("parts/c.txt", "ok c\nmine\n").commit("Mine");
    let refused = words(&scenario, "undo c --with-dependents");
    assert!(refused.expect_code(1).contains("Mine, which is no change of aedile's"), "{}", refused.stderr);
    scenario.repo.git(&["reset", "-q", "--hard", &scenario.before]);
    scenario.repo.git(&["update-ref", "-d", TARGET]);
    assert!(words(&scenario, "undo c").expect_code(1).contains("is not in main any more"));
}

#[test]
fn an_undo_that_turns_a_gate_red_changes_nothing() {
    let gate = "target = \"main\"\n[[gate]]\nname = \"test\"\ncommand = \"test ! -e parts/b.txt || test -e parts/a.txt\"\n";
    let scenario = Scenario::with_config(gate);
    landed(&scenario, &["a", "b"]);
    let tip = scenario.repo.rev(TARGET);
    let red = words(&scenario, "undo a");
    red.expect_code(3);
    assert!(red.stdout.contains("gate test RED") && red.stdout.contains("nothing was taken back"), "{}", red.stdout);
    assert_eq!(scenario.repo.rev(TARGET), tip);
    assert!(words(&scenario, "landing evidence undo-a").success().contains("test ! -e parts/b.txt"));
    assert_eq!(words(&scenario, "status --json").last_json()["runs"][0]["state"], "ended");
    words(&scenario, "undo b").success();
    words(&scenario, "undo a").success();
    assert!(names(&scenario).is_empty());
    scenario.env.assert_nothing_left();
}

#[test]
fn an_undo_that_was_killed_goes_on() {
    for (point, again) in [("gate", "run --resume"), ("before-ref-move", "undo a"), ("after-ref-move", "run --resume")] {
        let scenario = Scenario::new();
        landed(&scenario, &["a", "b"]);
        let mut command = scenario.command(&["undo", "a"]);
        command.env("AEDILE_CRASH_AT", point);
        let died = scenario.env.run_command(command, LIMIT);
        assert_eq!(died.status.signal(), Some(9), "{point}: {}{}", died.stdout, died.stderr);
        let resumed = words(&scenario, again);
        assert!(resumed.success().contains("1 of 1 landed"), "{point}: {}", resumed.stdout);
        assert_eq!(names(&scenario), ["b"], "{point}");
        let undoing = |event: &&Value| event["new"] == scenario.repo.rev(TARGET).as_str();
        assert_eq!(scenario.events_of("landed").iter().filter(undoing).count(), 1, "{point}");
        assert_eq!(scenario.repo.git(&["rev-list", "--count", &format!("{}..{TARGET}", scenario.before)]), "3", "{point}");
        assert!(words(&scenario, "undo a").expect_code(1).contains("taken back already"), "{point}");
        words(&scenario, "store check").success();
        scenario.env.assert_nothing_left();
    }
}

#[test]
fn what_a_killed_undo_kept_is_swept_once_nobody_works() {
    let scenario = Scenario::new();
    landed(&scenario, &["a"]);
    scenario.tasks(&format!("goal = \"More\"\n{}", task("c", "", &[turn(None, &[hold("c"), write("c", "ok c"), submit("Write c")])])));
    let mut command = scenario.command(&["undo", "a"]);
    command.env("AEDILE_CRASH_AT", CRASH_POINTS[0]);
    let died = scenario.env.run_command(command, LIMIT);
    assert_eq!(died.status.signal(), Some(9), "{}{}", died.stdout, died.stderr);
    let project = scenario.events_of("project_added")[0]["project"].as_str().unwrap().to_owned();
    let hub = scenario.env.state().join("hubs").join(format!("{project}.git"));
    let kept = || {
        let of_hub = crate::output_of("git", &["for-each-ref", "--format=%(refname)", "refs/aedile/keep/", "refs/aedile/changes/"], &hub);
        let of_project = scenario.repo.git(&["for-each-ref", "--format=%(refname)", "refs/aedile/keep/"]);
        let known: Vec<String> = ["run_started", "change_submitted"]
            .iter()
            .flat_map(|kind| scenario.events_of(kind))
            .filter_map(|event| event["change"].as_str().or(event["run"].as_str()).map(str::to_owned))
            .collect();
        let stray = |name: &&str| !known.iter().any(|id| name.contains(id.as_str()));
        of_hub.lines().chain(of_project.lines()).filter(stray).map(str::to_owned).collect::<Vec<_>>()
    };
    let strays = kept();
    assert_eq!(strays.len(), 3, "the base in the hub and the project, and the change: {strays:?}");
    let worker = scenario.start(&[]);
    let go = scenario.held("c");
    assert_eq!(words(&scenario, "clean --days 0 --json").last_json()["never_began"], Value::Array(Vec::new()));
    assert_eq!(kept(), strays, "while somebody works it is not told from an undo that is about to begin");
    release(&go);
    worker.wait(LIMIT).success();
    let dry = words(&scenario, "clean --days 99 --dry-run");
    assert!(dry.success().contains("never began"), "{}", dry.stdout);
    assert_eq!(kept(), strays);
    let run = words(&scenario, "clean --days 99 --json").last_json()["never_began"].clone();
    assert!(strays[1].contains(run[0].as_str().unwrap()), "{run} {strays:?}");
    assert_eq!(kept(), Vec::<String>::new());
    words(&scenario, "undo a").success();
    assert_eq!(names(&scenario), ["c"]);
    words(&scenario, "clean --days 0").success();
    assert_eq!(scenario.repo.git(&["for-each-ref", "refs/aedile/"]), "");
    scenario.env.assert_nothing_left();
}

#[test]
fn a_run_that_is_over_does_not_grow_younger_by_a_resume() {
    let scenario = Scenario::new();
    landed(&scenario, &["a"]);
    let before = words(&scenario, "status --json").last_json()["runs"][0].clone();
    let events = scenario.events().len();
    let again = words(&scenario, "run --resume");
    assert!(again.success().contains("1 of 1 landed"), "{}", again.stdout);
    assert_eq!(words(&scenario, "status --json").last_json()["runs"][0], before);
    assert_eq!(scenario.events().len(), events);
}
