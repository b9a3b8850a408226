//! A worker: it drives one run until it is over or stopped, with the landing beside it, and shows what happens.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aedile_core::RunId;
use aedile_core::event::Position;
use aedile_core::machine::{RunState, TaskState};
use aedile_core::store::{Store, load};
use aedile_core::view::RunView;
use aedile_fleet::{RunDriver, RunReport, StopWish, TaskReport};
use aedile_git::Project;
use aedile_landing::LandingQueue;
use tokio::sync::watch;

use crate::config::file::ConfigFile;
use crate::error::CliError;
use crate::narrate::{branch, short};
use crate::output::{Output, one_line};
use crate::progress::{Progress, REDRAW_EVERY};
use crate::wiring::Workshop;
use crate::{exit, tracing_log};

/// What a run came to.
#[derive(Debug)]
pub struct Outcome {
    /// The fleet's report.
    pub report: RunReport,
    /// The run as it stands.
    pub run: RunView,
    /// Agents that worked.
    pub agents: usize,
    /// Wall time of this worker.
    pub wall: Duration,
    /// Whether a person interrupted it.
    pub interrupted: bool,
}

impl Outcome {
    /// The exit code of `run` and `demo`.
    pub fn code(&self) -> u8 {
        match (self.report.failed, self.interrupted) {
            (0, _) => exit::OK,
            (_, true) => exit::INTERRUPTED,
            (_, false) => exit::NOT_ALL_LANDED,
        }
    }

    /// The closing object of `--json`.
    pub fn to_json(&self) -> serde_json::Value {
        let tasks: Vec<_> =
            self.report.tasks.iter().map(|task| serde_json::json!({ "id": task.key, "state": task.state, "why": task.why })).collect();
        serde_json::json!({
            "landed": self.report.landed, "failed": self.report.failed, "agents": self.agents,
            "wall_ms": u64::try_from(self.wall.as_millis()).unwrap_or(u64::MAX),
            "target_before": self.run.base, "target_after": self.run.tip, "repository": self.run.root,
            "run": self.run.run, "state": self.report.state, "landing_ref": self.run.landing_ref, "gates": self.run.rules.gates.len(), "tasks": tasks,
        })
    }

    /// The closing lines for people.
    pub fn lines(&self) -> Vec<String> {
        let all = self.report.tasks.len();
        let run = &self.run;
        let mut lines = vec![format!(
            "{} of {all} landed on {} ({}..{}) in {}.{} s",
            self.report.landed,
            branch(&run.landing_ref),
            short(&run.base),
            short(&run.tip),
            self.wall.as_secs(),
            self.wall.subsec_millis() / 100
        )];
        if run.rules.gates.is_empty() && self.report.landed > 0 {
            lines.push("no gate is configured: what landed was not tested (add [[gate]] to aedile.toml)".to_owned());
        }
        lines.extend(self.report.tasks.iter().filter(|task| task.state != TaskState::Landed).map(not_landed));
        if self.report.state == RunState::Stopped {
            lines.push("everything is saved; `aedile run --resume` goes on".to_owned());
        }
        lines
    }
}

/// Says why a task has not landed, and what a person can do about it.
fn not_landed(task: &TaskReport) -> String {
    let TaskReport { key, state, why } = task;
    let why = why.as_deref().map(|why| one_line(why, 600));
    match (state, why) {
        (TaskState::Cancelled, _) | (_, None) => format!("  {key} is {state}"),
        (state, Some(why)) if state.needs_person() && !why.contains("`aedile task retry") => {
            format!(
                "  {key} is {state}: {why}; `aedile task retry {key}` and `aedile run --resume` try again, `aedile task cancel {key}` gives up"
            )
        }
        (TaskState::Open | TaskState::Ready, Some(why)) => format!("  {key} is {state} and waits for {why}"),
        (state, Some(why)) => format!("  {key} is {state}: {why}"),
    }
}

/// Starts the async runtime, wires a worker for the project, opens or finds the run with `begin`, and drives it. A resumed run's past is not told again.
pub fn work(
    state: &Path,
    project: Project,
    config: &ConfigFile,
    out: Output,
    begin: impl FnOnce(&Workshop) -> Result<(RunId, Position), CliError>,
) -> Result<Outcome, CliError> {
    tracing_log::start(state);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let _inside = runtime.enter();
    let workshop = Workshop::open(state, project, config)?;
    let (run, shown) = begin(&workshop)?;
    let outcome = runtime.block_on(drive(&workshop, run, shown, out));
    // Whatever still runs in the background has nothing left to say.
    runtime.shutdown_timeout(Duration::from_secs(1));
    outcome
}

