//! A change on its way to the target.

use super::{At, undo};
use crate::event::{Event, ReturnReason};
use crate::machine::{ChangeState, ChangeStep, TaskState, TaskStep};
use crate::store::StoreError;
use crate::view::{ChangeView, GatedTree, Intent, ViewKind};

fn submit_change(at: &mut At<'_>) -> Result<(), StoreError> {
    let Event::ChangeSubmitted { change, run, task, agent, workspace, base, commit, summary, .. } = &at.envelope.event else {
        return Ok(());
    };
    at.is_new(ViewKind::Change, "change", &change.to_string())?;
    let mut owner = at.task(*task)?;
    let step = if owner.undoes.is_empty() { TaskStep::Submit } else { TaskStep::SubmitUndo };
    at.step_task(&mut owner, step)?;
    (owner.change, owner.restarts) = (Some(*change), 0);
    at.put_task(&owner)?;
    let view = ChangeView {
        change: *change,
        run: *run,
        task: *task,
        agent: agent.clone(),
        state: ChangeState::Submitted,
        since: at.envelope.at,
        workspace: workspace.clone(),
        base: base.clone(),
        view: owner.view.clone(),
        commit: commit.clone(),
        summary: summary.clone(),
        gated: None,
        intent: None,
        landed: None,
        undone: None,
        returned: None,
        evidence: None,
        dropped: Vec::new(),
        receipt: None,
        approved: Vec::new(),
    };
    at.put_change(&view)
}

pub(super) fn apply_change(at: &mut At<'_>) -> Result<(), StoreError> {
    let (change, step) = match &at.envelope.event {
        Event::ChangeImported { change, .. } => (*change, ChangeStep::Import),
        Event::Gated { change, .. } => (*change, ChangeStep::Gate),
        Event::LandIntended { change, old, tree, .. } => {
            let view = at.change(*change)?;
            let same = view.gated.is_some_and(|gated| gated.tree == *tree && gated.onto == *old);
            (*change, ChangeStep::Intend { same })
        }
        Event::Landed { change, new, old, .. } => {
            let view = at.change(*change)?;
            let same = view.intent.is_some_and(|intent| intent.new == *new && intent.old == *old);
            (*change, ChangeStep::Land { same })
        }
        Event::LandAbandoned { change, .. } => (*change, ChangeStep::Abandon),
        Event::ChangeReturned { change, .. } => (*change, ChangeStep::Return),
        Event::ImportApproved { change, .. } => {
            let asks = matches!(at.change(*change)?.returned, Some(ReturnReason::Protected { .. }));
            (*change, ChangeStep::Approve { asks })
        }
        _ => return submit_change(at),
    };
    let mut view = at.change(change)?;
    at.step_change(&mut view, step)?;
    match &at.envelope.event {
        Event::ChangeImported { commit: Some(commit), .. } => view.commit.clone_from(commit),
        Event::Gated { tree, onto, gates, passed, .. } => {
            view.gated = Some(GatedTree { tree: tree.clone(), onto: onto.clone(), gates: gates.clone(), passed: passed.clone() });
        }
        Event::LandIntended { landing_ref, old, new, .. } => {
            view.intent = Some(Intent { landing_ref: landing_ref.clone(), old: old.clone(), new: new.clone() });
        }
        Event::LandAbandoned { .. } => (view.intent, view.gated) = (None, None),
        Event::Landed { new, .. } => {
            (view.landed, view.intent) = (Some(new.clone()), None);
            let mut run = at.run(view.run)?;
            run.tip = new.clone();
            at.put(&view.run.to_string(), Some(view.run), &run)?;
            undo::mark_undone(at, view.task, new)?;
        }
        Event::ImportApproved { findings, .. } => {
            view.approved.extend(findings.iter().cloned());
            (view.returned, view.evidence) = (None, None);
            let mut owner = at.task(view.task)?;
            if owner.change != Some(view.change) {
                return Err(at.illegal("task", &owner.spec.key, owner.state, "it has another change since"));
            }
            at.step_task(&mut owner, TaskStep::Approve)?;
            (owner.why, owner.returned, owner.evidence) = (None, None, None);
            at.put_task(&owner)?;
        }
        Event::ChangeReturned { reason, evidence, .. } => {
            (view.returned, view.evidence) = (Some(reason.clone()), evidence.clone());
            return_task(at, &view)?;
        }
        _ => {}
    }
    at.put_change(&view)
}

fn return_task(at: &mut At<'_>, change: &ChangeView) -> Result<(), StoreError> {
    let mut owner = at.task(change.task)?;
    // A task that was cancelled or failed meanwhile stays so.
    if owner.state == TaskState::Submitted {
        at.step_task(&mut owner, TaskStep::Return)?;
        owner.returns += 1;
    }
    owner.asked_of_dropped |= matches!(change.returned, Some(ReturnReason::Dropped { .. }));
    (owner.returned, owner.evidence) = (change.returned.clone(), change.evidence.clone());
    at.put_task(&owner)
}
