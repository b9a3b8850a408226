//! A local agent that does as the prompt says, and the wiring of pipes.

use std::collections::HashMap;
use std::io::{PipeReader, PipeWriter};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aedile_core::SessionId;
use aedile_core::runtime::{
    AgentIo, LaunchRequest, LocalAgent, PermissionAsker, PermissionQuestion, RuntimeError, SessionEvent, SessionMode, SessionModes,
    SessionSink, TurnEnd, TurnStop,
};
use async_trait::async_trait;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::unix::pipe;
use tokio::sync::{Notify, watch};

pub(crate) const WAIT: Duration = Duration::from_secs(20);

/// Waits with a limit.
pub(crate) async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(WAIT, future).await.expect("nothing happened in time")
}

#[derive(Default)]
pub(crate) struct FakeAgent {
    pub(crate) sessions: Mutex<HashMap<String, Vec<String>>>,
    pub(crate) cancelled: watch::Sender<u64>,
    pub(crate) waiting: Notify,
    pub(crate) asker: Mutex<Option<Arc<dyn PermissionAsker>>>,
}

#[async_trait]
impl LocalAgent for FakeAgent {
    async fn new_session(&self, cwd: &str) -> Result<SessionId, RuntimeError> {
        let mut sessions = self.sessions.lock().unwrap();
        let id = format!("session-{}", sessions.len() + 1);
        sessions.insert(id.clone(), vec![cwd.to_owned()]);
        Ok(SessionId::new(id).unwrap())
    }

    async fn load_session(&self, id: &SessionId, _cwd: &str) -> Result<(), RuntimeError> {
        match self.sessions.lock().unwrap().contains_key(id.as_str()) {
            true => Ok(()),
            false => Err(RuntimeError { runtime: "fake".into(), message: format!("there is no session {id}") }),
        }
    }

    async fn prompt(&self, session: &SessionId, text: &str, sink: SessionSink) -> TurnEnd {
        self.sessions.lock().unwrap().get_mut(session.as_str()).unwrap().push(text.to_owned());
        let end = |stop, detail: Option<&str>| TurnEnd { stop, detail: detail.map(str::to_owned) };
        match text {
            "wait" => {
                // What comes before it is another turn's.
                let mut cancelled = self.cancelled.subscribe();
                sink(SessionEvent::Text { text: "waiting".into() });
                self.waiting.notify_one();
                cancelled.changed().await.unwrap();
                end(TurnStop::Cancelled, None)
            }
            "ask" => {
                let asker = self.asker.lock().unwrap().clone();
                let Some(asker) = asker else { return end(TurnStop::EndTurn, Some("nobody to ask")) };
                let input = serde_json::json!({"command": "ls"});
                let (call, title, always) = ("c1".to_owned(), "bash ls".to_owned(), Some("Bash(ls)".to_owned()));
                let answer = asker.ask(PermissionQuestion { session: session.clone(), call, title, input, always }).await;
                end(TurnStop::EndTurn, Some(&format!("{answer:?}")))
            }
            "flood" => {
                for _ in 0..10_000 {
                    sink(SessionEvent::Text { text: "word ".into() });
                }
                sink(SessionEvent::ToolStarted { id: "c1".into(), title: "bash ls".into() });
                sink(SessionEvent::ToolEnded { id: "c1".into(), is_error: false, output: String::new() });
                end(TurnStop::EndTurn, None)
            }
            "limit" => end(TurnStop::Limit, Some("the same call was made 5 times")),
            "tokens" => end(TurnStop::MaxTokens, None),
            "refuse" => end(TurnStop::Refusal, None),
            "fail" => end(TurnStop::Failed, Some("the model gave no answer")),
            _ => {
                for step in 0..50 {
                    sink(SessionEvent::Text { text: format!("step {step}\n") });
                }
                sink(SessionEvent::ToolStarted { id: "c1".into(), title: "bash ls".into() });
                sink(SessionEvent::ToolEnded { id: "c1".into(), is_error: false, output: "a\nb".into() });
                end(TurnStop::EndTurn, None)
            }
        }
    }

    async fn prompt_for_output(&self, session: &SessionId, text: &str, schema: &Value, sink: SessionSink) -> TurnEnd {
        sink(SessionEvent::Output { value: serde_json::json!({"asked": text, "by": schema}) });
        self.prompt(session, if text == "flood" { text } else { "limit" }, sink).await
    }

