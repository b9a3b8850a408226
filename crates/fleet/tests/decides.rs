//! What `decide` answers, and what status lines say.

use aedile_core::Timestamp;
use aedile_core::event::{Event, TaskOutcome};
use aedile_core::money::{Budget, MicroUsd, Usage};
use aedile_core::store::{Append, Fence, Store};
use aedile_core::{IncarnationId, RunId, SpendId, TaskId};
use aedile_fleet::decide::Ending;
use aedile_fleet::picture::UnitPhase;
use aedile_fleet::{Action, RunPicture, decide, steps, waits_for};

use crate::support::{clock, entropy, open, plan, store, task, view};

const NOW: Timestamp = Timestamp(1_900_000_000_000_000);

fn look(store: &dyn Store, run: RunId) -> RunPicture {
    RunPicture::load(store, run).unwrap().unwrap()
}

fn id(store: &dyn Store, run: RunId, key: &str) -> TaskId {
    view(store, run, key).task
}

fn claim(store: &dyn Store, run: RunId, key: &str, name: &str, number: u64) {
    let of = view(store, run, key);
    let incarnation = IncarnationId::new(clock().as_ref(), entropy().as_ref());
    let fence = Fence { claim: "none".to_owned(), number };
    let append = steps::claim(&of, &name.parse().unwrap(), incarnation, &fence, 1);
    store.append(Append { fence: None, ..append }).unwrap();
}

fn waits(store: &dyn Store, run: RunId, key: &str) -> String {
    waits_for(&look(store, run), id(store, run, key), NOW).unwrap().reason.unwrap_or_else(|| "nothing".to_owned())
}

#[test]
fn tasks_start_up_to_the_slots_in_order_and_never_on_the_same_paths() {
    let store = store();
    let tasks = vec![task("a", "src/**", &[]), task("b", "src/x.rs", &[]), task("c", "docs/**", &[]), task("d", "lib/**", &[])];
    let run = open(store.as_ref(), &plan(tasks, 2));
    let starts = |keys: &[&str]| -> Vec<Action> { keys.iter().map(|key| Action::Start { task: id(store.as_ref(), run, key) }).collect() };
    assert_eq!(decide(&look(store.as_ref(), run), NOW), starts(&["a", "c"]));
    assert_eq!(decide(&look(store.as_ref(), run), NOW), starts(&["a", "c"]), "the same picture gives the same answer");
    claim(store.as_ref(), run, "c", "ada", 1);
    // After a crash of the worker, what was under way comes first.
    assert_eq!(decide(&look(store.as_ref(), run), NOW), starts(&["c", "a"]));
    let mut picture = look(store.as_ref(), run);
    picture.units.insert(id(store.as_ref(), run, "c"), UnitPhase::Working);
    assert_eq!(decide(&picture, NOW), starts(&["a"]));
    claim(store.as_ref(), run, "a", "basil", 2);
    assert_eq!(waits(store.as_ref(), run, "b"), "the paths that `a` holds (src/**)");
    assert_eq!(waits(store.as_ref(), run, "d"), "a free slot (2 of 2 agents are at work)");
    assert_eq!(waits(store.as_ref(), run, "a"), "the workspace and the box of basil");
}

#[test]
fn a_dependency_that_cannot_land_ends_the_run_and_is_named() {
    let store = store();
    let run = open(store.as_ref(), &plan(vec![task("a", "src/**", &[]), task("b", "docs/**", &["a"])], 2));
    assert_eq!(waits(store.as_ref(), run, "b"), "`a` to land");
    let a = id(store.as_ref(), run, "a");
    let failed = TaskOutcome::Failed { why: "it cannot be done".to_owned() };
    store.append(Append::of(run, Event::TaskClosed { task: a, outcome: failed })).unwrap();
    assert_eq!(waits(store.as_ref(), run, "b"), "`a` (failed) to land");
    let mut picture = look(store.as_ref(), run);
    assert_eq!(decide(&picture, NOW), [Action::Tidy { task: a }], "first what is left is saved");
    picture.tidied.insert(a);
    assert_eq!(decide(&picture, NOW), [Action::EndRun { landed: 0, failed: 2 }]);
}

