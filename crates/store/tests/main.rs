//! One suite for every store, and what only the one on SQLite must do.

mod conformance;
mod support;
