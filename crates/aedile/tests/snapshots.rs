//! What agents saved and submitted, shown and given back: `aedile snapshot` and `aedile diff`.

use std::os::unix::fs::PermissionsExt as _;

use serde_json::Value;

use crate::control::{person_commits_on_main, release};
use crate::scenario::{LIMIT, Scenario, bash, hold, says, submit, task, turn, write};

/// Everything that a first turn may leave: a file with terminal codes, a program, a link, one too large, a pipe.
const MESS: &str = "printf 'ok \\033[31mred\\033[0m\\n' > parts/one.txt; printf '#!/bin/sh\\n' > parts/run; chmod +x parts/run; ln -s /etc/passwd parts/link; truncate -s 70M parts/big; mkfifo parts/pipe; mkdir parts/deep; echo untracked > parts/deep/new";

/// A run whose only task left a mess in its first turn and landed with its second.
fn two_turns() -> Scenario {
    let scenario = Scenario::new();
    let tidy = bash("rm -r parts/run parts/link parts/big parts/pipe parts/deep");
    let turns = [
        turn(None, &[bash(MESS)]),
        says(None, "Half of it is there."),
        turn(Some("Your turn has ended"), &[tidy, write("one", "ok second"), submit("Write the part")]),
    ];
    scenario.tasks(&format!("goal = \"Parts\"\n{}", task("one", "", &turns)));
    scenario.finish(&[]).success();
    scenario
}

#[test]
fn a_snapshot_with_a_secret_is_marked_and_handed_out_only_when_the_person_says_so() {
    let scenario = Scenario::new();
    let value = scenario.env.work().join("value");
    std::fs::write(&value, "open-sesame-4711\n").unwrap();
    let mut set = scenario.command(&["secret", "set", "deploy"]);
    set.stdin(std::fs::File::open(&value).unwrap());
    scenario.env.run_command(set, LIMIT).success();
    let leak = bash("printf 'open-%s\\n' sesame-4711 > parts/one.txt");
    let turns = [turn(None, &[leak]), says(None, "It is there.")];
    scenario.tasks(&format!("goal = \"Parts\"\n{}", task("one", "", &turns)));
    let said = scenario.finish(&[]);
    said.expect_code(3);
    assert_eq!(said.stdout.matches("parts/one.txt [secret.deploy]").count(), 1, "{}", said.stdout);
    let listed = words(&scenario, "snapshot list --json").last_json();
    assert_eq!(listed["snapshots"][0]["secrets"], serde_json::json!(["parts/one.txt [secret.deploy]"]), "{listed}");
    assert!(words(&scenario, "snapshot list").success().contains("holds secrets: parts/one.txt [secret.deploy]"));
    for args in ["snapshot restore one --to ../back", "snapshot diff one --raw"] {
        let refused = words(&scenario, args);
        let said = refused.expect_code(8);
        assert!(said.contains("parts/one.txt [secret.deploy]") && said.contains("--despite-secrets"), "{said}");
        assert!(!refused.stdout.contains("sesame") && !scenario.env.work().join("back").exists());
    }
    let shown = words(&scenario, "snapshot diff one");
    assert!(shown.success().contains("[secret deploy]") && !shown.stdout.contains("sesame-4711"), "{}", shown.stdout);
    assert!(words(&scenario, "snapshot diff one --raw --despite-secrets").success().contains("+open-sesame-4711"));
    words(&scenario, "snapshot restore one --to ../back --despite-secrets").success();
    assert!(std::fs::read_to_string(scenario.env.work().join("back/parts/one.txt")).unwrap().contains("open-sesame-4711"));
}

fn words(scenario: &Scenario, args: &str) -> aedile_testkit::environment::Finished {
    scenario.run(&args.split(' ').collect::<Vec<_>>())
}

