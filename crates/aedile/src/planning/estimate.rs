//! What the tasks of a plan may cost. `docs/goals.md` tells the same in words.

use std::fmt;

use aedile_core::model::ModelRef;
use aedile_core::plan::ProposedPlan;
use aedile_core::store::{Store, list};
use aedile_core::view::{CostView, TaskView};
use aedile_core::{MicroUsd, Usage};
use aedile_models::PriceTable;
use serde_json::json;

use crate::commands::costs::dollars;
use crate::error::CliError;

/// Landed tasks of the same model from which on their costs are believed more than the formula.
const HISTORY_MIN: usize = 8;

/// One end of the assumed work of an agent on a task.
struct Work {
    /// Model requests.
    requests: u64,
    /// The most tokens of the scope's files that it reads.
    read_max: u64,
    /// A share of the scope's files that it reads, in percent.
    read_percent: u64,
    /// Tokens by which each request is longer than the one before.
    growth: u64,
    /// Tokens written in each answer.
    output: u64,
}

/// Instructions, tools and the task itself, in tokens.
const FIRST_REQUEST: u64 = 8_000;
/// Bytes of code in one token.
const BYTES_PER_TOKEN: u64 = 4;
const LOW: Work = Work { requests: 8, read_max: 10_000, read_percent: 25, growth: 700, output: 150 };
const HIGH: Work = Work { requests: 40, read_max: 40_000, read_percent: 100, growth: 2_000, output: 600 };

/// Where an estimate is from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ground {
    /// Assumed sizes of the work.
    Formula,
    /// This many tasks that landed before, with the same model.
    History(usize),
}

/// A range of tokens and, when the price is known, of money, for all tasks together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Estimate {
    model: ModelRef,
    tasks: usize,
    tokens: (u64, u64),
    usd: Option<(MicroUsd, MicroUsd)>,
    ground: Ground,
}

impl Estimate {
    /// Estimates from what earlier tasks cost, when enough of them landed, else from the sizes of the scopes.
    pub fn of(store: &dyn Store, plan: &ProposedPlan, model: &ModelRef, prices: &PriceTable) -> Result<Self, CliError> {
        let tasks = plan.plan.tasks.len();
        let known = history(store, model)?;
        if known.len() >= HISTORY_MIN && prices.find(model).is_some() {
            let times = u64::try_from(tasks).unwrap_or(u64::MAX);
            let at = |percent: usize| known[(known.len() - 1) * percent / 100];
            let (low, high) = (at(10), at(90));
            let money = |usd: MicroUsd| MicroUsd(usd.0.saturating_mul(times));
            let mut tokens: Vec<u64> = known.iter().map(|(_, tokens)| *tokens).collect();
            tokens.sort_unstable();
            let tokens_at = |percent: usize| tokens[(tokens.len() - 1) * percent / 100].saturating_mul(times);
            let (tokens, usd) = ((tokens_at(10), tokens_at(90)), Some((money(low.0), money(high.0))));
            return Ok(Self { model: model.clone(), tasks, tokens, usd, ground: Ground::History(known.len()) });
        }
        let end = |work: &Work| {
            let usages: Vec<Usage> = plan.scope_bytes.iter().map(|bytes| work.usage(*bytes)).collect();
            let tokens = usages.iter().map(Usage::total).sum::<u64>();
            let usd = usages.iter().map(|usage| prices.cost(model, usage)).try_fold(MicroUsd(0), |sum, usd| Some(sum.plus(usd?)));
            (tokens, usd)
        };
        let (low, high) = (end(&LOW), end(&HIGH));
        let usd = low.1.zip(high.1);
        Ok(Self { model: model.clone(), tasks, tokens: (low.0, high.0), usd, ground: Ground::Formula })
    }

    /// What is to be said about a budget of which this much is left.
    pub fn against(&self, left: MicroUsd) -> Option<&'static str> {
        let (low, high) = self.usd?;
        match (low > left, high > left) {
            (true, _) => Some("by this estimate that is not enough: agents would stop at it, with all work saved"),
            (false, true) => Some("it may not be enough: agents would stop at it, with all work saved"),
            (false, false) => None,
        }
    }

    /// The estimate for `--json`.
    pub fn to_json(&self) -> serde_json::Value {
        let usd = self.usd.map(|(low, high)| json!({ "low": dollars(low), "high": dollars(high) }));
        let landed = match self.ground {
            Ground::Formula => None,
            Ground::History(tasks) => Some(tasks),
        };
        json!({ "model": self.model, "tokens": { "low": self.tokens.0, "high": self.tokens.1 }, "usd": usd, "from_landed_tasks": landed })
    }
}

impl fmt::Display for Estimate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tasks = if self.tasks == 1 { "one task".to_owned() } else { format!("{} tasks", self.tasks) };
        match self.usd {
            Some((low, high)) => write!(f, "{low} to {high}")?,
            None => {
                let thousands = |tokens: u64| tokens.div_ceil(1000);
                write!(
                    f,
                    "{} to {} thousand tokens, most of them read from a cache; their price is not known (`[prices.\"{}\"]` in your own `config.toml`)",
                    thousands(self.tokens.0),
                    thousands(self.tokens.1),
                    self.model
                )?;
            }
        }
        write!(f, " for {tasks} with {}", self.model)?;
        match self.ground {
            Ground::Formula => f.write_str(" (a wide guess from list prices and the size of the scopes: docs/goals.md)"),
            Ground::History(tasks) => write!(f, " (from {tasks} tasks that landed before: docs/goals.md)"),
        }
    }
}

impl Work {
    /// Each request sends again what was said before, which comes from the cache; only what is new is written into it.
    fn usage(&self, scope_bytes: u64) -> Usage {
        let read = (scope_bytes / BYTES_PER_TOKEN * self.read_percent / 100).min(self.read_max);
        let first = FIRST_REQUEST + read;
        let again = self.requests - 1;
        Usage {
            output_tokens: self.requests * self.output,
            cache_read_tokens: again * first + self.growth * again * again.saturating_sub(1) / 2,
            cache_write_tokens: first + self.growth * again,
            ..Usage::default()
        }
    }
}

/// Money and tokens of each landed task that used this model alone, cheapest first.
fn history(store: &dyn Store, model: &ModelRef) -> Result<Vec<(MicroUsd, u64)>, CliError> {
    let costs: Vec<CostView> = list(store, None)?;
    let landed = list::<TaskView>(store, None)?.into_iter().filter(|task| task.landed.is_some());
    let mut known: Vec<(MicroUsd, u64)> = landed
        .filter_map(|task| {
            let own: Vec<&CostView> = costs.iter().filter(|cost| cost.task == task.task).collect();
            let same = !own.is_empty() && own.iter().all(|cost| cost.model == *model);
            same.then(|| own.iter().fold((MicroUsd(0), 0), |sum, cost| (sum.0.plus(cost.usd), sum.1 + cost.usage.total())))
        })
        .collect();
    known.sort_unstable();
    Ok(known)
}
