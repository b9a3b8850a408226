//! The person's own file: where their keys are, which servers they trust with them, what models cost. A repository cannot say any of it but
//! a server of this machine: it would choose where a key goes, which file is read as one, and how far a budget reaches.

use std::collections::BTreeMap;
use std::path::PathBuf;

use aedile_core::MicroUsd;
use aedile_core::model::ModelRef;
use aedile_models::ApiFormat;
use serde::Deserialize;

use super::file::bad;
use crate::env;
use crate::error::CliError;

/// The section that only this file may have.
pub const PRICES: &str = "prices";
/// The providers that need no `api`.
const BUILT_IN: [&str; 4] = ["anthropic", "openai", "gemini", "ollama"];
/// The smallest window in which our agent can work: its prompt, its tools and an answer.
const CONTEXT_TOKENS_MIN: u64 = 16_000;

/// The whole file. Every key is documented in `docs/configuration.md`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PersonFile {
    /// Providers by name: `anthropic`, `openai`, `gemini`, `ollama`, and further ones, which say what they speak.
    pub provider: BTreeMap<String, Provider>,
    /// Prices of models that the built-in table lacks or has wrong, by `provider/model`.
    pub prices: BTreeMap<String, Price>,
}

/// `[provider.NAME]`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Provider {
    /// Base URL, without `/v1`.
    pub base_url: Option<String>,
    /// A file with mode 0600 that holds the key; `~/` is the person's home.
    pub key_file: Option<String>,
    /// A command that writes the key: program and arguments. It is run, outside any box, when a worker starts.
    pub key_command: Option<Vec<String>>,
    /// A file with mode 0600 that holds the token of a subscription, which Anthropic takes from Claude Code alone.
    pub token_file: Option<String>,
    /// What it speaks; for `openai` which of its formats our agent does.
    pub api: Option<Api>,
    /// The window of its models in tokens.
    pub context_tokens: Option<u64>,
}

/// `[provider.NAME] api`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Api {
    /// Anthropic Messages.
    Anthropic,
    /// OpenAI Responses.
    Responses,
    /// OpenAI Chat Completions, which most other servers speak.
    Chat,
    /// Gemini.
    Gemini,
    /// Ollama's own.
    Ollama,
}

impl Api {
    /// The wire format.
    pub fn format(self) -> ApiFormat {
        match self {
            Self::Anthropic => ApiFormat::Anthropic,
            Self::Responses => ApiFormat::Responses,
            Self::Chat => ApiFormat::OpenAi,
            Self::Gemini => ApiFormat::Gemini,
            Self::Ollama => ApiFormat::Ollama,
        }
    }
}

/// `[prices."PROVIDER/MODEL"]`, dollars for a million tokens.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Price {
    /// Input.
    pub input: f64,
    /// Output.
    pub output: f64,
    /// Input read from a cache; the input price when absent.
    pub cache_read: Option<f64>,
    /// Input written into a cache; the input price when absent.
    pub cache_write: Option<f64>,
    /// Input written into a cache that is kept for longer; twice `cache_write` when absent.
    pub cache_write_long: Option<f64>,
    /// What a service tier multiplies the prices by.
    #[serde(default)]
    pub tiers: BTreeMap<String, f64>,
}

/// Whether a base URL is a server of this machine, by its plain name or address.
pub fn is_this_machine(url: &str) -> bool {
    let Some((scheme, rest)) = url.split_once("://") else { return false };
    let authority = rest.split(['/', '?', '#', '\\']).next().unwrap_or_default();
    let host = ["127.0.0.1", "[::1]", "localhost"].into_iter().find_map(|host| authority.strip_prefix(host));
    let port = |rest: &str| rest.is_empty() || rest.strip_prefix(':').is_some_and(|port| port.bytes().all(|byte| byte.is_ascii_digit()));
    matches!(scheme, "http" | "https") && host.is_some_and(port)
}

/// Where the file is, whether it exists or not.
pub fn path() -> Option<PathBuf> {
    dir().map(|dir| dir.join("config.toml"))
}

/// Where the person's own files are.
pub fn dir() -> Option<PathBuf> {
    let config = env::get(env::XDG_CONFIG_HOME).map(PathBuf::from).filter(|dir| dir.is_absolute());
    Some(config.or_else(|| env::home().map(|home| home.join(".config")))?.join("aedile"))
}

/// The file's place, for messages.
pub fn place() -> String {
    path().map_or_else(|| "~/.config/aedile/config.toml".to_owned(), |path| path.display().to_string())
}