#[test]
fn nothing_starts_without_budget_and_held_back_amounts_count() {
    let store = store();
    let mut plan = plan(vec![task("a", "src/**", &[]), task("b", "docs/**", &[])], 2);
    plan.rules.run_budget = Budget { usd: Some(MicroUsd(2_000_000)), tokens: None };
    plan.tasks[1].budget_usd = Some(MicroUsd(500_000));
    let run = open(store.as_ref(), &plan);
    let (a, b) = (id(store.as_ref(), run, "a"), id(store.as_ref(), run, "b"));
    let reserve = |task, usd| {
        let spend = SpendId::new(clock().as_ref(), &aedile_core::clock::SeededEntropy::new(usd));
        let (agent, model) = ("ada".parse().unwrap(), "script/test".parse().unwrap());
        store.append(Append::of(run, Event::SpendReserved { spend, run, task, agent, model, tokens: 10, usd: MicroUsd(usd) })).unwrap();
        spend
    };
    let mut picture = look(store.as_ref(), run);
    reserve(b, 500_000);
    picture.refresh(store.as_ref()).unwrap();
    assert_eq!(decide(&picture, NOW), [Action::Start { task: a }]);
    assert_eq!(
        waits(store.as_ref(), run, "b"),
        "more budget for the task: $0.50 of $0.50 are spent or held back (`aedile task edit b --budget-usd USD`)"
    );
    let spend = reserve(a, 1_500_000);
    picture.refresh(store.as_ref()).unwrap();
    assert_eq!(decide(&picture, NOW), [Action::EndRun { landed: 0, failed: 2 }]);
    let settled = Event::SpendSettled { spend, usage: Usage::default(), usd: MicroUsd(100_000), estimated: false };
    store.append(Append::of(run, settled)).unwrap();
    picture.refresh(store.as_ref()).unwrap();
    assert_eq!(decide(&picture, NOW), [Action::Start { task: a }], "what was held back too much is free again");
}

#[test]
fn a_stop_is_told_once_to_each_unit_and_then_written_down() {
    let store = store();
    let run = open(store.as_ref(), &plan(vec![task("a", "src/**", &[]), task("b", "docs/**", &[])], 2));
    claim(store.as_ref(), run, "a", "ada", 1);
    let a = id(store.as_ref(), run, "a");
    aedile_fleet::request_stop(store.as_ref(), run, false).unwrap();
    let mut picture = look(store.as_ref(), run);
    picture.units.insert(a, UnitPhase::Working);
    let told = decide(&picture, NOW);
    assert!(matches!(&told[..], [Action::EndUnit { task, how: Ending::AfterTurn, .. }] if *task == a), "{told:?}");
    picture.units.insert(a, UnitPhase::Finishing);
    assert!(decide(&picture, NOW).is_empty());
    aedile_fleet::request_stop(store.as_ref(), run, true).unwrap();
    picture.refresh(store.as_ref()).unwrap();
    assert!(matches!(&decide(&picture, NOW)[..], [Action::EndUnit { how: Ending::Now, .. }]));
    picture.units.clear();
    assert_eq!(decide(&picture, NOW), [Action::StopRun]);
    store.append(Append::of(run, Event::RunStopped { run })).unwrap();
    picture.refresh(store.as_ref()).unwrap();
    assert!(decide(&picture, NOW).is_empty());
    assert_eq!(waits(store.as_ref(), run, "b"), "the run to go on: `aedile run --resume`");
}

#[test]
fn two_tasks_that_a_person_sent_back_do_not_wait_for_each_other() {
    let store = store();
    let run = open(store.as_ref(), &plan(vec![task("a", "src/**", &[]), task("b", "src/**", &[])], 2));
    for key in ["a", "b"] {
        let task = id(store.as_ref(), run, key);
        store.append(Append::of(run, Event::TaskWaits { task, why: "a question".to_owned() })).unwrap();
        assert!(waits(store.as_ref(), run, key).ends_with("a question"));
        aedile_fleet::retry_task(store.as_ref(), run, key).unwrap();
    }
    let picture = look(store.as_ref(), run);
    assert_eq!(decide(&picture, NOW), [Action::Start { task: id(store.as_ref(), run, "a") }]);
}
