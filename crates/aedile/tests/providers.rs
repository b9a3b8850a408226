//! One run whose agents speak to different providers, each in that provider's own format, through the real door.

use std::time::Duration;

use aedile_testkit::{Conversation, ScriptedServer, SeenRequest, Step, WireFormat, wait_for};
use serde_json::json;

use crate::scenario::{LIMIT, Scenario};

/// One row of what follows.
type Agent = (&'static str, &'static str, WireFormat, Option<(&'static str, &'static str)>);

/// Task, model, the format in which it must be asked, and the header with its key.
const AGENTS: [Agent; 4] = [
    ("opus", "anthropic/claude-sonnet-4-5", WireFormat::Anthropic, Some(("x-api-key", "key-of-anthropic"))),
    ("sol", "openai/gpt-5-mini", WireFormat::Responses, Some(("authorization", "Bearer key-of-openai"))),
    ("gem", "gemini/gemini-2.5-flash", WireFormat::Gemini, Some(("x-goog-api-key", "key-of-google"))),
    ("llama", "ollama/qwen3-coder", WireFormat::Ollama, None),
];

#[test]
fn agents_of_one_run_speak_to_four_providers_in_four_formats() {
    let conversation = |(task, ..): &Agent| {
        let path = format!("parts/{task}.txt");
        Conversation::about(&format!("Write the part {task}."))
            .step(Step::text("I write it.").and_tool("write", json!({"path": path, "content": "ok\n"})).expect_tool("submit"))
            .step(Step::tool("submit", json!({"summary": format!("Add {task}")})).expect_latest(&path))
    };
    let server = ScriptedServer::start(AGENTS.iter().map(conversation).collect());
    let mut scenario = Scenario::with_config("target = \"main\"\n[[gate]]\nname = \"test\"\ncommand = \"sh test.sh\"\n");
    scenario.env.person_config("[provider.openai]\napi = \"responses\"\n");
    let task = |(task, model, ..): &(&str, &str, WireFormat, Option<(&str, &str)>)| {
        format!("[[task]]\nid = \"{task}\"\nprompt = \"Write the part {task}.\"\nscope = [\"parts/{task}.txt\"]\nmodel = \"{model}\"\n")
    };
    scenario.tasks(&format!("goal = \"Four parts\"\n{}", AGENTS.iter().map(task).collect::<String>()));
    for name in ["ANTHROPIC", "OPENAI", "GEMINI", "OLLAMA"] {
        scenario.env.var(format!("AEDILE_{name}_BASE_URL"), server.url());
    }
    for (name, value) in [("ANTHROPIC_API_KEY", "anthropic"), ("OPENAI_API_KEY", "openai"), ("GOOGLE_API_KEY", "google")] {
        scenario.env.var(name, format!("key-of-{value}"));
    }
    scenario.finish(&["--agents", "4"]).success();

    let mut landed = scenario.landed("aedile/main");
    landed.sort_unstable();
    assert_eq!(landed, ["gem", "llama", "opus", "sol"]);
    for (task, _, format, key) in AGENTS {
        for seen in server.requests_of(&format!("Write the part {task}.")) {
            assert_eq!((seen.format(), seen.wants_stream()), (Some(format), true), "{task}");
            if let Some((header, value)) = key {
                assert_eq!(seen.header(header), Some(value), "{task}");
            }
        }
    }
    let llama = &server.requests_of("Write the part llama.")[0];
    assert_eq!(llama.body["options"]["num_ctx"], json!(32_768), "an Ollama server is asked for a window in which an agent can work");
    server.finish();
    let spent: Vec<u64> = scenario.events_of("spend_settled").iter().map(|event| event["usd"].as_u64().unwrap()).collect();
    // Two requests each, of 100 tokens in and 10 out; the local model has no price.
    let (claude, gpt, gemini) = (2 * (300 + 150), 2 * (25 + 20), 2 * (30 + 25));
    assert_eq!((spent.len(), spent.iter().sum::<u64>()), (8, claude + gpt + gemini), "{spent:?}");
}

#[test]
fn a_repository_cannot_choose_where_a_key_goes_or_what_a_model_costs() {
    let server = ScriptedServer::start(vec![Conversation::any()]);
    for section in [
        "[provider.anthropic]\nbase_url = \"https://evil.invalid\"\n".to_owned(),
        "[provider.ollama]\nkey_file = \"~/.netrc\"\n".to_owned(),
        "[prices.\"anthropic/claude-opus-4-5\"]\ninput = 0.0\noutput = 0.0\n".to_owned(),
    ] {
        let mut scenario = Scenario::with_config(&format!("target = \"main\"\n{section}"));
        scenario.env.var("ANTHROPIC_API_KEY", "key-of-anthropic");
        scenario.tasks("goal = \"g\"\n[[task]]\nid = \"one\"\nprompt = \"p\"\nmodel = \"anthropic/claude-opus-4-5\"\n");
        let ended = scenario.finish(&[]);
        ended.expect_code(4);
        assert!(ended.stderr.contains("not belong here"), "{}", ended.stderr);
        assert!(ended.stderr.contains(".config/aedile/config.toml"), "{}", ended.stderr);
    }
    assert!(server.requests().is_empty(), "nothing was asked");
}

