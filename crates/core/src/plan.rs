//! Plans: how a goal is split into tasks, as a model hands it in.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// The key of the task that plans.
pub const PLAN_KEY: &str = "plan";
/// The role of an agent that plans: it reads the code, changes nothing and hands a plan in.
pub const COORDINATOR: &str = "coordinator";

/// The key of the task that makes a run's plan number `number`, from 1.
pub fn plan_key(number: usize) -> String {
    if number < 2 { PLAN_KEY.to_owned() } else { format!("{PLAN_KEY}-{number}") }
}

/// Whether a key is one of a task that plans.
pub fn is_plan_key(key: &str) -> bool {
    let number = key.strip_prefix(PLAN_KEY).map(|rest| rest.strip_prefix('-').unwrap_or(rest));
    number.is_some_and(|number| number.bytes().all(|byte| byte.is_ascii_digit()))
}

/// A goal, split into tasks.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// For the person: how the goal is reached, and what had to be decided for it.
    #[serde(default)]
    pub summary: String,
    /// The tasks.
    pub tasks: Vec<PlannedTask>,
}

/// One task of a plan.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlannedTask {
    /// Its id, unique in the plan.
    pub id: String,
    /// One line.
    pub title: String,
    /// What its agent is told.
    pub prompt: String,
    /// Globs of what it may change.
    pub scope: Vec<String>,
    /// Ids of tasks that must have landed before.
    #[serde(default)]
    pub after: Vec<String>,
    /// What must be true when it is done.
    #[serde(default)]
    pub acceptance: Vec<Acceptance>,
}

/// Something that must be true when a task is done.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Acceptance {
    /// In words.
    pub what: String,
    /// A command that succeeds only then; it becomes a gate of the task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
}

/// A plan that passed the checks, as it is kept until a person answers.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ProposedPlan {
    /// The plan, completed.
    pub plan: Plan,
    /// What the checks added and noticed, a sentence each.
    pub notes: Vec<String>,
    /// How many of its tasks can be worked on at once.
    pub at_once: usize,
    /// Bytes of the files that each task may change, in the order of the tasks.
    pub scope_bytes: Vec<u64>,
}

/// What a person said to a plan.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub enum PlanAnswer {
    /// Yes; its tasks are opened with this.
    Accepted {
        /// How many.
        tasks: u32,
    },
    /// Another one is wanted; a further task plans it.
    Another {
        /// What the person says of it.
        words: String,
    },
    /// No, or not now.
    Declined {
        /// What happens with it, in a clause.
        why: String,
    },
}

/// Returns the JSON schema of a [`Plan`], as models are given it.
pub fn plan_schema() -> Value {
    let texts = |description: &str| json!({"type": "array", "items": {"type": "string"}, "description": description});
    let acceptance = json!({
        "type": "object",
        "properties": {
            "what": {"type": "string", "description": "What must be true when the task is done, checkable by somebody who did not write it."},
            "command": {"type": "string", "description": "If a shell command in the repository's root can decide it offline: that command. It must succeed before the task lands."}
        },
        "required": ["what"],
        "additionalProperties": false
    });
    let task = json!({
        "type": "object",
        "properties": {
            "id": {"type": "string", "description": "Short and unique: letters, digits, `-`, `_`, `.`"},
            "title": {"type": "string", "description": "One line; becomes the title of the commit."},
            "prompt": {"type": "string", "description": "What the agent is told. It knows nothing of this conversation or of the other tasks: name the files, the interfaces and the behaviour."},
            "scope": texts("Globs, relative to the root, of all that the task may change. `src/auth/**` is everything below `src/auth`. The kernel refuses writes elsewhere."),
            "after": texts("Ids of tasks that must have landed before. Empty when it can begin at once."),
            "acceptance": {"type": "array", "items": acceptance}
        },
        "required": ["id", "title", "prompt", "scope"],
        "additionalProperties": false
    });
    json!({
        "type": "object",
        "properties": {
            "summary": {"type": "string", "description": "For the person: how the goal is reached, and what you decided where it was open."},
            "tasks": {"type": "array", "items": task, "description": "The tasks, in the order in which a person would read them."}
        },
        "required": ["tasks"],
        "additionalProperties": false
    })
}
