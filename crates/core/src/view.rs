//! Views: what the log means now. Documents by key, made only by [`crate::apply`], rebuilt rather than migrated.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

use crate::ask::Answer;
use crate::clock::Timestamp;
use crate::event::{Position, ReturnReason};
use crate::ids::{
    AgentName, AskId, BlobId, ChangeId, CommitId, IncarnationId, MailId, ProjectId, RefName, RunId, SessionId, SpendId, TaskId, TreeId,
};
use crate::machine::{AgentState, ChangeState, RunState, TaskState};
use crate::model::ModelRef;
use crate::money::{MicroUsd, Usage};
use crate::plan::PlanAnswer;
use crate::project::ProjectRules;
use crate::task::TaskSpec;

/// The version of all views together. Another number on disk means: rebuild.
pub const VIEWS_VERSION: u32 = 2;

/// The kinds of view.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ViewKind {
    /// [`ProjectView`] by project id.
    Project,
    /// [`RunView`] by run id.
    Run,
    /// [`TaskView`] by task id.
    Task,
    /// [`AgentView`] by `run/agent`.
    Agent,
    /// [`ChangeView`] by change id.
    Change,
    /// [`MailView`] by mail id.
    Mail,
    /// [`InboxView`] by `run/receiver`.
    Inbox,
    /// [`SpendView`] by spend id; only what is reserved and not settled.
    Spend,
    /// [`CostView`] by `task/agent/model`.
    Cost,
    /// [`AskView`] by its id.
    Ask,
}

impl ViewKind {
    /// Every kind.
    pub const ALL: &[Self] =
        &[Self::Project, Self::Run, Self::Task, Self::Agent, Self::Change, Self::Mail, Self::Inbox, Self::Spend, Self::Cost, Self::Ask];

    /// Returns its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Project => "project",
            Self::Run => "run",
            Self::Task => "task",
            Self::Agent => "agent",
            Self::Change => "change",
            Self::Mail => "mail",
            Self::Inbox => "inbox",
            Self::Spend => "spend",
            Self::Cost => "cost",
            Self::Ask => "ask",
        }
    }
}

/// A document of a view.
pub trait View: Serialize + DeserializeOwned {
    /// Its kind.
    const KIND: ViewKind;
}

macro_rules! view {
    ($name:ident, $kind:ident) => {
        impl View for $name {
            const KIND: ViewKind = ViewKind::$kind;
        }
    };
}

/// A known repository.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ProjectView {
    /// Its id.
    pub project: ProjectId,
    /// Its root on this machine.
    pub root: PathBuf,
}
view!(ProjectView, Project);

/// A run.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RunView {
    /// Its id.
    pub run: RunId,
    /// Its project.
    pub project: ProjectId,
    /// The repository's root.
    pub root: PathBuf,
    /// What a person asked.
    pub goal: String,
    /// The branch that changes land on, as the person named it.
    pub target: String,
    /// The ref that landings move.
    pub landing_ref: RefName,
    /// The target's commit when the run began.
    pub base: CommitId,
    /// The target's commit after the last landing of this run.
    pub tip: CommitId,
    /// Agents at work at once at most.
    pub slots: u32,
    /// Gates, protected paths, budgets.
    pub rules: ProjectRules,
    /// Where it stands.
    pub state: RunState,
    /// Whether a stop was asked for at once.
    pub stop_now: bool,
    /// When it began.
    pub started: Timestamp,
    /// Since when it is in its state.
    pub since: Timestamp,
    /// The position of its first event: what `events` of this run starts after.
    pub first: Position,
    /// Model providers that its worker leaves alone at present.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub down: Vec<ProviderDown>,
}
view!(RunView, Run);

/// A model provider that is left alone for now.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ProviderDown {
    /// Its name.
    pub provider: String,
    /// What it answered.
    pub why: String,
    /// Since when.
    pub since: Timestamp,
    /// When one request tries it again.
    pub again: Option<Timestamp>,
}

/// The model that an agent has changed to.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Switched {
    /// It.
    pub model: ModelRef,
    /// Why.
    pub why: String,
    /// Since when.
    pub since: Timestamp,
}

