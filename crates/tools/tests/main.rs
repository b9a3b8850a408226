//! Behaviour of the tools on real files, real processes and real git.
#![expect(clippy::unwrap_used, reason = "tests")]

mod door;
mod files;
mod media;
mod patches;
mod search;
mod shell;
mod submit;
mod support;
mod web;
