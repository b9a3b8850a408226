//! What ends a turn besides its success.

use aedile_core::limits::{AGENT_LOOP_REPEATS_MAX, AGENT_STEPS_MAX};
use aedile_core::model::{ModelError, ModelStop};
use aedile_core::runtime::TurnStop;
use serde_json::json;

use crate::support::{Bench, Turn, all_text, last_results};

#[tokio::test]
async fn a_loop_is_named_once_and_then_ends_the_turn() {
    let again = || Turn::Calls(vec![("bash", json!({"command": "false"}))]);
    let bench = Bench::new((0..20).map(|_| again()).collect());
    let end = bench.prompt("go").await;
    assert_eq!(end.stop, TurnStop::Limit);
    assert!(end.detail.unwrap().contains("`bash false`"));
    let asked = usize::try_from(AGENT_LOOP_REPEATS_MAX).unwrap() + 1;
    assert_eq!(bench.model.count(), asked);
    assert_eq!(all_text(&bench.model.request(asked - 1)).matches("several times in a row").count(), 1);
}

#[tokio::test]
async fn different_results_are_no_loop() {
    let again = || Turn::Calls(vec![("bash", json!({"command": "echo x >> log; wc -l < log"}))]);
    let bench = Bench::new((0..12).map(|_| again()).collect());
    assert_eq!(bench.prompt("go").await.stop, TurnStop::EndTurn);
}

#[tokio::test]
async fn the_number_of_steps_is_limited() {
    let step = |n: u32| Turn::Calls(vec![("glob", json!({"pattern": format!("{n}")}))]);
    let bench = Bench::new((0..AGENT_STEPS_MAX + 10).map(step).collect());
    let end = bench.prompt("go").await;
    assert_eq!(end.stop, TurnStop::Limit);
    assert!(end.detail.unwrap().contains("200 steps"));
}

#[tokio::test]
async fn an_answer_at_the_output_limit_goes_on_twice() {
    let cut = || Turn::Stop("and", ModelStop::MaxTokens);
    let bench = Bench::new(vec![cut(), cut(), Turn::Say("end")]);
    assert_eq!(bench.prompt("go").await.stop, TurnStop::EndTurn);
    let bench = Bench::new(vec![cut(), cut(), cut(), Turn::Say("end")]);
    assert_eq!(bench.prompt("go").await.stop, TurnStop::MaxTokens);
    let bench = Bench::new(vec![Turn::CutCall("write"), Turn::Say("end")]);
    assert_eq!(bench.prompt("go").await.stop, TurnStop::EndTurn);
    assert!(last_results(&bench.model.request(1))[0].0.contains("reached the output limit"));
    let bench = Bench::new(vec![Turn::Stop("No.", ModelStop::Refusal)]);
    assert_eq!(bench.prompt("go").await.stop, TurnStop::Refusal);
}

#[tokio::test]
async fn a_cut_answer_is_asked_for_again_and_other_failures_end_the_turn() {
    let cut = || Turn::Fail(ModelError::Cut("the stream ended".to_owned()));
    let bench = Bench::new(vec![cut(), cut(), Turn::Say("whole")]);
    assert_eq!(bench.prompt("go").await.stop, TurnStop::EndTurn);
    let bench = Bench::new(vec![cut(), cut(), cut()]);
    let end = bench.prompt("go").await;
    assert_eq!((end.stop, end.detail.unwrap().as_str()), (TurnStop::Failed, "the model's answer was cut: the stream ended"));
    let bench =
        Bench::new(vec![Turn::Fail(ModelError::OverBudget { message: "the task's budget is spent".to_owned() }), Turn::Say("late")]);
    let session = bench.session();
    let end = session.prompt("go", &bench.sink()).await;
    assert_eq!((end.stop, end.detail.unwrap().as_str()), (TurnStop::Failed, "the task's budget is spent"));
    assert_eq!(session.prompt("go on", &bench.sink()).await.stop, TurnStop::EndTurn, "the session stays usable");
}
