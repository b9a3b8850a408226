//! Makes a new database, brings an older one up, and finds its views of another version.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use aedile_core::store::StoreError;
use aedile_core::{Clock, Timestamp};
use rusqlite::Connection;

use crate::connection::{open_reader, open_writer};
use crate::schema::{self, Needs};
use crate::{error, log};

/// Returns a reading connection to the database in `dir`, which is made or brought up when that is needed.
pub(crate) fn open_ready(dir: &Path, path: &Path, clock: &dyn Clock, migrations: &[&str]) -> Result<Connection, StoreError> {
    if !path.exists() {
        make_directory(dir)?;
        create(dir, path, migrations)?;
    }
    let conn = open_reader(path)?;
    if schema::look(&conn, path, migrations)? != Needs::Nothing {
        bring_up(path, clock, migrations)?;
    }
    Ok(conn)
}

/// Returns a reading connection to a database that must be there and current already.
pub(crate) fn open_existing(path: &Path, migrations: &[&str]) -> Result<Connection, StoreError> {
    if !path.exists() {
        return Err(StoreError::Backend(format!("there is no state at {} yet; `aedile init` in a repository makes it", path.display())));
    }
    let conn = open_reader(path)?;
    match schema::look(&conn, path, migrations)? {
        Needs::Nothing => Ok(conn),
        Needs::Rebuild | Needs::Upgrade(_) => Err(StoreError::Backend(format!(
            "{} was written by an older aedile and is open for reading only; `aedile store rebuild` brings it up",
            path.display()
        ))),
    }
}

/// Makes the directory and its parents, for its owner only.
pub(crate) fn make_directory(dir: &Path) -> Result<(), StoreError> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(|error| error::file("make the directory", dir, &error))
}

/// Makes sure that names in the directory are on the disk.
pub(crate) fn sync_directory(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Makes an empty file that only its owner may read.
pub(crate) fn private_file(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

/// Makes a complete database beside the final name and links it there: nobody ever sees half of one, and of two that try, one wins.
fn create(dir: &Path, path: &Path, migrations: &[&str]) -> Result<(), StoreError> {
    let draft = dir.join(format!("aedile.db.new-{}-{:?}", std::process::id(), std::thread::current().id()));
    let made = fill(&draft, migrations).and_then(|()| match fs::hard_link(&draft, path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error::file("create", path, &error)),
        _ => sync_directory(dir).map_err(|error| error::file("create", path, &error)),
    });
    // The draft has served; if it stays it only takes a few pages.
    let _ = fs::remove_file(&draft);
    made
}

fn fill(draft: &Path, migrations: &[&str]) -> Result<(), StoreError> {
    // One of the same name was left by a process that died.
    let _ = fs::remove_file(draft);
    private_file(draft).map_err(|error| error::file("create", draft, &error))?;
    let conn = open_writer(draft)?;
    let failed = |error| error::sqlite(draft, &error);
    conn.query_row("PRAGMA journal_mode=WAL", [], |_| Ok(())).map_err(failed)?;
    conn.execute_batch("BEGIN IMMEDIATE").map_err(failed)?;
    schema::migrate(&conn, 0, migrations).map_err(failed)?;
    schema::views_are_current(&conn).map_err(failed)?;
    conn.execute_batch("COMMIT").map_err(failed)?;
    // Closing moves the write-ahead log into the file.
    conn.close().map_err(|(_, error)| failed(error))
}

/// Upgrades the tables, after a backup, and rebuilds the views, in one transaction.
fn bring_up(path: &Path, clock: &dyn Clock, migrations: &[&str]) -> Result<(), StoreError> {
    let conn = open_writer(path)?;
    let failed = |error| error::sqlite(path, &error);
    conn.execute_batch("BEGIN IMMEDIATE").map_err(failed)?;
    // Another process may have done it while we waited for the lock.
    let needs = schema::look(&conn, path, migrations)?;
    if let Needs::Upgrade(found) = needs {
        back_up(path, &backup_name(path, found, clock.now()))?;
        schema::migrate(&conn, found, migrations).map_err(failed)?;
    }
    if needs != Needs::Nothing {
        log::rebuild(&conn, path)?;
    }
    conn.execute_batch("COMMIT").map_err(failed)
}

fn backup_name(path: &Path, found: u32, now: Timestamp) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".v{found}.{}.bak", now.0));
    PathBuf::from(name)
}

