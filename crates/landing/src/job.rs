//! One change on its way: what takes it from each state to the next. Every step may be repeated after a crash.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use aedile_core::crash;
use aedile_core::event::{Event, ReturnReason, TaskOutcome, TierOutcome};
use aedile_core::limits::CHANGE_PATHS_MAX;
use aedile_core::machine::{ChangeState, TaskState};
use aedile_core::store::{Append, Fence, NewEvent};
use aedile_core::task::GateSpec;
use aedile_core::view::{ChangeView, GatedTree, Intent, RunView, TaskView};
use aedile_core::{BlobId, ChangeId, CommitId, RunId, TreeId};
use aedile_git::{AddedSecret, Stages};
use tokio::sync::watch;

use crate::filter::{Filter, Touched, twins};
use crate::queue::{LandingDeps, view, wants};
use crate::repo::{Merged, Repo};
use crate::room::Room;
use crate::structural::{self, Structural};
use crate::{LandingError, chain, evidence, gate};

/// The tier that merges what git can merge without a conflict.
const CLEAN: &str = "clean";

/// Returns where the clean rooms of a target are.
pub(crate) fn rooms_of(rooms: &Path, run: &RunView) -> PathBuf {
    let slug = BlobId::of(run.landing_ref.as_str().as_bytes());
    rooms.join(format!("{}-{}", run.project, &slug.as_str()[..12]))
}

/// A change with its task and run as they are now, and the claim under which it is processed.
#[derive(Clone)]
pub(crate) struct Job {
    pub(crate) deps: Arc<LandingDeps>,
    pub(crate) fence: Fence,
    pub(crate) change: ChangeView,
    pub(crate) task: TaskView,
    pub(crate) run: RunView,
}

/// What the merge of a change with a commit gave.
pub(crate) enum Attempt {
    /// It goes back, or waits for a person; this says so.
    Refused(Append),
    /// This tree waits for its gates; the events tell how it came about.
    Tree(TreeId, Vec<Event>),
}

impl Job {
    pub(crate) fn load(deps: &Arc<LandingDeps>, fence: &Fence, change: ChangeId) -> Result<Self, LandingError> {
        let store = &*deps.store;
        let change: ChangeView = view(store, "change", &change.to_string())?;
        let task = view(store, "task", &change.task.to_string())?;
        let run = view(store, "run", &change.run.to_string())?;
        Ok(Self { deps: Arc::clone(deps), fence: fence.clone(), change, task, run })
    }

    pub(crate) fn state(&self) -> ChangeState {
        self.change.state
    }

    pub(crate) fn landed(&self) -> Option<&CommitId> {
        self.change.landed.as_ref()
    }

    pub(crate) fn is_wanted(&self) -> bool {
        wants(&self.task, self.change.change)
    }

    /// Takes the change one state further.
    pub(crate) async fn advance(self, shutdown: &watch::Receiver<bool>) -> Result<(), LandingError> {
        match (self.change.state, self.change.gated.clone()) {
            (ChangeState::Submitted, _) => self.blocking(Self::import).await,
            (ChangeState::Gated, Some(gated)) => {
                if !self.blocking(move |job| job.intend(&gated)).await? {
                    // The target has moved since the gates ran.
                    self.merge_and_gate(shutdown).await?;
                }
                Ok(())
            }
            (ChangeState::Imported | ChangeState::Gated, _) => self.merge_and_gate(shutdown).await,
            // In an earlier life, or by a step that failed: what became of it is found out, and done if it still can be.
            (ChangeState::Intended, _) => self.blocking(|job| chain::settle(&job.deps, &job.fence, job.run.run, None)).await,
            (ChangeState::Landed | ChangeState::Returned, _) => Ok(()),
        }
    }

