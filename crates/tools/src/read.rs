//! `read`: a file with line numbers.

use aedile_core::limits::{READ_FILE_BYTES_MAX, READ_LINES_MAX, TOOL_OUTPUT_BYTES_MAX};
use aedile_core::model::ToolSpec;
use aedile_core::tool::{Tool, ToolOutput, ToolRisk};
use async_trait::async_trait;
use serde_json::{Value, json};
use std::fmt::Write;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read as _};
use std::path::Path;
use std::sync::Arc;

use crate::files::looks_binary;
use crate::input::{Input, blocking};
use crate::place::Place;

/// A longer line is cut.
const LINE_CHARS_MAX: usize = 2000;

/// The tool.
pub(crate) struct Read {
    pub(crate) place: Arc<Place>,
}

#[async_trait]
impl Tool for Read {
    fn spec(&self) -> ToolSpec {
        ToolSpec {
            name: "read".to_owned(),
            description: format!(
                "Shows a text file with line numbers (number, tab, line). At most {READ_LINES_MAX} lines at once; go on with `offset`. \
                 Relative paths start at the workspace's root. Use `ls` for directories."
            ),
            input_schema: json!({
                "type": "object",
                "properties": {
                    "path": {"type": "string", "description": "The file."},
                    "offset": {"type": "integer", "minimum": 1, "description": "First line to show, from 1."},
                    "limit": {"type": "integer", "minimum": 1, "description": "How many lines."}
                },
                "required": ["path"]
            }),
        }
    }

    fn risk(&self) -> ToolRisk {
        ToolRisk::Read
    }

    async fn call(&self, input: Value) -> ToolOutput {
        let place = Arc::clone(&self.place);
        blocking(move || read(&place, &input)).await
    }
}

struct Range {
    first: usize,
    lines: usize,
    whole: bool,
}

fn read(place: &Place, input: &Value) -> Result<String, String> {
    let input = Input::new(input)?;
    let path = place.resolve(input.path()?)?;
    let (offset, limit) = (input.count_opt("offset")?, input.count_opt("limit")?);
    let whole = offset.is_none() && limit.is_none();
    let range = Range { first: offset.unwrap_or(1).max(1), lines: limit.unwrap_or(READ_LINES_MAX).clamp(1, READ_LINES_MAX), whole };
    let meta = fs::metadata(&path).map_err(|error| place.read_error(&path, &error))?;
    let shown = place.show(&path);
    if meta.is_dir() {
        return Err(format!("{shown} is a directory; use `ls`"));
    }
    if !meta.is_file() {
        return Err(format!("{shown} is not a regular file"));
    }
    if range.whole && meta.len() > READ_FILE_BYTES_MAX {
        let max = READ_FILE_BYTES_MAX / (1024 * 1024);
        return Err(format!("{shown} has {} bytes, more than {max} MiB; give `offset` and `limit`, or use `grep`", meta.len()));
    }
    show(&path, &shown, &range).unwrap_or_else(|error| Err(place.read_error(&path, &error)))
}

fn show(path: &Path, shown: &str, range: &Range) -> io::Result<Result<String, String>> {
    let mut reader = BufReader::with_capacity(64 * 1024, File::open(path)?);
    let head = reader.fill_buf()?;
    if head.is_empty() {
        return Ok(Ok(format!("[{shown} is empty]")));
    }
    if looks_binary(head) {
        return Ok(Err(format!("{shown} is not text; look at it with `bash`, for example `file` or `xxd | head`")));
    }
    let (mut text, mut number, mut crlf, mut more) = (String::new(), 0, false, false);
    let mut line = Vec::new();
    while read_line(&mut reader, &mut line)? {
        number += 1;
        if number < range.first {
            continue;
        }
        if number >= range.first + range.lines || text.len() > TOOL_OUTPUT_BYTES_MAX - LINE_CHARS_MAX {
            more = true;
            break;
        }
        crlf |= line.last() == Some(&b'\r');
        push_line(&mut text, number, &line);
    }
    if number < range.first {
        return Ok(Err(format!("{shown} has only {number} lines; `offset` {} is behind its end", range.first)));
    }
    if crlf {
        text.push_str("[the lines end with CRLF; `edit` keeps that]\n");
    }
    if more {
        // Writing to a String cannot fail.
        let _ = write!(text, "[lines {} to {} are shown; go on with offset {number}]", range.first, number - 1);
    }
    Ok(Ok(text))
}

/// Reads one line without its newline, in bounded memory: what is longer than four times the shown length is skipped.
fn read_line(reader: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<bool> {
    line.clear();
    let max = 4 * LINE_CHARS_MAX as u64 + 4;
    if reader.by_ref().take(max).read_until(b'\n', line)? == 0 {
        return Ok(false);
    }
    if line.last() == Some(&b'\n') {
        line.pop();
    } else if line.len() as u64 == max {
        reader.skip_until(b'\n')?;
    }
    Ok(true)
}

fn push_line(text: &mut String, number: usize, line: &[u8]) {
    let line = String::from_utf8_lossy(line);
    let line = line.strip_suffix('\r').unwrap_or(&line);
    let _ = match line.char_indices().nth(LINE_CHARS_MAX) {
        None => writeln!(text, "{number:>6}\t{line}"),
        Some((end, _)) => writeln!(text, "{number:>6}\t{} [line cut]", &line[..end]),
    };
}
