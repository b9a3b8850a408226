//! What lies where in the code that a plan is for.

use std::collections::{BTreeMap, BTreeSet};

use aedile_core::scope::Scope;
use aedile_git::{EntryMode, TreeFile};

use super::packages::LISTS;

/// Files that list packages and are read; more of them are not looked at.
const LISTS_READ_MAX: usize = 64;
/// A larger one is generated, or something else.
const LIST_BYTES_MAX: u64 = 256 * 1024;

/// What an entry is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EntryKind {
    /// A file.
    File,
    /// A symbolic link.
    Link,
    /// A submodule.
    Submodule,
}

/// The files of one commit with their kinds and sizes, its directories, and the text of files that may list packages.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Layout {
    files: BTreeMap<String, (EntryKind, u64)>,
    dirs: BTreeSet<String>,
    manifests: BTreeMap<String, String>,
}

impl Layout {
    /// Makes a layout of paths (relative, `/` between parts), kinds and sizes in bytes.
    pub fn new(files: impl IntoIterator<Item = (String, EntryKind, u64)>) -> Self {
        let mut layout = Self { dirs: BTreeSet::from([String::new()]), ..Self::default() };
        for (path, kind, size) in files {
            layout.dirs.extend(above(&path).map(str::to_owned));
            layout.files.insert(path, (kind, size));
        }
        layout
    }

    /// Makes a layout of a commit's tree; `read` returns the text of a file in it.
    pub fn of_tree(tree: Vec<TreeFile>, read: impl Fn(&str) -> Option<Vec<u8>>) -> Self {
        let kind = |mode| match mode {
            EntryMode::Link => EntryKind::Link,
            EntryMode::Gitlink => EntryKind::Submodule,
            _ => EntryKind::File,
        };
        let mut layout = Self::new(tree.into_iter().map(|file| (file.path.to_string_lossy().into_owned(), kind(file.mode), file.size)));
        for path in layout.lists() {
            if let Some(bytes) = read(&path) {
                layout = layout.with_manifest(&path, &String::from_utf8_lossy(&bytes));
            }
        }
        layout
    }

    /// The files that may list packages, those nearest to the root first. A manifest without others below it lists none.
    fn lists(&self) -> Vec<String> {
        let mut above_packages: BTreeSet<(&str, &str)> = BTreeSet::new();
        for path in self.files.keys() {
            if let Some((_, manifest)) = LISTS.iter().find(|(_, manifest)| *manifest == name(path)) {
                above_packages.extend(above(parent(path)).chain([""]).map(|dir| (dir, *manifest)));
            }
        }
        let lists = |path: &str| {
            let kind = LISTS.iter().find(|(list, _)| *list == name(path));
            kind.is_some_and(|(list, manifest)| {
                list != manifest || parent(path).is_empty() || above_packages.contains(&(parent(path), *manifest))
            })
        };
        let files = self.files.iter().filter(|(path, (kind, size))| *kind == EntryKind::File && *size <= LIST_BYTES_MAX && lists(path));
        let mut paths: Vec<String> = files.map(|(path, _)| path.clone()).collect();
        paths.sort_by_key(|path| path.matches('/').count());
        paths.truncate(LISTS_READ_MAX);
        paths
    }

    /// Adds the text of a file that may list packages.
    #[must_use]
    pub fn with_manifest(mut self, path: &str, text: &str) -> Self {
        self.manifests.insert(path.to_owned(), text.to_owned());
        self
    }

    /// The text of a file that may list packages.
    pub(crate) fn manifest(&self, path: &str) -> Option<&str> {
        self.manifests.get(path).map(String::as_str)
    }

    /// Whether there is a file, link or submodule at the path.
    pub(crate) fn has_file(&self, path: &str) -> bool {
        self.files.contains_key(path)
    }

    /// Whether there is a directory at the path; the root is the empty one.
    pub(crate) fn has_dir(&self, path: &str) -> bool {
        self.dirs.contains(path)
    }

    /// The directories directly below a directory.
    pub(crate) fn dirs_in<'a>(&'a self, dir: &'a str) -> impl Iterator<Item = &'a str> {
        self.dirs.iter().map(String::as_str).filter(move |path| !path.is_empty() && parent(path) == dir)
    }

    /// The link or submodule at or above the path, if there is one.
    pub(crate) fn barrier<'a>(&self, path: &'a str) -> Option<(&'a str, EntryKind)> {
        let kind = |path: &str| self.files.get(path).map(|(kind, _)| *kind).filter(|kind| *kind != EntryKind::File);
        std::iter::once(path).chain(above(path)).find_map(|path| Some((path, kind(path)?)))
    }

    /// Files and bytes that a scope allows.
    pub(crate) fn within(&self, scope: &Scope) -> (usize, u64) {
        let allowed = self.files.iter().filter(|(path, _)| scope.allows(path));
        allowed.fold((0, 0), |(files, bytes), (_, (_, size))| (files + 1, bytes + size))
    }

    /// Every file with its size, in order.
    pub(crate) fn files(&self) -> impl Iterator<Item = (&str, u64)> {
        self.files.iter().map(|(path, (_, size))| (path.as_str(), *size))
    }
}

/// The directory of a path; empty for the root.
pub(crate) fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(dir, _)| dir)
}

/// The last part of a path.
pub(crate) fn name(path: &str) -> &str {
    path.rsplit_once('/').map_or(path, |(_, name)| name)
}

/// All directories above a path, the nearest first, the root left out.
pub(crate) fn above(path: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(parent(path)), |dir| Some(parent(dir))).take_while(|dir| !dir.is_empty())
}

/// A directory and a name below it as one path.
pub(crate) fn join(dir: &str, name: &str) -> String {
    if dir.is_empty() { name.to_owned() } else { format!("{dir}/{name}") }
}
