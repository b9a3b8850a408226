//! `bash`: runs a command.

use aedile_core::limits::{BASH_TIMEOUT, BASH_TIMEOUT_MAX};
use aedile_core::model::ToolSpec;
use aedile_core::tool::{Tool, ToolOutput, ToolRisk};
use async_trait::async_trait;
use serde_json::{Value, json};
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use crate::capture::Capture;
use crate::input::Input;
use crate::jobs::Jobs;
use crate::place::Place;
use crate::shell::Shell;
use crate::spawner::Ended;

/// The tool.
pub(crate) struct Bash {
    pub(crate) shell: Arc<Shell>,
    pub(crate) jobs: Arc<Jobs>,
}

#[async_trait]
impl Tool for Bash {
    fn spec(&self) -> ToolSpec {
        ToolSpec {
            name: "bash".to_owned(),
            description: format!(
                "Runs a shell command. {} kept for the next call; options, traps and running programs are not. There is no stdin and no \
                 terminal. A command is ended after `timeout_s` seconds ({} when absent, at most {}). Long output is cut in the middle, and the whole \
                 of it stands in a file that is named. With `background` the command goes on by itself; look at it with `job_output`, end it with \
                 `job_kill`.",
                if self.shell.keeps_variables() {
                    "Its working directory, variables and functions are"
                } else {
                    "Its working directory is"
                },
                BASH_TIMEOUT.as_secs(),
                BASH_TIMEOUT_MAX.as_secs()
            ),
            input_schema: json!({
                "type": "object",
                "properties": {
                    "command": {"type": "string", "description": "The command."},
                    "timeout_s": {"type": "integer", "minimum": 1, "description": "Time limit in seconds."},
                    "background": {"type": "boolean", "description": "Start it and return at once, for servers and long builds."}
                },
                "required": ["command"]
            }),
        }
    }

    fn risk(&self) -> ToolRisk {
        ToolRisk::Execute
    }

    async fn call(&self, input: Value) -> ToolOutput {
        self.run(&input).await.unwrap_or_else(ToolOutput::error)
    }
}

impl Bash {
    async fn run(&self, input: &Value) -> Result<ToolOutput, String> {
        let input = Input::new(input)?;
        let command = input.text("command")?;
        let limit =
            input.number_opt("timeout_s")?.map_or(BASH_TIMEOUT, Duration::from_secs).clamp(Duration::from_secs(1), BASH_TIMEOUT_MAX);
        let (cwd, gone) = self.shell.cwd();
        let not_started = |error: std::io::Error| match error.raw_os_error() {
            Some(7) => "the command is too long; write it to a file with `write` and run the file".to_owned(),
            _ => format!("the command cannot be started: {error}"),
        };
        if input.flag("background")? {
            let running = self.shell.background(command, &cwd).map_err(not_started)?;
            return self.jobs.add(command, running).map(ToolOutput::ok);
        }
        let (mut running, state) = self.shell.foreground(command, &cwd, limit).map_err(not_started)?;
        let (ended, held) = running.wait().await;
        let output = running.output().since(0);
        let mut notes: Vec<String> = file_note(&running.output()).into_iter().collect();
        if matches!(ended, Ended::Exited(_)) {
            notes.extend(state.as_ref().and_then(|state| self.shell.take(state)));
        }
        if gone {
            notes.push("the last working directory is gone; the command ran in the workspace's root".to_owned());
        }
        notes.extend(how_it_ended(ended, limit));
        if held {
            notes.push("a program it started goes on and still holds its output; what it says from now on is not shown".to_owned());
        }
        let success = matches!(ended, Ended::Exited(status) if status.success());
        if !success {
            notes.extend(scope_note(&self.shell.place, &output));
        }
        let (now, _) = self.shell.cwd();
        if now != cwd {
            notes.push(format!("working directory: {}", self.shell.place.show(&now)));
        }
        let text = with_notes(&output, &notes);
        Ok(if success { ToolOutput::ok(text) } else { ToolOutput::error(text) })
    }
}

/// Names the file that holds the whole of a long output.
pub(crate) fn file_note(output: &Capture) -> Option<String> {
    let (path, whole) = output.file()?;
    let what = if whole { "the whole output" } else { "the beginning of the output, up to 16 MiB," };
    Some(format!("{what} is in {}; look into it with `grep`, or `read` with `offset`", path.display()))
}

/// Joins output and notes; never empty.
pub(crate) fn with_notes(output: &str, notes: &[String]) -> String {
    let mut lines: Vec<String> = Vec::new();
    if !output.trim().is_empty() {
        lines.push(output.trim_end().to_owned());
    }
    lines.extend(notes.iter().map(|note| format!("[{note}]")));
    if lines.is_empty() { "[no output]".to_owned() } else { lines.join("\n") }
}

/// Says how a program ended, unless it ended well.
pub(crate) fn exit_text(status: ExitStatus) -> Option<String> {
    match (status.code(), status.signal()) {
        (Some(0), _) => None,
        (Some(code), _) => Some(format!("exit code {code}")),
        (None, Some(signal)) => Some(format!("ended by signal {signal}")),
        (None, None) => Some("ended in an unknown way".to_owned()),
    }
}

fn how_it_ended(ended: Ended, limit: Duration) -> Option<String> {
    match ended {
        Ended::Exited(status) => exit_text(status),
        Ended::TimedOut => Some(format!(
            "ended at its time limit of {} s with all it had started; what it set is not kept; give a larger `timeout_s` or use `background`",
            limit.as_secs()
        )),
        Ended::Stopped => Some("stopped".to_owned()),
    }
}

/// Names the scope when a failed command met the write protection.
fn scope_note(place: &Place, output: &str) -> Option<String> {
    let denied =
        output.contains("Read-only file system") || output.contains("Permission denied") || output.contains("Device or resource busy");
    if !denied {
        return None;
    }
    Some(format!("writes outside the task's scope are refused. This task may change: {}", place.allowed()?))
}
