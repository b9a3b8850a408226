//! `aedile.toml`: what holds for a project. Gates, scopes and policy are read from the target's commit, never from a checkout.

use std::collections::BTreeMap;

use aedile_core::MicroUsd;
use aedile_core::model::ModelRef;
use aedile_core::money::Budget;
use aedile_core::project::ProjectRules;
use aedile_core::scope::Scope;
use aedile_core::task::GateSpec;
use aedile_gateway::FetchRules;
use serde::Deserialize;

use crate::error::CliError;

/// The file's name, in the root of the repository.
pub const NAME: &str = "aedile.toml";

/// The smallest window in which our agent can work: its prompt, its tools and an answer.
const CONTEXT_TOKENS_MIN: u64 = 16_000;

/// Paths that are protected in every project: what judges a change must not come with the change.
pub const ALWAYS_PROTECTED: &[&str] = &[
    NAME,
    ".github/**",
    ".gitlab-ci.yml",
    ".gitlab/**",
    ".circleci/**",
    ".forgejo/**",
    ".gitea/**",
    ".woodpecker/**",
    ".woodpecker.yml",
    ".drone.yml",
    ".travis.yml",
    ".buildkite/**",
    ".ci/**",
    "azure-pipelines.yml",
    "Jenkinsfile",
    "bitbucket-pipelines.yml",
];

/// The whole file. Every key is documented in `docs/configuration.md`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ConfigFile {
    /// The branch that changes land on.
    pub target: Option<String>,
    /// Gates, in order.
    #[serde(rename = "gate")]
    pub gates: Vec<GateSpec>,
    /// Build directories.
    pub build: Build,
    /// Agents.
    pub agents: Agents,
    /// Budgets.
    pub budget: BudgetSection,
    /// Protected paths.
    pub protect: Protect,
    /// Providers by name: `anthropic`, `openai`, `gemini`, `ollama`.
    pub provider: BTreeMap<String, Provider>,
    /// Prices of models that the built-in table lacks or has wrong, by `provider/model`.
    pub prices: BTreeMap<String, Price>,
    /// Where agents may read on the web.
    pub fetch: Fetch,
    /// How long things are kept.
    pub keep: Keep,
    /// Further agents by name, which speak the Agent Client Protocol on stdio.
    pub runtime: BTreeMap<String, RuntimeSection>,
}

/// `[build]`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Build {
    /// Directories (relative) that builds write; writable for agents, never part of a change.
    pub directories: Vec<String>,
}

/// `[agents]`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Agents {
    /// Model of tasks that name none.
    pub model: Option<ModelRef>,
    /// Agents at work at once.
    pub at_once: Option<u32>,
}

/// `[budget]`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BudgetSection {
    /// Dollars for a whole run.
    pub run_usd: Option<f64>,
    /// Tokens for a whole run.
    pub run_tokens: Option<u64>,
    /// Dollars for each task that names no budget.
    pub task_usd: Option<f64>,
    /// Tokens for each task.
    pub task_tokens: Option<u64>,
    /// Dollars for one life of an agent.
    pub agent_usd: Option<f64>,
    /// Tokens for one life of an agent.
    pub agent_tokens: Option<u64>,
}

/// `[protect]`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Protect {
    /// Further globs that no change may touch without `--allow-protected`.
    pub paths: Vec<String>,
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

/// `[runtime.NAME]`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RuntimeSection {
    /// Program and arguments; `{door}` is the base URL of the model API in the box, `{model}` the model's name.
    pub command: Vec<String>,
    /// Further environment, with the same two.
    pub env: BTreeMap<String, String>,
    /// The `authenticate` method that the agent wants before a session, if it wants one.
    pub auth_method: Option<String>,
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

/// `[fetch]`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Fetch {
    /// Hosts that agents may read from by GET.
    pub hosts: Vec<String>,
}

/// `[keep]`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Keep {
    /// Days for which the snapshots, homes and workspaces of ended runs are kept; `aedile clean` removes older ones.
    pub days: u32,
}

impl Default for Keep {
    fn default() -> Self {
        Self { days: 14 }
    }
}

