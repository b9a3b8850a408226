//! The closed list of events. The log of these is the truth; everything else is rebuilt from it.

use serde::{Deserialize, Serialize};
use std::path::PathBuf;

use crate::ask::AskScope;
use crate::clock::Timestamp;
use crate::ids::{
    AgentName, AskId, BlobId, ChangeId, CommitId, IncarnationId, MailId, ProjectId, RefName, RunId, SessionId, SpendId, TaskId, TreeId,
};
use crate::model::ModelRef;
use crate::money::{MicroUsd, Usage};
use crate::plan::PlanAnswer;
use crate::policy::LayerName;
use crate::project::ProjectRules;
use crate::runtime::TurnStop;
use crate::task::TaskSpec;

/// The place of an event in the log, from 1. A reader that has seen `n` asks for what comes after `n`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Position(pub u64);

/// An event in the log.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Envelope {
    /// Its place.
    pub position: Position,
    /// When it was appended.
    pub at: Timestamp,
    /// The version of this kind of event.
    pub version: u16,
    /// The run that it belongs to.
    pub run: Option<RunId>,
    /// What happened.
    pub event: Event,
}

/// How a merge tier ended.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "result", rename_all = "snake_case")]
pub enum TierOutcome {
    /// It gave a tree.
    Merged {
        /// The tree.
        tree: TreeId,
        /// Where each contested region went, and why, as JSON; none where git found nothing contested.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        receipt: Option<BlobId>,
    },
    /// It found conflicts.
    Conflict {
        /// The paths.
        paths: Vec<String>,
    },
    /// It does not apply here.
    Declined {
        /// Why.
        why: String,
    },
}

/// Why a change goes back to its agent or to a person.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "reason", rename_all = "snake_case")]
pub enum ReturnReason {
    /// It does not merge with the target.
    Conflict {
        /// The paths.
        paths: Vec<String>,
    },
    /// A gate was red on the merged tree.
    Gate {
        /// The gate.
        gate: String,
    },
    /// It changes paths that it may not change.
    Scope {
        /// Path and rule, one line each.
        violations: Vec<String>,
    },
    /// It changes what only a person may let pass.
    Protected {
        /// The paths, each with its rule in brackets.
        paths: Vec<String>,
    },
    /// It could not be imported.
    Import {
        /// What git or the quarantine said.
        message: String,
    },
    /// It leaves out lines that others landed since its work began.
    Dropped {
        /// Path, number in the target, text.
        lines: Vec<String>,
    },
    /// It changes nothing against the target.
    Empty,
}

/// Says in one clause why the change went back, with at most three of the paths.
impl std::fmt::Display for ReturnReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let few = |items: &[String]| match items.len() {
            0..=3 => items.join(", "),
            all => format!("{} and {} more", items[..3].join(", "), all - 3),
        };
        match self {
            Self::Conflict { paths } => write!(f, "it conflicts with the target in {}", few(paths)),
            Self::Gate { gate } => write!(f, "gate `{gate}` was red on the merged tree"),
            Self::Scope { violations } => write!(f, "it changes what it may not: {}", few(violations)),
            Self::Protected { paths } => write!(f, "it changes what needs a person's word: {}", few(paths)),
            Self::Import { message } => write!(f, "it could not be imported: {message}"),
            Self::Dropped { lines } => write!(f, "it leaves out what others have landed: {}", few(lines)),
            Self::Empty => f.write_str("it changes nothing against the target"),
        }
    }
}

/// How a task ended.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum TaskOutcome {
    /// Its change landed.
    Landed {
        /// The commit on the target.
        commit: CommitId,
    },
    /// It failed for good.
    Failed {
        /// Why, in one sentence.
        why: String,
    },
    /// A person cancelled it.
    Cancelled,
    /// A person took its held change.
    Taken {
        /// Where to: `checkout` or the full name of the branch.
        to: String,
    },
    /// Its agent answered, and nothing was to be changed.
    Answered,
}

