//! Where the tools work: the workspace's root, the task's scope, and what is said when the kernel refuses a write.

use aedile_core::scope::Scope;
use std::io;
use std::path::{Component, Path, PathBuf};

/// The place that all tools of one session share.
pub(crate) struct Place {
    root: PathBuf,
    scope: Option<Scope>,
}

impl Place {
    /// `scope` is the task's scope where one is known; an unusable one counts as unknown, since it only feeds messages.
    pub(crate) fn new(root: &Path, scope: &[String]) -> Self {
        let scope = if scope.is_empty() { None } else { Scope::new(scope).ok() };
        Self { root: clean(root), scope }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Makes a path absolute (relative ones start at the root) and removes `.` and `..` from its text.
    pub(crate) fn resolve(&self, path: &str) -> Result<PathBuf, String> {
        if path.is_empty() || path.contains('\0') {
            return Err("the field `path` is empty or holds a NUL character".to_owned());
        }
        Ok(clean(&self.root.join(path)))
    }

    /// The path as the model should see it: relative below the root, absolute elsewhere.
    pub(crate) fn show(&self, path: &Path) -> String {
        match path.strip_prefix(&self.root) {
            Ok(relative) if relative.as_os_str().is_empty() => ".".to_owned(),
            Ok(relative) => relative.display().to_string(),
            Err(_) => path.display().to_string(),
        }
    }

    /// What the task may change, as half a sentence; `None` when no scope is known.
    pub(crate) fn allowed(&self) -> Option<String> {
        let scope = self.scope.as_ref()?;
        Some(if scope.is_everything() { "everything below the workspace".to_owned() } else { scope.globs().join(", ") })
    }

    /// Explains why a file could not be read.
    pub(crate) fn read_error(&self, path: &Path, error: &io::Error) -> String {
        let shown = self.show(path);
        match error.kind() {
            io::ErrorKind::NotFound => format!("{shown} does not exist; find the right path with `glob` or `ls`"),
            io::ErrorKind::PermissionDenied => format!("{shown} may not be read here: {error}"),
            _ => format!("cannot read {shown}: {error}"),
        }
    }

    /// Explains why a file could not be written.
    pub(crate) fn write_error(&self, path: &Path, error: &io::Error) -> String {
        let shown = self.show(path);
        if !is_denied(error) {
            return format!("cannot write {shown}: {error}");
        }
        match self.allowed() {
            Some(allowed) => format!("{shown} is outside the task's scope and was not written ({error}). This task may change: {allowed}"),
            None => format!("{shown} may not be written here ({error})"),
        }
    }

    /// A note for a write that succeeded although `submit` will leave the file out.
    pub(crate) fn out_of_scope_note(&self, path: &Path) -> Option<String> {
        let scope = self.scope.as_ref()?;
        let relative = path.strip_prefix(&self.root).ok()?.to_str()?;
        let note = || {
            format!(
                "note: {relative} is outside the task's scope; `submit` leaves it out. This task may change: {}",
                scope.globs().join(", ")
            )
        };
        (!scope.allows(relative)).then(note)
    }
}

/// Whether the kernel refused because of rights or mounts (and not because of space, names or types).
pub(crate) fn is_denied(error: &io::Error) -> bool {
    use io::ErrorKind::{CrossesDevices, PermissionDenied, ReadOnlyFilesystem, ResourceBusy};
    matches!(error.kind(), PermissionDenied | ReadOnlyFilesystem | ResourceBusy | CrossesDevices)
}

fn clean(path: &Path) -> PathBuf {
    let mut cleaned = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => {
                cleaned.pop();
            }
            other => cleaned.push(other),
        }
    }
    cleaned
}
