//! One change on its way: what takes it from each state to the next. Every step may be repeated after a crash.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use aedile_core::crash;
use aedile_core::event::{Event, ReturnReason, TaskOutcome, TierOutcome};
use aedile_core::limits::CHANGE_PATHS_MAX;
use aedile_core::machine::{ChangeState, TaskState};
use aedile_core::store::{Append, Fence};
use aedile_core::task::GateSpec;
use aedile_core::view::{ChangeView, GatedTree, Intent, RunView, TaskView};
use aedile_core::{BlobId, ChangeId, CommitId, TreeId};
use aedile_git::{AddedSecret, Stages};
use tokio::sync::watch;

use crate::filter::{Filter, Touched, twins};
use crate::queue::{LandingDeps, view, wants};
use crate::repo::{Fate, Merged, Repo};
use crate::room::Room;
use crate::structural::{self, Structural};
use crate::{LandingError, evidence, gate};

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
    fence: Fence,
    pub(crate) change: ChangeView,
    pub(crate) task: TaskView,
    pub(crate) run: RunView,
}

/// What the merge with the target gave.
enum Candidate {
    /// The change went back, or waits for a person.
    Returned,
    /// This tree, which is the change merged with that commit, waits for its gates.
    Tree(TreeId, CommitId),
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
        match (self.change.state, self.change.gated.clone(), self.change.intent.clone()) {
            (ChangeState::Submitted, ..) => self.blocking(Self::import).await,
            (ChangeState::Gated, Some(gated), _) => {
                if !self.blocking(move |job| job.intend(&gated)).await? {
                    // The target has moved since the gates ran.
                    self.merge_and_gate(shutdown).await?;
                }
                Ok(())
            }
            (ChangeState::Imported | ChangeState::Gated, ..) => self.merge_and_gate(shutdown).await,
            (ChangeState::Intended, _, Some(intent)) => self.blocking(move |job| job.land(&intent)).await,
            (ChangeState::Intended, ..) => Err(LandingError::Unknown { noun: "intent of change", id: self.change.change.to_string() }),
            (ChangeState::Landed | ChangeState::Returned, ..) => Ok(()),
        }
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self) -> Result<T, LandingError> + Send + 'static,
    ) -> Result<T, LandingError> {
        let job = self.clone();
        tokio::task::spawn_blocking(move || work(&job)).await?
    }

    fn repo(&self) -> Repo<'_> {
        Repo::of(&self.deps, &self.run)
    }

    fn append(&self, append: Append) -> Result<(), LandingError> {
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
                return self.give_back(None, ReturnReason::Import { message }, &text);
            }
        };
        crash::point("import");
        let touched = self.repo().touched(&self.change.base, &commit)?;
        if touched.len() > CHANGE_PATHS_MAX {
            let message = format!("it touches {} paths, and at most {CHANGE_PATHS_MAX} are taken at once", touched.len());
            let text = evidence::import(&message);
            return self.give_back(None, ReturnReason::Import { message }, &text);
        }
        let added = self.deps.hub.secrets_added(&*self.deps.redactor, &self.change.base, &commit)?;
        if self.refused(None, &touched, &added, || self.repo().paths_of(&commit))? {
            return Ok(());
        }
        let held = self.run.rules.hold && !self.task.released;
        if held && touched.is_empty() {
            return self.give_back(None, ReturnReason::Empty, &evidence::empty(&self.change.base));
        }
        let paths = u32::try_from(touched.len()).unwrap_or(u32::MAX);
        let imported = self.of(Event::ChangeImported {
            change: self.change.change,
            paths,
            commit: Some(commit).filter(|commit| *commit != self.change.commit),
        });
        self.append(if held { imported.and(Event::TaskHeld { task: self.task.task }) } else { imported })
    }

    /// Sends the change back when the filter says so, after the events so far. `all` are the paths of what it would make.
    fn refused(
        &self,
        so_far: Option<Append>,
        touched: &[Touched],
        added: &[AddedSecret],
        all: impl FnOnce() -> Result<Vec<String>, LandingError>,
    ) -> Result<bool, LandingError> {
        let mut verdict = Filter::new(&self.task.spec.scope, &self.run.rules, &self.change.approved)?.check(touched, added);
        verdict.violations.extend(self.against_policy(touched)?);
        if verdict.violations.is_empty() && touched.iter().any(|entry| entry.mode != 0) {
            verdict.violations = twins(touched, all()?.iter().map(String::as_str));
        }
        if !verdict.violations.is_empty() {
            let text = evidence::scope(&verdict.violations, &self.task.spec.scope);
            self.give_back(so_far, ReturnReason::Scope { violations: verdict.violations }, &text)?;
        } else if !verdict.asks.is_empty() {
            let text = evidence::protected(&verdict.asks);
            self.give_back(so_far, ReturnReason::Protected { paths: verdict.asks }, &text)?;
        } else {
            return Ok(false);
        }
        Ok(true)
    }

    fn give_back(&self, so_far: Option<Append>, reason: ReturnReason, text: &str) -> Result<(), LandingError> {
        let evidence = Some(self.deps.store.put_blob(text.as_bytes())?);
        let event = Event::ChangeReturned { change: self.change.change, reason, evidence };
        let append = match so_far {
            Some(append) => append.and(event),
            None => self.of(event),
        };
        self.append(append.once(format!("returned/{}/{}", self.change.change, self.change.approved.len())))
    }

    /// Imported, or gated on a target that has moved: merge, then gates.
    async fn merge_and_gate(&self, shutdown: &watch::Receiver<bool>) -> Result<(), LandingError> {
        match self.blocking(Self::merge).await? {
            Candidate::Returned => Ok(()),
            Candidate::Tree(tree, onto) => self.gates(tree, onto, shutdown).await,
        }
    }

    /// The clean tier on the target as it is now. What would land is checked once more as a whole: a commit may have any parents.
    fn merge(&self) -> Result<Candidate, LandingError> {
        let repo = self.repo();
        let onto = repo.point()?.base;
        let change = self.change.change;
        let tried = |outcome| Event::TierTried { change, tier: CLEAN.to_owned(), onto: onto.clone(), outcome };
        let (so_far, tree) = match repo.merge(&onto, &self.change.commit)? {
            Merged::Tree(tree) => (self.of(tried(TierOutcome::Merged { tree: tree.clone(), receipt: None })), tree),
            Merged::Conflict { paths, messages, tree, stages } => {
                let so_far = self.of(tried(TierOutcome::Conflict { paths: paths.clone() }));
                match self.structural(&onto, &tree, &stages, &messages)? {
                    (outcome, Ok(tree)) => (so_far.and(outcome), tree),
                    (outcome, Err(why)) => {
                        let text = evidence::conflict(&paths, &onto, &messages.join("\n"), &why);
                        self.give_back(Some(so_far.and(outcome)), ReturnReason::Conflict { paths }, &text)?;
                        return Ok(Candidate::Returned);
                    }
                }
            }
            Merged::Unrelated => {
                let message = format!("the commit {} has no history in common with the target", self.change.commit);
                let text = evidence::import(&message);
                self.give_back(None, ReturnReason::Import { message }, &text)?;
                return Ok(Candidate::Returned);
            }
        };
        let touched = repo.touched_by_tree(&onto, &tree, &self.undone()?)?;
        if touched.is_empty() {
            self.give_back(Some(so_far), ReturnReason::Empty, &evidence::empty(&onto))?;
            return Ok(Candidate::Returned);
        }
        if self.refused(Some(so_far.clone()), &touched, &[], || repo.paths_of_tree(&tree))? {
            return Ok(Candidate::Returned);
        }
        if self.task.undoes.is_empty() && (self.task.returns > 0 || !self.task.conflicted.is_empty()) {
            return self.after_a_return(so_far, tree, onto);
        }
        self.append(so_far)?;
        Ok(Candidate::Tree(tree, onto))
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
    fn after_a_return(&self, so_far: Append, tree: TreeId, onto: CommitId) -> Result<Candidate, LandingError> {
        let repo = self.repo();
        let marked = repo.with_markers(&onto, &tree, &self.task.conflicted)?;
        if !marked.is_empty() {
            let text = evidence::markers(&marked);
            self.give_back(Some(so_far), ReturnReason::Conflict { paths: marked }, &text)?;
            return Ok(Candidate::Returned);
        }
        let since = self.task.first_base.as_ref().unwrap_or(&self.change.base);
        let lines = repo.dropped(since, &onto, &tree)?;
        if lines.is_empty() && self.change.dropped.is_empty() {
            self.append(so_far)?;
            return Ok(Candidate::Tree(tree, onto));
        }
        let told = so_far.and(Event::LinesDropped { change: self.change.change, onto: onto.clone(), lines: lines.clone() });
        match (lines.is_empty() || self.task.released, self.task.asked_of_dropped) {
            (true, _) => {
                self.append(told)?;
                return Ok(Candidate::Tree(tree, onto));
            }
            (false, false) => {
                let text = evidence::dropped(&lines, &onto);
                self.give_back(Some(told), ReturnReason::Dropped { lines }, &text)?;
            }
            (false, true) => self.append(told.and(Event::TaskHeld { task: self.task.task }))?,
        }
        Ok(Candidate::Returned)
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
            let room = self.blocking(move |job| job.place(&wanted, &at, number)).await?;
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
        self.blocking(move |job| job.append(job.of(Event::Gated { change: job.change.change, tree, onto, gates }))).await
    }

    /// Makes the place where one gate runs: exactly the tree, since a gate executes what the change holds, and could leave a trap for the next.
    fn place(&self, tree: &TreeId, onto: &CommitId, number: usize) -> Result<Room, LandingError> {
        let name = format!("{}-{number}", self.change.change.short());
        let room = Room::make(&rooms_of(&self.deps.rooms, &self.run), self.fence.number, &name)?;
        self.repo().export(tree, onto, &room.tree())?;
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
        let failed = self.of(Event::GateFailed { change, gate: name.clone(), tree: on, millis, exit, output });
        self.give_back(Some(failed), ReturnReason::Gate { gate: name }, &evidence::red_gate(gate, done, tree, onto))?;
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
        let intent = Intent { landing_ref: point.reference.clone(), old: gated.onto.clone(), new };
        self.append(self.of(Event::LandIntended {
            change: self.change.change,
            landing_ref: intent.landing_ref.clone(),
            old: intent.old.clone(),
            new: intent.new.clone(),
            tree: gated.tree.clone(),
        }))?;
        crash::point("before-ref-move");
        let fate = repo.land(&intent, point, &self.change)?;
        self.outcome(&intent, fate)?;
        Ok(true)
    }

    /// Intended in an earlier life, or by a step that failed: what became of it is found out, and done if it still can be.
    fn land(&self, intent: &Intent) -> Result<(), LandingError> {
        let repo = self.repo();
        let fate = if self.is_wanted() {
            repo.land_again(intent, &self.change)?
        } else if repo.is_landed(intent)? {
            Fate::Landed
        } else {
            Fate::Not { why: "its task no longer wants it".to_owned() }
        };
        self.outcome(intent, fate)
    }

    fn outcome(&self, intent: &Intent, fate: Fate) -> Result<(), LandingError> {
        match fate {
            Fate::Landed => {
                crash::point("after-ref-move");
                self.landed_now(intent)
            }
            Fate::Not { why } => self.append(self.of(Event::LandAbandoned { change: self.change.change, why })),
        }
    }

    /// The landing cannot go on for a reason that is not the change's own: its task waits for a person.
    pub(crate) fn give_up(&self, why: String) -> Result<(), LandingError> {
        let abandoned = match &self.change.intent {
            Some(intent) if self.repo().is_landed(intent)? => return self.landed_now(intent),
            Some(_) => Some(Event::LandAbandoned { change: self.change.change, why: why.clone() }),
            None => None,
        };
        // A task that was closed meanwhile waits for nobody.
        let waits = (self.task.state == TaskState::Submitted).then(|| Event::TaskWaits { task: self.task.task, why });
        let append = match (abandoned, waits) {
            (Some(abandoned), Some(waits)) => self.of(abandoned).and(waits),
            (Some(event), None) | (None, Some(event)) => self.of(event),
            (None, None) => return Ok(()),
        };
        self.append(append)
    }

    fn landed_now(&self, intent: &Intent) -> Result<(), LandingError> {
        let landed = Event::Landed {
            change: self.change.change,
            landing_ref: intent.landing_ref.clone(),
            old: intent.old.clone(),
            new: intent.new.clone(),
        };
        let mut append = self.of(landed);
        if self.task.state == TaskState::Submitted {
            append = append.and(Event::TaskClosed { task: self.task.task, outcome: TaskOutcome::Landed { commit: intent.new.clone() } });
        }
        self.append(append.once(format!("landed/{}", self.change.change)))
    }
}
