//! Both ends of the protocol through real pipes.

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod both_ends;
mod claude;
mod client;
mod fake;
mod schema;
mod server;
