//! `aedile.toml`: what holds for a project. Gates, scopes and policy are read from the target's commit, never from a checkout.

use std::collections::BTreeMap;

use aedile_core::MicroUsd;
use aedile_core::limits::FALLBACKS_MAX;
use aedile_core::model::ModelRef;
use aedile_core::money::Budget;
use aedile_core::project::ProjectRules;
use aedile_core::scope::Scope;
use aedile_core::task::GateSpec;
use aedile_gateway::FetchRules;
use serde::Deserialize;

use crate::config::person::{self, PRICES, PersonFile, Provider};
use crate::error::CliError;

/// The file's name, in the root of the repository.
pub const NAME: &str = "aedile.toml";

/// Paths that are protected in every project: what judges a change must not come with the change.
pub const ALWAYS_PROTECTED: &[&str] = &[
    NAME,
    ".aedile/**",
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
    /// What the person says of providers and prices, in a file of their own.
    #[serde(skip)]
    pub person: PersonFile,
    /// Providers by name, as far as a repository may say something of them: a server of this machine, what it speaks, its window.
    pub provider: BTreeMap<String, Provider>,
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
    /// Models that agents go on with, in this order, when the provider of their own does not answer.
    pub fallback: Vec<ModelRef>,
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
    /// Further globs that no change may touch without a person's word.
    pub paths: Vec<String>,
    /// Globs of names of the tool-configuration table that are ordinary work in this project.
    pub harmless: Vec<String>,
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
        if toml::from_str::<toml::Table>(text).is_ok_and(|table| table.contains_key(PRICES)) {
            return Err(persons(place, &format!("[{PRICES}] does not belong here: a repository must not say what a model costs")));
        }
        let file: Self = toml::from_str(text).map_err(|error| bad(place, error.to_string().trim_end()))?;
        for glob in file.protect.paths.iter().chain(&file.protect.harmless).chain(&file.build.directories) {
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
            provider.check(name).map_err(|problem| bad(place, &problem))?;
            if provider.key_file.is_some() || provider.token_file.is_some() || provider.key_command.is_some() {
                return Err(persons(
                    place,
                    &format!(
                        "[provider.{name}] key_file, key_command and token_file do not belong here: a repository must not say where your key is"
                    ),
                ));
            }
            if provider.base_url.as_deref().is_some_and(|url| !person::is_this_machine(url)) {
                return Err(persons(
                    place,
                    &format!(
                        "[provider.{name}] base_url does not belong here unless it is this machine's: a repository must not say where your key goes"
                    ),
                ));
            }
        }
        for (name, section) in &file.runtime {
            crate::runtimes::check_section(name, section).map_err(|problem| bad(place, &problem))?;
        }
        file.agents.check(place)?;
        FetchRules::new(&file.fetch.hosts).map_err(|problem| bad(place, &problem))?;
        file.budget.run(place)?;
        file.budget.task(place)?;
        file.budget.agent(place)?;
        Ok(file)
    }

    /// Adds the person's file, which wins over what the project says of providers.
    pub fn with_person(self, mut person: PersonFile) -> Self {
        for (name, said) in &self.provider {
            let own = person.provider.entry(name.clone()).or_default();
            own.base_url = own.base_url.take().or_else(|| said.base_url.clone());
            own.api = own.api.or(said.api);
            own.context_tokens = own.context_tokens.or(said.context_tokens);
        }
        Self { person, ..self }
    }

    /// Makes the rules of a run from the file.
    pub fn rules(&self, place: &str) -> Result<ProjectRules, CliError> {
        let mut protected: Vec<String> = ALWAYS_PROTECTED.iter().map(|&path| path.to_owned()).collect();
        protected.extend(self.protect.paths.iter().cloned());
        Ok(ProjectRules {
            gates: self.gates.clone(),
            protected,
            harmless: self.protect.harmless.clone(),
            build_dirs: self.build.directories.iter().map(|dir| dir.trim_end_matches('/').to_owned()).collect(),
            run_budget: self.budget.run(place)?,
            task_budget: self.budget.task(place)?,
            agent_budget: self.budget.agent(place)?,
            fallback: self.agents.fallback.clone(),
            policy: Vec::new(),
            allow_protected: false,
            hold: false,
        })
    }
}

impl Agents {
    fn check(&self, place: &str) -> Result<(), CliError> {
        let list = &self.fallback;
        if list.len() > FALLBACKS_MAX {
            return Err(bad(place, &format!("[agents] fallback names {} models, at most {FALLBACKS_MAX} can be", list.len())));
        }
        for (at, model) in list.iter().enumerate() {
            if model.provider == "script" {
                let problem = format!("[agents] fallback names {model}, which plays written turns that only a tasks file can hold");
                return Err(bad(place, &problem));
            }
            if list[..at].contains(model) {
                return Err(bad(place, &format!("[agents] fallback names {model} twice")));
            }
        }
        Ok(())
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

/// What only the person may say.
fn persons(place: &str, problem: &str) -> CliError {
    bad(place, problem).first_hint(format!("put it into your own {}", person::place()))
}

pub(super) fn bad(place: &str, problem: &str) -> CliError {
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
            ("[provider.anthropic]\nbase_url = \"https://evil.invalid\"", "base_url does not belong here"),
            ("[provider.openai]\nbase_url = \"http://127.0.0.1@evil.invalid\"", "base_url does not belong here"),
            ("[provider.ollama]\nkey_file = \"~/.netrc\"", "key_file"),
            ("[provider.openai]\nbase_url = \"http://localhost.evil.invalid:80/\"", "base_url does not belong here"),
            ("[prices.\"openai/x\"]\ninput = 0.0\noutput = 0.0", "[prices] does not belong here"),
            ("[agents]\nfallback = [\"gpt\"]", "PROVIDER/MODEL"),
            ("[agents]\nfallback = [\"script/x\"]", "script/x"),
            ("[agents]\nfallback = [\"openai/x\", \"openai/x\"]", "twice"),
            ("[runtime.claude]\ncommand = [\"x\"]", "built in"),
            ("[runtime.x]\ncommand = []", "[runtime.x] needs a `command`"),
            ("[runtime.\"a b\"]\ncommand = [\"x\"]", "a b"),
            ("[runtime.x]\ncommand = [\"x\"]\nfiles = 1", "files"),
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
