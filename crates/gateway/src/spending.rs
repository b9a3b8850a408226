//! Budgets over the event log: every reservation is durable before its request leaves, every settlement after.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aedile_core::agent_api::DoorIdentity;
use aedile_core::event::Event;
use aedile_core::model::ModelRef;
use aedile_core::store::{Append, Store, StoreError, list};
use aedile_core::view::{AskView, CostView, SpendView};
use aedile_core::{AskId, Clock, Entropy, MicroUsd, RunId, SpendId, Usage};
use aedile_models::{Abilities, Metered, PriceTable, Terms, Unpriced};

use crate::ledger::{Amount, Ledger, Limits};

/// The provider whose answers are written beforehand; they cost nothing.
pub(crate) const SCRIPT: &str = "script";

/// Why nothing was reserved.
#[derive(Debug)]
pub(crate) enum NotReserved {
    /// A budget does not allow the request. `for_good`: nothing under way could give back what it needs.
    Budget { message: String, for_good: bool },
    /// The store failed.
    Store(String),
}

/// A reservation that must be settled. If the process ends before, the next one charges it whole.
#[derive(Debug)]
pub(crate) struct Held {
    spend: SpendId,
    run: RunId,
    model: ModelRef,
    terms: Terms,
    amount: Amount,
}

/// The most that a request can use, and on which terms.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) input_tokens: u64,
    pub(crate) output_tokens: u64,
    pub(crate) terms: Terms,
    /// Whether the request asks for a larger window than the catalogue's, which then bounds nothing.
    pub(crate) wider: bool,
}

/// How a request ended.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Ending {
    /// The provider charged nothing: it was not reached or refused.
    Nothing,
    /// The answer has passed, or a part of it.
    Answered(Metered),
    /// It is not known what the provider did.
    Unknown,
}

/// What was charged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Charged {
    pub(crate) usage: Usage,
    pub(crate) usd: MicroUsd,
    pub(crate) estimated: bool,
}

#[derive(Default)]
struct Books {
    ledger: Ledger,
    /// Runs whose earlier spending has been read from the store.
    runs: HashSet<RunId>,
}

/// The ledger and what makes it durable.
pub(crate) struct Spending {
    books: Mutex<Books>,
    store: Arc<dyn Store>,
    prices: PriceTable,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
}

