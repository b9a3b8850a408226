//! What a person does to a run under way, and what the program says then.

use std::os::unix::process::CommandExt as _;
use std::time::Duration;

use aedile_testkit::environment::Background;
use aedile_testkit::{Conversation, ScriptedServer, TempRepo, wait_for};
use serde_json::Value;

use crate::scenario::{LIMIT, Scenario, bash, hold, says, submit, task, turn, write};

/// Within this everything ends that was told to end at once.
const SOON: Duration = Duration::from_secs(20);

fn goal(tasks: &[String]) -> String {
    format!("goal = \"Parts\"\n{}", tasks.concat())
}

/// One task whose agent is held up in its first turn, then plays `turns`.
fn held(turns: &[String]) -> Scenario {
    let scenario = Scenario::new();
    let all = [vec![turn(None, &[hold("one")])], turns.to_vec()].concat();
    scenario.tasks(&goal(&[task("one", "", &all)]));
    scenario
}

fn done(name: &str) -> [(&'static str, String); 2] {
    [write(name, "ok"), submit("Write the part")]
}

pub(crate) fn release(file: &std::path::Path) {
    std::fs::write(file, "").unwrap();
}

fn state_of(scenario: &Scenario, name: &str) -> String {
    let tasks = scenario.run(&["task", "list", "--json"]).last_json();
    let found = tasks["tasks"].as_array().unwrap().iter().find(|task| task["id"] == name).unwrap();
    found["state"].as_str().unwrap().to_owned()
}

/// Presses Ctrl-C as a terminal does: the signal goes to the whole foreground group.
fn start_in_foreground(scenario: &Scenario) -> Background {
    let mut command = scenario.command(&["run", "--tasks", "../tasks.toml"]);
    command.process_group(0);
    scenario.env.start(command)
}

fn press_ctrl_c(worker: &Background) {
    super::output_of("kill", &["-INT", "--", &format!("-{}", worker.id())], std::path::Path::new("/"));
}

fn wait_for_stderr(worker: &Background, part: &str) {
    wait_for(&format!("{part:?} on stderr"), LIMIT, || worker.stderr().contains(part).then_some(()));
}

#[test]
fn ctrl_c_once_finishes_turns_and_a_resume_goes_on() {
    let scenario = held(&[
        turn(None, &[write("one", "ok half")]),
        says(None, "Half of it is there."),
        turn(Some("You were interrupted"), &done("one")),
    ]);
    let mut worker = start_in_foreground(&scenario);
    let go = scenario.held("one");
    press_ctrl_c(&worker);
    wait_for_stderr(&worker, "finishing");
    assert!(worker.is_running(), "the turn goes on: {}", worker.stderr());
    release(&go);
    let stopped = worker.wait(SOON);
    stopped.expect_code(130);
    assert!(stopped.stdout.contains("aedile run --resume"), "{}", stopped.stdout);
    assert_eq!(scenario.events_of("turn_ended")[0]["stop"], "end_turn", "the turn was finished");
    assert_eq!(scenario.run(&["status", "--json"]).last_json()["runs"][0]["state"], "stopped");
    scenario.env.assert_nothing_left();

    let resumed = scenario.run(&["run", "--resume"]);
    assert!(resumed.success().contains("1 of 1 landed"), "{}", resumed.stdout);
    assert_eq!(scenario.parts("aedile/main"), [("parts/one.txt".to_owned(), "ok\n".to_owned())]);
    scenario.env.assert_nothing_left();
}

#[test]
fn ctrl_c_twice_kills_a_long_tool_and_a_resume_goes_on() {
    let scenario = held(&[turn(Some("was not finished"), &done("one")), turn(Some("interrupted"), &done("one"))]);
    let worker = start_in_foreground(&scenario);
    scenario.held("one");
    press_ctrl_c(&worker);
    wait_for_stderr(&worker, "finishing");
    press_ctrl_c(&worker);
    let stopped = worker.wait(SOON);
    let said = stopped.expect_code(130).to_owned() + &stopped.stdout;
    assert!(said.contains("killing the agents") && said.contains("aedile run --resume"), "{said}");
    scenario.env.assert_nothing_left();
    scenario.run(&["run", "--resume"]).success();
    assert_eq!(scenario.landed("aedile/main"), ["one"]);
}

#[test]
fn a_cancelled_task_ends_its_agent_and_nothing_of_it_lands() {
    let scenario = Scenario::new();
    let stuck = task("stuck", "", &[turn(None, &[write("stuck", "ok"), hold("one")])]);
    scenario.tasks(&goal(&[stuck, task("other", "", &[turn(None, &done("other"))])]));
    let worker = scenario.start(&[]);
    scenario.held("one");
    let said = scenario.run(&["task", "cancel", "stuck"]);
    assert!(said.success().contains("stuck"), "{}", said.stdout);
    let ended = worker.wait(SOON);
    ended.expect_code(3);
    assert!(ended.stdout.contains("1 of 2 landed") && ended.stdout.contains("stuck is cancelled"), "{}", ended.stdout);
    assert!(!ended.stdout.contains("no reason"), "{}", ended.stdout);
    assert_eq!(scenario.landed("aedile/main"), ["other"]);
    assert_eq!(state_of(&scenario, "stuck"), "cancelled");
    assert!(!scenario.events_of("snapshot_taken").is_empty(), "its work was saved");
    scenario.run(&["task", "cancel", "stuck"]).expect_code(1);
    scenario.env.assert_nothing_left();
}

#[test]
fn a_task_that_was_not_submitted_is_retried_by_a_person() {
    let scenario = Scenario::new();
    scenario.tasks(&goal(&[task("one", "", &[says(None, "I think about it."), turn(Some("A person wants"), &done("one"))])]));
    let ended = scenario.finish(&[]);
    ended.expect_code(3);
    assert!(ended.stdout.contains("finished-without-submit") && ended.stdout.contains("aedile task retry one"), "{}", ended.stdout);
    // Without a decision of the person's nothing changes.
    let again = scenario.run(&["run", "--resume"]);
    again.expect_code(3);
    assert!(again.stdout.contains("aedile task retry one"), "{}", again.stdout);
    scenario.run(&["task", "retry", "one"]).success();
    assert!(scenario.run(&["task", "retry", "one"]).expect_code(1).contains("does not wait for a person"));
    scenario.run(&["run", "--resume"]).success();
    assert_eq!(scenario.landed("aedile/main"), ["one"]);
    let over = scenario.run(&["run", "--resume"]);
    assert!(over.success().contains("1 of 1 landed"), "{}", over.stdout);
}

#[test]
fn a_persons_mail_reaches_an_agent_between_turns_and_no_finished_one() {
    let scenario =
        held(&[says(None, "Which word?"), turn(Some("use the word blue"), &[write("one", "ok blue"), submit("Write it in blue")])]);
    let worker = scenario.start(&[]);
    let go = scenario.held("one");
    scenario.run(&["mail", "send", "ada", "--subject", "Colour", "--body", "use the word blue"]).success();
    let unknown = scenario.run(&["mail", "send", "zoe", "--body", "hello"]);
    assert!(unknown.expect_code(1).contains("no agent of this run"), "{}", unknown.stderr);
    release(&go);
    worker.wait(LIMIT).success();
    assert_eq!(scenario.repo.show("aedile/main", "parts/one.txt"), "ok blue\n");
    let late = scenario.run(&["mail", "send", "ada", "--body", "and green"]);
    assert!(late.expect_code(1).contains("has finished"), "{}", late.stderr);
    let mail = scenario.run(&["mail", "list", "--json"]).last_json();
    assert_eq!((mail["mail"].as_array().unwrap().len(), &mail["mail"][0]["acked"]), (1, &Value::Bool(true)), "{mail}");
}

#[test]
fn a_second_worker_says_who_drives_the_run() {
    let scenario = held(&[turn(None, &done("one"))]);
    let mut worker = scenario.start(&[]);
    let go = scenario.held("one");
    let second = scenario.run(&["run", "--resume"]);
    let said = second.expect_code(1);
    assert!(said.contains(&format!("process {}", worker.id())), "{said}");
    assert!(!said.contains("aedile stop"), "only commands that exist are named: {said}");
    assert!(worker.is_running());
    release(&go);
    let ended = worker.wait(LIMIT);
    assert!(ended.success().contains("1 of 1 landed"), "{}", ended.stdout);
    assert_eq!(scenario.events_of("agent_started").len(), 1, "its agent was left alone");
    assert_eq!(scenario.landed("aedile/main"), ["one"]);
}

#[test]
fn onlookers_see_a_run_while_it_is_under_way() {
    let scenario = held(&[turn(None, &done("one"))]);
    let worker = scenario.start(&[]);
    let go = scenario.held("one");
    let events = scenario.env.start(scenario.command(&["events", "--follow"]));
    let feed = scenario.env.start(scenario.command(&["feed", "--follow"]));
    events.wait_for_stdout("\"agent_started\"", LIMIT);
    feed.wait_for_stdout("one: ada takes it up", LIMIT);
    let status = scenario.run(&["status", "--json"]).last_json();
    let run = &status["runs"][0];
    assert_eq!((&run["state"], &run["tasks"][0]["state"]), (&"running".into(), &"working".into()), "{run}");
    assert_eq!((&run["agents"][0]["agent"], &run["agents"][0]["state"]), (&"ada".into(), &"in-turn".into()), "{run}");
    let plain = scenario.run(&["status"]);
    for part in ["(running for", "ada", "working", "0 of 1 landed"] {
        assert!(plain.success().contains(part), "{part}: {}", plain.stdout);
    }
    release(&go);
    worker.wait(LIMIT).success();
    let log = events.wait_for_stdout("\"run_ended\"", LIMIT);
    feed.wait_for_stdout("ended: 1 landed, 0 not", LIMIT);
    let positions: Vec<u64> = log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["position"].as_u64().unwrap()).collect();
    assert!(positions.windows(2).all(|pair| pair[1] == pair[0] + 1), "every event once and in order: {positions:?}");
    let after = scenario.run(&["events", "--after", &(positions.len() - 1).to_string()]);
    assert_eq!(after.success().lines().count(), 1);
}

