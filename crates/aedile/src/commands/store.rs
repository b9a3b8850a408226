//! `aedile store`.

use clap::{Args, Subcommand};
use serde_json::json;

use aedile_core::store::Store;

use crate::error::CliResult;
use crate::output::Output;
use crate::{disk, exit, state};

/// Check, rebuild and measure the store
#[derive(Debug, Args)]
pub struct StoreArgs {
    #[command(subcommand)]
    command: StoreCommand,
}

#[derive(Debug, Subcommand)]
enum StoreCommand {
    /// Look for damage: the database's pages, gaps in the log, blobs, views against the log
    Check,
    /// Make all views anew from the log
    Rebuild,
    /// Show how big it is
    Stats,
}

/// Runs `aedile store`.
pub fn cmd_store(args: &StoreArgs, out: Output) -> CliResult {
    let Some(store) = state::open_existing()? else {
        return Err(state::nothing_yet());
    };
    match args.command {
        StoreCommand::Check => {
            let report = store.check()?;
            let whole = report.problems.is_empty();
            let value = json!({
                "whole": whole, "events": report.events, "documents": report.documents, "blobs": report.blobs, "blobs_gone": report.blobs_gone, "problems": report.problems,
            });
            out.object_or(&value, || {
                let mut lines: Vec<String> = report.problems.iter().map(|problem| format!("problem: {problem}")).collect();
                lines.push(format!(
                    "{} events, {} documents, {} blobs: {}",
                    report.events,
                    report.documents,
                    report.blobs,
                    if whole { "whole" } else { "damaged" }
                ));
                if !whole {
                    lines.push(
                        "views are mended by `aedile store rebuild`; for a damaged log, restore `aedile.db` from a backup".to_owned(),
                    );
                }
                lines
            });
            Ok(if whole { exit::OK } else { exit::STATE })
        }
        StoreCommand::Rebuild => {
            let events = store.rebuild()?;
            out.object_or(&json!({ "events": events }), || vec![format!("views made anew from {events} events")]);
            Ok(exit::OK)
        }
        StoreCommand::Stats => {
            let stats = store.stats()?;
            let value = json!({ "events": stats.events, "database_bytes": stats.database_bytes, "blobs": stats.blobs, "blob_bytes": stats.blob_bytes });
            out.object_or(&value, || {
                vec![format!(
                    "{} events in {}, {} blobs in {}",
                    stats.events,
                    disk::bytes(stats.database_bytes),
                    stats.blobs,
                    disk::bytes(stats.blob_bytes)
                )]
            });
            Ok(exit::OK)
        }
    }
}
