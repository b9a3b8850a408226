//! A real git repository for a test, with an environment of its own: no configuration of the person's, fixed names, dates that step.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicI64, Ordering};

use tempfile::TempDir;

/// 2026-01-01T00:00:00Z; each commit is one minute later.
const FIRST_DATE: i64 = 1_767_225_600;

/// A repository. One that was made with [`TempRepo::new`] is removed at drop.
pub struct TempRepo {
    path: PathBuf,
    next_date: AtomicI64,
    _holder: Option<TempDir>,
}

impl TempRepo {
    /// Makes an empty repository on branch `main` in a new temporary directory.
    pub fn new() -> Self {
        let holder = tempfile::Builder::new().prefix("aedile-repo-").tempdir().unwrap();
        let mut repo = Self::init(&holder.path().join("repo"));
        repo._holder = Some(holder);
        repo
    }

    /// Makes an empty repository on branch `main` at the path, which stays at drop. The directory may exist.
    pub fn init(path: &Path) -> Self {
        std::fs::create_dir_all(path).unwrap();
        let repo = Self::open(path);
        repo.git(&["init", "-q", "-b", "main"]);
        repo
    }

    /// Opens the repository (or worktree, or bare repository) at the path.
    pub fn open(path: &Path) -> Self {
        let path = path.canonicalize().unwrap();
        Self { path, next_date: AtomicI64::new(FIRST_DATE), _holder: None }
    }

    /// Returns the root of the working tree.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes a file, with its directories.
    pub fn write(&self, path: &str, content: impl AsRef<[u8]>) -> &Self {
        let path = self.path.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
        self
    }

    /// Writes an executable file.
    pub fn write_executable(&self, path: &str, content: impl AsRef<[u8]>) -> &Self {
        use std::os::unix::fs::PermissionsExt as _;
        self.write(path, content);
        std::fs::set_permissions(self.path.join(path), std::fs::Permissions::from_mode(0o755)).unwrap();
        self
    }

    /// Reads a file of the working tree.
    pub fn read(&self, path: &str) -> String {
        std::fs::read_to_string(self.path.join(path)).unwrap_or_else(|error| panic!("cannot read {path}: {error}"))
    }

    /// Removes a file of the working tree.
    pub fn remove(&self, path: &str) -> &Self {
        std::fs::remove_file(self.path.join(path)).unwrap();
        self
    }

    /// Commits everything in the working tree and returns the commit's id.
    pub fn commit(&self, message: &str) -> String {
        self.git(&["add", "-A"]);
        self.git(&["commit", "-q", "--allow-empty", "-m", message]);
        self.head()
    }

    /// Makes a branch at HEAD and checks it out.
    pub fn branch(&self, name: &str) -> &Self {
        self.git(&["checkout", "-q", "-b", name]);
        self
    }

    /// Checks out a branch or commit.
    pub fn checkout(&self, name: &str) -> &Self {
        self.git(&["checkout", "-q", name]);
        self
    }

    /// Returns the id of HEAD.
    pub fn head(&self) -> String {
        self.rev("HEAD")
    }

    /// Returns the object id of a revision.
    pub fn rev(&self, revision: &str) -> String {
        self.git(&["rev-parse", "--verify", revision])
    }

    /// Returns the text of a file at a revision.
    pub fn show(&self, revision: &str, path: &str) -> String {
        String::from_utf8(self.output(&["show", &format!("{revision}:{path}")]).unwrap()).unwrap()
    }

    /// Runs git here and returns its output without the last line end.
    ///
    /// # Panics
    /// When git fails, with what it said.
    pub fn git(&self, args: &[&str]) -> String {
        self.try_git(args).unwrap_or_else(|error| panic!("git {} failed: {error}", args.join(" ")))
    }

    /// Runs git here; the error is what git said.
    pub fn try_git(&self, args: &[&str]) -> Result<String, String> {
        let text = String::from_utf8_lossy(&self.output(args)?).into_owned();
        Ok(text.trim_end_matches('\n').to_owned())
    }

    fn output(&self, args: &[&str]) -> Result<Vec<u8>, String> {
        let output = self.command(args).output().unwrap();
        if output.status.success() {
            return Ok(output.stdout);
        }
        Err(format!("{}{}{}", output.status, String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr)))
    }

    /// Returns a git command with this repository's environment, for tests that pipe or that set more.
    #[expect(clippy::disallowed_methods, reason = "tests act as the person, who has a git of their own")]
    pub fn command(&self, args: &[&str]) -> Command {
        let date = format!("{} +0000", self.next_date.fetch_add(60, Ordering::SeqCst));
        let mut command = Command::new("git");
        // A test that runs as root looks at repositories of an ordinary user.
        command.args(["-c", "safe.directory=*"]).args(args).current_dir(&self.path).env_clear().stdin(std::process::Stdio::null());
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("HOME", "/nonexistent").env("LANG", "C");
        command.env("GIT_CONFIG_NOSYSTEM", "1").env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_TERMINAL_PROMPT", "0");
        for who in ["AUTHOR", "COMMITTER"] {
            command.env(format!("GIT_{who}_NAME"), "Pat Person").env(format!("GIT_{who}_EMAIL"), "pat@example.org");
            command.env(format!("GIT_{who}_DATE"), &date);
        }
        command
    }
}

impl Default for TempRepo {
    fn default() -> Self {
        Self::new()
    }
}
