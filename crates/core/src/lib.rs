//! The nouns, events, state machines and traits that every other room shares.
//!
//! Invariants by absence: nothing here does I/O, reads a clock, a random source or the environment,
//! and nothing here knows tokio. Everything a room needs from the outside is a trait in this crate.

pub mod agent_api;
pub mod apply;
pub mod ask;
pub mod bounded;
pub mod clock;
pub mod crash;
pub mod egress;
pub mod event;
pub mod ids;
pub mod limits;
pub mod machine;
pub mod media;
pub mod model;
pub mod money;
pub mod plan;
pub mod policy;
pub mod project;
pub mod protected;
pub mod redact;
pub mod runtime;
pub mod sandbox;
pub mod scope;
pub mod store;
pub mod task;
pub mod temporary;
pub mod tool;
pub mod view;

pub use clock::{Clock, Entropy, SeededEntropy, SteppingClock, Timestamp};
pub use ids::*;
pub use money::{MicroUsd, Usage};
pub use redact::Redactor;
pub use secrecy::{ExposeSecret, SecretString};
