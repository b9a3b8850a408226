//! `aedile secret list`.

use aedile_core::{Clock, Timestamp};
use aedile_gateway::safe::Safe;
use clap::Args;
use serde_json::json;

use super::binding::words;
use crate::clock::{SystemClock, ago};
use crate::config::file::ConfigFile;
use crate::config::person::PersonFile;
use crate::error::CliResult;
use crate::output::{Output, table};
use crate::{exit, keys};

#[derive(Debug, Args)]
pub struct ListArgs {}

/// Runs `aedile secret list`.
pub fn cmd_list(_args: &ListArgs, out: Output) -> CliResult {
    let config = ConfigFile { person: PersonFile::load()?, ..ConfigFile::default() };
    let safe = Safe::open(&keys::places()?)?;
    let records = safe.as_ref().map_or(&[][..], Safe::records);
    let goes = |record: &aedile_gateway::safe::Record| {
        if keys::is_provider(&config, &record.name) { "the provider's key".to_owned() } else { words(&record.binding) }
    };
    let values: Vec<_> = records
        .iter()
        .map(|record| {
            json!({
                "name": record.name, "version": record.version, "source": record.kind, "set_at": record.set_at,
                "goes": goes(record), "binding": record.binding,
            })
        })
        .collect();
    out.object_or(&json!({ "secrets": values }), || {
        if records.is_empty() {
            return vec!["the vault is empty; `aedile secret set NAME` keeps a secret".to_owned()];
        }
        let head = ["NAME", "VERSION", "FROM", "SET", "GOES"].map(str::to_owned).to_vec();
        let row = |record: &aedile_gateway::safe::Record| {
            vec![
                record.name.clone(),
                record.version.to_string(),
                record.kind.clone(),
                format!("{} ago", ago(SystemClock.now().since(Timestamp(record.set_at)))),
                goes(record),
            ]
        };
        table(&std::iter::once(head).chain(records.iter().map(row)).collect::<Vec<_>>())
    });
    Ok(exit::OK)
}
