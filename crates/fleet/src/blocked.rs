//! What holds a task back, in words: for `decide` and for status lines.

use std::time::Duration;

use aedile_core::Timestamp;
use aedile_core::machine::{AgentState, ChangeState, RunState, TaskState};
use aedile_core::{TaskId, TaskKey};

use crate::picture::{RunPicture, TaskPicture};

/// What a task waits for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WaitsFor {
    /// What, in words that follow "waits for"; `None` when nothing more happens to it.
    pub reason: Option<String>,
    /// Since when.
    pub since: Timestamp,
}

/// Why a task cannot start now.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Blocked {
    /// What it waits for, in words.
    pub(crate) reason: String,
    /// Since when.
    pub(crate) since: Timestamp,
    /// Whether this may end by itself, without another task or a person.
    pub(crate) moves: bool,
}

/// Returns what holds back a task without a unit; `started` are tasks that were chosen in the same decision.
pub(crate) fn blocked(picture: &RunPicture, task: &TaskPicture, started: &[&TaskPicture], now: Timestamp) -> Option<Blocked> {
    by_dependency(picture, task)
        .or_else(|| by_budget(picture, task))
        .or_else(|| by_paths(picture, task, started))
        .or_else(|| by_restart(picture, task, now))
        .or_else(|| by_time(picture, task, now))
        .or_else(|| by_slots(picture, task, started))
}

fn by_dependency(picture: &RunPicture, task: &TaskPicture) -> Option<Blocked> {
    if task.view.spec.after.is_empty() {
        return None;
    }
    let find = |key: &TaskKey| picture.tasks.iter().find(|of| of.view.spec.key == *key);
    let missing: Vec<String> = (task.view.spec.after.iter())
        .filter_map(|key| match find(key) {
            Some(of) if of.view.state == TaskState::Landed => None,
            Some(of) if of.view.state.is_closed() || of.view.state.needs_person() => Some(format!("`{key}` ({})", of.view.state)),
            _ => Some(format!("`{key}`")),
        })
        .collect();
    (!missing.is_empty()).then(|| Blocked { reason: format!("{} to land", missing.join(" and ")), since: task.view.since, moves: false })
}

fn by_budget(picture: &RunPicture, task: &TaskPicture) -> Option<Blocked> {
    let (key, run) = (&task.view.spec.key, picture.run.run.short());
    let of_task = task.spent.exhausts(&task.budget(&picture.run));
    let of_task = of_task.map(|how| format!("more budget for the task: {how} (`aedile task edit {key} --budget-usd USD`)"));
    let of_run = || picture.spent.exhausts(&picture.run.rules.run_budget);
    let of_run = || of_run().map(|how| format!("more budget for the run: {how} (`aedile run --resume {run} --budget-usd USD`)"));
    of_task.or_else(of_run).map(|reason| Blocked { reason, since: task.view.since, moves: false })
}

fn by_paths(picture: &RunPicture, task: &TaskPicture, started: &[&TaskPicture]) -> Option<Blocked> {
    if task.view.state == TaskState::Working {
        // It holds its paths already.
        return None;
    }
    let at = |of: &TaskPicture| picture.tasks.iter().position(|other| other.view.task == of.view.task);
    let holds = |other: &TaskPicture| {
        let state = other.view.state;
        match (task.view.state, state) {
            // Two tasks that a person sent back at once both hold their paths: the earlier one goes first.
            (TaskState::Returned, TaskState::Returned) => at(other) < at(task),
            _ => state.holds_paths() || started.iter().any(|chosen| chosen.view.task == other.view.task),
        }
    };
    let holder = (picture.tasks.iter()).find(|other| other.view.task != task.view.task && holds(other) && other.overlaps(task))?;
    let key = &holder.view.spec.key;
    let whose = holder.scope().map_or_else(String::new, |scope| format!(" ({})", scope.globs().join(", ")));
    Some(Blocked { reason: format!("the paths that `{key}` holds{whose}"), since: task.view.since.max(holder.view.since), moves: false })
}

fn by_restart(picture: &RunPicture, task: &TaskPicture, now: Timestamp) -> Option<Blocked> {
    if task.view.state != TaskState::Working || task.view.restarts == 0 {
        return None;
    }
    let agent = picture.agent(task.view.agent.as_ref()?)?;
    let wait = restart_wait(picture.pace.restart_backoff, task.view.restarts);
    (now.since(agent.since) < wait && now >= agent.since).then(|| Blocked {
        reason: format!("its restart after {} ms: {}", wait.as_millis(), agent.ended.as_deref().unwrap_or("its agent died")),
        since: agent.since,
        moves: true,
    })
}

fn by_time(picture: &RunPicture, task: &TaskPicture, now: Timestamp) -> Option<Blocked> {
    let (until, reason) = picture.later.get(&task.view.task)?;
    (now < *until).then(|| Blocked { reason: reason.clone(), since: task.view.since, moves: true })
}