/// Runs one task on a model server that must not be asked, and returns what the program said.
fn refused_before_any_request(model: &str, extra: &str, args: &[&str]) -> String {
    let mut scenario = Scenario::new();
    let server = ScriptedServer::start(vec![Conversation::any()]);
    scenario.env.var("AEDILE_ANTHROPIC_BASE_URL", server.url()).var("AEDILE_OPENAI_BASE_URL", server.url());
    scenario.tasks(&format!("goal = \"g\"\n[[task]]\nid = \"one\"\nprompt = \"p\"\nmodel = \"{model}\"\n{extra}\n"));
    let ended = scenario.finish(args);
    ended.expect_code(3);
    assert!(server.requests().is_empty(), "nothing was asked");
    assert_eq!(scenario.events_of("turn_started").len(), 1, "what cannot be paid is not tried again: {}", ended.stdout);
    assert!(ended.stdout.contains("aedile task cancel one"), "{}", ended.stdout);
    assert_eq!(state_of(&scenario, "one"), "waiting", "{}", ended.stdout);
    scenario.env.assert_nothing_left();
    ended.stdout
}

#[test]
fn a_budget_that_is_too_small_refuses_the_first_request() {
    let said = refused_before_any_request("anthropic/claude-sonnet-4-5", "budget_usd = 0.0001", &[]);
    assert!(said.contains("budget_usd"), "{said}");
    let said = refused_before_any_request("anthropic/claude-sonnet-4-5", "", &["--budget-usd", "0.0001"]);
    assert!(said.contains("--budget-usd") && said.contains("run_usd"), "{said}");
}

