//! What a person may ask of a run. Each is an append to the store, so that it works whether a worker runs or not.

use aedile_core::event::{Event, ReturnReason};
use aedile_core::machine::{RunState, TaskState};
use aedile_core::model::ModelRef;
use aedile_core::store::{Append, Store, StoreError, list, load};
use aedile_core::task::TaskSpec;
use aedile_core::view::{ChangeView, CostView, RunView, TaskView};
use aedile_core::{MicroUsd, RunId, TaskId, TaskKey};

use crate::mail::PERSON;
use crate::plan::{PlanError, check_tasks};

/// Why a command was not taken.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// There is no such run.
    #[error("there is no run {0}; `aedile status` lists them")]
    NoRun(RunId),
    /// There is no such task.
    #[error("the run has no task `{key}`; its tasks are {known}")]
    NoTask {
        /// What was asked for.
        key: String,
        /// The run's tasks.
        known: String,
    },
    /// The command does not fit the state.
    #[error("{0}")]
    Refused(String),
    /// The store did not take it.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Finds a task of a run by its key or its id.
///
/// # Errors
/// `NoTask` names the tasks that there are.
pub fn find_task(store: &dyn Store, run: RunId, key: &str) -> Result<TaskView, CommandError> {
    let tasks: Vec<TaskView> = list(store, Some(run))?;
    let same = |task: &&TaskView| task.spec.key.as_str() == key || key.parse::<TaskId>().is_ok_and(|id| id == task.task);
    match tasks.iter().find(same) {
        Some(task) => Ok(task.clone()),
        None => {
            let known = tasks.iter().map(|task| format!("`{}`", task.spec.key)).collect::<Vec<_>>().join(", ");
            Err(CommandError::NoTask { key: key.to_owned(), known })
        }
    }
}

/// Asks for the end of a task. Its agent is ended by the worker; a change in the queue is taken back unless its landing has begun.
///
/// # Errors
/// `Refused` when the task is closed already.
pub fn cancel_task(store: &dyn Store, run: RunId, key: &str) -> Result<TaskId, CommandError> {
    let task = find_task(store, run, key)?;
    if task.state.is_closed() {
        return Err(CommandError::Refused(format!("task `{key}` is {} already; nothing is left to cancel", task.state)));
    }
    if !task.cancel_requested {
        store.append(Append::of(run, Event::TaskCancelRequested { task: task.task }))?;
    }
    Ok(task.task)
}

/// Sends a task that waits for a person back to its agent. A worker that runs takes it up; otherwise `aedile run --resume` does.
///
/// # Errors
/// `Refused` when the task does not wait for a person.
pub fn retry_task(store: &dyn Store, run: RunId, key: &str) -> Result<TaskId, CommandError> {
    let task = find_task(store, run, key)?;
    if !task.undoes.is_empty() {
        return Err(CommandError::Refused(format!(
            "task `{key}` is an undo, which no agent can try again: give the same `aedile undo` once more"
        )));
    }
    if task.cancel_requested && !task.state.is_closed() {
        return Err(CommandError::Refused(format!("task `{key}` is to be cancelled, as was asked; it cannot be retried any more")));
    }
    if !task.state.needs_person() {
        return Err(CommandError::Refused(format!(
            "task `{key}` is {} and does not wait for a person; only a waiting task can be retried",
            task.state
        )));
    }
    store.append(Append::of(run, Event::TaskRetried { task: task.task }))?;
    Ok(task.task)
}

/// Approves what the import filter asked about in the last change of a task, for exactly its commit: all of it, or what `wanted` says yes to. A
/// worker that runs looks at the change again; otherwise `aedile run --resume` does. Returns what was approved and what is still asked about.
///
/// # Errors
/// `Refused` when nothing of the task waits for that, or nothing is wanted.
pub fn approve_import(
    store: &dyn Store,
    run: RunId,
    key: &str,
    wanted: impl Fn(&str) -> bool,
) -> Result<(Vec<String>, Vec<String>), CommandError> {
    let task = find_task(store, run, key)?;
    let change: Option<ChangeView> = task.change.map(|change| load(store, &change.to_string())).transpose()?.flatten();
    let (Some(change), Some(ReturnReason::Protected { paths })) = (change, task.returned) else {
        return Err(CommandError::Refused(format!("task `{key}` is {}: no change of it waits to be approved", task.state)));
    };
    if task.state != TaskState::Waiting {
        return Err(CommandError::Refused(format!("task `{key}` is {} and does not wait for a person yet", task.state)));
    }
    let (findings, left): (Vec<String>, Vec<String>) = paths.into_iter().partition(|line| wanted(line));
    if findings.is_empty() {
        return Err(CommandError::Refused(format!("nothing of that is asked about in task `{key}`; it asks about: {}", left.join(", "))));
    }
    let event = Event::ImportApproved { change: change.change, commit: change.commit, findings: findings.clone() };
    store.append(Append::of(run, event))?;
    Ok((findings, left))
}

/// Sends the held change of a task to the landing queue; `aedile run --resume` lands it.
///
/// # Errors
/// `Refused` when no change of the task is held.
pub fn release_task(store: &dyn Store, run: RunId, key: &str) -> Result<TaskId, CommandError> {
    let task = find_task(store, run, key)?;
    if task.state != TaskState::Held {
        return Err(CommandError::Refused(format!("task `{key}` is {}: no change of it is held", task.state)));
    }
    store.append(Append::of(run, Event::TaskReleased { task: task.task }))?;
    Ok(task.task)
}

