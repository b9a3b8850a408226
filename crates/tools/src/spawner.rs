//! The one place in a box that starts programs.
//!
//! A started program has a process group of its own, no stdin and one supervisor task. The supervisor ends the whole group, first
//! politely, when the time is over, when it is told to or when the handle is dropped. Output is read until the pipe closes, by a task of its own:
//! a daemon that keeps the pipe open neither blocks the caller nor dies of a closed pipe.

use aedile_core::limits::TERM_GRACE;
use rustix::process::{Pid, Signal, kill_process_group, test_kill_process_group};
use std::io;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::pipe;
use tokio::process::{Child, Command};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::capture::Capture;

/// How long output is awaited after the program itself has ended.
const DRAIN: Duration = Duration::from_millis(300);
/// How often a group that is being ended is looked at.
const GROUP_POLL: Duration = Duration::from_millis(20);

/// How a program ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Ended {
    /// By itself.
    Exited(ExitStatus),
    /// At its time limit, by us.
    TimedOut,
    /// On request, by us.
    Stopped,
}

/// A started program. Dropping it ends the program's process group.
pub(crate) struct Running {
    output: Arc<Mutex<Capture>>,
    ended: watch::Receiver<Option<Ended>>,
    reader: JoinHandle<()>,
    stop: Option<oneshot::Sender<()>>,
}

/// Starts a program with stdout and stderr joined in `output`.
pub(crate) fn start(program: &str, args: &[&str], cwd: &Path, limit: Option<Duration>, output: Capture) -> io::Result<Running> {
    let (read_end, write_end) = io::pipe()?;
    let mut command = command(program, args, cwd);
    command.stdin(Stdio::null()).stdout(write_end.try_clone()?).stderr(write_end);
    let child = command.spawn()?;
    // The command holds writing ends of the pipe; without this the pipe would never close.
    drop(command);
    let output = Arc::new(Mutex::new(output));
    let reader = tokio::spawn(drain(pipe::Receiver::from_owned_fd(read_end.into())?, Arc::clone(&output)));
    let (stop, stopped) = oneshot::channel();
    let (tell, ended) = watch::channel(None);
    tokio::spawn(supervise(child, limit, stopped, tell));
    Ok(Running { output, ended, reader, stop: Some(stop) })
}

impl Running {
    /// How it ended, if it has.
    pub(crate) fn ended(&self) -> Option<Ended> {
        *self.ended.borrow()
    }

    /// What it has said.
    pub(crate) fn output(&self) -> MutexGuard<'_, Capture> {
        self.output.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks for its end; `wait` returns when the whole group is gone.
    pub(crate) fn stop(&mut self) {
        self.stop = None;
    }

    /// A handle with which the end can be awaited without holding the program.
    pub(crate) fn watch(&self) -> watch::Receiver<Option<Ended>> {
        self.ended.clone()
    }

    /// Waits for its end and its last output. Returns whether something still holds the output open.
    pub(crate) async fn wait(&mut self) -> (Ended, bool) {
        let ended = wait_for_end(&mut self.ended).await;
        let held = timeout(DRAIN, &mut self.reader).await.is_err();
        (ended, held)
    }
}

/// Waits until the watched program has ended.
pub(crate) async fn wait_for_end(watch: &mut watch::Receiver<Option<Ended>>) -> Ended {
    let ended = watch.wait_for(Option::is_some).await.ok().and_then(|ended| *ended);
    // The supervisor only leaves without a word when the runtime shuts down.
    ended.unwrap_or(Ended::Stopped)
}

fn command(program: &str, args: &[&str], cwd: &Path) -> Command {
    #[expect(clippy::disallowed_methods, reason = "this is the one spawner inside a box")]
    let mut command = Command::new(program);
    command.args(args).current_dir(cwd).process_group(0).kill_on_drop(true);
    // Nothing may wait for a person.
    command.envs([("GIT_TERMINAL_PROMPT", "0"), ("GIT_EDITOR", "true"), ("GIT_PAGER", "cat"), ("PAGER", "cat"), ("TERM", "dumb")]);
    command
}

async fn drain(mut pipe: impl AsyncRead + Unpin, output: Arc<Mutex<Capture>>) {
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(count @ 1..) = pipe.read(&mut buffer).await {
        output.lock().unwrap_or_else(PoisonError::into_inner).push(&buffer[..count]);
    }
}

