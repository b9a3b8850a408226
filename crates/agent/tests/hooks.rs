//! Hooks of the repository: what they are told, what they may decide, and that broken ones break nothing.

use aedile_core::runtime::{SessionEvent, TurnStop};
use serde_json::{Value, json};

use crate::support::{Bench, Turn, all_text, eventually, last_results};

/// Writes what a hook is told into a file, a line each.
const LOG: &str = "cat >> hooks.log; echo >> hooks.log";

fn told(bench: &Bench) -> Vec<Value> {
    bench.get("hooks.log").lines().filter(|line| !line.is_empty()).map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn write(path: &str) -> Turn {
    Turn::Calls(vec![("write", json!({"path": path, "content": "x\n"}))])
}

#[tokio::test]
async fn every_event_is_told_in_the_documented_shape() {
    let turns = vec![write("a.txt"), Turn::Calls(vec![("read", json!({"path": "missing"})), ("nonsense", json!({}))]), Turn::Say("Done.")];
    let bench = Bench::new(turns);
    let events = ["SessionStart", "UserPromptSubmit", "PreToolUse", "PostToolUse", "PostToolUseFailure", "Stop"];
    bench.hooks(&events.map(|event| (event, "", LOG)));
    let session = bench.session();
    session.prompt("go", &bench.sink()).await;
    let told = told(&bench);
    let names: Vec<&str> = told.iter().map(|told| told["hook_event_name"].as_str().unwrap()).collect();
    assert_eq!(
        names,
        ["SessionStart", "UserPromptSubmit", "PreToolUse", "PostToolUse", "PreToolUse", "PostToolUseFailure", "Stop"],
        "one end for each call; a tool that does not exist is no call"
    );
    for one in &told {
        assert_eq!(one["session_id"], session.id().as_str());
        assert!(bench.journal(session.id()).ends_with(one["transcript_path"].as_str().unwrap()), "{one}");
        assert_eq!(one["cwd"], bench.directory.path().to_str().unwrap());
    }
    assert_eq!((&told[0]["source"], &told[1]["prompt"]), (&json!("startup"), &json!("go")));
    let file = bench.path("a.txt");
    assert_eq!(told[2]["tool_name"], "Write");
    assert_eq!(told[2]["tool_input"], json!({"file_path": file.to_str().unwrap(), "content": "x\n"}));
    assert_eq!(told[3]["tool_use_id"], told[2]["tool_use_id"]);
    assert!(told[3]["tool_response"]["text"].as_str().unwrap().contains("a.txt"));
    assert!(told[5]["error"].as_str().unwrap().contains("does not exist") && told[5]["is_interrupt"] == false);
    assert_eq!((&told[6]["stop_hook_active"], &told[6]["last_assistant_message"]), (&json!(false), &json!("Done.")));
    assert_eq!(bench.warnings(), "");
}

#[tokio::test]
async fn a_call_is_refused_changed_or_left_alone_by_what_its_hook_answers() {
    let refuse =
        r#"echo '{"hookSpecificOutput":{"hookEventName":"PreToolUse","permissionDecision":"deny","permissionDecisionReason":"no notes"}}'"#;
    let change = r#"sed 's/.*"file_path":"\([^"]*\)a.txt".*/{"hookSpecificOutput":{"hookEventName":"PreToolUse","permissionDecision":"allow","updatedInput":{"file_path":"\1b.txt","content":"changed\\n"}}}/'"#;
    let bench = Bench::new(vec![
        write("a.txt"),
        Turn::Calls(vec![("edit", json!({"path": "b.txt", "old_string": "changed", "new_string": "y"}))]),
        Turn::Calls(vec![("bash", json!({"command": "touch never"}))]),
        Turn::Say("ok"),
    ]);
    bench.hooks(&[
        ("PreToolUse", "Write", change),
        ("PreToolUse", "Edit|MultiEdit", refuse),
        ("PreToolUse", "Bash", "echo not here >&2; exit 2"),
    ]);
    assert_eq!(bench.prompt("go").await.stop, TurnStop::EndTurn);
    assert_eq!(bench.get("b.txt"), "changed\n");
    assert!(!bench.path("a.txt").exists() && !bench.path("never").exists());
    assert!(all_text(&bench.model.request(1)).contains("was changed to"), "the model knows");
    assert_eq!(last_results(&bench.model.request(2)), [("refused by a hook of the repository: no notes".to_owned(), true)]);
    assert_eq!(last_results(&bench.model.request(3)), [("refused by a hook of the repository: not here".to_owned(), true)]);
    assert!(bench.model.request(0).system.contains("<hook>"));
}

#[tokio::test]
async fn what_hooks_add_reaches_the_model() {
    let after =
        r#"echo '{"hookSpecificOutput":{"hookEventName":"PostToolUse","additionalContext":"format it"},"systemMessage":"for people"}'"#;
    let bench = Bench::new(vec![write("a.txt"), Turn::Say("ok")]);
    bench.hooks(&[
        ("SessionStart", "startup", "echo the branch is main"),
        ("SessionStart", "compact", "echo not now"),
        ("UserPromptSubmit", "", "echo today is Monday"),
        ("PostToolUse", "Write", after),
    ]);
    bench.prompt("go").await;
    let (first, second) = (all_text(&bench.model.request(0)), all_text(&bench.model.request(1)));
    assert!(first.contains("the branch is main") && first.contains("today is Monday") && !first.contains("not now"), "{first}");
    assert!(second.contains("format it") && !second.contains("for people"), "{second}");
    assert!(bench.warnings().contains("says: for people"));
}

#[tokio::test]
async fn a_stop_hook_sends_the_agent_back_and_is_guarded() {
    let once = r#"grep -q '"stop_hook_active":false' && echo '{"decision":"block","reason":"run the tests"}' || true"#;
    let bench = Bench::new(vec![Turn::Say("Done."), Turn::Say("Tested.")]);
    bench.hooks(&[("Stop", "", once)]);
    assert_eq!(bench.prompt("go").await.stop, TurnStop::EndTurn);
    assert!(all_text(&bench.model.request(1)).contains("run the tests"));
    assert_eq!(bench.model.count(), 2);
    let bench = Bench::new((0..30).map(|_| Turn::Say("Done.")).collect());
    bench.hooks(&[("Stop", "", "echo again >&2; exit 2")]);
    assert_eq!(bench.prompt("go").await.stop, TurnStop::EndTurn);
    assert_eq!(bench.model.count(), 9);
    assert!(bench.warnings().contains("wants the agent to go on"), "{}", bench.warnings());
}

#[tokio::test]
async fn a_prompt_may_be_refused_and_a_hook_may_stop_the_agent() {
    let bench = Bench::new(vec![Turn::Say("never")]);
    bench.hooks(&[("UserPromptSubmit", "", "echo no secrets please >&2; exit 2")]);
    let end = bench.prompt("the key is 1234").await;
    assert_eq!((end.stop, bench.model.count()), (TurnStop::Failed, 0));
    assert!(end.detail.unwrap().contains("no secrets please"));
    let bench = Bench::new(vec![write("a.txt"), Turn::Say("never")]);
    bench.hooks(&[("PostToolUse", "", r#"echo '{"continue":false,"stopReason":"enough"}'"#)]);
    let end = bench.prompt("go").await;
    assert_eq!((end.stop, bench.model.count()), (TurnStop::EndTurn, 1));
    assert!(end.detail.unwrap().contains("enough"));
}

#[tokio::test]
async fn broken_huge_and_hanging_hooks_warn_and_break_nothing() {
    let hooks: &[(&str, &str)] = &[
        ("exit 3", "failed with exit code 3"),
        ("echo '{\"decision\": '", "JSON that is broken"),
        ("echo '{\"decision\": \"perhaps\"}'", "unknown decision \"perhaps\""),
        ("yes '{' | head -c 300000", "said more than a hook may"),
        ("kill -9 $$", "ended by signal 9"),
        ("/no/such/program", "failed with exit code 127"),
        ("sleep 600 & sleep 600", "did not end in its time"),
    ];
    for (command, words) in hooks {
        let bench = Bench::new(vec![write("a.txt"), Turn::Say("ok")]);
        let hook = json!({"type": "command", "command": command, "timeout": 1});
        let settings = json!({"hooks": {"PreToolUse": [{"matcher": "*", "hooks": [hook]}]}});
        bench.put(".agents/settings.json", &settings.to_string());
        assert_eq!(bench.prompt("go").await.stop, TurnStop::EndTurn, "{command}");
        assert_eq!(bench.get("a.txt"), "x\n", "{command}");
        assert!(bench.warnings().contains(words) && bench.warnings().contains("hook of PreToolUse"), "{}", bench.warnings());
        let ends = bench.events().into_iter().filter(|event| matches!(event, SessionEvent::ToolEnded { .. })).count();
        assert_eq!(ends, 1);
    }
}

#[tokio::test]
async fn settings_that_cannot_be_used_are_named() {
    let good = json!({"type": "command", "command": "echo ran > ran"});
    let cases = [
        ("{ not json".to_owned(), "it is not a JSON object"),
        (format!("{{\"x\": \"{}\"}}", "y".repeat(300_000)), "more than 262144 bytes"),
        (json!({"hooks": {"Whenever": [], "Stop": [{"hooks": [good]}]}}).to_string(), "\"Whenever\""),
        (json!({"hooks": {"Stop": [{"hooks": [{"type": "prompt", "prompt": "?"}, good]}]}}).to_string(), "\"prompt\""),
        (json!({"hooks": {"Stop": [{"matcher": "(", "hooks": [good]}]}}).to_string(), "is no regular expression"),
        (json!({"hooks": {"Stop": "echo"}}).to_string(), "a list of matchers"),
        (
            json!({"hooks": {"Stop": [{"hooks": [{"type": "command", "command": "echo ran > ran", "timeout": "long"}]}]}}).to_string(),
            "timeout",
        ),
    ];
    for (settings, words) in cases {
        let bench = Bench::new(vec![Turn::Say("ok")]);
        bench.put(".claude/settings.json", &settings);
        assert_eq!(bench.prompt("go").await.stop, TurnStop::EndTurn);
        let warnings = bench.warnings();
        assert!(warnings.contains(words) && warnings.contains(".claude/settings.json"), "{warnings}");
        assert_eq!(bench.path("ran").exists(), settings.contains("ran > ran") && !words.contains("expression"), "{settings}");
    }
}

#[tokio::test]
async fn what_the_agent_writes_into_the_settings_gives_it_nothing() {
    let guard = "echo no >&2; exit 2";
    let weaken = || {
        Turn::Calls(vec![
            ("bash", json!({"command": "echo '{}' > .claude/settings.json"})),
            ("write", json!({"path": "a.txt", "content": "x"})),
        ])
    };
    let mut bench = Bench::new(vec![weaken(), Turn::Say("ok")]);
    bench.hooks(&[("PreToolUse", "Write", guard)]);
    let session = bench.session();
    session.prompt("go", &bench.sink()).await;
    assert_eq!(bench.get(".claude/settings.json"), "{}\n");
    assert!(!bench.path("a.txt").exists());
    let id = session.id().clone();
    drop(session);
    bench.next_life(vec![write("b.txt"), Turn::Say("ok")]);
    bench.open(&id).await.prompt("go", &bench.sink()).await;
    assert!(!bench.path("b.txt").exists(), "the hooks of the session's beginning hold in a later process");
}

#[tokio::test]
async fn an_interrupted_call_ends_once_for_hooks_too_and_a_closed_session_says_so() {
    let bench = Bench::new(vec![Turn::Calls(vec![("bash", json!({"command": "touch begun; sleep 600"}))]), Turn::Say("ok")]);
    bench.hooks(&[("PostToolUse", "", LOG), ("PostToolUseFailure", "", LOG), ("SessionEnd", "", "touch ended"), ("SessionStart", "", LOG)]);
    let agent = aedile_agent::Agent::new(bench.config.clone());
    let id = aedile_core::runtime::LocalAgent::new_session(&agent, bench.directory.path().to_str().unwrap()).await.unwrap();
    let (end, ()) = tokio::join!(aedile_core::runtime::LocalAgent::prompt(&agent, &id, "go", bench.sink()), async {
        eventually("the command runs", || bench.path("begun").exists()).await;
        aedile_core::runtime::LocalAgent::cancel(&agent, &id).await;
    });
    assert_eq!(end.stop, TurnStop::Cancelled);
    let told = told(&bench);
    assert_eq!(told.len(), 2, "{told:?}");
    assert_eq!((&told[1]["hook_event_name"], &told[1]["is_interrupt"]), (&json!("PostToolUseFailure"), &json!(true)));
    aedile_core::runtime::LocalAgent::close(&agent).await;
    assert!(bench.path("ended").exists());
}

#[tokio::test]
async fn prompts_that_are_empty_or_enormous_are_refused() {
    let bench = Bench::new(vec![Turn::Say("never")]);
    for (prompt, words) in [(" \n".to_owned(), "is empty"), ("x".repeat(300_000), "put the text into a file")] {
        let end = bench.prompt(&prompt).await;
        assert_eq!(end.stop, TurnStop::Failed);
        assert!(end.detail.unwrap().contains(words));
    }
    assert_eq!(bench.model.count(), 0);
}
