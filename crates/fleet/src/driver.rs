//! The dispatcher: it owns the picture of one run, asks `decide` what to do, and has units do it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use aedile_core::event::{Event, TaskOutcome};
use aedile_core::limits::{LEASE, LEASE_RENEW_EVERY};
use aedile_core::machine::{RunState, TaskState};
use aedile_core::store::{Append, ClaimRequest, Fence, StoreError, load};
use aedile_core::view::{ChangeView, RunView, TaskView};
use aedile_core::{AgentName, RunId, TaskId, TaskKey, Timestamp};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use crate::blocked::next_look;
use crate::command;
use crate::decide::{Action, Ending, decide};
use crate::names::free_name;
use crate::parts::Parts;
use crate::picture::{RunPicture, UnitPhase};
use crate::recover::take_over;
use crate::steps;
use crate::tidy::{TidyError, tidy};
use crate::unit::{Told, Unit, UnitStop, blocking};
use crate::wakeups::Wakeups;

/// What the person at the program wishes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub enum StopWish {
    /// Go on.
    #[default]
    No,
    /// Finish the present turns, save, stop.
    Graceful,
    /// Stop at once.
    Now,
}

/// Why a run could not be driven.
#[derive(Debug, thiserror::Error)]
pub enum FleetError {
    /// There is no such run.
    #[error("there is no run {0}; `aedile status` lists them")]
    NoRun(RunId),
    /// Another worker drives it.
    #[error("the run is driven by another worker ({holder}); wait until it ends or stop it with Ctrl-C there")]
    Held {
        /// Who.
        holder: String,
        /// When its claim ends unless it is renewed.
        expires: Timestamp,
    },
    /// This worker lost the run: it was suspended for longer than its claim lasts.
    #[error("another worker took the run over while this one did not answer; nothing is lost, `aedile run --resume` shows where it stands")]
    Lost,
    /// The store failed.
    #[error(transparent)]
    Store(StoreError),
}

impl From<StoreError> for FleetError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Fenced(_) => Self::Lost,
            StoreError::Claimed { holder, expires, .. } => Self::Held { holder, expires },
            other => Self::Store(other),
        }
    }
}

/// How a task of a run stands at the end.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TaskReport {
    /// Its key.
    pub key: TaskKey,
    /// Its state.
    pub state: TaskState,
    /// What it waits for, how it failed, or what of others its landed change leaves out.
    pub why: Option<String>,
    /// Why its workspace could not be saved when it was closed, and where it is.
    pub kept: Option<(String, PathBuf)>,
}

/// How a run ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RunReport {
    /// The run.
    pub run: RunId,
    /// `Ended` or `Stopped`.
    pub state: RunState,
    /// Tasks that landed.
    pub landed: u32,
    /// All other tasks.
    pub failed: u32,
    /// Each task.
    pub tasks: Vec<TaskReport>,
}

/// Drives one run.
pub struct RunDriver {
    parts: Parts,
}

/// What the dispatcher knows of one of its units.
struct Handle {
    name: Option<AgentName>,
    told: watch::Sender<Told>,
}

/// How a unit or a tidying came back; a unit says whether the workspace is saved as it is.
type Back = (TaskId, Result<bool, UnitStop>);

struct Dispatcher {
    parts: Parts,
    picture: RunPicture,
    fence: Fence,
    units: JoinSet<Back>,
    handles: BTreeMap<TaskId, Handle>,
    by_task: BTreeMap<tokio::task::Id, TaskId>,
    /// Tasks without a unit whose workspace is saved as it is.
    saved: BTreeSet<TaskId>,
}

impl RunDriver {
    /// Makes a driver.
    pub fn new(parts: Parts) -> Self {
        Self { parts }
    }

    /// Drives the run until it ends or stops. A run that was stopped, ended or left by a dead worker is gone on with.
    /// Dropping the future kills every box of the run at once; the next call goes on from there.
    ///
    /// # Errors
    /// [`FleetError`]; all boxes are gone then and the run can be resumed.
    pub async fn run(self, run: RunId, stop: watch::Receiver<StopWish>) -> Result<RunReport, FleetError> {
        let parts = self.parts;
        let at = parts.clone();
        let (fence, picture) = blocking(move || begin(&at, run)).await?.ok_or(FleetError::NoRun(run))?;
        let mut dispatcher = Dispatcher {
            parts: parts.clone(),
            picture,
            fence: fence.clone(),
            units: JoinSet::new(),
            handles: BTreeMap::new(),
            by_task: BTreeMap::new(),
            saved: BTreeSet::new(),
        };
        let result = dispatcher.drive(stop).await;
        // After an error units may be left: their boxes end with them.
        dispatcher.units.shutdown().await;
        let store = Arc::clone(&parts.store);
        let released = blocking(move || store.release(&fence)).await;
        result?;
        released?;
        // What the last tidyings wrote.
        dispatcher.refresh().await?;
        Ok(report(&dispatcher.picture, parts.clock.now()))
    }
}