/// Everything that can happen. Adding a field raises the version of its event; nothing is ever removed.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
#[expect(
    missing_docs,
    reason = "the fields are ids and values named after the nouns of this crate; each variant says what they mean together"
)]
pub enum Event {
    /// A repository is known from now on.
    ProjectAdded { project: ProjectId, root: PathBuf },
    /// A run begins. `base` is the target's commit then; `landing_ref` is the ref that landings move; `slots` agents work at once at most.
    RunStarted {
        run: RunId,
        project: ProjectId,
        root: PathBuf,
        goal: String,
        target: String,
        landing_ref: RefName,
        base: CommitId,
        slots: u32,
        rules: ProjectRules,
    },
    /// A person wants the run to stop: after the present turns, or (`now`) at once.
    RunStopRequested { run: RunId, now: bool },
    /// A person lets the run rest: no task is started, present turns finish, what is submitted still lands.
    RunPaused { run: RunId },
    /// The run has stopped with tasks left.
    RunStopped { run: RunId },
    /// A run goes on that was paused, was stopped, or whose worker died; `worker` is who does it, or `person` for a word to a living one.
    RunResumed { run: RunId, worker: String },
    /// A person gives the run this much in all, in place of the budget it had.
    RunBudgetRaised { run: RunId, usd: MicroUsd },
    /// Every task of the run is closed, or waits for a person and nothing else can go on.
    RunEnded { run: RunId, landed: u32, failed: u32 },

    /// A task exists.
    TaskOpened { run: RunId, task: TaskId, spec: TaskSpec },
    /// Nothing holds the task back any more.
    TaskReady { task: TaskId },
    /// An agent has claimed the task. `attempt` counts workspaces, from 1.
    TaskClaimed { task: TaskId, agent: AgentName, incarnation: IncarnationId, fence: u64, attempt: u32 },
    /// Its private workspace is complete. `base` is the target's commit that it contains; `conflicts` are paths that carry markers.
    WorkspaceReady {
        task: TaskId,
        attempt: u32,
        path: PathBuf,
        base: CommitId,
        /// The commit without history that the workspace holds instead of `base`, when the agent may not read everything.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        view: Option<CommitId>,
        conflicts: Vec<String>,
    },
    /// Its box and door are made; `grants` names what the box may do, never a value.
    BoxReady { task: TaskId, incarnation: IncarnationId, pid: u32, pid_start: u64, grants: Vec<String> },
    /// The runtime answers in its box. `prompt` is the hash of the first prompt of this incarnation.
    AgentStarted { task: TaskId, agent: AgentName, incarnation: IncarnationId, session: SessionId, prompt: BlobId },
    /// A turn begins.
    TurnStarted { task: TaskId, incarnation: IncarnationId, turn: u32 },
    /// The agent reports that its model does not answer (a rate limit, an outage) and that it tries again by itself; without `why`, that the model answers again.
    AgentHeldUp { task: TaskId, incarnation: IncarnationId, why: Option<String> },
    /// A request of the agent was answered by another model than the one before: the agent changed it, or the provider of `from` is down.
    ModelSwitched { task: TaskId, from: ModelRef, to: ModelRef, why: String },
    /// A model provider is left alone for now, by all agents: `why` says what it answered, and at `again` one request tries it. Without `why` it answers again.
    ProviderDown { run: RunId, provider: String, why: Option<String>, again: Option<Timestamp> },
    /// A request of the agent is about to carry this secret: the door puts its value in the place of what stands for it. The path has no query.
    SecretUsed { run: RunId, task: TaskId, agent: AgentName, secret: String, method: String, host: String, path: String, rule: String },
    /// The access token of this secret was got anew from its token endpoint, for a request of the agent, and lasts until then; `rotated` says whether the
    /// refresh token was replaced as well. Both are in the vault.
    SecretRefreshed { run: RunId, task: TaskId, agent: AgentName, secret: String, host: String, until: Timestamp, rotated: bool },
    /// The token endpoint of this secret gave no access token, so a request of the agent was not sent.
    SecretNotRefreshed { run: RunId, task: TaskId, agent: AgentName, secret: String, host: String, why: String },
    /// A rule lets a request pass only when a person says so: `rule` names layer and rule, `path` is the beginning of the path.
    AskOpened { ask: AskId, run: RunId, task: TaskId, agent: AgentName, rule: String, method: String, host: String, path: String },
    /// A person answered; `until` bounds how long that holds.
    AskAnswered { run: RunId, ask: AskId, allow: bool, scope: AskScope, until: Option<Timestamp> },
    /// A door denied something, `count` times since it was last written down: what was asked, without its query, the rule and its layer (none for
    /// rules that always hold), and the sentence that the agent got.
    RequestDenied {
        run: RunId,
        task: TaskId,
        agent: AgentName,
        layer: Option<LayerName>,
        rule: String,
        what: String,
        why: String,
        count: u64,
    },
    /// A turn has ended.
    TurnEnded { task: TaskId, incarnation: IncarnationId, turn: u32, stop: TurnStop, detail: Option<String>, transcript: Option<BlobId> },
    /// The workspace is saved where the agent cannot reach. `oversized` files are recorded by name and hash only; `secrets` are paths, with the
    /// rule, that hold one which was not there when the workspace began.
    SnapshotTaken {
        task: TaskId,
        turn: u32,
        commit: CommitId,
        oversized: Vec<String>,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        secrets: Vec<String>,
    },
    /// The workspace of the closed task could not be saved and is its only copy: it stays, and `clean` leaves it; without `why`, it is saved since.
    WorkspaceKept { task: TaskId, why: Option<String> },
    /// The agent's process has ended; `why` is for people. `failed`: it died or broke before it had a result.
    AgentEnded { task: TaskId, agent: AgentName, incarnation: IncarnationId, why: String, failed: bool },
    /// The agent ended its turn twice without submitting.
    FinishedWithoutSubmit { task: TaskId },
    /// The task waits until a person decides.
    TaskWaits { task: TaskId, why: String },
    /// Its change is imported and held: a person lands, takes or drops it.
    TaskHeld { task: TaskId },
    /// A person sends the held change to the landing queue.
    TaskReleased { task: TaskId },
    /// A person wants the task to be tried again.
    TaskRetried { task: TaskId },
    /// A person changed a task that nobody works on: this is what is asked from now on.
    TaskEdited { task: TaskId, spec: TaskSpec },
    /// The task takes these landed changes back, newest first; its change is made by git, not by an agent.
    UndoPlanned { run: RunId, task: TaskId, undoes: Vec<ChangeId> },
    /// A person no longer wants the task.
    TaskCancelRequested { task: TaskId },
    /// A plan was handed in and did not pass the checks. `round` counts from 1; `plan` is the plan as it came.
    PlanRejected { task: TaskId, round: u32, plan: BlobId, reasons: Vec<String> },
    /// A plan passed the checks; `plan` is a blob that holds it as completed. It waits for a person's answer.
    PlanProposed { task: TaskId, round: u32, plan: BlobId, tasks: u32 },
    /// A person answered. The tasks of an accepted plan are opened in the same append.
    PlanAnswered { task: TaskId, answer: PlanAnswer },
    /// The task has ended.
    TaskClosed { task: TaskId, outcome: TaskOutcome },

