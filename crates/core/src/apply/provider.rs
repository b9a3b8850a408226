//! Which model answers an agent, and which providers are left alone.

use super::{At, agent_key};
use crate::event::Event;
use crate::ids::RunId;
use crate::store::StoreError;
use crate::view::{AgentView, ProviderDown, RunView, Switched, TaskView};

pub(super) fn apply_provider(at: &mut At<'_>) -> Result<(), StoreError> {
    let now = at.envelope.at;
    match &at.envelope.event {
        Event::ModelSwitched { task, to, why, .. } => {
            // A door without a task has no views.
            let Some(view) = at.find::<TaskView>(&task.to_string())? else { return Ok(()) };
            let Some(key) = view.agent.as_ref().map(|name| agent_key(view.run, name.as_str())) else { return Ok(()) };
            let mut agent: AgentView = at.get("agent", &key)?;
            agent.switched = (*to != view.spec.model).then(|| Switched { model: to.clone(), why: why.clone(), since: now });
            at.put(&key, Some(view.run), &agent)
        }
        Event::ProviderDown { run, provider, why, again } => {
            let told = why.as_ref().map(|why| ProviderDown { provider: provider.clone(), why: why.clone(), since: now, again: *again });
            put_down(at, *run, provider, told)
        }
        _ => Ok(()),
    }
}

/// A provider that stays away has been away since the first word of it.
fn put_down(at: &mut At<'_>, run: RunId, provider: &str, told: Option<ProviderDown>) -> Result<(), StoreError> {
    let Some(mut view) = at.find::<RunView>(&run.to_string())? else { return Ok(()) };
    let known = view.down.iter().position(|known| known.provider == provider).map(|place| view.down.remove(place));
    view.down.extend(told.map(|told| ProviderDown { since: known.map_or(told.since, |known| known.since), ..told }));
    at.put(&run.to_string(), Some(run), &view)
}
