//! `aedile task`.

use aedile_core::model::ModelRef;
use aedile_core::{RunId, TaskKey};
use aedile_fleet::TaskEdit;
use clap::{ArgGroup, Args, Subcommand};
use serde_json::json;

use crate::clock::moment;
use crate::config::file;
use crate::error::{CliError, CliResult};
use crate::narrate::returned;
use crate::output::{Output, one_line, table};
use crate::picture::{Picture, worker_of};
use crate::{exit, names, state};

/// Show, change, retry and cancel tasks
#[derive(Debug, Args)]
pub struct TaskArgs {
    #[command(subcommand)]
    command: Option<TaskCommand>,
    /// The run (its id or the eight characters that other commands print); otherwise the last one, or the last that has the task
    #[arg(long, value_name = "RUN", global = true)]
    run: Option<String>,
}

#[derive(Debug, Subcommand)]
enum TaskCommand {
    /// List the tasks of a run
    List,
    /// Show one task with all that is known of it
    Show {
        /// Its id in the tasks file
        task: String,
    },
    /// Change a task that nobody works on; it holds from the next start of its agent on
    #[command(group(ArgGroup::new("what").required(true).multiple(true).args(["title", "prompt", "scope", "model", "budget_usd", "after"])))]
    Edit {
        /// Its id in the tasks file
        task: String,
        /// One line
        #[arg(long)]
        title: Option<String>,
        /// What the agent is told
        #[arg(long)]
        prompt: Option<String>,
        /// What may be changed; given several times, these globs replace all earlier ones
        #[arg(long, value_name = "GLOB")]
        scope: Vec<String>,
        /// The model, as PROVIDER/MODEL
        #[arg(long, value_name = "MODEL")]
        model: Option<ModelRef>,
        /// Dollars that may be spent on the task
        #[arg(long, value_name = "USD", allow_negative_numbers = true)]
        budget_usd: Option<f64>,
        /// A task that must have landed before; given several times, these replace all earlier ones; empty for none
        #[arg(long, value_name = "TASK")]
        after: Vec<String>,
    },
    /// Try a task again that waits for a person
    Retry {
        /// Its id in the tasks file
        task: String,
    },
    /// Cancel a task: its agent ends after saving its work, nothing of it lands
    Cancel {
        /// Its id in the tasks file
        task: String,
    },
}

/// Runs `aedile task`.
pub fn cmd_task(args: &TaskArgs, out: Output) -> CliResult {
    let command = args.command.as_ref().unwrap_or(&TaskCommand::List);
    let Some((store, run)) = state::last_run(args.run.as_deref())? else {
        let TaskCommand::List = command else { return Err(state::nothing_yet()) };
        out.object_or(&json!({ "run": null, "tasks": [] }), || vec![state::NOTHING_YET.to_owned()]);
        return Ok(exit::OK);
    };
    let named = |task: &str| names::task(&store, args.run.as_deref(), task);
    match command {
        TaskCommand::List => list(&Picture::of(&store, run)?, out),
        TaskCommand::Show { task } => {
            let (run, found) = named(task)?;
            let picture = Picture::of(&store, run)?;
            out.object_or(&json!({ "task": found, "waits_for": picture.waits_for(&found) }), || show(&picture, &found));
        }
        TaskCommand::Retry { task } => {
            let (run, found) = named(task)?;
            let worker = worker_of(&store, &run)?;
            aedile_fleet::retry_task(&store, found.run, found.spec.key.as_str())?;
            out.object_or(&json!({ "task": task, "retried": true }), || {
                vec![format!("{task} is tried again {}", when(worker.as_deref(), found.run))]
            });
        }
        TaskCommand::Cancel { task } => {
            let (run, found) = named(task)?;
            let worker = worker_of(&store, &run)?;
            aedile_fleet::cancel_task(&store, found.run, found.spec.key.as_str())?;
            out.object_or(&json!({ "task": task, "cancel_requested": true }), || {
                vec![format!("{task} is closed after its work is saved, and nothing of it lands: {}", when(worker.as_deref(), found.run))]
            });
        }
        TaskCommand::Edit { task, .. } => {
            let (run, found) = named(task)?;
            let changed = aedile_fleet::edit_task(&store, found.run, found.spec.key.as_str(), edit(command)?)?;
            let worker = worker_of(&store, &run)?;
            out.object_or(&json!({ "task": changed.spec, "told_to_agent": changed.edited }), || {
                let told = if changed.edited { ", and its agent is told" } else { "" };
                let next = match changed.state.needs_person() {
                    true => format!("after `aedile task retry {task}`"),
                    false => when(worker.as_deref(), found.run),
                };
                vec![format!("{task} is changed; that holds from its next start on{told}: {next}")]
            });
        }
    }
    Ok(exit::OK)
}

