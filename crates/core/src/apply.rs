//! The effect of each event on the views: one pure function for every store.

mod ask;
mod change;
mod edit;
mod mail;
mod plan;
mod provider;
mod spend;
mod undo;

use serde::de::DeserializeOwned;

use crate::event::{Envelope, Event, ReturnReason, TaskOutcome, TierOutcome};
use crate::ids::{ChangeId, RunId, TaskId};
use crate::machine::{AgentState, ChangeStep, Illegal, RunState, RunStep, TaskState, TaskStep, change_step, run_step, task_step};
use crate::store::StoreError;
use crate::view::{AgentView, ChangeView, ProjectView, RunView, TaskView, View, ViewKind};

pub use mail::inbox_key;

/// The views inside one transaction of a store.
pub trait ViewTx {
    /// Returns a document.
    fn get(&mut self, kind: ViewKind, key: &str) -> Result<Option<String>, StoreError>;
    /// Writes a document; a new key goes behind all others of its kind.
    fn put(&mut self, kind: ViewKind, key: &str, run: Option<RunId>, document: &str) -> Result<(), StoreError>;
    /// Removes a document.
    fn remove(&mut self, kind: ViewKind, key: &str) -> Result<(), StoreError>;
}

/// Applies one event. An error means that the event must not be appended and the transaction is undone.
///
/// # Errors
/// `StoreError::Illegal` when a state machine refuses the step, or what [`ViewTx`] answers.
pub fn apply(envelope: &Envelope, tx: &mut dyn ViewTx) -> Result<(), StoreError> {
    let mut at = At { envelope, tx };
    match &envelope.event {
        Event::ProjectAdded { project, root } => at.put(&project.to_string(), None, &ProjectView { project: *project, root: root.clone() }),
        Event::RunStarted { .. }
        | Event::RunStopRequested { .. }
        | Event::RunPaused { .. }
        | Event::RunStopped { .. }
        | Event::RunResumed { .. }
        | Event::RunEnded { .. } => apply_run(&mut at),
        Event::RunBudgetRaised { run, usd } => {
            let mut view = at.run(*run)?;
            view.rules.run_budget = crate::money::Budget { usd: Some(*usd), tokens: None };
            at.put(&run.to_string(), Some(*run), &view)
        }
        Event::TaskEdited { task, spec } => edit::apply_edit(&mut at, *task, spec),
        Event::UndoPlanned { run, task, undoes } => undo::apply_plan(&mut at, *run, *task, undoes),
        Event::TaskOpened { .. }
        | Event::TaskReady { .. }
        | Event::TaskClaimed { .. }
        | Event::FinishedWithoutSubmit { .. }
        | Event::TaskWaits { .. }
        | Event::TaskHeld { .. }
        | Event::TaskReleased { .. }
        | Event::TaskRetried { .. }
        | Event::TaskCancelRequested { .. }
        | Event::TaskClosed { .. } => apply_task(&mut at),
        Event::PlanRejected { .. } | Event::PlanProposed { .. } | Event::PlanAnswered { .. } => plan::apply_plan(&mut at),
        Event::WorkspaceReady { .. }
        | Event::BoxReady { .. }
        | Event::AgentStarted { .. }
        | Event::TurnStarted { .. }
        | Event::AgentHeldUp { .. }
        | Event::TurnEnded { .. }
        | Event::SnapshotTaken { .. }
        | Event::WorkspaceKept { .. }
        | Event::AgentEnded { .. } => apply_agent(&mut at),
        Event::ChangeSubmitted { .. }
        | Event::ChangeImported { .. }
        | Event::Gated { .. }
        | Event::LandIntended { .. }
        | Event::Landed { .. }
        | Event::LandAbandoned { .. }
        | Event::ImportApproved { .. }
        | Event::ChangeReturned { .. } => change::apply_change(&mut at),
        Event::LinesDropped { change, lines, .. } => {
            let mut view = at.change(*change)?;
            view.dropped.clone_from(lines);
            at.put_change(&view)
        }
        // Evidence only: it moves no state.
        Event::TierTried { change, outcome: TierOutcome::Merged { receipt, .. }, .. } => {
            let mut view = at.change(*change)?;
            view.receipt.clone_from(receipt);
            at.put_change(&view)
        }
        Event::TierTried { change, .. } | Event::GatePassed { change, .. } | Event::GateFailed { change, .. } => {
            at.change(*change).map(drop)
        }
        // For the audit only.
        Event::AskOpened { .. } | Event::AskAnswered { .. } => ask::apply_ask(&mut at),
        Event::SecretUsed { .. } | Event::SecretRefreshed { .. } | Event::SecretNotRefreshed { .. } | Event::RequestDenied { .. } => Ok(()),
        Event::MailSent { .. } | Event::MailClaimed { .. } | Event::MailAcked { .. } => mail::apply_mail(&mut at),
        Event::SpendReserved { .. } | Event::SpendSettled { .. } => spend::apply_spend(&mut at),
        Event::ModelSwitched { .. } | Event::ProviderDown { .. } => provider::apply_provider(&mut at),
    }
}

