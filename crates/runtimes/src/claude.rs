//! Claude Code as a runtime: headless over stream-json both ways.

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};

use aedile_core::SessionId;
use aedile_core::limits::{AGENT_HANDSHAKE, MODEL_TRIES_MAX, PROTOCOL_QUEUE_MAX};
use aedile_core::runtime::{
    AgentIo, AgentSession, Launch, LaunchFile, LaunchRequest, Runtime, RuntimeError, SessionSink, TurnEnd, TurnStop,
};
use async_trait::async_trait;
use tokio::net::unix::pipe;
use tokio::sync::{mpsc, oneshot};
use tokio_util::task::AbortOnDropHandle;

use crate::acp_runtime::{ENV_DOOR_URL, ENV_MODEL, PLACEHOLDER_KEY};
use crate::claude_reader::{Ask, Reader};
use crate::client::write_lines;
use crate::line::LineReader;
use crate::session::broken;
use crate::stderr::StderrTail;

/// The oldest version that is known to work; it tells its version in the handshake.
pub const CLAUDE_VERSION_MIN: &str = "2.1.330";
/// Instructions that Claude Code gives its sub-agents too, at the place for those of a machine.
const INSTRUCTIONS_INSIDE: &str = "/etc/claude-code/CLAUDE.md";
/// Tools that need a person, leave the workspace, outlive the turn or make the provider reach out, which a door refuses.
const TOOLS_OFF: &[&str] = &[
    "AskUserQuestion",
    "EnterPlanMode",
    "ExitPlanMode",
    "EnterWorktree",
    "ExitWorktree",
    "CronCreate",
    "CronDelete",
    "CronList",
    "ScheduleWakeup",
    "WebFetch",
    "WebSearch",
    "ListAgents",
    "SendMessage",
];
/// Settings above those of a project: commits are ours to sign, and what is remembered outside the task is lost anyway.
const SETTINGS: &str = r#"{"attribution":{"commit":"","pr":""},"autoMemoryEnabled":false}"#;

/// Starts Claude Code.
#[derive(Debug, Clone)]
pub struct ClaudeRuntime {
    program: String,
}

impl Default for ClaudeRuntime {
    fn default() -> Self {
        Self::new("claude")
    }
}

impl ClaudeRuntime {
    /// The program inside the box: a name on its PATH, or a path.
    pub fn new(program: impl Into<String>) -> Self {
        Self { program: program.into() }
    }

    fn error(&self, message: impl Into<String>) -> RuntimeError {
        RuntimeError { runtime: self.name().to_owned(), message: message.into() }
    }

    /// Begins the protocol. A session that cannot be resumed says so before it answers.
    async fn handshake(&self, asks: &mpsc::Sender<Ask>, stderr: &StderrTail) -> Result<(), RuntimeError> {
        let (reply, answer) = oneshot::channel();
        let _ = asks.send(Ask::Initialize { reply }).await;
        let version = match answer.await.unwrap_or_else(|_| Err(String::new())) {
            Ok(initialized) => initialized.claude_code_version.0,
            Err(why) => return Err(self.error(broken(&why, stderr).await)),
        };
        match is_old(&version) {
            None => Ok(()),
            Some(what) => Err(self.error(format!("{what}; {CLAUDE_VERSION_MIN} or newer is needed: update it with `claude update`"))),
        }
    }
}

/// Says what is wrong with a version, if anything is.
pub fn is_old(version: &str) -> Option<String> {
    let parts = |text: &str| -> Vec<u64> { text.split(['.', '-', '+', ' ']).map_while(|part| part.parse().ok()).collect() };
    let (found, needed) = (parts(version), parts(CLAUDE_VERSION_MIN));
    if found.len() < needed.len() {
        return Some("it does not say its version, as old ones do".to_owned());
    }
    let version: String = version.chars().take(40).collect();
    (found < needed).then(|| format!("it is version {version}"))
}

