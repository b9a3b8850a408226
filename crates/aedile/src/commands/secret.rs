//! `aedile secret`.

mod audit;
mod binding;
mod canary;
mod given;
mod import;
mod list;
mod rm;
mod rotate;
mod set;

use clap::{Args, Subcommand};

use crate::error::CliResult;
use crate::output::Output;

/// Keep secrets where no agent sees them, and say which of them may be used for what
#[derive(Debug, Args)]
pub struct SecretArgs {
    #[command(subcommand)]
    command: SecretCommand,
}

#[derive(Debug, Subcommand)]
enum SecretCommand {
    /// Keep a secret, or another value and binding in the place of an earlier one
    ///
    /// The value is read from stdin, or asked for at a terminal. It is kept encrypted; the key that opens it lies beside your config.toml. A secret with
    /// the name of a provider (anthropic, openai, gemini, ...) is its key. Any other is for agents: where a request through a box's door holds
    /// what stands for the secret (`aedile-secret-NAME`), the door puts the value in its place, for the hosts, methods, paths and roles that you name here and
    /// nobody else.
    Set(set::SetArgs),
    /// List the secrets: where they come from and where they may go, never a value
    List(list::ListArgs),
    /// Forget a secret
    Rm(rm::RmArgs),
    /// Give a secret another value, or the vault another key
    ///
    /// The value is read from stdin, or asked for at a terminal; where the secret may go stays as it is.
    Rotate(rotate::RotateArgs),
    /// Show which agent used which secret for what, or which could have
    Audit(audit::AuditArgs),
    /// Put a decoy into boxes that looks like a token and opens nothing: whoever sends it somewhere is denied and told of
    Canary(canary::CanaryArgs),
    /// Keep every variable of a file (`.env`) as a secret
    Import(import::ImportArgs),
}

/// Runs `aedile secret`.
pub fn cmd_secret(args: SecretArgs, out: Output) -> CliResult {
    match args.command {
        SecretCommand::Set(args) => set::cmd_set(&args, out),
        SecretCommand::List(args) => list::cmd_list(&args, out),
        SecretCommand::Rm(args) => rm::cmd_rm(&args, out),
        SecretCommand::Rotate(args) => rotate::cmd_rotate(&args, out),
        SecretCommand::Audit(args) => audit::cmd_audit(&args, out),
        SecretCommand::Canary(args) => canary::cmd_canary(&args, out),
        SecretCommand::Import(args) => import::cmd_import(&args, out),
    }
}
