//! `aedile costs`.

use std::collections::HashMap;

use aedile_core::store::list;
use aedile_core::view::{CostView, RunView, SpendView, TaskView};
use aedile_core::{MicroUsd, TaskId};
use clap::Args;

use crate::error::CliResult;
use crate::output::{Output, table};
use crate::{exit, state};

/// Show tokens and money, by task, agent and model
#[derive(Debug, Args)]
pub struct CostsArgs {
    /// This run only (its id or the eight characters that other commands print); otherwise all runs
    #[arg(long, value_name = "RUN")]
    run: Option<String>,
}

/// Runs `aedile costs`.
pub fn cmd_costs(args: &CostsArgs, out: Output) -> CliResult {
    let Some(store) = state::open_existing()? else {
        if let Some(text) = &args.run {
            return Err(state::no_run(text));
        }
        out.say("nothing was spent: nothing has been run yet");
        if out.json {
            out.object(&serde_json::json!({ "costs": [], "usd": 0.0, "tokens": 0, "reserved_usd": 0.0 }));
        }
        return Ok(exit::OK);
    };
    let run: Option<RunView> = args.run.as_deref().map(|text| state::find_run(&store, text)).transpose()?;
    let run = run.map(|run| run.run);
    let costs: Vec<CostView> = list(&store, run)?;
    let open: Vec<SpendView> = list(&store, run)?;
    let keys: HashMap<TaskId, String> =
        list::<TaskView>(&store, run)?.into_iter().map(|task| (task.task, task.spec.key.to_string())).collect();
    // What `sandbox exec --net door` spends belongs to no task.
    let key = |task: &TaskId| keys.get(task).map(String::as_str);
    let usd = costs.iter().fold(MicroUsd(0), |sum, cost| sum.plus(cost.usd));
    let tokens: u64 = costs.iter().map(|cost| cost.usage.total() + cost.estimated_tokens).sum();
    let reserved = open.iter().fold(MicroUsd(0), |sum, spend| sum.plus(spend.usd));
    if out.json {
        let rows: Vec<_> = costs
            .iter()
            .map(|cost| {
                serde_json::json!({
                    "run": cost.run, "task": key(&cost.task), "agent": cost.agent, "model": cost.model, "requests": cost.requests,
                    "estimated_requests": cost.estimated, "usage": cost.usage, "estimated_tokens": cost.estimated_tokens, "usd": dollars(cost.usd),
                })
            })
            .collect();
        out.object(&serde_json::json!({ "costs": rows, "usd": dollars(usd), "tokens": tokens, "reserved_usd": dollars(reserved) }));
        return Ok(exit::OK);
    }
    let mut rows = vec![["task", "agent", "model", "requests", "input", "cached", "output", "cost"].map(str::to_owned).to_vec()];
    for cost in &costs {
        let mark = if cost.estimated > 0 { format!("{} ({} estimated)", cost.usd, cost.estimated) } else { cost.usd.to_string() };
        rows.push(vec![
            key(&cost.task).unwrap_or("-").to_owned(),
            cost.agent.to_string(),
            cost.model.to_string(),
            cost.requests.to_string(),
            (cost.usage.input_tokens + cost.usage.cache_write_tokens + cost.usage.cache_write_long_tokens).to_string(),
            cost.usage.cache_read_tokens.to_string(),
            cost.usage.output_tokens.to_string(),
            mark,
        ]);
    }
    table(&rows).into_iter().for_each(|row| out.line(row));
    out.line(format!("total: {usd}, {tokens} tokens"));
    if reserved.0 > 0 {
        out.line(format!("held back for requests under way: {reserved}"));
    }
    Ok(exit::OK)
}

/// Dollars as a JSON number.
#[expect(clippy::cast_precision_loss, reason = "exact up to nine billion dollars")]
pub fn dollars(usd: MicroUsd) -> f64 {
    usd.0 as f64 / 1e6
}
