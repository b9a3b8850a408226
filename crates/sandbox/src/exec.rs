//! A box round any command in a directory of the person's: `aedile sandbox exec`.

use aedile_core::sandbox::{BoxIo, BoxLimits, BoxMount, BoxNet, BoxSpec, SandboxError, WriteScope};
use std::fs;
use std::path::{Path, PathBuf};

/// What was asked for.
#[derive(Clone, Debug)]
pub struct ExecRequest {
    /// The directory; the box sees it at its own path and starts there.
    pub dir: PathBuf,
    /// Globs (relative to `dir`) of what may be written; empty for all of it.
    pub write: Vec<String>,
    /// Further directories and files that the box sees read-only, at their own paths.
    pub read_only: Vec<PathBuf>,
    /// Variables.
    pub env: Vec<(String, String)>,
    /// Network. Without somebody who answers at the door, [`BoxNet::None`] and [`BoxNet::Door`] both reach nothing.
    pub net: BoxNet,
    /// Program and arguments.
    pub command: Vec<String>,
    /// Limits.
    pub limits: BoxLimits,
    /// Streams: [`BoxIo::Inherit`], or a terminal of the box's own in the place of the caller's.
    pub io: BoxIo,
}

/// Words of the failure to find the program of a box.
pub(crate) const NOT_A_PROGRAM: &str = "is not a program on the box's PATH";
/// The step of executing it.
pub(crate) const STARTING_PROGRAM: &str = "starting the program";

/// Directories of the system that are never given to a box to write, nor anything below them.
const SYSTEM: &[&str] = &[
    "/bin", "/boot", "/dev", "/etc", "/gnu", "/lib", "/lib32", "/lib64", "/libx32", "/nix", "/proc", "/run", "/sbin", "/sys", "/usr",
    "/var",
];
/// Directories below these in which people keep projects all the same, and how many levels down these begin.
const PROJECTS: &[(&str, usize)] =
    &[("/dev/shm", 1), ("/run/user", 2), ("/usr/local/src", 1), ("/usr/src", 1), ("/var/lib", 2), ("/var/tmp", 1), ("/var/www", 1)];

fn refused(reason: String) -> SandboxError {
    SandboxError::Refused { reason }
}

/// Says whether a box may have this directory and returns its real path.
///
/// # Errors
/// [`SandboxError::Refused`] when it is missing, no directory, `/`, the home or above it, in a directory of the system, or when it holds or
/// lies in the state directory.
pub fn check_exec_dir(dir: &Path, home: Option<&Path>, state_dir: &Path) -> Result<PathBuf, SandboxError> {
    let real = shareable(dir, state_dir)?;
    if !real.is_dir() {
        return Err(refused(format!("{} is not a directory; name the directory to work in", dir.display())));
    }
    let home = home.map(real_of);
    if home.is_some_and(|home| home.starts_with(&real)) {
        return Err(refused(format!("{} is or holds your home; choose the directory of one project in it", dir.display())));
    }
    let project = PROJECTS.iter().any(|(base, levels)| real.strip_prefix(base).is_ok_and(|rest| rest.components().count() >= *levels));
    if !project && SYSTEM.iter().any(|system| real.starts_with(system)) {
        return Err(refused(format!("{} belongs to the system; choose the directory of one project", dir.display())));
    }
    Ok(real)
}

/// The real path of something that a box may see.
fn shareable(path: &Path, state_dir: &Path) -> Result<PathBuf, SandboxError> {
    let real = fs::canonicalize(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => refused(format!("{} does not exist; name something that is there", path.display())),
        _ => refused(format!("{} cannot be shown to a box: {error}", path.display())),
    })?;
    if real.parent().is_none() {
        return Err(refused("the root directory cannot be given to a box; choose the directory of one project".to_owned()));
    }
    let state = real_of(state_dir);
    if real.starts_with(&state) || state.starts_with(&real) {
        return Err(refused(format!(
            "{} holds or lies in aedile's own state ({}); choose another directory",
            path.display(),
            state.display()
        )));
    }
    Ok(real)
}

/// The real path of something that need not exist yet: links in the part that exists are followed.
fn real_of(path: &Path) -> PathBuf {
    let existing = path.ancestors().find_map(|part| Some((fs::canonicalize(part).ok()?, path.strip_prefix(part).ok()?)));
    existing.map_or_else(|| path.to_owned(), |(real, rest)| real.join(rest))
}

/// The exit code that a shell gives when it cannot start a command: 127 when there is no such program in the box, 126 when it cannot be
/// executed. `None` when the error is about something else.
pub fn not_started(error: &SandboxError) -> Option<u8> {
    match error {
        SandboxError::Refused { reason } if reason.contains(NOT_A_PROGRAM) => Some(127),
        SandboxError::Setup { step, source } if step.starts_with(STARTING_PROGRAM) => {
            Some(if source.kind() == std::io::ErrorKind::NotFound { 127 } else { 126 })
        }
        _ => None,
    }
}

/// Turns the request into a box. Its HOME is temporary.
///
/// # Errors
/// [`SandboxError::Refused`] for a directory or mount that a box may not have.
pub fn exec_spec(request: ExecRequest, home: Option<&Path>, state_dir: &Path) -> Result<BoxSpec, SandboxError> {
    let dir = check_exec_dir(&request.dir, home, state_dir)?;
    let mut mounts = Vec::with_capacity(request.read_only.len());
    for path in &request.read_only {
        let host = shareable(path, state_dir)?;
        let inside = std::path::absolute(path).map_err(|error| refused(format!("{} cannot be shown to a box: {error}", path.display())))?;
        mounts.push(BoxMount { host, inside, writable: false });
    }
    let write = if request.write.is_empty() {
        WriteScope::All
    } else {
        WriteScope::Globs { globs: request.write, also: Vec::new(), except: Vec::new() }
    };
    Ok(BoxSpec {
        label: format!("exec in {}", dir.display()),
        command: request.command,
        tree_inside: dir.clone(),
        tree: Some(dir),
        write,
        mounts,
        home: None,
        env: request.env,
        net: request.net,
        limits: request.limits,
        io: request.io,
    })
}
