//! Runs from the first task to the last, with agents that do their work.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;

use aedile_core::agent_api::{AgentReply, AgentRequest};
use aedile_core::event::Event;
use aedile_core::machine::{RunState, TaskState};
use aedile_core::sandbox::{BoxIo, BoxNet, PROGRAM_INSIDE, WORKSPACE_INSIDE, WriteScope};

use crate::fakes::{World, end_turn};
use crate::support::{Landing, events, names, open, plan, store, task, view};

#[tokio::test]
async fn dependencies_paths_and_slots_decide_who_works() {
    let world = World::new(|turn| async move {
        turn.submit().await;
        end_turn()
    });
    let store = store();
    let tasks = vec![
        task("base", "src/base/**", &[]),
        task("same", "src/base/x.rs", &[]),
        task("apart", "docs/**", &[]),
        task("more", "tests/**", &[]),
        task("top", "src/top/**", &["base", "apart"]),
    ];
    let run = open(store.as_ref(), &plan(tasks, 2));
    let report = world.drive(&store, run, Landing::default()).await.unwrap();
    assert_eq!((report.state, report.landed, report.failed), (RunState::Ended, 5, 0));
    assert!(world.boxes_most.load(Ordering::SeqCst) <= 2);
    assert_eq!(world.boxes.load(Ordering::SeqCst), 0);

    let key = |id| ["base", "same", "apart", "more", "top"].into_iter().find(|key| view(store.as_ref(), run, key).task == id).unwrap();
    let mut holding = BTreeSet::new();
    let mut landed = BTreeSet::new();
    for envelope in events(store.as_ref()) {
        match envelope.event {
            Event::TaskClaimed { task, .. } => {
                let key = key(task);
                assert!(
                    key != "top" || (landed.contains("base") && landed.contains("apart")),
                    "{key} began before its dependencies landed"
                );
                let other = if key == "base" { "same" } else { "base" };
                assert!(!["base", "same"].contains(&key) || !holding.contains(other), "{key} began while {other} held its paths");
                holding.insert(key);
            }
            Event::TaskClosed { task, .. } => {
                holding.remove(key(task));
                landed.insert(key(task));
            }
            _ => {}
        }
    }
    // Saved, then removed: nothing of a closed task is left but its snapshots.
    for place in ["workspaces", "homes"] {
        let left: Vec<_> = walk(&world.dir.path().join(place));
        assert!(left.is_empty(), "{left:?}");
    }
    let done = world.workspaces.lock().unwrap().clone();
    let at = |what: &str| done.iter().position(|entry| entry == what).unwrap();
    assert!(at("create base 1") < at("snapshot base") && at("snapshot base") < at("forget base"));
    assert_eq!(done.iter().filter(|entry| *entry == "snapshot base").count(), 1, "a workspace that did not change is not saved again");
}

/// Every file and every directory two levels down.
fn walk(dir: &std::path::Path) -> Vec<std::path::PathBuf> {
    let below = |dir: &std::path::Path| -> Vec<std::path::PathBuf> {
        std::fs::read_dir(dir).map(|entries| entries.map(|entry| entry.unwrap().path()).collect()).unwrap_or_default()
    };
    below(dir).into_iter().flat_map(|path| if dir.ends_with("homes") { below(&path) } else { vec![path] }).collect()
}

#[tokio::test]
async fn the_box_gives_what_the_task_needs_and_the_events_tell_the_story() {
    let world = World::new(|turn| async move {
        let AgentReply::Task { key, agent, scope, .. } = turn.call(AgentRequest::TaskInfo {}).await else { panic!() };
        assert_eq!((key.as_str(), agent.as_str(), scope), ("one", "ada", vec!["src/**".to_owned()]));
        assert!(matches!(turn.submit().await, AgentReply::Done { .. }));
        // Asking again, as after a lost answer, is harmless; handing in something else is not possible.
        assert!(matches!(turn.submit().await, AgentReply::Done { .. }));
        let commit = crate::support::commit(99);
        let other = turn.call(AgentRequest::Submit { commit, summary: String::new(), left_out: Vec::new() }).await;
        assert!(matches!(other, AgentReply::Refused { message } if message.contains("end your turn")));
        end_turn()
    });
    let store = store();
    let mut plan = plan(vec![task("one", "src/**", &[])], 4);
    plan.rules.build_dirs = vec!["target".to_owned()];
    let run = open(store.as_ref(), &plan);
    let report = world.drive(&store, run, Landing::default()).await.unwrap();
    assert_eq!(report.landed, 1);
    let spec = world.specs.lock().unwrap()[0].clone();
    assert_eq!(spec.tree_inside.to_str().unwrap(), WORKSPACE_INSIDE);
    let also = vec![".git".to_owned(), "target".to_owned()];
    assert_eq!(spec.write, WriteScope::Globs { globs: vec!["src/**".to_owned()], also, except: Vec::new() });
    assert_eq!((spec.net, spec.io), (BoxNet::Door, BoxIo::Piped));
    assert!(spec.mounts.iter().any(|mount| mount.inside.to_str() == Some(PROGRAM_INSIDE) && !mount.writable));
    let mine = [
        "run_started",
        "task_opened",
        "task_ready",
        "task_claimed",
        "workspace_ready",
        "box_ready",
        "agent_started",
        "turn_started",
        "change_submitted",
        "turn_ended",
        "snapshot_taken",
        "agent_ended",
        "run_ended",
    ];
    let told: Vec<&str> = names(store.as_ref()).into_iter().filter(|name| mine.contains(name)).collect();
    assert_eq!(told, mine);
    let prompt = &world.prompts("one")[0];
    for part in ["You are ada", "Please do one.", "`src/**`", "aedile submit", "No gate is configured"] {
        assert!(prompt.contains(part), "{part} is not in {prompt}");
    }
    // The transcript and the claims.
    let turn_ended = events(store.as_ref()).into_iter().find_map(|envelope| match envelope.event {
        Event::TurnEnded { transcript, .. } => transcript,
        _ => None,
    });
    let transcript = String::from_utf8(store.get_blob(&turn_ended.unwrap()).unwrap().unwrap()).unwrap();
    assert!(transcript.contains("Please do one."));
    assert!(store.claims("").unwrap().is_empty());
}

