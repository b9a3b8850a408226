//! A worker: it drives one run until it is over or stopped, with the landing beside it, and shows what happens.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aedile_core::RunId;
use aedile_core::event::Position;
use aedile_core::machine::{RunState, TaskState};
use aedile_core::store::{Store, StoreError, load};
use aedile_core::view::RunView;
use aedile_fleet::{RunDriver, RunReport, StopWish, TaskReport};
use aedile_git::Project;
use aedile_landing::LandingQueue;
use tokio::runtime::Runtime;
use tokio::sync::{Notify, watch};

use crate::config::file::ConfigFile;
use crate::error::CliError;
use crate::narrate::{branch, short};
use crate::output::{Output, one_line};
use crate::planning::{self, Desk, PlanEnd};
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
    /// What came of its plan, when the run is over or rests because of that.
    pub plan: Option<PlanEnd>,
}

impl Outcome {
    /// The exit code of `run` and `demo`.
    pub fn code(&self) -> u8 {
        if let Some(plan) = &self.plan {
            return plan.code();
        }
        let kept = self.report.tasks.iter().filter(|task| is_kept(task.state, self.run.rules.hold)).count();
        match (self.report.tasks.len() - kept == self.report.landed as usize, self.interrupted) {
            (true, _) => exit::OK,
            (_, true) => exit::INTERRUPTED,
            (_, false) => exit::NOT_ALL_LANDED,
        }
    }

    /// The closing object of `--json`.
    pub fn to_json(&self) -> serde_json::Value {
        let tasks: Vec<_> =
            self.report.tasks.iter().map(|task| serde_json::json!({ "id": task.key, "state": task.state, "why": task.why, "kept": task.kept.as_ref().map(|kept| &kept.1) })).collect();
        let mut object = serde_json::json!({
            "landed": self.report.landed, "failed": self.report.failed, "agents": self.agents,
            "wall_ms": u64::try_from(self.wall.as_millis()).unwrap_or(u64::MAX),
            "target_before": self.run.base, "target_after": self.run.tip, "repository": self.run.root,
            "run": self.run.run, "state": self.report.state, "landing_ref": self.run.landing_ref, "gates": self.run.rules.gates.len(), "tasks": tasks,
        });
        if let Some(plan) = &self.plan {
            object["plan"] = plan.to_json();
        }
        object
    }

    /// The closing lines for people.
    pub fn lines(&self) -> Vec<String> {
        if let Some(plan) = &self.plan {
            return plan.lines();
        }
        let all = self.report.landed + self.report.failed;
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
        lines.extend(self.report.tasks.iter().filter(|task| !matches!(task.state, TaskState::Landed | TaskState::Planned)).map(not_landed));
        // What a person must not miss although the task is done.
        let landed = self.report.tasks.iter().filter(|task| task.state == TaskState::Landed);
        lines.extend(landed.filter_map(|task| Some(format!("  {} has landed, and {}", task.key, one_line(task.why.as_deref()?, 600)))));
        lines.extend(self.report.tasks.iter().filter_map(|task| {
            let (why, place) = task.kept.as_ref()?;
            let why = one_line(why, 300);
            Some(format!(
                "  {}: its workspace could not be saved and stays at {} ({why}); `aedile run --resume` tries again",
                task.key,
                place.display()
            ))
        }));
        if self.report.state == RunState::Stopped {
            lines.push("everything is saved; `aedile run --resume` goes on".to_owned());
        }
        lines
    }
}

/// Whether a task that has not landed has done all that was asked of it: it planned, or its run keeps changes for a person.
fn is_kept(state: TaskState, hold: bool) -> bool {
    matches!(state, TaskState::Planned | TaskState::Taken | TaskState::Answered) || (state == TaskState::Held && hold)
}

/// Says why a task has not landed, and what a person can do about it.
pub fn not_landed(task: &TaskReport) -> String {
    let TaskReport { key, state, why, .. } = task;
    let why = why.as_deref().map(|why| one_line(why, 600));
    match (state, why) {
        (TaskState::Cancelled, _) | (_, None) => format!("  {key} is {state}"),
        (TaskState::Held, Some(why)) => format!("  {key} is held and waits for {why}"),
        (state, Some(why)) if state.needs_person() && !why.contains("`aedile task retry") => {
            format!(
                "  {key} is {state}: {why}; `aedile task retry {key}` and `aedile run --resume` try again, `aedile task cancel {key}` gives up"
            )
        }
        (TaskState::Open | TaskState::Ready, Some(why)) => format!("  {key} is {state} and waits for {why}"),
        (state, Some(why)) => format!("  {key} is {state}: {why}"),
    }
}

/// Shows a run while it is driven.
pub trait Face: Send {
    /// The position up to which was shown.
    fn position(&self) -> Position;
    /// Shows what is new. Called whenever something may have happened, and a last time at the end.
    fn update(&mut self, store: &dyn Store) -> Result<(), StoreError>;
    /// Takes away what was only of the moment.
    fn finish(self: Box<Self>);
}

/// Starts the async runtime, wires a worker for the project, opens or finds the run with `begin`, and drives it; a plan is answered at the desk. A resumed run's past is not told again.
pub fn work(
    state: &Path,
    project: Project,
    desk: &Desk<'_>,
    begin: impl FnOnce(&Workshop) -> Result<(RunId, Position), CliError>,
) -> Result<Outcome, CliError> {
    let worker = Worker::open(state, project, desk.config)?;
    let (run, shown) = begin(&worker.workshop)?;
    let outcome = worker.drive_and_answer(run, shown, desk);
    // Whatever still runs in the background has nothing left to say.
    worker.runtime.shutdown_timeout(Duration::from_secs(1));
    outcome
}

