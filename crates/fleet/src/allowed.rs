//! What the layers of policy leave to one agent.

use aedile_core::agent_api::DoorIdentity;
use aedile_core::money::Budget;
use aedile_core::policy::{AgentPolicy, Policies, PolicyText, Reads};
use aedile_core::task::TaskSpec;
use aedile_core::view::{RunView, TaskView};

use crate::agent_box::Trouble;
use crate::parts::Parts;

/// What the layers of policy leave to one agent.
pub(crate) struct Allowed {
    /// All layers, for its door.
    pub(crate) layers: Vec<PolicyText>,
    /// What they say of it.
    pub(crate) policy: AgentPolicy,
}

impl Allowed {
    /// Reads the layers as they are for this agent.
    pub(crate) fn of(parts: &Parts, run: &RunView, who: &DoorIdentity) -> Result<Self, Trouble> {
        let layers: Vec<PolicyText> = parts.policy.iter().chain(&run.rules.policy).cloned().collect();
        let policies = Policies::parse(&layers).map_err(|bad| Trouble::Person(bad.to_string()))?;
        let policy = policies.of(who.into());
        Ok(Self { layers, policy })
    }

    /// Whether the agent may be started as its task wants it. A retry does not help before a person changes the task or the policy.
    pub(crate) fn start(&self, spec: &TaskSpec) -> Result<(), Trouble> {
        let said = [self.policy.may_run_on(&spec.runtime), self.policy.may_ask_model(&spec.model.to_string())];
        said.into_iter().find(|said| !said.allowed).map_or(Ok(()), |said| Err(Trouble::Person(said.sentence())))
    }

    /// What it may read of the repository.
    pub(crate) fn reads(&self, spec: &TaskSpec) -> Result<Reads, Trouble> {
        self.policy.reads(&spec.read).map_err(|bad| Trouble::Person(format!("what task `{}` reads: {bad}", spec.key)))
    }

    /// The budgets of its life, its task and its run.
    pub(crate) fn budgets(&self, run: &RunView, task: &TaskView) -> [Budget; 3] {
        let rules = &run.rules;
        let of_task = Budget { usd: task.spec.budget_usd.or(rules.task_budget.usd), tokens: rules.task_budget.tokens };
        [self.policy.agent_budget(rules.agent_budget), self.policy.task_budget(of_task), self.policy.run_budget(rules.run_budget)]
    }
}
