//! Where secrets come from: the environment, the vault, a command or file of the person's. Each is taken once and handed to the gateway.

use std::path::PathBuf;
use std::time::Duration;

use aedile_core::redact::Leak;
use aedile_core::{ExposeSecret, Redactor, SecretString};
use aedile_gateway::policy::SecretRule;
use aedile_gateway::safe::{OAuth, Places, Record, Safe, Source};
use aedile_gateway::{SECRET_BYTES_MAX, Vault};
use aedile_sandbox::{Asked, ask_command};

use crate::config::file::ConfigFile;
use crate::config::person::{self, Provider};
use crate::env;
use crate::error::CliError;

/// The names of the providers' keys.
pub const ANTHROPIC: &str = "anthropic";
/// See [`ANTHROPIC`].
pub const OPENAI: &str = "openai";
/// See [`ANTHROPIC`].
pub const GEMINI: &str = "gemini";
/// See [`ANTHROPIC`].
pub const OLLAMA: &str = "ollama";
/// The name of the token of a subscription.
pub const ANTHROPIC_TOKEN: &str = "anthropic-token";
/// How long a command may take to write a secret: a person may have to unlock their store.
const COMMAND_TIME: Duration = Duration::from_secs(120);

/// Where the vault and its key are.
pub fn places() -> Result<Places, CliError> {
    let state = crate::state::dir()?;
    let config = person::path().and_then(|path| Some(path.parent()?.to_owned()));
    // Without a home the state directory is all that there is.
    Ok(Places::of(&state, &config.unwrap_or_else(|| state.clone())))
}

/// What the vault holds, opened.
struct Stored(Option<Safe>);

impl Stored {
    fn open() -> Result<Self, CliError> {
        Ok(Self(Safe::open(&places()?)?))
    }

    fn names(&self) -> Vec<Record> {
        self.0.as_ref().map_or_else(Vec::new, |safe| safe.records().to_vec())
    }

    /// The OAuth grant of a secret, where it is one.
    fn grant(&self, record: &Record) -> Result<Option<OAuth>, CliError> {
        match &self.0 {
            Some(safe) if record.kind == "oauth" => match safe.source(&record.name)? {
                Source::OAuth(grant) => Ok(Some(*grant)),
                _ => Ok(None),
            },
            _ => Ok(None),
        }
    }

    /// The value of a secret; `None` when it is not in the vault.
    fn value(&self, name: &str, commands: bool) -> Result<Option<SecretString>, CliError> {
        match &self.0 {
            Some(safe) if safe.holds(name) => value_of(name, safe.source(name)?, commands),
            _ => Ok(None),
        }
    }
}

/// The value that a source leads to; `None` when it would need a command and none may be run.
fn value_of(name: &str, source: Source, commands: bool) -> Result<Option<SecretString>, CliError> {
    let missing = |what: String| {
        CliError::config(format!("the secret {name} cannot be read: {what}"))
            .hint(format!("mend that, or `aedile secret rotate {name}` sets another value"))
    };
    match source {
        Source::Value(value) => Ok(Some(value)),
        Source::Environment(variable) => match env::any(&variable) {
            Some(value) => Ok(Some(SecretString::from(value))),
            None => Err(missing(format!("the variable {variable} is not set"))),
        },
        Source::File(path) => from_file(&path).map(Some),
        Source::OAuth(_) => Err(missing("it is an OAuth grant, and a provider's key is not refreshed".to_owned())),
        Source::Command(_) if !commands => Ok(None),
        Source::Command(parts) => from_command(name, &parts).map(Some),
    }
}

/// Asks a command for a secret.
fn from_command(name: &str, parts: &[String]) -> Result<SecretString, CliError> {
    let program = parts.first().cloned().unwrap_or_default();
    let wrong = |what: String| {
        CliError::config(format!("the secret {name} cannot be read: the command `{program}` {what}"))
            .hint(format!("run it yourself to see what it says: {}", shlex::try_join(parts.iter().map(String::as_str)).unwrap_or_default()))
    };
    match ask_command(parts, COMMAND_TIME, SECRET_BYTES_MAX) {
        Err(error) => Err(wrong(format!("was not started: {error}"))),
        Ok(Asked::Failed(Some(code))) => Err(wrong(format!("ended with {code}"))),
        Ok(Asked::Failed(None)) => Err(wrong("was ended by a signal".to_owned())),
        Ok(Asked::TooLong) => Err(wrong(format!("was not over within {} s", COMMAND_TIME.as_secs()))),
        Ok(Asked::TooMuch) => Err(wrong(format!("wrote more than {SECRET_BYTES_MAX} bytes"))),
        Ok(Asked::Wrote(bytes)) => match String::from_utf8(bytes) {
            Ok(text) if !text.trim().is_empty() => Ok(SecretString::from(text)),
            Ok(_) => Err(wrong("wrote nothing".to_owned())),
            Err(_) => Err(wrong("wrote something that is not UTF-8".to_owned())),
        },
    }
}

