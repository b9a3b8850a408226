//! The queue: one for each target. A change that waits alone is taken to its end; several are handed to the window.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use aedile_core::Redactor;
use aedile_core::machine::{ChangeState, TaskState};
use aedile_core::policy::PolicyText;
use aedile_core::sandbox::Sandbox;
use aedile_core::store::{Store, StoreError, list, load};
use aedile_core::view::{ChangeView, RunView, TaskView};
use aedile_core::{ChangeId, Clock, CommitId, RunId};
use aedile_git::{Hub, Project};
use tokio::sync::watch;

use crate::drive::Drive;
use crate::gate::GateBox;
use crate::hold::Hold;
use crate::job::Job;
use crate::{LandingError, room};

/// How long an idle queue waits for an event before it looks again.
pub(crate) const IDLE_WAIT: Duration = Duration::from_secs(1);
/// The same while another worker holds the target: that worker may die without an event.
const CLAIMED_WAIT: Duration = Duration::from_millis(500);
/// How often a change is tried again after a failure that is not its own; the wait doubles from `RETRY_WAIT`.
const TRIES_MAX: u32 = 3;
const RETRY_WAIT: Duration = Duration::from_millis(500);
/// How often one step may find that the views have changed under it.
const SURPRISES_MAX: u32 = 3;
/// Advances of one change in a row; three suffice unless the target moves under it.
const ADVANCES_MAX: u32 = 60;

/// What the queue works with.
#[derive(Clone)]
pub struct LandingDeps {
    /// The state; the queue speaks with the rest of the program only through it.
    pub store: Arc<dyn Store>,
    /// Where gates and imports run.
    pub sandbox: Arc<dyn Sandbox>,
    /// Our bare repository of the project.
    pub hub: Hub,
    /// The person's repository.
    pub project: Project,
    /// Dates of commits.
    pub clock: Arc<dyn Clock>,
    /// Where clean rooms are made: a directory of ours in the state directory, on a file system with room for the project and its builds.
    pub rooms: PathBuf,
    /// What every gate's box has besides the merged tree.
    pub gate_box: GateBox,
    /// The layers of policy of the machine and the person; those of the project and the run are the run's own.
    pub policy: Vec<PolicyText>,
    /// Knows the secrets that no change may hold.
    pub redactor: Arc<dyn Redactor>,
    /// Who claims the target: unique for each life of a worker.
    pub holder: String,
    /// Holders of claims that are proved dead.
    pub dead: Vec<String>,
    /// How many trees may be in their gates at once; see [`verifiers`].
    pub verifiers: usize,
}

/// How many trees this machine verifies at once: one for every two cores, since gates use several themselves, at least 2 and at most 8.
pub fn verifiers() -> usize {
    std::thread::available_parallelism().map_or(2, |cores| (cores.get() / 2).clamp(2, 8))
}

/// How far a change is taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Until {
    /// Until it is imported, or does not get there.
    Imported,
    /// To its end.
    Done,
}

/// Rooms that were named in this process.
static ROOMS: AtomicU64 = AtomicU64::new(0);

/// What became of one change.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Step {
    /// It is on the target as this commit.
    Landed {
        /// The change.
        change: ChangeId,
        /// The commit.
        commit: CommitId,
    },
    /// It went back to its agent.
    Returned {
        /// The change.
        change: ChangeId,
    },
    /// Its task no longer wants it: a person cancelled the task, or it waits for one.
    Dropped {
        /// The change.
        change: ChangeId,
    },
}

/// Lands the changes of runs on one project's target.
#[derive(Clone)]
pub struct LandingQueue {
    deps: Arc<LandingDeps>,
}

impl LandingQueue {
    /// Makes a queue. Nothing happens until [`run`](Self::run) or [`step`](Self::step).
    pub fn new(deps: LandingDeps) -> Self {
        Self { deps: Arc::new(deps) }
    }

    /// Lands the run's changes until `shutdown` becomes true (or its sender is dropped). Recovery needs no call of its own: a change
    /// whose landing was cut off is simply the oldest one that is not finished.
    ///
    /// # Errors
    /// [`LandingError::Store`] when the store fails or another worker took over. Other failures are tried again; a change that cannot go on
    /// for a reason that is not its own makes its task wait for a person, with the reason.
    pub async fn run(&self, run: RunId, mut shutdown: watch::Receiver<bool>) -> Result<(), LandingError> {
        while !*shutdown.borrow() {
            // Asked before looking, so that a change submitted in between ends the wait.
            let seen = self.blocking(|deps| Ok(deps.store.last()?)).await?;
            let pending = self.next(run).await?.is_some();
            if pending {
                match self.turn(run, &shutdown).await {
                    Ok(true) => continue,
                    Ok(false) => {}
                    Err(LandingError::Stopped) => return Ok(()),
                    Err(error) => return Err(error),
                }
            }
            let wait = if pending { CLAIMED_WAIT } else { IDLE_WAIT };
            tokio::select! {
                _ = shutdown.wait_for(|stop| *stop) => return Ok(()),
                waited = self.blocking(move |deps| Ok(deps.store.wait_for_change(seen, wait).map(drop)?)) => waited?,
            }
        }
        Ok(())
    }