impl ConfigFile {
    /// Parses the file and checks what can be checked without the repository.
    pub fn parse(text: &str, place: &str) -> Result<Self, CliError> {
        let file: Self = toml::from_str(text).map_err(|error| bad(place, error.to_string().trim_end()))?;
        for glob in file.protect.paths.iter().chain(&file.build.directories) {
            Scope::new(std::slice::from_ref(glob)).map_err(|error| bad(place, &error.to_string()))?;
        }
        for (at, gate) in file.gates.iter().enumerate() {
            if gate.name.trim().is_empty() || gate.command.trim().is_empty() {
                return Err(bad(place, &format!("gate {} needs a name and a command", at + 1)));
            }
            if file.gates[..at].iter().any(|earlier| earlier.name == gate.name) {
                return Err(bad(place, &format!("two gates are named {:?}", gate.name)));
            }
        }
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
        for (name, section) in &file.runtime {
            crate::runtimes::check_section(name, section).map_err(|problem| bad(place, &problem))?;
        }
        for (model, price) in &file.prices {
            let known = model.parse::<ModelRef>().map_err(|error| bad(place, &format!("[prices]: {error}")))?;
            let all = [Some(price.input), Some(price.output), price.cache_read, price.cache_write, price.cache_write_long];
            if all.into_iter().flatten().any(|usd| MicroUsd::from_usd(usd).is_none()) {
                return Err(bad(place, &format!("[prices.\"{known}\"] has a price that is not a positive number")));
            }
        }
        FetchRules::new(&file.fetch.hosts).map_err(|problem| bad(place, &problem))?;
        file.budget.run(place)?;
        file.budget.task(place)?;
        file.budget.agent(place)?;
        Ok(file)
    }

    /// Makes the rules of a run from the file.
    pub fn rules(&self, place: &str) -> Result<ProjectRules, CliError> {
        let mut protected: Vec<String> = ALWAYS_PROTECTED.iter().map(|&path| path.to_owned()).collect();
        protected.extend(self.protect.paths.iter().cloned());
        Ok(ProjectRules {
            gates: self.gates.clone(),
            protected,
            build_dirs: self.build.directories.iter().map(|dir| dir.trim_end_matches('/').to_owned()).collect(),
            run_budget: self.budget.run(place)?,
            task_budget: self.budget.task(place)?,
            agent_budget: self.budget.agent(place)?,
            allow_protected: false,
            hold: false,
        })
    }
}

impl BudgetSection {
    fn run(&self, place: &str) -> Result<Budget, CliError> {
        Ok(Budget { tokens: self.run_tokens, usd: dollars(self.run_usd, "[budget] run_usd", place)? })
    }

    fn agent(&self, place: &str) -> Result<Budget, CliError> {
        Ok(Budget { tokens: self.agent_tokens, usd: dollars(self.agent_usd, "[budget] agent_usd", place)? })
    }

    fn task(&self, place: &str) -> Result<Budget, CliError> {
        Ok(Budget { tokens: self.task_tokens, usd: dollars(self.task_usd, "[budget] task_usd", place)? })
    }
}

/// Reads an optional amount of dollars.
pub fn dollars(usd: Option<f64>, key: &str, place: &str) -> Result<Option<MicroUsd>, CliError> {
    match usd {
        None => Ok(None),
        Some(usd) => {
            MicroUsd::from_usd(usd).map(Some).ok_or_else(|| bad(place, &format!("{key} is {usd}, which is not an amount of dollars")))
        }
    }
}

fn bad(place: &str, problem: &str) -> CliError {
    CliError::config(format!("{place}: {problem}")).hint("docs/configuration.md lists every key")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_file_has_no_gates_and_protects_itself() {
        let rules = ConfigFile::parse("", NAME).unwrap().rules(NAME).unwrap();
        assert!(rules.gates.is_empty() && rules.protected.iter().any(|path| path == NAME));
    }

    #[test]
    fn every_mistake_names_its_place() {
        for (text, part) in [
            ("gates = 1", "gates"),
            ("[[gate]]\nname = \"\"\ncommand = \"x\"", "gate 1"),
            ("[[gate]]\nname = \"a\"\ncommand = \"x\"\n[[gate]]\nname = \"a\"\ncommand = \"y\"", "\"a\""),
            ("[protect]\npaths = [\"/etc\"]", "/etc"),
            ("[provider.acme]\nbase_url = \"x\"", "acme"),
            ("[provider.gemini]\napi = \"chat\"", "gemini"),
            ("[provider.openai]\napi = \"soap\"", "soap"),
            ("[provider.ollama]\ncontext_tokens = 100", "context_tokens"),
            ("[provider.openai]\ntoken_file = \"x\"", "token_file"),
            ("[runtime.claude]\ncommand = [\"x\"]", "built in"),
            ("[runtime.x]\ncommand = []", "[runtime.x] needs a `command`"),
            ("[runtime.\"a b\"]\ncommand = [\"x\"]", "a b"),
            ("[runtime.x]\ncommand = [\"x\"]\nfiles = 1", "files"),
            ("[prices.\"gpt\"]\ninput = 1.0\noutput = 2.0", "gpt"),
            ("[prices.\"openai/gpt\"]\ninput = -1.0\noutput = 2.0", "openai/gpt"),
            ("[budget]\nrun_usd = -3", "run_usd"),
            ("[fetch]\nhosts = [\"https://docs.rs\"]", "[fetch] hosts"),
        ] {
            let error = ConfigFile::parse(text, NAME).unwrap_err();
            assert!(
                error.message.contains(part) && error.message.starts_with(NAME) && error.code == crate::exit::CONFIG,
                "{text}: {error}"
            );
        }
    }
}
