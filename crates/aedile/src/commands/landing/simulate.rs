//! `aedile landing simulate`.

use aedile_landing::window::{World, simulate};
use clap::Args;
use serde_json::json;

use crate::error::{CliError, CliResult};
use crate::exit;
use crate::output::Output;

/// More changes make pairs by the hundred thousand in each world.
const CHANGES_MAX: u32 = 500;
const VERIFIERS_MAX: u32 = 64;

#[derive(Debug, Args)]
pub struct SimulateArgs {
    /// Changes, all waiting at the start (1 to 500)
    #[arg(long, value_name = "N", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=i64::from(CHANGES_MAX)))]
    n: u32,
    /// The chance that a change is bad, 0 to 1
    #[arg(long, value_name = "CHANCE", default_value_t = 0.05)]
    bad: f64,
    /// The chance that two changes, each good alone, fail together, 0 to 1
    #[arg(long, value_name = "CHANCE", default_value_t = 0.0)]
    pairs: f64,
    /// Runs of the gates at once (1 to 64)
    #[arg(long, value_name = "W", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=i64::from(VERIFIERS_MAX)))]
    verifiers: u32,
}

/// Runs `aedile landing simulate`.
pub fn cmd_simulate(args: &SimulateArgs, out: Output) -> CliResult {
    for (name, chance) in [("--bad", args.bad), ("--pairs", args.pairs)] {
        if !(0.0..=1.0).contains(&chance) {
            return Err(CliError::usage(format!("{name} {chance} is not a chance: give a number from 0 to 1, as 0.05 for 5 %")));
        }
    }
    let verifiers = usize::try_from(args.verifiers).unwrap_or(1);
    let means = simulate(&World { changes: args.n, bad: args.bad, pairs: args.pairs, verifiers });
    let object = json!({
        "n": args.n, "bad": args.bad, "pairs": args.pairs, "verifiers": args.verifiers, "worlds": means.worlds,
        "runs_per_branch": means.runs_per_branch, "makespan": means.makespan, "landed": means.landed, "wrongly_ejected": means.wrongly_ejected,
    });
    out.object_or(&object, || {
        vec![
            format!("{} changes, {} verifiers; means over {} worlds", args.n, args.verifiers, means.worlds),
            format!("runs of the gates per change  {:.3}", means.runs_per_branch),
            format!("time, in runs of the gates    {:.2}", means.makespan),
            format!("landed                        {:.2}", means.landed),
            format!("ejected though good           {}", means.wrongly_ejected),
        ]
    });
    Ok(exit::OK)
}
