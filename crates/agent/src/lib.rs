//! The coding agent: turns, context, instructions, hooks, skills, commands, sub-agents, permissions, sessions.
//!
//! It sees its tools as [`aedile_core::tool::Tool`] and its model as [`aedile_core::model::ModelProvider`] and knows nothing of who started it.
//! A session is one conversation; it is kept in `HOME/.aedile/sessions/<id>.jsonl` and can be opened again by a later process.

mod agent;
mod calls;
mod compaction;
mod config;
mod constraints;
mod context;
mod conversation;
mod front_matter;
mod hook_answer;
mod hook_event;
mod hooks;
mod inbox;
mod instructions;
mod journal;
mod library;
mod live;
mod opening;
mod output;
mod permission;
mod public_names;
mod repeats;
mod rule;
mod session;
mod settings;
mod shell_parts;
mod skill;
mod slash;
mod state;
mod subagent;
mod turn;

pub use agent::Agent;
pub use config::{AgentConfig, ModelChoice, ModelFinder, ToolFactory};
pub use journal::SessionError;
pub use session::Session;