async fn drive(workshop: &Workshop, run: RunId, shown: Position, out: Output) -> Result<Outcome, CliError> {
    let started = Instant::now();
    let (wish, wishes) = watch::channel(StopWish::No);
    let (closing, closed) = watch::channel(false);
    let signals = tokio::spawn(watch_signals(wish.clone(), out));
    let landing = tokio::spawn({
        let (queue, wish) = (LandingQueue::new(workshop.landing.clone()), wish.clone());
        async move {
            let result = queue.run(run, closed).await;
            if result.is_err() {
                // Without a landing nothing more can be finished: save and stop.
                wish.send_replace(StopWish::Graceful);
            }
            result
        }
    });
    let mut driver = tokio::spawn(RunDriver::new(workshop.parts.clone()).run(run, wishes));
    let store: Arc<dyn Store> = workshop.parts.store.clone();
    let mut progress = Some(Progress::new(&*store, run, shown, out)?);
    let report = loop {
        let seen = progress.as_ref().map_or(shown, Progress::position);
        let waiting = store.clone();
        tokio::select! {
            report = &mut driver => break report,
            _ = tokio::task::spawn_blocking(move || waiting.wait_for_change(seen, REDRAW_EVERY)) => {}
        }
        progress = show(&store, progress).await?;
    };
    closing.send_replace(true);
    let landed = landing.await.map_err(|error| CliError::failure(format!("the landing broke: {error}")))?;
    let report = report.map_err(|error| CliError::failure(format!("the scheduler broke: {error}")))?;
    workshop.gateway.settled().await;
    signals.abort();
    if let Some(progress) = show(&store, progress).await? {
        progress.finish();
    }
    landed.map_err(|error| {
        CliError::failure(format!("the landing stopped: {error}")).hint("everything is saved; `aedile run --resume` goes on")
    })?;
    let report = report?;
    finish(workshop, report, started, *wish.borrow() != StopWish::No)
}

/// Updates the progress on a thread that may block.
async fn show(store: &Arc<dyn Store>, progress: Option<Progress>) -> Result<Option<Progress>, CliError> {
    let store = Arc::clone(store);
    let shown = tokio::task::spawn_blocking(move || {
        let mut progress = progress;
        let updated = progress.as_mut().map_or(Ok(()), |progress| progress.update(&*store));
        updated.map(|()| progress)
    });
    shown.await.map_err(|error| CliError::failure(error.to_string()))?.map_err(CliError::from)
}

fn finish(workshop: &Workshop, report: RunReport, started: Instant, interrupted: bool) -> Result<Outcome, CliError> {
    let store = &*workshop.parts.store;
    let run: RunView = load(store, &report.run.to_string())?.ok_or_else(|| CliError::failure("the run is gone from the store"))?;
    if report.tasks.iter().all(|task| task.state == aedile_core::machine::TaskState::Landed) {
        // Everything is on the target. Otherwise snapshots of work that did not land still need the kept commits; `clean` lets both go.
        workshop.project.release(run.run)?;
        workshop.landing.hub.release(run.run)?;
    }
    let agents = aedile_core::store::list::<aedile_core::view::AgentView>(store, Some(run.run))?.len();
    Ok(Outcome { report, run, agents, wall: started.elapsed(), interrupted })
}

/// The first Ctrl-C finishes turns, saves and stops; the second kills. SIGTERM is a first Ctrl-C.
async fn watch_signals(wish: watch::Sender<StopWish>, out: Output) {
    let Ok(mut term) = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) else { return };
    loop {
        tokio::select! {
            Ok(()) = tokio::signal::ctrl_c() => {}
            Some(()) = term.recv() => {}
        }
        let next = if *wish.borrow() == StopWish::No { StopWish::Graceful } else { StopWish::Now };
        out.warn(if next == StopWish::Now {
            "killing the agents; everything up to their last turn is saved"
        } else {
            "finishing present turns, then saving and stopping; Ctrl-C again kills"
        });
        wish.send_replace(next);
    }
}
