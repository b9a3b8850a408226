//! A goal in words: planned by an agent in a read-only box, checked, answered, worked on and landed; and all that can go wrong before.

use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;

use aedile_testkit::environment::Finished;
use aedile_testkit::{Conversation, ScriptedServer, Step, wait_for};
use serde_json::{Value, json};

use crate::scenario::{LIMIT, Scenario};
use crate::terminal::Terminal;

/// The crash points of planning; the others are in the tests of crashes.
pub(crate) const CRASH_POINTS: [&str; 2] = ["plan", "plan-answer"];

const MODEL: &str = "anthropic/claude-sonnet-4-5";

/// A part of the project as a task of a plan.
fn part(name: &str, after: &[&str]) -> Value {
    json!({
        "id": name,
        "title": format!("Write the part {name}"),
        "prompt": format!("Write the file parts/{name}.txt. Its only line is: ok {name}"),
        "scope": [format!("parts/{name}.txt")],
        "after": after,
        "acceptance": [{"what": "The part says that it is fine.", "command": format!("grep -q '^ok {name}' parts/{name}.txt")}]
    })
}

fn plan(tasks: &[Value]) -> Value {
    json!({"summary": "One file for each part.", "tasks": tasks})
}

/// The conversation of the agent that plans; the goal stands in its first prompt.
fn planner() -> Conversation {
    Conversation::when("planner", |request| request.first_user().contains("Plan how coding agents reach this goal"))
}

/// The conversation of the agent that writes a part.
fn writer(name: &str) -> Conversation {
    let file = format!("parts/{name}.txt");
    let told = format!("Write the file {file}. ");
    Conversation::when(name, move |request| request.first_user().contains(&told))
        .step(Step::tool("write", json!({"path": file, "content": format!("ok {name}\n")})).expect_tool("submit"))
        .step(Step::tool("submit", json!({"summary": format!("Write {name}")})))
}

/// The project of parts with a scripted model server behind it.
struct Goal {
    scenario: Scenario,
    server: ScriptedServer,
}

impl Goal {
    fn with(conversations: Vec<Conversation>) -> Self {
        Self::on(Scenario::new(), conversations)
    }

    fn on(mut scenario: Scenario, conversations: Vec<Conversation>) -> Self {
        let server = ScriptedServer::start(conversations);
        scenario.env.var("AEDILE_ANTHROPIC_BASE_URL", server.url());
        Self { scenario, server }
    }

    fn run(&self, args: &[&str]) -> Finished {
        self.scenario.run(&[&["run", "Write the parts", "--model", MODEL], args].concat())
    }
}

#[test]
fn a_goal_is_planned_and_its_tasks_land() {
    let three = plan(&[part("one", &[]), part("two", &[]), part("three", &["one"])]);
    let look = Step::tool("bash", json!({"command": "cat parts/first.txt; echo broken > parts/first.txt"}))
        .expect_tool("submit_plan")
        .expect_system("You make a plan and change nothing")
        .expect_latest("Write the parts")
        .expect_latest("gate test: `sh test.sh`")
        .expect_latest("parts/first.txt (3 B)");
    // The kernel, not the prompt, keeps the planning agent from writing.
    let hand_in = Step::tool("submit_plan", three).expect_latest("ok\n").expect_latest("Read-only file system").usage(2000, 500, 0, 0);
    let goal = Goal::with(vec![planner().step(look).step(hand_in), writer("one"), writer("two"), writer("three")]);
    let finished = goal.run(&["--yes", "--budget-usd", "5"]);
    let said = finished.success();
    for part in [
        "plan: ada proposes 3 tasks",
        "3 tasks, 2 at once at most",
        "three  Write the part three  (after one)",
        "must pass `grep -q '^ok one' parts/one.txt`",
        "estimate: $",
        "budget: $5.00 for the run, $4.98 left",
        "plan: accepted; tasks opened: 3",
        "3 of 3 landed",
    ] {
        assert!(said.contains(part), "{part:?} is missing:\n{said}");
    }
    let landed = goal.scenario.landed("aedile/main");
    assert_eq!(landed.len(), 3, "{landed:?}");
    assert_eq!(goal.scenario.parts("aedile/main").len(), 3);
    let status = goal.scenario.run(&["status", "--json"]).last_json();
    assert_eq!((&status["runs"][0]["goal"], &status["runs"][0]["tasks"][0]["state"]), (&json!("Write the parts"), &json!("planned")));
    let costs = goal.scenario.run(&["costs", "--json"]).last_json();
    let planning = costs["costs"].as_array().unwrap().iter().find(|row| row["task"] == "plan").unwrap();
    assert_eq!((planning["requests"].as_u64(), planning["model"].as_str()), (Some(2), Some(MODEL)));
    assert_eq!(goal.scenario.events_of("plan_proposed").len(), 1);
    goal.scenario.run(&["store", "check"]).success();
    goal.scenario.env.assert_nothing_left();
    goal.server.finish();
}

