//! Sessions on disk.

use aedile_agent::{Session, SessionError};
use aedile_core::runtime::TurnStop;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::json;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::sync::Arc;
use tokio::signal::unix::{SignalKind, signal};

use crate::support::{Bench, Played, Turn, all_text, choice, eventually, last_results};

#[tokio::test]
async fn a_later_life_goes_on_where_the_session_was() {
    let todo = json!({"items": [{"text": "first", "status": "done"}, {"text": "second", "status": "pending"}]});
    let mut bench = Bench::new(vec![Turn::Calls(vec![("todo", todo)]), Turn::Say("Half done.")]);
    let session = bench.session();
    session.prompt("Remember 42.", &bench.sink()).await;
    let id = session.id().clone();
    assert!(matches!(Session::open(&bench.config, &id, bench.directory.path()).await, Err(SessionError::Busy { .. })));
    drop(session);
    bench.next_life(vec![Turn::Calls(vec![("todo", json!({}))]), Turn::Say("Done.")]);
    let session = bench.open(&id).await;
    assert_eq!(session.prompt("Go on.", &bench.sink()).await.stop, TurnStop::EndTurn);
    assert!(all_text(&bench.model.request(0)).contains("Remember 42."));
    assert_eq!(last_results(&bench.model.request(1))[0].0, "[x] first\n[ ] second");
}

#[tokio::test]
async fn a_life_that_was_killed_within_a_step_resumes_at_its_last_whole_step() {
    let mut bench = Bench::new(vec![Turn::Calls(vec![("bash", json!({"command": "echo one"}))]), Turn::Say("ok")]);
    let session = bench.session();
    session.prompt("go", &bench.sink()).await;
    let id = session.id().clone();
    drop(session);
    // What a killed process leaves: the model's calls without results, then half a line.
    let journal = bench.journal(&id);
    let lines: Vec<String> = fs::read_to_string(&journal).unwrap().lines().map(str::to_owned).collect();
    assert_eq!(lines.len(), 5, "session, prompt, answer, results, answer");
    fs::write(&journal, format!("{}\n{}\n{}\n{}", lines[0], lines[1], lines[2], &lines[3][..20])).unwrap();
    bench.next_life(vec![Turn::Say("resumed")]);
    let session = bench.open(&id).await;
    assert_eq!(session.prompt("You were stopped.", &bench.sink()).await.stop, TurnStop::EndTurn);
    assert!(last_results(&bench.model.request(0))[0].0.starts_with("interrupted"));
    drop(session);
    bench.next_life(vec![Turn::Say("again")]);
    assert_eq!(bench.open(&id).await.prompt("x", &bench.sink()).await.stop, TurnStop::EndTurn, "the torn line is gone");
}

#[tokio::test]
async fn damage_and_unknown_sessions_are_named() {
    let bench = Bench::new(vec![Turn::Say("ok")]);
    let session = bench.session();
    session.prompt("go", &bench.sink()).await;
    let id = session.id().clone();
    drop(session);
    let journal = bench.journal(&id);
    OpenOptions::new().append(true).open(&journal).unwrap().write_all(b"{\"kind\":\"nonsense\"}\n").unwrap();
    let error = Session::open(&bench.config, &id, bench.directory.path()).await.err().unwrap();
    assert!(matches!(error, SessionError::Damaged { line: 4, .. }), "{error}");
    fs::remove_file(&journal).unwrap();
    let error = Session::open(&bench.config, &id, bench.directory.path()).await.err().unwrap();
    assert!(matches!(error, SessionError::Unknown { .. }), "{error}");
}

#[tokio::test]
async fn a_fork_goes_on_by_itself_and_the_original_stays() {
    let mut bench = Bench::new(vec![Turn::Say("I remember.")]);
    let original = bench.session();
    original.prompt("Remember 42.", &bench.sink()).await;
    let before = fs::read(bench.journal(original.id())).unwrap();
    bench.next_life(vec![Turn::Say("In the fork.")]);
    let fork = Session::fork(&bench.config, original.id(), bench.directory.path()).await.unwrap();
    assert_ne!(fork.id(), original.id());
    assert_eq!(fork.prompt("And 43.", &bench.sink()).await.stop, TurnStop::EndTurn);
    let asked = all_text(&bench.model.request(0));
    assert!(asked.contains("Remember 42.") && asked.contains("I remember.") && asked.contains("And 43."));
    assert_eq!(fs::read(bench.journal(original.id())).unwrap(), before, "the original is untouched, and open all the while");
    let (id, forked) = (original.id().clone(), fork.id().clone());
    drop((original, fork));
    bench.next_life(vec![Turn::Say("ok"), Turn::Say("ok")]);
    bench.open(&id).await.prompt("go on", &bench.sink()).await;
    assert!(!all_text(&bench.model.request(0)).contains("And 43."));
    bench.open(&forked).await.prompt("go on", &bench.sink()).await;
    assert!(all_text(&bench.model.request(1)).contains("And 43."));
    let unknown = "018f0000-0000-7000-8000-000000000001".parse().unwrap();
    let error = Session::fork(&bench.config, &unknown, bench.directory.path()).await.err().unwrap();
    assert!(matches!(error, SessionError::Unknown { .. }), "{error}");
}

