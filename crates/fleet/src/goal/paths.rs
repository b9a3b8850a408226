//! Whether the paths of a plan are there, or are new where something new can be.

use aedile_core::limits::PLAN_NEW_LEVELS_MAX;
use aedile_core::plan::Plan;
use aedile_core::scope::Scope;

use super::check::Ground;
use super::layout::{EntryKind, above, parent};
use crate::order::{After, before};

/// Whether a part of a glob matches more than itself.
fn wild(part: &str) -> bool {
    part.contains(['*', '?', '[', '{', '\\'])
}

/// The literal directories with which a glob begins, and whether the glob is a plain path.
pub(crate) fn literal(glob: &str) -> (&str, bool) {
    let mut end = 0;
    for part in glob.split('/') {
        if wild(part) {
            return (glob[..end].trim_end_matches('/'), false);
        }
        end += part.len() + 1;
    }
    (glob, true)
}

/// Returns the reasons against paths: missing places, links, protected files.
pub(crate) fn check_paths(plan: &Plan, scopes: &[Option<Scope>], ground: &Ground<'_>) -> Vec<String> {
    let after: After<'_> = plan.tasks.iter().map(|task| (task.id.as_str(), task.after.iter().map(String::as_str).collect())).collect();
    let before = before(&after);
    let protected = Scope::new(ground.protected).ok().filter(|_| !ground.allow_protected);
    let mut reasons = Vec::new();
    for (task, scope) in plan.tasks.iter().zip(scopes) {
        let Some(scope) = scope else { continue };
        let earlier = before.get(task.id.as_str());
        let made = |dir: &str| {
            let earlier = |id: &str| earlier.is_some_and(|ids| ids.contains(id));
            plan.tasks.iter().zip(scopes).any(|(other, of)| {
                let Some(of) = of.as_ref().filter(|_| earlier(&other.id)) else { return false };
                of.allows(&format!("{dir}/x")) || of.globs().iter().any(|glob| above(glob).any(|above| above == dir))
            })
        };
        for glob in scope.globs() {
            let place = place_problem(glob, ground, made);
            let guard = protected.as_ref().and_then(|protected| protected_problem(glob, protected));
            reasons.extend(place.into_iter().chain(guard).map(|problem| format!("task `{}`: its scope `{glob}` {problem}", task.id)));
        }
    }
    reasons
}

/// What is wrong with the place of a glob; `made` says whether a task before makes a directory.
fn place_problem(glob: &str, ground: &Ground<'_>, made: impl Fn(&str) -> bool) -> Option<String> {
    let (path, plain) = literal(glob);
    if let Some((barrier, kind)) = ground.layout.barrier(path) {
        let what = if kind == EntryKind::Link { "a symbolic link" } else { "a submodule" };
        return Some(format!("lies at or below `{barrier}`, which is {what}; a change cannot go there"));
    }
    if let Some(file) = above(path).find(|dir| ground.layout.has_file(dir)) {
        return Some(format!("lies below `{file}`, which is a file"));
    }
    if plain && (ground.layout.has_file(path) || ground.layout.has_dir(path)) {
        return None;
    }
    if !plain && ground.layout.has_file(path) {
        return Some(format!("lies below `{path}`, which is a file"));
    }
    let dir = if plain { parent(path) } else { path };
    let dirs = std::iter::once(dir).chain(above(dir)).take_while(|dir| !dir.is_empty());
    let new: Vec<&str> = dirs.take_while(|dir| !ground.layout.has_dir(dir) && !made(dir)).collect();
    if new.len() > PLAN_NEW_LEVELS_MAX {
        let top = new.last().copied().unwrap_or_default();
        return Some(format!(
            "is not there, and neither is the directory `{top}`: look where such code lies in this repository, or let a task before it \
             (`after`) begin the directory"
        ));
    }
    None
}

/// A glob that begins with a wildcard names nothing protected: the import keeps such files out of the change.
fn protected_problem(glob: &str, protected: &Scope) -> Option<String> {
    let begins = glob.split('/').next().unwrap_or_default();
    let one = Scope::new(&[glob.to_owned()]).ok()?;
    let hit = protected.globs().iter().find(|of| Scope::new(std::slice::from_ref(of)).is_ok_and(|of| of.overlaps(&one)))?;
    (!wild(begins)).then(|| {
        format!(
            "reaches the protected `{hit}`, which no change of this run may touch: leave it out of the scope (the person can allow it \
             with --allow-protected)"
        )
    })
}