#[async_trait]
impl Runtime for ClaudeRuntime {
    fn name(&self) -> &'static str {
        "claude"
    }

    fn launch(&self, request: &LaunchRequest) -> Launch {
        let model = request.model.model.as_str();
        let off = TOOLS_OFF.join(",");
        let mut command: Vec<String> = [
            &self.program,
            "-p",
            "--input-format",
            "stream-json",
            "--output-format",
            "stream-json",
            "--verbose",
            "--replay-user-messages",
            "--permission-prompt-tool",
            "stdio",
            "--strict-mcp-config",
            "--model",
            model,
            "--disallowedTools",
            &off,
            "--settings",
            SETTINGS,
        ]
        .map(str::to_owned)
        .to_vec();
        command.extend(match &request.resume {
            Some(session) => ["--resume".to_owned(), session.to_string()],
            None => ["--session-id".to_owned(), request.session.clone()],
        });
        let tries = (MODEL_TRIES_MAX - 1).to_string();
        let models = [
            "ANTHROPIC_MODEL",
            "ANTHROPIC_SMALL_FAST_MODEL",
            "ANTHROPIC_DEFAULT_HAIKU_MODEL",
            "ANTHROPIC_DEFAULT_SONNET_MODEL",
            "ANTHROPIC_DEFAULT_OPUS_MODEL",
            "CLAUDE_CODE_SUBAGENT_MODEL",
        ];
        let own = request.model.to_string();
        let env = [
            (ENV_DOOR_URL, request.door_url.as_str()),
            (ENV_MODEL, &own),
            ("ANTHROPIC_BASE_URL", &request.door_url),
            ("ANTHROPIC_AUTH_TOKEN", PLACEHOLDER_KEY),
            ("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1"),
            ("CLAUDE_CODE_MAX_RETRIES", &tries),
            ("DISABLE_AUTOUPDATER", "1"),
        ];
        let env = env.into_iter().chain(models.map(|name| (name, model)));
        let env = env.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        let files = vec![LaunchFile { inside: INSTRUCTIONS_INSIDE.into(), text: request.instructions.clone() }];
        Launch { command, env, files }
    }

    async fn attach(&self, io: AgentIo, request: &LaunchRequest, sink: SessionSink) -> Result<Box<dyn AgentSession>, RuntimeError> {
        let bad_pipe = |error: std::io::Error| self.error(format!("its standard streams cannot be used: {error}"));
        let stdin = pipe::Sender::from_owned_fd(io.stdin).map_err(bad_pipe)?;
        let receiver = |fd: OwnedFd| pipe::Receiver::from_owned_fd(fd).map_err(bad_pipe);
        let (stdout, stderr) = (receiver(io.stdout)?, StderrTail::start(receiver(io.stderr)?));
        let id = match &request.resume {
            Some(session) => session.clone(),
            None => SessionId::new(&request.session).map_err(|error| self.error(error.to_string()))?,
        };
        let (out, lines) = mpsc::channel(PROTOCOL_QUEUE_MAX);
        let (asks, asked) = mpsc::channel(16);
        let reader = Reader::new(out, sink, &request.session);
        let tasks = [tokio::spawn(write_lines(stdin, lines)), tokio::spawn(reader.run(LineReader::new(stdout), asked))];
        let tasks = tasks.map(AbortOnDropHandle::new);
        let shaken = tokio::time::timeout(AGENT_HANDSHAKE, self.handshake(&asks, &stderr)).await;
        shaken.map_err(|_| {
            self.error(format!("it did not answer the handshake within {} s; its stderr: {}", AGENT_HANDSHAKE.as_secs(), stderr.text()))
        })??;
        Ok(Box::new(ClaudeSession { id, asks, stderr, in_turn: AtomicBool::new(false), _tasks: tasks }))
    }
}

struct ClaudeSession {
    id: SessionId,
    asks: mpsc::Sender<Ask>,
    stderr: StderrTail,
    in_turn: AtomicBool,
    _tasks: [AbortOnDropHandle<()>; 2],
}

/// Ends the turn when the caller drops it before its end.
struct Turn<'a> {
    session: &'a ClaudeSession,
    answered: bool,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if !self.answered {
            // A full queue means a reader that has much to do; the session is about to end then.
            let _ = self.session.asks.try_send(Ask::Interrupt);
        }
        self.session.in_turn.store(false, Ordering::SeqCst);
    }
}

#[async_trait]
impl AgentSession for ClaudeSession {
    fn id(&self) -> SessionId {
        self.id.clone()
    }

    async fn prompt(&self, text: &str) -> TurnEnd {
        let failed = |detail: String| TurnEnd { stop: TurnStop::Failed, detail: Some(detail) };
        if self.in_turn.swap(true, Ordering::SeqCst) {
            return failed("the agent is in a turn already; wait for its end or interrupt it".to_owned());
        }
        let mut turn = Turn { session: self, answered: false };
        let (reply, end) = oneshot::channel();
        let _ = self.asks.send(Ask::Prompt { text: text.to_owned(), reply }).await;
        let end = end.await.unwrap_or_else(|_| Err(String::new()));
        turn.answered = true;
        match end {
            Ok(end) => end,
            Err(why) => failed(broken(&why, &self.stderr).await),
        }
    }

    async fn interrupt(&self) {
        let _ = self.asks.send(Ask::Interrupt).await;
    }

    fn takes_messages(&self) -> bool {
        true
    }

    async fn message(&self, text: &str) -> bool {
        let (reply, taken) = oneshot::channel();
        let _ = self.asks.send(Ask::Message { text: text.to_owned(), reply }).await;
        taken.await.unwrap_or(false)
    }

    fn stderr_tail(&self) -> String {
        self.stderr.text()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_numbers() {
        assert_eq!(is_old(CLAUDE_VERSION_MIN), None);
        assert_eq!(is_old("2.1.1000"), None);
        assert_eq!(is_old("3.0.0-beta"), None);
        assert!(is_old("2.1.99").unwrap().contains("2.1.99"));
        assert!(is_old("").unwrap().contains("does not say"));
    }
}
