//! Which directories of the tree become writable, and which entries in them are held read-only.

use crate::beneath::open_beneath;
use aedile_core::limits::SCOPE_BINDS_MAX;
use aedile_core::scope::Scope;
use rustix::fs::{FileType, OFlags};
use std::os::fd::BorrowedFd;
use std::path::Path;

/// Entries that are looked at before a scope counts as too scattered to be held by mounts.
const ENTRIES_LOOKED_AT_MAX: usize = 20_000;

/// The writable places of one tree. Paths are relative; the root is the empty string.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct WritePlan {
    /// Directories to mount writable.
    pub(crate) writable: Vec<String>,
    /// Existing entries below them to mount read-only.
    pub(crate) frozen: Vec<String>,
    /// Whether there were too many to freeze, so that only the import filter decides within the writable directories.
    pub(crate) filter_only: bool,
}

struct Walk<'a> {
    tree: BorrowedFd<'a>,
    scope: &'a Scope,
    /// Directories that are writable as a whole.
    whole: Vec<String>,
    /// Directories with something in scope among other things.
    partial: Vec<String>,
    frozen: Vec<String>,
    looked_at: usize,
}

/// Decides what is writable. Everything that the scope or `also` allows is; as little else as directories permit is too.
pub(crate) fn plan(tree: BorrowedFd<'_>, scope: &Scope, also: &[String]) -> WritePlan {
    let is_directory = |path: &str| open_beneath(tree, Path::new(path), OFlags::PATH | OFlags::DIRECTORY).is_ok();
    let mut whole: Vec<String> = also.iter().map(|dir| dir.trim_matches('/').to_owned()).collect();
    let mut partial = Vec::new();
    for (glob, (directory, all)) in scope.globs().iter().zip(scope.directories()) {
        let plain = !glob.contains(['*', '?', '[', '{', '\\']);
        match (all, plain && is_directory(glob)) {
            (true, _) => whole.push(directory),
            (false, true) => whole.push(glob.clone()),
            (false, false) => partial.push(directory),
        }
    }
    whole.sort();
    whole.dedup();
    partial.sort();
    partial.dedup();
    partial.retain(|directory| !whole.iter().any(|above| lies_in(directory, above)));
    let mut writable: Vec<String> = whole.iter().chain(&partial).cloned().collect();
    writable.sort();
    let outermost: Vec<String> =
        writable.iter().filter(|path| !writable.iter().any(|above| above != *path && lies_in(path, above))).cloned().collect();
    let mut walk = Walk { tree, scope, whole, partial: partial.clone(), frozen: Vec::new(), looked_at: 0 };
    let fits = outermost.iter().filter(|path| partial.contains(path)).all(|path| walk.directory(path));
    let mut frozen = if fits { walk.frozen } else { Vec::new() };
    frozen.extend(git_directories(&walk.whole, also).filter(|path| is_directory(path)));
    WritePlan { writable: outermost, frozen, filter_only: !fits }
}

/// `.git` is in no scope, not even in that of everything: it is writable only when named.
fn git_directories<'a>(whole: &'a [String], also: &'a [String]) -> impl Iterator<Item = String> + 'a {
    let named = |path: &str| also.iter().any(|also| lies_in(path, also.trim_matches('/')));
    let paths = whole.iter().map(|directory| if directory.is_empty() { ".git".to_owned() } else { format!("{directory}/.git") });
    paths.filter(move |path| !named(path))
}

