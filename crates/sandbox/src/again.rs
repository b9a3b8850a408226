//! The running program once more, outside any box: for a command that a client of ours asks for on the person's behalf.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{SyncSender, sync_channel};

use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};

/// Commands that may wait to be started.
const QUEUE_MAX: usize = 64;

/// What is started.
#[derive(Clone, Debug)]
pub struct AgainRequest {
    /// Arguments.
    pub args: Vec<OsString>,
    /// Working directory.
    pub dir: PathBuf,
}

type Job = (AgainRequest, SyncSender<io::Result<Child>>);

/// Starts the program from a thread of its own, with our environment, nothing on stdin, and pipes for stdout and stderr. Each is in a
/// process group of its own, and gets `SIGINT` when this process or the last handle is gone, so that it saves and stops.
#[derive(Clone, Debug)]
pub struct Again {
    jobs: SyncSender<Job>,
}

impl Again {
    /// Makes the thread. `program` is the running program.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn new(program: PathBuf) -> io::Result<Self> {
        let (jobs, queue) = sync_channel::<Job>(QUEUE_MAX);
        let us = rustix::process::getpid();
        std::thread::Builder::new().name("again".to_owned()).spawn(move || {
            for (request, answer) in queue {
                // The caller may have stopped waiting: then the child is dropped, and ends when it finds its pipes closed.
                let _ = answer.send(start(&program, us, &request));
            }
        })?;
        Ok(Self { jobs })
    }

    /// Starts it. Blocks for as long as a fork takes.
    ///
    /// # Errors
    /// The operating system's answer, for example for a directory that is not there.
    pub fn start(&self, request: AgainRequest) -> io::Result<Child> {
        let ended = || io::Error::other("the thread that starts commands has ended");
        let (answer, result) = sync_channel(1);
        self.jobs.send((request, answer)).map_err(|_| ended())?;
        result.recv().map_err(|_| ended())?
    }
}

#[expect(clippy::disallowed_methods, reason = "this crate is the starter of processes")]
#[expect(unsafe_code, reason = "the child ties itself to its parent between fork and exec")]
fn start(program: &PathBuf, us: Pid, request: &AgainRequest) -> io::Result<Child> {
    let mut command = Command::new(program);
    command.args(&request.args).current_dir(&request.dir).process_group(0);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let tie = move || {
        set_parent_process_death_signal(Some(Signal::INT))?;
        // Whoever died before that sent no signal.
        if getppid() == Some(us) { Ok(()) } else { Err(io::Error::from(rustix::io::Errno::SRCH)) }
    };
    // SAFETY: the closure makes system calls only; it allocates nothing and takes no lock.
    unsafe { command.pre_exec(tie) };
    command.spawn()
}
