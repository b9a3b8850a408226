//! One writer at a time. What waits for it is committed together: one wait for the disk serves many callers.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aedile_core::Clock;
use aedile_core::event::Position;
use aedile_core::limits::GROUP_COMMIT_APPENDS_MAX;
use aedile_core::store::StoreError;
use rusqlite::Connection;

use crate::connection::open_writer;
use crate::write::WriteTx;
use crate::{error, schema};

/// Tells waiting threads of this process that the log grew.
#[derive(Default)]
pub(crate) struct Changed {
    last: Mutex<Position>,
    grew: Condvar,
}

impl Changed {
    /// Waits until the log is known to be longer than `after`, or the time is over.
    pub(crate) fn wait(&self, after: Position, time: Duration) {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.grew.wait_timeout_while(last, time, |last| *last <= after));
    }

    fn tell(&self, position: Position) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = position;
        self.grew.notify_all();
    }
}

/// The one connection that writes. It belongs to whoever commits: a caller that finds it free commits itself, without waking
/// another thread; the calls that come meanwhile wait, and the first of them commits for all of them.
pub(crate) struct Writer {
    setting: Setting,
    state: Mutex<State>,
}

/// What a writer is made with.
pub(crate) struct Setting {
    pub(crate) path: PathBuf,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) changed: Arc<Changed>,
    /// The version of the tables that this program writes.
    pub(crate) version: u32,
}

/// Where the connection is, and who waits.
#[derive(Default)]
struct State {
    /// Somebody commits, or has been told to.
    busy: bool,
    /// The connection while nobody commits; the first write opens it.
    free: Option<Connection>,
    /// What is committed next, oldest first.
    waiting: VecDeque<Box<dyn Job>>,
}

impl Writer {
    pub(crate) fn new(setting: Setting) -> Self {
        Self { setting, state: Mutex::default() }
    }

    /// Does the work inside a write transaction and returns its result when that is on the disk.
    pub(crate) fn submit<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut WriteTx<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (reply, words) = sync_channel(2);
        if let Some(conn) = self.enter(Box::new(Task { work: Some(work), result: None, reply }))? {
            self.lead(conn);
        }
        loop {
            match words.recv() {
                Ok(Word::Answer(answer)) => return answer,
                Ok(Word::Lead(conn)) => self.lead(conn),
                Err(_) => return Err(gave_up()),
            }
        }
    }

    /// Reads on the connection that writes, when nobody commits: what was just written is in its cache, which a reader's loses with
    /// every commit. For reads that are over at once; `None` when somebody commits or nothing was written yet.
    pub(crate) fn read<T>(&self, read: impl FnOnce(&Connection) -> T) -> Option<T> {
        let held = {
            let mut state = self.state();
            let conn = Some(state.free.take()?);
            state.busy = true;
            Held { writer: self, conn }
        };
        held.conn.as_ref().map(read)
    }

    /// Puts the job in the queue; returns the connection when nobody else commits.
    fn enter(&self, job: Box<dyn Job>) -> Result<Option<Connection>, StoreError> {
        let mut state = self.state();
        let conn = match (state.busy, state.free.take()) {
            (true, _) => None,
            (false, Some(conn)) => Some(conn),
            (false, None) => Some(open_writer(&self.setting.path)?),
        };
        state.busy = true;
        state.waiting.push_back(job);
        Ok(conn)
    }

    /// Commits what waits, passes the connection on and answers.
    fn lead(&self, conn: Connection) {
        let held = Held { writer: self, conn: Some(conn) };
        let mut group: Vec<_> = {
            let waiting = &mut self.state().waiting;
            let count = waiting.len().min(GROUP_COMMIT_APPENDS_MAX);
            waiting.drain(..count).collect()
        };
        let committed = held.conn.as_ref().map_or_else(|| Err(gave_up()), |conn| commit_group(conn, &mut group, &self.setting));
        drop(held);
        if let Ok(Some(last)) = committed {
            self.setting.changed.tell(last);
        }
        for job in group {
            job.answer(committed.as_ref().err());
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The connection while somebody commits. Dropping it passes it to the first that waits; when the commit panicked, the
/// connection ends with it and all that wait hear so.
struct Held<'a> {
    writer: &'a Writer,
    conn: Option<Connection>,
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        let mut state = self.writer.state();
        if std::thread::panicking() {
            state.waiting.clear();
        }
        match state.waiting.front_mut() {
            Some(first) => self.conn.take().into_iter().for_each(|conn| first.lead(conn)),
            None => {
                state.busy = false;
                state.free = self.conn.take().filter(|_| !std::thread::panicking());
            }
        }
    }
}

