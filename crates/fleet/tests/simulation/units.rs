//! Agents: they submit, forget to, break, stall, and are told to end.

use std::path::PathBuf;

use aedile_core::event::Event;
use aedile_core::runtime::TurnStop;
use aedile_core::store::{Append, Fence, Store, StoreError, load};
use aedile_core::view::{ChangeView, TaskView};
use aedile_core::{AgentName, ChangeId, IncarnationId, SessionId, TaskId};
use aedile_fleet::decide::Ending;
use aedile_fleet::picture::UnitPhase;
use aedile_fleet::steps::{self, LifeEnd, Submission};

use super::world::{Worker, World};
use crate::support;

/// Where a simulated agent is in its life.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    Workspace,
    Start,
    InTurn,
    AfterTurn,
}

pub(super) struct SimUnit {
    task: TaskView,
    agent: AgentName,
    incarnation: IncarnationId,
    fence: Fence,
    stage: Stage,
    submitted: bool,
    idle_turns: u32,
    pub(super) told: Option<Ending>,
}

impl World {
    pub(super) fn start(&mut self, worker: &mut Worker, task: TaskId) -> Result<(), StoreError> {
        let fence = self.claim(steps::task_claim(task))?;
        let view: TaskView = load(&self.store, &task.to_string())?.unwrap();
        if !steps::claimable(&view) {
            return self.store.release(&fence);
        }
        self.check_paths(worker, &view);
        let change = view.change.map(|change| load::<ChangeView>(&self.store, &change.to_string())).transpose()?.flatten();
        let present = view.workspace.is_some() && !self.random.once_in(20);
        let fresh = steps::needs_workspace(&view, change.as_ref(), present, true);
        let attempt = view.attempt + u32::from(fresh);
        // One agent to a task is enough here: names have tests of their own.
        let agent = view.agent.clone().unwrap_or_else(|| AgentName::new(format!("agent-{}", view.spec.key)).unwrap());
        let incarnation = IncarnationId::new(self.clock.as_ref(), &self.ids);
        self.store.append(steps::claim(&view, &agent, incarnation, &fence, attempt))?;
        let view = TaskView { attempt, ..view };
        let stage = if fresh { Stage::Workspace } else { Stage::Start };
        let unit = SimUnit { task: view, agent, incarnation, fence, stage, submitted: false, idle_turns: 0, told: None };
        worker.units.insert(task, unit);
        worker.picture.units.insert(task, UnitPhase::Working);
        assert!(worker.units.len() <= worker.picture.slots(), "more agents than slots");
        Ok(())
    }

    /// Nobody else works on the paths of a task that is started.
    fn check_paths(&self, worker: &Worker, view: &TaskView) {
        let me = worker.picture.task(view.task).unwrap();
        for other in worker.units.values().filter(|other| other.task.task != view.task) {
            let of = worker.picture.task(other.task.task).unwrap();
            // An agent whose task is closed already only finishes its turn: nothing of it lands any more.
            assert!(of.view.state.is_closed() || !me.overlaps(of), "{} and {} work on the same paths", view.spec.key, other.task.spec.key);
        }
    }

    /// One step of one agent.
    pub(super) fn unit_step(&mut self) -> Result<(), StoreError> {
        let Some(mut worker) = self.worker.take() else { return Ok(()) };
        let ids: Vec<TaskId> = worker.units.keys().copied().collect();
        let end = match self.random.pick(&ids) {
            Some(id) => self.advance(worker.units.get_mut(id).unwrap())?.map(|end| (*id, end)),
            None => None,
        };
        if let Some((id, end)) = end {
            let unit = worker.units.remove(&id).unwrap();
            let end = if unit.submitted { LifeEnd::Submitted } else { end };
            self.store.append(steps::ended(&unit.task, &unit.agent, unit.incarnation, &end, &unit.fence))?;
            self.store.release(&unit.fence)?;
            worker.picture.units.remove(&id);
        }
        self.worker = Some(worker);
        Ok(())
    }

    fn advance(&mut self, unit: &mut SimUnit) -> Result<Option<LifeEnd>, StoreError> {
        if unit.told == Some(Ending::Now) {
            return Ok(Some(LifeEnd::Told("told".to_owned())));
        }
        if !self.calm && self.random.once_in(8) {
            return Ok(Some(LifeEnd::Failed("broken".to_owned())));
        }
        let (task, incarnation) = (unit.task.task, unit.incarnation);
        match unit.stage {
            Stage::Workspace => {
                let (path, base) = (PathBuf::from(format!("/w/{}/{}", unit.task.spec.key, unit.task.attempt)), self.git.tip());
                (unit.task.workspace, unit.task.base) = (Some(path.clone()), Some(base.clone()));
                let ready = Event::WorkspaceReady { task, attempt: unit.task.attempt, path, base, view: None, conflicts: Vec::new() };
                self.store.append(Append::of(self.run, ready).fenced(&unit.fence))?;
                unit.stage = Stage::Start;
            }
            Stage::Start => {
                let session = SessionId::new("session").unwrap();
                let prompt = aedile_core::BlobId::of(b"prompt");
                let ready = Append::of(self.run, Event::AgentStarted { task, agent: unit.agent.clone(), incarnation, session, prompt })
                    .and(Event::TurnStarted { task, incarnation, turn: unit.task.turn + 1 })
                    .fenced(&unit.fence);
                self.store.append(ready)?;
                unit.stage = Stage::InTurn;
            }
            Stage::InTurn => {
                if !unit.submitted && (self.calm || self.random.once_in(2)) {
                    self.submit(unit)?;
                } else {
                    unit.stage = Stage::AfterTurn;
                }
            }
            Stage::AfterTurn => return self.turn_ends(unit),
        }
        Ok(None)
    }

    fn submit(&self, unit: &mut SimUnit) -> Result<(), StoreError> {
        let change = ChangeId::new(self.clock.as_ref(), &self.ids);
        let what = Submission {
            commit: support::commit(7),
            summary: String::new(),
            left_out: Vec::new(),
            workspace: unit.task.workspace.clone().unwrap(),
            base: unit.task.base.clone().unwrap(),
        };
        let append = steps::submit(&unit.task, change, &unit.agent, unit.incarnation, what, &unit.fence);
        unit.submitted = self.try_append(append)?;
        unit.stage = Stage::AfterTurn;
        Ok(())
    }

    fn turn_ends(&self, unit: &mut SimUnit) -> Result<Option<LifeEnd>, StoreError> {
        let (task, incarnation) = (unit.task.task, unit.incarnation);
        let turn = unit.task.turn + 1;
        let ended = Event::TurnEnded { task, incarnation, turn, stop: TurnStop::EndTurn, detail: None, transcript: None };
        self.store.append(Append::of(self.run, ended).fenced(&unit.fence))?;
        unit.task.turn = turn;
        unit.idle_turns += 1;
        if unit.submitted || unit.told.is_some() {
            return Ok(Some(LifeEnd::Told("told".to_owned())));
        }
        if unit.idle_turns > 1 {
            return Ok(Some(LifeEnd::WithoutSubmit));
        }
        unit.stage = Stage::InTurn;
        Ok(None)
    }
}
