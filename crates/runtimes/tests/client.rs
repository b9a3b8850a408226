//! Our client against an agent that is played by hand, often badly.

use std::io::Write;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex};

use aedile_core::SessionId;
use aedile_core::limits::{PROTOCOL_GARBAGE_LINES_MAX, PROTOCOL_LINE_BYTES_MAX};
use aedile_core::runtime::{AgentSession, Runtime, RuntimeError, SessionEvent, TurnStop};
use aedile_runtimes::AcpRuntime;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;

use crate::fake::{ByHand, pipes, recorder, request, request_to_resume, soon};

struct Played {
    session: Box<dyn AgentSession>,
    agent: ByHand,
    stderr: std::io::PipeWriter,
    events: Arc<Mutex<Vec<SessionEvent>>>,
}

async fn handshake(agent: &mut ByHand) {
    let (id, params) = agent.expect("initialize").await;
    assert_eq!(params["protocolVersion"], 1);
    let offered = json!({
        "fs": {"readTextFile": false, "writeTextFile": false},
        "terminal": false,
        "_meta": {"aedile": {"unattended": true}},
    });
    assert_eq!(params["clientCapabilities"], offered, "no file and no terminal service");
    agent.answer(&id, json!({"protocolVersion": 1, "agentCapabilities": {"loadSession": true}, "authMethods": [{"id": "x"}]})).await;
}

async fn played() -> Played {
    let (io, ends) = pipes();
    let mut agent = ByHand::new(ends.stdin, ends.stdout);
    let (sink, events) = recorder();
    let runtime = AcpRuntime::command("other", vec!["other".into()], vec![]);
    let open = async {
        handshake(&mut agent).await;
        let (id, params) = agent.expect("session/new").await;
        assert_eq!(params, json!({"cwd": "/workspace", "mcpServers": []}));
        agent.answer(&id, json!({"sessionId": "s-1", "modes": {"currentModeId": "auto", "availableModes": []}})).await;
    };
    let launch = request();
    let (session, ()) = soon(async { tokio::join!(runtime.attach(io, &launch, sink), open) }).await;
    Played { session: session.unwrap(), agent, stderr: ends.stderr, events }
}

fn update(update: &Value) -> Value {
    json!({"jsonrpc": "2.0", "method": "session/update", "params": {"sessionId": "s-1", "update": update}})
}

#[tokio::test]
async fn permission_is_given_and_services_are_refused() {
    let mut played = played().await;
    let turn = async {
        let (prompt, params) = played.agent.expect("session/prompt").await;
        assert_eq!(params, json!({"sessionId": "s-1", "prompt": [{"type": "text", "text": "go"}]}));
        let options = json!([{"optionId": "no", "name": "No", "kind": "reject_once"}, {"optionId": "always", "name": "A", "kind": "allow_always"},
            {"optionId": "yes", "name": "Yes", "kind": "allow_once"}]);
        let ask = json!({"sessionId": "s-1", "toolCall": {"toolCallId": "t"}, "options": options});
        played.agent.say(json!({"jsonrpc": "2.0", "id": "p-1", "method": "session/request_permission", "params": ask})).await;
        let answer = played.agent.hear().await;
        assert_eq!(answer, json!({"jsonrpc": "2.0", "id": "p-1", "result": {"outcome": {"outcome": "selected", "optionId": "yes"}}}));
        for method in ["fs/read_text_file", "fs/write_text_file", "terminal/create", "session/request_permission", "x"] {
            played.agent.say(json!({"jsonrpc": "2.0", "id": 0, "method": method, "params": {"path": "/etc/passwd"}})).await;
            let refused = played.agent.hear().await;
            let code = if method == "session/request_permission" { -32602 } else { -32601 };
            assert_eq!((&refused["error"]["code"], &refused["id"]), (&json!(code), &json!(0)), "{method}");
        }
        played.agent.answer(&prompt, json!({"stopReason": "end_turn", "usage": {"x": 1}})).await;
    };
    let (end, ()) = soon(async { tokio::join!(played.session.prompt("go"), turn) }).await;
    assert_eq!(end.stop, TurnStop::EndTurn);
    let told = played.events.lock().unwrap().iter().map(|event| format!("{event:?}")).collect::<Vec<_>>();
    assert_eq!(told.len(), 4, "{told:?}");
    assert!(told[0].contains("fs/read_text_file, which is not offered"), "{told:?}");
}

