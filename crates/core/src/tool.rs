//! Tools: what the coding agent can do.

use async_trait::async_trait;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::media::Media;
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

/// What the model of a session takes besides text. Clones share one, so that a session's tools follow when its model changes.
#[derive(Clone, Debug)]
pub struct Sight(Arc<[AtomicBool; 2]>);

impl Sight {
    /// Of a model that takes pictures, and PDFs as documents, or not.
    pub fn new(pictures: bool, documents: bool) -> Self {
        Self(Arc::new([AtomicBool::new(pictures), AtomicBool::new(documents)]))
    }

    /// It is another model from now on.
    pub fn set(&self, pictures: bool, documents: bool) {
        self.0[0].store(pictures, Ordering::Relaxed);
        self.0[1].store(documents, Ordering::Relaxed);
    }

    /// Whether it takes pictures.
    pub fn pictures(&self) -> bool {
        self.0[0].load(Ordering::Relaxed)
    }

    /// Whether it takes PDFs as documents.
    pub fn documents(&self) -> bool {
        self.0[1].load(Ordering::Relaxed)
    }
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
    /// Pictures and documents that the model is shown beside the text.
    pub media: Vec<Media>,
}

impl ToolOutput {
    /// A successful answer.
    pub fn ok(text: impl Into<String>) -> Self {
        Self { text: text.into(), is_error: false, ends_turn: false, media: Vec::new() }
    }

    /// A failure, in words that help the model.
    pub fn error(text: impl Into<String>) -> Self {
        Self { text: text.into(), is_error: true, ends_turn: false, media: Vec::new() }
    }
}

/// Says of a path whether a rule of the session keeps tools from reading it.
pub type Withheld = Arc<dyn Fn(&Path) -> bool + Send + Sync>;

/// One tool. It runs inside the box, with the rights of the box.
#[async_trait]
pub trait Tool: Send + Sync {
    /// What the model is told.
    fn spec(&self) -> ToolSpec;
    /// How much it can change.
    fn risk(&self) -> ToolRisk;
    /// Whether calls of it may run beside others of this kind.
    fn side_by_side(&self) -> bool {
        self.risk() == ToolRisk::Read
    }
    /// Calls it. A wrong input is an error output that names the field, never a panic. Dropping the future cancels the call.
    async fn call(&self, input: Value) -> ToolOutput;
    /// Says what a search must pass over although it lies below the directory that a call names. Called at most once, before any call.
    fn withhold(&self, _withheld: Withheld) {}
    /// What the model should be told without having asked (a background job has ended). Each piece of news is given once; it is asked for
    /// before each request to the model.
    fn notice(&self) -> Option<String> {
        None
    }
}

/// A command of the repository's configuration (a hook), to be run by the box's shell.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CommandRequest {
    /// For `sh -c`.
    pub command: String,
    /// Where it starts.
    pub cwd: PathBuf,
    /// Added to its environment.
    pub env: Vec<(String, String)>,
    /// What it reads.
    pub stdin: Vec<u8>,
    /// When it is ended, with everything that it has started.
    pub limit: Duration,
    /// How much of stdout, and of stderr, is kept.
    pub output_bytes_max: usize,
}

/// How a command ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum CommandEnd {
    /// By itself, with this code.
    Exited(i32),
    /// By a signal.
    Killed(i32),
    /// At its limit, by us.
    TimedOut,
    /// It was never started; the operating system's words.
    NotStarted(String),
}

/// What a command did.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CommandDone {
    /// How it ended.
    pub end: CommandEnd,
    /// What it said.
    pub stdout: String,
    /// What it said as an error.
    pub stderr: String,
    /// Whether stdout was larger than allowed; its middle is missing then.
    pub stdout_cut: bool,
}

/// Runs commands in the box. Dropping the future ends the command with everything that it has started.
#[async_trait]
pub trait CommandRunner: Send + Sync {
    /// Runs one command to its end. Never fails: what went wrong is in the answer.
    async fn run(&self, request: CommandRequest) -> CommandDone;
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
