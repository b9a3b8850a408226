//! Policy as code: what a file says, for whom, and in which layer it stands. Pure: whoever reads the files hands their texts in.
//!
//! A layer can only narrow what the others leave: what an agent does must pass every layer that says something of it. The part over the
//! network is read by `gateway`, which knows hosts and paths.

mod agent;
mod deed;
mod file;
mod reads;
mod scope;
mod sections;
#[cfg(test)]
mod tests;
mod whom;

use std::fmt;

use serde::{Deserialize, Serialize};

pub use agent::{AgentPolicy, DoorLimits, Layer, Policies, Source};
pub use deed::{BadDeed, Deed, Said};
pub use file::{BadPolicy, PolicyFile, Rule};
pub use reads::{Reads, Sight};
pub use sections::{Limits, Named, Names, Paths, Provider, Read, SecretNames, Sections, Spawn, Spend, Write};
pub use whom::{Who, Whom};

/// Where a policy file stands, from the widest to the narrowest.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LayerName {
    /// `/etc/aedile/policy.toml`: the machine's or the organisation's.
    Organisation,
    /// The person's own, beside their `config.toml`.
    User,
    /// `.aedile/policy.toml` of the repository, as the target's commit has it.
    Project,
    /// `--policy FILE` of a run or of `sandbox exec`.
    Run,
}

impl LayerName {
    /// Its name, as commands and decisions show it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Organisation => "organisation",
            Self::User => "user",
            Self::Project => "project",
            Self::Run => "run",
        }
    }
}

impl fmt::Display for LayerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A policy file as it was read.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PolicyText {
    /// Its layer.
    pub layer: LayerName,
    /// Where it was read, for messages: a path, or `PATH at COMMIT`.
    pub place: String,
    /// What it says.
    pub text: String,
}
