//! Interrupting turns.

use aedile_core::runtime::{SessionEvent, TurnStop};
use serde_json::json;

use crate::support::{Bench, Turn, eventually, is_alive, last_results};

#[tokio::test]
async fn an_interrupt_within_bash_ends_the_program_and_keeps_the_conversation_valid() {
    let bench = Bench::new(vec![
        Turn::Calls(vec![
            ("bash", json!({"command": "echo before"})),
            ("bash", json!({"command": "echo $$ > pid; sleep 600"})),
            ("bash", json!({"command": "touch never"})),
        ]),
        Turn::Say("I see."),
    ]);
    let session = bench.session();
    let sink = bench.sink();
    let running = || bench.path("pid").exists() && !bench.get("pid").is_empty();
    let (end, ()) = tokio::join!(session.prompt("go", &sink), async {
        eventually("the command runs", running).await;
        session.interrupt();
    });
    assert_eq!(end.stop, TurnStop::Cancelled);
    let pid = bench.get("pid");
    eventually("the program is ended", || !is_alive(&pid)).await;
    assert!(!bench.path("never").exists());
    assert_eq!(session.prompt("why?", &bench.sink()).await.stop, TurnStop::EndTurn);
    let results = last_results(&bench.model.request(1));
    assert_eq!(results[0], ("before".to_owned(), false));
    assert!(results[1].0.starts_with("interrupted") && results[2].0.starts_with("not run"), "{results:?}");
    let count = |wanted: fn(&SessionEvent) -> bool| bench.events().iter().filter(|event| wanted(event)).count();
    assert_eq!(count(|event| matches!(event, SessionEvent::ToolStarted { .. })), 2);
    assert_eq!(count(|event| matches!(event, SessionEvent::ToolEnded { .. })), 2);
}

#[tokio::test]
async fn an_interrupt_while_the_model_thinks_discards_its_answer() {
    let bench = Bench::new(vec![Turn::Hang, Turn::Say("ok")]);
    let session = bench.session();
    let sink = bench.sink();
    session.interrupt();
    let (end, (), busy) = tokio::join!(
        session.prompt("go", &sink),
        async {
            eventually("the model is asked", || bench.model.count() == 1).await;
            session.interrupt();
        },
        session.prompt("me too", &sink)
    );
    assert_eq!(end.stop, TurnStop::Cancelled);
    assert_eq!(busy.stop, TurnStop::Failed);
    assert_eq!(session.prompt("again", &sink).await.stop, TurnStop::EndTurn);
}

#[tokio::test]
async fn a_dropped_prompt_leaves_a_usable_session() {
    let bench = Bench::new(vec![Turn::Calls(vec![("bash", json!({"command": "touch begun; sleep 600"}))]), Turn::Say("ok")]);
    let session = bench.session();
    let sink = bench.sink();
    tokio::select! {
        _ = session.prompt("go", &sink) => unreachable!("the command lasts"),
        () = eventually("the command runs", || bench.path("begun").exists()) => {}
    }
    assert_eq!(session.prompt("again", &sink).await.stop, TurnStop::EndTurn);
    assert!(last_results(&bench.model.request(1))[0].0.starts_with("interrupted"));
}