#[test]
fn a_bad_plan_goes_back_with_its_reasons_and_a_good_one_is_taken() {
    let over_each_other = plan(&[part("one", &[]), part("one", &[])]);
    let outside = plan(&[json!({"id": "x", "title": "Out", "prompt": "Write something outside of the repository.", "scope": ["../x"]})]);
    let steps = planner()
        .step(Step::tool("submit_plan", over_each_other))
        .step(Step::tool("submit_plan", outside).expect_latest("try 1 of 3").expect_latest("`one` is used by two tasks"))
        .step(
            Step::tool("submit_plan", plan(&[part("one", &[])])).expect_latest("try 2 of 3").expect_latest("must not leave the repository"),
        );
    let goal = Goal::with(vec![steps, writer("one")]);
    let finished = goal.run(&["--yes"]);
    let said = finished.success();
    assert!(said.contains("plan: try 1 of 3 is no plan yet") && said.contains("one agent does it"), "{said}");
    let rejected = goal.scenario.events_of("plan_rejected");
    assert_eq!((rejected.len(), rejected[1]["round"].as_u64()), (2, Some(2)));
    assert_eq!(goal.scenario.landed("aedile/main"), ["one"]);
    goal.server.finish();
}

#[test]
fn a_model_that_never_plans_well_is_given_up_and_may_be_retried() {
    let circle = plan(&[part("one", &["two"]), part("two", &["one"])]);
    let steps = planner()
        .step(Step::tool("submit_plan", json!({"tasks": vec![json!({}); 10_000]})))
        .step(Step::tool("submit_plan", circle).expect_latest("10000 tasks"))
        .step(Step::tool("submit_plan", plan(&[])).expect_latest("one -> two -> one"))
        .step(Step::tool("submit_plan", plan(&[part("one", &[])])).expect_latest("to be tried again"));
    let goal = Goal::with(vec![steps, writer("one")]);
    let finished = goal.run(&["--yes"]);
    finished.expect_code(3);
    let said = &finished.stdout;
    assert!(
        said.contains("its plan was refused 3 times, at last: the plan has no task") && said.contains("aedile task retry plan"),
        "{said}"
    );
    assert!(goal.scenario.landed("HEAD").is_empty());
    goal.scenario.run(&["task", "retry", "plan"]).success();
    goal.scenario.run(&["run", "--resume", "--yes"]).success();
    assert_eq!(goal.scenario.landed("aedile/main"), ["one"]);
    goal.server.finish();
}

#[test]
fn a_model_that_only_talks_is_reminded_once_and_then_named() {
    let steps =
        planner().step(Step::text("{\"tasks\": [] }, or so.")).step(Step::text("I think so.").expect_latest("no plan is handed in"));
    let goal = Goal::with(vec![steps]);
    let finished = goal.run(&["--yes"]);
    finished.expect_code(3);
    assert!(
        finished.stdout.contains("finished-without-submit") && finished.stdout.contains("aedile task retry plan"),
        "{}",
        finished.stdout
    );
    goal.server.finish();
}

#[test]
fn a_model_that_never_stops_looking_is_stopped() {
    let mut steps = planner();
    for at in 0..120 {
        steps = steps.step(Step::tool("bash", json!({"command": format!("echo look {at}")})));
    }
    let goal = Goal::with(vec![steps]);
    let finished = goal.run(&["--yes"]);
    finished.expect_code(3);
    assert!(finished.stdout.contains("60 steps"), "{}", finished.stdout);
    assert_eq!(goal.server.finish().len(), 120);
}

#[test]
fn answers_of_a_broken_provider_end_in_a_sentence() {
    let refused = |status| planner().afterwards(Step::status(status, "not today"));
    let goal = Goal::with(vec![refused(401)]);
    let finished = goal.run(&["--yes"]);
    finished.expect_code(3);
    assert!(finished.stdout.contains("401") && finished.stdout.contains("not today"), "{}", finished.stdout);
    assert!(goal.scenario.events_of("plan_proposed").is_empty());

    // Busy once, cut once: the plan comes all the same, once.
    let steps = planner()
        .step(Step::status(429, "busy").header("retry-after", "0"))
        .step(Step::tool("submit_plan", plan(&[part("one", &[])])).cut_after(2))
        .step(Step::tool("submit_plan", plan(&[part("one", &[])])));
    let goal = Goal::with(vec![steps, writer("one")]);
    goal.run(&["--yes"]).success();
    assert_eq!(goal.scenario.events_of("plan_proposed").len(), 1);
    goal.server.finish();
}