    /// The agent says that its work is in `commit` of its workspace.
    ChangeSubmitted {
        change: ChangeId,
        run: RunId,
        task: TaskId,
        agent: AgentName,
        workspace: PathBuf,
        base: CommitId,
        commit: CommitId,
        summary: String,
        left_out: Vec<String>,
    },
    /// The commit is in the hub, complete and within its scope.
    ChangeImported {
        change: ChangeId,
        paths: u32,
        /// What the submitted commit is on the whole repository, when its workspace held only a part of it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        commit: Option<CommitId>,
    },
    /// A tier was tried on top of `onto`.
    TierTried { change: ChangeId, tier: String, onto: CommitId, outcome: TierOutcome },
    /// The change, merged with `onto`, leaves out lines that others landed since its work began: path, number in `onto`, text. It lands only by a person's word.
    LinesDropped { change: ChangeId, onto: CommitId, lines: Vec<String> },
    /// A gate was green on exactly this tree.
    GatePassed { change: ChangeId, gate: String, tree: TreeId, millis: u64, output: BlobId },
    /// A gate was red on exactly this tree.
    GateFailed { change: ChangeId, gate: String, tree: TreeId, millis: u64, exit: String, output: BlobId },
    /// All gates of the change were green on this tree, which is the change merged with `onto`. An empty list means that none is configured.
    /// `passed` is the tree on which they ran when that is another one: it holds this change and those that land together with it, and is where the target goes.
    Gated {
        change: ChangeId,
        tree: TreeId,
        onto: CommitId,
        gates: Vec<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        passed: Option<TreeId>,
    },
    /// The ref is about to move.
    LandIntended { change: ChangeId, landing_ref: RefName, old: CommitId, new: CommitId, tree: TreeId },
    /// The ref has moved.
    Landed { change: ChangeId, landing_ref: RefName, old: CommitId, new: CommitId },
    /// The ref has not moved and will not for this intent: the target was somewhere else.
    LandAbandoned { change: ChangeId, why: String },
    /// The change goes back with its evidence. Its task gets a new workspace.
    ChangeReturned { change: ChangeId, reason: ReturnReason, evidence: Option<BlobId> },
    /// A person approved what the import filter had asked about: these paths with their rules, for exactly this commit. The change is looked at again.
    ImportApproved { change: ChangeId, commit: CommitId, findings: Vec<String> },

