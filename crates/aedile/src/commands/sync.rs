//! `aedile sync`.

use aedile_core::RefName;
use clap::Args;
use serde_json::json;

use crate::error::{CliError, CliResult};
use crate::output::Output;
use crate::{exit, wiring};

/// Bring landed changes to the checkout you stand in: git merge --ff-only, nothing else
#[derive(Debug, Args)]
pub struct SyncArgs {
    /// The target branch; otherwise the one that is checked out here
    #[arg(value_name = "TARGET")]
    target: Option<String>,
}

/// Runs `aedile sync`.
pub fn cmd_sync(args: &SyncArgs, out: Output) -> CliResult {
    let here = std::env::current_dir()?;
    let project = wiring::discover(&here)?;
    let target = match &args.target {
        Some(name) => RefName::new(format!("refs/heads/{name}")).map_err(|error| CliError::usage(error.to_string()))?,
        None => project
            .branch()
            .cloned()
            .ok_or_else(|| CliError::usage("no branch is checked out here").hint("`git switch BRANCH` first, or name the target"))?,
    };
    let words = project.sync(&target)?;
    out.object_or(&json!({ "target": target, "git": words }), || vec![words.clone()]);
    Ok(exit::OK)
}
