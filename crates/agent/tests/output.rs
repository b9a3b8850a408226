//! Answers by a schema.

use aedile_core::runtime::{SessionEvent, TurnStop};
use serde_json::{Value, json};

use crate::support::{Bench, Turn, all_text};

fn schema() -> Value {
    json!({"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"], "additionalProperties": false})
}

fn outputs(bench: &Bench) -> Vec<Value> {
    let output = |event| match event {
        SessionEvent::Output { value } => Some(value),
        _ => None,
    };
    bench.events().into_iter().filter_map(output).collect()
}

#[tokio::test]
async fn an_answer_is_checked_and_asked_for_again_with_the_problem() {
    let bench = Bench::new(vec![
        Turn::Calls(vec![("bash", json!({"command": "echo 1"}))]),
        Turn::Say("It is one."),
        Turn::Say("{\"n\": \"one\"}"),
        Turn::Say("```json\n{\"n\": 1}\n```"),
    ]);
    let session = bench.session();
    let end = session.prompt_for_output("Count.", &schema(), &bench.sink()).await;
    assert_eq!((end.stop, outputs(&bench)), (TurnStop::EndTurn, vec![json!({"n": 1})]));
    assert!(all_text(&bench.model.request(0)).contains("additionalProperties"), "the model knows the schema");
    assert!(all_text(&bench.model.request(2)).contains("it is not one JSON value"));
    assert!(all_text(&bench.model.request(3)).contains("/n: "));
    assert_eq!(session.prompt("Thank you.", &bench.sink()).await.stop, TurnStop::EndTurn, "the next prompt is an ordinary one");
}

#[tokio::test]
async fn what_never_fits_fails_and_a_schema_that_is_none_is_refused() {
    let bench = Bench::new(vec![Turn::Say("one"), Turn::Say("two"), Turn::Say("three"), Turn::Say("four")]);
    let end = bench.session().prompt_for_output("Count.", &schema(), &bench.sink()).await;
    assert_eq!((end.stop, bench.model.count()), (TurnStop::Failed, 3));
    assert!(end.detail.unwrap().contains("does not follow the schema after 3 tries"));
    let bench = Bench::new(vec![]);
    let end = bench.session().prompt_for_output("Count.", &json!({"type": "number of things"}), &bench.sink()).await;
    assert_eq!((end.stop, bench.model.count()), (TurnStop::Failed, 0));
    assert!(end.detail.unwrap().contains("not a JSON schema"));
    assert!(outputs(&bench).is_empty());
}

#[tokio::test]
async fn an_empty_answer_is_not_the_one_before_it() {
    let bench = Bench::new(vec![Turn::Say("{\"n\": 1}"), Turn::Say(""), Turn::Say("{\"n\": 2}"), Turn::Say("")]);
    bench.hooks(&[("Stop", "", "cat > stopped")]);
    let session = bench.session();
    session.prompt("first", &bench.sink()).await;
    assert!(bench.get("stopped").contains("\"last_assistant_message\":\"{\\\"n\\\": 1}\""), "{}", bench.get("stopped"));
    let end = session.prompt_for_output("Count.", &schema(), &bench.sink()).await;
    assert_eq!((end.stop, outputs(&bench)), (TurnStop::EndTurn, vec![json!({"n": 2})]));
    session.prompt("last", &bench.sink()).await;
    assert!(bench.get("stopped").contains("\"last_assistant_message\":\"\""), "{}", bench.get("stopped"));
}
