//! Which directories of the tree become writable, and which entries in them are held read-only.

use crate::beneath::open_beneath;
use aedile_core::limits::SCOPE_BINDS_MAX;
use aedile_core::scope::Scope;
use rustix::fs::{AtFlags, Dir, FileType, OFlags};
use rustix::io::Errno;
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Entries that are looked at before a scope counts as too scattered to be held by mounts.
const ENTRIES_LOOKED_AT_MAX: usize = 20_000;
/// Entries among which repositories in writable directories are looked for.
const ENTRIES_SEARCHED_MAX: usize = 200_000;

/// The writable places of one tree. Paths are relative; the root is the empty one.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct WritePlan {
    /// Directories to mount writable.
    pub(crate) writable: Vec<String>,
    /// Existing entries below them to mount read-only.
    pub(crate) frozen: Vec<PathBuf>,
    /// Directories between the two, to be mounted on themselves: a mount point cannot be renamed, and so what is frozen stays in its place.
    pub(crate) pinned: Vec<PathBuf>,
    /// Why something out of scope can be written all the same, so that only the import filter decides there.
    pub(crate) loose: Option<String>,
}

struct Walk<'a> {
    tree: BorrowedFd<'a>,
    scope: &'a Scope,
    /// Directories that are writable as a whole.
    whole: Vec<String>,
    /// Directories with something in scope among other things.
    partial: Vec<String>,
    frozen: Vec<PathBuf>,
    loose: Option<String>,
    looked_at: usize,
}

/// Decides what is writable. Everything that the scope or `also` allows and `except` does not is; as little else as directories permit is too.
pub(crate) fn plan(tree: BorrowedFd<'_>, scope: &Scope, also: &[String], except: &Scope) -> WritePlan {
    let is_directory = |path: &str| open_beneath(tree, Path::new(path), OFlags::PATH | OFlags::DIRECTORY).is_ok();
    let also: Vec<String> = also.iter().map(|dir| dir.trim_matches('/').to_owned()).collect();
    let (mut scoped, mut partial) = (Vec::new(), Vec::new());
    for (glob, (directory, all)) in scope.globs().iter().zip(scope.directories()) {
        let plain = !glob.contains(['*', '?', '[', '{', '\\']);
        match (all, plain && is_directory(glob)) {
            (true, _) => scoped.push(directory),
            (false, true) => scoped.push(glob.clone()),
            (false, false) => partial.push(directory),
        }
    }
    let whole = sorted(scoped.iter().chain(&also).cloned().collect());
    partial.retain(|directory| !whole.iter().any(|above| lies_in(directory, above)));
    let partial = sorted(partial);
    let writable = outermost(&sorted(whole.iter().chain(&partial).cloned().collect()));
    let mut walk = Walk { tree, scope, whole, partial: partial.clone(), frozen: Vec::new(), loose: None, looked_at: 0 };
    let mut fits = writable.iter().filter(|path| partial.contains(path)).all(|path| walk.directory(Path::new(path)));
    let mut repositories = Repositories { tree, also: &also, found: Vec::new(), left: ENTRIES_SEARCHED_MAX, loose: None };
    outermost(&sorted(scoped)).iter().for_each(|directory| repositories.search(Path::new(directory)));
    fits &= walk.frozen.len() + pins(&walk.frozen, &writable).len() <= SCOPE_BINDS_MAX;
    let mut excepted = Excepted { tree, except, found: Vec::new(), left: ENTRIES_SEARCHED_MAX, loose: None };
    writable.iter().filter(|directory| !also.contains(directory)).for_each(|directory| excepted.search(Path::new(directory)));
    let too_many = (!fits).then(|| format!("more than {SCOPE_BINDS_MAX} entries lie beside what it allows"));
    let mut frozen = if fits { walk.frozen } else { Vec::new() };
    frozen.append(&mut repositories.found);
    excepted.found.retain(|path| !frozen.iter().any(|above| path.starts_with(above)));
    frozen.append(&mut excepted.found);
    let pinned = pins(&frozen, &writable).into_iter().collect();
    WritePlan { writable, frozen, pinned, loose: too_many.or(walk.loose).or(repositories.loose).or(excepted.loose) }
}

fn sorted(mut paths: Vec<String>) -> Vec<String> {
    paths.sort();
    paths.dedup();
    paths
}

/// Those that lie in no other.
fn outermost(paths: &[String]) -> Vec<String> {
    paths.iter().filter(|path| !paths.iter().any(|above| above != *path && lies_in(path, above))).cloned().collect()
}

