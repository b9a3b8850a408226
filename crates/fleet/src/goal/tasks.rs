//! From a plan to the tasks of a run.

use aedile_core::TaskKey;
use aedile_core::ids::BadId;
use aedile_core::plan::{Acceptance, Plan};
use aedile_core::project::ProjectRules;
use aedile_core::task::{GateSpec, TaskSpec};

/// Makes tasks of a plan, for the model and the runtime of the task that made it.
///
/// # Errors
/// [`BadId`] when an id of the plan is none; a plan that was checked has only good ones.
pub fn specs(plan: &Plan, planning: &TaskSpec, rules: &ProjectRules) -> Result<Vec<TaskSpec>, BadId> {
    plan.tasks
        .iter()
        .map(|task| {
            Ok(TaskSpec {
                key: TaskKey::new(task.id.clone())?,
                title: task.title.trim().to_owned(),
                prompt: prompt(&task.prompt, &task.acceptance),
                read: Vec::new(),
                scope: task.scope.clone(),
                after: task.after.iter().map(|id| TaskKey::new(id.clone())).collect::<Result<_, _>>()?,
                gates: gates(&task.acceptance, rules),
                role: "builder".to_owned(),
                runtime: planning.runtime.clone(),
                model: planning.model.clone(),
                budget_usd: None,
                script: None,
            })
        })
        .collect()
}

/// The prompt with what must be true at the end.
fn prompt(prompt: &str, acceptance: &[Acceptance]) -> String {
    let mut text = prompt.trim().to_owned();
    if acceptance.is_empty() {
        return text;
    }
    text.push_str("\n\nThe task is done when all of this is true:\n");
    for accepted in acceptance {
        text.extend(["- ", accepted.what.trim()]);
        if let Some(command) = &accepted.command {
            text.extend([" (`", command.trim(), "` succeeds)"]);
        }
        text.push('\n');
    }
    text
}

/// The commands among the acceptance, without those that are gates of the project anyway.
fn gates(acceptance: &[Acceptance], rules: &ProjectRules) -> Vec<GateSpec> {
    let mut gates: Vec<GateSpec> = Vec::new();
    for command in acceptance.iter().filter_map(|accepted| accepted.command.as_deref()).map(str::trim) {
        let known = rules.gates.iter().any(|gate| gate.command.trim() == command || gate.name == command);
        if !known && gates.iter().all(|gate| gate.command != command) {
            gates.push(GateSpec { name: command.to_owned(), command: command.to_owned(), timeout_s: None });
        }
    }
    gates
}