/// Returns after what time something that only waits for time has to be looked at again.
pub(crate) fn next_look(picture: &RunPicture, now: Timestamp) -> Option<Duration> {
    let claims = picture.later.values().map(|(until, _)| *until);
    let restarts = picture.tasks.iter().filter(|task| task.view.state == TaskState::Working && task.view.restarts > 0);
    let restarts = restarts.filter_map(|task| {
        let ended = picture.agent(task.view.agent.as_ref()?)?.since;
        Some(ended.plus(restart_wait(picture.pace.restart_backoff, task.view.restarts)))
    });
    claims.chain(restarts).filter(|at| *at > now).map(|at| at.since(now)).min().map(|wait| wait + Duration::from_millis(1))
}

/// The wait before the `restarts`-th restart: doubled each time.
pub(crate) fn restart_wait(base: Duration, restarts: u32) -> Duration {
    base.saturating_mul(1 << restarts.saturating_sub(1).min(10))
}

fn by_slots(picture: &RunPicture, task: &TaskPicture, started: &[&TaskPicture]) -> Option<Blocked> {
    let busy = picture.units.values().filter(|phase| **phase != crate::picture::UnitPhase::Tidying).count() + started.len();
    (busy >= picture.slots()).then(|| Blocked {
        reason: format!("a free slot ({busy} of {} agents are at work)", picture.slots()),
        since: task.view.since,
        moves: true,
    })
}

/// Says what a task waits for and since when. For a picture of the CLI, which knows no units, agents at work count as slots.
pub fn waits_for(picture: &RunPicture, task: TaskId, now: Timestamp) -> Option<WaitsFor> {
    let of = picture.task(task)?;
    let view = &of.view;
    let held = || match blocked(picture, of, &[], now) {
        Some(blocked) => WaitsFor { reason: Some(blocked.reason), since: blocked.since },
        None if picture.run.state == RunState::Paused => {
            WaitsFor { reason: Some("the run to go on: `aedile run resume`".to_owned()), since: picture.run.since }
        }
        None if matches!(picture.run.state, RunState::Stopped | RunState::Ended) => {
            WaitsFor { reason: Some("the run to go on: `aedile run --resume`".to_owned()), since: picture.run.since }
        }
        None => slot_from_outside(picture, view.since),
    };
    let waits = |reason: String| WaitsFor { reason: Some(reason), since: view.since };
    if view.cancel_requested && !view.state.is_closed() {
        return Some(waits("its cancellation: a worker saves its work and closes it".to_owned()));
    }
    Some(match view.state {
        TaskState::Open | TaskState::Ready | TaskState::Returned => held(),
        TaskState::Working => working(picture, of).unwrap_or_else(held),
        TaskState::Submitted => waits(queue(of).to_owned()),
        TaskState::FinishedWithoutSubmit | TaskState::Waiting => {
            let why = view.why.as_deref().unwrap_or("it needs a decision");
            waits(format!("a person (`aedile task retry {key}` or `aedile task cancel {key}`): {why}", key = view.spec.key))
        }
        TaskState::Planned if view.open_plan().is_some() => {
            waits("your answer to its plan: `aedile run --resume` shows it and asks".to_owned())
        }
        TaskState::Held if view.why.is_some() => waits(format!(
            "a person: {}; `aedile code --take {} --land` lands it all the same, `aedile task retry {}` sends it back to its agent",
            view.why.as_deref().unwrap_or_default(),
            view.change.map(|change| change.short()).unwrap_or_default(),
            view.spec.key
        )),
        TaskState::Held => waits(format!(
            "a person: its change is kept (`aedile code --take {}` with --apply, --branch NAME or --land)",
            view.change.map(|change| change.short()).unwrap_or_default()
        )),
        TaskState::Landed | TaskState::Planned | TaskState::Failed | TaskState::Cancelled | TaskState::Taken | TaskState::Answered => {
            WaitsFor { reason: None, since: view.since }
        }
    })
}

fn slot_from_outside(picture: &RunPicture, since: Timestamp) -> WaitsFor {
    let busy = picture.agents.iter().filter(|agent| agent.state != AgentState::Ended).count();
    let reason = match busy >= picture.slots() {
        true => format!("a free slot ({busy} of {} agents are at work)", picture.slots()),
        false => "its agent to start".to_owned(),
    };
    WaitsFor { reason: Some(reason), since }
}

fn working(picture: &RunPicture, task: &TaskPicture) -> Option<WaitsFor> {
    let name = task.view.agent.as_ref()?;
    let agent = picture.agent(name).filter(|agent| agent.task == task.view.task)?;
    let reason = match agent.state {
        AgentState::Starting => format!("the workspace and the box of {name}"),
        AgentState::InTurn => match &agent.held_up {
            Some(why) => format!("the model of {name} in turn {}: {why}", agent.turn),
            None => format!("turn {} of {name}", agent.turn),
        },
        AgentState::BetweenTurns => format!("the next turn of {name}"),
        AgentState::Ended => return None,
    };
    Some(WaitsFor { reason: Some(reason), since: agent.since })
}

fn queue(task: &TaskPicture) -> &'static str {
    match task.change {
        Some(ChangeState::Submitted) | None => "its change to be imported",
        Some(ChangeState::Imported) => "the merge and the gates of its change",
        Some(ChangeState::Gated) => "its turn to land",
        Some(ChangeState::Intended | ChangeState::Landed) => "the target to move",
        Some(ChangeState::Returned) => "its change, which came back",
    }
}
