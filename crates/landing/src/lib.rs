//! Queue, tiers and gates: how changes reach the target.
//!
//! The queue is driven by the log alone. Whoever runs agents appends `ChangeSubmitted`; everything after it is appended here:
//! `ChangeImported`, `TierTried`, `GatePassed` or `GateFailed`, `Gated`, `LandIntended`, `Landed` with `TaskClosed`, or `ChangeReturned`
//! with evidence that is complete text for the agent. Each state of a change has one function that takes it to the next and can be
//! repeated after a crash, so there is no recovery apart from going on.
//!
//! [`window`] decides what is verified together, and is not yet what drives the queue: the queue takes one change after the other.
//!
//! What lands is one commit per change whose parent is the target's old commit and whose tree is exactly the one that the gates saw.

mod dropped;
mod error;
mod evidence;
mod filter;
mod gate;
mod hold;
mod job;
mod markers;
mod message;
mod policy;
mod queue;
mod repo;
mod room;
mod structural;
mod undo;
pub mod window;

pub use error::LandingError;
pub use gate::GateBox;
pub use queue::{LandingDeps, LandingQueue, Step};
pub use repo::commit_for_person;
pub use undo::{Undo, plan_undo};
