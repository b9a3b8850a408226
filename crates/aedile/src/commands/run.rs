//! `aedile run`.

use std::path::{Path, PathBuf};

use aedile_core::limits::{AGENTS_MAX, GOAL_BYTES_MAX};
use aedile_core::model::ModelRef;
use aedile_core::project::ProjectRules;
use aedile_core::store::{Store, list};
use aedile_core::view::{RunView, TaskView};
use aedile_core::{CommitId, MicroUsd, RefName};
use aedile_fleet::{PlanError, RunPlan, open_run};
use aedile_git::Project;
use clap::{ArgGroup, Args};

use crate::clock::{OsEntropy, SystemClock};
use crate::commands::run_control::RunControl;
use crate::config::file::{self, ConfigFile};
use crate::config::person::PersonFile;
use crate::config::tasks::{Defaults, MANUAL, TasksFile};
use crate::error::{CliError, CliResult};
use crate::narrate::short;
use crate::output::Output;
use crate::planning::{self, Desk, Way};
use crate::runtimes::{self, Catalogue};
use crate::{exit, layers, long_text, state, wiring, worker};

/// Agents at work at once when nobody says otherwise.
const AGENTS_DEFAULT: u32 = 4;

/// Reach a goal with several agents, work through a file of tasks, or go on with a run
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true, disable_help_subcommand = true)]
#[command(group(ArgGroup::new("work").args(["goal", "tasks", "resume"]).required(true)))]
pub struct RunArgs {
    #[command(subcommand)]
    control: Option<RunControl>,
    /// What is to be reached, or `-` for stdin: an agent reads the code and splits it into tasks, and you are asked (docs/goals.md)
    #[arg(value_name = "GOAL")]
    goal: Option<String>,
    /// The tasks file (docs/tasks-file.md)
    #[arg(long, value_name = "FILE")]
    tasks: Option<PathBuf>,
    /// Start the plan for a goal without asking
    #[arg(long, conflicts_with = "tasks")]
    yes: bool,
    /// Write the plan for a goal to a new file that `--tasks` takes, and stop
    #[arg(long, value_name = "FILE", conflicts_with_all = ["tasks", "yes"])]
    plan_only: Option<PathBuf>,
    /// Go on with a run that was stopped or whose worker died: RUN, or the last that is not over
    #[arg(long, value_name = "RUN", num_args = 0..=1, default_missing_value = "")]
    resume: Option<String>,
    /// Agents at work at once
    #[arg(long, value_name = "N", conflicts_with = "resume")]
    agents: Option<u32>,
    /// Model of tasks that name none, as PROVIDER/MODEL
    #[arg(long, value_name = "MODEL", conflicts_with = "resume")]
    model: Option<ModelRef>,
    /// Runtime of tasks that name none: `aedile`, `claude`, or one of aedile.toml
    #[arg(long, value_name = "RUNTIME", conflicts_with = "resume")]
    runtime: Option<String>,
    /// Dollars that the whole run may spend; with --resume in place of the budget it had
    #[arg(long, value_name = "USD", allow_negative_numbers = true)]
    budget_usd: Option<f64>,
    /// A policy file that narrows what agents may do in this run, also when it is resumed (docs/policy.md)
    #[arg(long, value_name = "FILE", conflicts_with = "resume")]
    policy: Option<PathBuf>,
    /// Let changes touch protected paths (aedile.toml, CI configuration, [protect] paths)
    #[arg(long, conflicts_with = "resume")]
    allow_protected: bool,
}

/// Runs `aedile run`.
pub fn cmd_run(args: &RunArgs, out: Output) -> CliResult {
    match (&args.control, &args.resume) {
        (Some(control), _) => control.run(out),
        (None, Some(which)) => finish(&resume(which, args, out)?, out),
        (None, None) => finish(&start(args, out)?, out),
    }
}

/// Prints what a worker's life came to.
pub fn finish(outcome: &worker::Outcome, out: Output) -> CliResult {
    if out.json {
        out.object(&outcome.to_json());
    } else {
        outcome.lines().into_iter().for_each(|line| out.line(line));
        if outcome.report.landed > 0 && !target_has_it(&outcome.run) {
            out.line(format!("{} is checked out, so it was left alone; `aedile sync` brings the landed commits to it", outcome.run.target));
        }
    }
    Ok(outcome.code())
}

