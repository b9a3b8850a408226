//! `aedile code`.

mod face;
mod heard;
mod input;
mod keys;
mod report;
mod take;

use std::sync::Arc;

use aedile_core::limits::EVENT_BYTES_MAX;
use aedile_core::model::ModelRef;
use aedile_core::project::ProjectRules;
use aedile_core::store::Store;
use aedile_core::task::TaskSpec;
use aedile_core::view::RunView;
use aedile_core::{RefName, RunId, TaskKey};
use aedile_fleet::{Onlooker, RunPlan, open_run};
use aedile_git::Project;
use clap::Args;
use serde_json::json;

use crate::clock::{OsEntropy, SystemClock};
use crate::commands::run::{checkout_config, rules_at};
use crate::config::file::{self, ConfigFile};
use crate::error::{CliError, CliResult};
use crate::narrate::{branch, short};
use crate::output::{Output, one_line};
use crate::runtimes::Catalogue;
use crate::worker::Worker;
use crate::{exit, long_text, state, wiring};

use face::CodeFace;
use heard::Heard;
use input::Input;
use take::Way;

/// The key of the one task.
const KEY: &str = "code";
/// Paths that a note names.
const NAMED_MAX: usize = 5;

/// Let one agent work on this repository in a box; its change is kept until you take it
#[derive(Debug, Args)]
pub struct CodeArgs {
    /// What is to be done, or a question; `-` reads it from stdin
    #[arg(required_unless_present_any = ["take", "resume"], conflicts_with_all = ["take", "resume"])]
    prompt: Option<String>,
    /// What executes the agent: `aedile`, our own, or another runtime by name
    #[arg(long, value_name = "RUNTIME", default_value = "aedile", conflicts_with_all = ["take", "resume"])]
    runtime: String,
    /// Model, as PROVIDER/MODEL; otherwise `[agents] model` of aedile.toml
    #[arg(long, value_name = "MODEL", conflicts_with_all = ["take", "resume"])]
    model: Option<ModelRef>,
    /// What may be changed: a glob below the repository's root, several times; everything when absent
    #[arg(long, value_name = "GLOB", conflicts_with_all = ["take", "resume"])]
    scope: Vec<String>,
    /// What the agent may read: a glob, several times; the whole repository with its history when absent
    #[arg(long, value_name = "GLOB", conflicts_with_all = ["take", "resume"])]
    read: Vec<String>,
    /// Dollars that may be spent
    #[arg(long, value_name = "USD", conflicts_with_all = ["take", "resume"], allow_negative_numbers = true)]
    budget_usd: Option<f64>,
    /// Let the change touch protected paths (aedile.toml, CI configuration, [protect] paths)
    #[arg(long, conflicts_with_all = ["take", "resume"])]
    allow_protected: bool,
    /// Put the change onto this checkout, files only; refused where it would overlap uncommitted work
    #[arg(long, conflicts_with_all = ["land", "branch"])]
    apply: bool,
    /// Send the change through the gates to the branch that is checked out
    #[arg(long, conflicts_with = "branch")]
    land: bool,
    /// Make a branch of the change; nothing is checked out
    #[arg(long, value_name = "NAME")]
    branch: Option<String>,
    /// Take a change that was kept: with --apply, --branch or --land; without, say what it is
    #[arg(long, value_name = "CHANGE", conflicts_with = "resume")]
    take: Option<String>,
    /// Go on with a session that was stopped or whose worker died: RUN, or the last that is not over
    #[arg(long, value_name = "RUN", num_args = 0..=1, default_missing_value = "")]
    resume: Option<String>,
}

impl CodeArgs {
    fn way(&self) -> Way {
        match (&self.branch, self.apply, self.land) {
            (Some(name), ..) => Way::Branch(name.clone()),
            (None, true, _) => Way::Apply,
            (None, false, true) => Way::Land,
            (None, false, false) => Way::Keep,
        }
    }
}

/// Runs `aedile code`.
pub fn cmd_code(args: &CodeArgs, out: Output) -> CliResult {
    let way = args.way();
    match (&args.take, &args.resume) {
        (Some(change), _) => take::cmd_take(change, &way, out),
        (None, Some(which)) => resume(which, &way, out),
        (None, None) => start(args, &way, out),
    }
}

