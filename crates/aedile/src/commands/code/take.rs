//! What becomes of a kept change: onto the checkout, a branch, or through the queue.

use std::sync::Arc;

use aedile_core::machine::TaskState;
use aedile_core::store::{Store, load};
use aedile_core::view::ChangeView;
use serde_json::{Value, json};

use super::face::CodeFace;
use super::heard::Heard;
use super::report::Report;
use crate::commands::run::{checkout_config, target_has_it};
use crate::error::{CliError, CliResult};
use crate::narrate::branch;
use crate::output::{Output, one_line};
use crate::worker::{self, Outcome, Worker};
use crate::{exit, names, state, wiring};
use aedile_core::event::{ReturnReason, TaskOutcome};
use aedile_core::machine::RunState;

/// What is to become of a change.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Way {
    /// It stays in the hub.
    Keep,
    /// Onto the checkout.
    Apply,
    /// A branch of this name.
    Branch(String),
    /// Through the queue.
    Land,
}

/// Runs `aedile code --take`.
pub fn cmd_take(text: &str, way: &Way, out: Output) -> CliResult {
    let store = state::open_existing()?.ok_or_else(state::nothing_yet)?;
    let (run, change) = names::change(&store, None, text)?;
    drop(store);
    let project = wiring::discover(&std::env::current_dir()?)?;
    let config = checkout_config(project.root())?;
    let worker = Worker::open(&state::dir()?, project, &config)?;
    if run.project != worker.workshop.project_id {
        return Err(CliError::usage(format!("change {} belongs to another project", change.change.short()))
            .hint(format!("cd {}", run.root.display())));
    }
    if let Some(error) = refused(&change).filter(|_| *way != Way::Keep) {
        return Err(error);
    }
    let report = Report::of(&*worker.workshop.store, &worker.workshop.landing.hub, run, Some(change.task))?;
    close(&worker, &report, Some(change), way, out)
}

/// What the import filter refused may hold what runs code, leads out of the tree, or is protected: nobody takes it.
fn refused(change: &ChangeView) -> Option<CliError> {
    let reason = change.returned.as_ref()?;
    let lines = match reason {
        ReturnReason::Scope { violations: lines } | ReturnReason::Protected { paths: lines } => lines.as_slice(),
        ReturnReason::Import { .. } => &[],
        _ => return None,
    };
    let id = change.change.short();
    let error = CliError::failure(format!("change {id} was refused and cannot be taken: {reason}"));
    let asks = matches!(reason, ReturnReason::Protected { .. });
    let named = lines.iter().fold(error, |error, line| error.hint(one_line(line, 300)));
    let way = if asks {
        format!("`aedile landing approve {id}` lets it pass this once")
    } else {
        "what you want of it is yours to do by hand".to_owned()
    };
    Some(named.hint(format!("`aedile diff {id}` shows it; {way}")))
}

/// The end of a session: its change goes the way that was asked for, and the person hears what happened.
pub fn finish(worker: &Worker, outcome: &Outcome, way: &Way, out: Output) -> CliResult {
    let report = Report::of(&*worker.workshop.store, &worker.workshop.landing.hub, outcome.run.clone(), None)?;
    match report.task.state {
        TaskState::Held => close(worker, &report, None, way, out),
        _ => ended(&report, outcome, out),
    }
}

/// The end of a session that has no kept change.
fn ended(report: &Report, outcome: &Outcome, out: Output) -> CliResult {
    let over = matches!(report.task.state, TaskState::Landed | TaskState::Answered);
    out.object_or(&report.to_json(), || {
        let mut lines = report.lines();
        if report.task.state == TaskState::Landed && !target_has_it(&report.run) {
            lines.push(format!("{} is checked out, so it was left alone; `aedile sync` brings the landed commit to it", report.run.target));
        }
        if !over {
            lines.extend(outcome.report.tasks.iter().map(worker::not_landed));
        }
        if report.run.state == RunState::Stopped {
            lines.push(format!("everything is saved; `aedile code --resume {}` goes on", report.run.run.short()));
        }
        lines
    });
    Ok(match (over, outcome.interrupted) {
        (true, _) => exit::OK,
        (false, true) => exit::INTERRUPTED,
        (false, false) => exit::NOT_ALL_LANDED,
    })
}

/// Takes a kept change and says what became of it; what cannot be done leaves it where it is.
fn close(worker: &Worker, report: &Report, named: Option<ChangeView>, way: &Way, out: Output) -> CliResult {
    let Some(change) = named.or_else(|| report.change.clone()) else {
        return Err(CliError::failure("the session has submitted no change"));
    };
    if *way == Way::Land {
        return land(worker, report, &change, out);
    }
    let taken = take(worker, report, &change, way).map_err(|error| way_out(error, &change, way));
    let mut value = report.to_json();
    match taken {
        Ok(None) => {
            out.object_or(&value, || report.lines());
            Ok(exit::OK)
        }
        Ok(Some((fields, line))) => {
            merge(&mut value, fields);
            merge(&mut value, json!({ "state": TaskState::Taken, "ways": [] }));
            let lines = || report.lines().into_iter().take_while(|line| !line.starts_with("Nothing in your")).chain([line]).collect();
            out.object_or(&value, lines);
            Ok(exit::OK)
        }
        Err(error) => {
            merge(&mut value, error.to_json());
            out.object_or(&value, || report.lines());
            out.warn(error.to_string());
            Ok(error.code)
        }
    }
}

