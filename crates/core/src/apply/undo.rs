//! Landed changes that are taken back.

use super::At;
use crate::ids::{ChangeId, CommitId, RunId, TaskId};
use crate::machine::TaskState;
use crate::store::StoreError;

/// The task takes landed changes back that stand.
pub(super) fn apply_plan(at: &mut At<'_>, run: RunId, task: TaskId, undoes: &[ChangeId]) -> Result<(), StoreError> {
    let mut view = at.task(task)?;
    if view.run != run || view.state != TaskState::Open || undoes.is_empty() {
        return Err(at.illegal(
            "task",
            &view.spec.key,
            view.state,
            "an undo is planned for a new task of its run, and of at least one change",
        ));
    }
    for id in undoes {
        let change = at.change(*id)?;
        if change.landed.is_none() || change.undone.is_some() {
            return Err(at.illegal("change", id, change.state, "only a landed change that stands can be taken back"));
        }
    }
    view.undoes = undoes.to_vec();
    at.put_task(&view)
}

/// The change of a task has landed: what the task takes back is undone from now on, and what an undone undo had taken back stands again.
pub(super) fn mark_undone(at: &mut At<'_>, task: TaskId, commit: &CommitId) -> Result<(), StoreError> {
    for id in at.task(task)?.undoes {
        let mut change = at.change(id)?;
        change.undone = Some(commit.clone());
        at.put_change(&change)?;
        for back in at.task(change.task)?.undoes {
            let mut restored = at.change(back)?;
            restored.undone = None;
            at.put_change(&restored)?;
        }
    }
    Ok(())
}
