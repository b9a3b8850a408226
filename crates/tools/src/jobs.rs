//! Background jobs and the tool `job` that looks after them.

use aedile_core::model::ToolSpec;
use aedile_core::tool::{Tool, ToolOutput, ToolRisk};
use async_trait::async_trait;
use serde_json::{Value, json};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::timeout;

use crate::bash::{exit_text, with_notes};
use crate::input::{Input, output};
use crate::spawner::{Ended, Running, wait_for_end};

/// Jobs that may run at once.
const RUNNING_MAX: usize = 16;
/// Ended jobs that are remembered.
const REMEMBERED_MAX: usize = 64;
/// The longest wait of one call.
const WAIT_MAX: Duration = Duration::from_secs(600);

struct Job {
    id: u64,
    command: String,
    running: Running,
    /// How much of its output was shown.
    shown: usize,
}

/// All jobs of a session. Dropping it ends those that still run.
#[derive(Default)]
pub(crate) struct Jobs {
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    jobs: Vec<Job>,
    last_id: u64,
}

impl Jobs {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes over a started program. Refuses (and ends it) when too many run.
    pub(crate) fn add(&self, command: &str, running: Running) -> Result<String, String> {
        let mut table = self.table();
        if table.jobs.iter().filter(|job| job.running.ended().is_none()).count() >= RUNNING_MAX {
            return Err(format!("{RUNNING_MAX} background jobs run already; end one with `job` first"));
        }
        if table.jobs.len() >= REMEMBERED_MAX
            && let Some(oldest) = table.jobs.iter().position(|job| job.running.ended().is_some())
        {
            table.jobs.remove(oldest);
        }
        table.last_id += 1;
        let id = table.last_id;
        table.jobs.push(Job { id, command: command.to_owned(), running, shown: 0 });
        Ok(format!("started as background job {id}; look at it with `job`"))
    }

    fn list(&self) -> String {
        let table = self.table();
        let lines: Vec<String> =
            table.jobs.iter().map(|job| format!("{}: {} ({})", job.id, first_line(&job.command), state(job))).collect();
        if lines.is_empty() { "[no background jobs]".to_owned() } else { lines.join("\n") }
    }

    fn with<T>(&self, id: u64, act: impl FnOnce(&mut Job) -> T) -> Result<T, String> {
        let mut table = self.table();
        let job = table.jobs.iter_mut().find(|job| job.id == id);
        job.map(act).ok_or_else(|| format!("there is no background job {id}; `job` with the action `list` shows them"))
    }

    async fn output(&self, id: u64, wait: Duration) -> Result<String, String> {
        let mut watch = self.with(id, |job| job.running.watch())?;
        let _ = timeout(wait, wait_for_end(&mut watch)).await;
        self.with(id, |job| {
            let text = job.running.output().since(job.shown);
            job.shown = job.running.output().total();
            with_notes(&text, &[format!("job {id}: {}", state(job))])
        })
    }

    async fn kill(&self, id: u64) -> Result<String, String> {
        let mut watch = self.with(id, |job| {
            job.running.stop();
            job.running.watch()
        })?;
        wait_for_end(&mut watch).await;
        self.output(id, Duration::ZERO).await
    }
}

fn state(job: &Job) -> String {
    match job.running.ended() {
        None => "running".to_owned(),
        Some(Ended::Exited(status)) => exit_text(status).unwrap_or_else(|| "exit code 0".to_owned()),
        Some(Ended::TimedOut | Ended::Stopped) => "stopped".to_owned(),
    }
}

fn first_line(command: &str) -> &str {
    let line = command.lines().next().unwrap_or_default();
    &line[..line.floor_char_boundary(100)]
}

/// The tool.
pub(crate) struct JobTool {
    pub(crate) jobs: Arc<Jobs>,
}

#[async_trait]
impl Tool for JobTool {
    fn spec(&self) -> ToolSpec {
        ToolSpec {
            name: "job".to_owned(),
            description: "Looks after background jobs of `bash`: `list` them, show the `output` since the last look, or `kill` one."
                .to_owned(),
            input_schema: json!({
                "type": "object",
                "properties": {
                    "action": {"type": "string", "enum": ["list", "output", "kill"]},
                    "id": {"type": "integer", "description": "The job; for `output` and `kill`."},
                    "wait_s": {"type": "integer", "minimum": 0, "description": "For `output`: wait so many seconds for the job's end."}
                },
                "required": ["action"]
            }),
        }
    }

    fn risk(&self) -> ToolRisk {
        ToolRisk::Execute
    }

    async fn call(&self, input: Value) -> ToolOutput {
        output(self.act(&input).await)
    }
}

impl JobTool {
    async fn act(&self, input: &Value) -> Result<String, String> {
        let input = Input::new(input)?;
        let id = || input.number_opt("id")?.ok_or_else(|| "the field `id` is missing".to_owned());
        match input.text("action")? {
            "list" => Ok(self.jobs.list()),
            "output" => {
                let wait = Duration::from_secs(input.number_opt("wait_s")?.unwrap_or(0)).min(WAIT_MAX);
                self.jobs.output(id()?, wait).await
            }
            "kill" => self.jobs.kill(id()?).await,
            other => Err(format!("the field `action` must be list, output or kill, not {other:?}")),
        }
    }
}
