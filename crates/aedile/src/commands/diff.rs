//! `aedile diff`.

use std::io::IsTerminal;

use aedile_core::bounded::few;
use aedile_core::machine::ChangeState;
use aedile_core::store::load;
use aedile_core::view::{ChangeView, RunView, TaskView};
use aedile_core::{CommitId, Redactor};
use aedile_git::{AddedSecret, DiffForm, Hub};
use clap::Args;
use serde_json::{Value, json};

use crate::error::{CliError, CliResult};
use crate::keys::PersonsKeys;
use crate::narrate::{branch, short};
use crate::output::Output;
use crate::terminal::printable;
use crate::{exit, names, state, terminal, wiring};

/// Show a change: as it was submitted against its base, and as it landed
#[derive(Debug, Args)]
pub struct DiffArgs {
    /// A task (its last change), a change, or a landed commit
    #[arg(value_name = "TASK|CHANGE")]
    change: String,
    /// A line for each file and a sum
    #[arg(long)]
    stat: bool,
    /// The exact bytes, for `git apply`: what landed, else what was submitted; not on a terminal
    #[arg(long, conflicts_with = "stat")]
    raw: bool,
    /// Also when it did not land and holds what looks like secrets
    #[arg(long, requires = "raw")]
    despite_secrets: bool,
    /// The run (its id or the eight characters that other commands print); otherwise the last one that has it
    #[arg(long, value_name = "RUN")]
    run: Option<String>,
}

/// Two commits, and how their difference is shown.
pub struct Sides {
    /// Before.
    pub from: CommitId,
    /// After.
    pub to: CommitId,
    /// Only counts.
    pub stat: bool,
    /// The exact bytes.
    pub raw: bool,
    /// The exact bytes also when they hold secrets.
    pub despite_secrets: bool,
}

/// Runs `aedile diff`.
pub fn cmd_diff(args: &DiffArgs, out: Output) -> CliResult {
    let store = state::open_existing()?.ok_or_else(state::nothing_yet)?;
    let (run, change) = names::change(&store, args.run.as_deref(), &args.change)?;
    let task: Option<TaskView> = load(&store, &change.task.to_string())?;
    let key = task.map_or_else(|| "?".to_owned(), |task| task.spec.key.to_string());
    let hub = wiring::hub(&run)?.ok_or_else(|| CliError::failure("nothing of this project is kept in the state directory"))?;
    let sides = |(from, to)| Sides { from, to, stat: args.stat, raw: args.raw, despite_secrets: args.despite_secrets };
    // What landed passed the search for secrets, or a person let it.
    let open = |sides: Sides| Sides { despite_secrets: true, ..sides };
    let (submitted, landed) = (submitted(&hub, &change)?.map(sides), landed(&hub, &change)?.map(sides).map(open));
    let Some(shown) = landed.as_ref().or(submitted.as_ref()) else { return Err(not_there(&change, &key)) };
    if args.raw {
        return show(&hub, shown, Value::Null, out).map(|()| exit::OK);
    }
    let heading = heading(&run, &change, &key);
    if out.json {
        let side = |side: &Option<Sides>| side.as_ref().map(|side| object(&hub, side)).transpose();
        out.object(&json!({
            "run": run.run, "task": key, "change": change.change, "agent": change.agent, "state": change.state,
            "submitted": side(&submitted)?, "landed": side(&landed)?,
        }));
        return Ok(exit::OK);
    }
    out.line(heading);
    match (&submitted, &landed) {
        (Some(before), Some(after)) if !same(&hub, before, after)? => {
            out.line(format!("as submitted, against {}:", short(&before.from)));
            print(&hub, before, out)?;
            out.line(format!("\nas landed, on {}:", short(&after.from)));
            print(&hub, after, out)?;
        }
        _ => print(&hub, shown, out)?,
    }
    Ok(exit::OK)
}

fn heading(run: &RunView, change: &ChangeView, key: &str) -> String {
    let where_it_is = match (&change.landed, change.state) {
        (Some(commit), _) => format!("landed on {} as {}", branch(&run.landing_ref), short(commit)),
        (None, ChangeState::Returned) => "went back".to_owned(),
        (None, state) => format!("{state}, not landed"),
    };
    format!("change {} of {key} by {} (run {}): {where_it_is}", change.change.short(), change.agent, run.run.short())
}

/// Base and commit as they were submitted, while the hub has them.
fn submitted(hub: &Hub, change: &ChangeView) -> Result<Option<(CommitId, CommitId)>, CliError> {
    let there = hub.resolve(change.base.as_str())?.is_some() && hub.resolve(change.commit.as_str())?.is_some();
    Ok(there.then(|| (change.base.clone(), change.commit.clone())))
}

