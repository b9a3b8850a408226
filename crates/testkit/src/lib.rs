//! Test support: a scripted model server, temporary repositories, a test environment for the program, waiting for conditions.
//!
//! Everything here fails by panicking, with a message that says what was expected.

#![expect(clippy::unwrap_used, clippy::panic, reason = "test support fails by panicking")]

pub mod environment;
mod http_body;
pub mod repository;
pub mod server;
mod server_answer;
mod server_answer_more;
mod server_http;
pub mod wait;

pub use aedile_core::clock::{SeededEntropy, SteppingClock};
pub use environment::{Background, Finished, TestEnvironment, User};
pub use repository::TempRepo;
pub use server::{Conversation, ScriptedServer, SeenRequest, Step, WireFormat};
pub use wait::{OsEntropy, SystemClock, require, wait_for, wait_for_async};
