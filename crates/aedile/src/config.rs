//! Configuration: `aedile.toml` of the project and the tasks file.

pub mod detect;
pub mod file;
pub mod tasks;
