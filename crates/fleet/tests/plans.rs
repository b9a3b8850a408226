//! Opening runs.

use std::sync::Arc;

use aedile_core::clock::{SeededEntropy, SteppingClock};
use aedile_core::event::Event;
use aedile_core::machine::RunState;
use aedile_core::project::ProjectRules;
use aedile_core::store::{Store, list};
use aedile_core::task::{GateSpec, TaskSpec};
use aedile_core::view::{RunView, TaskView};
use aedile_fleet::plan::{RunPlan, check};
use aedile_store::{Crash, MemoryStore};

use crate::support::{names, open, plan, store, task};

fn wrong(change: impl FnOnce(&mut RunPlan)) -> String {
    let mut plan = plan(vec![task("a", "src/**", &[]), task("b", "docs/**", &["a"])], 2);
    change(&mut plan);
    check(&plan).unwrap_err().to_string()
}

fn wrong_task(change: impl FnOnce(&mut TaskSpec)) -> String {
    wrong(|plan| change(&mut plan.tasks[1]))
}

#[test]
fn what_is_wrong_with_a_plan_is_said_with_task_and_field() {
    let cases = [
        (wrong(|plan| plan.tasks.clear()), "no tasks"),
        (wrong(|plan| plan.slots = 0), "0 agents at once"),
        (wrong(|plan| plan.slots = 65), "give 1 to 64"),
        (wrong(|plan| plan.tasks[1].key = plan.tasks[0].key.clone()), "task `a`: id is used by two tasks"),
        (wrong_task(|task| task.title = " ".to_owned()), "task `b`: title is empty"),
        (wrong_task(|task| task.title = "a\nb".to_owned()), "task `b`: title must be one line"),
        (wrong_task(|task| task.prompt = "x".repeat(300_000)), "task `b`: prompt makes the task"),
        (wrong_task(|task| task.scope.clear()), "task `b`: scope is empty"),
        (wrong_task(|task| task.scope = vec!["../x".to_owned()]), "task `b`: scope \"../x\" must not leave"),
        (wrong_task(|task| task.after[0] = "z".parse().unwrap()), "task `b`: after names `z`, which is no task"),
        (wrong_task(|task| task.after[0] = "b".parse().unwrap()), "task `b`: after names the task itself"),
        (
            wrong_task(|task| task.gates.push(GateSpec { name: "lint".to_owned(), command: String::new(), timeout_s: None })),
            "task `b`: gates has the gate `lint` without a command",
        ),
    ];
    for (error, part) in cases {
        assert!(error.contains(part), "{error:?} does not say {part:?}");
    }
    assert!(wrong(|plan| plan.tasks = (0..1001).map(|n| task(&format!("t{n}"), "x/**", &[])).collect()).contains("1001 tasks"));
}

#[test]
fn a_circle_of_dependencies_is_named() {
    let tasks = vec![task("a", "a/**", &["c"]), task("b", "b/**", &["a"]), task("c", "c/**", &["b"]), task("d", "d/**", &["a"])];
    let error = check(&plan(tasks, 2)).unwrap_err().to_string();
    assert!(error.contains("a -> c -> b -> a") || error.contains("c -> b -> a -> c") || error.contains("b -> a -> c -> b"), "{error}");
}

#[test]
fn a_run_is_opened_as_a_whole() {
    let store = store();
    let run = open(store.as_ref(), &plan(vec![task("a", "src/**", &[]), task("b", "docs/**", &["a"])], 2));
    assert_eq!(names(store.as_ref()), ["run_started", "task_opened", "task_opened"]);
    assert_eq!(list::<TaskView>(store.as_ref(), Some(run)).unwrap().len(), 2);
}

#[test]
fn a_large_run_that_was_half_opened_never_runs() {
    let clock = Arc::new(SteppingClock::default());
    let tasks: Vec<TaskSpec> = (0..600).map(|n| task(&format!("t{n}"), "src/**", &[])).collect();
    let plan = RunPlan { rules: ProjectRules::default(), ..plan(tasks, 2) };
    let runs = |store: &MemoryStore| list::<RunView>(store, None).unwrap();
    for (at, kind) in [(1, Crash::AfterReply), (2, Crash::BeforeReply), (3, Crash::BeforeWrite)] {
        let store = MemoryStore::new(Arc::<SteppingClock>::clone(&clock)).with_crash_after(at, kind);
        aedile_fleet::open_run(&store, clock.as_ref(), &SeededEntropy::new(at), &plan).unwrap_err();
        let store = store.reopen();
        assert!(runs(&store).iter().all(|run| run.state == RunState::Ended), "crash at append {at}");
    }
    let store = MemoryStore::new(Arc::<SteppingClock>::clone(&clock));
    let run = aedile_fleet::open_run(&store, clock.as_ref(), &SeededEntropy::new(9), &plan).unwrap();
    assert_eq!(runs(&store)[0].state, RunState::Running);
    assert_eq!(list::<TaskView>(&store, Some(run)).unwrap().len(), 600);
    let last = store.read(aedile_core::event::Position(store.last().unwrap().0 - 1), 10).unwrap().remove(0);
    assert!(matches!(last.event, Event::RunResumed { .. }));
}
