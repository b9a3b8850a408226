//! The store, the worker, the person; what must hold at the end.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use aedile_core::clock::{SeededEntropy, SteppingClock};
use aedile_core::event::{Event, Position, TaskOutcome};
use aedile_core::limits::LEASE;
use aedile_core::machine::{AgentState, ChangeState, RunState, TaskState};
use aedile_core::store::{Append, ClaimRequest, Fence, Store, StoreError, list, load};
use aedile_core::view::{AgentView, ChangeView, RunView, TaskView};
use aedile_core::{CommitId, Entropy, RunId, TaskId, TreeId};
use aedile_fleet::picture::{RunPicture, UnitPhase};
use aedile_fleet::{Action, decide, steps};
use aedile_store::{Crash, MemoryStore};

use super::landing::Git;
use super::units::SimUnit;
use crate::support;

/// Random numbers of one history.
pub(super) struct Random(SeededEntropy);

impl Random {
    pub(super) fn below(&self, limit: u64) -> u64 {
        let mut bytes = [0; 8];
        self.0.fill(&mut bytes);
        u64::from_le_bytes(bytes) % limit
    }

    pub(super) fn once_in(&self, times: u64) -> bool {
        self.below(times) == 0
    }

    pub(super) fn pick<'a, T>(&self, all: &'a [T]) -> Option<&'a T> {
        (!all.is_empty()).then(|| &all[self.below(all.len() as u64) as usize])
    }
}

/// A worker that lives.
pub(super) struct Worker {
    pub(super) fence: Fence,
    pub(super) picture: RunPicture,
    pub(super) units: BTreeMap<TaskId, SimUnit>,
    /// The end of the log and the units at the last look.
    looked: Option<(Position, BTreeMap<TaskId, UnitPhase>)>,
}

pub(super) struct World {
    pub(super) random: Random,
    pub(super) clock: Arc<SteppingClock>,
    pub(super) ids: SeededEntropy,
    pub(super) store: MemoryStore,
    pub(super) run: RunId,
    pub(super) worker: Option<Worker>,
    pub(super) git: Git,
    pub(super) calm: bool,
    /// The log's end when the landing last found nothing to do.
    pub(super) idle: Position,
    ended: bool,
    was_calm: bool,
    life: u32,
}

