//! The runtimes that tasks may name: our own, Claude Code, and what `aedile.toml` adds.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use aedile_core::model::ModelRef;
use aedile_core::runtime::Runtime;
use aedile_core::task::TaskSpec;
use aedile_runtimes::{AcpRuntime, CLAUDE_VERSION_MIN, ClaudeRuntime};

use crate::config::file::{ConfigFile, RuntimeSection};
use crate::config::person::Api;
use crate::env;
use crate::error::CliError;

/// Our own coding agent.
pub const AEDILE: &str = "aedile";
/// Claude Code.
pub const CLAUDE: &str = "claude";

/// One runtime.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Its name.
    pub name: String,
    /// The program that must be on the person's PATH; `None` for our own.
    pub program: Option<String>,
    /// What `aedile.toml` says of it.
    section: Option<RuntimeSection>,
}

/// Where a runtime's program is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// It is this program.
    Own,
    /// There.
    At(PathBuf),
    /// Nowhere on the PATH.
    Missing,
}

/// All of them, and the providers whose models they may use.
#[derive(Debug, Clone)]
pub struct Catalogue {
    entries: Vec<Entry>,
    /// Names, and whether they speak Anthropic's format.
    providers: BTreeMap<String, bool>,
}

impl Catalogue {
    /// The built-in ones and those of the file.
    pub fn of(config: &ConfigFile) -> Self {
        let own = Entry { name: AEDILE.to_owned(), program: None, section: None };
        let claude = Entry { name: CLAUDE.to_owned(), program: Some(CLAUDE.to_owned()), section: None };
        let more = config.runtime.iter().map(|(name, section)| Entry {
            name: name.clone(),
            program: section.command.first().cloned(),
            section: Some(section.clone()),
        });
        let built_in = [("anthropic", true), ("openai", false), ("gemini", false), ("ollama", false), ("script", true)];
        let further = config.person.further().map(|(name, api, _)| (name, api == Api::Anthropic));
        let providers = built_in.into_iter().chain(further).map(|(name, speaks)| (name.to_owned(), speaks)).collect();
        Self { entries: [own, claude].into_iter().chain(more).collect(), providers }
    }

    /// Whether a runtime can use a model.
    ///
    /// # Errors
    /// Says why not.
    pub fn takes(&self, runtime: &Entry, model: &ModelRef) -> Result<(), String> {
        match self.providers.get(&model.provider) {
            None => {
                let known = self.providers.keys().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
                Err(format!("provider {:?} of model {model} is not known; known are {known}", model.provider))
            }
            Some(false) if runtime.name == CLAUDE => {
                Err(format!("runtime \"claude\" speaks Anthropic's format and cannot use the model {model}"))
            }
            Some(_) => Ok(()),
        }
    }

    /// Checks the models that may take the place of others.
    ///
    /// # Errors
    /// Names the one whose provider is not known.
    pub fn check_fallback(&self, fallback: &[ModelRef]) -> Result<(), CliError> {
        match fallback.iter().find(|model| !self.providers.contains_key(&model.provider)) {
            None => Ok(()),
            Some(model) => Err(CliError::config(format!("[agents] fallback names {model}, whose provider is not known"))
                .hint(format!("known are {}", self.providers.keys().cloned().collect::<Vec<_>>().join(", ")))
                .hint("others are added as `[provider.NAME]` in your own `config.toml` (docs/models.md)")),
        }
    }

    /// Every one.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The one of that name.
    pub fn get(&self, name: &str) -> Result<&Entry, CliError> {
        self.entries.iter().find(|entry| entry.name == name).ok_or_else(|| {
            let names = self.entries.iter().map(|entry| format!("`{}`", entry.name)).collect::<Vec<_>>().join(", ");
            CliError::config(format!("runtime {name:?} is not known"))
                .hint(format!("known are {names}; another agent is added as `[runtime.NAME]` in aedile.toml (docs/runtimes.md)"))
        })
    }

