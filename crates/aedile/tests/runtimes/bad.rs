//! Agents that behave badly, in real boxes: each is named for what it does, and none holds anything up.

use std::sync::Arc;

use aedile_core::runtime::{Runtime, SessionEvent, TurnStop};
use aedile_runtimes::{AcpRuntime, CLAUDE_VERSION_MIN, ClaudeRuntime};
use aedile_testkit::ScriptedServer;

use super::rig::{NoLife, Rig, soon};

/// A stand-in for Claude Code that shakes hands with `version` and then runs `then` for the first message.
fn claude(version: &str, then: &str) -> String {
    format!(
        "#!/usr/bin/env python3
import json, sys, time, os
def say(value):
    print(json.dumps(value), flush=True)
def hear():
    return json.loads(sys.stdin.readline())
asked = hear()
say({{'type': 'control_response', 'response': {{'subtype': 'success', 'request_id': asked['request_id'],
    'response': {{'claude_code_version': '{version}'}}}}}})
asked = hear()
{then}
"
    )
}

/// A stand-in for an agent that speaks ACP and runs `then` for the first prompt, whose id is `turn`.
fn acp(then: &str) -> String {
    format!(
        "#!/usr/bin/env python3
import json, sys, time, os
def say(value):
    print(json.dumps(dict(value, jsonrpc='2.0')), flush=True)
def hear():
    return json.loads(sys.stdin.readline())
say({{'id': hear()['id'], 'result': {{'protocolVersion': 1, 'agentCapabilities': {{}}}}}})
say({{'id': hear()['id'], 'result': {{'sessionId': 's'}}}})
turn = hear()['id']
{then}
"
    )
}

/// The two ways to speak with a stub at `/workspace/stub`, and its text for each.
fn both(of_claude: &str, of_acp: &str) -> [(Arc<dyn Runtime>, String); 2] {
    let program = "/workspace/stub".to_owned();
    [
        (Arc::new(ClaudeRuntime::new(program.clone())), claude(CLAUDE_VERSION_MIN, of_claude)),
        (Arc::new(AcpRuntime::command("stub", vec![program], vec![])), acp(of_acp)),
    ]
}

fn rig(runtime: Arc<dyn Runtime>, stub: &str) -> Rig {
    let server = ScriptedServer::start(Vec::new());
    let rig = Rig::new(runtime, "anthropic", &server.url());
    rig.put("stub", stub);
    rig
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nonsense_floods_and_crashes_end_the_turn_with_what_happened() {
    let words = "sys.stderr.write('the disk is full\\n'); sys.stderr.flush(); os._exit(3)";
    let flood = "line = json.dumps({'type': 'tool_progress', 'method': 'x/y'}) + '\\n'\nwhile True:\n    sys.stdout.write(line * 1000)";
    let long = "sys.stdout.write('x' * (20 << 20) + '\\n'); sys.stdout.flush(); time.sleep(100)";
    for (then, part) in [
        ("for _ in range(200): print('what is this', flush=True)\ntime.sleep(100)", "lines that are not its protocol"),
        (flood, "it floods"),
        (long, "a line of more than"),
        (words, "its last words: the disk is full"),
    ] {
        for (runtime, stub) in both(then, then) {
            let rig = rig(runtime, &stub);
            let mut life = rig.start(None).await.unwrap();
            let end = soon(life.session.prompt("go")).await;
            assert_eq!(end.stop, TurnStop::Failed, "{part}");
            assert!(end.detail.as_deref().unwrap().contains(part), "{part}: {end:?}");
            life.kill().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_that_hangs_is_given_up_and_its_box_ends() {
    let hang = "open('heard', 'w').close(); time.sleep(1000)";
    for (runtime, stub) in both(hang, hang) {
        let rig = rig(runtime, &stub);
        let mut life = rig.start(None).await.unwrap();
        let interrupt = async {
            rig.made("heard").await;
            life.session.interrupt().await;
            tokio::time::timeout(std::time::Duration::from_millis(300), std::future::pending::<()>()).await
        };
        let given_up = async {
            tokio::select! {
                end = life.session.prompt("go") => Ok(end),
                over = interrupt => Err(over),
            }
        };
        let given_up = given_up.await;
        assert!(given_up.is_err(), "it answers nothing, but: {given_up:?}");
        life.kill().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_and_terminals_are_refused_and_told_and_permission_is_given() {
    let then = "answers = []
for method in ['fs/read_text_file', 'terminal/create', 'session/request_permission']:
    options = [{'optionId': 'yes', 'kind': 'allow_once', 'name': 'Yes'}]
    say({'id': method, 'method': method, 'params': {'sessionId': 's', 'path': '/etc/passwd', 'options': options}})
    answers.append(hear())
open('answers.json', 'w').write(json.dumps(answers))
say({'id': turn, 'result': {'stopReason': 'end_turn'}})
sys.stdin.read()";
    let rig = rig(Arc::new(AcpRuntime::command("stub", vec!["/workspace/stub".to_owned()], vec![])), &acp(then));
    let life = rig.start(None).await.unwrap();
    assert_eq!(soon(life.session.prompt("go")).await.stop, TurnStop::EndTurn);
    let answers: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(rig.tree("answers.json")).unwrap()).unwrap();
    assert_eq!((&answers[0]["error"]["code"], &answers[1]["error"]["code"]), (&(-32601).into(), &(-32601).into()), "{answers}");
    assert_eq!(answers[2]["result"]["outcome"]["optionId"], "yes");
    let told: Vec<String> = life.events().iter().map(|event| format!("{event:?}")).collect();
    assert!(
        told.iter().any(|event| event.contains("fs/read_text_file")) && told.iter().any(|event| event.contains("terminal/create")),
        "{told:?}"
    );
    assert!(life.events().iter().all(|event| matches!(event, SessionEvent::Warning { .. })), "{told:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn missing_and_too_old_agents_are_named_with_what_to_do() {
    let missing = rig(Arc::new(ClaudeRuntime::new("claude-that-is-nowhere")), "").start(None).await.err().unwrap();
    assert!(matches!(&missing, NoLife::Box(error) if error.to_string().contains("claude-that-is-nowhere")), "{missing:?}");
    let old = rig(Arc::new(ClaudeRuntime::new("/workspace/stub")), &claude("1.0.3", "")).start(None).await.err().unwrap();
    let NoLife::Runtime(error) = old else { panic!("{old:?}") };
    assert!(error.message.contains("1.0.3") && error.message.contains("claude update"), "{error}");
    let rig = rig(
        Arc::new(ClaudeRuntime::new("/workspace/stub")),
        "#!/bin/sh\necho \"error: unknown option '--replay-user-messages'\" >&2\nexit 1\n",
    );
    let NoLife::Runtime(error) = rig.start(None).await.err().unwrap() else { panic!("the box was made") };
    assert!(error.message.contains("unknown option"), "{error}");
}
