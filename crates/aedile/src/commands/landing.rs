//! `aedile landing`.

mod simulate;

use aedile_core::Clock;
use aedile_core::machine::ChangeState;
use clap::{Args, Subcommand};

use crate::clock::{SystemClock, ago, moment};
use crate::error::{CliError, CliResult};
use crate::narrate::{branch, returned, short};
use crate::output::{Output, one_line, table};
use crate::picture::Picture;
use crate::terminal::printable;
use crate::{exit, names, state};
use aedile_core::store::Store;

/// Show the landing queue and the evidence of its decisions
#[derive(Debug, Args)]
pub struct LandingArgs {
    #[command(subcommand)]
    command: Option<LandingCommand>,
    /// The run (its id or the eight characters that other commands print); otherwise the last one
    #[arg(long, value_name = "RUN", global = true)]
    run: Option<String>,
}

#[derive(Debug, Subcommand)]
enum LandingCommand {
    /// List changes: those in the queue, landed and returned
    List,
    /// Print why a task's last change came back
    Evidence {
        /// The task's id in the tasks file
        task: String,
    },
    /// Print where each contested region of a task's last change went, and by which rule
    Receipt {
        /// The task's id in the tasks file
        task: String,
    },
    /// Let what the import filter asks about pass, this once
    ///
    /// A change that touches what makes programs run code or judges changes (hooks, settings of tools and agents, CI, [protect] paths) waits for
    /// you. This approves the paths that it names, with their rules, for exactly the commit that it holds: another one is asked about again.
    /// `aedile diff TASK` shows it; without --rule and PATH everything that is asked about is approved.
    Approve {
        /// The task's id in the tasks file
        task: String,
        /// Only these paths
        path: Vec<String>,
        /// Only what this rule asks about; may be repeated
        #[arg(long, value_name = "RULE")]
        rule: Vec<String>,
    },
    /// Show what the queue's scheduler would need for so many changes
    ///
    /// The scheduler works on a simulated clock on which one run of the gates takes one unit, through 1,000 worlds that are the same each time; means are
    /// printed. Gates that changes pass before they wait are not counted; second looks at red changes are. No project is needed.
    Simulate(simulate::SimulateArgs),
}

/// Runs `aedile landing`.
pub fn cmd_landing(args: &LandingArgs, out: Output) -> CliResult {
    if let Some(LandingCommand::Simulate(args)) = &args.command {
        return simulate::cmd_simulate(args, out);
    }
    let Some((store, run)) = state::last_run(args.run.as_deref())? else {
        if let Some(LandingCommand::Evidence { .. } | LandingCommand::Approve { .. } | LandingCommand::Receipt { .. }) = &args.command {
            return Err(state::nothing_yet());
        }
        let nothing = serde_json::json!({ "run": null, "landing_ref": null, "tip": null, "changes": [] });
        out.object_or(&nothing, || vec![state::NOTHING_YET.to_owned()]);
        return Ok(exit::OK);
    };
    match &args.command {
        Some(LandingCommand::Approve { task, path, rule }) => approve(&store, args.run.as_deref(), task, (path, rule), out)?,
        Some(LandingCommand::Receipt { task }) => receipt(&store, args.run.as_deref(), task, out)?,
        None | Some(LandingCommand::List | LandingCommand::Simulate(_)) => list(&Picture::of(&store, run)?, out),
        Some(LandingCommand::Evidence { task }) => {
            let (_, found) = names::task(&store, args.run.as_deref(), task)?;
            let Some(blob) = &found.evidence else {
                return Err(CliError::failure(format!("no change of task {task} came back")));
            };
            let bytes = store.get_blob(blob)?.ok_or_else(|| CliError::failure(format!("the evidence {blob} is no longer kept")))?;
            let text = String::from_utf8_lossy(&bytes);
            if out.json {
                out.object(&serde_json::json!({ "task": task, "evidence": text }));
            } else {
                out.line(printable(&bytes));
            }
        }
    }
    Ok(exit::OK)
}

/// Tells how a change was merged. git's own merge leaves nothing to tell.
fn receipt(store: &dyn Store, run: Option<&str>, task: &str, out: Output) -> Result<(), CliError> {
    let (run, found) = names::task(store, run, task)?;
    let (_, change) = names::change(store, Some(&run.run.to_string()), found.spec.key.as_str())?;
    let Some(blob) = &change.receipt else {
        out.object_or(&serde_json::json!({ "task": task, "change": change.change, "receipt": null }), || {
            vec![format!(
                "the change of {task} had nothing contested in its last merge with the target: git's own merge stands, or none was made"
            )]
        });
        return Ok(());
    };
    let bytes = store.get_blob(blob)?.ok_or_else(|| CliError::failure(format!("the receipt {blob} is no longer kept")))?;
    let value: serde_json::Value =
        serde_json::from_slice(&bytes).map_err(|error| CliError::failure(format!("the receipt {blob} cannot be read: {error}")))?;
    out.object_or(&serde_json::json!({ "task": task, "change": change.change, "receipt": value }), || {
        told(task, &change.state.to_string(), &value)
    });
    Ok(())
}

