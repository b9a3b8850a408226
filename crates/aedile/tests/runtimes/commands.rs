//! `aedile runtime`, `--runtime`, and an agent that is added by its command.

use crate::scenario::Scenario;

/// The example of the manual's page.
fn example() -> String {
    let page = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/runtimes.md");
    let text = std::fs::read_to_string(page).unwrap();
    text.split("```toml\n").nth(1).unwrap().split("```").next().unwrap().to_owned()
}

#[test]
fn an_agent_by_command_lands_a_task() {
    let found = aedile_sandbox::find_program(&super::path(), "opencode");
    let why = "`opencode` is not on the PATH: npm install opencode-ai@1.18.33";
    if !aedile_testkit::require("an_agent_by_command_lands_a_task", found.is_none().then_some(why)) {
        return;
    }
    let scenario = Scenario::with_config(&format!("target = \"main\"\n[[gate]]\nname = \"test\"\ncommand = \"sh test.sh\"\n{}", example()));
    scenario.tasks(
        "goal = \"One part\"\n[[task]]\nid = \"part\"\nprompt = \"Write the part.\"\nscope = [\"parts/part.txt\"]\nscript = [\n\
         { shell = \"echo ok part > parts/part.txt; echo no > notes.md; aedile submit -m 'Write the part'\" },\n  { text = \"It is done.\" } ]\n",
    );
    scenario.finish(&["--runtime", "opencode"]).success();
    assert_eq!(scenario.repo.show("aedile/main", "parts/part.txt"), "ok part\n");
    assert_eq!(scenario.repo.show("aedile/main", "notes.md"), "Parts.\n", "the kernel kept it from what is not in its scope");
    scenario.env.assert_nothing_left();
}

#[test]
fn a_runtime_is_tried_in_a_box_and_what_is_missing_is_said() {
    let mut scenario = Scenario::with_config("[runtime.mine]\ncommand = [\"agent-that-is-nowhere\", \"acp\"]\n");
    let tried = scenario.run(&["runtime", "test", "aedile", "--json"]);
    let report = tried.last_json();
    assert_eq!((tried.code(), &report["well"]), (Some(0), &true.into()), "{report}");
    let checks: Vec<&str> = report["checks"].as_array().unwrap().iter().map(|check| check["check"].as_str().unwrap()).collect();
    assert_eq!(checks, ["found", "version", "starts", "takes a turn", "runs a tool", "submits"]);
    if super::has_claude("a_runtime_is_tried_in_a_box_and_what_is_missing_is_said") {
        let claude = scenario.run(&["runtime", "test", "claude", "--json"]);
        assert_eq!((claude.code(), &claude.last_json()["well"]), (Some(0), &true.into()), "{}", claude.stdout);
    }
    let mine = scenario.run(&["runtime", "test", "mine", "--json"]);
    let report = mine.last_json();
    assert_eq!((mine.code(), &report["well"]), (Some(1), &false.into()));
    assert!(report["next"].as_str().unwrap().contains("[runtime.mine] command"), "{report}");
    let unknown = scenario.run(&["runtime", "test", "vi"]);
    assert!(unknown.expect_code(2).contains("known are `aedile`, `claude`, `mine`"), "{}", unknown.stderr);
    let list = scenario.run(&["runtime", "list", "--json"]).last_json();
    let names: Vec<&str> = list["runtimes"].as_array().unwrap().iter().map(|entry| entry["runtime"].as_str().unwrap()).collect();
    assert_eq!(names, ["aedile", "claude", "mine"]);
    // A run says the same before anything begins.
    scenario.tasks("goal = \"g\"\n[[task]]\nid = \"one\"\nprompt = \"p\"\nmodel = \"anthropic/claude-sonnet-4-5\"\n");
    let run = scenario.finish(&["--runtime", "mine"]);
    assert!(run.expect_code(4).contains("task \"one\": the runtime `mine` is not installed"), "{}", run.stderr);
    assert!(scenario.finish(&["--runtime", "vi"]).expect_code(2).contains("runtime \"vi\" is not known"));
    let without = super::path().into_iter().filter(|directory| !directory.join("claude").exists());
    scenario.env.var("PATH", std::env::join_paths(without).unwrap());
    let run = scenario.finish(&["--runtime", "claude"]);
    assert!(run.expect_code(4).contains("npm install -g @anthropic-ai/claude-code@"), "{}", run.stderr);
    assert!(scenario.events().is_empty(), "nothing was begun");
}