/// A task.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TaskView {
    /// Its id.
    pub task: TaskId,
    /// Its run.
    pub run: RunId,
    /// What was asked.
    pub spec: TaskSpec,
    /// Where it stands.
    pub state: TaskState,
    /// Since when.
    pub since: Timestamp,
    /// Why it waits for a person, how it failed, or what of others its landed change leaves out.
    pub why: Option<String>,
    /// Who works on it, or did last.
    pub agent: Option<AgentName>,
    /// That agent's life.
    pub incarnation: Option<IncarnationId>,
    /// The fence of the last claim.
    pub fence: u64,
    /// Workspaces so far.
    pub attempt: u32,
    /// The present workspace.
    pub workspace: Option<PathBuf>,
    /// The commit that the present workspace began with.
    pub base: Option<CommitId>,
    /// The commit without history that it holds instead, when its agent may not read everything.
    #[serde(default)]
    pub view: Option<CommitId>,
    /// Paths with conflict markers in the present workspace.
    pub conflicts: Vec<String>,
    /// The conversation that can be resumed.
    pub session: Option<SessionId>,
    /// Turns so far.
    pub turn: u32,
    /// Incarnations that failed since the last submission.
    pub restarts: u32,
    /// The present or last change.
    pub change: Option<ChangeId>,
    /// How often a change came back.
    pub returns: u32,
    /// Why the last change came back.
    pub returned: Option<ReturnReason>,
    /// The evidence for that.
    pub evidence: Option<BlobId>,
    /// The last snapshot.
    pub snapshot: Option<CommitId>,
    /// The landed commit.
    pub landed: Option<CommitId>,
    /// Whether a person asked to cancel it.
    pub cancel_requested: bool,
    /// Whether a person sent its held change to the queue: from then on its changes land.
    #[serde(default)]
    pub released: bool,
    /// Its plan, when the task is to make one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<PlanStand>,
    /// Whether a person changed it since its agent was last told.
    #[serde(default)]
    pub edited: bool,
    /// The landed changes that it takes back, newest first; empty for all tasks but those of an undo.
    #[serde(default)]
    pub undoes: Vec<ChangeId>,
    /// The commit that its first workspace began with: what landed since then is others' work.
    #[serde(default)]
    pub first_base: Option<CommitId>,
    /// Paths that carried conflict markers in any of its workspaces.
    #[serde(default)]
    pub conflicted: Vec<String>,
    /// Whether a change of it went back once since it left out what others had landed: the next time a person is asked.
    #[serde(default)]
    pub asked_of_dropped: bool,
    /// Why its workspace could not be saved after it was closed, while that is so: then the workspace is the only copy.
    #[serde(default)]
    pub kept: Option<String>,
}
view!(TaskView, Task);

impl TaskView {
    /// The plan that passed the checks and that nobody has answered.
    pub fn open_plan(&self) -> Option<&BlobId> {
        self.plan.as_ref().filter(|plan| plan.answered.is_none()).and_then(|plan| plan.proposed.as_ref())
    }
}

/// Where a plan stands.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct PlanStand {
    /// Plans that did not pass the checks, since a person last asked for another try.
    pub rejected: u32,
    /// The plan that did.
    pub proposed: Option<BlobId>,
    /// What a person said to it.
    pub answered: Option<PlanAnswer>,
}

/// An agent within a run.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct AgentView {
    /// Its name.
    pub agent: AgentName,
    /// The run.
    pub run: RunId,
    /// The task it works on, or did last.
    pub task: TaskId,
    /// That task's key.
    pub key: String,
    /// Its present life.
    pub incarnation: IncarnationId,
    /// Where it stands.
    pub state: AgentState,
    /// Since when.
    pub since: Timestamp,
    /// The host's process id of its box and that process's start time, while it has one.
    pub process: Option<(u32, u64)>,
    /// Its turn.
    pub turn: u32,
    /// Why it ended.
    pub ended: Option<String>,
    /// Why its model does not answer, while that is so.
    #[serde(default)]
    pub held_up: Option<String>,
    /// The model that answers it in place of its task's, while that is so.
    #[serde(default)]
    pub switched: Option<Switched>,
}
view!(AgentView, Agent);

/// What passed the gates.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct GatedTree {
    /// The tree.
    pub tree: TreeId,
    /// The target's commit that it contains.
    pub onto: CommitId,
    /// The gates.
    pub gates: Vec<String>,
    /// The tree on which they ran, when it is that of changes that land together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub passed: Option<TreeId>,
}

