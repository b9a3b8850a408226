//! `aedile undo`.

use std::path::PathBuf;

use aedile_core::event::{Event, Position};
use aedile_core::limits::LEASE;
use aedile_core::store::{Append, ClaimRequest, Store, list, load};
use aedile_core::task::TaskSpec;
use aedile_core::view::{ChangeView, RunView, TaskView};
use aedile_core::{AgentName, ChangeId, Clock, CommitId, RefName, RunId, TaskId, TaskKey, TreeId, crash};
use aedile_fleet::mail::PERSON;
use aedile_fleet::steps::run_claim;
use aedile_git::{CommitRequest, LandingPoint};
use aedile_landing::{Undo, plan_undo};
use clap::Args;

use crate::clock::{OsEntropy, SystemClock};
use crate::commands::run::{self, checkout_config, rules_at};
use crate::error::{CliError, CliResult};
use crate::narrate::{branch, short};
use crate::output::{Output, one_line};
use crate::picture::worker_of;
use crate::planning::{Desk, Way};
use crate::wiring::Workshop;
use crate::{names, state, wiring, worker};

/// Take a landed change back: a change that reverts it goes through the queue and the gates like any other
#[derive(Debug, Args)]
pub struct UndoArgs {
    /// A landed change: its task, its id, or the landed commit
    #[arg(value_name = "CHANGE|TASK")]
    change: String,
    /// Take back what was built upon it, too, in one change
    #[arg(long)]
    with_dependents: bool,
    /// The run (its id or the eight characters that other commands print); otherwise the last one that has it
    #[arg(long, value_name = "RUN")]
    run: Option<String>,
}

/// What is taken back, and what the target is without it.
struct Plan {
    point: LandingPoint,
    /// Newest first.
    changes: Vec<ChangeView>,
    tree: TreeId,
}

/// Runs `aedile undo`. It brings its own worker, as `run` does.
pub fn cmd_undo(args: &UndoArgs, out: Output) -> CliResult {
    let store = state::open_existing()?.ok_or_else(state::nothing_yet)?;
    let (run, change) = names::change(&store, args.run.as_deref(), &args.change)?;
    if let Some(begun) = under_way(&store, change.change)? {
        if let Some(worker) = worker_of(&store, &begun)? {
            return Err(CliError::failure(format!(
                "{} is being taken back already: {worker} drives run {}",
                args.change,
                begun.run.short()
            ))
            .hint("`aedile feed --follow` shows how far it is"));
        }
        out.say(format!("the undo of {} was begun in run {}; it goes on", args.change, begun.run.short()));
        drop(store);
        return run::finish(&run::drive(&begun, Way::Nobody, out)?, out);
    }
    let landed = stands(&store, &change, &args.change)?;
    drop(store);
    let project = wiring::discover(&run.root)?;
    let config = checkout_config(project.root())?;
    // An undo plans nothing that anybody could be asked about.
    let desk = Desk { way: Way::Nobody, config: &config, out };
    let outcome = worker::work(&state::dir()?, project, &desk, |workshop| {
        let plan = plan(workshop, &run, &change, &landed, args)?;
        open(workshop, &run, &plan, out)
    })?;
    run::finish(&outcome, out)
}

/// The run of an undo of this change that still moves. One that waits for a person moves no more, and another may begin.
fn under_way(store: &dyn Store, change: ChangeId) -> Result<Option<RunView>, CliError> {
    let tasks: Vec<TaskView> = list(store, None)?;
    match tasks.iter().find(|task| task.undoes.contains(&change) && !task.state.is_closed() && !task.state.needs_person()) {
        Some(task) => Ok(load(store, &task.run.to_string())?),
        None => Ok(None),
    }
}

/// The landed commit of a change that stands.
fn stands(store: &dyn Store, change: &ChangeView, name: &str) -> Result<CommitId, CliError> {
    let Some(landed) = &change.landed else {
        return Err(CliError::failure(format!("{name} has not landed (it is {}), so there is nothing to take back", change.state))
            .hint("`aedile task cancel TASK` keeps a task from landing"));
    };
    if let Some(by) = &change.undone {
        let changes: Vec<ChangeView> = list(store, None)?;
        let task = changes.iter().find(|other| other.landed.as_ref() == Some(by)).map(|other| other.task);
        let key = task.map(|task| load::<TaskView>(store, &task.to_string())).transpose()?.flatten().map(|task| task.spec.key);
        let error = CliError::failure(format!("{name} was taken back already, by {}", short(by)));
        return Err(match key {
            Some(key) => error.hint(format!("`aedile undo {key}` brings it back")),
            None => error,
        });
    }
    Ok(landed.clone())
}

