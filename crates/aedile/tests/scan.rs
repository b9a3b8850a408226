//! `aedile scan`: lines of JSON in, lines of JSON out.

use std::time::Duration;

use aedile_testkit::TestEnvironment;
use aedile_testkit::environment::Finished;
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(60);

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
