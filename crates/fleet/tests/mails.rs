//! Mail: exactly once to live readers, again after a crash, refused to those who cannot read it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use aedile_core::agent_api::{AgentReply, AgentRequest, MailText};
use aedile_core::limits::{MAIL_BYTES_MAX, MAIL_UNREAD_MAX};
use aedile_core::store::{Store, list};
use aedile_core::view::MailView;
use aedile_core::{MailId, RunId};
use aedile_fleet::mail::{MailError, take_mail};
use aedile_fleet::{inbox, send_mail};
use aedile_store::MemoryStore;
use aedile_testkit::{OsEntropy, SystemClock};

use crate::fakes::{World, end_turn};
use crate::support::{Landing, open, plan, store, task};

fn send(store: &dyn Store, run: RunId, from: &str, to: &str, subject: &str) -> Result<MailId, MailError> {
    send_mail(store, (&SystemClock, &OsEntropy), run, (from, to), (subject, "the text"))
}

fn wall_store() -> Arc<MemoryStore> {
    Arc::new(MemoryStore::new(Arc::new(SystemClock)))
}

#[test]
fn three_readers_at_once_get_each_piece_once() {
    let store = wall_store();
    let run = open(store.as_ref(), &plan(vec![task("one", "src/**", &[])], 1));
    for number in 0..MAIL_UNREAD_MAX {
        send(store.as_ref(), run, "ada", "person", &format!("number {number}")).unwrap();
    }
    let full = send(store.as_ref(), run, "ada", "person", "one more").unwrap_err().to_string();
    assert!(full.contains("200 unread"), "{full}");
    let taken: Vec<MailText> = std::thread::scope(|scope| {
        let reader = |name: &'static str| {
            let store = Arc::clone(&store);
            scope.spawn(move || {
                let taken = take_mail(store.as_ref(), run, "person", name).unwrap();
                let mail = taken.mail.clone();
                taken.ack(store.as_ref()).unwrap();
                mail
            })
        };
        let readers = ["r1", "r2", "r3"].map(reader);
        readers.into_iter().flat_map(|reader| reader.join().unwrap()).collect()
    });
    let once: BTreeSet<MailId> = taken.iter().map(|mail| mail.id).collect();
    assert_eq!((taken.len(), once.len()), (MAIL_UNREAD_MAX, MAIL_UNREAD_MAX));
    assert!(inbox(store.as_ref(), run, "person").unwrap().is_empty());
}

#[test]
fn what_a_reader_did_not_confirm_is_delivered_again() {
    let clock = Arc::new(aedile_core::clock::SteppingClock::default());
    let store = MemoryStore::new(Arc::<aedile_core::clock::SteppingClock>::clone(&clock));
    let run = open(&store, &plan(vec![task("one", "src/**", &[])], 1));
    send(&store, run, "ada", "person", "hello").unwrap();
    let lost = take_mail(&store, run, "person", "died").unwrap();
    assert_eq!(lost.mail.len(), 1);
    assert!(matches!(take_mail(&store, run, "person", "other"), Err(MailError::Busy(_))), "one reader at a time");
    clock.advance(aedile_fleet::mail::MAILBOX_LEASE);
    let again = take_mail(&store, run, "person", "other").unwrap();
    assert_eq!(again.mail, lost.mail);
    assert!(lost.ack(&store).is_err(), "who comes back from the dead confirms nothing");
    again.ack(&store).unwrap();
    assert!(take_mail(&store, run, "person", "third").unwrap().mail.is_empty());
}

#[test]
fn mail_that_cannot_be_sent_is_refused_with_who_can_be_reached() {
    let store = store();
    let run = open(store.as_ref(), &plan(vec![task("one", "src/**", &[])], 1));
    let text = send(store.as_ref(), run, "ada", "nobody", "hello").unwrap_err().to_string();
    assert_eq!(text, "nobody is no agent of this run; you can write to person");
    let text = send(store.as_ref(), run, "person", "ada", "hello").unwrap_err().to_string();
    assert_eq!(text, "ada is no agent of this run; you can write to nobody at the moment");
    assert!(send(store.as_ref(), run, "ada", "person", "two\nlines").is_err());
    assert!(send(store.as_ref(), run, "ada", "person", " ").is_err());
    let large = "x".repeat(MAIL_BYTES_MAX + 1);
    let error = send_mail(store.as_ref(), (&SystemClock, &OsEntropy), run, ("ada", "person"), ("hello", &large)).unwrap_err();
    assert!(error.to_string().contains("name files instead"));
}

