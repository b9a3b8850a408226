//! What holds for a project: gates, protected paths and limits, as read from the target's commit.

use serde::{Deserialize, Serialize};

use crate::model::ModelRef;
use crate::money::Budget;
use crate::policy::PolicyText;
use crate::task::GateSpec;

/// The rules of a project during one run.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct ProjectRules {
    /// Gates in order. Empty is said aloud in every report.
    pub gates: Vec<GateSpec>,
    /// Globs that no change may touch without `--allow-protected`.
    pub protected: Vec<String>,
    /// Globs of names of the tool-configuration table that changes may touch in this project.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub harmless: Vec<String>,
    /// Directories (relative) that builds write and that are never part of a change, for example `target`.
    pub build_dirs: Vec<String>,
    /// The budget of the whole run.
    #[serde(default)]
    pub run_budget: Budget,
    /// The budget of each task that names none.
    #[serde(default)]
    pub task_budget: Budget,
    /// The budget of one life of an agent.
    #[serde(default)]
    pub agent_budget: Budget,
    /// Models that agents go on with, in this order, when the provider of their own does not answer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fallback: Vec<ModelRef>,
    /// The policy of the project and of the run, as they were when it began. Those of the machine and the person are read when a worker begins.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub policy: Vec<PolicyText>,
    /// Whether protected paths may change in this run.
    #[serde(default)]
    pub allow_protected: bool,
    /// Whether changes are held for a person once they are imported, instead of landed. Such a run works from its base, not from
    /// whatever the target has become.
    #[serde(default)]
    pub hold: bool,
}
