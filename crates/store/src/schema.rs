//! The tables, by number. A file with a lower number is brought up step by step; one with a higher number is refused.

use std::path::Path;

use aedile_core::store::StoreError;
use aedile_core::view::VIEWS_VERSION;
use rusqlite::{Connection, OptionalExtension};

use crate::error;

/// Marks the file as ours ("aedi").
const APPLICATION_ID: i32 = 0x6165_6469;

/// How to get from version `n` to `n + 1`. Never change an entry that was released; add one.
pub(crate) const MIGRATIONS: &[&str] = &[VERSION_1];

/// Times are microseconds since 1970-01-01 UTC. A claim's row stays when it is given back, so that its number only grows.
/// `once` stands at the last event of its append. A document's `seq` gives the order of creation.
const VERSION_1: &str = "
    CREATE TABLE event (
        position INTEGER PRIMARY KEY,
        at INTEGER NOT NULL,
        version INTEGER NOT NULL,
        run TEXT,
        name TEXT NOT NULL,
        body TEXT NOT NULL,
        once TEXT
    ) STRICT;
    CREATE UNIQUE INDEX event_once ON event (once) WHERE once IS NOT NULL;
    CREATE TABLE view (
        seq INTEGER PRIMARY KEY,
        kind TEXT NOT NULL,
        key TEXT NOT NULL,
        run TEXT,
        doc TEXT NOT NULL
    ) STRICT;
    CREATE UNIQUE INDEX view_key ON view (kind, key);
    CREATE INDEX view_run ON view (kind, run);
    CREATE TABLE claim (
        name TEXT PRIMARY KEY,
        holder TEXT,
        number INTEGER NOT NULL,
        expires INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE meta (
        name TEXT PRIMARY KEY,
        value INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
";

/// What a file needs before it can be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Needs {
    /// Nothing.
    Nothing,
    /// Its views are of another version.
    Rebuild,
    /// Its tables are of this older version.
    Upgrade(u32),
}

/// Looks at the versions of an existing file; reads its first pages only.
pub(crate) fn look(conn: &Connection, path: &Path, migrations: &[&str]) -> Result<Needs, StoreError> {
    let failed = |error| error::sqlite(path, &error);
    let application: i32 = conn.query_row("PRAGMA application_id", [], |row| row.get(0)).map_err(failed)?;
    if application != APPLICATION_ID {
        return Err(StoreError::Backend(format!(
            "{} is not a database of aedile; move it away or choose another state directory with AEDILE_STATE",
            path.display()
        )));
    }
    let found = version(conn).map_err(failed)?;
    let known = number(migrations);
    if found > known {
        return Err(StoreError::Newer { what: path.display().to_string(), found, known });
    }
    if found < known {
        return Ok(Needs::Upgrade(found));
    }
    let views: Option<u32> =
        conn.query_row("SELECT value FROM meta WHERE name = 'views'", [], |row| row.get(0)).optional().map_err(failed)?;
    Ok(if views == Some(VIEWS_VERSION) { Needs::Nothing } else { Needs::Rebuild })
}

/// Returns the version of the tables.
pub(crate) fn version(conn: &Connection) -> rusqlite::Result<u32> {
    conn.prepare_cached("PRAGMA user_version")?.query_row([], |row| row.get(0))
}

/// Runs the migrations from `found` on. The caller holds a transaction.
pub(crate) fn migrate(conn: &Connection, found: u32, migrations: &[&str]) -> rusqlite::Result<()> {
    let done = usize::try_from(found).unwrap_or(usize::MAX);
    for step in migrations.iter().skip(done) {
        conn.execute_batch(step)?;
    }
    conn.pragma_update(None, "application_id", APPLICATION_ID)?;
    conn.pragma_update(None, "user_version", number(migrations))
}

/// Notes that the views are of this program's version.
pub(crate) fn views_are_current(conn: &Connection) -> rusqlite::Result<()> {
    let sql = "INSERT INTO meta (name, value) VALUES ('views', $1) ON CONFLICT (name) DO UPDATE SET value = excluded.value";
    conn.execute(sql, [VIEWS_VERSION]).map(drop)
}

/// Returns the version that the migrations lead to.
pub(crate) fn number(migrations: &[&str]) -> u32 {
    u32::try_from(migrations.len()).unwrap_or(u32::MAX)
}
