//! What a person may ask of a run. Each is an append to the store, so that it works whether a worker runs or not.

use aedile_core::event::Event;
use aedile_core::machine::{RunState, TaskState};
use aedile_core::store::{Append, Store, StoreError, list, load};
use aedile_core::view::{RunView, TaskView};
use aedile_core::{RunId, TaskId};

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
    if !task.state.needs_person() {
        return Err(CommandError::Refused(format!(
            "task `{key}` is {} and does not wait for a person; only a waiting task can be retried",
            task.state
        )));
    }
    store.append(Append::of(run, Event::TaskRetried { task: task.task }))?;
    Ok(task.task)
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
        RunState::Running | RunState::Stopping => {
            store.append(Append::of(run, Event::RunStopRequested { run, now }))?;
            Ok(())
        }
        RunState::Stopped | RunState::Ended => Err(CommandError::Refused(format!("the run is {} already", view.state))),
    }
}
