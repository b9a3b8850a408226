//! Agents that speak the protocol, as a `Runtime`.

use std::os::fd::OwnedFd;
use std::sync::atomic::AtomicBool;

use aedile_core::SessionId;
use aedile_core::limits::AGENT_HANDSHAKE;
use aedile_core::runtime::{AgentIo, AgentSession, Launch, LaunchRequest, Runtime, RuntimeError, SessionSink};
use aedile_core::sandbox::PROGRAM_INSIDE;
use async_trait::async_trait;
use serde_json::{Value, json};
use tokio::net::unix::pipe;

use crate::client::{Connection, Failure};
use crate::rpc::{self, Initialized, SessionNamed};
use crate::session::{AcpSession, broken};
use crate::stderr::StderrTail;

/// The environment variable that tells every agent the address of its door.
pub const ENV_DOOR_URL: &str = "AEDILE_DOOR";
/// The environment variable that tells our own agent its model (`provider/model`).
pub const ENV_MODEL: &str = "AEDILE_MODEL";
/// What stands in a box where a provider's key is expected; the door puts the real one in its place.
pub const PLACEHOLDER_KEY: &str = "aedile-placeholder";

/// Starts an agent that speaks the Agent Client Protocol (version 1) on stdio.
#[derive(Debug, Clone)]
pub struct AcpRuntime {
    name: String,
    command: Vec<String>,
    env: Vec<(String, String)>,
    auth_method: Option<String>,
}

impl AcpRuntime {
    /// Our own coding agent.
    pub fn aedile() -> Self {
        Self::command("aedile", vec![PROGRAM_INSIDE.to_owned(), "__agent".to_owned()], Vec::new())
    }

    /// Another agent: program and arguments inside the box, and further environment. In both, `{door}` becomes the door's
    /// base URL and `{model}` the model's name at its provider.
    pub fn command(name: impl Into<String>, command: Vec<String>, env: Vec<(String, String)>) -> Self {
        Self { name: name.into(), command, env, auth_method: None }
    }

    /// Sends `authenticate` with this method before a session is opened; some agents want it although the door holds the key.
    #[must_use]
    pub fn with_auth_method(mut self, method: impl Into<String>) -> Self {
        self.auth_method = Some(method.into());
        self
    }

    fn error(&self, message: impl Into<String>) -> RuntimeError {
        RuntimeError { runtime: self.name.clone(), message: message.into() }
    }

    async fn ask(
        &self,
        connection: &Connection,
        stderr: &StderrTail,
        method: &'static str,
        params: Value,
    ) -> Result<Vec<u8>, RuntimeError> {
        match connection.request(method, params).await {
            Ok(line) => Ok(line),
            Err(Failure::Refused(error)) => Err(self.error(format!("it answered {method} with error {}: {}", error.code, error.message))),
            Err(Failure::Broken(why)) => Err(self.error(broken(&why, stderr).await)),
        }
    }

    /// Opens the session; says too whether the agent takes messages within a turn.
    async fn handshake(
        &self,
        connection: &Connection,
        stderr: &StderrTail,
        request: &LaunchRequest,
    ) -> Result<(SessionId, bool), RuntimeError> {
        let line = self.ask(connection, stderr, rpc::INITIALIZE, initialize_params()).await?;
        let bad = |method: &str, problem: String| self.error(format!("its answer to {method} is not understood: {problem}"));
        let agent: Initialized = rpc::result(&line).map_err(|problem| bad(rpc::INITIALIZE, problem))?;
        if agent.protocol_version != rpc::PROTOCOL_VERSION {
            let version = agent.protocol_version;
            return Err(self
                .error(format!("it speaks version {version} of the Agent Client Protocol; version {} is needed", rpc::PROTOCOL_VERSION)));
        }
        let takes_messages = agent.agent_capabilities.meta.and_then(|meta| meta.aedile).is_some_and(|ours| ours.messages);
        if let Some(method) = &self.auth_method {
            self.ask(connection, stderr, rpc::AUTHENTICATE, json!({"methodId": method})).await?;
        }
        let Some(id) = &request.resume else {
            let line = self.ask(connection, stderr, rpc::SESSION_NEW, json!({"cwd": request.cwd, "mcpServers": []})).await?;
            let named: SessionNamed = rpc::result(&line).map_err(|problem| bad(rpc::SESSION_NEW, problem))?;
            let id = SessionId::new(named.session_id).map_err(|error| self.error(error.to_string()))?;
            return Ok((id, takes_messages));
        };
        if !agent.agent_capabilities.load_session {
            return Err(self.error("it cannot go on with an earlier session; start a new one"));
        }
        let params = json!({"sessionId": id.as_str(), "cwd": request.cwd, "mcpServers": []});
        self.ask(connection, stderr, rpc::SESSION_LOAD, params).await?;
        Ok((id.clone(), takes_messages))
    }
}

