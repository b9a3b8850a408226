//! What only the store on SQLite must do: files, processes, versions, damage.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use aedile_core::event::Position;
use aedile_core::store::{Store, StoreError};
use aedile_core::view::ViewKind;
use aedile_store::{Options, Removed, SqliteStore};
use rusqlite::Connection;

use crate::support::{Ids, documents, letter, open, options, request};

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

fn raw(dir: &Path) -> Connection {
    Connection::open(dir.join("aedile.db")).unwrap()
}

fn error_of(dir: &Path, options: Options) -> StoreError {
    SqliteStore::open(dir, options).err().unwrap()
}

#[test]
fn files_are_for_their_owner_only() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("deep/state");
    assert!(!SqliteStore::exists(&dir));
    let store = open(&dir);
    assert!(SqliteStore::exists(&dir));
    store.append(letter(&Ids::new(1), "x")).unwrap();
    let id = store.put_blob(b"bytes").unwrap();
    let blob = dir.join("blobs").join(&id.as_str()[..2]).join(id.as_str());
    for file in [dir.join("aedile.db"), dir.join("aedile.db-wal"), blob] {
        assert_eq!(mode(&file), 0o600, "{}", file.display());
    }
    for directory in [parent.path().join("deep"), dir.clone(), dir.join("blobs")] {
        assert_eq!(mode(&directory), 0o700, "{}", directory.display());
    }
    let names: Vec<_> = fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    assert!(names.iter().all(|name| !name.contains("new-")), "{names:?}");
}

#[test]
fn many_may_make_the_store_at_once() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("state");
    std::thread::scope(|scope| {
        for seed in 0..6 {
            let dir = &dir;
            scope.spawn(move || open(dir).append(letter(&Ids::new(seed), "x")).unwrap());
        }
    });
    assert_eq!(open(&dir).last().unwrap(), Position(6));
}

#[test]
fn another_store_on_the_directory_sees_everything() {
    let dir = tempfile::tempdir().unwrap();
    let (one, other, ids) = (open(dir.path()), open(dir.path()), Ids::new(2));
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| other.wait_for_change(Position(0), Duration::from_secs(20)).unwrap());
        one.append(letter(&ids, "x").once("key")).unwrap();
        assert_eq!(waiter.join().unwrap(), Position(1));
    });
    other.append(letter(&ids, "y").once("key")).unwrap();
    assert_eq!(other.last().unwrap(), Position(1), "the key counts for all");
    let fence = one.claim(&request("run/1", "a")).unwrap();
    assert!(matches!(other.claim(&request("run/1", "b")), Err(StoreError::Claimed { .. })));
    one.release(&fence).unwrap();
    let next = other.claim(&request("run/1", "b")).unwrap();
    assert!(next.number > fence.number);
    assert!(matches!(one.append(letter(&ids, "late").fenced(&fence)), Err(StoreError::Fenced(_))));
}

#[test]
fn stores_on_one_directory_append_without_gap_or_loss() {
    let dir = tempfile::tempdir().unwrap();
    std::thread::scope(|scope| {
        for seed in 0..4 {
            let dir = dir.path();
            scope.spawn(move || {
                let (store, ids) = (open(dir), Ids::new(10 + seed));
                for _ in 0..25 {
                    store.append(letter(&ids, "x")).unwrap();
                }
            });
        }
    });
    let report = open(dir.path()).check().unwrap();
    assert_eq!((report.events, report.documents, report.problems), (100, 200, Vec::new()));
}

#[test]
fn a_lock_is_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let other = raw(dir.path());
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    std::thread::scope(|scope| {
        let append = scope.spawn(|| store.append(letter(&Ids::new(3), "x")));
        assert_eq!(store.wait_for_change(Position(0), Duration::from_millis(50)).unwrap(), Position(0));
        other.execute_batch("COMMIT").unwrap();
        append.join().unwrap().unwrap();
    });
}

#[test]
fn a_newer_database_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let running = open(dir.path());
    running.append(letter(&Ids::new(4), "x")).unwrap();
    raw(dir.path()).execute_batch("PRAGMA user_version=99").unwrap();
    let refused = error_of(dir.path(), options());
    assert!(matches!(refused, StoreError::Newer { found: 99, .. }), "{refused}");
    let text = refused.to_string();
    assert!(text.contains("aedile.db") && text.contains("upgrade aedile"), "{text}");
    let refused = running.append(letter(&Ids::new(5), "y")).unwrap_err();
    assert!(matches!(refused, StoreError::Newer { .. }), "one that was open already writes nothing more: {refused}");
}

#[test]
fn a_newer_event_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    for _ in 0..2 {
        store.append(letter(&Ids::new(store.last().unwrap().0), "x")).unwrap();
    }
    raw(dir.path()).execute("UPDATE event SET version = 7 WHERE position = 1", []).unwrap();
    let refused = store.read(Position(0), 10).unwrap_err();
    assert!(matches!(refused, StoreError::Newer { found: 7, known: 1, .. }), "{refused}");
    let unknown = "UPDATE event SET name = 'moon_landed', body = '{\"type\":\"moon_landed\"}' WHERE position = 2";
    raw(dir.path()).execute(unknown, []).unwrap();
    let refused = store.read(Position(1), 10).unwrap_err();
    assert!(matches!(refused, StoreError::Newer { .. }) && refused.to_string().contains("moon_landed"), "{refused}");
}

