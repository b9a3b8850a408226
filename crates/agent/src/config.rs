//! What an agent is made of.

use aedile_core::limits::{AGENT_CONTEXT_TOKENS_DEFAULT, AGENT_STEPS_MAX, MODEL_OUTPUT_TOKENS_DEFAULT};
use aedile_core::model::ModelProvider;
use aedile_core::runtime::PermissionAsker;
use aedile_core::tool::{CommandRunner, Tool};
use aedile_core::{Clock, Entropy};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Makes the tools of one session that works in the given directory.
pub type ToolFactory = Arc<dyn Fn(&Path) -> Vec<Arc<dyn Tool>> + Send + Sync>;

/// Finds the provider of a model by its name `provider/model`; the second is the model's name at that provider. The error is a sentence.
pub type ModelFinder = Arc<dyn Fn(&str) -> Result<(Arc<dyn ModelProvider>, String), String> + Send + Sync>;

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
    /// Whoever can be asked before a call; without one the box alone decides.
    pub asker: Option<Arc<dyn PermissionAsker>>,
    /// The agent's home; sessions are kept below it.
    pub home: PathBuf,
    /// The model's context window in tokens.
    pub context_tokens: u64,
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
    /// A configuration with the default window and output limit and without notes.
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
            asker: None,
            models: None,
            home: home.into(),
            context_tokens: AGENT_CONTEXT_TOKENS_DEFAULT,
            max_output_tokens: MODEL_OUTPUT_TOKENS_DEFAULT,
            max_steps: AGENT_STEPS_MAX,
            notes: String::new(),
            clock,
            entropy,
        }
    }
}
