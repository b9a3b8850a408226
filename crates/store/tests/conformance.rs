//! What every store must do.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aedile_core::event::{Event, Position, TaskOutcome};
use aedile_core::limits::{APPEND_EVENTS_MAX, BLOB_BYTES_MAX, EVENT_BYTES_MAX};
use aedile_core::machine::RunState;
use aedile_core::store::{Append, Appended, ClaimRequest, Fence, Store, StoreError, list, load};
use aedile_core::view::{MailView, RunView, TaskView, ViewKind};

use crate::support::{
    Ids, Make, SECRET, SECRET_LINES, TwoSecrets, commit, documents, letter, mail, mail_as, memory, opened, plain, request, sqlite, started,
};

macro_rules! suite {
    ($($name:ident,)+) => {
        mod on_sqlite { $(#[test] fn $name() { super::$name(super::sqlite); })+ }
        mod in_memory { $(#[test] fn $name() { super::$name(super::memory); })+ }
    };
}

suite!(
    events_come_back_in_order,
    a_key_makes_an_append_happen_once,
    a_group_is_written_whole_or_not_at_all,
    an_illegal_step_is_refused_and_leaves_nothing,
    an_event_of_another_run_is_refused,
    limits_are_kept,
    secrets_are_redacted_in_events,
    a_secret_in_an_id_is_refused,
    secrets_are_redacted_in_blobs,
    blobs_come_back,
    an_old_fence_is_refused,
    a_claim_is_taken_by_one,
    an_expired_claim_is_taken_over,
    a_dead_holders_claim_is_taken_over,
    numbers_grow_after_release,
    claims_are_listed_by_prefix,
    views_come_in_the_order_of_creation,
    a_waiter_sees_an_append,
    a_waiter_gives_up_at_its_time,
    threads_append_without_gap_or_loss,
    a_rebuild_changes_nothing,
);

fn events_come_back_in_order(make: Make) {
    let (fixture, ids) = (plain(make), Ids::new(1));
    let store = fixture.store;
    assert_eq!(store.last().unwrap(), Position(0));
    let run = ids.run();
    let first = Append::of(run, started(run, ids.project())).and(mail(&ids, run, "one"));
    assert_eq!(store.append(first.clone()).unwrap(), Appended::At(Position(2)));
    assert_eq!(store.append(Append::of(run, mail(&ids, run, "two"))).unwrap(), Appended::At(Position(3)));
    let all = store.read(Position(0), 100).unwrap();
    assert_eq!(all.iter().map(|envelope| envelope.position.0).collect::<Vec<_>>(), [1, 2, 3]);
    assert!(all.iter().all(|envelope| envelope.run == Some(run) && envelope.version == 1));
    assert_eq!(all[0].at, all[1].at, "one append has one time");
    assert!(all[1].at < all[2].at);
    assert_eq!([&all[0].event, &all[1].event], [&first.events[0].event, &first.events[1].event]);
    assert_eq!(store.read(Position(1), 1).unwrap(), all[1..2]);
    assert_eq!(store.read(Position(3), 100).unwrap(), []);
    assert_eq!(store.read(Position(u64::MAX), 100).unwrap(), []);
}

fn a_key_makes_an_append_happen_once(make: Make) {
    let (fixture, ids) = (plain(make), Ids::new(2));
    let store = fixture.store;
    let run = ids.run();
    let twice = Append::of(run, mail(&ids, run, "a")).and(mail(&ids, run, "b")).once("send/1");
    assert_eq!(store.append(twice.clone()).unwrap(), Appended::At(Position(2)));
    assert_eq!(store.append(letter(&ids, "c")).unwrap(), Appended::At(Position(3)));
    assert_eq!(store.append(twice).unwrap(), Appended::Already(Position(2)));
    assert_eq!(store.append(letter(&ids, "d").once("send/2")).unwrap(), Appended::At(Position(4)));
    assert_eq!(store.last().unwrap(), Position(4));
}

fn a_group_is_written_whole_or_not_at_all(make: Make) {
    let (fixture, ids) = (plain(make), Ids::new(3));
    let store = fixture.store;
    let (run, known) = (ids.run(), ids.mail());
    store.append(Append::of(run, mail_as(known, run, "first"))).unwrap();
    let before = documents(store.as_ref());
    let bad = Append::of(run, mail(&ids, run, "new")).and(Event::MailAcked { mail: known }).and(mail_as(known, run, "again")).once("bad");
    assert!(matches!(store.append(bad.clone()), Err(StoreError::Illegal(_))));
    assert_eq!(store.last().unwrap(), Position(1));
    assert_eq!(documents(store.as_ref()), before);
    let good = Append { events: bad.events[..2].to_vec(), ..bad };
    assert_eq!(store.append(good).unwrap(), Appended::At(Position(3)), "the key of a refused append is free");
}

fn an_illegal_step_is_refused_and_leaves_nothing(make: Make) {
    let (fixture, ids) = (plain(make), Ids::new(4));
    let store = fixture.store;
    let (run, task) = (ids.run(), ids.task());
    store.append(Append::of(run, started(run, ids.project())).and(opened(run, task, 1))).unwrap();
    let landed = Event::TaskClosed { task, outcome: TaskOutcome::Landed { commit: commit(2) } };
    let refused = store.append(Append::of(run, landed)).unwrap_err();
    assert!(matches!(&refused, StoreError::Illegal(illegal) if illegal.noun == "task"), "{refused}");
    assert!(matches!(store.append(Append::of(run, Event::TaskReady { task: ids.task() })), Err(StoreError::Illegal(_))));
    assert!(matches!(store.append(Append::of(run, started(run, ids.project()))), Err(StoreError::Illegal(_))));
    assert_eq!(store.last().unwrap(), Position(2));
    assert_eq!(load::<RunView>(store.as_ref(), &run.to_string()).unwrap().unwrap().state, RunState::Running);
}

fn an_event_of_another_run_is_refused(make: Make) {
    let (fixture, ids) = (plain(make), Ids::new(5));
    let (run, other) = (ids.run(), ids.run());
    assert!(matches!(fixture.store.append(Append::of(run, mail(&ids, other, "x"))), Err(StoreError::Illegal(_))));
    let mut unnamed = Append::of(run, mail(&ids, run, "x"));
    unnamed.events[0].run = None;
    fixture.store.append(unnamed).unwrap();
    assert_eq!(fixture.store.read(Position(0), 1).unwrap()[0].run, Some(run), "the run that the event names");
}

fn limits_are_kept(make: Make) {
    let (fixture, ids) = (plain(make), Ids::new(6));
    let store = fixture.store;
    let run = ids.run();
    let big = "x".repeat(EVENT_BYTES_MAX);
    assert!(matches!(store.append(letter(&ids, &big)), Err(StoreError::TooLarge { max: EVENT_BYTES_MAX, .. })));
    store.append(letter(&ids, &big[..EVENT_BYTES_MAX - 1000])).unwrap();
    let many = |count| (1..count).fold(Append::of(run, mail(&ids, run, "x")), |append, _| append.and(mail(&ids, run, "x")));
    assert!(matches!(store.append(many(APPEND_EVENTS_MAX + 1)), Err(StoreError::TooLarge { max: APPEND_EVENTS_MAX, .. })));
    store.append(many(APPEND_EVENTS_MAX)).unwrap();
    assert!(store.append(Append::default()).is_err());
    let blob = vec![0_u8; BLOB_BYTES_MAX + 1];
    assert!(matches!(store.put_blob(&blob), Err(StoreError::TooLarge { max: BLOB_BYTES_MAX, .. })));
    assert_eq!(store.last().unwrap(), Position(1 + APPEND_EVENTS_MAX as u64));
}

fn secrets_are_redacted_in_events(make: Make) {
    let (fixture, ids) = (make(Arc::new(TwoSecrets)), Ids::new(7));
    let store = fixture.store;
    let run = ids.run();
    let text = format!("keep this; {SECRET}; {SECRET_LINES}; \"and\\this");
    store.append(Append::of(run, mail(&ids, run, &text)).and(mail(&ids, run, SECRET))).unwrap();
    let stored = format!("{:?}{:?}", store.read(Position(0), 10).unwrap(), documents(store.as_ref()));
    assert!(!stored.contains(SECRET) && !stored.contains("abc\\"), "{stored}");
    let views = list::<MailView>(store.as_ref(), Some(run)).unwrap();
    assert_eq!(views[0].body, "keep this; [secret:one]; [secret:two]; \"and\\this");
    assert_eq!(views[1].body, "[secret:one]");
}

fn a_secret_in_an_id_is_refused(make: Make) {
    let (fixture, ids) = (make(Arc::new(TwoSecrets)), Ids::new(8));
    let task = ids.task();
    let agent = aedile_core::AgentName::new(SECRET).unwrap();
    let event = Event::TaskClaimed { task, agent, incarnation: ids.life(), fence: 1, attempt: 1 };
    let refused = fixture.store.append(Append::of(ids.run(), event)).unwrap_err().to_string();
    assert!(refused.contains("task_claimed") && !refused.contains(SECRET), "{refused}");
    assert_eq!(fixture.store.last().unwrap(), Position(0));
}

fn secrets_are_redacted_in_blobs(make: Make) {
    let fixture = make(Arc::new(TwoSecrets));
    let id = fixture.store.put_blob(format!("a {SECRET} b").as_bytes()).unwrap();
    assert_eq!(id, aedile_core::BlobId::of(b"a [secret:one] b"), "the id is that of what was stored");
    assert_eq!(fixture.store.get_blob(&id).unwrap().unwrap(), b"a [secret:one] b");
}

fn blobs_come_back(make: Make) {
    let fixture = plain(make);
    let store = fixture.store;
    for bytes in [&b""[..], b"one", &[0xff, 0, 1], b"one"] {
        let id = store.put_blob(bytes).unwrap();
        assert_eq!(id, aedile_core::BlobId::of(bytes));
    }
    let id = aedile_core::BlobId::of(b"one");
    assert_eq!(store.get_blob(&aedile_core::BlobId::of(b"two")).unwrap(), None);
    assert_eq!(store.get_blob(&id).unwrap().unwrap(), b"one");
}

fn an_old_fence_is_refused(make: Make) {
    let (fixture, ids) = (plain(make), Ids::new(9));
    let store = fixture.store;
    let old = store.claim(&request("task/1", "worker-a")).unwrap();
    store.append(letter(&ids, "a").fenced(&old)).unwrap();
    fixture.clock.advance(Duration::from_secs(3600));
    store.append(letter(&ids, "expired, but nobody took it").fenced(&old)).unwrap();
    let new = store.claim(&request("task/1", "worker-b")).unwrap();
    assert!(new.number > old.number);
    let refused = store.append(letter(&ids, "late").fenced(&old)).unwrap_err();
    assert!(matches!(&refused, StoreError::Fenced(fence) if fence == &old), "{refused}");
    assert!(matches!(store.renew(&old, Duration::from_secs(60)), Err(StoreError::Fenced(_))));
    store.release(&old).unwrap();
    store.append(letter(&ids, "b").fenced(&new)).unwrap();
    let made_up = Fence { claim: "task/2".to_owned(), number: 1 };
    assert!(matches!(store.append(letter(&ids, "c").fenced(&made_up)), Err(StoreError::Fenced(_))));
    store.release(&new).unwrap();
    assert!(matches!(store.append(letter(&ids, "d").fenced(&new)), Err(StoreError::Fenced(_))));
    assert_eq!(store.last().unwrap(), Position(3));
}

fn a_claim_is_taken_by_one(make: Make) {
    let fixture = plain(make);
    let winners: Vec<Fence> = std::thread::scope(|scope| {
        let tries: Vec<_> = (0..8)
            .map(|worker| {
                let store = Arc::clone(&fixture.store);
                scope.spawn(move || store.claim(&request("landing/main", &format!("worker-{worker}"))))
            })
            .collect();
        tries.into_iter().filter_map(|thread| thread.join().unwrap().ok()).collect()
    });
    assert_eq!(winners.len(), 1);
    let refused = fixture.store.claim(&request("landing/main", "late")).unwrap_err();
    assert!(matches!(refused, StoreError::Claimed { ref name, .. } if name == "landing/main"), "{refused}");
    let held = fixture.store.claims("landing/").unwrap();
    let again = fixture.store.claim(&request("landing/main", &held[0].holder)).unwrap();
    assert!(again.number > winners[0].number, "its holder may claim again");
}

fn an_expired_claim_is_taken_over(make: Make) {
    let fixture = plain(make);
    let store = fixture.store;
    let first = store.claim(&request("run/1", "a")).unwrap();
    fixture.clock.advance(Duration::from_secs(50));
    store.renew(&first, Duration::from_secs(60)).unwrap();
    fixture.clock.advance(Duration::from_secs(50));
    assert!(matches!(store.claim(&request("run/1", "b")), Err(StoreError::Claimed { .. })));
    fixture.clock.advance(Duration::from_secs(11));
    let second = store.claim(&request("run/1", "b")).unwrap();
    assert_eq!(second.number, first.number + 1);
}

fn a_dead_holders_claim_is_taken_over(make: Make) {
    let fixture = plain(make);
    let store = fixture.store;
    let first = store.claim(&request("run/1", "a")).unwrap();
    let other = ClaimRequest { dead: vec!["x".to_owned()], ..request("run/1", "b") };
    assert!(matches!(store.claim(&other), Err(StoreError::Claimed { .. })));
    let proved = ClaimRequest { dead: vec!["x".to_owned(), "a".to_owned()], ..request("run/1", "b") };
    assert!(store.claim(&proved).unwrap().number > first.number);
}

fn numbers_grow_after_release(make: Make) {
    let fixture = plain(make);
    let store = fixture.store;
    let mut last = 0;
    for holder in ["a", "b", "a"] {
        let fence = store.claim(&request("task/1", holder)).unwrap();
        assert!(fence.number > last);
        last = fence.number;
        store.release(&fence).unwrap();
        store.release(&fence).unwrap();
    }
    assert_eq!(store.claims("").unwrap(), []);
}

fn claims_are_listed_by_prefix(make: Make) {
    let fixture = plain(make);
    let store = fixture.store;
    for name in ["task/b", "task/a", "task", "run/a", "task%/x"] {
        store.claim(&request(name, "w")).unwrap();
    }
    let names = |prefix| store.claims(prefix).unwrap().into_iter().map(|claim| claim.name).collect::<Vec<_>>();
    assert_eq!(names("task/"), ["task/a", "task/b"]);
    assert_eq!(names("task%"), ["task%/x"]);
    assert_eq!(names("").len(), 5);
    assert!(names("zzz").is_empty());
}

fn views_come_in_the_order_of_creation(make: Make) {
    let (fixture, ids) = (plain(make), Ids::new(10));
    let store = fixture.store;
    let (run, other) = (ids.run(), ids.run());
    store.append(Append::of(run, started(run, ids.project()))).unwrap();
    store.append(Append::of(other, started(other, ids.project()))).unwrap();
    let mut tasks: Vec<_> = (0..5).map(|_| ids.task()).collect();
    tasks.reverse();
    for (key, task) in (0..).zip(&tasks) {
        store.append(Append::of(run, opened(run, *task, key))).unwrap();
    }
    store.append(Append::of(other, opened(other, ids.task(), 9))).unwrap();
    store.append(Append::of(run, Event::TaskReady { task: tasks[0] })).unwrap();
    let found = list::<TaskView>(store.as_ref(), Some(run)).unwrap();
    assert_eq!(found.iter().map(|view| view.task).collect::<Vec<_>>(), tasks);
    assert_eq!(store.views(ViewKind::Task, None).unwrap().len(), 6);
    assert_eq!(store.view(ViewKind::Task, "nothing").unwrap(), None);
}

fn a_waiter_sees_an_append(make: Make) {
    let (fixture, ids) = (plain(make), Ids::new(11));
    let store = Arc::clone(&fixture.store);
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| fixture.store.wait_for_change(Position(0), Duration::from_secs(20)).unwrap());
        store.append(letter(&ids, "x")).unwrap();
        assert_eq!(waiter.join().unwrap(), Position(1));
    });
    let asked = Instant::now();
    assert_eq!(store.wait_for_change(Position(0), Duration::from_secs(20)).unwrap(), Position(1));
    assert!(asked.elapsed() < Duration::from_secs(10), "what is there already is not waited for");
}

fn a_waiter_gives_up_at_its_time(make: Make) {
    let (fixture, ids) = (plain(make), Ids::new(12));
    fixture.store.append(letter(&ids, "x")).unwrap();
    let asked = Instant::now();
    assert_eq!(fixture.store.wait_for_change(Position(1), Duration::from_millis(60)).unwrap(), Position(1));
    assert!(asked.elapsed() >= Duration::from_millis(60));
    assert_eq!(fixture.store.wait_for_change(Position(1), Duration::ZERO).unwrap(), Position(1));
}

fn threads_append_without_gap_or_loss(make: Make) {
    const EACH: u64 = 40;
    let fixture = plain(make);
    let acked: Vec<u64> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|seed| {
                let store = Arc::clone(&fixture.store);
                scope.spawn(move || {
                    let ids = Ids::new(100 + seed);
                    (0..EACH).map(move |_| send_or_fail(store.as_ref(), &ids)).collect::<Vec<_>>()
                })
            })
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    let distinct: BTreeSet<u64> = acked.iter().copied().collect();
    assert_eq!(distinct.len(), acked.len());
    let all = fixture.store.read(Position(0), 10_000).unwrap();
    assert_eq!(all.iter().map(|envelope| envelope.position.0).collect::<Vec<_>>(), (1..=8 * EACH).collect::<Vec<_>>());
    assert_eq!(fixture.store.views(ViewKind::Mail, None).unwrap().len(), acked.len());
}

/// Sends a letter, after one that is refused: that one must not disturb the others of its group.
fn send_or_fail(store: &dyn Store, ids: &Ids) -> u64 {
    assert!(store.append(Append::of(ids.run(), Event::MailAcked { mail: ids.mail() })).is_err());
    match store.append(letter(ids, "x")).unwrap() {
        Appended::At(position) => position.0,
        Appended::Already(position) => panic!("no key was given at {position:?}"),
    }
}

fn a_rebuild_changes_nothing(make: Make) {
    let (fixture, ids) = (plain(make), Ids::new(13));
    let store = fixture.store;
    let (run, task) = (ids.run(), ids.task());
    store.append(Append::of(run, started(run, ids.project())).and(opened(run, task, 1)).and(Event::TaskReady { task })).unwrap();
    let before = documents(store.as_ref());
    assert_eq!(store.rebuild().unwrap(), 3);
    assert_eq!(documents(store.as_ref()), before);
}