#[test]
fn views_of_another_version_are_rebuilt() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    store.append(letter(&Ids::new(6), "x")).unwrap();
    let before = documents(&store);
    raw(dir.path()).execute_batch("UPDATE meta SET value = 0 WHERE name = 'views'; DELETE FROM view").unwrap();
    assert!(store.views(ViewKind::Mail, None).unwrap().is_empty());
    let reading = Options { read_only: true, ..options() };
    assert!(error_of(dir.path(), reading).to_string().contains("aedile store rebuild"));
    assert_eq!(documents(&open(dir.path())), before);
}

#[test]
fn a_foreign_or_damaged_file_is_named() {
    let dir = tempfile::tempdir().unwrap();
    Connection::open(dir.path().join("aedile.db")).unwrap().execute_batch("CREATE TABLE mine (x)").unwrap();
    assert!(error_of(dir.path(), options()).to_string().contains("is not a database of aedile"));
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("aedile.db"), vec![7_u8; 8192]).unwrap();
    let refused = error_of(dir.path(), options());
    assert!(matches!(&refused, StoreError::Damaged { place, .. } if place.ends_with("aedile.db")), "{refused}");
}

#[test]
fn a_directory_that_cannot_be_is_named() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("file"), "").unwrap();
    let refused = error_of(&dir.path().join("file/state"), options()).to_string();
    assert!(refused.contains("file/state") && refused.contains("make the directory"), "{refused}");
}

#[test]
fn reading_only_makes_and_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let reading = || Options { read_only: true, ..options() };
    assert!(error_of(dir.path(), reading()).to_string().contains("there is no state"));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    open(dir.path()).append(letter(&Ids::new(7), "x")).unwrap();
    let store = SqliteStore::open(dir.path(), reading()).unwrap();
    assert_eq!(store.last().unwrap(), Position(1));
    assert!(store.append(letter(&Ids::new(8), "x")).is_err());
    assert!(store.put_blob(b"x").is_err() && store.rebuild().is_err() && store.claim(&request("a", "b")).is_err());
}

#[test]
fn a_damaged_blob_is_noticed_and_repaired() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let id = store.put_blob(b"bytes").unwrap();
    let file = dir.path().join("blobs").join(&id.as_str()[..2]).join(id.as_str());
    fs::write(&file, b"bytez").unwrap();
    assert!(matches!(store.get_blob(&id), Err(StoreError::Damaged { .. })));
    assert_eq!(store.check().unwrap().problems.len(), 1);
    store.put_blob(b"bytes").unwrap();
    assert_eq!(store.get_blob(&id).unwrap().unwrap(), b"bytes");
}

#[test]
fn a_check_finds_what_is_wrong() {
    let dir = tempfile::tempdir().unwrap();
    let (store, ids) = (open(dir.path()), Ids::new(9));
    let named = aedile_core::BlobId::of(b"never stored");
    for body in ["a", named.as_str(), "c"] {
        store.append(letter(&ids, body)).unwrap();
    }
    let report = store.check().unwrap();
    // A letter is a document, and so is the inbox of each receiver.
    assert_eq!((report.events, report.documents, report.blobs_gone, report.problems), (3, 6, 1, Vec::new()));
    raw(dir.path()).execute_batch("UPDATE view SET doc = replace(doc, '\"c\"', '\"x\"')").unwrap();
    let problems = store.check().unwrap().problems;
    assert!(problems.len() == 1 && problems[0].contains("aedile store rebuild"), "{problems:?}");
    store.rebuild().unwrap();
    raw(dir.path()).execute_batch("DELETE FROM event WHERE position = 2").unwrap();
    let problems = store.check().unwrap().problems;
    assert!(problems.iter().any(|problem| problem.contains("after the event 1 comes the event 3")), "{problems:?}");
}

#[test]
fn blobs_that_nobody_needs_are_removed_when_they_are_old() {
    let dir = tempfile::tempdir().unwrap();
    let (store, ids) = (open(dir.path()), Ids::new(10));
    let (kept, dropped, young) = (store.put_blob(b"kept").unwrap(), store.put_blob(b"dropped").unwrap(), store.put_blob(b"young").unwrap());
    store.append(letter(&ids, kept.as_str())).unwrap();
    let shard = |id: &aedile_core::BlobId| dir.path().join("blobs").join(&id.as_str()[..2]);
    fs::write(shard(&dropped).join("new-1-1"), "half").unwrap();
    let past = fs::metadata(dir.path()).unwrap().modified().unwrap() - Duration::from_secs(7200);
    for old in [shard(&kept).join(kept.as_str()), shard(&dropped).join(dropped.as_str()), shard(&dropped).join("new-1-1")] {
        fs::File::options().write(true).open(old).unwrap().set_modified(past).unwrap();
    }
    let named = store.named_blobs(|_| true).unwrap();
    assert_eq!(store.remove_blobs(|id| named.contains(id)).unwrap(), Removed { blobs: 2, bytes: 11 });
    assert_eq!(store.get_blob(&dropped).unwrap(), None);
    assert!(store.get_blob(&kept).unwrap().is_some() && store.get_blob(&young).unwrap().is_some());
    assert!(store.named_blobs(|_| false).unwrap().is_empty());
    let stats = store.stats().unwrap();
    assert_eq!((stats.events, stats.blobs, stats.blob_bytes), (1, 2, 9));
    assert!(stats.database_bytes > 0);
}
