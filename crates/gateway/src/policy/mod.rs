//! Policy over the network: which requests may leave, and which secret may go where.
//!
//! * [`Policy`] is the file of rules; what no rule allows is denied.
//! * [`Layers`] are the rules of all files, for one agent.
//! * [`SecretsFile`] names secrets, their values and where each may go.
//! * [`Target`] is the one reading of a URL; everything behind it uses only that.
//! * [`Egress`] decides over requests.

mod egress;
mod files;
mod headers;
pub(crate) mod host;
mod layers;
mod patterns;
mod presets;
mod secrets;
mod target;

#[cfg(test)]
mod tests;

pub(crate) use egress::unpacked;
pub use egress::{Decision, Egress, Request};
pub use files::{BadFile, Effect, NetworkRule, Policy};
pub(crate) use host::closed;
pub use layers::{Layers, Verdict, widened};
pub use patterns::{HostPattern, PathPattern};
pub(crate) use secrets::basic;
pub use secrets::{Place, SecretRule, SecretsFile};
pub use target::{Host, Target};

/// Why something is denied: the rule's name, and a sentence that says what is wrong and what may be done instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The rule, such as `host.numeric`.
    pub rule: &'static str,
    /// The sentence.
    pub why: String,
}

impl Refusal {
    pub(crate) fn new(rule: &'static str, why: impl Into<String>) -> Self {
        Self { rule, why: why.into() }
    }
}