#[test]
fn a_turn_is_shown_and_written_where_the_person_says() {
    let scenario = two_turns();
    let checkout = || (scenario.repo.git(&["status", "--porcelain"]), scenario.repo.head(), scenario.repo.git(&["stash", "list"]));
    let before = checkout();
    let listed = words(&scenario, "snapshot list --json").last_json();
    let turns: Vec<u64> = listed["snapshots"].as_array().unwrap().iter().map(|saved| saved["turn"].as_u64().unwrap()).collect();
    assert_eq!(turns, [1, 2], "{listed}");
    assert_eq!(listed["snapshots"][0]["only_by_name"].as_array().map(Vec::len), Some(2), "{listed}");
    assert!(words(&scenario, "snapshot list one").success().contains("2 only by name"));

    let first = words(&scenario, "snapshot diff one 1");
    assert!(first.success().contains("+ok \\x1b[31mred\\x1b[0m") && !first.stdout.contains('\u{1b}'), "{}", first.stdout);
    assert!(first.stdout.contains("new file mode 100755") && first.stdout.contains("parts/deep/new"), "{}", first.stdout);
    let between = words(&scenario, "snapshot diff one 1 2");
    assert!(between.success().contains("+ok second") && between.stdout.contains("deleted file mode 120000"), "{}", between.stdout);
    let all = words(&scenario, "snapshot diff one");
    assert!(all.success().contains("+ok second") && !all.stdout.contains("deep"), "{}", all.stdout);
    assert!(words(&scenario, "snapshot diff one 0 1 --stat").success().contains("4 files changed"));
    let counted = words(&scenario, "snapshot diff one 2 --stat --json").last_json();
    assert_eq!((&counted["task"], &counted["diff"]), (&"one".into(), &Value::Null), "{counted}");

    let said = words(&scenario, "snapshot restore one 1 --to ../back/here");
    for part in ["turn 1 of one", "only the name", "\"parts/big\" has 73400320 bytes; its git hash is ", "\"parts/pipe\" is no file"] {
        assert!(said.success().contains(part), "{part}: {}", said.stdout);
    }
    let back = scenario.env.work().join("back/here");
    let read = |name: &str| std::fs::read_to_string(back.join(name)).unwrap();
    assert_eq!((read("parts/one.txt").as_str(), read("parts/deep/new").as_str()), ("ok \u{1b}[31mred\u{1b}[0m\n", "untracked\n"));
    assert_eq!(read("notes.md"), "Parts.\n");
    assert_eq!(std::fs::metadata(back.join("parts/run")).unwrap().permissions().mode() & 0o111, 0o111);
    assert_eq!(std::fs::read_link(back.join("parts/link")).unwrap().to_str(), Some("/etc/passwd"));
    assert!(!back.join(".git").exists() && !back.join("parts/big").exists() && !back.join("parts/pipe").exists());
    std::fs::create_dir(scenario.env.work().join("empty")).unwrap();
    let last = words(&scenario, "snapshot restore one --to ../empty --json").last_json();
    assert_eq!((&last["turn"], &last["only_by_name"]), (&2.into(), &Value::Array(Vec::new())), "{last}");
    assert_eq!(std::fs::read_to_string(scenario.env.work().join("empty/parts/one.txt")).unwrap(), "ok second\n");
    assert_eq!(checkout(), before, "the person's checkout");
    scenario.env.assert_nothing_left();
}

