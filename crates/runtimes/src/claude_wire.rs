//! The lines of Claude Code's stream-json: those that we send and the parts that we read.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Value, json};

/// Items of a list that are read; the rest is skipped.
const LIST_ITEMS_MAX: usize = 1024;

/// What every line has.
#[derive(Debug, Deserialize)]
pub(crate) struct Head {
    /// `system`, `assistant`, `user`, `result`, `control_request`, `control_response`, or one that we do not use.
    #[serde(rename = "type")]
    pub(crate) kind: String,
    /// What kind of `system`.
    #[serde(default)]
    pub(crate) subtype: Text,
}

/// `system/api_retry`: the model did not answer.
#[derive(Debug, Deserialize)]
pub(crate) struct ApiRetry {
    #[serde(default)]
    pub(crate) attempt: u32,
    #[serde(default)]
    pub(crate) retry_delay_ms: f64,
    /// `None` when there was no answer at all.
    #[serde(default)]
    pub(crate) error_status: Option<u16>,
    #[serde(default)]
    pub(crate) error: Text,
}

/// `assistant` and `user`.
#[derive(Debug, Deserialize)]
pub(crate) struct Spoken {
    pub(crate) message: SpokenMessage,
    /// Set within a sub-agent.
    #[serde(default)]
    pub(crate) parent_tool_use_id: Option<String>,
    /// Our own name of a message that comes back when it was taken in.
    #[serde(default)]
    pub(crate) uuid: Text,
    #[serde(default, rename = "isReplay")]
    pub(crate) is_replay: bool,
    /// Claude Code's own words about an error of the model; the result repeats them.
    #[serde(default)]
    pub(crate) is_api_error_message: bool,
}

/// The message within.
#[derive(Debug, Deserialize)]
pub(crate) struct SpokenMessage {
    #[serde(default)]
    pub(crate) content: Blocks,
}

/// A piece of a message.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Block {
    /// `text`, `tool_use`, `tool_result`, `thinking`, ...
    #[serde(rename = "type", default)]
    pub(crate) kind: Text,
    #[serde(default)]
    pub(crate) text: Text,
    /// Of a `tool_use`.
    #[serde(default)]
    pub(crate) id: Text,
    #[serde(default)]
    pub(crate) name: Text,
    #[serde(default)]
    pub(crate) input: ToolInput,
    /// Of a `tool_result`.
    #[serde(default)]
    pub(crate) tool_use_id: Text,
    #[serde(default)]
    pub(crate) content: Blocks,
    #[serde(default)]
    pub(crate) is_error: Option<bool>,
}

/// The parts of a tool's input that make its title.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct ToolInput {
    #[serde(default)]
    pub(crate) command: Text,
    #[serde(default)]
    pub(crate) file_path: Text,
    #[serde(default)]
    pub(crate) notebook_path: Text,
    #[serde(default)]
    pub(crate) pattern: Text,
    #[serde(default)]
    pub(crate) query: Text,
    #[serde(default)]
    pub(crate) description: Text,
}

impl ToolInput {
    /// The part that says most.
    pub(crate) fn title(self) -> String {
        let parts = [self.command, self.file_path, self.notebook_path, self.pattern, self.query, self.description];
        parts.into_iter().map(|part| part.0).find(|part| !part.is_empty()).unwrap_or_default()
    }
}

/// `control_request`: the agent asks.
#[derive(Debug, Deserialize)]
pub(crate) struct ControlRequest {
    pub(crate) request_id: String,
    pub(crate) request: Asked,
}

/// What it asks.
#[derive(Debug, Deserialize)]
pub(crate) struct Asked {
    #[serde(default)]
    pub(crate) subtype: Text,
    #[serde(default)]
    pub(crate) tool_name: Text,
}

/// `control_response`: the answer to what we asked.
#[derive(Debug, Deserialize)]
pub(crate) struct ControlResponse {
    pub(crate) response: Answered,
}

/// The answer.
#[derive(Debug, Deserialize)]
pub(crate) struct Answered {
    #[serde(default)]
    pub(crate) subtype: Text,
    #[serde(default)]
    pub(crate) request_id: Text,
    #[serde(default)]
    pub(crate) error: Text,
    #[serde(default)]
    pub(crate) response: Option<Initialized>,
}

/// What the answers to `initialize` and to `cancel_async_message` hold.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Initialized {
    #[serde(default)]
    pub(crate) claude_code_version: Text,
    /// Whether a message that waited is taken back.
    #[serde(default)]
    pub(crate) cancelled: Option<bool>,
}

/// `result`: the turn is over.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct TurnResult {
    #[serde(default)]
    pub(crate) subtype: Text,
    #[serde(default)]
    pub(crate) is_error: bool,
    #[serde(default)]
    pub(crate) stop_reason: Text,
    #[serde(default)]
    pub(crate) result: Text,
    #[serde(default)]
    pub(crate) api_error_status: Option<u16>,
    #[serde(default)]
    pub(crate) terminal_reason: Text,
    /// Of all turns of this process together.
    #[serde(default)]
    pub(crate) total_cost_usd: Option<f64>,
    #[serde(default)]
    pub(crate) usage: Option<ResultUsage>,
    #[serde(default)]
    pub(crate) errors: Blocks,
    /// The messages that the turn has taken in.
    #[serde(default)]
    pub(crate) user_message_uuids: Blocks,
}

/// Tokens of the turn.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct ResultUsage {
    #[serde(default)]
    pub(crate) input_tokens: u64,
    #[serde(default)]
    pub(crate) output_tokens: u64,
    #[serde(default)]
    pub(crate) cache_read_input_tokens: u64,
    #[serde(default)]
    pub(crate) cache_creation_input_tokens: u64,
}

