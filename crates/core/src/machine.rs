//! State machines of run, task, agent and change, as pure functions. The store applies them before it accepts an event,
//! so that an illegal step never enters the log.

use serde::{Deserialize, Serialize};
use std::fmt;

/// A step that a state does not allow.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{noun} {id} is {state} and cannot take {step}: {why}")]
pub struct Illegal {
    /// `run`, `task`, `agent`, `change`, `mail` or `spend`.
    pub noun: &'static str,
    /// Its id.
    pub id: String,
    /// Its state.
    pub state: String,
    /// The event's name.
    pub step: &'static str,
    /// Why not.
    pub why: String,
}

macro_rules! states {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $text:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
        pub enum $name {
            $($(#[$vdoc])* #[serde(rename = $text)] $variant,)+
        }

        impl $name {
            /// Every state.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// Returns the state's name, as in JSON.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

states!(
    /// Where a run stands.
    RunState {
        /// Its tasks are worked on.
        Running = "running",
        /// A person lets it rest: nothing is started until it goes on.
        Paused = "paused",
        /// A person asked it to stop; turns finish first.
        Stopping = "stopping",
        /// It has stopped with tasks left.
        Stopped = "stopped",
        /// Nothing is left to do.
        Ended = "ended",
    }
);

states!(
    /// Where a task stands.
    TaskState {
        /// It waits for dependencies, a slot, the budget or its paths.
        Open = "open",
        /// It may be claimed.
        Ready = "ready",
        /// An agent works on it.
        Working = "working",
        /// Its change is in the landing queue.
        Submitted = "submitted",
        /// Its change came back; it gets a new workspace.
        Returned = "returned",
        /// The agent ended twice without submitting; a person may retry or cancel.
        FinishedWithoutSubmit = "finished-without-submit",
        /// A person must decide.
        Waiting = "waiting",
        /// Its change is in the hub and held for a person.
        Held = "held",
        /// Its change is on the target.
        Landed = "landed",
        /// Its plan passed the checks.
        Planned = "planned",
        /// It failed for good.
        Failed = "failed",
        /// A person cancelled it.
        Cancelled = "cancelled",
        /// A person took its held change.
        Taken = "taken",
        /// Its agent answered, and nothing was to be changed.
        Answered = "answered",
    }
);

impl TaskState {
    /// Whether nothing more happens to the task.
    pub fn is_closed(self) -> bool {
        matches!(self, Self::Landed | Self::Planned | Self::Failed | Self::Cancelled | Self::Taken | Self::Answered)
    }

    /// Whether only a person can move it on.
    pub fn needs_person(self) -> bool {
        matches!(self, Self::FinishedWithoutSubmit | Self::Waiting | Self::Held)
    }

    /// Whether it holds its paths: another task whose scope overlaps must wait.
    pub fn holds_paths(self) -> bool {
        matches!(self, Self::Working | Self::Submitted | Self::Returned)
    }
}

/// What happens to a task.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TaskStep {
    /// `TaskReady`.
    Ready,
    /// `TaskClaimed`; the fence is compared with the last one.
    Claim {
        /// The fence of the new claim.
        fence: u64,
        /// The last fence.
        last: u64,
    },
    /// `ChangeSubmitted`.
    Submit,
    /// `ChangeSubmitted` of a task that takes landed changes back: nobody works on it first.
    SubmitUndo,
    /// `ChangeReturned`.
    Return,
    /// `ImportApproved` of its change.
    Approve,
    /// `FinishedWithoutSubmit`.
    NoSubmit,
    /// `TaskWaits`.
    Wait,
    /// `TaskHeld`.
    Hold,
    /// `TaskReleased`.
    Release,
    /// `TaskRetried`.
    Retry,
    /// `PlanProposed`.
    Plan,
    /// `TaskClosed` with `Landed`.
    Land,
    /// `TaskClosed` with `Failed`.
    Fail,
    /// `TaskClosed` with `Cancelled`.
    Cancel,
    /// `TaskClosed` with `Taken`.
    Take,
    /// `TaskClosed` with `Answered`.
    Answer,
}

/// Returns the next state of a task.
///
/// # Errors
/// The reason why the step is not allowed.
pub fn task_step(state: TaskState, step: TaskStep) -> Result<TaskState, &'static str> {
    use TaskState as S;
    if state.is_closed() {
        return Err("it is closed");
    }
    match (state, step) {
        (S::Open | S::Returned, TaskStep::Ready) => Ok(S::Ready),
        // A worker that takes over claims a task that another, now dead, worked on.
        (S::Ready | S::Working, TaskStep::Claim { fence, last }) if fence > last => Ok(S::Working),
        (S::Ready | S::Working, TaskStep::Claim { .. }) => Err("its fence is not newer than the last one"),
        (S::Working, TaskStep::Submit) | (S::Open, TaskStep::SubmitUndo) => Ok(S::Submitted),
        (S::Working, TaskStep::Plan) => Ok(S::Planned),
        (S::Submitted, TaskStep::Return) => Ok(S::Returned),
        (S::Waiting, TaskStep::Approve) => Ok(S::Submitted),
        (_, TaskStep::Approve) => Err("it does not wait for a person"),
        (S::Working, TaskStep::NoSubmit) => Ok(S::FinishedWithoutSubmit),
        (S::Open | S::Ready | S::Working | S::Submitted | S::Returned, TaskStep::Wait) => Ok(S::Waiting),
        (S::FinishedWithoutSubmit | S::Waiting | S::Held, TaskStep::Retry) => Ok(S::Returned),
        (S::Submitted, TaskStep::Hold) => Ok(S::Held),
        (S::Held, TaskStep::Release) => Ok(S::Submitted),
        (S::Held, TaskStep::Take) => Ok(S::Taken),
        (S::Working, TaskStep::Answer) => Ok(S::Answered),
        (_, TaskStep::Release | TaskStep::Take) => Err("no change of it is held"),
        (S::Submitted, TaskStep::Land) => Ok(S::Landed),
        (_, TaskStep::Land) => Err("it has no change in the queue"),
        (_, TaskStep::Fail) => Ok(S::Failed),
        (_, TaskStep::Cancel) => Ok(S::Cancelled),
        _ => Err("this step does not follow from that state"),
    }
}

states!(
    /// Where an agent stands.
    AgentState {
        /// Its workspace and box are being made.
        Starting = "starting",
        /// It works.
        InTurn = "in-turn",
        /// It waits for what comes next.
        BetweenTurns = "between-turns",
        /// Its process has ended.
        Ended = "ended",
    }
);

states!(
    /// Where a change stands.
    ChangeState {
        /// The agent submitted it; it is still only in the workspace.
        Submitted = "submitted",
        /// It is in the hub and within its scope.
        Imported = "imported",
        /// The merged tree passed all gates.
        Gated = "gated",
        /// The ref is about to move.
        Intended = "intended",
        /// It is on the target.
        Landed = "landed",
        /// It went back.
        Returned = "returned",
    }
);

/// What happens to a change.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ChangeStep {
    /// `ChangeImported`.
    Import,
    /// `Gated`.
    Gate,
    /// `LandIntended`; `same` says whether tree and old target are those of the gates.
    Intend {
        /// Tree and old target equal what passed the gates.
        same: bool,
    },
    /// `Landed`; `same` says whether the commit is the intended one.
    Land {
        /// The commit is the intended one.
        same: bool,
    },
    /// `LandAbandoned`.
    Abandon,
    /// `ChangeReturned`.
    Return,
    /// `ImportApproved`; `asks` says whether it went back for what a person may approve.
    Approve {
        /// It went back for that.
        asks: bool,
    },
}

/// Returns the next state of a change.
///
/// # Errors
/// The reason why the step is not allowed.
pub fn change_step(state: ChangeState, step: ChangeStep) -> Result<ChangeState, &'static str> {
    use ChangeState as S;
    match (state, step) {
        (S::Submitted, ChangeStep::Import) => Ok(S::Imported),
        // The target may have moved since: gates run again on the new merge.
        (S::Imported | S::Gated, ChangeStep::Gate) => Ok(S::Gated),
        (S::Gated, ChangeStep::Intend { same: true }) => Ok(S::Intended),
        (S::Gated, ChangeStep::Intend { same: false }) => Err("the intended tree or target is not the one that passed the gates"),
        (S::Intended, ChangeStep::Land { same: true }) => Ok(S::Landed),
        (S::Intended, ChangeStep::Land { same: false }) => Err("the landed commit is not the intended one"),
        (S::Intended, ChangeStep::Abandon) => Ok(S::Imported),
        (S::Submitted | S::Imported | S::Gated, ChangeStep::Return) => Ok(S::Returned),
        (S::Landed, _) => Err("it has landed"),
        (S::Returned, ChangeStep::Approve { asks: true }) => Ok(S::Submitted),
        (_, ChangeStep::Approve { .. }) => Err("it did not go back for something that can be approved"),
        (S::Returned, _) => Err("it went back"),
        _ => Err("this step does not follow from that state"),
    }
}

/// What happens to a run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RunStep {
    /// `RunStopRequested`.
    RequestStop,
    /// `RunPaused`.
    Pause,
    /// `RunStopped`.
    Stop,
    /// `RunResumed`.
    Resume,
    /// `RunEnded`.
    End,
}

/// Returns the next state of a run.
///
/// # Errors
/// The reason why the step is not allowed.
pub fn run_step(state: RunState, step: RunStep) -> Result<RunState, &'static str> {
    use RunState as S;
    match (state, step) {
        (S::Running, RunStep::Pause) => Ok(S::Paused),
        (S::Paused, RunStep::Pause) => Err("it is paused already"),
        (S::Stopping, RunStep::Pause) => Err("it is stopping"),
        (S::Running | S::Paused | S::Stopping, RunStep::RequestStop) => Ok(S::Stopping),
        (S::Running | S::Paused | S::Stopping, RunStep::Stop) => Ok(S::Stopped),
        // An ended run may be resumed when a person retries one of its tasks.
        (_, RunStep::Resume) => Ok(S::Running),
        (S::Running | S::Paused | S::Stopping, RunStep::End) => Ok(S::Ended),
        (S::Stopped | S::Ended, _) => Err("it is not running; `aedile run --resume` goes on with it"),
    }
}
