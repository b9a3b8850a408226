//! The test support is tested too: a test that cannot fail shows nothing.
#![expect(clippy::unwrap_used, reason = "tests")]

mod environment;
mod repository;
mod server;