impl World {
    pub(super) fn new(seed: u64) -> Self {
        let random = Random(SeededEntropy::new(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15)));
        let clock = Arc::new(SteppingClock::default());
        let store = MemoryStore::new(Arc::<SteppingClock>::clone(&clock));
        let ids = SeededEntropy::new(seed);
        let keys = ["a", "b", "c"];
        let tasks = keys[..1 + random.below(5) as usize / 2].iter().enumerate().map(|(at, key)| {
            let after: Vec<&str> = keys[..at].iter().copied().filter(|_| random.once_in(4)).collect();
            support::task(key, ["x/**", "y/**", "x/z.rs"][random.below(3) as usize], &after)
        });
        let mut plan = support::plan(tasks.collect(), 1);
        plan.slots = 1 + random.below(3) as u32;
        let run = aedile_fleet::open_run(&store, clock.as_ref(), &ids, &plan).unwrap();
        let mut world = Self {
            random,
            clock,
            ids,
            store,
            run,
            worker: None,
            git: Git::new(support::commit(1)),
            calm: false,
            idle: Position(0),
            ended: false,
            was_calm: false,
            life: 0,
        };
        world.rearm();
        world
    }

    /// Something happens.
    pub(super) fn step(&mut self) {
        let done = match self.random.below(if self.calm { 18 } else { 20 }) {
            0..=5 => self.worker_step(),
            6..=12 => self.unit_step(),
            13..=17 => self.landing_step(),
            18 => self.person(),
            _ => Err(StoreError::Backend("killed".to_owned())),
        };
        match done {
            Ok(()) => {}
            // The process has ended, whatever it was doing.
            Err(StoreError::Backend(_)) => self.rearm(),
            Err(error) => panic!("{error}"),
        }
    }

    /// A process begins; when there is no peace yet, it may be one that dies at some append.
    fn rearm(&mut self) {
        self.worker = None;
        self.life += 1;
        self.store = self.store.reopen();
        if !self.calm && self.random.once_in(2) {
            let kind = [Crash::BeforeWrite, Crash::BeforeReply, Crash::AfterReply][self.random.below(3) as usize];
            let at = 1 + self.random.below(15);
            self.store = self.store.reopen().with_crash_after(at, kind);
        }
    }

    pub(super) fn holder(&self) -> String {
        format!("life-{}", self.life)
    }

    pub(super) fn claim(&self, name: String) -> Result<Fence, StoreError> {
        let dead = (0..self.life).map(|life| format!("life-{life}")).collect();
        self.store.claim(&ClaimRequest { name, holder: self.holder(), ttl: LEASE, dead })
    }

    /// Appends what may have been overtaken by another.
    pub(super) fn try_append(&self, append: Append) -> Result<bool, StoreError> {
        match self.store.append(append) {
            Ok(_) => Ok(true),
            Err(StoreError::Illegal(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn worker_step(&mut self) -> Result<(), StoreError> {
        let Some(mut worker) = self.worker.take() else { return self.begin() };
        let seen = (self.store.last()?, worker.picture.units.clone());
        if self.calm && worker.looked.as_ref() == Some(&seen) {
            // Nothing has changed, so the same decision would be taken again.
            self.worker = Some(worker);
            return Ok(());
        }
        worker.picture.refresh(&self.store)?;
        if matches!(worker.picture.run.state, RunState::Stopped | RunState::Ended) {
            assert!(worker.units.is_empty(), "the run ended with agents at work");
            self.ended = worker.picture.run.state == RunState::Ended;
            return self.store.release(&worker.fence);
        }
        let actions = decide(&worker.picture, aedile_core::Clock::now(self.clock.as_ref()));
        worker.looked = actions.is_empty().then_some(seen);
        for action in actions {
            self.act(&mut worker, action)?;
        }
        self.worker = Some(worker);
        Ok(())
    }

    fn begin(&mut self) -> Result<(), StoreError> {
        let run: RunView = load(&self.store, &self.run.to_string())?.unwrap();
        if run.state == RunState::Ended || (run.state == RunState::Stopped && !self.calm && !self.random.once_in(3)) {
            return Ok(());
        }
        let fence = self.claim(steps::run_claim(self.run))?;
        aedile_fleet::recover::take_over(&self.store, &self.holder(), &|_, _| {}, &run, &fence)?;
        let mut picture = RunPicture::load(&self.store, self.run)?.unwrap();
        picture.pace.restart_backoff = std::time::Duration::ZERO;
        self.worker = Some(Worker { fence, picture, units: BTreeMap::new(), looked: None });
        Ok(())
    }

    fn act(&mut self, worker: &mut Worker, action: Action) -> Result<(), StoreError> {
        let run = self.run;
        match action {
            Action::Start { task } => return self.start(worker, task),
            Action::EndUnit { task, how, .. } => {
                worker.units.get_mut(&task).unwrap().told = Some(how);
                let phase = if how == aedile_fleet::decide::Ending::Now { UnitPhase::Ending } else { UnitPhase::Finishing };
                worker.picture.units.insert(task, phase);
            }
            Action::Tidy { task } => drop(worker.picture.tidied.insert(task)),
            Action::Cancel { task } => {
                let view: TaskView = load(&self.store, &task.to_string())?.unwrap();
                let change = view.change.map(|change| load::<ChangeView>(&self.store, &change.to_string())).transpose()?.flatten();
                self.try_append(steps::cancel(&view, change.as_ref(), &worker.fence))?;
            }
            Action::Fail { task, why } => {
                let closed = Event::TaskClosed { task, outcome: TaskOutcome::Failed { why } };
                self.try_append(Append::of(run, closed).fenced(&worker.fence))?;
            }
            Action::Wait { task, why } => drop(self.try_append(Append::of(run, Event::TaskWaits { task, why }).fenced(&worker.fence))?),
            Action::StopRun => drop(self.try_append(Append::of(run, Event::RunStopped { run }).fenced(&worker.fence))?),
            Action::EndRun { landed, failed } => {
                self.try_append(Append::of(run, Event::RunEnded { run, landed, failed }).fenced(&worker.fence))?;
            }
        }
        Ok(())
    }

    /// A person does something without a worker: the store alone is asked.
    fn person(&mut self) -> Result<(), StoreError> {
        let tasks: Vec<TaskView> = list(&self.store, Some(self.run))?;
        let Some(task) = self.random.pick(&tasks) else { return Ok(()) };
        let key = task.spec.key.to_string();
        let done = match self.random.below(5) {
            0 => aedile_fleet::cancel_task(&self.store, self.run, &key).map(drop),
            1 | 2 => aedile_fleet::retry_task(&self.store, self.run, &key).map(drop),
            now => aedile_fleet::request_stop(&self.store, self.run, now == 3),
        };
        match done {
            Err(aedile_fleet::CommandError::Store(error)) => Err(error),
            _ => Ok(()),
        }
    }

    /// Nothing goes wrong any more, and the person answers every question: everything must come to its end.
    pub(super) fn calm_down(&mut self) {
        self.calm = true;
        self.rearm();
        self.go_on();
        for _ in 0..3000 {
            self.step();
            if std::mem::take(&mut self.ended) && !self.go_on() {
                return;
            }
        }
        panic!("it does not come to an end: {:?}", support::names(&self.store));
    }

    /// Retries what waits for a person and resumes the run, unless it has ended for good.
    fn go_on(&mut self) -> bool {
        let mut asked = false;
        for task in list::<TaskView>(&self.store, Some(self.run)).unwrap() {
            if task.state.needs_person() {
                asked = true;
                aedile_fleet::retry_task(&self.store, self.run, task.spec.key.as_str()).unwrap();
            }
        }
        let run: RunView = load(&self.store, &self.run.to_string()).unwrap().unwrap();
        let goes_on = asked || run.state != RunState::Ended || !self.was_calm;
        if goes_on {
            let resumed = Event::RunResumed { run: self.run, worker: "calm".to_owned() };
            self.store.append(Append::of(self.run, resumed)).unwrap();
        }
        self.was_calm = true;
        goes_on
    }

    /// What must hold whatever happened.
    pub(super) fn check(&self) {
        let tasks: Vec<TaskView> = list(&self.store, Some(self.run)).unwrap();
        self.check_tasks(&tasks);
        let agents: Vec<AgentView> = list(&self.store, Some(self.run)).unwrap();
        assert!(agents.iter().all(|agent| agent.state == AgentState::Ended), "an agent's name is wedged: {agents:?}");
        let run: RunView = load(&self.store, &self.run.to_string()).unwrap().unwrap();
        assert_eq!(run.tip, self.git.tip(), "the log does not know where the target is");
        self.check_log();
    }

    fn check_tasks(&self, tasks: &[TaskView]) {
        let cancelled = |key: &aedile_core::TaskKey| tasks.iter().any(|task| task.spec.key == *key && never(tasks, task));
        for task in tasks {
            let lost = match task.state {
                TaskState::Landed => false,
                TaskState::Cancelled => !task.cancel_requested,
                TaskState::Open => !task.spec.after.iter().any(&cancelled),
                _ => true,
            };
            assert!(!lost, "task {} is lost: it is {} ({:?})", task.spec.key, task.state, task.why);
        }
        for change in list::<ChangeView>(&self.store, Some(self.run)).unwrap() {
            let of = tasks.iter().find(|task| task.task == change.task).unwrap();
            // Only a change that its task no longer has may be left where it was.
            let settled = matches!(change.state, ChangeState::Landed | ChangeState::Returned);
            assert!(settled || of.change != Some(change.change), "a change is lost: it is {}", change.state);
        }
    }

    fn check_log(&self) {
        let mut fences: BTreeMap<TaskId, u64> = BTreeMap::new();
        let mut gated: BTreeSet<(String, TreeId, CommitId)> = BTreeSet::new();
        let mut moved = self.git.moves.iter();
        let mut closed = BTreeSet::new();
        for envelope in support::events(&self.store) {
            match envelope.event {
                Event::TaskClaimed { task, fence, .. } => {
                    let last = fences.insert(task, fence);
                    assert!(last < Some(fence), "a fence went back from {last:?} to {fence}");
                }
                Event::Gated { change, tree, onto, .. } => drop(gated.insert((change.to_string(), tree, onto))),
                Event::Landed { change, old, new, .. } => {
                    let Some(at) = moved.next() else { panic!("a landing is written down that did not happen") };
                    assert_eq!((&at.change, &at.old, &at.new), (&change, &old, &new), "landings are told in another order");
                    assert!(gated.contains(&(change.to_string(), at.tree.clone(), old)), "the target went to a tree that no gate saw");
                }
                Event::TaskClosed { task, outcome } => {
                    assert!(closed.insert(task), "a task was closed twice");
                    assert!(!matches!(outcome, TaskOutcome::Failed { .. }));
                }
                _ => {}
            }
        }
        assert!(moved.next().is_none(), "a landing is missing in the log");
        let changes: BTreeSet<String> = self.git.moves.iter().map(|moved| moved.change.to_string()).collect();
        assert_eq!(changes.len(), self.git.moves.len(), "a change landed twice");
        let works: BTreeSet<TaskId> = self.git.moves.iter().map(|moved| moved.task).collect();
        assert_eq!(works.len(), self.git.moves.len(), "a task landed twice");
        for pair in self.git.moves.windows(2) {
            assert_eq!(pair[0].new, pair[1].old, "the target went back");
        }
    }
}

/// Whether the task can never land: it is cancelled, or needs one that is.
fn never(tasks: &[TaskView], task: &TaskView) -> bool {
    task.state == TaskState::Cancelled
        || (task.state == TaskState::Open && tasks.iter().any(|of| task.spec.after.contains(&of.spec.key) && never(tasks, of)))
}
