//! What policy leaves of a door, beside the network.

use aedile_core::policy::LayerName;
use serde_json::{Value, json};

use crate::support::{CLAUDE, Rig, post};

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
