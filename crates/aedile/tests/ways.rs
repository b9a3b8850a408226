//! Promises about what is a person's: their other projects, their keys, their budget, the only copy of a work, and what cannot be taken.

use aedile_testkit::{Conversation, ScriptedServer, Step, TempRepo};
use serde_json::{Value, json};

use crate::scenario::{LIMIT, Scenario, bash, hold, submit, task, turn, write};

/// Names of crash points that this file goes through.
pub(crate) const CRASH_POINTS: [&str; 1] = ["apply"];

const MODEL: &[&str] = &["--model", "anthropic/claude-sonnet-4-5"];
const KEY: &str = "sk-ant-real-key-of-the-person";
/// Nothing in its form says that it is one.
const PLAIN_KEY: &str = "the password of my own server";

fn goal(tasks: &[String]) -> String {
    format!("goal = \"g\"\n{}", tasks.concat())
}

/// A project whose agent is played by these steps.
fn played(scenario: &mut Scenario, steps: Vec<Step>) -> ScriptedServer {
    let conversation = steps.into_iter().fold(Conversation::any(), Conversation::step);
    let server = ScriptedServer::start(vec![conversation.afterwards(Step::text("Done."))]);
    scenario.env.var("AEDILE_ANTHROPIC_BASE_URL", server.url()).var("ANTHROPIC_API_KEY", KEY);
    server
}

fn shell(command: &str) -> Step {
    Step::tool("bash", json!({ "command": command }))
}

fn hand_in(summary: &str) -> Step {
    Step::tool("submit", json!({ "summary": summary }))
}

fn id_of(change: &Value) -> String {
    let id = change.as_str().unwrap();
    id[id.len() - 8..].to_owned()
}

#[test]
fn nothing_is_done_to_a_run_of_a_project_that_one_does_not_stand_in() {
    let scenario = Scenario::new();
    scenario.tasks(&goal(&[
        task("one", "", &[turn(None, &[write("one", "ok")])]),
        task("two", "", &[turn(None, &[write("two", "ok"), submit("Write")])]),
    ]));
    scenario.finish(&[]).expect_code(3);
    let run = scenario.run(&["status", "--json"]).last_json()["runs"][0]["run"].as_str().unwrap().to_owned();
    let other = TempRepo::init(&scenario.env.work().join("other"));
    other.write("a", "a\n").commit("start");
    let before = scenario.events().len();
    for words in [
        "task cancel one",
        "task retry one",
        "task edit one --title t",
        "undo two",
        "run --resume",
        "run resume",
        "code --take two --apply",
    ] {
        let args: Vec<&str> = words.split(' ').collect();
        let refused = scenario.env.run_in(other.path(), &args);
        let said = refused.expect_code(2);
        let root = scenario.repo.path().display().to_string();
        assert!(said.contains("belongs to another project") && said.contains(&root), "{words}: {said}");
    }
    assert_eq!(scenario.events().len(), before, "nothing was written");
    // By its name it can be meant from anywhere.
    scenario.env.run_in(other.path(), ["task", "cancel", "one", "--run", &run]).success();
    scenario.env.run_in(other.path(), ["run", "--resume", &run]).expect_code(3);
    assert_eq!(scenario.run(&["task", "show", "one", "--json"]).last_json()["task"]["state"], "cancelled");
}

