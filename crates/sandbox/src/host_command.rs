//! A command of the person's outside any box: a store of secrets that is asked for one.

use std::ffi::OsStr;
use std::io::{self, Read};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, kill_process_group};

/// What a command of the person's came to.
#[derive(Debug)]
pub enum Asked {
    /// It wrote this and ended well.
    Wrote(Vec<u8>),
    /// It ended with this code; without one by a signal.
    Failed(Option<i32>),
    /// It was not over in time, and was ended.
    TooLong,
    /// It wrote more than was asked for, and was ended.
    TooMuch,
}

/// Runs a program of the person's with their environment, nothing on stdin and our stderr, and returns what it wrote on stdout. It is ended
/// after `limit`, or when it writes more than `most` bytes. Blocks for that long.
///
/// # Errors
/// When it cannot be started or read.
#[expect(clippy::disallowed_methods, reason = "this crate is the starter of processes")]
pub fn ask_command<S: AsRef<OsStr>>(parts: &[S], limit: Duration, most: usize) -> io::Result<Asked> {
    let (program, args) = parts.split_first().ok_or_else(|| io::Error::other("there is no program in it"))?;
    let mut command = Command::new(program);
    command.args(args).process_group(0).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit());
    let mut child = command.spawn()?;
    let heard = child.stdout.take().map_or(Ok(Err(Asked::TooLong)), |out| hear(out, Instant::now() + limit, most));
    let given_up = matches!(heard, Err(_) | Ok(Err(_)));
    if given_up && let Some(group) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
        let _ = kill_process_group(group, Signal::KILL);
    }
    let status = child.wait()?;
    Ok(match heard? {
        Err(given_up) => given_up,
        Ok(_) if !status.success() => Asked::Failed(status.code()),
        Ok(bytes) => Asked::Wrote(bytes),
    })
}

/// Reads until the end, the limit or the time, whichever is first.
fn hear(mut out: impl Read + std::os::fd::AsFd, end: Instant, most: usize) -> io::Result<Result<Vec<u8>, Asked>> {
    let mut bytes = Vec::with_capacity(most + 1);
    loop {
        let left = Timespec::try_from(end.saturating_duration_since(Instant::now())).unwrap_or_default();
        let mut polled = [PollFd::new(&out, PollFlags::IN)];
        match poll(&mut polled, Some(&left)) {
            Err(rustix::io::Errno::INTR) => continue,
            Err(error) => return Err(error.into()),
            Ok(0) => return Ok(Err(Asked::TooLong)),
            Ok(_) => {}
        }
        let mut piece = [0; 4096];
        let count = out.read(&mut piece)?;
        if count == 0 {
            return Ok(Ok(bytes));
        }
        if bytes.len() + count > most {
            return Ok(Err(Asked::TooMuch));
        }
        bytes.extend_from_slice(&piece[..count]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(script: &str, limit: Duration) -> Asked {
        ask_command(&["sh", "-c", script].map(str::to_owned), limit, 1000).unwrap()
    }

    #[test]
    fn commands_answer_fail_or_are_ended() {
        let long = Duration::from_secs(60);
        assert!(matches!(ask("echo value", long), Asked::Wrote(bytes) if bytes == b"value\n"));
        assert!(matches!(ask("echo value; exit 3", long), Asked::Failed(Some(3))));
        assert!(matches!(ask("kill -9 $$", long), Asked::Failed(None)));
        assert!(matches!(ask("head -c 2000 /dev/zero", long), Asked::TooMuch));
        assert!(matches!(ask("yes", long), Asked::TooMuch));
        assert!(matches!(ask("sleep 1000 & wait", Duration::from_millis(50)), Asked::TooLong));
        assert!(ask_command(&["no-such-program-anywhere".to_owned()], long, 10).is_err());
        assert!(ask_command::<String>(&[], long, 10).is_err());
    }
}
