//! The store on SQLite: one file for log, views and claims, and blobs beside it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use aedile_core::event::{Envelope, Position};
use aedile_core::limits::READ_EVENTS_MAX;
use aedile_core::store::{Append, Appended, ClaimInfo, ClaimRequest, Fence, Store, StoreError};
use aedile_core::view::ViewKind;
use aedile_core::{BlobId, Clock, Redactor, RunId};
use rusqlite::Connection;

use crate::blobs::Blobs;
use crate::connection::Readers;
use crate::log::Rows;
use crate::prepare::prepare;
use crate::write::{WriteTx, claim_of};
use crate::writer::{Changed, Setting, Writer};
use crate::{create, error, schema};

/// The name of the database in the state directory.
const FILE: &str = "aedile.db";
/// How often a waiting call looks whether another process wrote: at first, and after a while without news.
const LOOK_EVERY_MIN: Duration = Duration::from_millis(10);
const LOOK_EVERY_MAX: Duration = Duration::from_millis(100);

/// What a [`SqliteStore`] is opened with.
#[derive(Clone)]
pub struct Options {
    /// Gives events and claims their times.
    pub clock: Arc<dyn Clock>,
    /// Every event and blob passes it before it is stored.
    pub redactor: Arc<dyn Redactor>,
    /// Only read: nothing is made, upgraded or written, and a state that is not there is an error.
    pub read_only: bool,
}

/// The store in a directory. Opening it costs little: it reads two pages, and the connection that writes is opened by the first write.
/// Any number of processes may have the same directory open.
pub struct SqliteStore {
    dir: PathBuf,
    path: PathBuf,
    options: Options,
    readers: Readers,
    writer: Writer,
    changed: Arc<Changed>,
    blobs: Blobs,
}

impl SqliteStore {
    /// Opens the store in `dir`. What is not there is made, readable by its owner only; what an older aedile wrote is
    /// brought up, after a backup copy beside it.
    ///
    /// # Errors
    /// [`StoreError::Newer`] when a newer aedile wrote it, `Damaged` when it cannot be read, else `Backend`.
    pub fn open(dir: &Path, options: Options) -> Result<Self, StoreError> {
        Self::open_with(dir, options, schema::MIGRATIONS)
    }

    fn open_with(dir: &Path, options: Options, migrations: &[&str]) -> Result<Self, StoreError> {
        let path = dir.join(FILE);
        let first = if options.read_only {
            create::open_existing(&path, migrations)?
        } else {
            create::open_ready(dir, &path, options.clock.as_ref(), migrations)?
        };
        let changed = Arc::<Changed>::default();
        let writer = Writer::new(Setting {
            path: path.clone(),
            clock: Arc::clone(&options.clock),
            changed: Arc::clone(&changed),
            version: schema::number(migrations),
        });
        Ok(Self {
            dir: dir.to_owned(),
            readers: Readers::new(path.clone(), first),
            path,
            options,
            writer,
            changed,
            blobs: Blobs::new(dir.join("blobs")),
        })
    }

    /// Whether there is a store in `dir`.
    pub fn exists(dir: &Path) -> bool {
        dir.join(FILE).exists()
    }

    /// Returns the directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Returns the database file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn blobs(&self) -> &Blobs {
        &self.blobs
    }

    /// Runs the read inside one snapshot per statement.
    pub(crate) fn read_rows<T>(&self, read: impl FnOnce(Rows<'_>) -> Result<T, StoreError>) -> Result<T, StoreError> {
        self.readers.with(|conn| read(Rows { conn, path: &self.path }))
    }

    pub(crate) fn failed(&self, error: &rusqlite::Error) -> StoreError {
        error::sqlite(&self.path, error)
    }

    pub(crate) fn writable(&self) -> Result<(), StoreError> {
        if self.options.read_only {
            let place = self.path.display();
            return Err(StoreError::Backend(format!("{place} was opened for reading only, so nothing can be written through it")));
        }
        Ok(())
    }

    fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut WriteTx<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.writable()?;
        self.writer.submit(work)
    }

    fn data_version(&self, conn: &Connection) -> Result<i64, StoreError> {
        let found = conn.prepare_cached("PRAGMA data_version").and_then(|mut statement| statement.query_row([], |row| row.get(0)));
        found.map_err(|error| self.failed(&error))
    }

    /// Waits until some other connection committed, this process appended beyond `after`, or the deadline; returns whether it is time left.
    fn wait_for_commit(&self, conn: &Connection, seen: &mut i64, after: Position, deadline: Instant) -> Result<bool, StoreError> {
        let mut pause = LOOK_EVERY_MIN;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(false);
            }
            self.changed.wait(after, pause.min(left));
            pause = (pause * 2).min(LOOK_EVERY_MAX);
            let now = self.data_version(conn)?;
            if now != *seen {
                *seen = now;
                return Ok(true);
            }
        }
    }
}