/// Copies the committed state, which another connection may hold locked, into a new file.
fn back_up(path: &Path, backup: &Path) -> Result<(), StoreError> {
    let failed = |error| error::file("write the backup", backup, &error);
    private_file(backup).map_err(failed)?;
    let conn = open_reader(path)?;
    let Some(name) = backup.to_str() else {
        return Err(StoreError::Backend(format!(
            "the path {} is not UTF-8; choose another state directory with AEDILE_STATE",
            backup.display()
        )));
    };
    conn.execute("VACUUM INTO $1", [name]).map_err(|error| error::sqlite(backup, &error))?;
    File::open(backup).and_then(|file| file.sync_all()).map_err(failed)
}

#[cfg(test)]
mod tests {
    use aedile_core::clock::SteppingClock;

    use super::*;

    /// The released tables and one step more, as a later aedile will have.
    const LATER: &[&str] = &[schema::MIGRATIONS[0], "ALTER TABLE claim ADD COLUMN note TEXT; UPDATE claim SET note = 'kept';"];

    fn rows(path: &Path, sql: &str) -> Vec<String> {
        let conn = Connection::open(path).unwrap();
        let mut statement = conn.prepare(sql).unwrap();
        statement.query_map([], |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap()
    }

    #[test]
    fn an_older_database_is_brought_up_after_a_backup() {
        let dir = tempfile::tempdir().unwrap();
        let (path, clock) = (dir.path().join("aedile.db"), SteppingClock::default());
        let first = open_ready(dir.path(), &path, &clock, schema::MIGRATIONS).unwrap();
        let insert = "INSERT INTO claim VALUES ('task/1', 'a', 3, 4)";
        open_writer(&path).unwrap().execute(insert, []).unwrap();
        assert!(open_existing(&path, LATER).is_err(), "reading only upgrades nothing");

        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| drop(open_ready(dir.path(), &path, &clock, LATER).unwrap()));
            }
        });
        assert_eq!(rows(&path, "SELECT name || holder || number || note FROM claim"), ["task/1a3kept"]);
        assert_eq!(schema::version(&first).unwrap(), 2);

        let names = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().path());
        let backups: Vec<_> = names.filter(|path| path.extension().is_some_and(|end| end == "bak")).collect();
        assert_eq!(backups.len(), 1, "one backup, however many opened: {backups:?}");
        assert!(backups[0].to_string_lossy().contains("aedile.db.v1."));
        assert_eq!(rows(&backups[0], "SELECT name || holder || number FROM claim"), ["task/1a3"]);
        assert_eq!(schema::version(&open_existing(&backups[0], schema::MIGRATIONS).unwrap()).unwrap(), 1, "the backup can be used");

        let refused = open_ready(dir.path(), &path, &clock, schema::MIGRATIONS).unwrap_err();
        assert!(matches!(refused, StoreError::Newer { found: 2, known: 1, .. }), "{refused}");
    }

    #[test]
    fn an_upgrade_that_fails_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let (path, clock) = (dir.path().join("aedile.db"), SteppingClock::default());
        drop(open_ready(dir.path(), &path, &clock, schema::MIGRATIONS).unwrap());
        let broken = &[schema::MIGRATIONS[0], "ALTER TABLE claim ADD COLUMN note TEXT; SELECT * FROM nowhere;"];
        assert!(open_ready(dir.path(), &path, &clock, broken).is_err());
        let conn = open_existing(&path, schema::MIGRATIONS).unwrap();
        assert!(conn.prepare("SELECT note FROM claim").is_err());
    }
}