#[tokio::test]
async fn after_an_interrupt_permission_is_cancelled_and_an_error_means_cancelled() {
    let mut played = played().await;
    let turn = async {
        let (prompt, _) = played.agent.expect("session/prompt").await;
        played.session.interrupt().await;
        let (id, params) = played.agent.expect("session/cancel").await;
        assert_eq!((id, params), (Value::Null, json!({"sessionId": "s-1"})));
        let ask = json!({"options": [{"optionId": "yes", "kind": "allow_once"}]});
        played.agent.say(json!({"jsonrpc": "2.0", "id": 1, "method": "session/request_permission", "params": ask})).await;
        assert_eq!(played.agent.hear().await["result"], json!({"outcome": {"outcome": "cancelled"}}));
        played.agent.say(json!({"jsonrpc": "2.0", "id": prompt, "error": {"code": -32603, "message": "aborted"}})).await;
    };
    let (end, ()) = soon(async { tokio::join!(played.session.prompt("go"), turn) }).await;
    assert_eq!(end.stop, TurnStop::Cancelled);
}

#[tokio::test]
async fn the_death_of_the_process_is_told_with_its_last_words() {
    let played = played().await;
    let mut stderr = played.stderr;
    let mut agent = played.agent;
    let death = async {
        agent.expect("session/prompt").await;
        stderr.write_all(b"noise\nthread 'main' panicked: \x1b[31mout of cheese\n").unwrap();
        drop((agent, stderr));
    };
    let (end, ()) = soon(async { tokio::join!(played.session.prompt("go"), death) }).await;
    assert_eq!(end.stop, TurnStop::Failed);
    let detail = end.detail.unwrap();
    assert!(detail.contains("process has ended") && detail.contains("out of cheese") && !detail.contains('\x1b'), "{detail}");
    assert!(played.session.stderr_tail().contains("out of cheese"));
    let again = soon(played.session.prompt("again")).await;
    assert_eq!(again.stop, TurnStop::Failed);
    played.events.lock().unwrap().clear();
}

