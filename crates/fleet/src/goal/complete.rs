//! What a task needs beyond what its plan names, read from the layout of the code: the file that declares a new module, the
//! file that lists packages, the lock file that a manifest rewrites.

use aedile_core::plan::Plan;
use aedile_core::scope::Scope;

use super::check::Ground;
use super::form::list;
use super::layout::{Layout, above, join, name, parent};
use super::packages::new_package;
use super::paths::literal;
use crate::order::{After, before};

/// Manifests and the lock files that their tools rewrite.
const LOCKS: &[(&str, &[&str])] = &[
    ("Cargo.toml", &["Cargo.lock"]),
    ("package.json", &["package-lock.json", "npm-shrinkwrap.json", "yarn.lock", "pnpm-lock.yaml", "bun.lock", "bun.lockb"]),
    ("pyproject.toml", &["uv.lock", "poetry.lock", "pdm.lock"]),
    ("Pipfile", &["Pipfile.lock"]),
    ("go.mod", &["go.sum"]),
    ("go.work", &["go.work.sum"]),
    ("Gemfile", &["Gemfile.lock"]),
    ("composer.json", &["composer.lock"]),
];

/// Files that list the sources of a C or C++ program.
const SOURCE_LISTS: &[&str] = &["CMakeLists.txt", "meson.build"];

/// A file that a task needs, and what for.
pub(crate) struct Need {
    pub(crate) path: String,
    pub(crate) why: String,
}

/// Adds what tasks need to their scopes. Returns what was added, and reasons where it cannot be.
pub(crate) fn complete(plan: &mut Plan, ground: &Ground<'_>) -> (Vec<String>, Vec<String>) {
    let protected = Scope::new(ground.protected).ok().filter(|_| !ground.allow_protected);
    let (mut notes, mut reasons) = (Vec::new(), Vec::new());
    let mut added: Vec<(String, String)> = Vec::new();
    for at in 0..plan.tasks.len() {
        let made_before = made_before(plan, at);
        let id = plan.tasks[at].id.clone();
        for need in needs(&plan.tasks[at].scope, ground.layout, &made_before) {
            let Need { path, why } = need;
            if Scope::new(&plan.tasks[at].scope).is_ok_and(|scope| scope.allows(&path)) {
                continue;
            }
            if protected.as_ref().is_some_and(|protected| protected.allows(&path)) {
                reasons.push(format!("task `{id}`: {why}, but `{path}` is protected in this repository: find a way without it"));
                continue;
            }
            notes.push(format!("`{id}` may change `{path}` too: {why}"));
            added.push((path.clone(), id.clone()));
            plan.tasks[at].scope.push(path);
        }
    }
    notes.extend(in_turn(plan, &added));
    (notes, reasons)
}

/// The scopes of all tasks that come before a task, together.
fn made_before(plan: &Plan, at: usize) -> Option<Scope> {
    let after: After<'_> = plan.tasks.iter().map(|task| (task.id.as_str(), task.after.iter().map(String::as_str).collect())).collect();
    let before = before(&after);
    let earlier = before.get(plan.tasks[at].id.as_str())?;
    let globs: Vec<String> =
        plan.tasks.iter().filter(|task| earlier.contains(task.id.as_str())).flat_map(|task| task.scope.clone()).collect();
    Scope::new(&globs).ok()
}

/// Says where an addition makes tasks wait for each other that the plan has side by side.
fn in_turn(plan: &Plan, added: &[(String, String)]) -> Vec<String> {
    let after: After<'_> = plan.tasks.iter().map(|task| (task.id.as_str(), task.after.iter().map(String::as_str).collect())).collect();
    let before = before(&after);
    let ordered = |a: &str, b: &str| before.get(a).is_some_and(|all| all.contains(b)) || before.get(b).is_some_and(|all| all.contains(a));
    let mut said: Vec<&str> = Vec::new();
    let mut notes = Vec::new();
    for (path, _) in added {
        if said.contains(&path.as_str()) {
            continue;
        }
        said.push(path);
        let sharing: Vec<String> = (plan.tasks.iter())
            .filter(|task| Scope::new(&task.scope).is_ok_and(|scope| scope.allows(path)))
            .map(|task| task.id.clone())
            .collect();
        let beside = sharing.iter().enumerate().any(|(at, a)| sharing.iter().skip(at + 1).any(|b| !ordered(a, b)));
        if beside {
            notes.push(format!("{} need `{path}`, so they are worked on one after the other", list(&sharing)));
        }
    }
    notes
}

