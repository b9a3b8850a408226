//! The coding agent's built-in tools, and what the `aedile` command does inside a box.
//!
//! Everything here runs inside the box with the rights of the box: the kernel decides what may be written, these tools only explain it.
//! Programs are started through one module, the spawner; nothing here reads the environment.

mod apply_patch;
mod bash;
mod capture;
mod change_set;
mod commands;
mod door;
mod edit;
mod files;
mod glob;
mod grep;
mod html;
mod http;
mod input;
mod jobs;
mod leftovers;
mod locks;
mod ls;
mod mail;
mod mcp;
mod near;
mod notebook;
mod notebook_edit;
mod patch;
mod pdf;
mod picture;
mod place;
mod plan_tool;
mod read;
mod repository;
mod shell;
mod spawner;
mod submit;
mod submit_tool;
mod text_file;
mod todo;
mod toolbox;
mod web_fetch;
mod write;

pub use commands::BoxCommands;
pub use door::{DoorClient, DoorError};
pub use leftovers::clear_leftovers;
pub use locks::clear_stale_locks;
pub use mcp::{OfferedTool, OfferedTools, ToolAnswer, ToolCall, serve_mcp};
pub use submit::{SubmitError, Submitted, submit_work};
pub use toolbox::ToolBox;
pub use web_fetch::{FetchedPage, fetch_page};