/// Offers no file and no terminal service: the agent has its own, inside its box. Nobody answers questions: the box is the boundary.
pub(crate) fn initialize_params() -> Value {
    json!({
        "protocolVersion": rpc::PROTOCOL_VERSION,
        "clientCapabilities": {"fs": {"readTextFile": false, "writeTextFile": false}, "terminal": false, "_meta": {"aedile": {"unattended": true}}},
        "clientInfo": {"name": "aedile", "version": env!("CARGO_PKG_VERSION")},
    })
}

#[async_trait]
impl Runtime for AcpRuntime {
    fn name(&self) -> &str {
        &self.name
    }

    fn launch(&self, request: &LaunchRequest) -> Launch {
        let fill = |text: &String| text.replace("{door}", &request.door_url).replace("{model}", &request.model.model);
        let set = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let mut env = vec![set(ENV_DOOR_URL, &request.door_url), set(ENV_MODEL, &request.model.to_string())];
        let provider = request.model.provider.as_str();
        // What a further provider speaks is not known here; the door takes the one or the other.
        if !matches!(provider, "openai" | "gemini" | "ollama") {
            env.extend([set("ANTHROPIC_BASE_URL", &request.door_url), set("ANTHROPIC_API_KEY", PLACEHOLDER_KEY)]);
        }
        if provider != "anthropic" {
            env.extend([set("OPENAI_BASE_URL", &format!("{}/v1", request.door_url)), set("OPENAI_API_KEY", PLACEHOLDER_KEY)]);
        }
        for (name, value) in &self.env {
            env.retain(|(known, _)| known != name);
            env.push((name.clone(), fill(value)));
        }
        Launch { command: self.command.iter().map(fill).collect(), env, files: Vec::new() }
    }

    async fn attach(&self, io: AgentIo, request: &LaunchRequest, sink: SessionSink) -> Result<Box<dyn AgentSession>, RuntimeError> {
        let bad_pipe = |error: std::io::Error| self.error(format!("its standard streams cannot be used: {error}"));
        let stdin = pipe::Sender::from_owned_fd(io.stdin).map_err(bad_pipe)?;
        let receiver = |fd: OwnedFd| pipe::Receiver::from_owned_fd(fd).map_err(bad_pipe);
        let (stdout, stderr) = (receiver(io.stdout)?, StderrTail::start(receiver(io.stderr)?));
        let connection = Connection::start(stdin, stdout, sink);
        let shaken = tokio::time::timeout(AGENT_HANDSHAKE, self.handshake(&connection, &stderr, request)).await;
        let (id, takes_messages) = shaken.map_err(|_| {
            self.error(format!("it did not answer the handshake within {} s; its stderr: {}", AGENT_HANDSHAKE.as_secs(), stderr.text()))
        })??;
        Ok(Box::new(AcpSession { id, connection, stderr, takes_messages, in_turn: AtomicBool::new(false) }))
    }
}
