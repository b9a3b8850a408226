//! Our end of Claude Code's stream-json against an agent that is played by hand, often badly.

use std::io::Write;
use std::sync::{Arc, Mutex};

use aedile_core::SessionId;
use aedile_core::limits::{PROTOCOL_BURST_LINES_MAX, PROTOCOL_GARBAGE_LINES_MAX};
use aedile_core::money::Usage;
use aedile_core::runtime::{AgentSession, Runtime, RuntimeError, SessionEvent, TurnEnd, TurnStop};
use aedile_runtimes::{CLAUDE_VERSION_MIN, ClaudeRuntime};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;

use crate::fake::{ByHand, pipes, recorder, request, request_to_resume, soon};

struct Played {
    session: Box<dyn AgentSession>,
    agent: ByHand,
    stderr: std::io::PipeWriter,
    events: Arc<Mutex<Vec<SessionEvent>>>,
}

/// Opens a session with an agent that answers `initialize` so.
async fn opened(answer: Value) -> Result<Played, RuntimeError> {
    let (io, ends) = pipes();
    let mut agent = ByHand::new(ends.stdin, ends.stdout);
    let (sink, events) = recorder();
    let runtime = ClaudeRuntime::default();
    let open = async {
        let asked = agent.hear().await;
        assert_eq!((&asked["type"], &asked["request"]["subtype"]), (&json!("control_request"), &json!("initialize")));
        let response = json!({"subtype": "success", "request_id": asked["request_id"], "response": answer});
        agent.say(json!({"type": "control_response", "response": response})).await;
    };
    let launch = request();
    let (session, ()) = soon(async { tokio::join!(runtime.attach(io, &launch, sink), open) }).await;
    Ok(Played { session: session?, agent, stderr: ends.stderr, events })
}

async fn played() -> Played {
    opened(json!({"commands": [], "claude_code_version": CLAUDE_VERSION_MIN})).await.unwrap()
}

impl ByHand {
    /// Expects a message of ours; returns its uuid and text.
    async fn told(&mut self) -> (String, String) {
        let heard = self.hear().await;
        assert_eq!(heard["type"], "user", "{heard}");
        let text = heard["message"]["content"][0]["text"].as_str().unwrap().to_owned();
        (heard["uuid"].as_str().unwrap().to_owned(), text)
    }

    async fn replay(&mut self, uuid: &str) {
        self.say(json!({"type": "user", "isReplay": true, "uuid": uuid, "message": {"role": "user", "content": [{"type": "text", "text": "x"}]}})).await;
    }

    async fn result(&mut self, more: Value) {
        let mut result = json!({"type": "result", "subtype": "success", "is_error": false, "stop_reason": "end_turn", "result": "ok"});
        result.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        self.say(result).await;
    }
}

#[test]
fn the_launch_pins_every_model_and_holds_no_key() {
    let runtime = ClaudeRuntime::default();
    let launch = runtime.launch(&request());
    let value = |name: &str| launch.env.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
    for name in ["ANTHROPIC_MODEL", "ANTHROPIC_SMALL_FAST_MODEL", "ANTHROPIC_DEFAULT_HAIKU_MODEL", "CLAUDE_CODE_SUBAGENT_MODEL"] {
        assert_eq!(value(name), Some("demo"));
    }
    assert_eq!((value("ANTHROPIC_BASE_URL"), value("ANTHROPIC_AUTH_TOKEN")), (Some("http://127.0.0.1:7070"), Some("aedile-placeholder")));
    let line = launch.command.join(" ");
    assert!(
        line.starts_with("claude -p ") && line.contains("--model demo ") && line.contains(&format!("--session-id {}", request().session))
    );
    assert_eq!(launch.files[0].text, request().instructions);
    let session = SessionId::new("earlier").unwrap();
    let line = runtime.launch(&request_to_resume(Some(&session))).command.join(" ");
    assert!(line.ends_with("--resume earlier") && !line.contains("--session-id"));
}