struct At<'a> {
    envelope: &'a Envelope,
    tx: &'a mut dyn ViewTx,
}

impl At<'_> {
    fn step(&self) -> &'static str {
        self.envelope.event.name()
    }

    fn illegal(&self, noun: &'static str, id: impl std::fmt::Display, state: impl std::fmt::Display, why: &str) -> StoreError {
        StoreError::Illegal(Illegal { noun, id: id.to_string(), state: state.to_string(), step: self.step(), why: why.to_owned() })
    }

    fn find<T: View + DeserializeOwned>(&mut self, key: &str) -> Result<Option<T>, StoreError> {
        let damaged = |error: serde_json::Error| StoreError::Damaged {
            place: format!("view {} {key}", T::KIND.as_str()),
            problem: error.to_string(),
        };
        self.tx.get(T::KIND, key)?.map(|text| serde_json::from_str(&text).map_err(damaged)).transpose()
    }

    fn get<T: View + DeserializeOwned>(&mut self, noun: &'static str, key: &str) -> Result<T, StoreError> {
        self.find(key)?.ok_or_else(|| self.illegal(noun, key, "unknown", "there is no such id"))
    }

    fn put<T: View>(&mut self, key: &str, run: Option<RunId>, document: &T) -> Result<(), StoreError> {
        let text = serde_json::to_string(document).map_err(|error| StoreError::Backend(error.to_string()))?;
        self.tx.put(T::KIND, key, run, &text)
    }

    fn is_new(&mut self, kind: ViewKind, noun: &'static str, key: &str) -> Result<(), StoreError> {
        match self.tx.get(kind, key)? {
            None => Ok(()),
            Some(_) => Err(self.illegal(noun, key, "known", "the id is taken")),
        }
    }

    fn run(&mut self, run: RunId) -> Result<RunView, StoreError> {
        self.get("run", &run.to_string())
    }

    fn task(&mut self, task: TaskId) -> Result<TaskView, StoreError> {
        self.get("task", &task.to_string())
    }

    fn change(&mut self, change: ChangeId) -> Result<ChangeView, StoreError> {
        self.get("change", &change.to_string())
    }

    fn put_task(&mut self, task: &TaskView) -> Result<(), StoreError> {
        self.put(&task.task.to_string(), Some(task.run), task)
    }

    fn put_change(&mut self, change: &ChangeView) -> Result<(), StoreError> {
        self.put(&change.change.to_string(), Some(change.run), change)
    }

    fn step_task(&mut self, task: &mut TaskView, step: TaskStep) -> Result<(), StoreError> {
        task.state = task_step(task.state, step).map_err(|why| self.illegal("task", &task.spec.key, task.state, why))?;
        task.since = self.envelope.at;
        Ok(())
    }

    fn step_change(&mut self, change: &mut ChangeView, step: ChangeStep) -> Result<(), StoreError> {
        change.state = change_step(change.state, step).map_err(|why| self.illegal("change", change.change, change.state, why))?;
        change.since = self.envelope.at;
        Ok(())
    }
}

fn apply_run(at: &mut At<'_>) -> Result<(), StoreError> {
    if let Event::RunStarted { run, project, root, goal, target, landing_ref, base, slots, rules } = &at.envelope.event {
        at.is_new(ViewKind::Run, "run", &run.to_string())?;
        let view = RunView {
            run: *run,
            project: *project,
            root: root.clone(),
            goal: goal.clone(),
            target: target.clone(),
            landing_ref: landing_ref.clone(),
            base: base.clone(),
            tip: base.clone(),
            slots: *slots,
            rules: rules.clone(),
            state: RunState::Running,
            stop_now: false,
            started: at.envelope.at,
            since: at.envelope.at,
            first: at.envelope.position,
            down: Vec::new(),
        };
        return at.put(&run.to_string(), Some(*run), &view);
    }
    let (run, step) = match &at.envelope.event {
        Event::RunStopRequested { run, .. } => (*run, RunStep::RequestStop),
        Event::RunPaused { run } => (*run, RunStep::Pause),
        Event::RunStopped { run } => (*run, RunStep::Stop),
        Event::RunResumed { run, .. } => (*run, RunStep::Resume),
        Event::RunEnded { run, .. } => (*run, RunStep::End),
        _ => return Ok(()),
    };
    let mut view = at.run(run)?;
    view.state = run_step(view.state, step).map_err(|why| at.illegal("run", run, view.state, why))?;
    view.since = at.envelope.at;
    view.stop_now = match &at.envelope.event {
        Event::RunStopRequested { now, .. } => view.stop_now || *now,
        _ => false,
    };
    if matches!(step, RunStep::Stop | RunStep::Resume | RunStep::End) {
        // Which providers are left alone is known to the worker only, and forgotten with it.
        view.down.clear();
    }
    at.put(&run.to_string(), Some(run), &view)
}

