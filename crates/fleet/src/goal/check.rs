//! Whether a plan can be worked on. Every reason against it is a sentence that its maker can act on.

use std::collections::BTreeMap;

use aedile_core::bounded;
use aedile_core::limits::{PLAN_REASONS_MAX, PLAN_TASKS_MAX};
use aedile_core::plan::{Plan, ProposedPlan};
use aedile_core::scope::Scope;
use serde_json::Value;

use super::complete::complete;
use super::form::{check_form, list};
use super::join::{at_once, join};
use super::layout::Layout;
use super::paths::check_paths;
use crate::order::{After, before, circle};

/// What a plan is held against.
#[derive(Clone, Copy, Debug)]
pub struct Ground<'a> {
    /// The sentence that the plan is for.
    pub goal: &'a str,
    /// The code.
    pub layout: &'a Layout,
    /// Globs of what no change may touch.
    pub protected: &'a [String],
    /// Whether it may all the same.
    pub allow_protected: bool,
}

/// Checks a plan, completes it from the layout of the code, and joins tasks that several agents would only slow down.
///
/// # Errors
/// The reasons against it, at most `PLAN_REASONS_MAX`, each a sentence that names the task.
pub fn check(value: &Value, ground: &Ground<'_>) -> Result<ProposedPlan, Vec<String>> {
    let mut plan = read(value).map_err(|reason| few(vec![reason]))?;
    let mut reasons = check_form(&plan);
    let scopes: Vec<Option<Scope>> = plan.tasks.iter().map(|task| Scope::new(&task.scope).ok()).collect();
    reasons.extend(check_order(&plan));
    // What is said of paths holds whatever is wrong with the rest, so that one round tells all.
    reasons.extend(check_paths(&plan, &scopes, ground));
    reasons.extend(check_overlaps(&plan, &scopes));
    if reasons.is_empty() {
        let (notes, missing) = complete(&mut plan, ground);
        if missing.is_empty() {
            return Ok(propose(plan, notes, ground));
        }
        reasons = missing;
    }
    Err(few(reasons))
}

fn few(mut reasons: Vec<String>) -> Vec<String> {
    if reasons.len() > PLAN_REASONS_MAX {
        let more = reasons.len() - PLAN_REASONS_MAX;
        reasons.truncate(PLAN_REASONS_MAX);
        reasons.push(format!("and {more} more of this kind"));
    }
    // A reason may quote whatever the plan holds.
    bounded::few(reasons)
}

/// Reads the object; some models send it as a text that holds it.
fn read(value: &Value) -> Result<Plan, String> {
    let inner = value.as_str().and_then(|text| serde_json::from_str::<Value>(text).ok());
    let value = inner.as_ref().unwrap_or(value);
    if !value.is_object() {
        return Err("the plan is no JSON object: hand in one object with `summary` and `tasks`, as the schema says".to_owned());
    }
    // Before anything else looks at them.
    if let Some(tasks) = value["tasks"].as_array() {
        if tasks.is_empty() {
            return Err("the plan has no task: a goal needs at least one".to_owned());
        }
        if tasks.len() > PLAN_TASKS_MAX {
            return Err(format!(
                "the plan has {} tasks and at most {PLAN_TASKS_MAX} are allowed: a task is a piece of work for one agent, not a single step; \
                 put together what touches the same files",
                tasks.len()
            ));
        }
    }
    serde_json::from_value(value.clone()).map_err(|error| format!("the plan is not what the schema asks for: {error}"))
}

fn after(plan: &Plan) -> After<'_> {
    plan.tasks.iter().map(|task| (task.id.as_str(), task.after.iter().map(String::as_str).collect())).collect()
}

fn check_order(plan: &Plan) -> Vec<String> {
    let known = after(plan);
    let mut reasons = Vec::new();
    for task in &plan.tasks {
        for name in &task.after {
            if *name == task.id {
                reasons.push(format!("task `{name}` comes after itself"));
            } else if !known.contains_key(name.as_str()) {
                let name: String = name.chars().take(80).collect();
                reasons.push(format!("task `{}` comes after {name:?}, which is no task of the plan", task.id));
            }
        }
    }
    if reasons.is_empty()
        && let Some(path) = circle(&known)
    {
        reasons.push(format!("these tasks wait for each other in a circle: {}; take one of the `after` away", path.join(" -> ")));
    }
    reasons
}

/// Two tasks that may change the same files must be in order, or one would undo what the other does.
fn check_overlaps(plan: &Plan, scopes: &[Option<Scope>]) -> Vec<String> {
    let after = after(plan);
    let before = before(&after);
    let ordered = |a: &str, b: &str| before.get(a).is_some_and(|all| all.contains(b)) || before.get(b).is_some_and(|all| all.contains(a));
    let mut reasons = Vec::new();
    for (at, (task, scope)) in plan.tasks.iter().zip(scopes).enumerate() {
        for (other, of_other) in plan.tasks.iter().zip(scopes).skip(at + 1) {
            let (Some(scope), Some(of_other)) = (scope, of_other) else { continue };
            // A scope of everything beside others has its own reason.
            let whole = scope.is_everything() || of_other.is_everything();
            if task.id != other.id && !whole && !ordered(&task.id, &other.id) && scope.overlaps(of_other) {
                reasons.push(format!(
                    "tasks `{}` and `{}` may change the same files ({} and {}) and neither comes after the other: divide the files, make them \
                     one task, or give one of them the other in `after`",
                    task.id,
                    other.id,
                    list(&shared(scope, of_other)),
                    list(&shared(of_other, scope))
                ));
            }
        }
    }
    reasons
}

/// The globs of a scope that overlap another one.
fn shared(scope: &Scope, other: &Scope) -> Vec<String> {
    let globs = scope.globs().iter();
    globs.filter(|glob| Scope::new(std::slice::from_ref(glob)).is_ok_and(|one| one.overlaps(other))).cloned().collect()
}

fn propose(plan: Plan, mut notes: Vec<String>, ground: &Ground<'_>) -> ProposedPlan {
    let (plan, said) = join(plan, ground.goal);
    notes.extend(said);
    let scopes: BTreeMap<&str, Scope> =
        plan.tasks.iter().filter_map(|task| Some((task.id.as_str(), Scope::new(&task.scope).ok()?))).collect();
    let bytes = |id: &str| scopes.get(id).map_or(0, |scope| ground.layout.within(scope).1);
    let scope_bytes = plan.tasks.iter().map(|task| bytes(&task.id)).collect();
    let at_once = at_once(&plan);
    ProposedPlan { plan, notes, at_once, scope_bytes }
}
