//! `grep`: finds text in files.

use aedile_core::limits::TOOL_OUTPUT_BYTES_MAX;
use aedile_core::model::ToolSpec;
use aedile_core::tool::{Tool, ToolOutput, ToolRisk, Withheld};
use async_trait::async_trait;
use globset::GlobMatcher;
use grep_regex::{RegexMatcher, RegexMatcherBuilder};
use grep_searcher::{BinaryDetection, Searcher, SearcherBuilder, Sink, SinkContext, SinkMatch};
use serde_json::{Value, json};
use std::fmt::Write;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use crate::glob::{Passed, is_file, matcher, walk};
use crate::input::{Input, blocking};
use crate::place::Place;

/// Lines (or files) shown when the call names no number, and at most.
const LINES_DEFAULT: usize = 200;
const LINES_MAX: usize = 2000;
/// A longer line is cut.
const LINE_BYTES_MAX: usize = 500;
/// Lines of context at most.
const CONTEXT_MAX: usize = 20;

/// The tool.
pub(crate) struct Grep {
    pub(crate) place: Arc<Place>,
    pub(crate) withheld: OnceLock<Withheld>,
}

#[async_trait]
impl Tool for Grep {
    fn spec(&self) -> ToolSpec {
        ToolSpec {
            name: "grep".to_owned(),
            description: "Searches files with a regular expression (Rust syntax, line by line). `mode` `content` shows matching lines as \
                          path:line:text, `files` only paths, `count` the number of matching lines per file. Files that git ignores and binary files \
                          are left out."
                .to_owned(),
            input_schema: json!({
                "type": "object",
                "properties": {
                    "pattern": {"type": "string", "description": "The regular expression."},
                    "path": {"type": "string", "description": "File or directory to search; the workspace's root when absent."},
                    "glob": {"type": "string", "description": "Only files that match, for example `*.rs`."},
                    "mode": {"type": "string", "enum": ["content", "files", "count"], "description": "What to show; `content` when absent."},
                    "ignore_case": {"type": "boolean"},
                    "context": {"type": "integer", "minimum": 0, "description": "Lines to show before and after each match."},
                    "limit": {"type": "integer", "minimum": 1, "description": "How many lines or files to show."}
                },
                "required": ["pattern"]
            }),
        }
    }

    fn risk(&self) -> ToolRisk {
        ToolRisk::Read
    }

    fn withhold(&self, withheld: Withheld) {
        // The first stays.
        let _ = self.withheld.set(withheld);
    }

    async fn call(&self, input: Value) -> ToolOutput {
        let (place, withheld) = (Arc::clone(&self.place), self.withheld.get().cloned());
        // Dropping the call lets the search end at the next file.
        let stop = StopOnDrop(Arc::new(AtomicBool::new(false)));
        let stopped = Arc::clone(&stop.0);
        blocking(move || grep(&place, &input, withheld, &stopped)).await
    }
}

struct StopOnDrop(Arc<AtomicBool>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Content,
    Files,
    Count,
}

struct Search {
    matcher: RegexMatcher,
    searcher: Searcher,
    mode: Mode,
    found: Found,
}

fn grep(place: &Place, input: &Value, withheld: Option<Withheld>, stopped: &AtomicBool) -> Result<String, String> {
    let input = Input::new(input)?;
    let path = place.resolve(input.text_opt("path")?.unwrap_or("."))?;
    let filter: Option<GlobMatcher> = input.text_opt("glob")?.map(|glob| matcher(glob, "glob")).transpose()?;
    let (mut search, passed) = (Search::new(&input)?, Passed::default());
    if path.is_file() {
        search.file(&path, place);
    } else if path.is_dir() {
        for entry in walk(&path, withheld, &passed).build().filter_map(Result::ok).filter(is_file) {
            if search.found.full() || stopped.load(Ordering::Relaxed) {
                break;
            }
            let relative = entry.path().strip_prefix(&path).unwrap_or(entry.path());
            if filter.as_ref().is_none_or(|filter| filter.is_match(relative)) {
                search.file(entry.path(), place);
            }
        }
    } else {
        return Err(format!("{} does not exist", place.show(&path)));
    }
    let text = search.found.into_text();
    let note = passed.note();
    Ok(if note.is_empty() { text } else { format!("{}{note}", text.trim_end()) })
}

