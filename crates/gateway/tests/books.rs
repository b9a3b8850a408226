//! The ledger's arithmetic over random histories.

use aedile_core::agent_api::DoorIdentity;
use aedile_core::clock::{SeededEntropy, SteppingClock};
use aedile_core::money::Budget;
use aedile_core::{AgentName, IncarnationId, MicroUsd, RunId, SpendId, TaskId, TaskKey};
use aedile_gateway::ledger::{Account, Amount, Ledger, Limits};
use proptest::prelude::*;

#[derive(Debug, Clone)]
enum Step {
    /// Agent, tokens, money.
    Reserve(usize, u64, u64),
    /// Which of the open ones, and how much of what was held was used, in hundredths.
    Settle(usize, u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0..4_usize, 0..500_u64, 0..500_u64).prop_map(|(agent, tokens, usd)| Step::Reserve(agent, tokens, usd)),
        (any::<usize>(), 0..=100_u64).prop_map(|(which, share)| Step::Settle(which, share)),
    ]
}

fn budget() -> impl Strategy<Value = Budget> {
    (proptest::option::of(0..3000_u64), proptest::option::of(0..3000_u64))
        .prop_map(|(tokens, usd)| Budget { tokens, usd: usd.map(MicroUsd) })
}

/// Whether an account belongs to the agent with this number.
type OfAgent = Box<dyn Fn(usize) -> bool>;

/// Two tasks of one run with two agents each.
fn agents(clock: &SteppingClock, entropy: &SeededEntropy) -> Vec<DoorIdentity> {
    let run = RunId::new(clock, entropy);
    let tasks = [TaskId::new(clock, entropy), TaskId::new(clock, entropy)];
    let agent = |at: usize| DoorIdentity {
        run,
        task: tasks[at / 2],
        key: TaskKey::new("k").unwrap(),
        role: "builder".to_owned(),
        agent: AgentName::new(format!("a{at}")).unwrap(),
        incarnation: IncarnationId::new(clock, entropy),
    };
    (0..4).map(agent).collect()
}

fn within(account: Account, budget: Budget) -> bool {
    let taken = account.spent.plus(account.held);
    budget.tokens.is_none_or(|limit| taken.tokens <= limit) && budget.usd.is_none_or(|limit| taken.usd <= limit)
}

fn sum(amounts: impl Iterator<Item = Amount>) -> Amount {
    amounts.fold(Amount::default(), Amount::plus)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_ever_overspent_and_sums_are_exact(agent in budget(), task in budget(), run in budget(), steps in proptest::collection::vec(step(), 1..80)) {
        let (clock, entropy) = (SteppingClock::default(), SeededEntropy::new(1));
        let who = agents(&clock, &entropy);
        let limits = Limits { agent, task, run };
        let mut ledger = Ledger::default();
        let mut open: Vec<(SpendId, usize, Amount)> = Vec::new();
        let mut spent: Vec<(usize, Amount)> = Vec::new();
        for step in steps {
            match step {
                Step::Reserve(at, tokens, usd) => {
                    let amount = Amount { tokens, usd: MicroUsd(usd) };
                    let spend = SpendId::new(&clock, &entropy);
                    let before = (ledger.agent(who[at].incarnation), ledger.task(who[at].task), ledger.run(who[at].run));
                    let fits = [(before.0, agent), (before.1, task), (before.2, run)].into_iter().all(|(account, budget)| {
                        within(Account { held: account.held.plus(amount), ..account }, budget)
                    });
                    let reserved = ledger.reserve(spend, &who[at], &limits, amount);
                    prop_assert_eq!(reserved.is_ok(), fits, "refused only what does not fit: {:?}", reserved);
                    if fits { open.push((spend, at, amount)) }
                }
                Step::Settle(which, share) if !open.is_empty() => {
                    let (spend, at, held) = open.swap_remove(which % open.len());
                    let used = Amount { tokens: held.tokens * share / 100, usd: MicroUsd(held.usd.0 * share / 100) };
                    ledger.settle(spend, used);
                    ledger.settle(spend, used);
                    spent.push((at, used));
                }
                Step::Settle(..) => {}
            }
            for (at, door) in who.iter().enumerate() {
                let checks: [(Account, Budget, OfAgent); 3] = [
                    (ledger.agent(door.incarnation), agent, Box::new(move |other| other == at)),
                    (ledger.task(door.task), task, Box::new(move |other| other / 2 == at / 2)),
                    (ledger.run(door.run), run, Box::new(|_| true)),
                ];
                for (account, budget, of) in checks {
                    prop_assert!(within(account, budget));
                    prop_assert_eq!(account.held, sum(open.iter().filter(|(_, other, _)| of(*other)).map(|(_, _, amount)| *amount)));
                    prop_assert_eq!(account.spent, sum(spent.iter().filter(|(other, _)| of(*other)).map(|(_, amount)| *amount)));
                }
            }
        }
    }
}

#[test]
fn what_an_earlier_process_spent_counts() {
    let (clock, entropy) = (SteppingClock::default(), SeededEntropy::new(1));
    let who = agents(&clock, &entropy).remove(0);
    let limits = Limits { run: Budget { tokens: Some(100), usd: None }, ..Limits::default() };
    let mut ledger = Ledger::default();
    ledger.charge(who.run, who.task, Amount { tokens: 60, usd: MicroUsd(5) });
    let amount = |tokens| Amount { tokens, usd: MicroUsd(0) };
    let spend = SpendId::new(&clock, &entropy);
    let refusal = ledger.reserve(spend, &who, &limits, amount(41)).unwrap_err().to_string();
    assert_eq!(
        refusal,
        "the token budget of this run does not allow the request: it may use 41 tokens and 40 of 100 are left (0 are held for requests \
         under way); raise `run_tokens` under `[budget]` in aedile.toml for a new run, or ask for fewer output tokens"
    );
    ledger.reserve(spend, &who, &limits, amount(40)).unwrap();
    ledger.forget_agent(who.incarnation);
    ledger.settle(spend, amount(30));
    assert_eq!((ledger.run(who.run).spent.tokens, ledger.agent(who.incarnation)), (90, Account::default()));
}
