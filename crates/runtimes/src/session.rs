//! One conversation with an agent that speaks the protocol.

use std::sync::atomic::{AtomicBool, Ordering};

use aedile_core::SessionId;
use aedile_core::runtime::{AgentSession, TurnEnd, TurnStop};
use async_trait::async_trait;
use serde_json::json;

use crate::client::{Connection, Failure};
use crate::ours::{self, Messaged};
use crate::rpc::{self, Prompted};
use crate::stderr::StderrTail;

pub(crate) struct AcpSession {
    pub(crate) id: SessionId,
    pub(crate) connection: Connection,
    pub(crate) stderr: StderrTail,
    /// Whether the agent takes messages within a turn, for which the protocol has no way of its own.
    pub(crate) takes_messages: bool,
    pub(crate) in_turn: AtomicBool,
}

/// Ends the turn when the caller drops it before its end.
struct Turn<'a> {
    session: &'a AcpSession,
    answered: bool,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if !self.answered {
            self.session.connection.cancel_now(self.session.id.as_str());
        }
        self.session.in_turn.store(false, Ordering::SeqCst);
    }
}

#[async_trait]
impl AgentSession for AcpSession {
    fn id(&self) -> SessionId {
        self.id.clone()
    }

    async fn prompt(&self, text: &str) -> TurnEnd {
        if self.in_turn.swap(true, Ordering::SeqCst) {
            return failed("the agent is in a turn already; wait for its end or interrupt it".to_owned());
        }
        let mut turn = Turn { session: self, answered: false };
        let params = json!({"sessionId": self.id.as_str(), "prompt": [{"type": "text", "text": text}]});
        let reply = self.connection.request(rpc::SESSION_PROMPT, params).await;
        turn.answered = true;
        match reply {
            Ok(line) => match rpc::result::<Prompted>(&line) {
                Ok(prompted) => turn_end(prompted),
                Err(problem) => failed(format!("the agent's answer to the prompt is not understood: {problem}")),
            },
            Err(Failure::Refused(_)) if self.connection.cancelling() => TurnEnd { stop: TurnStop::Cancelled, detail: None },
            Err(Failure::Refused(error)) => failed(error.message),
            Err(Failure::Broken(why)) => failed(broken(&why, &self.stderr).await),
        }
    }

    async fn interrupt(&self) {
        self.connection.cancel(self.id.as_str()).await;
    }

    fn takes_messages(&self) -> bool {
        self.takes_messages
    }

    async fn message(&self, text: &str) -> bool {
        if !self.takes_messages || !self.in_turn.load(Ordering::SeqCst) {
            return false;
        }
        let params = json!({"sessionId": self.id.as_str(), "text": text});
        let reply = self.connection.request(ours::SESSION_MESSAGE, params).await;
        reply.is_ok_and(|line| rpc::result::<Messaged>(&line).is_ok_and(|messaged| messaged.taken))
    }

    fn stderr_tail(&self) -> String {
        self.stderr.text()
    }
}

fn failed(detail: String) -> TurnEnd {
    TurnEnd { stop: TurnStop::Failed, detail: Some(detail) }
}

fn turn_end(prompted: Prompted) -> TurnEnd {
    let detail = prompted.meta.and_then(|meta| meta.detail);
    let stop = match prompted.stop_reason.as_str() {
        "end_turn" => TurnStop::EndTurn,
        "max_tokens" => TurnStop::MaxTokens,
        "max_turn_requests" => TurnStop::Limit,
        "refusal" => TurnStop::Refusal,
        "cancelled" => TurnStop::Cancelled,
        other => {
            let other: String = other.chars().take(80).collect();
            return failed(format!("the agent ended its turn with the unknown reason {other:?}"));
        }
    };
    TurnEnd { stop, detail }
}

/// The sentence for a connection that is over.
pub(crate) async fn broken(why: &str, stderr: &StderrTail) -> String {
    let happened = if why.is_empty() { "the agent's process has ended".to_owned() } else { format!("the agent broke the protocol: {why}") };
    let words = stderr.last_words().await;
    if words.is_empty() { format!("{happened}; it left nothing on stderr") } else { format!("{happened}; its last words: {words}") }
}
