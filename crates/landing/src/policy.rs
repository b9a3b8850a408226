//! What policy says of a change and of the boxes of its gates.

use aedile_core::policy::{AgentPolicy, Policies, Who};
use aedile_core::sandbox::BoxLimits;

use crate::LandingError;
use crate::filter::{Touched, shown};
use crate::job::Job;

/// A gate, as rules see it.
const GATE: &str = "gate";
/// Violations that are listed one by one.
const LINES_MAX: usize = 50;

impl Job {
    fn policies(&self) -> Result<Policies, LandingError> {
        let layers: Vec<_> = self.deps.policy.iter().chain(&self.run.rules.policy).cloned().collect();
        Ok(Policies::parse(&layers)?)
    }

    /// Path and rule of what the change writes against policy. What a person takes back is no agent's work.
    pub(crate) fn against_policy(&self, touched: &[Touched]) -> Result<Vec<String>, LandingError> {
        if !self.task.undoes.is_empty() {
            return Ok(Vec::new());
        }
        let spec = &self.task.spec;
        let who = Who { role: &spec.role, agent: self.change.agent.as_str(), task: spec.key.as_str() };
        Ok(against(&self.policies()?.of(who), touched))
    }

    /// The limits of a gate's box, which is no agent's.
    pub(crate) fn gate_limits(&self) -> Result<BoxLimits, LandingError> {
        let who = Who { role: GATE, agent: GATE, task: self.task.spec.key.as_str() };
        Ok(self.policies()?.of(who).limits())
    }
}

fn against(policy: &AgentPolicy, touched: &[Touched]) -> Vec<String> {
    let denied = |entry: &Touched| {
        let said = policy.may_write(&entry.path);
        (!said.allowed).then(|| format!("{}: {}", shown(&entry.path), said.sentence()))
    };
    let mut lines: Vec<String> = touched.iter().filter_map(denied).collect();
    let more = lines.len().saturating_sub(LINES_MAX);
    lines.truncate(LINES_MAX);
    lines.extend((more > 0).then(|| format!("... and {more} more")));
    lines
}
