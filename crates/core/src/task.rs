//! What a person asks for: tasks and their specifications.

use serde::{Deserialize, Serialize};

use crate::ids::TaskKey;
use crate::model::ModelRef;
use crate::money::MicroUsd;
use crate::plan::COORDINATOR;

/// A command that must succeed on the merged tree before a change lands.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GateSpec {
    /// Its name, for example `test`.
    pub name: String,
    /// The command, given to `sh -c` in the root of the tree.
    pub command: String,
    /// Wall time limit in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_s: Option<u64>,
}

/// A task as a person (or a planner) wrote it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TaskSpec {
    /// Its id in the tasks file.
    pub key: TaskKey,
    /// One line.
    pub title: String,
    /// What the agent is told.
    pub prompt: String,
    /// Globs of what may be changed.
    pub scope: Vec<String>,
    /// Globs of what its agent may read; an empty list is the whole repository. Otherwise its workspace has no history.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub read: Vec<String>,
    /// Tasks that must have landed before.
    #[serde(default)]
    pub after: Vec<TaskKey>,
    /// Gates of this task alone, run after the project's.
    #[serde(default)]
    pub gates: Vec<GateSpec>,
    /// What the agent is: `builder` unless said otherwise.
    pub role: String,
    /// Which runtime executes it.
    pub runtime: String,
    /// Which model it uses.
    pub model: ModelRef,
    /// The most money that may be spent on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget_usd: Option<MicroUsd>,
    /// Written turns for the `script` provider, as JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub script: Option<serde_json::Value>,
}

impl TaskSpec {
    /// Whether its agent plans: it changes nothing, and its result is a plan and not a change.
    pub fn is_plan(&self) -> bool {
        self.role == COORDINATOR
    }
}
