//! What lies in a person's tree that a box must not change or see although it may write there: files with a further name outside, names that
//! run code on the host, sockets of the host's programs, files made for secrets.

use crate::beneath::open_beneath;
use crate::scope_plan;
use aedile_core::limits::SCOPE_BINDS_MAX;
use aedile_core::protected::{self, BARE_RULE, GIT_INSIDE, GIT_RULE, Secrecy};
use aedile_core::sandbox::WriteScope;
use aedile_core::scope::Scope;
use rustix::fs::{AtFlags, Dir, FileType, OFlags, Stat};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

/// Entries of a tree that are looked at.
const ENTRIES_MAX: usize = 1_000_000;
/// The beginning of a file in which a private key is looked for.
const KEY_HEAD_BYTES: u64 = 64 * 1024;
/// A directory of packages: what is in it runs anyway when the project runs, so the table of tool configuration is not asked there.
const PACKAGES: &str = "node_modules";

/// What a box of a person's tree is held to besides its scope.
#[derive(Clone, Debug, Default)]
pub struct Guard {
    /// Whether names that run code on the host, files with a name outside, and sockets are held.
    pub protect: bool,
    /// Whether files made for secrets are empty in the box.
    pub mask: bool,
    /// Globs (relative to the tree) of further files that are empty in the box.
    pub hide: Vec<String>,
    /// Globs of files that are shown although their names are those of secrets.
    pub show: Vec<String>,
}

/// What was found. Paths are relative to the tree.
#[derive(Debug, Default)]
pub(crate) struct Survey {
    /// Protected things by path, with their rules.
    pub(crate) protected: BTreeMap<PathBuf, &'static str>,
    /// Symbolic links under protected names, which no mount can hold: rule and target.
    pub(crate) symlinks: BTreeMap<PathBuf, (&'static str, PathBuf)>,
    /// Git directories that the box may write, apart from what is protected in them.
    repositories: BTreeSet<PathBuf>,
    /// Files with a further name outside of what the box may write.
    pub(crate) linked: Vec<PathBuf>,
    /// What is empty in the box.
    pub(crate) hidden: Vec<PathBuf>,
    /// Why the tree cannot be held by mounts.
    pub(crate) loose: Option<String>,
}

/// What the launcher mounts for it, as bytes: names need not be text.
#[derive(Debug, Default, serde::Serialize, serde::Deserialize)]
pub(crate) struct Held {
    /// Read-only, relative to the tree.
    pub(crate) frozen: Vec<Vec<u8>>,
    /// Mounted on themselves, relative to the tree.
    pub(crate) pinned: Vec<Vec<u8>>,
    /// Empty, as the box sees them.
    pub(crate) hidden: Vec<Vec<u8>>,
}

impl Survey {
    /// What is to be mounted.
    pub(crate) fn held(&self, writable: &[String], inside: &Path) -> Held {
        let bytes = |path: &PathBuf| path.as_os_str().as_bytes().to_vec();
        let frozen: Vec<PathBuf> = self.protected.keys().cloned().collect();
        let mut pinned = scope_plan::pins(&frozen, writable);
        pinned.extend(self.repositories.iter().filter(|path| !path.as_os_str().is_empty()).cloned());
        let all = frozen.iter().chain(&self.linked).filter(|path| !self.repositories.contains(*path));
        Held {
            frozen: all.map(bytes).collect(),
            pinned: pinned.iter().map(bytes).collect(),
            hidden: self.hidden.iter().map(|path| bytes(&inside.join(path))).collect(),
        }
    }

    /// Whether the tree can be held, else why not.
    fn judge(&mut self) {
        let mounts = self.protected.len() + self.linked.len() + self.repositories.len();
        if self.linked.len() > SCOPE_BINDS_MAX {
            let count = self.linked.len();
            self.loose =
                Some(format!("{count} files in it have a further name (a hard link) outside, and at most {SCOPE_BINDS_MAX} can be held"));
        } else if mounts > SCOPE_BINDS_MAX || self.hidden.len() > SCOPE_BINDS_MAX {
            let count = mounts.max(self.hidden.len());
            self.loose = Some(format!("{count} places in it are protected or secret, and at most {SCOPE_BINDS_MAX} can be held"));
        }
    }
}

struct Walk<'a> {
    tree: BorrowedFd<'a>,
    guard: &'a Guard,
    writable: &'a [String],
    /// Whether git's own directories are writable apart from what runs code; under a scope they are held as a whole.
    git_works: bool,
    approved: BTreeSet<String>,
    hide: Option<Scope>,
    show: Option<Scope>,
    found: Survey,
    names: HashMap<(u64, u64), (u64, Vec<PathBuf>)>,
    open: Vec<Place>,
    left: usize,
}

