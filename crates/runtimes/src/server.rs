//! The agent's side: a `LocalAgent` on stdio.

use std::future::{Future, poll_fn};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;

use aedile_core::SessionId;
use aedile_core::limits::{PROTOCOL_LINE_BYTES_MAX, PROTOCOL_QUEUE_MAX, TERM_GRACE};
use aedile_core::runtime::{LocalAgent, RuntimeError, SessionEvent, SessionMode, SessionSink, TurnEnd, TurnStop};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::asks::Asks;
use crate::events::to_update;
use crate::line::{Line, LineReader};
use crate::ours::{self, MessageParams};
use crate::rpc::{self, InitializeParams, Kind, OpenParams, PromptParams, SessionNamed, SetModeParams, SetModelParams};

/// Requests that are worked on at once; further ones are refused.
const REQUESTS_AT_ONCE_MAX: usize = 64;

/// Events besides pieces of text that may wait for a client that does not read: far more than one turn has.
const EVENTS_KEPT_MAX: usize = 16 * 1024;

/// Why serving ended before the client closed our stdin.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// Reading from the client failed.
    #[error("cannot read from the client: {0}")]
    Read(std::io::Error),
    /// Writing to the client failed.
    #[error("cannot write to the client: {0}")]
    Write(std::io::Error),
}

/// An error answer.
struct Refused {
    code: i64,
    message: String,
}

impl Refused {
    fn params(message: impl Into<String>) -> Self {
        Self { code: rpc::INVALID_PARAMS, message: message.into() }
    }
}

impl From<RuntimeError> for Refused {
    fn from(error: RuntimeError) -> Self {
        Self { code: rpc::INTERNAL_ERROR, message: error.message }
    }
}

/// Serves the agent as version 1 of the Agent Client Protocol until `stdin` ends; turns that are under way are cancelled then.
/// Nothing else may write to `stdout`.
///
/// # Errors
/// [`ServeError`] when a stream breaks.
pub async fn serve_acp<R, W>(agent: Arc<dyn LocalAgent>, stdin: R, stdout: W) -> Result<(), ServeError>
where
    R: AsyncRead + Unpin + Send,
    W: AsyncWrite + Unpin + Send + 'static,
{
    let (out, lines) = mpsc::channel(PROTOCOL_QUEUE_MAX + EVENTS_KEPT_MAX);
    let mut writer = tokio::spawn(write_lines(stdout, lines));
    let asks = Arc::new(Asks::new(out.clone()));
    let mut server = Server { agent, out, asks, work: JoinSet::new() };
    let read = tokio::select! {
        read = server.read(LineReader::new(stdin)) => read,
        written = &mut writer => return written.unwrap_or(Ok(())),
    };
    server.work.shutdown().await;
    server.agent.close().await;
    drop(server);
    let written = tokio::time::timeout(TERM_GRACE, writer).await;
    read.and(written.ok().and_then(Result::ok).unwrap_or(Ok(())))
}

async fn write_lines(mut stdout: impl AsyncWrite + Unpin, mut lines: mpsc::Receiver<String>) -> Result<(), ServeError> {
    while let Some(mut line) = lines.recv().await {
        line.push('\n');
        stdout.write_all(line.as_bytes()).await.map_err(ServeError::Write)?;
        stdout.flush().await.map_err(ServeError::Write)?;
    }
    Ok(())
}

struct Server {
    agent: Arc<dyn LocalAgent>,
    out: mpsc::Sender<String>,
    asks: Arc<Asks>,
    work: JoinSet<()>,
}

impl Server {
    async fn read<R: AsyncRead + Unpin>(&mut self, mut lines: LineReader<R>) -> Result<(), ServeError> {
        loop {
            tokio::select! {
                line = lines.next() => match line.map_err(ServeError::Read)? {
                    Some(line) => self.line(line).await,
                    None => return Ok(()),
                },
                Some(_) = self.work.join_next() => {}
            }
        }
    }