/// Claims the run and takes it over.
fn begin(parts: &Parts, run: RunId) -> Result<Option<(Fence, RunPicture)>, StoreError> {
    let store = parts.store.as_ref();
    let Some(view) = load::<RunView>(store, &run.to_string())? else { return Ok(None) };
    let request =
        ClaimRequest { name: steps::run_claim(run), holder: parts.host.holder.clone(), ttl: LEASE, dead: parts.host.dead.clone() };
    let fence = store.claim(&request)?;
    let taken = take_over(store, &parts.host.holder, parts.host.kill_orphan.as_ref(), &view, &fence);
    let picture = taken.and_then(|()| RunPicture::load(store, run));
    match picture {
        Ok(Some(mut picture)) => {
            picture.pace = parts.pace;
            Ok(Some((fence, picture)))
        }
        Ok(None) => Ok(None),
        Err(error) => {
            store.release(&fence)?;
            Err(error)
        }
    }
}

fn report(picture: &RunPicture, now: Timestamp) -> RunReport {
    let tasks: Vec<TaskReport> = (picture.tasks.iter())
        .map(|task| {
            let waits = crate::blocked::waits_for(picture, task.view.task, now).and_then(|waits| waits.reason);
            let view = &task.view;
            let why = if view.state == TaskState::Held { waits } else { view.why.clone().or(waits) };
            let kept = view.kept.clone().zip(view.workspace.clone().filter(|path| path.exists()));
            TaskReport { key: view.spec.key.clone(), state: view.state, why, kept }
        })
        .collect();
    let landed = tasks.iter().filter(|task| task.state == TaskState::Landed).count();
    let failed = tasks.iter().filter(|task| !matches!(task.state, TaskState::Landed | TaskState::Planned)).count();
    let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    RunReport { run: picture.run.run, state: picture.run.state, landed: number(landed), failed: number(failed), tasks }
}

impl Dispatcher {
    async fn drive(&mut self, mut stop: watch::Receiver<StopWish>) -> Result<(), FleetError> {
        let mut wakeups = Wakeups::start(Arc::clone(&self.parts.store))?;
        let mut renew = tokio::time::interval(LEASE_RENEW_EVERY);
        renew.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut wished = StopWish::No;
        loop {
            if *stop.borrow_and_update() > wished {
                wished = *stop.borrow();
                self.ask_to_stop(wished).await?;
            }
            let began = tokio::time::Instant::now();
            self.refresh().await?;
            if matches!(self.picture.run.state, RunState::Stopped | RunState::Ended) {
                return Ok(());
            }
            let mut acted = false;
            for action in decide(&self.picture, self.parts.clock.now()) {
                acted |= self.act(action).await?;
            }
            if acted {
                continue;
            }
            // A large run is not read again faster than it can be read.
            let rest = tokio::time::sleep(began.elapsed().min(Duration::from_secs(1)));
            let look = next_look(&self.picture, self.parts.clock.now()).unwrap_or(Duration::from_secs(60));
            let wait = tokio::time::sleep(look);
            tokio::select! {
                Some(back) = self.units.join_next_with_id() => self.back(back).await?,
                changed = wakeups.changed() => changed?,
                _ = renew.tick() => self.renew().await?,
                Ok(()) = stop.changed() => {}
                () = wait => {}
            }
            rest.await;
            while let Some(back) = self.units.try_join_next_with_id() {
                self.back(back).await?;
            }
        }
    }

    async fn ask_to_stop(&self, wish: StopWish) -> Result<(), FleetError> {
        let (store, run) = (Arc::clone(&self.parts.store), self.picture.run.run);
        let asked = tokio::task::spawn_blocking(move || command::request_stop(store.as_ref(), run, wish == StopWish::Now)).await;
        match asked {
            Ok(Err(command::CommandError::Store(error))) => Err(error.into()),
            _ => Ok(()),
        }
    }