#[test]
fn an_unknown_price_under_a_money_budget_is_refused() {
    let said = refused_before_any_request("openai/my-own-model", "budget_usd = 5.0", &[]);
    assert!(said.contains("[prices.\"openai/my-own-model\"]"), "{said}");
}

#[test]
fn a_project_without_gates_is_told_so_everywhere() {
    let scenario = Scenario::with_config("target = \"main\"\n");
    scenario.tasks(&goal(&[task("one", "", &[turn(None, &done("one"))])]));
    let ended = scenario.finish(&[]);
    assert!(ended.success().contains("no gate is configured"), "{}", ended.stdout);
    assert!(ended.stderr.contains("warning: no gate is configured"), "{}", ended.stderr);
    assert!(scenario.run(&["status"]).success().contains("no gate is configured"));
    assert_eq!(scenario.run(&["status", "--json"]).last_json()["runs"][0]["gates"].as_array().map(Vec::len), Some(0));
}

#[test]
fn a_protected_path_waits_for_a_person_and_lands_when_allowed() {
    let scenario = Scenario::new();
    let change = turn(None, &[bash("echo '# more' >> aedile.toml"), submit("Note more")]);
    scenario.tasks(&goal(&[task("one", "", &[change]).replace("parts/one.txt", "aedile.toml")]));
    let ended = scenario.finish(&[]);
    ended.expect_code(3);
    assert!(ended.stdout.contains("one is waiting") && ended.stdout.contains("aedile landing approve one"), "{}", ended.stdout);
    assert!(scenario.landed("HEAD").is_empty());
    let allowed = scenario.finish(&["--allow-protected"]);
    allowed.success();
    assert_eq!(scenario.landed("aedile/main"), ["one"]);
    assert!(scenario.repo.show("aedile/main", "aedile.toml").ends_with("# more\n"));
}