    async fn line(&mut self, line: Line) {
        let line = match line {
            Line::Whole(line) => line,
            Line::TooLong => {
                let message = format!("a line may have at most {PROTOCOL_LINE_BYTES_MAX} bytes");
                return self.send(rpc::failure(None, rpc::INVALID_REQUEST, &message)).await;
            }
        };
        match rpc::kind_of(&line) {
            Ok(Kind::Request(id, _)) if self.work.len() >= REQUESTS_AT_ONCE_MAX => {
                let message = format!("{REQUESTS_AT_ONCE_MAX} requests are worked on already; wait for an answer");
                self.send(rpc::failure(Some(&id), rpc::INTERNAL_ERROR, &message)).await;
            }
            Ok(Kind::Request(id, method)) => {
                let (agent, out, asks) = (self.agent.clone(), self.out.clone(), self.asks.clone());
                let is_prompt = method == rpc::SESSION_PROMPT;
                let mut work = Box::pin(async move {
                    let answer = match handle(agent.as_ref(), &method, &line, &out, &asks).await {
                        Ok(result) => rpc::answer(&id, &result),
                        Err(refused) => rpc::failure(Some(&id), refused.code, &refused.message),
                    };
                    // The client has gone when nobody takes it.
                    let _ = out.send(answer).await;
                });
                // A turn begins before the next line is read, so that a cancel right behind the prompt finds it.
                let over = is_prompt && poll_fn(|context| Poll::Ready(work.as_mut().poll(context))).await.is_ready();
                if !over {
                    self.work.spawn(work);
                }
            }
            Ok(Kind::Notification(method)) if method == rpc::SESSION_CANCEL => {
                let named = rpc::params::<SessionNamed>(&line).ok().and_then(|named| SessionId::new(named.session_id).ok());
                if let Some(session) = named {
                    self.agent.cancel(&session).await;
                }
            }
            Ok(Kind::Answer(id) | Kind::Failed(id, _)) => self.asks.answered(&id, &line),
            Ok(Kind::Notification(_)) => {}
            Err(problem) => self.send(rpc::failure(None, rpc::PARSE_ERROR, &problem)).await,
        }
    }

    async fn send(&self, line: String) {
        // The client has gone when nobody takes it.
        let _ = self.out.send(line).await;
    }
}

async fn handle(agent: &dyn LocalAgent, method: &str, line: &[u8], out: &mpsc::Sender<String>, asks: &Arc<Asks>) -> Result<Value, Refused> {
    match method {
        rpc::INITIALIZE => {
            // Whatever the client speaks, the answer names the one version that we speak.
            let client: InitializeParams = rpc::params(line).map_err(Refused::params)?;
            if !client.client_capabilities.meta.and_then(|meta| meta.aedile).is_some_and(|ours| ours.unattended) {
                agent.attended(asks.clone());
            }
            Ok(json!({
                "protocolVersion": rpc::PROTOCOL_VERSION,
                "agentCapabilities": {
                    "loadSession": true,
                    "sessionCapabilities": {"fork": {}},
                    "promptCapabilities": {"image": false, "audio": false, "embeddedContext": false},
                    "_meta": {"aedile": {"messages": true}},
                },
                "agentInfo": {"name": "aedile", "version": env!("CARGO_PKG_VERSION")},
                "authMethods": [],
            }))
        }
        rpc::SESSION_NEW => {
            let open: OpenParams = rpc::params(line).map_err(Refused::params)?;
            let id = agent.new_session(&open.cwd).await?;
            Ok(with_modes(json!({"sessionId": id.as_str()}), agent, &id))
        }
        rpc::SESSION_LOAD => {
            let open: OpenParams = rpc::params(line).map_err(Refused::params)?;
            let id = session_id(open.session_id.ok_or_else(|| Refused::params("`sessionId` is missing"))?)?;
            agent.load_session(&id, &open.cwd).await?;
            Ok(with_modes(json!({}), agent, &id))
        }
        rpc::SESSION_FORK => {
            let open: OpenParams = rpc::params(line).map_err(Refused::params)?;
            let id = session_id(open.session_id.ok_or_else(|| Refused::params("`sessionId` is missing"))?)?;
            let new = agent.fork_session(&id, &open.cwd).await?;
            Ok(with_modes(json!({"sessionId": new.as_str()}), agent, &new))
        }
        rpc::SESSION_SET_MODEL => {
            let set: SetModelParams = rpc::params(line).map_err(Refused::params)?;
            agent.set_model(&session_id(set.session_id)?, &set.model_id).await.map_err(|error| Refused::params(error.message))?;
            Ok(json!({}))
        }
        rpc::SESSION_SET_MODE => {
            let set: SetModeParams = rpc::params(line).map_err(Refused::params)?;
            agent.set_mode(&session_id(set.session_id)?, &set.mode_id).map_err(|error| Refused::params(error.message))?;
            Ok(json!({}))
        }
        rpc::SESSION_PROMPT => {
            let prompt: PromptParams = rpc::params(line).map_err(Refused::params)?;
            let text = prompt_text(&prompt)?;
            let session = session_id(prompt.session_id)?;
            let sink = sink_to(out, &session);
            match prompt.meta.and_then(|meta| meta.aedile).and_then(|ours| ours.output_schema) {
                Some(schema) => {
                    let (sink, output) = keeping_output(sink);
                    let answer = prompted(agent.prompt_for_output(&session, &text, &schema, sink).await);
                    let output = output.lock().unwrap_or_else(PoisonError::into_inner).take();
                    answer.map(|answer| with_output(answer, output))
                }
                None => prompted(agent.prompt(&session, &text, sink).await),
            }
        }
        ours::SESSION_MESSAGE => {
            let message: MessageParams = rpc::params(line).map_err(Refused::params)?;
            Ok(json!({"taken": agent.message(&session_id(message.session_id)?, &message.text).await}))
        }
        other => Err(Refused { code: rpc::METHOD_NOT_FOUND, message: format!("this agent has no method {other}") }),
    }
}

