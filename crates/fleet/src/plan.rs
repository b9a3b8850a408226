//! From a list of tasks to an open run.

use std::collections::BTreeSet;
use std::path::PathBuf;

use aedile_core::event::Event;
use aedile_core::limits::{AGENTS_MAX, APPEND_EVENTS_MAX, EVENT_BYTES_MAX, TASKS_PER_RUN_MAX};
use aedile_core::project::ProjectRules;
use aedile_core::scope::Scope;
use aedile_core::store::{Append, NewEvent, Store, StoreError};
use aedile_core::task::TaskSpec;
use aedile_core::{Clock, CommitId, Entropy, ProjectId, RefName, RunId, TaskId, TaskKey};

use crate::order::circle;

/// Everything that a run is started with.
#[derive(Clone, PartialEq, Debug)]
pub struct RunPlan {
    /// The project.
    pub project: ProjectId,
    /// The repository's root.
    pub root: PathBuf,
    /// What a person asked.
    pub goal: String,
    /// The branch that changes land on, as the person named it.
    pub target: String,
    /// The ref that landings move.
    pub landing_ref: RefName,
    /// The target's commit now.
    pub base: CommitId,
    /// Agents at work at once at most, 1 to `AGENTS_MAX`.
    pub slots: u32,
    /// Gates, protected paths, budgets.
    pub rules: ProjectRules,
    /// The tasks, at least one.
    pub tasks: Vec<TaskSpec>,
}

/// What is wrong with a plan. Each text names the task and the field.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// A field of a task cannot be used.
    #[error("task `{task}`: {field} {problem}")]
    Task {
        /// The task's key.
        task: String,
        /// The field, as in the tasks file.
        field: &'static str,
        /// What is wrong and what to do.
        problem: String,
    },
    /// The plan as a whole cannot be used.
    #[error("{0}")]
    Plan(String),
    /// The store did not take it.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Checks a plan without opening it.
///
/// # Errors
/// [`PlanError`] names the first thing that is wrong: the number of tasks, a key that is used twice, an unknown dependency, a circle of
/// dependencies, a scope that does not compile, an empty text or one that is too large.
pub fn check(plan: &RunPlan) -> Result<(), PlanError> {
    if plan.tasks.is_empty() {
        return Err(PlanError::Plan("the run has no tasks: give at least one `[[task]]`".to_owned()));
    }
    if plan.tasks.len() > TASKS_PER_RUN_MAX {
        return Err(PlanError::Plan(format!("the run has {} tasks; at most {TASKS_PER_RUN_MAX} are allowed", plan.tasks.len())));
    }
    if plan.slots == 0 || usize::try_from(plan.slots).is_ok_and(|slots| slots > AGENTS_MAX) {
        return Err(PlanError::Plan(format!("{} agents at once are not possible: give 1 to {AGENTS_MAX}", plan.slots)));
    }
    check_tasks(&plan.tasks)
}

/// Checks the tasks of a run by themselves and together.
///
/// # Errors
/// [`PlanError`] names the first thing that is wrong.
pub fn check_tasks(tasks: &[TaskSpec]) -> Result<(), PlanError> {
    let mut keys = BTreeSet::new();
    for task in tasks {
        if !keys.insert(&task.key) {
            return Err(wrong(task, "id", "is used by two tasks; each needs its own".to_owned()));
        }
    }
    for task in tasks {
        check_task(task, &keys)?;
    }
    let after = tasks.iter().map(|task| (task.key.as_str(), task.after.iter().map(TaskKey::as_str).collect())).collect();
    match circle(&after) {
        Some(path) => Err(PlanError::Task {
            task: path.first().cloned().unwrap_or_default(),
            field: "after",
            problem: format!("makes a circle: {}; take one of these dependencies away", path.join(" -> ")),
        }),
        None => Ok(()),
    }
}

fn wrong(task: &TaskSpec, field: &'static str, problem: String) -> PlanError {
    PlanError::Task { task: task.key.to_string(), field, problem }
}

fn check_task(task: &TaskSpec, keys: &BTreeSet<&TaskKey>) -> Result<(), PlanError> {
    for (field, text) in [("title", &task.title), ("prompt", &task.prompt), ("role", &task.role), ("runtime", &task.runtime)] {
        if text.trim().is_empty() {
            return Err(wrong(task, field, "is empty".to_owned()));
        }
    }
    if task.title.contains('\n') {
        return Err(wrong(task, "title", "must be one line; put the rest into `prompt`".to_owned()));
    }
    if task.scope.is_empty() && !task.is_plan() {
        return Err(wrong(task, "scope", "is empty: name the paths that may change, for example [\"src/auth/**\"]".to_owned()));
    }
    Scope::new(&task.scope).map_err(|bad| wrong(task, "scope", format!("{:?} {}", bad.glob, bad.problem)))?;
    for dependency in &task.after {
        if *dependency == task.key {
            return Err(wrong(task, "after", "names the task itself".to_owned()));
        }
        if !keys.contains(dependency) {
            return Err(wrong(task, "after", format!("names `{dependency}`, which is no task of this run")));
        }
    }
    if let Some(gate) = task.gates.iter().find(|gate| gate.command.trim().is_empty()) {
        return Err(wrong(task, "gates", format!("has the gate `{}` without a command", gate.name)));
    }
    let bytes = serde_json::to_string(task).map_or(usize::MAX, |text| text.len());
    // The event adds ids and names to the task itself.
    if bytes + 1024 > EVENT_BYTES_MAX {
        return Err(wrong(task, "prompt", format!("makes the task {bytes} bytes large; at most {} are allowed", EVENT_BYTES_MAX - 1024)));
    }
    Ok(())
}

/// Checks the plan and opens the run: `RunStarted` and all `TaskOpened`.
///
/// Up to `APPEND_EVENTS_MAX` events this is one append. A larger run is opened as an ended one, filled, and made running by the
/// last append, so that a crash between never leaves a run that somebody goes on with while tasks are missing.
///
/// # Errors
/// [`PlanError`]; a run that could not be opened as a whole never runs.
pub fn open_run(store: &dyn Store, clock: &dyn Clock, entropy: &dyn Entropy, plan: &RunPlan) -> Result<RunId, PlanError> {
    check(plan)?;
    let run = RunId::new(clock, entropy);
    let started = Event::RunStarted {
        run,
        project: plan.project,
        root: plan.root.clone(),
        goal: plan.goal.clone(),
        target: plan.target.clone(),
        landing_ref: plan.landing_ref.clone(),
        base: plan.base.clone(),
        slots: plan.slots,
        rules: plan.rules.clone(),
    };
    let opened = plan.tasks.iter().map(|spec| Event::TaskOpened { run, task: TaskId::new(clock, entropy), spec: spec.clone() });
    let mut events = vec![started];
    if plan.tasks.len() < APPEND_EVENTS_MAX {
        events.extend(opened);
    } else {
        events.push(Event::RunEnded { run, landed: 0, failed: 0 });
        events.extend(opened);
        events.push(Event::RunResumed { run, worker: "opened".to_owned() });
    }
    for (number, chunk) in events.chunks(APPEND_EVENTS_MAX).enumerate() {
        let events = chunk.iter().map(|event| NewEvent { run: Some(run), event: event.clone() }).collect();
        store.append(Append { events, fence: None, once: Some(format!("open/{run}/{number}")) })?;
    }
    Ok(run)
}
