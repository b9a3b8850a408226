//! Requests that are refused before anything is started.

use aedile_core::sandbox::{BoxSpec, SandboxError, WriteScope};
use aedile_core::scope::Scope;
use std::path::{Component, Path};

fn refused(reason: String) -> SandboxError {
    SandboxError::Refused { reason }
}

/// Checks what can be checked without looking at the host.
pub(crate) fn spec(spec: &BoxSpec) -> Result<(), SandboxError> {
    if spec.command.first().is_none_or(String::is_empty) {
        return Err(refused(format!("{}: the box was given no command", spec.label)));
    }
    if spec.command.iter().any(|arg| arg.contains('\0')) {
        return Err(refused(format!("{}: an argument holds a NUL byte", spec.label)));
    }
    for (name, value) in &spec.env {
        if name.is_empty() || name.contains(['=', '\0']) || value.contains('\0') {
            return Err(refused(format!(
                "{name:?} cannot be set: a variable's name is not empty and has no `=`, and neither part has a NUL byte"
            )));
        }
    }
    if spec.tree.is_some() {
        inside(&spec.tree_inside)?;
    }
    for path in spec.tree.iter().chain(&spec.home).chain(spec.mounts.iter().map(|mount| &mount.host)) {
        host(path)?;
    }
    for mount in &spec.mounts {
        inside(&mount.inside)?;
    }
    if let WriteScope::Globs { globs, also, .. } = &spec.write {
        Scope::new(globs).map_err(|error| refused(error.to_string()))?;
        for directory in also {
            let plain = Path::new(directory).components().all(|part| matches!(part, Component::Normal(_)));
            if !plain || directory.is_empty() {
                return Err(refused(format!("{directory:?} cannot be writable: it must be a directory below the tree")));
            }
        }
    }
    Ok(())
}

fn host(path: &Path) -> Result<(), SandboxError> {
    match path.to_str() {
        None => Err(refused(format!("{} cannot be mounted: its name is not UTF-8", path.display()))),
        Some(_) if !path.is_absolute() => Err(refused(format!("{} cannot be mounted: give its absolute path", path.display()))),
        Some(_) => Ok(()),
    }
}

/// Where the box sees something: absolute, without `..`, and not one of the places that the box makes itself.
fn inside(path: &Path) -> Result<(), SandboxError> {
    let plain = path.is_absolute()
        && path.to_str().is_some()
        && path.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
    let own = ["/proc", "/dev", "/etc", "/usr", "/bin", "/sbin", "/lib", "/lib64"];
    if !plain || path.parent().is_none() || own.iter().any(|own| path == Path::new(own)) || path.starts_with("/proc") {
        return Err(refused(format!("a box cannot show anything at {}: choose an absolute path of its own", path.display())));
    }
    Ok(())
}
