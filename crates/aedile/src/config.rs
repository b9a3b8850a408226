//! Configuration: `aedile.toml` of the project, the person's own file and the tasks file.

pub mod detect;
pub mod file;
pub mod person;
pub mod tasks;
