//! What is recorded of an agent: `aedile logs` and `aedile transcript`.

use crate::control::release;
use crate::scenario::{LIMIT, Scenario, bash, hold, submit, task, turn, write};

/// An agent that is killed in its first turn, goes on, is held up, and lands.
fn killed_and_going_on() -> (Scenario, aedile_testkit::environment::Background, std::path::PathBuf) {
    let scenario = Scenario::new();
    let says = bash("echo oops >&2; printf 'it says \\033[2J hello\\n'; exit 3");
    let turns = [
        turn(None, &[bash("seq 1 700"), says]),
        turn(None, &[bash("kill -9 $PPID")]),
        turn(Some("not finished"), &[hold("one")]),
        turn(None, &[write("one", "ok"), submit("Write the part")]),
    ];
    scenario.tasks(&format!("goal = \"Parts\"\n{}", task("one", "", &turns)));
    let worker = scenario.start(&[]);
    let go = scenario.held("one");
    (scenario, worker, go)
}

#[test]
fn an_agents_lives_and_turns_are_told() {
    let (scenario, worker, go) = killed_and_going_on();
    let words = |args: &str| scenario.run(&args.split(' ').collect::<Vec<_>>());
    let under_way = words("transcript ada");
    assert!(under_way.success().contains("== turn 2, ") && under_way.stdout.contains("under way"), "{}", under_way.stdout);
    let follower = scenario.env.start(scenario.command(&["logs", "ada", "--follow"]));
    follower.wait_for_stdout("ada goes on with it", LIMIT);
    release(&go);
    worker.wait(LIMIT).success();
    follower.wait_for_stdout("landed on aedile/main", LIMIT);

    let log = words("logs ada");
    let places: Vec<usize> = [
        "ada takes it up",
        "turn 1 of ada broke off",
        "ada ended",
        "ada goes on with it",
        "ada submitted",
        "gate test green",
        "landed on aedile/main",
    ]
    .iter()
    .map(|part| log.success().find(part).unwrap_or_else(|| panic!("{part} is not in: {}", log.stdout)))
    .collect();
    assert!(places.is_sorted() && !log.stdout.contains('\u{1b}'), "{}", log.stdout);
    let lines: Vec<serde_json::Value> =
        words("logs ada --json").success().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(lines.iter().any(|line| line["type"] == "turn_ended" && line["stderr"] == ""), "{lines:?}");

    let told = words("transcript ada");
    for part in [
        "ada on one: ",
        "== turn 1, ",
        "broke off",
        "requests, ",
        "> You are ada",
        "] failed\n    ",
        "oops",
        "it says \\x1b[2J hello",
        "was not finished",
        "== turn 2, ",
        "ended by itself",
        "> You were interrupted",
    ] {
        assert!(told.success().contains(part), "{part}: {}", told.stdout);
    }
    assert!(!told.stdout.contains('\u{1b}') && !told.stdout.contains("    350\n"), "cut and safe: {}", told.stdout);
    let object = words("transcript ada --json").last_json();
    let turns = object["turns"].as_array().unwrap();
    assert_eq!((turns.len(), &turns[0]["stop"], &turns[1]["stop"]), (2, &"failed".into(), &"end_turn".into()), "{object}");
    assert!(turns[0]["events"].to_string().contains("350\\n"), "everything is in the JSON");
    assert!(turns[1]["requests"].as_u64().unwrap() >= 2 && turns[1]["usd"].is_number(), "{object}");
    for args in ["transcript adda", "logs adda"] {
        let unknown = words(args);
        assert!(unknown.expect_code(2).contains("did you mean `ada`?"), "{}", unknown.stderr);
    }
}
