//! Plans in the views: they stand at the task that makes them.

use crate::event::Event;
use crate::machine::TaskStep;
use crate::store::StoreError;

use super::At;

/// Applies one of the three events of a plan.
pub(super) fn apply_plan(at: &mut At<'_>) -> Result<(), StoreError> {
    let (Event::PlanRejected { task, .. } | Event::PlanProposed { task, .. } | Event::PlanAnswered { task, .. }) = &at.envelope.event
    else {
        return Ok(());
    };
    let mut view = at.task(*task)?;
    if !view.spec.is_plan() {
        return Err(at.illegal("task", &view.spec.key, view.state, "it is not there to make a plan"));
    }
    let mut plan = view.plan.take().unwrap_or_default();
    match &at.envelope.event {
        Event::PlanRejected { .. } if view.state.is_closed() => {
            return Err(at.illegal("task", &view.spec.key, view.state, "it is closed"));
        }
        Event::PlanRejected { .. } => plan.rejected += 1,
        Event::PlanProposed { plan: blob, .. } => {
            at.step_task(&mut view, TaskStep::Plan)?;
            plan.proposed = Some(blob.clone());
        }
        Event::PlanAnswered { .. } if plan.proposed.is_none() || plan.answered.is_some() => {
            return Err(at.illegal("task", &view.spec.key, view.state, "it has no plan that waits for an answer"));
        }
        Event::PlanAnswered { answer, .. } => plan.answered = Some(answer.clone()),
        _ => {}
    }
    view.plan = Some(plan);
    at.put_task(&view)
}