/// Whether what landed is on the target itself.
pub fn target_has_it(run: &RunView) -> bool {
    let target = format!("refs/heads/{}", run.target);
    let tip = || wiring::discover(&run.root).ok()?.resolve(&target).ok()?;
    run.landing_ref.as_str() == target || tip().is_some_and(|tip| tip == run.tip)
}

fn resume(which: &str, args: &RunArgs, out: Output) -> Result<worker::Outcome, CliError> {
    let way = Way::find(args.yes, args.plan_only.as_deref(), out)?;
    let run = {
        let store = state::open_existing()?.ok_or_else(state::nothing_yet)?;
        let run = state::run_to_resume(&store, Some(which).filter(|text| !text.is_empty()))?;
        if way == Way::Nobody && planning::waiting(&store, run.run)?.is_some() {
            return Err(Way::nobody());
        }
        run
    };
    if let Some(usd) = budget(args)? {
        let store = state::open_existing()?.ok_or_else(state::nothing_yet)?;
        aedile_fleet::raise_run_budget(&store, run.run, usd)?;
    }
    drive(&run, way, out)
}

/// What `--budget-usd` says.
fn budget(args: &RunArgs) -> Result<Option<MicroUsd>, CliError> {
    file::dollars(args.budget_usd, "--budget-usd", "command line").map_err(|error| CliError::usage(error.message))
}

/// Brings a worker that goes on with a run.
pub fn drive(run: &RunView, way: Way, out: Output) -> Result<worker::Outcome, CliError> {
    let state = state::dir()?;
    let project = wiring::discover(&run.root)?;
    let config = checkout_config(project.root())?;
    let desk = Desk { way, config: &config, out };
    worker::work(&state, project, &desk, |workshop| {
        let tasks = list::<TaskView>(&*workshop.store, Some(run.run))?.into_iter().filter(|task| !task.state.is_closed());
        Catalogue::of(&config).installed(&tasks.map(|task| task.spec).collect::<Vec<_>>())?;
        Ok((run.run, workshop.store.last()?))
    })
}

/// Where the tasks of a new run are from.
enum Source {
    /// A sentence, for which a model plans.
    Goal(String),
    /// A file, and where it lies.
    File(TasksFile, String),
}

impl Source {
    /// Reads it, and refuses what can be refused before anything else is looked at.
    fn read(args: &RunArgs) -> Result<Self, CliError> {
        if let Some(goal) = &args.goal {
            let goal = long_text::read(goal, "goal", GOAL_BYTES_MAX)?;
            planning::check_goal(&goal)?;
            return Ok(Self::Goal(goal.trim().to_owned()));
        }
        let file = args.tasks.clone().unwrap_or_default();
        let place = file.display().to_string();
        let text = std::fs::read_to_string(&file)
            .map_err(|error| CliError::config(format!("cannot read the tasks file {place}: {error}")).hint(MANUAL))?;
        Ok(Self::File(TasksFile::parse(&text, &place)?, place))
    }
}

fn start(args: &RunArgs, out: Output) -> Result<worker::Outcome, CliError> {
    let source = Source::read(args)?;
    let way = Way::find(args.yes, args.plan_only.as_deref(), out)?;
    if way == Way::Nobody && matches!(source, Source::Goal(_)) {
        return Err(Way::nobody());
    }
    let project = wiring::discover(&std::env::current_dir()?)?;
    let local = checkout_config(project.root())?;
    let target = target(&project, &local)?;
    let point = project.landing_point(&target)?;
    let (config, mut rules) = rules_at(&project, &point.base, out)?;
    rules.allow_protected = args.allow_protected;
    rules.policy.extend(args.policy.as_deref().map(layers::of_run).transpose()?);
    let defaults = Defaults {
        model: args.model.clone().or_else(|| config.agents.model.clone()),
        runtime: args.runtime.clone().unwrap_or_else(|| runtimes::AEDILE.to_owned()),
        runtimes: Catalogue::of(&local),
    };
    // Where tasks name none, a wrong name is the command line's mistake.
    defaults.runtimes.get(&defaults.runtime).map_err(|error| CliError { code: exit::USAGE, ..error })?;
    let (goal, place, specs) = match source {
        Source::Goal(goal) => {
            let task = planning::task(&goal, &project, &point.base, &rules, &defaults)?;
            (goal, "the goal".to_owned(), vec![task])
        }
        Source::File(tasks, place) => {
            let specs = tasks.specs(&place, &rules, &defaults)?;
            (tasks.goal, place, specs)
        }
    };
    defaults.runtimes.installed(&specs)?;
    defaults.runtimes.check_fallback(&rules.fallback)?;
    if let Some(usd) = budget(args)? {
        rules.run_budget.usd = Some(usd);
    }
    let slots = layers::slots(&rules, &specs, args.agents, config.agents.at_once.unwrap_or(AGENTS_DEFAULT))?;
    if slots == 0 || slots as usize > AGENTS_MAX {
        return Err(CliError::usage(format!("{slots} agents cannot work at once; 1 to {AGENTS_MAX} can")));
    }
    tell(&project, &rules, out)?;
    let state = state::dir()?;
    let desk = Desk { way, config: &local, out };
    worker::work(&state, project, &desk, |workshop| {
        let plan = RunPlan {
            project: workshop.project_id,
            root: workshop.project.root().to_owned(),
            goal,
            target: target.as_str().trim_start_matches("refs/heads/").to_owned(),
            landing_ref: point.reference,
            base: point.base,
            slots,
            rules,
            tasks: specs,
        };
        let shown = workshop.store.last()?;
        let opened = open_run(&*workshop.store, &SystemClock, &OsEntropy, &plan);
        Ok((opened.map_err(|error| in_file(error, &place))?, shown))
    })
}

