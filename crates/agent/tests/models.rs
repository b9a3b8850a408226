//! Changes of the model, wished and forced.

use aedile_agent::ModelChoice;
use aedile_core::model::{Abilities, DeltaSink, ModelError, ModelProvider, ModelRequest, ModelResponse};
use aedile_core::runtime::{SessionEvent, TurnStop};
use async_trait::async_trait;
use serde_json::json;
use std::sync::Arc;

use crate::support::{Bench, Played, Turn, all_text, choice, last_results};

/// A picture of one point.
const PNG: &[u8] = &[
    137, 80, 78, 71, 13, 10, 26, 10, 0, 0, 0, 13, 73, 72, 68, 82, 0, 0, 0, 1, 0, 0, 0, 1, 8, 0, 0, 0, 0, 58, 126, 155, 85, 0, 0, 0, 10, 73,
    68, 65, 84, 120, 156, 99, 248, 15, 0, 1, 1, 1, 0, 177, 56, 246, 20, 0, 0, 0, 0, 73, 69, 78, 68, 174, 66, 96, 130,
];

fn down() -> Turn {
    Turn::Fail(ModelError::Down { message: "anthropic is left alone".to_owned(), next: "script/other".to_owned() })
}

/// Lets sessions change to this model, by the name `script/other`.
fn offer(bench: &mut Bench, choice: ModelChoice) {
    bench.config.models = Some(Arc::new(move |name| match name {
        "script/other" => Ok(choice.clone()),
        _ => Err(format!("the door does not lead to {name}")),
    }));
}

fn description_of<'a>(request: &'a ModelRequest, tool: &str) -> &'a str {
    &request.tools.iter().find(|spec| spec.name == tool).unwrap().description
}

#[tokio::test]
async fn another_model_takes_over_within_the_turn_and_the_own_one_is_back_with_the_next_prompt() {
    let mut bench = Bench::new(vec![Turn::Calls(vec![("bash", json!({"command": "echo one"}))]), down(), Turn::Say("I am back.")]);
    let other = Played::new(vec![Turn::Calls(vec![("bash", json!({"command": "echo two"}))]), Turn::Say("Done.")]);
    offer(&mut bench, choice(&other, "other"));
    let session = bench.session();
    assert_eq!(session.prompt("go", &bench.sink()).await.stop, TurnStop::EndTurn);
    assert_eq!((bench.model.count(), other.count()), (2, 2));
    let first = other.request(0);
    assert!(first.model == "other" && last_results(&first)[0].0.contains("one"), "it goes on where the other one was");
    assert!(bench.warnings().contains("script/other takes over until the next prompt: anthropic is left alone"), "{}", bench.warnings());
    assert_eq!(session.prompt("again", &bench.sink()).await.stop, TurnStop::EndTurn);
    assert_eq!((bench.model.request(2).model.as_str(), other.count()), ("played", 2));
    let id = session.id().clone();
    drop(session);
    bench.next_life(vec![Turn::Say("own")]);
    bench.open(&id).await.prompt("and now?", &bench.sink()).await;
    assert_eq!(bench.model.count(), 1, "a later life begins with the session's own model");
}

#[tokio::test]
async fn a_model_that_cannot_take_over_is_named_and_taking_over_has_an_end() {
    let bench = Bench::new(vec![down()]);
    let end = bench.prompt("go").await;
    let detail = end.detail.unwrap();
    assert!(end.stop == TurnStop::Failed && detail.contains("script/other cannot take over: there is no other model here"), "{detail}");
    let mut bench = Bench::new(vec![down()]);
    let other = Played::new((0..20).map(|_| down()).collect());
    offer(&mut bench, choice(&other, "other"));
    let end = bench.prompt("go").await;
    assert_eq!((end.stop, end.detail.as_deref(), other.count()), (TurnStop::Failed, Some("anthropic is left alone"), 8));
}

#[tokio::test]
async fn a_conversation_that_does_not_fit_the_next_model_is_condensed_for_it() {
    let show = |name: &str| Turn::Calls(vec![("bash", json!({"command": format!("yes {name} | head -c 25000")}))]);
    let mut bench = Bench::new(vec![show("a"), show("b"), show("c"), down()]);
    let other = Played::new(vec![Turn::Say("Done.")]);
    offer(&mut bench, ModelChoice { context_tokens: 18_000, ..choice(&other, "other") });
    assert_eq!(bench.prompt("go").await.stop, TurnStop::EndTurn);
    let last = other.request(other.count() - 1);
    assert!(!last.tools.is_empty() && all_text(&last).len() < 40_000, "{}", all_text(&last).len());
    assert!(all_text(&bench.model.request(3)).len() > 70_000);
}

/// A model whose provider is down.
struct Away;

