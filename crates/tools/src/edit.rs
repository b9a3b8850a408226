//! `edit`: replaces an exact piece of text.

use aedile_core::limits::READ_FILE_BYTES_MAX;
use aedile_core::model::ToolSpec;
use aedile_core::tool::{Tool, ToolOutput, ToolRisk};
use async_trait::async_trait;
use serde_json::{Value, json};
use std::fmt::Write;
use std::fs;
use std::sync::Arc;

use crate::files::write_whole;
use crate::input::{Input, blocking};
use crate::place::Place;

/// Line numbers named when a piece is not unique.
const NAMED_LINES_MAX: usize = 20;
/// Lines shown round a change.
const SHOWN_LINES_ROUND: usize = 3;
/// Changed lines shown.
const SHOWN_LINES_MAX: usize = 30;

/// The tool.
pub(crate) struct Edit {
    pub(crate) place: Arc<Place>,
}

#[async_trait]
impl Tool for Edit {
    fn spec(&self) -> ToolSpec {
        ToolSpec {
            name: "edit".to_owned(),
            description:
                "Replaces `old_string` with `new_string` in a file. `old_string` must be there exactly, white space included and without \
                          the line numbers of `read`, and exactly once unless `replace_all` is set."
                    .to_owned(),
            input_schema: json!({
                "type": "object",
                "properties": {
                    "path": {"type": "string", "description": "The file."},
                    "old_string": {"type": "string", "description": "The text to replace."},
                    "new_string": {"type": "string", "description": "The text to put there."},
                    "replace_all": {"type": "boolean", "description": "Replace every occurrence."}
                },
                "required": ["path", "old_string", "new_string"]
            }),
        }
    }

    fn risk(&self) -> ToolRisk {
        ToolRisk::Write
    }

    async fn call(&self, input: Value) -> ToolOutput {
        let place = Arc::clone(&self.place);
        blocking(move || edit(&place, &input)).await
    }
}

fn edit(place: &Place, input: &Value) -> Result<String, String> {
    let input = Input::new(input)?;
    let path = place.resolve(input.path()?)?;
    let (old, new, all) = (input.text("old_string")?, input.text("new_string")?, input.flag("replace_all")?);
    if old.is_empty() {
        return Err("the field `old_string` is empty; use `write` for a new file".to_owned());
    }
    if old == new {
        return Err("`old_string` and `new_string` are the same; nothing was changed".to_owned());
    }
    let shown = place.show(&path);
    let meta = fs::metadata(&path).map_err(|error| place.read_error(&path, &error))?;
    if !meta.is_file() || meta.len() > READ_FILE_BYTES_MAX {
        return Err(format!("{shown} is not a regular file of at most {READ_FILE_BYTES_MAX} bytes"));
    }
    let bytes = fs::read(&path).map_err(|error| place.read_error(&path, &error))?;
    let text = String::from_utf8(bytes).map_err(|_| format!("{shown} is not UTF-8 text; change it with `bash`"))?;
    let (old, new) = with_line_ends_of(&text, old, new);
    let places: Vec<usize> = text.match_indices(old.as_str()).map(|(at, _)| at).collect();
    if places.is_empty() {
        return Err(format!("`old_string` is not in {shown}; nothing was changed. {}", hint(&text, &old)));
    }
    if places.len() > 1 && !all {
        let lines = named_lines(&text, &places);
        return Err(format!(
            "`old_string` is in {shown} {} times, at lines {lines}; nothing was changed. Give more of the text round it, or set `replace_all`",
            places.len()
        ));
    }
    let changed = text.replace(old.as_str(), &new);
    write_whole(place, &path, changed.as_bytes())?;
    let mut said = format!("changed {shown} ({} {})\n", places.len(), if places.len() == 1 { "place" } else { "places" });
    show_change(&mut said, &changed, places[0], new.len());
    if let Some(note) = place.out_of_scope_note(&path) {
        said.push_str(&note);
    }
    Ok(said)
}

/// In a file whose lines all end with CRLF, the model's LF means CRLF.
fn with_line_ends_of(text: &str, old: &str, new: &str) -> (String, String) {
    let (crlf, lf) = (text.matches("\r\n").count(), text.matches('\n').count());
    if crlf == 0 || crlf != lf {
        return (old.to_owned(), new.to_owned());
    }
    let convert = |piece: &str| piece.replace("\r\n", "\n").replace('\n', "\r\n");
    (convert(old), convert(new))
}

fn line_of(text: &str, at: usize) -> usize {
    text.as_bytes()[..at].iter().filter(|byte| **byte == b'\n').count() + 1
}

fn named_lines(text: &str, places: &[usize]) -> String {
    let mut lines: Vec<String> = places.iter().take(NAMED_LINES_MAX).map(|at| line_of(text, *at).to_string()).collect();
    if places.len() > NAMED_LINES_MAX {
        lines.push("...".to_owned());
    }
    lines.join(", ")
}

/// Says what is nearly there.
fn hint(text: &str, old: &str) -> String {
    let numbered = |line: &str| line.split_once('\t').is_some_and(|(number, _)| number.trim().parse::<u64>().is_ok());
    if old.lines().all(numbered) {
        return "It holds the line numbers of `read`; leave them out.".to_owned();
    }
    let wanted: Vec<&str> = old.lines().map(str::trim).collect();
    let have: Vec<&str> = text.lines().map(str::trim).collect();
    match have.windows(wanted.len().max(1)).position(|window| window == wanted) {
        Some(at) => format!("Text that differs only in white space is at line {}; `read` it and copy it exactly.", at + 1),
        None => "`read` the file and copy the text exactly.".to_owned(),
    }
}

fn show_change(said: &mut String, changed: &str, at: usize, length: usize) {
    let first = line_of(changed, at).saturating_sub(SHOWN_LINES_ROUND).max(1);
    let last = (line_of(changed, at + length) + SHOWN_LINES_ROUND).min(first + SHOWN_LINES_MAX);
    for (index, line) in changed.lines().enumerate().skip(first - 1).take(last + 1 - first) {
        let line = line.trim_end_matches('\r');
        let end = line.floor_char_boundary(300);
        // Writing to a String cannot fail.
        let _ = writeln!(said, "{:>6}\t{}", index + 1, &line[..end]);
    }
}
