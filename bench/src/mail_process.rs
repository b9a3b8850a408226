//! One of several processes that write at once: the bench program again, told by its arguments what to do.

use std::path::Path;
use std::time::Duration;

use aedile_fleet::send_mail;
use aedile_testkit::{OsEntropy, SystemClock};
use anyhow::{Context, bail};
use rusqlite::{Connection, params};

use crate::fixture;
use crate::mail::PROCESSES;

/// The first argument of such a process.
pub(crate) const ARGUMENT: &str = "__sender";
/// Subject of every mail.
pub(crate) const SUBJECT: &str = "A question about the parser";
/// Text of every mail.
pub(crate) const BODY: &str = "The tests of the parser expect that an empty line ends a block, and your change keeps it open. \
    Which of the two do you want? I go on with the first unless you say otherwise before I submit.";

/// What the process writes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Work {
    /// Mail, through the store.
    Mail,
    /// One row per commit, straight into SQLite.
    Bare,
}

impl Work {
    /// Its name among the arguments.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Mail => "mail",
            Self::Bare => "bare",
        }
    }
}

/// Runs the process: `mail|bare DIR RUN NUMBER COUNT`. Says `ready` once it has written one, waits for a line, writes and says `done`.
pub(crate) fn main(args: &[String]) -> anyhow::Result<()> {
    let [work, dir, run, number, count] = args else { bail!("expected WORK DIR RUN NUMBER COUNT") };
    let (dir, run, number, count) = (Path::new(dir), run.parse()?, number.parse::<usize>()?, count.parse()?);
    if work == Work::Bare.name() {
        let conn = open_bare(dir)?;
        return together(count, |number| commit(&conn, number));
    }
    let store = fixture::open_store(&dir.join("state"))?;
    let (from, to) = (format!("agent-{number}"), format!("agent-{}", number + PROCESSES));
    together(count, |_| Ok(send_mail(&store, (&SystemClock, &OsEntropy), run, (&from, &to), (SUBJECT, BODY)).map(drop)?))
}

#[expect(clippy::print_stdout, reason = "the words between the processes")]
fn together(count: usize, mut one: impl FnMut(usize) -> anyhow::Result<()>) -> anyhow::Result<()> {
    one(0)?;
    println!("ready");
    std::io::stdin().read_line(&mut String::new())?;
    (0..count).try_for_each(one)?;
    println!("done");
    Ok(())
}

/// Opens the peer: a database of one table, as durable as the store.
pub(crate) fn open_bare(dir: &Path) -> anyhow::Result<Connection> {
    let conn = Connection::open(dir.join("bare.db")).context("opening the bare database")?;
    conn.busy_timeout(Duration::from_secs(30))?;
    conn.query_row("PRAGMA journal_mode=WAL", [], |_| Ok(()))?;
    conn.execute_batch("PRAGMA synchronous=FULL; CREATE TABLE IF NOT EXISTS row (id INTEGER PRIMARY KEY, number INTEGER, body TEXT);")?;
    Ok(conn)
}

/// Writes one row in one durable commit.
pub(crate) fn commit(conn: &Connection, number: usize) -> anyhow::Result<()> {
    let mut statement = conn.prepare_cached("INSERT INTO row (number, body) VALUES ($1, $2)")?;
    statement.execute(params![i64::try_from(number)?, BODY])?;
    Ok(())
}
