//! Jupyter notebooks: what a cell shows, and where it stands in the file's own text.

use aedile_core::limits::TOOL_OUTPUT_BYTES_MAX;
use aedile_core::tool::cut_middle;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use std::fmt::Write;
use std::ops::Range;

/// One output of a cell is cut to this.
const OUTPUT_BYTES_MAX: usize = 2000;
/// The source of a cell is cut to this.
const SOURCE_BYTES_MAX: usize = 10_000;

/// A notebook whose cells are known by their place in the text.
pub(crate) struct Notebook<'a> {
    pub(crate) text: &'a str,
    pub(crate) cells: Vec<Cell>,
    /// Whether new cells must carry an id (format 4.5 and later).
    pub(crate) wants_ids: bool,
    /// The whole list, brackets included.
    pub(crate) list: Range<usize>,
}

/// One cell.
pub(crate) struct Cell {
    /// Where it stands in the text.
    pub(crate) span: Range<usize>,
    pub(crate) value: Value,
}

#[derive(Deserialize)]
struct Raw<'a> {
    #[serde(borrow)]
    cells: &'a RawValue,
    nbformat: u64,
    #[serde(default)]
    nbformat_minor: u64,
}

impl<'a> Notebook<'a> {
    /// Reads it.
    pub(crate) fn parse(text: &'a str, name: &str) -> Result<Self, String> {
        let broken = |error: serde_json::Error| format!("{name} is not a notebook that can be read: {error}");
        let raw: Raw<'a> = serde_json::from_str(text.strip_prefix('\u{feff}').unwrap_or(text)).map_err(broken)?;
        if raw.nbformat != 4 {
            return Err(format!(
                "{name} is a notebook of format {}, and only 4 is known; convert it with `jupyter nbconvert`",
                raw.nbformat
            ));
        }
        let cells: Vec<&RawValue> = serde_json::from_str(raw.cells.get()).map_err(broken)?;
        let cells = cells.into_iter().map(|cell| {
            let value: Value = serde_json::from_str(cell.get())?;
            Ok(Cell { span: span_in(text, cell.get()), value })
        });
        let cells: Vec<Cell> = cells.collect::<Result<_, serde_json::Error>>().map_err(broken)?;
        if let Some(at) = cells.iter().position(|cell| !cell.value.is_object()) {
            return Err(format!("{name} is not a notebook that can be read: cell {} is not an object", at + 1));
        }
        Ok(Self { text, cells, wants_ids: raw.nbformat_minor >= 5, list: span_in(text, raw.cells.get()) })
    }

    /// Shows cells from number `first` on (from 1), at most `count` and what fits.
    pub(crate) fn show(&self, first: usize, count: usize, name: &str) -> Result<String, String> {
        let total = self.cells.len();
        if total == 0 {
            return Ok(format!("[{name} has no cells]"));
        }
        if first > total {
            return Err(format!("{name} has only {total} cells; `offset` {first} is behind its end"));
        }
        let mut text = String::new();
        for (at, cell) in self.cells.iter().enumerate().skip(first - 1).take(count) {
            let shown = cell.show(at + 1);
            if text.len() + shown.len() > TOOL_OUTPUT_BYTES_MAX - 200 && !text.is_empty() {
                return Ok(format!("{text}[cells {first} to {at} of {total} are shown; go on with offset {}]", at + 1));
            }
            text.push_str(&shown);
        }
        let last = (first - 1).saturating_add(count).min(total);
        if last < total {
            // Writing to a String cannot fail.
            let _ = write!(text, "[cells {first} to {last} of {total} are shown; go on with offset {}]", last + 1);
        }
        Ok(text)
    }
}

/// Where a borrowed part stands in the text it was borrowed from.
pub(crate) fn span_in(text: &str, part: &str) -> Range<usize> {
    let start = part.as_ptr() as usize - text.as_ptr() as usize;
    start..start + part.len()
}

impl Cell {
    pub(crate) fn id(&self) -> Option<&str> {
        self.value.get("id").and_then(Value::as_str)
    }

    pub(crate) fn kind(&self) -> &str {
        self.value.get("cell_type").and_then(Value::as_str).unwrap_or("unknown")
    }

    fn show(&self, number: usize) -> String {
        let id = self.id().map(|id| format!(", id {id}")).unwrap_or_default();
        let mut text = format!("=== cell {number} ({}{id}) ===\n", self.kind());
        text.push_str(cut_middle(&joined(self.value.get("source")), SOURCE_BYTES_MAX).trim_end());
        text.push('\n');
        for output in self.value.get("outputs").and_then(Value::as_array).into_iter().flatten() {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "--- output ---\n{}", cut_middle(output_text(output).trim_end(), OUTPUT_BYTES_MAX));
        }
        text
    }
}

/// A text that the format lets stand as one string or as a list of lines.
fn joined(value: Option<&Value>) -> String {
    match value {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(lines)) => lines.iter().filter_map(Value::as_str).collect(),
        _ => String::new(),
    }
}

fn output_text(output: &Value) -> String {
    let field = |name: &str| output.get(name).and_then(Value::as_str).unwrap_or_default();
    match field("output_type") {
        "stream" => joined(output.get("text")),
        "error" => {
            let trace =
                output.get("traceback").and_then(Value::as_array).map(|lines| lines.iter().filter_map(Value::as_str).collect::<Vec<_>>());
            let trace = trace.unwrap_or_default().join("\n");
            format!("{}: {}\n{}", field("ename"), field("evalue"), without_colours(&trace))
        }
        _ => {
            let data = output.get("data").and_then(Value::as_object);
            let mut parts = Vec::new();
            for (kind, content) in data.into_iter().flatten() {
                match kind.as_str() {
                    "text/plain" => parts.insert(0, joined(Some(content))),
                    "text/markdown" | "text/latex" => parts.push(joined(Some(content))),
                    _ => parts.push(format!("[{kind}, {} bytes]", content.as_str().map_or_else(|| content.to_string().len(), str::len))),
                }
            }
            parts.join("\n")
        }
    }
}

/// Takes the sequences out that colour a terminal.
fn without_colours(text: &str) -> String {
    let mut clean = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("\u{1b}[") {
        clean.push_str(before);
        let end = after.find(|c: char| c.is_ascii_alphabetic()).map_or(after.len(), |at| at + 1);
        rest = &after[end..];
    }
    clean + rest
}