/// Whether `path` is `above` or lies below it.
fn lies_in(path: &str, above: &str) -> bool {
    above.is_empty() || path.strip_prefix(above).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The directories above frozen entries, up to a writable directory, which is a mount point itself.
pub(crate) fn pins(frozen: &[PathBuf], writable: &[String]) -> BTreeSet<PathBuf> {
    let is_mount = |path: &Path| writable.iter().any(|mount| Path::new(mount) == path);
    frozen.iter().flat_map(|path| path.ancestors().skip(1).take_while(|above| !is_mount(above))).map(Path::to_path_buf).collect()
}

/// The names and kinds of a directory's entries.
fn entries(tree: BorrowedFd<'_>, path: &Path) -> rustix::io::Result<impl Iterator<Item = (PathBuf, FileType)>> {
    let opened = open_beneath(tree, path, OFlags::RDONLY | OFlags::DIRECTORY)?;
    let path = path.to_owned();
    Ok(Dir::read_from(&opened)?.flatten().filter_map(move |entry| {
        let name = entry.file_name().to_bytes();
        let kind = match entry.file_type() {
            FileType::Unknown => rustix::fs::statat(&opened, entry.file_name(), AtFlags::SYMLINK_NOFOLLOW)
                .map_or(FileType::Unknown, |stat| FileType::from_raw_mode(stat.st_mode)),
            known => known,
        };
        (name != b"." && name != b"..").then(|| (path.join(OsStr::from_bytes(name)), kind))
    }))
}

fn is_link(path: &Path) -> String {
    format!("{} beside what it allows is a symbolic link", path.display())
}

impl Walk<'_> {
    /// Freezes what is out of scope in one directory; false when there is too much of it.
    fn directory(&mut self, path: &Path) -> bool {
        let entries = match entries(self.tree, path) {
            Ok(entries) => entries,
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return true,
            Err(_) if path.as_os_str().is_empty() => return false,
            // What cannot be looked into is held as a whole.
            Err(_) => {
                self.frozen.push(path.to_owned());
                return true;
            }
        };
        for (below, kind) in entries {
            self.looked_at += 1;
            if !self.entry(below, kind) || self.frozen.len() > SCOPE_BINDS_MAX || self.looked_at > ENTRIES_LOOKED_AT_MAX {
                return false;
            }
        }
        true
    }

    fn entry(&mut self, path: PathBuf, kind: FileType) -> bool {
        // Globs are text: what has no name in text is in no scope.
        let text = path.to_str();
        let in_scope = text.is_some_and(|path| self.scope.allows(path) || self.whole.iter().any(|whole| lies_in(path, whole)));
        match kind {
            FileType::Directory if text.is_some_and(|path| self.whole.iter().any(|whole| whole == path)) => {}
            FileType::Directory if text.is_some_and(|path| self.reaches_below(path)) => return self.directory(&path),
            _ if in_scope => {}
            // A link cannot be bound; what is behind it is held on its own, but the link can be replaced.
            FileType::Symlink => self.loose = self.loose.take().or_else(|| Some(is_link(&path))),
            _ => self.frozen.push(path),
        }
        true
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

/// `.git`, directory or file, is in no scope, not even in that of everything: it is writable only when named.
struct Repositories<'a> {
    tree: BorrowedFd<'a>,
    also: &'a [String],
    found: Vec<PathBuf>,
    left: usize,
    loose: Option<String>,
}

impl Repositories<'_> {
    /// Finds the repositories in a writable directory. Where the tree's own is writable, others deep in it need no search.
    fn search(&mut self, path: &Path) {
        let deep = !self.also.iter().any(|also| also == ".git");
        for (below, kind) in entries(self.tree, path).into_iter().flatten() {
            if self.left == 0 || self.found.len() > SCOPE_BINDS_MAX {
                self.loose = Some("it allows too many entries to find every repository among them".to_owned());
                return;
            }
            self.left -= 1;
            let named = below.to_str().is_some_and(|path| self.also.iter().any(|also| lies_in(path, also)));
            let repository = below.file_name().is_some_and(|name| name.as_bytes().eq_ignore_ascii_case(b".git"));
            match kind {
                _ if named => {}
                FileType::Symlink if repository => self.loose = Some(is_link(&below)),
                _ if repository => self.found.push(below),
                FileType::Directory if deep => self.search(&below),
                _ => {}
            }
        }
    }
}

/// What stays read-only in writable directories, whatever the scope says.
struct Excepted<'a> {
    tree: BorrowedFd<'a>,
    except: &'a Scope,
    found: Vec<PathBuf>,
    left: usize,
    loose: Option<String>,
}

