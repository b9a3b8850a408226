//! The client's side of a connection: one task reads the agent's lines, one writes ours.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use aedile_core::limits::{PROTOCOL_LINE_BYTES_MAX, PROTOCOL_QUEUE_MAX};
use aedile_core::runtime::{SessionEvent, SessionSink};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::sync::{mpsc, oneshot};
use tokio_util::task::AbortOnDropHandle;

use crate::events::Updates;
use crate::flood::Flood;
use crate::line::{Line, LineReader, Listener, listen};
use crate::rpc::{self, Id, Kind, PermissionParams, RpcError};

/// Services that an agent asked for in vain and that are told of.
const REFUSED_TOLD_MAX: usize = 20;

/// Why a request has no result.
#[derive(Debug, Clone)]
pub(crate) enum Failure {
    /// The agent answered with an error.
    Refused(RpcError),
    /// The connection is over: the process has ended or broke the protocol. Why is said; empty when it just ended.
    Broken(String),
}

/// The line of an answer, from which the caller reads the result.
type Reply = Result<Vec<u8>, Failure>;

/// What the reader's task is asked to do, in this order.
enum Ask {
    /// A request, and where its answer goes.
    Request { method: &'static str, params: Value, reply: oneshot::Sender<Reply> },
    /// End the turn of the session.
    Cancel { session: String },
}

/// A connection to an agent. Dropping it closes the agent's stdin.
pub(crate) struct Connection {
    asks: mpsc::Sender<Ask>,
    cancelling: Arc<AtomicBool>,
    _tasks: [AbortOnDropHandle<()>; 2],
}

impl Connection {
    /// Starts on the agent's streams.
    pub(crate) fn start(
        stdin: impl AsyncWrite + Unpin + Send + 'static,
        stdout: impl AsyncRead + Unpin + Send + 'static,
        sink: SessionSink,
    ) -> Self {
        let (out, lines) = mpsc::channel(PROTOCOL_QUEUE_MAX);
        let (asks, asked) = mpsc::channel(16);
        let cancelling = Arc::new(AtomicBool::new(false));
        let reader = Reader {
            out,
            sink,
            updates: Updates::default(),
            pending: HashMap::new(),
            next_id: 1,
            loading: None,
            flood: Flood::new(),
            cancelling: cancelling.clone(),
            refused: HashSet::new(),
        };
        let writing = tokio::spawn(write_lines(stdin, lines));
        let reading = tokio::spawn(reader.run(LineReader::new(stdout), asked));
        Self { asks, cancelling, _tasks: [AbortOnDropHandle::new(reading), AbortOnDropHandle::new(writing)] }
    }

    /// Sends a request and waits for the line that answers it.
    pub(crate) async fn request(&self, method: &'static str, params: Value) -> Reply {
        if method == rpc::SESSION_PROMPT {
            self.cancelling.store(false, Ordering::SeqCst);
        }
        let (reply, answer) = oneshot::channel();
        let over = || Failure::Broken(String::new());
        self.asks.send(Ask::Request { method, params, reply }).await.map_err(|_| over())?;
        answer.await.map_err(|_| over())?
    }

    /// Asks the agent to end the turn of the session, behind whatever was asked before.
    pub(crate) async fn cancel(&self, session: &str) {
        self.cancelling.store(true, Ordering::SeqCst);
        // The connection is over when nobody takes it.
        let _ = self.asks.send(Ask::Cancel { session: session.to_owned() }).await;
    }

    /// The same for one who cannot wait.
    pub(crate) fn cancel_now(&self, session: &str) {
        self.cancelling.store(true, Ordering::SeqCst);
        // A full queue means a reader that has much to do; the session is about to end then.
        let _ = self.asks.try_send(Ask::Cancel { session: session.to_owned() });
    }

    /// Whether the present turn was cancelled.
    pub(crate) fn cancelling(&self) -> bool {
        self.cancelling.load(Ordering::SeqCst)
    }
}

pub(crate) async fn write_lines(mut stdin: impl AsyncWrite + Unpin, mut lines: mpsc::Receiver<String>) {
    while let Some(mut line) = lines.recv().await {
        line.push('\n');
        if stdin.write_all(line.as_bytes()).await.is_err() || stdin.flush().await.is_err() {
            // The process has ended; the reader sees the end of its stdout.
            return;
        }
    }
}

struct Reader {
    out: mpsc::Sender<String>,
    sink: SessionSink,
    updates: Updates,
    pending: HashMap<i64, oneshot::Sender<Reply>>,
    next_id: i64,
    /// The request that loads a session: until it is answered, updates repeat what was said before.
    loading: Option<i64>,
    flood: Flood,
    cancelling: Arc<AtomicBool>,
    /// Services that it asked for in vain and that were told of.
    refused: HashSet<String>,
}

impl Listener<Ask> for Reader {
    fn ask(&mut self, ask: Ask) -> Result<(), String> {
        let (method, params, reply) = match ask {
            Ask::Request { method, params, reply } => (method, params, reply),
            Ask::Cancel { session } => return self.send(rpc::notification(rpc::SESSION_CANCEL, &json!({"sessionId": session}))),
        };
        let id = self.next_id;
        self.next_id += 1;
        match method {
            rpc::SESSION_LOAD => self.loading = Some(id),
            rpc::SESSION_PROMPT => self.updates.begin_turn(),
            _ => {}
        }
        self.pending.insert(id, reply);
        self.send(rpc::request(id, method, &params))
    }

