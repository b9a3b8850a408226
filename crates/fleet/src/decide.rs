//! What to do next, as a pure function of the picture and the time.

use aedile_core::event::ReturnReason;
use aedile_core::limits::{RESTARTS_MAX, RETURNS_MAX};
use aedile_core::machine::{ChangeState, RunState, TaskState};
use aedile_core::view::TaskView;
use aedile_core::{TaskId, Timestamp};

use crate::blocked::{Blocked, blocked};
use crate::picture::{RunPicture, TaskPicture, UnitPhase};

/// How a unit is told to end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ending {
    /// After the present turn.
    AfterTurn,
    /// At once.
    Now,
}

/// What the worker is to do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Action {
    /// Claim the task and start an agent for it.
    Start {
        /// The task.
        task: TaskId,
    },
    /// Tell the unit of the task to end.
    EndUnit {
        /// The task.
        task: TaskId,
        /// How.
        how: Ending,
        /// Why, for people.
        why: String,
    },
    /// Close the task as cancelled.
    Cancel {
        /// The task.
        task: TaskId,
    },
    /// Close the task as failed: nothing more can be done for it.
    Fail {
        /// The task.
        task: TaskId,
        /// Why, and what the person may do.
        why: String,
    },
    /// Let the task wait for a person.
    Wait {
        /// The task.
        task: TaskId,
        /// Why, and what the person may do.
        why: String,
    },
    /// Save and remove the workspace and the home of a closed task.
    Tidy {
        /// The task.
        task: TaskId,
    },
    /// Write down that the run has stopped.
    StopRun,
    /// Write down that the run has ended.
    EndRun {
        /// Tasks that landed.
        landed: u32,
        /// All others.
        failed: u32,
    },
}

/// Decides. The same picture and time give the same actions; an action that is under way (see `RunPicture::units`) is not repeated.
pub fn decide(picture: &RunPicture, now: Timestamp) -> Vec<Action> {
    match picture.run.state {
        RunState::Stopped | RunState::Ended => Vec::new(),
        RunState::Stopping => stop(picture),
        RunState::Paused => pause(picture),
        RunState::Running => go_on(picture, now),
    }
}

fn stop(picture: &RunPicture) -> Vec<Action> {
    let (how, why) = match picture.run.stop_now {
        true => (Ending::Now, "the run was stopped at once"),
        false => (Ending::AfterTurn, "the run was stopped"),
    };
    if picture.units.is_empty() {
        return vec![Action::StopRun];
    }
    // A turn that plans may be long, and nothing of it is lost: its session goes on from the last whole step.
    let how_for = |task: &TaskPicture| if task.view.spec.is_plan() { Ending::Now } else { how };
    picture.tasks.iter().filter_map(|task| end_unit(picture, task, how_for(task), why)).collect()
}

/// Nothing is started and agents end after their turns. What is closed is tidied, what is submitted lands, and a run in which nothing is
/// left ends.
fn pause(picture: &RunPicture) -> Vec<Action> {
    let settle = |task| settle(picture, task).or_else(|| end_unit(picture, task, Ending::AfterTurn, "the run was paused"));
    let mut actions: Vec<Action> = picture.tasks.iter().filter_map(settle).collect();
    if actions.is_empty() && picture.units.is_empty() && picture.tasks.iter().all(|task| task.view.state.is_closed()) {
        actions.push(end_run(picture));
    }
    actions
}

/// Tells a unit to end unless it was told so already.
fn end_unit(picture: &RunPicture, task: &TaskPicture, how: Ending, why: &str) -> Option<Action> {
    let news = match (picture.units.get(&task.view.task)?, how) {
        (UnitPhase::Working, _) | (UnitPhase::Finishing, Ending::Now) => true,
        (UnitPhase::Finishing, Ending::AfterTurn) | (UnitPhase::Ending | UnitPhase::Tidying, _) => false,
    };
    news.then(|| Action::EndUnit { task: task.view.task, how, why: why.to_owned() })
}

fn go_on(picture: &RunPicture, now: Timestamp) -> Vec<Action> {
    let mut actions: Vec<Action> = picture.tasks.iter().filter_map(|task| settle(picture, task)).collect();
    let settled: Vec<TaskId> = actions.iter().filter_map(settled_task).collect();
    let (starts, may_move) = starts(picture, &settled, now);
    actions.extend(starts);
    if actions.is_empty() && picture.units.is_empty() && !may_move {
        let asks = picture.tasks.iter().any(|task| task.view.open_plan().is_some());
        // A plan waits for the person's answer; its tasks are not opened yet.
        actions.push(if asks { Action::StopRun } else { end_run(picture) });
    }
    actions
}

fn settled_task(action: &Action) -> Option<TaskId> {
    match action {
        Action::Cancel { task }
        | Action::Fail { task, .. }
        | Action::Wait { task, .. }
        | Action::Tidy { task }
        | Action::EndUnit { task, .. } => Some(*task),
        _ => None,
    }
}

