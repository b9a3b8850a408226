//! The demo: a small real project and the written turns of the agents that extend it.

pub mod project;
pub mod script;
pub mod words;
