//! What an agent is made of.

use aedile_core::limits::{AGENT_CONTEXT_TOKENS_DEFAULT, AGENT_STEPS_MAX, MODEL_OUTPUT_TOKENS_DEFAULT};
use aedile_core::model::{Abilities, ModelProvider};
use aedile_core::runtime::PermissionAsker;
use aedile_core::tool::{CommandRunner, Sight, Tool};
use aedile_core::{Clock, Entropy};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// Makes the tools of one session that works in the given directory, for a model that takes what the second says.
pub type ToolFactory = Arc<dyn Fn(&Path, &Sight) -> Vec<Arc<dyn Tool>> + Send + Sync>;

/// Finds a model by its name `provider/model`. The error is a sentence.
pub type ModelFinder = Arc<dyn Fn(&str) -> Result<ModelChoice, String> + Send + Sync>;

/// A model that a session can use.
#[derive(Clone)]
pub struct ModelChoice {
    /// Its provider.
    pub provider: Arc<dyn ModelProvider>,
    /// Its name at that provider.
    pub model: String,
    /// How much of its window is filled, in tokens.
    pub context_tokens: u64,
    /// What it can do. `structured` says whether its answer can be held to a JSON schema while tools are offered.
    pub can: Abilities,
}

/// The present model of a session. Clones share one.
#[derive(Clone)]
pub(crate) struct Current(Arc<Mutex<ModelChoice>>);

impl Current {
    pub(crate) fn new(choice: ModelChoice) -> Self {
        Self(Arc::new(Mutex::new(choice)))
    }

    pub(crate) fn set(&self, choice: ModelChoice) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = choice;
    }

    pub(crate) fn get(&self) -> ModelChoice {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Everything an agent needs from outside.
#[derive(Clone)]
pub struct AgentConfig {
    /// The model's provider.
    pub provider: Arc<dyn ModelProvider>,
    /// The model's name at that provider.
    pub model: String,
    /// Other models that a session may change to; none without it.
    pub models: Option<ModelFinder>,
    /// The tools.
    pub tools: ToolFactory,
    /// Runs the repository's hooks.
    pub commands: Arc<dyn CommandRunner>,
    /// The person's own `settings.json`: the text, and what it is called in warnings. Only there do rules that allow and hooks that approve count.
    pub own_settings: Option<(String, String)>,
    /// Whoever can be asked before a call; without one the box alone decides.
    pub asker: Option<Arc<dyn PermissionAsker>>,
    /// The agent's home; sessions are kept below it.
    pub home: PathBuf,
    /// The model's context window in tokens.
    pub context_tokens: u64,
    /// What the model can do, as in [`ModelChoice`].
    pub can: Abilities,
    /// The most output tokens of one answer.
    pub max_output_tokens: u32,
    /// The most model requests within one prompt.
    pub max_steps: u32,
    /// Constraints of the task that the system prompt names, for example what may be changed. May be empty.
    pub notes: String,
    /// Time, for session ids.
    pub clock: Arc<dyn Clock>,
    /// Random bytes, for session ids.
    pub entropy: Arc<dyn Entropy>,
}

impl AgentConfig {
    /// A configuration with the default window and output limit, for a model of which nothing is known, and without notes.
    pub fn new(
        provider: Arc<dyn ModelProvider>,
        model: impl Into<String>,
        tools: ToolFactory,
        commands: Arc<dyn CommandRunner>,
        home: impl Into<PathBuf>,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
    ) -> Self {
        Self {
            provider,
            model: model.into(),
            tools,
            commands,
            own_settings: None,
            asker: None,
            models: None,
            home: home.into(),
            context_tokens: AGENT_CONTEXT_TOKENS_DEFAULT,
            can: Abilities::UNKNOWN,
            max_output_tokens: MODEL_OUTPUT_TOKENS_DEFAULT,
            max_steps: AGENT_STEPS_MAX,
            notes: String::new(),
            clock,
            entropy,
        }
    }

    /// Its model.
    pub(crate) fn choice(&self) -> ModelChoice {
        let (provider, model) = (Arc::clone(&self.provider), self.model.clone());
        ModelChoice { provider, model, context_tokens: self.context_tokens, can: self.can }
    }

    /// What tools may show the model.
    pub(crate) fn sight(&self) -> Sight {
        Sight::new(self.can.images, self.can.pdf)
    }

    /// The same with another model.
    #[must_use]
    pub fn with_model(self, choice: ModelChoice) -> Self {
        let ModelChoice { provider, model, context_tokens, can } = choice;
        Self { provider, model, context_tokens, can, ..self }
    }

    /// The most output tokens that are asked for: never more than the model gives.
    pub(crate) fn output_tokens(&self) -> u32 {
        self.max_output_tokens.min(u32::try_from(self.can.output).unwrap_or(u32::MAX))
    }
}