#[tokio::test]
async fn some_garbage_is_tolerated_and_much_is_not() {
    let mut played = played().await;
    let turn = async {
        let (prompt, _) = played.agent.expect("session/prompt").await;
        for line in ["npm warn deprecated", "{}", "[1,2]", "\"x\"", r#"{"jsonrpc":"2.0","id":99,"result":{}}"#, r#"{"id":[[]],"result":1}"#]
        {
            played.agent.say(line).await;
        }
        played.agent.say(format!("{}{}", "[".repeat(100_000), "]".repeat(100_000))).await;
        played.agent.say(update(&json!({"sessionUpdate": "agent_message_chunk", "content": {"type": "text", "text": "still here"}}))).await;
        played.agent.answer(&prompt, json!({"stopReason": "end_turn"})).await;
        let (_, _) = played.agent.expect("session/prompt").await;
        for _ in 0..=PROTOCOL_GARBAGE_LINES_MAX {
            played.agent.say("garbage").await;
        }
    };
    let both = async {
        assert_eq!(played.session.prompt("one").await.stop, TurnStop::EndTurn);
        played.session.prompt("two").await
    };
    let (end, ()) = soon(async { tokio::join!(both, turn) }).await;
    assert_eq!(end.stop, TurnStop::Failed);
    assert!(end.detail.unwrap().contains("not its protocol"));
    assert_eq!(*played.events.lock().unwrap(), [SessionEvent::Text { text: "still here".into() }]);
}

#[tokio::test]
async fn a_line_without_end_breaks_the_session_and_not_the_memory() {
    let mut played = played().await;
    drop(played.stderr);
    let turn = async {
        played.agent.expect("session/prompt").await;
        let piece = vec![b'x'; 1 << 20];
        for _ in 0..=PROTOCOL_LINE_BYTES_MAX / piece.len() {
            played.agent.stdout.write_all(&piece).await.unwrap();
        }
        played.agent.say("").await;
    };
    let (end, ()) = soon(async { tokio::join!(played.session.prompt("go"), turn) }).await;
    assert_eq!(end.stop, TurnStop::Failed);
    assert!(end.detail.unwrap().contains("a line of more than"));
}

#[tokio::test]
async fn what_a_loaded_session_repeats_is_not_news() {
    let (io, ends) = pipes();
    let mut agent = ByHand::new(ends.stdin, ends.stdout);
    let (sink, events) = recorder();
    let id = SessionId::new("old").unwrap();
    let open = async {
        handshake(&mut agent).await;
        let (request, params) = agent.expect("session/load").await;
        assert_eq!(params, json!({"sessionId": "old", "cwd": "/workspace", "mcpServers": []}));
        agent.say(update(&json!({"sessionUpdate": "agent_message_chunk", "content": {"type": "text", "text": "said before"}}))).await;
        agent.answer(&request, Value::Null).await;
        agent.say(update(&json!({"sessionUpdate": "agent_message_chunk", "content": {"type": "text", "text": "new"}}))).await;
    };
    let (runtime, launch) = (AcpRuntime::aedile(), request_to_resume(Some(&id)));
    let (session, ()) = soon(async { tokio::join!(runtime.attach(io, &launch, sink), open) }).await;
    let session = session.unwrap();
    let turn = async {
        let (prompt, _) = agent.expect("session/prompt").await;
        agent.answer(&prompt, json!({"stopReason": "end_turn"})).await;
    };
    soon(async { tokio::join!(session.prompt("go"), turn) }).await;
    assert_eq!(*events.lock().unwrap(), [SessionEvent::Text { text: "new".into() }]);
}

async fn refused(answers: Vec<Value>, resume: bool) -> RuntimeError {
    let (io, ends) = pipes();
    let mut agent = ByHand::new(ends.stdin, ends.stdout);
    drop(ends.stderr);
    let id = SessionId::new("old").unwrap();
    let (runtime, launch) =
        (AcpRuntime::command("other", vec![], vec![]).with_auth_method("key"), request_to_resume(resume.then_some(&id)));
    let answer = async {
        for mut answer in answers {
            answer["id"] = agent.hear().await["id"].clone();
            agent.say(answer).await;
        }
        let _ = agent.stdout.shutdown().await;
        drop(agent);
    };
    let (session, ()) = soon(async { tokio::join!(runtime.attach(io, &launch, recorder().0), answer) }).await;
    session.err().unwrap()
}

#[tokio::test]
async fn a_handshake_that_fails_says_why() {
    let hello = |load: bool| json!({"jsonrpc": "2.0", "result": {"protocolVersion": 1, "agentCapabilities": {"loadSession": load}}});
    let ok = || json!({"jsonrpc": "2.0", "result": {}});
    let says = |error: RuntimeError, what: &str| assert!(error.to_string().contains(what), "{error}");
    says(refused(vec![], false).await, "process has ended");
    says(refused(vec![json!({"result": {"protocolVersion": 2}})], false).await, "speaks version 2");
    says(refused(vec![json!({"result": {"protocolVersion": "0.1"}})], false).await, "is not understood");
    says(
        refused(vec![hello(true), json!({"error": {"code": -32000, "message": "log in first"}})], false).await,
        "authenticate with error -32000: log in first",
    );
    says(refused(vec![hello(false), ok()], true).await, "cannot go on with an earlier session");
    says(refused(vec![hello(true), ok(), ok()], false).await, "session/new is not understood");
    says(refused(vec![hello(true), ok(), json!({"result": {"sessionId": ""}})], false).await, "session id");
}

#[tokio::test]
async fn streams_that_are_not_pipes_are_refused() {
    let file = || OwnedFd::from(std::fs::File::open("/dev/null").unwrap());
    let io = aedile_core::runtime::AgentIo { stdin: file(), stdout: file(), stderr: file() };
    let error = AcpRuntime::aedile().attach(io, &request(), recorder().0).await.err().unwrap();
    assert!(error.message.contains("standard streams"), "{error}");
}

#[test]
fn the_environment_names_the_door_and_holds_no_key() {
    let launch = AcpRuntime::aedile().launch(&request());
    assert_eq!(launch.command, ["/aedile/bin/aedile", "__agent"]);
    let of = |name: &str| launch.env.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
    assert_eq!(of("AEDILE_DOOR"), Some("http://127.0.0.1:7070"));
    assert_eq!(of("AEDILE_MODEL"), Some("script/demo"));
    assert_eq!(of("OPENAI_BASE_URL"), Some("http://127.0.0.1:7070/v1"));
    assert_eq!(of("ANTHROPIC_API_KEY"), Some("aedile-placeholder"));
    let other = AcpRuntime::command(
        "qwen",
        vec!["qwen".into(), "-m".into(), "{model}".into()],
        vec![("OPENAI_BASE_URL".into(), "{door}/v1/".into())],
    );
    let mut request = request();
    request.model = "openai/qwen/coder".parse().unwrap();
    let launch = other.launch(&request);
    assert_eq!(launch.command, ["qwen", "-m", "qwen/coder"]);
    assert_eq!(launch.env.iter().filter(|(name, _)| name == "OPENAI_BASE_URL").count(), 1);
    assert!(launch.env.contains(&("OPENAI_BASE_URL".into(), "http://127.0.0.1:7070/v1/".into())));
    assert!(!launch.env.iter().any(|(name, _)| name.starts_with("ANTHROPIC")));
}

#[tokio::test]
async fn an_interrupt_does_not_overtake_its_prompt() {
    let mut played = played().await;
    let agent = &mut played.agent;
    let turn = async {
        let (prompt, _) = agent.expect("session/prompt").await;
        agent.expect("session/cancel").await;
        agent.answer(&prompt, json!({"stopReason": "cancelled"})).await;
    };
    let both = async { tokio::join!(played.session.prompt("go"), played.session.interrupt()).0 };
    let (end, ()) = soon(async { tokio::join!(both, turn) }).await;
    assert_eq!(end.stop, TurnStop::Cancelled);
}
