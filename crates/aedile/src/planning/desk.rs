//! Where a plan is shown and answered.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aedile_core::RunId;
use aedile_core::plan::ProposedPlan;
use aedile_core::store::{Store, list, load};
use aedile_core::task::TaskSpec;
use aedile_core::view::{CostView, RunView, TaskView};
use aedile_fleet::goal::{accept, another, bad_wish, decline, specs};

use crate::clock::{OsEntropy, SystemClock};
use crate::config::file::ConfigFile;
use crate::error::CliError;
use crate::output::Output;
use crate::wiring::Workshop;
use crate::{exit, prices};

use super::estimate::Estimate;
use super::{file, show};

/// How plans are answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Way {
    /// By the person at the terminal.
    Ask,
    /// Yes.
    Yes,
    /// By writing them to a file.
    Write(PathBuf),
    /// By nobody: there is no terminal and no word for it.
    Nobody,
}

/// Where plans are shown and answered.
#[derive(Debug)]
pub struct Desk<'a> {
    /// How.
    pub way: Way,
    /// The file of the checkout, which may name prices.
    pub config: &'a ConfigFile,
    /// Where to print.
    pub out: Output,
}

impl Way {
    /// Finds the way from the flags and the terminal. A file that is there already is refused here, before anything is spent.
    pub fn find(yes: bool, plan_only: Option<&Path>, out: Output) -> Result<Self, CliError> {
        match plan_only {
            Some(path) if path.symlink_metadata().is_ok() => Err(file::is_there(path)),
            Some(path) => Ok(Self::Write(path.to_owned())),
            None if yes => Ok(Self::Yes),
            None if out.can_ask() => Ok(Self::Ask),
            None => Ok(Self::Nobody),
        }
    }

    /// The error of a plan that nobody can answer.
    pub fn nobody() -> CliError {
        CliError::usage("the plan has to be answered and there is no terminal to ask on; nothing was started")
            .hint("--yes starts the plan as it is, --plan-only FILE writes it to a file that `aedile run --tasks FILE` takes")
    }
}

/// What came of a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PlanEnd {
    /// Its tasks were opened.
    Accepted,
    /// It waits for another day.
    Waits,
    /// The person said no.
    Declined,
    /// Another one is made, for what they said.
    Another(String),
    /// It lies in a file.
    Written(PathBuf),
}

/// Everything about the plan that waits.
struct Open {
    run: RunView,
    task: TaskView,
    /// All tasks of the run that planned, this one last.
    planned: Vec<TaskView>,
    proposed: ProposedPlan,
    specs: Vec<TaskSpec>,
}

impl Open {
    fn find(store: &dyn Store, run: RunId) -> Result<Option<Self>, CliError> {
        let Some(task) = super::waiting(store, run)? else { return Ok(None) };
        let gone = || CliError::failure("the plan is gone from the store");
        let run: RunView = load(store, &run.to_string())?.ok_or_else(gone)?;
        let blob = task.open_plan().map(|plan| store.get_blob(plan)).transpose()?.flatten().ok_or_else(gone)?;
        let proposed: ProposedPlan =
            serde_json::from_slice(&blob).map_err(|error| CliError::failure(format!("the plan cannot be read: {error}")))?;
        let specs = specs(&proposed.plan, &task.spec, &run.rules).map_err(|error| CliError::failure(error.to_string()))?;
        let mut planned: Vec<TaskView> = list(store, Some(run.run))?;
        planned.retain(|other| other.spec.is_plan() && other.task <= task.task);
        Ok(Some(Self { run, task, planned, proposed, specs }))
    }
}

/// Shows the plan that waits for an answer, has it answered and writes the answer down; `None` when no plan waits.
pub async fn settle(workshop: &Workshop, run: RunId, desk: &Desk<'_>) -> Result<Option<PlanEnd>, CliError> {
    let store: Arc<dyn Store> = workshop.parts.store.clone();
    let Some(open) = Open::find(&*store, run)? else { return Ok(None) };
    let costs: Vec<CostView> = list(&*store, Some(run))?;
    let estimate = Estimate::of(&*store, &open.proposed, &open.task.spec.model, &prices::table(desk.config)?)?;
    match desk.out.json {
        true => desk.out.object(&show::json(&open.run, &open.proposed, &open.specs, &estimate, &costs)),
        false => show::lines(&open.run, &open.proposed, &open.specs, &estimate, &costs).iter().for_each(|line| desk.out.line(line)),
    }
    let end = answer(&open, desk).await?;
    match &end {
        PlanEnd::Accepted => accept(&*store, &SystemClock, &OsEntropy, &open.task, open.specs)?,
        PlanEnd::Another(words) => another(&*store, (&SystemClock, &OsEntropy), &open.planned, &open.proposed, words)?,
        PlanEnd::Declined => decline(&*store, &open.task, "the person did not want it")?,
        PlanEnd::Written(path) => decline(&*store, &open.task, &format!("it was written to {}", path.display()))?,
        PlanEnd::Waits => {}
    }
    Ok(Some(end))
}

