//! What policy leaves of a door, beside the network.

use aedile_core::event::Event;
use aedile_core::policy::LayerName;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;

use crate::support::{ByHand, CLAUDE, KEY, Rig, ask, post, raw, until};

#[tokio::test]
async fn a_call_of_the_agent_api_that_policy_denies_is_refused_with_the_rule() {
    let mut rig = Rig::new("http://127.0.0.1:9");
    rig.layer(LayerName::User, "[tools]\nallow = [\"submit\", \"fetch\"]\n");
    rig.layer(LayerName::Project, "[[rule]]\nid = \"quiet\"\nroles = [\"builder\"]\n[rule.tools]\ndeny = [\"fetch\"]\n");
    let (_door, door) = rig.open(rig.grant(CLAUDE));
    for (call, part) in [
        (json!({"method": "mail_read"}), "the user policy (tools.allow)"),
        (json!({"method": "mail_send", "to": "a", "subject": "b", "body": "c"}), "use one of these: submit, fetch"),
        (json!({"method": "web_fetch", "url": "https://docs.rs/"}), "the project policy (quiet/tools.deny)"),
        (json!({"method": "plan_submit", "plan": {}}), "tools.allow"),
        (json!({"method": "task_info"}), "TaskInfo"),
    ] {
        let (status, _, text) = post(&door, "/aedile/v1/call", &call).await;
        let reply: Value = serde_json::from_str(&text).unwrap();
        let message = reply["message"].as_str().unwrap();
        assert!(status == 200 && message.contains(part), "{call}: {text}");
        assert_eq!(reply["reply"], if part == "TaskInfo" { "done" } else { "refused" }, "{text}");
    }
}

/// The denials that were written down: rule, layer, what, count.
fn denied(rig: &Rig) -> Vec<(String, Option<LayerName>, String, u64)> {
    let told = rig.events(&["request_denied"]).into_iter();
    told.filter_map(|event| match event {
        Event::RequestDenied { layer, rule, what, count, .. } => Some((rule, layer, what, count)),
        _ => None,
    })
    .collect()
}

#[tokio::test]
async fn each_denial_is_an_event_with_rule_and_layer_and_a_loop_of_them_is_counted() {
    let mut rig = Rig::new("http://127.0.0.1:9");
    let rule = "[[network]]\nid = \"open\"\nhosts = [\"*.example.org\"]\nschemes = [\"http\", \"https\"]\n\
                [[network]]\nid = \"no-admin\"\neffect = \"deny\"\nhosts = [\"a.example.org\"]\n[tools]\ndeny = [\"mail\"]\n";
    rig.layer(LayerName::Project, rule);
    let (opened, door) = rig.open(rig.grant(CLAUDE));
    for _ in 0..15 {
        let request = "GET http://a.example.org/x/y?q=hidden HTTP/1.1\r\nconnection: close\r\n\r\n";
        let came = raw(&door, request).await;
        assert!(came.starts_with("HTTP/1.1 403") && came.contains(r#""layer":"project""#), "{came}");
    }
    // What was to be carried to where nothing goes is named.
    let came = raw(&door, &format!("GET http://a.example.org/x/{KEY} HTTP/1.1\r\nconnection: close\r\n\r\n")).await;
    assert!(came.starts_with("HTTP/1.1 403") && came.contains("secret.value"), "{came}");
    raw(&door, "CONNECT other.example.com:443 HTTP/1.1\r\nconnection: close\r\n\r\n").await;
    post(&door, "/aedile/v1/call", &json!({"method": "mail_read"})).await;
    let mut outward = ask("claude-test", false);
    outward["tools"] = json!([{"type": "web_search_20250305", "name": "web_search"}]);
    let (status, _, text) = post(&door, "/v1/messages", &outward).await;
    assert!(status == 403 && text.contains("provider.outward"), "{text}");
    drop(opened);
    rig.gateway.settled().await;
    until("the rest is written down", || denied(&rig).len() == 7).await;
    let project = Some(LayerName::Project);
    let admin = |count| ("no-admin".to_owned(), project, "GET http://a.example.org/x/y".to_owned(), count);
    let told = denied(&rig);
    assert_eq!((&told[0], &told[1], &told[6]), (&admin(1), &admin(9), &admin(5)), "{told:?}");
    let rest = [
        ("secret.value".to_owned(), None, "GET http://a.example.org/x/[secret KEY]".to_owned(), 1),
        ("policy.default".to_owned(), project, "CONNECT other.example.com:443".to_owned(), 1),
        ("tools.deny".to_owned(), project, "the call mail".to_owned(), 1),
        ("provider.outward".to_owned(), None, "POST /v1/messages".to_owned(), 1),
    ];
    assert_eq!(told[2..6], rest);
    assert!(!format!("{told:?}").contains("hidden"));
}

#[tokio::test]
async fn a_provider_executes_only_the_tools_that_every_policy_opens() {
    let search = json!([{"type": "web_search_20250305", "name": "web_search"}]);
    let asked = |tools: Value| {
        let mut body = ask("claude-test", false);
        body["tools"] = tools;
        body
    };
    for (project, tools, passes) in [
        ("[provider]\nallow = [\"web_search_*\"]", search.clone(), true),
        ("[provider]\nallow = []", search.clone(), false),
        ("[provider]\nallow = [\"web_search_*\"]", json!([{"type": "code_execution_20250522", "name": "x"}, search[0]]), false),
    ] {
        let server = ByHand::new().await;
        let mut rig = Rig::new(&server.url);
        rig.layer(LayerName::User, "[provider]\nallow = [\"*\"]");
        rig.layer(LayerName::Project, project);
        let (_door, door) = rig.open(rig.grant(CLAUDE));
        let body = asked(tools.clone());
        let posted = post(&door, "/v1/messages", &body);
        if passes {
            let serve = async {
                let (_, body, mut stream) = server.take().await;
                stream.write_all(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 2\r\n\r\n{}").await.unwrap();
                body
            };
            let (sent, (status, _, _)) = tokio::join!(serve, posted);
            assert_eq!((sent["tools"].clone(), status), (tools, 400));
        } else {
            let (status, _, text) = posted.await;
            assert!(status == 403 && text.contains("provider.outward"), "{text}");
        }
    }
}
