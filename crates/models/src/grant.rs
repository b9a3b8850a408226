//! What a door grants, and the provider that speaks to it.

use std::sync::Arc;

use aedile_core::model::ModelProvider;
use serde::Deserialize;

use crate::anthropic::AnthropicMessages;
use crate::call::{Endpoint, describe};
use crate::format::ApiFormat;
use crate::gemini::Gemini;
use crate::ollama::Ollama;
use crate::openai::OpenAiChat;
use crate::responses::OpenAiResponses;

/// Where a door tells its grant.
pub const GRANT_PATH: &str = "/aedile/v1/model";

/// What a door says of the model that it grants.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Granted {
    /// The format that should be spoken.
    pub format: ApiFormat,
    /// The model's window in tokens.
    pub context_tokens: u64,
}

#[derive(Deserialize)]
struct Told {
    format: String,
    context_tokens: u64,
}

impl Granted {
    /// Asks the door at this URL.
    ///
    /// # Errors
    /// A sentence: it does not answer, or names a format that this program does not speak.
    pub async fn ask(client: &reqwest::Client, door: &str) -> Result<Self, String> {
        let wrong = |problem: String| format!("the door does not tell its model: {problem}");
        let answer = client.get(format!("{}{GRANT_PATH}", door.trim_end_matches('/'))).send().await;
        let answer = answer.and_then(reqwest::Response::error_for_status).map_err(|error| wrong(describe(error)))?;
        let told: Told = answer.json().await.map_err(|error| wrong(describe(error)))?;
        let format = ApiFormat::from_name(&told.format).ok_or_else(|| wrong(format!("this program does not speak {:?}", told.format)))?;
        Ok(Self { format, context_tokens: told.context_tokens })
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
