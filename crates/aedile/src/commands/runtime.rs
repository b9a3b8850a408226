//! `aedile runtime`.

use clap::{Args, Subcommand};
use serde_json::json;

use crate::commands::run::checkout_config;
use crate::config::file::ConfigFile;
use crate::config::person::PersonFile;
use crate::error::{CliError, CliResult};
use crate::output::{Output, table};
use crate::runtimes::{Catalogue, Entry, Found};
use crate::{exit, selftest};

/// Show and try the runtimes that tasks may name
#[derive(Debug, Args)]
pub struct RuntimeArgs {
    #[command(subcommand)]
    command: RuntimeCommand,
}

#[derive(Debug, Subcommand)]
enum RuntimeCommand {
    /// List the runtimes: our own, Claude Code, and those of aedile.toml
    List,
    /// Try a runtime in a box against a model of written turns: found, version, starts, runs a tool, submits. Costs nothing
    Test {
        /// `aedile`, `claude`, or the name of one in aedile.toml
        name: String,
    },
}

/// Runs `aedile runtime`.
pub fn cmd_runtime(args: &RuntimeArgs, out: Output) -> CliResult {
    let here = std::env::current_dir()?;
    // Outside a repository the built-in ones are there all the same.
    let root = here.ancestors().find(|dir| dir.join(crate::config::file::NAME).is_file());
    let config = root.map_or_else(|| Ok(ConfigFile { person: PersonFile::load()?, ..ConfigFile::default() }), checkout_config)?;
    let catalogue = Catalogue::of(&config);
    match &args.command {
        RuntimeCommand::List => {
            list(&catalogue, out);
            Ok(exit::OK)
        }
        RuntimeCommand::Test { name } => {
            let entry = catalogue.get(name).map_err(|error| CliError { code: exit::USAGE, ..error })?;
            test(&catalogue, entry, out)
        }
    }
}

fn place(entry: &Entry) -> (bool, String) {
    match entry.found() {
        Found::Own => (true, "this program".to_owned()),
        Found::At(place) => (true, place.display().to_string()),
        Found::Missing => (false, "not on the PATH".to_owned()),
    }
}

fn list(catalogue: &Catalogue, out: Output) {
    let rows: Vec<_> = catalogue.entries().iter().map(|entry| (entry, place(entry))).collect();
    let objects: Vec<_> = rows
        .iter()
        .map(|(entry, (found, place))| json!({ "runtime": entry.name, "kind": entry.kind(), "installed": found, "place": place }))
        .collect();
    out.object_or(&json!({ "runtimes": objects }), || {
        let head = ["runtime", "what", "where"].map(str::to_owned).to_vec();
        let rows = rows.iter().map(|(entry, (_, place))| vec![entry.name.clone(), entry.kind().to_owned(), place.clone()]);
        table(&std::iter::once(head).chain(rows).collect::<Vec<_>>())
    });
}

fn test(catalogue: &Catalogue, entry: &Entry, out: Output) -> CliResult {
    let checks = selftest::run(catalogue, entry)?;
    let well = checks.iter().all(|check| check.good);
    let next = checks.iter().find_map(|check| check.next.clone());
    let rows: Vec<_> = checks.iter().map(|check| json!({ "check": check.what, "good": check.good, "words": check.words })).collect();
    out.object_or(&json!({ "runtime": entry.name, "well": well, "checks": rows, "next": next }), || {
        let mark = |good: bool| if good { "ok    " } else { "FAILED" };
        let lines = checks.iter().map(|check| format!("{}  {}: {}", mark(check.good), check.what, check.words));
        let next = match (&next, well) {
            (Some(next), _) => format!("next: {next}"),
            (None, true) => format!("`aedile run --tasks FILE --runtime {}` uses it", entry.name),
            (None, false) => {
                format!("the log file in the state directory says more; `aedile runtime test {} --json` for programs", entry.name)
            }
        };
        lines.chain([next]).collect()
    });
    Ok(if well { exit::OK } else { exit::FAILURE })
}
