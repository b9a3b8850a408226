//! `read`: a text with line numbers, a picture, a PDF or a notebook.

use aedile_core::limits::{READ_FILE_BYTES_MAX, READ_LINES_MAX, TOOL_OUTPUT_BYTES_MAX};
use aedile_core::model::{Media, ToolSpec};
use aedile_core::tool::{Sight, Tool, ToolOutput, ToolRisk};
use async_trait::async_trait;
use image::ImageFormat;
use serde_json::{Value, json};
use std::fmt::Write;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read as _};
use std::path::Path;
use std::sync::Arc;

use crate::files::looks_binary;
use crate::input::{Input, blocking_output};
use crate::notebook::Notebook;
use crate::pdf::Pdf;
use crate::picture::{format_of, picture};
use crate::place::Place;

/// A longer line is cut.
const LINE_CHARS_MAX: usize = 2000;
/// How much of a file is looked at to see what it is.
const HEAD_BYTES: u64 = 64;
/// The largest picture, PDF or notebook.
const MEDIA_FILE_BYTES_MAX: u64 = 20 * 1024 * 1024;
/// A PDF with more pages is shown as text.
const DOCUMENT_PAGES_MAX: u32 = 20;

/// The tool.
pub(crate) struct Read {
    pub(crate) place: Arc<Place>,
    pub(crate) sees: Sight,
}

#[async_trait]
impl Tool for Read {
    fn spec(&self) -> ToolSpec {
        let pictures = if self.sees.pictures() { "Pictures (PNG, JPEG, GIF, WebP) are shown as such. " } else { "" };
        let pdf = match self.sees.documents() {
            true => "A PDF is shown as a document or, with `pages`, as text.",
            false => "A PDF is shown as text; `pages` picks some of it.",
        };
        ToolSpec {
            name: "read".to_owned(),
            description: format!(
                "Shows a file. Text comes with line numbers (number, tab, line), at most {READ_LINES_MAX} lines at once; go on with `offset`. {pictures}{pdf} \
                 A Jupyter notebook is shown cell by cell; `offset` and `limit` then count cells. Relative paths start at the workspace's root. Use `ls` for \
                 directories."
            ),
            input_schema: json!({
                "type": "object",
                "properties": {
                    "path": {"type": "string", "description": "The file."},
                    "offset": {"type": "integer", "minimum": 1, "description": "First line to show, from 1."},
                    "limit": {"type": "integer", "minimum": 1, "description": "How many lines."},
                    "pages": {"type": "string", "description": "Pages of a PDF to show as text, for example `3` or `2-5`."}
                },
                "required": ["path"]
            }),
        }
    }

    fn risk(&self) -> ToolRisk {
        ToolRisk::Read
    }

    async fn call(&self, input: Value) -> ToolOutput {
        let (place, sees) = (Arc::clone(&self.place), self.sees.clone());
        blocking_output(move || read(&place, &sees, &input)).await
    }
}

struct Range {
    first: usize,
    lines: usize,
}

fn read(place: &Place, sees: &Sight, input: &Value) -> Result<ToolOutput, String> {
    let input = Input::new(input)?;
    let path = place.resolve(input.path()?)?;
    let meta = fs::metadata(&path).map_err(|error| place.read_error(&path, &error))?;
    let shown = place.show(&path);
    if meta.is_dir() {
        return Err(format!("{shown} is a directory; use `ls`"));
    }
    if !meta.is_file() {
        return Err(format!("{shown} is not a regular file"));
    }
    let file = Wanted { place, path: &path, shown: &shown, bytes: meta.len(), sees };
    let head = file.head()?;
    if let Some(format) = format_of(&head) {
        return file.picture(format);
    }
    if head.starts_with(b"%PDF-") {
        return file.pdf(input.text_opt("pages")?);
    }
    let (offset, limit) = (input.count_opt("offset")?, input.count_opt("limit")?);
    if path.extension().is_some_and(|ending| ending == "ipynb") && head.trim_ascii_start().starts_with(b"{") {
        return file.notebook(offset.unwrap_or(1).max(1), limit.unwrap_or(usize::MAX).max(1));
    }
    let whole = offset.is_none() && limit.is_none();
    if whole && meta.len() > READ_FILE_BYTES_MAX {
        let max = READ_FILE_BYTES_MAX / (1024 * 1024);
        return Err(format!("{shown} has {} bytes, more than {max} MiB; give `offset` and `limit`, or use `grep`", meta.len()));
    }
    let range = Range { first: offset.unwrap_or(1).max(1), lines: limit.unwrap_or(READ_LINES_MAX).clamp(1, READ_LINES_MAX) };
    show(&path, &shown, &range).unwrap_or_else(|error| Err(place.read_error(&path, &error))).map(ToolOutput::ok)
}

/// A file that is there.
struct Wanted<'a> {
    place: &'a Place,
    path: &'a Path,
    shown: &'a str,
    bytes: u64,
    sees: &'a Sight,
}

impl Wanted<'_> {
    /// The first bytes.
    fn head(&self) -> Result<Vec<u8>, String> {
        let mut head = Vec::new();
        let read = File::open(self.path).and_then(|file| file.take(HEAD_BYTES).read_to_end(&mut head));
        read.map(|_| head).map_err(|error| self.place.read_error(self.path, &error))
    }

    fn whole(&self) -> Result<Vec<u8>, String> {
        if self.bytes > MEDIA_FILE_BYTES_MAX {
            let max = MEDIA_FILE_BYTES_MAX / (1024 * 1024);
            return Err(format!("{} has {} bytes and is not shown; at most {max} MiB are", self.shown, self.bytes));
        }
        fs::read(self.path).map_err(|error| self.place.read_error(self.path, &error))
    }

    fn picture(&self, format: ImageFormat) -> Result<ToolOutput, String> {
        if !self.sees.pictures() {
            return Err(format!("{} is a picture ({}), which this model does not take", self.shown, format.to_mime_type()));
        }
        let picture = picture(&self.whole()?, format, self.shown)?;
        Ok(ToolOutput { media: vec![picture.media], ..ToolOutput::ok(picture.said) })
    }

    fn pdf(&self, pages: Option<&str>) -> Result<ToolOutput, String> {
        let bytes = self.whole()?;
        let pdf = Pdf::load(&bytes, self.shown)?;
        if pages.is_none() && self.sees.documents() && pdf.pages <= DOCUMENT_PAGES_MAX {
            let said = format!("{}: a PDF of {} pages, {} bytes", self.shown, pdf.pages, bytes.len());
            let media = Media::new("application/pdf", &bytes, Some(self.shown.to_owned()));
            return Ok(ToolOutput { media: vec![media], ..ToolOutput::ok(said) });
        }
        Ok(ToolOutput::ok(pdf.text(&pdf.range(pages)?, self.shown)))
    }

    fn notebook(&self, first: usize, count: usize) -> Result<ToolOutput, String> {
        let text = String::from_utf8(self.whole()?).map_err(|_| format!("{} is not UTF-8 text", self.shown))?;
        Notebook::parse(&text, self.shown)
            .and_then(|notebook| notebook.show(first, count, self.shown))
            .map(ToolOutput::ok)
            .map_err(|problem| format!("{problem}; look at it with `bash`"))
    }
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
