//! What one agent did: its change, the files in it, what it ran and what it cost. Read from the log, so it can be told again at any time.

use aedile_core::event::{Event, Position};
use aedile_core::limits::READ_EVENTS_MAX;
use aedile_core::machine::{RunState, TaskState};
use aedile_core::runtime::SessionEvent;
use aedile_core::store::{Store, load};
use aedile_core::view::{ChangeView, RunView, TaskView};
use aedile_core::{MicroUsd, TaskId};
use aedile_git::Hub;
use serde::Deserialize;
use serde_json::json;

use crate::commands::costs::dollars;
use crate::error::CliError;
use crate::narrate::{branch, short};
use crate::output::one_line;
use crate::picture::Picture;

/// Files and commands that are named to people; all are in the JSON.
const NAMED_MAX: usize = 20;

/// How much of what an agent said in its last turn is told again.
const SAID_BYTES_MAX: usize = 32 * 1024;

/// What one agent did.
pub struct Report {
    /// Its run.
    pub run: RunView,
    /// Its task.
    pub task: TaskView,
    /// Its change, when it submitted one.
    pub change: Option<ChangeView>,
    /// git's letter and path of each file of the change, or of what was saved without one.
    files: Vec<(char, String)>,
    commands: Vec<(String, u32)>,
    /// What the agent said in its last turn.
    said: String,
    other_tools: u32,
    turns: u32,
    spent: (u64, MicroUsd),
    /// Milliseconds from its first event to its last.
    wall_ms: u64,
}

/// A turn's transcript, as far as it is told here.
#[derive(Deserialize)]
struct Transcript {
    #[serde(default)]
    events: Vec<SessionEvent>,
}

impl Report {
    /// Reads what is known of a task of a run, or of its only one.
    pub fn of(store: &dyn Store, hub: &Hub, run: RunView, task: Option<TaskId>) -> Result<Self, CliError> {
        let picture = Picture::of(store, run)?;
        let gone = || CliError::failure(format!("run {} has no task", picture.run.run.short()));
        let wanted = |of: &&TaskView| task.is_none_or(|task| of.task == task);
        let task = picture.tasks.iter().find(wanted).cloned().ok_or_else(gone)?;
        let change = match task.change {
            Some(change) => load::<ChangeView>(store, &change.to_string())?,
            None => None,
        };
        let ends = match (&change, &task.base, &task.snapshot) {
            (Some(change), ..) => Some((&change.base, &change.commit)),
            (None, Some(base), Some(saved)) => Some((base, saved)),
            _ => None,
        };
        // What was returned before it was imported, or cleaned since, is not in the hub.
        let files = ends.and_then(|(base, commit)| hub.diff_paths(base, commit).ok()).unwrap_or_default();
        let files = files.into_iter().map(|file| (file.status, one_line(&file.path.to_string_lossy(), 300))).collect();
        let spent = picture.spent(task.task);
        let run = picture.run.clone();
        let mut report = Self {
            run,
            change,
            files,
            commands: Vec::new(),
            said: String::new(),
            other_tools: 0,
            turns: task.turn,
            spent,
            wall_ms: 0,
            task,
        };
        report.read_log(store)?;
        Ok(report)
    }

    fn read_log(&mut self, store: &dyn Store) -> Result<(), CliError> {
        let (run, mut at) = (self.run.run, Position(self.run.first.0.saturating_sub(1)));
        loop {
            let events = store.read(at, READ_EVENTS_MAX)?;
            let Some(last) = events.last() else { return Ok(()) };
            at = last.position;
            for envelope in events.iter().filter(|envelope| envelope.run == Some(run)) {
                self.wall_ms = u64::try_from(envelope.at.since(self.run.started).as_millis()).unwrap_or(u64::MAX);
                let Event::TurnEnded { task, transcript: Some(blob), .. } = &envelope.event else { continue };
                if *task != self.task.task {
                    continue;
                }
                let bytes = store.get_blob(blob)?.unwrap_or_default();
                // A transcript of a later aedile may hold more than we know.
                let Ok(transcript) = serde_json::from_slice::<Transcript>(&bytes) else { continue };
                self.said.clear();
                transcript.events.iter().for_each(|event| self.note(event));
            }
        }
    }

    fn note(&mut self, event: &SessionEvent) {
        let title = match event {
            SessionEvent::Text { text } if self.said.len() + text.len() <= SAID_BYTES_MAX => return self.said.push_str(text),
            SessionEvent::ToolStarted { title, .. } => title,
            _ => return,
        };
        let command =
            title.split_once(' ').filter(|(tool, _)| tool.eq_ignore_ascii_case("bash")).map(|(_, command)| one_line(command, 100));
        let Some(command) = command else {
            self.other_tools += 1;
            return;
        };
        match self.commands.iter_mut().find(|(known, _)| *known == command) {
            Some((_, times)) => *times += 1,
            None => self.commands.push((command, 1)),
        }
    }

