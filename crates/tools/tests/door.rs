//! The client of the door, and mail.

use aedile_core::agent_api::{AgentReply, AgentRequest, MailText};
use aedile_core::ids::MailId;
use aedile_tools::{DoorClient, DoorError};
use serde_json::json;

use crate::support::{Bench, FakeDoor};

#[tokio::test]
async fn answers_are_understood_whole_and_in_chunks() {
    let door = FakeDoor::raw(|request| {
        let body = serde_json::to_string(&AgentReply::Done { message: format!("{request:?}") }).unwrap();
        let (a, b) = body.split_at(10);
        format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\na\r\n{a}\r\n{:x};note\r\n{b}\r\n0\r\n\r\n", b.len())
    });
    let reply = door.client().call(&AgentRequest::TaskInfo {}).await.unwrap();
    assert_eq!(reply, AgentReply::Done { message: "TaskInfo".to_owned() });
    let to_end = FakeDoor::raw(|_| "HTTP/1.0 200 OK\r\n\r\n{\"reply\":\"mail\",\"mail\":[]}".to_owned());
    assert_eq!(to_end.client().call(&AgentRequest::MailRead { ack: vec![] }).await.unwrap(), AgentReply::Mail { mail: vec![] });
}

#[tokio::test]
async fn failures_say_what_is_wrong() {
    for bad in ["127.0.0.1:7070", "https://127.0.0.1:7070", "http://127.0.0.1", "http://:1"] {
        assert!(matches!(DoorClient::new(bad), Err(DoorError::BadUrl { .. })), "{bad}");
    }
    assert!(DoorClient::new("http://127.0.0.1:7070/v1").is_ok());
    let ask =
        async |answer: &'static str| FakeDoor::raw(|_| answer.to_owned()).client().call(&AgentRequest::TaskInfo {}).await.unwrap_err();
    assert!(
        matches!(ask("HTTP/1.1 403 No\r\nContent-Length: 4\r\n\r\nsick").await, DoorError::Status { status: 403, body } if body == "sick")
    );
    assert!(matches!(ask("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}").await, DoorError::NotUnderstood { .. }));
    assert!(matches!(ask("HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n{}").await, DoorError::Unreachable { .. }));
    assert!(matches!(ask("garbage\r\n\r\n").await, DoorError::Unreachable { .. }));
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let began = std::time::Instant::now();
    let error = DoorClient::new(&format!("http://{closed}")).unwrap().call(&AgentRequest::TaskInfo {}).await.unwrap_err();
    assert!(error.to_string().contains("works only inside a box"), "{error}");
    // Whoever dies with the door must not have heard of it before.
    assert!(began.elapsed() >= std::time::Duration::from_secs(2), "{:?}", began.elapsed());
    let large = AgentRequest::PlanSubmit { plan: json!("x".repeat(2 * 1024 * 1024)) };
    let error = FakeDoor::raw(|_| panic!("it was sent")).client().call(&large).await.unwrap_err();
    assert!(matches!(error, DoorError::TooLarge { bytes } if bytes > 2 * 1024 * 1024), "{error}");
}

#[tokio::test]
async fn mail_is_sent_read_and_acknowledged_by_the_next_read() {
    let id: MailId = "018f0000-0000-7000-8000-000000000001".parse().unwrap();
    let door = FakeDoor::new(move |request| match request {
        AgentRequest::MailSend { to, .. } if to == "bob" => AgentReply::Done { message: "sent to bob".to_owned() },
        AgentRequest::MailSend { to, .. } => AgentReply::Refused { message: format!("there is no agent {to}") },
        AgentRequest::MailRead { ack } if ack.is_empty() => {
            AgentReply::Mail { mail: vec![MailText { id, from: "bob".to_owned(), subject: "hi".to_owned(), body: "there".to_owned() }] }
        }
        AgentRequest::MailRead { .. } => AgentReply::Mail { mail: vec![] },
        other => AgentReply::Refused { message: format!("{other:?}") },
    });
    let bench = Bench::with(&[], Some(door.client()));
    assert_eq!(bench.ok("mail_send", json!({"to": "bob", "subject": "s", "body": "b"})).await, "sent to bob");
    assert_eq!(bench.err("mail_send", json!({"to": "eve", "subject": "s", "body": "b"})).await, "there is no agent eve");
    assert_eq!(bench.ok("mail_read", json!({})).await, "from bob: hi\nthere");
    assert_eq!(bench.ok("mail_read", json!({})).await, "[no unread mail]");
    assert_eq!(door.asked.lock().unwrap().last().unwrap(), &AgentRequest::MailRead { ack: vec![id] });
}

#[tokio::test]
async fn task_info_names_scope_and_agents() {
    let door = FakeDoor::of_task(&["src/**"]);
    let text = Bench::with(&[], Some(door.client())).ok("task_info", json!({})).await;
    assert_eq!(text, "task auth: Build auth\nyou are ada; other agents: bob\nyou may change: src/**\n\nDo it.");
}