/// A directory that is still to be looked into.
struct Place {
    path: PathBuf,
    /// Whether the table is asked there.
    table: bool,
    /// Whether the box may write there.
    writable: bool,
}

/// The directories that the scope makes writable, relative; the root is the empty one.
pub(crate) fn writable(tree: BorrowedFd<'_>, write: &WriteScope) -> Vec<String> {
    match write {
        WriteScope::All => vec![String::new()],
        WriteScope::Nothing => Vec::new(),
        WriteScope::Globs { globs, also } => {
            Scope::new(globs).map(|scope| scope_plan::plan(tree, &scope, also).writable).unwrap_or_default()
        }
    }
}

/// Looks through the tree.
pub(crate) fn survey(tree: BorrowedFd<'_>, guard: &Guard, write: &WriteScope, writable: &[String]) -> Survey {
    let scope = |globs: &[String]| (!globs.is_empty()).then(|| Scope::new(globs).ok()).flatten();
    let approved = match write {
        WriteScope::Globs { globs, .. } => globs.iter().flat_map(|glob| literal_parts(glob)).collect(),
        _ => BTreeSet::new(),
    };
    let mut walk = Walk {
        tree,
        guard,
        writable,
        git_works: *write == WriteScope::All,
        approved,
        hide: scope(&guard.hide),
        show: scope(&guard.show),
        found: Survey::default(),
        names: HashMap::new(),
        open: vec![Place { path: PathBuf::new(), table: true, writable: writable.iter().any(String::is_empty) }],
        left: ENTRIES_MAX,
    };
    while let Some(place) = walk.open.pop() {
        if !walk.directory(&place) {
            walk.found.loose = Some(format!("it holds more than {ENTRIES_MAX} entries"));
            return walk.found;
        }
    }
    let outside = std::mem::take(&mut walk.names).into_values().filter(|(names, found)| *names > found.len() as u64);
    walk.found.linked = outside.flat_map(|(_, found)| found).filter(|path| !walk.found.hidden.contains(path)).collect();
    walk.found.linked.sort();
    if walk.found.loose.is_none() {
        walk.found.judge();
    }
    walk.found
}

/// The parts of a glob that are plain names, folded: a scope that names a protected name in so many words approves it.
pub(crate) fn literal_parts(glob: &str) -> impl Iterator<Item = String> + '_ {
    glob.split('/').take_while(|part| !part.contains(['*', '?', '[', '{', '\\'])).map(protected::folded)
}

/// Whether one of the names of a scope is that of the entry of the table which protects this path. Git's own directory is never approved.
pub(crate) fn approves(approved: &BTreeSet<String>, path: &str) -> bool {
    let entry = protected::name_at(path);
    entry.and_then(|entry| entry.name.split('/').next()).is_some_and(|first| approved.contains(&protected::folded(first)))
}

