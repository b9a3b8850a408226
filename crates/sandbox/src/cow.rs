//! A box on a copy of a person's directory, whose changes pass a filter before they reach it.

use crate::beneath::{make_dirs, open_beneath};
use crate::copy::{Copied, Transfer, changed_at, names, open_dir, remove};
use crate::guarded;
use crate::survey::{Guard, approves, literal_parts};
use aedile_core::protected;
use aedile_core::sandbox::{SandboxError, WriteScope};
use aedile_core::scope::Scope;
use rustix::fs::{AtFlags, FileType, OFlags, Stat};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufRead};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

/// Bytes and entries of a directory that is copied for a box.
const BYTES_MAX: u64 = 16 * 1024 * 1024 * 1024;
const ENTRIES_MAX: u64 = 1_000_000;

/// What a box did to one path.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ChangeKind {
    /// It was not there.
    Added,
    /// It is another one now.
    Changed,
    /// It is gone.
    Removed,
}

/// One change in the copy.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Change {
    /// The path (relative).
    pub path: PathBuf,
    /// What was done.
    pub kind: ChangeKind,
    /// Why it does not reach the directory: the rule's id, and words.
    pub refused: Option<(&'static str, String)>,
}

/// The copy that one box works on.
pub struct Cow {
    copied: Copied,
    scope: Option<Scope>,
    approved: BTreeSet<String>,
}

impl Cow {
    /// Copies `host`, without what the guard masks, into a new directory below `runtime_dir` that belongs to `owner`.
    pub(crate) fn make(
        host: &Path,
        guard: &Guard,
        write: &WriteScope,
        runtime_dir: &Path,
        owner: (u32, u32),
    ) -> Result<Self, SandboxError> {
        let failed = |source: io::Error| SandboxError::Setup { step: format!("copying {}", host.display()), source };
        let (bytes, entries) = measure(host).map_err(failed)?;
        std::fs::create_dir_all(runtime_dir).map_err(failed)?;
        let room = rustix::fs::statvfs(runtime_dir).map_err(|error| failed(error.into()))?;
        let free = room.f_bavail.saturating_mul(room.f_frsize);
        if bytes > BYTES_MAX.min(free / 2) || entries > ENTRIES_MAX {
            let reason = format!(
                "{} holds {bytes} bytes in {entries} entries, too much for a copy (at most {} bytes of {free} free ones, {ENTRIES_MAX} entries); \
                 name a smaller directory",
                host.display(),
                BYTES_MAX.min(free / 2)
            );
            return Err(SandboxError::Refused { reason });
        }
        let hidden = guarded::hidden(host, guard)?;
        let (scope, approved) = match write {
            WriteScope::Globs { globs, .. } => (Scope::new(globs).ok(), globs.iter().flat_map(|glob| literal_parts(glob)).collect()),
            _ => (None, BTreeSet::new()),
        };
        Ok(Self { copied: Copied::without(host, runtime_dir, owner, &hidden).map_err(failed)?, scope, approved })
    }

    /// Where the copy is.
    pub fn path(&self) -> PathBuf {
        self.copied.path()
    }

    /// What the box has changed, in the order of paths. What is refused as a whole directory is one change.
    ///
    /// # Errors
    /// When the copy or the directory cannot be read.
    pub fn changes(&self) -> io::Result<Vec<Change>> {
        let (from, to) = (open_dir(&self.path())?, open_dir(&self.copied.host)?);
        let mut left = BTreeSet::new();
        names(from.as_fd(), Path::new(""), &mut left)?;
        let mut changes: BTreeMap<PathBuf, Change> = BTreeMap::new();
        let mut note = |path: &Path, kind: ChangeKind, refused: Option<(&'static str, String)>| {
            let whole = refused.as_ref().and_then(|_| protected::rule_over(path.to_str()?)).map(|(_, above)| PathBuf::from(above));
            let path = whole.unwrap_or_else(|| path.to_owned());
            changes.entry(path.clone()).or_insert(Change { path, kind, refused });
        };
        for path in &left {
            if let Some((kind, stat)) = self.touched(&from, &to, path)? {
                let refused = self.refusal(&from, path, Some(&stat)).or_else(|| self.meanwhile(&to, path));
                note(path, kind, refused);
            }
        }
        for path in self.copied.known.difference(&left) {
            let refused = self.refusal(&from, path, None).or_else(|| self.meanwhile(&to, path));
            note(path, ChangeKind::Removed, refused);
        }
        Ok(changes.into_values().collect())
    }

