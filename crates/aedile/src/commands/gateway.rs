//! `aedile gateway`.

mod log;

use clap::{Args, Subcommand};

use crate::error::CliResult;
use crate::output::Output;

/// See what passed the boundary, and what did not
#[derive(Debug, Args)]
pub struct GatewayArgs {
    #[command(subcommand)]
    command: GatewayCommand,
}

#[derive(Debug, Subcommand)]
enum GatewayCommand {
    /// List the requests that left through a door, or would have: who, where to, by which rule, with which secret, how much, how long
    ///
    /// A request is listed when it has ended. Queries, headers and bodies are not kept, of secrets only the name. The newest lines are kept, 32 MB of them; denials and the
    /// use of secrets are events besides, which stay (`events`, `secret audit`).
    Log(log::LogArgs),
}

/// Runs `aedile gateway`.
pub fn cmd_gateway(args: &GatewayArgs, out: Output) -> CliResult {
    match &args.command {
        GatewayCommand::Log(args) => log::cmd_log(args, out),
    }
}
