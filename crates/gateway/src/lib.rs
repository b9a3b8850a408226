//! Doors: the only way out of a box.
//!
//! * [`Vault`] holds the values of secrets and takes them out of texts (`core::Redactor`).
//! * [`safe`] keeps secrets at rest.
//! * [`Gateway`] opens doors (`core::egress::Egress`): it knows the listener's owner, lets a closed list of requests pass,
//!   puts the real key in the place of the placeholder and streams the answers through.
//! * [`FetchRules`] names the hosts that agents may read from through their doors.
//! * [`leak`] finds credentials in texts by their form.
//! * [`policy`] decides which requests may leave, and reads their URLs.
//! * [`Ledger`] is the arithmetic of budgets: what may be reserved, what was spent.

mod address;
mod allowance;
mod answer;
mod asks;
mod authority;
mod body;
mod denials;
mod door;
mod error;
mod exchange;
mod fetch;
mod fetch_rules;
mod gateway;
mod head_watch;
mod inject;
mod lead;
pub mod leak;
pub mod ledger;
mod outages;
mod outward;
mod outward_anthropic;
mod outward_chat;
mod outward_gemini;
mod outward_ollama;
mod outward_responses;
mod passages;
mod passing;
pub mod policy;
mod proxy;
mod proxy_answer;
mod proxy_h2;
mod proxy_pool;
mod proxy_send;
mod proxy_tunnel;
mod proxy_websocket;
mod renewal;
mod renewal_ask;
mod routes;
pub mod safe;
mod sigv4;
mod spending;
mod tls_roots;
mod unpack;
mod upstream;
mod vault;
mod websocket;

pub use fetch_rules::FetchRules;
pub use gateway::{Gateway, GatewayError, Provider, ProviderKey};
pub use leak::decoy;
pub use ledger::Ledger;
pub use passages::{Outcome, Passage, Passages};
pub use vault::{BadSecret, SECRET_BYTES_MAX, Vault};
