//! The one error of the command line: a sentence, hints and an exit code.

use std::fmt;

use aedile_core::sandbox::SandboxError;
use aedile_core::store::StoreError;

use crate::exit;

/// What a person sees when a command fails.
#[derive(Debug)]
pub struct CliError {
    /// One sentence: what happened to what.
    pub message: String,
    /// What to do now, most likely first.
    pub hints: Vec<String>,
    /// The exit code.
    pub code: u8,
}

/// What commands return: an exit code, or an error that carries one.
pub type CliResult = Result<u8, CliError>;

impl CliError {
    /// An error with the given exit code.
    pub fn new(code: u8, message: impl Into<String>) -> Self {
        Self { message: message.into(), hints: Vec::new(), code }
    }

    /// A wrong file of the person's, or no project.
    pub fn config(message: impl Into<String>) -> Self {
        Self::new(exit::CONFIG, message)
    }

    /// A wrong command line.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(exit::USAGE, message)
    }

    /// Anything else.
    pub fn failure(message: impl Into<String>) -> Self {
        Self::new(exit::FAILURE, message)
    }

    /// Puts a hint before all others.
    #[must_use]
    pub fn first_hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.insert(0, hint.into());
        self
    }

    /// Adds a hint.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// The error as JSON, for `--json`.
    pub fn to_json(&self) -> serde_json::Value {
        serde_json::json!({ "error": self.message, "hints": self.hints, "exit_code": self.code })
    }
}

impl fmt::Display for CliError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}", self.message)?;
        for hint in &self.hints {
            write!(f, "\nhint: {hint}")?;
        }
        Ok(())
    }
}

impl From<StoreError> for CliError {
    fn from(error: StoreError) -> Self {
        let plain = Self::new(exit::STATE, error.to_string());
        match error {
            StoreError::Illegal(_) => Self { code: exit::FAILURE, ..plain },
            StoreError::Backend(_) => {
                plain.hint("the state directory must be one that you can write; AEDILE_STATE names another one (docs/state.md)")
            }
            StoreError::Damaged { .. } => plain.hint(
                "views are mended by `aedile store rebuild`; for the rest, restore the state directory from a backup (docs/state.md)",
            ),
            _ => plain,
        }
    }
}

impl From<aedile_gateway::safe::SafeError> for CliError {
    fn from(error: aedile_gateway::safe::SafeError) -> Self {
        use aedile_gateway::safe::SafeError;
        let plain = |code| Self::new(code, error.to_string());
        match &error {
            SafeError::Secret { .. } => plain(exit::USAGE),
            SafeError::Io { .. } => plain(exit::STATE)
                .hint("the state directory must be one that you can write; AEDILE_STATE names another one (docs/state.md)"),
            _ => plain(exit::STATE),
        }
    }
}

impl From<SandboxError> for CliError {
    fn from(error: SandboxError) -> Self {
        let plain = Self::new(exit::FAILURE, error.to_string());
        match error {
            SandboxError::Refused { .. } => Self { code: exit::USAGE, ..plain },
            SandboxError::Unsupported { .. } | SandboxError::Setup { .. } => {
                Self { code: exit::UNSUPPORTED, ..plain }.hint("`aedile doctor` says what this host gives and what is missing")
            }
        }
    }
}

impl From<std::io::Error> for CliError {
    fn from(error: std::io::Error) -> Self {
        Self::failure(error.to_string())
    }
}

impl From<aedile_fleet::MailError> for CliError {
    fn from(error: aedile_fleet::MailError) -> Self {
        match error {
            aedile_fleet::MailError::Store(error) => error.into(),
            other => Self::failure(other.to_string()),
        }
    }
}

impl From<aedile_fleet::CommandError> for CliError {
    fn from(error: aedile_fleet::CommandError) -> Self {
        match error {
            aedile_fleet::CommandError::Store(error) => error.into(),
            other => Self::failure(other.to_string()),
        }
    }
}

impl From<aedile_fleet::PlanError> for CliError {
    fn from(error: aedile_fleet::PlanError) -> Self {
        match error {
            aedile_fleet::PlanError::Store(error) => error.into(),
            other => Self::config(other.to_string()),
        }
    }
}

impl From<aedile_git::GitError> for CliError {
    fn from(error: aedile_git::GitError) -> Self {
        let plain = Self::new(exit::GIT, error.to_string());
        match error {
            aedile_git::GitError::SyncRefused { .. } => {
                plain.hint("`aedile sync` is `git merge --ff-only`: take out of the way what git names, or merge by hand, and try again")
            }
            _ => plain,
        }
    }
}

impl From<aedile_fleet::FleetError> for CliError {
    fn from(error: aedile_fleet::FleetError) -> Self {
        match error {
            aedile_fleet::FleetError::Store(error) => error.into(),
            aedile_fleet::FleetError::Held { holder, .. } => {
                Self::failure(format!("the run is driven by {} already; this one changed nothing", crate::host::describe(&holder)))
                    .hint("`aedile status` and `aedile feed --follow` show how far it is")
                    .hint("press Ctrl-C there to stop it; `aedile run --resume` then goes on here")
            }
            other => Self::failure(other.to_string()),
        }
    }
}
