//! The person's own file: where their keys are, which servers they trust with them, what models cost. A repository cannot say any of it:
//! it would choose where a key goes, which file is read as one, and how far a budget reaches.

use std::collections::BTreeMap;
use std::path::PathBuf;

use aedile_core::MicroUsd;
use aedile_core::model::ModelRef;
use serde::Deserialize;

use super::file::bad;
use crate::env;
use crate::error::CliError;

/// The sections of the file.
pub const PROVIDER: &str = "provider";
/// The second of them.
pub const PRICES: &str = "prices";
/// The smallest window in which our agent can work: its prompt, its tools and an answer.
const CONTEXT_TOKENS_MIN: u64 = 16_000;

/// The whole file. Every key is documented in `docs/configuration.md`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PersonFile {
    /// Providers by name: `anthropic`, `openai`, `gemini`, `ollama`.
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
    /// A file with mode 0600 that holds the token of a subscription, which Anthropic takes from Claude Code alone.
    pub token_file: Option<String>,
    /// Which of its formats our agent speaks to `openai`.
    pub api: Option<OpenAiApi>,
    /// The window of its models in tokens.
    pub context_tokens: Option<u64>,
}

/// `[provider.openai] api`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OpenAiApi {
    /// Responses.
    Responses,
    /// Chat Completions, which most other servers speak.
    Chat,
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

/// Where the file is, whether it exists or not.
pub fn path() -> Option<PathBuf> {
    let config = env::get(env::XDG_CONFIG_HOME).map(PathBuf::from).filter(|dir| dir.is_absolute());
    Some(config.or_else(|| env::home().map(|home| home.join(".config")))?.join("aedile/config.toml"))
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
            if !matches!(name.as_str(), "anthropic" | "openai" | "gemini" | "ollama") {
                return Err(bad(place, &format!("[provider.{name}] is not known")).first_hint(
                    "providers are `anthropic`, `openai` (anything that speaks its format, by base_url), `gemini` and `ollama`",
                ));
            }
            if provider.api.is_some() && name != "openai" {
                return Err(bad(place, &format!("[provider.{name}] api is not known: only `openai` has two")));
            }
            if provider.context_tokens.is_some_and(|tokens| tokens < CONTEXT_TOKENS_MIN) {
                return Err(bad(place, &format!("[provider.{name}] context_tokens must be at least {CONTEXT_TOKENS_MIN}")));
            }
        }
        if file.provider.iter().any(|(name, provider)| name != "anthropic" && provider.token_file.is_some()) {
            return Err(bad(place, "[provider] token_file: only `anthropic` has subscriptions"));
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
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mistake_names_its_place() {
        for (text, part) in [
            ("target = \"main\"", "target"),
            ("[provider.acme]\nbase_url = \"x\"", "acme"),
            ("[provider.gemini]\napi = \"chat\"", "gemini"),
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
