//! Ignore rules as the target's commit has them, whatever an agent wrote since.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use aedile_core::CommitId;
use ignore::Match;
use ignore::gitignore::{Gitignore, GitignoreBuilder};

use crate::error::GitError;
use crate::hub::Hub;
use crate::objects;

/// What a snapshot leaves out, and what it takes although a rule says otherwise: tracked files.
pub(crate) struct Rules {
    /// Ours: build directories and overlay files. They win.
    hidden: Gitignore,
    /// The target's, the deepest directory first.
    theirs: Vec<(PathBuf, Gitignore)>,
    /// Paths that the base commit tracks.
    tracked: BTreeSet<Vec<u8>>,
}

impl Rules {
    /// Reads the rules of a commit. Two processes.
    pub(crate) fn read(hub: &Hub, base: &CommitId, hidden: &[String]) -> Result<Self, GitError> {
        let listed = hub.call("ls-tree").reading().args(["-r", "-z", base.as_str()]).output()?;
        let (mut tracked, mut sources) = (BTreeSet::new(), Vec::new());
        for entry in listed.stdout.split(|byte| *byte == 0).filter(|entry| !entry.is_empty()) {
            // `<mode> <type> <object>\t<path>`
            let Some(tab) = entry.iter().position(|byte| *byte == b'\t') else { continue };
            let (head, path) = (String::from_utf8_lossy(&entry[..tab]).into_owned(), entry[tab + 1..].to_vec());
            if head.starts_with("160000") {
                continue;
            }
            let name = path.rsplit(|byte| *byte == b'/').next();
            if name == Some(b".gitignore") && head.starts_with("100") {
                let dir = path.len().saturating_sub(b"/.gitignore".len());
                sources.push((
                    PathBuf::from(OsString::from_vec(path[..dir].to_vec())),
                    head.rsplit(' ').next().unwrap_or_default().to_owned(),
                ));
            }
            tracked.insert(path);
        }
        sources.sort_by_key(|(dir, _)| std::cmp::Reverse(dir.components().count()));
        let texts = objects::batch(hub.call("cat-file"), &sources.iter().map(|(_, id)| id.clone()).collect::<Vec<_>>())?;
        let theirs = sources.into_iter().zip(texts).map(|((dir, _), object)| {
            let text = object.map(|(_, bytes)| bytes).unwrap_or_default();
            (dir, compile(&String::from_utf8_lossy(&text)))
        });
        Ok(Self { hidden: compile(&hidden.join("\n")), theirs: theirs.collect(), tracked })
    }

    /// Returns the tracked paths.
    pub(crate) fn tracked(&self) -> &BTreeSet<Vec<u8>> {
        &self.tracked
    }

    /// Whether an entry and all below it is ignored. The parents of the entry are not.
    pub(crate) fn ignores(&self, path: &Path, is_dir: bool) -> bool {
        if self.hidden.matched(path, is_dir).is_ignore() {
            return true;
        }
        for (dir, rules) in &self.theirs {
            let Ok(below) = path.strip_prefix(dir) else { continue };
            match rules.matched(below, is_dir) {
                Match::None => {}
                Match::Ignore(_) => return true,
                Match::Whitelist(_) => return false,
            }
        }
        false
    }

    /// Whether the base tracks the file, or anything below the directory.
    pub(crate) fn tracks(&self, path: &Path, is_dir: bool) -> bool {
        let mut bytes = path.as_os_str().as_bytes().to_vec();
        if !is_dir {
            return self.tracked.contains(&bytes);
        }
        bytes.push(b'/');
        self.tracked.range(bytes.clone()..).next().is_some_and(|next| next.starts_with(&bytes))
    }
}

/// A line that cannot be understood ignores nothing, as in git.
fn compile(text: &str) -> Gitignore {
    let mut builder = GitignoreBuilder::new("");
    for line in text.trim_start_matches('\u{feff}').lines() {
        let _ = builder.add_line(None, line);
    }
    builder.build().unwrap_or_else(|_| Gitignore::empty())
}