    pub(crate) async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self) -> Result<T, LandingError> + Send + 'static,
    ) -> Result<T, LandingError> {
        let job = self.clone();
        tokio::task::spawn_blocking(move || work(&job)).await?
    }

    pub(crate) fn repo(&self) -> Repo<'_> {
        Repo::of(&self.deps, &self.run)
    }

    pub(crate) fn append(&self, append: Append) -> Result<(), LandingError> {
        self.deps.store.append(append.fenced(&self.fence))?;
        Ok(())
    }

    fn of(&self, event: Event) -> Append {
        Append::of(self.run.run, event)
    }

    /// Submitted: the commit is taken out of the workspace and checked.
    fn import(&self) -> Result<(), LandingError> {
        let commit = match self.repo().import(&self.change, &self.task.spec)? {
            Ok(commit) => commit,
            Err(message) => {
                let text = evidence::import(&message);
                return self.give_back(ReturnReason::Import { message }, &text);
            }
        };
        crash::point("import");
        let touched = self.repo().touched(&self.change.base, &commit)?;
        if touched.len() > CHANGE_PATHS_MAX {
            let message = format!("it touches {} paths, and at most {CHANGE_PATHS_MAX} are taken at once", touched.len());
            let text = evidence::import(&message);
            return self.give_back(ReturnReason::Import { message }, &text);
        }
        let added = self.deps.hub.secrets_added(&*self.deps.redactor, &self.change.base, &commit)?;
        if let Some(refused) = self.refused(&[], &touched, &added, || self.repo().paths_of(&commit))? {
            return self.append(refused);
        }
        let held = self.run.rules.hold && !self.task.released;
        if held && touched.is_empty() {
            return self.give_back(ReturnReason::Empty, &evidence::empty(&self.change.base));
        }
        let paths = u32::try_from(touched.len()).unwrap_or(u32::MAX);
        let imported = self.of(Event::ChangeImported {
            change: self.change.change,
            paths,
            commit: Some(commit).filter(|commit| *commit != self.change.commit),
        });
        self.append(if held { imported.and(Event::TaskHeld { task: self.task.task }) } else { imported })
    }

    /// What sends the change back when the filter says so, after the events so far. `all` are the paths of what it would make.
    fn refused(
        &self,
        so_far: &[Event],
        touched: &[Touched],
        added: &[AddedSecret],
        all: impl FnOnce() -> Result<Vec<String>, LandingError>,
    ) -> Result<Option<Append>, LandingError> {
        let mut verdict = Filter::new(&self.task.spec.scope, &self.run.rules, &self.change.approved)?.check(touched, added);
        verdict.violations.extend(self.against_policy(touched)?);
        if verdict.violations.is_empty() && touched.iter().any(|entry| entry.mode != 0) {
            verdict.violations = twins(touched, all()?.iter().map(String::as_str));
        }
        if !verdict.violations.is_empty() {
            let text = evidence::scope(&verdict.violations, &self.task.spec.scope);
            return self.back(so_far.to_vec(), ReturnReason::Scope { violations: verdict.violations }, &text).map(Some);
        }
        if !verdict.asks.is_empty() {
            let text = evidence::protected(&verdict.asks);
            return self.back(so_far.to_vec(), ReturnReason::Protected { paths: verdict.asks }, &text).map(Some);
        }
        Ok(None)
    }

    /// What sends the change back, after the events so far.
    pub(crate) fn back(&self, so_far: Vec<Event>, reason: ReturnReason, text: &str) -> Result<Append, LandingError> {
        let evidence = Some(self.deps.store.put_blob(text.as_bytes())?);
        let back = Event::ChangeReturned { change: self.change.change, reason, evidence };
        Ok(all_of(self.run.run, so_far, back).once(format!("returned/{}/{}", self.change.change, self.change.approved.len())))
    }

    fn give_back(&self, reason: ReturnReason, text: &str) -> Result<(), LandingError> {
        self.append(self.back(Vec::new(), reason, text)?)
    }

    /// Imported, or gated on a target that has moved: merge, then gates.
    async fn merge_and_gate(&self, shutdown: &watch::Receiver<bool>) -> Result<(), LandingError> {
        let merged = self.blocking(|job| {
            let onto = job.repo().point()?.base;
            match job.attempt(&onto)? {
                Attempt::Refused(refused) => job.append(refused).map(|()| None),
                Attempt::Tree(tree, told) => job.append(all(job.run.run, told)).map(|()| Some((tree, onto))),
            }
        });
        match merged.await? {
            None => Ok(()),
            Some((tree, onto)) => self.gates(tree, onto, shutdown).await,
        }
    }

    /// Merges the change with a commit, tier by tier; writes nothing down. What would land is checked once more as a whole: a commit may have any parents.
    pub(crate) fn attempt(&self, onto: &CommitId) -> Result<Attempt, LandingError> {
        let repo = self.repo();
        let change = self.change.change;
        let tried = |outcome| Event::TierTried { change, tier: CLEAN.to_owned(), onto: onto.clone(), outcome };
        let (so_far, tree) = match repo.merge(onto, &self.change.commit)? {
            Merged::Tree(tree) => (vec![tried(TierOutcome::Merged { tree: tree.clone(), receipt: None })], tree),
            Merged::Conflict { paths, messages, tree, stages } => {
                let clean = tried(TierOutcome::Conflict { paths: paths.clone() });
                match self.structural(onto, &tree, &stages, &messages)? {
                    (outcome, Ok(tree)) => (vec![clean, outcome], tree),
                    (outcome, Err(why)) => {
                        let text = evidence::conflict(&paths, onto, &messages.join("\n"), &why);
                        return self.back(vec![clean, outcome], ReturnReason::Conflict { paths }, &text).map(Attempt::Refused);
                    }
                }
            }
            Merged::Unrelated => {
                let message = format!("the commit {} has no history in common with the target", self.change.commit);
                let text = evidence::import(&message);
                return self.back(Vec::new(), ReturnReason::Import { message }, &text).map(Attempt::Refused);
            }
        };
        let touched = repo.touched_by_tree(onto, &tree, &self.undone()?)?;
        if touched.is_empty() {
            return self.back(so_far, ReturnReason::Empty, &evidence::empty(onto)).map(Attempt::Refused);
        }
        if let Some(refused) = self.refused(&so_far, &touched, &[], || repo.paths_of_tree(&tree))? {
            return Ok(Attempt::Refused(refused));
        }
        if self.task.undoes.is_empty() && (self.task.returns > 0 || !self.task.conflicted.is_empty()) {
            return self.after_a_return(so_far, tree, onto);
        }
        Ok(Attempt::Tree(tree, so_far))
    }

    /// The structural tier, behind a conflict of the clean one: the event that tells of it, and the tree or what to say to the agent. What it merges can be
    /// complete by its lines and wrong, so that it is not for a change without a gate.
    fn structural(
        &self,
        onto: &CommitId,
        tree: &TreeId,
        stages: &[Stages],
        messages: &[String],
    ) -> Result<(Event, Result<TreeId, String>), LandingError> {
        let ungated = self.run.rules.gates.is_empty() && self.task.spec.gates.is_empty();
        let found = match ungated {
            true => Structural::Declined("no gate would judge what it merges".to_owned()),
            false => structural::settle(&self.deps.hub, tree, stages, messages)?,
        };
        let (outcome, answer) = match found {
            Structural::Tree(tree, receipt) => {
                let receipt = Some(self.deps.store.put_blob(receipt.as_bytes())?);
                (TierOutcome::Merged { tree: tree.clone(), receipt }, Ok(tree))
            }
            Structural::Conflict(paths) => (TierOutcome::Conflict { paths: paths.clone() }, Err(paths.join("\n"))),
            Structural::Declined(why) => (TierOutcome::Declined { why }, Err(String::new())),
        };
        let event = Event::TierTried { change: self.change.change, tier: structural::TIER.to_owned(), onto: onto.clone(), outcome };
        Ok((event, answer))
    }

    /// The workspace of a change that went back held the target already, so git objects to nothing that was done to it there: markers that
    /// stayed, and what others landed and is gone, are looked for here. The agent is asked once about the latter, then a person.
    fn after_a_return(&self, mut so_far: Vec<Event>, tree: TreeId, onto: &CommitId) -> Result<Attempt, LandingError> {
        let repo = self.repo();
        let marked = repo.with_markers(onto, &tree, &self.task.conflicted)?;
        if !marked.is_empty() {
            let text = evidence::markers(&marked);
            return self.back(so_far, ReturnReason::Conflict { paths: marked }, &text).map(Attempt::Refused);
        }
        let since = self.task.first_base.as_ref().unwrap_or(&self.change.base);
        let lines = repo.dropped(since, onto, &tree)?;
        if lines.is_empty() && self.change.dropped.is_empty() {
            return Ok(Attempt::Tree(tree, so_far));
        }
        so_far.push(Event::LinesDropped { change: self.change.change, onto: onto.clone(), lines: lines.clone() });
        match (lines.is_empty() || self.task.released, self.task.asked_of_dropped) {
            (true, _) => Ok(Attempt::Tree(tree, so_far)),
            (false, false) => {
                let text = evidence::dropped(&lines, onto);
                self.back(so_far, ReturnReason::Dropped { lines }, &text).map(Attempt::Refused)
            }
            (false, true) => Ok(Attempt::Refused(all_of(self.run.run, so_far, Event::TaskHeld { task: self.task.task }))),
        }
    }

    /// The landed changes that the task takes back.
    fn undone(&self) -> Result<Vec<ChangeView>, LandingError> {
        self.task.undoes.iter().map(|change| view(&*self.deps.store, "change", &change.to_string())).collect()
    }

    /// Runs the project's gates, then the task's own, on exactly this tree.
    async fn gates(&self, tree: TreeId, onto: CommitId, shutdown: &watch::Receiver<bool>) -> Result<(), LandingError> {
        let gates: Vec<GateSpec> = self.run.rules.gates.iter().chain(&self.task.spec.gates).cloned().collect();
        let mut gate_box = self.deps.gate_box.clone();
        gate_box.limits = self.gate_limits()?;
        if !gates.is_empty() {
            gate_box.mounts.extend(self.blocking(|job| job.repo().mounts()).await?);
        }
        for (number, spec) in gates.iter().enumerate() {
            let (wanted, at) = (tree.clone(), onto.clone());
            let name = format!("{}-{number}", self.change.change.short());
            let room = self.blocking(move |job| job.room(&job.repo().candidate(&wanted, &at)?, &name)).await?;
            let (in_tree, mut stop) = (room.tree(), shutdown.clone());
            let done = tokio::select! {
                biased;
                done = gate::run(&self.deps.sandbox, &gate_box, spec, &in_tree) => done?,
                _ = stop.wait_for(|stop| *stop) => return Err(LandingError::Stopped),
            };
            crash::point("gate");
            let (of, on, at) = (spec.clone(), tree.clone(), onto.clone());
            let ended = move |job: &Self| {
                drop(room);
                job.gate_ended(&of, &done, &on, &at)
            };
            if !self.blocking(ended).await? {
                return Ok(());
            }
        }
        let gates = gates.into_iter().map(|gate| gate.name).collect();
        self.blocking(move |job| job.append(job.of(Event::Gated { change: job.change.change, tree, onto, gates, passed: None }))).await
    }

    /// Makes the place where one gate runs: exactly the tree of that commit, since a gate executes what the change holds, and could leave a trap for the next.
    pub(crate) fn room(&self, head: &CommitId, name: &str) -> Result<Room, LandingError> {
        let room = Room::make(&rooms_of(&self.deps.rooms, &self.run), self.fence.number, name)?;
        self.deps.hub.export_tree(head, &room.tree())?;
        Ok(room)
    }

    /// Records how a gate ended; `false` when it was red and the change went back.
    fn gate_ended(&self, gate: &GateSpec, done: &gate::GateRun, tree: &TreeId, onto: &CommitId) -> Result<bool, LandingError> {
        let output = self.deps.store.put_blob(&done.output)?;
        let millis = u64::try_from(done.took.as_millis()).unwrap_or(u64::MAX);
        let (change, name, on) = (self.change.change, gate.name.clone(), tree.clone());
        if done.exit.success() {
            self.append(self.of(Event::GatePassed { change, gate: name, tree: on, millis, output }))?;
            return Ok(true);
        }
        let exit = gate::exit_text(done.exit, gate);
        let failed = Event::GateFailed { change, gate: name.clone(), tree: on, millis, exit, output };
        self.append(self.back(vec![failed], ReturnReason::Gate { gate: name }, &evidence::red_gate(gate, done, tree, onto))?)?;
        Ok(false)
    }

    /// Gated: the commit is made, the intent written, and the ref moved. `false` when the target is no longer where the gates ran.
    fn intend(&self, gated: &GatedTree) -> Result<bool, LandingError> {
        let repo = self.repo();
        let point = repo.point()?;
        if point.base != gated.onto {
            return Ok(false);
        }
        let new = repo.commit(&self.change, &self.task.spec, &gated.tree, &gated.onto)?;
        chain::land(&[(self, gated.tree.clone(), new)], point)?;
        Ok(true)
    }

    /// The landing cannot go on for a reason that is not the change's own: its task waits for a person. What was to land with it is abandoned with it.
    pub(crate) fn give_up(&self, why: String) -> Result<(), LandingError> {
        if self.change.intent.is_some() {
            chain::settle(&self.deps, &self.fence, self.run.run, Some(&why))?;
        }
        let now = Self::load(&self.deps, &self.fence, self.change.change)?;
        // A task that was closed meanwhile waits for nobody.
        if now.task.state != TaskState::Submitted {
            return Ok(());
        }
        now.append(now.of(Event::TaskWaits { task: now.task.task, why }))
    }

    /// What tells that the change has landed as this commit.
    pub(crate) fn landed_now(&self, intent: &Intent) -> Vec<Event> {
        let landed = Event::Landed {
            change: self.change.change,
            landing_ref: intent.landing_ref.clone(),
            old: intent.old.clone(),
            new: intent.new.clone(),
        };
        let closed = Event::TaskClosed { task: self.task.task, outcome: TaskOutcome::Landed { commit: intent.new.clone() } };
        if self.task.state == TaskState::Submitted { vec![landed, closed] } else { vec![landed] }
    }
}

/// One append of these events, of which there is at least one.
pub(crate) fn all(run: RunId, events: Vec<Event>) -> Append {
    Append { events: events.into_iter().map(|event| NewEvent { run: Some(run), event }).collect(), fence: None, once: None }
}

fn all_of(run: RunId, mut events: Vec<Event>, last: Event) -> Append {
    events.push(last);
    all(run, events)
}
