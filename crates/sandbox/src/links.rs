//! Where symbolic links and settings in a tree lead to, without leaving it.

use crate::beneath::open_beneath;
use rustix::fs::OFlags;
use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

/// Links that are followed on one way, as the kernel has it.
const LINKS_MAX: usize = 40;

/// A way through the tree. Paths are relative to it.
#[derive(Debug, Default)]
pub(crate) struct Way {
    /// The links on it with their targets, the first one first.
    pub(crate) links: Vec<(PathBuf, PathBuf)>,
    /// Where it ends, which need not exist; `None` outside of the tree.
    pub(crate) end: Option<PathBuf>,
}

/// Follows `path`, which is relative to the tree or absolute, through every link in the tree.
pub(crate) fn follow(tree: BorrowedFd<'_>, path: &Path) -> Way {
    let mut way = Way::default();
    let Some((mut here, mut parts)) = start(tree, PathBuf::new(), path) else { return way };
    while let Some(part) = parts.pop_front() {
        if part == ".." {
            if !here.pop() {
                return way;
            }
            continue;
        }
        let above = open_beneath(tree, &here, OFlags::PATH | OFlags::DIRECTORY);
        let target = above.and_then(|above| rustix::fs::readlinkat(&above, Path::new(&part), Vec::new()));
        let Ok(target) = target else {
            here.push(part);
            continue;
        };
        let target = PathBuf::from(OsStr::from_bytes(target.to_bytes()));
        way.links.push((here.join(part), target.clone()));
        let next = start(tree, here, &target).filter(|_| way.links.len() <= LINKS_MAX);
        let Some((place, mut more)) = next else { return way };
        more.append(&mut parts);
        (here, parts) = (place, more);
    }
    way.end = Some(here);
    way
}

/// From where and by which parts a path is followed; nothing when it begins outside of the tree.
fn start(tree: BorrowedFd<'_>, here: PathBuf, path: &Path) -> Option<(PathBuf, VecDeque<OsString>)> {
    let (here, path) = if path.is_absolute() {
        let root = std::fs::read_link(format!("/proc/self/fd/{}", tree.as_raw_fd())).ok()?;
        (PathBuf::new(), path.strip_prefix(root).ok()?)
    } else {
        (here, path)
    };
    let parts = path.components().filter_map(|part| match part {
        Component::Normal(part) => Some(part.to_owned()),
        Component::ParentDir => Some(OsString::from("..")),
        _ => None,
    });
    Some((here, parts.collect()))
}

/// A setting of git's that makes it run or obey what lies at a path.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Setting {
    /// `core.hooksPath`: from the working tree's root.
    Hooks(String),
    /// `include.path` and `includeIf.*.path`: from the file's directory.
    Include(String),
}

/// The settings of a git configuration file that name further places.
pub(crate) fn settings(text: &str) -> Vec<Setting> {
    let mut section = String::new();
    let mut found = Vec::new();
    for line in text.lines() {
        let mut line = line.trim();
        if let Some(rest) = line.strip_prefix('[') {
            let Some((head, after)) = rest.rsplit_once(']') else { continue };
            section = head.split([' ', '\t', '.', '"']).next().unwrap_or_default().to_ascii_lowercase();
            line = after.trim();
        }
        let Some((key, value)) = line.split_once('=') else { continue };
        let value = plain(value.trim());
        match (section.as_str(), key.trim().to_ascii_lowercase().as_str()) {
            ("core", "hookspath") => found.push(Setting::Hooks(value)),
            ("include" | "includeif", "path") => found.push(Setting::Include(value)),
            _ => {}
        }
    }
    found
}

/// A value without its quotes, escapes and comment.
fn plain(value: &str) -> String {
    let (mut quoted, mut plain, mut chars) = (false, String::new(), value.chars());
    while let Some(c) = chars.next() {
        match c {
            '"' => quoted = !quoted,
            '\\' => plain.extend(chars.next()),
            '#' | ';' if !quoted => break,
            c => plain.push(c),
        }
    }
    plain.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_name_places_are_read_as_git_reads_them() {
        let text = "[core]\n\tbare = false\n\tHooksPath = \"my hooks\" # all\n[include]\npath=../a ; b\n[includeIf \"gitdir:~/x\"] path = b\n[user]\npath = c\n";
        let want = [Setting::Hooks("my hooks".into()), Setting::Include("../a".into()), Setting::Include("b".into())];
        assert_eq!(settings(text), want);
    }
}
