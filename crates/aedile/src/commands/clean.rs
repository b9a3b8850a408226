//! `aedile clean`.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use aedile_core::machine::RunState;
use aedile_core::store::{Store, list};
use aedile_core::view::{ChangeView, RunView, TaskView};
use aedile_core::{ChangeId, Clock, ProjectId, RunId};
use aedile_git::{Hub, Project, remove_tree};
use aedile_store::SqliteStore;
use clap::Args;
use serde_json::json;

use crate::clock::SystemClock;
use crate::commands::run::checkout_config;
use crate::commands::sandbox::EXEC;
use crate::commands::sandbox::unfinished::{self, Finished};
use crate::config::file::Keep;
use crate::error::{CliError, CliResult};
use crate::output::Output;
use crate::{disk, exit, state, wiring};

/// What no ref of a hub keeps stays for this long: a run may begin at any moment, and what it writes first has no ref yet.
const YOUNG: Duration = Duration::from_secs(3600);

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
    kept: Vec<(RunView, String)>,
}

/// Runs `aedile clean`. Runs that are not over are never touched, and landed commits and the log stay.
pub fn cmd_clean(args: &CleanArgs, out: Output) -> CliResult {
    let days = match args.days {
        Some(days) => days,
        None => configured_days()?,
    };
    let state = state::dir()?;
    let age = Duration::from_secs(u64::from(days) * 86_400);
    let finished = (!args.dry_run).then(|| unfinished::finish(&state, out));
    let store = state::open_existing()?;
    let mut plan = match &store {
        Some(store) => plan(&state, store, age)?,
        None => Plan::default(),
    };
    plan.paths.extend(unreturned(&state, age, finished.as_ref()));
    let strays = store.as_ref().map_or_else(|| Ok(Vec::new()), |store| strays(&state, store))?;
    let never_began: Vec<RunId> = strays.iter().flat_map(|stray| stray.runs.iter().copied()).collect();
    let bytes: u64 = plan.paths.iter().map(|path| disk::measure(path).bytes).sum();
    if !args.dry_run {
        strays.iter().try_for_each(Stray::release)?;
        if let Some(store) = &store {
            plan.kept.extend(forget(&state, store, &plan.runs)?);
        }
        for path in &plan.paths {
            remove_tree(path)?;
        }
    }
    let kept: Vec<_> = plan.kept.iter().map(|(run, why)| json!({ "run": run.run, "why": why })).collect();
    let value = json!({
        "removed": plan.paths, "kept": kept, "never_began": never_began, "bytes": bytes, "dry_run": args.dry_run, "days": days,
    });
    out.object_or(&value, || {
        let mut lines: Vec<String> = plan.kept.iter().map(|(run, why)| format!("run {} is kept: {why}", run.run.short())).collect();
        lines
            .extend(never_began.iter().map(|run| format!("run {} never began; the commits that were kept for it are let go", run.short())));
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
            plan.kept.push((run, "some of its tasks wait for you (`aedile status --run RUN` says which)".to_owned()));
            continue;
        }
        if let Some((task, path)) = tasks.iter().find_map(only_copy) {
            let why = format!(
                "the workspace of its task `{}` could not be saved and is the only copy of that work: take what you need from {}, then remove it",
                task.spec.key,
                path.display()
            );
            plan.kept.push((run, why));
            continue;
        }
        plan.paths.extend(places(state, &run).into_iter().filter(|path| path.exists()));
        plan.runs.push(run);
    }
    plan.paths.extend(leftovers(state, store)?);
    Ok(plan)
}

/// The workspace of a closed task that could never be saved, while it is there.
fn only_copy(task: &TaskView) -> Option<(&TaskView, &Path)> {
    let path = task.workspace.as_deref().filter(|path| task.kept.is_some() && path.exists())?;
    Some((task, path))
}

fn places(state: &Path, run: &RunView) -> Vec<PathBuf> {
    ["workspaces", "homes", "overlays"].iter().map(|kind| state.join(kind).join(run.run.to_string())).collect()
}

/// Whether some worker may be at work: one that is not proved dead and whose claim still holds.
fn somebody_works(store: &dyn Store) -> Result<bool, CliError> {
    let now = SystemClock.now();
    Ok(store.claims("")?.iter().any(|claim| claim.expires > now && !crate::host::is_dead(&claim.holder)))
}

/// Clean rooms and boxes that no worker holds any more. A copy that a box worked on is the only place of what it wrote, and is left.
fn leftovers(state: &Path, store: &dyn Store) -> Result<Vec<PathBuf>, CliError> {
    if somebody_works(store)? {
        return Ok(Vec::new());
    }
    let entries = ["rooms", "boxes"].into_iter().flat_map(|kind| std::fs::read_dir(state.join(kind)).into_iter().flatten().flatten());
    let copy = |entry: &std::fs::DirEntry| entry.file_name().as_encoded_bytes().starts_with(b"box-copy-");
    Ok(entries.filter(|entry| !copy(entry)).map(|entry| entry.path()).collect())
}

