//! What a guard means for the plan of one box.

use crate::aside::{BoxNote, Sweep};
use crate::survey::{self, Guard, Search, Survey};
use crate::wire::Plan;
use aedile_core::sandbox::{SandboxError, WriteScope};
use rustix::fs::{Mode, OFlags};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Files with a name outside that are told one by one.
const LINKED_NAMED_MAX: usize = 20;

/// Looks through what the box will see and puts into the plan what is held. Returns what to look at after the box, and what to tell now.
pub(crate) fn hold(plan: &mut Plan, guard: &Guard, runtime_dir: &Path) -> Result<(Option<Sweep>, Vec<BoxNote>), SandboxError> {
    let Some(tree) = plan.spec.tree.clone().filter(|_| guard.protect || guard.mask || !guard.hide.is_empty()) else {
        return Ok((None, Vec::new()));
    };
    let (writable, found) = look(&tree, guard, &plan.spec.write)?;
    let (linked, hidden) = (found.linked.clone(), found.hidden.clone());
    plan.held = found.held(&writable, &plan.spec.tree_inside);
    for mount in plan.spec.mounts.iter().filter(|mount| !mount.writable && mount.host.is_dir()) {
        let shown = Guard { protect: false, ..guard.clone() };
        let (_, found) = look(&mount.host, &shown, &WriteScope::Nothing)?;
        plan.held.hidden.extend(found.hidden.iter().map(|path| mount.inside.join(path).as_os_str().as_bytes().to_vec()));
    }
    let sweep =
        guard.protect.then(|| Sweep { tree, write: plan.spec.write.clone(), writable, before: found, runtime_dir: runtime_dir.to_owned() });
    Ok((sweep.filter(|sweep| !sweep.writable.is_empty()), notes(&linked, &hidden)))
}

/// What the guard masks and holds in a directory that is to be copied, as if a box wrote to all of it.
pub(crate) fn of_copy(tree: &Path, guard: &Guard, write: &WriteScope) -> Result<Survey, SandboxError> {
    let opened = open(tree)?;
    let found = survey::survey(opened.as_fd(), guard, write, &[String::new()], Search::default());
    if found.incomplete {
        let reason = format!("{} holds too many entries to be looked through; name a smaller directory", tree.display());
        return Err(SandboxError::Refused { reason });
    }
    Ok(found)
}

fn open(tree: &Path) -> Result<OwnedFd, SandboxError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let opened = rustix::fs::open(tree, flags, Mode::empty());
    opened.map_err(|error| SandboxError::Setup { step: format!("opening {}", tree.display()), source: error.into() })
}

fn look(tree: &Path, guard: &Guard, write: &WriteScope) -> Result<(Vec<String>, Survey), SandboxError> {
    let opened = open(tree)?;
    let writable = survey::writable(opened.as_fd(), write);
    let found = survey::survey(opened.as_fd(), guard, write, &writable, Search::default());
    if let Some(why) = &found.loose {
        let reason = format!(
            "{} cannot be held while a box writes to it: {why}; give the box a copy of it with --cow, or name less with --write",
            tree.display()
        );
        return Err(SandboxError::Refused { reason });
    }
    Ok((writable, found))
}

fn notes(linked: &[PathBuf], hidden: &[PathBuf]) -> Vec<BoxNote> {
    let note = |rule: &str, path: &Path, words: String| BoxNote { rule: rule.to_owned(), path: path.to_owned(), words };
    let held = linked.iter().take(LINKED_NAMED_MAX);
    let mut notes: Vec<BoxNote> =
        held.map(|path| note("hard-link", path, "has a further name outside (a hard link) and is read-only".to_owned())).collect();
    if linked.len() > LINKED_NAMED_MAX {
        notes.push(note(
            "hard-link",
            Path::new(""),
            format!("{} more files have a further name outside and are read-only", linked.len() - LINKED_NAMED_MAX),
        ));
    }
    notes.extend(hidden.iter().take(LINKED_NAMED_MAX).map(|path| note("masked", path, "is empty in the box".to_owned())));
    notes
}
