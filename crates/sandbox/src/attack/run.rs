//! Runs probes with and without boxes, and judges.

use super::inside::ACTED;
use super::material::{Looked, Material, Owner};
use super::{PROBE_ARGUMENT, Probe, Sign, probes};
use crate::fence::Fence;
use crate::native::{BOX_HOST_ID, NativeSandbox, SandboxConfig, Trees};
use crate::survey::Guard;
use crate::sys;
use crate::toolchain::Toolchains;
use aedile_core::sandbox::{BoxChild, BoxIo, BoxLimits, BoxMount, BoxNet, BoxSpec, SandboxError, WriteScope};
use rustix::event::{PollFd, PollFlags, Timespec};
use serde::Serialize;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Limits of a probe's box.
pub(super) const PROCESSES: u64 = 40;
pub(super) const DESCRIPTORS: u64 = 64;
pub(super) const FILE_BYTES: u64 = 1024 * 1024;
pub(super) const MEMORY_BYTES: u64 = 96 * 1024 * 1024;
const DISK_BYTES: u64 = 8 * 1024 * 1024;
const CPU: Duration = Duration::from_secs(1);
/// The limit of time, where that is what is probed, and elsewhere.
const SHORT: Duration = Duration::from_secs(1);
const LONG: Duration = Duration::from_secs(30);
/// How long the host waits for a probe to act.
const PATIENCE: Duration = Duration::from_secs(40);
const OUTPUT_BYTES_MAX: usize = 1024 * 1024;
/// Probes at once.
const AT_ONCE: usize = 4;

/// What became of a probe in a box.
#[derive(Clone, Debug, Serialize)]
pub struct Verdict {
    /// Its name.
    pub id: &'static str,
    /// Its class.
    pub class: &'static str,
    /// How often it tried.
    pub tries: u32,
    /// Whether the host saw nothing of it.
    pub contained: bool,
    /// The fences that stop it on this host.
    pub stopped_by: Vec<&'static str>,
}

/// A probe that proves nothing on this host.
#[derive(Clone, Debug, Serialize)]
pub struct NotRun {
    /// Its name.
    pub id: &'static str,
    /// Its class.
    pub class: &'static str,
    /// Why.
    pub reason: String,
}

/// All verdicts, in the order of the probes.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// Probes that got out without a box, and what they did in one.
    pub probes: Vec<Verdict>,
    /// The others.
    pub not_run: Vec<NotRun>,
}

/// A host for probes.
pub struct Suite {
    sandbox: NativeSandbox,
    dir: tempfile::TempDir,
    program: PathBuf,
    owner: Owner,
    repository: Option<PathBuf>,
    runs: AtomicUsize,
}

/// What one run showed.
struct Shown {
    escaped: bool,
    output: Vec<u8>,
}

impl Suite {
    /// Makes a place for the probes. `program` is one whose `main` calls [`launcher_main`](crate::launcher_main) for
    /// [`PROBE_ARGUMENT`]: in the product the running program itself. The boxes show `repository` read-only; without one, a small one is made.
    ///
    /// # Errors
    /// When there is no room for a copy of the program, or no thread can be started.
    pub fn new(program: &Path, repository: Option<&Path>) -> Result<Self, SandboxError> {
        let failed = |source: io::Error| SandboxError::Setup { step: "making a place for the attacks".to_owned(), source };
        let dir = tempfile::Builder::new().prefix("aedile-attack-").tempdir().map_err(failed)?;
        let place = fs::canonicalize(dir.path()).map_err(failed)?;
        let copy = place.join("bin/probe");
        fs::set_permissions(&place, fs::Permissions::from_mode(0o755)).map_err(failed)?;
        fs::create_dir(place.join("bin")).and_then(|()| fs::copy(program, &copy)).map_err(failed)?;
        fs::set_permissions(&copy, fs::Permissions::from_mode(0o755)).map_err(failed)?;
        let config = SandboxConfig {
            launcher: program.to_owned(),
            toolchains: Toolchains::default(),
            runtime_dir: place.join("state"),
            trees: Trees::Persons,
        };
        let owner = rustix::process::geteuid().is_root().then_some(BOX_HOST_ID);
        let repository = repository.map(Path::to_owned);
        Ok(Self { sandbox: NativeSandbox::new(config)?, dir, program: copy, owner, repository, runs: AtomicUsize::new(0) })
    }

