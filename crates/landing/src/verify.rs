//! Verdicts: which gates a tree has passed. A verdict belongs to a tree, a command and its limits, whoever asked for it.

use std::collections::HashMap;
use std::sync::Arc;

use aedile_core::event::Event;
use aedile_core::sandbox::BoxLimits;
use aedile_core::task::GateSpec;
use aedile_core::{BlobId, ChangeId, CommitId, TreeId, crash};

use crate::gate::{self, GateBox, GateRun, exit_text};
use crate::job::Job;
use crate::{LandingError, evidence};

/// A gate with the limits of its box.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Gate {
    pub(crate) spec: GateSpec,
    limits: BoxLimits,
}

/// How a gate ended on a tree.
#[derive(Debug)]
pub(crate) struct Verdict {
    gate: GateSpec,
    done: GateRun,
    tree: TreeId,
    onto: CommitId,
}

/// What is to be verified: a commit that holds the tree, and the commit that what is new in it was merged with.
#[derive(Clone, Debug)]
pub(crate) struct Candidate {
    pub(crate) tree: TreeId,
    pub(crate) commit: CommitId,
    pub(crate) onto: CommitId,
}

/// The verdicts that are known.
#[derive(Default)]
pub(crate) struct Verdicts(HashMap<(TreeId, BlobId), Arc<Verdict>>);

impl Gate {
    /// The gates of the project and of the tasks of these changes, each once, in order.
    pub(crate) fn of_all<'a>(jobs: impl Iterator<Item = &'a Job>) -> Result<Vec<Self>, LandingError> {
        let mut gates: Vec<Self> = Vec::new();
        for job in jobs {
            let limits = job.gate_limits()?;
            for spec in job.run.rules.gates.iter().chain(&job.task.spec.gates) {
                let gate = Self { spec: spec.clone(), limits: limits.clone() };
                if !gates.contains(&gate) {
                    gates.push(gate);
                }
            }
        }
        Ok(gates)
    }

    /// The command and its limits; the name says nothing about the verdict.
    fn key(&self) -> BlobId {
        let limits = &self.limits;
        BlobId::of(format!("{}\0{:?}\0{limits:?}", self.spec.command, self.spec.timeout_s).as_bytes())
    }
}

impl Verdict {
    pub(crate) fn is_green(&self) -> bool {
        self.done.exit.success()
    }

    /// What tells of it, asked for by this change.
    pub(crate) fn told(&self, job: &Job, change: ChangeId) -> Result<Event, LandingError> {
        let output = job.deps.store.put_blob(&self.done.output)?;
        let millis = u64::try_from(self.done.took.as_millis()).unwrap_or(u64::MAX);
        let (gate, tree) = (self.gate.name.clone(), self.tree.clone());
        Ok(match self.is_green() {
            true => Event::GatePassed { change, gate, tree, millis, output },
            false => Event::GateFailed { change, gate, tree, millis, exit: exit_text(self.done.exit, &self.gate), output },
        })
    }

    pub(crate) fn gate(&self) -> &str {
        &self.gate.name
    }

    /// What the agent reads when this one was red.
    pub(crate) fn evidence(&self) -> String {
        evidence::red_gate(&self.gate, &self.done, &self.tree, &self.onto)
    }
}

impl Verdicts {
    pub(crate) fn of(&self, tree: &TreeId, gate: &Gate) -> Option<&Arc<Verdict>> {
        self.0.get(&(tree.clone(), gate.key()))
    }

    pub(crate) fn learn(&mut self, gate: &Gate, verdict: Arc<Verdict>) {
        self.0.insert((verdict.tree.clone(), gate.key()), verdict);
    }
}

/// Runs the gates in order, each in a clean room of its own, up to the first red one. `name` is of no other room of this claim.
pub(crate) async fn verify(
    job: Job,
    on: Candidate,
    gates: Vec<Gate>,
    common: GateBox,
    name: String,
) -> Result<Vec<(Gate, Arc<Verdict>)>, LandingError> {
    let mut verdicts = Vec::new();
    for (number, gate) in gates.into_iter().enumerate() {
        let (head, room) = (on.commit.clone(), format!("{name}-{number}"));
        let room = job.blocking(move |job| job.room(&head, &room)).await?;
        let gate_box = GateBox { limits: gate.limits.clone(), ..common.clone() };
        let done = gate::run(&job.deps.sandbox, &gate_box, &gate.spec, &room.tree()).await?;
        crash::point("gate");
        job.blocking(move |_| {
            drop(room);
            Ok(())
        })
        .await?;
        let verdict = Arc::new(Verdict { gate: gate.spec.clone(), done, tree: on.tree.clone(), onto: on.onto.clone() });
        let green = verdict.is_green();
        verdicts.push((gate, verdict));
        if !green {
            break;
        }
    }
    Ok(verdicts)
}
