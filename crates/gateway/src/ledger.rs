//! The arithmetic of budgets: pure, exact, in whole tokens and millionths of a dollar.
//!
//! Before a request the most that it can use is *held* on three accounts: of the agent's incarnation, of its task and of its run.
//! It is refused when one of them would pass its budget. Afterwards what was held is given back and what was used is *spent*.

use std::collections::HashMap;
use std::fmt;

use aedile_core::agent_api::DoorIdentity;
use aedile_core::money::Budget;
use aedile_core::{IncarnationId, MicroUsd, RunId, SpendId, TaskId};

/// Tokens and money together.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Amount {
    /// Tokens of all kinds.
    pub tokens: u64,
    /// Money.
    pub usd: MicroUsd,
}

impl Amount {
    /// Returns the sum, at most the largest values.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self { tokens: self.tokens.saturating_add(other.tokens), usd: self.usd.plus(other.usd) }
    }

    fn minus(self, other: Self) -> Self {
        Self { tokens: self.tokens.saturating_sub(other.tokens), usd: self.usd.minus(other.usd) }
    }
}

/// What one account has spent and holds back.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Account {
    /// Spent for good.
    pub spent: Amount,
    /// Held back for requests that are under way.
    pub held: Amount,
}

/// Whose budget it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Level {
    /// The agent's, in its present incarnation.
    Agent,
    /// The task's, over all its agents.
    Task,
    /// The run's.
    Run,
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Agent => "agent",
            Self::Task => "task",
            Self::Run => "run",
        })
    }
}

/// The budgets that a request must fit.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Limits {
    /// Of the agent's incarnation.
    pub agent: Budget,
    /// Of the task.
    pub task: Budget,
    /// Of the run.
    pub run: Budget,
}

impl Limits {
    /// The first level whose budget is in money.
    pub fn money(&self) -> Option<Level> {
        [(Level::Agent, self.agent), (Level::Task, self.task), (Level::Run, self.run)]
            .into_iter()
            .find_map(|(level, budget)| budget.usd.map(|_| level))
    }
}

/// A request that does not fit a budget.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Refusal {
    /// Too many tokens.
    #[error(
        "the token budget of this {level} does not allow the request: it may use {wanted} tokens and {left} of {limit} are left \
         ({held} are held for requests under way); raise {} for a new run, or ask for fewer output tokens", setting(.level, "tokens")
    )]
    Tokens {
        /// Whose.
        level: Level,
        /// The most that the request can use.
        wanted: u64,
        /// What is left.
        left: u64,
        /// The budget.
        limit: u64,
        /// What requests under way hold.
        held: u64,
    },
    /// Too much money.
    #[error(
        "the money budget of this {level} does not allow the request: it may cost {wanted} and {left} of {limit} is left \
         ({held} is held for requests under way); raise {} for a new run, or ask for fewer output tokens", setting(.level, "usd")
    )]
    Money {
        /// Whose.
        level: Level,
        /// The most that the request can cost.
        wanted: MicroUsd,
        /// What is left.
        left: MicroUsd,
        /// The budget.
        limit: MicroUsd,
        /// What requests under way hold.
        held: MicroUsd,
    },
}

impl Refusal {
    /// Whether the same request will be refused again until a person changes a setting: nothing under way can give back what it needs.
    pub fn is_for_good(&self) -> bool {
        match self {
            Self::Tokens { held, .. } => *held == 0,
            Self::Money { held, .. } => *held == MicroUsd(0),
        }
    }
}

fn setting(level: &Level, unit: &str) -> String {
    match level {
        Level::Agent => format!("`agent_{unit}` under `[budget]` in aedile.toml"),
        Level::Task if unit == "usd" => "`budget_usd` of the task, or `task_usd` under `[budget]` in aedile.toml".to_owned(),
        Level::Task => format!("`task_{unit}` under `[budget]` in aedile.toml"),
        Level::Run if unit == "usd" => "`--budget-usd`, or `run_usd` under `[budget]` in aedile.toml".to_owned(),
        Level::Run => format!("`run_{unit}` under `[budget]` in aedile.toml"),
    }
}

struct Open {
    run: RunId,
    task: TaskId,
    incarnation: IncarnationId,
    amount: Amount,
}

/// All accounts.
#[derive(Default)]
pub struct Ledger {
    runs: HashMap<RunId, Account>,
    tasks: HashMap<TaskId, Account>,
    agents: HashMap<IncarnationId, Account>,
    open: HashMap<SpendId, Open>,
}

impl Ledger {
    /// Holds the amount back on the three accounts, or on none.
    ///
    /// # Errors
    /// [`Refusal`] names the first budget that does not allow it.
    pub fn reserve(&mut self, spend: SpendId, who: &DoorIdentity, limits: &Limits, amount: Amount) -> Result<(), Refusal> {
        fits(Level::Agent, self.agent(who.incarnation), limits.agent, amount)?;
        fits(Level::Task, self.task(who.task), limits.task, amount)?;
        fits(Level::Run, self.run(who.run), limits.run, amount)?;
        let open = Open { run: who.run, task: who.task, incarnation: who.incarnation, amount };
        self.agents.entry(who.incarnation).or_default();
        self.tasks.entry(who.task).or_default();
        self.runs.entry(who.run).or_default();
        self.each(&open, |account| account.held = account.held.plus(amount));
        self.open.insert(spend, open);
        Ok(())
    }

    /// Gives back what was held and books what was used. Does nothing when the reservation is not open.
    pub fn settle(&mut self, spend: SpendId, used: Amount) {
        let Some(open) = self.open.remove(&spend) else { return };
        self.each(&open, |account| {
            account.held = account.held.minus(open.amount);
            account.spent = account.spent.plus(used);
        });
    }

    /// Books what was spent before this process began.
    pub fn charge(&mut self, run: RunId, task: TaskId, used: Amount) {
        for account in [self.runs.entry(run).or_default(), self.tasks.entry(task).or_default()] {
            account.spent = account.spent.plus(used);
        }
    }

    /// Forgets an incarnation's account; its requests that are under way still settle on the task and the run.
    pub fn forget_agent(&mut self, incarnation: IncarnationId) {
        self.agents.remove(&incarnation);
    }

    /// Returns the account of an incarnation.
    pub fn agent(&self, incarnation: IncarnationId) -> Account {
        self.agents.get(&incarnation).copied().unwrap_or_default()
    }

    /// Returns the account of a task.
    pub fn task(&self, task: TaskId) -> Account {
        self.tasks.get(&task).copied().unwrap_or_default()
    }

    /// Returns the account of a run.
    pub fn run(&self, run: RunId) -> Account {
        self.runs.get(&run).copied().unwrap_or_default()
    }

    fn each(&mut self, open: &Open, change: impl Fn(&mut Account)) {
        let accounts = [self.agents.get_mut(&open.incarnation), self.tasks.get_mut(&open.task), self.runs.get_mut(&open.run)];
        accounts.into_iter().flatten().for_each(change);
    }
}

fn fits(level: Level, account: Account, budget: Budget, wanted: Amount) -> Result<(), Refusal> {
    let taken = account.spent.plus(account.held);
    if let Some(limit) = budget.tokens {
        let left = limit.saturating_sub(taken.tokens);
        if wanted.tokens > left {
            return Err(Refusal::Tokens { level, wanted: wanted.tokens, left, limit, held: account.held.tokens });
        }
    }
    if let Some(limit) = budget.usd {
        let left = limit.minus(taken.usd);
        if wanted.usd > left {
            return Err(Refusal::Money { level, wanted: wanted.usd, left, limit, held: account.held.usd });
        }
    }
    Ok(())
}