fn plan(workshop: &Workshop, run: &RunView, change: &ChangeView, landed: &CommitId, args: &UndoArgs) -> Result<Plan, CliError> {
    let (store, hub) = (&*workshop.store, &workshop.landing.hub);
    let target = RefName::new(format!("refs/heads/{}", run.target.trim_start_matches("refs/heads/")))
        .map_err(|error| CliError::failure(format!("the target of run {}: {error}", run.run.short())))?;
    let point = workshop.project.landing_point(&target)?;
    let refused = |why: String| CliError::failure(format!("{} was not taken back: {why}", args.change));
    if hub.resolve(landed.as_str())?.is_none() {
        return Err(refused(format!("the repository has no commit {} any more", short(landed))));
    }
    let (by, tree) = match plan_undo(hub, &point.base, landed, SystemClock.now())? {
        Undo::Tree(tree) => (Vec::new(), tree),
        Undo::BuiltUpon { by, tree } => (by, tree),
        Undo::Gone => return Err(refused(format!("nothing of {} is left in {}", short(landed), run.target))),
        Undo::NotThere => {
            return Err(refused(format!("{} is not in {} any more", short(landed), run.target))
                .hint("somebody moved the branch back; there is nothing to revert"));
        }
        Undo::Tangled { paths } => {
            return Err(refused(format!("later commits changed the same lines in {}", one_line(&paths.join(", "), 300)))
                .hint(format!("revert it by hand: `git revert {}`", short(landed))));
        }
    };
    let mut changes = vec![change.clone()];
    let mut named = Vec::new();
    let mut foreign = false;
    let all: Vec<ChangeView> = list(store, None)?;
    for commit in &by {
        match all.iter().find(|other| other.landed.as_ref() == Some(commit)) {
            Some(other) if other.undone.is_some() => {}
            Some(other) => {
                let key =
                    load::<TaskView>(store, &other.task.to_string())?.map_or_else(|| "?".to_owned(), |task| task.spec.key.to_string());
                named.push(format!("  {key} ({}), {}", other.change.short(), describe(hub, commit)?));
                changes.insert(0, other.clone());
            }
            None => {
                foreign = true;
                named.push(format!("  {}, which is no change of aedile's", describe(hub, commit)?));
            }
        }
    }
    let refused = |why: &str| {
        CliError::failure(format!("{} was not taken back: later commits build upon it\n{}", args.change, named.join("\n"))).hint(why)
    };
    if foreign {
        return Err(refused("aedile takes back only what it landed: revert the other commits first, then undo again"));
    }
    if !named.is_empty() && !args.with_dependents {
        return Err(refused("`--with-dependents` takes these back too, in one change"));
    }
    Ok(Plan { point, changes, tree })
}

fn describe(hub: &aedile_git::Hub, commit: &CommitId) -> Result<String, CliError> {
    Ok(format!("{} {}", short(commit), one_line(&hub.describe(commit)?, 120)))
}