#[tokio::test]
async fn agents_hear_each_other_between_turns_and_the_finished_are_not_written_to() {
    let world = World::new(|turn| async move {
        match (turn.key.as_str(), turn.number) {
            ("one", 1) => {
                // Once the other is in its turn: what comes earlier would be in its first prompt.
                while turn.world.prompts("two").is_empty() {
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
                let AgentReply::Task { agents: other, .. } = turn.call(AgentRequest::TaskInfo {}).await else { panic!() };
                assert!(matches!(turn.send(&other[0], "a question").await, AgentReply::Done { .. }));
                turn.world.ticks.store(1, Ordering::SeqCst);
                turn.submit().await;
            }
            ("two", 1) => {
                while turn.world.ticks.load(Ordering::SeqCst) == 0 {
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
            }
            ("two", 2) => {
                assert!(turn.prompt.contains(": a question\n> the text"), "{}", turn.prompt);
                let from = turn.prompt.split("From ").nth(1).unwrap().split(':').next().unwrap().to_owned();
                // It is in the queue by now, or has landed.
                let AgentReply::Refused { message } = turn.send(&from, "are you there?").await else { panic!() };
                assert!(message.contains("has finished and reads no more mail; you can write to person"), "{message}");
                assert!(matches!(turn.send("person", "an answer").await, AgentReply::Done { .. }));
                turn.submit().await;
            }
            _ => panic!("{}", turn.prompt),
        }
        end_turn()
    });
    let store = store();
    let run = open(store.as_ref(), &plan(vec![task("one", "b/**", &[]), task("two", "c/**", &[])], 4));
    let report = world.drive(&store, run, Landing::default()).await.unwrap();
    assert_eq!(report.landed, 2);
    let mail: Vec<MailView> = list(store.as_ref(), Some(run)).unwrap();
    assert!(mail.iter().find(|mail| mail.subject == "a question").unwrap().acked);
    assert_eq!(inbox(store.as_ref(), run, "person").unwrap().len(), 1);
}

#[tokio::test]
async fn mail_read_in_a_turn_is_confirmed_by_the_next_call_or_delivered_again() {
    let world = World::new(|turn| async move {
        match turn.number {
            1 => {
                while turn.world.ticks.load(Ordering::SeqCst) == 0 {
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
                let read = || turn.call(AgentRequest::MailRead { ack: Vec::new() });
                let (a, b, c) = tokio::join!(read(), read(), read());
                let mail_of = |reply| match reply {
                    AgentReply::Mail { mail } => mail,
                    other => panic!("{other:?}"),
                };
                let all: Vec<MailText> = [a, b, c].into_iter().flat_map(mail_of).collect();
                assert_eq!(all.len(), 2, "three readers in one box get each piece once");
                assert!(mail_of(turn.call(AgentRequest::MailRead { ack: vec![all[0].id] }).await).is_empty());
            }
            // Only what was never confirmed comes again.
            2 => {
                assert!(turn.prompt.contains("From person: second") && !turn.prompt.contains("first"), "{}", turn.prompt);
                turn.submit().await;
            }
            _ => panic!(),
        }
        end_turn()
    });
    let store = store();
    let run = open(store.as_ref(), &plan(vec![task("one", "src/**", &[])], 4));
    let sends = async {
        while world.prompts("one").is_empty() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        send(store.as_ref(), run, "person", "ada", "first").unwrap();
        send(store.as_ref(), run, "person", "ada", "second").unwrap();
        world.ticks.store(1, Ordering::SeqCst);
    };
    let (report, ()) = tokio::join!(world.drive(&store, run, Landing::default()), sends);
    assert_eq!(report.unwrap().landed, 1);
    assert!(inbox(store.as_ref(), run, "ada").unwrap().is_empty());
}

#[tokio::test]
async fn mail_that_nobody_will_read_goes_back() {
    let world = World::new(|turn| async move { turn.for_ever().await });
    let store = store();
    let run = open(store.as_ref(), &plan(vec![task("one", "src/**", &[])], 4));
    let closes = async {
        while world.prompts("one").is_empty() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        send(store.as_ref(), run, "person", "ada", "too late").unwrap();
        aedile_fleet::cancel_task(store.as_ref(), run, "one").unwrap();
    };
    let (report, ()) = tokio::join!(world.drive(&store, run, Landing::default()), closes);
    report.unwrap();
    assert!(inbox(store.as_ref(), run, "ada").unwrap().is_empty());
    let back = inbox(store.as_ref(), run, "person").unwrap().remove(0);
    assert_eq!((back.from.as_str(), back.subject.as_str()), ("ada", "not read: too late"));
}

#[tokio::test]
async fn mail_that_is_taken_in_as_the_turn_ends_is_not_delivered_again() {
    // Which of the two is seen first is a matter of chance.
    for _ in 0..12 {
        let world = World::new(|turn| async move {
            if turn.number == 1 {
                turn.world.takes_in.notified().await;
            } else {
                assert!(!turn.prompt.contains("From person"), "{}", turn.prompt);
                turn.submit().await;
            }
            end_turn()
        });
        world.hears.store(true, Ordering::SeqCst);
        let store = store();
        let run = open(store.as_ref(), &plan(vec![task("one", "src/**", &[])], 4));
        let sends = async {
            while world.prompts("one").is_empty() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            send(store.as_ref(), run, "person", "ada", "hello").unwrap();
            while world.heard.lock().unwrap().is_empty() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            world.takes_in.notify_waiters();
        };
        let (report, ()) = tokio::join!(world.drive(&store, run, Landing::default()), sends);
        assert_eq!(report.unwrap().landed, 1);
        assert_eq!(world.heard.lock().unwrap().len(), 1);
        assert!(inbox(store.as_ref(), run, "ada").unwrap().is_empty());
    }
}
