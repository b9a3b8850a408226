//! One life of an agent: claim, workspace, box, turns, end. A task of the async runtime, told what to do by the dispatcher.

use std::pin::pin;
use std::sync::Arc;

use aedile_core::agent_api::{AgentApi, DoorIdentity};
use aedile_core::event::Event;
use aedile_core::limits::LEASE;
use aedile_core::machine::TaskState;
use aedile_core::policy::AgentPolicy;
use aedile_core::store::{Append, Appended, ClaimRequest, Fence, Store, StoreError, load};
use aedile_core::view::{ChangeView, RunView, TaskView};
use aedile_core::{AgentName, BlobId, CommitId, IncarnationId, MailId, TaskId, Timestamp, crash};
use tokio::sync::{mpsc, watch};

use crate::agent_box::{self, AgentBox, MadeBox, Trouble};
use crate::allowed::Allowed;
use crate::api::{API_QUEUE_MAX, Call, UnitApi};
use crate::decide::Ending;
use crate::goal_calls::Planning;
use crate::parts::Parts;
use crate::prompts;
use crate::steps::{self, LifeEnd};
use crate::workspaces::WorkspaceError;

/// What a unit was told.
pub(crate) type Told = Option<(Ending, String)>;

/// Why a unit could not do its work at all.
#[derive(Debug)]
pub(crate) enum UnitStop {
    /// Somebody else holds the task until then.
    Claimed(Timestamp, String),
    /// The store refused or failed.
    Store(StoreError),
}

impl From<StoreError> for UnitStop {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Claimed { holder, expires, .. } => Self::Claimed(expires, holder),
            other => Self::Store(other),
        }
    }
}

/// One life of an agent.
pub(crate) struct Unit {
    pub(crate) parts: Parts,
    pub(crate) run: RunView,
    /// The task as it was after the claim, kept up to date by the unit.
    pub(crate) task: TaskView,
    /// The change that came back and is to be mended.
    pub(crate) returned: Option<ChangeView>,
    pub(crate) who: DoorIdentity,
    pub(crate) fence: Fence,
    pub(crate) told: watch::Receiver<Told>,
    pub(crate) calls: mpsc::Receiver<Call>,
    sender: mpsc::Sender<Call>,
    /// Whether the change of this life is in the queue, and the answer that its agent got.
    pub(crate) submitted: Option<aedile_core::CommitId>,
    /// What came of its plan, when the task is to make one.
    pub(crate) planning: Planning,
    /// What policy leaves to the agent; everything until it works.
    pub(crate) policy: AgentPolicy,
    /// Mail that the present turn's prompt carries and that is not acknowledged yet.
    pub(crate) delivered: Vec<MailId>,
    /// Why the agent's model does not answer, as it was written down last.
    pub(crate) held_up: Option<String>,
    claimed: Claimed,
    /// Whether the workspace has not changed since its last snapshot.
    saved: bool,
}

/// Runs a blocking piece of work.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, StoreError> + Send + 'static) -> Result<T, StoreError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(StoreError::Backend(format!("a piece of work broke off: {error}"))),
    }
}

impl Unit {
    /// Claims the task. `None` when it is no longer to be worked on.
    pub(crate) async fn claim(
        parts: Parts,
        run: RunView,
        task: TaskId,
        agent: AgentName,
        told: watch::Receiver<Told>,
        saved: bool,
    ) -> Result<Option<Self>, UnitStop> {
        let at = parts.clone();
        let claimed = blocking(move || claim_task(&at, task, &agent)).await?;
        let Some((fence, view, returned, claimed)) = claimed else { return Ok(None) };
        let (Some(agent), Some(incarnation)) = (view.agent.clone(), view.incarnation) else { return Ok(None) };
        let who = DoorIdentity { run: view.run, task, key: view.spec.key.clone(), role: view.spec.role.clone(), agent, incarnation };
        let (sender, calls) = mpsc::channel(API_QUEUE_MAX);
        Ok(Some(Self {
            parts,
            run,
            task: view,
            returned,
            who,
            fence,
            told,
            calls,
            sender,
            submitted: None,
            planning: Planning::default(),
            policy: AgentPolicy::default(),
            delivered: Vec::new(),
            held_up: None,
            claimed,
            saved,
        }))
    }

