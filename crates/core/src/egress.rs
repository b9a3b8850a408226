//! Egress: the only way out of a box is a door that somebody holds.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use crate::RunId;
use crate::agent_api::{AgentApi, DoorIdentity};
use crate::clock::Timestamp;
use crate::model::ModelRef;
use crate::money::{Budget, MicroUsd, Usage};
use crate::policy::{AgentPolicy, PolicyText};
use crate::sandbox::{DOOR_PORT, TRUST_INSIDE};

/// What one door allows.
#[derive(Clone)]
pub struct DoorGrant {
    /// Who speaks through it.
    pub who: DoorIdentity,
    /// The model that it is to use. The model's name in requests must be this one, or one of `others`.
    pub model: ModelRef,
    /// Models that it may change to, in the order in which they take over when the provider of its own does not answer.
    pub others: Vec<ModelRef>,
    /// Written turns, when the provider is `script`.
    pub script: Option<serde_json::Value>,
    /// Budget of the agent in this incarnation.
    pub agent_budget: Budget,
    /// Budget of the task over all its agents.
    pub task_budget: Budget,
    /// Budget of the run, shared by all its doors.
    pub run_budget: Budget,
    /// The layers of policy, from the widest to the narrowest. Where none says anything of the network the door is no proxy.
    pub policy: Vec<PolicyText>,
    /// Answers the agent's own API.
    pub api: Arc<dyn AgentApi>,
}

/// Why a door was not opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot open the door of {agent}: {message}")]
pub struct EgressError {
    /// The agent.
    pub agent: String,
    /// What is wrong and which setting mends it (a missing key, an unknown provider).
    pub message: String,
}

/// What flowed through a door so far.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct DoorActivity {
    /// When the last byte of a model's answer passed.
    pub last_flow: Option<Timestamp>,
    /// Requests that are under way.
    pub in_flight: u32,
    /// Used so far.
    pub usage: Usage,
    /// Spent so far.
    pub spent: MicroUsd,
}

/// Opens doors. Dropping the returned door closes it and ends its connections.
pub trait Egress: Send + Sync {
    /// Serves the listener under the grant.
    ///
    /// # Errors
    /// [`EgressError`]; the listener is closed then.
    fn open_door(&self, listener: OwnedFd, grant: DoorGrant) -> Result<Box<dyn Door>, EgressError>;

    /// Returns the hosts from which agents may read pages, as the project lists them; empty where none is listed.
    fn web_hosts(&self) -> Vec<String> {
        Vec::new()
    }

    /// The secrets that an agent of this role may use and that policy leaves to it.
    fn secrets(&self, role: &str, policy: &AgentPolicy) -> Vec<UsableSecret> {
        let _ = (role, policy);
        Vec::new()
    }

    /// Whether the door of this agent would pass some request on to another host under these layers of policy.
    ///
    /// # Errors
    /// A sentence: a layer cannot be read.
    fn passes(&self, who: &DoorIdentity, policy: &[PolicyText]) -> Result<bool, String> {
        let _ = (who, policy);
        Ok(false)
    }

    /// Returns what a box needs to believe a door that is opened for this run under these layers of policy, when it looks into TLS; `None` where
    /// no layer opens anything with TLS. It is asked before the box is made.
    ///
    /// # Errors
    /// A sentence: a layer cannot be read, or no authority can be made.
    fn trust(&self, run: RunId, policy: &[PolicyText]) -> Result<Option<Trust>, String> {
        let _ = (run, policy);
        Ok(None)
    }
}

/// A secret as an agent sees it: what stands for it, and where that may go.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UsableSecret {
    /// Its name.
    pub name: String,
    /// The hosts that it may go to.
    pub hosts: Vec<String>,
    /// What stands for it.
    pub placeholder: String,
    /// The variable in which a box finds that.
    pub env: Option<String>,
    /// Whether it is a decoy, which may go nowhere.
    pub canary: bool,
}

impl UsableSecret {
    /// Variables of a box with what stands for the secrets.
    pub fn variables(secrets: &[Self]) -> Vec<(String, String)> {
        secrets.iter().filter_map(|secret| Some((secret.env.clone()?, secret.placeholder.clone()))).collect()
    }
}

/// What a box needs so that its programs believe the certificates of its door.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Trust {
    /// The public part of the door's authority (PEM); the box sees it read-only at [`TRUST_INSIDE`].
    pub pem: String,
    /// The environment that leads there, under every usual name.
    pub env: Vec<(String, String)>,
}

/// Under these names programs look for the root certificates that they believe. Each replaces what they believe otherwise, which is right where
/// nothing but the door is reached.
const CERTIFICATE_VARIABLES: &[&str] = &[
    // OpenSSL and what is built on it (Python, Ruby, wget), Go, rustls, uv, Deno.
    "SSL_CERT_FILE",
    "CURL_CA_BUNDLE",
    "GIT_SSL_CAINFO",
    // Python's requests and httplib2, pip.
    "REQUESTS_CA_BUNDLE",
    "HTTPLIB2_CA_CERTS",
    "PIP_CERT",
    // Node, npm, pnpm, Yarn, Deno, Bun.
    "NODE_EXTRA_CA_CERTS",
    "npm_config_cafile",
    "YARN_HTTPS_CA_FILE_PATH",
    "DENO_CERT",
    "CARGO_HTTP_CAINFO",
    "BUNDLE_SSL_CA_CERT",
    "HEX_CACERTS_PATH",
    "JULIA_SSL_CA_ROOTS_PATH",
    "CONAN_CACERT_PATH",
    "SYSTEM_CERTIFICATE_PATH",
    "NIX_SSL_CERT_FILE",
    "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH",
    "AWS_CA_BUNDLE",
    "CLOUDSDK_CORE_CUSTOM_CA_CERTS_FILE",
];

impl Trust {
    /// The environment for this certificate.
    pub fn new(pem: String) -> Self {
        Self { pem, env: CERTIFICATE_VARIABLES.iter().map(|name| ((*name).to_owned(), TRUST_INSIDE.to_owned())).collect() }
    }
}

/// How the programs in a box find their door as a proxy, in both usual spellings. What the box itself serves needs none.
pub fn proxy_env() -> Vec<(String, String)> {
    let (door, own) = (format!("http://127.0.0.1:{DOOR_PORT}"), "localhost,127.0.0.1,::1");
    let proxies = [("http_proxy", door.as_str()), ("https_proxy", &door), ("no_proxy", own)];
    let both = |(name, value): (&str, &str)| [(name.to_owned(), value.to_owned()), (name.to_uppercase(), value.to_owned())];
    // Node's own `fetch` looks for a proxy only when it is told to.
    let node = ("NODE_USE_ENV_PROXY".to_owned(), "1".to_owned());
    proxies.into_iter().flat_map(both).chain([node]).collect()
}

/// An open door.
pub trait Door: Send + Sync {
    /// What flowed so far.
    fn activity(&self) -> DoorActivity;

    /// Why a request was refused that will be refused again until a person changes a setting: a budget too small for it with nothing
    /// under way that could give back, or a price that is not known. A sentence that names the setting.
    fn refusal(&self) -> Option<String> {
        None
    }
}
