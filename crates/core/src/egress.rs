//! Egress: the only way out of a box is a door that somebody holds.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use crate::agent_api::{AgentApi, DoorIdentity};
use crate::clock::Timestamp;
use crate::model::ModelRef;
use crate::money::{Budget, MicroUsd, Usage};
use crate::policy::PolicyText;

/// What one door allows.
#[derive(Clone)]
pub struct DoorGrant {
    /// Who speaks through it.
    pub who: DoorIdentity,
    /// The model that it is to use. The model's name in requests must be this one, or one of `others`.
    pub model: ModelRef,
    /// Models that it may change to, in the order in which they take over when the provider of its own does not answer.
    pub others: Vec<ModelRef>,
    /// Written turns, when the provider is `script`.
    pub script: Option<serde_json::Value>,
    /// Budget of the agent in this incarnation.
    pub agent_budget: Budget,
    /// Budget of the task over all its agents.
    pub task_budget: Budget,
    /// Budget of the run, shared by all its doors.
    pub run_budget: Budget,
    /// The layers of policy, from the widest to the narrowest. Where none says anything of the network the door is no proxy.
    pub policy: Vec<PolicyText>,
    /// Answers the agent's own API.
    pub api: Arc<dyn AgentApi>,
}

/// Why a door was not opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot open the door of {agent}: {message}")]
pub struct EgressError {
    /// The agent.
    pub agent: String,
    /// What is wrong and which setting mends it (a missing key, an unknown provider).
    pub message: String,
}

/// What flowed through a door so far.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct DoorActivity {
    /// When the last byte of a model's answer passed.
    pub last_flow: Option<Timestamp>,
    /// Requests that are under way.
    pub in_flight: u32,
    /// Used so far.
    pub usage: Usage,
    /// Spent so far.
    pub spent: MicroUsd,
}

/// Opens doors. Dropping the returned door closes it and ends its connections.
pub trait Egress: Send + Sync {
    /// Serves the listener under the grant.
    ///
    /// # Errors
    /// [`EgressError`]; the listener is closed then.
    fn open_door(&self, listener: OwnedFd, grant: DoorGrant) -> Result<Box<dyn Door>, EgressError>;

    /// Returns the hosts from which agents may read pages, as the project lists them; empty where none is listed.
    fn web_hosts(&self) -> Vec<String> {
        Vec::new()
    }
}

/// An open door.
pub trait Door: Send + Sync {
    /// What flowed so far.
    fn activity(&self) -> DoorActivity;

    /// Why a request was refused that will be refused again until a person changes a setting: a budget too small for it with nothing
    /// under way that could give back, or a price that is not known. A sentence that names the setting.
    fn refusal(&self) -> Option<String> {
        None
    }
}
