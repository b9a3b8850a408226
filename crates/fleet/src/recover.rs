//! What a worker finds when it takes a run over. There is no other recovery: everything else goes on from the views as they are.

use aedile_core::Usage;
use aedile_core::event::Event;
use aedile_core::machine::{AgentState, RunState};
use aedile_core::store::{Append, Fence, Store, StoreError, list};
use aedile_core::view::{AgentView, RunView, SpendView, TaskView};

use crate::decide::would_move;
use crate::mail::append_all;
use crate::picture::RunPicture;

/// Takes the run over: orphans are killed, their agents ended, amounts that dead doors held back charged. A run that has ended and in which
/// nothing would happen stays ended, and as old as it is. Blocking.
///
/// # Errors
/// As the store.
pub fn take_over(store: &dyn Store, holder: &str, kill_orphan: &dyn Fn(u32, u64), run: &RunView, fence: &Fence) -> Result<(), StoreError> {
    let mut events = Vec::new();
    for agent in list::<AgentView>(store, Some(run.run))? {
        if agent.state == AgentState::Ended {
            continue;
        }
        if let Some((pid, start)) = agent.process {
            kill_orphan(pid, start);
        }
        let why = "its worker ended".to_owned();
        events.push(Event::AgentEnded { task: agent.task, agent: agent.agent, incarnation: agent.incarnation, why, failed: false });
    }
    // Every door of an earlier worker is closed: what it held back and never settled counts as spent.
    for held in list::<SpendView>(store, Some(run.run))? {
        events.push(Event::SpendSettled { spend: held.spend, usage: Usage::default(), usd: held.usd, estimated: true });
    }
    append_all(store, run.run, events, fence)?;
    if run.state == RunState::Ended && !RunPicture::load(store, run.run)?.is_some_and(|picture| would_move(&picture)) {
        return Ok(());
    }
    let begun = list::<TaskView>(store, Some(run.run))?.iter().any(|task| task.fence > 0);
    if begun || run.state != RunState::Running {
        let resumed = Event::RunResumed { run: run.run, worker: holder.to_owned() };
        store.append(Append::of(run.run, resumed).fenced(fence))?;
    }
    Ok(())
}