#[test]
fn without_a_terminal_nothing_is_spent_before_there_is_a_word_for_it() {
    let goal = Goal::with(vec![]);
    let said = goal.run(&[]).expect_code(2).to_owned();
    assert!(said.contains("--yes") && said.contains("--plan-only"), "{said}");
    let json = goal.run(&["--json"]);
    json.expect_code(2);
    assert!(json.last_json()["hints"][0].as_str().unwrap().contains("--yes"));
    for (goal_text, part) in [("", "empty"), (" \n ", "empty"), (&"x".repeat(100_000), "100000 bytes")] {
        let finished = goal.scenario.run(&["run", goal_text, "--yes", "--model", MODEL]);
        assert!(finished.expect_code(2).contains(part), "{}", finished.stderr);
    }
    let no_model = goal.scenario.run(&["run", "Write the parts", "--yes"]);
    assert!(no_model.expect_code(4).contains("--model PROVIDER/MODEL"), "{}", no_model.stderr);
    assert!(goal.server.finish().is_empty());
}

#[test]
fn a_budget_too_small_for_the_planning_is_named() {
    let goal = Goal::with(vec![]);
    let finished = goal.run(&["--yes", "--budget-usd", "0.001"]);
    finished.expect_code(3);
    assert!(finished.stdout.contains("money budget of this run") && finished.stdout.contains("--budget-usd"), "{}", finished.stdout);
    assert!(goal.server.finish().is_empty(), "a request was sent");
}

#[test]
fn a_plan_is_written_to_a_file_that_runs() {
    let steps = || planner().step(Step::tool("submit_plan", plan(&[part("one", &[]), part("two", &[])])));
    let goal = Goal::with(vec![steps(), writer("one"), writer("two")]);
    let finished = goal.run(&["--plan-only", "plan.toml"]);
    assert!(finished.success().contains("the plan is in plan.toml"), "{}", finished.stdout);
    assert!(goal.scenario.landed("HEAD").is_empty() && goal.scenario.repo.git(&["branch", "--list", "aedile/*"]).is_empty());
    let status = goal.scenario.run(&["status", "--json", "--all"]).last_json();
    assert_eq!(status["runs"][0]["state"], "ended");
    let before = goal.server.requests().len();
    let again = goal.run(&["--plan-only", "plan.toml"]);
    assert!(again.expect_code(2).contains("plan.toml is there already"), "{}", again.stderr);
    assert_eq!(goal.server.requests().len(), before, "the second planning was refused before it cost anything");
    goal.scenario.run(&["run", "--tasks", "plan.toml"]).success();
    assert_eq!(goal.scenario.parts("aedile/main").len(), 2);
    goal.server.finish();
}

#[test]
fn the_plan_comes_as_json_too() {
    let goal = Goal::with(vec![planner().step(Step::tool("submit_plan", plan(&[part("one", &[]), part("two", &[])])))]);
    let finished = goal.run(&["--plan-only", "plan.toml", "--json"]);
    let lines: Vec<Value> = finished.success().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let shown = lines.iter().find(|line| line["estimate"].is_object()).unwrap();
    assert_eq!((shown["plan"]["tasks"][1]["id"].as_str(), shown["plan"]["at_once"].as_u64()), (Some("two"), Some(2)));
    assert!(shown["estimate"]["usd"]["low"].as_f64() < shown["estimate"]["usd"]["high"].as_f64(), "{shown}");
    assert_eq!(finished.last_json()["plan"], json!({"answer": "written", "file": "plan.toml"}));
    goal.server.finish();
}

