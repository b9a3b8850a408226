//! Sub-agents: their own context, a part of the rights, marked events.

use aedile_core::model::{ModelError, ModelRequest, ToolSpec};
use aedile_core::runtime::{SessionEvent, TurnStop};
use aedile_core::tool::{Sight, Tool, ToolOutput, ToolRisk};
use aedile_tools::ToolBox;
use async_trait::async_trait;
use serde_json::{Value, json};
use std::path::Path;
use std::sync::Arc;

use crate::support::{Bench, Turn, all_text, eventually, is_alive, last_results, two_at_once};

fn task(more: &Value) -> (&'static str, Value) {
    let mut input = json!({"description": "look", "prompt": "Find the number."});
    input.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    ("task", input)
}

fn tools_of(request: &ModelRequest) -> Vec<&str> {
    request.tools.iter().map(|tool| tool.name.as_str()).collect()
}

#[tokio::test]
async fn a_reading_sub_agent_has_its_own_context_and_answers_with_its_last_words() {
    let bench = Bench::new(vec![
        Turn::Calls(vec![task(&json!({}))]),
        Turn::Calls(vec![("read", json!({"path": "a.txt"})), ("write", json!({"path": "a.txt", "content": "no"}))]),
        Turn::Say("The number is 42."),
        Turn::Say("ok"),
    ]);
    bench.put("a.txt", "42 and much else\n");
    bench.put("AGENTS.md", "Use tabs.\n");
    let session = bench.session();
    assert_eq!(session.prompt("What is the secret task?", &bench.sink()).await.stop, TurnStop::EndTurn);
    let child = bench.model.request(1);
    assert!(child.system.contains("You are a sub-agent") && child.system.contains("Use tabs."), "{}", child.system);
    assert!(!all_text(&child).contains("secret task"));
    let tools = tools_of(&child);
    assert!(tools.contains(&"read") && ["write", "edit", "bash", "task"].iter().all(|tool| !tools.contains(tool)), "{tools:?}");
    assert!(tools_of(&bench.model.request(0)).contains(&"task"));
    assert!(last_results(&bench.model.request(2))[1].0.contains("there is no tool \"write\""));
    let last = bench.model.request(3);
    assert_eq!(last_results(&last), [("The number is 42.".to_owned(), false)]);
    assert!(!all_text(&last).contains("much else"), "what it read stays with it");
    let marked = bench.events().into_iter().filter(|event| matches!(event, SessionEvent::SubAgent { agent, .. } if agent == "explore-1"));
    assert_eq!(marked.count(), 5, "two calls with their ends, and a text");
    let kept = bench.journal(session.id()).with_extension("");
    assert_eq!(std::fs::read_dir(kept).unwrap().count(), 1, "its transcript is on disk");
}

/// Hands in, as an orchestrator's tool would.
struct Submit;

#[async_trait]
impl Tool for Submit {
    fn spec(&self) -> ToolSpec {
        ToolSpec { name: "submit".to_owned(), description: String::new(), input_schema: json!({"type": "object"}) }
    }
    fn risk(&self) -> ToolRisk {
        ToolRisk::Control
    }
    async fn call(&self, _input: Value) -> ToolOutput {
        ToolOutput { ends_turn: true, ..ToolOutput::ok("handed in") }
    }
}

#[tokio::test]
async fn an_agent_of_the_repository_has_what_its_file_says_and_no_more() {
    let mut bench = Bench::new(vec![
        Turn::Calls(vec![task(&json!({"agent": "tester"}))]),
        Turn::Calls(vec![("bash", json!({"command": "echo 1"}))]),
        Turn::Say("Tested."),
        Turn::Calls(vec![task(&json!({"agent": "tester", "kind": "read-only"}))]),
        Turn::Say("Read."),
        Turn::Calls(vec![task(&json!({"kind": "writing"}))]),
        Turn::Say("Written."),
        Turn::Say("ok"),
    ]);
    bench.config.tools = Arc::new(|cwd: &Path, _: &Sight| {
        let mut tools = ToolBox::standard(cwd, &[], None);
        tools.push(Arc::new(Submit));
        tools
    });
    let file =
        "---\nname: tester\ndescription: Runs tests.\ntools: Read, Bash, Submit, Teleport\nmodel: opus\n---\nYou test. Be thorough.\n";
    bench.put(".claude/agents/tester.md", file);
    let log = "cat >> hooks.log; echo >> hooks.log";
    bench.hooks(&[("SubagentStart", "tester", log), ("PreToolUse", "Bash", log), ("SubagentStop", "tester", log), ("Stop", "", log)]);
    assert_eq!(bench.prompt("go").await.stop, TurnStop::EndTurn);
    let spec = bench.model.request(0).tools.into_iter().find(|tool| tool.name == "task").unwrap();
    assert!(spec.description.contains("- tester: Runs tests."));
    let child = bench.model.request(1);
    assert!(child.system.starts_with("You test. Be thorough.") && child.system.contains("You are a sub-agent"));
    assert_eq!(tools_of(&child), ["read", "bash"]);
    assert_eq!(tools_of(&bench.model.request(4)), ["read"]);
    let writing = bench.model.request(6);
    let tools = tools_of(&writing);
    assert!(tools.contains(&"write") && tools.contains(&"bash") && !tools.contains(&"submit") && !tools.contains(&"task"), "{tools:?}");
    let warnings = bench.warnings();
    assert!(
        warnings.contains("tester asks for the tool Teleport, which it does not get here") && warnings.contains("tool Submit"),
        "{warnings}"
    );
    let told: Vec<Value> =
        bench.get("hooks.log").lines().filter(|line| !line.is_empty()).map(|l| serde_json::from_str(l).unwrap()).collect();
    let names: Vec<&str> = told.iter().map(|told| told["hook_event_name"].as_str().unwrap()).collect();
    assert_eq!(names, ["SubagentStart", "PreToolUse", "SubagentStop", "SubagentStart", "SubagentStop", "Stop"]);
    assert!(told[..3].iter().all(|told| told["agent_type"] == "tester" && told["agent_id"] == told_id(&told_first(&bench))));
    assert_eq!(told[2]["last_assistant_message"], "Tested.");
}