#[tokio::test]
async fn the_model_changes_in_the_middle_of_a_session_and_stays_changed() {
    let mut bench = Bench::new(vec![Turn::Say("by the first"), Turn::Hang]);
    let other = Played::new(vec![Turn::Say("by the second"), Turn::Say("again")]);
    let found = Arc::clone(&other);
    bench.config.models = Some(Arc::new(move |name| match name.strip_prefix("script/") {
        Some(model) => Ok(choice(&found, model)),
        None => Err(format!("there is no model {name}")),
    }));
    let session = bench.session();
    session.prompt("one", &bench.sink()).await;
    assert_eq!(session.set_model("nobody/x").await, Err("there is no model nobody/x".to_owned()));
    session.set_model("script/other").await.unwrap();
    session.prompt("two", &bench.sink()).await;
    assert_eq!((other.request(0).model.as_str(), bench.model.count()), ("other", 1));
    assert!(all_text(&other.request(0)).contains("by the first"));
    let id = session.id().clone();
    drop(session);
    bench.open(&id).await.prompt("three", &bench.sink()).await;
    assert_eq!(other.count(), 2, "a resumed session keeps its model");
    let busy = bench.session();
    let sink = bench.sink();
    let (end, ()) = tokio::join!(busy.prompt("wait", &sink), async {
        eventually("the model is asked", || bench.model.count() == 2).await;
        assert!(busy.set_model("script/other").await.unwrap_err().contains("is in a turn"));
        busy.interrupt();
    });
    assert_eq!(end.stop, TurnStop::Cancelled);
}

/// Sent to a process that writes beyond its limit; without a handler it ends it.
const SIGXFSZ: i32 = 25;

#[tokio::test]
async fn a_record_that_was_not_written_whole_leaves_the_session_readable() {
    let mut bench = Bench::new(vec![Turn::Say("one"), Turn::Say("two"), Turn::Say("three")]);
    let session = bench.session();
    let id = session.id().clone();
    assert_eq!(session.prompt("first", &bench.sink()).await.stop, TurnStop::EndTurn);
    // A limit on the size of files fails within a record, as a full disk does.
    let _handled = signal(SignalKind::from_raw(SIGXFSZ)).unwrap();
    let before = fs::read(bench.journal(&id)).unwrap();
    let limit = getrlimit(Resource::Fsize);
    setrlimit(Resource::Fsize, Rlimit { current: Some(before.len() as u64 + 20), ..limit }).unwrap();
    let end = session.prompt("does not fit any more", &bench.sink()).await;
    setrlimit(Resource::Fsize, limit).unwrap();
    assert!(end.stop == TurnStop::Failed && end.detail.as_deref().unwrap().contains("cannot be read or written"), "{end:?}");
    assert_eq!(fs::read(bench.journal(&id)).unwrap(), before, "no half of a record stays");
    assert_eq!(session.prompt("second", &bench.sink()).await.stop, TurnStop::EndTurn);
    drop(session);
    bench.next_life(vec![Turn::Say("resumed")]);
    assert_eq!(bench.open(&id).await.prompt("third", &bench.sink()).await.stop, TurnStop::EndTurn);
    let asked = all_text(&bench.model.request(0));
    assert!(asked.contains("second") && !asked.contains("does not fit"), "{asked}");
}

#[tokio::test]
async fn the_to_do_list_outlives_condensing_and_a_look_at_it() {
    let todo = json!({"items": [{"text": "the plan", "status": "doing"}]});
    let mut turns = vec![Turn::Calls(vec![("todo", todo)])];
    turns.extend((0..12).map(|n| Turn::Calls(vec![("bash", json!({"command": format!("echo {n}")}))])));
    turns.push(Turn::Say("done"));
    let mut bench = Bench::new(turns);
    let session = bench.session();
    let id = session.id().clone();
    session.prompt("go", &bench.sink()).await;
    assert_eq!(session.prompt("/compact", &bench.sink()).await.detail.as_deref(), Some("the conversation was condensed"));
    drop(session);
    // The first life after it looks at the list, the second one after that.
    for life in 1..=2 {
        bench.next_life(vec![Turn::Calls(vec![("todo", json!({}))]), Turn::Say("ok")]);
        bench.open(&id).await.prompt("go on", &bench.sink()).await;
        assert_eq!(last_results(&bench.model.request(1))[0].0, "[>] the plan", "life {life}");
    }
}