/// Whether `path` is `above` or lies below it.
fn lies_in(path: &str, above: &str) -> bool {
    above.is_empty() || path.strip_prefix(above).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

impl Walk<'_> {
    /// Freezes what is out of scope in one directory; false when there is too much of it.
    fn directory(&mut self, path: &str) -> bool {
        let Ok(opened) = open_beneath(self.tree, Path::new(path), OFlags::RDONLY | OFlags::DIRECTORY) else {
            return true;
        };
        let Ok(entries) = rustix::fs::Dir::read_from(&opened) else {
            return true;
        };
        for entry in entries.flatten() {
            let Ok(name) = entry.file_name().to_str() else {
                continue;
            };
            if name == "." || name == ".." {
                continue;
            }
            self.looked_at += 1;
            let below = if path.is_empty() { name.to_owned() } else { format!("{path}/{name}") };
            if !self.entry(below, entry.file_type()) || self.frozen.len() > SCOPE_BINDS_MAX || self.looked_at > ENTRIES_LOOKED_AT_MAX {
                return false;
            }
        }
        true
    }

    fn entry(&mut self, path: String, kind: FileType) -> bool {
        let in_scope = self.scope.allows(&path) || self.whole.iter().any(|whole| lies_in(&path, whole));
        match kind {
            // A link cannot be bound; what is behind it is held on its own.
            FileType::Symlink => true,
            FileType::Directory if self.whole.contains(&path) => true,
            FileType::Directory if self.reaches_below(&path) => self.directory(&path),
            _ if in_scope => true,
            _ => {
                self.frozen.push(path);
                true
            }
        }
    }

    /// Whether something below the directory is, or may come, in scope.
    fn reaches_below(&self, path: &str) -> bool {
        let named = self.whole.iter().chain(&self.partial).any(|wanted| lies_in(wanted, path));
        named || Scope::new(&[format!("{}/**", escaped(path))]).is_ok_and(|below| self.scope.overlaps(&below))
    }
}

fn escaped(path: &str) -> String {
    path.chars().flat_map(|c| if "*?[]{}\\".contains(c) { vec!['\\', c] } else { vec![c] }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::fd::AsFd;

    fn planned(files: &[&str], globs: &[&str], also: &[&str]) -> WritePlan {
        let dir = tempfile::tempdir().unwrap();
        for file in files {
            let path = dir.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "x").unwrap();
        }
        let owned = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let tree = fs::File::open(dir.path()).unwrap();
        let mut plan = plan(tree.as_fd(), &Scope::new(&owned(globs)).unwrap(), &owned(also));
        plan.frozen.sort();
        plan
    }

    #[test]
    fn directory_scopes_need_no_frozen_entries() {
        let plan = planned(&["src/a/x", "src/b/y"], &["src/a/**", "new/dir/**"], &[".git"]);
        assert_eq!(plan, WritePlan { writable: vec![".git".into(), "new/dir".into(), "src/a".into()], ..WritePlan::default() });
    }

    #[test]
    fn a_plain_directory_is_writable_as_a_whole() {
        assert_eq!(planned(&["src/a/x", "src/b/y"], &["src/a"], &[]).writable, ["src/a"]);
    }

    #[test]
    fn a_file_scope_freezes_its_neighbours() {
        let files = ["Cargo.toml", "README", "src/lib.rs", "docs/a.md", "docs/x.txt", ".git/config"];
        let plan = planned(&files, &["Cargo.toml", "docs/*.md"], &[".git"]);
        assert_eq!(plan.writable, [""]);
        assert_eq!(plan.frozen, ["README", "docs/x.txt", "src"]);
    }

    #[test]
    fn a_pattern_with_any_depth_descends() {
        let plan = planned(&["src/a/x.rs", "src/a/y.c", "src/z.c"], &["src/**/x.rs"], &[]);
        assert_eq!(
            plan,
            WritePlan { writable: vec!["src".into()], frozen: vec!["src/a/y.c".into(), "src/z.c".into()], filter_only: false }
        );
    }

    #[test]
    fn git_is_in_no_scope_unless_it_is_named() {
        assert_eq!(planned(&[".git/config", "a/.git/x"], &["**", "a/**"], &[]).frozen, [".git", "a/.git"]);
        assert_eq!(planned(&[".git/config"], &["**"], &[".git"]).frozen, Vec::<String>::new());
    }

    #[test]
    fn a_directory_named_like_a_pattern_is_frozen_entry_by_entry() {
        let plan = planned(&["a[1]/x", "b/y"], &["*.md"], &[]);
        assert_eq!(plan.frozen, ["a[1]/x", "b"]);
    }

    #[test]
    fn too_many_neighbours_leave_the_filter_alone() {
        let names: Vec<String> = (0..=SCOPE_BINDS_MAX).map(|n| format!("f{n}")).collect();
        let plan = planned(&names.iter().map(String::as_str).collect::<Vec<_>>(), &["only.md"], &[]);
        assert!(plan.filter_only && plan.frozen.is_empty());
    }
}
