//! CPU time, medians, and what the bench itself needs from its environment.

use std::ffi::OsString;
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};

/// Returns the middle value.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Returns milliseconds.
pub(crate) fn millis(time: std::time::Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// User and system time in milliseconds.
fn cpu_millis(usage: &libc::rusage) -> f64 {
    let millis = |time: libc::timeval| {
        #[expect(clippy::cast_precision_loss, reason = "times of this program are far below 2^52")]
        let (seconds, micros) = (time.tv_sec as f64, time.tv_usec as f64);
        seconds * 1000.0 + micros / 1000.0
    };
    millis(usage.ru_utime) + millis(usage.ru_stime)
}

/// Runs the command without input and output and returns the CPU time in milliseconds that it and its descendants took.
///
/// # Errors
/// When it cannot be started or fails.
pub(crate) fn cpu_of(mut command: Command) -> anyhow::Result<f64> {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let child = command.spawn().with_context(|| format!("starting {command:?}"))?;
    let pid = i32::try_from(child.id())?;
    let (mut status, mut usage) = (0, empty_usage());
    // SAFETY: both pointers are to live values of the right type; the child is ours and nobody else waits for it.
    #[expect(unsafe_code, reason = "only wait4 tells the time of one child")]
    let waited = unsafe { libc::wait4(pid, &raw mut status, 0, &raw mut usage) };
    ensure!(waited == pid, "waiting for {command:?}: {}", std::io::Error::last_os_error());
    ensure!(status == 0, "{command:?} failed with wait status {status}");
    Ok(cpu_millis(&usage))
}

/// CPU time in milliseconds of this process and of all its descendants that have ended.
pub(crate) fn own_cpu() -> f64 {
    let of = |who| {
        let mut usage = empty_usage();
        // SAFETY: the pointer is to a live value of the right type.
        #[expect(unsafe_code, reason = "the kernel's own counters")]
        unsafe {
            libc::getrusage(who, &raw mut usage)
        };
        cpu_millis(&usage)
    };
    of(libc::RUSAGE_SELF) + of(libc::RUSAGE_CHILDREN)
}

fn empty_usage() -> libc::rusage {
    // SAFETY: rusage is a C structure of integers, for which zero is a value.
    #[expect(unsafe_code, reason = "a C structure without a constructor")]
    unsafe {
        std::mem::zeroed()
    }
}

/// Makes a command; the bench starts the floors and peers itself.
#[expect(clippy::disallowed_methods, reason = "floors and peers are started here and nowhere else in the bench")]
pub(crate) fn command(program: impl AsRef<std::ffi::OsStr>) -> Command {
    Command::new(program)
}

/// Reads a variable of the environment; empty when it is not set.
#[expect(clippy::disallowed_methods, reason = "the bench finds git and tools where the person has them")]
pub(crate) fn variable(name: &str) -> OsString {
    std::env::var_os(name).unwrap_or_default()
}

/// Returns where a program is.
pub(crate) fn find(name: &str) -> anyhow::Result<std::path::PathBuf> {
    let found = std::env::split_paths(&variable("PATH")).map(|dir| dir.join(name)).find(|path| path.is_file());
    found.with_context(|| format!("{name} is not on PATH"))
}

/// A temporary directory on the disk of the build, so that what is durable really reaches a disk.
pub(crate) fn directory() -> anyhow::Result<tempfile::TempDir> {
    let own = std::env::current_exe()?;
    let beside = own.parent().context("the bench lies in no directory")?;
    Ok(tempfile::Builder::new().prefix("bench-").tempdir_in(beside)?)
}

/// An async runtime.
pub(crate) fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle() {
        assert!((median(vec![9.0, 1.0, 5.0]) - 5.0).abs() < f64::EPSILON);
    }

    #[test]
    fn work_of_a_child_is_counted() {
        let mut busy = command("sh");
        busy.args(["-c", "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done"]);
        let before = own_cpu();
        assert!(cpu_of(busy).unwrap() > 1.0);
        assert!(own_cpu() - before > 1.0);
        assert!(cpu_of(command("false")).is_err());
    }
}
