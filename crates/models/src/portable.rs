//! Conversations that change from one model to another.
//!
//! What a provider sent and we do not understand (thinking, signatures, fields of its own) goes back to models of the same
//! format as it came. A model of another format would refuse it, so it stays out of that request; the conversation keeps it.

use std::borrow::Cow;

use aedile_core::model::{Block, Message, ModelRequest, ModelResponse};

use crate::format::ApiFormat;

/// The origin of an answer.
pub(crate) fn origin(format: ApiFormat, model: &str) -> String {
    format!("{}/{model}", format.name())
}

/// Notes whose answer it is.
pub(crate) fn signed(mut answer: ModelResponse, origin: String) -> ModelResponse {
    answer.message.origin = Some(origin);
    answer
}

/// The request without what only other models understand.
pub(crate) fn for_format(request: &ModelRequest, format: ApiFormat) -> Cow<'_, ModelRequest> {
    let foreign = |message: &Message| is_foreign(message, format, &request.model);
    if !request.messages.iter().any(foreign) {
        return Cow::Borrowed(request);
    }
    let mut changed = request.clone();
    for message in changed.messages.iter_mut().filter(|message| foreign(message)) {
        strip(message);
    }
    changed.messages.retain(|message| !message.content.is_empty());
    Cow::Owned(changed)
}

/// Whether another format's model said this. The reasoning of the Responses format is encrypted for one model only.
fn is_foreign(message: &Message, format: ApiFormat, model: &str) -> bool {
    let spoken = message.origin.as_deref().and_then(|origin| origin.split_once('/'));
    spoken.is_some_and(|(spoken, by)| spoken != format.name() || (format == ApiFormat::Responses && by != model))
}

fn strip(message: &mut Message) {
    message.extra.clear();
    message.content.retain(|block| !matches!(block, Block::Other { .. }));
    for block in &mut message.content {
        if let Block::Text { extra, .. } | Block::ToolUse { extra, .. } = block {
            extra.clear();
        }
    }
}
