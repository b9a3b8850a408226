//! Drives the [window](crate::window): merges what it wants verified, runs the gates of several trees at once, lands what has passed and sends back who fails.

use std::collections::HashMap;
use std::sync::Arc;

use aedile_core::event::ReturnReason;
use aedile_core::machine::ChangeState;
use aedile_core::{ChangeId, CommitId, RunId};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};

use crate::batch::{self, Link, Linked};
use crate::gate::GateBox;
use crate::hold::Hold;
use crate::job::Job;
use crate::queue::{IDLE_WAIT, LandingQueue, Until};
use crate::repo::Repo;
use crate::verify::{Candidate, Gate, Verdict, Verdicts, verify};
use crate::window::{Action, Because, Run, Window};
use crate::{LandingError, chain, evidence};

/// Landings in a row that lost the target to somebody else.
const LOST_MAX: u32 = 20;

/// The verdicts of one run of the window.
type Ended = Result<Vec<(Gate, Arc<Verdict>)>, LandingError>;

/// A run that is under way.
struct Flight {
    task: AbortHandle,
    last: ChangeId,
}

/// What follows after an action.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Next {
    /// The next action.
    Go,
    /// The next action, then the window is asked anew.
    Ask,
    /// The window is asked anew: the other actions are void.
    Void,
}

/// One turn of the queue with many changes.
pub(crate) struct Drive<'a> {
    queue: &'a LandingQueue,
    hold: &'a Hold,
    run: RunId,
    window: Window<ChangeId>,
    /// Where the target was when the window began, and after each of its landings.
    targets: Vec<CommitId>,
    links: HashMap<(CommitId, ChangeId), Arc<Link>>,
    verdicts: Verdicts,
    /// The last red verdict on a tree in which the change was the last one.
    reds: HashMap<ChangeId, Arc<Verdict>>,
    /// Those that conflict with something that has not landed yet.
    blocked: Vec<ChangeId>,
    flights: JoinSet<(u64, Ended)>,
    flying: HashMap<u64, Flight>,
    /// Runs whose verdict was known before they began.
    known: Vec<(u64, bool)>,
    common: GateBox,
    lost: u32,
}

impl<'a> Drive<'a> {
    /// Begins a window on the run's target as it is now.
    pub(crate) async fn new(queue: &'a LandingQueue, hold: &'a Hold, run: RunId) -> Result<Self, LandingError> {
        let fence = hold.fence().clone();
        let (base, mounts, rate) = queue
            .blocking(move |deps| {
                chain::settle(deps, &fence, run, None)?;
                let view = crate::queue::view(&*deps.store, "run", &run.to_string())?;
                let repo = Repo::of(deps, &view);
                Ok((repo.point()?.base, repo.mounts()?, batch::rate(&*deps.store, run)?))
            })
            .await?;
        let deps = queue.deps();
        let mut common = deps.gate_box.clone();
        common.mounts.extend(mounts);
        Ok(Self {
            queue,
            hold,
            run,
            window: Window::new(deps.verifiers, rate),
            targets: vec![base],
            links: HashMap::new(),
            verdicts: Verdicts::default(),
            reds: HashMap::new(),
            blocked: Vec::new(),
            flights: JoinSet::new(),
            flying: HashMap::new(),
            known: Vec::new(),
            common,
            lost: 0,
        })
    }

    /// Goes on until nothing waits.
    pub(crate) async fn drive(mut self, shutdown: &watch::Receiver<bool>) -> Result<(), LandingError> {
        let mut landings = self.targets.len();
        loop {
            if *shutdown.borrow() {
                return Err(LandingError::Stopped);
            }
            let seen = self.queue.blocking(|deps| Ok(deps.store.last()?)).await?;
            let returned = self.take_in(shutdown).await?;
            let mut again = false;
            for action in self.window.decide() {
                match self.follow(action).await? {
                    Next::Go => {}
                    Next::Ask => again = true,
                    Next::Void => {
                        again = true;
                        break;
                    }
                }
            }
            for (run, green) in std::mem::take(&mut self.known) {
                self.window.report(run, green);
                again = true;
            }
            if again {
                continue;
            }
            // What it conflicts with may be on the target now, or gone.
            let moved = std::mem::replace(&mut landings, self.targets.len()) != self.targets.len() || returned;
            if !self.blocked.is_empty() && (moved || self.flying.is_empty()) {
                self.blocked.drain(..).for_each(|change| self.window.push(change, 0));
                continue;
            }
            if self.window.is_idle() {
                return Ok(());
            }
            self.wait(seen, shutdown).await?;
        }
    }

