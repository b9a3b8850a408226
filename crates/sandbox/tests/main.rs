//! The box on this kernel. Started as root, the whole suite runs a second time as an ordinary user.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "tests")]

mod attack;
mod copies;
mod cow;
mod exec;
mod figures;
mod guard;
mod kernel;
mod limits;
mod network;
mod ordinary;
mod planted;
mod processes;
mod reads;
mod scopes;
mod support;
mod tools;
mod writes;
