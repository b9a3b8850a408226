//! What a change touches: exact paths, modes and kinds, for the scope check.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use aedile_core::CommitId;

use crate::error::GitError;
use crate::hub::Hub;
use crate::objects;

/// What an entry of a tree is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EntryMode {
    /// Nothing there.
    Absent,
    /// An ordinary file.
    File,
    /// A file that may be executed.
    Executable,
    /// A symbolic link.
    Link,
    /// A commit of another repository (submodule).
    Gitlink,
    /// Anything else, with its octal mode: a change never holds one.
    Odd(u32),
}

impl EntryMode {
    fn parse(text: &str) -> Option<Self> {
        Some(match u32::from_str_radix(text, 8).ok()? {
            0 => Self::Absent,
            0o100_644 => Self::File,
            0o100_755 => Self::Executable,
            0o120_000 => Self::Link,
            0o160_000 => Self::Gitlink,
            other => Self::Odd(other),
        })
    }
}

/// One path that differs between two commits.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PathChange {
    /// The path relative to the root, in its exact bytes.
    pub path: PathBuf,
    /// What was there.
    pub old_mode: EntryMode,
    /// What is there.
    pub new_mode: EntryMode,
    /// The object that was there (all zeros: none).
    pub old_id: String,
    /// The object that is there (all zeros: none).
    pub new_id: String,
    /// git's letter: `A` added, `D` deleted, `M` modified, `T` another kind.
    pub status: char,
}

/// Something in a change that must never land, whatever its scope.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{} {problem}", path.display())]
pub struct PathProblem {
    /// The path.
    pub path: PathBuf,
    /// What is wrong with it.
    pub problem: String,
}

impl Hub {
    /// Lists the paths that differ between two commits, renames as a deletion and an addition. One process.
    ///
    /// # Errors
    /// [`GitError`] when a commit is missing.
    pub fn diff_paths(&self, base: &CommitId, commit: &CommitId) -> Result<Vec<PathChange>, GitError> {
        let answer = self
            .call("diff-tree")
            .reading()
            .args([
                "-r",
                "-z",
                "--raw",
                "--no-renames",
                "--no-abbrev",
                "--no-ext-diff",
                "--no-textconv",
                base.as_str(),
                commit.as_str(),
                "--",
            ])
            .output()?;
        let mut fields = answer.stdout.split(|byte| *byte == 0);
        let mut changes = Vec::new();
        while let Some(head) = fields.next().filter(|field| !field.is_empty()) {
            let path = PathBuf::from(OsString::from_vec(fields.next().unwrap_or_default().to_vec()));
            let head = String::from_utf8_lossy(head);
            let change = parse_change(&head, path);
            changes.push(change.ok_or_else(|| GitError::Unreadable { command: "diff-tree".to_owned(), what: head.into_owned() })?);
        }
        Ok(changes)
    }

    /// Names everything among the changes that must never land: submodules, odd modes, names that git or a file system could take for
    /// `.git`, names that are no text, links that leave the tree. One process, none when no link is new.
    ///
    /// # Errors
    /// [`GitError`] when git fails.
    pub fn path_problems(&self, changes: &[PathChange]) -> Result<Vec<PathProblem>, GitError> {
        let links: Vec<&PathChange> = changes.iter().filter(|change| change.new_mode == EntryMode::Link).collect();
        let targets = objects::batch(self.call("cat-file"), &links.iter().map(|change| change.new_id.clone()).collect::<Vec<_>>())?;
        let of_links = links.iter().zip(targets).filter_map(|(change, target)| {
            let target = target.map(|(_, bytes)| bytes).unwrap_or_default();
            Some((*change, link_problem(&change.path, &target)?))
        });
        let of_names = changes.iter().filter_map(|change| Some((change, name_problem(change)?)));
        Ok(of_names.chain(of_links).map(|(change, problem)| PathProblem { path: change.path.clone(), problem }).collect())
    }
}

/// Reads `:<mode> <mode> <object> <object> <status>`.
fn parse_change(head: &str, path: PathBuf) -> Option<PathChange> {
    let mut words = head.strip_prefix(':')?.split(' ');
    let (old_mode, new_mode) = (EntryMode::parse(words.next()?)?, EntryMode::parse(words.next()?)?);
    let (old_id, new_id) = (words.next()?.to_owned(), words.next()?.to_owned());
    let status = words.next()?.chars().next()?;
    Some(PathChange { path, old_mode, new_mode, old_id, new_id, status })
}