fn told_first(bench: &Bench) -> Value {
    serde_json::from_str(bench.get("hooks.log").lines().next().unwrap()).unwrap()
}

fn told_id(told: &Value) -> Value {
    told["agent_id"].clone()
}

#[tokio::test]
async fn sub_agents_work_side_by_side() {
    let pair = || Turn::Calls(vec![("pair", json!({}))]);
    let mut bench = Bench::new(vec![
        Turn::Calls(vec![task(&json!({})), task(&json!({}))]),
        pair(),
        pair(),
        Turn::Say("Met."),
        Turn::Say("Met."),
        Turn::Say("ok"),
    ]);
    let pair = two_at_once();
    bench.config.tools = Arc::new(move |_, _| vec![Arc::clone(&pair)]);
    assert_eq!(bench.prompt("go").await.stop, TurnStop::EndTurn);
    let met = ("Met.".to_owned(), false);
    assert_eq!(last_results(&bench.model.request(5)), [met.clone(), met]);
    for child in [3, 4] {
        assert_eq!(last_results(&bench.model.request(child)), [("met".to_owned(), false)]);
    }
}

#[tokio::test]
async fn a_wrong_order_and_a_failed_sub_agent_are_errors_for_the_parent() {
    let failure = ModelError::OverBudget { message: "the task's budget is spent".to_owned() };
    let bench = Bench::new(vec![
        Turn::Calls(vec![
            ("task", json!({"description": "x"})),
            task(&json!({"kind": "all"})),
            task(&json!({"agent": "nobody"})),
            ("task", json!("torn")),
        ]),
        Turn::Calls(vec![task(&json!({}))]),
        Turn::Fail(failure),
        Turn::Say("ok"),
    ]);
    assert_eq!(bench.prompt("go").await.stop, TurnStop::EndTurn);
    let results = last_results(&bench.model.request(1));
    let words =
        ["`prompt` is missing", "must be read-only or writing, not \"all\"", "no agent \"nobody\"; it has: none", "`prompt` is missing"];
    for (result, words) in results.iter().zip(words) {
        assert!(result.1 && result.0.contains(words), "{result:?}");
    }
    assert_eq!(last_results(&bench.model.request(3)), [("the sub-agent explore-1 stopped: the task's budget is spent".to_owned(), true)]);
}

#[tokio::test]
async fn an_interrupt_ends_the_sub_agent_and_what_it_runs() {
    let bench = Bench::new(vec![
        Turn::Calls(vec![task(&json!({"kind": "writing"}))]),
        Turn::Calls(vec![("bash", json!({"command": "echo $$ > pid; sleep 600"}))]),
        Turn::Say("later"),
    ]);
    let session = bench.session();
    let sink = bench.sink();
    let (end, ()) = tokio::join!(session.prompt("go", &sink), async {
        eventually("the command runs", || bench.path("pid").exists() && !bench.get("pid").is_empty()).await;
        session.interrupt();
    });
    assert_eq!(end.stop, TurnStop::Cancelled);
    let pid = bench.get("pid");
    eventually("the program is ended", || !is_alive(&pid)).await;
    assert_eq!(session.prompt("again", &sink).await.stop, TurnStop::EndTurn);
}

#[tokio::test]
async fn every_call_of_an_interrupted_sub_agent_ends_once() {
    let bench = Bench::new(vec![
        Turn::Calls(vec![task(&json!({"kind": "writing"}))]),
        Turn::Calls(vec![("bash", json!({"command": "touch begun; sleep 600"})), ("bash", json!({"command": "touch never"}))]),
    ]);
    let log = "sed 's/.*hook_event_name\":\"\\([A-Za-z]*\\).*/\\1/' >> log; echo >> log";
    bench.hooks(&[("PreToolUse", "Bash", log), ("PostToolUse", "Bash", log), ("PostToolUseFailure", "Bash", "cat >> log; echo >> log")]);
    let session = bench.session();
    let sink = bench.sink();
    let (end, ()) = tokio::join!(session.prompt("go", &sink), async {
        eventually("the command runs", || bench.path("begun").exists()).await;
        session.interrupt();
    });
    assert_eq!(end.stop, TurnStop::Cancelled);
    let inner = |event: SessionEvent| match event {
        SessionEvent::SubAgent { event, .. } => Some(*event),
        _ => None,
    };
    let inner: Vec<SessionEvent> = bench.events().into_iter().filter_map(inner).collect();
    let [SessionEvent::ToolStarted { id, .. }, SessionEvent::ToolEnded { id: ended, is_error: true, output }] = &inner[..] else {
        panic!("the sub-agent's call has a start and an end: {inner:?}");
    };
    assert!(id == ended && output.starts_with("interrupted"), "{output}");
    let told = bench.get("log");
    assert_eq!((told.matches("PreToolUse").count(), told.matches("PostToolUseFailure").count()), (1, 1), "{told}");
    assert!(told.contains("\"is_interrupt\":true"), "{told}");
    let outer = bench.events().into_iter().find_map(|event| match event {
        SessionEvent::ToolEnded { output, .. } => Some(output),
        _ => None,
    });
    assert_eq!(outer.as_deref(), Some("the sub-agent build-1 stopped: it was interrupted"));
    assert_eq!(session.prompt("again", &sink).await.stop, TurnStop::EndTurn);
}
