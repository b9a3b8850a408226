//! `aedile secret rotate`.

use aedile_core::Clock;
use aedile_gateway::safe::{Places, Safe, Source};
use clap::Args;
use serde_json::json;

use super::{given, rm};
use crate::clock::SystemClock;
use crate::error::{CliError, CliResult};
use crate::output::Output;
use crate::{exit, keys};

#[derive(Debug, Args)]
pub struct RotateArgs {
    /// The secret that gets another value
    #[arg(required_unless_present = "master_key")]
    name: Option<String>,
    /// Seal the whole vault under a new key instead
    #[arg(long, conflicts_with = "name")]
    master_key: bool,
}

/// Runs `aedile secret rotate`.
pub fn cmd_rotate(args: &RotateArgs, out: Output) -> CliResult {
    let places = keys::places()?;
    let Some(name) = &args.name else {
        if Safe::open(&places)?.is_none() {
            return Err(CliError::usage("the vault is empty, so there is nothing to be sealed anew"));
        }
        let count = Safe::change(&places, |safe| safe.rotate_key().map(|()| safe.records().len()))?;
        out.object_or(&json!({ "sealed": count }), || {
            vec![format!("{count} secrets are sealed under a new key; the old one opens nothing")]
        });
        return Ok(exit::OK);
    };
    let safe = rm::known(&places, name)?;
    let before = match safe.source(name)? {
        Source::Value(value) => Some(value),
        Source::OAuth(_) => return rotate_grant(&places, name, out),
        _ => None,
    };
    let value = given::value(name, out)?;
    if before.is_some_and(|before| given::same(&before, &value)) {
        return Err(CliError::usage(format!("{name} has this value already; nothing was changed")));
    }
    let version = Safe::change(&places, |safe| {
        let record = safe.records().iter().find(|record| record.name == *name);
        let gone = || CliError::failure(format!("{name} was removed meanwhile"));
        let binding = record.map(|record| record.binding.clone()).ok_or_else(gone)?;
        safe.put(name, binding, &Source::Value(value), SystemClock.now().0).map_err(CliError::from)
    })?;
    out.object_or(&json!({ "name": name, "version": version }), || {
        vec![format!("{name} has another value (version {version}); workers that run use the old one until they end")]
    });
    Ok(exit::OK)
}

/// Gives an OAuth grant another refresh token. What was got for the one before is used no more by workers that start from now on.
fn rotate_grant(places: &Places, name: &str, out: Output) -> CliResult {
    let (token, _) = given::tokens(name, false, out)?;
    let version = Safe::change(places, |safe| {
        let record = safe.records().iter().find(|record| record.name == *name);
        let gone = || CliError::failure(format!("{name} was removed or replaced meanwhile"));
        let binding = record.map(|record| record.binding.clone()).ok_or_else(gone)?;
        let Source::OAuth(grant) = safe.source(name)? else { return Err(gone()) };
        if given::same(&grant.refresh_token, &token) {
            return Err(CliError::usage(format!("{name} has this refresh token already; nothing was changed")));
        }
        let next = Source::OAuth(Box::new(grant.renewed(Some(token), None)));
        safe.put(name, binding, &next, SystemClock.now().0).map_err(CliError::from)
    })?;
    out.object_or(&json!({ "name": name, "version": version }), || {
        vec![format!("{name} has another refresh token (version {version}); workers that run take it when their access token ends")]
    });
    Ok(exit::OK)
}