    /// Makes the changes that are not refused in the directory. When some are refused, or this fails, the copy is kept; the path says where.
    ///
    /// # Errors
    /// The first change that could not be made, with its path and the place of the copy.
    pub fn apply(self, changes: &[Change]) -> io::Result<Option<PathBuf>> {
        let result = self.apply_all(changes);
        if result.is_ok() && changes.iter().all(|change| change.refused.is_none()) {
            return Ok(None);
        }
        let kept = self.copied.keep();
        result.map_err(|error| io::Error::new(error.kind(), format!("{error}; the box's work is kept in {}", kept.display())))?;
        Ok(Some(kept))
    }

    fn apply_all(&self, changes: &[Change]) -> io::Result<()> {
        let (from, to) = (open_dir(&self.path())?, open_dir(&self.copied.host)?);
        let allowed = || changes.iter().filter(|change| change.refused.is_none());
        let named = |path: &Path, error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
        // Longest first, so that directories are empty when their turn comes.
        for change in allowed().rev().filter(|change| change.kind == ChangeKind::Removed) {
            remove(to.as_fd(), &change.path).map_err(|error| named(&change.path, error))?;
        }
        let transfer = Transfer { owner: self.copied.owner, since: None };
        for change in allowed().filter(|change| change.kind != ChangeKind::Removed) {
            self.apply_one(&transfer, &from, &to, &change.path).map_err(|error| named(&change.path, error))?;
        }
        Ok(())
    }

    fn apply_one(&self, transfer: &Transfer, from: &OwnedFd, to: &OwnedFd, path: &Path) -> io::Result<()> {
        let (above, name) = (path.parent().unwrap_or(Path::new("")), Path::new(path.file_name().unwrap_or_default()));
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let source = open_beneath(from, above, flags)?;
        make_dirs(to.as_fd(), above, rustix::process::geteuid().is_root().then_some(self.copied.owner))?;
        let target = open_beneath(to, above, flags)?;
        let stat = rustix::fs::statat(&source, name, AtFlags::SYMLINK_NOFOLLOW)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => transfer.target_directory(target.as_fd(), name, &stat).map(drop),
            FileType::Symlink => transfer.link(source.as_fd(), target.as_fd(), name),
            _ => transfer.file(source.as_fd(), target.as_fd(), name, &stat),
        }
    }

    /// Whether the box has made or changed the entry.
    fn touched(&self, from: &OwnedFd, to: &OwnedFd, path: &Path) -> io::Result<Option<(ChangeKind, Stat)>> {
        let stat = stat_of(from, path)?;
        let known = self.copied.known.contains(path);
        let kind = FileType::from_raw_mode(stat.st_mode);
        if known && (kind == FileType::Directory || changed_at(&stat) <= self.copied.made) {
            return Ok(None);
        }
        let there = stat_of(to, path).ok();
        let same = there.is_some_and(|there| {
            there.st_mode & 0o177_111 == stat.st_mode & 0o177_111 && (kind == FileType::Directory || same_content(from, to, path, kind))
        });
        Ok((!same).then_some((if known { ChangeKind::Changed } else { ChangeKind::Added }, stat)))
    }

    /// The rule against a change. `stat` is of what the box left there.
    fn refusal(&self, from: &OwnedFd, path: &Path, stat: Option<&Stat>) -> Option<(&'static str, String)> {
        let text = path.to_string_lossy();
        if let Some((rule, above)) = protected::rule_over(&text)
            && !approves(&self.approved, above)
        {
            return Some((rule, "could run code outside the box".to_owned()));
        }
        if self.scope.as_ref().is_some_and(|scope| !scope.allows(&text)) && stat.is_none_or(|stat| !is_directory(stat)) {
            return Some(("scope", "is not among what --write names".to_owned()));
        }
        let stat = stat?;
        if stat.st_mode & 0o6000 != 0 && !is_directory(stat) {
            return Some(("set-id", "has a set-id bit".to_owned()));
        }
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => None,
            FileType::RegularFile => {
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                (protected::secrecy(&name) == Some(protected::Secrecy::Secret))
                    .then(|| ("masked", "has the name of a file for secrets, which the box does not see".to_owned()))
            }
            FileType::Symlink => {
                let target = open_beneath(from, path.parent().unwrap_or(Path::new("")), OFlags::PATH | OFlags::DIRECTORY)
                    .and_then(|parent| rustix::fs::readlinkat(&parent, Path::new(path.file_name().unwrap_or_default()), Vec::new()));
                let leaves = target.is_ok_and(|target| leaves_tree(path, Path::new(OsStr::from_bytes(target.to_bytes()))));
                leaves.then(|| ("link-leaves-tree", "is a symbolic link that leads out of the directory".to_owned()))
            }
            _ => Some(("special-file", "is no ordinary file, directory or link".to_owned())),
        }
    }

    /// Somebody changed the same path in the directory since the copy was made.
    fn meanwhile(&self, to: &OwnedFd, path: &Path) -> Option<(&'static str, String)> {
        let stat = stat_of(to, path).ok()?;
        let theirs = !is_directory(&stat) && changed_at(&stat) > self.copied.made;
        theirs.then(|| ("changed-meanwhile", "was changed in the directory too since the command began".to_owned()))
    }
}