    /// Programs that boxes must be able to start.
    pub fn programs(&self) -> Vec<String> {
        self.entries.iter().filter_map(|entry| entry.program.clone()).collect()
    }

    /// All of them, ready to be started.
    pub fn runtimes(&self) -> Vec<Arc<dyn Runtime>> {
        self.entries.iter().map(Entry::runtime).collect()
    }

    /// Checks that every runtime that the tasks name is installed.
    ///
    /// # Errors
    /// Names the first task whose runtime is missing, and how to get it.
    pub fn installed(&self, tasks: &[TaskSpec]) -> Result<(), CliError> {
        for task in tasks {
            let entry = self.get(&task.runtime)?;
            if entry.found() == Found::Missing {
                let mut error = entry.missing();
                error.message = format!("task {:?}: {}", task.key.as_str(), error.message);
                return Err(error);
            }
        }
        Ok(())
    }
}

impl Entry {
    /// What it is, in a few words.
    pub fn kind(&self) -> &'static str {
        match (self.name.as_str(), &self.section) {
            (_, Some(_)) => "an agent that speaks ACP, from aedile.toml",
            (CLAUDE, None) => "Claude Code, over stream-json",
            (_, None) => "our own coding agent",
        }
    }

    /// Looks for its program.
    pub fn found(&self) -> Found {
        let Some(program) = &self.program else { return Found::Own };
        let path: Vec<PathBuf> = env::get(env::PATH).map(|path| std::env::split_paths(&path).collect()).unwrap_or_default();
        aedile_sandbox::find_program(&path, program).map_or(Found::Missing, |(place, _)| Found::At(place))
    }

    /// The error of a program that is not there.
    pub fn missing(&self) -> CliError {
        let program = self.program.as_deref().unwrap_or(AEDILE);
        let error = CliError::config(format!("the runtime `{}` is not installed: `{program}` is not on the PATH", self.name));
        match &self.section {
            Some(_) => error.hint(format!("install it, or correct `[runtime.{}] command` in aedile.toml", self.name)),
            None => error.hint(format!(
                "`npm install -g @anthropic-ai/claude-code@{CLAUDE_VERSION_MIN}` (or newer) installs it; `aedile runtime test {}` tries it",
                self.name
            )),
        }
    }

    /// The runtime itself.
    pub fn runtime(&self) -> Arc<dyn Runtime> {
        match &self.section {
            None if self.name == CLAUDE => Arc::new(ClaudeRuntime::default()),
            None => Arc::new(AcpRuntime::aedile()),
            Some(section) => {
                let env = section.env.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
                let runtime = AcpRuntime::command(&self.name, section.command.clone(), env);
                Arc::new(match &section.auth_method {
                    Some(method) => runtime.with_auth_method(method),
                    None => runtime,
                })
            }
        }
    }

    /// The command that prints a version.
    pub fn version_command(&self) -> Option<Vec<String>> {
        self.program.clone().map(|program| vec![program, "--version".to_owned()])
    }
}

/// Whether a section may have this name, and what is wrong with it otherwise.
pub fn check_section(name: &str, section: &RuntimeSection) -> Result<(), String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if matches!(name, AEDILE | CLAUDE) {
        return Err(format!("[runtime.{name}] is built in; give your own another name"));
    }
    if name.is_empty() || name.len() > 40 || !name.chars().all(plain) {
        return Err(format!("[runtime.{name:?}] must be named with 1 to 40 letters, digits, `-` and `_`"));
    }
    if section.command.first().is_none_or(|program| program.trim().is_empty()) {
        return Err(format!("[runtime.{name}] needs a `command`: a program and its arguments, as a list"));
    }
    let bad = |name: &&String| name.is_empty() || name.contains('=') || name.contains('\0');
    if let Some(variable) = section.env.keys().find(bad) {
        return Err(format!("[runtime.{name}] env: {variable:?} cannot be the name of a variable"));
    }
    Ok(())
}