/// A landing that is under way.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Intent {
    /// The ref.
    pub landing_ref: RefName,
    /// From.
    pub old: CommitId,
    /// To.
    pub new: CommitId,
}

/// A change.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ChangeView {
    /// Its id.
    pub change: ChangeId,
    /// Its run.
    pub run: RunId,
    /// Its task.
    pub task: TaskId,
    /// Who made it.
    pub agent: AgentName,
    /// Where it stands.
    pub state: ChangeState,
    /// Since when.
    pub since: Timestamp,
    /// The workspace that it is imported from.
    pub workspace: PathBuf,
    /// The commit that the workspace began with.
    pub base: CommitId,
    /// The commit without history that the workspace held instead, when it did.
    #[serde(default)]
    pub view: Option<CommitId>,
    /// The submitted commit; once it is imported, what that is on the whole repository.
    pub commit: CommitId,
    /// What the agent says of it.
    pub summary: String,
    /// What passed the gates, when something did.
    pub gated: Option<GatedTree>,
    /// The landing under way, when there is one.
    pub intent: Option<Intent>,
    /// The landed commit.
    pub landed: Option<CommitId>,
    /// The landed commit that took it back, while that itself stands.
    #[serde(default)]
    pub undone: Option<CommitId>,
    /// Why it went back.
    pub returned: Option<ReturnReason>,
    /// The evidence for that.
    pub evidence: Option<BlobId>,
    /// Lines of others that its last merge with the target leaves out.
    #[serde(default)]
    pub dropped: Vec<String>,
    /// The receipt of its last merge with the target, where some of it was contested.
    #[serde(default)]
    pub receipt: Option<BlobId>,
    /// What the import filter asked about and a person approved, for exactly this commit: paths with their rules.
    #[serde(default)]
    pub approved: Vec<String>,
}
view!(ChangeView, Change);

/// A piece of mail.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct MailView {
    /// Its id.
    pub mail: MailId,
    /// The run.
    pub run: RunId,
    /// Sender.
    pub from: String,
    /// Receiver.
    pub to: String,
    /// One line.
    pub subject: String,
    /// The text.
    pub body: String,
    /// When it was sent.
    pub sent: Timestamp,
    /// Who has it without having confirmed it: an incarnation or `person`.
    pub claimed_by: Option<String>,
    /// Whether it was taken in.
    pub acked: bool,
}
view!(MailView, Mail);

/// How much mail waits for somebody.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct InboxView {
    /// The run.
    pub run: RunId,
    /// The receiver.
    pub to: String,
    /// Mail that was not taken in.
    pub unread: u64,
}
view!(InboxView, Inbox);

/// A reservation that is not settled.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SpendView {
    /// Its id.
    pub spend: SpendId,
    /// The run.
    pub run: RunId,
    /// The task.
    pub task: TaskId,
    /// The agent.
    pub agent: AgentName,
    /// The model.
    pub model: ModelRef,
    /// Tokens held back.
    pub tokens: u64,
    /// Money held back.
    pub usd: MicroUsd,
}
view!(SpendView, Spend);

/// What was spent, per task, agent and model.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct CostView {
    /// The run.
    pub run: RunId,
    /// The task.
    pub task: TaskId,
    /// The agent.
    pub agent: AgentName,
    /// The model.
    pub model: ModelRef,
    /// Requests that were settled.
    pub requests: u64,
    /// Requests among them whose amount is the reservation, since the provider did not say.
    pub estimated: u64,
    /// Tokens, as the providers counted them.
    pub usage: Usage,
    /// Tokens charged from reservations of estimated requests.
    pub estimated_tokens: u64,
    /// Money, estimated requests included.
    pub usd: MicroUsd,
}
view!(CostView, Cost);

/// A question to a person.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct AskView {
    /// Its id.
    pub ask: AskId,
    /// The run.
    pub run: RunId,
    /// The task of the agent.
    pub task: TaskId,
    /// The agent.
    pub agent: AgentName,
    /// Layer and rule.
    pub rule: String,
    /// The method.
    pub method: String,
    /// Scheme, host and port.
    pub host: String,
    /// The beginning of the path.
    pub path: String,
    /// When it was asked first.
    pub opened: Timestamp,
    /// What the person said last.
    pub answer: Option<Answer>,
}
view!(AskView, Ask);