fn open_task(at: &mut At<'_>) -> Result<(), StoreError> {
    let Event::TaskOpened { run, task, spec } = &at.envelope.event else { return Ok(()) };
    at.is_new(ViewKind::Task, "task", &task.to_string())?;
    at.run(*run)?;
    let view = TaskView {
        task: *task,
        run: *run,
        spec: spec.clone(),
        state: TaskState::Open,
        since: at.envelope.at,
        why: None,
        agent: None,
        incarnation: None,
        fence: 0,
        attempt: 0,
        workspace: None,
        base: None,
        conflicts: Vec::new(),
        session: None,
        turn: 0,
        restarts: 0,
        change: None,
        returns: 0,
        returned: None,
        evidence: None,
        snapshot: None,
        landed: None,
        cancel_requested: false,
        released: false,
        plan: None,
        edited: false,
        undoes: Vec::new(),
        first_base: None,
        view: None,
        conflicted: Vec::new(),
        asked_of_dropped: false,
        kept: None,
    };
    at.put_task(&view)
}

fn apply_task(at: &mut At<'_>) -> Result<(), StoreError> {
    let (task, step) = match &at.envelope.event {
        Event::TaskReady { task } => (*task, TaskStep::Ready),
        Event::TaskClaimed { .. } => return claim_task(at),
        Event::FinishedWithoutSubmit { task } => (*task, TaskStep::NoSubmit),
        Event::TaskWaits { task, .. } => (*task, TaskStep::Wait),
        Event::TaskHeld { task } => (*task, TaskStep::Hold),
        Event::TaskReleased { task } => (*task, TaskStep::Release),
        Event::TaskRetried { task } => (*task, TaskStep::Retry),
        Event::TaskClosed { task, outcome } => (
            *task,
            match outcome {
                TaskOutcome::Landed { .. } => TaskStep::Land,
                TaskOutcome::Failed { .. } => TaskStep::Fail,
                TaskOutcome::Cancelled => TaskStep::Cancel,
                TaskOutcome::Taken { .. } => TaskStep::Take,
                TaskOutcome::Answered => TaskStep::Answer,
            },
        ),
        Event::TaskCancelRequested { task } => {
            let mut view = at.task(*task)?;
            if view.state.is_closed() {
                return Err(at.illegal("task", &view.spec.key, view.state, "it is closed"));
            }
            view.cancel_requested = true;
            return at.put_task(&view);
        }
        _ => return open_task(at),
    };
    let mut view = at.task(task)?;
    at.step_task(&mut view, step)?;
    view.why = match &at.envelope.event {
        Event::TaskWaits { why, .. } | Event::TaskClosed { outcome: TaskOutcome::Failed { why }, .. } => Some(why.clone()),
        Event::FinishedWithoutSubmit { .. } => Some("the agent ended its turn twice without submitting".to_owned()),
        Event::TaskHeld { .. } | Event::TaskClosed { outcome: TaskOutcome::Landed { .. }, .. } => what_it_dropped(at, &view)?,
        _ => None,
    };
    if step == TaskStep::Retry {
        (view.returns, view.restarts) = (0, 0);
        view.plan.iter_mut().for_each(|plan| plan.rejected = 0);
    }
    view.released |= step == TaskStep::Release;
    if let Event::TaskClosed { outcome: TaskOutcome::Landed { commit }, .. } = &at.envelope.event {
        landed_is_the_changes(at, &view, commit)?;
        view.landed = Some(commit.clone());
    }
    at.put_task(&view)
}

/// Says which lines of others the task's change leaves out, when it does.
fn what_it_dropped(at: &mut At<'_>, task: &TaskView) -> Result<Option<String>, StoreError> {
    let change = task.change.map(|change| at.change(change)).transpose()?;
    Ok(change.filter(|change| !change.dropped.is_empty()).map(|change| ReturnReason::Dropped { lines: change.dropped }.to_string()))
}

/// A task may only be closed as landed with the commit that its change landed as.
fn landed_is_the_changes(at: &mut At<'_>, task: &TaskView, commit: &crate::ids::CommitId) -> Result<(), StoreError> {
    let change = task.change.map(|change| at.change(change)).transpose()?;
    match change {
        Some(change) if change.landed.as_ref() == Some(commit) => Ok(()),
        _ => Err(at.illegal("task", &task.spec.key, task.state, "its change has not landed as that commit")),
    }
}

