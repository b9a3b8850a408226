//! The event log and its views, on SQLite and in memory.
//!
//! The log is the truth. Views are documents that [`aedile_core::apply`] makes from it in the same transaction. An
//! append is answered when it is on the disk. [`SqliteStore`] is what people use; [`MemoryStore`] is the same thing for
//! simulations, and can crash.

mod blobs;
mod check;
mod claims;
mod connection;
mod create;
mod error;
mod log;
mod memory;
mod memory_views;
mod prepare;
mod schema;
mod sqlite;
mod write;
mod writer;

pub use blobs::Removed;
pub use check::{CheckReport, PROBLEMS_MAX, Stats};
pub use connection::LOCK_WAIT_MAX;
pub use memory::{Crash, MemoryStore};
pub use sqlite::{Options, SqliteStore};
