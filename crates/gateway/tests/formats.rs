//! Every wire format through a door: the key, the model, the meter, the budget, and what must not pass.

use aedile_testkit::{Conversation, ScriptedServer, Step, WireFormat};
use serde_json::{Value, json};

use crate::support::{KEY, Rig, post, raw, usd};

/// How a format is asked through a door.
struct Way {
    format: WireFormat,
    model: &'static str,
    path: &'static str,
    /// The path of the same request for another model, and without a stream.
    other: &'static str,
    key: &'static str,
    end: &'static str,
}

const WAYS: [Way; 5] = [
    Way {
        format: WireFormat::Anthropic,
        model: "anthropic/claude-test",
        path: "/v1/messages",
        other: "/v1/messages",
        key: "x-api-key",
        end: "message_stop",
    },
    Way {
        format: WireFormat::OpenAi,
        model: "openai/gpt-test",
        path: "/v1/chat/completions",
        other: "/v1/chat/completions",
        key: "authorization",
        end: "[DONE]",
    },
    Way {
        format: WireFormat::Responses,
        model: "openai/gpt-test",
        path: "/v1/responses",
        other: "/v1/responses",
        key: "authorization",
        end: "response.completed",
    },
    Way {
        format: WireFormat::Gemini,
        model: "gemini/gemini-test",
        path: "/v1beta/models/gemini-test:streamGenerateContent?alt=sse",
        other: "/v1beta/models/other:streamGenerateContent?alt=sse",
        key: "x-goog-api-key",
        end: "finishReason",
    },
    Way {
        format: WireFormat::Ollama,
        model: "ollama/llama-test",
        path: "/api/chat",
        other: "/api/chat",
        key: "authorization",
        end: "\"done\":true",
    },
];

fn ask(format: WireFormat, model: &str) -> Value {
    let messages = json!([{"role": "user", "content": "hello"}]);
    match format {
        WireFormat::Anthropic | WireFormat::OpenAi => json!({"model": model, "max_tokens": 1000, "stream": true, "messages": messages}),
        WireFormat::Responses => json!({"model": model, "max_output_tokens": 1000, "stream": true, "input": "hello"}),
        WireFormat::Gemini => {
            json!({"contents": [{"role": "user", "parts": [{"text": "hello"}]}], "generationConfig": {"maxOutputTokens": 1000}})
        }
        WireFormat::Ollama => json!({"model": model, "messages": messages, "options": {"num_predict": 1000}}),
    }
}

fn name(model: &str) -> &str {
    model.split_once('/').unwrap().1
}

#[tokio::test]
async fn each_format_passes_with_its_key_and_is_metered() {
    for way in WAYS {
        let server = ScriptedServer::start(vec![Conversation::any().step(Step::text("hi").in_pieces_of(9))]);
        let rig = Rig::new(&server.url());
        let (door, url) = rig.open(rig.grant(way.model));
        let body = ask(way.format, name(way.model));
        let (status, headers, text) = post(&url, way.path, &body).await;
        assert!(status == 200 && text.contains(way.end) && !format!("{headers:?}{text}").contains(KEY), "{text}");
        let seen = server.finish().remove(0);
        let key = if way.key == "authorization" { format!("Bearer {KEY}") } else { KEY.to_owned() };
        assert_eq!(seen.header(way.key), Some(key.as_str()), "{:?}", way.format);
        let keys = ["x-api-key", "authorization", "x-goog-api-key"].iter().filter(|name| seen.header(name).is_some()).count();
        assert_eq!((keys, format!("{}?{}", seen.path, seen.query).trim_end_matches('?')), (1, way.path));
        let cost = &rig.costs()[0];
        assert_eq!((cost.usage.input_tokens, cost.usage.output_tokens, cost.usd.0, cost.estimated), (100, 10, 200, 0), "{:?}", way.format);
        assert_eq!(door.activity().spent.0, 200);
        match way.format {
            WireFormat::OpenAi => assert_eq!(seen.body["stream_options"], json!({"include_usage": true})),
            WireFormat::Responses => assert_eq!(seen.body["store"], json!(false), "it would be kept unless the provider is told"),
            _ => assert_eq!(seen.body, body, "the body passes unchanged"),
        }
    }
}

#[tokio::test]
async fn a_stream_that_is_cut_is_charged_as_it_was_reserved() {
    for way in WAYS {
        let server = ScriptedServer::start(vec![Conversation::any().step(Step::text("a long answer").without_usage().cut_after(2))]);
        let rig = Rig::new(&server.url());
        let (_door, url) = rig.open(rig.grant(way.model));
        let client = reqwest::Client::builder().no_proxy().tls_certs_only([]).build().unwrap();
        let sent = client.post(format!("{url}{}", way.path)).body(ask(way.format, name(way.model)).to_string()).send().await.unwrap();
        assert!(sent.bytes().await.is_err(), "{:?}: the client sees the cut", way.format);
        crate::support::until("the settlement", || rig.costs().first().is_some_and(|cost| cost.estimated == 1)).await;
        let charged = rig.costs()[0].usd.0;
        assert!((10_000..10_500).contains(&charged), "{:?}: 1000 output tokens and some input: {charged}", way.format);
        server.finish();
    }
}

