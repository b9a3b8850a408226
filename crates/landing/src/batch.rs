//! The changes of a batch: each merged with the one before it, and all of them landed in one step.

use std::sync::Arc;

use aedile_core::event::{Event, ReturnReason};
use aedile_core::limits::APPEND_EVENTS_MAX;
use aedile_core::machine::ChangeState;
use aedile_core::store::{Append, Fence, Store, StoreError, list};
use aedile_core::view::ChangeView;
use aedile_core::{CommitId, RunId, TreeId};
use aedile_git::DiffForm;

use crate::job::{Attempt, Job, all};
use crate::queue::LandingDeps;
use crate::verify::Verdict;
use crate::window::Rate;
use crate::{LandingError, chain};

/// So many of the last changes say how often one is bad.
const MEASURED_MAX: usize = 100;

/// One change merged with what is before it.
pub(crate) struct Link {
    pub(crate) job: Job,
    pub(crate) onto: CommitId,
    pub(crate) tree: TreeId,
    /// What lands, but for the signature. Nothing refers to it until then, and no `clean` takes away what is as young.
    pub(crate) commit: CommitId,
    told: Vec<Event>,
}

/// What keeps a change from being merged with what is before it, and what sends it back for that.
pub(crate) struct Refused {
    pub(crate) job: Job,
    pub(crate) append: Append,
}

/// A change that was to be merged with what is before it.
pub(crate) enum Linked {
    Link(Link),
    Refused(Refused),
}

/// Merges the change with a commit.
pub(crate) fn link(job: Job, onto: &CommitId) -> Result<Linked, LandingError> {
    Ok(match job.attempt(onto)? {
        Attempt::Refused(append) => Linked::Refused(Refused { job, append }),
        Attempt::Tree(tree, told) => {
            let commit = job.repo().draft(&job.change, &job.task.spec, &tree, onto)?;
            Linked::Link(Link { job, onto: onto.clone(), tree, commit, told })
        }
    })
}

/// Lands a chain whose last tree has `passed` all gates, on the target at `base`. Returns its commits; `None` when the target is elsewhere or somebody no longer
/// wants one of the changes, and nothing landed or what did is in the log.
pub(crate) fn land(
    deps: &Arc<LandingDeps>,
    fence: &Fence,
    links: &[Arc<Link>],
    passed: &[Arc<Verdict>],
    base: &CommitId,
) -> Result<Option<Vec<CommitId>>, LandingError> {
    match try_to_land(deps, fence, links, passed, base) {
        // Somebody cancelled or changed something in between.
        Err(LandingError::Store(StoreError::Illegal(why))) => {
            tracing::debug!(%why, "the state changed meanwhile");
            Ok(None)
        }
        done => done,
    }
}

fn try_to_land(
    deps: &Arc<LandingDeps>,
    fence: &Fence,
    links: &[Arc<Link>],
    passed: &[Arc<Verdict>],
    base: &CommitId,
) -> Result<Option<Vec<CommitId>>, LandingError> {
    let jobs: Vec<Job> = links.iter().map(|link| Job::load(deps, fence, link.job.change.change)).collect::<Result<_, _>>()?;
    let ready = |job: &Job| job.is_wanted() && matches!(job.state(), ChangeState::Imported | ChangeState::Gated);
    let (Some(last), Some(tip)) = (jobs.last(), links.last()) else { return Ok(None) };
    let point = last.repo().point()?;
    if point.base != *base || !jobs.iter().all(ready) {
        return Ok(None);
    }
    let commits = signed(&jobs, links, base)?;
    let gates: Vec<String> = passed.iter().map(|verdict| verdict.gate().to_owned()).collect();
    let (mut onto, mut events, mut rest) = (base, Vec::new(), links.len());
    for ((job, link), commit) in jobs.iter().zip(links).zip(&commits) {
        rest -= 1;
        let change = job.change.change;
        let mut told = link.told.clone();
        if rest == 0 {
            told.extend(passed.iter().map(|verdict| verdict.told(job, change)).collect::<Result<Vec<_>, _>>()?);
        }
        let of_all = (rest > 0).then(|| tip.tree.clone());
        told.push(Event::Gated { change, tree: link.tree.clone(), onto: onto.clone(), gates: gates.clone(), passed: of_all });
        if events.len() + told.len() > APPEND_EVENTS_MAX {
            last.append(all(last.run.run, std::mem::take(&mut events)))?;
        }
        events.extend(told);
        onto = commit;
    }
    last.append(all(last.run.run, events))?;
    let chain: Vec<_> =
        jobs.iter().zip(links).zip(&commits).map(|((job, link), commit)| (job, link.tree.clone(), commit.clone())).collect();
    Ok(chain::land(&chain, point)?.then_some(commits))
}

/// The commits that land: the drafts, or the same with the person's signature.
fn signed(jobs: &[Job], links: &[Arc<Link>], base: &CommitId) -> Result<Vec<CommitId>, LandingError> {
    let mut commits: Vec<CommitId> = Vec::new();
    for (job, link) in jobs.iter().zip(links) {
        commits.push(match job.deps.project.signing() {
            None => link.commit.clone(),
            Some(_) => job.repo().commit(&job.change, &job.task.spec, &link.tree, commits.last().unwrap_or(base))?,
        });
    }
    Ok(commits)
}

/// How often the project's changes were bad: what the last ones of its runs say.
pub(crate) fn rate(store: &dyn Store, run: RunId) -> Result<Rate, LandingError> {
    let (mut landed, mut ejected) = (0, 0);
    for change in list::<ChangeView>(store, Some(run))?.iter().rev() {
        match (change.state, &change.returned) {
            (ChangeState::Landed, _) => landed += 1,
            (ChangeState::Returned, Some(ReturnReason::Gate { .. })) => ejected += 1,
            _ => {}
        }
        if landed + ejected >= MEASURED_MAX {
            break;
        }
    }
    Ok(Rate::measured(landed, ejected))
}

/// What a change that has landed did, for the author of one that fails only together with it.
pub(crate) fn with(other: &Job) -> Result<String, LandingError> {
    let Some(commit) = other.landed() else { return Ok(String::new()) };
    let hub = &other.deps.hub;
    let Some(parent) = hub.commit_info(commit)?.parents.into_iter().next() else { return Ok(String::new()) };
    let diff = hub.diff_text(&parent, commit, DiffForm::Patch)?;
    Ok(format!("{} ({}), on the target as {commit}:\n{}", other.task.spec.key, other.task.spec.title, String::from_utf8_lossy(&diff)))
}
