//! What a person says to a plan, written down.

use aedile_core::event::Event;
use aedile_core::plan::{PlanAnswer, ProposedPlan};
use aedile_core::store::{Append, Store, StoreError};
use aedile_core::task::TaskSpec;
use aedile_core::view::TaskView;
use aedile_core::{Clock, Entropy, TaskId, crash};

use super::wish::plan_again;

/// Takes the plan: the answer and all of its tasks in one append. A second answer to the same plan is refused by the store.
///
/// # Errors
/// As the store; `Illegal` when the plan was answered already.
pub fn accept(
    store: &dyn Store,
    clock: &dyn Clock,
    entropy: &dyn Entropy,
    planning: &TaskView,
    specs: Vec<TaskSpec>,
) -> Result<(), StoreError> {
    let run = planning.run;
    let tasks = u32::try_from(specs.len()).unwrap_or(u32::MAX);
    let answered = Event::PlanAnswered { task: planning.task, answer: PlanAnswer::Accepted { tasks } };
    let opened = specs.into_iter().map(|spec| Event::TaskOpened { run, task: TaskId::new(clock, entropy), spec });
    store.append(opened.fold(Append::of(run, answered), Append::and))?;
    crash::point("plan-answer");
    Ok(())
}

/// Asks for another plan: the answer and the task that makes it, in one append. `planned` are the tasks of the run that planned so far, the
/// one whose plan is answered last; `words` is what the person says of it.
///
/// # Errors
/// As the store; `Illegal` when the plan was answered already.
pub fn another(
    store: &dyn Store,
    (clock, entropy): (&dyn Clock, &dyn Entropy),
    planned: &[TaskView],
    seen: &ProposedPlan,
    words: &str,
) -> Result<(), StoreError> {
    let Some(last) = planned.last() else { return Ok(()) };
    let spec = plan_again(planned, seen, words).map_err(|error| StoreError::Backend(error.to_string()))?;
    let (run, words) = (last.run, words.trim().to_owned());
    let answered = Event::PlanAnswered { task: last.task, answer: PlanAnswer::Another { words } };
    let opened = Event::TaskOpened { run, task: TaskId::new(clock, entropy), spec };
    store.append(Append::of(run, answered).and(opened))?;
    crash::point("plan-answer");
    Ok(())
}

/// Does not take the plan, and ends its run, in one append; `why` says in a clause what happens with it.
///
/// # Errors
/// As the store; `Illegal` when the plan was answered already.
pub fn decline(store: &dyn Store, planning: &TaskView, why: &str) -> Result<(), StoreError> {
    let answer = PlanAnswer::Declined { why: why.to_owned() };
    let run = planning.run;
    let answered = Append::of(run, Event::PlanAnswered { task: planning.task, answer });
    // The run rests while its plan waits; nothing but a running one ends.
    let ended = answered.and(Event::RunResumed { run, worker: "declined".to_owned() }).and(Event::RunEnded { run, landed: 0, failed: 0 });
    store.append(ended)?;
    crash::point("plan-answer");
    Ok(())
}
