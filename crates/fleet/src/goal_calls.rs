//! What a planning agent asks through its door: to take its plan.

use std::sync::Arc;

use aedile_core::agent_api::AgentReply;
use aedile_core::event::Event;
use aedile_core::limits::PLAN_ROUNDS_MAX;
use aedile_core::plan::ProposedPlan;
use aedile_core::policy::LayerName;
use aedile_core::store::{Append, StoreError};
use aedile_core::{BlobId, crash};
use serde_json::Value;

use crate::api::{done, refused};
use crate::goal::{Ground, check};
use crate::unit::{Unit, blocking};

const TAKEN: &str = "The plan is taken. End your turn now: the person decides about it.";

/// What came of the plans of one life.
#[derive(Default)]
pub(crate) enum Planning {
    /// Nothing yet.
    #[default]
    Open,
    /// One passed the checks.
    Proposed,
    /// The last that may be handed in did not.
    GaveUp(String),
}

impl Unit {
    /// Checks a plan and writes down what came of it: proposed, or refused with the reasons, a bounded number of times.
    pub(crate) async fn plan_submit(&mut self, plan: Value) -> Result<AgentReply, StoreError> {
        if !self.task.spec.is_plan() {
            return Ok(refused("your task is not to make a plan: hand in your work with `submit`"));
        }
        match &self.planning {
            Planning::Proposed => return Ok(done(TAKEN)),
            Planning::GaveUp(_) => return Ok(over("no further plan is taken. End your turn now.".to_owned())),
            Planning::Open => {}
        }
        match self.examine(plan).await? {
            (blob, Ok(tasks)) => self.propose(blob, tasks).await,
            (blob, Err(reasons)) => self.reject(blob, reasons).await,
        }
    }

    /// Runs the checks against the code that the workspace holds; a plan that passes comes back as a blob with its number of tasks.
    async fn examine(&self, plan: Value) -> Result<(BlobId, Result<usize, Vec<String>>), StoreError> {
        let (store, workspaces) = (Arc::clone(&self.parts.store), Arc::clone(&self.parts.workspaces));
        let most = self.policy.lowest(|said| said.spawn.tasks).map(|(most, source)| (most, source.layer));
        let (run, base) = (self.run.clone(), self.task.base.clone().unwrap_or_else(|| self.run.base.clone()));
        blocking(move || {
            let layout = workspaces.layout(&base).map_err(|error| StoreError::Backend(error.to_string()))?;
            let rules = &run.rules;
            let ground = Ground { goal: &run.goal, layout: &layout, protected: &rules.protected, allow_protected: rules.allow_protected };
            match check(&plan, &ground).and_then(|proposed| bounded(proposed, most)) {
                Ok(proposed) => Ok((store.put_blob(&json(&proposed)?)?, Ok(proposed.plan.tasks.len()))),
                Err(reasons) => Ok((store.put_blob(&json(&plan)?)?, Err(reasons))),
            }
        })
        .await
    }

    async fn propose(&mut self, plan: BlobId, tasks: usize) -> Result<AgentReply, StoreError> {
        let (task, round) = (self.task.task, self.round());
        let event = Event::PlanProposed { task, round, plan, tasks: u32::try_from(tasks).unwrap_or(u32::MAX) };
        let append = Append::of(self.task.run, event).fenced(&self.fence).once(format!("plan/{task}/{}", self.who.incarnation));
        match self.append(append).await {
            Ok(_) => {
                self.planning = Planning::Proposed;
                crash::point("plan");
                Ok(done(TAKEN))
            }
            Err(StoreError::Illegal(illegal)) => Ok(refused(format!("no plan is taken now: {illegal}. End your turn."))),
            Err(error) => Err(error),
        }
    }

    async fn reject(&mut self, plan: BlobId, reasons: Vec<String>) -> Result<AgentReply, StoreError> {
        let (task, round) = (self.task.task, self.round());
        let listed: String = reasons.iter().map(|reason| format!("- {reason}\n")).collect();
        let event = Event::PlanRejected { task, round, plan, reasons: reasons.clone() };
        self.append(Append::of(self.task.run, event).fenced(&self.fence)).await?;
        self.task.plan.get_or_insert_default().rejected = round;
        if round < PLAN_ROUNDS_MAX {
            return Ok(refused(format!(
                "the plan is not taken (try {round} of {PLAN_ROUNDS_MAX}):\n{listed}Mend all of this and hand the whole plan in again."
            )));
        }
        self.planning = Planning::GaveUp(format!(
            "its plan was refused {round} times, at last: {}; `aedile task retry {key}` lets it try again, a clearer goal or a tasks file of \
             your own (docs/tasks-file.md) may help more",
            reasons.join("; "),
            key = self.task.spec.key
        ));
        Ok(over(format!("the plan is not taken, and this was the last of {PLAN_ROUNDS_MAX} tries:\n{listed}End your turn now.")))
    }

    /// Which plan this is since a person last asked for one, from 1.
    fn round(&self) -> u32 {
        self.task.plan.as_ref().map_or(0, |plan| plan.rejected) + 1
    }
}

/// Refuses a plan of more tasks than policy lets a run have.
fn bounded(proposed: ProposedPlan, most: Option<(u32, LayerName)>) -> Result<ProposedPlan, Vec<String>> {
    let tasks = proposed.plan.tasks.len();
    match most {
        Some((most, layer)) if tasks > most as usize => Err(vec![format!(
            "the plan has {tasks} tasks; the {layer} policy lets a run have at most {most} (spawn.tasks): put together what belongs together"
        )]),
        _ => Ok(proposed),
    }
}

fn over(message: String) -> AgentReply {
    AgentReply::Over { message }
}

fn json(value: &impl serde::Serialize) -> Result<Vec<u8>, StoreError> {
    serde_json::to_vec(value).map_err(|error| StoreError::Backend(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_has_no_more_tasks_than_policy_lets_a_run_have() {
        let task = |id: &str| serde_json::json!({"id": id, "title": id, "prompt": "p", "scope": ["src/**"]});
        let plan = |tasks: &[&str]| -> ProposedPlan {
            let tasks: Vec<_> = tasks.iter().map(|id| task(id)).collect();
            ProposedPlan {
                plan: serde_json::from_value(serde_json::json!({"summary": "s", "tasks": tasks})).unwrap(),
                notes: Vec::new(),
                at_once: 1,
                scope_bytes: Vec::new(),
            }
        };
        let most = Some((1, LayerName::User));
        assert!(bounded(plan(&["a"]), most).is_ok() && bounded(plan(&["a", "b"]), None).is_ok());
        let reasons = bounded(plan(&["a", "b"]), most).unwrap_err();
        assert!(reasons[0].contains("2 tasks; the user policy lets a run have at most 1 (spawn.tasks)"), "{reasons:?}");
    }
}