/// Plans by way of the crash point, resumes, and expects one plan and all of its tasks once.
fn killed_at(point: &str) {
    let steps = planner()
        .step(Step::tool("bash", json!({"command": "ls parts"})))
        .step(Step::tool("submit_plan", plan(&[part("one", &[]), part("two", &[])])));
    let goal = Goal::with(vec![steps, writer("one"), writer("two")]);
    let mut command = goal.scenario.command(&["run", "Write the parts", "--model", MODEL, "--yes"]);
    command.env("AEDILE_CRASH_AT", point);
    let died = goal.scenario.env.run_command(command, LIMIT);
    assert_eq!(died.status.signal(), Some(9), "{point}: {}{}", died.stdout, died.stderr);
    if point == "plan" {
        let asked = goal.scenario.run(&["run", "--resume"]);
        assert!(asked.expect_code(2).contains("--yes"), "{}", asked.stderr);
    }
    goal.scenario.run(&["run", "--resume", "--yes"]).success();
    assert_eq!((goal.scenario.events_of("plan_proposed").len(), goal.scenario.events_of("plan_answered").len()), (1, 1), "{point}");
    assert_eq!(goal.scenario.events_of("task_opened").len(), 3, "{point}");
    let mut landed = goal.scenario.landed("aedile/main");
    landed.sort();
    assert_eq!(landed, ["one", "two"], "{point}");
    goal.scenario.env.assert_nothing_left();
    goal.server.finish();
}

#[test]
fn killed_when_the_plan_is_proposed() {
    killed_at(CRASH_POINTS[0]);
}

#[test]
fn killed_when_the_plan_is_answered() {
    killed_at(CRASH_POINTS[1]);
}

#[test]
fn killed_or_interrupted_in_the_middle_of_planning_it_goes_on_from_there() {
    let held = |at: &str| Step::tool("bash", json!({"command": format!("touch .git/{at}; until [ -e .git/go ]; do sleep 0.05; done")}));
    let steps = planner()
        .step(held("first"))
        .step(held("second").expect_latest("the call was not finished"))
        .step(Step::tool("submit_plan", plan(&[part("one", &[])])).expect_latest("the call was not finished"));
    let goal = Goal::with(vec![steps, writer("one")]);
    let looking = |at: &str| {
        wait_for(&format!("the planner at {at}"), LIMIT, || {
            let spaces = goal.scenario.events_of("workspace_ready");
            let git = spaces.first().map(|event| Path::new(event["path"].as_str().unwrap()).join(".git"));
            git.filter(|git| git.join(at).exists())
        })
    };
    let start = |args: &[&str]| goal.scenario.env.start(goal.scenario.command(args));
    let worker = start(&["run", "Write the parts", "--model", MODEL, "--yes"]);
    looking("first");
    worker.kill_9();
    let worker = start(&["run", "--resume", "--yes"]);
    looking("second");
    worker.signal("INT");
    worker.wait(LIMIT).expect_code(130);
    goal.scenario.run(&["run", "--resume", "--yes"]).success();
    assert_eq!(goal.scenario.landed("aedile/main"), ["one"]);
    goal.scenario.env.assert_nothing_left();
    goal.server.finish();
}

/// A run for the goal at a terminal, up to the question.
fn asked(goal: &Goal) -> Terminal {
    let terminal = Terminal::start(goal.scenario.command(&["run", "Write the parts", "--model", MODEL]));
    terminal.wait_for("Start these 2 tasks?");
    terminal
}

fn two() -> Conversation {
    planner().step(Step::tool("submit_plan", plan(&[part("one", &[]), part("two", &[])])))
}

#[test]
fn at_a_terminal_the_person_is_asked_and_says_yes() {
    let goal = Goal::with(vec![two(), writer("one"), writer("two")]);
    let terminal = asked(&goal);
    terminal.type_line("what?");
    terminal.wait_for("answer y, n, c or e");
    terminal.type_line("");
    let (code, said) = terminal.end();
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(goal.scenario.parts("aedile/main").len(), 2);
    goal.server.finish();
}

#[test]
fn at_a_terminal_no_starts_nothing_and_ends_the_run() {
    let goal = Goal::with(vec![two()]);
    let terminal = asked(&goal);
    terminal.type_line("n");
    let (code, said) = terminal.end();
    assert!(code == Some(3) && said.contains("nothing was started"), "{code:?} {said}");
    assert_eq!(goal.scenario.events_of("task_opened").len(), 1);
    assert_eq!(goal.scenario.run(&["status", "--json"]).last_json()["runs"][0]["state"], "ended");
    // The kept commits are let go: nothing of the run is left in the person's repository.
    assert_eq!(goal.scenario.repo.git(&["for-each-ref", "refs/aedile/"]), "");
    goal.server.finish();
}

#[test]
fn at_a_terminal_the_plan_can_be_taken_along_for_editing() {
    let goal = Goal::with(vec![two()]);
    let terminal = asked(&goal);
    terminal.type_line("e");
    terminal.wait_for("Which file? [aedile-tasks.toml]");
    terminal.type_line("notes.md");
    terminal.wait_for("notes.md is there already");
    terminal.wait_for_times("Start these 2 tasks?", 2);
    terminal.type_line("e");
    terminal.wait_for_times("Which file?", 2);
    terminal.type_line("");
    let (code, said) = terminal.end();
    assert!(code == Some(0) && said.contains("the plan is in aedile-tasks.toml"), "{code:?} {said}");
    assert_eq!(goal.scenario.repo.read("notes.md"), "Parts.\n");
    assert!(goal.scenario.repo.read("aedile-tasks.toml").contains("id = \"two\""));
    goal.server.finish();
}