    /// Mail was sent. `from` and `to` are agent names or `person`.
    MailSent { mail: MailId, run: RunId, from: String, to: String, subject: String, body: String },
    /// It was handed to an incarnation (or to the person), which has not confirmed it.
    MailClaimed { mail: MailId, by: String },
    /// It was taken in.
    MailAcked { mail: MailId },

    /// A model request may cost at most this much; the amount is held back until it is settled.
    SpendReserved { spend: SpendId, run: RunId, task: TaskId, agent: AgentName, model: ModelRef, tokens: u64, usd: MicroUsd },
    /// What it did cost. `estimated` when the provider did not say and the reservation was charged.
    SpendSettled { spend: SpendId, usage: Usage, usd: MicroUsd, estimated: bool },
}

impl Event {
    /// Returns the version of this kind of event. A reader refuses a higher one than it knows.
    pub fn version(&self) -> u16 {
        1
    }

    /// Returns the run that the event names itself, if it does.
    pub fn run(&self) -> Option<RunId> {
        match self {
            Self::RunStarted { run, .. }
            | Self::RunStopRequested { run, .. }
            | Self::RunPaused { run }
            | Self::RunStopped { run }
            | Self::RunResumed { run, .. }
            | Self::RunBudgetRaised { run, .. }
            | Self::RunEnded { run, .. }
            | Self::TaskOpened { run, .. }
            | Self::UndoPlanned { run, .. }
            | Self::ChangeSubmitted { run, .. }
            | Self::MailSent { run, .. }
            | Self::ProviderDown { run, .. }
            | Self::SecretUsed { run, .. }
            | Self::SecretRefreshed { run, .. }
            | Self::SecretNotRefreshed { run, .. }
            | Self::AskOpened { run, .. }
            | Self::AskAnswered { run, .. }
            | Self::RequestDenied { run, .. }
            | Self::SpendReserved { run, .. } => Some(*run),
            _ => None,
        }
    }

    /// Returns the task that the event names itself, if it does.
    pub fn task(&self) -> Option<TaskId> {
        match self {
            Self::TaskOpened { task, .. }
            | Self::TaskReady { task }
            | Self::TaskClaimed { task, .. }
            | Self::WorkspaceReady { task, .. }
            | Self::BoxReady { task, .. }
            | Self::AgentStarted { task, .. }
            | Self::TurnStarted { task, .. }
            | Self::ModelSwitched { task, .. }
            | Self::SecretUsed { task, .. }
            | Self::SecretRefreshed { task, .. }
            | Self::SecretNotRefreshed { task, .. }
            | Self::AskOpened { task, .. }
            | Self::RequestDenied { task, .. }
            | Self::TurnEnded { task, .. }
            | Self::SnapshotTaken { task, .. }
            | Self::WorkspaceKept { task, .. }
            | Self::AgentEnded { task, .. }
            | Self::FinishedWithoutSubmit { task }
            | Self::TaskWaits { task, .. }
            | Self::TaskRetried { task }
            | Self::TaskHeld { task }
            | Self::TaskReleased { task }
            | Self::TaskEdited { task, .. }
            | Self::UndoPlanned { task, .. }
            | Self::TaskCancelRequested { task }
            | Self::TaskClosed { task, .. }
            | Self::ChangeSubmitted { task, .. }
            | Self::SpendReserved { task, .. } => Some(*task),
            _ => None,
        }
    }

