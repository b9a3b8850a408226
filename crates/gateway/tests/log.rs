//! The gateway's log: a line for each request that left, or would have.

use std::path::Path;

use aedile_core::policy::LayerName;
use aedile_gateway::{Outcome, Passage, Passages};
use aedile_testkit::{Conversation, ScriptedServer, Step};
use serde_json::json;
use tokio::io::AsyncWriteExt;

use crate::support::{CLAUDE, DEPLOY, KEY, Rig, ask, post, raw, until};
use crate::support_tls::{TlsByHand, raw_within, through};

fn lines(dir: &Path) -> Vec<Passage> {
    let mut all = Vec::new();
    assert_eq!(Passages::read(dir, |passage| all.push(passage)).unwrap(), 0);
    all
}

#[tokio::test]
async fn a_request_to_a_model_is_a_line_with_the_name_of_its_key() {
    let server = ScriptedServer::start(vec![Conversation::any().step(Step::text("hi"))]);
    let dir = tempfile::tempdir().unwrap();
    let rig = Rig::new(&server.url()).logging(dir.path());
    let (_door, url) = rig.open(rig.grant(CLAUDE));
    let body = ask("claude-test", true);
    let (status, _, text) = post(&url, "/v1/messages", &body).await;
    assert_eq!(status, 200);
    post(&url, "/aedile/v1/call", &json!({"method": "mail_read"})).await;
    let fetch = json!({"method": "web_fetch", "url": format!("https://pages.example.org/a?{KEY}")});
    post(&url, "/aedile/v1/call", &fetch).await;
    until("both are written", || lines(dir.path()).len() == 2).await;
    let all = lines(dir.path());
    let model = &all[0];
    assert_eq!((model.agent.as_str(), model.key.as_str(), model.run), ("ada", "one", rig.who.run));
    assert_eq!((model.method.as_str(), model.to.as_str(), model.model.as_deref()), ("POST", server.url().as_str(), Some(CLAUDE)));
    assert_eq!((model.outcome, model.status, model.whole, &model.secrets), (Outcome::Passed, 200, true, &vec!["KEY".to_owned()]));
    let sizes = (usize::try_from(model.bytes_out).unwrap(), usize::try_from(model.bytes_in).unwrap());
    assert_eq!(sizes, (body.to_string().len(), text.len()));
    assert!(model.head_us > 0 && model.head_us <= model.us);
    let page = &all[1];
    assert_eq!(
        (page.outcome, page.to.as_str(), page.rule.as_deref()),
        (Outcome::Denied, "https://pages.example.org/a", Some("fetch.hosts"))
    );
    server.finish();
}

#[tokio::test]
async fn what_passes_is_denied_or_asked_names_its_rule_and_its_secrets() {
    let server = TlsByHand::new().await;
    let dir = tempfile::tempdir().unwrap();
    let mut rig = server.rig().logging(dir.path());
    let asks =
        format!("[[network]]\nid = \"slow\"\neffect = \"ask\"\nhosts = [\"localhost\"]\nports = [{}]\npaths = [\"/slow\"]\n", server.port);
    rig.layer(LayerName::Run, &format!("{}{asks}", server.rule("")));
    let (_door, door) = rig.open(rig.grant(CLAUDE));
    let get = |path: &str, more: &str| format!("GET {path} HTTP/1.1\r\nHost: localhost:{}\r\nConnection: close\r\n{more}\r\n", server.port);
    let mut tunnel = through(&rig, &door, server.port).await;
    let request = get(&format!("/a/{KEY}?q=hidden"), "Authorization: Bearer aedile-secret-deploy\r\n");
    let came = raw_within(&mut tunnel, request.as_bytes()).await;
    assert!(came.starts_with("HTTP/1.1 403"), "a value in the path is denied: {came}");
    for (path, more) in [("/b?q=hidden", "Authorization: Bearer aedile-secret-deploy\r\n"), ("/slow", "")] {
        let mut tunnel = through(&rig, &door, server.port).await;
        let serve = async {
            if path != "/slow" {
                let (_, mut stream) = server.take().await;
                let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{DEPLOY}", DEPLOY.len());
                stream.write_all(answer.as_bytes()).await.unwrap();
                stream.shutdown().await.unwrap();
            }
        };
        let request = get(path, more);
        tokio::join!(serve, raw_within(&mut tunnel, request.as_bytes()));
    }
    raw(&door, "CONNECT other.example.com:443 HTTP/1.1\r\nconnection: close\r\n\r\n").await;
    until("all are written", || lines(dir.path()).len() == 4).await;
    let place = format!("https://localhost:{}", server.port);
    let told: Vec<_> = lines(dir.path())
        .into_iter()
        .map(|line| (line.outcome, line.status, line.to, line.rule.unwrap_or_default(), line.layer, line.secrets.join(" "), line.whole))
        .collect();
    let (run, none) = (Some(LayerName::Run), String::new());
    assert_eq!(told[0].0, Outcome::Denied);
    assert_eq!((told[0].2.as_str(), told[0].3.as_str()), (format!("{place}/a/[secret KEY]").as_str(), "secret.value"));
    assert_eq!(told[1], (Outcome::Passed, 200, format!("{place}/b"), "near".to_owned(), run, "deploy".to_owned(), true));
    assert_eq!(told[2], (Outcome::Asked, 403, format!("{place}/slow"), "slow".to_owned(), run, none.clone(), true));
    assert_eq!(told[3], (Outcome::Denied, 403, "other.example.com:443".to_owned(), "policy.default".to_owned(), run, none, true));
    let kept = std::fs::read_to_string(dir.path().join("gateway.jsonl")).unwrap();
    assert!(!kept.contains("hidden") && !kept.contains(DEPLOY) && !kept.contains(KEY), "{kept}");
}
