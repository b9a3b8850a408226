//! Cancelled tasks.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use aedile_core::RunId;
use aedile_core::machine::{ChangeState, TaskState};
use aedile_core::store::{Store, list};
use aedile_core::view::ChangeView;
use aedile_testkit::wait_for_async;

use crate::fakes::{World, end_turn};
use crate::support::{Landing, open, plan, store, task, view};

async fn until(store: &Arc<dyn Store>, run: RunId, key: &'static str, state: TaskState) {
    wait_for_async("the task", Duration::from_secs(10), || async { (view(store.as_ref(), run, key).state == state).then_some(()) }).await;
}

#[tokio::test]
async fn a_cancelled_task_ends_its_agent_and_its_dependents_say_so() {
    let world = World::new(|turn| async move {
        match turn.key.as_str() {
            "one" => turn.for_ever().await,
            _ => {
                turn.submit().await;
                end_turn()
            }
        }
    });
    let store = store();
    let tasks = vec![task("one", "src/**", &[]), task("two", "docs/**", &["one"]), task("three", "src/x.rs", &[])];
    let run = open(store.as_ref(), &plan(tasks, 4));
    let cancels = async {
        until(&store, run, "one", TaskState::Working).await;
        aedile_fleet::cancel_task(store.as_ref(), run, "one").unwrap();
    };
    let (report, ()) = tokio::join!(world.drive(&store, run, Landing::default()), cancels);
    let report = report.unwrap();
    let states: Vec<TaskState> = report.tasks.iter().map(|task| task.state).collect();
    assert_eq!(states, [TaskState::Cancelled, TaskState::Open, TaskState::Landed], "paths of a cancelled task are free again");
    assert!(report.tasks[1].why.as_ref().unwrap().contains("`one` (cancelled) to land"));
    assert_eq!(world.boxes.load(Ordering::SeqCst), 0);
    assert!(world.workspaces.lock().unwrap().contains(&"snapshot one".to_owned()), "also cancelled work is saved");
    let again = aedile_fleet::cancel_task(store.as_ref(), run, "one").unwrap_err().to_string();
    assert!(again.contains("cancelled already"), "{again}");
}

#[tokio::test]
async fn a_workspace_that_cannot_be_saved_is_written_down_until_it_is() {
    let world = World::new(|turn| async move { turn.for_ever().await });
    let store = store();
    let run = open(store.as_ref(), &plan(vec![task("one", "src/**", &[])], 4));
    let cancels = async {
        until(&store, run, "one", TaskState::Working).await;
        // When it is tidied, and at the end of its agent's life if that had begun.
        world.no_snapshot.store(u32::MAX, Ordering::SeqCst);
        aedile_fleet::cancel_task(store.as_ref(), run, "one").unwrap();
    };
    let (report, ()) = tokio::join!(world.drive(&store, run, Landing::default()), cancels);
    let (why, place) = report.unwrap().tasks[0].kept.clone().unwrap();
    assert!(why.contains("the disk is full") && place.is_dir(), "{why}");
    world.no_snapshot.store(0, Ordering::SeqCst);
    let report = world.drive(&store, run, Landing::default()).await.unwrap();
    assert_eq!((report.tasks[0].kept.clone(), view(store.as_ref(), run, "one").kept), (None, None));
    assert!(!place.exists(), "saved, then removed");
}

#[tokio::test]
async fn a_change_in_the_queue_goes_back_with_its_cancelled_task() {
    let world = World::new(|turn| async move {
        turn.submit().await;
        end_turn()
    });
    let store = store();
    let run = open(store.as_ref(), &plan(vec![task("one", "src/**", &[])], 4));
    let cancels = async {
        until(&store, run, "one", TaskState::Submitted).await;
        aedile_fleet::cancel_task(store.as_ref(), run, "one").unwrap();
    };
    let stuck = Landing { stuck: vec!["one".to_owned()], ..Landing::default() };
    let (report, ()) = tokio::join!(world.drive(&store, run, stuck), cancels);
    assert_eq!(report.unwrap().tasks[0].state, TaskState::Cancelled);
    assert_eq!(list::<ChangeView>(store.as_ref(), Some(run)).unwrap()[0].state, ChangeState::Returned);
}

#[test]
fn a_command_names_what_there_is() {
    let store = store();
    let run = open(store.as_ref(), &plan(vec![task("one", "src/**", &[]), task("two", "docs/**", &[])], 4));
    let error = aedile_fleet::cancel_task(store.as_ref(), run, "three").unwrap_err().to_string();
    assert!(error.contains("no task `three`") && error.contains("`one`, `two`"), "{error}");
    let error = aedile_fleet::retry_task(store.as_ref(), run, "one").unwrap_err().to_string();
    assert!(error.contains("is open and does not wait"), "{error}");
}
