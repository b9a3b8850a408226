//! Runs in which Claude Code and our own agent work side by side, with a person who writes to them and a worker that dies.

use std::path::Path;

use aedile_testkit::{Conversation, ScriptedServer, Step};
use serde_json::json;

use crate::scenario::{LIMIT, Scenario};

const KEY: &str = "sk-ant-real-key-of-the-person";

/// Two tasks without a script: one for each runtime, both through the scripted model server.
const TASKS: &str = r#"
goal = "Two parts by two kinds of agents"
[[task]]
id = "theirs"
prompt = "task-theirs: write the part theirs."
scope = ["parts/theirs.txt", "parts/theirs.*"]
runtime = "claude"
[[task]]
id = "ours"
prompt = "task-ours: write the part ours."
scope = ["parts/ours.txt"]
runtime = "aedile"
"#;

fn hold(tool: &str, name: &str) -> Step {
    let command =
        format!("touch parts/{name}.held; until [ -e parts/{name}.go ]; do sleep 0.05; done; rm -f parts/{name}.held parts/{name}.go");
    Step::tool(tool, json!({ "command": command }))
}

fn conversations() -> Vec<Conversation> {
    let bash = |command: &str| Step::tool("Bash", json!({ "command": command }));
    let knows = |step: Step| {
        step.expect(|request| match request.text() {
            text if text.contains("You were interrupted") && text.contains("touch parts/theirs.held") => Ok(()),
            text => Err(format!("the history of the killed life is not there:\n{text}")),
        })
    };
    vec![
        Conversation::about("task-theirs")
            .step(hold("Bash", "theirs").expect_tool("Bash").expect_header_value("x-api-key", KEY))
            // The worker was killed here; a new life goes on with the same session.
            .step(knows(hold("Bash", "theirs")))
            .step(bash("echo ok blue > parts/theirs.txt && aedile submit -m 'Write the part theirs'").expect_latest("use the word blue"))
            .afterwards(Step::text("I have submitted it.")),
        Conversation::about("task-ours")
            .step(Step::tool("write", json!({ "path": "parts/ours.txt", "content": "ok ours\n" })))
            .step(Step::tool("submit", json!({ "summary": "Write the part ours" })))
            .afterwards(Step::text("It is submitted.")),
    ]
}

/// Whether a session that Claude Code keeps in the directory, or in one below, holds the words. It writes down what was said a moment later.
fn is_kept(dir: &Path, words: &str) -> bool {
    std::fs::read_dir(dir).into_iter().flatten().flatten().any(|entry| {
        let path = entry.path();
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => is_kept(&path, words),
            Ok(kind) if kind.is_file() && path.extension().is_some_and(|end| end == "jsonl") => {
                std::fs::read_to_string(&path).is_ok_and(|text| text.contains(words))
            }
            _ => false,
        }
    })
}

#[test]
fn two_kinds_of_agents_land_side_by_side_through_a_kill_and_a_message_in_mid_turn() {
    if !super::has_claude("two_kinds_of_agents_land_side_by_side_through_a_kill_and_a_message_in_mid_turn") {
        return;
    }
    let mut scenario = Scenario::new();
    scenario.tasks(TASKS);
    let server = ScriptedServer::start(conversations());
    scenario.env.var("AEDILE_ANTHROPIC_BASE_URL", server.url()).var("ANTHROPIC_API_KEY", KEY);
    let worker = scenario.start(&["--model", "anthropic/claude-sonnet-4-5", "--agents", "2"]);
    scenario.held("theirs");
    let state = scenario.env.state();
    aedile_testkit::wait_for("the session of the first life", LIMIT, || is_kept(&state, "touch parts/theirs.held").then_some(()));
    worker.kill_9();

    let mut resume = scenario.command(&["run", "--resume"]);
    resume.args(["--json"]);
    std::fs::remove_file(scenario.held("theirs").with_extension("held")).unwrap();
    let worker = scenario.env.start(resume);
    let go = scenario.held("theirs");
    let agent = scenario.events_of("task_claimed").iter().rev().find_map(|event| event["agent"].as_str().map(str::to_owned)).unwrap();
    assert!(!agent.is_empty());
    let names = scenario.run(&["agent", "list", "--json"]).last_json();
    let claude =
        names["agents"].as_array().unwrap().iter().find(|agent| agent["task"] == "theirs").unwrap()["agent"].as_str().unwrap().to_owned();
    scenario.run(&["mail", "send", &claude, "--subject", "Colour", "--body", "use the word blue"]).success();
    // It is taken to the agent within the turn, not after it: the turn ends only when the test lets it go on.
    aedile_testkit::wait_for("the mail to be handed over", LIMIT, || (!scenario.events_of("mail_claimed").is_empty()).then_some(()));
    std::fs::write(&go, "").unwrap();
    let finished = worker.wait(LIMIT);
    assert_eq!(server.failures(), Vec::<String>::new());
    finished.expect_code(0);
    assert_eq!(scenario.repo.show("aedile/main", "parts/theirs.txt"), "ok blue\n");
    assert_eq!(scenario.repo.show("aedile/main", "parts/ours.txt"), "ok ours\n");
    let mail = scenario.run(&["mail", "list", "--json"]).last_json();
    assert_eq!(mail["mail"][0]["acked"], true, "{mail}");
    let spent = scenario.events_of("spend_settled").iter().map(|event| event["usd"].as_u64().unwrap()).sum::<u64>();
    assert!(spent > 0, "what Claude Code used is in the books");
    let log = scenario.run(&["events"]);
    assert!(!log.success().contains(KEY), "no key in the log");
    server.finish();
    scenario.env.assert_nothing_left();
}
