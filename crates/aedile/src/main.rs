//! The binary: several programs in one, chosen by the first argument before any thread starts.
#![expect(unreachable_pub, reason = "a binary's modules mark what they offer each other")]

mod agent_main;
mod cli;
mod clock;
mod commands;
mod config;
mod crash;
mod demo;
mod disk;
mod env;
mod error;
mod exit;
mod host;
mod inbox;
mod keys;
mod layers;
mod long_text;
mod names;
mod narrate;
mod open_door;
mod output;
mod picture;
mod planning;
mod prices;
mod progress;
mod runtimes;
mod selftest;
mod state;
mod terminal;
mod tracing_log;
mod wiring;
mod worker;

#[cfg(test)]
mod manual;
#[cfg(test)]
mod manual_tools;

use std::process::ExitCode;

fn main() -> ExitCode {
    match std::env::args_os().nth(1).as_deref().and_then(|arg| arg.to_str()) {
        Some(aedile_sandbox::LAUNCHER_ARGUMENT | aedile_sandbox::FEATURES_ARGUMENT | aedile_sandbox::attack::PROBE_ARGUMENT) => {
            aedile_sandbox::launcher_main()
        }
        Some("__agent") => agent_main::main(),
        _ => match env::text(env::DOOR) {
            Some(door) => inbox::main(&door),
            None => {
                crash::arm();
                cli::main()
            }
        },
    }
}