fn start(args: &CodeArgs, way: &Way, out: Output) -> CliResult {
    let project = wiring::discover(&std::env::current_dir()?)?;
    if let Way::Branch(name) = way {
        project.branch_free(name)?;
    }
    let local = checkout_config(project.root())?;
    let (config, mut rules) = rules_at(&project, project.head(), out)?;
    rules.allow_protected = args.allow_protected;
    rules.hold = *way != Way::Land;
    let usd = file::dollars(args.budget_usd, "--budget-usd", "command line");
    if let Some(usd) = usd.map_err(|error| CliError::usage(error.message))? {
        rules.run_budget.usd = Some(usd);
    }
    let spec = spec(args, &config)?;
    let place = place(&project, way)?;
    let runtimes = Catalogue::of(&local);
    let entry = runtimes.get(&spec.runtime).map_err(|error| CliError { code: exit::USAGE, ..error })?;
    runtimes.takes(entry, &spec.model).map_err(CliError::usage)?;
    runtimes.check_fallback(&rules.fallback)?;
    runtimes.installed(std::slice::from_ref(&spec))?;
    tell(&project, &rules, &spec, &place, out)?;
    let mut worker = Worker::open(&state::dir()?, project, &local)?;
    let plan = RunPlan {
        project: worker.workshop.project_id,
        root: worker.workshop.project.root().to_owned(),
        goal: spec.title.clone(),
        target: place.target,
        landing_ref: place.reference,
        base: place.base,
        slots: 1,
        rules,
        tasks: vec![spec],
    };
    let shown = worker.workshop.store.last()?;
    let opened = open_run(&*worker.workshop.store, &SystemClock, &OsEntropy, &plan);
    let run = opened.map_err(|error| match CliError::from(error) {
        error if error.code == exit::CONFIG => CliError { code: exit::USAGE, ..error },
        error => error,
    })?;
    work(&mut worker, run, shown, way, out)
}

fn resume(which: &str, way: &Way, out: Output) -> CliResult {
    let run = {
        let store = state::open_existing()?.ok_or_else(state::nothing_yet)?;
        run_to_resume(&store, Some(which).filter(|text| !text.is_empty()))?
    };
    let project = wiring::discover(&run.root)?;
    let config = checkout_config(project.root())?;
    let mut worker = Worker::open(&state::dir()?, project, &config)?;
    let shown = worker.workshop.store.last()?;
    work(&mut worker, run.run, shown, way, out)
}

/// The named run, or the last one of a single agent that is not over.
fn run_to_resume(store: &dyn Store, text: Option<&str>) -> Result<RunView, CliError> {
    let found = match text {
        Some(text) => state::find_run(store, text)?,
        None => {
            let open = |run: &RunView| is_ours(store, run) && run.state != aedile_core::machine::RunState::Ended;
            state::runs(store)?
                .into_iter()
                .rfind(open)
                .ok_or_else(|| CliError::failure("no session of `aedile code` is open").hint("`aedile code \"PROMPT\"` starts one"))?
        }
    };
    match is_ours(store, &found) {
        true => Ok(found),
        false => Err(CliError::usage(format!("run {} is no session of `aedile code`", found.run.short()))
            .hint(format!("`aedile run --resume {}` goes on with it", found.run.short()))),
    }
}

/// Whether the run is one of this command's.
fn is_ours(store: &dyn Store, run: &RunView) -> bool {
    let tasks = aedile_core::store::list::<aedile_core::view::TaskView>(store, Some(run.run)).unwrap_or_default();
    matches!(tasks.as_slice(), [task] if task.spec.key.as_str() == KEY)
}

/// Drives the run with a person looking on, then takes the change the way that was asked for.
fn work(worker: &mut Worker, run: RunId, shown: aedile_core::event::Position, way: &Way, out: Output) -> CliResult {
    let heard = Arc::new(Heard::new(worker.workshop.gateway.redactor()));
    let input = Input::start(&heard, out);
    worker.workshop.parts.onlooker = Onlooker { sees: Some(heard.sees()), stays: input.as_ref().map(Input::stays) };
    let face = CodeFace::new(&*worker.workshop.store, run, shown, (Arc::clone(&heard), input), out)?;
    let outcome = worker.drive(run, Box::new(face), &heard.wake, out)?;
    worker.workshop.parts.onlooker = Onlooker::default();
    take::finish(worker, &outcome, way, out)
}