    async fn refresh(&mut self) -> Result<(), FleetError> {
        let (store, mut picture) = (Arc::clone(&self.parts.store), self.picture.clone());
        self.picture = blocking(move || picture.refresh(store.as_ref()).map(|()| picture)).await?;
        Ok(())
    }

    /// Does one thing; returns whether the store has changed by it.
    async fn act(&mut self, action: Action) -> Result<bool, FleetError> {
        let run = self.picture.run.run;
        match action {
            Action::Start { task } => {
                self.start(task);
                Ok(false)
            }
            Action::EndUnit { task, how, why } => {
                if let Some(handle) = self.handles.get(&task) {
                    handle.told.send_replace(Some((how, why)));
                    let phase = if how == Ending::Now { UnitPhase::Ending } else { UnitPhase::Finishing };
                    self.picture.units.insert(task, phase);
                }
                Ok(false)
            }
            Action::Tidy { task } => {
                self.tidy(task);
                Ok(false)
            }
            Action::Cancel { task } => self.cancel(task).await,
            Action::Fail { task, why } => {
                self.append(Append::of(run, Event::TaskClosed { task, outcome: TaskOutcome::Failed { why } })).await
            }
            Action::Wait { task, why } => self.append(Append::of(run, Event::TaskWaits { task, why })).await,
            Action::StopRun => self.append(Append::of(run, Event::RunStopped { run })).await,
            Action::EndRun { landed, failed } => self.append(Append::of(run, Event::RunEnded { run, landed, failed })).await,
        }
    }

    /// Appends under the run's claim. A step that no longer fits is left out: the next look decides again.
    async fn append(&self, append: Append) -> Result<bool, FleetError> {
        let (store, append) = (Arc::clone(&self.parts.store), append.fenced(&self.fence));
        match blocking(move || store.append(append)).await {
            Ok(_) => Ok(true),
            Err(StoreError::Illegal(illegal)) => {
                tracing::debug!(%illegal, "the state has moved on");
                Ok(true)
            }
            Err(error) => Err(error.into()),
        }
    }

    async fn cancel(&self, task: TaskId) -> Result<bool, FleetError> {
        let store = Arc::clone(&self.parts.store);
        let views = blocking(move || {
            let Some(view) = load::<TaskView>(store.as_ref(), &task.to_string())? else { return Ok(None) };
            let change = match view.change {
                Some(change) => load::<ChangeView>(store.as_ref(), &change.to_string())?,
                None => None,
            };
            Ok(Some((view, change)))
        })
        .await?;
        match views {
            Some((view, change)) => self.append(steps::cancel(&view, change.as_ref(), &self.fence)).await,
            None => Ok(false),
        }
    }

    fn start(&mut self, task: TaskId) {
        let Some(name) = self.name_for(task) else { return };
        let (told, hears) = watch::channel(None);
        let (parts, run, agent, saved) = (self.parts.clone(), self.picture.run.clone(), name.clone(), self.saved.remove(&task));
        let unit = self.units.spawn(async move {
            let lived = match Unit::claim(parts, run, task, agent, hears, saved).await {
                Ok(Some(unit)) => Box::pin(unit.live()).await,
                Ok(None) => Ok(saved),
                Err(stop) => Err(stop),
            };
            (task, lived)
        });
        self.by_task.insert(unit.id(), task);
        self.handles.insert(task, Handle { name: Some(name), told });
        self.picture.units.insert(task, UnitPhase::Working);
    }

    /// A task keeps its agent; another one gets a name that no task of the run has had, so that mail is never meant for somebody else.
    fn name_for(&self, task: TaskId) -> Option<AgentName> {
        let of = self.picture.task(task)?;
        if let Some(name) = &of.view.agent {
            return Some(name.clone());
        }
        let had = self.picture.tasks.iter().filter_map(|task| task.view.agent.as_ref());
        let begun = self.handles.values().filter_map(|handle| handle.name.as_ref());
        free_name(&had.chain(begun).map(ToString::to_string).collect())
    }

