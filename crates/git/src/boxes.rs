//! git in a box: where a repository that an agent could write is read.

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::Duration;

use aedile_core::sandbox::{BoxChild, BoxExit, BoxIo, BoxLimits, BoxMount, BoxNet, BoxSpec, Sandbox, WORKSPACE_INSIDE, WriteScope};

use crate::error::{GitError, OUT_OF_TIME};

/// The bytes of stderr that are kept, from its start: the first complaint is the cause.
const STDERR_KEPT: usize = 4000;

/// A script to run in a box, with what it sees.
pub(crate) struct Script<'a> {
    pub(crate) label: String,
    pub(crate) text: &'static str,
    /// `$1`, `$2`, ...
    pub(crate) args: Vec<String>,
    /// The workspace: read-only, also the working directory.
    pub(crate) workspace: &'a Path,
    pub(crate) mounts: Vec<BoxMount>,
    pub(crate) git_dir: &'static str,
    pub(crate) env: Vec<(String, String)>,
    /// Wall time.
    pub(crate) limit: Duration,
}

/// Settings that win over whatever the repository in the box says. A planted program could do no harm there, but would cost time.
const SETTINGS: [(&str, &str); 10] = [
    ("core.hooksPath", "/dev/null"),
    ("core.fsmonitor", "false"),
    ("core.untrackedCache", "false"),
    ("core.alternateRefsCommand", "true"),
    ("core.protectNTFS", "false"),
    ("core.protectHFS", "false"),
    // Another view of the owner, as a box may have it, is no change of the file.
    ("core.checkStat", "minimal"),
    ("pack.threads", "1"),
    ("protocol.allow", "never"),
    ("gc.auto", "0"),
];

/// A started box.
pub(crate) struct Running {
    label: String,
    child: Box<dyn BoxChild>,
    stdout: Option<OwnedFd>,
    stderr: Option<JoinHandle<String>>,
}

/// Starts a box for the script: no network, nothing writable but what `mounts` say.
pub(crate) fn start(sandbox: &dyn Sandbox, script: Script<'_>) -> Result<Running, GitError> {
    let mut command: Vec<String> = ["sh", "-c", script.text, "sh"].map(str::to_owned).to_vec();
    command.extend(script.args);
    let mut env: Vec<(String, String)> = [
        ("LC_ALL", "C"),
        ("GIT_DIR", script.git_dir),
        ("GIT_CONFIG_NOSYSTEM", "1"),
        ("GIT_CONFIG_GLOBAL", "/dev/null"),
        ("GIT_ATTR_NOSYSTEM", "1"),
        ("GIT_NO_REPLACE_OBJECTS", "1"),
        ("GIT_NO_LAZY_FETCH", "1"),
        ("GIT_TERMINAL_PROMPT", "0"),
        ("GIT_OPTIONAL_LOCKS", "0"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .to_vec();
    env.push(("GIT_CONFIG_COUNT".to_owned(), SETTINGS.len().to_string()));
    for (at, (key, value)) in SETTINGS.iter().enumerate() {
        env.push((format!("GIT_CONFIG_KEY_{at}"), (*key).to_owned()));
        env.push((format!("GIT_CONFIG_VALUE_{at}"), (*value).to_owned()));
    }
    env.extend(script.env);
    let mut child = sandbox.spawn(BoxSpec {
        label: script.label.clone(),
        command,
        tree: Some(script.workspace.to_owned()),
        tree_inside: PathBuf::from(WORKSPACE_INSIDE),
        write: WriteScope::Nothing,
        mounts: script.mounts,
        home: None,
        env,
        net: BoxNet::None,
        limits: BoxLimits { wall: Some(script.limit), ..BoxLimits::default() },
        io: BoxIo::Piped,
    })?;
    drop(child.take_stdin());
    let stdout = child.take_stdout();
    let stderr = child.take_stderr().map(|pipe| std::thread::spawn(move || head_of(pipe)));
    Ok(Running { label: script.label, child, stdout, stderr })
}

impl Running {
    /// Takes what the script writes.
    pub(crate) fn stdout(&mut self) -> Result<OwnedFd, GitError> {
        self.stdout.take().ok_or_else(|| self.failed("no pipe", String::new()))
    }

    /// Waits for the end and returns the exit code; anything but `0` and the `accepted` one is an error.
    pub(crate) fn finish(mut self, accepted: i32) -> Result<i32, GitError> {
        drop(self.stdout.take());
        let exit = wait(self.child.as_mut())?;
        let stderr = self.stderr.take().and_then(|thread| thread.join().ok()).unwrap_or_default();
        match exit {
            BoxExit::Code(code) if code == 0 || code == accepted => Ok(code),
            BoxExit::Code(code) => Err(self.failed(&format!("exit code {code}"), stderr)),
            BoxExit::Signal(signal) => Err(self.failed(&format!("signal {signal}"), stderr)),
            BoxExit::TimedOut => Err(self.failed(OUT_OF_TIME, stderr)),
        }
    }

    /// Kills it and returns what it had to say.
    pub(crate) fn kill(mut self) -> String {
        self.child.kill();
        drop(self.stdout.take());
        let _ = wait(self.child.as_mut());
        self.stderr.take().and_then(|thread| thread.join().ok()).unwrap_or_default()
    }

    fn failed(&self, status: &str, stderr: String) -> GitError {
        GitError::BoxFailed { label: self.label.clone(), status: status.to_owned(), stderr }
    }
}

/// Reads a pipe to its end and keeps the beginning.
fn head_of(pipe: OwnedFd) -> String {
    let (mut pipe, mut kept, mut buffer) = (File::from(pipe), Vec::new(), [0_u8; 4096]);
    while let Ok(count @ 1..) = pipe.read(&mut buffer) {
        let room = STDERR_KEPT.saturating_sub(kept.len());
        kept.extend_from_slice(&buffer[..count.min(room)]);
    }
    String::from_utf8_lossy(&kept).trim().to_owned()
}

/// Waits for a box on this thread's runtime, or on one of its own.
fn wait(child: &mut dyn BoxChild) -> Result<BoxExit, GitError> {
    if let Ok(runtime) = tokio::runtime::Handle::try_current() {
        return Ok(runtime.block_on(child.wait())?);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|source| GitError::Io {
        what: "start a runtime for",
        path: PathBuf::from("a box"),
        source,
    })?;
    Ok(runtime.block_on(child.wait())?)
}