#[test]
fn at_a_terminal_an_interrupted_question_is_asked_again() {
    let goal = Goal::with(vec![two(), writer("one"), writer("two")]);
    let terminal = asked(&goal);
    terminal.signal("INT");
    let (code, said) = terminal.end();
    assert!(code == Some(130) && said.contains("the plan is kept"), "{code:?} {said}");
    let status = goal.scenario.run(&["status"]);
    assert!(status.success().contains("your answer to its plan"), "{}", status.stdout);
    let terminal = Terminal::start(goal.scenario.command(&["run", "--resume"]));
    terminal.wait_for("Start these 2 tasks?");
    terminal.type_line("y");
    assert_eq!(terminal.end().0, Some(0));
    assert_eq!(goal.scenario.parts("aedile/main").len(), 2);
    goal.server.finish();
}

/// The conversation of the agent that plans again when all of this was said, and proposes one part.
fn again(said: &[&str]) -> Conversation {
    let hand_in = Step::tool("submit_plan", plan(&[part("one", &[])]));
    let words: String = said.iter().map(|words| format!("> {words}\n")).collect();
    let told = format!("What they say, in order:\n{words}\n");
    Conversation::when("again", move |request| request.first_user().contains(&told))
        .step(hand_in.expect_latest("- `one`: Write the part one; may change parts/one.txt"))
}

#[test]
fn at_a_terminal_another_plan_is_asked_for_in_words() {
    let replanning = [again(&["Only one part, please."]), again(&["Only one part, please.", "And a third try."])];
    let goal = Goal::with(replanning.into_iter().chain([two(), writer("one")]).collect());
    let terminal = asked(&goal);
    terminal.type_line("c");
    terminal.wait_for("What should be different?");
    terminal.type_line(" ");
    terminal.wait_for("nothing was said");
    terminal.wait_for_times("Start these 2 tasks?", 2);
    terminal.type_line("c");
    terminal.wait_for_times("What should be different?", 2);
    terminal.type_line("Only one part, please.");
    terminal.wait_for("Start this task?");
    terminal.type_line("C");
    terminal.wait_for_times("What should be different?", 3);
    terminal.type_line("And a third try.");
    terminal.wait_for_times("Start this task?", 2);
    terminal.type_line("y");
    let (code, said) = terminal.end();
    assert_eq!(code, Some(0), "{said}");
    let feed = goal.scenario.run(&["feed", "--all"]);
    assert!(feed.success().contains("plan-2: another one is wanted: And a third try."), "{}", feed.stdout);
    assert_eq!(goal.scenario.landed("aedile/main"), ["one"]);
    let answers: Vec<Value> = goal.scenario.events_of("plan_answered").into_iter().map(|mut event| event["answer"].take()).collect();
    let another = |words: &str| json!({"answer": "another", "words": words});
    assert_eq!(answers, [another("Only one part, please."), another("And a third try."), json!({"answer": "accepted", "tasks": 1})]);
    let keys: Vec<Value> = goal.scenario.events_of("task_opened").into_iter().map(|mut event| event["spec"]["key"].take()).collect();
    assert_eq!(keys, ["plan", "plan-2", "plan-3", "one"]);
    goal.scenario.run(&["store", "check"]).success();
    goal.scenario.env.assert_nothing_left();
    goal.server.finish();
}

#[test]
fn killed_when_another_plan_is_asked_for() {
    let goal = Goal::with(vec![again(&["Only one."]), two(), writer("one")]);
    let mut command = goal.scenario.command(&["run", "Write the parts", "--model", MODEL]);
    command.env("AEDILE_CRASH_AT", CRASH_POINTS[1]);
    let terminal = Terminal::start(command);
    terminal.wait_for("Start these 2 tasks?");
    terminal.type_line("change");
    terminal.wait_for("What should be different?");
    terminal.type_line("Only one.");
    assert_eq!(terminal.end().0, None, "it was killed");
    goal.scenario.run(&["run", "--resume", "--yes"]).success();
    assert_eq!(goal.scenario.landed("aedile/main"), ["one"]);
    goal.scenario.env.assert_nothing_left();
    goal.server.finish();
}
