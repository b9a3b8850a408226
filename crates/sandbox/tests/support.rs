//! A host for boxes: a launcher and directories that an ordinary user can read too.

use aedile_core::sandbox::{BoxChild, BoxExit, BoxIo, BoxLimits, BoxNet, BoxSpec, Sandbox, SandboxError, WORKSPACE_INSIDE, WriteScope};
use aedile_sandbox::{BoxNote, Guard, NativeSandbox, SandboxConfig, Toolchains, Trees};
use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Where the re-executed suite finds the launcher.
pub(crate) const LAUNCHER_VARIABLE: &str = "AEDILE_TEST_LAUNCHER";

pub(crate) struct Host {
    pub(crate) sandbox: NativeSandbox,
    pub(crate) dir: tempfile::TempDir,
    pub(crate) tree: PathBuf,
}

/// What a box did.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) exit: BoxExit,
    pub(crate) output: String,
}

#[expect(clippy::disallowed_methods, reason = "the re-executed suite is told where the launcher is")]
pub(crate) fn launcher() -> PathBuf {
    std::env::var_os(LAUNCHER_VARIABLE).map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_box-launcher")), PathBuf::from)
}

pub(crate) fn host() -> Host {
    host_with(Toolchains::default())
}

/// A host whose trees are a person's, as `sandbox exec` has it.
pub(crate) fn persons_host() -> Host {
    made(Toolchains::default(), |_| Trees::Persons)
}

pub(crate) fn host_with(toolchains: Toolchains) -> Host {
    made(toolchains, |dir| Trees::Own(vec![dir.to_owned()]))
}

fn made(toolchains: Toolchains, trees: impl Fn(&Path) -> Trees) -> Host {
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let tree = dir.path().join("tree");
    fs::create_dir(&tree).unwrap();
    let config = SandboxConfig { launcher: launcher(), toolchains, runtime_dir: dir.path().to_owned(), trees: trees(dir.path()) };
    Host { sandbox: NativeSandbox::new(config).unwrap(), dir, tree }
}

impl Host {
    /// A box that runs a shell script in the whole tree.
    pub(crate) fn spec(&self, script: &str) -> BoxSpec {
        BoxSpec {
            label: "test".to_owned(),
            command: ["sh", "-c", script].map(str::to_owned).to_vec(),
            tree: Some(self.tree.clone()),
            tree_inside: PathBuf::from(WORKSPACE_INSIDE),
            write: WriteScope::All,
            mounts: Vec::new(),
            home: None,
            env: Vec::new(),
            net: BoxNet::None,
            limits: BoxLimits::default(),
            io: BoxIo::Captured,
        }
    }

    pub(crate) fn run(&self, spec: BoxSpec) -> Done {
        finish(self.sandbox.spawn(spec).unwrap())
    }

    /// Runs it with everything held and masked, as `sandbox exec` does; also what the person is told.
    pub(crate) fn guarded(&self, spec: BoxSpec) -> Result<(Done, Vec<BoxNote>), SandboxError> {
        let guard = Guard { protect: true, mask: true, ..Guard::default() };
        let mut child = self.sandbox.spawn_guarded(spec, &guard)?;
        let mut output = String::new();
        if let Some(stdout) = child.take_stdout() {
            fs::File::from(stdout).read_to_string(&mut output).unwrap();
        }
        let exit = wait(&mut child);
        Ok((Done { exit, output }, child.take_notes()))
    }

    pub(crate) fn script(&self, script: &str) -> Done {
        self.run(self.spec(script))
    }

    pub(crate) fn scoped(&self, globs: &[&str], also: &[&str], script: &str) -> Done {
        let owned = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect();
        self.run(BoxSpec { write: WriteScope::Globs { globs: owned(globs), also: owned(also), except: Vec::new() }, ..self.spec(script) })
    }

    pub(crate) fn write(&self, path: &str, text: &str) -> PathBuf {
        let path = self.tree.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }
}

/// Reads everything and waits for the end.
pub(crate) fn finish(mut child: Box<dyn BoxChild>) -> Done {
    let mut output = String::new();
    if let Some(stdout) = child.take_stdout() {
        fs::File::from(stdout).read_to_string(&mut output).unwrap();
    }
    Done { exit: wait(child.as_mut()), output }
}

pub(crate) fn wait(child: &mut dyn BoxChild) -> BoxExit {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(child.wait()).unwrap()
}

impl Done {
    /// The output of a box that must have succeeded.
    pub(crate) fn ok(&self) -> &str {
        assert!(self.exit.success(), "{self:?}");
        self.output.trim_end()
    }
}

pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Says that a test cannot run here, or fails where everything must.
#[expect(clippy::disallowed_methods, reason = "the switch of the test suite")]
pub(crate) fn skipped(test: &str, why: &str) {
    assert!(std::env::var_os("AEDILE_REQUIRE_ALL").is_none(), "{test} cannot run here: {why}");
    println!("SKIPPED {test}: {why}");
}

/// Runs a script on the host, as this user: what an attack does without a box.
#[expect(clippy::disallowed_methods, reason = "the baseline of an attack runs outside")]
pub(crate) fn outside(dir: &Path, env: &[(String, String)], script: &str) -> Done {
    let mut command = std::process::Command::new("sh");
    let output = command
        .args(["-c", script])
        .current_dir(dir)
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .envs(env.iter().cloned())
        .output()
        .unwrap();
    let exit = output.status.code().map_or(BoxExit::Signal(0), BoxExit::Code);
    Done { exit, output: String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned() }
}

/// The host processes that have this word among their arguments.
pub(crate) fn processes_named(word: &str) -> Vec<u32> {
    let pids = fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| {
        fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.split(|byte| *byte == 0).any(|arg| arg == word.as_bytes()))
    })
    .collect()
}

/// Waits for a condition, at most ten seconds.
pub(crate) fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let end = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while !condition() {
        assert!(std::time::Instant::now() < end, "never happened: {what}");
        std::thread::yield_now();
    }
}
