//! Connections to the database: how they are opened, how long they wait, and a small pool of readers.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use aedile_core::store::StoreError;
use rusqlite::{Connection, OpenFlags};

use crate::error;

/// How long a call waits for another process that has the database locked before it gives up.
pub const LOCK_WAIT_MAX: Duration = Duration::from_secs(30);

/// The first wait for a lock, and the longest; each is twice the one before. Long ones are good for all: who has the lock
/// writes several groups from a warm cache instead of handing over after each.
const LOCK_PAUSE_MIN: Duration = Duration::from_micros(250);
const LOCK_PAUSE_MAX: Duration = Duration::from_millis(16);
/// Reading connections that are kept open while nobody reads.
const READERS_IDLE_MAX: usize = 4;
/// Statements that a connection keeps prepared.
const STATEMENTS_MAX: usize = 32;
/// What the write-ahead log is cut to after it grew beyond, as it may while somebody reads for long. Never to nothing:
/// writing over it again is much cheaper than making the file longer.
const WAL_BYTES_KEPT: u32 = 64 * 1024 * 1024;

/// Opens a connection that only reads. Costs little: nothing is read from the file yet.
pub(crate) fn open_reader(path: &Path) -> Result<Connection, StoreError> {
    open(path, OpenFlags::SQLITE_OPEN_READ_ONLY)
}

/// Opens a connection that writes; every commit of it is on the disk when it returns.
pub(crate) fn open_writer(path: &Path) -> Result<Connection, StoreError> {
    let conn = open(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    let pragmas = format!("PRAGMA synchronous=FULL; PRAGMA journal_size_limit={WAL_BYTES_KEPT};");
    conn.execute_batch(&pragmas).map_err(|error| error::sqlite(path, &error))?;
    Ok(conn)
}

fn open(path: &Path, access: OpenFlags) -> Result<Connection, StoreError> {
    let flags = access | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut conn = Connection::open_with_flags(path, flags).map_err(|error| error::sqlite(path, &error))?;
    conn.busy_handler(Some(patience())).map_err(|error| error::sqlite(path, &error))?;
    conn.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
    Ok(conn)
}

/// Waits in growing steps until the limit.
fn patience() -> impl FnMut(i32) -> bool + Send {
    let mut since = Instant::now();
    move |tries| {
        if tries == 0 {
            since = Instant::now();
        }
        if since.elapsed() >= LOCK_WAIT_MAX {
            return false;
        }
        let doublings = u32::try_from(tries).unwrap_or(0).min(16);
        std::thread::sleep((LOCK_PAUSE_MIN * 2_u32.pow(doublings)).min(LOCK_PAUSE_MAX));
        true
    }
}

/// Reading connections, opened when they are needed.
pub(crate) struct Readers {
    path: PathBuf,
    idle: Mutex<Vec<Connection>>,
}

impl Readers {
    /// A pool that starts with one open connection.
    pub(crate) fn new(path: PathBuf, first: Connection) -> Self {
        Self { path, idle: Mutex::new(vec![first]) }
    }

    /// Runs the read on a connection that no other thread uses meanwhile.
    pub(crate) fn with<T>(&self, read: impl FnOnce(&Connection) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let conn = idle.map_or_else(|| open_reader(&self.path), Ok)?;
        let answer = read(&conn);
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < READERS_IDLE_MAX {
            idle.push(conn);
        }
        answer
    }
}
