//! What a door grants, and the provider that speaks to it.

use std::sync::Arc;

use aedile_core::model::{Abilities, ModelProvider, ModelRef};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};

use crate::anthropic::AnthropicMessages;
use crate::call::{Endpoint, describe, plain_client};
use crate::format::ApiFormat;
use crate::gemini::Gemini;
use crate::ollama::Ollama;
use crate::openai::OpenAiChat;
use crate::responses::OpenAiResponses;

/// Where a door tells its grant.
pub const GRANT_PATH: &str = "/aedile/v1/model";

/// Says in a request that its sender can change to another model itself, in whatever format that one speaks: a door then answers with
/// the model that can be asked in place of one whose provider is down ([`ModelError::Down`](aedile_core::model::ModelError::Down)).
pub const SWITCHES_HEADER: &str = "x-aedile-switches";
/// The `type` of the error with which a door answers then; beside `message` it holds `next`.
pub const DOWN_ERROR: &str = "provider_down";

/// What a door says of a model that it grants.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Granted {
    /// The model.
    pub model: ModelRef,
    /// The format that should be spoken.
    pub format: ApiFormat,
    /// How much of its window should be filled, in tokens.
    pub context_tokens: u64,
    /// What it can do.
    pub can: Abilities,
}

/// A model that a door grants, as the door writes it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Told {
    /// The model.
    pub model: ModelRef,
    /// Name of the format that should be spoken.
    pub format: String,
    /// How much of its window should be filled, in tokens.
    pub context_tokens: u64,
    /// The longest answer, in tokens.
    pub max_output_tokens: u64,
    /// Whether it takes pictures.
    pub images: bool,
    /// Whether it takes PDF files.
    pub pdf: bool,
    /// Whether it can be asked to think.
    pub thinking: bool,
    /// Whether an answer can be held to a JSON schema.
    pub structured_output: bool,
    /// Beside the door's own model: those that may take its place.
    #[serde(default)]
    pub others: Vec<Self>,
}

impl Granted {
    /// Asks the door at this URL. The first is the model that is to be used, the others are those that may take its place.
    ///
    /// # Errors
    /// A sentence: it does not answer, or names a format that this program does not speak.
    pub async fn ask(client: &reqwest::Client, door: &str) -> Result<Vec<Self>, String> {
        let wrong = |problem: String| format!("the door does not tell its model: {problem}");
        let answer = client.get(format!("{}{GRANT_PATH}", door.trim_end_matches('/'))).send().await;
        let answer = answer.and_then(reqwest::Response::error_for_status).map_err(|error| wrong(describe(error)))?;
        let mut told: Told = answer.json().await.map_err(|error| wrong(describe(error)))?;
        let others = std::mem::take(&mut told.others);
        std::iter::once(told).chain(others).map(|told| Self::read(told).map_err(wrong)).collect()
    }

    fn read(told: Told) -> Result<Self, String> {
        let format = ApiFormat::from_name(&told.format).ok_or_else(|| format!("this program does not speak {:?}", told.format))?;
        let can = Abilities {
            context: told.context_tokens,
            output: told.max_output_tokens,
            images: told.images,
            pdf: told.pdf,
            thinking: told.thinking,
            structured: told.structured_output,
        };
        Ok(Self { model: told.model, format, context_tokens: told.context_tokens, can })
    }

    /// Whether an answer can be held to a JSON schema while tools are offered. Ollama holds calls of tools to the schema too, and Gemini
    /// before version 3 refuses the two together (<https://ai.google.dev/gemini-api/docs/structured-output>).
    pub fn structured_beside_tools(&self) -> bool {
        let together = match self.format {
            ApiFormat::Anthropic | ApiFormat::OpenAi | ApiFormat::Responses => true,
            ApiFormat::Gemini => !["gemini-1", "gemini-2"].iter().any(|old| self.model.model.starts_with(old)),
            ApiFormat::Ollama => false,
        };
        self.can.structured && together
    }

    /// Makes the provider that speaks the format to the endpoint.
    pub fn provider(&self, endpoint: Endpoint) -> Arc<dyn ModelProvider> {
        match self.format {
            ApiFormat::Anthropic => Arc::new(AnthropicMessages::new(endpoint)),
            ApiFormat::OpenAi => Arc::new(OpenAiChat::new(endpoint)),
            ApiFormat::Responses => Arc::new(OpenAiResponses::new(endpoint)),
            ApiFormat::Gemini => Arc::new(Gemini::new(endpoint)),
            ApiFormat::Ollama => Arc::new(Ollama::new(endpoint, self.context_tokens)),
        }
    }
}

/// Makes the client for a door, by which a sender says that it can change its model itself.
///
/// # Errors
/// The client cannot be set up.
pub fn door_client() -> Result<reqwest::Client, reqwest::Error> {
    let headers = HeaderMap::from_iter([(HeaderName::from_static(SWITCHES_HEADER), HeaderValue::from_static("1"))]);
    plain_client().default_headers(headers).build()
}
