//! Sessions on disk.

use aedile_agent::{Session, SessionError};
use aedile_core::runtime::TurnStop;
use serde_json::json;
use std::fs::{self, OpenOptions};
use std::io::Write;

use crate::support::{Bench, Turn, all_text, last_results};

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