#[tokio::test]
async fn no_name_of_a_run_is_given_twice() {
    let world = World::new(|turn| async move {
        turn.submit().await;
        end_turn()
    });
    let store = store();
    let tasks = vec![task("a", "a/**", &[]), task("b", "b/**", &["a"]), task("c", "c/**", &["b"]), task("d", "d/**", &["c"])];
    let run = open(store.as_ref(), &plan(tasks, 2));
    assert_eq!(world.drive(&store, run, Landing::default()).await.unwrap().landed, 4);
    // Mail to an agent whose task is closed must never reach another.
    let given: BTreeSet<String> =
        ["a", "b", "c", "d"].iter().map(|key| view(store.as_ref(), run, key).agent.unwrap().to_string()).collect();
    assert_eq!(given.len(), 4, "{given:?}");
}

#[tokio::test]
async fn a_turn_without_a_submission_gets_one_reminder_and_a_person_may_ask_again() {
    let world = World::new(|turn| async move {
        if turn.number == 3 {
            turn.submit().await;
        }
        end_turn()
    });
    let store = store();
    let run = open(store.as_ref(), &plan(vec![task("one", "src/**", &[]), task("two", "docs/**", &["one"])], 4));
    let report = world.drive(&store, run, Landing::default()).await.unwrap();
    assert_eq!((report.landed, report.failed), (0, 2));
    assert_eq!(report.tasks[0].state, TaskState::FinishedWithoutSubmit);
    assert!(report.tasks[1].why.as_ref().unwrap().contains("`one` (finished-without-submit) to land"));
    let prompts = world.prompts("one");
    assert_eq!(prompts.len(), 2);
    assert!(prompts[1].contains("is not submitted"));

    aedile_fleet::retry_task(store.as_ref(), run, "one").unwrap();
    // The second task's agent submits at its third prompt too.
    let report = world.drive(&store, run, Landing::default()).await.unwrap();
    assert_eq!(report.tasks[0].state, TaskState::Landed);
    assert!(world.prompts("one")[2].contains("A person wants"));
    assert_eq!(world.resumed.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn what_a_person_must_mend_is_asked_of_the_person_at_once() {
    let world = World::new(|turn| async move {
        turn.submit().await;
        end_turn()
    });
    let store = store();
    let mut other = task("other", "other/**", &[]);
    other.runtime = "unknown".to_owned();
    let run = open(store.as_ref(), &plan(vec![task("one", "src/**", &[]), other], 4));
    world.no_door.store(true, Ordering::SeqCst);
    let report = world.drive(&store, run, Landing::default()).await.unwrap();
    assert_eq!(report.failed, 2);
    assert!(report.tasks[0].why.as_ref().unwrap().contains("OPENAI_API_KEY is not set"));
    assert!(report.tasks[1].why.as_ref().unwrap().contains("there is no runtime `unknown`; known are `fake`"));
    assert_eq!(world.boxes.load(Ordering::SeqCst), 0);
    assert_eq!(names(store.as_ref()).iter().filter(|name| **name == "task_claimed").count(), 2);
    // Mended, it goes on in the same workspace.
    world.no_door.store(false, Ordering::SeqCst);
    aedile_fleet::retry_task(store.as_ref(), run, "one").unwrap();
    let report = world.drive(&store, run, Landing::default()).await.unwrap();
    assert_eq!(report.landed, 1);
    assert_eq!(view(store.as_ref(), run, "one").attempt, 1);
}