async fn answer(open: &Open, desk: &Desk<'_>) -> Result<PlanEnd, CliError> {
    match &desk.way {
        Way::Yes => Ok(PlanEnd::Accepted),
        Way::Nobody => Err(Way::nobody().first_hint("the plan is kept: `aedile run --resume` shows it again and asks")),
        Way::Write(path) => {
            file::write(path, &open.run.goal, &open.proposed, &open.specs)?;
            Ok(PlanEnd::Written(path.clone()))
        }
        Way::Ask => ask(open, desk.out).await,
    }
}

/// Asks until there is an answer. Ctrl-C and the end of input leave the plan where it is.
async fn ask(open: &Open, out: Output) -> Result<PlanEnd, CliError> {
    let tasks = match open.specs.len() {
        1 => "this task".to_owned(),
        many => format!("these {many} tasks"),
    };
    loop {
        let Some(said) =
            line(format!("Start {tasks}? [Y]es, [n]o, [c]hange: say what should be different, [e]dit: write them to a file and stop  "))
                .await
        else {
            return Ok(PlanEnd::Waits);
        };
        match said.to_ascii_lowercase().as_str() {
            "" | "y" | "yes" => return Ok(PlanEnd::Accepted),
            "n" | "no" => return Ok(PlanEnd::Declined),
            "c" | "change" => {
                let Some(words) = line("What should be different?  ".to_owned()).await else { return Ok(PlanEnd::Waits) };
                match bad_wish(open.planned.len(), &words) {
                    None => return Ok(PlanEnd::Another(words)),
                    Some(why) => out.warn(why),
                }
            }
            "e" | "edit" => {
                let Some(name) = line(format!("Which file? [{}]  ", file::DEFAULT)).await else { return Ok(PlanEnd::Waits) };
                let path = PathBuf::from(if name.is_empty() { file::DEFAULT } else { &name });
                match file::write(&path, &open.run.goal, &open.proposed, &open.specs) {
                    Ok(()) => return Ok(PlanEnd::Written(path)),
                    // The plan was paid for: another name is asked for instead of losing it.
                    Err(error) => out.warn(error.to_string()),
                }
            }
            _ => out.line("answer y, n, c or e"),
        }
    }
}

/// Asks for a line; `None` after Ctrl-C or at the end of input.
async fn line(question: String) -> Option<String> {
    let read = tokio::task::spawn_blocking(move || {
        let mut stdout = std::io::stdout().lock();
        let _ = write!(stdout, "{question}").and_then(|()| stdout.flush());
        drop(stdout);
        let mut answer = String::new();
        (std::io::stdin().read_line(&mut answer).ok()? > 0).then(|| answer.trim().to_owned())
    });
    tokio::select! {
        answer = read => answer.ok().flatten(),
        _ = tokio::signal::ctrl_c() => None,
    }
}

impl PlanEnd {
    /// The exit code of a run that ends so.
    pub fn code(&self) -> u8 {
        match self {
            Self::Written(_) | Self::Accepted | Self::Another(_) => exit::OK,
            Self::Declined => exit::NOT_ALL_LANDED,
            Self::Waits => exit::INTERRUPTED,
        }
    }

    /// What is said at its end.
    pub fn lines(&self) -> Vec<String> {
        match self {
            Self::Accepted | Self::Another(_) => Vec::new(),
            Self::Waits => vec!["nothing was started; the plan is kept, and `aedile run --resume` shows it again and asks".to_owned()],
            Self::Declined => vec!["nothing was started; `aedile costs` shows what the planning has cost".to_owned()],
            Self::Written(path) => {
                vec![format!("the plan is in {0}; `aedile run --tasks {0}` starts it as you have edited it", path.display())]
            }
        }
    }

    /// The same for `--json`.
    pub fn to_json(&self) -> serde_json::Value {
        match self {
            Self::Accepted => serde_json::json!({ "answer": "accepted" }),
            Self::Waits => serde_json::json!({ "answer": "waits" }),
            Self::Another(words) => serde_json::json!({ "answer": "another", "words": words }),
            Self::Declined => serde_json::json!({ "answer": "declined" }),
            Self::Written(path) => serde_json::json!({ "answer": "written", "file": path }),
        }
    }
}