    /// Takes in what has been submitted since, and out what no longer waits. Whether something went out.
    async fn take_in(&mut self, shutdown: &watch::Receiver<bool>) -> Result<bool, LandingError> {
        let pending = self.queue.pending(self.run).await?;
        let waiting: Vec<ChangeId> = self.window.waiting().chain(self.blocked.iter().copied()).collect();
        let gone: Vec<ChangeId> = waiting.iter().copied().filter(|change| pending.iter().all(|(pending, _)| pending != change)).collect();
        for change in &gone {
            self.window.remove(*change);
            self.blocked.retain(|blocked| blocked != change);
        }
        for (change, state) in pending.into_iter().filter(|(change, _)| !waiting.contains(change)) {
            if state != ChangeState::Submitted || self.queue.patiently(self.hold, change, Until::Imported, shutdown).await? {
                self.window.push(change, 0);
            }
        }
        Ok(!gone.is_empty())
    }

    /// Does what the window says.
    async fn follow(&mut self, action: Action<ChangeId>) -> Result<Next, LandingError> {
        match action {
            Action::Start(run) => return self.start(run).await,
            Action::Land { changes } => {
                if !self.land(&changes).await? {
                    self.moved(&changes).await?;
                    return Ok(Next::Void);
                }
            }
            Action::Return { change, because } => self.give_back(change, because).await?,
            Action::Stop { run } => self.stop(run),
            Action::SetAside { change } => tracing::debug!(%change, "red alone; it is looked at again"),
            Action::Flaky { change } => tracing::info!(%change, "a gate was red and then green on the same tree"),
        }
        Ok(Next::Go)
    }

    fn stop(&mut self, run: u64) {
        if let Some(flight) = self.flying.remove(&run) {
            flight.task.abort();
        }
    }

    /// Merges what the run holds, and runs what gates its tree has not passed yet.
    async fn start(&mut self, run: Run<ChangeId>) -> Result<Next, LandingError> {
        let links = match self.build(run.after, &run.changes).await? {
            Ok(links) => links,
            Err((at, change, refused)) => return self.refused(&run, at, change, refused).await,
        };
        let (Some(last), Some(&change)) = (links.last().cloned(), run.changes.last()) else { return Ok(Next::Go) };
        let gates = self.gates(&links).await?;
        let known = |gate: &Gate| self.verdicts.of(&last.tree, gate);
        if let Some(red) = gates.iter().filter_map(known).find(|verdict| !verdict.is_green())
            && !run.again
        {
            self.reds.insert(change, Arc::clone(red));
            self.known.push((run.number, false));
            return Ok(Next::Go);
        }
        let open: Vec<Gate> = gates.iter().filter(|gate| known(gate).is_none_or(|verdict| !verdict.is_green())).cloned().collect();
        if open.is_empty() {
            self.known.push((run.number, true));
            return Ok(Next::Go);
        }
        let on = Candidate { tree: last.tree.clone(), commit: last.commit.clone(), onto: last.onto.clone() };
        let verified = verify(last.job.clone(), on, open, self.common.clone(), self.queue.room_name());
        let number = run.number;
        let task = self.flights.spawn(async move { (number, verified.await) });
        self.flying.insert(number, Flight { task, last: change });
        Ok(Next::Go)
    }

    /// The change of a run cannot be merged: what stands in its way has landed, or may land.
    async fn refused(&mut self, run: &Run<ChangeId>, at: usize, change: ChangeId, refused: batch::Refused) -> Result<Next, LandingError> {
        if at > 0 {
            // Only with what has not landed: it waits for that.
            if self.window.remove(change) {
                self.blocked.push(change);
            }
            return Ok(Next::Ask);
        }
        if run.after + 1 < self.targets.len() {
            self.known.push((run.number, false));
            return Ok(Next::Go);
        }
        let job = refused.job.clone();
        if job.blocking(|job| Ok(job.repo().point()?.base)).await? != self.target() {
            self.moved(&[]).await?;
            return Ok(Next::Void);
        }
        if self.window.remove(change) {
            job.blocking(move |job| job.append(refused.append)).await?;
        }
        Ok(Next::Ask)
    }

    fn target(&self) -> CommitId {
        self.targets[self.targets.len() - 1].clone()
    }

    /// The chain of these changes on the target as it was after so many landings; the inner error is the change that cannot be merged.
    async fn build(
        &mut self,
        after: usize,
        changes: &[ChangeId],
    ) -> Result<Result<Vec<Arc<Link>>, (usize, ChangeId, batch::Refused)>, LandingError> {
        let mut onto = self.targets[after.min(self.targets.len() - 1)].clone();
        let mut links = Vec::new();
        for (at, &change) in changes.iter().enumerate() {
            let key = (onto.clone(), change);
            let link = match self.links.get(&key) {
                Some(link) => Arc::clone(link),
                None => {
                    let fence = self.hold.fence().clone();
                    match self.queue.blocking(move |deps| batch::link(Job::load(deps, &fence, change)?, &onto)).await? {
                        Linked::Link(link) => Arc::new(link),
                        Linked::Refused(refused) => return Ok(Err((at, change, refused))),
                    }
                }
            };
            self.links.insert(key, Arc::clone(&link));
            onto = link.commit.clone();
            links.push(link);
        }
        Ok(Ok(links))
    }

