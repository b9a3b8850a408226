//! Several changes that land in one step: a chain of commits, one for each change, of which the last one's tree has passed the gates. All of
//! them land or none does: what lies in between was never verified alone, so that the target never stands there.

use std::sync::Arc;

use aedile_core::crash;
use aedile_core::event::Event;
use aedile_core::machine::ChangeState;
use aedile_core::store::{Fence, list};
use aedile_core::view::{ChangeView, Intent};
use aedile_core::{CommitId, RunId, TreeId};
use aedile_git::LandingPoint;

use crate::LandingError;
use crate::job::{Job, all};
use crate::queue::LandingDeps;
use crate::repo::Fate;

/// Writes down the intents of gated changes, each with its tree and its commit, whose parent is the commit before it (of the first: where `point` is), moves the
/// ref to the last one and writes down the outcome. All intents are one append, and so are all outcomes.
/// `false` when the ref could not be moved.
pub(crate) fn land(chain: &[(&Job, TreeId, CommitId)], point: LandingPoint) -> Result<bool, LandingError> {
    let mut old = point.base.clone();
    let (mut intended, mut intents) = (Vec::new(), Vec::new());
    for (job, tree, new) in chain {
        let intent = Intent { landing_ref: point.reference.clone(), old: old.clone(), new: new.clone() };
        intended.push(Event::LandIntended {
            change: job.change.change,
            landing_ref: intent.landing_ref.clone(),
            old: intent.old.clone(),
            new: intent.new.clone(),
            tree: tree.clone(),
        });
        intents.push((*job, intent));
        old = new.clone();
    }
    let Some((first, ..)) = chain.first() else { return Ok(true) };
    first.append(all(first.run.run, intended))?;
    chain.iter().for_each(|_| crash::point("before-ref-move"));
    let fate = move_ref(&intents, point)?;
    outcome(&intents, &fate)?;
    Ok(matches!(fate, Fate::Landed))
}

/// Finds out what became of the run's landings of an earlier life, and moves the ref if that is still to be done: to the end of the chain, or not at all.
/// With a reason `why_not` it is not tried any more.
pub(crate) fn settle(deps: &Arc<LandingDeps>, fence: &Fence, run: RunId, why_not: Option<&str>) -> Result<(), LandingError> {
    let mut jobs = Vec::new();
    for change in list::<ChangeView>(&*deps.store, Some(run))? {
        if let (ChangeState::Intended, Some(intent)) = (change.state, change.intent) {
            jobs.push((Job::load(deps, fence, change.change)?, intent));
        }
    }
    let mut chain = in_order(&mut jobs);
    let (Some((first, old)), Some((_, last))) = (chain.first().cloned(), chain.last().cloned()) else { return Ok(()) };
    let repo = first.repo();
    // Where somebody took the target back, a part of the chain may still be there.
    let mut landed = chain.len();
    while let Some((_, intent)) = landed.checked_sub(1).and_then(|at| chain.get(at))
        && !repo.is_landed(intent)?
    {
        landed -= 1;
    }
    let rest = chain.split_off(landed);
    outcome(&chain, &Fate::Landed)?;
    if rest.is_empty() {
        return Ok(());
    }
    let point = repo.point()?;
    let fate = if let Some(why) = why_not {
        Fate::Not { why: why.to_owned() }
    } else if let Some((job, _)) = rest.iter().find(|(job, _)| !job.is_wanted()) {
        let its = if rest.len() == 1 {
            "its task".to_owned()
        } else {
            format!("the task {} of a change that was to land with it", job.task.spec.key)
        };
        Fate::Not { why: format!("{its} no longer wants it") }
    } else if landed > 0 || point.reference != last.landing_ref || point.base != old.old {
        Fate::Not { why: format!("{} is at {} now, not at {} any more", point.reference, point.base, old.old) }
    } else {
        move_ref(&rest, point)?
    };
    outcome(&rest, &fate)
}

/// Takes the chain out of the jobs: from the one that builds on no other, each with the one before it.
fn in_order(jobs: &mut Vec<(Job, Intent)>) -> Vec<(Job, Intent)> {
    let first = jobs.iter().position(|(_, intent)| jobs.iter().all(|(_, other)| other.new != intent.old));
    let mut chain: Vec<(Job, Intent)> = first.map(|at| jobs.swap_remove(at)).into_iter().collect();
    while let Some(next) =
        chain.last().and_then(|(_, last)| jobs.iter().position(|(_, intent)| intent.old == last.new)).map(|at| jobs.swap_remove(at))
    {
        chain.push(next);
    }
    chain
}

/// Moves the ref from where `point` saw it to the end of the chain.
fn move_ref<J: std::borrow::Borrow<Job>>(chain: &[(J, Intent)], point: LandingPoint) -> Result<Fate, LandingError> {
    let Some((job, intent)) = chain.last() else { return Ok(Fate::Landed) };
    let job = job.borrow();
    let reason = match chain.len() {
        1 => format!("aedile: land change {}", job.change.change),
        many => format!("aedile: land {many} changes up to {}", job.change.change),
    };
    job.repo().land(&intent.new, point, &reason)
}

fn outcome<J: std::borrow::Borrow<Job>>(chain: &[(J, Intent)], fate: &Fate) -> Result<(), LandingError> {
    let Some((first, _)) = chain.first() else { return Ok(()) };
    let first = first.borrow();
    let mut events = Vec::new();
    for (job, intent) in chain {
        let job = job.borrow();
        match fate {
            Fate::Landed => {
                crash::point("after-ref-move");
                events.extend(job.landed_now(intent));
            }
            Fate::Not { why } => events.push(Event::LandAbandoned { change: job.change.change, why: why.clone() }),
        }
    }
    let append = all(first.run.run, events);
    first.append(match fate {
        Fate::Landed => append.once(format!("landed/{}", first.change.change)),
        Fate::Not { .. } => append,
    })
}
