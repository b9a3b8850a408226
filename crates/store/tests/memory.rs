//! The store in memory can crash at an append.

use std::sync::Arc;

use aedile_core::clock::SteppingClock;
use aedile_core::event::Position;
use aedile_core::store::{Appended, Store};
use aedile_core::view::ViewKind;
use aedile_store::{Crash, MemoryStore};

use crate::support::{Ids, letter, request};

fn crash_at_second(crash: Crash) -> (MemoryStore, bool) {
    let store = MemoryStore::new(Arc::new(SteppingClock::default())).with_crash_after(2, crash);
    let ids = Ids::new(1);
    store.append(letter(&ids, "one").once("one")).unwrap();
    store.append(letter(&ids, "one").once("one")).unwrap();
    let fence = store.claim(&request("run/1", "a")).unwrap();
    let told = store.append(letter(&ids, "two").fenced(&fence)).is_ok();
    assert!(store.crashed() && store.append(letter(&ids, "three")).is_err() && store.last().is_err() && store.claims("").is_err());
    (store, told)
}

#[test]
fn a_crash_before_the_write_loses_the_append() {
    let (store, told) = crash_at_second(Crash::BeforeWrite);
    let fresh = store.reopen();
    assert!(!told);
    assert_eq!(fresh.last().unwrap(), Position(1));
    assert_eq!(fresh.views(ViewKind::Mail, None).unwrap().len(), 1);
    assert_eq!(fresh.claims("").unwrap().len(), 1, "a claim survives");
    assert_eq!(fresh.append(letter(&Ids::new(2), "two")).unwrap(), Appended::At(Position(2)));
}

#[test]
fn a_crash_before_the_reply_keeps_the_append() {
    let (store, told) = crash_at_second(Crash::BeforeReply);
    assert!(!told);
    assert_eq!(store.reopen().last().unwrap(), Position(2));
    assert_eq!(store.reopen().views(ViewKind::Mail, None).unwrap().len(), 2);
}

#[test]
fn a_crash_after_the_reply_keeps_what_was_told() {
    let (store, told) = crash_at_second(Crash::AfterReply);
    assert!(told);
    let fresh = store.reopen().with_crash_after(1, Crash::BeforeWrite);
    assert_eq!(fresh.last().unwrap(), Position(2));
    assert!(fresh.append(letter(&Ids::new(2), "x")).is_err());
}

#[test]
fn a_reopened_store_silences_the_old_handle() {
    let store = MemoryStore::new(Arc::new(SteppingClock::default()));
    let fresh = store.reopen();
    assert!(store.append(letter(&Ids::new(1), "late")).is_err());
    assert_eq!(fresh.last().unwrap(), Position(0));
}
