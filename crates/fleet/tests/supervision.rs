//! Agents that break, hang or are busy.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use aedile_core::event::Event;
use aedile_core::limits::RESTARTS_MAX;
use aedile_core::machine::TaskState;
use aedile_core::runtime::{TurnEnd, TurnStop};
use aedile_core::sandbox::SandboxError;
use aedile_fleet::StopWish;

use crate::fakes::{World, end_turn, failed};
use crate::support::{Landing, events, open, plan, store, task, view};

fn ends(store: &dyn aedile_core::store::Store) -> Vec<(String, bool)> {
    let ended = |event| match event {
        Event::AgentEnded { why, failed, .. } => Some((why, failed)),
        _ => None,
    };
    events(store).into_iter().filter_map(|envelope| ended(envelope.event)).collect()
}

#[tokio::test]
async fn an_agent_that_breaks_is_started_again_and_resumes() {
    let world = World::new(|turn| async move {
        if turn.number < 3 {
            return failed("the model gave no answer");
        }
        turn.submit().await;
        end_turn()
    });
    let store = store();
    let run = open(store.as_ref(), &plan(vec![task("one", "src/**", &[])], 4));
    world.no_box.lock().unwrap().push(SandboxError::Setup { step: "mount".to_owned(), source: std::io::Error::other("busy") });
    let report = world.drive(&store, run, Landing::default()).await.unwrap();
    assert_eq!(report.landed, 1);
    let ends = ends(store.as_ref());
    assert_eq!(ends.len(), 4, "{ends:?}");
    assert!(ends[0].0.contains("cannot set up the box at mount") && ends[0].1);
    assert!(ends[1].0.contains("the model gave no answer") && ends[1].1);
    assert!(!ends[3].1);
    // The first life never had a session, the second made one, the third resumed it, the fourth began anew since that broke twice.
    assert_eq!(view(store.as_ref(), run, "one").attempt, 1, "the workspace is kept");
    assert!(world.prompts("one")[2].contains("An earlier session has worked here"));
}

#[tokio::test]
async fn an_agent_that_breaks_again_and_again_is_left_to_a_person() {
    let world = World::new(|_| async { failed("it crashed") });
    let store = store();
    let run = open(store.as_ref(), &plan(vec![task("one", "src/**", &[])], 4));
    let report = world.drive(&store, run, Landing::default()).await.unwrap();
    assert_eq!(report.tasks[0].state, TaskState::Waiting);
    let why = report.tasks[0].why.as_ref().unwrap();
    assert!(why.contains("it crashed") && why.contains("aedile task retry one"), "{why}");
    assert_eq!(ends(store.as_ref()).len(), RESTARTS_MAX as usize + 1);
    assert!(view(store.as_ref(), run, "one").workspace.unwrap().is_dir(), "its work stays");
}

#[tokio::test]
async fn a_session_that_cannot_be_resumed_gives_way_to_a_new_one() {
    let world = World::new(|turn| async move {
        if turn.number == 1 {
            return failed("it crashed");
        }
        turn.submit().await;
        end_turn()
    });
    world.no_resume.store(true, Ordering::SeqCst);
    let store = store();
    let run = open(store.as_ref(), &plan(vec![task("one", "src/**", &[])], 4));
    assert_eq!(world.drive(&store, run, Landing::default()).await.unwrap().landed, 1);
    assert!(world.prompts("one")[1].contains("Please do one."));
    assert_eq!(world.boxes.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_silent_agent_is_ended_and_a_busy_one_is_not() {
    let world = World::new(|turn| async move {
        if turn.key == "busy" {
            // A build without a word, far longer than the limit for silence.
            for _ in 0..60 {
                turn.world.ticks.fetch_add(50, Ordering::SeqCst);
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        } else if turn.number == 1 {
            return turn.for_ever().await;
        }
        turn.submit().await;
        end_turn()
    });
    let store = store();
    let run = open(store.as_ref(), &plan(vec![task("busy", "src/**", &[]), task("hang", "docs/**", &["busy"])], 4));
    let mut parts = world.parts(&store, "worker");
    parts.pace.silent = Duration::from_millis(200);
    let report = world.drive_with(&store, run, Landing::default(), parts, StopWish::No).await.unwrap();
    assert_eq!(report.landed, 2);
    let failed: Vec<String> = ends(store.as_ref()).into_iter().filter(|(_, failed)| *failed).map(|(why, _)| why).collect();
    assert_eq!(failed.len(), 1, "{failed:?}");
    assert!(failed[0].contains("it was silent"));
}

#[tokio::test]
async fn a_turn_has_a_limit() {
    let world = World::new(|turn| async move {
        if turn.number == 1 {
            loop {
                turn.world.ticks.fetch_add(50, Ordering::SeqCst);
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
        turn.submit().await;
        TurnEnd { stop: TurnStop::EndTurn, detail: None }
    });
    let store = store();
    let run = open(store.as_ref(), &plan(vec![task("one", "src/**", &[])], 4));
    let mut parts = world.parts(&store, "worker");
    parts.pace.turn_timeout = Duration::from_millis(100);
    let report = world.drive_with(&store, run, Landing::default(), parts, StopWish::No).await.unwrap();
    assert_eq!(report.landed, 1);
    assert!(ends(store.as_ref())[0].0.contains("took longer"));
}

#[tokio::test]
async fn an_agent_whose_work_cannot_be_saved_does_not_go_on() {
    let world = World::new(|turn| async move {
        if turn.number > 1 {
            turn.submit().await;
        }
        end_turn()
    });
    world.no_snapshot.store(1, Ordering::SeqCst);
    let store = store();
    let run = open(store.as_ref(), &plan(vec![task("one", "src/**", &[])], 4));
    let report = world.drive(&Arc::clone(&store), run, Landing::default()).await.unwrap();
    assert_eq!(report.landed, 1);
    assert!(ends(store.as_ref())[0].0.contains("the disk is full"));
}
