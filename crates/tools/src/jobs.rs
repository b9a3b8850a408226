//! Background jobs, and the tools `job_output` and `job_kill` that look after them.

use aedile_core::model::ToolSpec;
use aedile_core::tool::{Tool, ToolOutput, ToolRisk};
use async_trait::async_trait;
use grep_matcher::Matcher;
use grep_regex::RegexMatcher;
use serde_json::{Value, json};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::{sleep, timeout};

use crate::bash::{exit_text, file_note, with_notes};
use crate::input::{Input, output};
use crate::spawner::{Ended, Running, wait_for_end};

/// Jobs that may run at once.
const RUNNING_MAX: usize = 16;
/// Ended jobs that are remembered.
const REMEMBERED_MAX: usize = 64;
/// The longest wait of one call.
const WAIT_MAX: Duration = Duration::from_secs(600);

/// How often a job's output is looked at while something is awaited in it.
const LOOK_EVERY: Duration = Duration::from_millis(50);

struct Job {
    id: u64,
    command: String,
    running: Running,
    /// How much of its output was shown.
    shown: usize,
    /// Whether the model knows that it has ended.
    end_told: bool,
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
            return Err(format!("{RUNNING_MAX} background jobs run already; end one with `job_kill` first"));
        }
        if table.jobs.len() >= REMEMBERED_MAX
            && let Some(oldest) = table.jobs.iter().position(|job| job.running.ended().is_some())
        {
            table.jobs.remove(oldest);
        }
        table.last_id += 1;
        let id = table.last_id;
        table.jobs.push(Job { id, command: command.to_owned(), running, shown: 0, end_told: false });
        Ok(format!("started as background job {id}; look at it with `job_output`"))
    }

    fn list(&self) -> String {
        let mut table = self.table();
        let line = |job: &mut Job| {
            job.end_told |= job.running.ended().is_some();
            format!("{}: {} ({})", job.id, first_line(&job.command), state(job))
        };
        let lines: Vec<String> = table.jobs.iter_mut().map(line).collect();
        if lines.is_empty() { "[no background jobs]".to_owned() } else { lines.join("\n") }
    }

    /// Names the jobs that have ended since the model last heard of them.
    fn ended(&self) -> Option<String> {
        let mut table = self.table();
        let ended = table.jobs.iter_mut().filter(|job| !job.end_told && job.running.ended().is_some());
        let lines: Vec<String> = ended
            .map(|job| {
                job.end_told = true;
                format!(
                    "Background job {} has ended ({}): {}. See its output with `job_output`.",
                    job.id,
                    state(job),
                    first_line(&job.command)
                )
            })
            .collect();
        (!lines.is_empty()).then(|| lines.join("\n"))
    }

    fn with<T>(&self, id: u64, act: impl FnOnce(&mut Job) -> T) -> Result<T, String> {
        let mut table = self.table();
        let job = table.jobs.iter_mut().find(|job| job.id == id);
        job.map(act).ok_or_else(|| format!("there is no background job {id}; `job_output` without `id` lists them"))
    }

    /// Shows what is new. Waits first, until the job has ended or a new line matches.
    async fn output(&self, id: u64, wait: Duration, filter: Option<&RegexMatcher>) -> Result<String, String> {
        let mut watch = self.with(id, |job| job.running.watch())?;
        let matched = async {
            let Some(filter) = filter else { return std::future::pending().await };
            while !self.with(id, |job| job.running.output().since(job.shown)).is_ok_and(|new| new.lines().any(|line| matches(filter, line)))
            {
                sleep(LOOK_EVERY).await;
            }
        };
        let ended = async {
            wait_for_end(&mut watch).await;
            // Its last words may still be under way.
            sleep(LOOK_EVERY).await;
        };
        let _ = timeout(wait, async {
            tokio::select! { () = ended => {}, () = matched => {} }
        })
        .await;
        self.with(id, |job| {
            let (text, total, file) = {
                let output = job.running.output();
                (output.since(job.shown), output.total(), file_note(&output))
            };
            job.shown = total;
            job.end_told |= job.running.ended().is_some();
            let mut notes: Vec<String> = file.into_iter().collect();
            let text = match filter {
                None => text,
                Some(filter) => {
                    let lines: Vec<&str> = text.lines().filter(|line| matches(filter, line)).collect();
                    notes.push(format!("{} of {} new lines match", lines.len(), text.lines().count()));
                    lines.join("\n")
                }
            };
            notes.push(format!("job {id}: {}", state(job)));
            with_notes(&text, &notes)
        })
    }

    async fn kill(&self, id: u64) -> Result<String, String> {
        let mut watch = self.with(id, |job| {
            job.running.stop();
            job.running.watch()
        })?;
        wait_for_end(&mut watch).await;
        self.output(id, Duration::ZERO, None).await
    }
}

