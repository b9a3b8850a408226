//! The form of each task: ids, texts, globs.

use std::collections::BTreeSet;

use aedile_core::TaskKey;
use aedile_core::bounded::json_bytes;
use aedile_core::limits::{PLAN_PROMPT_BYTES_MAX, PLAN_PROMPT_BYTES_MIN, PLAN_TASK_BYTES_MAX};
use aedile_core::plan::{Acceptance, Plan, PlannedTask, is_plan_key};
use aedile_core::scope::Scope;

/// The longest title, in bytes.
const TITLE_BYTES_MAX: usize = 200;
/// The most globs of one task.
const GLOBS_MAX: usize = 100;
/// The longest summary of a plan, `what` of an acceptance, and command, in bytes.
const TEXT_BYTES_MAX: usize = 4096;
/// The most things that must be true of one task.
const ACCEPTANCE_MAX: usize = 20;

/// How large the event of the task is: each command stands in it as a sentence and as a gate.
pub(crate) fn weight(task: &PlannedTask) -> usize {
    let accepted = |accepted: &Acceptance| json_bytes(&accepted.what) + 3 * accepted.command.as_deref().map_or(0, json_bytes);
    let lists = task.scope.iter().chain(&task.after).map(|item| json_bytes(item)).sum::<usize>();
    json_bytes(&task.prompt) + json_bytes(&task.title) + lists + task.acceptance.iter().map(accepted).sum::<usize>()
}

/// Names at most four of the items.
pub(crate) fn list(items: &[String]) -> String {
    let shown: Vec<String> = items.iter().take(4).map(|item| format!("`{}`", item.chars().take(120).collect::<String>())).collect();
    match items.len().saturating_sub(4) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

/// Returns the reasons against the form of the plan.
pub(crate) fn check_form(plan: &Plan) -> Vec<String> {
    let mut reasons = Vec::new();
    let mut ids = BTreeSet::new();
    if plan.summary.len() > TEXT_BYTES_MAX {
        reasons.push(format!("the summary has {} bytes; at most {TEXT_BYTES_MAX} are allowed", plan.summary.len()));
    }
    for task in &plan.tasks {
        if let Err(bad) = TaskKey::new(task.id.clone()) {
            reasons.push(bad.to_string());
        } else if is_plan_key(&task.id) {
            reasons.push(format!("the id `{}` is taken by the planning itself: give the task another one", task.id));
        } else if !ids.insert(&task.id) {
            reasons.push(format!("the id `{}` is used by two tasks; each needs its own", task.id));
        }
        check_texts(task, &mut reasons);
        check_scope(task, plan.tasks.len(), &mut reasons);
    }
    reasons
}

fn check_texts(task: &PlannedTask, reasons: &mut Vec<String>) {
    let mut wrong = |problem: String| reasons.push(format!("task `{}`: {problem}", task.id.chars().take(80).collect::<String>()));
    let title = task.title.trim();
    if title.is_empty() || title.contains('\n') || title.len() > TITLE_BYTES_MAX {
        wrong(format!("its title must be one line of 1 to {TITLE_BYTES_MAX} bytes; the rest belongs into the prompt"));
    }
    match task.prompt.trim().len() {
        short if short < PLAN_PROMPT_BYTES_MIN => wrong(format!(
            "its prompt has only {short} bytes: an agent that knows nothing else cannot work from it; name files, behaviour and limits"
        )),
        long if long > PLAN_PROMPT_BYTES_MAX => wrong(format!(
            "its prompt has {long} bytes and at most {PLAN_PROMPT_BYTES_MAX} are allowed: divide the task, or leave out what the agent can read in the code"
        )),
        _ => {}
    }
    if weight(task) > PLAN_TASK_BYTES_MAX {
        wrong(format!(
            "prompt, scope and acceptance have {} bytes together and at most {PLAN_TASK_BYTES_MAX} are allowed: divide the task, or say it in fewer words",
            weight(task)
        ));
    }
    if task.acceptance.len() > ACCEPTANCE_MAX {
        wrong(format!("it has {} things to accept; at most {ACCEPTANCE_MAX} are allowed", task.acceptance.len()));
    }
    for accepted in &task.acceptance {
        if accepted.what.trim().is_empty() || accepted.what.len() > TEXT_BYTES_MAX {
            wrong(format!("each `what` of its acceptance must have 1 to {TEXT_BYTES_MAX} bytes"));
        }
        if accepted.command.as_ref().is_some_and(|command| command.trim().is_empty() || command.len() > TEXT_BYTES_MAX) {
            wrong(format!("a `command` of its acceptance must have 1 to {TEXT_BYTES_MAX} bytes; leave it out where no command can decide"));
        }
    }
}

fn check_scope(task: &PlannedTask, tasks: usize, reasons: &mut Vec<String>) {
    let mut wrong = |problem: String| reasons.push(format!("task `{}`: {problem}", task.id.chars().take(80).collect::<String>()));
    if task.scope.is_empty() {
        return wrong("its scope is empty: name the paths that it may change".to_owned());
    }
    if task.scope.len() > GLOBS_MAX {
        return wrong(format!("its scope has {} globs and at most {GLOBS_MAX} are allowed: name directories", task.scope.len()));
    }
    let mut usable = true;
    for glob in &task.scope {
        if let Err(bad) = Scope::new(std::slice::from_ref(glob)) {
            usable = false;
            wrong(format!("its scope {:?} {}", bad.glob.chars().take(200).collect::<String>(), bad.problem));
        }
    }
    if usable && tasks > 1 && Scope::new(&task.scope).is_ok_and(|scope| scope.is_everything()) {
        wrong(
            "its scope is the whole repository, so nobody could work beside it: name what it changes, or make the plan one task".to_owned(),
        );
    }
}
