//! `aedile snapshot`.

use std::collections::HashMap;
use std::io::ErrorKind;
use std::path::{Component, Path, PathBuf};

use aedile_core::event::{Event, Position};
use aedile_core::limits::READ_EVENTS_MAX;
use aedile_core::store::{Store, list};
use aedile_core::view::{RunView, TaskView};
use aedile_core::{Clock, CommitId};
use aedile_git::{Hub, SavedTurn};
use aedile_store::SqliteStore;
use clap::{Args, Subcommand};
use serde_json::json;

use crate::clock::{SystemClock, ago, moment};
use crate::commands::diff::{self, Sides};
use crate::error::{CliError, CliResult};
use crate::narrate::short;
use crate::output::{Output, table};
use crate::terminal::printable;
use crate::{disk, exit, names, state, wiring};

/// Files in the way that a message names.
const NAMED_MAX: usize = 3;

/// Show what each turn saved, and write it into a directory of yours
#[derive(Debug, Args)]
pub struct SnapshotArgs {
    #[command(subcommand)]
    command: SnapshotCommand,
    /// The run (its id or the eight characters that other commands print); otherwise the last one that has the task
    #[arg(long, value_name = "RUN", global = true)]
    run: Option<String>,
}

#[derive(Debug, Subcommand)]
enum SnapshotCommand {
    /// List the snapshots of a task, or of every task of the last run
    List {
        /// Its id in the tasks file
        task: Option<String>,
    },
    /// Show what a turn changed; without TURN everything since the workspace began, with two what changed between them
    Diff {
        /// Its id in the tasks file
        task: String,
        /// The turn; 0 is where the task's first workspace began
        turn: Option<u32>,
        /// The later turn
        later: Option<u32>,
        /// A line for each file and a sum
        #[arg(long)]
        stat: bool,
        /// The exact bytes, for `git apply`; not on a terminal
        #[arg(long, conflicts_with = "stat")]
        raw: bool,
        /// Also when it holds what looks like secrets
        #[arg(long, requires = "raw")]
        despite_secrets: bool,
    },
    /// Write what a turn saved into a new or empty directory
    Restore {
        /// Its id in the tasks file
        task: String,
        /// The turn; otherwise the last one
        turn: Option<u32>,
        /// Where to: a directory that is empty or not there yet
        #[arg(long, value_name = "DIR")]
        to: PathBuf,
        /// Also when it holds what looks like secrets
        #[arg(long)]
        despite_secrets: bool,
    },
}

/// Runs `aedile snapshot`. Nothing of the person's changes but the directory that `restore` names.
pub fn cmd_snapshot(args: &SnapshotArgs, out: Output) -> CliResult {
    let Some(store) = state::open_existing()? else {
        let SnapshotCommand::List { task: None } = &args.command else { return Err(state::nothing_yet()) };
        if let Some(text) = &args.run {
            return Err(state::no_run(text));
        }
        out.object_or(&json!({ "run": null, "snapshots": [] }), || vec![state::NOTHING_YET.to_owned()]);
        return Ok(exit::OK);
    };
    let run = args.run.as_deref();
    match &args.command {
        SnapshotCommand::List { task } => list_all(&store, run, task.as_deref(), out),
        SnapshotCommand::Diff { task, turn, later, stat, raw, despite_secrets } => {
            let kept = Kept::of(&store, run, task)?;
            let (from, to) = kept.range(*turn, *later)?;
            let sides = Sides { from, to, stat: *stat, raw: *raw, despite_secrets: *despite_secrets };
            diff::show(&kept.hub, &sides, json!({ "run": kept.run.run, "task": kept.task.spec.key }), out)?;
            Ok(exit::OK)
        }
        SnapshotCommand::Restore { task, turn, to, despite_secrets } => {
            Kept::of(&store, run, task)?.restore(*turn, to, *despite_secrets, out)
        }
    }
}

/// The snapshots of one task.
struct Kept {
    hub: Hub,
    run: RunView,
    task: TaskView,
    turns: Vec<SavedTurn>,
}

impl Kept {
    fn of(store: &SqliteStore, run: Option<&str>, task: &str) -> Result<Self, CliError> {
        let (run, task) = names::task(store, run, task)?;
        let hub = wiring::hub(&run)?;
        let turns = match &hub {
            Some(hub) => hub.snapshots(run.run, task.task)?,
            None => Vec::new(),
        };
        match hub {
            Some(hub) if !turns.is_empty() => Ok(Self { hub, run, task, turns }),
            _ if task.snapshot.is_some() => Err(CliError::failure(format!("the snapshots of task {} are no longer kept", task.spec.key))
                .hint("`aedile clean` removes those of ended runs after `[keep] days`; what landed is in the repository")),
            _ => Err(CliError::failure(format!("task {} has no snapshot yet: the first is taken after its first turn", task.spec.key))
                .hint("`aedile status` shows how far it is")),
        }
    }