fn merge(into: &mut Value, from: Value) {
    if let (Value::Object(into), Value::Object(from)) = (into, from) {
        into.extend(from);
    }
}

/// What else can be done with a change that could not be taken.
fn way_out(error: CliError, change: &ChangeView, way: &Way) -> CliError {
    let id = change.change.short();
    let kept = format!("the change is kept; `aedile code --take {id} --branch NAME` makes a branch of it");
    match way {
        Way::Apply => error.hint(format!("make room for it, by a commit for example, then `aedile code --take {id} --apply`")).hint(kept),
        Way::Branch(_) => error.hint(format!("the change is kept; `aedile code --take {id} --branch OTHER` takes another name")),
        Way::Keep | Way::Land => error,
    }
}

/// Does it; returns what to say of it.
fn take(worker: &Worker, report: &Report, change: &ChangeView, way: &Way) -> Result<Option<(Value, String)>, CliError> {
    let workshop = &worker.workshop;
    let (project, hub) = (&workshop.project, &workshop.landing.hub);
    if hub.resolve(change.commit.as_str())?.is_none() {
        return Err(CliError::failure(format!(
            "change {} is no longer kept: `aedile clean` has removed it, or it was never imported",
            change.change.short()
        )));
    }
    let (to, fields, mut line) = match way {
        Way::Keep | Way::Land => return Ok(None),
        Way::Apply => {
            let paths = project.apply(hub, &change.base, &change.commit)?;
            let line = format!(
                "applied to {}: {} changed, the index and all other files as they were",
                project.root().display(),
                files(paths.len())
            );
            ("checkout".to_owned(), json!({ "applied": paths, "checkout": project.root() }), line)
        }
        Way::Branch(name) => {
            project.branch_free(name)?;
            let commit = aedile_landing::commit_for_person(&workshop.landing, change, &report.task.spec, &report.run)
                .map_err(|error| CliError::failure(error.to_string()))?;
            let reference = project.make_branch(hub, name, &commit)?;
            let line = format!("made the branch {name} at {}; `git switch {name}` goes to it", crate::narrate::short(&commit));
            (reference.to_string(), json!({ "branch": name, "branch_commit": commit }), line)
        }
    };
    if report.task.state == TaskState::Held && report.task.change == Some(change.change) {
        let outcome = TaskOutcome::Taken { to };
        let closed = worker.inside(|workshop| aedile_fleet::close_task(&workshop.parts, report.run.run, report.task.task, outcome));
        // The person has what they asked for; what is left of the workspace is `clean`'s.
        if let Err(error) = closed {
            tracing::warn!(%error, "the task of a taken change could not be closed");
            line = format!("{line}\nits task could not be closed and tidied: {}", one_line(&error.to_string(), 300));
        }
    }
    Ok(Some((fields, line)))
}

fn files(count: usize) -> String {
    if count == 1 { "1 file".to_owned() } else { format!("{count} files") }
}

/// Sends a kept change through the queue, and says how that ended.
fn land(worker: &Worker, report: &Report, change: &ChangeView, out: Output) -> CliResult {
    let workshop = &worker.workshop;
    let run = report.run.run;
    if report.task.state != TaskState::Held || report.task.change != Some(change.change) {
        return Err(CliError::failure(format!("change {} is not held: its task is {}", change.change.short(), report.task.state)));
    }
    if workshop.project.resolve(&format!("refs/heads/{}", report.run.target))?.is_none() {
        return Err(CliError::usage(format!("change {} was made without a branch, so there is nothing to land on", change.change.short()))
            .hint(format!("aedile code --take {} --branch NAME", change.change.short())));
    }
    out.say(format!("change {} goes through the gates to {}", change.change.short(), branch(&report.run.landing_ref)));
    let shown = workshop.store.last()?;
    aedile_fleet::release_task(&*workshop.store, run, report.task.spec.key.as_str())?;
    let heard = Arc::new(Heard::new(workshop.gateway.redactor()));
    let face = CodeFace::new(&*workshop.store, run, shown, (Arc::clone(&heard), None), out)?;
    let outcome = worker.drive(run, Box::new(face), &heard.wake, out)?;
    let view = load(&*workshop.store, &run.to_string())?.unwrap_or_else(|| outcome.run.clone());
    ended(&Report::of(&*workshop.store, &workshop.landing.hub, view, Some(change.task))?, &outcome, out)
}
