//! An environment of its own for running the program: HOME, state, temporary directory, no git configuration, a user.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::wait::wait_for;

/// The id of the ordinary user (and group) that tests started as root use.
pub const ORDINARY_ID: u32 = 65534;
/// How long [`TestEnvironment::run`] waits for the program.
pub const RUN_LIMIT: Duration = Duration::from_secs(120);
/// How long processes may take to be gone in [`TestEnvironment::assert_nothing_left`].
const LEFT_LIMIT: Duration = Duration::from_secs(10);

/// Who runs the program.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum User {
    /// Whoever runs the test.
    Same,
    /// A user without rights: user 65534 when the test runs as root, else whoever runs the test.
    Ordinary,
}

/// A program and where it runs. Everything is below one temporary directory that is removed at drop.
pub struct TestEnvironment {
    root: TempDir,
    program: PathBuf,
    user: User,
    vars: Vec<(OsString, OsString)>,
    outputs: AtomicU32,
}

impl TestEnvironment {
    /// Makes an environment for the program, run by whoever runs the test.
    pub fn new(program: impl AsRef<Path>) -> Self {
        Self::for_user(program, User::Same)
    }

    /// Makes an environment for the program, run by `user`. Another user gets a copy of the program that it can read.
    pub fn for_user(program: impl AsRef<Path>, user: User) -> Self {
        let root = tempfile::Builder::new().prefix("aedile-test-").tempdir().unwrap();
        let user = if user == User::Ordinary && is_root() { User::Ordinary } else { User::Same };
        let mut program = program.as_ref().to_owned();
        for name in ["home", "state", "tmp", "work", "output"] {
            std::fs::create_dir(root.path().join(name)).unwrap();
        }
        if user == User::Ordinary && program.is_absolute() {
            let copy = root.path().join("program");
            std::fs::create_dir(&copy).unwrap();
            let copy = copy.join(program.file_name().unwrap());
            std::fs::copy(&program, &copy).unwrap();
            program = copy;
        }
        let environment = Self { root, program, user, vars: Vec::new(), outputs: AtomicU32::new(0) };
        environment.give_to_user();
        environment
    }

