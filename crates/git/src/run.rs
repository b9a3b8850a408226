//! The one door to git: every call is made here, with an environment built from nothing.

use std::ffi::{OsStr, OsString};
use std::os::fd::OwnedFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use aedile_core::limits::GIT_TIMEOUT;

use crate::error::{GitError, io};
use crate::process::{self, End, Finished, Limits};
use crate::version::GitVersion;

/// Answers larger than this are an error.
const OUTPUT_BYTES_MAX: usize = 512 * 1024 * 1024;
/// How long git itself waits for a lock of a ref that another program holds; at most half of the call's own limit.
const LOCK_WAIT: Duration = Duration::from_secs(10);

/// Settings of every call on the host. They win over those of the repository.
const SETTINGS: [(&str, &str); 9] = [
    ("core.hooksPath", "/dev/null"),
    ("core.fsmonitor", "false"),
    ("core.attributesFile", "/dev/null"),
    ("core.excludesFile", "/dev/null"),
    // A commit that is recorded as landed, imported or saved must survive a power cut.
    ("core.fsync", "committed"),
    ("protocol.allow", "never"),
    ("gc.auto", "0"),
    ("maintenance.auto", "false"),
    ("advice.graftFileDeprecated", "false"),
];

/// The git program, checked once. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Git {
    program: PathBuf,
    path: OsString,
    version: GitVersion,
    limit: Duration,
}

impl Git {
    /// Finds git on the given PATH (only its absolute directories) and checks its version.
    ///
    /// # Errors
    /// [`GitError::NotFound`], [`GitError::TooOld`], or that it could not be started.
    pub fn find(path: &OsStr) -> Result<Self, GitError> {
        let program = std::env::split_paths(path)
            .filter(|dir| dir.is_absolute())
            .map(|dir| dir.join("git"))
            .find(|file| file.is_file())
            .ok_or_else(|| GitError::NotFound { path: path.to_string_lossy().into_owned() })?;
        let unchecked = GitVersion { major: 0, minor: 0, patch: 0 };
        let mut git = Self { program, path: path.to_owned(), version: unchecked, limit: GIT_TIMEOUT };
        let answer = git.call(Path::new("/"), "version").output()?;
        let text = String::from_utf8_lossy(&answer.stdout).trim().to_owned();
        git.version = match GitVersion::parse(&text) {
            Some(version) if version.is_safe() => version,
            _ => return Err(GitError::TooOld { program: git.program, found: text.trim_start_matches("git version ").to_owned() }),
        };
        Ok(git)
    }

    /// Returns the version.
    pub fn version(&self) -> GitVersion {
        self.version
    }

    /// Returns where the program is.
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// The time limit of each call, and of git in a box.
    pub(crate) fn limit(&self) -> Duration {
        self.limit
    }

    /// The same git with another time limit for each call, on the host and in boxes.
    #[must_use]
    pub fn with_limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// A call in the given absolute directory. The repository is found by git from there.
    pub(crate) fn call(&self, dir: &Path, subcommand: &str) -> Call {
        let patience = LOCK_WAIT.min(self.limit / 2).as_millis().to_string();
        let call = Call {
            program: self.program.clone(),
            dir: dir.to_owned(),
            args: vec![subcommand.into()],
            env: vec![("PATH".into(), self.path.clone()), ("LC_ALL".into(), "C".into()), ("GIT_TERMINAL_PROMPT".into(), "0".into())],
            settings: SETTINGS.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect(),
            isolated: true,
            input: Input::Nothing,
            accepted: 0,
            limits: Limits { time: self.limit, stdout: OUTPUT_BYTES_MAX, own_group: true },
        };
        call.setting("core.filesRefLockTimeout", &patience).setting("core.packedRefsTimeout", &patience)
    }

    /// A call on exactly this git directory: nothing is searched for, no other repository can be meant.
    pub(crate) fn at(&self, git_dir: &Path, subcommand: &str) -> Call {
        self.call(git_dir, subcommand).env("GIT_DIR", git_dir)
    }
}

/// What goes to stdin.
#[derive(Debug)]
enum Input {
    Nothing,
    Bytes(Vec<u8>),
    Pipe(OwnedFd),
}

/// What git answered.
#[derive(Debug)]
pub(crate) struct Answer {
    /// The exit code.
    pub(crate) code: i32,
    /// Its output.
    pub(crate) stdout: Vec<u8>,
}

impl Answer {
    /// The output as text without the newline at its end.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).trim_end_matches('\n').to_owned()
    }
}

/// One call of git.
#[derive(Debug)]
pub(crate) struct Call {
    program: PathBuf,
    dir: PathBuf,
    args: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    settings: Vec<(String, String)>,
    isolated: bool,
    input: Input,
    accepted: i32,
    limits: Limits,
}

impl Call {
    pub(crate) fn arg(mut self, arg: impl Into<OsString>) -> Self {
        self.args.push(arg.into());
        self
    }

