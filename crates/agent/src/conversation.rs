//! A conversation that is always valid: roles alternate, and every tool call is followed by its result.

use aedile_core::model::{Block, Message, Role};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::settings::Settings;

/// What a call is answered with that was not finished.
pub(crate) const INTERRUPTED: &str = "interrupted: the call was not finished; what it did until then is not undone";

/// One thing that happened to a conversation; what a journal holds, one a line.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(crate) enum Record {
    /// The journal begins.
    Session {
        /// The format of the journal.
        version: u32,
        /// The session's id.
        id: String,
        /// What the repository's settings said when it began.
        #[serde(default)]
        settings: Settings,
    },
    /// The agent was told something.
    Prompt {
        /// The text.
        text: String,
    },
    /// The session goes on with another model.
    Model {
        /// Its name, `provider/model`.
        model: String,
    },
    /// The person allowed all calls that a rule is for.
    Grant {
        /// The rule.
        rule: String,
    },
    /// Tool results, or a word of the program to the model.
    User {
        /// The blocks.
        blocks: Vec<Block>,
    },
    /// The model answered.
    Assistant {
        /// Its message.
        message: Message,
    },
    /// The conversation was condensed to these messages.
    Condensed {
        /// All messages from now on.
        messages: Vec<Message>,
    },
}

/// A call that the model wants.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Call {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) input: Value,
}

/// The messages, and what was asked from the beginning.
#[derive(Default)]
pub(crate) struct Conversation {
    pub(crate) messages: Vec<Message>,
    pub(crate) prompts: Vec<String>,
}

impl Conversation {
    /// Takes a record in.
    pub(crate) fn apply(&mut self, record: Record) {
        match record {
            Record::Session { .. } | Record::Grant { .. } | Record::Model { .. } => {}
            Record::Prompt { text } => {
                self.push_user(vec![Block::text(text.clone())]);
                self.prompts.push(text);
            }
            Record::User { blocks } => self.push_user(blocks),
            Record::Assistant { message } => self.messages.push(message),
            Record::Condensed { messages } => self.messages = messages,
        }
    }

    fn push_user(&mut self, blocks: Vec<Block>) {
        match self.messages.last_mut() {
            Some(last) if last.role == Role::User => last.content.extend(blocks),
            _ => self.messages.push(Message::new(Role::User, blocks)),
        }
    }

    /// The record that answers calls which have no answer, if there are any.
    pub(crate) fn missing_results(&self) -> Option<Record> {
        let last = self.messages.last().filter(|message| message.role == Role::Assistant)?;
        let blocks: Vec<Block> = calls_of(last).into_iter().map(|call| result(&call, INTERRUPTED, true)).collect();
        (!blocks.is_empty()).then_some(Record::User { blocks })
    }

    /// What the model said last.
    pub(crate) fn last_said(&self) -> String {
        let last = self.messages.iter().rev().find(|message| message.role == Role::Assistant);
        last.map(text_of).unwrap_or_default()
    }
}

/// The calls in a message.
pub(crate) fn calls_of(message: &Message) -> Vec<Call> {
    let call = |block: &Block| match block {
        Block::ToolUse { id, name, input, .. } => Some(Call { id: id.clone(), name: name.clone(), input: input.clone() }),
        _ => None,
    };
    message.content.iter().filter_map(call).collect()
}

/// The text in a message.
pub(crate) fn text_of(message: &Message) -> String {
    let texts = message.content.iter().filter_map(|block| match block {
        Block::Text { text, .. } => Some(text.as_str()),
        _ => None,
    });
    texts.collect::<Vec<_>>().join("\n")
}

/// The answer to a call.
pub(crate) fn result(call: &Call, content: &str, is_error: bool) -> Block {
    Block::tool_result(&call.id, content, is_error)
}

impl Call {
    /// A short title such as `bash cargo test`.
    pub(crate) fn title(&self) -> String {
        const TELLING: &[&str] = &["command", "path", "file_path", "pattern", "action", "to", "summary"];
        let telling = TELLING.iter().find_map(|field| self.input.get(field).and_then(Value::as_str)).unwrap_or_default();
        let line = telling.lines().next().unwrap_or_default().trim();
        let end = line.floor_char_boundary(80);
        format!("{} {}", self.name, &line[..end]).trim_end().to_owned()
    }
}
