//! Opens doors.

use std::collections::HashMap;
use std::net::TcpListener as StdListener;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aedile_core::agent_api::DoorIdentity;
use aedile_core::egress::{Door, DoorActivity, DoorGrant, Egress, EgressError, Trust, UsableSecret};
use aedile_core::limits::{DOOR_CONCURRENT_MAX, DOOR_READ_TIMEOUT, DOOR_WAITING_MAX};
use aedile_core::model::ModelRef;
use aedile_core::policy::{AgentPolicy, Policies, PolicyText};
use aedile_core::store::Store;
use aedile_core::{Clock, Entropy, RunId};
use aedile_models::{ApiFormat, PriceTable, Script, client_for};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::allowance::Allowance;
use crate::authority::Authorities;
use crate::denials::Denials;
use crate::door::{OpenDoor, Room};
use crate::fetch_rules::FetchRules;
use crate::lead::Lead;
use crate::ledger::Limits;
use crate::outages::Outages;
use crate::passages::Passages;
use crate::policy::{self, Layers};
use crate::spending::{SCRIPT, Spending};
use crate::tls_roots::Roots;
use crate::upstream::{Endpoint, Upstream};
use crate::vault::Vault;

/// A model provider that doors may lead to.
#[derive(Clone, Debug)]
pub struct Provider {
    /// Its name, the first part of `provider/model`. `script` is built in and cannot be given.
    pub name: String,
    /// What it speaks.
    pub format: ApiFormat,
    /// Its base URL, with or without `/v1`.
    pub base_url: String,
    /// Its key.
    pub key: ProviderKey,
    /// The window of its models in tokens, where a person has set one.
    pub context_tokens: Option<u64>,
}

/// The key of a provider.
#[derive(Clone, Debug)]
pub enum ProviderKey {
    /// The secret of this name in the vault.
    Secret(String),
    /// The secret of this name in the vault is the token of a subscription.
    Token(String),
    /// It wants none (a local server).
    None,
    /// There is none although it wants one; doors to it are refused with this sentence, which says how to give one.
    Missing(String),
}

/// Why there is no gateway.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GatewayError {
    /// A provider's description cannot be used.
    #[error("provider {name}: {problem}")]
    Provider {
        /// Its name.
        name: String,
        /// What is wrong.
        problem: String,
    },
    /// The root certificates that were given cannot be used.
    #[error("{0}")]
    Roots(String),
    /// The HTTP client cannot be set up.
    #[error("the HTTP client cannot be set up: {0}; check the system's root certificates")]
    Client(String),
}

/// Opens doors, holds the providers, the vault and the budgets.
pub struct Gateway {
    providers: HashMap<String, Provider>,
    client: reqwest::Client,
    vault: Arc<Vault>,
    spending: Arc<Spending>,
    outages: Arc<Outages>,
    clock: Arc<dyn Clock>,
    runtime: Handle,
    tasks: TaskTracker,
    read_timeout: Duration,
    fetch: Arc<FetchRules>,
    authorities: Authorities,
    roots: Arc<Roots>,
    /// The log of what passes.
    passages: Option<Arc<Passages>>,
}

