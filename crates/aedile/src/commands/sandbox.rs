//! `aedile sandbox`.

use std::path::{Path, PathBuf};

use aedile_core::sandbox::{BoxChild, BoxExit, BoxLimits, BoxNet, BoxSpec, Sandbox};
use aedile_sandbox::{ExecRequest, exec_spec};
use clap::{Args, Subcommand, ValueEnum};
use tokio::signal::unix::{SignalKind, signal};

use crate::error::{CliError, CliResult};
use crate::output::Output;
use crate::{env, open_door, state, wiring};

/// Use the box without agents
#[derive(Debug, Args)]
pub struct SandboxArgs {
    #[command(subcommand)]
    command: SandboxCommand,
}

#[derive(Debug, Subcommand)]
enum SandboxCommand {
    /// Run a command in a box in which DIR is the writable tree
    Exec(ExecArgs),
}

#[derive(Debug, Args)]
struct ExecArgs {
    /// The directory: its own path and the working directory in the box
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// Only what this glob (relative to DIR) allows is writable; may be repeated
    #[arg(long, value_name = "GLOB")]
    write: Vec<String>,
    /// Show this file or directory read-only at its own path; may be repeated
    #[arg(long, value_name = "PATH")]
    ro: Vec<PathBuf>,
    /// Set a variable in the box; may be repeated
    #[arg(long, value_name = "NAME=VALUE")]
    env: Vec<String>,
    /// What the box reaches
    #[arg(long, value_enum, default_value_t = Net::None)]
    net: Net,
    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Net {
    /// Nothing
    None,
    /// The gateway's door at http://127.0.0.1:7070, for the model that `[agents] model` of aedile.toml in DIR names
    Door,
}

/// Runs `aedile sandbox`.
pub fn cmd_sandbox(args: SandboxArgs, _out: Output) -> CliResult {
    let SandboxCommand::Exec(args) = args.command;
    let (dir, net) = (args.dir.clone(), args.net);
    let spec = exec_spec(request(args)?, env::home().as_deref(), &state::dir()?)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let exit = runtime.block_on(run(spec, &dir, net))?;
    runtime.shutdown_background();
    Ok(match exit {
        BoxExit::Code(code) => u8::try_from(code & 0xff).unwrap_or(u8::MAX),
        // As a shell says it.
        BoxExit::Signal(signal) => u8::try_from(128 + signal).unwrap_or(u8::MAX),
        BoxExit::TimedOut => 124,
    })
}

fn request(args: ExecArgs) -> Result<ExecRequest, CliError> {
    let env = args.env.iter().map(|pair| match pair.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err(CliError::usage(format!("--env {pair:?} must be written NAME=VALUE"))),
    });
    Ok(ExecRequest {
        env: env.collect::<Result<_, _>>()?,
        dir: args.dir,
        write: args.write,
        read_only: args.ro,
        net: if args.net == Net::Door { BoxNet::Door } else { BoxNet::None },
        command: args.command,
        limits: BoxLimits::default(),
    })
}

async fn run(spec: BoxSpec, dir: &Path, net: Net) -> Result<BoxExit, CliError> {
    let scratch = tempfile::Builder::new().prefix("aedile-box-").tempdir()?;
    let sandbox = wiring::sandbox(scratch.path())?;
    let opener = match net {
        Net::None => None,
        Net::Door => Some(open_door::Opener::for_directory(dir)?),
    };
    let mut child = sandbox.spawn(spec)?;
    let door = match (opener, child.take_door()) {
        (Some(opener), Some(listener)) => Some(opener.open(listener)?),
        _ => None,
    };
    let exit = watch(child.as_mut()).await;
    drop(door);
    drop(child);
    scratch.close()?;
    exit
}

/// Waits for the box. A signal to us is handed on as a request to end; a second one kills.
async fn watch(child: &mut dyn BoxChild) -> Result<BoxExit, CliError> {
    let (mut interrupt, mut term, mut hang) =
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?, signal(SignalKind::hangup())?);
    let mut asked = false;
    loop {
        let came = async {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = term.recv() => {}
                _ = hang.recv() => {}
            }
        };
        tokio::select! {
            exit = child.wait() => return Ok(exit?),
            () = came => {}
        }
        if asked {
            child.kill();
        } else {
            child.terminate();
        }
        asked = true;
    }
}
