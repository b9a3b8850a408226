//! What the person has told git: who they are and whether their commits are signed.

use std::ffi::OsString;

use crate::commit::Identity;

/// The part of the person's environment that git needs to act as they do: `HOME`, and where set `XDG_CONFIG_HOME`, `GNUPGHOME`,
/// `SSH_AUTH_SOCK`, `GPG_TTY`. Given by the caller; nothing here reads the environment.
#[derive(Clone, Debug, Default)]
pub struct PersonEnv(pub Vec<(OsString, OsString)>);

/// How the person's commits are signed.
#[derive(Clone, Debug)]
pub struct Signing {
    /// `user.signingkey` and everything under `gpg.`.
    pub(crate) settings: Vec<(String, String)>,
    pub(crate) person: PersonEnv,
}

impl Signing {
    /// Returns `openpgp`, `ssh` or `x509`.
    pub fn format(&self) -> &str {
        self.get("gpg.format").unwrap_or("openpgp")
    }

    /// Returns the configured key, if one is named.
    pub fn key(&self) -> Option<&str> {
        self.get("user.signingkey")
    }

    fn get(&self, key: &str) -> Option<&str> {
        self.settings.iter().rev().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }
}

/// The pattern of the settings that [`read`] understands.
pub(crate) const PATTERN: &str = r"^(user\.(name|email|signingkey)|committer\.(name|email)|commit\.gpgsign|gpg\..*)$";

/// Reads the answer of `git config -z --get-regexp`.
pub(crate) fn read(answer: &[u8], person: &PersonEnv) -> (Option<Identity>, Option<Signing>) {
    let entries: Vec<(String, String)> = answer
        .split(|byte| *byte == 0)
        .filter(|entry| !entry.is_empty())
        .map(|entry| {
            let text = String::from_utf8_lossy(entry);
            // A key without a value is a true boolean.
            let (key, value) = text.split_once('\n').unwrap_or((&text, "true"));
            (key.to_owned(), value.to_owned())
        })
        .collect();
    let get = |key: &str| entries.iter().rev().find(|(name, _)| name == key).map(|(_, value)| value.as_str());
    let name = get("committer.name").or_else(|| get("user.name"));
    let email = get("committer.email").or_else(|| get("user.email"));
    let identity = name.zip(email).and_then(|(name, email)| Identity::new(name, email).ok());
    let signs = get("commit.gpgsign").is_some_and(|value| matches!(value.to_ascii_lowercase().as_str(), "true" | "yes" | "on" | "1"));
    let settings = entries.iter().filter(|(key, _)| key == "user.signingkey" || key.starts_with("gpg.")).cloned().collect();
    (identity, signs.then(|| Signing { settings, person: person.clone() }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_value_counts_and_signing_must_be_asked_for() {
        let text = b"user.name\nA\0user.email\na@b\0user.name\nB\0user.signingkey\nK\0gpg.format\nssh\0";
        let (identity, signing) = read(text, &PersonEnv::default());
        assert_eq!(identity, Some(Identity::new("B", "a@b").unwrap()));
        assert!(signing.is_none());
        let (_, signing) = read(&[text.as_slice(), b"commit.gpgsign\0"].concat(), &PersonEnv::default());
        let signing = signing.unwrap();
        assert_eq!((signing.format(), signing.key()), ("ssh", Some("K")));
        assert_eq!(read(b"", &PersonEnv::default()).0, None);
    }
}