impl PersonFile {
    /// Reads the file; one that does not exist says nothing.
    ///
    /// # Errors
    /// It cannot be read, or what is wrong in it.
    pub fn load() -> Result<Self, CliError> {
        let Some(path) = path() else { return Ok(Self::default()) };
        match std::fs::read_to_string(&path) {
            Ok(text) => Self::parse(&text, &path.display().to_string()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(CliError::config(format!("cannot read {}: {error}", path.display()))),
        }
    }

    /// Parses the file.
    pub fn parse(text: &str, place: &str) -> Result<Self, CliError> {
        let file: Self = toml::from_str(text).map_err(|error| bad(place, error.to_string().trim_end()))?;
        for (name, provider) in &file.provider {
            provider.check(name).map_err(|problem| bad(place, &problem))?;
        }
        for (model, price) in &file.prices {
            let known = model.parse::<ModelRef>().map_err(|error| bad(place, &format!("[prices]: {error}")))?;
            let all = [Some(price.input), Some(price.output), price.cache_read, price.cache_write, price.cache_write_long];
            if all.into_iter().flatten().any(|usd| MicroUsd::from_usd(usd).is_none()) {
                return Err(bad(place, &format!("[prices.\"{known}\"] has a price that is not a positive number")));
            }
        }
        Ok(file)
    }

    /// The providers that are not built in, each with what it speaks.
    pub fn further(&self) -> impl Iterator<Item = (&str, Api, &Provider)> {
        let further = self.provider.iter().filter(|(name, _)| !BUILT_IN.contains(&name.as_str()));
        further.filter_map(|(name, provider)| Some((name.as_str(), provider.api?, provider)))
    }
}

impl Provider {
    /// What of it cannot be used.
    pub(super) fn check(&self, name: &str) -> Result<(), String> {
        let built_in = BUILT_IN.contains(&name);
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if name.is_empty() || name.len() > 40 || !name.chars().all(plain) || matches!(name, "script" | "anthropic-token") {
            return Err(format!(
                "[provider.{name:?}] must be named with 1 to 40 letters, digits, `-` and `_`, and not `script` or `anthropic-token`"
            ));
        }
        match self.api {
            None if !built_in => {
                return Err(format!(
                    "[provider.{name}] is none of `anthropic`, `openai`, `gemini` and `ollama`, so it needs `api`, which says what it speaks: \
                     `anthropic`, `responses`, `chat`, `gemini` or `ollama`"
                ));
            }
            Some(Api::Responses | Api::Chat) if name == "openai" => {}
            Some(_) if built_in => {
                return Err(format!("[provider.{name}] api is not known: only `openai` has two, `responses` and `chat`"));
            }
            _ => {}
        }
        if !built_in && self.base_url.is_none() {
            return Err(format!("[provider.{name}] needs a `base_url`: where it is"));
        }
        if self.context_tokens.is_some_and(|tokens| tokens < CONTEXT_TOKENS_MIN) {
            return Err(format!("[provider.{name}] context_tokens must be at least {CONTEXT_TOKENS_MIN}"));
        }
        if self.key_command.is_some() && self.key_file.is_some() {
            return Err(format!("[provider.{name}] has both `key_file` and `key_command`: leave one of them out"));
        }
        if self.key_command.as_ref().is_some_and(|parts| parts.first().is_none_or(String::is_empty)) {
            return Err(format!("[provider.{name}] key_command names no program"));
        }
        if name != "anthropic" && self.token_file.is_some() {
            return Err("[provider] token_file: only `anthropic` has subscriptions".to_owned());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mistake_names_its_place() {
        for (text, part) in [
            ("target = \"main\"", "target"),
            ("[provider.acme]\nbase_url = \"x\"", "acme] is none of"),
            ("[provider.acme]\napi = \"anthropic\"", "needs a `base_url`"),
            ("[provider.\"a/b\"]\napi = \"chat\"\nbase_url = \"x\"", "a/b"),
            ("[provider.script]\napi = \"chat\"\nbase_url = \"x\"", "script"),
            ("[provider.openai]\napi = \"gemini\"", "openai"),
            ("[provider.acme]\napi = \"chat\"\nbase_url = \"x\"\ntoken_file = \"x\"", "token_file"),
            ("[provider.gemini]\napi = \"chat\"", "gemini"),
            ("[provider.gemini]\nkey_command = []", "key_command"),
            ("[provider.gemini]\nkey_command = [\"op\"]\nkey_file = \"x\"", "both"),
            ("[provider.openai]\napi = \"soap\"", "soap"),
            ("[provider.ollama]\ncontext_tokens = 100", "context_tokens"),
            ("[provider.openai]\ntoken_file = \"x\"", "token_file"),
            ("[prices.\"gpt\"]\ninput = 1.0\noutput = 2.0", "gpt"),
            ("[prices.\"openai/gpt\"]\ninput = -1.0\noutput = 2.0", "openai/gpt"),
        ] {
            let error = PersonFile::parse(text, "config.toml").unwrap_err();
            let named = error.message.contains(part) && error.message.starts_with("config.toml");
            assert!(named && error.code == crate::exit::CONFIG, "{text}: {error}");
        }
    }
}
