//! Agents that leave or say more than can be written down: it is their task that waits, and the run goes on.

use std::fs;

use aedile_core::agent_api::{AgentReply, AgentRequest};
use aedile_core::event::Event;
use aedile_core::limits::EVENT_BYTES_MAX;
use aedile_core::machine::{RunState, TaskState};
use aedile_core::runtime::{TurnEnd, TurnStop};

use crate::fakes::{World, end_turn, failed};
use crate::support::{Landing, events, open, plan, store, task, view};

#[tokio::test]
async fn an_agent_that_leaves_more_than_an_event_holds_waits_alone() {
    let world = World::new(|turn| async move {
        turn.submit().await;
        end_turn()
    });
    let many = (0..20_000).map(|n| format!("src/f{n}: is no file")).collect();
    world.oversized.lock().unwrap().insert("big".to_owned(), many);
    let store = store();
    let run = open(store.as_ref(), &plan(vec![task("big", "src/**", &[]), task("other", "docs/**", &[])], 4));
    let stuck = Landing { stuck: vec!["big".to_owned()], ..Landing::default() };
    let report = world.drive(&store, run, stuck.clone()).await.unwrap();
    assert_eq!((report.state, report.landed), (RunState::Ended, 1));
    let why = report.tasks[0].why.clone().unwrap();
    assert!(report.tasks[0].state == TaskState::Waiting && why.contains("an event has") && why.contains("at most"), "{why}");
    // Its person gives it up; tidying meets the same files, and the workspace stays.
    aedile_fleet::cancel_task(store.as_ref(), run, "big").unwrap();
    let report = world.drive(&store, run, stuck).await.unwrap();
    assert_eq!((report.state, report.tasks[0].state), (RunState::Ended, TaskState::Cancelled));
    assert!(view(store.as_ref(), run, "big").workspace.unwrap().is_dir(), "what could not be saved is not removed");
}

#[tokio::test]
async fn what_an_agent_says_is_cut_to_what_an_event_holds() {
    let world = World::new(|turn| async move {
        match turn.number {
            1 => failed(&"\u{1}".repeat(2 << 20)),
            2 => TurnEnd { stop: TurnStop::EndTurn, detail: Some("€".repeat(2 << 20)) },
            _ => {
                let left_out = (0..200).map(|_| "€".repeat(1000)).collect();
                let request = AgentRequest::Submit { commit: crate::support::commit(7), summary: "€".repeat(5000), left_out };
                let reply = turn.call(request).await;
                assert!(matches!(reply, AgentReply::Done { .. }), "{reply:?}");
                end_turn()
            }
        }
    });
    let store = store();
    let run = open(store.as_ref(), &plan(vec![task("one", "src/**", &[])], 4));
    let report = world.drive(&store, run, Landing::default()).await.unwrap();
    assert_eq!(report.landed, 1, "{report:?}");
    let mut details = 0;
    for envelope in events(store.as_ref()) {
        let size = serde_json::to_string(&envelope.event).unwrap().len();
        assert!(size < EVENT_BYTES_MAX / 2, "{} has {size} bytes", envelope.event.name());
        match envelope.event {
            Event::TurnEnded { detail: Some(detail), .. } => {
                details += 1;
                assert!(detail.contains("bytes cut"), "{} bytes", detail.len());
            }
            Event::ChangeSubmitted { left_out, .. } => assert!(left_out.last().unwrap().contains("more")),
            _ => {}
        }
    }
    assert_eq!(details, 2);
    let homes = world.dir.path().join("homes");
    assert!(fs::read_dir(homes).unwrap().flatten().all(|run| fs::read_dir(run.path()).unwrap().next().is_none()));
}
