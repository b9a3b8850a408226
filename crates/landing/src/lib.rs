//! Queue, tiers and gates: how changes reach the target.
//!
//! The queue is driven by the log alone. Whoever runs agents appends `ChangeSubmitted`; everything after it is appended here:
//! `ChangeImported`, `TierTried`, `GatePassed` or `GateFailed`, `Gated`, `LandIntended`, `Landed` with `TaskClosed`, or `ChangeReturned`
//! with evidence that is complete text for the agent. Each state of a change has one function that takes it to the next and can be
//! repeated after a crash, so there is no recovery apart from going on.
//!
//! Where several changes wait, [`window`] decides what is verified together: each is merged with those before it, the gates run on some of these
//! trees at once, and the longest chain whose last tree has passed lands in one step.
//!
//! What lands is one commit per change. Where the target goes is exactly the tree that the gates saw.

mod batch;
mod chain;
mod drive;
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
mod verify;
pub mod window;

pub use error::LandingError;
pub use gate::GateBox;
pub use queue::{LandingDeps, LandingQueue, Step, verifiers};
pub use repo::commit_for_person;
pub use undo::{Undo, plan_undo};