fn needs(scope: &[String], layout: &Layout, made: &Option<Scope>) -> Vec<Need> {
    let made = |path: &str| made.as_ref().is_some_and(|scope| scope.allows(path));
    let mut needs = Vec::new();
    for glob in scope {
        let (path, plain) = literal(glob.trim_start_matches("./").trim_end_matches('/'));
        if plain {
            needs.extend(lock_of(path, layout));
        }
        if path.is_empty() || layout.has_file(path) || layout.has_dir(path) || made(path) || made(&join(path, "x")) {
            continue;
        }
        needs.extend(rust_module(path, plain, layout, &made));
        needs.extend(python_packages(path, plain, layout));
        needs.extend(source_list(path, plain, layout));
        needs.extend(new_package(path, plain, layout));
    }
    needs
}

/// The lock file beside or above a manifest that is named.
pub(crate) fn lock_of(path: &str, layout: &Layout) -> Vec<Need> {
    let Some((_, locks)) = LOCKS.iter().find(|(manifest, _)| *manifest == name(path)) else { return Vec::new() };
    let dirs = std::iter::once(parent(path)).chain(above(parent(path))).chain([""]);
    let mut found = dirs.flat_map(|dir| locks.iter().map(move |lock| join(dir, lock))).filter(|lock| layout.has_file(lock));
    let why = format!("tools rewrite it when `{path}` changes");
    found.next().map(|path| Need { path, why }).into_iter().collect()
}

/// The file that declares a new Rust module.
fn rust_module(path: &str, plain: bool, layout: &Layout, made: &impl Fn(&str) -> bool) -> Option<Need> {
    let home = above(path).chain([""]).find(|dir| layout.has_file(&join(dir, "Cargo.toml")))?;
    let source = join(home, "src");
    let inside = path.strip_prefix(&format!("{source}/"))?;
    if inside.starts_with("bin/") || (plain && !path.ends_with(".rs")) {
        return None;
    }
    let module_dir = match name(path) {
        // The directory itself is the module.
        "mod.rs" => parent(parent(path)),
        "lib.rs" | "main.rs" if parent(path) == source => return None,
        _ => parent(path),
    };
    let mut dir = module_dir;
    while dir != source {
        if let Some(file) = [join(dir, "mod.rs"), format!("{dir}.rs")].into_iter().find(|file| layout.has_file(file)) {
            return Some(Need { path: file, why: format!("the new module `{path}` is declared there") });
        }
        if made(&join(dir, "x")) {
            return None;
        }
        dir = parent(dir);
    }
    let root = ["lib.rs", "main.rs"].map(|name| join(&source, name)).into_iter().find(|file| layout.has_file(file))?;
    Some(Need { path: root, why: format!("the new module `{path}` is declared there") })
}

/// The `__init__.py` of new directories within a package.
fn python_packages(path: &str, plain: bool, layout: &Layout) -> Vec<Need> {
    if !plain || !path.ends_with(".py") {
        return Vec::new();
    }
    let new: Vec<&str> = above(path).take_while(|dir| !layout.has_dir(dir)).collect();
    let within = new.last().is_some_and(|top| layout.has_file(&join(parent(top), "__init__.py")));
    let init = |dir: &&str| Need { path: join(dir, "__init__.py"), why: format!("the new directory `{dir}` lies within a package") };
    new.iter().filter(|_| within).map(init).collect()
}

/// The nearest list of sources above a new C or C++ file.
fn source_list(path: &str, plain: bool, layout: &Layout) -> Option<Need> {
    let source = [".c", ".cc", ".cpp", ".cxx"].iter().any(|ending| path.ends_with(ending));
    let dirs = above(path).chain([""]).filter(|_| plain && source);
    let mut lists = dirs.flat_map(|dir| SOURCE_LISTS.iter().map(move |name| join(dir, name)));
    let path_of_list = lists.find(|list| layout.has_file(list))?;
    Some(Need { path: path_of_list, why: format!("the new source `{path}` is listed there") })
}
