//! The state directory and what commands read from it.

use std::path::PathBuf;
use std::sync::Arc;

use aedile_core::machine::RunState;
use aedile_core::store::{Store, list};
use aedile_core::view::{ProjectView, RunView};
use aedile_store::SqliteStore;

use crate::clock::SystemClock;
use crate::env;
use crate::error::CliError;
use crate::{keys, wiring};

/// What commands say that have nothing to show.
pub const NOTHING_YET: &str = "nothing has been run yet";

/// Returns the state directory.
pub fn dir() -> Result<PathBuf, CliError> {
    env::state_dir().ok_or_else(|| {
        CliError::new(crate::exit::STATE, "there is no place for the state: neither AEDILE_STATE, XDG_STATE_HOME nor HOME is set")
            .hint("set AEDILE_STATE to a directory of yours")
    })
}

/// Opens the store for commands that read or append a command of the person's; makes it when it is not there. What a person types
/// passes the redactor like everything else; the keys are read when something is first written.
pub fn open() -> Result<SqliteStore, CliError> {
    let redactor = Arc::new(keys::PersonsKeys::default());
    Ok(SqliteStore::open(&dir()?, aedile_store::Options { clock: Arc::new(SystemClock), redactor, read_only: false })?)
}

/// Opens the store if there is one; makes nothing.
pub fn open_existing() -> Result<Option<SqliteStore>, CliError> {
    let dir = dir()?;
    match dir.join("aedile.db").metadata() {
        Ok(_) => open().map(Some),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(CliError::new(crate::exit::STATE, format!("the state directory {} cannot be read: {error}", dir.display()))
            .hint("AEDILE_STATE names another one (docs/state.md)")),
    }
}

/// The store and the named run, or its last one; `None` when nothing has been run yet.
pub fn last_run(text: Option<&str>) -> Result<Option<(SqliteStore, RunView)>, CliError> {
    let Some(store) = open_existing()? else {
        return text.map_or(Ok(None), |text| Err(no_run(text)));
    };
    let run = match text {
        Some(text) => Some(find_run(&store, text)?),
        None => runs(&store)?.pop(),
    };
    Ok(run.map(|run| (store, run)))
}

/// The error of commands that need a run when there is none.
pub fn nothing_yet() -> CliError {
    CliError::failure(NOTHING_YET).hint("`aedile run --tasks FILE` starts a run")
}

/// The error of commands that were given a run that is not there.
pub fn no_run(text: &str) -> CliError {
    CliError::usage(format!("there is no run {text}")).hint("`aedile status --all` lists them")
}

/// All runs, oldest first.
pub fn runs(store: &dyn Store) -> Result<Vec<RunView>, CliError> {
    Ok(list(store, None)?)
}

/// Finds a run by its id or by the eight characters that other commands print.
pub fn find_run(store: &dyn Store, text: &str) -> Result<RunView, CliError> {
    let all = runs(store)?;
    let mut found = all.into_iter().filter(|run| run.run.to_string() == text || run.run.short().starts_with(text) && text.len() >= 4);
    match (found.next(), found.next()) {
        (Some(run), None) => Ok(run),
        (Some(_), Some(_)) => Err(CliError::usage(format!("more than one run is called {text}"))
            .hint("give the whole id, as `aedile status --all --json` prints it")),
        (None, _) => Err(no_run(text)),
    }
}

/// Finds the named run, or takes the last one.
pub fn run_or_last(store: &dyn Store, text: Option<&str>) -> Result<RunView, CliError> {
    match text {
        Some(text) => find_run(store, text),
        None => runs(store)?.pop().ok_or_else(nothing_yet),
    }
}

/// Finds the run to resume: the named one, or the last of the project here that is not over, or its last.
pub fn run_to_resume(store: &dyn Store, text: Option<&str>) -> Result<RunView, CliError> {
    if text.is_some() {
        return run_or_last(store, text);
    }
    let (mut here, mut elsewhere) = by_project(store, runs(store)?)?;
    match (here.iter().rposition(|run| run.state != RunState::Ended), here.is_empty()) {
        (Some(open), _) => Ok(here.remove(open)),
        (None, false) => here.pop().ok_or_else(nothing_yet),
        (None, true) => Err(elsewhere.pop().map_or_else(nothing_yet, |run| of_another_project("the last run", &run))),
    }
}

/// Divides runs into those of the project around the current directory and all others. Outside of any repository all are here.
pub fn by_project(store: &dyn Store, runs: Vec<RunView>) -> Result<(Vec<RunView>, Vec<RunView>), CliError> {
    let Ok(project) = wiring::discover(&std::env::current_dir()?) else { return Ok((runs, Vec::new())) };
    let known: Vec<ProjectView> = list(store, None)?;
    let here = known.iter().find(|known| known.root == project.common_dir()).map(|known| known.project);
    Ok(runs.into_iter().partition(|run| Some(run.project) == here))
}

/// The error of commands that would act on a run of a project that the person does not stand in.
pub fn of_another_project(what: &str, run: &RunView) -> CliError {
    let short = run.run.short();
    CliError::usage(format!("{what} belongs to another project: run {short}, in {}", run.root.display()))
        .hint(format!("cd {}", run.root.display()))
        .hint(format!("or name the run, {short}"))
}

/// Reads a run's view.
pub fn view_of(store: &dyn Store, run: aedile_core::RunId) -> Result<Option<RunView>, aedile_core::store::StoreError> {
    aedile_core::store::load(store, &run.to_string())
}
