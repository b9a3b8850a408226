//! `aedile secret list`.

use aedile_core::{Clock, Timestamp};
use aedile_gateway::safe::{Record, Safe, Source};
use clap::Args;
use serde_json::json;

use super::binding::words;
use crate::clock::{SystemClock, ago};
use crate::config::file::ConfigFile;
use crate::config::person::PersonFile;
use crate::error::{CliError, CliResult};
use crate::output::{Output, table};
use crate::{exit, keys};

#[derive(Debug, Args)]
pub struct ListArgs {}

/// Runs `aedile secret list`.
pub fn cmd_list(_args: &ListArgs, out: Output) -> CliResult {
    let config = ConfigFile { person: PersonFile::load()?, ..ConfigFile::default() };
    let safe = Safe::open(&keys::places()?)?;
    let records = safe.as_ref().map_or(&[][..], Safe::records);
    let goes = |record: &Record| {
        if keys::is_provider(&config, &record.name) { "the provider's key".to_owned() } else { words(&record.binding) }
    };
    let ends = ends(safe.as_ref())?;
    let end = |record: &Record| ends.iter().find(|(name, _)| *name == record.name).map(|(_, end)| *end);
    let values: Vec<_> = records
        .iter()
        .map(|record| {
            json!({
                "name": record.name, "version": record.version, "source": record.kind, "set_at": record.set_at,
                "goes": goes(record), "binding": record.binding,
                "expires_at": end(record).flatten(),
            })
        })
        .collect();
    out.object_or(&json!({ "secrets": values }), || {
        if records.is_empty() {
            return vec!["the vault is empty; `aedile secret set NAME` keeps a secret".to_owned()];
        }
        let head = ["NAME", "VERSION", "FROM", "SET", "GOES"].map(str::to_owned).to_vec();
        let row = |record: &Record| {
            vec![
                record.name.clone(),
                record.version.to_string(),
                from(record, end(record)),
                format!("{} ago", ago(SystemClock.now().since(Timestamp(record.set_at)))),
                goes(record),
            ]
        };
        table(&std::iter::once(head).chain(records.iter().map(row)).collect::<Vec<_>>())
    });
    Ok(exit::OK)
}

/// When the access tokens of OAuth grants end, by name; `None` where none was asked for yet.
fn ends(safe: Option<&Safe>) -> Result<Vec<(String, Option<Timestamp>)>, CliError> {
    let Some(safe) = safe else { return Ok(Vec::new()) };
    let mut ends = Vec::new();
    for record in safe.records().iter().filter(|record| record.kind == "oauth") {
        if let Source::OAuth(grant) = safe.source(&record.name)? {
            ends.push((record.name.clone(), grant.access.map(|access| access.until)));
        }
    }
    Ok(ends)
}

/// Where a secret comes from, and when its access token ends.
fn from(record: &Record, end: Option<Option<Timestamp>>) -> String {
    let now = SystemClock.now();
    match end {
        None => record.kind.clone(),
        Some(None) => format!("{}, no access token yet", record.kind),
        Some(Some(end)) if end <= now => format!("{}, ended {} ago", record.kind, ago(now.since(end))),
        Some(Some(end)) => format!("{}, ends in {}", record.kind, ago(end.since(now))),
    }
}