#[tokio::test]
async fn an_old_version_and_one_that_does_not_say_are_named() {
    let old = opened(json!({"claude_code_version": "1.0.60"})).await.err().unwrap();
    assert!(old.message.contains("1.0.60") && old.message.contains(CLAUDE_VERSION_MIN) && old.message.contains("claude update"), "{old}");
    let silent = opened(json!({"commands": []})).await.err().unwrap();
    assert!(silent.message.contains("does not say its version"), "{silent}");
}

#[tokio::test]
async fn a_session_that_cannot_be_resumed_fails_with_the_last_words() {
    let (io, mut ends) = pipes();
    writeln!(ends.stderr, "No conversation found with session ID: x").unwrap();
    drop((ends.stderr, ends.stdout));
    let error = soon(ClaudeRuntime::default().attach(io, &request(), recorder().0)).await.err().unwrap();
    assert!(error.message.contains("No conversation found"), "{error}");
}

#[tokio::test]
async fn text_tools_and_usage_are_reported_and_a_sub_agents_words_are_not() {
    let mut played = played().await;
    let agent = &mut played.agent;
    let turn = async {
        assert_eq!(agent.told().await.1, "go");
        let of = |parent: Value, content: Value| json!({"type": "assistant", "parent_tool_use_id": parent, "message": {"role": "assistant", "content": content}});
        agent.say(of(Value::Null, json!([{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "I look."}]))).await;
        agent
            .say(of(Value::Null, json!([{"type": "tool_use", "id": "t1", "name": "Bash", "input": {"command": "ls", "description": "d"}}])))
            .await;
        agent.say(of(json!("t1"), json!([{"type": "text", "text": "inner"}]))).await;
        let output = json!([{"type": "tool_result", "tool_use_id": "t1", "is_error": true, "content": [{"type": "text", "text": "no"}]}]);
        agent.say(json!({"type": "user", "message": {"role": "user", "content": output}})).await;
        agent.say(json!({"type": "something_new", "deep": {"x": [1]}})).await;
        let usage = json!({"input_tokens": 3, "output_tokens": 2, "cache_read_input_tokens": 5, "cache_creation_input_tokens": 7});
        agent.result(json!({"usage": usage, "total_cost_usd": 0.5})).await;
    };
    let (end, ()) = soon(async { tokio::join!(played.session.prompt("go"), turn) }).await;
    assert_eq!(end, TurnEnd { stop: TurnStop::EndTurn, detail: None });
    let usage = Usage { input_tokens: 3, output_tokens: 2, cache_read_tokens: 5, cache_write_tokens: 7, ..Usage::default() };
    let expected = [
        SessionEvent::Text { text: "I look.\n".into() },
        SessionEvent::ToolStarted { id: "t1".into(), title: "Bash ls".into() },
        SessionEvent::ToolEnded { id: "t1".into(), is_error: true, output: "no".into() },
        SessionEvent::Used { usage, usd: Some(0.5) },
    ];
    assert_eq!(*played.events.lock().unwrap(), expected);
}

#[tokio::test]
async fn a_message_reaches_the_turn_or_makes_it_go_on() {
    let mut played = played().await;
    assert!(!soon(played.session.message("nobody works")).await, "there is no turn");
    let agent = &mut played.agent;
    let turn = async {
        let (first, _) = agent.told().await;
        let (second, text) = agent.told().await;
        assert_eq!(text, "early");
        assert_ne!(first, second);
        agent.replay(&second).await;
        let (third, _) = agent.told().await;
        // It came too late for this result: Claude Code begins again with it by itself.
        agent.result(json!({})).await;
        agent.replay(&third).await;
        agent.result(json!({})).await;
    };
    let messages = async {
        assert!(played.session.message("early").await);
        assert!(played.session.message("late").await);
    };
    let (end, (), ()) = soon(async { tokio::join!(played.session.prompt("go"), turn, messages) }).await;
    assert_eq!(end.stop, TurnStop::EndTurn);
    let seen = played.events.lock().unwrap().clone();
    assert_eq!(seen, ["early", "late"].map(|text| SessionEvent::Message { text: text.into() }));
}

