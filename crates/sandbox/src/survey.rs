//! What lies in a person's tree that a box must not change or see although it may write there: files with a further name outside, names that
//! run code on the host, sockets of the host's programs, files made for secrets.

use crate::beneath::{open_beneath, open_up};
use crate::links::{self, Setting};
use crate::scope_plan;
use aedile_core::limits::SCOPE_BINDS_MAX;
use aedile_core::protected::{self, BARE_RULE, GIT_INSIDE, GIT_RULE, ProtectedName, Secrecy};
use aedile_core::sandbox::WriteScope;
use aedile_core::scope::Scope;
use rustix::fs::{AtFlags, Dir, FileType, OFlags, Stat};
use rustix::io::Errno;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Entries of a tree that are looked at.
const ENTRIES_MAX: usize = 1_000_000;
/// Bytes of a git configuration file that are read, and how deep files are included, as git has it.
const CONFIG_BYTES: u64 = 1024 * 1024;
const INCLUDES_MAX: u32 = 10;
/// The rule of a directory into which we cannot look.
const UNREADABLE: &str = "unreadable-directory";
/// The beginning of a file in which a private key is looked for.
const KEY_HEAD_BYTES: u64 = 64 * 1024;
/// A directory of packages: what is in it runs anyway when the project runs, so of the table only git's directories are asked for there.
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
    /// Symbolic links under protected names and on the way to what is protected, which no mount can hold.
    pub(crate) symlinks: BTreeMap<PathBuf, Link>,
    /// Where such links, and settings of git, lead to in the tree, whether it exists or not: the rule, and whose way it is.
    pub(crate) led: BTreeMap<PathBuf, (&'static str, PathBuf)>,
    /// Directories in which we can see nothing.
    pub(crate) closed: BTreeSet<PathBuf>,
    /// Directories that were made readable to be looked into.
    pub(crate) opened: Vec<PathBuf>,
    /// Whether there were more entries than are looked at.
    pub(crate) incomplete: bool,
    /// Git directories that the box may write, apart from what is protected in them.
    repositories: BTreeSet<PathBuf>,
    /// Files with a further name outside of what the box may write.
    pub(crate) linked: Vec<PathBuf>,
    /// What is empty in the box.
    pub(crate) hidden: Vec<PathBuf>,
    /// Why the tree cannot be held by mounts.
    pub(crate) loose: Option<String>,
}

/// A symbolic link that no mount can hold.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Link {
    pub(crate) rule: &'static str,
    pub(crate) target: PathBuf,
    /// The protected link or git directory on whose way it lies: often itself.
    pub(crate) root: PathBuf,
}

/// How a tree is looked through.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Search<'a> {
    /// Entries that are looked at.
    pub(crate) entries: usize,
    /// After a box: what was there before it. What a box made unreadable is made readable then.
    pub(crate) before: Option<&'a Survey>,
}

impl Default for Search<'_> {
    fn default() -> Self {
        Self { entries: ENTRIES_MAX, before: None }
    }
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
    before: Option<&'a Survey>,
}

/// What of the table is asked in a directory.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Table {
    Whole,
    Git,
    Nothing,
}

/// A directory that is still to be looked into.
struct Place {
    path: PathBuf,
    table: Table,
    /// Whether the box may write there.
    writable: bool,
}

/// The directories that the scope makes writable, relative; the root is the empty one.
pub(crate) fn writable(tree: BorrowedFd<'_>, write: &WriteScope) -> Vec<String> {
    match write {
        WriteScope::All => vec![String::new()],
        WriteScope::Nothing => Vec::new(),
        WriteScope::Globs { globs, also, .. } => {
            Scope::new(globs).map(|scope| scope_plan::plan(tree, &scope, also, &Scope::nothing()).writable).unwrap_or_default()
        }
    }
}

/// Looks through the tree.
pub(crate) fn survey(tree: BorrowedFd<'_>, guard: &Guard, write: &WriteScope, writable: &[String], search: Search<'_>) -> Survey {
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
        open: vec![Place { path: PathBuf::new(), table: Table::Whole, writable: writable.iter().any(String::is_empty) }],
        left: search.entries,
        before: search.before,
    };
    while let Some(place) = walk.open.pop() {
        if !walk.directory(&place) {
            walk.found.loose = Some(format!("it holds more than {} entries", search.entries));
            walk.found.incomplete = true;
            break;
        }
    }
    walk.found.hidden.sort();
    walk.found.hidden.dedup();
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
    entry.is_some_and(|entry| names_it(approved, entry))
}

