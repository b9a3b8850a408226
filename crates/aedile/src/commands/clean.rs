//! `aedile clean`.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use aedile_core::Clock;
use aedile_core::machine::RunState;
use aedile_core::store::list;
use aedile_core::view::{RunView, TaskView};
use aedile_git::{Hub, remove_tree};
use clap::Args;
use serde_json::json;

use crate::clock::SystemClock;
use crate::commands::run::checkout_config;
use crate::error::CliResult;
use crate::output::Output;
use crate::{disk, exit, state, wiring};

/// Remove what ended runs left in the state directory: workspaces, homes, snapshots
#[derive(Debug, Args)]
pub struct CleanArgs {
    /// Days for which ended runs are kept; otherwise `[keep] days` of aedile.toml here, or 14
    #[arg(long, value_name = "DAYS")]
    days: Option<u32>,
    /// Only say what would be removed
    #[arg(long)]
    dry_run: bool,
}

/// Runs `aedile clean`. Runs that are not over are never touched, and landed commits and the log stay.
pub fn cmd_clean(args: &CleanArgs, out: Output) -> CliResult {
    let Some(store) = state::open_existing()? else {
        out.say("nothing to remove: nothing has been run yet");
        if out.json {
            out.object(&json!({ "removed": [], "bytes": 0, "dry_run": args.dry_run }));
        }
        return Ok(exit::OK);
    };
    let days = match args.days {
        Some(days) => days,
        None => checkout_config(&std::env::current_dir()?)?.keep.days,
    };
    let state = state::dir()?;
    let age = std::time::Duration::from_secs(u64::from(days) * 86_400);
    let now = SystemClock.now();
    let mut removed = Vec::new();
    for run in state::runs(&store)?.into_iter().filter(|run| run.state == RunState::Ended && now.since(run.since) >= age) {
        let tasks: Vec<TaskView> = list(&store, Some(run.run))?;
        if tasks.iter().any(|task| !task.state.is_closed()) {
            out.say(format!("run {} is kept: some of its tasks wait for you (`aedile status --run {0}`)", run.run.short()));
            continue;
        }
        removed.extend(places(&state, &run).into_iter().filter(|path| path.exists()));
        if !args.dry_run {
            forget(&state, &run)?;
        }
    }
    let rooms = leftovers(&state, &store)?;
    removed.extend(rooms);
    let bytes: u64 = removed.iter().map(|path| disk::measure(path).bytes).sum();
    if !args.dry_run {
        for path in &removed {
            remove_tree(path)?;
        }
    }
    let value = json!({ "removed": removed, "bytes": bytes, "dry_run": args.dry_run, "days": days });
    out.object_or(&value, || {
        let mut lines: Vec<String> = removed.iter().map(|path| path.display().to_string()).collect();
        lines.push(format!(
            "{} {} in {} places (runs that ended {days} days ago or earlier)",
            if args.dry_run { "would free" } else { "freed" },
            disk::bytes(bytes),
            removed.len()
        ));
        lines
    });
    Ok(exit::OK)
}

fn places(state: &Path, run: &RunView) -> Vec<PathBuf> {
    ["workspaces", "homes"].iter().map(|kind| state.join(kind).join(run.run.to_string())).collect()
}

/// Clean rooms and boxes that no worker holds any more.
fn leftovers(state: &Path, store: &dyn aedile_core::store::Store) -> Result<Vec<PathBuf>, crate::error::CliError> {
    let alive: HashSet<String> =
        store.claims("")?.into_iter().map(|claim| claim.holder).filter(|holder| !crate::host::is_dead(holder)).collect();
    if !alive.is_empty() {
        return Ok(Vec::new());
    }
    let entries = ["rooms", "boxes"].into_iter().flat_map(|kind| std::fs::read_dir(state.join(kind)).into_iter().flatten().flatten());
    Ok(entries.map(|entry| entry.path()).collect())
}

/// Drops the run's refs in its hub and in the project, then what only they kept.
fn forget(state: &Path, run: &RunView) -> CliResult {
    let dir = state.join("hubs").join(format!("{}.git", run.project));
    let Ok(project) = wiring::discover(&run.root) else { return Ok(exit::OK) };
    if dir.exists() {
        let hub = Hub::open_or_create(&dir, &project)?;
        hub.forget_snapshots(run.run, None)?;
        hub.release(run.run)?;
        hub.collect_garbage()?;
    }
    project.release(run.run)?;
    Ok(exit::OK)
}
