//! The landing and git's side of it, reduced to what the store sees. Git survives every crash.

use aedile_core::event::{Event, ReturnReason, TaskOutcome};
use aedile_core::machine::{ChangeState, TaskState};
use aedile_core::store::{Append, Store, StoreError, list, load};
use aedile_core::view::{ChangeView, Intent, TaskView};
use aedile_core::{ChangeId, CommitId, RefName, TaskId, TreeId};

use super::world::World;
use crate::support;

pub(super) struct Moved {
    pub(super) change: ChangeId,
    pub(super) task: TaskId,
    pub(super) tree: TreeId,
    pub(super) old: CommitId,
    pub(super) new: CommitId,
}

pub(super) struct Git {
    base: CommitId,
    pub(super) moves: Vec<Moved>,
    commits: u64,
}

impl Git {
    pub(super) fn new(base: CommitId) -> Self {
        Self { base, moves: Vec::new(), commits: 100 }
    }

    pub(super) fn tip(&self) -> CommitId {
        self.moves.last().map_or_else(|| self.base.clone(), |moved| moved.new.clone())
    }

    fn commit(&mut self) -> CommitId {
        self.commits += 1;
        support::commit(self.commits)
    }
}

impl World {
    /// One step of one change.
    pub(super) fn landing_step(&mut self) -> Result<(), StoreError> {
        let last = self.store.last()?;
        if last == self.idle {
            return Ok(());
        }
        let changes: Vec<ChangeView> = list(&self.store, Some(self.run))?;
        let open: Vec<ChangeView> =
            changes.into_iter().filter(|change| !matches!(change.state, ChangeState::Landed | ChangeState::Returned)).collect();
        let Some(change) = self.random.pick(&open).cloned() else {
            self.idle = last;
            return Ok(());
        };
        let task: TaskView = load(&self.store, &change.task.to_string())?.unwrap();
        let wanted = task.state == TaskState::Submitted && task.change == Some(change.change) && !task.cancel_requested;
        if change.state != ChangeState::Intended && !wanted {
            return Ok(());
        }
        if change.state != ChangeState::Intended && !self.calm && self.random.once_in(6) {
            return self.send_back(&change);
        }
        let id = change.change;
        match change.state {
            ChangeState::Submitted => self.landing(Append::of(self.run, Event::ChangeImported { change: id, paths: 1, commit: None })),
            ChangeState::Imported => self.gate(&change),
            ChangeState::Gated => self.intend(&change),
            ChangeState::Intended => self.move_ref(&change, &task),
            ChangeState::Landed | ChangeState::Returned => Ok(()),
        }
    }

    fn landing(&self, append: Append) -> Result<(), StoreError> {
        self.try_append(append).map(drop)
    }

    fn send_back(&mut self, change: &ChangeView) -> Result<(), StoreError> {
        let reasons = [
            ReturnReason::Gate { gate: "test".to_owned() },
            ReturnReason::Conflict { paths: vec!["x/z.rs".to_owned()] },
            ReturnReason::Protected { paths: vec!["aedile.toml".to_owned()] },
            ReturnReason::Empty,
        ];
        let reason = self.random.pick(&reasons).unwrap().clone();
        self.landing(Append::of(self.run, Event::ChangeReturned { change: change.change, reason, evidence: None }))
    }

    fn gate(&mut self, change: &ChangeView) -> Result<(), StoreError> {
        let tree = TreeId::new(self.git.commit().as_str()).unwrap();
        self.landing(Append::of(
            self.run,
            Event::Gated { change: change.change, tree, onto: self.git.tip(), gates: Vec::new(), passed: None },
        ))
    }

    fn intend(&mut self, change: &ChangeView) -> Result<(), StoreError> {
        let gated = change.gated.clone().unwrap();
        // A target that has moved is noticed here, or only when the ref is to be moved.
        if gated.onto != self.git.tip() && self.random.once_in(2) {
            return self.gate(change);
        }
        let landing_ref = RefName::new("refs/heads/main").unwrap();
        let intended =
            Event::LandIntended { change: change.change, landing_ref, old: gated.onto, new: self.git.commit(), tree: gated.tree };
        self.landing(Append::of(self.run, intended))
    }

    /// Probes first; then compare-and-swap, and the outcome, unless the process ends between the two.
    fn move_ref(&mut self, change: &ChangeView, task: &TaskView) -> Result<(), StoreError> {
        let Intent { landing_ref, old, new } = change.intent.clone().unwrap();
        if !self.git.moves.iter().any(|moved| moved.new == new) {
            if self.git.tip() != old {
                return self
                    .landing(Append::of(self.run, Event::LandAbandoned { change: change.change, why: "the target moved".to_owned() }));
            }
            let tree = change.gated.clone().unwrap().tree;
            self.git.moves.push(Moved { change: change.change, task: task.task, tree, old: old.clone(), new: new.clone() });
            if !self.calm && self.random.once_in(4) {
                return Err(StoreError::Backend("killed".to_owned()));
            }
        }
        let landed = Append::of(self.run, Event::Landed { change: change.change, landing_ref, old, new: new.clone() });
        let append = match task.state {
            TaskState::Submitted => landed.and(Event::TaskClosed { task: task.task, outcome: TaskOutcome::Landed { commit: new } }),
            _ => landed,
        };
        assert!(self.try_append(append.once(format!("landed/{}", change.change)))?, "what has happened must be told");
        Ok(())
    }
}
