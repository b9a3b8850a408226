//! Boxes for these tests: the real one, one whose program writes what the test wants, and one that cannot be made.

use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, LazyLock};

use aedile_core::sandbox::{BoxChild, BoxExit, BoxSpec, Sandbox, SandboxError, SandboxReport};
use aedile_sandbox::{NativeSandbox, SandboxConfig, Toolchains, Trees};
use async_trait::async_trait;

/// Where the suite that runs as another user finds the launcher.
pub(crate) const LAUNCHER_VARIABLE: &str = "AEDILE_TEST_LAUNCHER";

/// The sandbox of the product, with the launcher that is built beside this test program.
pub(crate) fn sandbox() -> Arc<dyn Sandbox> {
    static ONE: LazyLock<Arc<NativeSandbox>> = LazyLock::new(|| {
        let launcher = launcher();
        assert!(launcher.exists(), "{} is not built; run the tests with cargo", launcher.display());
        let trees = Trees::Own(vec![std::env::temp_dir()]);
        let config = SandboxConfig { launcher, toolchains: Toolchains::default(), runtime_dir: std::env::temp_dir(), trees };
        Arc::new(NativeSandbox::new(config).unwrap())
    });
    ONE.clone()
}

/// Where the launcher is: told by the suite that started this one as another user, or beside this program.
#[expect(clippy::disallowed_methods, reason = "the re-executed suite is told where the launcher is")]
pub(crate) fn launcher() -> PathBuf {
    let beside = || std::env::current_exe().unwrap().parent().unwrap().with_file_name("examples").join("git-box-launcher");
    std::env::var_os(LAUNCHER_VARIABLE).map_or_else(beside, PathBuf::from)
}

/// A box whose program ignores what it is told and writes these bytes: what a hostile git could send.
pub(crate) struct Writes(pub(crate) Vec<u8>);

impl Sandbox for Writes {
    #[expect(clippy::disallowed_methods, reason = "a test's stand-in for the box")]
    fn spawn(&self, _: BoxSpec) -> Result<Box<dyn BoxChild>, SandboxError> {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("bytes");
        File::create(&file).unwrap().write_all(&self.0).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
        let child = Command::new("cat").arg(&file).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        Ok(Box::new(Plain { child, _root: Some(dir) }))
    }

    fn report(&self) -> SandboxReport {
        SandboxReport { level: "none".to_owned(), mechanisms: Vec::new(), host_uid: 0 }
    }
}

/// A box that cannot be made.
pub(crate) struct Refuses;

impl Sandbox for Refuses {
    fn spawn(&self, _: BoxSpec) -> Result<Box<dyn BoxChild>, SandboxError> {
        Err(SandboxError::Unsupported { missing: "user namespaces".to_owned() })
    }

    fn report(&self) -> SandboxReport {
        SandboxReport { level: "none".to_owned(), mechanisms: Vec::new(), host_uid: 0 }
    }
}

struct Plain {
    child: Child,
    _root: Option<tempfile::TempDir>,
}

#[async_trait]
impl BoxChild for Plain {
    fn process(&self) -> (u32, u64) {
        (self.child.id(), 0)
    }
    fn take_stdin(&mut self) -> Option<OwnedFd> {
        self.child.stdin.take().map(OwnedFd::from)
    }
    fn take_stdout(&mut self) -> Option<OwnedFd> {
        self.child.stdout.take().map(OwnedFd::from)
    }
    fn take_stderr(&mut self) -> Option<OwnedFd> {
        self.child.stderr.take().map(OwnedFd::from)
    }
    fn take_door(&mut self) -> Option<OwnedFd> {
        None
    }
    async fn wait(&mut self) -> Result<BoxExit, SandboxError> {
        let status = self.child.wait().unwrap();
        Ok(BoxExit::Code(status.code().unwrap_or(255)))
    }
    fn kill(&self) {}
    fn terminate(&self) {}
}

impl Drop for Plain {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
