//! Plans, stores and a landing of events only.

use std::collections::BTreeMap;
use std::sync::Arc;

use aedile_core::clock::{SeededEntropy, SteppingClock};
use aedile_core::event::{Envelope, Event, Position, ReturnReason, TaskOutcome};
use aedile_core::machine::ChangeState;
use aedile_core::project::ProjectRules;
use aedile_core::store::{Append, Store, list};
use aedile_core::task::TaskSpec;
use aedile_core::view::{ChangeView, RunView, TaskView};
use aedile_core::{Clock, CommitId, Entropy, ProjectId, RefName, RunId, TaskKey, TreeId};
use aedile_fleet::plan::RunPlan;
use aedile_store::MemoryStore;

pub(crate) fn clock() -> Arc<dyn Clock> {
    Arc::new(SteppingClock::default())
}

pub(crate) fn entropy() -> Arc<dyn Entropy> {
    Arc::new(SeededEntropy::new(7))
}

pub(crate) fn store() -> Arc<dyn Store> {
    Arc::new(MemoryStore::new(clock()))
}

pub(crate) fn commit(number: u64) -> CommitId {
    CommitId::new(format!("{number:040x}")).unwrap()
}

pub(crate) fn task(key: &str, scope: &str, after: &[&str]) -> TaskSpec {
    TaskSpec {
        key: TaskKey::new(key).unwrap(),
        title: format!("Do {key}"),
        prompt: format!("Please do {key}."),
        read: Vec::new(),
        scope: vec![scope.to_owned()],
        after: after.iter().map(|key| TaskKey::new(*key).unwrap()).collect(),
        gates: Vec::new(),
        role: "builder".to_owned(),
        runtime: "fake".to_owned(),
        model: "script/test".parse().unwrap(),
        budget_usd: None,
        script: None,
    }
}

pub(crate) fn plan(tasks: Vec<TaskSpec>, slots: u32) -> RunPlan {
    RunPlan {
        project: ProjectId::new(&SteppingClock::default(), &SeededEntropy::new(1)),
        root: "/project".into(),
        goal: "a goal".to_owned(),
        target: "main".to_owned(),
        landing_ref: RefName::new("refs/heads/main").unwrap(),
        base: commit(1),
        slots,
        rules: ProjectRules::default(),
        tasks,
    }
}

pub(crate) fn open(store: &dyn Store, plan: &RunPlan) -> RunId {
    // Real randomness is not needed: one run to a store.
    aedile_fleet::open_run(store, clock().as_ref(), entropy().as_ref(), plan).unwrap()
}

pub(crate) fn events(store: &dyn Store) -> Vec<Envelope> {
    let mut all: Vec<Envelope> = Vec::new();
    loop {
        let after = all.last().map_or(Position::default(), |last| last.position);
        let more = store.read(after, 1000).unwrap();
        if more.is_empty() {
            return all;
        }
        all.extend(more);
    }
}

pub(crate) fn view(store: &dyn Store, run: RunId, key: &str) -> TaskView {
    aedile_fleet::find_task(store, run, key).unwrap()
}

pub(crate) fn names(store: &dyn Store) -> Vec<&'static str> {
    events(store).iter().map(|envelope| envelope.event.name()).collect()
}

/// What a landing of events only does with the changes of a task.
#[derive(Clone, Default)]
pub(crate) struct Landing {
    /// The first changes of these tasks come back so.
    pub(crate) returns: BTreeMap<String, Vec<ReturnReason>>,
    /// These tasks' changes stay in the queue.
    pub(crate) stuck: Vec<String>,
}

impl Landing {
    /// Takes every change that is in the queue to its end.
    pub(crate) fn work(&mut self, store: &dyn Store, run: RunId) {
        for change in list::<ChangeView>(store, Some(run)).unwrap() {
            let task = list::<TaskView>(store, Some(run)).unwrap().into_iter().find(|task| task.task == change.task).unwrap();
            if change.state != ChangeState::Submitted
                || task.change != Some(change.change)
                || self.stuck.contains(&task.spec.key.to_string())
            {
                continue;
            }
            let back = self.returns.get_mut(task.spec.key.as_str()).filter(|left| !left.is_empty()).map(|left| left.remove(0));
            match back {
                Some(reason) => {
                    let evidence = Some(store.put_blob(b"line 7: it is red").unwrap());
                    store.append(Append::of(run, Event::ChangeReturned { change: change.change, reason, evidence })).unwrap();
                }
                // A cancelled task is nobody's to land.
                None => drop(store.append(land(store, run, &change))),
            }
        }
    }
}

fn land(store: &dyn Store, run: RunId, change: &ChangeView) -> Append {
    let view: RunView = aedile_core::store::load(store, &run.to_string()).unwrap().unwrap();
    let old = view.tip.clone();
    let new = commit(1_000_000 + store.last().unwrap().0);
    let tree = TreeId::new(format!("{:040x}", store.last().unwrap().0)).unwrap();
    let change = change.change;
    let task = list::<ChangeView>(store, Some(run)).unwrap().into_iter().find(|of| of.change == change).unwrap().task;
    let landing_ref = view.landing_ref;
    Append::of(run, Event::ChangeImported { change, paths: 1, commit: None })
        .and(Event::Gated { change, tree: tree.clone(), onto: old.clone(), gates: Vec::new(), passed: None })
        .and(Event::LandIntended { change, landing_ref: landing_ref.clone(), old: old.clone(), new: new.clone(), tree })
        .and(Event::Landed { change, landing_ref, old, new: new.clone() })
        .and(Event::TaskClosed { task, outcome: TaskOutcome::Landed { commit: new } })
}
