//! The command line: one file per command under `commands/`, this list, and the way from a result to an exit code.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::commands;
use crate::error::{CliError, CliResult};
use crate::output::Output;

/// Many coding agents on one repository: contained, metered, and merged only when green.
#[derive(Debug, Parser)]
#[command(name = "aedile", version, max_term_width = 100, after_long_help = format!("{}\n\n{}", crate::exit::help(), crate::env::help()))]
pub struct Cli {
    /// Print machine-readable JSON on stdout.
    #[arg(long, global = true)]
    pub json: bool,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Every command.
#[derive(Debug, Subcommand)]
pub enum Command {
    Init(commands::init::InitArgs),
    Demo(commands::demo::DemoArgs),
    Run(commands::run::RunArgs),
    Code(commands::code::CodeArgs),
    Status(commands::status::StatusArgs),
    Task(commands::task::TaskArgs),
    Agent(commands::agent::AgentArgs),
    Mail(commands::mail::MailArgs),
    Landing(commands::landing::LandingArgs),
    MergeDriver(commands::merge_driver::MergeDriverArgs),
    MergeFile(commands::merge_file::MergeFileArgs),
    Resolve(commands::resolve::ResolveArgs),
    Diff(commands::diff::DiffArgs),
    Undo(commands::undo::UndoArgs),
    Logs(commands::logs::LogsArgs),
    Transcript(commands::transcript::TranscriptArgs),
    Snapshot(commands::snapshot::SnapshotArgs),
    Feed(commands::feed::FeedArgs),
    Events(commands::events::EventsArgs),
    Costs(commands::costs::CostsArgs),
    Sync(commands::sync::SyncArgs),
    Runtime(commands::runtime::RuntimeArgs),
    Sandbox(commands::sandbox::SandboxArgs),
    Attack(commands::attack::AttackArgs),
    Scan(commands::scan::ScanArgs),
    Policy(commands::policy::PolicyArgs),
    Secret(commands::secret::SecretArgs),
    Gateway(commands::gateway::GatewayArgs),
    Mcp(commands::mcp::McpArgs),
    Doctor(commands::doctor::DoctorArgs),
    Store(commands::store::StoreArgs),
    Clean(commands::clean::CleanArgs),
}

/// Runs the command line.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse_from(commands::merge_file::arguments(std::env::args_os())) {
        Ok(cli) => cli,
        Err(error) => {
            // clap prints help and version to stdout and errors to stderr; its exit codes are 0 and 2, as ours.
            let code = u8::try_from(error.exit_code()).unwrap_or(crate::exit::USAGE);
            if code != crate::exit::OK && std::env::args_os().take_while(|arg| arg != "--").any(|arg| arg == "--json") {
                Output { json: true }.object(&usage_error(&error).to_json());
            }
            let _ = error.print();
            return ExitCode::from(code);
        }
    };
    let out = Output { json: cli.json };
    match dispatch(cli.command, out) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            report(&error, out);
            ExitCode::from(error.code)
        }
    }
}

/// What clap says, as an error of ours: its first line, and the rest as a hint.
fn usage_error(error: &clap::Error) -> CliError {
    let text = error.to_string();
    let (first, rest) = text.split_once("\n\n").unwrap_or((&text, ""));
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let plain = CliError::usage(words(first.trim_start_matches("error: ")));
    if rest.trim().is_empty() { plain } else { plain.hint(words(rest)) }
}

fn report(error: &CliError, out: Output) {
    if out.json {
        out.object(&error.to_json());
    }
    out.warn(error.to_string());
}

fn dispatch(command: Command, out: Output) -> CliResult {
    match command {
        Command::Init(args) => commands::init::cmd_init(&args, out),
        Command::Demo(args) => commands::demo::cmd_demo(&args, out),
        Command::Run(args) => commands::run::cmd_run(&args, out),
        Command::Code(args) => commands::code::cmd_code(&args, out),
        Command::Status(args) => commands::status::cmd_status(&args, out),
        Command::Task(args) => commands::task::cmd_task(&args, out),
        Command::Agent(args) => commands::agent::cmd_agent(&args, out),
        Command::Mail(args) => commands::mail::cmd_mail(&args, out),
        Command::Landing(args) => commands::landing::cmd_landing(&args, out),
        Command::MergeDriver(args) => commands::merge_driver::cmd_merge_driver(&args, out),
        Command::MergeFile(args) => commands::merge_file::cmd_merge_file(&args, out),
        Command::Resolve(args) => commands::resolve::cmd_resolve(&args, out),
        Command::Diff(args) => commands::diff::cmd_diff(&args, out),
        Command::Snapshot(args) => commands::snapshot::cmd_snapshot(&args, out),
        Command::Undo(args) => commands::undo::cmd_undo(&args, out),
        Command::Logs(args) => commands::logs::cmd_logs(&args, out),
        Command::Transcript(args) => commands::transcript::cmd_transcript(&args, out),
        Command::Feed(args) => commands::feed::cmd_feed(&args, out),
        Command::Events(args) => commands::events::cmd_events(&args, out),
        Command::Costs(args) => commands::costs::cmd_costs(&args, out),
        Command::Sync(args) => commands::sync::cmd_sync(&args, out),
        Command::Runtime(args) => commands::runtime::cmd_runtime(&args, out),
        Command::Attack(args) => commands::attack::cmd_attack(&args, out),
        Command::Sandbox(args) => commands::sandbox::cmd_sandbox(args, out),
        Command::Policy(args) => commands::policy::cmd_policy(&args, out),
        Command::Scan(args) => commands::scan::cmd_scan(&args, out),
        Command::Secret(args) => commands::secret::cmd_secret(args, out),
        Command::Gateway(args) => commands::gateway::cmd_gateway(&args, out),
        Command::Mcp(args) => commands::mcp::cmd_mcp(&args, out),
        Command::Doctor(args) => commands::doctor::cmd_doctor(&args, out),
        Command::Store(args) => commands::store::cmd_store(&args, out),
        Command::Clean(args) => commands::clean::cmd_clean(&args, out),
    }
}
