//! Changes that come back.

use aedile_core::event::ReturnReason;
use aedile_core::limits::RETURNS_MAX;
use aedile_core::machine::TaskState;

use crate::fakes::{World, end_turn};
use crate::support::{Landing, open, plan, store, task, view};

fn submits() -> std::sync::Arc<World> {
    World::new(|turn| async move {
        turn.submit().await;
        end_turn()
    })
}

fn returning(reason: &ReturnReason, times: usize) -> Landing {
    Landing { returns: [("one".to_owned(), vec![reason.clone(); times])].into(), ..Landing::default() }
}

#[tokio::test]
async fn a_returned_change_gets_a_new_workspace_and_the_evidence() {
    let world = submits();
    let store = store();
    let run = open(store.as_ref(), &plan(vec![task("one", "src/**", &[])], 4));
    let report = world.drive(&store, run, returning(&ReturnReason::Gate { gate: "test".to_owned() }, 1)).await.unwrap();
    assert_eq!(report.landed, 1);
    let one = view(store.as_ref(), run, "one");
    assert_eq!((one.attempt, one.returns, one.agent.unwrap().as_str()), (2, 1, "ada"));
    let prompts = world.prompts("one");
    assert!(prompts[1].contains("gate `test` was red"), "{}", prompts[1]);
    assert!(prompts[1].contains("line 7: it is red") && prompts[1].contains("src/a.rs"));
    let done = world.workspaces.lock().unwrap().clone();
    let at = |what: &str| done.iter().position(|entry| entry == what).unwrap();
    assert!(at("snapshot one") < at("create one 2") && at("create one 2") < at("remove 1"), "{done:?}");
}

#[tokio::test]
async fn an_empty_change_goes_on_in_its_workspace() {
    let world = submits();
    let store = store();
    let run = open(store.as_ref(), &plan(vec![task("one", "src/**", &[])], 4));
    assert_eq!(world.drive(&store, run, returning(&ReturnReason::Empty, 1)).await.unwrap().landed, 1);
    assert_eq!(view(store.as_ref(), run, "one").attempt, 1);
}

#[tokio::test]
async fn a_change_that_comes_back_too_often_waits_for_a_person() {
    let world = submits();
    let store = store();
    let run = open(store.as_ref(), &plan(vec![task("one", "src/**", &[])], 4));
    let conflict = ReturnReason::Conflict { paths: vec!["src/a.rs".to_owned()] };
    let mut landing = returning(&conflict, RETURNS_MAX as usize + 1);
    let report = world.drive(&store, run, landing.clone()).await.unwrap();
    assert_eq!(report.tasks[0].state, TaskState::Waiting);
    assert!(report.tasks[0].why.as_ref().unwrap().contains("it conflicts with the target in src/a.rs"));
    assert_eq!(world.prompts("one").len(), RETURNS_MAX as usize + 1);
    aedile_fleet::retry_task(store.as_ref(), run, "one").unwrap();
    landing.returns.clear();
    assert_eq!(world.drive(&store, run, landing).await.unwrap().landed, 1);
}

#[tokio::test]
async fn protected_paths_are_a_matter_for_a_person_at_once() {
    let world = submits();
    let store = store();
    let run = open(store.as_ref(), &plan(vec![task("one", "src/**", &[])], 4));
    let protected = ReturnReason::Protected { paths: vec!["aedile.toml".to_owned()] };
    let report = world.drive(&store, run, returning(&protected, 1)).await.unwrap();
    let why = report.tasks[0].why.as_ref().unwrap();
    assert!(why.contains("aedile.toml") && why.contains("aedile landing approve one"), "{why}");
    assert_eq!(world.prompts("one").len(), 1);
}
