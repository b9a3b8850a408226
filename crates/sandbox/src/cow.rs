//! A box on a copy of a person's directory, whose changes pass a filter before they reach it.

use crate::beneath::{make_dirs, open_beneath, open_up, set_mode};
use crate::copy::{Copied, Transfer, changed_at, in_directory, names, open_dir, remove};
use crate::guarded;
use crate::survey::{Guard, Survey, approves, literal_parts, names_it};
use aedile_core::protected::{self, BARE_RULE};
use aedile_core::sandbox::{SandboxError, WriteScope};
use aedile_core::scope::{BadScope, Scope};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat};
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
/// What is said of every name that runs code.
const RUNS_CODE: &str = "could run code outside the box";
/// Names at the root that make it a repository.
const ROOT_MARKS: [&str; 4] = ["head", "objects", "refs", "commondir"];

/// Why a change is refused: the rule's id, and words.
type Refusal = (&'static str, String);

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
    pub refused: Option<Refusal>,
}

/// The copy that one box works on.
pub struct Cow {
    copied: Copied,
    scope: Option<Scope>,
    /// What may not be written whatever the scope says.
    except: Scope,
    approved: BTreeSet<String>,
    /// Globs of what the person hides and shows.
    hide: Option<Scope>,
    show: Option<Scope>,
    /// What was masked and protected in the directory when it was copied.
    before: Survey,
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
        let before = guarded::of_copy(host, &Guard { protect: true, ..guard.clone() }, write)?;
        let refused = |error: BadScope| SandboxError::Refused { reason: error.to_string() };
        let (scope, except, approved) = match write {
            WriteScope::Globs { globs, except, .. } => (
                Some(Scope::new(globs).map_err(refused)?),
                Scope::new(except).map_err(refused)?,
                globs.iter().flat_map(|glob| literal_parts(glob)).collect(),
            ),
            WriteScope::Nothing => (Some(Scope::nothing()), Scope::nothing(), BTreeSet::new()),
            WriteScope::All => (None, Scope::nothing(), BTreeSet::new()),
        };
        let copied = Copied::without(host, runtime_dir, owner, &before.hidden).map_err(failed)?;
        let globs = |globs: &[String]| (!globs.is_empty()).then(|| Scope::new(globs).ok()).flatten();
        Ok(Self { copied, scope, except, approved, hide: globs(&guard.hide), show: globs(&guard.show), before })
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
        let mut left = BTreeMap::new();
        names(from.as_fd(), Path::new(""), &mut left)?;
        let bare = self.new_repositories(&left);
        let mut changes: BTreeMap<PathBuf, Change> = BTreeMap::new();
        let mut note = |path: &Path, kind: ChangeKind, stat: Option<&Stat>| {
            let (path, refused) = match self.protected(path, stat, &bare) {
                Some((rule, whole)) => (whole, Some((rule, RUNS_CODE.to_owned()))),
                None => (path.to_owned(), self.refusal(&from, path, stat).or_else(|| self.meanwhile(&to, path, stat))),
            };
            changes.entry(path.clone()).or_insert(Change { path, kind, refused });
        };
        for path in left.keys() {
            if let Some((kind, stat)) = self.touched(&from, &to, path)? {
                note(path, kind, Some(&stat));
            }
        }
        for path in self.copied.known.keys().filter(|path| !left.contains_key(*path)) {
            note(path, ChangeKind::Removed, None);
        }
        self.settle(&mut changes, &left, &to);
        Ok(changes.into_values().collect())
    }

    /// Directories that the box's changes would make repositories, in the copy or together with what stays in the directory.
    fn new_repositories(&self, left: &BTreeMap<PathBuf, FileType>) -> BTreeSet<PathBuf> {
        let mut marks: BTreeMap<&Path, BTreeSet<String>> = BTreeMap::new();
        for path in left.keys().chain(self.copied.known.keys()) {
            let name = path.file_name().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
            if ROOT_MARKS.contains(&name.as_str()) {
                marks.entry(path.parent().unwrap_or(Path::new(""))).or_default().insert(name);
            }
        }
        let is_one = |marks: &BTreeSet<String>| {
            let has = |name: &str| marks.contains(name);
            has("head") && (has("commondir") || (has("objects") && has("refs")))
        };
        let found = marks.into_iter().filter(|(_, marks)| is_one(marks)).map(|(path, _)| path.to_owned());
        found.filter(|path| !self.before.protected.contains_key(path)).collect()
    }

    /// Makes the decisions agree: nothing is put below what is refused, and no directory in which something stays is replaced.
    fn settle(&self, changes: &mut BTreeMap<PathBuf, Change>, left: &BTreeMap<PathBuf, FileType>, to: &OwnedFd) {
        let became_other = |path: &PathBuf| {
            self.copied.known.get(path) == Some(&FileType::Directory) && left.get(path).is_some_and(|kind| *kind != FileType::Directory)
        };
        let replaced: Vec<PathBuf> =
            changes.values().filter(|change| became_other(&change.path)).map(|change| change.path.clone()).collect();
        for path in replaced {
            let own = changes.get(&path).and_then(|change| change.refused.clone());
            let below = changes.values().filter(|change| change.path.starts_with(&path) && change.path != path);
            let refused = own.or_else(|| below.filter_map(|change| change.refused.clone()).next());
            let stays = || all_go(to, &path, changes).then_some(()).is_none();
            let masked = || self.before.hidden.iter().any(|hidden| hidden.starts_with(&path));
            let unseen = || ("masked", "would take the place of a directory with a file that the box does not see".to_owned());
            let words = || ("changed-meanwhile", "would take the place of a directory with more in it than the command knew".to_owned());
            let Some(reason) = refused.or_else(|| masked().then(unseen)).or_else(|| stays().then(words)) else { continue };
            for change in changes.values_mut().filter(|change| change.path.starts_with(&path) && change.refused.is_none()) {
                change.refused = Some(reason.clone());
            }
        }
        let refused: BTreeMap<PathBuf, Refusal> = changes
            .values()
            .filter(|change| change.kind != ChangeKind::Removed)
            .filter_map(|change| Some((change.path.clone(), change.refused.clone()?)))
            .collect();
        for change in changes.values_mut().filter(|change| change.kind != ChangeKind::Removed && change.refused.is_none()) {
            change.refused = change.path.ancestors().skip(1).find_map(|above| refused.get(above)).cloned();
        }
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
        self.possible(&to, changes)?;
        self.unchanged(&from, &to, changes)?;
        // Longest first, so that directories are empty when their turn comes.
        for change in allowed().rev().filter(|change| change.kind == ChangeKind::Removed) {
            remove(to.as_fd(), &change.path).map_err(|error| named(&change.path, error))?;
        }
        let transfer = Transfer { owner: self.copied.owner, since: None };
        let mut modes = Vec::new();
        for change in allowed().filter(|change| change.kind != ChangeKind::Removed) {
            self.apply_one(&transfer, &from, &to, &change.path, &mut modes).map_err(|error| named(&change.path, error))?;
        }
        for (path, mode) in modes.iter().rev() {
            let made = open_beneath(&to, path, OFlags::PATH | OFlags::DIRECTORY).map_err(io::Error::from);
            made.and_then(|made| set_mode(&made, *mode)).map_err(|error| named(path, error))?;
        }
        Ok(())
    }

    /// Looks once more, behind a person's answer, whether somebody has changed what is to be replaced or removed.
    fn unchanged(&self, from: &OwnedFd, to: &OwnedFd, changes: &[Change]) -> io::Result<()> {
        for change in changes.iter().filter(|change| change.refused.is_none()) {
            let stat = stat_of(from, &change.path).ok();
            if let Some((_, words)) = self.meanwhile(to, &change.path, stat.as_ref()) {
                return Err(io::Error::other(format!("{} {words}; nothing was changed", change.path.display())));
            }
        }
        Ok(())
    }

    /// Looks before anything is changed whether each change has a directory to go to.
    fn possible(&self, to: &OwnedFd, changes: &[Change]) -> io::Result<()> {
        let made: BTreeSet<&Path> = changes
            .iter()
            .filter(|change| change.refused.is_none() && change.kind != ChangeKind::Removed)
            .map(|change| change.path.as_path())
            .collect();
        let mut fine: BTreeSet<&Path> = BTreeSet::new();
        for path in &made {
            let mut above: Vec<&Path> = path.ancestors().skip(1).filter(|above| !above.as_os_str().is_empty()).collect();
            above.reverse();
            for above in above {
                if fine.contains(above) {
                    continue;
                }
                match stat_of(to, above) {
                    Ok(stat) if is_directory(&stat) => _ = fine.insert(above),
                    Ok(_) if made.contains(above) => break,
                    Err(error) if error.kind() == io::ErrorKind::NotFound => break,
                    Ok(_) => {
                        let words = format!("{}: {} is no directory any more; nothing was changed", path.display(), above.display());
                        return Err(io::Error::new(io::ErrorKind::NotADirectory, words));
                    }
                    Err(error) => return Err(io::Error::new(error.kind(), format!("{}: {error}; nothing was changed", path.display()))),
                }
            }
        }
        Ok(())
    }

    fn apply_one(
        &self,
        transfer: &Transfer,
        from: &OwnedFd,
        to: &OwnedFd,
        path: &Path,
        modes: &mut Vec<(PathBuf, Mode)>,
    ) -> io::Result<()> {
        let (above, name) = (path.parent().unwrap_or(Path::new("")), Path::new(path.file_name().unwrap_or_default()));
        let source = open_beneath(from, above, OFlags::RDONLY | OFlags::DIRECTORY)?;
        make_dirs(to.as_fd(), above, rustix::process::geteuid().is_root().then_some(self.copied.owner))?;
        let stat = rustix::fs::statat(&source, name, AtFlags::SYMLINK_NOFOLLOW)?;
        in_directory(to.as_fd(), above, |target| match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                if transfer.target_directory(target.as_fd(), name)?.1 {
                    modes.push((path.to_owned(), Mode::from_raw_mode(stat.st_mode & 0o777)));
                }
                Ok(())
            }
            FileType::Symlink => transfer.link(source.as_fd(), target.as_fd(), name),
            _ => {
                open_up(&source, name)?;
                transfer.file(source.as_fd(), target.as_fd(), name, &stat)
            }
        })
    }

    /// Whether the box has made or changed the entry.
    fn touched(&self, from: &OwnedFd, to: &OwnedFd, path: &Path) -> io::Result<Option<(ChangeKind, Stat)>> {
        let stat = stat_of(from, path)?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        let known = self.copied.known.contains_key(path);
        if self.copied.known.get(path) == Some(&kind) && (kind == FileType::Directory || changed_at(&stat) <= self.copied.made) {
            return Ok(None);
        }
        let there = stat_of(to, path).ok();
        let same = there.is_some_and(|there| {
            there.st_mode & 0o177_111 == stat.st_mode & 0o177_111 && (kind == FileType::Directory || same_content(from, to, path, kind))
        });
        Ok((!same).then_some((if known { ChangeKind::Changed } else { ChangeKind::Added }, stat)))
    }

    /// The rule by which the path, or what it is below, runs code, with the path of all that is refused together.
    fn protected(&self, path: &Path, stat: Option<&Stat>, bare: &BTreeSet<PathBuf>) -> Option<(&'static str, PathBuf)> {
        let text = path.to_string_lossy();
        if let Some((rule, above)) = protected::rule_over(&text)
            && !approves(&self.approved, above)
        {
            return Some((rule, PathBuf::from(above)));
        }
        let is_link = stat.is_some_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Symlink);
        let begins = protected::begins_at(&text).filter(|entry| is_link && !names_it(&self.approved, entry));
        if let Some(entry) = begins {
            return Some((entry.rule, path.to_owned()));
        }
        let held = |above: &Path| {
            let by = self.before.protected.get(above).copied().or_else(|| self.before.led.get(above).map(|(rule, _)| *rule));
            by.or_else(|| self.before.symlinks.get(above).map(|link| link.rule)).or_else(|| bare.contains(above).then_some(BARE_RULE))
        };
        let mut above = path.ancestors().filter(|above| !above.as_os_str().is_empty());
        if let Some(found) = above.find_map(|above| Some((held(above)?, above.to_owned()))) {
            return Some(found);
        }
        let first = path.iter().next()?;
        let mark = bare.contains(Path::new("")) && ROOT_MARKS.iter().any(|name| first.eq_ignore_ascii_case(name));
        mark.then(|| (BARE_RULE, PathBuf::from(first)))
    }

    /// The rule against a change of what runs no code. `stat` is of what the box left there.
    fn refusal(&self, from: &OwnedFd, path: &Path, stat: Option<&Stat>) -> Option<Refusal> {
        let text = path.to_string_lossy();
        if self.scope.as_ref().is_some_and(|scope| !scope.allows(&text)) && stat.is_none_or(|stat| !is_directory(stat)) {
            return Some(("scope", "is not among what --write and the policy let be written".to_owned()));
        }
        if self.except.allows(&text) {
            return Some(("write.deny", "is not to be written, says the policy".to_owned()));
        }
        let hidden = self.before.hidden.iter().any(|hidden| path.starts_with(hidden) || (stat.is_none() && hidden.starts_with(path)));
        let matches = |scope: &Option<Scope>| scope.as_ref().is_some_and(|scope| scope.allows(&text));
        if hidden || (matches(&self.hide) && stat.is_none_or(|stat| !is_directory(stat))) {
            return Some(("masked", "is, or holds, a file that the box does not see".to_owned()));
        }
        let stat = stat?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let secret = protected::secrecy(&name) == Some(protected::Secrecy::Secret);
        if secret && !is_directory(stat) && !matches(&self.show) {
            return Some(("masked", "has the name of a file for secrets, which the box does not see".to_owned()));
        }
        if stat.st_mode & 0o6000 != 0 && !is_directory(stat) {
            return Some(("set-id", "has a set-id bit".to_owned()));
        }
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory | FileType::RegularFile => None,
            FileType::Symlink => {
                let target = open_beneath(from, path.parent().unwrap_or(Path::new("")), OFlags::PATH | OFlags::DIRECTORY)
                    .and_then(|parent| rustix::fs::readlinkat(&parent, Path::new(path.file_name().unwrap_or_default()), Vec::new()));
                let leaves = target.is_ok_and(|target| leaves_tree(path, Path::new(OsStr::from_bytes(target.to_bytes()))));
                leaves.then(|| ("link-leaves-tree", "is a symbolic link that leads out of the directory".to_owned()))
            }
            _ => Some(("special-file", "is no ordinary file, directory or link".to_owned())),
        }
    }

    /// Somebody changed the same path in the directory since the copy was made, or it was left out of the copy.
    fn meanwhile(&self, to: &OwnedFd, path: &Path, stat: Option<&Stat>) -> Option<Refusal> {
        let there = stat_of(to, path).ok()?;
        let theirs = !is_directory(&there) && changed_at(&there) > self.copied.made;
        if theirs {
            return Some(("changed-meanwhile", "was changed in the directory too since the command began".to_owned()));
        }
        let both = is_directory(&there) && stat.is_some_and(is_directory);
        let unknown = !both && !self.copied.known.contains_key(path);
        unknown.then(|| ("changed-meanwhile", "is in the directory under the same name, but was not in the copy".to_owned()))
    }
}

/// Whether everything below a directory is among the changes that remove and are not refused.
fn all_go(to: &OwnedFd, path: &Path, changes: &BTreeMap<PathBuf, Change>) -> bool {
    let Ok(opened) = open_beneath(to, path, OFlags::RDONLY | OFlags::DIRECTORY) else { return true };
    let Ok(entries) = Dir::read_from(&opened) else { return false };
    let names: Vec<PathBuf> = entries.flatten().map(|entry| PathBuf::from(OsStr::from_bytes(entry.file_name().to_bytes()))).collect();
    names.iter().filter(|name| **name != Path::new(".") && **name != Path::new("..")).all(|name| {
        let below = path.join(name);
        let goes = changes.get(&below).is_some_and(|change| change.kind == ChangeKind::Removed && change.refused.is_none());
        goes && (!stat_of(to, &below).is_ok_and(|stat| is_directory(&stat)) || all_go(to, &below, changes))
    })
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
