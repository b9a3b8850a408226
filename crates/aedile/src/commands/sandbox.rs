//! `aedile sandbox`.

mod exec;
mod policy;
mod relay;
pub mod unfinished;

pub use exec::EXEC;
pub use policy::{COMMAND, Policy};

use clap::{Args, Subcommand};

use crate::error::CliResult;
use crate::output::Output;

/// Use the box without agents: contain any command
#[derive(Debug, Args)]
pub struct SandboxArgs {
    #[command(subcommand)]
    command: SandboxCommand,
}

#[derive(Debug, Subcommand)]
enum SandboxCommand {
    /// Run a command in a box in which DIR is the writable tree
    ///
    /// The exit code is the command's; 128 and the signal's number when a signal ended it, 137 when it went beyond a limit, 124 when its time was
    /// over, 126 when it cannot be executed, 127 when it is not there. When no box could be made it is one of aedile's own
    /// (docs/exit-codes.md), and stderr says why. docs/security.md says what is held and what is not.
    Exec(exec::ExecArgs),
}

/// Runs `aedile sandbox`.
pub fn cmd_sandbox(args: SandboxArgs, out: Output) -> CliResult {
    let SandboxCommand::Exec(args) = args.command;
    exec::cmd_exec(&args, out)
}