    /// Processes the run's oldest pending change to its end and returns what became of it; `None` when there is none, or
    /// while another worker lands on this target.
    ///
    /// # Errors
    /// [`LandingError`]; the change then stands where the log says, and the next step goes on from there.
    pub async fn step(&self, run: RunId) -> Result<Option<Step>, LandingError> {
        let (_never, shutdown) = watch::channel(false);
        let Some(change) = self.next(run).await? else { return Ok(None) };
        let Some(hold) = self.hold(run).await? else { return Ok(None) };
        let step = self.process(&hold, change, Until::Done, &shutdown).await;
        let released = hold.release().await;
        let step = step?;
        released.map(|()| step)
    }

    /// Takes the change one state further: submitted, imported, gated, intended, landed (or returned). Returns the state that it has then.
    /// For measurements and simulations; [`run`](Self::run) and [`step`](Self::step) do nothing else.
    ///
    /// # Errors
    /// As [`step`](Self::step).
    pub async fn advance(&self, change: ChangeId) -> Result<ChangeState, LandingError> {
        let (_never, shutdown) = watch::channel(false);
        let found = self.blocking(move |deps| view::<ChangeView>(&*deps.store, "change", &change.to_string())).await?;
        let Some(hold) = self.hold(found.run).await? else { return Ok(found.state) };
        let fence = hold.fence().clone();
        let job = self.blocking(move |deps| Job::load(deps, &fence, change)).await;
        let done = match job {
            Ok(job) => job.advance(&shutdown).await,
            Err(error) => Err(error),
        };
        let released = hold.release().await;
        done.and(released)?;
        Ok(self.blocking(move |deps| view::<ChangeView>(&*deps.store, "change", &change.to_string())).await?.state)
    }

    /// Holds the target while there is something to land. `false` when another worker holds it.
    async fn turn(&self, run: RunId, shutdown: &watch::Receiver<bool>) -> Result<bool, LandingError> {
        let Some(hold) = self.hold(run).await? else { return Ok(false) };
        let mut done = Ok(());
        while let Some(change) = self.next(run).await?
            && done.is_ok()
        {
            done = if *shutdown.borrow() { Err(LandingError::Stopped) } else { self.some(&hold, run, change, shutdown).await };
        }
        let released = hold.release().await;
        done.and(released).map(|()| true)
    }

    /// Processes what waits: many changes together, one alone. What the window cannot go on with is tried with the oldest one alone, which is patient.
    async fn some(&self, hold: &Hold, run: RunId, oldest: ChangeId, shutdown: &watch::Receiver<bool>) -> Result<(), LandingError> {
        if self.pending(run).await?.len() > 1 {
            let driven = match Drive::new(self, hold, run).await {
                Ok(drive) => drive.drive(shutdown).await,
                Err(error) => Err(error),
            };
            match driven {
                Err(error) if error.concerns_one_change() => tracing::warn!(%error, "the window could not go on"),
                done => return done,
            }
        }
        self.patiently(hold, oldest, Until::Done, shutdown).await.map(drop)
    }

    /// Processes one change; failures that are not its own are tried again, then its task waits for a person. Whether it is now where it
    /// was to be taken and goes on from there.
    pub(crate) async fn patiently(
        &self,
        hold: &Hold,
        change: ChangeId,
        until: Until,
        shutdown: &watch::Receiver<bool>,
    ) -> Result<bool, LandingError> {
        let mut wait = RETRY_WAIT;
        for tried in 1.. {
            let error = match self.process(hold, change, until, shutdown).await {
                Ok(step) => {
                    tracing::debug!(?step, "a change has left the queue");
                    return Ok(step.is_none());
                }
                Err(error) if !error.concerns_one_change() => return Err(error),
                Err(error) => error,
            };
            tracing::warn!(%change, %error, tried, "a change could not go on");
            if tried >= TRIES_MAX {
                return self.give_up(hold, change, &error).await.map(|()| false);
            }
            let mut stop = shutdown.clone();
            if tokio::time::timeout(wait, stop.wait_for(|stop| *stop)).await.is_ok() {
                return Err(LandingError::Stopped);
            }
            wait *= 2;
        }
        Ok(false)
    }

