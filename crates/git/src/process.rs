//! Runs one process to its end: bounded in time and output, stdin fed, both outputs read, one thread.

use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};

/// After the process has ended, a pipe that one of its children still holds is read for this long.
const AFTER_END: Duration = Duration::from_millis(200);
/// The last bytes of stderr that are kept.
const STDERR_KEPT: usize = 4000;

/// Limits of one process.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Wall time.
    pub(crate) time: Duration,
    /// Bytes of stdout that are kept; more is an error.
    pub(crate) stdout: usize,
    /// Whether the process leads a process group of its own, which is then killed as a whole.
    pub(crate) own_group: bool,
}

/// How it ended.
#[derive(Debug)]
pub(crate) enum End {
    /// By itself.
    Exited(ExitStatus),
    /// It was killed for its time.
    TimedOut,
    /// It was killed for its output.
    TooMuchOutput,
}

/// What one process did.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) end: End,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: Vec<u8>,
}

/// Starts the command and runs it to its end. `input` goes to its stdin; without, the command's own stdin setting counts.
pub(crate) fn run(mut command: Command, input: Option<&[u8]>, limits: Limits) -> io::Result<Finished> {
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    if input.is_some() {
        command.stdin(Stdio::piped());
    }
    let child = command.spawn()?;
    // The command holds our copy of a descriptor given as stdin; the other side must see it closed.
    drop(command);
    finish(child, input.unwrap_or_default(), limits)
}

/// Runs a started child to its end.
pub(crate) fn finish(mut child: Child, input: &[u8], limits: Limits) -> io::Result<Finished> {
    let mut finished = Finished { end: End::TimedOut, stdout: Vec::new(), stderr: Vec::new() };
    let pumped = pump(&mut child, input, limits, &mut finished);
    if matches!(pumped, Ok(None)) {
        finished.end = End::Exited(child.wait()?);
        return Ok(finished);
    }
    kill(&mut child, limits.own_group);
    child.wait()?;
    if let Some(end) = pumped? {
        finished.end = end;
    }
    Ok(finished)
}

/// Kills the child and, where it leads one, its group.
pub(crate) fn kill(child: &mut Child, own_group: bool) {
    if own_group {
        // The child is not reaped yet, so the id is still its own.
        let _ = kill_process_group(Pid::from_child(child), Signal::KILL);
    }
    let _ = child.kill();
}

/// Moves bytes until the process has ended (`None`) or broke a limit.
fn pump(child: &mut Child, input: &[u8], limits: Limits, finished: &mut Finished) -> io::Result<Option<End>> {
    let pidfd = pidfd_open(Pid::from_child(child), PidfdFlags::empty())?;
    let (mut stdin, mut stdout, mut stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    if let Some(pipe) = &stdin {
        rustix::io::ioctl_fionbio(pipe, true)?;
    }
    let mut rest = input;
    let mut deadline = Instant::now() + limits.time;
    let mut ended = false;
    loop {
        if rest.is_empty() {
            stdin = None;
        }
        if ended && stdout.is_none() && stderr.is_none() {
            return Ok(None);
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(if ended { None } else { Some(End::TimedOut) });
        }
        let ready = wait_for(
            &[
                (!ended).then(|| (pidfd.as_fd(), PollFlags::IN)),
                stdout.as_ref().map(|fd| (fd.as_fd(), PollFlags::IN)),
                stderr.as_ref().map(|fd| (fd.as_fd(), PollFlags::IN)),
                stdin.as_ref().map(|fd| (fd.as_fd(), PollFlags::OUT)),
            ],
            left,
        )?;
        if ready[0] {
            ended = true;
            stdin = None;
            deadline = deadline.min(Instant::now() + AFTER_END);
        }
        if ready[1] && read_some(&mut stdout, &mut finished.stdout)? && finished.stdout.len() > limits.stdout {
            return Ok(Some(End::TooMuchOutput));
        }
        if ready[2] && read_some(&mut stderr, &mut finished.stderr)? && finished.stderr.len() > 16 * STDERR_KEPT {
            finished.stderr.drain(..finished.stderr.len() - STDERR_KEPT);
        }
        if ready[3]
            && let Some(pipe) = &mut stdin
        {
            rest = &rest[write_some(pipe, rest)?..];
        }
    }
}

/// Polls the descriptors; says for each whether something can be done with it.
fn wait_for(wanted: &[Option<(BorrowedFd<'_>, PollFlags)>; 4], left: Duration) -> io::Result<[bool; 4]> {
    let mut fds: Vec<PollFd<'_>> = wanted.iter().flatten().map(|(fd, flags)| PollFd::from_borrowed_fd(*fd, *flags)).collect();
    let limit = Timespec { tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX), tv_nsec: left.subsec_nanos().into() };
    match poll(&mut fds, Some(&limit)) {
        Ok(_) => {}
        Err(rustix::io::Errno::INTR) => return Ok([false; 4]),
        Err(error) => return Err(error.into()),
    }
    let mut answers = fds.iter().map(|fd| !fd.revents().is_empty());
    Ok(std::array::from_fn(|at| wanted[at].is_some() && answers.next().unwrap_or(false)))
}

/// Reads once; closes the pipe at its end. Says whether bytes came.
fn read_some<R: Read>(pipe: &mut Option<R>, into: &mut Vec<u8>) -> io::Result<bool> {
    let mut buffer = [0_u8; 64 * 1024];
    let Some(reader) = pipe else { return Ok(false) };
    match reader.read(&mut buffer) {
        Ok(0) => *pipe = None,
        Ok(count) => into.extend_from_slice(&buffer[..count]),
        Err(error) if error.kind() == ErrorKind::Interrupted => {}
        Err(error) => return Err(error),
    }
    Ok(pipe.is_some())
}

/// Writes once without waiting. A reader that has gone away takes everything: its exit code tells why it went.
fn write_some(pipe: &mut impl Write, bytes: &[u8]) -> io::Result<usize> {
    match pipe.write(bytes) {
        Ok(count) => Ok(count),
        Err(error) if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::WouldBlock) => Ok(0),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(bytes.len()),
        Err(error) => Err(error),
    }
}

/// Returns the last bytes of stderr as text without trailing white space.
pub(crate) fn stderr_text(bytes: &[u8]) -> String {
    let start = bytes.len().saturating_sub(STDERR_KEPT);
    String::from_utf8_lossy(&bytes[start..]).trim().to_owned()
}
