//! Condensing a conversation that fills the window. The played model checks that every request is valid.

use aedile_core::model::{DeltaSink, ModelError, ModelProvider, ModelRequest, ModelResponse};
use aedile_core::runtime::TurnStop;
use async_trait::async_trait;
use serde_json::json;
use std::sync::Arc;

use crate::support::{Bench, Played, Turn, all_text};

/// Reads a file again and again; each result is large and different.
fn reads(count: usize) -> Vec<Turn> {
    (0..count).map(|n| Turn::Calls(vec![("bash", json!({"command": format!("echo {n}; yes 'some words' | head -c 6000")}))])).collect()
}

fn bench(mut turns: Vec<Turn>, window: u64) -> Bench {
    turns.push(Turn::Say("done"));
    let mut bench = Bench::new(turns);
    bench.config.context_tokens = window;
    bench.config.max_output_tokens = 1000;
    bench
}

#[tokio::test]
async fn old_output_is_left_out_first() {
    let bench = bench(reads(20), 32_000);
    bench.put("AGENTS.md", "Rule one.");
    assert_eq!(bench.prompt("The task is 4711.").await.stop, TurnStop::EndTurn);
    let last = bench.model.request(bench.model.count() - 1);
    let text = all_text(&last);
    assert!(text.contains("bytes of old output are left out") && text.contains("The task is 4711."));
    assert!(last.system.contains("Rule one."));
    assert!(text.len() < 32_000 * 3, "{}", text.len());
}

#[tokio::test]
async fn old_steps_become_a_summary_and_prompts_and_todo_stay() {
    let mut turns = vec![Turn::Calls(vec![("todo", json!({"items": [{"text": "the plan", "status": "doing"}]}))])];
    turns
        .extend((0..60).map(|n| Turn::Calls(vec![("write", json!({"path": "a.txt", "content": format!("{n} {}", "word ".repeat(600))}))])));
    let mut bench = bench(turns, 24_000);
    let session = bench.session();
    assert_eq!(session.prompt("The task is 4711.", &bench.sink()).await.stop, TurnStop::EndTurn);
    let last = bench.model.request(bench.model.count() - 1);
    let text = all_text(&last);
    assert!(text.contains("SUMMARY") && text.contains("The task is 4711.") && text.contains("[>] the plan"), "{text}");
    assert!(text.len() < 24_000 * 3, "{}", text.len());
    let id = session.id().clone();
    drop(session);
    bench.next_life(vec![Turn::Say("resumed")]);
    assert_eq!(bench.open(&id).await.prompt("go on", &bench.sink()).await.stop, TurnStop::EndTurn);
    let resumed = all_text(&bench.model.request(0));
    assert!(resumed.contains("SUMMARY") && resumed.len() < text.len() + 2000, "a condensed session stays condensed");
}

#[tokio::test]
async fn a_provider_that_finds_the_request_too_long_gets_a_shorter_one_once() {
    let refusal = || Turn::Fail(ModelError::Refused { status: 400, message: "prompt is too long: 9 tokens > 8 maximum".to_owned() });
    let mut turns = reads(10);
    turns.push(refusal());
    let bench = bench(turns, 1_000_000);
    assert_eq!(bench.prompt("go").await.stop, TurnStop::EndTurn);
    let count = bench.model.count();
    let (long, short) = (all_text(&bench.model.request(count - 2)).len(), all_text(&bench.model.request(count - 1)).len());
    assert!(short * 2 < long, "{short} {long}");
    let twice = Bench::new(vec![refusal(), refusal()]);
    assert_eq!(twice.prompt("go").await.stop, TurnStop::Failed);
}

/// One step that fills the window.
fn big_write(n: usize) -> Turn {
    Turn::Calls(vec![("write", json!({"path": "a.txt", "content": format!("step {n} {}", "word ".repeat(600))}))])
}

