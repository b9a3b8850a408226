//! The wire formats.

/// A wire format that we speak.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ApiFormat {
    /// Anthropic Messages: `POST /v1/messages`.
    Anthropic,
    /// OpenAI Chat Completions: `POST /v1/chat/completions`.
    OpenAi,
    /// OpenAI Responses: `POST /v1/responses`.
    Responses,
    /// Gemini: `POST /v1beta/models/MODEL:generateContent` and `:streamGenerateContent`. The model stands in the path.
    Gemini,
    /// Ollama's own: `POST /api/chat`, streamed as one JSON object a line.
    Ollama,
}

impl ApiFormat {
    /// Every format.
    pub const ALL: [Self; 5] = [Self::Anthropic, Self::OpenAi, Self::Responses, Self::Gemini, Self::Ollama];

    /// The format's name, as it stands in the origin of a message and in what a door tells its agent.
    pub fn name(self) -> &'static str {
        match self {
            Self::Anthropic => "anthropic",
            Self::OpenAi => "openai-chat",
            Self::Responses => "openai-responses",
            Self::Gemini => "gemini",
            Self::Ollama => "ollama",
        }
    }

    /// The format of a name that [`Self::name`] gives.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.name() == name)
    }

    /// Returns the address of a method below a base URL. `method` has no leading slash: `messages`, `chat/completions`, `models`.
    ///
    /// People write base URLs with and without a version. A base without a path gets `/v1` (Gemini `/v1beta`, Ollama `/api`); an
    /// Anthropic, Gemini or Ollama base always gets it unless it ends with it; an OpenAI base with a path (`/v1`, `/api/v1`,
    /// `/openai`) is taken as it is.
    pub fn url(self, base: &str, method: &str) -> String {
        let base = base.trim_end_matches('/');
        let host_and_path = base.split_once("://").map_or(base, |(_, rest)| rest);
        let (versioned, version) = match self {
            Self::Anthropic => (base.ends_with("/v1"), "v1"),
            Self::OpenAi | Self::Responses => (host_and_path.contains('/'), "v1"),
            Self::Gemini => (base.ends_with("/v1beta") || base.ends_with("/v1"), "v1beta"),
            Self::Ollama => (base.ends_with("/api"), "api"),
        };
        if versioned { format!("{base}/{method}") } else { format!("{base}/{version}/{method}") }
    }

    /// The method that answers a conversation with a model, with its query.
    pub fn chat_method(self, model: &str, stream: bool) -> String {
        match (self, stream) {
            (Self::Anthropic, _) => "messages".to_owned(),
            (Self::OpenAi, _) => "chat/completions".to_owned(),
            (Self::Responses, _) => "responses".to_owned(),
            (Self::Gemini, false) => format!("models/{model}:generateContent"),
            (Self::Gemini, true) => format!("models/{model}:streamGenerateContent?alt=sse"),
            (Self::Ollama, _) => "chat".to_owned(),
        }
    }
}
