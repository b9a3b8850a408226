//! Rules that ask a person.

use std::sync::Arc;
use std::time::Duration;

use aedile_core::ask::AskScope;
use aedile_core::event::Event;
use aedile_core::policy::LayerName;
use aedile_core::store::{Append, list};
use aedile_core::view::AskView;
use aedile_core::{Clock, Timestamp};
use tokio::io::AsyncWriteExt;

use crate::support::{ByHand, CLAUDE, DEPLOY, Rig, raw};
use crate::support_tls::{TlsByHand, raw_within, through};

/// A door that asks for everything but what is denied.
fn asking(rig: &mut Rig, server: &ByHand) {
    let port = server.url.rsplit(':').next().unwrap();
    let rule = format!("hosts = [\"127.0.0.1\"]\nports = [{port}]\nschemes = [\"http\"]\nmethods = [\"GET\", \"POST\"]\n");
    let text = format!(
        "[[network]]\nid = \"deploy\"\neffect = \"ask\"\n{rule}[[network]]\nid = \"free\"\n{rule}paths = [\"/free/**\", \"/v1/**\"]\n\
         [[network]]\nid = \"never\"\neffect = \"deny\"\n{rule}paths = [\"/never/**\"]\n"
    );
    rig.layer(LayerName::Project, &text);
}

async fn get(door: &str, server: &ByHand, path: &str) -> String {
    raw(door, &format!("GET {}{path} HTTP/1.1\r\nconnection: close\r\n\r\n", server.url)).await
}

/// Asks, with a server that answers.
async fn passes(door: &str, server: &ByHand, path: &str) -> bool {
    let serve = async {
        let (_, _, mut stream) = server.take().await;
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok").await.unwrap();
    };
    let ((), came) = tokio::join!(serve, get(door, server, path));
    came.starts_with("HTTP/1.1 200")
}

fn asks(rig: &Rig) -> Vec<AskView> {
    list(rig.store.as_ref(), Some(rig.who.run)).unwrap()
}

fn answer(rig: &Rig, ask: &AskView, allow: bool, scope: AskScope, until: Option<Timestamp>) {
    let event = Event::AskAnswered { run: ask.run, ask: ask.ask, allow, scope, until };
    rig.store.append(Append::of(ask.run, event)).unwrap();
}

#[tokio::test]
async fn a_request_passes_once_a_person_says_so_and_as_long_as_they_say() {
    let server = ByHand::new().await;
    let mut rig = Rig::new("http://127.0.0.1:9");
    asking(&mut rig, &server);
    let (_door, door) = rig.open(rig.grant(CLAUDE));
    // Several of one kind are one question; no event counts them as denied.
    for path in ["/v1/things/1", "/v1/things/2?x=y"] {
        let came = get(&door, &server, path).await;
        assert!(
            came.starts_with("HTTP/1.1 403") && came.contains("project/deploy") && came.contains("they are asked (question "),
            "{came}"
        );
    }
    let asked = asks(&rig);
    assert_eq!((asked.len(), asked[0].path.as_str(), asked[0].method.as_str()), (1, "/v1/things/...", "GET"));
    assert!(rig.events(&["request_denied"]).is_empty());
    assert!(get(&door, &server, "/never/x").await.contains("never: the rule never"), "what is denied is not asked");
    let until = rig.clock.now().plus(Duration::from_secs(3600));
    answer(&rig, &asked[0], true, AskScope::Request, Some(until));
    assert!(passes(&door, &server, "/v1/things/1").await);
    assert!(get(&door, &server, "/v2/x").await.contains("they are asked"));
    assert_eq!(asks(&rig).len(), 2);
    // Another gateway over the same log, as after a restart, knows the answer.
    let mut second = Rig::over("http://127.0.0.1:9", Arc::clone(&rig.store));
    asking(&mut second, &server);
    second.who = rig.who.clone();
    let (_second, other) = second.open(second.grant(CLAUDE));
    assert!(passes(&other, &server, "/v1/things/3").await);
    // An answer that has run out is asked for anew.
    answer(&rig, &asked[0], true, AskScope::Request, Some(Timestamp(1)));
    assert!(get(&door, &server, "/v1/things/1").await.contains("they are asked"));
    assert_eq!(asks(&rig).len(), 3);
    let newest = asks(&rig).pop().unwrap();
    answer(&rig, &newest, false, AskScope::Host, None);
    let came = get(&door, &server, "/v2/x").await;
    assert!(came.contains("the person was asked and denies it"), "{came}");
    assert_eq!(rig.events(&["request_denied"]).len(), 2);
}

#[tokio::test]
async fn an_agent_cannot_fill_the_queue() {
    let server = ByHand::new().await;
    let mut rig = Rig::new("http://127.0.0.1:9");
    asking(&mut rig, &server);
    let (_door, door) = rig.open(rig.grant(CLAUDE));
    for at in 0..25 {
        let came = get(&door, &server, &format!("/{at}")).await;
        assert_eq!(came.contains("wait for the person already"), at >= 20, "{at}: {came}");
    }
    assert_eq!(asks(&rig).len(), 20);
}

#[tokio::test]
async fn a_request_carries_an_asked_secret_once_a_person_says_so() {
    let server = TlsByHand::new().await;
    let mut rig = server.rig();
    rig.layer(LayerName::User, "[[rule]]\nid = \"builders\"\nroles = [\"builder\"]\n[rule.secrets]\nask = [\"dep*\"]\n");
    let (_door, door) = rig.open(rig.grant(CLAUDE));
    let request = |more: &str| format!("GET /v1/x HTTP/1.1\r\nHost: localhost:{}\r\nConnection: close\r\n{more}\r\n", server.port);
    let carrying = request("Authorization: Bearer aedile-secret-deploy\r\n");
    let served = async |request: &str| {
        let mut tunnel = through(&rig, &door, server.port).await;
        let serve = async {
            let (asked, mut stream) = server.take().await;
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok").await.unwrap();
            stream.shutdown().await.unwrap();
            asked
        };
        let (asked, came) = tokio::join!(serve, raw_within(&mut tunnel, request.as_bytes()));
        assert!(came.starts_with("HTTP/1.1 200"), "{came}");
        asked
    };
    // What carries no secret is not asked about.
    assert!(!served(&request("")).await.contains("authorization"));
    let mut tunnel = through(&rig, &door, server.port).await;
    let came = raw_within(&mut tunnel, carrying.as_bytes()).await;
    assert!(came.starts_with("HTTP/1.1 403") && came.contains("user/builders/secrets.ask deploy") && came.contains("are asked"), "{came}");
    assert!(server.is_left_alone().await);
    let asked = asks(&rig);
    assert_eq!((asked.len(), asked[0].rule.as_str(), asked[0].path.as_str()), (1, "user/builders/secrets.ask deploy", "/v1/x"));
    answer(&rig, &asked[0], true, AskScope::Request, None);
    assert!(served(&carrying).await.contains(&format!("authorization: Bearer {DEPLOY}")));
    answer(&rig, &asked[0], false, AskScope::Agent, None);
    let mut tunnel = through(&rig, &door, server.port).await;
    let came = raw_within(&mut tunnel, carrying.as_bytes()).await;
    assert!(came.starts_with("HTTP/1.1 403") && came.contains("denies it"), "{came}");
}
