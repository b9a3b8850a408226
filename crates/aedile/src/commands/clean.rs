//! `aedile clean`.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use aedile_core::machine::RunState;
use aedile_core::store::{Store, list};
use aedile_core::view::{RunView, TaskView};
use aedile_core::{Clock, ProjectId};
use aedile_git::{Hub, remove_tree};
use clap::Args;
use serde_json::json;

use crate::clock::SystemClock;
use crate::commands::run::checkout_config;
use crate::commands::sandbox::EXEC;
use crate::config::file::Keep;
use crate::error::{CliError, CliResult};
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

/// What there is to remove, and what stays though it is old.
#[derive(Default)]
struct Plan {
    runs: Vec<RunView>,
    paths: Vec<PathBuf>,
    kept: Vec<(RunView, &'static str)>,
}

/// Runs `aedile clean`. Runs that are not over are never touched, and landed commits and the log stay.
pub fn cmd_clean(args: &CleanArgs, out: Output) -> CliResult {
    let days = match args.days {
        Some(days) => days,
        None => configured_days()?,
    };
    let Some(store) = state::open_existing()? else {
        let nothing = json!({ "removed": [], "kept": [], "bytes": 0, "dry_run": args.dry_run, "days": days });
        out.object_or(&nothing, || vec!["nothing to remove: nothing has been run yet".to_owned()]);
        return Ok(exit::OK);
    };
    let state = state::dir()?;
    let mut plan = plan(&state, &store, Duration::from_secs(u64::from(days) * 86_400))?;
    let bytes: u64 = plan.paths.iter().map(|path| disk::measure(path).bytes).sum();
    if !args.dry_run {
        plan.kept.extend(forget(&state, &plan.runs)?);
        for path in &plan.paths {
            remove_tree(path)?;
        }
    }
    let kept: Vec<_> = plan.kept.iter().map(|(run, why)| json!({ "run": run.run, "why": why })).collect();
    let value = json!({ "removed": plan.paths, "kept": kept, "bytes": bytes, "dry_run": args.dry_run, "days": days });
    out.object_or(&value, || {
        let mut lines: Vec<String> = plan.kept.iter().map(|(run, why)| format!("run {} is kept: {why}", run.run.short())).collect();
        lines.extend(plan.paths.iter().map(|path| path.display().to_string()));
        lines.push(format!(
            "{} {} in {} places (runs that ended {days} days ago or earlier)",
            if args.dry_run { "would free" } else { "freed" },
            disk::bytes(bytes),
            plan.paths.len()
        ));
        lines
    });
    Ok(exit::OK)
}

/// `[keep] days` of the project here, or the default where there is none.
fn configured_days() -> Result<u32, CliError> {
    match wiring::discover(&std::env::current_dir()?) {
        Ok(project) => Ok(checkout_config(project.root())?.keep.days),
        Err(_) => Ok(Keep::default().days),
    }
}

fn plan(state: &Path, store: &dyn Store, age: Duration) -> Result<Plan, CliError> {
    let now = SystemClock.now();
    let mut plan = Plan::default();
    for run in state::runs(store)?.into_iter().filter(|run| run.state == RunState::Ended && now.since(run.since) >= age) {
        let tasks: Vec<TaskView> = list(store, Some(run.run))?;
        if tasks.iter().any(|task| !task.state.is_closed()) {
            plan.kept.push((run, "some of its tasks wait for you (`aedile status --run RUN` says which)"));
            continue;
        }
        plan.paths.extend(places(state, &run).into_iter().filter(|path| path.exists()));
        plan.runs.push(run);
    }
    plan.paths.extend(leftovers(state, store)?);
    plan.paths.extend(unreturned(state, age));
    Ok(plan)
}

fn places(state: &Path, run: &RunView) -> Vec<PathBuf> {
    ["workspaces", "homes"].iter().map(|kind| state.join(kind).join(run.run.to_string())).collect()
}

/// Clean rooms and boxes that no worker holds any more.
fn leftovers(state: &Path, store: &dyn Store) -> Result<Vec<PathBuf>, CliError> {
    let alive: HashSet<String> =
        store.claims("")?.into_iter().map(|claim| claim.holder).filter(|holder| !crate::host::is_dead(holder)).collect();
    if !alive.is_empty() {
        return Ok(Vec::new());
    }
    let entries = ["rooms", "boxes"].into_iter().flat_map(|kind| std::fs::read_dir(state.join(kind)).into_iter().flatten().flatten());
    Ok(entries.map(|entry| entry.path()).collect())
}

/// What `sandbox exec` could not give back to its directory, when its process is gone and it is old.
fn unreturned(state: &Path, age: Duration) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(state.join(EXEC)).into_iter().flatten().flatten().map(|entry| entry.path());
    let old =
        |path: &PathBuf| path.metadata().and_then(|data| data.modified()).is_ok_and(|at| at.elapsed().is_ok_and(|since| since >= age));
    let gone = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let (pid, start) = name.split_once('-').and_then(|(pid, start)| Some((pid.parse().ok()?, start.parse().ok()?))).unzip();
        pid.is_none_or(|pid: u32| crate::host::start_time(pid) != start)
    };
    entries.filter(|path| gone(path) && old(path)).collect()
}

/// Drops the runs' refs in their hubs and projects, then what only they kept. Returns the runs whose project is not there to be asked.
fn forget(state: &Path, runs: &[RunView]) -> Result<Vec<(RunView, &'static str)>, CliError> {
    let mut hubs: HashMap<ProjectId, Hub> = HashMap::new();
    let mut unreachable = Vec::new();
    for run in runs {
        let Ok(project) = wiring::discover(&run.root) else {
            unreachable.push((run.clone(), "its snapshots stay, because its repository is not where it was"));
            continue;
        };
        let dir = state.join("hubs").join(format!("{}.git", run.project));
        if dir.exists() {
            let hub = Hub::open_or_create(&dir, &project)?;
            hub.forget_snapshots(run.run, None)?;
            hub.release(run.run)?;
            hubs.insert(run.project, hub);
        }
        project.release(run.run)?;
    }
    for hub in hubs.values() {
        hub.collect_garbage()?;
    }
    Ok(unreachable)
}
