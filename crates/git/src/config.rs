//! The person's configuration of git's own merges: read and written as they would, by git.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use crate::error::GitError;
use crate::person::PersonEnv;
use crate::project::discovery_error;
use crate::run::{Call, Git};

/// A file of settings that git can be told to write.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ConfigPlace {
    /// The repository's, which all its worktrees share.
    Repository,
    /// The person's, for all their repositories.
    Global,
}

impl ConfigPlace {
    /// What git calls the scope: `local` or `global`.
    #[must_use]
    pub fn scope(self) -> &'static str {
        match self {
            Self::Repository => "local",
            Self::Global => "global",
        }
    }
}

/// A setting that counts in a directory.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConfigEntry {
    /// What git calls its scope: `system`, `global`, `local`, `worktree` or `command`.
    pub scope: String,
    /// The file, as git names it.
    pub file: String,
    /// Its name; section and last part in lower case.
    pub key: String,
    /// Its value; git has removed quotes and escapes.
    pub value: OsString,
}

/// The settings that git reads in a directory. Outside of a repository there are those of the system and the person.
#[derive(Clone, Debug)]
pub struct Config {
    git: Git,
    dir: PathBuf,
    person: PersonEnv,
}

impl Config {
    /// The settings as `dir` (absolute) sees them.
    #[must_use]
    pub fn of(git: &Git, dir: &Path, person: &PersonEnv) -> Self {
        Self { git: git.clone(), dir: dir.to_owned(), person: person.clone() }
    }

    /// Returns the settings whose name matches the extended regular expression, in the order in which git reads them: a later one wins.
    ///
    /// # Errors
    /// [`GitError`] when a file cannot be read.
    pub fn entries(&self, pattern: &str) -> Result<Vec<ConfigEntry>, GitError> {
        let answer = self
            .call()
            .reading()
            .args(["-z", "--includes", "--show-scope", "--show-origin", "--get-regexp", pattern])
            .accept(1)
            .output()?;
        let unreadable =
            || GitError::Unreadable { command: "config".to_owned(), what: "scope, origin, name and value were expected".to_owned() };
        let mut fields = answer.stdout.split(|byte| *byte == 0).filter(|field| !field.is_empty());
        let text = |field: &[u8]| String::from_utf8_lossy(field).into_owned();
        let mut entries = Vec::new();
        while let Some(scope) = fields.next() {
            let (origin, entry) = (fields.next().ok_or_else(unreadable)?, fields.next().ok_or_else(unreadable)?);
            let end = entry.iter().position(|byte| *byte == b'\n').unwrap_or(entry.len());
            let value = OsString::from_vec(entry.get(end + 1..).unwrap_or_default().to_vec());
            let file = text(origin).trim_start_matches("file:").to_owned();
            entries.push(ConfigEntry { scope: text(scope), file, key: text(&entry[..end]), value });
        }
        Ok(entries)
    }

    /// Sets one value in the place's file, instead of all that it has under this name.
    ///
    /// # Errors
    /// [`GitError::NotARepository`], or that the file cannot be written.
    pub fn set(&self, place: ConfigPlace, key: &str, value: &OsStr) -> Result<(), GitError> {
        self.written(self.at(place).args(["--replace-all", key]).arg(value))
    }

    /// Removes all values of this name from the place's file. Harmless when there is none.
    ///
    /// # Errors
    /// [`GitError::NotARepository`], or that the file cannot be written.
    pub fn unset(&self, place: ConfigPlace, key: &str) -> Result<(), GitError> {
        // 5: there is no such value.
        self.written(self.at(place).args(["--unset-all", key]).accept(5))
    }

    fn at(&self, place: ConfigPlace) -> Call {
        self.call().arg(format!("--{}", place.scope()))
    }

    fn written(&self, call: Call) -> Result<(), GitError> {
        match call.output() {
            Ok(answer) if matches!(answer.code, 0 | 5) => Ok(()),
            Ok(answer) => Err(GitError::Unreadable { command: "config".to_owned(), what: format!("it ended with {}", answer.code) }),
            Err(GitError::Failed { stderr, .. }) if stderr.contains("only be used inside a git repository") => {
                Err(GitError::NotARepository { path: self.dir.clone() })
            }
            Err(error) => Err(discovery_error(error, &self.dir)),
        }
    }

    fn call(&self) -> Call {
        self.git.call(&self.dir, "config").speaking_as(&self.person.0)
    }
}