/// Says in which file a plan is wrong.
fn in_file(error: PlanError, place: &str) -> CliError {
    match error {
        PlanError::Store(error) => error.into(),
        other => CliError::config(format!("{place}: {other}")).hint(MANUAL),
    }
}

/// The file in the checkout, which says among others which branch is the target, and the person's own, which says where keys and servers are.
pub fn checkout_config(root: &Path) -> Result<ConfigFile, CliError> {
    let path = root.join(file::NAME);
    let config = match std::fs::read_to_string(&path) {
        Ok(text) => ConfigFile::parse(&text, &path.display().to_string())?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => ConfigFile::default(),
        Err(error) => return Err(CliError::config(format!("cannot read {}: {error}", path.display()))),
    };
    Ok(config.with_person(PersonFile::load()?))
}

pub fn target(project: &Project, config: &ConfigFile) -> Result<RefName, CliError> {
    match &config.target {
        Some(name) => RefName::new(format!("refs/heads/{name}")).map_err(|error| CliError::config(format!("aedile.toml: target: {error}"))),
        None => project.branch().cloned().ok_or_else(|| {
            CliError::config("no branch is checked out and aedile.toml names no target").hint("set `target = \"main\"` in aedile.toml")
        }),
    }
}

/// What judges changes comes from the commit on the target; a checkout that differs is named.
pub fn rules_at(project: &Project, base: &CommitId, out: Output) -> Result<(ConfigFile, ProjectRules), CliError> {
    let committed = project.file_at(base, file::NAME)?;
    let local = std::fs::read(project.root().join(file::NAME)).ok();
    if committed != local {
        let what = match (&committed, &local) {
            (None, _) => "is not in",
            (_, None) => "is missing in the checkout but is in",
            _ => "in the checkout differs from the one in",
        };
        out.warn(format!(
            "note: {} {what} commit {} on the target; gates, budgets and protected paths are the commit's",
            file::NAME,
            short(base)
        ));
    }
    rules_of(project, base)
}

/// The file at the commit and what it says.
pub fn rules_of(project: &Project, base: &CommitId) -> Result<(ConfigFile, ProjectRules), CliError> {
    let committed = project.file_at(base, file::NAME)?;
    let place = format!("{} at {}", file::NAME, short(base));
    let text = String::from_utf8(committed.unwrap_or_default()).map_err(|_| CliError::config(format!("{place} is not UTF-8")))?;
    let config = ConfigFile::parse(&text, &place)?.with_person(PersonFile::load()?);
    let mut rules = config.rules(&place)?;
    rules.policy.extend(layers::of_project(project, base)?);
    Ok((config, rules))
}

fn tell(project: &Project, rules: &ProjectRules, out: Output) -> Result<(), CliError> {
    if rules.gates.is_empty() {
        out.warn("warning: no gate is configured; changes land without being tested. `aedile init` proposes gates");
    }
    if !project.dirty()?.is_clean() {
        out.warn("note: the checkout has uncommitted changes; agents do not see them");
    }
    Ok(())
}