impl Store for SqliteStore {
    fn append(&self, append: Append) -> Result<Appended, StoreError> {
        let prepared = prepare(append, self.options.redactor.as_ref())?;
        self.write(move |tx| tx.append(prepared))
    }

    fn read(&self, after: Position, limit: usize) -> Result<Vec<Envelope>, StoreError> {
        self.read_rows(|rows| rows.read(after, limit.min(READ_EVENTS_MAX)))
    }

    fn last(&self) -> Result<Position, StoreError> {
        self.read_rows(|rows| rows.last())
    }

    fn wait_for_change(&self, after: Position, timeout: Duration) -> Result<Position, StoreError> {
        let deadline = Instant::now() + timeout;
        self.read_rows(|rows| {
            // Taken before the log is read, so that no commit falls between.
            let mut seen = self.data_version(rows.conn)?;
            loop {
                let last = rows.last()?;
                if last > after || !self.wait_for_commit(rows.conn, &mut seen, after, deadline)? {
                    return Ok(last);
                }
            }
        })
    }

    fn claim(&self, request: &ClaimRequest) -> Result<Fence, StoreError> {
        let request = request.clone();
        self.write(move |tx| tx.claim(&request))
    }

    fn renew(&self, fence: &Fence, ttl: Duration) -> Result<(), StoreError> {
        let fence = fence.clone();
        self.write(move |tx| tx.renew(&fence, ttl))
    }

    fn release(&self, fence: &Fence) -> Result<(), StoreError> {
        let fence = fence.clone();
        self.write(move |tx| tx.release(&fence))
    }

    fn claims(&self, prefix: &str) -> Result<Vec<ClaimInfo>, StoreError> {
        let sql = "SELECT name, holder, number, expires FROM claim
                   WHERE name >= $1 AND substr(name, 1, length($1)) = $1 AND holder IS NOT NULL ORDER BY name";
        self.read_rows(|rows| {
            let failed = |error| self.failed(&error);
            let mut statement = rows.conn.prepare_cached(sql).map_err(failed)?;
            let found = statement.query_map([prefix], |row| Ok((row.get(0)?, claim_of(row, 1)?))).map_err(failed)?;
            let held = found.filter_map(|row| match row {
                Ok((name, claim)) => Some(Ok(ClaimInfo { name, holder: claim.holder?, number: claim.number, expires: claim.expires })),
                Err(error) => Some(Err(failed(error))),
            });
            held.collect()
        })
    }

    fn put_blob(&self, bytes: &[u8]) -> Result<BlobId, StoreError> {
        self.writable()?;
        let clean = self.options.redactor.redact_bytes(bytes);
        self.blobs.put(clean.as_deref().unwrap_or(bytes))
    }

    fn get_blob(&self, id: &BlobId) -> Result<Option<Vec<u8>>, StoreError> {
        self.blobs.get(id)
    }

    fn view(&self, kind: ViewKind, key: &str) -> Result<Option<String>, StoreError> {
        let read = |conn: &Connection| Rows { conn, path: &self.path }.document(kind, key);
        self.writer.read(read).unwrap_or_else(|| self.readers.with(read))
    }

    fn views(&self, kind: ViewKind, run: Option<RunId>) -> Result<Vec<String>, StoreError> {
        self.read_rows(|rows| rows.documents(kind, run))
    }

    fn rebuild(&self) -> Result<u64, StoreError> {
        self.write(|tx| tx.rebuild())
    }
}