/// Writes the undo down: a run of its own with one task, whose change is in the queue from the beginning.
fn open(workshop: &Workshop, of: &RunView, plan: &Plan, out: Output) -> Result<(RunId, Position), CliError> {
    let (clock, entropy) = (SystemClock, OsEntropy);
    let (run, task, change) = (RunId::new(&clock, &entropy), TaskId::new(&clock, &entropy), ChangeId::new(&clock, &entropy));
    let (hub, project, store) = (&workshop.landing.hub, &workshop.project, &*workshop.store);
    let base = &plan.point.base;
    // Until the run is written down, its claim says that what is kept for it is wanted.
    let host = &workshop.parts.host;
    let request = ClaimRequest { name: run_claim(run), holder: host.holder.clone(), ttl: LEASE, dead: Vec::new() };
    let fence = store.claim(&request)?;
    hub.adopt(project, run, base)?;
    let spec = spec(store, plan)?;
    let committer = project.committer();
    let request = CommitRequest {
        tree: &plan.tree,
        parents: std::slice::from_ref(base),
        message: &format!("{}\n", spec.title),
        author: &committer,
        committer: &committer,
        at: clock.now(),
        sign: None,
    };
    let commit = hub.commit_tree(&request)?;
    hub.keep_change(change, &commit)?;
    crash::point("undo-adopt");
    let paths = u32::try_from(hub.diff_paths(base, &commit)?.len()).unwrap_or(u32::MAX);
    // What landed once may be taken back whatever the rules say now; gates and everything else are those of the target today.
    let (_, mut rules) = rules_at(project, base, out)?;
    rules.allow_protected = true;
    let agent = AgentName::new(PERSON).map_err(|error| CliError::failure(error.to_string()))?;
    let shown = store.last()?;
    let append = Append::of(
        run,
        Event::RunStarted {
            run,
            project: workshop.project_id,
            root: project.root().to_owned(),
            goal: spec.title.clone(),
            target: of.target.clone(),
            landing_ref: plan.point.reference.clone(),
            base: base.clone(),
            slots: 1,
            rules,
        },
    );
    let summary = spec.prompt.clone();
    let append = append
        .and(Event::TaskOpened { run, task, spec })
        .and(Event::UndoPlanned { run, task, undoes: plan.changes.iter().map(|change| change.change).collect() })
        .and(Event::ChangeSubmitted {
            change,
            run,
            task,
            agent,
            workspace: PathBuf::new(),
            base: base.clone(),
            commit,
            summary,
            left_out: Vec::new(),
        })
        .and(Event::ChangeImported { change, paths, commit: None });
    store.append(append)?;
    store.release(&fence)?;
    if !out.json && plan.changes.len() > 1 {
        out.line(format!("{} changes are taken back from {}, newest first", plan.changes.len(), branch(&plan.point.reference)));
    }
    Ok((run, shown))
}

/// The task of an undo. No agent ever sees it.
fn spec(store: &dyn Store, plan: &Plan) -> Result<TaskSpec, CliError> {
    let task = |change: &ChangeView| -> Result<TaskView, CliError> {
        load(store, &change.task.to_string())?.ok_or_else(|| CliError::failure(format!("the task of change {} is gone", change.change)))
    };
    let Some(first) = plan.changes.last() else { return Err(CliError::failure("nothing is to be taken back")) };
    let first = task(first)?;
    let mut lines = Vec::new();
    for change in &plan.changes {
        let landed = change.landed.as_ref().map_or("?", |commit| short(commit));
        lines.push(format!("Takes back {landed}: {}", task(change)?.spec.title));
    }
    let title = match plan.changes.len() - 1 {
        0 => again(&first.spec.title, "Undo: ", "Redo: "),
        more => format!("{}, and {more} built upon it", again(&first.spec.title, "Undo: ", "Redo: ")),
    };
    let key: String = again(first.spec.key.as_str(), "undo-", "redo-").chars().take(60).collect();
    let key =
        TaskKey::new(key.trim_end_matches('.')).or_else(|_| TaskKey::new("undo")).map_err(|error| CliError::failure(error.to_string()))?;
    Ok(TaskSpec {
        key,
        title,
        prompt: lines.join("\n"),
        read: Vec::new(),
        scope: vec!["**".to_owned()],
        after: Vec::new(),
        gates: Vec::new(),
        budget_usd: None,
        script: None,
        ..first.spec
    })
}

/// The name of an undo; an undo of an undo is a redo.
fn again(name: &str, undo: &str, redo: &str) -> String {
    match (name.strip_prefix(undo), name.strip_prefix(redo)) {
        (Some(rest), _) => format!("{redo}{rest}"),
        (None, Some(rest)) => format!("{undo}{rest}"),
        (None, None) => format!("{undo}{name}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_do_not_grow() {
        let once = again("max", "undo-", "redo-");
        let twice = again(&once, "undo-", "redo-");
        assert_eq!((once.as_str(), twice.as_str(), again(&twice, "undo-", "redo-").as_str()), ("undo-max", "redo-max", "undo-max"));
    }
}