impl Gateway {
    /// Makes a gateway whose doors are served on the given runtime. The program must have installed a rustls
    /// crypto provider before, whatever the URLs are.
    ///
    /// # Errors
    /// [`GatewayError`] names the provider whose URL or key cannot be used.
    pub fn new(
        providers: Vec<Provider>,
        prices: PriceTable,
        vault: Arc<Vault>,
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
        runtime: Handle,
    ) -> Result<Self, GatewayError> {
        let mut known = HashMap::new();
        for provider in providers {
            let problem = if provider.name.is_empty() || provider.name.contains('/') || provider.name == SCRIPT {
                Some("this name cannot be given to a provider".to_owned())
            } else if !(provider.base_url.starts_with("https://") || provider.base_url.starts_with("http://")) {
                Some("its base URL must begin with https:// or http://".to_owned())
            } else if reqwest::Url::parse(&provider.base_url).is_err() {
                Some("its base URL cannot be parsed".to_owned())
            } else {
                match &provider.key {
                    ProviderKey::Secret(name) | ProviderKey::Token(name) if vault.get(name).is_none() => {
                        Some(format!("the vault holds no secret {name}"))
                    }
                    _ => None,
                }
            };
            if let Some(problem) = problem {
                return Err(GatewayError::Provider { name: provider.name, problem });
            }
            known.insert(provider.name.clone(), provider);
        }
        let client = client_for(known.values().map(|provider| provider.base_url.as_str()));
        let client = client.map_err(|error| GatewayError::Client(error.to_string()))?;
        let spending = Arc::new(Spending::new(store, prices, clock.clone(), entropy));
        Ok(Self {
            providers: known,
            client,
            vault,
            spending,
            outages: Arc::new(Outages::new(clock.clone())),
            authorities: Authorities::new(clock.clone()),
            clock,
            runtime,
            tasks: TaskTracker::new(),
            read_timeout: DOOR_READ_TIMEOUT,
            fetch: Arc::default(),
            roots: Arc::default(),
            passages: None,
        })
    }

    /// Writes a line for each request that leaves the machine, or would, into the log in this directory.
    #[must_use]
    pub fn with_log(self, dir: &Path) -> Self {
        Self { passages: Some(Arc::new(Passages::new(dir))), ..self }
    }

    /// Waits this long for a request's head and for each further piece of its body, instead of `DOOR_READ_TIMEOUT`.
    #[must_use]
    pub fn with_read_timeout(self, read_timeout: Duration) -> Self {
        Self { read_timeout, ..self }
    }

    /// Lets agents read from these hosts; without it from none.
    #[must_use]
    pub fn with_fetch(self, rules: FetchRules) -> Self {
        Self { fetch: Arc::new(rules), ..self }
    }

    /// Believes only servers whose certificates lead to these roots (PEM), instead of the system's. The models' client is not changed.
    ///
    /// # Errors
    /// [`GatewayError::Roots`] when the text holds none.
    pub fn with_roots(self, pem: &str) -> Result<Self, GatewayError> {
        Ok(Self { roots: Arc::new(Roots::given(pem).map_err(GatewayError::Roots)?), ..self })
    }

    /// Believes only servers whose certificates lead to the roots in this file or directory, as `SSL_CERT_FILE` and `SSL_CERT_DIR` name them. They are
    /// read when they are needed.
    #[must_use]
    pub fn with_root_paths(self, file: Option<PathBuf>, dir: Option<PathBuf>) -> Self {
        Self { roots: Arc::new(Roots::in_paths(file, dir)), ..self }
    }

    /// Waits until every request that is under way is settled. Close the doors first.
    pub async fn settled(&self) {
        self.tasks.close();
        self.tasks.wait().await;
        self.tasks.reopen();
    }

    /// Knows every secret of the vault: for what is shown before it is stored.
    pub fn redactor(&self) -> Arc<dyn aedile_core::Redactor> {
        self.vault.clone()
    }

    /// The granted model and those that may take its place, each with where it is asked.
    fn leads(&self, grant: &DoorGrant) -> Result<Vec<Lead>, String> {
        let lead = |model: &ModelRef| Ok(Lead { model: model.clone(), upstream: self.upstream(model, grant)? });
        let instead = grant.others.iter().map(|model| {
            lead(model)
                .map_err(|problem: String| format!("{model}, which may take the place of {}, cannot be used: {problem}", grant.model))
        });
        std::iter::once(lead(&grant.model)).chain(instead).collect()
    }

