//! Stop, death of the worker, and going on.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use aedile_core::event::Event;
use aedile_core::machine::{AgentState, RunState, TaskState};
use aedile_core::store::{ClaimRequest, Store, list};
use aedile_core::view::{AgentView, MailView};
use aedile_fleet::{FleetError, RunDriver, StopWish};
use aedile_testkit::wait_for_async;
use tokio::sync::watch;

use crate::fakes::{World, end_turn};
use crate::support::{Landing, clock, entropy, events, open, plan, store, task, view};

/// Agents that work for ever in their first turn and submit in the next.
fn slow_world() -> Arc<World> {
    World::new(|turn| async move {
        if turn.number == 1 {
            return turn.for_ever().await;
        }
        turn.submit().await;
        end_turn()
    })
}

async fn until_in_turn(store: &Arc<dyn Store>, run: aedile_core::RunId) {
    let store = Arc::clone(store);
    wait_for_async("an agent in its turn", Duration::from_secs(10), move || {
        let store = Arc::clone(&store);
        async move { list::<AgentView>(store.as_ref(), Some(run)).unwrap().iter().any(|agent| agent.state == AgentState::InTurn).then_some(()) }
    })
    .await;
}

#[tokio::test]
async fn a_stop_lets_turns_finish_and_a_resume_goes_on_from_there() {
    let world = World::new(|turn| async move {
        if turn.number == 1 {
            let store = Arc::clone(&turn.world);
            // The stop comes while the first turn runs.
            while !store.ticks.load(Ordering::SeqCst).eq(&1) {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            return end_turn();
        }
        turn.submit().await;
        end_turn()
    });
    let store = store();
    let run = open(store.as_ref(), &plan(vec![task("one", "src/**", &[]), task("two", "docs/**", &["one"])], 4));
    let stopper = async {
        until_in_turn(&store, run).await;
        aedile_fleet::request_stop(store.as_ref(), run, false).unwrap();
        world.ticks.store(1, Ordering::SeqCst);
    };
    let (report, ()) = tokio::join!(world.drive(&store, run, Landing::default()), stopper);
    let report = report.unwrap();
    assert_eq!((report.state, report.tasks[0].state), (RunState::Stopped, TaskState::Working));
    assert_eq!(world.boxes.load(Ordering::SeqCst), 0);
    let before = view(store.as_ref(), run, "one");
    assert!(before.snapshot.is_some() && before.workspace.as_ref().unwrap().is_dir());
    assert!(aedile_fleet::request_stop(store.as_ref(), run, false).is_err());

    world.ticks.store(1, Ordering::SeqCst);
    let report = world.drive(&store, run, Landing::default()).await.unwrap();
    assert_eq!((report.state, report.landed), (RunState::Ended, 2));
    let after = view(store.as_ref(), run, "one");
    assert_eq!((after.workspace, after.attempt, after.agent), (before.workspace, 1, before.agent));
    assert!(after.fence > before.fence);
    assert_eq!(world.resumed.load(Ordering::SeqCst), 1);
    assert!(world.prompts("one")[1].contains("go on now"));
}

#[tokio::test]
async fn a_stop_at_once_does_not_wait_for_turns() {
    let world = slow_world();
    let store = store();
    let run = open(store.as_ref(), &plan(vec![task("one", "src/**", &[])], 4));
    let (stop, stops) = watch::channel(StopWish::No);
    let driver = tokio::spawn(RunDriver::new(world.parts(&store, "worker")).run(run, stops));
    until_in_turn(&store, run).await;
    stop.send_replace(StopWish::Now);
    let report = tokio::time::timeout(Duration::from_secs(10), driver).await.unwrap().unwrap().unwrap();
    assert_eq!(report.state, RunState::Stopped);
    assert_eq!(world.boxes.load(Ordering::SeqCst), 0);
    assert!(view(store.as_ref(), run, "one").snapshot.is_some(), "the work of the interrupted turn is saved");
    assert_eq!(world.drive(&store, run, Landing::default()).await.unwrap().landed, 1);
}

#[tokio::test]
async fn a_worker_that_dies_leaves_nothing_that_the_next_cannot_take_over() {
    let world = slow_world();
    let store = store();
    let run = open(store.as_ref(), &plan(vec![task("one", "src/**", &[])], 4));
    let (_stop, stops) = watch::channel(StopWish::No);
    let driver = tokio::spawn(RunDriver::new(world.parts(&store, "dead")).run(run, stops));
    until_in_turn(&store, run).await;
    // Mail that was sent and claimed, but whose turn never ended.
    let sent = (clock(), entropy());
    aedile_fleet::send_mail(store.as_ref(), (sent.0.as_ref(), sent.1.as_ref()), run, ("person", "ada"), ("hello", "the text")).unwrap();
    let name = view(store.as_ref(), run, "one").incarnation.unwrap().to_string();
    let mail = list::<MailView>(store.as_ref(), Some(run)).unwrap().remove(0).mail;
    store.append(aedile_core::store::Append::of(run, Event::MailClaimed { mail, by: name })).unwrap();

    // While it lives nobody else may drive the run.
    let (_other, others) = watch::channel(StopWish::No);
    let mut parts = world.parts(&store, "other");
    parts.host.dead = Vec::new();
    let held = RunDriver::new(parts).run(run, others).await.unwrap_err();
    assert!(matches!(&held, FleetError::Held { holder, .. } if holder == "dead"), "{held}");

    driver.abort();
    let _ = driver.await;
    wait_for_async("the boxes to end with their worker", Duration::from_secs(10), || async {
        (world.boxes.load(Ordering::SeqCst) == 0).then_some(())
    })
    .await;
    // A killed worker does not give its claims back; this one was only dropped, so take them for it.
    let task = view(store.as_ref(), run, "one");
    for name in [format!("run/{run}"), format!("task/{}", task.task)] {
        let request = ClaimRequest { name, holder: "dead".to_owned(), ttl: Duration::from_secs(600), dead: Vec::new() };
        store.claim(&request).unwrap();
    }
    let report = world.drive(&store, run, Landing::default()).await.unwrap();
    assert_eq!((report.state, report.landed), (RunState::Ended, 1));
    assert_eq!(*world.orphans.lock().unwrap(), vec![(1000, 77)]);
    let after = view(store.as_ref(), run, "one");
    assert!(after.fence > task.fence && after.incarnation != task.incarnation);
    assert_eq!((after.restarts, after.attempt, after.agent), (0, 1, task.agent));
    // The mail is delivered again and then confirmed.
    assert!(world.prompts("one")[1].contains("From person: hello"));
    assert!(list::<MailView>(store.as_ref(), Some(run)).unwrap()[0].acked);
    let resumed = events(store.as_ref()).into_iter().filter(|envelope| matches!(envelope.event, Event::RunResumed { .. })).count();
    assert_eq!(resumed, 1);
}
