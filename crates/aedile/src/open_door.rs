//! A door for a command that is no agent of ours: the model of the project, metered, and what a policy lets it ask of other hosts.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use aedile_core::agent_api::{AgentApi, AgentReply, AgentRequest, DoorIdentity};
use aedile_core::egress::{Door, DoorGrant, Egress, Trust, UsableSecret};
use aedile_core::model::ModelRef;
use aedile_core::policy::{AgentPolicy, Policies, PolicyText};
use aedile_core::{AgentName, IncarnationId, RunId, TaskId, TaskKey};
use async_trait::async_trait;

use crate::clock::{OsEntropy, SystemClock};
use crate::commands::run::checkout_config;
use crate::commands::sandbox::{COMMAND, Policy};
use crate::config::file::{self, ConfigFile};
use crate::error::CliError;
use crate::{state, wiring};

/// Longer than a token endpoint may take.
const SETTLING_MAX: Duration = Duration::from_secs(60);

/// Opens one door under the budgets of the project's `aedile.toml`.
pub struct Opener {
    config: ConfigFile,
    model: ModelRef,
    gateway: Arc<aedile_gateway::Gateway>,
    policy: Vec<PolicyText>,
    said: AgentPolicy,
    run: RunId,
}

/// There is no task behind such a door.
struct NoTask;

#[async_trait]
impl AgentApi for NoTask {
    async fn call(&self, _who: &DoorIdentity, _request: AgentRequest) -> AgentReply {
        AgentReply::Refused {
            message: "this box was started with `aedile sandbox exec`: there is no task, no mail and nothing to submit to".to_owned(),
        }
    }
}

impl Opener {
    /// Reads `aedile.toml` of the directory and wires a gateway, whose doors are proxies for what the policy allows. Must be called inside a tokio
    /// runtime.
    pub fn for_directory(dir: &Path, policy: &Policy) -> Result<Self, CliError> {
        let config = checkout_config(dir)?;
        let Some(model) = config.agents.model.clone() else {
            return Err(CliError::config(format!("{} names no model for the door", dir.join(file::NAME).display()))
                .hint("set `[agents] model = \"PROVIDER/MODEL\"`, or use --net none"));
        };
        let may = policy.said().may_ask_model(&model.to_string());
        if !may.allowed {
            return Err(
                CliError::config(format!("the door: {}", may.sentence())).hint("`aedile policy show` says where each rule comes from")
            );
        }
        let (_, gateway) = wiring::store_and_gateway(&state::dir()?, &config)?;
        Ok(Self { config, model, gateway, policy: policy.reach(), said: policy.said().clone(), run: RunId::new(&SystemClock, &OsEntropy) })
    }

    /// What the box needs to believe its door where that looks into TLS.
    pub fn trust(&self) -> Result<Option<Trust>, CliError> {
        self.gateway.trust(self.run, &self.policy).map_err(CliError::config)
    }

    /// Variables of the box with what stands for the secrets that it may use.
    pub fn placeholders(&self) -> Vec<(String, String)> {
        let Ok(policies) = Policies::parse(&self.policy) else { return Vec::new() };
        UsableSecret::variables(&self.gateway.secrets(COMMAND.role, &policies.of(COMMAND)))
    }

    /// Waits until what goes on behind the door has ended, as a token endpoint's answer that is still to be kept: for at most a minute.
    pub async fn settled(&self) {
        if tokio::time::timeout(SETTLING_MAX, self.gateway.settled()).await.is_err() {
            tracing::warn!("the gateway was still at work when the command had ended");
        }
    }

    /// Serves the listener of a box.
    pub fn open(&self, listener: OwnedFd) -> Result<Box<dyn Door>, CliError> {
        let rules = self.config.rules(file::NAME)?;
        let name = |error: aedile_core::BadId| CliError::failure(error.to_string());
        let grant = DoorGrant {
            who: DoorIdentity {
                run: self.run,
                task: TaskId::new(&SystemClock, &OsEntropy),
                key: TaskKey::new(COMMAND.task).map_err(name)?,
                role: COMMAND.role.to_owned(),
                agent: AgentName::new(COMMAND.agent).map_err(name)?,
                incarnation: IncarnationId::new(&SystemClock, &OsEntropy),
            },
            model: self.model.clone(),
            others: self
                .config
                .agents
                .fallback
                .iter()
                .filter(|model| **model != self.model && self.said.may_ask_model(&model.to_string()).allowed)
                .cloned()
                .collect(),
            script: None,
            agent_budget: self.said.agent_budget(rules.agent_budget),
            task_budget: self.said.task_budget(rules.task_budget),
            run_budget: self.said.run_budget(rules.run_budget),
            policy: self.policy.clone(),
            api: Arc::new(NoTask),
        };
        self.gateway.open_door(listener, grant).map_err(|error| CliError::config(error.to_string()))
    }
}
