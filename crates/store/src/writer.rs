//! The one thread that writes. What waits for it is committed together: one wait for the disk serves many callers.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use aedile_core::Clock;
use aedile_core::event::Position;
use aedile_core::limits::{GROUP_COMMIT_APPENDS_MAX, WRITER_QUEUE_MAX};
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

/// The writing thread. Dropping it lets the thread finish what is queued.
pub(crate) struct Writer {
    jobs: Option<SyncSender<Box<dyn Job>>>,
    thread: Option<JoinHandle<()>>,
}

/// What a writing thread is made with.
pub(crate) struct Setting {
    pub(crate) path: PathBuf,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) changed: Arc<Changed>,
    /// The version of the tables that this program writes.
    pub(crate) version: u32,
}

impl Writer {
    /// Opens a connection and starts the thread.
    pub(crate) fn start(setting: Setting) -> Result<Self, StoreError> {
        let conn = open_writer(&setting.path)?;
        let (jobs, queue) = sync_channel(WRITER_QUEUE_MAX);
        let thread = std::thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn(move || write_all(&conn, &queue, &setting))
            .map_err(|error| StoreError::Backend(format!("the store's writer cannot start: {error}; lower the number of processes")))?;
        Ok(Self { jobs: Some(jobs), thread: Some(thread) })
    }

    /// Returns the way into the queue.
    pub(crate) fn queue(&self) -> Option<SyncSender<Box<dyn Job>>> {
        self.jobs.clone()
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            // A panic there has been told to the callers that waited.
            let _ = thread.join();
        }
    }
}

/// Has the work done inside a write transaction and returns its result when that is on the disk.
pub(crate) fn submit<T: Send + 'static>(
    queue: &SyncSender<Box<dyn Job>>,
    work: impl FnOnce(&mut WriteTx<'_>) -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    let stopped =
        || StoreError::Backend("the store's writer has stopped; start aedile again, nothing that was answered is lost".to_owned());
    let (reply, answer) = sync_channel(1);
    let job = Task { work: Some(work), result: None, reply };
    queue.send(Box::new(job)).map_err(|_| stopped())?;
    answer.recv().map_err(|_| stopped())?
}

/// Work that waits for the writer.
pub(crate) trait Job: Send {
    /// Does the work and keeps its result; returns whether it succeeded.
    fn run(&mut self, tx: &mut WriteTx<'_>) -> bool;
    /// Answers the caller: with the failure of the whole transaction, or else with the kept result.
    fn answer(self: Box<Self>, failure: Option<&StoreError>);
}

struct Task<T, W> {
    work: Option<W>,
    result: Option<Result<T, StoreError>>,
    reply: SyncSender<Result<T, StoreError>>,
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

    fn answer(self: Box<Self>, failure: Option<&StoreError>) {
        let answer = match (self.result, failure) {
            (Some(Err(own)), _) => Err(own),
            (_, Some(failure)) => Err(error::copy(failure)),
            (Some(Ok(done)), None) => Ok(done),
            (None, None) => Err(StoreError::Backend("the store's writer did not come to this; try again".to_owned())),
        };
        // A caller that no longer waits needs no answer.
        let _ = self.reply.send(answer);
    }
}

/// How long the writer stays awake after a commit.
const AWAKE: Duration = Duration::from_micros(60);

/// Takes the next job. After a commit the caller is often back within microseconds, and waking a sleeping thread costs more than that.
fn next(queue: &Receiver<Box<dyn Job>>) -> Option<Box<dyn Job>> {
    let until = Instant::now() + AWAKE;
    loop {
        match queue.try_recv() {
            Ok(job) => return Some(job),
            Err(TryRecvError::Disconnected) => return None,
            Err(TryRecvError::Empty) if Instant::now() < until => std::hint::spin_loop(),
            Err(TryRecvError::Empty) => return queue.recv().ok(),
        }
    }
}

fn write_all(conn: &Connection, queue: &Receiver<Box<dyn Job>>, setting: &Setting) {
    while let Some(first) = next(queue) {
        let mut group = vec![first];
        group.extend(queue.try_iter().take(GROUP_COMMIT_APPENDS_MAX - 1));
        let committed = commit_group(conn, &mut group, setting);
        if let Ok(Some(last)) = committed {
            setting.changed.tell(last);
        }
        for job in group {
            job.answer(committed.as_ref().err());
        }
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

    type Answer = Receiver<Result<Appended, StoreError>>;

    /// A job that sends mail of this size.
    fn mail(bytes: usize, seed: u64) -> (Box<dyn Job>, Answer) {
        let (clock, entropy) = (SteppingClock::default(), SeededEntropy::new(seed));
        let (run, mail) = (RunId::new(&clock, &entropy), MailId::new(&clock, &entropy));
        let event = Event::MailSent { mail, run, from: "a".into(), to: "b".into(), subject: "s".into(), body: "x".repeat(bytes) };
        let prepared = prepare(Append::of(run, event), &NoSecrets).unwrap();
        let (reply, answer) = sync_channel(1);
        let work = move |tx: &mut WriteTx<'_>| tx.append(prepared);
        (Box::new(Task { work: Some(work), result: None, reply }), answer)
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
        let answers: Vec<_> = answers.iter().map(|answer| answer.recv().unwrap()).collect();
        let refused = answers[1].as_ref().unwrap_err().to_string();
        assert!(refused.contains("no space is left") && refused.contains("aedile clean"), "{refused}");
        let written = answers.iter().filter(|answer| answer.is_ok()).count();
        assert!(conn.is_autocommit());

        let (job, answer) = mail(10, 9);
        let mut group = vec![job];
        let committed = commit_group(&conn, &mut group, &setting);
        group.into_iter().for_each(|job| job.answer(committed.as_ref().err()));
        let next = answer.recv().unwrap().unwrap();
        assert_eq!(next, Appended::At(Position(written as u64 + 1)), "what was answered is there, and no more");
    }
}