    /// The commands that take a held change.
    fn ways(&self) -> Vec<String> {
        let Some(change) = self.change.as_ref().filter(|_| self.task.state == TaskState::Held) else { return Vec::new() };
        let id = change.change.short();
        ["--apply", "--branch NAME", "--land"].iter().map(|way| format!("aedile code --take {id} {way}")).collect()
    }

    /// The closing object of `--json`.
    pub fn to_json(&self) -> serde_json::Value {
        let files: Vec<_> = self.files.iter().map(|(status, path)| json!({ "path": path, "status": status.to_string() })).collect();
        let commands: Vec<_> = self.commands.iter().map(|(command, times)| json!({ "command": command, "times": times })).collect();
        let change = self.change.as_ref();
        json!({
            "run": self.run.run, "state": self.task.state, "why": self.task.why, "change": change.map(|change| change.change),
            "commit": change.map(|change| &change.commit), "landed": self.task.landed, "base": self.task.base, "agent": self.task.agent,
            "said": self.said, "summary": change.map(|change| &change.summary), "files": files, "commands": commands, "other_tool_calls": self.other_tools,
            "turns": self.turns, "tokens": self.spent.0, "usd": dollars(self.spent.1), "wall_ms": self.wall_ms,
            "gates": self.run.rules.gates.len(), "snapshot": self.task.snapshot, "ways": self.ways(),
        })
    }

    /// The closing lines.
    pub fn lines(&self) -> Vec<String> {
        let mut lines = vec![self.headline()];
        let change = self.change.as_ref();
        if let Some(change) = change {
            lines.extend(change.summary.lines().take(NAMED_MAX).map(|line| format!("  {}", one_line(line, 300))));
        }
        lines.extend(self.files.iter().take(NAMED_MAX).map(|(status, path)| format!("  {status} {path}")));
        if self.files.len() > NAMED_MAX {
            lines.push(format!("  and {} more files", self.files.len() - NAMED_MAX));
        }
        lines.push(format!("ran  {}", self.ran()));
        let (seconds, tenths) = (self.wall_ms / 1000, self.wall_ms % 1000 / 100);
        lines.push(format!("cost {}, {} tokens, {} in {seconds}.{tenths} s", self.spent.1, self.spent.0, counted(self.turns, "turn")));
        if let (TaskState::Held, Some(change)) = (self.task.state, change) {
            let id = change.change.short();
            lines.push("Nothing in your checkout has changed, and no gate has run. The change is kept:".to_owned());
            lines.push(format!("  aedile diff {id}                       look at it"));
            lines.push(format!("  aedile code --take {id} --apply        put it onto this checkout"));
            lines.push(format!("  aedile code --take {id} --branch NAME  make a branch of it"));
            let gates = match self.run.rules.gates.len() {
                0 => "land it (no gate is configured)".to_owned(),
                gates => format!("land it through {}", counted(u32::try_from(gates).unwrap_or(u32::MAX), "gate")),
            };
            lines.push(format!("  aedile code --take {id} --land         {gates}"));
        }
        lines
    }

    fn headline(&self) -> String {
        let agent = self.task.agent.as_ref().map_or("the agent", |agent| agent.as_str());
        let files = counted(u32::try_from(self.files.len()).unwrap_or(u32::MAX), "file");
        let id = self.change.as_ref().map(|change| change.change.short()).unwrap_or_default();
        match (self.task.state, &self.task.landed) {
            (TaskState::Answered, _) => format!("{agent} has answered; nothing was to be changed"),
            (TaskState::Landed, Some(commit)) => {
                format!("change {id} of {agent}, {files}: landed on {} as {}", branch(&self.run.landing_ref), short(commit))
            }
            (TaskState::Held, _) => format!("change {id} of {agent}, {files}"),
            (TaskState::Taken, _) => format!("change {id} of {agent}, {files}: you have taken it"),
            (state, _) if self.run.state == RunState::Stopped => {
                format!("stopped while the work of {agent} was {state}; {files} changed so far, all saved")
            }
            (state, _) => format!("{agent}: {state}; {files} changed so far, all saved"),
        }
    }

    fn ran(&self) -> String {
        let mut parts: Vec<String> = self
            .commands
            .iter()
            .take(NAMED_MAX)
            .map(|(command, times)| match times {
                1 => command.clone(),
                times => format!("{command} ({times}x)"),
            })
            .collect();
        if self.commands.len() > NAMED_MAX {
            parts.push(format!("{} more commands", self.commands.len() - NAMED_MAX));
        }
        let commands = if parts.is_empty() { "no commands".to_owned() } else { parts.join(", ") };
        format!("{commands}; {}", counted(self.other_tools, "other tool call"))
    }
}

fn counted(count: u32, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}