fn matches(filter: &RegexMatcher, line: &str) -> bool {
    // This matcher knows no errors.
    filter.is_match(line.as_bytes()).unwrap_or(false)
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

/// The tool `job_output`.
pub(crate) struct JobOutput {
    pub(crate) jobs: Arc<Jobs>,
}

/// The tool `job_kill`.
pub(crate) struct JobKill {
    pub(crate) jobs: Arc<Jobs>,
}

#[async_trait]
impl Tool for JobOutput {
    fn spec(&self) -> ToolSpec {
        ToolSpec {
            name: "job_output".to_owned(),
            description: format!(
                "Shows what a background job of `bash` has said since the last look, and whether it still runs. With `wait_s` it waits first (at most {}), \
                 until the job has ended or a new line matches `filter`. Without `id` it lists the jobs. You are told when a job has ended.",
                WAIT_MAX.as_secs()
            ),
            input_schema: json!({
                "type": "object",
                "properties": {
                    "id": {"type": "integer", "description": "The job."},
                    "wait_s": {"type": "integer", "minimum": 0, "description": "Seconds to wait."},
                    "filter": {"type": "string", "description": "Regular expression; only lines that match are shown."}
                }
            }),
        }
    }

    fn risk(&self) -> ToolRisk {
        ToolRisk::Execute
    }

    fn notice(&self) -> Option<String> {
        self.jobs.ended()
    }

    async fn call(&self, input: Value) -> ToolOutput {
        output(self.show(&input).await)
    }
}

impl JobOutput {
    async fn show(&self, input: &Value) -> Result<String, String> {
        let input = Input::new(input)?;
        let wait = Duration::from_secs(input.number_opt("wait_s")?.unwrap_or(0)).min(WAIT_MAX);
        let filter = input.text_opt("filter")?.map(RegexMatcher::new).transpose();
        let filter = filter.map_err(|error| format!("the field `filter` is not a usable regular expression: {error}"))?;
        match input.number_opt("id")? {
            None => Ok(self.jobs.list()),
            Some(id) => self.jobs.output(id, wait, filter.as_ref()).await,
        }
    }
}

#[async_trait]
impl Tool for JobKill {
    fn spec(&self) -> ToolSpec {
        ToolSpec {
            name: "job_kill".to_owned(),
            description: "Ends a background job of `bash` with all that it has started, and shows its last output.".to_owned(),
            input_schema: json!({
                "type": "object",
                "properties": {"id": {"type": "integer", "description": "The job."}},
                "required": ["id"]
            }),
        }
    }

    fn risk(&self) -> ToolRisk {
        ToolRisk::Execute
    }

    async fn call(&self, input: Value) -> ToolOutput {
        let id = Input::new(&input).and_then(|input| input.number_opt("id")?.ok_or_else(|| "the field `id` is missing".to_owned()));
        match id {
            Ok(id) => output(self.jobs.kill(id).await),
            Err(problem) => ToolOutput::error(problem),
        }
    }
}
