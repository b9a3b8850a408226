//! Care for a store: is it whole, how big is it, which blobs does nobody need.

use std::collections::HashSet;

use aedile_core::BlobId;
use aedile_core::event::Envelope;
use aedile_core::store::StoreError;
use aedile_core::view::ViewKind;
use rusqlite::Connection;

use crate::blobs::Removed;
use crate::memory_views::MemoryViews;
use crate::sqlite::SqliteStore;
use crate::{error, log};

/// The most problems that a [`CheckReport`] lists.
pub const PROBLEMS_MAX: usize = 100;

/// What [`SqliteStore::check`] found.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct CheckReport {
    /// Events in the log.
    pub events: u64,
    /// Documents in the views.
    pub documents: u64,
    /// Blobs on the disk.
    pub blobs: u64,
    /// Blobs that events name and that are not there (any more): `aedile clean` removes old ones.
    pub blobs_gone: u64,
    /// What is wrong, one sentence each, at most [`PROBLEMS_MAX`]. Empty: the store is whole.
    pub problems: Vec<String>,
}

impl CheckReport {
    fn note(&mut self, problem: String) {
        if self.problems.len() < PROBLEMS_MAX {
            self.problems.push(problem);
        }
    }
}

/// How big a store is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Stats {
    /// Events in the log.
    pub events: u64,
    /// Bytes of the database and its write-ahead log.
    pub database_bytes: u64,
    /// Blobs.
    pub blobs: u64,
    /// Bytes of all blobs.
    pub blob_bytes: u64,
}

impl SqliteStore {
    /// Checks the database's pages, the positions, the blobs' hashes, and the views against the log. Reads everything.
    ///
    /// # Errors
    /// [`StoreError`] when the check cannot be made; what it finds is in the report.
    pub fn check(&self) -> Result<CheckReport, StoreError> {
        let mut report = CheckReport::default();
        let named = self.read_rows(|rows| {
            let failed = |error| error::sqlite(self.path(), &error);
            // One snapshot for all of it: others may write meanwhile.
            let snapshot = rows.conn.unchecked_transaction().map_err(failed)?;
            self.check_pages(&snapshot, &mut report)?;
            let named = self.check_log(&snapshot, &mut report)?;
            self.check_views(&snapshot, &mut report)?;
            Ok(named)
        })?;
        self.check_blobs(&named, &mut report)?;
        Ok(report)
    }

    fn check_pages(&self, conn: &Connection, report: &mut CheckReport) -> Result<(), StoreError> {
        let mut statement = conn.prepare("PRAGMA integrity_check(20)").map_err(|error| self.failed(&error))?;
        let lines = statement.query_map([], |row| row.get::<_, String>(0)).map_err(|error| self.failed(&error))?;
        for line in lines {
            let line = line.map_err(|error| self.failed(&error))?;
            if line != "ok" {
                report.note(format!("{}: {line}", self.path().display()));
            }
        }
        Ok(())
    }

    fn check_log(&self, conn: &Connection, report: &mut CheckReport) -> Result<HashSet<BlobId>, StoreError> {
        let mut named = HashSet::new();
        let mut before = 0;
        log::each_event(conn, self.path(), |stored| {
            if stored.position != before + 1 {
                report.note(format!("after the event {before} comes the event {}", stored.position));
            }
            before = stored.position;
            report.events += 1;
            named.extend(blobs_in(&stored.body));
            if let Err(error) = stored.envelope() {
                report.note(error.to_string());
            }
            Ok(())
        })?;
        Ok(named)
    }

    fn check_views(&self, conn: &Connection, report: &mut CheckReport) -> Result<(), StoreError> {
        let mut fresh = MemoryViews::default();
        if let Err(error) = log::replay(conn, self.path(), &mut fresh) {
            report.note(format!("the views cannot be made from the log: {error}"));
            return Ok(());
        }
        let mut statement =
            conn.prepare("SELECT key, run, doc FROM view WHERE kind = $1 ORDER BY seq").map_err(|error| self.failed(&error))?;
        for kind in ViewKind::ALL {
            let rows = statement
                .query_map([kind.as_str()], |row| Ok((row.get::<_, String>(0)?, row.get::<_, Option<String>>(1)?, row.get(2)?)))
                .map_err(|error| self.failed(&error))?;
            let stored: Vec<(String, Option<String>, String)> = rows.collect::<Result<_, _>>().map_err(|error| self.failed(&error))?;
            report.documents += stored.len() as u64;
            let stored = stored.iter().map(|(key, run, doc)| (key.as_str(), run.clone(), doc.as_str()));
            if !stored.eq(fresh.list(*kind).map(|(key, run, doc)| (key, run.map(|run| run.to_string()), doc))) {
                report.note(format!("the view {} does not agree with the log; `aedile store rebuild` makes it anew", kind.as_str()));
            }
        }
        Ok(())
    }

    fn check_blobs(&self, named: &HashSet<BlobId>, report: &mut CheckReport) -> Result<(), StoreError> {
        let mut all = Vec::new();
        self.blobs().each(|id, _| all.push(id))?;
        for id in &all {
            match self.blobs().get(id) {
                Ok(found) => report.blobs += u64::from(found.is_some()),
                Err(error) => report.note(error.to_string()),
            }
        }
        report.blobs_gone = named.iter().filter(|id| !self.blobs().has(id)).count() as u64;
        Ok(())
    }

    /// Returns how big the store is. Looks at every blob's size: about two microseconds for each.
    ///
    /// # Errors
    /// [`StoreError`] when the database or the directory of blobs cannot be read.
    pub fn stats(&self) -> Result<Stats, StoreError> {
        let mut stats = Stats { events: self.read_rows(|rows| rows.last())?.0, ..Stats::default() };
        for suffix in ["", "-wal"] {
            let mut path = self.path().as_os_str().to_owned();
            path.push(suffix);
            // The write-ahead log comes and goes.
            stats.database_bytes += std::fs::metadata(path).map_or(0, |meta| meta.len());
        }
        self.blobs().each(|_, bytes| {
            stats.blobs += 1;
            stats.blob_bytes += bytes;
        })?;
        Ok(stats)
    }

    /// Returns the blobs that the wanted events name.
    ///
    /// # Errors
    /// [`StoreError`] when the log cannot be read.
    pub fn named_blobs(&self, wanted: impl Fn(&Envelope) -> bool) -> Result<HashSet<BlobId>, StoreError> {
        let mut named = HashSet::new();
        self.read_rows(|rows| {
            log::each_event(rows.conn, self.path(), |stored| {
                let found: Vec<BlobId> = blobs_in(&stored.body).collect();
                if !found.is_empty() && wanted(&stored.envelope()?) {
                    named.extend(found);
                }
                Ok(())
            })
        })?;
        Ok(named)
    }

    /// Removes the blobs that `keep` does not want, and files that a killed process left half written. What is younger
    /// than an hour stays: the event that names it may be on its way.
    ///
    /// # Errors
    /// [`StoreError`] when a file cannot be removed; those before it are gone then.
    pub fn remove_blobs(&self, keep: impl Fn(&BlobId) -> bool) -> Result<Removed, StoreError> {
        self.writable()?;
        self.blobs().remove(&keep)
    }
}

/// Returns everything in an event's JSON that may be the id of a blob: each whole string of 64 hexadecimal digits.
fn blobs_in(body: &str) -> impl Iterator<Item = BlobId> {
    body.split(|c: char| !c.is_ascii_alphanumeric()).filter(|part| part.len() == 64).filter_map(|part| BlobId::new(part).ok())
}