/// Adds the modes of a session, if it has any.
fn with_modes(mut answer: Value, agent: &dyn LocalAgent, session: &SessionId) -> Value {
    if let Some(modes) = agent.modes(session) {
        let each = |mode: &SessionMode| json!({"id": mode.id, "name": mode.name, "description": mode.description});
        let available: Vec<Value> = modes.available.iter().map(each).collect();
        answer["modes"] = json!({"currentModeId": modes.current, "availableModes": available});
    }
    answer
}

fn session_id(text: String) -> Result<SessionId, Refused> {
    SessionId::new(text).map_err(|error| Refused::params(error.to_string()))
}

fn prompt_text(prompt: &PromptParams) -> Result<String, Refused> {
    let mut parts = Vec::new();
    for block in &prompt.prompt {
        match (block.kind.as_str(), &block.text, &block.uri) {
            ("text", Some(text), _) => parts.push(text.as_str()),
            ("resource_link", _, Some(uri)) => parts.push(uri.as_str()),
            (kind, ..) => return Err(Refused::params(format!("a prompt may hold texts and resource links, not {kind:?}"))),
        }
    }
    if parts.is_empty() {
        return Err(Refused::params("the prompt is empty"));
    }
    Ok(parts.join("\n"))
}

/// A sink that also keeps the last value that the agent gave as its answer.
fn keeping_output(sink: SessionSink) -> (SessionSink, Arc<Mutex<Option<Value>>>) {
    let kept = Arc::<Mutex<Option<Value>>>::default();
    let keep = kept.clone();
    let sink: SessionSink = Arc::new(move |event| {
        if let SessionEvent::Output { value } = &event {
            *keep.lock().unwrap_or_else(PoisonError::into_inner) = Some(value.clone());
        }
        sink(event);
    });
    (sink, kept)
}

/// The value stands in the answer to the prompt too.
fn with_output(mut answer: Value, output: Option<Value>) -> Value {
    if let Some(output) = output {
        answer["_meta"]["aedile"] = json!({ "output": output });
    }
    answer
}

/// Events become notifications. A client that does not read loses pieces of text rather than stopping the turn, and other events only when
/// more of them wait than a turn can have; the turn's end is never lost.
fn sink_to(out: &mpsc::Sender<String>, session: &SessionId) -> SessionSink {
    let (out, session) = (out.clone(), session.clone());
    Arc::new(move |event| {
        let is_text = matches!(event, SessionEvent::Text { .. });
        if is_text && out.capacity() <= EVENTS_KEPT_MAX {
            tracing::warn!(session = session.as_str(), "the client does not read; a piece of text is not reported");
            return;
        }
        let update = json!({"sessionId": session.as_str(), "update": to_update(&event)});
        if out.try_send(rpc::notification(rpc::SESSION_UPDATE, &update)).is_err() {
            tracing::warn!(session = session.as_str(), "the client does not read; an event is not reported");
        }
    })
}

fn prompted(end: TurnEnd) -> Result<Value, Refused> {
    let reason = match end.stop {
        TurnStop::EndTurn => "end_turn",
        TurnStop::Limit => "max_turn_requests",
        TurnStop::MaxTokens => "max_tokens",
        TurnStop::Refusal => "refusal",
        TurnStop::Cancelled => "cancelled",
        TurnStop::Failed => {
            let message = end.detail.unwrap_or_else(|| "the turn failed".to_owned());
            return Err(Refused { code: rpc::INTERNAL_ERROR, message });
        }
    };
    Ok(match end.detail {
        Some(detail) => json!({"stopReason": reason, "_meta": {"detail": detail}}),
        None => json!({"stopReason": reason}),
    })
}