#[test]
fn what_is_approved_passes_once_and_only_that() {
    let scenario = Scenario::new();
    let plant = "mkdir -p .vscode; echo '{}' > .vscode/tasks.json; echo 'use flake' > .envrc";
    let again = turn(Some("did not land"), &[bash("echo '{ }' > .vscode/tasks.json; rm .envrc"), submit("Only settings")]);
    let turns = [turn(None, &[bash(plant), submit("Settings")]), again];
    scenario.tasks(&goal(&[task("one", "", &turns).replace("\"parts/one.txt\"", "\".vscode/**\", \".envrc\"")]));
    let ended = scenario.finish(&[]);
    ended.expect_code(3);
    assert!(
        ended.stdout.contains(".envrc [shell-direnv]") && ended.stdout.contains(".vscode/tasks.json [editor-vscode]"),
        "{}",
        ended.stdout
    );
    assert!(
        scenario.run(&["landing", "approve", "one", "--rule", "ci-workflow"]).expect_code(1).contains("nothing of that is asked about")
    );
    // One of two: the other is asked about once more.
    let said = scenario.run(&["landing", "approve", "one", ".vscode/tasks.json"]);
    assert!(said.success().contains("not approved, and asked about again: .envrc [shell-direnv]"), "{}", said.stdout);
    let ended = scenario.run(&["run", "--resume"]);
    ended.expect_code(3);
    assert!(ended.stdout.contains(".envrc [shell-direnv]") && !ended.stdout.contains("tasks.json [editor"), "{}", ended.stdout);
    // Another commit is another change: what was approved for the first is asked about again.
    scenario.run(&["task", "retry", "one"]).success();
    let ended = scenario.run(&["run", "--resume"]);
    ended.expect_code(3);
    assert!(ended.stdout.contains(".vscode/tasks.json [editor-vscode]"), "{}", ended.stdout);
    scenario.run(&["landing", "approve", "one"]).success();
    scenario.run(&["run", "--resume"]).success();
    assert_eq!(scenario.landed("aedile/main"), ["one"]);
    assert_eq!(scenario.repo.show("aedile/main", ".vscode/tasks.json"), "{ }\n");
    assert_eq!(scenario.events_of("import_approved").len(), 2);
    assert!(scenario.run(&["landing", "approve", "one"]).expect_code(1).contains("no change of it waits"));
}

