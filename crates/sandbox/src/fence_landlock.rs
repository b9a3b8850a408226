//! Landlock, the second fence: what the mounts show and let write, said once more to an independent mechanism.

use crate::sys;
use crate::wire::Failure;
use landlock::{
    ABI, Access, AccessFs, BitFlags, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset, RulesetAttr, RulesetCreated,
    RulesetCreatedAttr, Scope,
};
use std::fs;
use std::path::{Path, PathBuf};

/// The newest rights that this crate knows; the kernel's own level decides which of them hold.
const NEWEST: ABI = ABI::V10;

/// Restricts this process and all it starts. Ports are left alone: the box's network namespace is empty.
pub(crate) fn apply(visible: &[PathBuf], writable: &[PathBuf]) -> Result<(), Failure> {
    if sys::landlock_level() == 0 {
        return Ok(());
    }
    restrict(visible, writable)
        .map_err(|error| Failure::Unsupported { missing: format!("the Landlock rules that the kernel announces ({error})") })
}

fn restrict(visible: &[PathBuf], writable: &[PathBuf]) -> Result<(), landlock::RulesetError> {
    let all = AccessFs::from_all(NEWEST);
    let look = AccessFs::from_read(NEWEST);
    let mut rules =
        Ruleset::default().set_compatibility(CompatLevel::BestEffort).handle_access(all)?.scope(Scope::from_all(NEWEST))?.create()?;
    rules = allow(rules, Path::new("/"), AccessFs::ReadDir.into())?;
    for path in visible {
        rules = allow(rules, path, look)?;
    }
    // `/proc` holds writable switches of one's own processes; devices are opened, written and asked.
    let device = AccessFs::ReadFile | AccessFs::WriteFile | AccessFs::IoctlDev | AccessFs::ReadDir;
    rules = allow(rules, Path::new("/proc"), look | AccessFs::WriteFile | AccessFs::Truncate)?;
    rules = allow(rules, Path::new("/dev"), device)?;
    let work = all & !(AccessFs::MakeChar | AccessFs::MakeBlock);
    for path in writable {
        rules = allow(rules, path, work)?;
    }
    rules.restrict_self().map(|_| ())
}

fn allow(rules: RulesetCreated, path: &Path, rights: BitFlags<AccessFs>) -> Result<RulesetCreated, landlock::RulesetError> {
    let Ok(meta) = fs::metadata(path) else {
        return Ok(rules);
    };
    let Ok(fd) = PathFd::new(path) else {
        return Ok(rules);
    };
    let rights = if meta.is_dir() { rights } else { rights & AccessFs::from_file(NEWEST) };
    rules.add_rule(PathBeneath::new(fd, rights))
}