#[test]
fn a_key_that_a_person_types_is_never_written_down() {
    let mut scenario = Scenario::new();
    scenario.env.var("OPENAI_API_KEY", PLAIN_KEY);
    let tasks = [
        task("one", "", &[turn(None, &[hold("one"), write("one", "ok"), submit("Write")])]),
        task("two", "\"one\"", &[turn(None, &[write("two", "ok"), submit("Write")])]),
    ];
    scenario.tasks(&goal(&tasks));
    let worker = scenario.start(&[]);
    let go = scenario.held("one");
    scenario.run(&["mail", "send", "ada", "--subject", PLAIN_KEY, "--body", &format!("use {PLAIN_KEY} for it")]).success();
    scenario.run(&["task", "edit", "two", "--prompt", &format!("Use {PLAIN_KEY} and write the part.")]).success();
    std::fs::write(go, "").unwrap();
    worker.wait(LIMIT).success();
    let mail = scenario.run(&["mail", "list", "--json"]).stdout;
    let log = scenario.run(&["events"]).stdout;
    assert!(!log.contains(PLAIN_KEY) && !mail.contains(PLAIN_KEY), "{mail}");
    assert!(log.contains("use [secret openai] for it") && log.contains("Use [secret openai] and write"), "{log}");
    let database = std::fs::read(scenario.env.state().join("aedile.db")).unwrap();
    assert!(!database.windows(PLAIN_KEY.len()).any(|bytes| bytes == PLAIN_KEY.as_bytes()));
}

#[test]
fn a_run_without_budget_left_gets_more_by_a_resume() {
    let mut scenario = Scenario::new();
    let _server = played(&mut scenario, vec![shell("echo ok > parts/one.txt"), hand_in("Write the part")]);
    let config = "prompt = \"Write it.\"\nscope = [\"parts/**\"]\nmodel = \"anthropic/claude-sonnet-4-5\"\n";
    scenario.tasks(&format!("goal = \"g\"\n[[task]]\nid = \"one\"\n{config}"));
    scenario.finish(&["--budget-usd", "0.0001"]).expect_code(3);
    let refused = scenario.run(&["run", "--resume", "--budget-usd", "-1"]);
    assert!(refused.expect_code(2).contains("--budget-usd"), "{}", refused.stderr);
    scenario.run(&["task", "retry", "one"]).success();
    let done = scenario.run(&["run", "--resume", "--budget-usd", "5"]);
    assert!(done.success().contains("1 of 1 landed"), "{}", done.stdout);
    assert_eq!(scenario.events_of("run_budget_raised").len(), 1);
    let refused = scenario.run(&["run", "--resume", "--budget-usd", "0.000001"]);
    assert!(refused.expect_code(1).contains("already"), "{}", refused.stderr);
}

#[test]
fn a_workspace_that_could_not_be_saved_is_named_and_clean_leaves_it() {
    let scenario = Scenario::new();
    scenario.tasks(&goal(&[task("one", "", &[turn(None, &[write("one", "ok"), hold("one")])])]));
    let worker = scenario.start(&[]);
    let go = scenario.held("one");
    let tree = go.ancestors().nth(2).unwrap().to_owned();
    // What snapshots of it need is broken: nothing of it can be saved any more.
    std::fs::remove_dir_all(tree.with_file_name("snapshots")).unwrap();
    scenario.run(&["task", "cancel", "one"]).success();
    let ended = worker.wait(LIMIT);
    let said = ended.expect_code(3);
    let place = tree.display().to_string();
    assert!(ended.stdout.contains("could not be saved and stays at") && ended.stdout.contains(&place), "{said}{}", ended.stdout);
    assert_eq!(scenario.events_of("workspace_kept").len(), 1);
    let cleaned = scenario.run(&["clean", "--days", "0", "--json"]).last_json();
    assert!(cleaned["kept"][0]["why"].as_str().unwrap().contains(&place), "{cleaned}");
    assert!(tree.join("parts/one.txt").exists(), "the only copy is there");
    std::fs::remove_dir_all(&tree).unwrap();
    assert_eq!(scenario.run(&["clean", "--days", "0", "--json"]).last_json()["kept"], json!([]));
}