/// What a hub keeps for runs that never began: their command was killed before it had written them down.
struct Stray {
    project: Project,
    hub: Hub,
    runs: Vec<RunId>,
    changes: Vec<ChangeId>,
}

impl Stray {
    /// Lets it go. The hub, which names the runs, comes last.
    fn release(&self) -> Result<(), CliError> {
        self.runs.iter().try_for_each(|run| self.project.release(*run))?;
        self.changes.iter().try_for_each(|change| self.hub.forget_change(*change))?;
        Ok(self.runs.iter().try_for_each(|run| self.hub.release(*run))?)
    }
}

/// What is kept is read first, then it is asked whether somebody works, and last what is written down: a command that is about to write
/// its run down works, and one that has done so is known.
fn strays(state: &Path, store: &dyn Store) -> Result<Vec<Stray>, CliError> {
    let roots: HashMap<ProjectId, PathBuf> = state::runs(store)?.into_iter().map(|run| (run.project, run.root)).collect();
    let mut strays = Vec::new();
    for (id, root) in roots {
        let dir = state.join("hubs").join(format!("{id}.git"));
        let Some(project) = wiring::discover(&root).ok().filter(|_| dir.exists()) else { continue };
        let hub = Hub::open_or_create(&dir, &project)?;
        strays.push(Stray { runs: hub.kept_runs()?, changes: hub.kept_changes()?, project, hub });
    }
    if somebody_works(store)? {
        return Ok(Vec::new());
    }
    let runs: HashSet<RunId> = state::runs(store)?.iter().map(|run| run.run).collect();
    let changes: HashSet<ChangeId> = list::<ChangeView>(store, None)?.iter().map(|change| change.change).collect();
    for stray in &mut strays {
        stray.runs.retain(|run| !runs.contains(run));
        stray.changes.retain(|change| !changes.contains(change));
    }
    Ok(strays)
}

/// What `sandbox exec` could not give back to its directory, when its process is gone and it is old. What could not be finished stays, and
/// what was moved there just now; before that was tried (no `finished`) all is said to go.
fn unreturned(state: &Path, age: Duration, finished: Option<&Finished>) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(state.join(EXEC)).into_iter().flatten().flatten().map(|entry| entry.path());
    let old =
        |path: &PathBuf| path.metadata().and_then(|data| data.modified()).is_ok_and(|at| at.elapsed().is_ok_and(|since| since >= age));
    let gone = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let (pid, start) = name.split_once('-').and_then(|(pid, start)| Some((pid.parse().ok()?, start.parse().ok()?))).unzip();
        pid.is_none_or(|pid: u32| crate::host::start_time(pid) != start)
    };
    let ended = |path: &PathBuf| {
        let Some(Finished { filled, absent }) = finished else { return true };
        !filled.contains(path) && (absent.contains(path) || !unfinished::is_open(path))
    };
    entries.filter(|path| gone(path) && old(path) && ended(path)).collect()
}

/// Drops the runs' refs in their hubs and projects, then what only they kept. Returns the runs whose project is not there to be asked.
fn forget(state: &Path, store: &SqliteStore, runs: &[RunView]) -> Result<Vec<(RunView, String)>, CliError> {
    let mut hubs: HashMap<ProjectId, Hub> = HashMap::new();
    let mut unreachable = Vec::new();
    for run in runs {
        let Ok(project) = wiring::discover(&run.root) else {
            unreachable.push((run.clone(), "its snapshots stay, because its repository is not where it was".to_owned()));
            continue;
        };
        let dir = state.join("hubs").join(format!("{}.git", run.project));
        if dir.exists() {
            let hub = Hub::open_or_create(&dir, &project)?;
            hub.forget_snapshots(run.run, None)?;
            for change in list::<ChangeView>(store, Some(run.run))? {
                hub.forget_change(change.change)?;
            }
            hub.release(run.run)?;
            hubs.insert(run.project, hub);
        }
        project.release(run.run)?;
    }
    collect(store, &hubs)?;
    let gone: HashSet<RunId> = runs.iter().map(|run| run.run).collect();
    let named = store.named_blobs(|envelope| envelope.run.is_none_or(|run| !gone.contains(&run)))?;
    store.remove_blobs(|blob| named.contains(blob))?;
    Ok(unreachable)
}

/// Removes what no ref of a hub keeps. A hub in which a run is open is left alone: what a landing has prepared has no ref yet.
fn collect(store: &SqliteStore, hubs: &HashMap<ProjectId, Hub>) -> Result<(), CliError> {
    let open: HashSet<ProjectId> = state::runs(store)?.iter().filter(|run| run.state != RunState::Ended).map(|run| run.project).collect();
    if somebody_works(store)? {
        return Ok(());
    }
    for hub in hubs.iter().filter(|(project, _)| !open.contains(project)).map(|(_, hub)| hub) {
        hub.delete_refs("refs/aedile/returns/")?;
        hub.delete_refs(aedile_git::VIEWS)?;
        hub.collect_garbage(YOUNG)?;
    }
    Ok(())
}