/// What has to happen to a task before (or instead of) a start.
fn settle(picture: &RunPicture, task: &TaskPicture) -> Option<Action> {
    let view = &task.view;
    let unit = picture.units.get(&view.task);
    if view.state.is_closed() {
        return match unit {
            None if !picture.tidied.contains(&view.task) => Some(Action::Tidy { task: view.task }),
            None => None,
            Some(_) if view.state == TaskState::Landed => end_unit(picture, task, Ending::AfterTurn, "its change has landed"),
            Some(_) if view.state == TaskState::Planned => end_unit(picture, task, Ending::AfterTurn, "its plan was taken"),
            Some(_) => end_unit(picture, task, Ending::Now, "its task is closed"),
        };
    }
    if view.cancel_requested {
        return match unit {
            Some(_) => end_unit(picture, task, Ending::Now, "its task was cancelled"),
            // The ref may be moving: only the landing knows how that ends.
            None if view.state == TaskState::Submitted && matches!(task.change, Some(ChangeState::Intended | ChangeState::Landed)) => None,
            None => Some(Action::Cancel { task: view.task }),
        };
    }
    if unit.is_some() {
        return None;
    }
    if !view.undoes.is_empty() && view.state == TaskState::Returned {
        return Some(Action::Fail { task: view.task, why: undo_failed(view) });
    }
    must_wait(picture, task).map(|why| Action::Wait { task: view.task, why })
}

/// An undo has no agent that could mend it.
fn undo_failed(task: &TaskView) -> String {
    let reason = task.returned.as_ref().map_or_else(|| "its change came back".to_owned(), ToString::to_string);
    format!(
        "{reason}, so nothing was taken back; `aedile landing evidence {}` tells more, and the same `aedile undo` tries again on the target as it is then",
        task.spec.key
    )
}

/// Returns why a task that is not worked on can only be helped by a person.
fn must_wait(picture: &RunPicture, task: &TaskPicture) -> Option<String> {
    let view = &task.view;
    let key = &view.spec.key;
    match view.state {
        TaskState::Working if view.restarts > RESTARTS_MAX => {
            let last = view.agent.as_ref().and_then(|name| picture.agent(name)).and_then(|agent| agent.ended.clone());
            let last = last.unwrap_or_else(|| "no reason is known".to_owned());
            Some(format!(
                "its agent ended {} times without a result, at last: {last}; `aedile task retry {key}` or `aedile task cancel {key}`",
                view.restarts
            ))
        }
        // `returns` is 0 after a person's retry.
        TaskState::Returned if view.returns > 0 => match &view.returned {
            Some(reason @ ReturnReason::Protected { .. }) => Some(format!(
                "its change came back: {reason}; `aedile diff {key}` shows it, `aedile landing approve {key}` lets it pass this once, \
                 `aedile task retry {key}` lets the agent do without, `aedile task cancel {key}` gives it up"
            )),
            Some(reason) if view.returns > RETURNS_MAX => Some(format!(
                "its change came back {} times, at last: {}; `aedile task retry {key}` or `aedile task cancel {key}`",
                view.returns, reason
            )),
            _ => None,
        },
        _ => None,
    }
}

/// Returns what to start, and whether anything else may still move by itself.
fn starts(picture: &RunPicture, settled: &[TaskId], now: Timestamp) -> (Vec<Action>, bool) {
    let mut started: Vec<&TaskPicture> = Vec::new();
    let mut may_move = false;
    for task in in_order(picture) {
        let view = &task.view;
        if settled.contains(&view.task) || picture.units.contains_key(&view.task) {
            continue;
        }
        match view.state {
            TaskState::Submitted => may_move = true,
            TaskState::Working | TaskState::Returned | TaskState::Ready | TaskState::Open => match blocked(picture, task, &started, now) {
                None => started.push(task),
                Some(Blocked { moves, .. }) => may_move |= moves,
            },
            _ => {}
        }
    }
    (started.iter().map(|task| Action::Start { task: task.view.task }).collect(), may_move)
}

/// Whether anything would happen, or a workspace that could not be saved be tried again, in a run that has ended if it went on, now or after some time.
pub(crate) fn would_move(picture: &RunPicture) -> bool {
    let (starts, may_move) = starts(picture, &[], Timestamp(i64::MAX));
    let open = picture.tasks.iter().filter(|task| !task.view.state.is_closed());
    let kept = picture.tasks.iter().any(|task| task.view.kept.is_some());
    may_move || kept || !starts.is_empty() || open.filter_map(|task| settle(picture, task)).next().is_some()
}

/// First what was under way, then what came back, then the rest in the order of its opening.
fn in_order(picture: &RunPicture) -> Vec<&TaskPicture> {
    let mut tasks: Vec<&TaskPicture> = picture.tasks.iter().collect();
    tasks.sort_by_key(|task| match task.view.state {
        TaskState::Working => 0,
        TaskState::Returned => 1,
        TaskState::Ready => 2,
        _ => 3,
    });
    tasks
}

fn end_run(picture: &RunPicture) -> Action {
    let landed = picture.tasks.iter().filter(|task| task.view.state == TaskState::Landed).count();
    let failed = picture.tasks.iter().filter(|task| !matches!(task.view.state, TaskState::Landed | TaskState::Planned)).count();
    let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    Action::EndRun { landed: count(landed), failed: count(failed) }
}