#[test]
fn a_restore_names_what_is_in_the_way() {
    let scenario = two_turns();
    let full = scenario.env.work().join("full");
    for name in ["a", "b", "c", "d\u{1b}[2J"] {
        std::fs::create_dir_all(&full).unwrap();
        std::fs::write(full.join(name), "mine\n").unwrap();
    }
    std::os::unix::fs::symlink(scenario.env.state(), scenario.env.work().join("way")).unwrap();
    let state = scenario.env.state().join("new").display().to_string();
    for (to, part) in [
        ("../full", "has files in it (a, b, c and 1 more)"),
        ("../full/a", "is not a directory"),
        (".", "has files in it"),
        (&state, "is in the state directory"),
        ("../way/new", "is in the state directory"),
        (".git/back", "is in a git directory"),
        ("../none/../../x", "holds `..`"),
    ] {
        let refused = scenario.run(&["snapshot", "restore", "one", "--to", to]);
        assert!(matches!(refused.code(), Some(1 | 2)) && refused.stderr.contains(part), "{to}: {}", refused.stderr);
    }
    assert_eq!(std::fs::read_dir(&full).unwrap().count(), 4);
    assert!(!scenario.env.state().join("new").exists() && !scenario.repo.path().join(".git/back").exists());
    for (args, code, part) in [
        ("snapshot restore one 7 --to ../x", 2, "it has those of turn 1, 2"),
        ("snapshot restore onne --to ../x", 2, "did you mean `one`?"),
        ("snapshot diff zzz", 2, "its tasks are: one"),
        ("snapshot list zzz", 2, "there is no task zzz"),
        ("snapshot restore one", 2, "--to"),
        ("snapshot list --run zzzz", 2, "zzzz"),
        ("diff onne", 2, "did you mean `one`?"),
        ("diff one --run zzzz", 2, "zzzz"),
        ("task cancel onne", 2, "did you mean `one`?"),
    ] {
        let refused = words(&scenario, args);
        assert!(refused.expect_code(code).contains(part), "{args}: {}", refused.stderr);
    }
    assert!(!scenario.env.work().join("x").exists());
    words(&scenario, "clean --days 0").success();
    assert!(words(&scenario, "snapshot restore one --to ../x").expect_code(1).contains("no longer kept"));
    assert!(words(&scenario, "snapshot list").success().contains("keeps no snapshot"));
    let landed = words(&scenario, "diff one");
    assert!(landed.success().contains("+ok second"), "what landed stays: {}", landed.stdout);
}

#[test]
fn a_change_is_shown_as_submitted_and_as_landed() {
    let scenario = Scenario::new();
    let both = bash("printf 'ok one\\n' > parts/one.txt; printf 'ok two\\n' > parts/two.txt");
    let turns = [turn(None, &[hold("one")]), turn(None, &[both, submit("Write both")])];
    let early = task("early", "", &[turn(None, &[write("early", "ok early"), submit("Write early")])]);
    let one = task("one", "\"early\"", &turns).replace("[\"parts/one.txt\"]", "[\"parts/**\"]");
    scenario.tasks(&format!("goal = \"Parts\"\n{early}{one}"));
    scenario.repo.branch("mine");
    let worker = scenario.start(&[]);
    let go = scenario.held("one");
    assert!(words(&scenario, "diff one").expect_code(1).contains("has submitted nothing yet"));
    // The person commits half of it meanwhile, so that less lands than was submitted.
    person_commits_on_main(&scenario, "parts/two.txt", "ok two\n");
    release(&go);
    worker.wait(crate::scenario::LIMIT).success();

    let shown = words(&scenario, "diff one");
    let (before, after) = shown.success().split_once("as landed, on ").unwrap();
    assert!(before.contains("as submitted, against ") && before.contains("+ok one") && before.contains("+ok two"), "{before}");
    assert!(after.contains("+ok one") && !after.contains("ok two"), "{after}");
    let same = words(&scenario, "diff early");
    assert_eq!(same.success().matches("+ok early").count(), 1, "the same difference is shown once: {}", same.stdout);
    assert!(same.stdout.contains("landed on main as "), "{}", same.stdout);
    let object = words(&scenario, "diff one --json").last_json();
    assert_eq!(object["submitted"]["files"].as_array().map(Vec::len), Some(2), "{object}");
    assert_eq!(object["landed"]["files"][0], serde_json::json!({ "path": "parts/one.txt", "added": 1, "removed": 0 }), "{object}");
    for name in [object["change"].as_str().unwrap(), &object["landed"]["to"].as_str().unwrap()[..10]] {
        assert_eq!(scenario.run(&["diff", name]).success(), shown.stdout, "{name}");
    }
    assert!(words(&scenario, "landing list").success().contains(&object["change"].as_str().unwrap()[28..]));
    let raw = words(&scenario, "diff early --raw");
    std::fs::write(scenario.env.work().join("early.patch"), raw.success()).unwrap();
    scenario.repo.git(&["apply", "--check", "../early.patch"]);
    assert!(words(&scenario, "diff one --stat").success().contains("1 file changed"));
}