#[test]
fn a_run_goes_on_with_the_next_model_when_a_provider_is_down() {
    let of = |format: WireFormat, task: &str| {
        let words = format!("Write the part {task}.");
        Conversation::when(task, move |request: &SeenRequest| request.format() == Some(format) && request.first_user().contains(&words))
    };
    let down = Conversation::when("down", |request: &SeenRequest| request.format() == Some(WireFormat::Anthropic));
    let works = |task: &str| {
        let path = format!("parts/{task}.txt");
        of(WireFormat::OpenAi, task)
            .step(Step::tool("write", json!({"path": path, "content": "ok\n"})))
            .step(Step::tool("submit", json!({"summary": format!("Add {task}")})).slow(Duration::from_secs(2)))
    };
    let server = ScriptedServer::start(vec![down.afterwards(Step::status(529, "too much to do")), works("one"), works("two")]);
    let mut scenario = Scenario::with_config(
        "target = \"main\"\n[[gate]]\nname = \"test\"\ncommand = \"sh test.sh\"\n[agents]\nmodel = \"anthropic/claude-sonnet-4-5\"\nfallback = [\"openai/gpt-5-mini\"]\n[budget]\nrun_usd = 5.0\n",
    );
    let task = |name: &str| format!("[[task]]\nid = \"{name}\"\nprompt = \"Write the part {name}.\"\nscope = [\"parts/{name}.txt\"]\n");
    scenario.tasks(&format!("goal = \"Two parts\"\n{}{}", task("one"), task("two")));
    for name in ["ANTHROPIC", "OPENAI"] {
        scenario.env.var(format!("AEDILE_{name}_BASE_URL"), server.url());
        scenario.env.var(format!("{name}_API_KEY"), "key-of-a-provider");
    }
    let run = scenario.start(&["--agents", "2"]);
    let shown = wait_for("the switch in `status`", LIMIT, || {
        let shown = scenario.run(&["status"]).stdout;
        shown.contains("goes on with openai/gpt-5-mini since").then_some(shown)
    });
    assert!(
        shown.contains("anthropic is left alone since ") && shown.contains("tried again at ") && shown.contains("too much to do"),
        "{shown}"
    );
    run.wait(LIMIT).success();

    let mut landed = scenario.landed("aedile/main");
    landed.sort_unstable();
    assert_eq!(landed, ["one", "two"]);
    let down = scenario.events_of("provider_down");
    assert!(down[0]["provider"] == "anthropic" && down[0]["why"].as_str().unwrap().starts_with("529: "), "{down:?}");
    let switches = scenario.events_of("model_switched");
    assert_eq!(switches.len(), 2, "each agent changes once: {switches:?}");
    for switch in &switches {
        assert_eq!((&switch["from"], &switch["to"]), (&json!("anthropic/claude-sonnet-4-5"), &json!("openai/gpt-5-mini")));
        assert!(switch["why"].as_str().unwrap().starts_with("anthropic: 529: "), "{switch}");
    }
    let told = scenario.run(&["feed"]).stdout;
    assert!(
        told.contains("anthropic is left alone for now: 529: ") && told.contains(" goes on with openai/gpt-5-mini: anthropic: 529: "),
        "{told}"
    );
    let asked = server.requests_of("down").len();
    assert!((5..=8).contains(&asked), "five failures in a row, and what was under way: {asked}");
    let reserved: Vec<_> = scenario.events_of("spend_reserved").into_iter().map(|event| event["spend"].clone()).collect();
    let settled = scenario.events_of("spend_settled");
    assert_eq!(reserved.len(), settled.len(), "both tries are settled");
    let paid: Vec<u64> = settled.iter().map(|event| event["usd"].as_u64().unwrap()).filter(|usd| *usd > 0).collect();
    // Four requests of 100 tokens in and 10 out, at the price of the model that answered; what failed costs nothing.
    assert_eq!(paid, [45; 4]);
    server.finish();
}

#[test]
fn a_fallback_at_a_provider_that_nobody_knows_is_refused_before_anything_starts() {
    let scenario = Scenario::with_config("target = \"main\"\n[agents]\nmodel = \"anthropic/claude-sonnet-4-5\"\nfallback = [\"acme/x\"]\n");
    scenario.tasks("goal = \"g\"\n[[task]]\nid = \"one\"\nprompt = \"p\"\n");
    for ended in [scenario.finish(&[]), scenario.run(&["code", "Do it."])] {
        ended.expect_code(4);
        let hints = ["[agents] fallback names acme/x", "known are anthropic, gemini, ollama, openai", "[provider.NAME]"];
        assert!(hints.iter().all(|part| ended.stderr.contains(part)), "{}", ended.stderr);
    }
    assert_eq!(scenario.events(), Vec::<serde_json::Value>::new(), "nothing was begun");
}

#[test]
fn a_project_may_name_a_server_of_this_machine() {
    let about = Conversation::about("Write the part one.")
        .step(Step::text("I write it.").and_tool("write", json!({"path": "parts/one.txt", "content": "ok\n"})))
        .step(Step::tool("submit", json!({"summary": "Add one"})));
    let server = ScriptedServer::start(vec![about]);
    let gate = "[[gate]]\nname = \"test\"\ncommand = \"sh test.sh\"\n";
    let mut scenario = Scenario::with_config(&format!("target = \"main\"\n{gate}[provider.anthropic]\nbase_url = \"{}\"\n", server.url()));
    scenario.env.var("ANTHROPIC_API_KEY", "key-of-anthropic");
    let task = "[[task]]\nid = \"one\"\nprompt = \"Write the part one.\"\nscope = [\"parts/one.txt\"]\n";
    scenario.tasks(&format!("goal = \"g\"\n{task}model = \"anthropic/claude-opus-4-5\"\n"));
    scenario.finish(&[]).success();
    assert_eq!(scenario.landed("aedile/main"), ["one"]);
    server.finish();
}
