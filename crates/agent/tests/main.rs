//! Behaviour of the agent with real tools, real files and a model that plays written answers.
#![expect(clippy::unwrap_used, reason = "tests")]

mod context;
mod hooks;
mod interrupts;
mod library;
mod limits;
mod messages;
mod models;
mod output;
mod permissions;
mod sessions;
mod subagents;
mod support;
mod turns;