fn gave_up() -> StoreError {
    StoreError::Backend("the store's writer broke off before this was written; try again, nothing that was answered is lost".to_owned())
}

/// What a waiting call hears.
enum Word<T> {
    /// It commits next: for itself and for all that wait behind it.
    Lead(Connection),
    /// Its work is done.
    Answer(Result<T, StoreError>),
}

/// Work that waits for the writer.
pub(crate) trait Job: Send {
    /// Does the work and keeps its result; returns whether it succeeded.
    fn run(&mut self, tx: &mut WriteTx<'_>) -> bool;
    /// Gives its caller the connection.
    fn lead(&mut self, conn: Connection);
    /// Answers the caller: with the failure of the whole transaction, or else with the kept result.
    fn answer(self: Box<Self>, failure: Option<&StoreError>);
}

struct Task<T, W> {
    work: Option<W>,
    result: Option<Result<T, StoreError>>,
    reply: SyncSender<Word<T>>,
}

impl<T, W> Job for Task<T, W>
where
    T: Send,
    W: FnOnce(&mut WriteTx<'_>) -> Result<T, StoreError> + Send,
{
    fn run(&mut self, tx: &mut WriteTx<'_>) -> bool {
        self.result = self.work.take().map(|work| work(tx));
        matches!(self.result, Some(Ok(_)))
    }

    fn lead(&mut self, conn: Connection) {
        // The caller waits until it is answered, and there is room for both words.
        let _ = self.reply.send(Word::Lead(conn));
    }

    fn answer(self: Box<Self>, failure: Option<&StoreError>) {
        let answer = match (self.result, failure) {
            (Some(Err(own)), _) => Err(own),
            (_, Some(failure)) => Err(error::copy(failure)),
            (Some(Ok(done)), None) => Ok(done),
            (None, None) => Err(gave_up()),
        };
        // As above.
        let _ = self.reply.send(Word::Answer(answer));
    }
}

/// Runs the group in one transaction; returns the last position when it became known.
fn commit_group(conn: &Connection, group: &mut [Box<dyn Job>], setting: &Setting) -> Result<Option<Position>, StoreError> {
    let path = setting.path.as_path();
    let done = begin(conn, path, setting.version).and_then(|()| {
        let mut tx = WriteTx { conn, path, clock: setting.clock.as_ref(), last: None };
        run_group(&mut tx, group)?;
        execute(conn, path, "COMMIT")?;
        Ok(tx.last)
    });
    if done.is_err() && !conn.is_autocommit() {
        // The error that led here says more than one of the rollback would.
        let _ = conn.execute_batch("ROLLBACK");
    }
    done
}

fn begin(conn: &Connection, path: &Path, known: u32) -> Result<(), StoreError> {
    execute(conn, path, "BEGIN IMMEDIATE")?;
    // A newer aedile may have upgraded the file since it was opened.
    let found = schema::version(conn).map_err(|error| error::sqlite(path, &error))?;
    if found == known { Ok(()) } else { Err(StoreError::Newer { what: path.display().to_string(), found, known }) }
}

/// Each job has a savepoint of its own, so that one that is refused takes nothing else with it.
fn run_group(tx: &mut WriteTx<'_>, group: &mut [Box<dyn Job>]) -> Result<(), StoreError> {
    if let [only] = group {
        // Alone it needs no savepoint: the transaction is its own.
        if !only.run(tx) {
            tx.last = None;
            execute(tx.conn, tx.path, "ROLLBACK")?;
            execute(tx.conn, tx.path, "BEGIN")?;
        }
        return Ok(());
    }
    for job in group {
        let before = tx.last;
        execute(tx.conn, tx.path, "SAVEPOINT job")?;
        if !job.run(tx) {
            if tx.conn.is_autocommit() {
                // SQLite gave the whole transaction up, as it does when the disk is full.
                return Err(StoreError::Backend(format!(
                    "{} could not be written, so nothing of this group was; check the disk and its free space, then try again",
                    tx.path.display()
                )));
            }
            tx.last = before;
            execute(tx.conn, tx.path, "ROLLBACK TO job")?;
        }
        execute(tx.conn, tx.path, "RELEASE job")?;
    }
    Ok(())
}

fn execute(conn: &Connection, path: &Path, sql: &str) -> Result<(), StoreError> {
    let done = conn.prepare_cached(sql).and_then(|mut statement| statement.execute([]));
    done.map(drop).map_err(|error| error::sqlite(path, &error))
}

#[cfg(test)]
mod tests {
    use aedile_core::clock::{SeededEntropy, SteppingClock};
    use aedile_core::event::Event;
    use aedile_core::redact::NoSecrets;
    use aedile_core::store::{Append, Appended};
    use aedile_core::{MailId, RunId};

    use super::*;
    use crate::create::open_ready;
    use crate::prepare::prepare;

    type Words = std::sync::mpsc::Receiver<Word<Appended>>;

    /// A job that sends mail of this size.
    fn mail(bytes: usize, seed: u64) -> (Box<dyn Job>, Words) {
        let (clock, entropy) = (SteppingClock::default(), SeededEntropy::new(seed));
        let (run, mail) = (RunId::new(&clock, &entropy), MailId::new(&clock, &entropy));
        let event = Event::MailSent { mail, run, from: "a".into(), to: "b".into(), subject: "s".into(), body: "x".repeat(bytes) };
        let prepared = prepare(Append::of(run, event), &NoSecrets).unwrap();
        let (reply, answer) = sync_channel(1);
        let work = move |tx: &mut WriteTx<'_>| tx.append(prepared);
        (Box::new(Task { work: Some(work), result: None, reply }), answer)
    }

    fn answer_of(words: &Words) -> Result<Appended, StoreError> {
        match words.recv().unwrap() {
            Word::Answer(answer) => answer,
            Word::Lead(_) => panic!("nobody had the connection"),
        }
    }

    #[test]
    fn a_full_disk_fails_the_group_in_words_and_leaves_nothing_half_done() {
        let dir = tempfile::tempdir().unwrap();
        let (path, clock) = (dir.path().join("aedile.db"), Arc::new(SteppingClock::default()));
        drop(open_ready(dir.path(), &path, clock.as_ref(), schema::MIGRATIONS).unwrap());
        let conn = open_writer(&path).unwrap();
        let pages: u32 = conn.query_row("PRAGMA page_count", [], |row| row.get(0)).unwrap();
        conn.query_row(&format!("PRAGMA max_page_count={}", pages + 8), [], |_| Ok(())).unwrap();
        let setting = Setting { path, clock, changed: Arc::default(), version: 1 };

        let (mut group, answers): (Vec<_>, Vec<_>) = [10, 100_000, 10].into_iter().zip(1..).map(|(bytes, seed)| mail(bytes, seed)).unzip();
        let committed = commit_group(&conn, &mut group, &setting);
        group.into_iter().for_each(|job| job.answer(committed.as_ref().err()));
        let answers: Vec<_> = answers.iter().map(answer_of).collect();
        let refused = answers[1].as_ref().unwrap_err().to_string();
        assert!(refused.contains("no space is left") && refused.contains("aedile clean"), "{refused}");
        let written = answers.iter().filter(|answer| answer.is_ok()).count();
        assert!(conn.is_autocommit());

        let (job, answer) = mail(10, 9);
        let mut group = vec![job];
        let committed = commit_group(&conn, &mut group, &setting);
        group.into_iter().for_each(|job| job.answer(committed.as_ref().err()));
        let next = answer_of(&answer).unwrap();
        assert_eq!(next, Appended::At(Position(written as u64 + 1)), "what was answered is there, and no more");
    }

    #[test]
    fn a_panic_in_one_call_is_told_to_those_that_wait_and_the_next_call_writes() {
        let dir = tempfile::tempdir().unwrap();
        let (path, clock) = (dir.path().join("aedile.db"), Arc::new(SteppingClock::default()));
        drop(open_ready(dir.path(), &path, clock.as_ref(), schema::MIGRATIONS).unwrap());
        let writer = Writer::new(Setting { path, clock, changed: Arc::default(), version: 1 });
        let (inside, entered) = sync_channel::<()>(0);
        std::thread::scope(|scope| {
            let broken = scope.spawn(|| {
                writer.submit(move |_| -> Result<(), StoreError> {
                    inside.send(()).unwrap();
                    inside.send(()).unwrap();
                    panic!("a defect");
                })
            });
            entered.recv().unwrap();
            let behind = scope.spawn(|| writer.submit(|tx| tx.rebuild()));
            while writer.state().waiting.is_empty() {
                std::thread::yield_now();
            }
            entered.recv().unwrap();
            assert!(broken.join().is_err());
            assert!(behind.join().unwrap().unwrap_err().to_string().contains("try again"));
        });
        assert_eq!(writer.submit(|tx| tx.rebuild()).unwrap(), 0);
    }
}