    /// The last snapshot of a turn: a later workspace saves the state of an earlier one once more.
    fn at(&self, turn: u32) -> Result<&SavedTurn, CliError> {
        self.turns.iter().rfind(|saved| saved.turn == turn).ok_or_else(|| {
            let mut known: Vec<String> = self.turns.iter().map(|saved| saved.turn.to_string()).collect();
            known.dedup();
            CliError::usage(format!("task {} has no snapshot of turn {turn}", self.task.spec.key))
                .hint(format!("it has those of turn {}", known.join(", ")))
        })
    }

    fn commit(&self, turn: u32) -> Result<CommitId, CliError> {
        match (turn, self.turns.first()) {
            (0, Some(first)) => Ok(first.base.clone()),
            _ => self.at(turn).map(|saved| saved.commit.clone()),
        }
    }

    fn range(&self, turn: Option<u32>, later: Option<u32>) -> Result<(CommitId, CommitId), CliError> {
        match (turn, later) {
            (Some(turn), Some(later)) => Ok((self.commit(turn)?, self.commit(later)?)),
            (Some(turn), None) => {
                let saved = self.at(turn)?;
                let before = self.turns.iter().rfind(|other| other.attempt == saved.attempt && other.turn < turn);
                Ok((before.map_or(&saved.base, |before| &before.commit).clone(), saved.commit.clone()))
            }
            _ => {
                let last = self.last()?;
                Ok((last.base.clone(), last.commit.clone()))
            }
        }
    }

    fn last(&self) -> Result<&SavedTurn, CliError> {
        self.turns.last().ok_or_else(|| CliError::failure(format!("task {} has no snapshot", self.task.spec.key)))
    }

    fn restore(&self, turn: Option<u32>, to: &Path, despite_secrets: bool, out: Output) -> CliResult {
        let saved = match turn {
            Some(turn) => self.at(turn)?,
            None => self.last()?,
        };
        let dest = destination(to, &state::dir()?)?;
        if !despite_secrets {
            diff::bar_secrets(&self.hub, (&saved.base, &saved.commit), &format!("turn {} of {}", saved.turn, self.task.spec.key))?;
        }
        std::fs::create_dir_all(&dest).map_err(|error| CliError::failure(format!("cannot create {}: {error}", dest.display())))?;
        let failed = |error: aedile_git::GitError| {
            CliError::from(error).hint(format!("{} holds only a part now; remove it and try again", dest.display()))
        };
        let restored = self.hub.restore(&saved.commit, &dest).map_err(failed)?;
        let refused: Vec<String> =
            restored.refused.iter().map(|(path, why)| format!("{}: {why}", printable(path.to_string_lossy().as_bytes()))).collect();
        let value = json!({
            "task": self.task.spec.key, "turn": saved.turn, "attempt": saved.attempt, "commit": saved.commit, "to": dest,
            "files": restored.files, "bytes": restored.bytes, "only_by_name": saved.missing, "refused": refused,
        });
        out.object_or(&value, || {
            let mut lines = vec![format!(
                "turn {} of {} as it was at {} is in {}: {} files, {}",
                saved.turn,
                self.task.spec.key,
                moment(saved.at),
                dest.display(),
                restored.files,
                disk::bytes(restored.bytes)
            )];
            lines.extend(told("not there, because the snapshot has only the name", &saved.missing));
            lines.extend(told("not written", &refused));
            lines
        });
        Ok(if refused.is_empty() { exit::OK } else { exit::FAILURE })
    }
}

fn told(what: &str, items: &[String]) -> Vec<String> {
    let mut lines: Vec<String> = items.iter().map(|item| format!("  {}", printable(item.as_bytes()))).collect();
    if !items.is_empty() {
        lines.insert(0, format!("{what}:"));
    }
    lines
}