/// A text; anything else in its place counts as none and costs no memory.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Text(pub(crate) String);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let Blocks(mut blocks) = from.deserialize_any(ReadBlocks { lists: false })?;
        Ok(blocks.pop().map(|block| block.text).unwrap_or_default())
    }
}

/// The pieces of a message: a list, or one text.
#[derive(Debug, Default)]
pub(crate) struct Blocks(pub(crate) Vec<Block>);

impl<'de> Deserialize<'de> for Blocks {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(ReadBlocks { lists: true })
    }
}

impl Blocks {
    /// All texts, a line each.
    pub(crate) fn text(&self) -> String {
        let texts: Vec<&str> = self.0.iter().map(|block| block.text.0.as_str()).filter(|text| !text.is_empty()).collect();
        texts.join("\n")
    }
}

struct ReadBlocks {
    lists: bool,
}

/// An item of a list: a piece, a bare text, or something to skip.
struct Item(Option<Block>);

impl<'de> Deserialize<'de> for Item {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Read;
        impl<'de> Visitor<'de> for Read {
            type Value = Item;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a piece of a message")
            }
            fn visit_str<E>(self, text: &str) -> Result<Item, E> {
                Ok(Item(Some(text_block(text))))
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Item, A::Error> {
                Block::deserialize(serde::de::value::MapAccessDeserializer::new(map)).map(|block| Item(Some(block)))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Item, A::Error> {
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Item(None))
            }
            fn visit_unit<E>(self) -> Result<Item, E> {
                Ok(Item(None))
            }
            fn visit_bool<E>(self, _: bool) -> Result<Item, E> {
                Ok(Item(None))
            }
            fn visit_i64<E>(self, _: i64) -> Result<Item, E> {
                Ok(Item(None))
            }
            fn visit_u64<E>(self, _: u64) -> Result<Item, E> {
                Ok(Item(None))
            }
            fn visit_f64<E>(self, _: f64) -> Result<Item, E> {
                Ok(Item(None))
            }
        }
        from.deserialize_any(Read)
    }
}

fn text_block(text: &str) -> Block {
    Block { kind: Text("text".to_owned()), text: Text(text.to_owned()), ..Block::default() }
}

impl<'de> Visitor<'de> for ReadBlocks {
    type Value = Blocks;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("anything")
    }
    fn visit_str<E>(self, text: &str) -> Result<Blocks, E> {
        Ok(Blocks(vec![text_block(text)]))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Blocks, A::Error> {
        let mut blocks = Vec::new();
        while self.lists && blocks.len() < LIST_ITEMS_MAX {
            match seq.next_element::<Item>()? {
                Some(Item(item)) => blocks.extend(item),
                None => return Ok(Blocks(blocks)),
            }
        }
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Blocks(blocks))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Blocks, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Blocks::default())
    }
    fn visit_unit<E>(self) -> Result<Blocks, E> {
        Ok(Blocks::default())
    }
    fn visit_bool<E>(self, _: bool) -> Result<Blocks, E> {
        Ok(Blocks::default())
    }
    fn visit_i64<E>(self, _: i64) -> Result<Blocks, E> {
        Ok(Blocks::default())
    }
    fn visit_u64<E>(self, _: u64) -> Result<Blocks, E> {
        Ok(Blocks::default())
    }
    fn visit_f64<E>(self, _: f64) -> Result<Blocks, E> {
        Ok(Blocks::default())
    }
}

/// Reads a line as one of the types above.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn read<'a, T: Deserialize<'a>>(line: &'a [u8]) -> Result<T, String> {
    serde_json::from_slice(line).map_err(|error| error.to_string())
}

/// A message of ours; `uuid` comes back when it was taken in.
pub(crate) fn message(uuid: &str, text: &str) -> String {
    let message = json!({"role": "user", "content": [{"type": "text", "text": text}]});
    json!({"type": "user", "uuid": uuid, "message": message}).to_string()
}

/// A request of ours.
pub(crate) fn ask(id: &str, request: &Value) -> String {
    json!({"type": "control_request", "request_id": id, "request": request}).to_string()
}

/// Our answer to a request.
pub(crate) fn answer(id: &str, response: &Value) -> String {
    json!({"type": "control_response", "response": {"subtype": "success", "request_id": id, "response": response}}).to_string()
}

/// Our refusal of a request.
pub(crate) fn refuse(id: &str, error: &str) -> String {
    json!({"type": "control_response", "response": {"subtype": "error", "request_id": id, "error": error}}).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_a_text_counts_as_none_and_lists_are_read_as_far_as_needed() {
        let line = br#"{"type":"user","uuid":7,"message":{"content":[{"type":"tool_result","tool_use_id":"t1","is_error":true,
            "content":[{"type":"text","text":"a"},{"type":"image","source":{"data":"x"}},"b",3,null,[1]]},{"type":"tool_use","id":"t2","name":"Bash",
            "input":{"command":{"odd":[1]},"file_path":"/x"}}]}}"#;
        let spoken: Spoken = read(line).unwrap();
        assert_eq!(spoken.uuid, Text::default());
        let [result, call] = <[Block; 2]>::try_from(spoken.message.content.0).unwrap();
        assert_eq!((result.content.text().as_str(), result.is_error), ("a\nb", Some(true)));
        assert_eq!(call.input.title(), "/x");
        let plain: Spoken = read(br#"{"message":{"content":"hello"}}"#).unwrap();
        assert_eq!(plain.message.content.text(), "hello");
        assert!(read::<Head>(b"[1,2]").is_err() && read::<Head>(b"{\"type\":1}").is_err());
    }
}