#[tokio::test]
async fn a_turn_that_failed_goes_on_with_the_message_that_waits() {
    let mut played = played().await;
    let agent = &mut played.agent;
    let turn = async {
        let (first, _) = agent.told().await;
        let (second, _) = agent.told().await;
        agent
            .result(json!({"is_error": true, "terminal_reason": "api_error", "api_error_status": 502, "user_message_uuids": [first]}))
            .await;
        agent.replay(&second).await;
        agent.result(json!({"stop_reason": "max_tokens", "user_message_uuids": [second]})).await;
    };
    let message = async { assert!(played.session.message("hear this").await) };
    let (end, (), ()) = soon(async { tokio::join!(played.session.prompt("go"), turn, message) }).await;
    assert_eq!(end.stop, TurnStop::MaxTokens, "the last word counts");
    let agent = &mut played.agent;
    let next = async {
        let (uuid, _) = agent.told().await;
        agent.result(json!({"user_message_uuids": [uuid]})).await;
    };
    let (end, ()) = soon(async { tokio::join!(played.session.prompt("next"), next) }).await;
    assert_eq!(end.stop, TurnStop::EndTurn);
}

#[tokio::test]
async fn an_interrupt_takes_back_what_waits_and_no_result_is_taken_for_anothers() {
    let mut played = played().await;
    for taken_back in [true, false] {
        let agent = &mut played.agent;
        let turn = async {
            let (first, _) = agent.told().await;
            let (second, _) = agent.told().await;
            played.session.interrupt().await;
            let asked = agent.hear().await;
            assert_eq!(asked["request"], json!({"subtype": "cancel_async_message", "message_uuid": second}));
            let response = json!({"subtype": "success", "request_id": asked["request_id"], "response": {"cancelled": taken_back}});
            agent.say(json!({"type": "control_response", "response": response})).await;
            assert_eq!(agent.hear().await["request"]["subtype"], "interrupt");
            agent.result(json!({"subtype": "error_during_execution", "is_error": true, "user_message_uuids": [first]})).await;
            second
        };
        let message = async { played.session.message("hear this").await };
        let (end, second, heard) = soon(async { tokio::join!(played.session.prompt("go"), turn, message) }).await;
        assert_eq!((end.stop, heard), (TurnStop::Cancelled, false));
        let next = async {
            let (uuid, _) = agent.told().await;
            if !taken_back {
                let said = json!({"role": "assistant", "content": [{"type": "text", "text": "of another turn"}]});
                agent.say(json!({"type": "assistant", "message": said})).await;
                agent.result(json!({"is_error": true, "user_message_uuids": [second]})).await;
            }
            agent.replay(&uuid).await;
            agent.result(json!({"stop_reason": "max_tokens", "user_message_uuids": [uuid]})).await;
        };
        let (end, ()) = soon(async { tokio::join!(played.session.prompt("next"), next) }).await;
        assert_eq!(end.stop, TurnStop::MaxTokens, "taken back: {taken_back}");
    }
    assert!(played.events.lock().unwrap().is_empty(), "what belongs to another turn is not reported");
}

#[tokio::test]
async fn what_the_box_allows_is_allowed_and_nobody_is_asked() {
    let mut played = played().await;
    let agent = &mut played.agent;
    let turn = async {
        agent.told().await;
        for (tool, behavior) in [("Bash", "allow"), ("AskUserQuestion", "deny"), ("mcp__x__y", "allow")] {
            let request = json!({"subtype": "can_use_tool", "tool_name": tool, "input": {"command": "rm -rf /"}});
            agent.say(json!({"type": "control_request", "request_id": tool, "request": request})).await;
            let answer = agent.hear().await["response"].take();
            assert_eq!((&answer["request_id"], &answer["response"]["behavior"]), (&json!(tool), &json!(behavior)));
        }
        agent.say(json!({"type": "control_request", "request_id": "m", "request": {"subtype": "mcp_message"}})).await;
        assert_eq!(agent.hear().await["response"]["subtype"], "error");
        agent.result(json!({})).await;
    };
    let (end, ()) = soon(async { tokio::join!(played.session.prompt("go"), turn) }).await;
    assert_eq!(end.stop, TurnStop::EndTurn);
}

