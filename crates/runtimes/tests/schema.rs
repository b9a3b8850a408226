//! What both ends of ours write, held against the published schema's types.

use std::sync::Arc;

use aedile_core::SessionId;
use aedile_core::runtime::Runtime;
use aedile_runtimes::{AcpRuntime, serve_acp};
use agent_client_protocol_schema::v1 as acp;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::unix::pipe;
use tokio::sync::mpsc;

use crate::fake::{FakeAgent, pipes, recorder, request_to_resume, soon};

/// Copies lines and tells of each.
async fn tap(from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, told: mpsc::Sender<Value>) {
    let mut lines = BufReader::new(from).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        told.send(serde_json::from_str(&line).unwrap()).await.unwrap();
        to.write_all(format!("{line}\n").as_bytes()).await.unwrap();
    }
}

/// Runs two conversations between our ends and returns the lines of the client and of the agent.
async fn conversation() -> (Vec<Value>, Vec<Value>) {
    let agent: Arc<FakeAgent> = Arc::default();
    let (client_said, mut from_client) = mpsc::channel(1000);
    let (agent_said, mut from_agent) = mpsc::channel(1000);
    let mut resume: Option<SessionId> = None;
    for _ in 0..2 {
        let (io, ends) = pipes();
        let (stdin, tapped_in) = tokio::io::duplex(1 << 16);
        let (stdout, tapped_out) = tokio::io::duplex(1 << 16);
        tokio::spawn(tap(pipe::Receiver::from_owned_fd(ends.stdin.into()).unwrap(), tapped_in, client_said.clone()));
        tokio::spawn(tap(tapped_out, pipe::Sender::from_owned_fd(ends.stdout.into()).unwrap(), agent_said.clone()));
        let server = tokio::spawn(serve_acp(agent.clone(), stdin, stdout));
        let session = soon(AcpRuntime::aedile().attach(io, &request_to_resume(resume.as_ref()), recorder().0)).await.unwrap();
        soon(session.prompt("do it")).await;
        soon(session.prompt("limit")).await;
        soon(session.prompt("fail")).await;
        let interrupt = async {
            agent.waiting.notified().await;
            session.interrupt().await;
        };
        soon(async { tokio::join!(session.prompt("wait"), interrupt) }).await;
        resume = Some(session.id());
        drop(session);
        soon(server).await.unwrap().unwrap();
    }
    drop((client_said, agent_said));
    let mut heard = (Vec::new(), Vec::new());
    while let Some(line) = soon(from_client.recv()).await {
        heard.0.push(line);
    }
    while let Some(line) = soon(from_agent.recv()).await {
        heard.1.push(line);
    }
    heard
}

fn fits<T: DeserializeOwned>(value: &Value) {
    if let Err(error) = serde_json::from_value::<T>(value.clone()) {
        panic!("{error}: {value}");
    }
}

#[tokio::test]
async fn our_lines_fit_the_published_types() {
    let (client, agent) = conversation().await;
    let mut methods = Vec::new();
    for line in &client {
        let (method, params) = (line["method"].as_str().unwrap(), &line["params"]);
        match method {
            "initialize" => fits::<acp::InitializeRequest>(params),
            "session/new" => fits::<acp::NewSessionRequest>(params),
            "session/load" => fits::<acp::LoadSessionRequest>(params),
            "session/prompt" => fits::<acp::PromptRequest>(params),
            "session/cancel" => fits::<acp::CancelNotification>(params),
            other => panic!("{other}"),
        }
        methods.push(method);
    }
    for method in ["initialize", "session/new", "session/load", "session/prompt", "session/cancel"] {
        assert!(methods.contains(&method), "{method} was not seen");
    }
    let (mut updates, mut errors) = (0, 0);
    for line in &agent {
        if line["method"] == "session/update" {
            fits::<acp::SessionNotification>(&line["params"]);
            updates += 1;
        } else if line["error"].is_object() {
            fits::<acp::Error>(&line["error"]);
            errors += 1;
        } else if line["result"]["stopReason"].is_string() {
            fits::<acp::PromptResponse>(&line["result"]);
        } else if line["result"]["protocolVersion"].is_number() {
            fits::<acp::InitializeResponse>(&line["result"]);
        } else if line["result"]["sessionId"].is_string() {
            fits::<acp::NewSessionResponse>(&line["result"]);
        } else {
            fits::<acp::LoadSessionResponse>(&line["result"]);
        }
    }
    assert_eq!((updates, errors), (106, 2));
}