async fn supervise(mut child: Child, limit: Option<Duration>, stopped: oneshot::Receiver<()>, tell: watch::Sender<Option<Ended>>) {
    let mut group = Group(child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw));
    let over = async {
        match limit {
            Some(limit) => sleep(limit).await,
            None => std::future::pending().await,
        }
    };
    let ended = tokio::select! {
        status = child.wait() => status.map_or(Ended::Stopped, Ended::Exited),
        () = over => Ended::TimedOut,
        _ = stopped => Ended::Stopped,
    };
    match ended {
        // What it has left running on purpose goes on.
        Ended::Exited(_) => group.0 = None,
        Ended::TimedOut | Ended::Stopped => group.end(&mut child).await,
    }
    tell.send_replace(Some(ended));
}

/// A process group that is killed when its supervisor is dropped, as happens when the runtime shuts down.
struct Group(Option<Pid>);

impl Group {
    /// Ends the group: politely, then not.
    async fn end(&mut self, child: &mut Child) {
        let Some(group) = self.0 else { return };
        let deadline = Instant::now() + TERM_GRACE;
        let _ = kill_process_group(group, Signal::TERM);
        let _ = timeout_at(deadline, child.wait()).await;
        while test_kill_process_group(group).is_ok() && Instant::now() < deadline {
            sleep(GROUP_POLL).await;
        }
        self.kill();
        let _ = child.wait().await;
    }

    fn kill(&mut self) {
        if let Some(group) = self.0.take()
            && test_kill_process_group(group).is_ok()
        {
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
    }
}

/// What a program said that was run to its end.
pub(crate) struct Finished {
    /// Whether its exit code was 0.
    pub(crate) success: bool,
    /// Its stdout.
    pub(crate) stdout: Vec<u8>,
    /// Its stderr as text.
    pub(crate) stderr: String,
}

/// Runs a program to its end with the given stdin. Dropping the future kills it.
pub(crate) async fn run(program: &str, args: &[&str], cwd: &Path, stdin: &[u8], limit: Duration) -> io::Result<Finished> {
    let mut command = command(program, args, cwd);
    command.env("GIT_LITERAL_PATHSPECS", "1").env("LC_ALL", "C");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn()?;
    let pipe = child.stdin.take();
    let feed = async move {
        if let Some(mut pipe) = pipe {
            // A program that does not read all of it says so by its exit code.
            let _ = pipe.write_all(stdin).await;
        }
    };
    let both = async { tokio::join!(feed, child.wait_with_output()).1 };
    let output = timeout(limit, both)
        .await
        .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, format!("no end after {} s", limit.as_secs())))??;
    let stderr = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Ok(Finished { success: output.status.success(), stdout: output.stdout, stderr })
}

/// What a program did that was run with bounded output.
pub(crate) struct Bounded {
    pub(crate) ended: Ended,
    pub(crate) stdout: Capture,
    pub(crate) stderr: Capture,
}

/// Runs a program to its end, keeping so much of stdout and of stderr. At the limit, and when the future is dropped, its whole group is ended.
pub(crate) async fn run_bounded(mut command: Command, stdin: Vec<u8>, limit: Duration, keep_bytes: usize) -> io::Result<Bounded> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn()?;
    let keep = || Arc::new(Mutex::new(Capture::new(keep_bytes, None)));
    let (stdout, stderr) = (keep(), keep());
    let mut tasks = Vec::new();
    if let Some(pipe) = child.stdout.take() {
        tasks.push(tokio::spawn(drain(pipe, Arc::clone(&stdout))));
    }
    if let Some(pipe) = child.stderr.take() {
        tasks.push(tokio::spawn(drain(pipe, Arc::clone(&stderr))));
    }
    let feeder = child.stdin.take().map(|mut pipe| {
        // A program need not read what it is given.
        tokio::spawn(async move { pipe.write_all(&stdin).await.unwrap_or_default() })
    });
    // Dropping this end tells the supervisor to end the group.
    let (_stop, stopped) = oneshot::channel();
    let (tell, mut ended) = watch::channel(None);
    tokio::spawn(supervise(child, Some(limit), stopped, tell));
    let ended = wait_for_end(&mut ended).await;
    let deadline = Instant::now() + DRAIN;
    for mut task in tasks {
        if timeout_at(deadline, &mut task).await.is_err() {
            task.abort();
        }
    }
    if let Some(feeder) = feeder {
        feeder.abort();
    }
    let take = |capture: Arc<Mutex<Capture>>| {
        std::mem::replace(&mut *capture.lock().unwrap_or_else(PoisonError::into_inner), Capture::new(0, None))
    };
    Ok(Bounded { ended, stdout: take(stdout), stderr: take(stderr) })
}

/// The shell for a command of the repository's configuration.
pub(crate) fn shell_command(text: &str, cwd: &Path, env: &[(String, String)]) -> Command {
    let mut command = command("/bin/sh", &["-c", text], cwd);
    command.envs(env.iter().map(|(name, value)| (name, value)));
    command
}