#[tokio::test]
async fn many_condensations_lose_no_instruction_no_plan_and_no_word_of_the_person() {
    const PROMPTS: usize = 5;
    let filler = "This is how it came about, at some length. ".repeat(90);
    let prompts: Vec<String> = (0..PROMPTS).map(|n| format!("{filler}\nNever touch dir-{n}. {filler}")).collect();
    let mut turns = vec![Turn::Calls(vec![("todo", json!({"items": [{"text": "the plan", "status": "doing"}]}))])];
    for prompt in 0..PROMPTS {
        turns.extend((0..35).map(|n| big_write(prompt * 100 + n)));
        turns.push(Turn::Say("done"));
    }
    let mut bench = bench(turns, 24_000);
    bench.config.max_output_tokens = 1000;
    let session = bench.session();
    for (number, prompt) in prompts.iter().enumerate() {
        bench.put("AGENTS.md", &format!("Rule of day {number}.\n"));
        assert_eq!(session.prompt(prompt, &bench.sink()).await.stop, TurnStop::EndTurn);
    }
    let requests: Vec<_> = (0..bench.model.count()).map(|index| bench.model.request(index)).collect();
    let summaries = requests.iter().filter(|request| request.tools.is_empty()).count();
    assert!(summaries >= 8, "condensed {summaries} times");
    let last = requests.last().unwrap();
    let text = all_text(last);
    for number in 0..PROMPTS {
        assert!(text.contains(&format!("Never touch dir-{number}.")), "{number}: {text}");
    }
    assert!(text.contains("[>] the plan") && text.contains("SUMMARY") && text.contains(".jsonl (JSON lines)"), "{text}");
    assert!(last.system.contains("Rule of day 4.") && !last.system.contains("Rule of day 3."));
    let longest = requests.iter().map(|request| all_text(request).len()).max().unwrap();
    assert!(longest / 4 < 24_000, "the window by the model's own count: {longest}");
    let transcript = std::fs::read_to_string(bench.journal(session.id())).unwrap();
    for prompt in &prompts {
        assert!(transcript.contains(&serde_json::to_string(prompt).unwrap()), "every prompt stands in the transcript");
    }
    for step in (0..PROMPTS).flat_map(|prompt| (0..35).map(move |n| prompt * 100 + n)) {
        assert!(transcript.contains(&format!("\"step {step} word")), "step {step} stands in the transcript");
    }
}

#[tokio::test]
async fn condensing_can_be_switched_off() {
    let bench = bench(reads(40), 32_000);
    bench.put(".claude/settings.json", "{\"autoCompactEnabled\": false}");
    let end = bench.prompt("go").await;
    assert_eq!(end.stop, TurnStop::Limit);
    assert!(end.detail.unwrap().contains("autoCompactEnabled"));
    let last = all_text(&bench.model.request(bench.model.count() - 1));
    assert!(!last.contains("left out") && last.contains("echo 0;"));
}

#[tokio::test]
async fn the_person_may_have_it_condensed() {
    let mut turns: Vec<Turn> = (0..12).map(big_write).collect();
    turns.push(Turn::Say("done"));
    let bench = bench(turns, 200_000);
    let compact = "cat >> hooks.log; echo >> hooks.log";
    bench.hooks(&[("PreCompact", "manual", compact), ("PostCompact", "manual", compact)]);
    let session = bench.session();
    let nothing = session.prompt("/compact", &bench.sink()).await;
    assert!(nothing.stop == TurnStop::EndTurn && nothing.detail.unwrap().contains("nothing to condense"));
    session.prompt("The task is 4711.", &bench.sink()).await;
    let asked = bench.model.count();
    let end = session.prompt("/compact", &bench.sink()).await;
    assert_eq!((end.stop, end.detail.unwrap().as_str()), (TurnStop::EndTurn, "the conversation was condensed"));
    assert_eq!(bench.model.count(), asked + 1, "one request, for the summary");
    session.prompt("go on", &bench.sink()).await;
    let text = all_text(&bench.model.request(asked + 1));
    assert!(text.contains("SUMMARY") && text.contains("The task is 4711.") && text.contains("go on") && !text.contains("step 1 word"));
    assert_eq!(bench.get("hooks.log").matches("\"trigger\":\"manual\"").count(), 3);
}

#[tokio::test]
async fn an_instruction_file_of_any_size_costs_no_more_than_its_head() {
    let bench = bench(vec![], 200_000);
    bench.put("AGENTS.md", "Rule one.\n");
    // Many gigabytes, none of which take room on the disk.
    std::fs::File::options().write(true).open(bench.path("AGENTS.md")).unwrap().set_len(1 << 36).unwrap();
    assert_eq!(bench.prompt("go").await.stop, TurnStop::EndTurn);
    let system = bench.model.request(0).system;
    assert!(system.contains("Rule one.") && system.contains("[only the first 32768 bytes of this file are given here"));
    assert!(system.len() < 64 * 1024, "{}", system.len());
}

/// A model whose window is full of what is sent besides the messages.
struct Full(Arc<Played>);

#[async_trait]
impl ModelProvider for Full {
    async fn stream(&self, request: &ModelRequest, sink: &mut dyn DeltaSink) -> Result<ModelResponse, ModelError> {
        let mut response = self.0.stream(request, sink).await?;
        if let Some(usage) = &mut response.usage {
            usage.input_tokens += 100_000;
        }
        Ok(response)
    }
}

#[tokio::test]
async fn condensing_that_gains_nothing_is_not_paid_for_at_every_step() {
    let steps = |from: usize| (from..from + 20).map(|n| Turn::Calls(vec![("bash", json!({"command": format!("echo {n}")}))]));
    let mut bench = bench(steps(0).collect(), 4_000);
    bench.config.max_output_tokens = 100;
    bench.config.provider = Arc::new(Full(Arc::clone(&bench.model)));
    assert_eq!(bench.prompt("go").await.stop, TurnStop::EndTurn);
    let summaries = (0..bench.model.count()).filter(|index| bench.model.request(*index).tools.is_empty()).count();
    assert!((1..=8).contains(&summaries), "{summaries} summaries in 21 steps");
}
