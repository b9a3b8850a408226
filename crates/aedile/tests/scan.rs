//! `aedile scan`: lines of JSON in, lines of JSON out.

use aedile_testkit::TestEnvironment;
use aedile_testkit::environment::Finished;
use serde_json::{Value, json};

use super::scenario::{LIMIT, Scenario, bash, hold, submit, task, turn, write};

fn scan(env: &TestEnvironment, args: &[&str], input: impl AsRef<[u8]>) -> Finished {
    let file = env.work().join("in.jsonl");
    std::fs::write(&file, input).unwrap();
    let mut command = env.command();
    command.args(args).stdin(std::fs::File::open(file).unwrap());
    env.run_command(command, LIMIT)
}

fn answers(finished: &Finished) -> Vec<Value> {
    finished.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn texts_are_judged_in_their_order_and_bad_lines_are_told_without_stopping() {
    let env = TestEnvironment::new(super::program());
    // From parts, so that no key stands in this file.
    let key = ["glpat", "-q8Zt2LmP0vRx7KdWb3Nc"].concat();
    let text = format!("caf\u{e9} {key}\nend");
    let good = json!({ "id": 1, "text": "let total = items.iter().sum::<u64>();" });
    let found = json!({ "id": "two", "text": text, "more": true });
    let input = format!("{good}\nnot json\n{found}\n{}\n\n[1]\n{}\n", json!({ "id": 4 }), json!({ "id": null, "text": "" }));
    let finished = scan(&env, &["scan", "secrets"], input);
    let said = finished.expect_code(1);
    assert!(said.contains("not every line was understood"), "{said}");
    let lines = answers(&finished);
    assert_eq!(lines.len(), 6, "{lines:?}");
    assert_eq!(lines[0], json!({ "id": 1, "verdict": "clean", "spans": [] }));
    assert!(lines[1]["id"].is_null() && lines[1]["line"] == 2 && lines[1]["error"].as_str().unwrap().contains("not JSON"), "{}", lines[1]);
    let start = text.find(&key).unwrap();
    let span = json!({ "start": start, "end": start + key.len(), "rule": "gitlab-pat" });
    assert_eq!(lines[2], json!({ "id": "two", "verdict": "block", "spans": [span] }));
    assert!(lines[3]["id"] == 4 && lines[3]["error"].as_str().unwrap().contains("\"text\""), "{}", lines[3]);
    assert!(lines[4]["error"].as_str().unwrap().contains("object"), "{}", lines[4]);
    assert_eq!(lines[5]["verdict"], "clean");

    let finished = scan(&env, &["scan", "secrets"], format!("{good}\n{found}"));
    finished.success();
    assert_eq!(answers(&finished).len(), 2);
    scan(&env, &["scan", "secrets"], "").success();
    scan(&env, &["scan", "secrets"], b"{\"id\":1,\"text\":\"\xff\"}\n").expect_code(1);
    assert!(!env.state().exists(), "a scan keeps no state");
}

#[test]
fn requests_are_decided_over_by_the_files() {
    let env = TestEnvironment::new(super::program());
    let value = "q8Zt2LmP0vRx7KdWb3NcY5Hs";
    let file = |name: &str, text: &str| {
        let path = env.work().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let policy = file("policy.toml", "[[network]]\nid = \"api\"\nhosts = [\"api.example.org\"]\nmethods = [\"GET\", \"POST\"]\n");
    let secrets = file("secrets.toml", &format!("[[secret]]\nname = \"api\"\nvalue = \"{value}\"\nhosts = [\"api.example.org\"]\n"));
    let run = |policy: &str, secrets: &str, input: &str| scan(&env, &["scan", "egress", "--policy", policy, "--secrets", secrets], input);
    let lines = [
        json!({ "id": 1, "method": "GET", "url": "https://API.example.org:443/a/../b", "headers": {}, "body_base64": "" }),
        json!({ "id": 2, "method": "GET", "url": "https://evil.example/" }),
        json!({ "id": 3, "method": "GET", "url": "http://2130706433/" }),
        json!({ "id": 4, "method": "POST", "url": "https://api.example.org/", "headers": { "X-Key": ["a", value] }, "body_base64": null }),
        // The same value, encoded once more.
        json!({ "id": 5, "method": "POST", "url": "https://api.example.org/", "headers": [["A", "b"]], "body_base64": "cThadDJMbVAwdlJ4N0tkV2IzTmNZNUhz" }),
        json!({ "id": 6, "method": "GET", "url": "https://api.example.org/", "headers": { "Authorization": "Bearer aedile-secret-api" } }),
        json!({ "id": 7, "method": "GET" }),
        json!({ "id": 8, "method": "GET", "url": "https://api.example.org/", "body_base64": "not base64!" }),
        json!({ "id": 9, "method": "GET", "url": "https://api.example.org/", "headers": 3 }),
    ];
    let finished = run(&policy, &secrets, &lines.map(|line| line.to_string()).join("\n"));
    let said = finished.expect_code(1);
    assert!(!said.contains(value) && !finished.stdout.contains(value), "{said}");
    let answers = answers(&finished);
    let decided =
        |id: u64, decision: &str, rule: &str, url: Option<&str>| json!({ "id": id, "decision": decision, "rule": rule, "url": url });
    assert_eq!(answers[0], decided(1, "allow", "api", Some("https://api.example.org/b")));
    assert_eq!(answers[1], decided(2, "deny", "policy.default", Some("https://evil.example/")));
    assert_eq!(answers[2], decided(3, "deny", "host.numeric", None));
    assert_eq!(answers[3], decided(4, "deny", "secret.value", Some("https://api.example.org/")));
    assert_eq!(answers[4], decided(5, "deny", "secret.value", Some("https://api.example.org/")));
    assert_eq!(answers[5], decided(6, "allow", "api", Some("https://api.example.org/")));
    for (answer, part) in answers[6..].iter().zip(["\"url\"", "not base64", "\"headers\""]) {
        assert!(answer["error"].as_str().unwrap().contains(part), "{answer}");
    }
    for (policy, secrets, part) in [
        (file("a.toml", "[[network]]\nid = \"a\"\nhost = \"x.org\"\nmethodz = 1\n"), secrets.clone(), "methodz"),
        (policy.clone(), file("b.toml", &format!("[[secret]]\nname = \"a\"\nvalue = \"{value}\"\nplace = \"there\"\n")), "there"),
        (env.work().join("none").to_str().unwrap().to_owned(), secrets.clone(), "cannot be read"),
    ] {
        let refused = run(&policy, &secrets, "");
        let said = refused.expect_code(4);
        assert!(said.contains(part) && !said.contains(value), "{said}");
    }
    run(&file("empty.toml", ""), &file("none.toml", ""), "").success();
}

#[test]
fn a_credential_that_was_met_in_a_run_is_stored_and_shown_nowhere() {
    let scenario = Scenario::new();
    let token = ["glpat", "-q8Zt2LmP0vRx7KdWb3Nc"].concat();
    let found = bash(&format!("echo the token is {token}"));
    let done = turn(None, &[write("one", "ok"), submit(&format!("Write it, not {token}"))]);
    let turns = [turn(None, &[found, hold("one")]), done];
    scenario.tasks(&format!("goal = \"Parts\"\n{}", task("one", "", &turns)));
    let worker = scenario.start(&[]);
    let go = scenario.held("one");
    scenario.run(&["mail", "send", "ada", "--subject", "Key", "--body", &format!("never use {token}")]).success();
    std::fs::write(&go, "").unwrap();
    worker.wait(LIMIT).success();
    for args in [&["events"][..], &["mail", "list", "--json"], &["transcript", "ada"], &["logs", "ada"], &["feed"], &["status"]] {
        let shown = scenario.run(args);
        assert!(!shown.success().contains(&token), "{args:?} shows it: {}", shown.stdout);
    }
    assert!(scenario.run(&["mail", "list", "--json"]).stdout.contains("never use [redacted gitlab-pat]"));
    assert!(scenario.run(&["transcript", "ada"]).stdout.contains("[redacted gitlab-pat]"));
    let message = scenario.repo.git(&["log", "-1", "--format=%B", "aedile/main"]);
    assert!(message.contains("[redacted gitlab-pat]") && !message.contains(&token), "{message}");
    let mut open = vec![scenario.env.state()];
    while let Some(dir) = open.pop() {
        for entry in std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap()) {
            let name = entry.file_name();
            if entry.file_type().unwrap().is_dir() {
                open.push(entry.path());
            } else if name.to_str().is_some_and(|name| name.starts_with("aedile.db")) {
                let bytes = std::fs::read(entry.path()).unwrap();
                assert!(!bytes.windows(token.len()).any(|part| part == token.as_bytes()), "{} holds it", entry.path().display());
            }
        }
    }
}
