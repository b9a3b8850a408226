//! From what a person types to the task, change or agent that is meant.
//!
//! Without `--run` the last run of the project here that knows the name is meant: an undo is a run of its own, and names of the run before it stay usable.

use aedile_core::store::{Store, list};
use aedile_core::view::{AgentView, ChangeView, RunView, TaskView};

use crate::error::CliError;
use crate::state;

/// Short forms of commit ids have at least this many digits.
const COMMIT_DIGITS_MIN: usize = 7;
/// Short forms of our own ids have at least this many.
const ID_DIGITS_MIN: usize = 4;
/// How alike two names must be, from 0 to 1.
const ALIKE: f64 = 0.8;

/// Returns the known name that is most like the given one, if one is.
fn similar<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let rated = known.into_iter().map(|other| (strsim::jaro_winkler(name, other), other));
    rated.filter(|(alike, _)| *alike >= ALIKE).max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, other)| other)
}

/// The error for a name that is not known: what was asked for, the one of `all` that may be meant, and what there is in `place`.
pub fn unknown(what: &str, name: &str, place: &str, known: &[String], all: &[String]) -> CliError {
    let error = CliError::usage(format!("there is no {what} {name} in {place}"));
    let error = match similar(name, all.iter().map(String::as_str)) {
        Some(other) => error.hint(format!("did you mean `{other}`?")),
        None => error,
    };
    match known.is_empty() {
        true => error,
        false => error.hint(format!("its {what}s are: {}", known.join(", "))),
    }
}

/// What was looked for, with its run; or the runs that were looked in.
type Found<T> = Result<(RunView, T), Vec<RunView>>;

/// Looks for something in the run that was asked for, or in those of the project here, newest first. What only another project has is named
/// and not meant: a command never acts where the person does not stand.
fn search<T>(
    store: &dyn Store,
    run: Option<&str>,
    name: &str,
    find: impl Fn(&RunView) -> Result<Option<T>, CliError>,
) -> Result<Found<T>, CliError> {
    let (here, elsewhere) = match run {
        Some(text) => (vec![state::find_run(store, text)?], Vec::new()),
        None => state::by_project(store, state::runs(store)?)?,
    };
    for run in here.iter().rev() {
        if let Some(found) = find(run)? {
            return Ok(Ok((run.clone(), found)));
        }
    }
    for run in elsewhere.iter().rev() {
        if matches!(find(run), Ok(Some(_))) {
            return Err(state::of_another_project(name, run));
        }
    }
    let mut searched = if here.is_empty() { elsewhere } else { here };
    searched.reverse();
    Ok(Err(searched))
}

/// The error when none of the runs knows the name; `names` are those that one of them has.
fn nowhere(what: &str, name: &str, runs: &[RunView], names: impl Fn(&RunView) -> Result<Vec<String>, CliError>) -> CliError {
    let Some(first) = runs.first() else { return state::nothing_yet() };
    let known = match runs.iter().map(&names).collect::<Result<Vec<_>, _>>() {
        Ok(known) => known,
        Err(error) => return error,
    };
    unknown(what, name, &format!("run {}", first.run.short()), &known[0], &known.concat())
}

fn keys(store: &dyn Store, run: &RunView) -> Result<Vec<String>, CliError> {
    Ok(list::<TaskView>(store, Some(run.run))?.iter().map(|task| task.spec.key.to_string()).collect())
}

/// Finds a task by its id in the tasks file (or its full id), in the named run or in the last one that has it.
pub fn task(store: &dyn Store, run: Option<&str>, name: &str) -> Result<(RunView, TaskView), CliError> {
    search(store, run, name, |run| task_in(store, run, name))?.map_err(|runs| nowhere("task", name, &runs, |run| keys(store, run)))
}

fn task_in(store: &dyn Store, run: &RunView, name: &str) -> Result<Option<TaskView>, CliError> {
    let tasks: Vec<TaskView> = list(store, Some(run.run))?;
    Ok(tasks.into_iter().find(|task| task.spec.key.as_str() == name || task.task.to_string() == name))
}

/// Finds an agent by its name, in the named run or in the last one that has it.
pub fn agent(store: &dyn Store, run: Option<&str>, name: &str) -> Result<(RunView, AgentView), CliError> {
    let find = |run: &RunView| Ok(list::<AgentView>(store, Some(run.run))?.into_iter().find(|agent| agent.agent.as_str() == name));
    let names =
        |run: &RunView| Ok(list::<AgentView>(store, Some(run.run))?.iter().map(|agent| agent.agent.to_string()).collect::<Vec<_>>());
    search(store, run, name, find)?.map_err(|runs| nowhere("agent", name, &runs, names))
}

/// Finds a change: by its id or the eight characters that other commands print, by the landed or submitted commit, or as the present
/// or last change of a task.
pub fn change(store: &dyn Store, run: Option<&str>, name: &str) -> Result<(RunView, ChangeView), CliError> {
    let found = search(store, run, name, |run| change_in(store, run, name))?;
    found.map_err(|runs| nowhere("task", name, &runs, |run| keys(store, run)).hint("`aedile landing list` shows changes and their commits"))
}

fn change_in(store: &dyn Store, run: &RunView, name: &str) -> Result<Option<ChangeView>, CliError> {
    let changes: Vec<ChangeView> = list(store, Some(run.run))?;
    if let Some(task) = task_in(store, run, name)? {
        let change = changes.into_iter().find(|change| Some(change.change) == task.change);
        let nothing = || {
            CliError::failure(format!("task {name} of run {} has submitted nothing yet", run.run.short()))
                .hint(format!("`aedile snapshot diff {name}` shows its work so far"))
        };
        return change.map(Some).ok_or_else(nothing);
    }
    let mut found = changes.into_iter().filter(|change| is_called(change, name));
    match (found.next(), found.next()) {
        (first, None) => Ok(first),
        (_, Some(_)) => Err(CliError::usage(format!("more than one change of run {} is called {name}", run.run.short()))
            .hint("give the whole id, as `aedile landing list --json` prints it")),
    }
}

fn is_called(change: &ChangeView, name: &str) -> bool {
    let commit = |id: Option<&aedile_core::CommitId>| name.len() >= COMMIT_DIGITS_MIN && id.is_some_and(|id| id.as_str().starts_with(name));
    change.change.to_string() == name
        || (name.len() >= ID_DIGITS_MIN && change.change.short().starts_with(name))
        || commit(change.landed.as_ref())
        || commit(Some(&change.commit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_typing_error_is_told_from_another_name() {
        let known = ["parser", "printer", "main"];
        assert_eq!(similar("parsr", known), Some("parser"));
        assert_eq!(similar("mian", known), Some("main"));
        assert_eq!(similar("zz", known), None);
        let (here, all) = (["parser".to_owned()], known.map(str::to_owned));
        let said = unknown("task", "prnter", "run 1", &here, &all).to_string();
        assert!(said.contains("did you mean `printer`?") && said.contains("its tasks are: parser"), "{said}");
    }
}