impl Spending {
    pub(crate) fn new(store: Arc<dyn Store>, prices: PriceTable, clock: Arc<dyn Clock>, entropy: Arc<dyn Entropy>) -> Self {
        Self { books: Mutex::default(), store, prices, clock, entropy }
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads what a run has spent before this process. A reservation that nobody settled belongs to a process that died:
    /// it is charged whole and marked estimated. Does nothing for a run that was read already. Blocking.
    pub(crate) fn load(&self, run: RunId) -> Result<(), StoreError> {
        let mut books = self.books();
        if books.runs.contains(&run) {
            return Ok(());
        }
        for left in list::<SpendView>(self.store.as_ref(), Some(run))? {
            let event = Event::SpendSettled { spend: left.spend, usage: Usage::default(), usd: left.usd, estimated: true };
            match self.store.append(Append::of(run, event)) {
                // Somebody else has settled it in between; the costs below hold it.
                Ok(_) | Err(StoreError::Illegal(_)) => {}
                Err(error) => return Err(error),
            }
        }
        for cost in list::<CostView>(self.store.as_ref(), Some(run))? {
            let tokens = cost.usage.total().saturating_add(cost.estimated_tokens);
            books.ledger.charge(run, cost.task, Amount { tokens, usd: cost.usd });
        }
        books.runs.insert(run);
        Ok(())
    }

    /// Forgets the account of an incarnation that has ended.
    pub(crate) fn forget(&self, who: &DoorIdentity) {
        self.books().ledger.forget_agent(who.incarnation);
    }

    /// What is known of a model, and how much of its window an agent should fill.
    pub(crate) fn model(&self, model: &ModelRef) -> (Abilities, u64) {
        (self.prices.abilities(model).unwrap_or(Abilities::UNKNOWN), self.prices.working_window(model))
    }

    /// Reserves the most that a request can use, durably.
    pub(crate) async fn reserve(
        self: &Arc<Self>,
        who: &DoorIdentity,
        model: &ModelRef,
        limits: &Limits,
        asked: Asked,
    ) -> Result<Held, NotReserved> {
        // What does not fit the window is refused by the provider.
        let window = self.prices.abilities(model).filter(|_| !asked.wider).map_or(u64::MAX, |can| can.context);
        let (input_tokens, output_tokens) = (asked.input_tokens.min(window), asked.output_tokens);
        let price = match model.provider.as_str() {
            SCRIPT => Ok(MicroUsd(0)),
            _ => self.prices.reserve_on(model, input_tokens, output_tokens, &asked.terms),
        };
        let usd = match (price, limits.money()) {
            (Ok(usd), _) => usd,
            (Err(_), None) => MicroUsd(0),
            (Err(why), Some(level)) => {
                let message = unknown_price(model, &why, &level.to_string());
                return Err(NotReserved::Budget { message, for_good: why == Unpriced::Model });
            }
        };
        let amount = Amount { tokens: input_tokens.saturating_add(output_tokens), usd };
        let spend = SpendId::new(self.clock.as_ref(), self.entropy.as_ref());
        self.books()
            .ledger
            .reserve(spend, who, limits, amount)
            .map_err(|refusal| NotReserved::Budget { message: refusal.to_string(), for_good: refusal.is_for_good() })?;
        let event = Event::SpendReserved {
            spend,
            run: who.run,
            task: who.task,
            agent: who.agent.clone(),
            model: model.clone(),
            tokens: amount.tokens,
            usd,
        };
        if let Err(message) = self.append(who.run, event).await {
            self.books().ledger.settle(spend, Amount::default());
            return Err(NotReserved::Store(message));
        }
        Ok(Held { spend, run: who.run, model: model.clone(), terms: asked.terms, amount })
    }

    /// Settles a reservation, durably. A store that fails is reported in the log; the amount counts in this process all the same.
    pub(crate) async fn settle(self: &Arc<Self>, held: Held, ending: Ending) -> Charged {
        let charged = self.charge_for(&held, ending);
        let tokens = if charged.estimated { held.amount.tokens.max(charged.usage.total()) } else { charged.usage.total() };
        self.books().ledger.settle(held.spend, Amount { tokens, usd: charged.usd });
        let event = Event::SpendSettled { spend: held.spend, usage: charged.usage, usd: charged.usd, estimated: charged.estimated };
        if let Err(message) = self.append(held.run, event).await {
            tracing::error!(spend = %held.spend, message, "a settlement was not stored; the reservation will be charged at the next start");
        }
        charged
    }

    fn charge_for(&self, held: &Held, ending: Ending) -> Charged {
        let (usage, complete) = match ending {
            Ending::Nothing => return Charged { usage: Usage::default(), usd: MicroUsd(0), estimated: false },
            Ending::Answered(Metered { usage, complete }) => (usage.unwrap_or_default(), complete && usage.is_some()),
            Ending::Unknown => (Usage::default(), false),
        };
        let free = held.model.provider == SCRIPT;
        let cost = if free { MicroUsd(0) } else { self.prices.cost_on(&held.model, &usage, &held.terms).unwrap_or_default() };
        let usd = if complete { cost } else { cost.max(held.amount.usd) };
        Charged { usage, usd, estimated: !complete }
    }

    /// The questions of a run. The error is the store's sentence.
    pub(crate) async fn asks(self: &Arc<Self>, run: RunId) -> Result<Vec<AskView>, String> {
        let this = self.clone();
        let read = move || list::<AskView>(this.store.as_ref(), Some(run)).map_err(|error| error.to_string());
        tokio::task::spawn_blocking(read).await.unwrap_or_else(|error| Err(error.to_string()))
    }

    /// The id of a new question.
    pub(crate) fn new_ask(&self) -> AskId {
        AskId::new(self.clock.as_ref(), self.entropy.as_ref())
    }

    /// Appends an event of a run. The error is the store's sentence.
    pub(crate) async fn append(self: &Arc<Self>, run: RunId, event: Event) -> Result<(), String> {
        let this = self.clone();
        let append = move || this.store.append(Append::of(run, event)).map(|_| ()).map_err(|error| error.to_string());
        tokio::task::spawn_blocking(append).await.unwrap_or_else(|error| Err(error.to_string()))
    }
}

fn unknown_price(model: &ModelRef, why: &Unpriced, level: &str) -> String {
    if let Unpriced::Tier(tier) = why {
        return format!(
            "the price of the service tier `{tier}` of {model} is not known, so the money budget of this {level} cannot be kept: leave the tier out, or set the budget in tokens"
        );
    }
    format!(
        "the price of {model} is not known, so the money budget of this {level} cannot be kept: give it as `[prices.\"{model}\"]` in your own `config.toml` (docs/configuration.md), or set the budget in tokens"
    )
}