impl Walk<'_> {
    /// Looks into one directory; false when the tree has too many entries.
    fn directory(&mut self, place: &Place) -> bool {
        // What cannot be opened by us is not opened by the box either.
        let Ok(opened) = open_beneath(self.tree, &place.path, OFlags::RDONLY | OFlags::DIRECTORY) else { return true };
        let Ok(entries) = Dir::read_from(&opened) else { return true };
        let mut marks = 0;
        for entry in entries.flatten() {
            let name = entry.file_name().to_bytes();
            if name == b"." || name == b".." {
                continue;
            }
            if self.left == 0 {
                return false;
            }
            self.left -= 1;
            marks += usize::from([&b"HEAD"[..], b"objects", b"refs"].contains(&name));
            self.entry(&opened, place, Path::new(OsStr::from_bytes(name)), entry.file_type());
        }
        if marks == 3 && place.table && place.writable && self.guard.protect {
            self.git_directory(&place.path, BARE_RULE);
        }
        true
    }

    fn entry(&mut self, opened: &OwnedFd, place: &Place, name: &Path, kind: FileType) {
        let path = place.path.join(name);
        let stat = |flags| rustix::fs::statat(opened, name, flags).ok();
        let (mut known, mut kind) = (None, kind);
        if matches!(kind, FileType::Unknown | FileType::RegularFile) {
            known = stat(AtFlags::SYMLINK_NOFOLLOW);
            kind = known.as_ref().map_or(FileType::Unknown, |stat| FileType::from_raw_mode(stat.st_mode));
        }
        let writable = place.writable || self.writable.iter().any(|root| Path::new(root) == path);
        let text = name.to_str().unwrap_or_default();
        let git = protected::is_git(text);
        let protect = self.guard.protect && writable;
        let rule = (protect && place.table).then(|| self.rule(&path)).flatten();
        match (kind, rule) {
            (FileType::Symlink, Some(_)) if git => self.is_link(&path),
            (FileType::Symlink, Some(rule)) => self.link(opened, path, name, rule),
            (FileType::Symlink, None) => {}
            (FileType::Socket, _) if self.guard.protect => self.found.hidden.push(path),
            (FileType::Directory, Some(rule)) if git && self.git_works => {
                self.git_directory(&path, rule);
                self.open.push(Place { path, table: false, writable });
            }
            (FileType::Directory, Some(rule)) => {
                self.found.protected.insert(path.clone(), rule);
                self.open.push(Place { path, table: false, writable: false });
            }
            (FileType::Directory, None) => self.open.push(Place { path, table: place.table && text != PACKAGES, writable }),
            (FileType::RegularFile, rule) => self.file(opened, path, name, rule, protect, known.as_ref()),
            (_, Some(rule)) => {
                self.found.protected.insert(path, rule);
            }
            (_, None) => {}
        }
    }

    fn file(&mut self, opened: &OwnedFd, path: PathBuf, name: &Path, rule: Option<&'static str>, protect: bool, stat: Option<&Stat>) {
        if self.is_hidden(opened, &path, name) {
            self.found.hidden.push(path);
            return;
        }
        if let Some(rule) = rule {
            self.found.protected.insert(path, rule);
            return;
        }
        if let Some(stat) = stat.filter(|stat| protect && stat.st_nlink > 1) {
            let entry = self.names.entry((stat.st_dev, stat.st_ino)).or_insert_with(|| (stat.st_nlink, Vec::new()));
            entry.1.push(path);
        }
    }

    fn is_link(&mut self, path: &Path) {
        self.found.loose = Some(format!("{} in it is a symbolic link, which cannot be held", path.display()));
    }

    /// A link under a protected name: what it leads to within the tree is protected instead, and the link is looked at afterwards.
    fn link(&mut self, opened: &OwnedFd, path: PathBuf, name: &Path, rule: &'static str) {
        let Ok(target) = rustix::fs::readlinkat(opened, name, Vec::new()) else { return };
        let target = PathBuf::from(OsStr::from_bytes(target.to_bytes()));
        let mut led = path.parent().unwrap_or(Path::new("")).to_owned();
        for part in target.components() {
            match part {
                Component::Normal(part) => led.push(part),
                Component::ParentDir => _ = led.pop(),
                Component::CurDir => {}
                _ => led = PathBuf::from("/"),
            }
        }
        if led.is_relative() && !led.as_os_str().is_empty() && open_beneath(self.tree, &led, OFlags::PATH).is_ok() {
            self.found.protected.insert(led, rule);
        }
        self.found.symlinks.insert(path, (rule, target));
    }

    /// The rule that protects the entry itself.
    fn rule(&self, path: &Path) -> Option<&'static str> {
        let text = path.to_string_lossy();
        if text.rsplit('/').next().is_some_and(protected::is_git) {
            return Some(GIT_RULE);
        }
        protected::name_at(&text).filter(|_| !approves(&self.approved, &text)).map(|entry| entry.rule)
    }

    /// Protects what in a git directory runs code; the rest of it stays writable, but it cannot be moved away.
    fn git_directory(&mut self, path: &Path, rule: &'static str) {
        self.found.repositories.insert(path.to_owned());
        self.found.protected.insert(path.to_owned(), rule);
        for name in GIT_INSIDE {
            let below = path.join(name);
            match open_beneath(self.tree, &below, OFlags::PATH) {
                Ok(_) => {
                    self.found.protected.insert(below, rule);
                }
                Err(rustix::io::Errno::LOOP) => self.is_link(&below),
                Err(_) => {}
            }
        }
    }

    fn is_hidden(&self, opened: &OwnedFd, path: &Path, name: &Path) -> bool {
        let matches = |scope: &Option<Scope>| scope.as_ref().is_some_and(|scope| path.to_str().is_some_and(|path| scope.allows(path)));
        if matches(&self.hide) {
            return true;
        }
        let secrecy = self.guard.mask.then(|| protected::secrecy(&name.to_string_lossy())).flatten();
        secrecy.is_some_and(|secrecy| !matches(&self.show) && (secrecy == Secrecy::Secret || holds_key(opened.as_fd(), name)))
    }
}

fn holds_key(directory: BorrowedFd<'_>, name: &Path) -> bool {
    let mut head = Vec::new();
    let flags = OFlags::RDONLY | OFlags::NONBLOCK;
    let read = open_beneath(directory, name, flags).ok().and_then(|fd| File::from(fd).take(KEY_HEAD_BYTES).read_to_end(&mut head).ok());
    read.is_some() && protected::holds_private_key(&head)
}
