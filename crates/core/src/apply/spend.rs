//! What model requests cost.

use super::At;
use crate::event::Event;
use crate::ids::SpendId;
use crate::money::{MicroUsd, Usage};
use crate::store::StoreError;
use crate::view::{CostView, SpendView, ViewKind};

pub(super) fn apply_spend(at: &mut At<'_>) -> Result<(), StoreError> {
    match &at.envelope.event {
        Event::SpendReserved { spend, run, task, agent, model, tokens, usd } => {
            at.is_new(ViewKind::Spend, "spend", &spend.to_string())?;
            let view =
                SpendView { spend: *spend, run: *run, task: *task, agent: agent.clone(), model: model.clone(), tokens: *tokens, usd: *usd };
            at.put(&spend.to_string(), Some(*run), &view)
        }
        Event::SpendSettled { spend, usage, usd, estimated } => settle(at, *spend, *usage, *usd, *estimated),
        _ => Ok(()),
    }
}

fn settle(at: &mut At<'_>, spend: SpendId, usage: Usage, usd: MicroUsd, estimated: bool) -> Result<(), StoreError> {
    let held: SpendView = at.get("spend", &spend.to_string())?;
    at.tx.remove(ViewKind::Spend, &spend.to_string())?;
    let key = format!("{}/{}/{}", held.task, held.agent, held.model);
    let mut cost = match at.find::<CostView>(&key)? {
        Some(cost) => cost,
        None => CostView {
            run: held.run,
            task: held.task,
            agent: held.agent.clone(),
            model: held.model.clone(),
            requests: 0,
            estimated: 0,
            usage: Usage::default(),
            estimated_tokens: 0,
            usd: MicroUsd(0),
        },
    };
    cost.requests += 1;
    cost.usage = cost.usage.plus(&usage);
    cost.usd = cost.usd.plus(usd);
    if estimated {
        cost.estimated += 1;
        cost.estimated_tokens = cost.estimated_tokens.saturating_add(held.tokens.saturating_sub(usage.total()));
    }
    at.put(&key, Some(held.run), &cost)
}