    async fn give_up(&self, hold: &Hold, change: ChangeId, error: &LandingError) -> Result<(), LandingError> {
        let fence = hold.fence().clone();
        let why = format!("the landing cannot go on: {error}");
        self.blocking(move |deps| Job::load(deps, &fence, change)?.give_up(why)).await
    }

    /// Takes a change to its end; `None` when it is imported and that is all that was asked for.
    async fn process(
        &self,
        hold: &Hold,
        change: ChangeId,
        until: Until,
        shutdown: &watch::Receiver<bool>,
    ) -> Result<Option<Step>, LandingError> {
        let mut surprises = 0;
        for _ in 0..ADVANCES_MAX {
            let fence = hold.fence().clone();
            let job = self.blocking(move |deps| Job::load(deps, &fence, change)).await?;
            match (job.state(), job.landed()) {
                (ChangeState::Landed, Some(commit)) => return Ok(Some(Step::Landed { change, commit: commit.clone() })),
                (ChangeState::Returned, _) => return Ok(Some(Step::Returned { change })),
                (state, _) if state != ChangeState::Intended && !job.is_wanted() => return Ok(Some(Step::Dropped { change })),
                (state, _) if state != ChangeState::Submitted && until == Until::Imported => return Ok(None),
                _ => {}
            }
            if *shutdown.borrow() {
                return Err(LandingError::Stopped);
            }
            match job.advance(shutdown).await {
                // Somebody cancelled or changed something in between: look again.
                Err(LandingError::Store(StoreError::Illegal(why))) if surprises < SURPRISES_MAX => {
                    tracing::debug!(%why, "the state changed meanwhile");
                    surprises += 1;
                }
                done => done?,
            }
        }
        Err(LandingError::Restless { tries: ADVANCES_MAX })
    }

    /// Returns the oldest change of the run that is not finished and whose task wants it.
    async fn next(&self, run: RunId) -> Result<Option<ChangeId>, LandingError> {
        Ok(self.pending(run).await?.first().map(|(change, _)| *change))
    }

    /// Returns the changes of the run that are not finished and whose tasks want them, oldest first.
    pub(crate) async fn pending(&self, run: RunId) -> Result<Vec<(ChangeId, ChangeState)>, LandingError> {
        self.blocking(move |deps| {
            let mut found = Vec::new();
            for change in list::<ChangeView>(&*deps.store, Some(run))? {
                let pending = match change.state {
                    ChangeState::Landed | ChangeState::Returned => false,
                    ChangeState::Intended => true,
                    ChangeState::Submitted | ChangeState::Imported | ChangeState::Gated => {
                        wants(&view(&*deps.store, "task", &change.task.to_string())?, change.change)
                    }
                };
                if pending {
                    found.push((change.change, change.state));
                }
            }
            Ok(found)
        })
        .await
    }

    pub(crate) fn deps(&self) -> &LandingDeps {
        &self.deps
    }

    /// A name for rooms that no other run of the gates has.
    pub(crate) fn room_name(&self) -> String {
        format!("window-{}", ROOMS.fetch_add(1, Ordering::Relaxed))
    }

    async fn hold(&self, run: RunId) -> Result<Option<Hold>, LandingError> {
        let run = self.blocking(move |deps| view::<RunView>(&*deps.store, "run", &run.to_string())).await?;
        let held = Hold::take(&self.deps.store, &run, &self.deps.holder, &self.deps.dead).await?;
        if let Some(hold) = &held {
            let (rooms, number) = (crate::job::rooms_of(&self.deps.rooms, &run), hold.fence().number);
            self.blocking(move |_| room::sweep(&rooms, number)).await?;
        }
        Ok(held)
    }

    pub(crate) async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Arc<LandingDeps>) -> Result<T, LandingError> + Send + 'static,
    ) -> Result<T, LandingError> {
        let deps = Arc::clone(&self.deps);
        tokio::task::spawn_blocking(move || work(&deps)).await?
    }
}

/// Whether the task still waits for this change to land.
pub(crate) fn wants(task: &TaskView, change: ChangeId) -> bool {
    task.change == Some(change) && task.state == TaskState::Submitted && !task.cancel_requested
}

/// Reads a view that must be there.
pub(crate) fn view<T: aedile_core::view::View>(store: &dyn Store, noun: &'static str, id: &str) -> Result<T, LandingError> {
    load(store, id)?.ok_or_else(|| LandingError::Unknown { noun, id: id.to_owned() })
}