/// When a worker acts upon something.
fn when(worker: Option<&str>, run: RunId) -> String {
    match worker {
        Some(worker) => format!("{worker} drives the run and sees to it at once"),
        None => format!("no worker drives run {0}; `aedile run --resume {0}` goes on with it", run.short()),
    }
}

fn edit(command: &TaskCommand) -> Result<TaskEdit, CliError> {
    let TaskCommand::Edit { title, prompt, scope, model, budget_usd, after, .. } = command else { return Ok(TaskEdit::default()) };
    let budget_usd = file::dollars(*budget_usd, "--budget-usd", "command line").map_err(|error| CliError::usage(error.message))?;
    let keys = after.iter().filter(|key| !key.is_empty()).map(|key| TaskKey::new(key.as_str())).collect::<Result<Vec<_>, _>>();
    let keys = keys.map_err(|error| CliError::usage(format!("--after: {error}")))?;
    Ok(TaskEdit {
        title: title.clone(),
        prompt: prompt.clone(),
        scope: (!scope.is_empty()).then(|| scope.clone()),
        model: model.clone(),
        budget_usd,
        after: (!after.is_empty()).then_some(keys),
    })
}

fn list(picture: &Picture, out: Output) {
    if out.json {
        let rows: Vec<_> = picture.tasks.iter().map(|task| json!({ "id": task.spec.key, "title": task.spec.title, "state": task.state, "since": moment(task.since), "waits_for": picture.waits_for(task), "agent": task.agent, "landed": task.landed })).collect();
        out.object(&json!({ "run": picture.run.run, "tasks": rows }));
        return;
    }
    let mut rows = vec![["task", "state", "title", "waits for"].map(str::to_owned).to_vec()];
    for task in &picture.tasks {
        rows.push(vec![
            task.spec.key.to_string(),
            task.state.to_string(),
            one_line(&task.spec.title, 50),
            one_line(&picture.waits_for(task), 70),
        ]);
    }
    table(&rows).into_iter().for_each(|row| out.line(row));
}

fn show(picture: &Picture, task: &aedile_core::view::TaskView) -> Vec<String> {
    let mut lines = vec![
        format!("{}: {}", task.spec.key, one_line(&task.spec.title, 200)),
        format!("  state      {} since {}", task.state, moment(task.since)),
        format!("  scope      {}", task.spec.scope.join(" ")),
        format!("  runtime    {} with {}", task.spec.runtime, task.spec.model),
        format!("  turns      {} in {} workspaces, sent back {} times", task.turn, task.attempt, task.returns),
    ];
    let waits_for = picture.waits_for(task);
    if !waits_for.is_empty() {
        lines.insert(2, format!("  waits for  {waits_for}"));
    }
    if let Some(agent) = &task.agent {
        lines.push(format!("  agent      {agent}"));
    }
    if let Some(path) = task.workspace.as_ref().filter(|path| path.exists()) {
        lines.push(format!("  workspace  {}", path.display()));
    }
    if let Some(reason) = &task.returned {
        lines.push(format!("  came back  {}; `aedile landing evidence {}` prints the evidence", returned(reason), task.spec.key));
    }
    if let Some(commit) = &task.landed {
        lines.push(format!("  landed     {commit}"));
    }
    lines
}
