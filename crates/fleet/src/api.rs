//! The agent's own API: a door holds one end, the agent's unit answers at the other.

use std::time::Duration;

use aedile_core::IncarnationId;
use aedile_core::agent_api::{AgentApi, AgentReply, AgentRequest, DoorIdentity};
use async_trait::async_trait;
use tokio::sync::{mpsc, oneshot};

/// Requests that may wait for the unit.
pub(crate) const API_QUEUE_MAX: usize = 16;
/// The longest wait for an answer; the unit may be taking a snapshot.
const API_TIMEOUT: Duration = Duration::from_secs(120);

/// A request and where its answer goes.
pub(crate) struct Call {
    pub(crate) request: AgentRequest,
    pub(crate) answer: oneshot::Sender<AgentReply>,
}

/// The door's end.
pub(crate) struct UnitApi {
    pub(crate) incarnation: IncarnationId,
    pub(crate) calls: mpsc::Sender<Call>,
}

#[async_trait]
impl AgentApi for UnitApi {
    async fn call(&self, who: &DoorIdentity, request: AgentRequest) -> AgentReply {
        if who.incarnation != self.incarnation {
            return refused("this door belongs to another agent");
        }
        let (answer, reply) = oneshot::channel();
        let ask = async {
            self.calls.send(Call { request, answer }).await.ok()?;
            reply.await.ok()
        };
        match tokio::time::timeout(API_TIMEOUT, ask).await {
            Ok(Some(reply)) => reply,
            Ok(None) => refused("your session is ending; nothing more is taken"),
            Err(_) => refused("aedile is busy; try again in a minute"),
        }
    }
}

pub(crate) fn refused(message: impl Into<String>) -> AgentReply {
    AgentReply::Refused { message: message.into() }
}

pub(crate) fn done(message: impl Into<String>) -> AgentReply {
    AgentReply::Done { message: message.into() }
}