#[tokio::test]
async fn an_interrupt_ends_the_turn_and_the_next_one_is_its_own() {
    let mut played = played().await;
    let agent = &mut played.agent;
    let turn = async {
        agent.told().await;
        let asked = agent.hear().await;
        assert_eq!(asked["request"]["subtype"], "interrupt");
        agent.result(json!({"subtype": "error_during_execution", "is_error": true})).await;
    };
    let prompt = async { tokio::join!(played.session.prompt("go"), played.session.interrupt()).0 };
    let (end, ()) = soon(async { tokio::join!(prompt, turn) }).await;
    assert_eq!(end.stop, TurnStop::Cancelled);
    // A prompt that nobody waits for any more: its result is not the next turn's.
    tokio::select! {
        biased;
        _ = played.session.prompt("dropped") => panic!("nothing ends it"),
        _ = async { agent.told().await } => {}
    }
    let next = async {
        assert_eq!(agent.hear().await["request"]["subtype"], "interrupt");
        assert_eq!(agent.told().await.1, "next");
        agent.result(json!({"subtype": "error_during_execution", "is_error": true})).await;
        agent.result(json!({"stop_reason": "max_tokens"})).await;
    };
    let (end, ()) = soon(async { tokio::join!(played.session.prompt("next"), next) }).await;
    assert_eq!(end.stop, TurnStop::MaxTokens);
}

#[tokio::test]
async fn rate_limits_and_outages_are_said_while_they_last_and_at_the_end() {
    let mut played = played().await;
    let agent = &mut played.agent;
    let turn = async {
        agent.told().await;
        for (status, delay) in [(json!(429), 1200.5), (Value::Null, 0.0)] {
            agent.say(json!({"type": "system", "subtype": "api_retry", "attempt": 1, "retry_delay_ms": delay, "error_status": status, "error": "unknown"})).await;
        }
        let words = "API Error: 502 anthropic cannot be reached";
        agent
            .say(json!({"type": "assistant", "is_api_error_message": true, "message": {"content": [{"type": "text", "text": words}]}}))
            .await;
        agent.result(json!({"is_error": true, "terminal_reason": "api_error", "api_error_status": 502, "result": words})).await;
    };
    let (end, ()) = soon(async { tokio::join!(played.session.prompt("go"), turn) }).await;
    assert_eq!(end.stop, TurnStop::Failed);
    let detail = end.detail.unwrap();
    assert!(detail.contains("the gateway is out (502)") && detail.contains("cannot be reached"), "{detail}");
    let expected = [
        SessionEvent::Retrying { attempt: 2, why: "the provider limits its rate (429)".into(), wait_ms: 1200 },
        SessionEvent::Retrying { attempt: 2, why: "the model was not reached (unknown)".into(), wait_ms: 0 },
    ];
    assert_eq!(*played.events.lock().unwrap(), expected);
}

#[tokio::test]
async fn nonsense_a_flood_and_the_end_of_the_process_end_the_turn() {
    let mut dead = played().await;
    writeln!(dead.stderr, "segmentation fault").unwrap();
    drop((dead.stderr, dead.agent));
    let end = soon(dead.session.prompt("go")).await;
    assert!(end.stop == TurnStop::Failed && end.detail.as_deref().unwrap().contains("segmentation fault"), "{end:?}");

    let garbage = "not json\n".repeat(PROTOCOL_GARBAGE_LINES_MAX + 1);
    let flood = "{\"type\":\"tool_progress\"}\n".repeat(usize::try_from(PROTOCOL_BURST_LINES_MAX).unwrap() * 2);
    for (lines, part) in [(garbage, "lines that are not its protocol"), (flood, "it floods")] {
        let mut bad = played().await;
        let end = soon(async {
            tokio::select! {
                end = bad.session.prompt("go") => end,
                // Nobody reads the rest of a flood.
                _ = async { bad.agent.stdout.write_all(lines.as_bytes()).await.unwrap(); std::future::pending::<()>().await } => unreachable!(),
            }
        });
        let end = end.await;
        assert!(end.stop == TurnStop::Failed && end.detail.as_deref().unwrap().contains(part), "{end:?}");
    }
}
