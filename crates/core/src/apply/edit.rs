//! A person changes what is asked of a task.

use super::{At, agent_key};
use crate::ids::TaskId;
use crate::machine::{AgentState, TaskState};
use crate::store::StoreError;
use crate::task::TaskSpec;
use crate::view::{AgentView, TaskView};

/// Only what nobody works on may change: an agent is held to what its box was made for, and a change in the queue to what was submitted.
pub(super) fn apply_edit(at: &mut At<'_>, task: TaskId, spec: &TaskSpec) -> Result<(), StoreError> {
    let mut view = at.task(task)?;
    let why = match view.state {
        _ if spec.key != view.spec.key => Some("its id cannot change"),
        state if state.is_closed() => Some("it is closed"),
        TaskState::Submitted => Some("its change is in the landing queue"),
        TaskState::Working if is_at_work(at, &view)? => Some("an agent works on it"),
        _ => None,
    };
    if let Some(why) = why {
        return Err(at.illegal("task", &view.spec.key, view.state, why));
    }
    view.spec = spec.clone();
    view.edited = view.session.is_some();
    at.put_task(&view)
}

fn is_at_work(at: &mut At<'_>, task: &TaskView) -> Result<bool, StoreError> {
    let Some(name) = &task.agent else { return Ok(false) };
    let agent: Option<AgentView> = at.find(&agent_key(task.run, name.as_str()))?;
    Ok(agent.is_some_and(|agent| agent.state != AgentState::Ended))
}