#[tokio::test]
async fn another_model_and_a_spent_budget_are_refused_in_every_format() {
    for way in WAYS {
        let rig = Rig::new("http://127.0.0.1:9");
        let mut grant = rig.grant(way.model);
        let (_door, url) = rig.open(grant.clone());
        let (status, _, text) = post(&url, way.other, &ask(way.format, "other")).await;
        assert!(status == 403 && text.contains(name(way.model)) && text.contains("other"), "{:?}: {status} {text}", way.format);
        grant.run_budget = usd(5_000);
        let (_door, url) = rig.open(grant);
        let (status, _, text) = post(&url, way.path, &ask(way.format, name(way.model))).await;
        assert!(status == 402 && text.contains("budget_exceeded") && text.contains("--budget-usd"), "{:?}: {status} {text}", way.format);
        assert!(rig.costs().is_empty());
    }
}

#[tokio::test]
async fn what_would_make_the_provider_reach_out_is_refused_in_every_format() {
    let cases = [
        ("tools", json!([{"type": "web_search_20250305", "name": "web_search"}])),
        ("web_search_options", json!({})),
        ("previous_response_id", json!("resp_1")),
        ("cachedContent", json!("cachedContents/1")),
        ("web_search", json!(true)),
    ];
    for (way, (field, value)) in WAYS.iter().zip(cases) {
        let rig = Rig::new("http://127.0.0.1:9");
        let (_door, url) = rig.open(rig.grant(way.model));
        let mut body = ask(way.format, name(way.model));
        body[field] = value;
        let (status, _, text) = post(&url, way.path, &body).await;
        assert!(
            status == 403 && text.contains("reach out") && text.contains("web_search") | text.contains(field),
            "{field}: {status} {text}"
        );
        assert!(rig.costs().is_empty());
    }
}

#[tokio::test]
async fn a_door_leads_to_one_provider_in_its_own_formats() {
    for way in &WAYS {
        let rig = Rig::new("http://127.0.0.1:9");
        let (_door, url) = rig.open(rig.grant(way.model));
        for other in WAYS.iter().filter(|other| other.model != way.model) {
            let (status, _, text) = post(&url, other.path, &ask(other.format, name(way.model))).await;
            assert!(status == 404 && text.contains("this door leads to"), "{:?} at {}: {status} {text}", other.format, way.model);
        }
    }
}

#[tokio::test]
async fn odd_paths_of_gemini_are_refused() {
    let rig = Rig::new("http://127.0.0.1:9");
    let (_door, url) = rig.open(rig.grant("gemini/gemini-test"));
    let body = ask(WireFormat::Gemini, "");
    for (path, expected) in [
        ("/v1beta/models/gemini-test:streamGenerateContent", 400),
        ("/v1beta/models/gemini-test:streamGenerateContent?alt=json", 400),
        ("/v1beta/models/gemini-test:generateContent?key=aedile-placeholder", 400),
        ("/v1beta/models/gemini-test:generateContent?alt=sse", 400),
        ("/v1beta/models/gemini%2Dtest:generateContent", 400),
        ("/v1beta/models/:generateContent", 400),
        ("/v1beta/models/gemini-test:batchGenerateContent", 404),
        ("/v1beta/models/gemini-test:embedContent", 404),
        ("/v1beta/cachedContents", 404),
        ("/v1/models/gemini-test:generateContent", 404),
    ] {
        let (status, _, text) = post(&url, path, &body).await;
        assert_eq!(status, expected, "{path}: {text}");
    }
}

#[tokio::test]
async fn gemini_counts_tokens_for_nothing() {
    let server = ScriptedServer::start(vec![]);
    let rig = Rig::new(&server.url());
    let (_door, url) = rig.open(rig.grant("gemini/gemini-test"));
    let (status, _, text) = post(&url, "/v1beta/models/gemini-test:countTokens", &ask(WireFormat::Gemini, "")).await;
    assert!(status == 200 && text.contains("totalTokens"), "{text}");
    assert_eq!((server.finish()[0].path.as_str(), rig.costs().len()), ("/v1beta/models/gemini-test:countTokens", 0));
}

#[tokio::test]
async fn a_door_tells_its_grant() {
    let rig = Rig::new("http://127.0.0.1:9");
    for (model, format) in [
        ("anthropic/claude-test", "anthropic"),
        ("openai/gpt-test", "openai-chat"),
        ("gemini/gemini-test", "gemini"),
        ("ollama/x", "ollama"),
    ] {
        let (_door, url) = rig.open(rig.grant(model));
        let answer = raw(&url, "GET /aedile/v1/model HTTP/1.1\r\nhost: d\r\nconnection: close\r\n\r\n").await;
        let told: Value = serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap();
        assert_eq!((&told["model"], &told["format"]), (&json!(model), &json!(format)));
        assert_eq!(
            (&told["context_tokens"], &told["images"]),
            (&json!(128_000), &json!(false)),
            "what is assumed of a model that nobody knows"
        );
    }
}

#[tokio::test]
async fn a_service_tier_without_a_known_price_is_refused_under_a_money_budget() {
    let server = ScriptedServer::start(vec![Conversation::any().step(Step::text("hi"))]);
    let rig = Rig::new(&server.url());
    let mut body = ask(WireFormat::OpenAi, "gpt-test");
    body["service_tier"] = json!("priority");
    let mut grant = rig.grant("openai/gpt-test");
    let (_door, url) = rig.open(grant.clone());
    assert_eq!(post(&url, "/v1/chat/completions", &body).await.0, 200, "without a money budget there is nothing to keep");
    grant.run_budget = usd(1_000_000);
    let (door, url) = rig.open(grant);
    let (status, _, text) = post(&url, "/v1/chat/completions", &body).await;
    assert!(status == 402 && text.contains("service tier `priority`") && text.contains("leave the tier out"), "{text}");
    assert_eq!(door.refusal(), None, "the agent itself can leave it out");
    server.finish();
}
