//! The structural merge, from outside.

#![expect(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

mod languages;
mod lines;
mod merges;
