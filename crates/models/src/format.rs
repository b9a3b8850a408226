//! The two wire formats.

/// A wire format that we speak.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ApiFormat {
    /// Anthropic Messages: `POST /v1/messages`.
    Anthropic,
    /// OpenAI Chat Completions: `POST /v1/chat/completions`.
    OpenAi,
}

impl ApiFormat {
    /// The format's name, as it stands in the origin of a message.
    pub fn name(self) -> &'static str {
        match self {
            Self::Anthropic => "anthropic",
            Self::OpenAi => "openai-chat",
        }
    }

    /// Returns the address of a method below a base URL. `method` has no leading slash: `messages`, `chat/completions`, `models`.
    ///
    /// People write base URLs with and without `/v1`. A base without a path gets `/v1`; an Anthropic base always gets it
    /// unless it ends with it; an OpenAI base with a path (`/v1`, `/api/v1`, `/openai`) is taken as it is.
    pub fn url(self, base: &str, method: &str) -> String {
        let base = base.trim_end_matches('/');
        let host_and_path = base.split_once("://").map_or(base, |(_, rest)| rest);
        let versioned = match self {
            Self::Anthropic => base.ends_with("/v1"),
            Self::OpenAi => host_and_path.contains('/'),
        };
        if versioned { format!("{base}/{method}") } else { format!("{base}/v1/{method}") }
    }

    /// The method that answers a conversation.
    pub fn chat_method(self) -> &'static str {
        match self {
            Self::Anthropic => "messages",
            Self::OpenAi => "chat/completions",
        }
    }
}