    /// Runs every probe, some at once.
    ///
    /// # Errors
    /// When a box cannot be made.
    pub fn run_all(&self) -> Result<Report, SandboxError> {
        let (all, next) = (probes(), AtomicUsize::new(0));
        let results = Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            for _ in 0..AT_ONCE {
                scope.spawn(|| {
                    while let Some((at, probe)) = Some(next.fetch_add(1, Ordering::SeqCst)).and_then(|at| Some((at, all.get(at)?))) {
                        let result = self.run(probe);
                        if let Ok(mut results) = results.lock() {
                            results.push((at, result));
                        }
                    }
                });
            }
        });
        let mut results = results.into_inner().unwrap_or_default();
        results.sort_by_key(|(at, _)| *at);
        let mut report = Report::default();
        for (_, result) in results {
            match result? {
                Ok(verdict) => report.probes.push(verdict),
                Err(reason) => report.not_run.push(reason),
            }
        }
        Ok(report)
    }

    /// Runs one probe, first without a box.
    fn run(&self, probe: &Probe) -> Result<Result<Verdict, NotRun>, SandboxError> {
        let not_run = |reason: String| Ok(Err(NotRun { id: probe.id, class: probe.class, reason }));
        match self.baseline(probe) {
            Ok(None) => {}
            Ok(Some(words)) => return not_run(format!("it does not get out without a box either: {words}")),
            Err(error) => return not_run(format!("it could not be tried without a box: {error}")),
        }
        let escaped = self.run_without(probe, &[])?;
        let landlock = sys::landlock_level() > 0;
        let fences = probe.fences.iter().filter(|fence| landlock || **fence != Fence::Landlock);
        let stopped_by = fences.map(|fence| fence.name()).collect();
        Ok(Ok(Verdict { id: probe.id, class: probe.class, tries: 1, contained: !escaped, stopped_by }))
    }

    fn material(&self, repository: Option<&Path>) -> io::Result<Material> {
        let number = self.runs.fetch_add(1, Ordering::SeqCst);
        let place = fs::canonicalize(self.dir.path())?;
        Material::make(&place.join(format!("run-{number}")), &self.program, self.owner, repository)
    }

    /// Tries the probe without a box, as the user that boxes are; `None` when it gets out, else what it said.
    ///
    /// # Errors
    /// When the material cannot be made or the program not be started.
    #[expect(clippy::disallowed_methods, reason = "this crate is the starter of processes")]
    pub fn baseline(&self, probe: &Probe) -> io::Result<Option<String>> {
        let material = self.material(None)?;
        let mut command = Command::new(&self.program);
        command.args([PROBE_ARGUMENT, probe.id, &serde_json::to_string(&material.here)?]).env_clear().current_dir("/");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        if let Some(id) = self.owner {
            command.uid(id).gid(id);
        }
        let mut child = command.spawn()?;
        let (stdin, stdout, pid) = (child.stdin.take(), child.stdout.take().map(OwnedFd::from), child.id());
        let shown = observe(
            probe,
            &material,
            pid,
            true,
            stdout.as_ref(),
            || drop(stdin),
            || {
                let _ = child.wait();
            },
        );
        if shown.escaped {
            return Ok(None);
        }
        let text = String::from_utf8_lossy(&shown.output);
        Ok(Some(text.lines().find_map(|line| line.strip_prefix("failed: ")).unwrap_or("nothing came of it").to_owned()))
    }

    /// Tries the probe in a box from which some fences are taken away; true when it gets out.
    ///
    /// # Errors
    /// When the box cannot be made.
    pub fn run_without(&self, probe: &Probe, without: &[Fence]) -> Result<bool, SandboxError> {
        let failed = |source: io::Error| SandboxError::Setup { step: format!("preparing the attack {}", probe.id), source };
        let material = self.material(self.repository.as_deref()).map_err(failed)?;
        let has = |fence: Fence| !without.contains(&fence);
        let guard = Guard { protect: has(Fence::Guard), mask: has(Fence::Masks), ..Guard::default() };
        let mount = |host: PathBuf| BoxMount { inside: host.clone(), host, writable: false };
        let bin = self.program.parent().unwrap_or(Path::new("/")).to_owned();
        let json = serde_json::to_string(&material.here).map_err(|error| failed(error.into()))?;
        let spec = BoxSpec {
            label: format!("attack {}", probe.id),
            command: vec![self.program.display().to_string(), PROBE_ARGUMENT.to_owned(), probe.id.to_owned(), json],
            tree: Some(material.tree()),
            tree_inside: material.tree(),
            write: WriteScope::All,
            mounts: vec![mount(bin), mount(material.here.shown.clone()), mount(material.here.repository.clone())],
            home: None,
            env: Vec::new(),
            net: BoxNet::None,
            limits: BoxLimits {
                processes: Some(PROCESSES),
                file_bytes: Some(FILE_BYTES),
                descriptors: Some(DESCRIPTORS),
                memory_bytes: Some(MEMORY_BYTES),
                disk_bytes: Some(DISK_BYTES),
                cpu: Some(CPU),
                wall: Some(if probe.fences.contains(&Fence::Time) { SHORT } else { LONG }),
            },
            io: BoxIo::Piped,
        };
        let mut child = self.sandbox.spawn_without(spec, &guard, without)?;
        let (stdin, stdout, pid) = (child.take_stdin(), child.take_stdout(), child.process().0);
        drop(child.take_stderr());
        let shown = observe(probe, &material, pid, false, stdout.as_ref(), || drop(stdin), || drop(child));
        Ok(shown.escaped)
    }
}

