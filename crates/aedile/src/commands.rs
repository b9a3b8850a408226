//! One file per command.

pub mod agent;
pub mod clean;
pub mod code;
pub mod costs;
pub mod demo;
pub mod diff;
pub mod doctor;
pub mod events;
pub mod feed;
pub mod init;
pub mod landing;
pub mod logs;
pub mod mail;
pub mod mcp;
pub mod run;
pub mod run_control;
pub mod runtime;
pub mod sandbox;
pub mod scan;
pub mod snapshot;
pub mod status;
pub mod store;
pub mod sync;
pub mod task;
pub mod transcript;
pub mod undo;
