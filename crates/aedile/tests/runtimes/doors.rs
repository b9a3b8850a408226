//! The real Claude Code behind a door that does more than put a key in: the token of a subscription, and a provider that is down.

use std::os::unix::fs::PermissionsExt;

use aedile_testkit::{Conversation, ScriptedServer, SeenRequest, Step};
use serde_json::json;

use crate::scenario::Scenario;

const TOKEN: &str = "sk-ant-oat01-token-of-the-persons-subscription";
const TEST: &str = "a_subscriptions_token_reaches_the_provider_and_never_the_box";

/// Everything in the box where a token could stand.
const LOOK: &str =
    "env; cat /proc/[0-9]*/environ 2>/dev/null | tr '\\0' '\\n'; grep -rh sk-ant ~ /etc/claude-code 2>/dev/null; echo looked";

/// The header that the token needs stands beside those that Claude Code sends itself.
fn is_subscription(request: &SeenRequest) -> Result<(), String> {
    let betas: Vec<&str> = request.header("anthropic-beta").unwrap_or_default().split(',').collect();
    let own = betas.iter().filter(|beta| **beta != "oauth-2025-04-20").count();
    let bearer = format!("Bearer {TOKEN}");
    match (request.header("authorization"), request.header("x-api-key")) {
        (Some(found), None) if found == bearer && own > 0 && betas.len() == own + 1 => Ok(()),
        (authorization, key) => Err(format!("authorization {authorization:?}, x-api-key {key:?}, anthropic-beta {betas:?}")),
    }
}

#[test]
fn a_subscriptions_token_reaches_the_provider_and_never_the_box() {
    if !super::has_claude(TEST) {
        return;
    }
    let mut scenario = Scenario::new();
    scenario.tasks("goal = \"A part\"\n[[task]]\nid = \"mine\"\nprompt = \"Write the part mine.\"\nscope = [\"parts/mine.txt\"]\nruntime = \"claude\"\n");
    let bash = |command: &str| Step::tool("Bash", json!({ "command": command })).expect(is_subscription);
    let saw = |request: &SeenRequest| match request.text() {
        text if text.contains(TOKEN) => Err("the token is in the box".to_owned()),
        text if text.contains("ANTHROPIC_AUTH_TOKEN=aedile-placeholder") && text.contains("looked") => Ok(()),
        text => Err(format!("it did not look: {text}")),
    };
    let talk = Conversation::about("Write the part mine.")
        .step(bash(LOOK))
        .step(bash("echo ok > parts/mine.txt && aedile submit -m 'Write the part mine'").expect(saw))
        .afterwards(Step::text("I have submitted it.").expect(is_subscription));
    let server = ScriptedServer::start(vec![talk]);
    scenario.env.var("AEDILE_ANTHROPIC_BASE_URL", server.url()).var("CLAUDE_CODE_OAUTH_TOKEN", TOKEN);
    let finished = scenario.finish(&["--model", "anthropic/claude-sonnet-4-5"]);
    assert_eq!(server.failures(), Vec::<String>::new());
    finished.success();
    assert_eq!(scenario.landed("aedile/main"), ["mine"]);
    let claude = scenario.events_of("task_claimed")[0]["agent"].as_str().unwrap().to_owned();
    for said in [&["events"][..], &["transcript", &claude], &["logs", &claude]] {
        assert!(!scenario.run(said).success().contains(TOKEN), "{said:?}");
    }
    server.finish();
}

#[test]
fn claude_code_goes_on_at_a_provider_of_its_format_when_its_own_is_down() {
    if !super::has_claude("claude_code_goes_on_at_a_provider_of_its_format_when_its_own_is_down") {
        return;
    }
    let of = |model: &'static str| Conversation::when(model, move |request: &SeenRequest| request.model() == model);
    let command = "echo ok > parts/mine.txt && aedile submit -m 'Write the part mine'";
    let server = ScriptedServer::start(vec![
        of("claude-sonnet-4-5").afterwards(Step::status(529, "too much to do")),
        of("claude-second")
            .step(Step::tool("Bash", json!({ "command": command })).expect_header_value("x-api-key", "key-of-the-second"))
            .afterwards(Step::text("I have submitted it.")),
    ]);
    let mut scenario = Scenario::with_config(
        "target = \"main\"\n[[gate]]\nname = \"test\"\ncommand = \"sh test.sh\"\n[agents]\nmodel = \"anthropic/claude-sonnet-4-5\"\nfallback = [\"openai/gpt-5-mini\", \"second/claude-second\"]\n",
    );
    scenario
        .env
        .person_config(&format!("[provider.second]\napi = \"anthropic\"\nbase_url = \"{}\"\nkey_file = \"~/second.key\"\n", server.url()));
    let key = scenario.env.home().join("second.key");
    std::fs::write(&key, "key-of-the-second").unwrap();
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
    scenario.env.var("AEDILE_ANTHROPIC_BASE_URL", server.url()).var("ANTHROPIC_API_KEY", "key-of-the-first").var("OPENAI_API_KEY", "other");
    scenario.tasks("goal = \"A part\"\n[[task]]\nid = \"mine\"\nprompt = \"Write the part mine.\"\nscope = [\"parts/mine.txt\"]\nruntime = \"claude\"\n");
    scenario.finish(&[]).success();
    assert_eq!(scenario.landed("aedile/main"), ["mine"]);
    let switches = scenario.events_of("model_switched");
    assert_eq!((switches.len(), &switches[0]["to"]), (1, &json!("second/claude-second")), "{switches:?}");
    assert!(server.finish().iter().filter(|request| request.model() == "claude-sonnet-4-5").count() >= 5);
}