/// A receipt in lines.
fn told(task: &str, state: &str, receipt: &serde_json::Value) -> Vec<String> {
    let mut lines = vec![format!("{task} ({state}): merged by the {} tier", receipt["tier"].as_str().unwrap_or("?"))];
    for file in receipt["files"].as_array().into_iter().flatten() {
        let taken = &file["taken"];
        let path = printable(file["path"].as_str().unwrap_or("?").as_bytes());
        lines.push(format!(
            "{path}: {} places from the target, {} from the change, {} from both alike",
            taken["ours"], taken["theirs"], taken["both"]
        ));
        for region in file["regions"].as_array().into_iter().flatten() {
            let of = |side: &str| match (region[side]["start"].as_u64(), region[side]["end"].as_u64()) {
                (Some(start), Some(end)) if end > start + 1 => format!("lines {start}-{}", end - 1),
                (Some(start), Some(end)) if end > start => format!("line {start}"),
                (Some(start), _) => format!("nothing before line {start}"),
                _ => "?".to_owned(),
            };
            let by = region["by"].as_str().unwrap_or("?");
            lines.push(format!(
                "  {by}: {} of the target, {} of the change, {} of what both began with",
                of("ours"),
                of("theirs"),
                of("base")
            ));
        }
    }
    lines
}

fn approve(store: &dyn Store, run: Option<&str>, task: &str, (paths, rules): (&[String], &[String]), out: Output) -> Result<(), CliError> {
    let (_, found) = names::task(store, run, task)?;
    let wanted = |line: &str| {
        let Some((path, rule)) = line.strip_suffix(']').and_then(|line| line.rsplit_once(" [")) else {
            return paths.is_empty() && rules.is_empty();
        };
        (paths.is_empty() || paths.iter().any(|known| known == path)) && (rules.is_empty() || rules.iter().any(|known| known == rule))
    };
    let (approved, left) = aedile_fleet::approve_import(store, found.run, found.spec.key.as_str(), wanted)?;
    out.object_or(&serde_json::json!({ "task": task, "approved": approved, "left": left }), || {
        let mut lines: Vec<String> = approved.iter().map(|line| format!("approved for this commit: {}", one_line(line, 300))).collect();
        lines.extend(left.iter().map(|line| format!("not approved, and asked about again: {}", one_line(line, 300))));
        lines.push("a worker that runs looks at the change again; otherwise `aedile run --resume` does".to_owned());
        lines
    });
    Ok(())
}

fn list(picture: &Picture, out: Output) {
    if out.json {
        let rows: Vec<_> = picture
            .changes
            .iter()
            .map(|change| {
                serde_json::json!({
                    "change": change.change, "task": picture.key(change.task), "agent": change.agent, "state": change.state, "since": moment(change.since),
                    "commit": change.commit, "landed": change.landed, "undone": change.undone, "returned": change.returned, "gates": change.gated.as_ref().map(|gated| &gated.gates),
                })
            })
            .collect();
        out.object(
            &serde_json::json!({ "run": picture.run.run, "landing_ref": picture.run.landing_ref, "tip": picture.run.tip, "changes": rows }),
        );
        return;
    }
    let now = SystemClock.now();
    out.line(format!("lands on {}, now at {}", branch(&picture.run.landing_ref), short(&picture.run.tip)));
    let mut rows = vec![["task", "change", "agent", "state", "since", ""].map(str::to_owned).to_vec()];
    for change in &picture.changes {
        let note = match (change.state, &change.returned, &change.landed) {
            (ChangeState::Landed, _, Some(commit)) => match &change.undone {
                Some(by) => format!("as {}, taken back by {}", short(commit), short(by)),
                None => format!("as {}", short(commit)),
            },
            (_, Some(reason), _) => returned(reason),
            _ => one_line(&change.summary, 60),
        };
        rows.push(vec![
            picture.key(change.task).to_owned(),
            change.change.short(),
            change.agent.to_string(),
            change.state.to_string(),
            ago(now.since(change.since)),
            note,
        ]);
    }
    table(&rows).into_iter().for_each(|row| out.line(row));
}