    /// Sets a variable for every run from now on.
    pub fn var(&mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> &mut Self {
        self.vars.push((name.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// Writes the person's own `config.toml`.
    pub fn person_config(&self, text: &str) {
        let dir = self.home().join(".config/aedile");
        let written = std::fs::create_dir_all(&dir).and_then(|()| std::fs::write(dir.join("config.toml"), text));
        written.unwrap_or_else(|error| panic!("cannot write {}: {error}", dir.display()));
    }

    /// Returns the directory that holds everything.
    pub fn root(&self) -> &Path {
        self.root.path()
    }

    /// Returns the user's HOME.
    pub fn home(&self) -> PathBuf {
        self.root().join("home")
    }

    /// Returns the program's state directory (`AEDILE_STATE`, which is also `$XDG_STATE_HOME/aedile`).
    pub fn state(&self) -> PathBuf {
        self.root().join("state/aedile")
    }

    /// Returns the directory in which the program starts unless told otherwise.
    pub fn work(&self) -> PathBuf {
        self.root().join("work")
    }

    /// Gives everything to the user who runs the program: call it after writing files there as root.
    pub fn give_to_user(&self) {
        if self.user == User::Ordinary {
            give(self.root());
        }
    }

    /// Returns the command: arguments and directory are the caller's, the environment is this one's and nothing else.
    #[expect(clippy::disallowed_methods, reason = "tests act as the person who starts the program")]
    pub fn command(&self) -> Command {
        let mut command = match self.user {
            User::Same => Command::new(&self.program),
            User::Ordinary => {
                let id = ORDINARY_ID.to_string();
                let mut command = Command::new("setpriv");
                command.args(["--reuid", &id, "--regid", &id, "--clear-groups", "--"]);
                command.arg(&self.program);
                command
            }
        };
        command.env_clear().current_dir(self.work()).stdin(Stdio::null());
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("HOME", self.home()).env("TMPDIR", self.root().join("tmp"));
        command.env("XDG_STATE_HOME", self.root().join("state")).env("AEDILE_STATE", self.state());
        command.env("XDG_CONFIG_HOME", self.home().join(".config")).env("XDG_CACHE_HOME", self.home().join(".cache"));
        command.env("GIT_CONFIG_NOSYSTEM", "1").env("GIT_TERMINAL_PROMPT", "0");
        command.env("LANG", "C.UTF-8").env("TZ", "UTC").env("TERM", "dumb");
        command.envs(self.vars.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Runs the program in the work directory and waits for its end.
    pub fn run<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Finished {
        self.run_in(&self.work(), args)
    }

    /// Runs the program in a directory and waits for its end.
    pub fn run_in<S: AsRef<OsStr>>(&self, dir: &Path, args: impl IntoIterator<Item = S>) -> Finished {
        let mut command = self.command();
        command.args(args).current_dir(dir);
        self.run_command(command, RUN_LIMIT)
    }

    /// Runs a command that was made with [`Self::command`] and waits for its end.
    ///
    /// # Panics
    /// When it does not end within `limit`; it is killed then.
    pub fn run_command(&self, command: Command, limit: Duration) -> Finished {
        self.start(command).wait(limit)
    }

    /// Starts the program in a directory and leaves it running.
    pub fn spawn_in<S: AsRef<OsStr>>(&self, dir: &Path, args: impl IntoIterator<Item = S>) -> Background {
        let mut command = self.command();
        command.args(args).current_dir(dir);
        self.start(command)
    }

    /// Starts a command that was made with [`Self::command`] and leaves it running.
    pub fn start(&self, mut command: Command) -> Background {
        let number = self.outputs.fetch_add(1, Ordering::SeqCst);
        let (stdout, stderr) = (self.output_file(number, "stdout"), self.output_file(number, "stderr"));
        command.stdout(File::create(&stdout).unwrap()).stderr(File::create(&stderr).unwrap());
        let what = format!("{:?}", command.get_args().collect::<Vec<_>>());
        let child = command.spawn().unwrap_or_else(|error| panic!("cannot start {}: {error}", self.program.display()));
        Background { child, stdout, stderr, what }
    }

    fn output_file(&self, number: u32, stream: &str) -> PathBuf {
        self.root().join("output").join(format!("{number}-{stream}"))
    }

    /// Asserts that nothing of this environment is left: no process, no mount, no temporary file. Processes that are being
    /// killed get some seconds to be gone.
    ///
    /// # Panics
    /// When something is left; it is named.
    pub fn assert_nothing_left(&self) {
        let end = Instant::now() + LEFT_LIMIT;
        let mut left = self.left();
        while !left.is_empty() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(20));
            left = self.left();
        }
        assert!(left.is_empty(), "something is left:\n* {}", left.join("\n* "));
    }

    /// Names what is left of this environment: processes that mention it, its mounts, files in its temporary directory.
    pub fn left(&self) -> Vec<String> {
        // Only the directory's own name: within another mount namespace its path begins otherwise.
        let mark = self.root().file_name().unwrap().as_encoded_bytes().to_vec();
        let mut left = Vec::new();
        for process in processes() {
            let files =
                ["cmdline", "environ", "mountinfo"].map(|name| std::fs::read(format!("/proc/{process}/{name}")).unwrap_or_default());
            let links = ["cwd", "exe", "root"].map(|name| std::fs::read_link(format!("/proc/{process}/{name}")).unwrap_or_default());
            let links = links.map(|link| link.into_os_string().into_encoded_bytes());
            if files.iter().chain(&links).any(|bytes| holds(bytes, &mark)) {
                let words = String::from_utf8_lossy(&files[0]).replace('\0', " ");
                left.push(format!("process {process}: {words}"));
            }
        }
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let mounts = mounts.lines().filter(|line| holds(line.as_bytes(), &mark));
        left.extend(mounts.map(|line| format!("mount {line}")));
        let files = std::fs::read_dir(self.root().join("tmp")).unwrap();
        left.extend(files.map(|entry| format!("temporary file {}", entry.unwrap().path().display())));
        left
    }
}

/// All processes but this one.
fn processes() -> Vec<u32> {
    let entries = std::fs::read_dir("/proc").unwrap();
    let numbers = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    numbers.filter(|process| *process != std::process::id()).collect()
}

fn holds(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::metadata("/proc/self").unwrap().uid() == 0
}

/// Changes the owner of a directory and all below it, links themselves rather than what they point at.
fn give(path: &Path) {
    std::os::unix::fs::lchown(path, Some(ORDINARY_ID), Some(ORDINARY_ID)).unwrap();
    if path.symlink_metadata().unwrap().is_dir() {
        std::fs::read_dir(path).unwrap().for_each(|entry| give(&entry.unwrap().path()));
    }
}

/// A program that has ended.
#[derive(Debug)]
pub struct Finished {
    /// How it ended.
    pub status: ExitStatus,
    /// What it wrote to stdout.
    pub stdout: String,
    /// What it wrote to stderr.
    pub stderr: String,
    what: String,
}

impl Finished {
    /// Returns the exit code; `None` when a signal ended it.
    pub fn code(&self) -> Option<i32> {
        self.status.code()
    }

    /// Asserts exit code 0 and returns stdout.
    ///
    /// # Panics
    /// When it failed, with all that it said.
    pub fn success(&self) -> &str {
        self.expect_code(0);
        &self.stdout
    }

    /// Asserts an exit code and returns stderr.
    ///
    /// # Panics
    /// When it ended otherwise, with all that it said.
    pub fn expect_code(&self, code: i32) -> &str {
        let Self { status, stdout, stderr, what } = self;
        assert!(self.code() == Some(code), "{what} ended with {status}, expected code {code}\n--- stdout\n{stdout}\n--- stderr\n{stderr}");
        &self.stderr
    }

    /// Parses the last line of stdout as JSON.
    ///
    /// # Panics
    /// When it is not JSON.
    pub fn last_json(&self) -> serde_json::Value {
        let line = self.stdout.lines().last().unwrap_or_default();
        serde_json::from_str(line)
            .unwrap_or_else(|error| panic!("the last line is not JSON ({error}): {line:?}\n--- stderr\n{}", self.stderr))
    }
}

/// A program that runs. Dropping it kills it.
#[derive(Debug)]
pub struct Background {
    child: Child,
    stdout: PathBuf,
    stderr: PathBuf,
    what: String,
}

impl Background {
    /// Returns its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Returns what it has written to stdout so far.
    pub fn stdout(&self) -> String {
        read_text(&self.stdout)
    }

    /// Returns what it has written to stderr so far.
    pub fn stderr(&self) -> String {
        read_text(&self.stderr)
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Waits until stdout holds `part` and returns all of it.
    ///
    /// # Panics
    /// After `limit`.
    pub fn wait_for_stdout(&self, part: &str, limit: Duration) -> String {
        wait_for(&format!("{part:?} on stdout of {}", self.what), limit, || Some(self.stdout()).filter(|text| text.contains(part)))
    }

    /// Sends a signal by name (`INT`, `TERM`); harmless when it has ended.
    #[expect(clippy::disallowed_methods, reason = "tests act as the person who presses a key")]
    pub fn signal(&self, name: &str) {
        let _ = Command::new("kill").args([&format!("-{name}"), &self.id().to_string()]).stderr(Stdio::null()).status().unwrap();
    }

    /// Kills it as `kill -9` does, alone, and waits for its end.
    pub fn kill_9(mut self) -> Finished {
        let _ = self.child.kill();
        let status = self.child.wait().unwrap();
        assert!(status.signal() == Some(9) || status.code().is_some());
        self.finished(status)
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// When it does not end within `limit`; it is killed then.
    pub fn wait(mut self, limit: Duration) -> Finished {
        let end = Instant::now() + limit;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return self.finished(status);
            }
            if Instant::now() >= end {
                let _ = self.child.kill();
                let finished = self.child.wait().map(|status| self.finished(status)).unwrap();
                panic!("{} did not end within {limit:?}\n--- stdout\n{}\n--- stderr\n{}", self.what, finished.stdout, finished.stderr);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn finished(&self, status: ExitStatus) -> Finished {
        Finished { status, stdout: self.stdout(), stderr: self.stderr(), what: self.what.clone() }
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn read_text(path: &Path) -> String {
    String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned()
}