    async fn gates(&self, links: &[Arc<Link>]) -> Result<Vec<Gate>, LandingError> {
        let links = links.to_vec();
        self.queue.blocking(move |_| Gate::of_all(links.iter().map(|link| &link.job))).await
    }

    /// Lands these changes in one step; `false` when they did not land, since the target or one of their tasks is no longer as it was.
    async fn land(&mut self, changes: &[ChangeId]) -> Result<bool, LandingError> {
        let Ok(links) = self.build(self.targets.len() - 1, changes).await? else { return Ok(false) };
        let gates = self.gates(&links).await?;
        let Some(tip) = links.last().map(|link| link.tree.clone()) else { return Ok(true) };
        let passed: Vec<_> =
            gates.iter().filter_map(|gate| self.verdicts.of(&tip, gate)).filter(|verdict| verdict.is_green()).cloned().collect();
        if passed.len() < gates.len() {
            return Ok(false);
        }
        let (fence, base) = (self.hold.fence().clone(), self.target());
        let landed = self.queue.blocking(move |deps| batch::land(deps, &fence, &links, &passed, &base)).await?;
        if let Some(commits) = landed {
            self.targets.extend(commits);
            self.lost = 0;
            return Ok(true);
        }
        Ok(false)
    }

    /// The target is elsewhere, or what was to land did not.
    async fn moved(&mut self, unlanded: &[ChangeId]) -> Result<(), LandingError> {
        self.lost += 1;
        if self.lost > LOST_MAX {
            return Err(LandingError::Restless { tries: LOST_MAX });
        }
        let (run, fence) = (self.run, self.hold.fence().clone());
        let base = self.queue.blocking(move |deps| {
            chain::settle(deps, &fence, run, None)?;
            Ok(Repo::of(deps, &crate::queue::view(&*deps.store, "run", &run.to_string())?).point()?.base)
        });
        self.targets = vec![base.await?];
        for action in self.window.target_moved(unlanded) {
            if let Action::Stop { run } = action {
                self.stop(run);
            }
        }
        self.known.clear();
        Ok(())
    }

    /// Sends a change back that was red twice.
    async fn give_back(&mut self, change: ChangeId, because: Because<ChangeId>) -> Result<(), LandingError> {
        let Some(red) = self.reds.remove(&change) else {
            return Err(LandingError::Unknown { noun: "verdict of change", id: change.to_string() });
        };
        let fence = self.hold.fence().clone();
        self.queue
            .blocking(move |deps| {
                let job = Job::load(deps, &fence, change)?;
                if !job.is_wanted() {
                    return Ok(());
                }
                let with = match because {
                    Because::With(other) => batch::with(&Job::load(deps, &fence, other)?)?,
                    Because::Itself | Because::Unknown => String::new(),
                };
                let text = evidence::with_pair(&red.evidence(), &with);
                let reason = ReturnReason::Gate { gate: red.gate().to_owned() };
                job.append(job.back(vec![red.told(&job, change)?], reason, &text)?)
            })
            .await
    }

    /// Waits for a run, for an event, or for the end.
    async fn wait(&mut self, seen: aedile_core::event::Position, shutdown: &watch::Receiver<bool>) -> Result<(), LandingError> {
        let mut stop = shutdown.clone();
        tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => Err(LandingError::Stopped),
            Some(ended) = self.flights.join_next() => match ended {
                Ok((run, ended)) => self.ended(run, ended),
                // A run that was stopped.
                Err(error) if error.is_cancelled() => Ok(()),
                Err(error) => Err(error.into()),
            },
            waited = self.queue.blocking(move |deps| Ok(deps.store.wait_for_change(seen, IDLE_WAIT).map(drop)?)) => waited,
        }
    }

    fn ended(&mut self, run: u64, ended: Ended) -> Result<(), LandingError> {
        let Some(flight) = self.flying.remove(&run) else { return Ok(()) };
        let mut green = true;
        for (gate, verdict) in ended? {
            if !verdict.is_green() {
                green = false;
                self.reds.insert(flight.last, Arc::clone(&verdict));
            }
            self.verdicts.learn(&gate, verdict);
        }
        self.window.report(run, green);
        Ok(())
    }
}
