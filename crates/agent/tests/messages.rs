//! What a person says within a turn.

use std::sync::Arc;

use aedile_core::runtime::{SessionEvent, SessionSink, TurnStop};
use futures_util::FutureExt;
use serde_json::json;

use crate::support::{Bench, Turn, all_text, eventually};

/// Makes `held` and waits for `go`.
fn hold() -> Turn {
    Turn::Calls(vec![("bash", json!({"command": "touch held; until [ -e go ]; do sleep 0.02; done; rm held go"}))])
}

fn told(bench: &Bench) -> Vec<String> {
    let texts = bench.events().into_iter().filter_map(|event| match event {
        SessionEvent::Message { text } => Some(text),
        _ => None,
    });
    texts.collect()
}

#[tokio::test]
async fn a_message_is_taken_in_between_two_steps_of_a_turn() {
    let bench = Bench::new(vec![hold(), hold(), Turn::Say("Blue it is.")]);
    let session = bench.session();
    assert!(!session.message("nobody listens").await, "there is no turn");
    let sink = bench.sink();
    let person = async {
        eventually("the command runs", || bench.path("held").exists()).await;
        let (first, second, ()) = tokio::join!(session.message("use blue"), session.message("and no red"), async { bench.put("go", "") });
        assert!(first && second);
        eventually("the second command runs", || bench.path("held").exists() && bench.model.count() == 2).await;
        bench.put("go", "");
    };
    let (end, ()) = tokio::join!(session.prompt("go", &sink), person);
    assert_eq!((end.stop, bench.model.count()), (TurnStop::EndTurn, 3));
    let second = all_text(&bench.model.request(1));
    let (blue, red) = (second.find("use blue").unwrap(), second.find("and no red").unwrap());
    assert!(blue < red && !all_text(&bench.model.request(0)).contains("use blue"), "{second}");
    assert_eq!(told(&bench), ["use blue", "and no red"]);
    // What was said is part of the conversation of a later process too.
    let id = session.id().clone();
    drop(session);
    let journal = std::fs::read_to_string(bench.journal(&id)).unwrap();
    assert_eq!(journal.matches("{\"kind\":\"prompt\"").count(), 3, "{journal}");
}

#[tokio::test]
async fn what_is_said_while_the_model_answers_is_answered_before_the_turn_ends() {
    let bench = Bench::new(vec![Turn::Say("Done."), Turn::Say("Blue it is.")]);
    bench.hooks(&[("Stop", "", "cat >> stopped")]);
    let session = Arc::new(bench.session());
    let (heard, speaker) = (bench.sink(), Arc::clone(&session));
    let sink: SessionSink = Arc::new(move |event| {
        if matches!(&event, SessionEvent::Text { text } if text == "Done.") {
            assert!(speaker.message("use blue").now_or_never().is_none(), "it waits in the turn");
        }
        heard(event);
    });
    assert_eq!(session.prompt("go", &sink).await.stop, TurnStop::EndTurn);
    assert_eq!((told(&bench), bench.model.count()), (vec!["use blue".to_owned()], 2));
    assert!(all_text(&bench.model.request(1)).contains("use blue"));
    let stopped = bench.get("stopped");
    assert!(stopped.contains("Blue it is.") && !stopped.contains("Done."), "the turn ended once: {stopped}");

    // The model hangs; what comes then is left when the turn is interrupted.
    let bench = Bench::new(vec![Turn::Hang]);
    let session = bench.session();
    let sink = bench.sink();
    let person = async {
        eventually("the model is asked", || bench.model.count() == 1).await;
        let (taken, ()) = tokio::join!(session.message("use blue"), async { session.interrupt() });
        assert!(!taken, "the turn ended before");
    };
    let (end, ()) = tokio::join!(session.prompt("go", &sink), person);
    assert_eq!((end.stop, told(&bench).len()), (TurnStop::Cancelled, 0));
}

#[tokio::test]
async fn a_message_that_a_hook_refuses_or_that_does_not_fit_is_not_taken() {
    let bench = Bench::new(vec![hold(), Turn::Say("ok")]);
    bench.hooks(&[("UserPromptSubmit", "", "grep -q red && { echo no red please >&2; exit 2; } || true")]);
    let session = bench.session();
    let sink = bench.sink();
    let person = async {
        eventually("the command runs", || bench.path("held").exists()).await;
        let large = "x".repeat(2_000_000);
        let (red, large, blue, ()) =
            tokio::join!(session.message("use red"), session.message(&large), session.message("use blue"), async { bench.put("go", "") });
        assert_eq!((red, large, blue), (false, false, true));
    };
    let (end, ()) = tokio::join!(session.prompt("go", &sink), person);
    assert_eq!((end.stop, told(&bench)), (TurnStop::EndTurn, vec!["use blue".to_owned()]));
    let seen = all_text(&bench.model.request(1));
    assert!(seen.contains("use blue") && !seen.contains("use red"), "{seen}");
    assert!(bench.warnings().contains("refused a message: no red please"), "{}", bench.warnings());
}
