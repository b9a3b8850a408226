//! `aedile policy`.

mod answer;
mod asks;
mod check;
mod explain;
mod show;
mod subject;

use clap::{Args, Subcommand};

use crate::error::CliResult;
use crate::output::Output;

/// See what agents may do, and which rule says so
#[derive(Debug, Args)]
pub struct PolicyArgs {
    #[command(subcommand)]
    command: PolicyCommand,
}

#[derive(Debug, Subcommand)]
enum PolicyCommand {
    /// Check a policy file: what is wrong in it, what it tries to widen, which globs match nothing
    ///
    /// FILE stands in the layer of its place: /etc/aedile/policy.toml, policy.toml beside your config.toml, `.aedile/policy.toml` of a
    /// repository; any other is the file of a run. It is compared with the wider layers that are there. The exit code is 4 when something is wrong.
    Check(check::CheckArgs),
    /// Show what results from all layers, and where each line comes from
    Show(show::ShowArgs),
    /// Say whether an agent may do something, and which rule decides
    ///
    /// The agent need not exist: then it is a builder, unless --role says otherwise. One of the last run, or of --run, has the role, task and policy that
    /// it has there. The exit code is 0 when it is allowed and 8 when it is denied.
    Explain(explain::ExplainArgs),
    /// List what agents ask a person to let pass, by rules with `effect = "ask"`
    Asks(asks::AsksArgs),
    /// Answer such a question
    ///
    /// The agent is not told: its next try passes, or is denied. A later answer to the same question takes the place of the earlier one.
    Answer(answer::AnswerArgs),
}

/// Runs `aedile policy`.
pub fn cmd_policy(args: &PolicyArgs, out: Output) -> CliResult {
    match &args.command {
        PolicyCommand::Check(args) => check::cmd_check(args, out),
        PolicyCommand::Show(args) => show::cmd_show(args, out),
        PolicyCommand::Explain(args) => explain::cmd_explain(args, out),
        PolicyCommand::Asks(args) => asks::cmd_asks(args, out),
        PolicyCommand::Answer(args) => answer::cmd_answer(args, out),
    }
}