fn name_problem(change: &PathChange) -> Option<String> {
    if change.new_mode == EntryMode::Absent {
        return None;
    }
    let path = change.path.as_os_str().as_bytes();
    if path.split(|byte| *byte == b'/').any(is_git_name) {
        return Some("has a part that git or a file system could take for `.git`".to_owned());
    }
    match change.new_mode {
        EntryMode::Gitlink => Some("is a submodule; a change may not add or move one".to_owned()),
        EntryMode::Odd(mode) => Some(format!("has the mode {mode:o}, which no file of a project has")),
        _ if std::str::from_utf8(path).is_err() => Some("has a name that is not UTF-8".to_owned()),
        _ if path.iter().any(u8::is_ascii_control) => Some("has a control character in its name".to_owned()),
        _ => None,
    }
}

/// `.git`, `..`, and what case folding, NTFS (`git~1`, `.git::$INDEX_ALLOCATION`, `.git.`, `\`) or HFS+ (ignored code points) make of it.
fn is_git_name(part: &[u8]) -> bool {
    const IGNORED: [char; 17] = [
        '\u{200c}', '\u{200d}', '\u{200e}', '\u{200f}', '\u{202a}', '\u{202b}', '\u{202c}', '\u{202d}', '\u{202e}', '\u{206a}', '\u{206b}',
        '\u{206c}', '\u{206d}', '\u{206e}', '\u{206f}', '\u{feff}', '\u{ad}',
    ];
    let text: String = String::from_utf8_lossy(part).chars().filter(|c| !IGNORED.contains(c)).collect::<String>().to_ascii_lowercase();
    text.split('\\').any(|piece| {
        let plain = piece.split(':').next().unwrap_or("").trim_end_matches(['.', ' ']);
        matches!(plain, ".git" | "git~1") || piece == ".." || piece == "."
    }) || part.is_empty()
}

/// Whether a link at `path` could lead out of the tree, or into its `.git`.
fn link_problem(path: &Path, target: &[u8]) -> Option<String> {
    let shown = || String::from_utf8_lossy(target).chars().take(100).collect::<String>();
    if target.first().is_none_or(|byte| *byte == b'/') {
        return Some(format!("is a link to {:?}, which is outside the project", shown()));
    }
    let mut above = path.components().count() - 1;
    let mut gone_down = false;
    for part in target.split(|byte| *byte == b'/').filter(|part| !part.is_empty() && *part != b".") {
        if part == b".." {
            if above == 0 {
                return Some(format!("is a link to {:?}, which is outside the project", shown()));
            }
            // Below a name there may be another link, so only the first parts may go up.
            if gone_down {
                return Some(format!("is a link to {:?}, which goes down and up again; write it without that", shown()));
            }
            above -= 1;
        } else if is_git_name(part) {
            return Some(format!("is a link to {:?}, which is in `.git`", shown()));
        } else {
            gone_down = true;
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_could_be_git_are_found() {
        for bad in
            [".git", ".GIT", ".gIt", "git~1", "GIT~1", ".git.", ".git ", ".git::$INDEX_ALLOCATION", ".g\u{200c}it", "a\\.git", "..", ""]
        {
            assert!(is_git_name(bad.as_bytes()), "{bad:?}");
        }
        for good in [".gitignore", ".gitattributes", ".github", "git", "git~2", "a.git", ".gitx"] {
            assert!(!is_git_name(good.as_bytes()), "{good:?}");
        }
    }

    #[test]
    fn links_may_not_leave_the_tree() {
        for (at, target) in [
            ("a", "/etc/passwd"),
            ("a", "../x"),
            ("d/a", "../../x"),
            ("d/a", "../.git/config"),
            ("a", ".GIT"),
            ("a", ""),
            ("p/q/a", "l/../etc"),
        ] {
            assert!(link_problem(Path::new(at), target.as_bytes()).is_some(), "{at} -> {target}");
        }
        for (at, target) in [("a", "b"), ("d/a", "../b"), ("d/e/a", "../../b/./c")] {
            assert!(link_problem(Path::new(at), target.as_bytes()).is_none(), "{at} -> {target}");
        }
    }
}
