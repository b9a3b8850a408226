//! Everything about one run that people want to see at once.

use std::collections::HashMap;

use aedile_core::apply::inbox_key;
use aedile_core::machine::TaskState;
use aedile_core::store::{Store, StoreError, list, load};
use aedile_core::view::{AgentView, ChangeView, CostView, InboxView, RunView, TaskView};
use aedile_core::{Clock, MicroUsd, TaskId, Timestamp};
use aedile_fleet::steps::run_claim;
use aedile_fleet::{RunPicture, waits_for};

use crate::clock::SystemClock;
use crate::host;
use aedile_fleet::mail::PERSON;

/// A run with all that belongs to it.
#[derive(Debug)]
pub struct Picture {
    /// The run.
    pub run: RunView,
    /// Its tasks, in the order of the tasks file.
    pub tasks: Vec<TaskView>,
    /// Its agents.
    pub agents: Vec<AgentView>,
    /// Its changes.
    pub changes: Vec<ChangeView>,
    /// Unread mail for the person.
    pub mail_for_person: u64,
    /// Who drives it, in words; `None` when nobody is known to: it is over, or its worker is gone.
    pub worker: Option<String>,
    spent: HashMap<TaskId, (u64, MicroUsd)>,
    fleet: Option<RunPicture>,
}

/// Who drives the run, in words: the holder of its claim, unless that is proved dead or the claim has run out.
pub fn worker_of(store: &dyn Store, run: &RunView) -> Result<Option<String>, StoreError> {
    let name = run_claim(run.run);
    let claim = store.claims(&name)?.into_iter().find(|claim| claim.name == name && claim.expires > SystemClock.now());
    Ok(claim.filter(|claim| !host::is_dead(&claim.holder)).map(|claim| host::describe(&claim.holder)))
}

impl Picture {
    /// Reads the views of a run.
    pub fn of(store: &dyn Store, run: RunView) -> Result<Self, StoreError> {
        let id = Some(run.run);
        let mut spent: HashMap<TaskId, (u64, MicroUsd)> = HashMap::new();
        for cost in list::<CostView>(store, id)? {
            let sum = spent.entry(cost.task).or_default();
            *sum = (sum.0 + cost.usage.total() + cost.estimated_tokens, sum.1.plus(cost.usd));
        }
        let inbox: Option<InboxView> = load(store, &inbox_key(run.run, PERSON))?;
        let fleet = RunPicture::load(store, run.run)?;
        Ok(Self {
            tasks: fleet.iter().flat_map(|fleet| &fleet.tasks).map(|task| task.view.clone()).collect(),
            agents: fleet.iter().flat_map(|fleet| &fleet.agents).cloned().collect(),
            fleet,
            changes: list(store, id)?,
            worker: worker_of(store, &run)?,
            mail_for_person: inbox.map_or(0, |inbox| inbox.unread),
            spent,
            run,
        })
    }

    /// Tokens and money spent on a task.
    pub fn spent(&self, task: TaskId) -> (u64, MicroUsd) {
        self.spent.get(&task).copied().unwrap_or_default()
    }

    /// Tasks that have landed.
    pub fn landed(&self) -> usize {
        self.tasks.iter().filter(|task| task.state == TaskState::Landed).count()
    }

    /// Tasks whose result lands, or would: all but the one that plans.
    pub fn to_land(&self) -> usize {
        self.tasks.iter().filter(|task| !task.spec.is_plan()).count()
    }

    /// A task's key.
    pub fn key(&self, task: TaskId) -> &str {
        self.tasks.iter().find(|known| known.task == task).map_or("?", |known| known.spec.key.as_str())
    }

    /// What a task waits for and since when; empty words when it waits for nothing.
    pub fn waits(&self, task: &TaskView) -> (String, Timestamp) {
        let waits = self.fleet.as_ref().and_then(|fleet| waits_for(fleet, task.task, SystemClock.now()));
        waits.map_or((String::new(), task.since), |waits| (waits.reason.unwrap_or_default(), waits.since))
    }

    /// What a task waits for, in words.
    pub fn waits_for(&self, task: &TaskView) -> String {
        self.waits(task).0
    }
}