/// Checks the directory that is to be filled, without making it.
fn destination(to: &Path, state: &Path) -> Result<PathBuf, CliError> {
    let refused = |why: String| CliError::failure(format!("{} {why}; nothing was written", to.display()));
    let elsewhere = "name a directory that is empty or not there yet, outside of the state directory";
    let whole = std::path::absolute(to)?;
    let known = whole.ancestors().find(|dir| dir.symlink_metadata().is_ok()).unwrap_or(Path::new("/"));
    let rest = whole.strip_prefix(known).unwrap_or(Path::new(""));
    if rest.components().any(|part| matches!(part, Component::ParentDir)) {
        return Err(CliError::usage(format!("{} holds `..` below a directory that is not there", to.display())));
    }
    let known = known.canonicalize().map_err(|error| refused(format!("cannot be used: {error}")))?;
    let dest = if rest.as_os_str().is_empty() { known } else { known.join(rest) };
    if dest.starts_with(state.canonicalize().unwrap_or_else(|_| state.to_owned())) {
        return Err(refused(format!("is in the state directory {}, which is aedile's own", state.display())).hint(elsewhere));
    }
    if dest.components().any(|part| part.as_os_str().eq_ignore_ascii_case(".git")) {
        return Err(refused("is in a git directory".to_owned()).hint(elsewhere));
    }
    match std::fs::read_dir(&dest) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(dest),
        Err(error) if error.kind() == ErrorKind::NotADirectory => Err(refused("is not a directory".to_owned()).hint(elsewhere)),
        Err(error) => Err(refused(format!("cannot be read: {error}"))),
        Ok(entries) => {
            let mut found: Vec<String> = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
            if found.is_empty() {
                return Ok(dest);
            }
            found.sort();
            let more = match found.len().saturating_sub(NAMED_MAX) {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            found.truncate(NAMED_MAX);
            let found = printable(found.join(", ").as_bytes());
            Err(refused(format!("has files in it ({found}{more})")).hint(elsewhere))
        }
    }
}

/// The snapshots of a run that were marked when they were taken, by commit: what in them looks like a secret.
fn marks(store: &SqliteStore, run: &RunView) -> Result<HashMap<String, Vec<String>>, CliError> {
    let mut marks = HashMap::new();
    let mut after = Position(run.first.0.saturating_sub(1));
    loop {
        let page = store.read(after, READ_EVENTS_MAX)?;
        let Some(last) = page.last() else { return Ok(marks) };
        after = last.position;
        for envelope in page.into_iter().filter(|envelope| envelope.run == Some(run.run)) {
            if let Event::SnapshotTaken { commit, secrets, .. } = envelope.event
                && !secrets.is_empty()
            {
                marks.insert(commit.to_string(), secrets);
            }
        }
    }
}

fn list_all(store: &SqliteStore, run: Option<&str>, task: Option<&str>, out: Output) -> CliResult {
    let (run, tasks) = match task {
        Some(name) => names::task(store, run, name).map(|(run, task)| (run, vec![task]))?,
        None => {
            let run = state::run_or_last(store, run)?;
            let tasks = list(store, Some(run.run))?;
            (run, tasks)
        }
    };
    let hub = wiring::hub(&run)?;
    let mut rows = vec![["task", "turn", "workspace", "taken", "commit", ""].map(str::to_owned).to_vec()];
    let mut objects = Vec::new();
    let now = SystemClock.now();
    for task in &tasks {
        let turns = hub.as_ref().map_or_else(|| Ok(Vec::new()), |hub| hub.snapshots(run.run, task.task))?;
        for saved in turns {
            let note = match saved.missing.len() {
                0 => String::new(),
                count => format!("{count} only by name"),
            };
            rows.push(vec![
                task.spec.key.to_string(),
                saved.turn.to_string(),
                saved.attempt.to_string(),
                format!("{} ago", ago(now.since(saved.at))),
                short(&saved.commit).to_owned(),
                note,
            ]);
            objects.push(json!({
                "task": task.spec.key, "turn": saved.turn, "attempt": saved.attempt, "at": moment(saved.at), "commit": saved.commit,
                "base": saved.base, "only_by_name": saved.missing,
            }));
        }
    }
    let none = objects.is_empty();
    let marks = marks(store, &run)?;
    for (row, object) in rows.iter_mut().skip(1).zip(objects.iter_mut()) {
        let Some(secrets) = object["commit"].as_str().and_then(|commit| marks.get(commit)) else { continue };
        let note = row.pop().filter(|note| !note.is_empty()).map_or_else(String::new, |note| note + ", ");
        row.push(format!("{note}looks like it holds secrets: {}", printable(secrets.join(", ").as_bytes())));
        object["secrets"] = json!(secrets);
    }
    out.object_or(&json!({ "run": run.run, "snapshots": objects }), || match none {
        true => vec![format!("run {} keeps no snapshot: none was taken yet, or `aedile clean` removed them", run.run.short())],
        false => table(&rows),
    });
    Ok(exit::OK)
}
