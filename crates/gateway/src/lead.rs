//! The models that a door leads to.

use aedile_core::model::{Abilities, ModelRef};
use aedile_models::ApiFormat;
use aedile_models::grant::Told;

use crate::error::Refused;
use crate::spending::Spending;
use crate::upstream::Upstream;

/// A model, and where requests to it go.
pub(crate) struct Lead {
    pub(crate) model: ModelRef,
    pub(crate) upstream: Upstream,
}

impl Lead {
    /// Whether its provider takes the format. Whoever speaks one of OpenAI's formats may be asked in the other.
    pub(crate) fn speaks(&self, format: ApiFormat) -> bool {
        let openai = |format: ApiFormat| matches!(format, ApiFormat::OpenAi | ApiFormat::Responses);
        match &self.upstream {
            Upstream::Provider(endpoint) => endpoint.format == format || (openai(endpoint.format) && openai(format)),
            // Written turns are told in any format.
            Upstream::Script(_) => true,
        }
    }

    /// The provider's name; written turns have none that could be down.
    pub(crate) fn provider(&self) -> Option<&str> {
        match &self.upstream {
            Upstream::Provider(endpoint) => Some(&endpoint.name),
            Upstream::Script(_) => None,
        }
    }

    /// Where it is asked, for people.
    fn paths(&self) -> String {
        let paths = match &self.upstream {
            Upstream::Script(_) => "any path of a model",
            Upstream::Provider(endpoint) => match endpoint.format {
                ApiFormat::Anthropic => "/v1/messages and /v1/messages/count_tokens",
                ApiFormat::OpenAi | ApiFormat::Responses => "/v1/responses, /v1/chat/completions and /v1/models",
                ApiFormat::Gemini => "/v1beta/models/MODEL:generateContent, :streamGenerateContent?alt=sse and :countTokens",
                ApiFormat::Ollama => "/api/chat",
            },
        };
        format!("{}: use {paths}", self.model.provider)
    }

    /// What an agent must know about it: the format that it should speak, the window that it may fill, what it can do.
    pub(crate) fn told(&self, spending: &Spending) -> Told {
        let (known, window) = spending.model(&self.model);
        let (format, can, window) = match &self.upstream {
            Upstream::Provider(endpoint) => (endpoint.format, known, endpoint.context_tokens.unwrap_or(window)),
            Upstream::Script(_) => (ApiFormat::Anthropic, Abilities::WRITTEN, window),
        };
        Told {
            model: self.model.clone(),
            format: format.name().to_owned(),
            context_tokens: window,
            max_output_tokens: can.output,
            images: can.images,
            pdf: can.pdf,
            thinking: can.thinking,
            structured_output: can.structured,
            others: Vec::new(),
        }
    }
}

/// Refuses a format that none of them speaks.
pub(crate) fn check_format(leads: &[Lead], format: ApiFormat) -> Result<(), Refused> {
    if leads.iter().any(|lead| lead.speaks(format)) {
        return Ok(());
    }
    let mut places: Vec<String> = leads.iter().map(Lead::paths).collect();
    places.dedup();
    Err(Refused::not_found(format!("this door leads to {}", places.join(", and to "))))
}

/// Finds the model that a request in the format asks for.
pub(crate) fn find(leads: &[Lead], format: ApiFormat, asked: &str) -> Result<usize, Refused> {
    let speaking = || leads.iter().enumerate().filter(|(_, lead)| lead.speaks(format));
    if let Some((at, _)) = speaking().find(|(_, lead)| lead.model.model == asked) {
        return Ok(at);
    }
    let granted: Vec<String> = speaking().map(|(_, lead)| format!("{:?}", lead.model.model)).collect();
    let noun = if granted.len() == 1 { "the model" } else { "the models" };
    let asked: String = asked.chars().take(100).collect();
    let granted = granted.join(" and ");
    Err(Refused::forbidden(format!("this agent may use {noun} {granted}, not {asked:?}: set the model in the agent's settings")))
}