/// Whether one of the names of a scope is the first of this entry's.
pub(crate) fn names_it(approved: &BTreeSet<String>, entry: &ProtectedName) -> bool {
    entry.name.split('/').next().is_some_and(|first| approved.contains(&protected::folded(first)))
}

impl Walk<'_> {
    /// Looks into one directory; false when the tree has too many entries.
    fn directory(&mut self, place: &Place) -> bool {
        let Some(opened) = self.look_into(place) else { return true };
        let Ok(entries) = Dir::read_from(&opened) else { return true };
        let (mut head, mut parts, mut common) = (false, 0, false);
        for entry in entries.flatten() {
            let name = entry.file_name().to_bytes();
            if name == b"." || name == b".." {
                continue;
            }
            if self.left == 0 {
                return false;
            }
            self.left -= 1;
            head |= name.eq_ignore_ascii_case(b"HEAD");
            common |= name.eq_ignore_ascii_case(b"commondir");
            parts += usize::from([&b"objects"[..], b"refs"].iter().any(|part| name.eq_ignore_ascii_case(part)));
            self.entry(&opened, place, Path::new(OsStr::from_bytes(name)), entry.file_type());
        }
        if head && (parts >= 2 || common) && place.table != Table::Nothing && place.writable && self.guard.protect {
            self.git_directory(&place.path, BARE_RULE);
        }
        true
    }

    /// Opens a directory. The owner of one that says nothing to them can change that, and the box is the owner of what it made.
    fn look_into(&mut self, place: &Place) -> Option<OwnedFd> {
        let open = || open_beneath(self.tree, &place.path, OFlags::RDONLY | OFlags::DIRECTORY);
        match open() {
            Err(Errno::ACCESS) if self.guard.protect && place.writable => {}
            other => return other.ok(),
        }
        let before = self.before.filter(|before| !before.closed.contains(&place.path));
        if before.is_some() && open_up(self.tree, &place.path).is_ok() {
            self.found.opened.push(place.path.clone());
            return open().ok();
        }
        self.found.protected.insert(place.path.clone(), UNREADABLE);
        self.found.closed.insert(place.path.clone());
        None
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
        let rule = protect.then(|| self.rule(&path, place.table, kind)).flatten();
        if kind == FileType::Symlink {
            self.secret_link(&path, name);
        }
        match (kind, rule) {
            (FileType::Symlink, Some(rule)) if git => self.is_link(opened, path, name, rule),
            (FileType::Symlink, Some(rule)) => self.leads(&path, &path, rule),
            (FileType::Symlink, None) => {}
            (FileType::Socket, _) if self.guard.protect => self.found.hidden.push(path),
            (FileType::Directory, Some(rule)) if git && self.git_works => {
                self.git_directory(&path, rule);
                self.open.push(Place { path, table: Table::Nothing, writable });
            }
            (FileType::Directory, Some(rule)) => {
                self.found.protected.insert(path.clone(), rule);
                self.open.push(Place { path, table: Table::Nothing, writable: false });
            }
            (FileType::Directory, None) => {
                let table = if text == PACKAGES && place.table == Table::Whole { Table::Git } else { place.table };
                self.open.push(Place { path, table, writable });
            }
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

    /// `.git` as a link, which is none that a box may be given and none that it may leave.
    fn is_link(&mut self, opened: &OwnedFd, path: PathBuf, name: &Path, rule: &'static str) {
        let target = rustix::fs::readlinkat(opened, name, Vec::new()).unwrap_or_default();
        let target = PathBuf::from(OsStr::from_bytes(target.to_bytes()));
        self.found.loose = Some(format!("{} in it is a symbolic link, which cannot be held", path.display()));
        self.found.symlinks.insert(path.clone(), Link { rule, target, root: path });
    }

    /// What `way` leads to within the tree is protected, and the links on it are looked at afterwards. `root` is whose way it is.
    fn leads(&mut self, root: &Path, way: &Path, rule: &'static str) {
        let way = links::follow(self.tree, way);
        for (path, target) in way.links {
            let link = Link { rule, target, root: root.to_owned() };
            if path == root {
                self.found.symlinks.insert(path, link);
            } else {
                self.found.symlinks.entry(path).or_insert(link);
            }
        }
        let Some(end) = way.end else { return };
        if end.as_os_str().is_empty() || (root.starts_with(&end) && root != end) {
            self.found.loose = Some(format!("{} in it leads to a directory above itself, which cannot be held", root.display()));
            return;
        }
        if open_beneath(self.tree, &end, OFlags::PATH).is_ok() {
            self.found.protected.entry(end.clone()).or_insert(rule);
        }
        self.found.led.insert(end, (rule, root.to_owned()));
    }

    /// The rule that protects the entry itself. A link is protected also where a name of several parts begins.
    fn rule(&self, path: &Path, table: Table, kind: FileType) -> Option<&'static str> {
        let text = path.to_string_lossy();
        if table != Table::Nothing && text.rsplit('/').next().is_some_and(protected::is_git) {
            return Some(GIT_RULE);
        }
        if table != Table::Whole {
            return None;
        }
        let itself = protected::name_at(&text).filter(|_| !approves(&self.approved, &text));
        let begins = || protected::begins_at(&text).filter(|entry| !names_it(&self.approved, entry));
        itself.or_else(|| (kind == FileType::Symlink).then(begins).flatten()).map(|entry| entry.rule)
    }

    /// Protects what in a git directory runs code; the rest of it stays writable, but it cannot be moved away.
    fn git_directory(&mut self, path: &Path, rule: &'static str) {
        self.found.repositories.insert(path.to_owned());
        self.found.protected.insert(path.to_owned(), rule);
        for name in GIT_INSIDE {
            let below = path.join(name);
            let parts = below.ancestors().take_while(|part| *part != path).collect::<Vec<_>>();
            for part in parts.into_iter().rev() {
                match self.kind(part) {
                    None => break,
                    Some(FileType::Symlink) => {
                        self.leads(part, &below, rule);
                        break;
                    }
                    Some(_) if part == below => {
                        self.found.protected.insert(below.clone(), rule);
                    }
                    Some(_) => {}
                }
            }
        }
        for name in ["config", "config.worktree"] {
            self.settings(path, &path.join(name), rule, INCLUDES_MAX);
        }
    }

    fn kind(&self, path: &Path) -> Option<FileType> {
        let above = open_beneath(self.tree, path.parent()?, OFlags::PATH | OFlags::DIRECTORY).ok()?;
        let stat = rustix::fs::statat(&above, Path::new(path.file_name()?), AtFlags::SYMLINK_NOFOLLOW).ok()?;
        Some(FileType::from_raw_mode(stat.st_mode))
    }

    /// Protects what a configuration file of a git directory makes git run or obey in the tree.
    fn settings(&mut self, git: &Path, file: &Path, rule: &'static str, depth: u32) {
        let Some(end) = links::follow(self.tree, file).end.filter(|_| depth > 0) else { return };
        let Ok(opened) = open_beneath(self.tree, &end, OFlags::RDONLY | OFlags::NONBLOCK) else { return };
        let mut bytes = Vec::new();
        let _ = File::from(opened).take(CONFIG_BYTES).read_to_end(&mut bytes);
        let inside = git.file_name().is_some_and(|name| protected::is_git(&name.to_string_lossy()));
        let work = if inside { git.parent().unwrap_or(git) } else { git };
        for setting in links::settings(&String::from_utf8_lossy(&bytes)) {
            match setting {
                Setting::Hooks(hooks) if hooks.is_empty() || hooks.starts_with('~') => {}
                Setting::Hooks(hooks) => self.leads(git, &work.join(hooks), rule),
                Setting::Include(path) if path.is_empty() || path.starts_with('~') => {}
                Setting::Include(path) => {
                    let path = end.parent().unwrap_or(Path::new("")).join(path);
                    self.leads(git, &path, rule);
                    self.settings(git, &path, rule, depth - 1);
                }
            }
        }
    }

    /// A link with a secret's name: the file that it leads to is the secret.
    fn secret_link(&mut self, path: &Path, name: &Path) {
        let matches =
            |scope: &Option<Scope>, path: &Path| scope.as_ref().zip(path.to_str()).is_some_and(|(scope, path)| scope.allows(path));
        let hide = matches(&self.hide, path);
        let secrecy = self.guard.mask.then(|| protected::secrecy(&name.to_string_lossy())).flatten();
        if !hide && (secrecy.is_none() || matches(&self.show, path)) {
            return;
        }
        let Some(end) = links::follow(self.tree, path).end.filter(|end| self.kind(end) == Some(FileType::RegularFile)) else { return };
        let secret = || !matches(&self.show, &end) && (secrecy == Some(Secrecy::Secret) || holds_key(self.tree, &end));
        if hide || secret() {
            self.found.hidden.push(end);
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
