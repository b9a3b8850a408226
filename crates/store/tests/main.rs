//! One suite for every store, and what only the one on SQLite must do.

#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod conformance;
mod histories;
mod kill;
mod memory;
mod sqlite;
mod support;