/// Where the agent starts from, and where its change would land.
struct Place {
    target: String,
    reference: RefName,
    base: aedile_core::CommitId,
}

fn place(project: &Project, way: &Way) -> Result<Place, CliError> {
    let Some(branch) = project.branch() else {
        if *way == Way::Land {
            return Err(CliError::usage("no branch is checked out, so there is nothing to land on")
                .hint("`git switch BRANCH` first, or leave --land away: the change is kept"));
        }
        let reference = RefName::new("refs/heads/aedile/HEAD").map_err(|error| CliError::failure(error.to_string()))?;
        return Ok(Place { target: "HEAD".to_owned(), reference, base: project.head().clone() });
    };
    let target = branch.as_str().trim_start_matches("refs/heads/").to_owned();
    if *way == Way::Land {
        let point = project.landing_point(branch)?;
        return Ok(Place { target, reference: point.reference, base: point.base });
    }
    let reference = RefName::new(format!("refs/heads/aedile/{target}")).map_err(|error| CliError::failure(error.to_string()))?;
    Ok(Place { target, reference, base: project.head().clone() })
}

fn spec(args: &CodeArgs, config: &ConfigFile) -> Result<TaskSpec, CliError> {
    let prompt = long_text::read(args.prompt.as_deref().unwrap_or_default(), "prompt", EVENT_BYTES_MAX)?;
    if prompt.trim().is_empty() {
        return Err(CliError::usage("the prompt is empty").hint("say what is to be done: aedile code \"Give every error a hint\""));
    }
    let model = args.model.clone().or_else(|| config.agents.model.clone()).ok_or_else(|| {
        CliError::config("no model is named")
            .hint("name one with --model PROVIDER/MODEL, for example --model anthropic/claude-sonnet-4-5")
            .hint("`[agents] model` in a committed aedile.toml names it for good (`aedile init` writes one)")
    })?;
    if model.provider == "script" {
        return Err(CliError::usage(format!("model {model} plays written turns, which only a tasks file can hold"))
            .hint("`aedile run --tasks FILE` runs it (docs/tasks-file.md)"));
    }
    let title = one_line(prompt.trim().lines().next().unwrap_or_default(), 100);
    Ok(TaskSpec {
        key: TaskKey::new(KEY).map_err(|error| CliError::failure(error.to_string()))?,
        title,
        prompt,
        read: args.read.clone(),
        scope: if args.scope.is_empty() { vec!["**".to_owned()] } else { args.scope.clone() },
        after: Vec::new(),
        gates: Vec::new(),
        role: "builder".to_owned(),
        runtime: args.runtime.clone(),
        model,
        budget_usd: None,
        script: None,
    })
}

/// Says what begins, what the agent does not see and what will not be tested.
fn tell(project: &Project, rules: &ProjectRules, spec: &TaskSpec, place: &Place, out: Output) -> Result<(), CliError> {
    let unseen = project.unseen()?.shown();
    let behind = place.base != *project.head();
    if out.json {
        out.object(&json!({ "start": {
            "base": place.base, "runtime": spec.runtime, "model": spec.model, "scope": spec.scope, "gates": rules.gates.len(),
            "unseen": unseen.iter().take(100).collect::<Vec<_>>(), "unseen_count": unseen.len(),
        } }));
        return Ok(());
    }
    out.line(format!("{} with {} works from {}; it may change {}", spec.runtime, spec.model, short(&place.base), spec.scope.join(", ")));
    if behind {
        out.warn(format!("note: {} is ahead of your checkout; the agent works on top of it", branch(&place.reference)));
    }
    if !unseen.is_empty() {
        let more = if unseen.len() > NAMED_MAX { format!(" and {} more", unseen.len() - NAMED_MAX) } else { String::new() };
        let named = unseen.iter().take(NAMED_MAX).map(String::as_str).collect::<Vec<_>>().join(", ");
        out.warn(format!("note: the agent does not see what you have not committed: {named}{more}"));
    }
    if rules.gates.is_empty() {
        out.warn("note: no gate is configured, so nothing will be tested. `aedile init` proposes gates");
    }
    Ok(())
}
