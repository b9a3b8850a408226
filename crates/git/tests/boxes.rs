//! Boxes for these tests: a mount namespace that shows exactly what was asked for, and one whose program writes what the test wants.

use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use aedile_core::sandbox::{BoxChild, BoxExit, BoxSpec, Sandbox, SandboxError, SandboxReport};
use async_trait::async_trait;

pub(crate) fn sandbox() -> Arc<dyn Sandbox> {
    Arc::new(Mounts)
}

struct Mounts;

const ENTER: &str = r#"
set -e
root=$1; shift
mount -t tmpfs box "$root"
for d in usr bin lib lib64 dev; do
  test -e /$d || continue
  mkdir -p "$root/$d"; mount --rbind /$d "$root/$d"
done
mkdir -p "$root/tmp"
while test "$1" != --; do
  mkdir -p "$root$2"; mount --bind "$1" "$root$2"
  test "$3" = rw || mount -o remount,bind,ro "$root$2"
  shift 3
done
shift
cwd=$1; shift
exec chroot "$root" sh -c 'cd "$1"; shift; exec "$@"' sh "$cwd" "$@"
"#;

impl Sandbox for Mounts {
    #[expect(clippy::disallowed_methods, reason = "a test's stand-in for the box")]
    fn spawn(&self, spec: BoxSpec) -> Result<Box<dyn BoxChild>, SandboxError> {
        let root = tempfile::tempdir().unwrap();
        let mut command = Command::new("unshare");
        command.args(["-m", "sh", "-c", ENTER, "sh"]).arg(root.path());
        if let Some(tree) = &spec.tree {
            command.arg(tree).arg(&spec.tree_inside).arg("ro");
        }
        for mount in &spec.mounts {
            command.arg(&mount.host).arg(&mount.inside).arg(if mount.writable { "rw" } else { "ro" });
        }
        command.arg("--").arg(&spec.tree_inside).args(&spec.command).env_clear().envs(spec.env);
        command.env("PATH", "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Ok(Box::new(Plain { child: command.spawn().unwrap(), _root: Some(root) }))
    }

    fn report(&self) -> SandboxReport {
        SandboxReport { level: "a mount namespace".to_owned(), mechanisms: Vec::new(), host_uid: 0 }
    }
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
