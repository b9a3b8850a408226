//! Commands of the repository's configuration, such as hooks.

use aedile_core::tool::{CommandDone, CommandEnd, CommandRequest, CommandRunner};
use async_trait::async_trait;
use std::os::unix::process::ExitStatusExt;

use crate::spawner::{Bounded, Ended, run_bounded, shell_command};

/// Runs commands with the rights of the box. A command that is over its time is ended with everything that it has started.
#[derive(Debug, Clone, Copy)]
pub struct BoxCommands;

#[async_trait]
impl CommandRunner for BoxCommands {
    async fn run(&self, request: CommandRequest) -> CommandDone {
        let CommandRequest { command, cwd, env, stdin, limit, output_bytes_max } = request;
        match run_bounded(shell_command(&command, &cwd, &env), stdin, limit, output_bytes_max).await {
            Ok(Bounded { ended, stdout, stderr }) => CommandDone {
                end: end_of(ended),
                stdout: stdout.since(0),
                stderr: stderr.since(0),
                stdout_cut: stdout.total() > output_bytes_max,
            },
            Err(error) => CommandDone {
                end: CommandEnd::NotStarted(error.to_string()),
                stdout: String::new(),
                stderr: String::new(),
                stdout_cut: false,
            },
        }
    }
}

fn end_of(ended: Ended) -> CommandEnd {
    match ended {
        Ended::Exited(status) => match status.code() {
            Some(code) => CommandEnd::Exited(code),
            None => CommandEnd::Killed(status.signal().unwrap_or_default()),
        },
        Ended::TimedOut | Ended::Stopped => CommandEnd::TimedOut,
    }
}