    /// Lives. The box is gone when this returns; the answer says whether the workspace was saved after that.
    pub(crate) async fn live(mut self) -> Result<bool, UnitStop> {
        let end = match self.work().await {
            Ok(end) => end,
            Err(Ended::Trouble(Trouble::Broke(why))) => LifeEnd::Failed(why),
            Err(Ended::Trouble(Trouble::Person(why))) => LifeEnd::Person(why),
            Err(Ended::Told(why)) => LifeEnd::Told(why),
            Err(Ended::Store(error)) => return Err(error.into()),
        };
        let end = if self.submitted.is_some() { LifeEnd::Submitted } else { end };
        tracing::debug!(agent = %self.who.agent, task = %self.who.key, ?end, "an agent has ended");
        let append = steps::ended(&self.task, &self.who.agent, self.who.incarnation, &end, &self.fence);
        self.append(append).await?;
        let (store, fence) = (Arc::clone(&self.parts.store), self.fence.clone());
        blocking(move || store.release(&fence)).await?;
        Ok(self.saved)
    }

    async fn work(&mut self) -> Result<LifeEnd, Ended> {
        // What the agent is told of its scope is what policy leaves of it.
        let policy = Allowed::of(&self.parts, &self.run, &self.who).map_err(Ended::Trouble)?.policy;
        self.task.spec.scope = policy.narrowed(&self.task.spec.scope);
        self.policy = policy;
        self.workspace().await?;
        self.saved = false;
        // A session that broke twice may be what breaks: then a new one begins in the same workspace.
        let resumed = self.task.session.is_some() && self.task.restarts < 2;
        let (boxed, resumed, prompt) = match resumed {
            true => match self.start(true).await {
                // The session cannot be read any more: the work is still in the workspace.
                Err(Ended::Trouble(Trouble::Broke(why))) if self.end_told().is_none() => {
                    tracing::warn!(agent = %self.who.agent, why, "the session could not be resumed; a new one begins");
                    self.start(false).await.map(|(boxed, prompt)| (boxed, false, prompt))?
                }
                other => other.map(|(boxed, prompt)| (boxed, true, prompt))?,
            },
            false => self.start(false).await.map(|(boxed, prompt)| (boxed, false, prompt))?,
        };
        tracing::debug!(agent = %self.who.agent, resumed, "an agent has started");
        let end = self.turns(&boxed.agent, prompt).await;
        boxed.close(&self.parts).await;
        let end = end?;
        self.snapshot().await?;
        self.saved = true;
        Ok(end)
    }

    /// The commit that the workspace began with, as the workspace has it.
    pub(crate) fn began(&self) -> Option<CommitId> {
        self.task.view.clone().or_else(|| self.task.base.clone())
    }

    /// Makes the workspace, or keeps the one that is there.
    async fn workspace(&mut self) -> Result<(), Ended> {
        if !self.claimed.fresh {
            return Ok(());
        }
        let (parts, run, task, returned, attempt, saved) =
            (self.parts.clone(), self.run.clone(), self.task.clone(), self.returned.clone(), self.task.attempt, self.saved);
        let reads =
            Allowed::of(&self.parts, &self.run, &self.who).and_then(|allowed| allowed.reads(&self.task.spec)).map_err(Ended::Trouble)?;
        let made = tokio::task::spawn_blocking(move || {
            // Nothing is removed before it is saved.
            if let Some(old) = task.workspace.as_ref().filter(|old| !saved && old.exists()) {
                parts.workspaces.snapshot(&run, &task, old)?;
            }
            parts.workspaces.create(&run, &task, attempt, returned.as_ref(), &reads)
        });
        let made = joined(made.await, "making the workspace")?;
        let event = Event::WorkspaceReady {
            task: self.task.task,
            attempt,
            path: made.path.clone(),
            base: made.base.clone(),
            view: made.view.clone(),
            conflicts: made.conflicts.clone(),
        };
        let old = self.task.workspace.replace(made.path.clone());
        (self.task.base, self.task.view, self.task.conflicts) = (Some(made.base), made.view, made.conflicts);
        self.append(Append::of(self.task.run, event).fenced(&self.fence)).await?;
        crash::point("workspace-ready");
        if let Some(old) = old.filter(|old| *old != made.path) {
            let workspaces = Arc::clone(&self.parts.workspaces);
            joined(tokio::task::spawn_blocking(move || workspaces.remove(&old)).await, "removing the old workspace")?;
        }
        Ok(())
    }