#[async_trait]
impl ModelProvider for Away {
    async fn stream(&self, _: &ModelRequest, _: &mut dyn DeltaSink) -> Result<ModelResponse, ModelError> {
        Err(ModelError::Down { message: "anthropic is left alone".to_owned(), next: "script/other".to_owned() })
    }
}

#[tokio::test]
async fn the_summary_too_is_asked_of_the_model_that_takes_over() {
    let show = |name: &str| Turn::Calls(vec![("bash", json!({"command": format!("yes {name} | head -c 25000")}))]);
    let mut bench = Bench::new(vec![show("a"), show("b"), show("c"), Turn::Say("Shown.")]);
    let session = bench.session();
    session.prompt("show", &bench.sink()).await;
    let id = session.id().clone();
    drop(session);
    let other = Played::new(vec![Turn::Say("Done.")]);
    offer(&mut bench, ModelChoice { context_tokens: 18_000, ..choice(&other, "other") });
    bench.config.provider = Arc::new(Away);
    bench.config.context_tokens = 18_000;
    assert_eq!(bench.open(&id).await.prompt("go on", &bench.sink()).await.stop, TurnStop::EndTurn);
    assert!(other.request(0).tools.is_empty(), "the summary");
    assert!(all_text(&other.request(1)).contains("SUMMARY"));
}

#[tokio::test]
async fn the_tools_follow_what_the_model_sees_and_keep_what_they_hold() {
    let read = || Turn::Calls(vec![("read", json!({"path": "dot.png"})), ("bash", json!({"command": "echo $word; word=kept"}))]);
    let mut bench = Bench::new(vec![read(), Turn::Say("I saw it.")]);
    let blind = Played::new(vec![read(), Turn::Say("I did not.")]);
    offer(&mut bench, ModelChoice { can: Abilities::UNKNOWN, ..choice(&blind, "blind") });
    std::fs::write(bench.path("dot.png"), PNG).unwrap();
    let session = bench.session();
    session.prompt("Look.", &bench.sink()).await;
    assert!(description_of(&bench.model.request(0), "read").contains("Pictures"));
    assert!(all_text(&bench.model.request(1)).contains("\"media_type\":\"image/png\""));
    session.set_model("script/other").await.unwrap();
    session.prompt("Look again.", &bench.sink()).await;
    let first = blind.request(0);
    assert!(!description_of(&first, "read").contains("Pictures") && description_of(&first, "read").contains("shown as text"));
    assert!(
        !all_text(&first).contains("\"media_type\"") && all_text(&first).contains("[image/png (dot.png), which this model cannot see]")
    );
    let results = last_results(&blind.request(1));
    assert!(results[0].1 && results[0].0.contains("which this model does not take"), "{results:?}");
    assert!(results[1].0.contains("kept"), "the shell is the same: {results:?}");
}

#[tokio::test]
async fn a_sub_agent_has_the_model_that_its_session_has_now() {
    let mut bench = Bench::new(vec![]);
    let order = json!({"description": "look around", "prompt": "Look around.", "kind": "read-only"});
    let other = Played::new(vec![Turn::Calls(vec![("task", order)]), Turn::Say("Nothing there."), Turn::Say("Done.")]);
    offer(&mut bench, ModelChoice { can: Abilities::UNKNOWN, ..choice(&other, "other") });
    let session = bench.session();
    session.set_model("script/other").await.unwrap();
    assert_eq!(session.prompt("go", &bench.sink()).await.stop, TurnStop::EndTurn);
    assert_eq!((bench.model.count(), other.count()), (0, 3));
    assert!(!description_of(&other.request(1), "read").contains("Pictures"));
}

#[tokio::test]
async fn a_schema_goes_to_the_provider_where_the_model_has_it_and_is_checked_all_the_same() {
    let schema = json!({"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]});
    for structured in [true, false] {
        let mut bench = Bench::new(vec![Turn::Say("{\"n\": \"one\"}"), Turn::Say("{\"n\": 1}"), Turn::Say("ok")]);
        bench.config.can = Abilities { structured, ..Abilities::WRITTEN };
        let session = bench.session();
        assert_eq!(session.prompt_for_output("Count.", &schema, &bench.sink()).await.stop, TurnStop::EndTurn);
        assert_eq!(bench.model.request(0).output_schema, structured.then(|| schema.clone()));
        assert!(all_text(&bench.model.request(1)).contains("/n: "), "our own check stands behind it");
        assert!(bench.events().iter().any(|event| matches!(event, SessionEvent::Output { .. })));
        session.prompt("Thank you.", &bench.sink()).await;
        assert_eq!(bench.model.request(2).output_schema, None);
    }
    let bench = Bench::new(vec![Turn::Say("[1]")]);
    let list = json!({"type": "array", "items": {"type": "integer"}});
    assert_eq!(bench.session().prompt_for_output("List.", &list, &bench.sink()).await.stop, TurnStop::EndTurn);
    assert_eq!(bench.model.request(0).output_schema, None, "providers take objects only");
}