/// The landed commit and the one below it.
fn landed(hub: &Hub, change: &ChangeView) -> Result<Option<(CommitId, CommitId)>, CliError> {
    let Some(commit) = &change.landed else { return Ok(None) };
    if hub.resolve(commit.as_str())?.is_none() {
        return Ok(None);
    }
    let parent = hub.commit_info(commit)?.parents.into_iter().next();
    Ok(parent.map(|parent| (parent, commit.clone())))
}

fn not_there(change: &ChangeView, key: &str) -> CliError {
    match change.state {
        ChangeState::Submitted => CliError::failure(format!("the change of {key} is still in its workspace; the landing imports it next"))
            .hint(format!("`aedile snapshot diff {key}` shows the workspace after the last turn")),
        _ => CliError::failure(format!("the commits of the change of {key} are no longer kept"))
            .hint("`aedile clean` removes what ended runs submitted after `[keep] days`"),
    }
}

/// Whether both differ in the same lines, wherever these stand.
fn same(hub: &Hub, a: &Sides, b: &Sides) -> Result<bool, CliError> {
    let lines = |side: &Sides| -> Result<Vec<Vec<u8>>, CliError> {
        let text = hub.diff_text(&side.from, &side.to, DiffForm::Patch)?;
        let placed = |line: &&[u8]| line.starts_with(b"index ") || line.starts_with(b"@@ ");
        Ok(text.split(|byte| *byte == b'\n').filter(|line| !placed(line)).map(<[u8]>::to_vec).collect())
    };
    Ok(lines(a)? == lines(b)?)
}

fn text(hub: &Hub, sides: &Sides) -> Result<Vec<u8>, CliError> {
    let form = match (sides.raw, sides.stat) {
        (true, _) => DiffForm::Exact,
        (_, true) => DiffForm::Stat,
        _ => DiffForm::Patch,
    };
    let text = hub.diff_text(&sides.from, &sides.to, form)?;
    if sides.raw { Ok(text) } else { Ok(PersonsKeys::default().redact_bytes(&text).unwrap_or(text)) }
}

/// Refuses to hand out what holds secrets that were not there before.
///
/// # Errors
/// The paths with their rules, and how a person lets it pass all the same.
pub fn bar_secrets(hub: &Hub, (from, to): (&CommitId, &CommitId), what: &str) -> Result<(), CliError> {
    let mut found = hub.secrets_added(&PersonsKeys::default(), from, to)?;
    found.retain(AddedSecret::is_found);
    if found.is_empty() {
        return Ok(());
    }
    let shown = |secret: &AddedSecret| format!("{} [{}]", printable(secret.path.as_bytes()), secret.rule);
    let lines = few(found.iter().map(shown));
    Err(CliError::new(exit::DENIED, format!("{what} holds what looks like secrets, so nothing was written: {}", lines.join(", ")))
        .hint("`--despite-secrets` writes it all the same; a value that an agent has seen is best replaced (`aedile secret rotate NAME`)"))
}

fn print(hub: &Hub, sides: &Sides, out: Output) -> Result<(), CliError> {
    let shown = terminal::difference(&text(hub, sides)?, !sides.stat && terminal::wants_colour());
    if shown.is_empty() {
        out.line(format!("no difference between {} and {}", short(&sides.from), short(&sides.to)));
    } else {
        out.line(shown.trim_end_matches('\n'));
    }
    Ok(())
}

/// A difference for `--json`: counts for each file, and the text unless only counts are wanted.
fn object(hub: &Hub, sides: &Sides) -> Result<Value, CliError> {
    let files: Vec<Value> = (hub.diff_stat(&sides.from, &sides.to)?.iter())
        .map(|file| json!({ "path": file.path.to_string_lossy(), "added": file.added, "removed": file.removed }))
        .collect();
    let diff = if sides.stat { None } else { Some(String::from_utf8_lossy(&text(hub, sides)?).into_owned()) };
    Ok(json!({ "from": sides.from, "to": sides.to, "files": files, "diff": diff }))
}

/// Shows the difference of two commits; `of` says in `--json` what it is the difference of.
pub fn show(hub: &Hub, sides: &Sides, of: Value, out: Output) -> Result<(), CliError> {
    if sides.raw {
        if std::io::stdout().is_terminal() {
            return Err(CliError::usage("--raw prints what agents wrote as it is, which could steer your terminal")
                .hint("send it to a file or to `git apply`"));
        }
        if !sides.despite_secrets {
            bar_secrets(hub, (&sides.from, &sides.to), "the difference")?;
        }
        out.bytes(&text(hub, sides)?);
        return Ok(());
    }
    if !out.json {
        return print(hub, sides, out);
    }
    let mut value = object(hub, sides)?;
    if let (Some(value), Value::Object(of)) = (value.as_object_mut(), of) {
        value.extend(of);
    }
    out.object(&value);
    Ok(())
}
