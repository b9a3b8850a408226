//! Where packages are listed: workspaces of Cargo, npm, pnpm and Go, in the root or below it.

use aedile_core::scope::Scope;
use serde::Deserialize;

use super::complete::{Need, lock_of};
use super::layout::{Layout, above, join, name, parent};

/// Files that list packages, and the manifest that each package has.
pub(crate) const LISTS: &[(&str, &str)] =
    &[("Cargo.toml", "Cargo.toml"), ("package.json", "package.json"), ("pnpm-workspace.yaml", "package.json"), ("go.work", "go.mod")];

/// What a file says of packages: globs, relative to its directory.
struct Listed {
    members: Vec<String>,
    excluded: Vec<String>,
}

/// The list of the nearest workspace above a new package that is not among its members; and its lock file.
pub(crate) fn new_package(path: &str, plain: bool, layout: &Layout) -> Vec<Need> {
    let mut found = Vec::new();
    for (list, manifest) in LISTS {
        let is_manifest = plain && name(path) == *manifest;
        let dir = if is_manifest { parent(path) } else { path };
        if plain && !is_manifest || dir.is_empty() || layout.has_dir(dir) {
            continue;
        }
        let homes = above(dir).chain([""]);
        let mut lists = homes.filter_map(|home| Some((home, listed(list, layout.manifest(&join(home, list))?)?)));
        let excluded =
            |home: &str, listed: &Listed| std::iter::once(dir).chain(above(dir)).any(|dir| holds(&listed.excluded, within(dir, home)));
        let Some((home, listed)) = lists.find(|(home, listed)| !excluded(home, listed)) else { continue };
        // Without its manifest named, a directory is a package where its neighbours are.
        let neighbours = || layout.dirs_in(parent(dir)).any(|beside| layout.has_file(&join(beside, manifest)));
        if !is_manifest && (parent(dir) == home || !neighbours()) {
            continue;
        }
        let file = join(home, list);
        if !holds(&listed.members, within(dir, home)) {
            found.push(Need { path: file.clone(), why: format!("the new package `{dir}` is listed there") });
        }
        let beside = if *list == "pnpm-workspace.yaml" { join(home, manifest) } else { file };
        let locks = lock_of(&beside, layout).into_iter();
        found.extend(locks.map(|lock| Need { why: format!("tools rewrite it for the new package `{dir}`"), ..lock }));
    }
    found
}

/// A path below a directory, relative to it.
fn within<'a>(path: &'a str, dir: &str) -> &'a str {
    path.strip_prefix(dir).map_or(path, |rest| rest.trim_start_matches('/'))
}

/// Whether one of the globs means this directory, and not only one above it.
fn holds(globs: &[String], dir: &str) -> bool {
    let pattern = |glob: &str| glob.contains(['*', '?', '[', '{']);
    globs.iter().any(|glob| glob == dir || pattern(glob) && Scope::new(std::slice::from_ref(glob)).is_ok_and(|scope| scope.allows(dir)))
}

/// The packages that a file lists; `None` when it lists none or cannot be read.
fn listed(list: &str, text: &str) -> Option<Listed> {
    let (members, excluded): (Vec<String>, Vec<String>) = match list {
        "Cargo.toml" => cargo(text)?,
        "package.json" => (npm(text)?, Vec::new()),
        "pnpm-workspace.yaml" => pnpm(text)?.into_iter().partition(|glob| !glob.starts_with('!')),
        _ => (go(text), Vec::new()),
    };
    let plain = |globs: Vec<String>| {
        let globs = globs.iter().map(|glob| glob.trim_start_matches('!').trim_start_matches("./").trim_end_matches('/').to_owned());
        globs.filter(|glob| !glob.is_empty() && glob != ".").collect::<Vec<_>>()
    };
    (!members.is_empty()).then(|| Listed { members: plain(members), excluded: plain(excluded) })
}

/// Members and exclusions of a workspace (The Cargo Book, "Workspaces").
fn cargo(text: &str) -> Option<(Vec<String>, Vec<String>)> {
    let table: toml::Table = text.parse().ok()?;
    let workspace = table.get("workspace")?;
    let texts = |field: &str| -> Option<Vec<String>> {
        let values = workspace.get(field)?.as_array()?.iter();
        Some(values.filter_map(toml::Value::as_str).map(str::to_owned).collect())
    };
    Some((texts("members")?, texts("exclude").unwrap_or_default()))
}

/// `workspaces`, as a list or within an object.
fn npm(text: &str) -> Option<Vec<String>> {
    let value: serde_json::Value = serde_json::from_str(text).ok()?;
    let listed = value.get("workspaces")?;
    let listed = listed.get("packages").unwrap_or(listed).as_array()?;
    Some(listed.iter().filter_map(serde_json::Value::as_str).map(str::to_owned).collect())
}

/// `packages`; what begins with `!` is taken out again (pnpm's manual, "pnpm-workspace.yaml").
fn pnpm(text: &str) -> Option<Vec<String>> {
    #[derive(Deserialize)]
    struct File {
        #[serde(default)]
        packages: Vec<String>,
    }
    serde_saphyr::from_str::<File>(text).ok().map(|file| file.packages)
}

/// The directories of `use`, one a line or several in brackets (the Go Modules Reference, "go.work files").
fn go(text: &str) -> Vec<String> {
    let (mut listed, mut within) = (Vec::new(), false);
    for line in text.lines() {
        let line = line.split("//").next().unwrap_or_default().trim();
        let word = match (within, line.strip_prefix("use")) {
            (true, _) if line == ")" => {
                within = false;
                continue;
            }
            (true, _) => line,
            (false, Some(rest)) if rest.trim() == "(" => {
                within = true;
                continue;
            }
            (false, Some(rest)) if rest.starts_with([' ', '\t']) => rest.trim(),
            (false, _) => continue,
        };
        listed.extend(Some(word.trim_matches(['"', '`']).to_owned()).filter(|word| !word.is_empty()));
    }
    listed
}