    /// Makes the box, joins the runtime and writes both down. Returns the first prompt too.
    async fn start(&mut self, resume: bool) -> Result<(AgentBox, String), Ended> {
        let Some(workspace) = self.task.workspace.clone() else {
            return Err(Ended::Trouble(Trouble::Broke("the task has no workspace".to_owned())));
        };
        let api = Arc::new(UnitApi { incarnation: self.who.incarnation, calls: self.sender.clone() });
        let session = self.task.session.clone().filter(|_| resume);
        let joined = (api as Arc<dyn AgentApi>, session.as_ref());
        let made = agent_box::make(&self.parts, &self.run, &self.task, &self.who, &workspace, joined).await.map_err(Ended::Trouble)?;
        let (pid, pid_start) = made.process();
        let (task, incarnation) = (self.task.task, self.who.incarnation);
        let event = Event::BoxReady { task, incarnation, pid, pid_start, grants: made.grants.clone() };
        self.append(Append::of(self.task.run, event).fenced(&self.fence)).await?;
        let boxed = self.attach(made).await?;
        let prompt = self.first_prompt(resume).await?;
        let session = boxed.agent.session.id();
        self.task.session = Some(session.clone());
        let name = self.who.agent.clone();
        let event = Event::AgentStarted { task, agent: name, incarnation, session, prompt: BlobId::of(prompt.as_bytes()) };
        self.append(Append::of(self.task.run, event).fenced(&self.fence)).await?;
        Ok((boxed, prompt))
    }

    /// Joins the runtime. An agent may ask for its task before it answers, and a person may have had enough meanwhile.
    async fn attach(&mut self, made: MadeBox) -> Result<AgentBox, Ended> {
        let (parts, task) = (self.parts.clone(), self.task.clone());
        let mut attach = pin!(made.attach(&parts, &task));
        loop {
            if let Some((_, why)) = self.end_told() {
                return Err(Ended::Told(why));
            }
            tokio::select! {
                boxed = &mut attach => return boxed.map_err(Ended::Trouble),
                Some(call) = self.calls.recv() => {
                    let reply = self.answer(call.request).await?;
                    // Whoever no longer waits for the answer asks again.
                    let _ = call.answer.send(reply);
                }
                Ok(()) = self.told.changed() => {}
            }
        }
    }

    async fn first_prompt(&self, resumed: bool) -> Result<String, StoreError> {
        let begun = self.task.turn > 0 && self.returned.is_none();
        let opening = match resumed {
            false => {
                let task = prompts::task(&self.run, &self.task, &self.who.agent, &self.parts.egress.web_hosts(), begun);
                Some(task + &prompts::denied(&self.policy))
            }
            true => self.task.edited.then(|| prompts::edited(&self.run, &self.task)),
        };
        let Some(reason) = self.returned.as_ref().and_then(|change| change.returned.as_ref()) else {
            let again = match self.claimed.retried {
                true => prompts::retried(&self.task),
                false => prompts::go_on(&self.task),
            };
            return Ok(opening.unwrap_or(again));
        };
        let evidence = self.returned.as_ref().and_then(|change| change.evidence.clone());
        let store = Arc::clone(&self.parts.store);
        let bytes = blocking(move || evidence.map(|id| store.get_blob(&id)).transpose()).await?.flatten();
        let evidence = bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        let came_back = prompts::returned(&self.run, &self.task, reason, evidence.as_deref());
        Ok(match opening {
            Some(opening) => format!("{opening}\n{came_back}"),
            None => came_back,
        })
    }