#[test]
fn what_the_import_refused_cannot_be_taken() {
    let mut scenario = Scenario::new();
    let _server = played(&mut scenario, vec![shell("ln -s /etc/passwd parts/link; echo ok > parts/one.txt"), hand_in("Write the part")]);
    scenario.run(&[&["code", "Write it"], MODEL].concat());
    let id = id_of(&scenario.events_of("change_submitted")[0]["change"]);
    for way in [&["--apply"][..], &["--branch", "mine"]] {
        let refused = scenario.run(&[&["code", "--take", &id], way].concat());
        let said = refused.expect_code(1);
        assert!(
            said.contains("was refused and cannot be taken") && said.contains("parts/link: is a symbolic link to an absolute path"),
            "{said}"
        );
    }
    assert_eq!(scenario.repo.git(&["status", "--porcelain"]), "");
    assert!(scenario.repo.try_git(&["rev-parse", "--verify", "-q", "refs/heads/mine"]).is_err());
}

#[test]
fn a_change_of_one_of_several_tasks_is_taken_as_what_it_is() {
    let scenario = Scenario::new();
    let wrong = turn(None, &[bash("echo no > parts/two.txt"), submit("Write part two")]);
    let tasks = [task("one", "", &[turn(None, &[write("one", "ok"), submit("Write part one")])]), task("two", "", &[wrong])];
    scenario.tasks(&goal(&tasks));
    scenario.finish(&[]).expect_code(3);
    let submitted = scenario.events_of("change_submitted");
    let two = submitted.iter().find(|event| event["summary"] == "Write part two").unwrap();
    let taken = scenario.run(&["code", "--take", &id_of(&two["change"]), "--branch", "two", "--json"]).last_json();
    assert_eq!(taken["summary"], "Write part two", "{taken}");
    assert!(scenario.repo.git(&["log", "-1", "--format=%B", "two"]).contains("Aedile-Task: two"));
}

#[test]
fn a_change_that_came_back_goes_on_from_a_detached_head() {
    let mut scenario = Scenario::with_config("");
    let steps = vec![
        shell("ln -s /etc/passwd parts/link; echo ok > parts/one.txt"),
        hand_in("Write the part"),
        shell("rm parts/link").expect_latest("symbolic link"),
        hand_in("Without the link"),
    ];
    let _server = played(&mut scenario, steps);
    scenario.repo.git(&["checkout", "-q", "--detach"]);
    let kept = scenario.run(&[&["code", "Write it", "--json"], MODEL].concat()).last_json();
    assert_eq!(kept["state"], "held", "{kept}");
    assert_eq!(kept["files"], json!([{ "path": "parts/one.txt", "status": "A" }]), "{kept}");
}

#[test]
fn a_try_to_apply_that_was_killed_is_finished_by_the_next() {
    let mut scenario = Scenario::new();
    let change = "echo more >> parts/first.txt; echo ok > parts/one.txt; rm notes.md; mkdir notes.md; echo x > notes.md/x; echo '*.txt text' > parts/.gitattributes";
    let _server = played(&mut scenario, vec![shell(change), hand_in("Change several")]);
    let args = [&["code", "Change several", "--allow-protected", "--json"], MODEL].concat();
    let id = id_of(&scenario.run(&args).last_json()["change"]);
    let mut command = scenario.command(&["code", "--take", &id, "--apply"]);
    command.env("AEDILE_CRASH_AT", "apply:1");
    let died = scenario.env.run_command(command, LIMIT);
    assert_eq!(died.code(), None, "{}", died.stderr);
    let half = scenario.repo.git(&["status", "--porcelain"]);
    assert!(half.contains("parts/one.txt") && !half.contains(".gitattributes"), "half of it is there: {half}");
    let done = scenario.run(&["code", "--take", &id, "--apply", "--json"]).last_json();
    assert_eq!(done["state"], "taken", "{done}");
    assert_eq!(scenario.repo.read("parts/first.txt"), "ok\nmore\n");
    assert_eq!(
        (scenario.repo.read("notes.md/x"), scenario.repo.read("parts/.gitattributes")),
        ("x\n".to_owned(), "*.txt text\n".to_owned())
    );
}
