//! Tools: what the coding agent can do.

use async_trait::async_trait;
use serde_json::Value;

use crate::model::ToolSpec;

/// How much a tool can change.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ToolRisk {
    /// Reads only. Such calls may run side by side.
    Read,
    /// Writes files of the workspace.
    Write,
    /// Starts programs.
    Execute,
    /// Ends the work or speaks to others (`submit`, mail).
    Control,
}

/// What a tool answers to the model.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ToolOutput {
    /// For the model; cut to `TOOL_OUTPUT_BYTES_MAX` with head and tail kept.
    pub text: String,
    /// Whether the call failed.
    pub is_error: bool,
    /// Whether the work is now finished and the turn must end (`submit`).
    pub ends_turn: bool,
}

impl ToolOutput {
    /// A successful answer.
    pub fn ok(text: impl Into<String>) -> Self {
        Self { text: text.into(), is_error: false, ends_turn: false }
    }

    /// A failure, in words that help the model.
    pub fn error(text: impl Into<String>) -> Self {
        Self { text: text.into(), is_error: true, ends_turn: false }
    }
}

/// One tool. It runs inside the box, with the rights of the box.
#[async_trait]
pub trait Tool: Send + Sync {
    /// What the model is told.
    fn spec(&self) -> ToolSpec;
    /// How much it can change.
    fn risk(&self) -> ToolRisk;
    /// Calls it. A wrong input is an error output that names the field, never a panic. Dropping the future cancels the call.
    async fn call(&self, input: Value) -> ToolOutput;
}

/// Returns the text in at most about `max` bytes: when it is longer, head and tail stay and a line between them says how much was cut.
pub fn cut_middle(text: &str, max: usize) -> String {
    if text.len() <= max {
        return text.to_owned();
    }
    let head = text.floor_char_boundary(max / 2);
    let tail = text.ceil_char_boundary(text.len() - max / 2);
    format!("{}\n[... {} bytes cut ...]\n{}", &text[..head], tail - head, &text[tail..])
}

#[cfg(test)]
mod tests {
    use super::cut_middle;

    #[test]
    fn a_long_text_keeps_head_and_tail_and_whole_characters() {
        assert_eq!(cut_middle("short", 10), "short");
        let cut = cut_middle(&"ä".repeat(100), 21);
        assert_eq!(cut, format!("{}\n[... 180 bytes cut ...]\n{}", "ä".repeat(5), "ä".repeat(5)));
    }
}