    /// Returns the change that the event names itself, if it does.
    pub fn change(&self) -> Option<ChangeId> {
        match self {
            Self::ChangeSubmitted { change, .. }
            | Self::ChangeImported { change, .. }
            | Self::TierTried { change, .. }
            | Self::LinesDropped { change, .. }
            | Self::GatePassed { change, .. }
            | Self::GateFailed { change, .. }
            | Self::Gated { change, .. }
            | Self::LandIntended { change, .. }
            | Self::Landed { change, .. }
            | Self::LandAbandoned { change, .. }
            | Self::ImportApproved { change, .. }
            | Self::ChangeReturned { change, .. } => Some(*change),
            _ => None,
        }
    }

    /// Returns the event's name as it stands in JSON (`type`).
    pub fn name(&self) -> &'static str {
        match self {
            Self::ProjectAdded { .. } => "project_added",
            Self::RunStarted { .. } => "run_started",
            Self::RunStopRequested { .. } => "run_stop_requested",
            Self::RunPaused { .. } => "run_paused",
            Self::RunStopped { .. } => "run_stopped",
            Self::RunResumed { .. } => "run_resumed",
            Self::RunBudgetRaised { .. } => "run_budget_raised",
            Self::RunEnded { .. } => "run_ended",
            Self::TaskOpened { .. } => "task_opened",
            Self::TaskReady { .. } => "task_ready",
            Self::TaskClaimed { .. } => "task_claimed",
            Self::WorkspaceReady { .. } => "workspace_ready",
            Self::BoxReady { .. } => "box_ready",
            Self::AgentStarted { .. } => "agent_started",
            Self::TurnStarted { .. } => "turn_started",
            Self::AgentHeldUp { .. } => "agent_held_up",
            Self::ModelSwitched { .. } => "model_switched",
            Self::ProviderDown { .. } => "provider_down",
            Self::SecretUsed { .. } => "secret_used",
            Self::SecretRefreshed { .. } => "secret_refreshed",
            Self::SecretNotRefreshed { .. } => "secret_not_refreshed",
            Self::AskOpened { .. } => "ask_opened",
            Self::AskAnswered { .. } => "ask_answered",
            Self::RequestDenied { .. } => "request_denied",
            Self::TurnEnded { .. } => "turn_ended",
            Self::SnapshotTaken { .. } => "snapshot_taken",
            Self::WorkspaceKept { .. } => "workspace_kept",
            Self::AgentEnded { .. } => "agent_ended",
            Self::FinishedWithoutSubmit { .. } => "finished_without_submit",
            Self::TaskWaits { .. } => "task_waits",
            Self::TaskHeld { .. } => "task_held",
            Self::TaskReleased { .. } => "task_released",
            Self::TaskRetried { .. } => "task_retried",
            Self::TaskEdited { .. } => "task_edited",
            Self::UndoPlanned { .. } => "undo_planned",
            Self::TaskCancelRequested { .. } => "task_cancel_requested",
            Self::PlanRejected { .. } => "plan_rejected",
            Self::PlanProposed { .. } => "plan_proposed",
            Self::PlanAnswered { .. } => "plan_answered",
            Self::TaskClosed { .. } => "task_closed",
            Self::ChangeSubmitted { .. } => "change_submitted",
            Self::ChangeImported { .. } => "change_imported",
            Self::TierTried { .. } => "tier_tried",
            Self::LinesDropped { .. } => "lines_dropped",
            Self::GatePassed { .. } => "gate_passed",
            Self::GateFailed { .. } => "gate_failed",
            Self::Gated { .. } => "gated",
            Self::LandIntended { .. } => "land_intended",
            Self::Landed { .. } => "landed",
            Self::LandAbandoned { .. } => "land_abandoned",
            Self::ChangeReturned { .. } => "change_returned",
            Self::ImportApproved { .. } => "import_approved",
            Self::MailSent { .. } => "mail_sent",
            Self::MailClaimed { .. } => "mail_claimed",
            Self::MailAcked { .. } => "mail_acked",
            Self::SpendReserved { .. } => "spend_reserved",
            Self::SpendSettled { .. } => "spend_settled",
        }
    }
}
