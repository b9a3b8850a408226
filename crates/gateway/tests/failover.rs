//! Doors that lead to several models, and providers that are down.

use std::time::Duration;

use aedile_core::event::Event;
use aedile_core::limits::BREAKER_FAILURES;
use aedile_core::store::list;
use aedile_core::view::SpendView;
use aedile_models::{client_for, door_client};
use aedile_testkit::{Conversation, ScriptedServer, SeenRequest, Step};
use serde_json::{Value, json};

use crate::support::{CLAUDE, GPT, Rig, ask, post, raw, soon};

const BACKUP: &str = "backup/claude-backup";

/// Takes the requests for one model.
fn of(model: &'static str) -> Conversation {
    Conversation::when(model, move |request: &SeenRequest| request.model() == model)
}

fn down() -> Step {
    Step::status(529, "too much to do")
}

/// Posts as an agent that can change to another model itself.
async fn post_switching(url: &str, path: &str, body: &Value) -> (u16, Option<String>, Value) {
    // Fails when another test of this process has done it.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let response = soon(door_client().unwrap().post(format!("{url}{path}")).body(body.to_string()).send()).await.unwrap();
    let after = response.headers().get("retry-after").map(|value| value.to_str().unwrap().to_owned());
    (response.status().as_u16(), after, serde_json::from_str(&soon(response.text()).await.unwrap()).unwrap_or(Value::Null))
}

async fn messages(url: &str) -> (u16, Option<String>, Value) {
    post_switching(url, "/v1/messages", &ask("claude-test", false)).await
}

/// Asserts that nothing is held back any more.
fn assert_settled(rig: &Rig) {
    assert_eq!(list::<SpendView>(rig.store.as_ref(), Some(rig.who.run)).unwrap(), []);
}

