//! `aedile secret rm`.

use aedile_gateway::safe::Safe;
use clap::Args;
use serde_json::json;

use crate::error::{CliError, CliResult};
use crate::output::Output;
use crate::{exit, keys, names};

#[derive(Debug, Args)]
pub struct RmArgs {
    /// Its name
    name: String,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

/// Runs `aedile secret rm`.
pub fn cmd_rm(args: &RmArgs, out: Output) -> CliResult {
    let places = keys::places()?;
    known(&places, &args.name)?;
    if !args.yes {
        if !out.can_ask() {
            return Err(CliError::usage(format!("{} would be gone for ever; nobody can be asked here", args.name)).hint("add --yes"));
        }
        if !out.ask(&format!("Forget {} for ever?", args.name)) {
            out.say("nothing was changed");
            return Ok(exit::OK);
        }
    }
    let removed = Safe::change(&places, |safe| Ok::<_, CliError>(safe.remove(&args.name)))?;
    out.object_or(&json!({ "name": args.name, "removed": removed }), || {
        vec![format!("forgot {}; workers that run hold it until they end", args.name)]
    });
    Ok(exit::OK)
}

/// Whether the vault holds the name; the error says which one may be meant.
pub fn known(places: &aedile_gateway::safe::Places, name: &str) -> Result<Safe, CliError> {
    let safe = Safe::open(places)?;
    let all: Vec<String> = safe.iter().flat_map(Safe::records).map(|record| record.name.clone()).collect();
    match safe {
        Some(safe) if safe.holds(name) => Ok(safe),
        _ => Err(names::unknown("secret", name, "the vault", &all, &all)),
    }
}
