//! Reads of the log and of the views, and the views made anew from the log.

use std::path::Path;

use aedile_core::apply::{ViewTx, apply};
use aedile_core::event::{Envelope, Event, Position};
use aedile_core::store::StoreError;
use aedile_core::view::ViewKind;
use aedile_core::{RunId, Timestamp};
use rusqlite::{CachedStatement, Connection, OptionalExtension, Row, params};

use crate::{error, schema};

/// The views as rows, inside the caller's transaction.
pub(crate) struct Rows<'a> {
    pub(crate) conn: &'a Connection,
    pub(crate) path: &'a Path,
}

impl<'a> Rows<'a> {
    fn statement(&self, sql: &str) -> Result<CachedStatement<'a>, StoreError> {
        self.conn.prepare_cached(sql).map_err(|error| error::sqlite(self.path, &error))
    }

    /// Returns the last position.
    pub(crate) fn last(&self) -> Result<Position, StoreError> {
        let mut statement = self.statement("SELECT max(position) FROM event")?;
        let last: Option<i64> = statement.query_row([], |row| row.get(0)).map_err(|error| error::sqlite(self.path, &error))?;
        Ok(Position(last.and_then(|last| u64::try_from(last).ok()).unwrap_or(0)))
    }

    /// Returns up to `limit` events after the position.
    pub(crate) fn read(&self, after: Position, limit: usize) -> Result<Vec<Envelope>, StoreError> {
        let sql = "SELECT position, at, version, run, name, body FROM event WHERE position > $1 ORDER BY position LIMIT $2";
        let mut statement = self.statement(sql)?;
        let (after, limit) = (i64::try_from(after.0).unwrap_or(i64::MAX), i64::try_from(limit).unwrap_or(i64::MAX));
        let failed = |error| error::sqlite(self.path, &error);
        let rows = statement.query_map([after, limit], StoredEvent::of).map_err(failed)?;
        rows.map(|row| row.map_err(failed)?.envelope()).collect()
    }

    /// Returns a document.
    pub(crate) fn document(&self, kind: ViewKind, key: &str) -> Result<Option<String>, StoreError> {
        let mut statement = self.statement("SELECT doc FROM view WHERE kind = $1 AND key = $2")?;
        let row = statement.query_row([kind.as_str(), key], |row| row.get(0)).optional();
        row.map_err(|error| error::sqlite(self.path, &error))
    }

    /// Returns the documents of a kind in the order of their creation.
    pub(crate) fn documents(&self, kind: ViewKind, run: Option<RunId>) -> Result<Vec<String>, StoreError> {
        let failed = |error| error::sqlite(self.path, &error);
        match run {
            Some(run) => {
                let mut statement = self.statement("SELECT doc FROM view WHERE kind = $1 AND run = $2 ORDER BY seq")?;
                let rows = statement.query_map([kind.as_str(), &run.to_string()], |row| row.get(0)).map_err(failed)?;
                rows.collect::<Result<_, _>>().map_err(failed)
            }
            None => {
                let mut statement = self.statement("SELECT doc FROM view WHERE kind = $1 ORDER BY seq")?;
                let rows = statement.query_map([kind.as_str()], |row| row.get(0)).map_err(failed)?;
                rows.collect::<Result<_, _>>().map_err(failed)
            }
        }
    }
}

impl ViewTx for Rows<'_> {
    fn get(&mut self, kind: ViewKind, key: &str) -> Result<Option<String>, StoreError> {
        self.document(kind, key)
    }

    fn put(&mut self, kind: ViewKind, key: &str, run: Option<RunId>, document: &str) -> Result<(), StoreError> {
        // Place and run of a key stay as they were at first, which also spares the index of runs.
        let sql = "INSERT INTO view (kind, key, run, doc) VALUES ($1, $2, $3, $4)
                   ON CONFLICT (kind, key) DO UPDATE SET doc = excluded.doc";
        let run = run.map(|run| run.to_string());
        let done = self.statement(sql)?.execute(params![kind.as_str(), key, run, document]);
        done.map(drop).map_err(|error| error::sqlite(self.path, &error))
    }

    fn remove(&mut self, kind: ViewKind, key: &str) -> Result<(), StoreError> {
        let done = self.statement("DELETE FROM view WHERE kind = $1 AND key = $2")?.execute([kind.as_str(), key]);
        done.map(drop).map_err(|error| error::sqlite(self.path, &error))
    }
}

/// Makes all views anew; returns how many events were read. The caller holds a transaction.
pub(crate) fn rebuild(conn: &Connection, path: &Path) -> Result<u64, StoreError> {
    let failed = |error| error::sqlite(path, &error);
    conn.execute("DELETE FROM view", []).map_err(failed)?;
    let mut rows = Rows { conn, path };
    let count = replay(conn, path, &mut rows)?;
    schema::views_are_current(conn).map_err(failed)?;
    Ok(count)
}

/// Applies every event of the log, one at a time, to the views of `into`; returns how many there were.
pub(crate) fn replay(conn: &Connection, path: &Path, into: &mut dyn ViewTx) -> Result<u64, StoreError> {
    let mut count = 0;
    each_event(conn, path, |stored| {
        count += 1;
        let place = stored.place();
        apply(&stored.envelope()?, into).map_err(|error| match error {
            StoreError::Illegal(illegal) => StoreError::Damaged { place, problem: illegal.to_string() },
            other => other,
        })
    })?;
    Ok(count)
}

/// Gives every event of the log to the function, in order, holding one at a time.
pub(crate) fn each_event(
    conn: &Connection,
    path: &Path,
    mut take: impl FnMut(StoredEvent) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let failed = |error| error::sqlite(path, &error);
    let mut statement = conn.prepare("SELECT position, at, version, run, name, body FROM event ORDER BY position").map_err(failed)?;
    let rows = statement.query_map([], StoredEvent::of).map_err(failed)?;
    for row in rows {
        take(row.map_err(failed)?)?;
    }
    Ok(())
}

/// A row of the log.
pub(crate) struct StoredEvent {
    pub(crate) position: i64,
    at: i64,
    version: i64,
    run: Option<String>,
    name: String,
    pub(crate) body: String,
}

impl StoredEvent {
    fn of(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self { position: row.get(0)?, at: row.get(1)?, version: row.get(2)?, run: row.get(3)?, name: row.get(4)?, body: row.get(5)? })
    }

    fn place(&self) -> String {
        format!("event {}", self.position)
    }

    /// Reads the row; a kind or version of event that only a newer program knows is refused.
    pub(crate) fn envelope(&self) -> Result<Envelope, StoreError> {
        let damaged = |problem: String| StoreError::Damaged { place: self.place(), problem };
        let newer = |known: u16| StoreError::Newer {
            what: format!("the event {} ({})", self.position, self.name),
            found: u32::try_from(self.version).unwrap_or(u32::MAX),
            known: u32::from(known),
        };
        let event: Event = serde_json::from_str(&self.body).map_err(|error| {
            let problem = error.to_string();
            if problem.contains(&format!("unknown variant `{}`", self.name)) { newer(0) } else { damaged(problem) }
        })?;
        let known = event.version();
        let version = u16::try_from(self.version).ok().filter(|version| *version <= known).ok_or_else(|| newer(known))?;
        let run = self.run.as_deref().map(str::parse).transpose().map_err(|error: aedile_core::BadId| damaged(error.to_string()))?;
        let position = u64::try_from(self.position).map_err(|_| damaged("its position is negative".to_owned()))?;
        Ok(Envelope { position: Position(position), at: Timestamp(self.at), version, run, event })
    }
}