fn is_directory(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::Directory
}

fn stat_of(base: &OwnedFd, path: &Path) -> io::Result<Stat> {
    let parent = open_beneath(base, path.parent().unwrap_or(Path::new("")), OFlags::PATH | OFlags::DIRECTORY)?;
    Ok(rustix::fs::statat(&parent, Path::new(path.file_name().unwrap_or_default()), AtFlags::SYMLINK_NOFOLLOW)?)
}

fn same_content(a: &OwnedFd, b: &OwnedFd, path: &Path, kind: FileType) -> bool {
    let read = |base: &OwnedFd| -> io::Result<Box<dyn BufRead>> {
        if kind == FileType::Symlink {
            let parent = open_beneath(base, path.parent().unwrap_or(Path::new("")), OFlags::PATH | OFlags::DIRECTORY)?;
            let target = rustix::fs::readlinkat(&parent, Path::new(path.file_name().unwrap_or_default()), Vec::new())?;
            return Ok(Box::new(io::Cursor::new(target.to_bytes().to_vec())));
        }
        Ok(Box::new(io::BufReader::new(File::from(open_beneath(base, path, OFlags::RDONLY | OFlags::NONBLOCK)?))))
    };
    let (Ok(mut a), Ok(mut b)) = (read(a), read(b)) else { return false };
    loop {
        let same = match (a.fill_buf(), b.fill_buf()) {
            (Ok([]), Ok([])) => return true,
            (Ok(a), Ok(b)) if !a.is_empty() && !b.is_empty() => {
                let length = a.len().min(b.len());
                (a[..length] == b[..length]).then_some(length)
            }
            _ => None,
        };
        let Some(length) = same else { return false };
        a.consume(length);
        b.consume(length);
    }
}

/// Whether a link at `path` leads above the tree or begins at the root. `..` after a name counts as leading out: the name may be a link itself.
fn leaves_tree(path: &Path, target: &Path) -> bool {
    let mut depth = path.components().count() - 1;
    let mut named = false;
    for part in target.components() {
        match part {
            Component::CurDir => {}
            Component::Normal(_) => named = true,
            Component::ParentDir if !named && depth > 0 => depth -= 1,
            _ => return true,
        }
    }
    target.as_os_str().is_empty()
}

/// Bytes and entries below a directory.
fn measure(host: &Path) -> io::Result<(u64, u64)> {
    let (mut bytes, mut entries, mut open) = (0, 0, vec![host.to_owned()]);
    while let Some(dir) = open.pop() {
        for entry in std::fs::read_dir(&dir)? {
            let entry = entry?;
            entries += 1;
            let kind = entry.file_type()?;
            if kind.is_dir() {
                open.push(entry.path());
            } else if kind.is_file() {
                bytes += entry.metadata()?.len();
            }
            if entries > ENTRIES_MAX {
                return Ok((bytes, entries));
            }
        }
    }
    Ok((bytes, entries))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_that_leave_are_told_from_those_that_stay() {
        for (path, target) in [("a", "b"), ("a/b", "../c"), ("a/b/c", "../../d"), ("a", "./x")] {
            assert!(!leaves_tree(Path::new(path), Path::new(target)), "{path} -> {target}");
        }
        for (path, target) in [("a", "/etc"), ("a", ".."), ("a/b", "../../x"), ("a", "b/.."), ("a", "")] {
            assert!(leaves_tree(Path::new(path), Path::new(target)), "{path} -> {target}");
        }
    }
}
