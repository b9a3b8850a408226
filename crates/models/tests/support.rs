//! Endpoints and requests that the tests share.

use std::sync::{Arc, Once};

use aedile_core::SecretString;
use aedile_core::model::{Block, Message, ModelDelta, ModelError, ModelProvider, ModelRequest, ModelResponse, ToolSpec};
use aedile_models::{AnthropicMessages, ApiFormat, Endpoint, Gemini, Ollama, OpenAiChat, OpenAiResponses, client_for};
use aedile_testkit::{ScriptedServer, SeededEntropy, SteppingClock, WireFormat};
use serde_json::{Map, json};

/// Every format.
pub(crate) const ALL: [WireFormat; 5] = WireFormat::ALL;

pub(crate) fn endpoint(base_url: &str) -> Endpoint {
    static PROVIDER: Once = Once::new();
    PROVIDER.call_once(|| rustls::crypto::ring::default_provider().install_default().unwrap());
    Endpoint {
        base_url: base_url.to_owned(),
        key: Some(SecretString::from("key-for-tests")),
        client: client_for([base_url]).unwrap(),
        clock: Arc::new(SteppingClock::default()),
        entropy: Arc::new(SeededEntropy::new(7)),
    }
}

pub(crate) fn provider(format: WireFormat, base_url: &str) -> Box<dyn ModelProvider> {
    match format {
        WireFormat::Anthropic => Box::new(AnthropicMessages::new(endpoint(base_url))),
        WireFormat::OpenAi => Box::new(OpenAiChat::new(endpoint(base_url))),
        WireFormat::Responses => Box::new(OpenAiResponses::new(endpoint(base_url))),
        WireFormat::Gemini => Box::new(Gemini::new(endpoint(base_url))),
        WireFormat::Ollama => Box::new(Ollama::new(endpoint(base_url), 20_000)),
    }
}

pub(crate) fn api(format: WireFormat) -> ApiFormat {
    match format {
        WireFormat::Anthropic => ApiFormat::Anthropic,
        WireFormat::OpenAi => ApiFormat::OpenAi,
        WireFormat::Responses => ApiFormat::Responses,
        WireFormat::Gemini => ApiFormat::Gemini,
        WireFormat::Ollama => ApiFormat::Ollama,
    }
}

pub(crate) fn request(text: &str) -> ModelRequest {
    ModelRequest {
        model: "test-model".to_owned(),
        system: "You are tested.".to_owned(),
        messages: vec![Message::user(text)],
        tools: vec![ToolSpec { name: "read".to_owned(), description: "Reads.".to_owned(), input_schema: json!({"type": "object"}) }],
        max_output_tokens: 500,
        output_schema: None,
        extra: Map::new(),
    }
}

/// What a message says and calls, without the provider's own fields.
pub(crate) fn plain(message: &Message) -> Vec<Block> {
    let plain = |block: &Block| match block.clone() {
        Block::Text { text, .. } => Block::text(text),
        Block::ToolUse { id, name, input, .. } => Block::ToolUse { id, name, input, extra: serde_json::Map::new() },
        other => other,
    };
    message.content.iter().map(plain).collect()
}

/// Asks the server and returns the answer with all pieces that came before it.
pub(crate) async fn ask(
    format: WireFormat,
    server: &ScriptedServer,
    request: &ModelRequest,
) -> (Result<ModelResponse, ModelError>, Vec<ModelDelta>) {
    let mut deltas = Vec::new();
    let answer = provider(format, &server.url()).stream(request, &mut |delta: ModelDelta| deltas.push(delta)).await;
    (answer, deltas)
}