    /// Saves the workspace and writes that down. A failure ends the life: an agent whose work cannot be saved does not go on.
    pub(crate) async fn snapshot(&mut self) -> Result<(), Ended> {
        let Some(path) = self.task.workspace.clone() else { return Ok(()) };
        let (parts, run, task) = (self.parts.clone(), self.run.clone(), self.task.clone());
        let saved = tokio::task::spawn_blocking(move || parts.workspaces.snapshot(&run, &task, &path)).await;
        let saved = joined(saved, "saving the workspace")?;
        if self.task.snapshot.as_ref() != Some(&saved.commit) {
            self.task.snapshot = Some(saved.commit.clone());
            let (task, turn) = (self.task.task, self.task.turn);
            let event = Event::SnapshotTaken { task, turn, commit: saved.commit, oversized: saved.oversized, secrets: saved.secrets };
            self.append(Append::of(self.task.run, event).fenced(&self.fence)).await?;
        }
        crash::point("snapshot");
        Ok(())
    }

    pub(crate) async fn append(&self, append: Append) -> Result<Appended, StoreError> {
        let store = Arc::clone(&self.parts.store);
        blocking(move || store.append(append)).await
    }

    /// What the unit was told so far.
    pub(crate) fn end_told(&self) -> Told {
        self.told.borrow().clone()
    }
}

/// Why the work of a life broke off.
#[derive(Debug)]
pub(crate) enum Ended {
    Trouble(Trouble),
    /// It was told to end before the agent had answered.
    Told(String),
    Store(StoreError),
}

impl From<StoreError> for Ended {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

fn joined<T>(result: Result<Result<T, WorkspaceError>, tokio::task::JoinError>, what: &str) -> Result<T, Ended> {
    let broke = |why: String| Ended::Trouble(Trouble::Broke(format!("{what} failed: {why}")));
    result.map_err(|error| broke(error.to_string()))?.map_err(|error| broke(error.to_string()))
}

/// What the claim found out about the life that begins.
#[derive(Clone, Copy)]
struct Claimed {
    /// Whether a new workspace has to be made.
    fresh: bool,
    /// Whether a person asked for this try.
    retried: bool,
}

type ClaimedTask = (Fence, TaskView, Option<ChangeView>, Claimed);

fn claim_task(parts: &Parts, task: TaskId, agent: &AgentName) -> Result<Option<ClaimedTask>, StoreError> {
    let store = &parts.store;
    let request =
        ClaimRequest { name: steps::task_claim(task), holder: parts.host.holder.clone(), ttl: LEASE, dead: parts.host.dead.clone() };
    let fence = store.claim(&request)?;
    match take(parts, store.as_ref(), task, agent, &fence) {
        Ok(Some((view, returned, claimed))) => Ok(Some((fence, view, returned, claimed))),
        Ok(None) => store.release(&fence).map(|()| None),
        Err(error) => {
            store.release(&fence)?;
            Err(error)
        }
    }
}

fn take(
    parts: &Parts,
    store: &dyn Store,
    task: TaskId,
    agent: &AgentName,
    fence: &Fence,
) -> Result<Option<(TaskView, Option<ChangeView>, Claimed)>, StoreError> {
    let Some(view) = load::<TaskView>(store, &task.to_string())?.filter(steps::claimable) else { return Ok(None) };
    let change = match view.change {
        Some(change) => load::<ChangeView>(store, &change.to_string())?,
        None => None,
    };
    let returned = change.filter(|change| change.returned.is_some());
    let present = view.workspace.as_ref().is_some_and(|path| path.exists());
    let in_hub = returned.as_ref().is_some_and(|change| parts.workspaces.has_commit(change));
    let fresh = steps::needs_workspace(&view, returned.as_ref(), present, in_hub);
    let attempt = if fresh { view.attempt + 1 } else { view.attempt };
    let incarnation = IncarnationId::new(parts.clock.as_ref(), parts.entropy.as_ref());
    store.append(steps::claim(&view, agent, incarnation, fence, attempt))?;
    // A retry by a person is the only way to `returned` without a change that came back.
    let claimed = Claimed { fresh, retried: view.state == TaskState::Returned && returned.is_none() };
    Ok(load::<TaskView>(store, &task.to_string())?.map(|view| (view, returned, claimed)))
}