fn claim_task(at: &mut At<'_>) -> Result<(), StoreError> {
    let Event::TaskClaimed { task, agent, incarnation, fence, attempt } = &at.envelope.event else { return Ok(()) };
    let mut view = at.task(*task)?;
    let step = TaskStep::Claim { fence: *fence, last: view.fence };
    at.step_task(&mut view, step)?;
    (view.agent, view.incarnation, view.fence, view.attempt) = (Some(agent.clone()), Some(*incarnation), *fence, *attempt);
    at.put_task(&view)?;
    let key = agent_key(view.run, agent.as_str());
    let worker = AgentView {
        agent: agent.clone(),
        run: view.run,
        task: *task,
        key: view.spec.key.to_string(),
        incarnation: *incarnation,
        state: AgentState::Starting,
        since: at.envelope.at,
        process: None,
        turn: view.turn,
        ended: None,
        held_up: None,
        switched: None,
    };
    at.put(&key, Some(view.run), &worker)
}

/// Returns the key of an agent's view.
pub fn agent_key(run: RunId, agent: &str) -> String {
    format!("{run}/{agent}")
}

fn apply_agent(at: &mut At<'_>) -> Result<(), StoreError> {
    let task = match &at.envelope.event {
        Event::WorkspaceReady { task, .. }
        | Event::BoxReady { task, .. }
        | Event::AgentStarted { task, .. }
        | Event::TurnStarted { task, .. }
        | Event::AgentHeldUp { task, .. }
        | Event::TurnEnded { task, .. }
        | Event::SnapshotTaken { task, .. }
        | Event::WorkspaceKept { task, .. }
        | Event::AgentEnded { task, .. } => *task,
        _ => return Ok(()),
    };
    let mut view = at.task(task)?;
    match &at.envelope.event {
        Event::WorkspaceReady { path, base, attempt, conflicts, view: part, .. } => {
            view.view.clone_from(part);
            (view.workspace, view.base, view.attempt) = (Some(path.clone()), Some(base.clone()), *attempt);
            view.conflicts.clone_from(conflicts);
            view.first_base.get_or_insert_with(|| base.clone());
            let fresh: Vec<String> = conflicts.iter().filter(|path| !view.conflicted.contains(path)).cloned().collect();
            view.conflicted.extend(fresh);
        }
        Event::AgentStarted { session, .. } => view.session = Some(session.clone()),
        Event::TurnStarted { turn, .. } => view.turn = *turn,
        // The prompt that told it has been answered.
        Event::TurnEnded { .. } => view.edited = false,
        Event::SnapshotTaken { commit, .. } => view.snapshot = Some(commit.clone()),
        Event::WorkspaceKept { why, .. } => view.kept.clone_from(why),
        Event::AgentEnded { failed: true, .. } => view.restarts += 1,
        _ => {}
    }
    at.put_task(&view)?;
    let named = match &at.envelope.event {
        Event::BoxReady { incarnation, .. }
        | Event::AgentStarted { incarnation, .. }
        | Event::TurnStarted { incarnation, .. }
        | Event::AgentHeldUp { incarnation, .. }
        | Event::TurnEnded { incarnation, .. }
        | Event::AgentEnded { incarnation, .. } => *incarnation,
        _ => return Ok(()),
    };
    let Some(name) = &view.agent else { return Err(at.illegal("task", &view.spec.key, view.state, "no agent has claimed it")) };
    let key = agent_key(view.run, name.as_str());
    let mut agent: AgentView = at.get("agent", &key)?;
    if agent.incarnation != named {
        // A late word from an earlier life changes nothing of the present one.
        return Ok(());
    }
    if agent.state == AgentState::Ended {
        return Err(at.illegal("agent", name, agent.state, "its process has ended"));
    }
    agent.held_up = None;
    match &at.envelope.event {
        Event::AgentHeldUp { why, .. } => agent.held_up.clone_from(why),
        Event::BoxReady { pid, pid_start, .. } => agent.process = Some((*pid, *pid_start)),
        Event::AgentStarted { .. } | Event::TurnEnded { .. } => agent.state = AgentState::BetweenTurns,
        Event::TurnStarted { turn, .. } => (agent.state, agent.turn) = (AgentState::InTurn, *turn),
        Event::AgentEnded { why, .. } => (agent.state, agent.process, agent.ended) = (AgentState::Ended, None, Some(why.clone())),
        _ => {}
    }
    agent.since = at.envelope.at;
    at.put(&key, Some(view.run), &agent)
}
