//! How full the model's window is, and how old tool output is left out.

use aedile_core::model::{Abilities, Block, Media, Message, Role, ToolSpec};

/// Bytes that count as one token; low, so that the estimate is rather too high.
const BYTES_PER_TOKEN: u64 = 3;
/// Messages at the end of which nothing is left out.
const KEPT_MESSAGES: usize = 6;
/// Shorter results stay.
const SHORT_RESULT_BYTES: usize = 400;

/// What the provider said last about the size of the conversation.
#[derive(Clone, Copy, Default)]
pub(crate) struct Measured {
    /// Messages that were counted.
    pub(crate) messages: usize,
    /// Their tokens, with system prompt and tools.
    pub(crate) tokens: u64,
}

/// Estimates the tokens of the next request.
pub(crate) fn request_tokens(measured: Option<Measured>, system: &str, tools: &[ToolSpec], messages: &[Message]) -> u64 {
    match measured {
        Some(measured) if measured.messages <= messages.len() => measured.tokens + tokens(&messages[measured.messages..]),
        _ => {
            let tools: usize = tools.iter().map(|tool| tool.description.len() + tool.input_schema.to_string().len()).sum();
            (system.len() + tools) as u64 / BYTES_PER_TOKEN + tokens(messages)
        }
    }
}

/// Estimates the tokens of messages.
pub(crate) fn tokens(messages: &[Message]) -> u64 {
    messages.iter().flat_map(|message| &message.content).map(|block| bytes_of(block) / BYTES_PER_TOKEN + 8).sum()
}

/// How many bytes of text fill so many tokens.
pub(crate) fn bytes_for(tokens: u64) -> usize {
    usize::try_from(tokens.saturating_mul(BYTES_PER_TOKEN)).unwrap_or(usize::MAX)
}

fn bytes_of(block: &Block) -> u64 {
    let shown = |media: &[Media]| media.iter().map(|media| media.token_estimate() * BYTES_PER_TOKEN).sum::<u64>();
    let bytes = match block {
        Block::Text { text, .. } => text.len(),
        Block::ToolUse { name, input, .. } => name.len() + input.to_string().len(),
        Block::ToolResult { content, media, .. } => return content.len() as u64 + shown(media),
        Block::Media { media } => return shown(std::slice::from_ref(media)),
        Block::Other { value } => value.to_string().len(),
    };
    bytes as u64
}

/// The messages as a model takes them: what it cannot see is named in words.
pub(crate) fn shown_to(can: &Abilities, messages: &[Message]) -> Vec<Message> {
    let hidden = |media: &Media| if media.is_pdf() { !can.pdf } else { !can.images };
    let named = |media: &Media| {
        let name = media.name.as_deref().unwrap_or("without a name");
        format!("[{} ({name}), which this model cannot see]", media.media_type)
    };
    let mut messages = messages.to_vec();
    for block in messages.iter_mut().flat_map(|message| &mut message.content) {
        match block {
            Block::Media { media } if hidden(media) => *block = Block::text(named(media)),
            Block::ToolResult { content, media, .. } => {
                media.iter().filter(|media| hidden(media)).for_each(|media| *content = format!("{content}\n{}", named(media)));
                media.retain(|media| !hidden(media));
            }
            _ => {}
        }
    }
    messages
}

/// Replaces long tool results, but for the last messages, by a line. Returns whether there were any.
pub(crate) fn leave_out_old_results(messages: &mut [Message]) -> bool {
    let old = messages.len().saturating_sub(KEPT_MESSAGES);
    let mut changed = false;
    for block in messages[..old].iter_mut().flat_map(|message| &mut message.content) {
        if let Block::ToolResult { content, media, .. } = block
            && (content.len() > SHORT_RESULT_BYTES || !media.is_empty())
        {
            let shown = if media.is_empty() { String::new() } else { format!(" and {} pictures or documents", media.len()) };
            *content = format!("[{} bytes of old output{shown} are left out; make the call again if you need them]", content.len());
            media.clear();
            changed = true;
        }
    }
    changed
}

/// Where the part begins that stays as it is: at an assistant message, so that calls and results stay together. It has at most
/// `max_tokens`, but always holds the last assistant message. `None` when the model has not spoken yet.
pub(crate) fn kept_from(messages: &[Message], max_tokens: u64) -> Option<usize> {
    let mut kept = None;
    for (index, message) in messages.iter().enumerate().rev() {
        if message.role == Role::Assistant {
            if kept.is_some() && (tokens(&messages[index..]) > max_tokens || messages.len() - index > KEPT_MESSAGES + 2) {
                break;
            }
            kept = Some(index);
        }
    }
    kept
}
