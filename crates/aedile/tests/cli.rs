//! The commands, as their harshest user: what they print, what they refuse, how they end, what they leave alone.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use aedile_testkit::environment::{Finished, User};
use aedile_testkit::{TempRepo, TestEnvironment};
use serde_json::Value;

use super::scenario::{Scenario, submit, task, turn, write};

const LIMIT: Duration = Duration::from_secs(60);

/// An environment with a repository in `work/project`, in which git knows the person.
fn project() -> (TestEnvironment, TempRepo) {
    let env = TestEnvironment::new(super::program());
    let repo = TempRepo::init(&env.work().join("project"));
    repo.git(&["config", "user.name", "Pat Person"]);
    repo.git(&["config", "user.email", "pat@example.org"]);
    (env, repo)
}

/// Asserts how a command ended and that all parts are in what it wrote to stderr; an error is one sentence, then hints.
fn refused(finished: &Finished, code: i32, parts: &[&str]) {
    let said = finished.expect_code(code);
    assert!(said.lines().any(|line| line.starts_with("error: ")), "{said}");
    for part in parts {
        assert!(said.contains(part), "{part:?} is not in: {said}");
    }
}

/// Files with their content, and what is found in them.
type Files = (&'static [(&'static str, &'static str)], &'static [&'static str]);

#[test]
fn init_proposes_what_it_finds_and_commits_only_its_file() {
    let cases: [Files; 4] = [
        (&[("Cargo.toml", "[package]\nname = \"x\"\n")], &["Rust", "cargo test --offline", "\"target\""]),
        (&[("package.json", r#"{"scripts":{"test":"node t.js"}}"#), ("pnpm-lock.yaml", "")], &["pnpm", "pnpm run test"]),
        (&[("go.mod", "module x\n")], &["Go", "go test ./..."]),
        (
            &[(".env", "A=b\n"), ("tests/ca.pem", "CERTIFICATE\n"), (".env.example", "A=\n")],
            &["NO GATE", "names of files for secrets: \".env\". Agents see neither"],
        ),
    ];
    for (files, parts) in cases {
        let (env, repo) = project();
        for (path, text) in files {
            repo.write(path, text);
        }
        let before = repo.commit("first");
        repo.write("staged", "s\n").git(&["add", "staged"]);
        repo.write("loose", "l\n").write("deep/here/x", "x\n");
        // From below the root, too.
        let said = env.run_in(&repo.path().join("deep/here"), ["init", "--yes"]);
        let all = format!("{}{}", said.success(), repo.read("aedile.toml"));
        for part in parts {
            assert!(all.contains(part), "{part}: {all}");
        }
        assert_eq!(repo.git(&["diff", "--name-only", &before, "HEAD"]), "aedile.toml");
        assert_eq!(repo.git(&["log", "-1", "--format=%an <%ae> %cn"]), "Pat Person <pat@example.org> Pat Person");
        assert_eq!(repo.git(&["status", "--porcelain"]), "A  staged\n?? deep/\n?? loose");
        let written = repo.read("aedile.toml");
        refused(&env.run_in(repo.path(), ["init", "--yes"]), 4, &["aedile.toml exists already", "hint: "]);
        assert_eq!(repo.read("aedile.toml"), written);
        assert!(!env.state().exists(), "init keeps no state");
    }
}

#[test]
fn init_changes_nothing_when_it_cannot_do_all() {
    let (env, repo) = project();
    refused(&env.run_in(repo.path(), ["init", "--yes"]), 4, &["has no commit yet", "git commit"]);
    refused(&env.run(["init", "--yes"]), 4, &["is not in a git repository", "git init"]);
    repo.write("Makefile", "test:\n\ttrue\n").commit("first");
    repo.write("staged", "s\n").git(&["add", "staged"]);
    let same = |what: &str| {
        assert_eq!(repo.git(&["status", "--porcelain"]), "A  staged", "{what}");
        assert_eq!(repo.git(&["rev-list", "--count", "HEAD"]), "1", "{what}");
    };
    let finished = env.run_in(repo.path(), ["init"]);
    refused(&finished, 2, &["no terminal", "aedile init --yes"]);
    assert!(finished.stdout.contains("make test"), "it shows the proposal: {}", finished.stdout);
    same("without a terminal");
    assert_eq!(env.run_in(repo.path(), ["init", "--json"]).last_json()["exit_code"], 2);
    repo.git(&["config", "--unset", "user.email"]);
    refused(
        &env.run_in(repo.path(), ["init", "--yes"]),
        7,
        &["does not know who you are", "nothing was written", "git config --global user.name"],
    );
    same("without an identity");
    repo.git(&["config", "user.email", "pat@example.org"]);
    repo.write_executable(".git/hooks/pre-commit", "#!/bin/sh\necho 'the hook says no' >&2\nexit 1\n");
    refused(&env.run_in(repo.path(), ["init", "--yes"]), 7, &["could not be committed", "the hook says no", "git add aedile.toml"]);
    assert_eq!(repo.git(&["rev-list", "--count", "HEAD"]), "1");
    repo.remove(".git/hooks/pre-commit").git(&["rm", "-qf", "aedile.toml"]);
    let done = env.run_in(repo.path(), ["init", "--yes", "--json"]).last_json();
    assert_eq!((&done["commit"], &done["gates"][0]["command"]), (&repo.head().into(), &"make test".into()), "{done}");
}

const HEAD: &str = "goal = \"g\"\n";
const ONE: &str = "[[task]]\nid = \"one\"\nprompt = \"p\"\nscript = [{ text = \"x\" }]\n";

#[test]
fn run_names_what_is_wrong_with_its_files() {
    let (env, repo) = project();
    repo.write("a", "a\n").commit("first");
    let with = |line: &str| format!("{HEAD}{ONE}{line}\n");
    let cases: Vec<(String, &[&str])> = vec![
        (String::new(), &["goal"]),
        ("goal = \"g".to_owned(), &["line 1"]),
        (format!("{HEAD}gaol = 1\n"), &["gaol", "expected"]),
        (HEAD.to_owned(), &["no [[task]]"]),
        (with("prio = 1"), &["prio", "line 6"]),
        (with("after = [\"one\"]"), &["`one`", "after", "itself"]),
        (format!("{}{}", with("after = [\"two\"]"), ONE.replace("one", "two") + "after = [\"one\"]\n"), &["circle", "one -> two -> one"]),
        (with("after = [\"zero\"]"), &["`one`", "`zero`", "no task"]),
        (with("scope = [\"/etc\"]"), &["`one`", "/etc", "relative"]),
        (with("scope = [\"../x\"]"), &["../x", "leave"]),
        (with("scope = [\".git/hooks/**\"]"), &[".git"]),
        (with("scope = [\"\"]"), &["empty", "**"]),
        (with("scope = [\"!x\"]"), &["!x", "exclude"]),
        (with("scope = [\"a//b\"]"), &["a//b"]),
        (with("scope = [\"a[\"]"), &["a["]),
        (format!("{HEAD}{ONE}{ONE}"), &["one", "two tasks"]),
        (with("model = \"acme/x\""), &["acme", "providers are"]),
        (with("model = \"x\""), &["PROVIDER/MODEL"]),
        (with("runtime = \"vi\""), &["vi", "aedile"]),
        (with("budget_usd = -1"), &["budget_usd", "-1"]),
        (format!("{HEAD}[[task]]\nid = \"one\"\nprompt = \"p\"\n"), &["no model", "--model PROVIDER/MODEL"]),
        (format!("{HEAD}[[task]]\nid = \"one two\"\nprompt = \"p\"\n"), &["one two"]),
    ];
    for (text, parts) in cases {
        std::fs::write(env.work().join("tasks.toml"), &text).unwrap();
        let finished = env.run_in(repo.path(), ["run", "--tasks", "../tasks.toml"]);
        refused(&finished, 4, parts);
        refused(&finished, 4, &["../tasks.toml", "hint: ", "docs/tasks-file.md"]);
        let json = env.run_in(repo.path(), ["run", "--tasks", "../tasks.toml", "--json"]).last_json();
        assert!(
            json["error"].as_str().unwrap().contains("../tasks.toml") && json["exit_code"] == 4 && json["hints"][0].is_string(),
            "{json}"
        );
    }
    assert_eq!(env.run(["status", "--json"]).last_json()["runs"], Value::Array(Vec::new()), "nothing of it became a run");
    refused(&env.run_in(repo.path(), ["run", "--tasks", "missing.toml"]), 4, &["missing.toml", "No such file"]);
    std::fs::write(env.work().join("tasks.toml"), with("")).unwrap();
    refused(&env.run(["run", "--tasks", "tasks.toml"]), 4, &["not in a git repository"]);
    for (args, parts) in [
        (&["--agents", "0"][..], &["1 to 64"][..]),
        (&["--agents", "65"], &["1 to 64"]),
        (&["--budget-usd", "-1"], &["--budget-usd"]),
        (&["--model", "x"], &["PROVIDER/MODEL"]),
        (&["--resume"], &["--tasks"]),
        (&["--wrong"], &["--wrong"]),
    ] {
        let mut command = env.command();
        command.current_dir(repo.path()).args(["run", "--tasks", "../tasks.toml"]).args(args);
        refused(&env.run_command(command, LIMIT), 2, parts);
    }
    refused(&env.run_in(repo.path(), ["run", "--resume"]), 1, &["nothing has been run yet", "aedile run --tasks"]);
    assert_eq!(repo.git(&["status", "--porcelain"]), "");
}

#[test]
fn run_judges_by_the_committed_configuration_and_says_so() {
    for (committed, local, part) in [
        ("[budget]\nrun_tokens = 0\n", Some("agents = 3\n"), "aedile.toml"),
        ("colour = 1\n", Some(""), "colour"),
        ("colour = 1\n", None, "is missing in the checkout"),
    ] {
        let (env, repo) = project();
        std::fs::write(env.work().join("tasks.toml"), format!("{HEAD}{ONE}")).unwrap();
        repo.write("aedile.toml", committed).commit("first");
        match local {
            Some(text) => repo.write("aedile.toml", text),
            None => repo.remove("aedile.toml"),
        };
        refused(&env.run_in(repo.path(), ["run", "--tasks", "../tasks.toml"]), 4, &[part]);
    }
    let (env, repo) = project();
    std::fs::write(env.work().join("tasks.toml"), format!("{HEAD}{ONE}")).unwrap();
    repo.write("a", "a\n").commit("first");
    repo.write("aedile.toml", "[[gate]]\nname = \"t\"\ncommand = \"true\"\n");
    let finished = env.run_in(repo.path(), ["run", "--tasks", "../tasks.toml"]);
    let said = finished.expect_code(3);
    for part in ["aedile.toml is not in commit", "no gate is configured", "uncommitted changes"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert!(finished.stdout.contains("without submitting"), "{}", finished.stdout);
}

#[test]
fn commands_before_anything_was_run() {
    let env = TestEnvironment::new(super::program());
    for (args, json) in [
        ("status", r#"{"runs":[],"disk":{"bytes":0,"complete":true}}"#),
        ("costs", r#"{"costs":[],"usd":0.0,"tokens":0,"reserved_usd":0.0}"#),
        ("task", r#"{"run":null,"tasks":[]}"#),
        ("task list", r#"{"run":null,"tasks":[]}"#),
        ("agent", r#"{"run":null,"agents":[]}"#),
        ("agent list", r#"{"run":null,"agents":[]}"#),
        ("mail list", r#"{"mail":[]}"#),
        ("mail read", r#"{"mail":[]}"#),
        ("landing", r#"{"run":null,"landing_ref":null,"tip":null,"changes":[]}"#),
    ] {
        let words: Vec<&str> = args.split(' ').collect();
        assert!(env.run(&words).success().contains("nothing"), "{args}");
        let expected: Value = serde_json::from_str(json).unwrap();
        assert_eq!(env.run(words.iter().chain(&["--json"])).last_json(), expected, "{args}");
    }
    let cleaned = env.run(["clean", "--json"]).last_json();
    assert_eq!(cleaned, serde_json::json!({ "removed": [], "kept": [], "never_began": [], "bytes": 0, "dry_run": false, "days": 14 }));
    for args in ["events", "feed", "events --after 7 --json"] {
        assert_eq!(env.run(args.split(' ')).success(), "", "{args}");
    }
    for args in
        ["task show x", "task retry x", "mail send ada -b hello", "landing evidence x", "run --resume", "store check", "store rebuild"]
    {
        refused(&env.run(args.split(' ')), 1, &["nothing has been run yet", "hint: "]);
        let json = env.run(args.split(' ').chain(["--json"])).last_json();
        assert_eq!((&json["error"], &json["exit_code"]), (&"nothing has been run yet".into(), &1.into()), "{args}");
    }
    for args in ["status", "task", "agent", "landing", "mail list", "costs", "feed"] {
        refused(&env.run(args.split(' ').chain(["--run", "abcd"])), 2, &["abcd"]);
    }
    assert!(!env.state().exists(), "looking makes nothing");
}

/// A finished run of two tasks on a checked-out branch.
fn finished_run() -> Scenario {
    let scenario = Scenario::new();
    let tasks: Vec<String> =
        [("a", ""), ("b", "\"a\"")].map(|(name, after)| task(name, after, &[turn(None, &[write(name, "ok"), submit(name)])])).to_vec();
    scenario.tasks(&format!("goal = \"Two parts\"\n{}", tasks.join("\n")));
    scenario.finish(&[]).expect_code(0);
    scenario
}

fn keys(value: &Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

#[test]
fn commands_after_a_run() {
    let scenario = finished_run();
    let json = |args: &str| scenario.run(&args.split(' ').chain(["--json"]).collect::<Vec<_>>()).last_json();
    let status = json("status");
    let run = &status["runs"][0];
    assert_eq!(
        (&run["state"], &run["goal"], run["tasks"].as_array().unwrap().len()),
        (&"ended".into(), &"Two parts".into(), 2),
        "{status}"
    );
    assert!(status["disk"]["bytes"].as_u64().unwrap() > 0);
    for key in ["id", "title", "state", "since", "waits_for", "agent", "turn", "attempt", "returns", "landed", "why", "tokens", "usd"] {
        assert!(keys(&run["tasks"][0]).contains(&key), "{key}");
    }
    for (args, list, count) in
        [("task", "tasks", 2), ("landing", "changes", 2), ("agent", "agents", 1), ("costs", "costs", 2), ("mail list", "mail", 0)]
    {
        let value = json(args);
        assert!(value[list].as_array().unwrap().len() >= count, "{args}: {value}");
        assert!(args == "costs" || args == "mail list" || value["run"] == run["run"], "{args}: {value}");
    }
    assert_eq!(json("task show a")["task"]["state"], "landed");
    let id = run["run"].as_str().unwrap();
    for id in [id, &id[id.len() - 8..]] {
        assert_eq!(json(&format!("status --run {id}"))["runs"][0]["run"], run["run"]);
    }
    for (args, code, part) in [
        ("task show zz", 2, "its tasks are: a, b"),
        ("task retry a", 1, "a"),
        ("task cancel a", 1, "a"),
        ("landing evidence a", 1, "no change of task a came back"),
        ("mail send nobody -b x", 1, "nobody"),
        ("status --run zzzz", 2, "aedile status --all"),
        ("costs --run zzzz", 2, "zzzz"),
        ("feed --run zzzz", 2, "zzzz"),
        ("sync elsewhere", 7, "elsewhere"),
        ("events --after x", 2, "--after"),
        ("nonsense", 2, "nonsense"),
    ] {
        let words: Vec<&str> = args.split(' ').collect();
        refused(&scenario.run(&words), code, &[part]);
        let value = json(args);
        assert_eq!((value["exit_code"].as_i64(), value["error"].is_string()), (Some(code.into()), true), "{args}: {value}");
    }
    positions_go_on(&scenario);
    for args in ["store check", "store rebuild", "store check", "store stats"] {
        scenario.run(&args.split(' ').collect::<Vec<_>>()).expect_code(0);
    }
    let mut again = json("status");
    again["disk"] = status["disk"].clone();
    assert_eq!(again, status, "rebuilt views are the same");
}

/// `events` prints all, `--after` the rest, each with its position; a reader that leaves does no harm.
fn positions_go_on(scenario: &Scenario) {
    let all = scenario.events();
    let positions: Vec<u64> = all.iter().map(|line| line["position"].as_u64().unwrap()).collect();
    assert!(positions.windows(2).all(|pair| pair[0] < pair[1]) && all.len() > 20);
    for at in [0, 5, positions[all.len() - 2], positions[all.len() - 1], 1 << 40] {
        let rest = scenario.run(&["events", "--json", "--after", &at.to_string()]);
        assert_eq!(rest.success().lines().count(), positions.iter().filter(|position| **position > at).count(), "after {at}");
    }
    for args in [&["events"][..], &["events", "--follow"], &["feed", "--follow", "--all"]] {
        let mut child = scenario.command(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut first = [0; 1];
        std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut first).unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success() && output.stderr.is_empty(), "{args:?}: {output:?}");
    }
}

#[test]
fn sync_moves_forward_or_not_at_all() {
    let scenario = finished_run();
    let (env, repo) = (&scenario.env, &scenario.repo);
    assert_eq!(repo.head(), scenario.before, "the checked-out branch was left alone");
    let untouched = |what: &str, status: &str| {
        assert_eq!((repo.head(), repo.git(&["status", "--porcelain"])), (scenario.before.clone(), status.to_owned()), "{what}");
    };
    repo.write("parts/a.txt", "mine\n");
    refused(&scenario.run(&["sync"]), 7, &["nothing was changed", "parts/a.txt", "hint: "]);
    untouched("an untracked file is in the way", "?? parts/a.txt");
    assert_eq!(repo.read("parts/a.txt"), "mine\n");
    repo.remove("parts/a.txt").git(&["checkout", "-q", "--detach"]);
    refused(&scenario.run(&["sync"]), 2, &["no branch is checked out"]);
    refused(&scenario.run(&["sync", "main"]), 7, &["not checked out"]);
    repo.git(&["checkout", "-q", "main"]);
    // What is not in the way stays as it is.
    repo.write("notes.md", "unfinished\n").write("staged", "s\n").git(&["add", "staged"]);
    scenario.run(&["sync"]).expect_code(0);
    assert_eq!(repo.head(), repo.rev("refs/heads/aedile/main"));
    assert_eq!(repo.git(&["status", "--porcelain"]), " M notes.md\nA  staged");
    assert!(scenario.run(&["sync", "--json"]).last_json()["git"].as_str().unwrap().contains("up to date"));
    refused(&env.run(["sync"]), 4, &["not in a git repository"]);
    repo.git(&["checkout", "-q", "-b", "other"]);
    refused(&scenario.run(&["sync"]), 7, &["nothing has landed for other"]);
}

#[test]
fn clean_removes_what_ended_runs_left_and_keeps_what_landed() {
    let scenario = finished_run();
    let (env, repo) = (&scenario.env, &scenario.repo);
    let tip = repo.rev("refs/heads/aedile/main");
    let run = scenario.run(&["status", "--json"]).last_json()["runs"][0]["run"].as_str().unwrap().to_owned();
    let left = || ["workspaces", "homes"].iter().filter(|kind| env.state().join(kind).join(&run).exists()).count();
    repo.git(&["update-ref", &format!("refs/aedile/keep/{run}/{}", scenario.before), &scenario.before]);
    assert!(left() > 0);
    let kept = scenario.run(&["clean", "--json"]).last_json();
    assert_eq!((&kept["days"], left() > 0), (&14.into(), true), "{kept}");
    let dry = scenario.run(&["clean", "--dry-run", "--days", "0", "--json"]).last_json();
    assert!(left() > 0 && repo.git(&["for-each-ref", "refs/aedile/keep"]).contains(&run), "a dry run changes nothing");
    let done = scenario.run(&["clean", "--days", "0", "--json"]).last_json();
    assert_eq!(dry["removed"], done["removed"]);
    assert!(done["removed"].as_array().unwrap().iter().all(|path| !Path::new(path.as_str().unwrap()).exists()) && left() == 0);
    assert_eq!(repo.git(&["for-each-ref", "refs/aedile/"]), "");
    assert_eq!(repo.rev("refs/heads/aedile/main"), tip);
    assert_eq!(repo.git(&["log", "--format=%s", &format!("{}..{tip}", scenario.before)]).lines().count(), 2);
    for args in
        ["status", "task", "task show a", "agent", "landing", "costs", "mail list", "feed", "events", "store check", "run --resume", "sync"]
    {
        scenario.run(&args.split(' ').collect::<Vec<_>>()).expect_code(0);
    }
    assert_eq!(scenario.run(&["clean", "--days", "0", "--json"]).last_json()["removed"].as_array().unwrap().len(), 0);
    // `[keep] days` holds from anywhere in the project.
    repo.write("aedile.toml", "[keep]\ndays = 3\n");
    assert_eq!(env.run_in(&repo.path().join("parts"), ["clean", "--json"]).last_json()["days"], 3);
    env.assert_nothing_left();
}

#[test]
fn a_task_that_waits_keeps_its_run() {
    let scenario = Scenario::new();
    scenario.tasks(&format!("{HEAD}{ONE}"));
    scenario.finish(&[]).expect_code(3);
    let kept = scenario.run(&["clean", "--days", "0", "--json"]).last_json();
    assert!(kept["kept"][0]["why"].as_str().unwrap().contains("wait"), "{kept}");
    scenario.run(&["task", "cancel", "one"]).expect_code(0);
    scenario.run(&["run", "--resume"]).expect_code(3);
    let done = scenario.run(&["clean", "--days", "0", "--json"]).last_json();
    assert!(done["kept"].as_array().unwrap().is_empty() && !done["removed"].as_array().unwrap().is_empty(), "{done}");
}

#[test]
fn a_state_that_cannot_be_used_is_code_six() {
    let scenario = finished_run();
    let database = scenario.env.state().join("aedile.db");
    let mut bytes = std::fs::read(&database).unwrap();
    let version = bytes[63];
    // SQLite's user_version: here the number of our schema.
    bytes[60..64].copy_from_slice(&4096_u32.to_be_bytes());
    std::fs::write(&database, &bytes).unwrap();
    for args in ["status", "events", "costs", "task", "store check", "run --tasks ../tasks.toml", "run --resume", "clean --days 0"] {
        refused(&scenario.run(&args.split(' ').collect::<Vec<_>>()), 6, &["newer aedile", "version 4096", "upgrade"]);
    }
    assert_eq!(scenario.run(&["doctor", "--json"]).code(), Some(6));
    assert!(std::fs::read(&database).unwrap() == bytes, "the newer state was not touched");
    bytes[60..64].copy_from_slice(&u32::from(version).to_be_bytes());
    std::fs::write(&database, &bytes).unwrap();
    scenario.run(&["status"]).expect_code(0);
    std::fs::write(&database, "no database").unwrap();
    refused(&scenario.run(&["status"]), 6, &["aedile.db", "hint: "]);

    let env = TestEnvironment::for_user(super::program(), User::Ordinary);
    std::fs::write(env.work().join("file"), "").unwrap();
    let repo = TempRepo::init(&env.work().join("project"));
    repo.write("a", "a\n").commit("first");
    std::fs::write(env.work().join("tasks.toml"), format!("{HEAD}{ONE}")).unwrap();
    env.give_to_user();
    for (state, args) in [
        ("/proc/aedile", "run --tasks ../tasks.toml"),
        ("/usr/aedile", "run --tasks ../tasks.toml"),
        ("../file", "run --tasks ../tasks.toml"),
        ("../file", "status"),
        ("../file", "events"),
    ] {
        let mut command = env.command();
        command.env("AEDILE_STATE", state).current_dir(repo.path()).args(args.split(' '));
        let place = state.trim_start_matches("../");
        refused(&env.run_command(command, LIMIT), 6, &[place, "AEDILE_STATE"]);
    }
    let mut command = env.command();
    command.env_remove("AEDILE_STATE").env_remove("XDG_STATE_HOME").env_remove("HOME").arg("status");
    refused(&env.run_command(command, LIMIT), 6, &["AEDILE_STATE", "HOME"]);
    let mut command = env.command();
    command.env_remove("HOME").current_dir(repo.path()).args(["run", "--tasks", "../tasks.toml"]);
    env.run_command(command, LIMIT).expect_code(3);
}

#[test]
fn a_git_that_is_missing_or_old_is_code_seven() {
    let (env, repo) = project();
    repo.write("a", "a\n").commit("first");
    std::fs::write(env.work().join("tasks.toml"), format!("{HEAD}{ONE}")).unwrap();
    let bin = |name: &str, version: Option<&str>| -> PathBuf {
        let dir = TempRepo::init(&env.work().join(name));
        if let Some(version) = version {
            dir.write_executable("git", format!("#!/bin/sh\necho git version {version}\n"));
        }
        dir.path().to_owned()
    };
    for (dir, parts) in [
        (bin("none", None), &["git was not found on PATH", "install git 2.45.1"][..]),
        (bin("old", Some("2.30.2")), &["2.30.2", "install 2.45.1"]),
        (bin("unpatched", Some("2.45.0")), &["2.45.0", "install 2.45.1"]),
        (bin("strange", Some("banana")), &["git"]),
    ] {
        for args in ["init --yes", "run --tasks ../tasks.toml", "sync", "demo"] {
            let mut command = env.command();
            command.env("PATH", &dir).current_dir(repo.path()).args(args.split(' '));
            refused(&env.run_command(command, LIMIT), 7, parts);
        }
        let mut command = env.command();
        command.env("PATH", &dir).args(["doctor", "--json"]);
        let finished = env.run_command(command, LIMIT);
        finished.expect_code(7);
        let report = finished.last_json();
        let git = report["findings"].as_array().unwrap().iter().find(|finding| finding["what"] == "git").unwrap();
        assert!(report["well"] == false && git["good"] == false, "{report}");
    }
    assert_eq!(repo.git(&["status", "--porcelain"]), "");
    env.assert_nothing_left();
}

#[test]
fn doctor_and_help_answer_everybody() {
    for user in [User::Same, User::Ordinary] {
        let env = TestEnvironment::for_user(super::program(), user);
        let report = env.run(["doctor", "--json"]);
        report.expect_code(0);
        let report = report.last_json();
        assert!(report["well"] == true && report["findings"].as_array().unwrap().len() > 5 && report["tools"].is_array(), "{report}");
        assert!(env.run(["doctor"]).success().contains("ok       box: works"));
        env.assert_nothing_left();
    }
    let env = TestEnvironment::new(super::program());
    let listed = env.run(["--help"]);
    let commands: Vec<&str> = listed.success().split_once("Commands:").unwrap().1.split_once("\n\n").unwrap().0.lines().collect();
    let names: Vec<&str> = commands.iter().filter_map(|line| line.split_whitespace().next()).filter(|name| *name != "help").collect();
    assert!(names.len() >= 16, "{names:?}");
    for part in ["Exit codes:", "AEDILE_STATE", "--json"] {
        assert!(listed.stdout.contains(part));
    }
    for name in names {
        let long = env.run([name, "--help"]);
        assert!(long.success().contains(&format!("Usage: aedile {name}")), "{}", long.stdout);
        assert!(!commands.iter().any(|line| line.trim() == name), "{name} has no words in the list");
    }
    for args in [&["--version"][..], &["help"], &["help", "run"], &["sandbox", "exec", "--help"], &["task", "retry", "--help"]] {
        assert!(!env.run(args).success().is_empty());
    }
    env.run::<&str>([]).expect_code(2);
    assert!(!env.state().exists());
}