/// Asks the run to stop: after the present turns, or (`now`) at once.
///
/// # Errors
/// `Refused` when the run is not running.
pub fn request_stop(store: &dyn Store, run: RunId, now: bool) -> Result<(), CommandError> {
    let view: RunView = load(store, &run.to_string())?.ok_or(CommandError::NoRun(run))?;
    match view.state {
        RunState::Stopping if view.stop_now || !now => Ok(()),
        RunState::Running | RunState::Paused | RunState::Stopping => {
            store.append(Append::of(run, Event::RunStopRequested { run, now }))?;
            Ok(())
        }
        RunState::Stopped | RunState::Ended => Err(CommandError::Refused(format!("the run is {} already", view.state))),
    }
}

/// Lets a run rest that a worker drives: no task is started, present turns finish, what is submitted lands.
///
/// # Errors
/// `Refused` when the run is not running.
pub fn pause_run(store: &dyn Store, run: RunId) -> Result<(), CommandError> {
    store.append(Append::of(run, Event::RunPaused { run })).map(drop).map_err(refused)
}

/// Tells the living worker of a paused run to go on.
///
/// # Errors
/// As the store.
pub fn unpause_run(store: &dyn Store, run: RunId) -> Result<(), CommandError> {
    store.append(Append::of(run, Event::RunResumed { run, worker: PERSON.to_owned() })).map(drop).map_err(refused)
}

/// Gives the run this much in all, in place of the budget it had, in dollars or in tokens.
///
/// # Errors
/// `Refused` when it is spent already.
pub fn raise_run_budget(store: &dyn Store, run: RunId, usd: MicroUsd) -> Result<(), CommandError> {
    let spent = list::<CostView>(store, Some(run))?.iter().fold(MicroUsd(0), |sum, cost| sum.plus(cost.usd));
    if spent >= usd {
        return Err(CommandError::Refused(format!("the run has spent {spent} already, so a budget of {usd} in all gives it nothing")));
    }
    store.append(Append::of(run, Event::RunBudgetRaised { run, usd })).map(drop).map_err(refused)
}

/// Writes down that a run has stopped whose worker is gone.
///
/// # Errors
/// `Refused` when the run is stopped or over already.
pub fn stop_left_run(store: &dyn Store, run: RunId) -> Result<(), CommandError> {
    store.append(Append::of(run, Event::RunStopped { run })).map(drop).map_err(refused)
}

/// A step that does not fit is for the person to know of, and no failure of the store.
fn refused(error: StoreError) -> CommandError {
    match error {
        StoreError::Illegal(illegal) => CommandError::Refused(illegal.to_string()),
        other => CommandError::Store(other),
    }
}

/// What a person changes of a task; `None` leaves it as it is.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct TaskEdit {
    /// One line.
    pub title: Option<String>,
    /// What the agent is told.
    pub prompt: Option<String>,
    /// Globs of what may be changed, all of them.
    pub scope: Option<Vec<String>>,
    /// The model.
    pub model: Option<ModelRef>,
    /// The most money that may be spent on it.
    pub budget_usd: Option<MicroUsd>,
    /// Tasks that must have landed before, all of them.
    pub after: Option<Vec<TaskKey>>,
}

/// Changes a task that nobody works on. It holds from the next life of its agent on, which is told of it.
///
/// # Errors
/// `Refused` while an agent works on the task or its change is in the queue, when it is closed, and when the changed task cannot be used.
pub fn edit_task(store: &dyn Store, run: RunId, key: &str, edit: TaskEdit) -> Result<TaskView, CommandError> {
    let task = find_task(store, run, key)?;
    let TaskEdit { title, prompt, scope, model, budget_usd, after } = edit;
    let old = task.spec.clone();
    let spec = TaskSpec {
        title: title.unwrap_or(old.title),
        prompt: prompt.unwrap_or(old.prompt),
        read: Vec::new(),
        scope: scope.unwrap_or(old.scope),
        model: model.unwrap_or(old.model),
        budget_usd: budget_usd.or(old.budget_usd),
        after: after.unwrap_or(old.after),
        ..task.spec.clone()
    };
    let all: Vec<TaskSpec> = list::<TaskView>(store, Some(run))?.into_iter().map(|other| other.spec).collect();
    let all: Vec<TaskSpec> = all.into_iter().map(|other| if other.key == spec.key { spec.clone() } else { other }).collect();
    check_tasks(&all).map_err(|error| match error {
        PlanError::Store(error) => CommandError::Store(error),
        other => CommandError::Refused(other.to_string()),
    })?;
    match store.append(Append::of(run, Event::TaskEdited { task: task.task, spec })) {
        Ok(_) => find_task(store, run, key),
        Err(StoreError::Illegal(illegal)) => {
            let agent = task.agent.as_ref().map_or_else(|| "AGENT".to_owned(), ToString::to_string);
            Err(CommandError::Refused(match task.state {
                TaskState::Working => format!(
                    "task `{key}` was not changed: {}. `aedile mail send {agent}` reaches {agent}; after `aedile run pause` or `aedile run stop` it can be changed",
                    illegal.why
                ),
                TaskState::Submitted => {
                    format!("task `{key}` was not changed: {}. It can be changed when the change comes back", illegal.why)
                }
                _ => format!("task `{key}` was not changed: {}", illegal.why),
            }))
        }
        Err(error) => Err(CommandError::Store(error)),
    }
}