/// Waits for the attack, looks at it, lets it end, and judges.
fn observe(
    probe: &Probe,
    material: &Material,
    pid: u32,
    alone: bool,
    stdout: Option<&OwnedFd>,
    release: impl FnOnce(),
    end: impl FnOnce(),
) -> Shown {
    let mut output = Vec::new();
    let deadline = Instant::now() + PATIENCE;
    if let Some(stdout) = stdout {
        read_until(stdout, &mut output, Some(ACTED.as_bytes()), deadline);
    }
    let looked = Looked {
        tree: &material.tree(),
        outside: &material.here.outside,
        first: pid,
        alone,
        pids: [pid].into_iter().chain(below(pid)).collect(),
        output: &output,
    };
    let mut escaped = match probe.sign {
        Sign::Looks(sign) => sign(&looked),
        Sign::Victim => victim_changes(material),
        _ => false,
    };
    release();
    if let Some(stdout) = stdout {
        read_until(stdout, &mut output, None, deadline.min(Instant::now() + Duration::from_secs(3)));
    }
    end();
    escaped |= match probe.sign {
        Sign::Outside => material.changed(),
        Sign::Repository => material.repository_changed(),
        Sign::Planted(path) => material.planted(path),
        Sign::Canary => material.betrayed(&output),
        Sign::Reached => material.reached(),
        Sign::Victim => material.victim_changed(),
        Sign::Left(sign) => sign(material),
        Sign::Looks(_) => false,
    };
    Shown { escaped, output }
}

/// A signal takes a moment to have its effect.
fn victim_changes(material: &Material) -> bool {
    let end = Instant::now() + Duration::from_millis(250);
    while Instant::now() < end {
        if material.victim_changed() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    false
}

/// Reads until the mark, the end or the deadline.
fn read_until(from: &OwnedFd, into: &mut Vec<u8>, mark: Option<&[u8]>, deadline: Instant) {
    let mut bytes = [0; 4096];
    while into.len() < OUTPUT_BYTES_MAX {
        let left = Timespec::try_from(deadline.saturating_duration_since(Instant::now())).ok();
        match rustix::event::poll(&mut [PollFd::new(from, PollFlags::IN)], left.as_ref()) {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        match rustix::io::read(from, &mut bytes) {
            Ok(0) | Err(_) => return,
            Ok(length) => into.extend_from_slice(&bytes[..length]),
        }
        if mark.is_some_and(|mark| into.windows(mark.len()).any(|window| window == mark)) {
            return;
        }
    }
}

/// All processes below one.
fn below(pid: u32) -> Vec<u32> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let lists = tasks.filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
    let children: Vec<u32> =
        lists.flat_map(|list| list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>()).collect();
    children.iter().copied().chain(children.iter().flat_map(|child| below(*child))).collect()
}