    async fn fork_session(&self, id: &SessionId, cwd: &str) -> Result<SessionId, RuntimeError> {
        self.load_session(id, cwd).await?;
        self.new_session(cwd).await
    }

    async fn set_model(&self, session: &SessionId, model: &str) -> Result<(), RuntimeError> {
        self.load_session(session, "/").await?;
        let known = model == "script/other";
        if known { Ok(()) } else { Err(RuntimeError { runtime: "fake".into(), message: format!("there is no model {model}") }) }
    }

    fn attended(&self, asker: Arc<dyn PermissionAsker>) {
        *self.asker.lock().unwrap() = Some(asker);
    }

    fn modes(&self, _session: &SessionId) -> Option<SessionModes> {
        let mode = |id: &str| SessionMode { id: id.to_owned(), name: id.to_owned(), description: format!("The mode {id}") };
        Some(SessionModes { current: "default".to_owned(), available: vec![mode("default"), mode("plan")] })
    }

    async fn message(&self, session: &SessionId, text: &str) -> bool {
        self.sessions.lock().unwrap().get_mut(session.as_str()).unwrap().push(format!("within: {text}"));
        text != "too late"
    }

    async fn cancel(&self, _session: &SessionId) {
        self.cancelled.send_modify(|count| *count += 1);
    }
}

/// The agent's ends of its three pipes.
pub(crate) struct AgentEnds {
    pub(crate) stdin: PipeReader,
    pub(crate) stdout: PipeWriter,
    pub(crate) stderr: PipeWriter,
}

pub(crate) fn pipes() -> (AgentIo, AgentEnds) {
    let (stdin, agent_stdin) = {
        let (reader, writer) = std::io::pipe().unwrap();
        (writer, reader)
    };
    let (stdout, agent_stdout) = std::io::pipe().unwrap();
    let (stderr, agent_stderr) = std::io::pipe().unwrap();
    let io = AgentIo { stdin: stdin.into(), stdout: stdout.into(), stderr: stderr.into() };
    (io, AgentEnds { stdin: agent_stdin, stdout: agent_stdout, stderr: agent_stderr })
}

pub(crate) fn request() -> LaunchRequest {
    LaunchRequest {
        model: "script/demo".parse().unwrap(),
        door_url: "http://127.0.0.1:7070".into(),
        cwd: "/workspace".into(),
        session: "01234567-89ab-7cde-8f01-23456789abcd".into(),
        resume: None,
        instructions: "Change only `parts`.".into(),
    }
}

/// The same, to go on with an earlier session.
pub(crate) fn request_to_resume(session: Option<&SessionId>) -> LaunchRequest {
    LaunchRequest { resume: session.cloned(), ..request() }
}

/// A sink and what it has received.
pub(crate) fn recorder() -> (SessionSink, Arc<Mutex<Vec<SessionEvent>>>) {
    let events = Arc::new(Mutex::new(Vec::new()));
    let into = events.clone();
    (Arc::new(move |event| into.lock().unwrap().push(event)), events)
}

/// An agent played by hand, line by line.
pub(crate) struct ByHand {
    lines: Lines<BufReader<pipe::Receiver>>,
    pub(crate) stdout: pipe::Sender,
}

impl ByHand {
    pub(crate) fn new(stdin: PipeReader, stdout: PipeWriter) -> Self {
        let lines = BufReader::new(pipe::Receiver::from_owned_fd(stdin.into()).unwrap()).lines();
        Self { lines, stdout: pipe::Sender::from_owned_fd(stdout.into()).unwrap() }
    }

    /// Returns the next line as JSON.
    pub(crate) async fn hear(&mut self) -> Value {
        let line = soon(self.lines.next_line()).await.unwrap().expect("the other side has closed");
        serde_json::from_str(&line).unwrap()
    }

    /// Expects a request and returns its id and parameters.
    pub(crate) async fn expect(&mut self, method: &str) -> (Value, Value) {
        let heard = self.hear().await;
        assert_eq!(heard["method"], method, "{heard}");
        assert_eq!(heard["jsonrpc"], "2.0");
        (heard["id"].clone(), heard["params"].clone())
    }

    pub(crate) async fn say(&mut self, line: impl ToString) {
        let mut line = line.to_string();
        line.push('\n');
        soon(self.stdout.write_all(line.as_bytes())).await.unwrap();
    }

    pub(crate) async fn answer(&mut self, id: &Value, result: Value) {
        self.say(serde_json::json!({"jsonrpc": "2.0", "id": id, "result": result})).await;
    }
}
