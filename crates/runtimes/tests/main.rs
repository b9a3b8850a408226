//! Both ends of the protocol through real pipes.

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod both_ends;
mod client;
mod fake;
mod schema;
mod server;
