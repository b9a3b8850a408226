//! Model wire formats, streaming, usage and prices.
//!
//! * [`AnthropicMessages`], [`OpenAiChat`], [`OpenAiResponses`], [`Gemini`] and [`Ollama`] speak to a provider; [`ScriptModel`]
//!   plays written turns.
//! * [`SseParser`], [`ModelBody`] and [`UsageMeter`] let a gateway understand what passes through it without changing it.
//! * [`Breaker`] knows when a provider is to be left alone, [`Fault`] what an answer says of its provider.
//! * [`PriceTable`] turns usage into money and knows what models can do.

pub mod anthropic;
mod anthropic_stream;
pub mod body;
pub mod breaker;
mod call;
pub mod fault;
pub mod format;
pub mod gemini;
mod gemini_stream;
pub mod grant;
pub mod meter;
pub mod ollama;
pub mod openai;
mod openai_stream;
mod portable;
pub mod prices;
pub mod responses;
mod responses_stream;
mod retry;
mod schema;
pub mod script;
mod script_wire;
mod script_wire_more;
pub mod sse;

pub use anthropic::AnthropicMessages;
pub use body::{BadBody, ModelBody, RequestFacts};
pub use breaker::{Admission, Breaker, Change, Down};
pub use call::{Endpoint, client_for};
pub use fault::{Fault, FaultKind, FaultOf};
pub use format::ApiFormat;
pub use gemini::Gemini;
pub use grant::{Granted, door_client};
pub use meter::{Metered, UsageMeter, provider_usage};
pub use ollama::Ollama;
pub use openai::OpenAiChat;
pub use prices::{Abilities, BadPrices, LongPrices, PriceRow, PriceTable, Terms, Unpriced};
pub use responses::OpenAiResponses;
pub use script::{BadScript, Script, ScriptModel};
pub use script_wire::WireAnswer;
pub use sse::{SseEvent, SseParser};
