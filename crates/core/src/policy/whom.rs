//! For whom a rule is.

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use serde::Serialize;

use crate::agent_api::DoorIdentity;

/// One agent as rules see it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Who<'a> {
    /// What it is: `builder`, `coordinator`, `scout`, ...
    pub role: &'a str,
    /// Its name.
    pub agent: &'a str,
    /// The key of its task.
    pub task: &'a str,
}

impl<'a> From<&'a DoorIdentity> for Who<'a> {
    fn from(who: &'a DoorIdentity) -> Self {
        Self { role: &who.role, agent: who.agent.as_str(), task: who.key.as_str() }
    }
}

/// Whom a rule means. What is not said means all; what is said must all hold.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Whom {
    /// Roles, whole.
    pub roles: Vec<String>,
    /// Globs of agents' names.
    pub agents: Vec<String>,
    /// Globs of tasks' keys.
    pub tasks: Vec<String>,
    #[serde(skip)]
    sets: (GlobSet, GlobSet),
}

impl PartialEq for Whom {
    fn eq(&self, other: &Self) -> bool {
        (&self.roles, &self.agents, &self.tasks) == (&other.roles, &other.agents, &other.tasks)
    }
}

impl Eq for Whom {}

impl Whom {
    /// Compiles the globs.
    ///
    /// # Errors
    /// Which of them is empty or no glob, in words.
    pub fn new(roles: Vec<String>, agents: Vec<String>, tasks: Vec<String>) -> Result<Self, String> {
        if roles.iter().any(|role| role.trim().is_empty()) {
            return Err("a role is empty".to_owned());
        }
        let sets = (set("agent", &agents)?, set("task", &tasks)?);
        Ok(Self { roles, agents, tasks, sets })
    }

    /// Whether it means every agent.
    pub fn is_everybody(&self) -> bool {
        self.roles.is_empty() && self.agents.is_empty() && self.tasks.is_empty()
    }

    /// Whether it means this agent.
    pub fn means(&self, who: Who<'_>) -> bool {
        (self.roles.is_empty() || self.roles.iter().any(|role| role == who.role))
            && (self.agents.is_empty() || self.sets.0.is_match(who.agent))
            && (self.tasks.is_empty() || self.sets.1.is_match(who.task))
    }
}

fn set(what: &str, globs: &[String]) -> Result<GlobSet, String> {
    let mut builder = GlobSetBuilder::new();
    for glob in globs {
        if glob.is_empty() {
            return Err(format!("a glob of {what} names is empty; leave it out to mean all"));
        }
        let compiled = GlobBuilder::new(glob).literal_separator(true).build();
        builder.add(compiled.map_err(|error| format!("the {what} {glob:?} is no glob: {}", error.kind()))?);
    }
    builder.build().map_err(|error| format!("the globs of {what} names cannot be used together: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whom(roles: &[&str], agents: &[&str], tasks: &[&str]) -> Result<Whom, String> {
        let own = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        Whom::new(own(roles), own(agents), own(tasks))
    }

    #[test]
    fn what_is_said_must_all_hold_and_what_is_not_said_means_all() {
        let ada = Who { role: "builder", agent: "ada", task: "auth-1" };
        for (roles, agents, tasks, means) in [
            (&[][..], &[][..], &[][..], true),
            (&["builder", "scout"], &[], &[], true),
            (&["build"], &[], &[], false),
            (&[], &["a*"], &["auth-*"], true),
            (&[], &["a*"], &["docs"], false),
            (&["builder"], &["bob"], &[], false),
        ] {
            assert_eq!(whom(roles, agents, tasks).unwrap().means(ada), means, "{roles:?} {agents:?} {tasks:?}");
        }
        assert!(whom(&[], &["[z"], &[]).unwrap_err().contains("[z"));
        assert!(whom(&[""], &[], &[]).is_err() && whom(&[], &[""], &[]).is_err());
    }
}
