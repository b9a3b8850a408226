//! Newtype ids. Uuid ids are version 7, so they sort by the time at which they were made.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

use crate::clock::{Clock, Entropy};

/// An id or a name that does not have the form it must have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} {text:?} {problem}")]
pub struct BadId {
    /// What kind of id was expected, for example `task id`.
    pub what: &'static str,
    /// The text that was given, cut to 80 characters.
    pub text: String,
    /// What is wrong with it.
    pub problem: &'static str,
}

impl BadId {
    fn new(what: &'static str, text: &str, problem: &'static str) -> Self {
        Self { what, text: text.chars().take(80).collect(), problem }
    }
}

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(uuid::Uuid);

        impl $name {
            /// Makes a new id from the given clock and random source.
            pub fn new(clock: &dyn Clock, entropy: &dyn Entropy) -> Self {
                Self(crate::clock::uuid_v7(clock, entropy))
            }

            /// Returns the first eight hexadecimal digits of the random part: for people, never a key.
            pub fn short(&self) -> String {
                let text = self.0.simple().to_string();
                text[24..].to_owned()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.hyphenated().fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0.hyphenated())
            }
        }

        impl FromStr for $name {
            type Err = BadId;
            fn from_str(text: &str) -> Result<Self, BadId> {
                uuid::Uuid::parse_str(text).map(Self).map_err(|_| BadId::new($what, text, "is not a UUID"))
            }
        }
    };
}

uuid_id!(
    /// A git repository that we know.
    ProjectId, "project id"
);
uuid_id!(
    /// One execution of a goal.
    RunId, "run id"
);
uuid_id!(
    /// A unit of work. The `id` that a person wrote in a tasks file is the task's *key*.
    TaskId, "task id"
);
uuid_id!(
    /// One life of an agent's name: mail and control are addressed to it.
    IncarnationId, "incarnation id"
);
uuid_id!(
    /// A submitted commit that waits to land.
    ChangeId, "change id"
);
uuid_id!(
    /// One piece of mail.
    MailId, "mail id"
);
uuid_id!(
    /// One reservation of tokens and money for a model request.
    SpendId, "spend id"
);
uuid_id!(
    /// One question to a person about what a rule of policy asks.
    AskId, "question"
);

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, $what:literal, $check:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// Checks the text and wraps it.
            ///
            /// # Errors
            /// [`BadId`] says what is wrong with the text.
            pub fn new(text: impl Into<String>) -> Result<Self, BadId> {
                let text = text.into();
                let check: fn(&str) -> Option<&'static str> = $check;
                match check(&text) {
                    Some(problem) => Err(BadId::new($what, &text, problem)),
                    None => Ok(Self(text)),
                }
            }

            /// Returns the text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = BadId;
            fn try_from(text: String) -> Result<Self, BadId> {
                Self::new(text)
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.0
            }
        }

        impl FromStr for $name {
            type Err = BadId;
            fn from_str(text: &str) -> Result<Self, BadId> {
                Self::new(text)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

fn check_name(text: &str) -> Option<&'static str> {
    let ok = |c: char| c.is_ascii_lowercase() || c.is_ascii_uppercase() || c.is_ascii_digit() || matches!(c, '-' | '_' | '.');
    if text.is_empty() || text.len() > 64 {
        Some("must have 1 to 64 characters")
    } else if !text.chars().all(ok) {
        Some("may hold only letters, digits, `-`, `_` and `.`")
    } else if !text.starts_with(|c: char| c.is_ascii_alphanumeric())
        || text.ends_with('.')
        || text.contains("..")
        || text.ends_with(".lock")
    {
        Some("must start with a letter or digit and be usable in a git ref name")
    } else {
        None
    }
}

fn check_object(text: &str) -> Option<&'static str> {
    let hex = text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    (!hex || !(text.len() == 40 || text.len() == 64)).then_some("is not a git object id of 40 or 64 lower-case hexadecimal digits")
}

fn check_ref(text: &str) -> Option<&'static str> {
    let bad = |c: char| c.is_ascii_control() || matches!(c, ' ' | '~' | '^' | ':' | '?' | '*' | '[' | '\\' | '\u{7f}');
    if !text.starts_with("refs/") || text.len() > 250 {
        Some("must start with `refs/` and have at most 250 bytes")
    } else if text.chars().any(bad)
        || text.contains("..")
        || text.contains("@{")
        || text.contains("//")
        || text.ends_with('/')
        || text.ends_with('.')
    {
        Some("is not a full git ref name")
    } else if text.split('/').any(|part| part.starts_with('.') || part.ends_with(".lock")) {
        Some("has a part that git refuses")
    } else {
        None
    }
}

fn check_blob(text: &str) -> Option<&'static str> {
    (text.len() != 64 || check_object(text).is_some()).then_some("is not a SHA-256 of 64 lower-case hexadecimal digits")
}

text_id!(
    /// The name of an agent. It persists; who answers to it now is an [`IncarnationId`].
    AgentName, "agent name", check_name
);
text_id!(
    /// The `id` that a person gave a task in a tasks file; unique within its run.
    TaskKey, "task id", check_name
);
text_id!(
    /// The id of a git commit.
    CommitId, "commit id", check_object
);
text_id!(
    /// The id of a git tree.
    TreeId, "tree id", check_object
);
text_id!(
    /// A full git ref name (`refs/...`).
    RefName, "ref name", check_ref
);
text_id!(
    /// A content-addressed blob in the store: the SHA-256 of its bytes.
    BlobId, "blob id", check_blob
);
text_id!(
    /// A conversation of a runtime, named by that runtime.
    SessionId, "session id", |text| (text.is_empty() || text.len() > 200 || text.chars().any(char::is_control)).then_some("must have 1 to 200 printable characters")
);

impl BlobId {
    /// Returns the id of the given bytes.
    pub fn of(bytes: &[u8]) -> Self {
        use sha2::Digest;
        use std::fmt::Write;
        let mut text = String::with_capacity(64);
        for byte in sha2::Sha256::digest(bytes) {
            // Writing to a String cannot fail.
            let _ = write!(text, "{byte:02x}");
        }
        Self(text)
    }
}