#[test]
fn names_that_a_project_calls_harmless_land_like_others() {
    let config = "target = \"main\"\n[[gate]]\nname = \"test\"\ncommand = \"sh test.sh\"\n[protect]\nharmless = [\"**/AGENTS.md\"]\n";
    let scenario = Scenario::with_config(config);
    let turns = [turn(None, &[bash("echo notes > AGENTS.md"), submit("Notes")])];
    scenario.tasks(&goal(&[task("one", "", &turns).replace("parts/one.txt", "AGENTS.md")]));
    scenario.finish(&[]).success();
    assert_eq!(scenario.landed("aedile/main"), ["one"]);
}

/// Commits on main from a worktree of the person's that is gone afterwards.
pub(crate) fn person_commits_on_main(scenario: &Scenario, path: &str, content: &str) -> String {
    let place = scenario.env.work().join("elsewhere");
    scenario.repo.git(&["worktree", "add", "-q", &place.to_string_lossy(), "main"]);
    let elsewhere = TempRepo::open(&place);
    elsewhere.write(path, content);
    let commit = elsewhere.commit("The person's part");
    scenario.repo.git(&["worktree", "remove", "--force", &place.to_string_lossy()]);
    commit
}

/// One task whose agent finds the person's commit in its way, and settles that from the markers.
fn in_conflict() -> Scenario {
    let settle =
        "grep -q '^|||||||' parts/one.txt && grep -q '^ok person' parts/one.txt && printf 'ok person and agent\\n' > parts/one.txt";
    held(&[
        turn(None, &[write("one", "ok agent"), submit("Write the part")]),
        turn(Some("it conflicts with the target in parts/one.txt"), &[bash(settle), submit("Settle the conflict")]),
    ])
}

/// Lets the agent of [`in_conflict`] go on and checks that its change landed on top of the person's commit.
fn lands_settled(scenario: &Scenario, worker: Background, go: &std::path::Path, theirs: &str, reference: &str) {
    release(go);
    let ended = worker.wait(LIMIT);
    assert!(ended.success().contains("it conflicts with the target in parts/one.txt"), "{}", ended.stdout);
    assert!(ended.stdout.contains("workspace holds conflicts in parts/one.txt"), "{}", ended.stdout);
    assert_eq!(scenario.repo.show(reference, "parts/one.txt"), "ok person and agent\n");
    assert_eq!(scenario.repo.rev(&format!("{reference}~1")), theirs, "the person's commit is below");
    assert_eq!(scenario.landed(reference), ["one"]);
}

#[test]
fn a_conflict_with_a_persons_commit_goes_back_with_markers_and_lands_settled() {
    let scenario = in_conflict();
    scenario.repo.branch("mine");
    let worker = scenario.start(&[]);
    let go = scenario.held("one");
    let theirs = person_commits_on_main(&scenario, "parts/one.txt", "ok person\n");
    lands_settled(&scenario, worker, &go, &theirs, "main");
    assert_eq!(scenario.repo.head(), scenario.before);
}

#[test]
fn a_conflict_with_a_commit_in_the_checkout_goes_back_with_markers_too() {
    let scenario = in_conflict();
    let worker = scenario.start(&[]);
    let go = scenario.held("one");
    let theirs = scenario.repo.write("parts/one.txt", "ok person\n").commit("The person's part");
    lands_settled(&scenario, worker, &go, &theirs, "aedile/main");
    assert_eq!(scenario.repo.head(), theirs);
    scenario.run(&["sync"]).success();
    assert_eq!(scenario.repo.read("parts/one.txt"), "ok person and agent\n");
}

#[test]
fn status_tells_when_no_worker_drives_a_run() {
    let scenario = held(&[turn(None, &done("one"))]);
    let worker = scenario.start(&[]);
    scenario.held("one");
    let alive = scenario.run(&["status", "--json"]).last_json();
    assert_eq!(alive["runs"][0]["worker"], format!("process {}", worker.id()));
    assert!(!scenario.run(&["status"]).success().contains("--resume"));
    worker.kill_9();
    let dead = scenario.run(&["status", "--json"]).last_json();
    assert_eq!(dead["runs"][0]["worker"], Value::Null);
    let said = scenario.run(&["status"]);
    assert!(said.success().contains("no worker drives it; `aedile run --resume` goes on"), "{}", said.stdout);
}