    fn tidy(&mut self, task: TaskId) {
        let Some(view) = self.picture.task(task).map(|of| of.view.clone()) else { return };
        let (parts, run, fence, saved) = (self.parts.clone(), self.picture.run.clone(), self.fence.clone(), self.saved.contains(&task));
        let unit = self.units.spawn_blocking(move || {
            let tidied = match tidy(&parts, &run, &view, &fence, saved) {
                Ok(()) => Ok(true),
                Err(TidyError::Store(error)) => Err(UnitStop::Store(error)),
                // The workspace stays where it is and `aedile clean` can remove it: the task itself is closed.
                Err(TidyError::Unsaved(why) | TidyError::Other(why)) => {
                    tracing::warn!(task = %view.spec.key, why, "the workspace could not be saved and removed; it stays");
                    Ok(true)
                }
            };
            (task, tidied)
        });
        self.by_task.insert(unit.id(), task);
        let (told, _) = watch::channel(None);
        self.handles.insert(task, Handle { name: None, told });
        self.picture.units.insert(task, UnitPhase::Tidying);
    }

    /// A unit or a tidying came back.
    async fn back(&mut self, back: Result<(tokio::task::Id, Back), tokio::task::JoinError>) -> Result<(), FleetError> {
        let (id, result) = match back {
            Ok((id, (_, result))) => (id, result),
            Err(error) => (error.id(), Err(UnitStop::Store(StoreError::Backend(format!("the unit broke: {error}"))))),
        };
        let Some(task) = self.by_task.remove(&id) else { return Ok(()) };
        self.handles.remove(&task);
        let phase = self.picture.units.remove(&task);
        match result {
            Ok(_) if phase == Some(UnitPhase::Tidying) => {
                self.picture.tidied.insert(task);
            }
            Ok(true) => {
                self.saved.insert(task);
            }
            Ok(false) => {}
            Err(UnitStop::Claimed(until, holder)) => {
                self.picture.later.insert(task, (until, format!("the claim of the worker {holder}, which does not answer")));
            }
            // The agent's view has moved on, or somebody else works on it: look again soon.
            Err(UnitStop::Store(error @ (StoreError::Illegal(_) | StoreError::Fenced(_)))) => self.broke(task, &error).await?,
            Err(UnitStop::Store(error @ StoreError::Backend(_))) => self.broke(task, &error).await?,
            // What this one agent left is too much; the others go on.
            Err(UnitStop::Store(error @ StoreError::TooLarge { .. })) => {
                self.broke(task, &error).await?;
                let why = format!("what its agent left cannot be written down: {error}");
                self.append(Append::of(self.picture.run.run, Event::TaskWaits { task, why })).await?;
            }
            Err(UnitStop::Store(error)) => return Err(error.into()),
        }
        Ok(())
    }

    /// A unit ended without writing its end down: that is done for it.
    async fn broke(&mut self, task: TaskId, error: &StoreError) -> Result<(), FleetError> {
        tracing::warn!(%task, %error, "a unit broke off");
        self.refresh().await?;
        let soon = self.parts.clock.now().plus(Duration::from_secs(1));
        self.picture.later.insert(task, (soon, "its next try".to_owned()));
        let Some(view) = self.picture.task(task).map(|of| of.view.clone()) else { return Ok(()) };
        let (Some(agent), Some(incarnation)) = (view.agent.clone(), view.incarnation) else { return Ok(()) };
        let lives = self.picture.agent(&agent).is_some_and(|agent| agent.incarnation == incarnation && agent.ended.is_none());
        if lives {
            let why = format!("its unit broke off: {error}");
            let ended = Event::AgentEnded { task, agent, incarnation, why, failed: true };
            self.append(Append::of(view.run, ended)).await?;
        }
        Ok(())
    }

    /// Holds the claims of the run and of its tasks.
    async fn renew(&self) -> Result<(), FleetError> {
        let (store, run) = (Arc::clone(&self.parts.store), self.fence.clone());
        let working = |task: &&crate::picture::TaskPicture| self.picture.units.contains_key(&task.view.task) && task.view.fence > 0;
        let tasks: Vec<Fence> = (self.picture.tasks.iter().filter(working))
            .map(|task| Fence { claim: steps::task_claim(task.view.task), number: task.view.fence })
            .collect();
        blocking(move || {
            store.renew(&run, LEASE)?;
            for fence in tasks {
                // A unit whose claim is gone learns it at its next append.
                if let Err(error) = store.renew(&fence, LEASE) {
                    tracing::debug!(%error, claim = fence.claim, "a claim was not renewed");
                }
            }
            Ok(())
        })
        .await
        .map_err(FleetError::from)
    }
}
