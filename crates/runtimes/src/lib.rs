//! Adapters that start agents and speak with them.
//!
//! * [`AcpRuntime`] starts an agent that speaks the Agent Client Protocol (version 1) on stdio, ours or another vendor's,
//!   and drives it as a `core::runtime::Runtime`.
//! * [`ClaudeRuntime`] starts Claude Code and speaks its stream-json, which takes messages in the middle of a turn.
//! * [`serve_acp`] is the other end: it puts a `core::runtime::LocalAgent` on stdio.
//!
//! The JSON-RPC lines are read and written here ([`rpc`] names every message that we know, [`ours`] what we add). The published library for the
//! protocol was tried and left out: it reads lines of any length into untyped values, and its types come with two versions
//! of the protocol and their derive macros. What an agent sends is untrusted, so lines have a limit, nothing is parsed into
//! an untyped tree and unknown fields cost no memory. The tests hold our messages against the published schema's types.

mod acp_runtime;
mod asks;
mod claude;
mod claude_reader;
mod claude_wire;
mod client;
mod events;
mod flood;
mod line;
pub mod ours;
pub mod rpc;
mod server;
mod session;
mod stderr;

pub use acp_runtime::{AcpRuntime, ENV_DOOR_URL, ENV_MODEL, PLACEHOLDER_KEY};
pub use claude::{CLAUDE_VERSION_MIN, ClaudeRuntime, is_old};
pub use server::{ServeError, serve_acp};