    fn upstream(&self, model: &ModelRef, grant: &DoorGrant) -> Result<Upstream, String> {
        let name = &model.provider;
        if name == SCRIPT {
            let script = grant.script.as_ref().ok_or_else(|| format!("the model {model} needs a script: give the task a `script`"))?;
            return Script::parse(script).map(Upstream::Script).map_err(|bad| bad.to_string());
        }
        let provider = self.providers.get(name).ok_or_else(|| {
            let mut names: Vec<&str> = self.providers.keys().map(String::as_str).chain([SCRIPT]).collect();
            names.sort_unstable();
            format!(
                "the provider {name} of the model {model} is not known; known are {}; others are added as `[provider.NAME]` in your own `config.toml` (docs/configuration.md)",
                names.join(", ")
            )
        })?;
        let key_name = match &provider.key {
            ProviderKey::Secret(secret) | ProviderKey::Token(secret) => Some(secret.clone()),
            ProviderKey::None => None,
            ProviderKey::Missing(hint) => return Err(hint.clone()),
        };
        Ok(Upstream::Provider(Endpoint {
            name: name.clone(),
            format: provider.format,
            base_url: provider.base_url.clone(),
            key: key_name.as_ref().and_then(|name| self.vault.get(name)).cloned(),
            key_name,
            context_tokens: provider.context_tokens,
            token: matches!(provider.key, ProviderKey::Token(_)),
            client: self.client.clone(),
        }))
    }
}

impl Egress for Gateway {
    fn web_hosts(&self) -> Vec<String> {
        self.fetch.names().to_owned()
    }

    fn secrets(&self, role: &str, policy: &AgentPolicy) -> Vec<UsableSecret> {
        self.vault.usable(Some(role), policy)
    }

    fn passes(&self, who: &DoorIdentity, policy: &[PolicyText]) -> Result<bool, String> {
        Ok(Layers::parse(policy, who.into()).map_err(|bad| bad.to_string())?.reach_out())
    }

    fn trust(&self, run: RunId, policy: &[PolicyText]) -> Result<Option<Trust>, String> {
        Ok(self.authorities.of(run, policy)?.map(|authority| Trust::new(authority.pem())))
    }

    /// The first door of a run reads what the run has spent before; that blocks for the time of a few reads.
    fn open_door(&self, listener: OwnedFd, grant: DoorGrant) -> Result<Box<dyn Door>, EgressError> {
        let failed = |message: String| EgressError { agent: grant.who.agent.to_string(), message };
        let leads = self.leads(&grant).map_err(failed)?;
        self.spending.load(grant.who.run).map_err(|error| failed(format!("the spending of its run cannot be read: {error}")))?;
        let layers = Layers::parse(&grant.policy, (&grant.who).into()).map_err(|bad| failed(bad.to_string()))?;
        let policies = Policies::parse(&grant.policy).map_err(|bad| failed(bad.to_string()))?;
        let policy = policies.of((&grant.who).into());
        let network = (!layers.is_silent()).then(|| {
            let secrets = self.vault.rules(Some(&grant.who.role)).left_by(&policy);
            Arc::new(tokio::sync::Mutex::new(policy::Egress::looking_with(layers, secrets, self.vault.finder())))
        });
        let limits = policy.door_limits();
        let authority = self.authorities.of(grant.who.run, &grant.policy).map_err(failed)?;
        let room = Room {
            limits: Limits { agent: grant.agent_budget, task: grant.task_budget, run: grant.run_budget },
            grant: grant.clone(),
            leads,
            answered_by: Mutex::default(),
            outages: self.outages.clone(),
            vault: self.vault.clone(),
            fetch: self.fetch.clone(),
            network,
            policy,
            denials: Denials::default(),
            asking: tokio::sync::Mutex::default(),
            authority,
            roots: self.roots.clone(),
            passages: self.passages.clone(),
            pool: Arc::default(),
            allowance: Allowance::new(limits),
            spending: self.spending.clone(),
            read_timeout: self.read_timeout,
            requests: Arc::new(Semaphore::new(DOOR_CONCURRENT_MAX)),
            passing: Arc::new(Semaphore::new(DOOR_CONCURRENT_MAX)),
            waiting: Semaphore::new(DOOR_WAITING_MAX),
            tasks: self.tasks.clone(),
            closed: CancellationToken::new(),
            clock: self.clock.clone(),
            activity: Mutex::new(DoorActivity::default()),
            refusal: Mutex::default(),
        };
        let _entered = self.runtime.enter();
        let door =
            OpenDoor::open(StdListener::from(listener), room).map_err(|error| failed(format!("its listener cannot be served: {error}")))?;
        Ok(Box::new(door))
    }
}