    fn line(&mut self, line: Line) -> Result<(), String> {
        let line = match line {
            Line::Whole(line) => line,
            Line::TooLong => return Err(format!("it sent a line of more than {PROTOCOL_LINE_BYTES_MAX} bytes")),
        };
        // An earlier session may be told again in one go, and as long as it is.
        if self.loading.is_none() {
            self.flood.take(line.len())?;
        }
        match rpc::kind_of(&line) {
            Ok(Kind::Answer(id)) => self.answered(&id, Ok(line)),
            Ok(Kind::Failed(id, error)) => self.answered(&id, Err(Failure::Refused(error))),
            Ok(Kind::Request(id, method)) => self.asked_by_agent(&id, &method, &line),
            Ok(Kind::Notification(method)) if method == rpc::SESSION_UPDATE => {
                let (sink, quiet) = (&self.sink, self.loading.is_some());
                let read = self.updates.read(&line, &mut |event| {
                    if !quiet {
                        sink(event);
                    }
                });
                read.or_else(|problem| self.flood.garbage(&problem))
            }
            Ok(Kind::Notification(_)) => Ok(()),
            Err(problem) => self.flood.garbage(&problem),
        }
    }
}

impl Reader {
    async fn run<R: AsyncRead + Unpin>(mut self, mut lines: LineReader<R>, mut asked: mpsc::Receiver<Ask>) {
        let Some(why) = listen(&mut self, &mut lines, &mut asked).await else { return };
        for (_, reply) in self.pending.drain() {
            let _ = reply.send(Err(Failure::Broken(why.clone())));
        }
        while let Some(ask) = asked.recv().await {
            if let Ask::Request { reply, .. } = ask {
                let _ = reply.send(Err(Failure::Broken(why.clone())));
            }
        }
    }

    fn send(&self, line: String) -> Result<(), String> {
        match self.out.try_send(line) {
            Err(mpsc::error::TrySendError::Full(_)) => {
                Err(format!("it does not read its input: {PROTOCOL_QUEUE_MAX} messages wait for it"))
            }
            // When the writer has stopped, the process has ended and its stdout says so.
            Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => Ok(()),
        }
    }

    fn answered(&mut self, id: &Id, reply: Reply) -> Result<(), String> {
        let Id::Number(number) = id else { return self.flood.garbage("an answer to nothing") };
        let Some(waiting) = self.pending.remove(number) else { return self.flood.garbage("an answer to nothing") };
        if self.loading == Some(*number) {
            self.loading = None;
        }
        // Nobody waits any more when the caller gave up; the answer is void then.
        let _ = waiting.send(reply);
        Ok(())
    }

    /// The agent wants something: permission is given, since the box is the boundary; files and terminals it has itself.
    fn asked_by_agent(&mut self, id: &Id, method: &str, line: &[u8]) -> Result<(), String> {
        let answer = if method == rpc::REQUEST_PERMISSION {
            match rpc::params::<PermissionParams>(line) {
                Ok(params) => rpc::answer(id, &json!({"outcome": self.permit(&params)})),
                Err(problem) => rpc::failure(Some(id), rpc::INVALID_PARAMS, &problem),
            }
        } else {
            let method: String = method.chars().take(100).collect();
            if self.refused.len() < REFUSED_TOLD_MAX && self.refused.insert(method.clone()) {
                (self.sink)(SessionEvent::Warning {
                    text: format!("the agent asked for {method}, which is not offered: it has to use tools of its own"),
                });
            }
            rpc::failure(Some(id), rpc::METHOD_NOT_FOUND, &format!("this client does not offer {method}"))
        };
        self.send(answer)
    }

    fn permit(&self, params: &PermissionParams) -> Value {
        let of_kind = |kind: &str| params.options.iter().find(|option| option.kind == kind);
        match of_kind("allow_once").or_else(|| of_kind("allow_always")) {
            Some(option) if !self.cancelling.load(Ordering::SeqCst) => json!({"outcome": "selected", "optionId": option.option_id}),
            _ => json!({"outcome": "cancelled"}),
        }
    }
}
