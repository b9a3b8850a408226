//! Whom a question about policy is about, and under which layers.

use std::path::PathBuf;

use aedile_core::apply::agent_key;
use aedile_core::policy::{PolicyText, Who};
use aedile_core::store::load;
use aedile_core::view::{AgentView, TaskView};
use clap::Args;

use crate::commands::run::{checkout_config, rules_of, target};
use crate::error::CliError;
use crate::{layers, state, wiring};

/// The role of an agent that does not exist yet.
const ROLE: &str = "builder";

#[derive(Debug, Args)]
pub struct SubjectArgs {
    /// The agent's name
    #[arg(long, value_name = "NAME")]
    agent: Option<String>,
    /// Its role; `builder`, or that of the agent in its run, when absent
    #[arg(long, value_name = "ROLE")]
    role: Option<String>,
    /// The key of its task
    #[arg(long, value_name = "KEY")]
    task: Option<String>,
    /// Look at this run instead of the last one
    #[arg(long, value_name = "RUN")]
    run: Option<String>,
    /// A further layer, as `run --policy FILE` adds it; for an agent that is in no run
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
}

/// An agent, and everything that decides over it.
pub struct Subject {
    pub agent: String,
    pub role: String,
    pub task: String,
    /// All layers, from the widest to the narrowest.
    pub texts: Vec<PolicyText>,
    /// The scope of its task, when it has one.
    pub scope: Option<Vec<String>>,
    /// Globs of what its task reads; empty for everything.
    pub read: Vec<String>,
    /// Globs of protected paths, unless the run lets them change.
    pub protected: Vec<String>,
}

impl Subject {
    pub fn who(&self) -> Who<'_> {
        Who { role: &self.role, agent: &self.agent, task: &self.task }
    }
}

/// Finds out about the agent.
pub fn find(args: &SubjectArgs) -> Result<Subject, CliError> {
    let mut texts = layers::of_host()?;
    let own = |text: &Option<String>, other: &str| text.clone().unwrap_or_else(|| other.to_owned());
    if let Some((task, rules)) = in_run(args)? {
        texts.extend(rules.policy);
        return Ok(Subject {
            agent: own(&args.agent, ""),
            role: own(&args.role, &task.spec.role),
            task: own(&args.task, task.spec.key.as_str()),
            texts,
            scope: Some(task.spec.scope),
            read: task.spec.read,
            protected: if rules.allow_protected { Vec::new() } else { rules.protected },
        });
    }
    let mut protected = Vec::new();
    // Outside of a repository only the layers of the machine and the person hold.
    if let Ok(project) = wiring::discover(&std::env::current_dir()?) {
        let base = project.landing_point(&target(&project, &checkout_config(project.root())?)?)?.base;
        let rules = rules_of(&project, &base)?.1;
        protected = rules.protected;
        texts.extend(rules.policy);
    }
    texts.extend(args.policy.as_deref().map(layers::of_run).transpose()?);
    Ok(Subject {
        agent: own(&args.agent, ""),
        role: own(&args.role, ROLE),
        task: own(&args.task, ""),
        texts,
        scope: None,
        read: Vec::new(),
        protected,
    })
}

/// The task of the agent in a run, and the rules of that run.
fn in_run(args: &SubjectArgs) -> Result<Option<(TaskView, aedile_core::project::ProjectRules)>, CliError> {
    let found = state::last_run(args.run.as_deref())?;
    let (Some((store, run)), Some(agent)) = (found, &args.agent) else { return Ok(None) };
    if args.policy.is_some() && args.run.is_none() {
        return Ok(None);
    }
    let agent: Option<AgentView> = load(&store, &agent_key(run.run, agent))?;
    let Some(agent) = agent else {
        return match &args.run {
            Some(text) => Err(CliError::usage(format!("the run {text} has no agent of this name")).hint("`aedile status` lists them")),
            None => Ok(None),
        };
    };
    Ok(load::<TaskView>(&store, &agent.task.to_string())?.map(|task| (task, run.rules)))
}
