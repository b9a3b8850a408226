//! `aedile secret canary`.

use aedile_core::Clock;
use aedile_gateway::safe::{Binding, Safe, Source};
use clap::Args;
use serde_json::json;

use super::given;
use crate::clock::{OsEntropy, SystemClock};
use crate::config::file::ConfigFile;
use crate::config::person::PersonFile;
use crate::error::{CliError, CliResult};
use crate::output::Output;
use crate::{exit, keys};

#[derive(Debug, Args)]
pub struct CanaryArgs {
    /// Its name: letters, digits, `_`, `-` and `.`
    name: String,
    /// The variable in which boxes find it; NAME in capital letters when absent
    #[arg(long, value_name = "VARIABLE")]
    env: Option<String>,
    /// A role of agents whose boxes hold it (builder, reviewer, ...); all when absent; may be repeated
    #[arg(long, value_name = "ROLE")]
    role: Vec<String>,
    /// Take the decoy from stdin or a prompt, for example one of a service that tells you when it is used
    #[arg(long)]
    own: bool,
}

/// Runs `aedile secret canary`.
pub fn cmd_canary(args: &CanaryArgs, out: Output) -> CliResult {
    let config = ConfigFile { person: PersonFile::load()?, ..ConfigFile::default() };
    if keys::is_provider(&config, &args.name) {
        return Err(CliError::usage(format!("{} is the name of a provider's key, and a canary opens nothing", args.name))
            .hint("give the canary another name"));
    }
    let places = keys::places()?;
    let real = |safe: &Safe| safe.records().iter().any(|record| record.name == args.name && !record.binding.canary);
    if Safe::open(&places)?.is_some_and(|safe| real(&safe)) {
        return Err(CliError::usage(format!("{} is a secret of yours, and a canary would take its place", args.name))
            .hint(format!("give the canary another name, or `aedile secret rm {}` first", args.name)));
    }
    let variable = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' };
    let env = args.env.clone().unwrap_or_else(|| args.name.chars().map(variable).collect());
    let decoy = if args.own { given::value(&args.name, out)? } else { aedile_gateway::decoy(&OsEntropy) };
    let binding = Binding { env: Some(env.clone()), roles: args.role.clone(), canary: true, ..Binding::default() };
    let source = Source::Value(decoy);
    let version = Safe::change(&places, |safe| safe.put(&args.name, binding, &source, SystemClock.now().0).map_err(CliError::from))?;
    out.object_or(&json!({ "name": args.name, "version": version, "env": env }), || {
        vec![
            format!("kept {} (version {version}): a decoy that opens nothing, as {env} in boxes", args.name),
            "a request that holds it is denied by the rule secret.canary, whatever the policy opens: `aedile feed` tells ALARM, `aedile gateway log` where to"
                .to_owned(),
        ]
    });
    Ok(exit::OK)
}
