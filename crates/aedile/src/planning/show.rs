//! A plan on the screen, and as JSON.

use aedile_core::money::Budget;
use aedile_core::plan::ProposedPlan;
use aedile_core::task::TaskSpec;
use aedile_core::view::{CostView, RunView};
use aedile_core::{MicroUsd, TaskKey};
use serde_json::json;

use super::estimate::Estimate;
use crate::commands::costs::dollars;
use crate::output::one_line;

/// The most characters of one line that a model wrote.
const LINE_MAX: usize = 200;

fn planning(costs: &[CostView]) -> (u64, u64, MicroUsd) {
    costs.iter().fold((0, 0, MicroUsd(0)), |sum, cost| {
        (sum.0 + cost.requests, sum.1 + cost.usage.total() + cost.estimated_tokens, sum.2.plus(cost.usd))
    })
}

/// The plan in lines for people.
pub fn lines(run: &RunView, proposed: &ProposedPlan, specs: &[TaskSpec], estimate: &Estimate, costs: &[CostView]) -> Vec<String> {
    let mut lines = vec![String::new()];
    let summary = proposed.plan.summary.lines().filter(|line| !line.trim().is_empty());
    lines.extend(summary.take(12).map(|line| one_line(line.trim(), LINE_MAX)));
    lines.push(match specs.len() {
        1 => "one task:".to_owned(),
        many => format!("{many} tasks, {} at once at most:", proposed.at_once.min(run.slots as usize)),
    });
    let width = specs.iter().map(|spec| spec.key.as_str().len()).max().unwrap_or(0);
    for spec in specs {
        let after: Vec<&str> = spec.after.iter().map(TaskKey::as_str).collect();
        let after = if after.is_empty() { String::new() } else { format!("  (after {})", after.join(", ")) };
        lines.push(format!("  {:width$}  {}{after}", spec.key.as_str(), one_line(&spec.title, LINE_MAX)));
        let scope: Vec<String> = spec.scope.iter().map(|glob| one_line(glob, 100)).collect();
        lines.push(format!("  {:width$}  may change {}", "", one_line(&scope.join(", "), 4 * LINE_MAX)));
        lines.extend(spec.gates.iter().map(|gate| format!("  {:width$}  must pass `{}`", "", one_line(&gate.command, LINE_MAX))));
    }
    lines.extend(proposed.notes.iter().map(|note| format!("note: {}", one_line(note, 3 * LINE_MAX))));
    let (requests, tokens, usd) = planning(costs);
    lines.push(format!("estimate: {estimate}"));
    lines.push(format!("planning: {usd} so far, {requests} requests, {tokens} tokens"));
    lines.push(match run.rules.run_budget {
        Budget { usd: Some(limit), .. } => {
            let left = limit.minus(usd);
            let words = estimate.against(left).map(|words| format!("; {words}")).unwrap_or_default();
            format!("budget: {limit} for the run, {left} left{words}")
        }
        Budget { tokens: Some(limit), .. } => format!("budget: {limit} tokens for the run"),
        Budget { .. } => "budget: none for the run (--budget-usd, or `[budget] run_usd` in aedile.toml)".to_owned(),
    });
    lines
}

/// The plan as one object.
pub fn json(run: &RunView, proposed: &ProposedPlan, specs: &[TaskSpec], estimate: &Estimate, costs: &[CostView]) -> serde_json::Value {
    let (requests, tokens, usd) = planning(costs);
    let tasks: Vec<_> = specs
        .iter()
        .map(|spec| {
            let gates: Vec<&str> = spec.gates.iter().map(|gate| gate.command.as_str()).collect();
            json!({ "id": spec.key, "title": spec.title, "prompt": spec.prompt, "scope": spec.scope, "after": spec.after, "gates": gates })
        })
        .collect();
    json!({
        "plan": { "goal": run.goal, "summary": proposed.plan.summary, "tasks": tasks, "notes": proposed.notes, "at_once": proposed.at_once },
        "estimate": estimate.to_json(),
        "planning": { "requests": requests, "tokens": tokens, "usd": dollars(usd) },
        "budget_usd": run.rules.run_budget.usd.map(dollars),
    })
}