/// An async runtime with everything that drives runs of one project.
pub struct Worker {
    /// What it works with; only used while the runtime is there.
    pub workshop: Workshop,
    runtime: Runtime,
}

impl Worker {
    /// Starts the async runtime and wires everything to it.
    pub fn open(state: &Path, project: Project, config: &ConfigFile) -> Result<Self, CliError> {
        tracing_log::start(state);
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let workshop = {
            let _inside = runtime.enter();
            Workshop::open(state, project, config)?
        };
        Ok(Self { workshop, runtime })
    }

    /// Does something that may wait for a box.
    pub fn inside<T>(&self, work: impl FnOnce(&Workshop) -> T) -> T {
        let _inside = self.runtime.enter();
        work(&self.workshop)
    }

    /// Drives the run until it is over or stopped. `wake` asks for an update of the face out of turn.
    pub fn drive(&self, run: RunId, face: Box<dyn Face>, wake: &Notify, out: Output) -> Result<Outcome, CliError> {
        self.runtime.block_on(drive(&self.workshop, run, face, wake, out))
    }

    /// Drives the run to its end, or to a plan that was not taken.
    fn drive_and_answer(&self, run: RunId, shown: Position, desk: &Desk<'_>) -> Result<Outcome, CliError> {
        let store = &*self.workshop.store;
        let mut shown = shown;
        loop {
            let face = Box::new(Progress::new(store, run, shown, desk.out)?);
            let outcome = self.drive(run, face, &Notify::new(), desk.out)?;
            // The answer is told when the tasks begin.
            let before = store.last()?;
            let plan = match outcome.interrupted {
                true => planning::waiting(store, run)?.map(|_| PlanEnd::Waits),
                false => self.runtime.block_on(planning::settle(&self.workshop, run, desk))?,
            };
            match plan {
                Some(PlanEnd::Accepted | PlanEnd::Another(_)) => shown = before,
                Some(plan @ (PlanEnd::Declined | PlanEnd::Written(_))) => {
                    let report = RunReport { state: RunState::Ended, ..outcome.report };
                    let closed = finish(&self.workshop, report, Instant::now(), false)?;
                    return Ok(Outcome { plan: Some(plan), wall: outcome.wall, ..closed });
                }
                plan => return Ok(Outcome { plan, ..outcome }),
            }
        }
    }
}

async fn drive(workshop: &Workshop, run: RunId, face: Box<dyn Face>, wake: &Notify, out: Output) -> Result<Outcome, CliError> {
    let started = Instant::now();
    let (wish, wishes) = watch::channel(StopWish::No);
    let (closing, closed) = watch::channel(false);
    let signals = tokio::spawn(watch_signals(wish.clone(), out));
    let mut landing = tokio::spawn({
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
    let wait = |seen: Position| {
        let store = store.clone();
        tokio::task::spawn_blocking(move || store.wait_for_change(seen, REDRAW_EVERY))
    };
    let mut waiting = wait(face.position());
    let mut face = Some(face);
    let report = loop {
        tokio::select! {
            report = &mut driver => break report,
            _ = &mut waiting => waiting = wait(face.as_ref().map_or(Position::default(), |face| face.position())),
            () = wake.notified() => {}
        }
        face = show(&store, face).await?;
    };
    closing.send_replace(true);
    // A second Ctrl-C does not wait for what git is at: the next worker goes on from the log.
    let mut asked = wish.subscribe();
    let landed = tokio::select! {
        landed = &mut landing => landed.map_err(|error| CliError::failure(format!("the landing broke: {error}")))?,
        _ = asked.wait_for(|wish| *wish == StopWish::Now) => {
            landing.abort();
            Ok(())
        }
    };
    let report = report.map_err(|error| CliError::failure(format!("the scheduler broke: {error}")))?;
    workshop.gateway.settled().await;
    signals.abort();
    if let Some(face) = show(&store, face).await? {
        face.finish();
    }
    landed.map_err(|error| {
        CliError::failure(format!("the landing stopped: {error}")).hint("everything is saved; `aedile run --resume` goes on")
    })?;
    let report = report?;
    finish(workshop, report, started, *wish.borrow() != StopWish::No)
}

/// Updates the face on a thread that may block.
async fn show(store: &Arc<dyn Store>, face: Option<Box<dyn Face>>) -> Result<Option<Box<dyn Face>>, CliError> {
    let store = Arc::clone(store);
    let shown = tokio::task::spawn_blocking(move || {
        let mut face = face;
        let updated = face.as_mut().map_or(Ok(()), |face| face.update(&*store));
        updated.map(|()| face)
    });
    shown.await.map_err(|error| CliError::failure(error.to_string()))?.map_err(CliError::from)
}

fn finish(workshop: &Workshop, report: RunReport, started: Instant, interrupted: bool) -> Result<Outcome, CliError> {
    let store = &*workshop.parts.store;
    let run: RunView = load(store, &report.run.to_string())?.ok_or_else(|| CliError::failure("the run is gone from the store"))?;
    if report.state == RunState::Ended && report.failed == 0 {
        // Everything is on the target. Otherwise snapshots of work that did not land still need the kept commits; `clean` lets both go.
        workshop.project.release(run.run)?;
        workshop.landing.hub.release(run.run)?;
    }
    let agents = aedile_core::store::list::<aedile_core::view::AgentView>(store, Some(run.run))?.len();
    Ok(Outcome { report, run, agents, wall: started.elapsed(), interrupted, plan: None })
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