impl Excepted<'_> {
    fn search(&mut self, path: &Path) {
        let text = path.to_str().unwrap_or_default();
        if !self.reaches_below(text) {
            return;
        }
        // The writable directory itself.
        if !text.is_empty() && self.whole(text) {
            self.found.push(path.to_owned());
            return;
        }
        for (below, kind) in entries(self.tree, path).into_iter().flatten() {
            if self.left == 0 || self.found.len() > SCOPE_BINDS_MAX {
                self.loose = Some("too many entries are excepted from it".to_owned());
                return;
            }
            self.left -= 1;
            let Some(text) = below.to_str() else { continue };
            match kind {
                _ if self.except.allows(text) || kind == FileType::Directory && self.whole(text) => match kind {
                    FileType::Symlink => self.loose = Some(is_link(&below)),
                    _ => self.found.push(below),
                },
                FileType::Directory => self.search(&below),
                _ => {}
            }
        }
    }

    /// Whether everything below the directory is excepted.
    fn whole(&self, path: &str) -> bool {
        // A name that no glob can mean but with a wildcard.
        self.except.allows(&format!("{path}/\u{7f}")) && self.except.allows(&format!("{path}/\u{7f}/\u{7f}"))
    }

    fn reaches_below(&self, path: &str) -> bool {
        let below = if path.is_empty() { "**".to_owned() } else { format!("{}/**", escaped(path)) };
        Scope::new(&[below]).is_ok_and(|below| self.except.overlaps(&below))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::fd::AsFd;

    fn planned(files: &[&str], globs: &[&str], also: &[&str]) -> WritePlan {
        planned_except(files, globs, also, &[])
    }

    fn planned_except(files: &[&str], globs: &[&str], also: &[&str], except: &[&str]) -> WritePlan {
        let dir = tempfile::tempdir().unwrap();
        for file in files {
            let path = dir.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "x").unwrap();
        }
        let owned = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let tree = fs::File::open(dir.path()).unwrap();
        let mut plan = plan(tree.as_fd(), &Scope::new(&owned(globs)).unwrap(), &owned(also), &Scope::new(&owned(except)).unwrap());
        plan.frozen.sort();
        plan
    }

    #[test]
    fn directory_scopes_need_no_frozen_entries() {
        let plan = planned(&["src/a/x", "src/b/y", "src/a/b/.git"], &["src/a/**", "new/dir/**"], &[".git"]);
        assert_eq!(plan, WritePlan { writable: vec![".git".into(), "new/dir".into(), "src/a".into()], ..WritePlan::default() });
    }

    #[test]
    fn what_is_excepted_stays_read_only_wherever_it_lies() {
        let files = ["src/a/x", "src/gen/y", "src/b/gen/z", "src/k.lock", "docs/gen/x"];
        let plan = planned_except(&files, &["src/**"], &[], &["**/gen/**", "src/*.lock", "docs"]);
        assert_eq!(plan.frozen, ["src/b/gen", "src/gen", "src/k.lock"].map(PathBuf::from));
        assert_eq!(plan.pinned, ["src/b"].map(PathBuf::from));
        let plan = planned_except(&files, &["src/**", "docs/**"], &[], &["src/gen/**", "docs"]);
        assert_eq!(plan.frozen, ["docs", "src/gen"].map(PathBuf::from));
        assert_eq!(planned_except(&files, &["src/**"], &[], &["docs/**"]).frozen, Vec::<PathBuf>::new());
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
        assert_eq!(plan.frozen, ["README", "docs/x.txt", "src"].map(PathBuf::from));
    }

    #[test]
    fn a_pattern_with_any_depth_descends() {
        let plan = planned(&["src/a/x.rs", "src/a/y.c", "src/z.c"], &["src/**/x.rs"], &[]);
        assert_eq!(
            plan,
            WritePlan {
                writable: vec!["src".into()],
                frozen: vec!["src/a/y.c".into(), "src/z.c".into()],
                pinned: vec!["src/a".into()],
                loose: None
            }
        );
    }

    #[test]
    fn git_is_in_no_scope_unless_it_is_named() {
        assert_eq!(planned(&[".git/config", "a/.git/x"], &["**", "a/**"], &[]).frozen, [".git", "a/.git"].map(PathBuf::from));
        assert_eq!(planned(&[".git/config"], &["**"], &[".git"]).frozen, Vec::<PathBuf>::new());
        assert_eq!(planned(&["a/b/.git"], &["**"], &[]).pinned, ["a", "a/b"].map(PathBuf::from));
    }

    #[test]
    fn a_directory_named_like_a_pattern_is_frozen_entry_by_entry() {
        let plan = planned(&["a[1]/x", "b/y"], &["*.md"], &[]);
        assert_eq!(plan.frozen, ["a[1]/x", "b"].map(PathBuf::from));
    }

    #[test]
    fn too_many_neighbours_leave_the_filter_alone() {
        let names: Vec<String> = (0..=SCOPE_BINDS_MAX).map(|n| format!("f{n}")).collect();
        let plan = planned(&names.iter().map(String::as_str).collect::<Vec<_>>(), &["only.md"], &[]);
        assert!(plan.loose.is_some() && plan.frozen.is_empty());
    }
}
