//! Our client against our server.

use std::sync::Arc;

use aedile_core::SessionId;
use aedile_core::runtime::{AgentSession, Runtime, RuntimeError, SessionEvent, TurnEnd, TurnStop};
use aedile_runtimes::{AcpRuntime, serve_acp};
use tokio::net::unix::pipe;
use tokio::task::JoinHandle;

use crate::fake::{FakeAgent, pipes, recorder, request_to_resume, soon};

struct Pair {
    agent: Arc<FakeAgent>,
    session: Box<dyn AgentSession>,
    events: Arc<std::sync::Mutex<Vec<SessionEvent>>>,
    server: JoinHandle<Result<(), aedile_runtimes::ServeError>>,
}

async fn attach(agent: Arc<FakeAgent>, resume: Option<&SessionId>) -> Result<Pair, RuntimeError> {
    let (io, ends) = pipes();
    let stdin = pipe::Receiver::from_owned_fd(ends.stdin.into()).unwrap();
    let stdout = pipe::Sender::from_owned_fd(ends.stdout.into()).unwrap();
    let server = tokio::spawn(serve_acp(agent.clone(), stdin, stdout));
    let (sink, events) = recorder();
    let session = soon(AcpRuntime::aedile().attach(io, &request_to_resume(resume), sink)).await?;
    Ok(Pair { agent, session, events, server })
}

#[tokio::test]
async fn turns_report_everything_in_order_before_they_end() {
    let pair = attach(Arc::default(), None).await.unwrap();
    assert_eq!(pair.session.id().as_str(), "session-1");
    let end = soon(pair.session.prompt("do it")).await;
    assert_eq!(end, TurnEnd { stop: TurnStop::EndTurn, detail: None });
    let mut expected: Vec<SessionEvent> = (0..50).map(|step| SessionEvent::Text { text: format!("step {step}\n") }).collect();
    expected.push(SessionEvent::ToolStarted { id: "c1".into(), title: "bash ls".into() });
    expected.push(SessionEvent::ToolEnded { id: "c1".into(), is_error: false, output: "a\nb".into() });
    assert_eq!(*pair.events.lock().unwrap(), expected);
    soon(pair.session.prompt("again\nwith \u{1f33f}")).await;
    assert_eq!(pair.agent.sessions.lock().unwrap()["session-1"], ["/workspace", "do it", "again\nwith \u{1f33f}"]);
}

#[tokio::test]
async fn every_end_of_a_turn_arrives() {
    let pair = attach(Arc::default(), None).await.unwrap();
    let end = |stop, detail: Option<&str>| TurnEnd { stop, detail: detail.map(str::to_owned) };
    assert_eq!(soon(pair.session.prompt("limit")).await, end(TurnStop::Limit, Some("the same call was made 5 times")));
    assert_eq!(soon(pair.session.prompt("tokens")).await, end(TurnStop::MaxTokens, None));
    assert_eq!(soon(pair.session.prompt("refuse")).await, end(TurnStop::Refusal, None));
    assert_eq!(soon(pair.session.prompt("fail")).await, end(TurnStop::Failed, Some("the model gave no answer")));
}

#[tokio::test]
async fn an_interrupt_ends_the_turn_and_the_next_one_works() {
    let pair = attach(Arc::default(), None).await.unwrap();
    let interrupt = async {
        pair.agent.waiting.notified().await;
        let second = pair.session.prompt("too early").await;
        assert_eq!(second.stop, TurnStop::Failed, "one turn at a time");
        pair.session.interrupt().await;
    };
    let (end, ()) = soon(async { tokio::join!(pair.session.prompt("wait"), interrupt) }).await;
    assert_eq!(end.stop, TurnStop::Cancelled);
    assert_eq!(soon(pair.session.prompt("go on")).await.stop, TurnStop::EndTurn);
}

#[tokio::test]
async fn a_message_reaches_a_turn_and_only_a_turn() {
    let pair = attach(Arc::default(), None).await.unwrap();
    assert!(pair.session.takes_messages());
    assert!(!soon(pair.session.message("nobody listens")).await, "there is no turn");
    let messages = async {
        pair.agent.waiting.notified().await;
        let taken = (pair.session.message("use blue").await, pair.session.message("too late").await);
        pair.session.interrupt().await;
        taken
    };
    let (end, taken) = soon(async { tokio::join!(pair.session.prompt("wait"), messages) }).await;
    assert_eq!((end.stop, taken), (TurnStop::Cancelled, (true, false)));
    assert_eq!(pair.agent.sessions.lock().unwrap()["session-1"], ["/workspace", "wait", "within: use blue", "within: too late"]);
}

#[tokio::test]
async fn a_dropped_prompt_cancels_the_turn() {
    let pair = attach(Arc::default(), None).await.unwrap();
    tokio::select! {
        _ = pair.session.prompt("wait") => panic!("it waits"),
        () = soon(pair.agent.waiting.notified()) => {}
    }
    // The old turn is told to end; its late answer disturbs nothing.
    assert_eq!(soon(pair.session.prompt("go on")).await.stop, TurnStop::EndTurn);
}

#[tokio::test]
async fn a_session_is_loaded_by_a_later_process() {
    let agent: Arc<FakeAgent> = Arc::default();
    let first = attach(agent.clone(), None).await.unwrap();
    let id = first.session.id();
    drop(first.session);
    soon(first.server).await.unwrap().unwrap();
    let second = attach(agent.clone(), Some(&id)).await.unwrap();
    assert_eq!(second.session.id(), id);
    assert_eq!(soon(second.session.prompt("more")).await.stop, TurnStop::EndTurn);
    let unknown = SessionId::new("nobody").unwrap();
    let error = attach(agent, Some(&unknown)).await.err().unwrap();
    assert!(error.message.contains("there is no session nobody"), "{error}");
}

#[tokio::test]
async fn the_server_ends_with_its_client_even_in_a_turn() {
    let pair = attach(Arc::default(), None).await.unwrap();
    tokio::select! {
        _ = pair.session.prompt("wait") => panic!("it waits"),
        () = soon(pair.agent.waiting.notified()) => {}
    }
    drop(pair.session);
    soon(pair.server).await.unwrap().unwrap();
}
