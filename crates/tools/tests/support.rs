//! A workspace with tools, a repository, and a door that plays answers.

use aedile_core::agent_api::{AgentReply, AgentRequest};
use aedile_core::tool::{Tool, ToolOutput};
use aedile_tools::{DoorClient, ToolBox};
use serde_json::Value;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// A directory and the tools that work in it.
pub(crate) struct Bench {
    pub(crate) directory: TempDir,
    pub(crate) tools: Vec<Arc<dyn Tool>>,
}

impl Bench {
    pub(crate) fn new() -> Self {
        Self::with(&[], None)
    }

    pub(crate) fn with(scope: &[&str], door: Option<DoorClient>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let tools = ToolBox::standard(directory.path(), &strings(scope), door);
        Self { directory, tools }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn put(&self, name: &str, content: impl AsRef<[u8]>) {
        fs::create_dir_all(self.path(name).parent().unwrap()).unwrap();
        fs::write(self.path(name), content).unwrap();
    }

    pub(crate) fn get(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    pub(crate) async fn call(&self, name: &str, input: Value) -> ToolOutput {
        self.tools.iter().find(|tool| tool.spec().name == name).unwrap().call(input).await
    }

    /// Calls and expects success.
    pub(crate) async fn ok(&self, name: &str, input: Value) -> String {
        let output = self.call(name, input).await;
        assert!(!output.is_error, "{}", output.text);
        output.text
    }

    /// Calls and expects a failure.
    pub(crate) async fn err(&self, name: &str, input: Value) -> String {
        let output = self.call(name, input).await;
        assert!(output.is_error, "{}", output.text);
        output.text
    }
}

pub(crate) fn strings(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

/// Waits for a condition, at most ten seconds.
pub(crate) async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < Duration::from_secs(10), "{what} did not happen");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Whether a process is there and not a zombie.
pub(crate) fn is_alive(pid: &str) -> bool {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with('Z'))
}

/// Runs git and returns its stdout.
pub(crate) fn git(directory: &Path, args: &[&str]) -> String {
    #[expect(clippy::disallowed_methods, reason = "tests look at repositories with git itself")]
    let mut command = Command::new("git");
    command.args(["-c", "user.name=Person", "-c", "user.email=person@example.com"]).args(args).current_dir(directory);
    let output = command.output().unwrap();
    assert!(output.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// A door that answers each request by a function and remembers what was asked.
pub(crate) struct FakeDoor {
    pub(crate) url: String,
    pub(crate) asked: Arc<Mutex<Vec<AgentRequest>>>,
}

impl FakeDoor {
    pub(crate) fn new(answer: impl Fn(&AgentRequest) -> AgentReply + Send + 'static) -> Self {
        Self::raw(move |request| {
            let body = serde_json::to_string(&answer(request)).unwrap();
            format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}", body.len())
        })
    }

    /// The function gives the whole HTTP answer.
    pub(crate) fn raw(answer: impl Fn(&AgentRequest) -> String + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&asked);
        std::thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                let mut reader = BufReader::new(stream);
                let mut length = 0;
                let mut line = String::new();
                reader.read_line(&mut line).unwrap();
                assert!(line.starts_with("POST /aedile/v1/call HTTP/1.1"), "{line}");
                while line.trim() != "" {
                    line.clear();
                    reader.read_line(&mut line).unwrap();
                    if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
                        length = value.trim().parse().unwrap();
                    }
                }
                let mut body = vec![0; length];
                reader.read_exact(&mut body).unwrap();
                let request: AgentRequest = serde_json::from_slice(&body).unwrap();
                let text = answer(&request);
                seen.lock().unwrap().push(request);
                reader.get_mut().write_all(text.as_bytes()).unwrap();
            }
        });
        Self { url, asked }
    }

    /// A door of the task `auth` with the given scope; submits are taken.
    pub(crate) fn of_task(scope: &[&str]) -> Self {
        let scope = strings(scope);
        Self::new(move |request| match request {
            AgentRequest::TaskInfo {} => AgentReply::Task {
                plans: false,
                tools: Vec::new(),
                key: "auth".parse().unwrap(),
                title: "Build auth".to_owned(),
                prompt: "Do it.".to_owned(),
                scope: scope.clone(),
                agent: "ada".parse().unwrap(),
                agents: vec!["bob".to_owned()],
            },
            AgentRequest::Submit { .. } => AgentReply::Done { message: "It waits to land.".to_owned() },
            other => AgentReply::Refused { message: format!("not expected: {other:?}") },
        })
    }

    pub(crate) fn client(&self) -> DoorClient {
        DoorClient::new(&self.url).unwrap()
    }

    pub(crate) fn submits(&self) -> Vec<AgentRequest> {
        self.asked.lock().unwrap().iter().filter(|request| matches!(request, AgentRequest::Submit { .. })).cloned().collect()
    }
}
