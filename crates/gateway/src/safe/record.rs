//! One secret of the vault: what is known of it, and what is sealed.

use std::fmt;

use aedile_core::{ExposeSecret, SecretString};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{OAuth, VALUE_BYTES_MAX};
use crate::policy::{BadFile, SecretRule};

/// Parts of a command.
const ARGUMENTS_MAX: usize = 64;

/// Where a secret may go, as a person says it; see the secrets file (docs/policy.md).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Binding {
    /// The hosts; none: nowhere.
    pub hosts: Vec<String>,
    /// The methods; none: all.
    pub methods: Vec<String>,
    /// The paths; none: all.
    pub paths: Vec<String>,
    /// Where it stands; absent: as a bearer token.
    pub place: Option<String>,
    /// The roles of agents that may use it; none: all.
    pub roles: Vec<String>,
    /// The variable in which a box finds the placeholder.
    pub env: Option<String>,
    /// What stands for it; absent: `aedile-secret-NAME`.
    pub placeholder: Option<String>,
    /// Whether it opens nothing and boxes hold it as it is: whoever sends it somewhere is told of.
    // Left out where it is not so: what is sealed is authenticated with the binding as it was written.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub canary: bool,
}

impl Binding {
    /// The rule of a secret without its value, which says whether the binding can be used.
    pub(crate) fn rule(&self, name: &str) -> Result<SecretRule, BadFile> {
        SecretRule::bind(name, SecretString::from(String::new()), self)
    }
}

/// What is known of a secret without opening it. All of it but the sealed part is authenticated with that.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// Its name.
    pub name: String,
    /// How often it was set.
    pub version: u64,
    /// When it was set last, in microseconds since 1970.
    pub set_at: i64,
    /// What the sealed part holds: `value`, `command`, `environment`, `file` or `oauth`.
    pub kind: String,
    /// Where it may go.
    pub binding: Binding,
    /// The sealed part.
    pub(super) sealed: String,
}

impl Record {
    /// What is authenticated with the sealed part.
    pub(super) fn bound(&self) -> Vec<u8> {
        let parts = (super::FORMAT, &self.name, self.version, self.set_at, &self.kind, &self.binding);
        // Strings and numbers alone are in it, which always serialise.
        serde_json::to_vec(&parts).unwrap_or_default()
    }
}

/// Where a value comes from.
#[derive(Clone)]
pub enum Source {
    /// From the vault itself.
    Value(SecretString),
    /// From what this command writes, which is run when the value is needed.
    Command(Vec<String>),
    /// From this variable of the person's environment.
    Environment(String),
    /// From this file of the person's, which nobody else may read.
    File(String),
    /// From a token endpoint, which gives access tokens for a refresh token.
    OAuth(Box<OAuth>),
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind())
    }
}

impl Source {
    /// The word for it.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Value(_) => "value",
            Self::Command(_) => "command",
            Self::Environment(_) => "environment",
            Self::File(_) => "file",
            Self::OAuth(_) => "oauth",
        }
    }

    /// Whether it can be kept.
    pub(super) fn check(&self) -> Result<(), String> {
        match self {
            Self::Value(value) => check_value(value),
            Self::OAuth(grant) => grant.check(),
            Self::Command(parts) if parts.first().is_none_or(String::is_empty) => Err("has a command without a program".to_owned()),
            Self::Command(parts) if parts.len() > ARGUMENTS_MAX => Err(format!("has a command of more than {ARGUMENTS_MAX} parts")),
            Self::Command(parts) if parts.iter().any(|part| part.contains('\0')) => Err("has a command with a NUL byte".to_owned()),
            Self::Environment(name) | Self::File(name) if name.is_empty() || name.contains('\0') => {
                Err("names no variable or file to be read from".to_owned())
            }
            _ => Ok(()),
        }
    }

    pub(super) fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        let sealed = if let Self::OAuth(grant) = self { grant.parts() } else { Vec::new() };
        let (kind, parts): (u8, Vec<&str>) = match self {
            Self::Value(value) => (b'v', vec![value.expose_secret()]),
            Self::Command(parts) => (b'c', parts.iter().map(String::as_str).collect()),
            Self::Environment(name) => (b'e', vec![name]),
            Self::File(path) => (b'f', vec![path]),
            Self::OAuth(_) => (b'o', sealed.iter().map(ExposeSecret::expose_secret).collect()),
        };
        let mut bytes = Zeroizing::new(Vec::with_capacity(parts.iter().map(|part| part.len() + 1).sum::<usize>() + 1));
        bytes.push(kind);
        for (at, part) in parts.iter().enumerate() {
            if at > 0 {
                bytes.push(0);
            }
            bytes.extend_from_slice(part.as_bytes());
        }
        bytes
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (kind, rest) = bytes.split_first()?;
        let text = std::str::from_utf8(rest).ok()?;
        Some(match kind {
            b'v' => Self::Value(text.into()),
            b'c' => Self::Command(text.split('\0').map(str::to_owned).collect()),
            b'e' => Self::Environment(text.to_owned()),
            b'f' => Self::File(text.to_owned()),
            b'o' => Self::OAuth(Box::new(OAuth::from_parts(text)?)),
            _ => return None,
        })
    }
}

/// Whether a value can be kept. Line ends within it are fine (keys in PEM); a NUL byte is in no credential.
pub(crate) fn check_value(value: &SecretString) -> Result<(), String> {
    let value = value.expose_secret();
    match value.trim().len() {
        0 => Err("has an empty value".to_owned()),
        length if length > VALUE_BYTES_MAX => Err(format!("has a value of {length} bytes; a value has 1 to {VALUE_BYTES_MAX}")),
        _ if value.contains('\0') => Err("has a value with a NUL byte".to_owned()),
        _ => Ok(()),
    }
}

pub(super) fn to_base64(bytes: &[u8]) -> String {
    BASE64.encode(bytes)
}

pub(super) fn from_base64(text: &str) -> Option<Vec<u8>> {
    BASE64.decode(text).ok()
}