#[tokio::test]
async fn a_door_leads_to_the_listed_models_each_at_its_own_price_and_to_no_other() {
    let server = ScriptedServer::start(vec![Conversation::any().afterwards(Step::text("hi"))]);
    let rig = Rig::with_backup(&server.url());
    let (_door, url) = rig.open(rig.grant_with(CLAUDE, &[GPT, BACKUP]));
    let told = raw(&url, "GET /aedile/v1/model HTTP/1.1\r\nhost: d\r\nconnection: close\r\n\r\n").await;
    let told: Value = serde_json::from_str(told.split_once("\r\n\r\n").unwrap().1).unwrap();
    let names = |told: &Value| (told["model"].clone(), told["format"].clone());
    assert_eq!(names(&told), (json!(CLAUDE), json!("anthropic")));
    assert_eq!(names(&told["others"][0]), (json!(GPT), json!("openai-chat")));
    assert_eq!(names(&told["others"][1]), (json!(BACKUP), json!("anthropic")));
    for (path, model) in [("/v1/messages", "claude-test"), ("/v1/chat/completions", "gpt-test"), ("/v1/messages", "claude-backup")] {
        let (status, _, text) = post(&url, path, &ask(model, false)).await;
        assert_eq!(status, 200, "{model}: {text}");
    }
    let (status, _, text) = post(&url, "/v1/messages", &ask("claude-dear", false)).await;
    assert!(status == 403 && text.contains(r#"the models \"claude-test\" and \"claude-backup\", not \"claude-dear\""#), "{text}");
    let (status, _, text) = post(&url, "/v1/messages", &ask("gpt-test", false)).await;
    assert!(status == 403 && text.contains("not \\\"gpt-test\\\""), "a model is asked in its own format: {text}");
    let (status, _, text) = post(&url, "/api/chat", &json!({"model": "claude-test", "messages": []})).await;
    assert!(status == 404 && text.contains("anthropic: use /v1/messages") && text.contains("and to openai: use"), "{text}");
    let mut costs: Vec<(String, u64)> = rig.costs().into_iter().map(|cost| (cost.model.to_string(), cost.usd.0)).collect();
    costs.sort();
    assert_eq!(costs, [(CLAUDE.to_owned(), 200), (BACKUP.to_owned(), 400), (GPT.to_owned(), 200)]);
    let switches = rig.events(&["model_switched"]);
    let [Event::ModelSwitched { from, to, why, .. }, Event::ModelSwitched { to: last, .. }] = &switches[..] else { panic!("{switches:?}") };
    assert_eq!((from.to_string(), to.to_string(), last.to_string()), (CLAUDE.to_owned(), GPT.to_owned(), BACKUP.to_owned()));
    assert_eq!(why, "the agent asked for it");
    assert_eq!(server.finish().len(), 3);
}

#[tokio::test]
async fn a_fallback_that_cannot_be_used_is_named_before_anything_is_asked() {
    let rig = Rig::new("http://127.0.0.1:9");
    for (other, part) in [("wants-key/x", "set WANTS_KEY"), ("acme/x", "the provider acme"), ("script/x", "needs a script")] {
        let error = rig.try_open(rig.grant_with(CLAUDE, &[other])).err().unwrap().to_string();
        assert!(error.contains(&format!("{other}, which may take the place of {CLAUDE}")) && error.contains(part), "{error}");
    }
}

#[tokio::test]
async fn all_agents_together_find_a_provider_down_and_one_request_tries_it_again() {
    let claude = (0..BREAKER_FAILURES).fold(of("claude-test"), |talk, _| talk.step(down()));
    let server = ScriptedServer::start(vec![claude.step(Step::text("back")).step(Step::text("back"))]);
    let rig = Rig::with_backup(&server.url());
    let (ada, ada_url) = rig.open(rig.grant_with(CLAUDE, &[GPT]));
    let mut grant = rig.grant_with(CLAUDE, &[GPT]);
    grant.who = rig.another();
    let (_bob, bob_url) = rig.open(grant.clone());
    grant.others.clear();
    let (_lone, lone_url) = rig.open(grant);
    for url in [&ada_url, &bob_url, &ada_url, &bob_url] {
        let (status, _, said) = messages(url).await;
        assert_eq!(
            (status, &said["error"]["message"]),
            (529, &json!("too much to do")),
            "the provider's own words until it counts as down"
        );
    }
    let (status, after, said) = messages(&ada_url).await;
    assert_eq!((status, after.as_deref(), &said["error"]["type"]), (503, Some("30"), &json!("provider_down")), "{said}");
    assert_eq!(said["error"]["next"], GPT);
    let words = said["error"]["message"].as_str().unwrap();
    assert!(words.contains("anthropic is left alone") && words.contains("529") && words.contains("too much to do"), "{words}");
    let (status, _, said) = messages(&bob_url).await;
    assert_eq!((status, &said["error"]["next"]), (503, &json!(GPT)), "another agent hears it too, and nothing is sent");
    let (status, after, said) = messages(&lone_url).await;
    assert_eq!(
        (status, &said["error"]["type"], said["error"].get("next")),
        (503, &json!("overloaded_error"), None),
        "nobody can take over"
    );
    assert!(after.unwrap().parse::<u64>().unwrap() <= 30);
    let (status, _, text) = post(&lone_url, "/v1/messages", &ask("claude-test", false)).await;
    assert!(status == 503 && text.contains("tried again in"), "{text}");
    assert_eq!(server.requests().len(), BREAKER_FAILURES);
    assert_settled(&rig);
    assert!(rig.costs().iter().all(|cost| cost.usd.0 == 0 && cost.estimated == 0));

    rig.clock.advance(Duration::from_secs(30));
    assert_eq!(messages(&lone_url).await.0, 200, "one tries it");
    assert_eq!(messages(&ada_url).await.0, 200, "and opens it for all");
    let told = rig.events(&["provider_down"]);
    let [Event::ProviderDown { provider, why: Some(why), again: Some(_), .. }, Event::ProviderDown { why: None, again: None, .. }] =
        &told[..]
    else {
        panic!("{told:?}")
    };
    assert!(provider == "anthropic" && why.starts_with("529: ") && why.contains("too much to do"), "{why}");
    assert_eq!(ada.refusal(), None);
    server.finish();
}

#[tokio::test]
async fn an_agent_that_cannot_change_its_model_is_moved_to_one_that_speaks_its_format() {
    let claude = (0..BREAKER_FAILURES).fold(of("claude-test"), |talk, _| talk.step(down()));
    let backup = of("claude-backup").step(Step::text("I stand in.")).step(Step::text("Still."));
    let server = ScriptedServer::start(vec![claude, backup]);
    let rig = Rig::with_backup(&server.url());
    let (_door, url) = rig.open(rig.grant_with(CLAUDE, &[GPT, BACKUP]));
    for _ in 1..BREAKER_FAILURES {
        assert_eq!(post(&url, "/v1/messages", &ask("claude-test", false)).await.0, 529);
    }
    let (status, _, text) = post(&url, "/v1/messages", &ask("claude-test", false)).await;
    assert!(status == 200 && text.contains("I stand in."), "{text}");
    assert_eq!(post(&url, "/v1/messages", &ask("claude-test", false)).await.0, 200);
    assert_settled(&rig);
    let costs: Vec<(String, u32, u64)> =
        rig.costs().into_iter().map(|cost| (cost.model.to_string(), u32::try_from(cost.requests).unwrap(), cost.usd.0)).collect();
    let failed = (CLAUDE.to_owned(), u32::try_from(BREAKER_FAILURES).unwrap(), 0);
    assert_eq!(costs, [failed, (BACKUP.to_owned(), 2, 800)], "each try is settled by itself, at its own price");
    let switches = rig.events(&["model_switched"]);
    let [Event::ModelSwitched { to, why, .. }] = &switches[..] else { panic!("{switches:?}") };
    assert!(to.to_string() == BACKUP && why.starts_with("anthropic: 529: "), "{why}");
    server.finish();
}

#[tokio::test]
async fn an_answer_that_has_begun_is_never_asked_for_again() {
    let cut = || Step::text("a long answer").without_usage().cut_after(2);
    let claude = (0..BREAKER_FAILURES).fold(of("claude-test"), |talk, _| talk.step(cut()));
    let server = ScriptedServer::start(vec![claude, of("claude-backup").step(Step::text("whole"))]);
    let rig = Rig::with_backup(&server.url());
    let (_door, url) = rig.open(rig.grant_with(CLAUDE, &[BACKUP]));
    let client = client_for(["http://"]).unwrap();
    for number in 1..=BREAKER_FAILURES {
        let sent = client.post(format!("{url}/v1/messages")).body(ask("claude-test", true).to_string()).send().await.unwrap();
        assert_eq!(sent.status(), 200);
        assert!(sent.bytes().await.is_err(), "the client sees the cut");
        crate::support::until("the settlement", || rig.costs().first().is_some_and(|cost| cost.estimated == number as u64)).await;
    }
    assert_eq!(server.requests().len(), BREAKER_FAILURES, "nobody else was asked");
    let (status, _, text) = post(&url, "/v1/messages", &ask("claude-test", false)).await;
    assert!(status == 200 && text.contains("whole"), "but cuts in a row are an outage: {text}");
    server.finish();
}

#[tokio::test]
async fn a_far_rate_limit_moves_at_once_and_a_near_one_is_waited_for() {
    let talk = of("claude-test")
        .step(Step::status(429, "soon").header("retry-after", "7"))
        .step(Step::status(429, "tomorrow").header("retry-after", "200"));
    let server = ScriptedServer::start(vec![talk]);
    let rig = Rig::with_backup(&server.url());
    let (_door, url) = rig.open(rig.grant_with(CLAUDE, &[GPT]));
    let (status, after, said) = messages(&url).await;
    assert_eq!((status, after.as_deref(), &said["error"]["message"]), (429, Some("7"), &json!("soon")));
    let (status, after, said) = messages(&url).await;
    assert_eq!((status, after.as_deref(), &said["error"]["next"]), (503, Some("200"), &json!(GPT)), "{said}");
    server.finish();
}

#[tokio::test]
async fn a_refused_key_moves_whoever_can_move_and_is_told_to_whoever_cannot() {
    let refuses = || Step::status(401, "who are you");
    let server = ScriptedServer::start(vec![of("claude-test").step(refuses()).step(refuses()).step(refuses()), of("gpt-test")]);
    let rig = Rig::with_backup(&server.url());
    let (door, url) = rig.open(rig.grant_with(CLAUDE, &[GPT]));
    for _ in 0..2 {
        let (status, _, said) = messages(&url).await;
        assert_eq!((status, &said["error"]["next"]), (503, &json!(GPT)), "{said}");
    }
    assert_eq!(door.refusal(), None, "somebody else can be asked");
    let (lone, url) = rig.open(rig.grant(CLAUDE));
    for _ in 0..2 {
        let (status, _, said) = messages(&url).await;
        assert_eq!((status, &said["error"]["message"]), (401, &json!("who are you")), "it hears it from the provider itself");
    }
    assert!(lone.refusal().unwrap().contains("anthropic refuses its key (401)"));
    assert_eq!(rig.events(&["provider_down"]).len(), 1, "who is let through all the same makes no news");
    server.finish();
}

#[tokio::test]
async fn a_limit_of_one_model_does_not_stop_the_others_of_its_provider() {
    let far = Step::status(429, "tomorrow").header("retry-after", "200");
    let barred = Step::status(403, "this model is not for you");
    let server = ScriptedServer::start(vec![
        of("claude-test").step(far),
        of("claude-dear").step(barred),
        of("claude-small").step(Step::text("small")).step(Step::text("small")),
    ]);
    let rig = Rig::with_backup(&server.url());
    let (_door, url) = rig.open(rig.grant_with(CLAUDE, &["anthropic/claude-small"]));
    let (status, _, said) = messages(&url).await;
    assert_eq!((status, &said["error"]["next"]), (503, &json!("anthropic/claude-small")), "{said}");
    assert_eq!(post_switching(&url, "/v1/messages", &ask("claude-small", false)).await.0, 200);
    let (_door, url) = rig.open(rig.grant_with("anthropic/claude-dear", &["anthropic/claude-small"]));
    let (status, _, said) = post_switching(&url, "/v1/messages", &ask("claude-dear", false)).await;
    assert_eq!((status, &said["error"]["next"]), (503, &json!("anthropic/claude-small")), "{said}");
    assert_eq!(post_switching(&url, "/v1/messages", &ask("claude-small", false)).await.0, 200, "the provider is there");
    let down: Vec<Event> = rig.events(&["provider_down"]);
    let names = |event: &Event| matches!(event, Event::ProviderDown { provider, .. } if provider.contains("/claude-"));
    assert!(down.len() == 2 && down.iter().all(names), "{down:?}");
    server.finish();
}

#[tokio::test]
async fn when_everybody_is_down_the_provider_speaks_for_itself() {
    let rig = Rig::new("http://127.0.0.1:9");
    let (_door, url) = rig.open(rig.grant_with(CLAUDE, &[GPT]));
    for number in 1..=BREAKER_FAILURES {
        let (status, _, said) = messages(&url).await;
        assert_eq!(status, if number < BREAKER_FAILURES { 502 } else { 503 }, "{said}");
    }
    for _ in 0..BREAKER_FAILURES {
        let (status, _, text) = post(&url, "/v1/chat/completions", &ask("gpt-test", false)).await;
        assert!(status == 502 && text.contains("openai cannot be reached"), "{status} {text}");
    }
    let (status, _, said) = messages(&url).await;
    assert_eq!((status, &said["error"]["type"]), (503, &json!("overloaded_error")), "{said}");
    assert_settled(&rig);
}

#[tokio::test]
async fn an_error_within_a_stream_counts_as_one() {
    let broken = "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"Overloaded\"}}\n\n";
    let claude = (0..BREAKER_FAILURES).fold(of("claude-test"), |talk, _| talk.step(Step::raw("text/event-stream", broken)));
    let server = ScriptedServer::start(vec![claude]);
    let rig = Rig::with_backup(&server.url());
    let (_door, url) = rig.open(rig.grant_with(CLAUDE, &[GPT]));
    for number in 0..BREAKER_FAILURES {
        assert_eq!(post_switching(&url, "/v1/messages", &ask("claude-test", true)).await.0, 200);
        crate::support::until("the settlement", || rig.costs().first().is_some_and(|cost| cost.estimated == number as u64 + 1)).await;
    }
    crate::support::until("it counts as down", || rig.events(&["provider_down"]).len() == 1).await;
    assert_eq!(messages(&url).await.2["error"]["next"], GPT);
    server.finish();
}
