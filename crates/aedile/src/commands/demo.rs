//! `aedile demo`.

use std::path::{Path, PathBuf};

use aedile_core::store::Store;
use aedile_fleet::{RunPlan, open_run};
use aedile_git::Git;
use clap::Args;

use crate::clock::{OsEntropy, SystemClock};
use crate::config::file::{self, ConfigFile};
use crate::demo::{project, script};
use crate::error::{CliError, CliResult};
use crate::output::Output;
use crate::planning::{Desk, Way};
use crate::{env, wiring, worker};

/// Show the whole way without a key: scripted agents extend a sample repository, in real boxes, through real gates
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// How many agents, each with a task of its own
    #[arg(long, value_name = "N", default_value_t = 5)]
    agents: usize,
    /// Keep the repository in this directory, which must be new or empty
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
}

const GOAL: &str = "Grow abacus, a calculator for the shell";

/// Runs `aedile demo`. Its state is temporary: nothing is left but what `--keep` names.
pub fn cmd_demo(args: &DemoArgs, out: Output) -> CliResult {
    if args.agents == 0 || args.agents > script::AGENTS_MAX {
        return Err(CliError::usage(format!("the demo has work for 1 to {} agents, not for {}", script::AGENTS_MAX, args.agents)));
    }
    let scratch = tempfile::Builder::new().prefix("aedile-demo-").tempdir()?;
    let root = match &args.keep {
        Some(dir) => prepare(dir)?,
        None => scratch.path().join("abacus"),
    };
    out.say("The agents of this demo are scripted: a model plays written turns. Tools, boxes, gates and landings are real.");
    out.say(format!("A sample project is made in {}.\n", root.display()));
    for (path, text) in project::files() {
        write(&root.join(path), &text)?;
    }
    let git = Git::find(&env::get(env::PATH).unwrap_or_default())?;
    git.create_repository(&root, "main", "Abacus, with its first command")?;
    let outcome = run(args.agents, &root, &scratch.path().join("state"), out);
    let outcome = match (outcome, &args.keep) {
        (Ok(outcome), Some(_)) => {
            // The sample repository is ours, so its checkout may follow.
            let project = wiring::discover(&root)?;
            if let (Some(branch), true) = (project.branch(), outcome.report.landed > 0) {
                project.sync(branch)?;
            }
            Ok(outcome)
        }
        (outcome, _) => outcome,
    }?;
    out.say("");
    outcome.lines().into_iter().for_each(|line| out.say(line));
    match &args.keep {
        Some(dir) => out.say(format!("look at it: git -C {} log --stat", dir.display())),
        None => out.say("everything temporary is removed; `aedile demo --keep DIR` keeps the repository"),
    }
    scratch.close()?;
    if out.json {
        out.object(&outcome.to_json());
    }
    Ok(outcome.code())
}

fn run(agents: usize, root: &Path, state: &Path, out: Output) -> Result<worker::Outcome, CliError> {
    let project = wiring::discover(root)?;
    let branch = project.branch().cloned().ok_or_else(|| CliError::failure("the sample repository has no branch"))?;
    let point = project.landing_point(&branch)?;
    let text = project.file_at(&point.base, file::NAME)?.unwrap_or_default();
    let config = ConfigFile::parse(&String::from_utf8_lossy(&text), file::NAME)?;
    let rules = config.rules(file::NAME)?;
    let tasks = script::tasks(agents)?;
    let desk = Desk { way: Way::Nobody, config: &config, out };
    worker::work(state, project, &desk, |workshop| {
        let slots = u32::try_from(agents).unwrap_or(u32::MAX);
        let plan = RunPlan {
            project: workshop.project_id,
            root: root.to_owned(),
            goal: GOAL.to_owned(),
            target: "main".to_owned(),
            landing_ref: point.reference,
            base: point.base,
            slots,
            rules,
            tasks,
        };
        let shown = workshop.store.last()?;
        Ok((open_run(&*workshop.store, &SystemClock, &OsEntropy, &plan)?, shown))
    })
}

/// Checks that the directory is new or empty, and makes it.
fn prepare(dir: &Path) -> Result<PathBuf, CliError> {
    let failed = |error: std::io::Error| CliError::usage(format!("cannot use {}: {error}", dir.display()));
    std::fs::create_dir_all(dir).map_err(failed)?;
    if std::fs::read_dir(dir).map_err(failed)?.next().is_some() {
        return Err(
            CliError::usage(format!("{} is not empty; nothing was written", dir.display())).hint("name a directory that is new or empty")
        );
    }
    dir.canonicalize().map_err(failed)
}

fn write(path: &Path, text: &str) -> Result<(), CliError> {
    let failed = |error: std::io::Error| CliError::failure(format!("cannot write {}: {error}", path.display()));
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir).map_err(failed)?;
    }
    std::fs::write(path, text).map_err(failed)
}