fn from_file(file: &str) -> Result<SecretString, CliError> {
    use std::os::unix::fs::PermissionsExt;
    let path = match (file.strip_prefix("~/"), env::home()) {
        (Some(rest), Some(home)) => home.join(rest),
        _ => PathBuf::from(file),
    };
    let failed = |error: std::io::Error| CliError::config(format!("cannot read the key file {}: {error}", path.display()));
    let mode = std::fs::metadata(&path).map_err(failed)?.permissions().mode();
    if mode & 0o077 != 0 {
        return Err(CliError::config(format!("the key file {} can be read by others (mode {:o})", path.display(), mode & 0o777))
            .hint(format!("chmod 600 {}", path.display())));
    }
    Ok(SecretString::from(std::fs::read_to_string(&path).map_err(failed)?))
}

/// What the person's file says of a provider's key.
fn said(name: &str, section: Option<&Provider>, commands: bool) -> Result<Option<SecretString>, CliError> {
    match section.map(|section| (&section.key_file, &section.key_command)) {
        Some((Some(file), _)) => from_file(file).map(Some),
        Some((None, Some(parts))) if commands => from_command(name, parts).map(Some),
        _ => Ok(None),
    }
}

/// Takes every secret once. A key of a provider comes from the environment, else from the vault, else from where the person's file says; what
/// else the vault holds is for agents, where its binding says. Without `commands` what only a command knows is left out.
pub fn vault(config: &ConfigFile, commands: bool) -> Result<Vault, CliError> {
    let stored = Stored::open()?;
    let mut keys: Vec<(String, SecretString)> = Vec::new();
    let first = |variables: &[&'static str]| variables.iter().find_map(|variable| env::text(variable)).map(SecretString::from);
    let built_in: [(&str, &[&'static str]); 4] = [
        (ANTHROPIC, &[env::ANTHROPIC_API_KEY]),
        (OPENAI, &[env::OPENAI_API_KEY]),
        (GEMINI, &[env::GEMINI_API_KEY, env::GOOGLE_API_KEY]),
        (OLLAMA, &[]),
    ];
    let further = config.person.further().map(|(name, ..)| (name, &[][..]));
    for (name, variables) in built_in.into_iter().chain(further) {
        let mut key = first(variables);
        if key.is_none() {
            key = stored.value(name, commands)?;
        }
        if key.is_none() {
            key = said(name, config.person.provider.get(name), commands)?;
        }
        keys.extend(key.map(|key| (name.to_owned(), key)));
    }
    let file = config.person.provider.get(ANTHROPIC).and_then(|provider| provider.token_file.as_deref());
    let mut token = first(&[env::CLAUDE_TOKEN]);
    if token.is_none() {
        token = stored.value(ANTHROPIC_TOKEN, commands)?;
    }
    if token.is_none() {
        token = file.map(from_file).transpose()?;
    }
    keys.extend(token.map(|token| (ANTHROPIC_TOKEN.to_owned(), token)));
    let (mut bound, mut grants) = (Vec::new(), Vec::new());
    for record in stored.names().into_iter().filter(|record| !is_provider(config, &record.name)) {
        let rule = if let Some(grant) = stored.grant(&record)? {
            grants.push((record.name.clone(), grant));
            SecretRule::renewed(&record.name, &record.binding)
        } else {
            let Some(value) = stored.value(&record.name, commands)? else { continue };
            SecretRule::bind(&record.name, SecretString::from(value.expose_secret().trim()), &record.binding)
        };
        bound.push(rule.map_err(|bad| CliError::config(format!("the secret {} cannot be used: {bad}", record.name)))?);
    }
    let vault = Vault::new(keys).and_then(|vault| vault.with_bound(bound));
    let vault = vault.map_err(|error| CliError::config(format!("a key cannot be used: {error}")))?;
    Ok(if grants.is_empty() { vault } else { vault.with_renewed(&places()?, grants) })
}

/// Whether a secret of this name is the key of a provider.
pub fn is_provider(config: &ConfigFile, name: &str) -> bool {
    [ANTHROPIC, OPENAI, GEMINI, OLLAMA, ANTHROPIC_TOKEN].contains(&name) || config.person.further().any(|(known, ..)| known == name)
}

/// Takes the person's keys, and what is a credential by its form, out of what commands write that bring no worker. A key that cannot be read
/// is no reason to refuse a command, and none is asked of another program.
#[derive(Default)]
pub struct PersonsKeys(std::sync::OnceLock<Vault>);

impl PersonsKeys {
    fn vault(&self) -> &Vault {
        let read = || {
            let config = ConfigFile { person: person::PersonFile::load().ok()?, ..ConfigFile::default() };
            vault(&config, false).inspect_err(|error| tracing::warn!(error = %error.message, "a key could not be read")).ok()
        };
        self.0.get_or_init(|| read().unwrap_or_else(Vault::empty))
    }
}

impl Redactor for PersonsKeys {
    fn redact_text(&self, text: &str) -> Option<String> {
        self.vault().redact_text(text)
    }
    fn redact_bytes(&self, bytes: &[u8]) -> Option<Vec<u8>> {
        self.vault().redact_bytes(bytes)
    }
    fn leaks(&self, bytes: &[u8]) -> Vec<Leak> {
        self.vault().leaks(bytes)
    }
    fn settled(&self, text: &str) -> usize {
        self.vault().settled(text)
    }
}
