//! A goal in words: the run that begins with its planning, and the answer to the plan.

mod desk;
mod estimate;
mod file;
mod show;

pub use desk::{Desk, PlanEnd, Way, settle};

use aedile_core::project::ProjectRules;
use aedile_core::store::{Store, list};
use aedile_core::task::TaskSpec;
use aedile_core::view::TaskView;
use aedile_core::{CommitId, RunId, TaskKey};
use aedile_fleet::goal::{Layout, bad_goal, plan_task};
use aedile_git::Project;

use crate::config::tasks::{Defaults, MANUAL, TaskEntry, TasksFile};
use crate::error::CliError;

/// Refuses a goal that cannot be planned for.
pub fn check_goal(goal: &str) -> Result<(), CliError> {
    bad_goal(goal).map_or(Ok(()), |why| Err(CliError::usage(why)))
}

/// The task that plans for a goal on the code of a commit.
pub fn task(goal: &str, project: &Project, base: &CommitId, rules: &ProjectRules, defaults: &Defaults) -> Result<TaskSpec, CliError> {
    if defaults.model.is_none() {
        return Err(CliError::config("no model is named that could plan for the goal")
            .hint("run with --model PROVIDER/MODEL, or set `[agents] model` in aedile.toml"));
    }
    let key = TaskKey::new(aedile_core::plan::PLAN_KEY).map_err(|error| CliError::failure(error.to_string()))?;
    // Model and runtime are those of tasks that name none, held against the same rules.
    let stand_in = TasksFile { goal: goal.to_owned(), tasks: vec![TaskEntry::new(key, goal.to_owned())] };
    let specs = stand_in.specs("the goal", rules, defaults);
    let specs = specs.map_err(|error| CliError { hints: error.hints.into_iter().filter(|hint| hint != MANUAL).collect(), ..error });
    let like = specs?.pop().ok_or_else(|| CliError::failure("the goal made no task"))?;
    let layout = Layout::of_tree(project.files(base)?, |path| project.file_at(base, path).ok().flatten());
    plan_task(goal, &layout, rules, like.model, like.runtime).map_err(|error| CliError::failure(error.to_string()))
}

/// The task of a run whose plan waits for an answer.
pub fn waiting(store: &dyn Store, run: RunId) -> Result<Option<TaskView>, CliError> {
    Ok(list::<TaskView>(store, Some(run))?.into_iter().find(|task| task.open_plan().is_some()))
}