    pub(crate) fn args<I: IntoIterator<Item = S>, S: Into<OsString>>(mut self, args: I) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    pub(crate) fn env(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    pub(crate) fn setting(mut self, key: &str, value: &str) -> Self {
        self.settings.push((key.to_owned(), value.to_owned()));
        self
    }

    /// Marks a call that reads only: it takes no optional lock.
    pub(crate) fn reading(self) -> Self {
        self.env("GIT_OPTIONAL_LOCKS", "0")
    }

    /// Speaks with the person's own environment and configuration, for what is theirs to decide. `settings` of ours are kept
    /// only where they start nothing.
    pub(crate) fn speaking_as(mut self, env: &[(OsString, OsString)]) -> Self {
        self.isolated = false;
        self.settings.retain(|(key, _)| {
            matches!(key.as_str(), "core.filesRefLockTimeout" | "core.packedRefsTimeout" | "gc.auto" | "maintenance.auto")
        });
        self.env.extend(env.iter().filter(|(name, _)| name != "PATH").cloned());
        self
    }

    /// Stays in our process group: a program of the person's (for signing, a hook) may ask on the terminal, which only the foreground
    /// group may read.
    pub(crate) fn may_ask(mut self) -> Self {
        self.limits.own_group = false;
        self
    }

    /// Exit codes up to this one are answers, not errors.
    pub(crate) fn accept(mut self, code: i32) -> Self {
        self.accepted = code;
        self
    }

    pub(crate) fn input(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.input = Input::Bytes(bytes.into());
        self
    }

    pub(crate) fn input_from(mut self, pipe: OwnedFd) -> Self {
        self.input = Input::Pipe(pipe);
        self
    }

    #[expect(clippy::disallowed_methods, reason = "the one place on the host where git is started")]
    fn command(&mut self) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("-C").arg(&self.dir).args(&self.args).env_clear().envs(self.env.iter().map(|(name, value)| (name, value)));
        if self.isolated {
            command.envs([
                ("GIT_CONFIG_NOSYSTEM", "1"),
                ("GIT_CONFIG_GLOBAL", "/dev/null"),
                ("GIT_ATTR_NOSYSTEM", "1"),
                ("GIT_NO_REPLACE_OBJECTS", "1"),
                ("GIT_NO_LAZY_FETCH", "1"),
            ]);
        }
        command.env("GIT_CONFIG_COUNT", self.settings.len().to_string());
        for (at, (key, value)) in self.settings.iter().enumerate() {
            command.env(format!("GIT_CONFIG_KEY_{at}"), key).env(format!("GIT_CONFIG_VALUE_{at}"), value);
        }
        if self.limits.own_group {
            command.process_group(0);
        }
        match std::mem::replace(&mut self.input, Input::Nothing) {
            Input::Pipe(pipe) => command.stdin(Stdio::from(pipe)),
            Input::Bytes(bytes) => {
                self.input = Input::Bytes(bytes);
                command.stdin(Stdio::piped())
            }
            Input::Nothing => command.stdin(Stdio::null()),
        };
        command
    }

    /// Subcommand and arguments for messages.
    fn name(&self) -> String {
        let text = self.args.iter().map(|arg| arg.to_string_lossy()).collect::<Vec<_>>().join(" ");
        text.chars().take(200).collect()
    }

    /// Runs it to its end.
    pub(crate) fn output(mut self) -> Result<Answer, GitError> {
        let command = self.command();
        let input = match &self.input {
            Input::Bytes(bytes) => Some(bytes.as_slice()),
            _ => None,
        };
        let finished = process::run(command, input, self.limits).map_err(io("run", &self.program))?;
        self.judge(finished)
    }

    /// Runs it and returns its output as text.
    pub(crate) fn text(self) -> Result<String, GitError> {
        self.output().map(|answer| answer.text())
    }

    /// Starts it with pipes on all three streams; the caller ends it with [`Running::finish`].
    pub(crate) fn start(mut self) -> Result<Running, GitError> {
        let mut command = self.command();
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = command.spawn().map_err(io("run", &self.program))?;
        Ok(Running { child, call: self })
    }

    fn judge(&self, finished: Finished) -> Result<Answer, GitError> {
        let stderr = process::stderr_text(&finished.stderr);
        let (command, dir) = (self.name(), self.dir.clone());
        match finished.end {
            End::TimedOut => Err(GitError::TimedOut { command, dir, seconds: self.limits.time.as_secs() }),
            End::TooMuchOutput => Err(GitError::TooMuchOutput { command, dir, bytes: self.limits.stdout }),
            End::Exited(status) => match status.code() {
                Some(code) if code <= self.accepted => Ok(Answer { code, stdout: finished.stdout }),
                _ => Err(GitError::Failed { command, dir, status: status_words(status), stderr }),
            },
        }
    }
}

/// A started call.
pub(crate) struct Running {
    /// The process; its pipes may be taken.
    pub(crate) child: Child,
    call: Call,
}

impl Running {
    /// Feeds the bytes to its stdin, closes it and waits for the end.
    pub(crate) fn finish(self, input: &[u8]) -> Result<Answer, GitError> {
        let finished = process::finish(self.child, input, self.call.limits).map_err(io("run", &self.call.program))?;
        self.call.judge(finished)
    }

    /// Kills it.
    pub(crate) fn kill(mut self) {
        process::kill(&mut self.child, self.call.limits.own_group);
        let _ = self.child.wait();
    }
}

fn status_words(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "no status".to_owned(),
    }
}
