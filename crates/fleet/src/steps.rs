//! The appends of a task's steps, as pure functions: the units write these, and the simulator of the tests writes the same.

use std::path::PathBuf;

use aedile_core::event::{Event, ReturnReason, TaskOutcome};
use aedile_core::machine::TaskState;
use aedile_core::store::{Append, Fence};
use aedile_core::view::{ChangeView, TaskView};
use aedile_core::{AgentName, ChangeId, CommitId, IncarnationId, RunId, TaskId, bounded};

/// The name of a task's claim.
pub fn task_claim(task: TaskId) -> String {
    format!("task/{task}")
}

/// The name of a run's claim.
pub fn run_claim(run: RunId) -> String {
    format!("run/{run}")
}

/// Whether an agent can be started for the task as it is now.
pub fn claimable(task: &TaskView) -> bool {
    !task.cancel_requested && matches!(task.state, TaskState::Open | TaskState::Ready | TaskState::Returned | TaskState::Working)
}

/// Whether the task's next agent needs a new workspace. `present` says whether the recorded one is there; `in_hub` whether the
/// commit of the change is in the hub, without which its work is only in the workspace.
pub fn needs_workspace(task: &TaskView, change: Option<&ChangeView>, present: bool, in_hub: bool) -> bool {
    let came_back = change.is_some_and(|change| {
        change.returned.is_some()
            && Some(&change.workspace) == task.workspace.as_ref()
            && !matches!(change.returned, Some(ReturnReason::Empty))
    });
    !present || (came_back && in_hub)
}

/// Ready (when it was not) and claimed, together.
pub fn claim(task: &TaskView, agent: &AgentName, incarnation: IncarnationId, fence: &Fence, attempt: u32) -> Append {
    let claimed = Event::TaskClaimed { task: task.task, agent: agent.clone(), incarnation, fence: fence.number, attempt };
    match task.state {
        TaskState::Open | TaskState::Returned => Append::of(task.run, Event::TaskReady { task: task.task }).and(claimed),
        _ => Append::of(task.run, claimed),
    }
    .fenced(fence)
}

/// What an agent handed in.
#[derive(Clone, Debug)]
pub struct Submission {
    /// The commit.
    pub commit: CommitId,
    /// What it says of it.
    pub summary: String,
    /// Paths out of scope that were left out.
    pub left_out: Vec<String>,
    /// Where the commit is.
    pub workspace: PathBuf,
    /// What the workspace began with.
    pub base: CommitId,
}

/// The change enters the queue, once for each life of an agent.
pub fn submit(task: &TaskView, change: ChangeId, agent: &AgentName, incarnation: IncarnationId, what: Submission, fence: &Fence) -> Append {
    let Submission { commit, summary, left_out, workspace, base } = what;
    let (run, agent) = (task.run, agent.clone());
    let event = Event::ChangeSubmitted { change, run, task: task.task, agent, workspace, base, commit, summary, left_out };
    Append::of(run, event).fenced(fence).once(format!("submit/{}/{incarnation}", task.task))
}

/// How an agent's life ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum LifeEnd {
    /// It handed its change in.
    Submitted,
    /// Its plan passed the checks.
    Planned,
    /// It ended its turn twice without that.
    WithoutSubmit,
    /// It answered without changing anything, in a run whose changes are kept.
    Answered,
    /// It was told to end.
    Told(String),
    /// It died or broke.
    Failed(String),
    /// Only a person can help.
    Person(String),
}

/// The end of an agent's life.
pub fn ended(task: &TaskView, agent: &AgentName, incarnation: IncarnationId, end: &LifeEnd, fence: &Fence) -> Append {
    let (why, failed) = match end {
        LifeEnd::Submitted => ("it submitted its change".to_owned(), false),
        LifeEnd::Answered => ("it answered and changed nothing".to_owned(), false),
        LifeEnd::Planned => ("its plan was taken".to_owned(), false),
        LifeEnd::WithoutSubmit => ("it ended its turn twice without submitting".to_owned(), false),
        LifeEnd::Told(why) | LifeEnd::Person(why) => (bounded::text(why), false),
        LifeEnd::Failed(why) => (bounded::text(why), true),
    };
    let append = Append::of(task.run, Event::AgentEnded { task: task.task, agent: agent.clone(), incarnation, why, failed });
    match end {
        LifeEnd::WithoutSubmit => append.and(Event::FinishedWithoutSubmit { task: task.task }),
        LifeEnd::Answered => append.and(Event::TaskClosed { task: task.task, outcome: TaskOutcome::Answered }),
        LifeEnd::Person(why) => append.and(Event::TaskWaits { task: task.task, why: bounded::text(why) }),
        _ => append,
    }
    .fenced(fence)
}

/// The task is cancelled. A change that is in the queue goes back in the same append, so that the store itself decides between
/// this and a landing that begins at the same moment: after `LandIntended` this is refused, after this `LandIntended` is.
pub fn cancel(task: &TaskView, change: Option<&ChangeView>, fence: &Fence) -> Append {
    let closed = Event::TaskClosed { task: task.task, outcome: TaskOutcome::Cancelled };
    match (task.state, change) {
        (TaskState::Submitted | TaskState::Held, Some(change)) => {
            let reason = ReturnReason::Import { message: "a person cancelled the task".to_owned() };
            Append::of(task.run, Event::ChangeReturned { change: change.change, reason, evidence: None }).and(closed)
        }
        _ => Append::of(task.run, closed),
    }
    .fenced(fence)
}
