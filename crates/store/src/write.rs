//! What is done inside a write transaction: appends and claims.

use std::path::Path;
use std::time::Duration;

use aedile_core::apply::apply;
use aedile_core::event::{Envelope, Position};
use aedile_core::store::{Appended, ClaimRequest, Fence, StoreError};
use aedile_core::{Clock, Timestamp};
use rusqlite::{CachedStatement, Connection, OptionalExtension, Row, params};

use crate::claims::{self, Claim};
use crate::error;
use crate::log::{self, Rows};
use crate::prepare::{Prepared, PreparedEvent};

/// An open write transaction.
pub(crate) struct WriteTx<'a> {
    pub(crate) conn: &'a Connection,
    pub(crate) path: &'a Path,
    pub(crate) clock: &'a dyn Clock,
    /// The last position, once it is known; taken back together with the savepoint.
    pub(crate) last: Option<Position>,
}

impl<'a> WriteTx<'a> {
    fn rows(&self) -> Rows<'a> {
        Rows { conn: self.conn, path: self.path }
    }

    fn statement(&self, sql: &str) -> Result<CachedStatement<'a>, StoreError> {
        self.conn.prepare_cached(sql).map_err(|error| self.failed(&error))
    }

    fn failed(&self, error: &rusqlite::Error) -> StoreError {
        error::sqlite(self.path, error)
    }

    fn last(&mut self) -> Result<Position, StoreError> {
        let last = self.last.map_or_else(|| self.rows().last(), Ok)?;
        self.last = Some(last);
        Ok(last)
    }

    /// Writes the events and their effect on the views.
    pub(crate) fn append(&mut self, prepared: Prepared) -> Result<Appended, StoreError> {
        if let Some(fence) = &prepared.fence {
            self.fence(fence)?;
        }
        if let Some(position) = prepared.once.as_deref().map(|key| self.once(key)).transpose()?.flatten() {
            return Ok(Appended::Already(position));
        }
        let at = self.clock.now();
        let mut last = self.last()?;
        let count = prepared.events.len();
        for (index, new) in prepared.events.into_iter().enumerate() {
            last = Position(last.0 + 1);
            let once = prepared.once.as_deref().filter(|_| index + 1 == count);
            self.append_event(last, at, new, once)?;
        }
        self.last = Some(last);
        Ok(Appended::At(last))
    }

    fn append_event(&mut self, position: Position, at: Timestamp, new: PreparedEvent, once: Option<&str>) -> Result<(), StoreError> {
        let (name, version) = (new.event.name(), new.event.version());
        let sql = "INSERT INTO event (position, at, version, run, name, body, once) VALUES ($1, $2, $3, $4, $5, $6, $7)";
        let run = new.run.map(|run| run.to_string());
        let place = i64::try_from(position.0).unwrap_or(i64::MAX);
        self.statement(sql)?.execute(params![place, at.0, version, run, name, new.body, once]).map_err(|error| self.failed(&error))?;
        apply(&Envelope { position, at, version, run: new.run, event: new.event }, &mut self.rows())
    }

    /// Returns where the append with this key ended, if there was one.
    fn once(&self, key: &str) -> Result<Option<Position>, StoreError> {
        let mut statement = self.statement("SELECT position FROM event WHERE once = $1")?;
        let found: Option<i64> = statement.query_row([key], |row| row.get(0)).optional().map_err(|error| self.failed(&error))?;
        Ok(found.and_then(|position| u64::try_from(position).ok()).map(Position))
    }

    fn current(&self, name: &str) -> Result<Option<Claim>, StoreError> {
        let mut statement = self.statement("SELECT holder, number, expires FROM claim WHERE name = $1")?;
        statement.query_row([name], |row| claim_of(row, 0)).optional().map_err(|error| self.failed(&error))
    }

    fn fence(&self, fence: &Fence) -> Result<(), StoreError> {
        let current = self.current(&fence.claim)?;
        if claims::holds(current.as_ref(), fence) { Ok(()) } else { Err(StoreError::Fenced(fence.clone())) }
    }

    /// Takes a claim.
    pub(crate) fn claim(&self, request: &ClaimRequest) -> Result<Fence, StoreError> {
        let claim = claims::take(self.current(&request.name)?.as_ref(), request, self.clock.now())?;
        let sql = "INSERT INTO claim (name, holder, number, expires) VALUES ($1, $2, $3, $4)
                   ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, number = excluded.number, expires = excluded.expires";
        let number = i64::try_from(claim.number).unwrap_or(i64::MAX);
        self.statement(sql)?.execute(params![request.name, claim.holder, number, claim.expires.0]).map_err(|error| self.failed(&error))?;
        Ok(Fence { claim: request.name.clone(), number: claim.number })
    }

    /// Holds a claim for longer.
    pub(crate) fn renew(&self, fence: &Fence, ttl: Duration) -> Result<(), StoreError> {
        self.fence(fence)?;
        let expires = self.clock.now().plus(ttl);
        let mut statement = self.statement("UPDATE claim SET expires = $1 WHERE name = $2")?;
        statement.execute(params![expires.0, fence.claim]).map(drop).map_err(|error| self.failed(&error))
    }

    /// Gives a claim back, if it is still held under this number.
    pub(crate) fn release(&self, fence: &Fence) -> Result<(), StoreError> {
        let number = i64::try_from(fence.number).unwrap_or(i64::MAX);
        let mut statement = self.statement("UPDATE claim SET holder = NULL WHERE name = $1 AND number = $2")?;
        statement.execute(params![fence.claim, number]).map(drop).map_err(|error| self.failed(&error))
    }

    /// Makes all views anew.
    pub(crate) fn rebuild(&self) -> Result<u64, StoreError> {
        log::rebuild(self.conn, self.path)
    }
}

/// Reads `holder, number, expires` from the columns that begin at `first`.
pub(crate) fn claim_of(row: &Row<'_>, first: usize) -> rusqlite::Result<Claim> {
    let number: i64 = row.get(first + 1)?;
    Ok(Claim { holder: row.get(first)?, number: u64::try_from(number).unwrap_or(0), expires: Timestamp(row.get(first + 2)?) })
}
