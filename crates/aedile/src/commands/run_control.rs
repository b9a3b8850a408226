//! `aedile run pause|resume|stop`: words to a run that is under way.

use aedile_core::machine::RunState;
use aedile_core::view::RunView;
use aedile_store::SqliteStore;
use clap::Subcommand;
use serde_json::json;

use crate::commands::run;
use crate::error::{CliError, CliResult};
use crate::output::{Output, one_line};
use crate::picture::worker_of;
use crate::planning::Way;
use crate::{exit, state};

/// What a person may say to a run.
#[derive(Debug, Subcommand)]
pub enum RunControl {
    /// Let a run rest: present turns finish, what is submitted lands, nothing is started
    Pause {
        /// The run (its id or the eight characters that other commands print); otherwise the one that is running
        run: Option<String>,
    },
    /// Go on with a paused run; without a living worker the same as `aedile run --resume`
    Resume {
        /// The run (its id or the eight characters that other commands print); otherwise the paused one, or the last that is not over
        run: Option<String>,
    },
    /// Stop a run: present turns finish and are saved; `aedile run --resume` goes on
    Stop {
        /// The run (its id or the eight characters that other commands print); otherwise the one that is running or paused
        run: Option<String>,
        /// End the agents at once; everything up to their last turn is saved
        #[arg(long)]
        now: bool,
    },
}

impl RunControl {
    /// Says it.
    pub fn run(&self, out: Output) -> CliResult {
        let store = state::open_existing()?.ok_or_else(state::nothing_yet)?;
        match self {
            Self::Pause { run } => pause(&store, &the(&store, run.as_deref(), "running", &[RunState::Running])?, out),
            Self::Resume { run } => resume(store, run.as_deref(), out),
            Self::Stop { run, now } => {
                let wanted = [RunState::Running, RunState::Paused, RunState::Stopping];
                stop(&store, &the(&store, run.as_deref(), "running or paused", &wanted)?, *now, out)
            }
        }
    }
}

/// The named run, or the only one that is in one of these states.
fn the(store: &SqliteStore, text: Option<&str>, what: &str, states: &[RunState]) -> Result<RunView, CliError> {
    if let Some(text) = text {
        return state::find_run(store, text);
    }
    let wanted: Vec<RunView> = state::runs(store)?.into_iter().filter(|run| states.contains(&run.state)).collect();
    let (mut found, elsewhere) = state::by_project(store, wanted)?;
    if let (true, Some(other)) = (found.is_empty(), elsewhere.last()) {
        return Err(state::of_another_project(&format!("what is {what}"), other));
    }
    match (found.pop(), found.len()) {
        (Some(run), 0) => Ok(run),
        (None, _) => Err(CliError::failure(format!("no run is {what}")).hint("`aedile status` shows how the last one stands")),
        (Some(last), _) => {
            found.push(last);
            let each = found.iter().map(|run| format!("{} ({})", run.run.short(), one_line(&run.goal, 60)));
            Err(CliError::usage(format!("{} runs are {what}; say which one is meant", found.len()))
                .hint(each.collect::<Vec<_>>().join(", ")))
        }
    }
}

fn said(run: &RunView, state: RunState, worker: Option<&str>, line: String, out: Output) -> CliResult {
    out.object_or(&json!({ "run": run.run, "state": state, "worker": worker }), || vec![line]);
    Ok(exit::OK)
}

fn pause(store: &SqliteStore, run: &RunView, out: Output) -> CliResult {
    let short = run.run.short();
    let Some(worker) = worker_of(store, run)? else {
        return Err(CliError::failure(format!("no worker drives run {short}, so nothing is under way that could pause"))
            .hint(format!("`aedile run --resume {short}` goes on with it")));
    };
    aedile_fleet::pause_run(store, run.run)?;
    let line = format!(
        "run {short} pauses: present turns finish and are saved, what is submitted lands, nothing is started; {worker} waits, `aedile run resume` goes on"
    );
    said(run, RunState::Paused, Some(&worker), line, out)
}

fn resume(store: SqliteStore, text: Option<&str>, out: Output) -> CliResult {
    let paused = match text {
        None => state::by_project(&store, state::runs(&store)?)?.0.into_iter().rfind(|run| run.state == RunState::Paused),
        Some(_) => None,
    };
    let run = match paused {
        Some(run) => run,
        None => state::run_to_resume(&store, text)?,
    };
    match worker_of(&store, &run)? {
        None => {
            drop(store);
            run::finish(&run::drive(&run, Way::find(false, None, out)?, out)?, out)
        }
        Some(worker) if run.state == RunState::Paused => {
            aedile_fleet::unpause_run(&store, run.run)?;
            said(&run, RunState::Running, Some(&worker), format!("run {} goes on; {worker} drives it", run.run.short()), out)
        }
        Some(worker) => Err(CliError::failure(format!("run {} is {} and not paused; {worker} drives it", run.run.short(), run.state))
            .hint("`aedile status` shows how far it is")),
    }
}

fn stop(store: &SqliteStore, run: &RunView, now: bool, out: Output) -> CliResult {
    let short = run.run.short();
    let Some(worker) = worker_of(store, run)? else {
        aedile_fleet::stop_left_run(store, run.run)?;
        let line = format!("run {short} is stopped; no worker drove it any more; `aedile run --resume {short}` goes on");
        return said(run, RunState::Stopped, None, line, out);
    };
    aedile_fleet::request_stop(store, run.run, now)?;
    let how = if now { "the agents end at once; everything up to their last turn is saved" } else { "present turns finish and are saved" };
    let line = format!("run {short} stops: {how}, then {worker} ends; `aedile run --resume {short}` goes on");
    said(run, RunState::Stopping, Some(&worker), line, out)
}
