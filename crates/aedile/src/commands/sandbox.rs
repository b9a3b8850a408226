//! `aedile sandbox`.

use std::path::{Path, PathBuf};

use aedile_core::sandbox::{BoxChild, BoxExit, BoxLimits, BoxNet, BoxSpec, Sandbox};
use aedile_core::scope::Scope;
use aedile_sandbox::{ExecRequest, exec_spec, not_started};
use clap::{Args, Subcommand, ValueEnum};
use rustix::process::getpgrp;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::error::{CliError, CliResult};
use crate::output::Output;
use crate::{env, host, open_door, state, wiring};

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
    /// The exit code is the command's; 128 and the signal's number when a signal ended it, 126 when it cannot be executed, 127 when it is not
    /// there. When no box could be made it is one of aedile's own (docs/exit-codes.md), and stderr says why.
    Exec(ExecArgs),
}

#[derive(Debug, Args)]
struct ExecArgs {
    /// The directory: its own path and the working directory in the box
    ///
    /// Without --write the command may write all of it, `.git` with its hooks and its configuration too: look at what a command that you do
    /// not trust has left there before you use git in it, or name what it may write with --write.
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// Of what is there, only what this glob (relative to DIR) allows is writable; may be repeated
    ///
    /// `.git` of DIR and the repositories that lie in writable directories stay as they are, and DIR gets none when it has none. New entries
    /// can also come up beside what a glob for single files allows, and new repositories below DIR. A glob that cannot be held, because of a
    /// symbolic link beside what it allows for example, is refused.
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
    let state = state::dir()?;
    let spec = exec_spec(request(args)?, env::home().as_deref(), &state)?;
    let place = Place::of_this_process(&state);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let exit = runtime.block_on(run(spec, &dir, net, &place.0));
    runtime.shutdown_background();
    drop(place);
    let exit = exit?;
    Ok(match exit {
        BoxExit::Code(code) => u8::try_from(code & 0xff).unwrap_or(u8::MAX),
        // As a shell says it.
        BoxExit::Signal(signal) => u8::try_from(128 + signal).unwrap_or(u8::MAX),
        BoxExit::TimedOut => 124,
    })
}

/// Where the box puts copies down, if it needs any: below the state directory, named after this process. It goes when it is empty; what could
/// not be given back to DIR stays there, and `aedile clean` removes it in its time.
struct Place(PathBuf);

/// The directory of such places in the state directory; each is named `PID-START`.
pub const EXEC: &str = "exec";

impl Place {
    fn of_this_process(state: &Path) -> Self {
        let pid = std::process::id();
        Self(state.join(EXEC).join(format!("{pid}-{}", host::start_time(pid).unwrap_or_default())))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        for dir in [&self.0.join("boxes"), &self.0] {
            // Fails when it was never made or holds something, and both is well.
            let _ = std::fs::remove_dir(dir);
        }
    }
}

fn request(args: ExecArgs) -> Result<ExecRequest, CliError> {
    let env = args.env.iter().map(|pair| match pair.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err(CliError::usage(format!("--env {pair:?} must be written NAME=VALUE"))),
    });
    Scope::new(&args.write).map_err(|bad| {
        CliError::usage(format!("--write {:?} {}", bad.glob, bad.problem))
            .hint("globs are relative to DIR: `src/**` is everything below DIR/src")
    })?;
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

async fn run(spec: BoxSpec, dir: &Path, net: Net, place: &Path) -> Result<BoxExit, CliError> {
    let sandbox = wiring::persons_sandbox(place)?;
    let opener = match net {
        Net::None => None,
        Net::Door => Some(open_door::Opener::for_directory(dir)?),
    };
    // From here on no signal ends this process before the box is watched.
    let mut signals = [signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?, signal(SignalKind::hangup())?];
    let program = spec.command.first().cloned().unwrap_or_default();
    let mut child = sandbox.spawn(spec).map_err(|error| match not_started(&error) {
        Some(code) => CliError::new(code, format!("{program} was not started in the box: {error}"))
            .hint("the box sees the system's programs, the toolchains that `aedile doctor` lists, DIR and what --ro names"),
        None => error.into(),
    })?;
    let door = match (opener, child.take_door()) {
        (Some(opener), Some(listener)) => Some(opener.open(listener)?),
        _ => None,
    };
    let exit = watch(child.as_mut(), &mut signals).await;
    drop(door);
    drop(child);
    exit
}

/// Waits for the box. A signal to us is handed on as a request to end; a second one kills. Ctrl-C on a terminal is none of that: the
/// terminal gives it to the command too, which is to answer it as it would without a box.
async fn watch(child: &mut dyn BoxChild, [interrupt, term, hang]: &mut [Signal; 3]) -> Result<BoxExit, CliError> {
    let mut asked = false;
    loop {
        let from_terminal = tokio::select! {
            exit = child.wait() => return Ok(exit?),
            _ = interrupt.recv() => on_terminal(),
            _ = term.recv() => false,
            _ = hang.recv() => false,
        };
        if from_terminal {
            continue;
        }
        if asked {
            child.kill();
        } else {
            child.terminate();
        }
        asked = true;
    }
}

/// Whether this process and the command are what the terminal's keys reach.
fn on_terminal() -> bool {
    rustix::termios::tcgetpgrp(std::io::stdin()).is_ok_and(|group| group == getpgrp())
}
