//! Budgets through a door.

use std::sync::Arc;

use aedile_core::clock::SteppingClock;
use aedile_core::money::Budget;
use aedile_core::store::list;
use aedile_core::view::SpendView;
use aedile_store::{Crash, MemoryStore};
use aedile_testkit::{Conversation, ScriptedServer, Step};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::{ByHand, CLAUDE, GPT, Rig, SSE_HEAD, ask, chunk, post, soon, start_event, until, usd};

/// What one `ask` reserves: 1000 output tokens at 10 and the input estimate at the dearest input price, 2.
fn reserved(rig: &Rig) -> SpendView {
    let open: Vec<SpendView> = list(rig.store.as_ref(), Some(rig.who.run)).unwrap();
    assert_eq!(open.len(), 1, "{open:?}");
    open.into_iter().next().unwrap()
}

fn message(text: &str) -> String {
    serde_json::from_str::<Value>(text).unwrap()["error"]["message"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_request_that_does_not_fit_is_refused_and_never_sent() {
    let server = ScriptedServer::start(vec![Conversation::any().step(Step::text("ok"))]);
    let rig = Rig::new(&server.url());
    let mut grant = rig.grant(CLAUDE);
    grant.run_budget = usd(10_300);
    let (door, url) = rig.open(grant);
    let (status, _, text) = post(&url, "/v1/messages", &ask("claude-test", false)).await;
    assert_eq!(status, 200, "{text}");
    assert_eq!(door.refusal(), None);
    // 200 were spent: 100 tokens at 1 and 10 at 10.
    let (status, _, text) = post(&url, "/v1/messages", &ask("claude-test", false)).await;
    assert!(status == 402 && text.contains("\"budget_exceeded\""), "{text}");
    let message = message(&text);
    assert!(
        message.contains("money budget of this run")
            && message.contains("of $0.01 is left")
            && message.contains("`run_usd` under `[budget]`"),
        "{message}"
    );
    assert_eq!(door.refusal(), Some(message), "nothing under way could give it back");
    assert_eq!(server.finish().len(), 1);
    assert_eq!((rig.costs()[0].requests, rig.costs()[0].usd.0), (1, 200));
}

#[tokio::test]
async fn each_level_has_its_budget_and_the_run_is_shared() {
    let server = ScriptedServer::start(vec![Conversation::any().afterwards(Step::text("ok").usage(400, 100, 0, 0))]);
    let rig = Rig::new(&server.url());
    let tokens = |tokens| Budget { tokens: Some(tokens), usd: None };
    for (level, setting) in [("agent", "agent_tokens"), ("task", "task_tokens")] {
        let mut grant = rig.grant(CLAUDE);
        let budget = if level == "agent" { &mut grant.agent_budget } else { &mut grant.task_budget };
        *budget = tokens(500);
        let (_door, url) = rig.open(grant);
        let (status, _, text) = post(&url, "/v1/messages", &ask("claude-test", false)).await;
        let message = message(&text);
        assert!(status == 402 && message.contains(&format!("token budget of this {level}")) && message.contains(setting), "{message}");
    }
    let mut first = rig.grant(CLAUDE);
    first.run_budget = tokens(1500);
    let mut second = first.clone();
    second.who = rig.another();
    let ((_a, first), (_b, second)) = (rig.open(first), rig.open(second));
    assert_eq!(post(&first, "/v1/messages", &ask("claude-test", false)).await.0, 200);
    let (status, _, text) = post(&second, "/v1/messages", &ask("claude-test", false)).await;
    assert!(status == 402 && message(&text).contains("this run"), "500 of 1500 tokens were used by the other agent: {text}");
}

#[tokio::test]
async fn an_unknown_price_is_refused_only_when_money_is_limited() {
    let server = ScriptedServer::start(vec![Conversation::any().step(Step::text("ok"))]);
    let rig = Rig::new(&server.url());
    let mut grant = rig.grant("openai/new-model");
    grant.task_budget = usd(1_000_000);
    let (_door, url) = rig.open(grant);
    let (status, _, text) = post(&url, "/v1/chat/completions", &ask("new-model", false)).await;
    assert!(status == 402 && message(&text).contains("`[prices.\"openai/new-model\"]` in your own `config.toml`"), "{text}");
    let (_door, url) = rig.open(rig.grant("openai/new-model"));
    assert_eq!(post(&url, "/v1/chat/completions", &ask("new-model", false)).await.0, 200);
    let costs = rig.costs();
    assert_eq!((costs[0].usage.total(), costs[0].usd.0), (110, 0));
}

#[tokio::test]
async fn an_answer_without_usage_is_charged_its_reserve() {
    let server = ScriptedServer::start(vec![Conversation::any().step(Step::text("ok").without_usage())]);
    let rig = Rig::new(&server.url());
    let (_door, url) = rig.open(rig.grant(GPT));
    assert_eq!(post(&url, "/v1/chat/completions", &ask("gpt-test", true)).await.0, 200);
    let costs = rig.costs();
    assert!(costs[0].estimated == 1 && costs[0].usd.0 > 10_000 && costs[0].estimated_tokens > 1000, "{costs:?}");
}

#[tokio::test]
async fn a_stream_that_the_provider_cuts_is_charged_its_reserve_and_seen_as_cut() {
    let provider = ByHand::new().await;
    let rig = Rig::new(&provider.url);
    let (_door, url) = rig.open(rig.grant(CLAUDE));
    let serve = async {
        let (_, _, mut out) = provider.take().await;
        let held = reserved(&rig);
        out.write_all(format!("{SSE_HEAD}{}", chunk(&start_event(50))).as_bytes()).await.unwrap();
        held
    };
    let client = aedile_models::client_for(["http://"]).unwrap();
    let request = async {
        let response = client.post(format!("{url}/v1/messages")).body(ask("claude-test", true).to_string()).send().await.unwrap();
        response.text().await
    };
    let (text, held) = soon(async { tokio::join!(request, serve) }).await;
    assert!(text.is_err(), "the client must not take the beginning for the whole: {text:?}");
    let costs = rig.costs();
    assert_eq!((costs[0].estimated, costs[0].usd, costs[0].usage.input_tokens), (1, held.usd, 50));
    assert_eq!(costs[0].usage.total() + costs[0].estimated_tokens, held.tokens);
}

#[tokio::test]
async fn a_client_that_goes_away_is_charged_and_the_provider_is_let_go() {
    let provider = ByHand::new().await;
    let rig = Rig::new(&provider.url);
    let (door, url) = rig.open(rig.grant(CLAUDE));
    let client = aedile_models::client_for(["http://"]).unwrap();
    let request = client.post(format!("{url}/v1/messages")).body(ask("claude-test", true).to_string());
    // Once in the middle of the answer, once before its head, once because the door is closed.
    let (response, mut out) = soon(async {
        tokio::join!(request.try_clone().unwrap().send(), async {
            let (_, _, mut out) = provider.take().await;
            out.write_all(format!("{SSE_HEAD}{}", chunk(&start_event(50))).as_bytes()).await.unwrap();
            out
        })
    })
    .await;
    drop(response);
    assert_eq!(soon(out.read(&mut [0; 16])).await.unwrap_or(0), 0, "the provider's connection ends");
    until("the first is settled", || rig.costs().first().is_some_and(|cost| cost.requests == 1)).await;
    let early = tokio::spawn(request.try_clone().unwrap().send());
    let (_, _, mut out) = provider.take().await;
    early.abort();
    assert_eq!(soon(out.read(&mut [0; 16])).await.unwrap_or(0), 0);
    until("the second is settled", || rig.costs()[0].requests == 2).await;
    let last = tokio::spawn(request.send());
    let (_, _, _out) = provider.take().await;
    drop(door);
    soon(rig.gateway.settled()).await;
    assert!(soon(last).await.unwrap().is_err(), "the connection through the door is closed");
    let costs = rig.costs();
    assert_eq!((costs[0].requests, costs[0].estimated), (3, 3));
    assert!(list::<SpendView>(rig.store.as_ref(), None).unwrap().is_empty());
}

#[tokio::test]
async fn what_a_dead_process_left_open_is_charged_once() {
    let provider = ByHand::new().await;
    let store = MemoryStore::new(Arc::new(SteppingClock::default())).with_crash_after(1, Crash::AfterReply);
    let store = Arc::new(store);
    let rig = Rig::over(&provider.url, store.clone());
    let (_door, url) = rig.open(rig.grant(CLAUDE));
    let request = tokio::spawn(async move { post(&url, "/v1/messages", &ask("claude-test", false)).await });
    let taken = provider.take().await;
    request.abort();
    drop((taken, rig.gateway));
    for requests in [1, 1] {
        let again = Rig::over(&provider.url, Arc::new(store.reopen()));
        let mut grant = again.grant(CLAUDE);
        grant.who = rig.who.clone();
        grant.run_budget = usd(15_000);
        let (_door, url) = again.open(grant);
        let costs: Vec<aedile_core::view::CostView> = list(again.store.as_ref(), Some(rig.who.run)).unwrap();
        assert_eq!((costs[0].requests, costs[0].estimated), (requests, requests));
        assert!(costs[0].usd.0 > 10_000, "{costs:?}");
        let (status, _, text) = post(&url, "/v1/messages", &ask("claude-test", false)).await;
        assert!(status == 402, "what is left of 15000 does not hold a second one: {text}");
    }
}

#[tokio::test]
async fn nothing_is_sent_when_the_reservation_cannot_be_stored() {
    let server = ScriptedServer::start(vec![Conversation::any()]);
    let store = MemoryStore::new(Arc::new(SteppingClock::default())).with_crash_after(1, Crash::BeforeWrite);
    let rig = Rig::over(&server.url(), Arc::new(store));
    let (door, url) = rig.open(rig.grant(CLAUDE));
    let (status, _, text) = post(&url, "/v1/messages", &ask("claude-test", false)).await;
    assert!(status == 503 && text.contains("cannot be recorded"), "{text}");
    assert!(server.finish().is_empty());
    assert_eq!(door.activity().in_flight, 0);
}