impl Search {
    fn new(input: &Input<'_>) -> Result<Self, String> {
        let mode = match input.text_opt("mode")? {
            None | Some("content") => Mode::Content,
            Some("files") => Mode::Files,
            Some("count") => Mode::Count,
            Some(other) => return Err(format!("the field `mode` must be content, files or count, not {other:?}")),
        };
        let matcher = RegexMatcherBuilder::new()
            .case_insensitive(input.flag("ignore_case")?)
            .line_terminator(Some(b'\n'))
            .build(input.text("pattern")?)
            .map_err(|error| format!("the field `pattern` is not a usable regular expression: {error}"))?;
        let context = if mode == Mode::Content { input.count_opt("context")?.unwrap_or(0).min(CONTEXT_MAX) } else { 0 };
        let searcher = SearcherBuilder::new()
            .binary_detection(BinaryDetection::quit(0))
            .line_number(true)
            .before_context(context)
            .after_context(context)
            .build();
        let limit = input.count_opt("limit")?.unwrap_or(LINES_DEFAULT).clamp(1, LINES_MAX);
        Ok(Self { matcher, searcher, mode, found: Found { text: String::new(), lines: 0, limit, cut: false } })
    }

    fn file(&mut self, path: &Path, place: &Place) {
        let shown = place.show(path);
        let mut sink = FileSink { found: &mut self.found, mode: self.mode, shown: &shown, matches: 0 };
        // A file that cannot be read has no matches.
        let _ = self.searcher.search_path(&self.matcher, path, &mut sink);
        let matches = sink.matches;
        match self.mode {
            Mode::Files if matches > 0 => self.found.line(&shown),
            Mode::Count if matches > 0 => self.found.line(&format!("{shown}:{matches}")),
            _ => {}
        }
    }
}

struct Found {
    text: String,
    lines: usize,
    limit: usize,
    cut: bool,
}

impl Found {
    fn full(&self) -> bool {
        self.cut
    }

    fn line(&mut self, line: &str) {
        if self.lines >= self.limit || self.text.len() + line.len() > TOOL_OUTPUT_BYTES_MAX - 200 {
            self.cut = true;
            return;
        }
        self.lines += 1;
        self.text.push_str(line);
        self.text.push('\n');
    }

    fn into_text(mut self) -> String {
        if self.text.is_empty() {
            return "[no match; files that git ignores are not searched]".to_owned();
        }
        if self.cut {
            // Writing to a String cannot fail.
            let _ = write!(self.text, "[only the first {} lines are shown; narrow the search]", self.lines);
        }
        self.text
    }
}

struct FileSink<'a> {
    found: &'a mut Found,
    mode: Mode,
    shown: &'a str,
    matches: u64,
}

impl FileSink<'_> {
    fn show(&mut self, number: Option<u64>, separator: char, bytes: &[u8]) {
        let line = String::from_utf8_lossy(bytes);
        let line = line.trim_end_matches(['\n', '\r']);
        let cut = if line.len() > LINE_BYTES_MAX { " [line cut]" } else { "" };
        let line = &line[..line.floor_char_boundary(LINE_BYTES_MAX)];
        self.found.line(&format!("{}{separator}{}{separator}{line}{cut}", self.shown, number.unwrap_or(0)));
    }
}

impl Sink for FileSink<'_> {
    type Error = io::Error;

    fn matched(&mut self, _searcher: &Searcher, found: &SinkMatch<'_>) -> Result<bool, io::Error> {
        self.matches += 1;
        if self.mode == Mode::Content {
            self.show(found.line_number(), ':', found.bytes());
        }
        Ok(self.mode != Mode::Files && !self.found.full())
    }

    fn context(&mut self, _searcher: &Searcher, context: &SinkContext<'_>) -> Result<bool, io::Error> {
        self.show(context.line_number(), '-', context.bytes());
        Ok(!self.found.full())
    }

    fn context_break(&mut self, _searcher: &Searcher) -> Result<bool, io::Error> {
        self.found.line("--");
        Ok(!self.found.full())
    }
}
