//! `edit` and `multi_edit`: replace exact pieces of text in one file.

use aedile_core::model::ToolSpec;
use aedile_core::tool::{Tool, ToolOutput, ToolRisk};
use async_trait::async_trait;
use serde_json::{Value, json};
use std::fmt::Write;
use std::sync::Arc;

use crate::files::{read_text, write_whole};
use crate::input::{Input, blocking};
use crate::near::nearest;
use crate::place::Place;

/// Line numbers named when a piece is not unique.
const NAMED_LINES_MAX: usize = 20;
/// Lines shown round a change.
const SHOWN_LINES_ROUND: usize = 3;
/// Changed lines shown.
const SHOWN_LINES_MAX: usize = 30;
/// Edits of one call.
const EDITS_MAX: usize = 200;
/// Changes that `multi_edit` shows.
const SHOWN_EDITS_MAX: usize = 10;

/// The tool `edit`.
pub(crate) struct Edit {
    pub(crate) place: Arc<Place>,
}

/// The tool `multi_edit`.
pub(crate) struct MultiEdit {
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

#[async_trait]
impl Tool for MultiEdit {
    fn spec(&self) -> ToolSpec {
        ToolSpec {
            name: "multi_edit".to_owned(),
            description: format!(
                "Makes several edits of one file, all of them or none. Each is like an `edit` and sees what those before it have made. At most {EDITS_MAX}."
            ),
            input_schema: json!({
                "type": "object",
                "properties": {
                    "path": {"type": "string", "description": "The file."},
                    "edits": {
                        "type": "array",
                        "items": {
                            "type": "object",
                            "properties": {
                                "old_string": {"type": "string"},
                                "new_string": {"type": "string"},
                                "replace_all": {"type": "boolean"}
                            },
                            "required": ["old_string", "new_string"]
                        }
                    }
                },
                "required": ["path", "edits"]
            }),
        }
    }

    fn risk(&self) -> ToolRisk {
        ToolRisk::Write
    }

    async fn call(&self, input: Value) -> ToolOutput {
        let place = Arc::clone(&self.place);
        blocking(move || multi_edit(&place, &input)).await
    }
}

/// One replacement.
struct Piece<'a> {
    old: &'a str,
    new: &'a str,
    all: bool,
}

impl<'a> Piece<'a> {
    fn of(input: &Input<'a>) -> Result<Self, String> {
        let piece = Self { old: input.text("old_string")?, new: input.text("new_string")?, all: input.flag("replace_all")? };
        if piece.old.is_empty() {
            return Err("the field `old_string` is empty; use `write` for a new file".to_owned());
        }
        if piece.old == piece.new {
            return Err("`old_string` and `new_string` are the same; nothing was changed".to_owned());
        }
        Ok(piece)
    }
}

/// A changed text.
struct Changed {
    text: String,
    places: usize,
    /// Where the first change begins and how long it is, in bytes.
    at: usize,
    length: usize,
}

fn edit(place: &Place, input: &Value) -> Result<String, String> {
    let input = Input::new(input)?;
    let path = place.resolve(input.path()?)?;
    let piece = Piece::of(&input)?;
    let shown = place.show(&path);
    let changed = replace(&read_text(place, &path)?, &piece, &shown)?;
    write_whole(place, &path, changed.text.as_bytes())?;
    let mut said = format!("changed {shown} ({})\n", places(changed.places));
    show_change(&mut said, &changed.text, changed.at, changed.length);
    if let Some(note) = place.out_of_scope_note(&path) {
        said.push_str(&note);
    }
    Ok(said)
}

fn multi_edit(place: &Place, input: &Value) -> Result<String, String> {
    let input = Input::new(input)?;
    let path = place.resolve(input.path()?)?;
    let edits = input.list_opt("edits")?.ok_or("the field `edits` is missing")?;
    if edits.is_empty() || edits.len() > EDITS_MAX {
        return Err(format!("the field `edits` must hold 1 to {EDITS_MAX} edits, not {}", edits.len()));
    }
    let shown = place.show(&path);
    let mut text = read_text(place, &path)?;
    let mut summary = Vec::new();
    for (index, edit) in edits.iter().enumerate() {
        let changed = Input::new(edit)
            .and_then(|edit| Piece::of(&edit))
            .and_then(|piece| replace(&text, &piece, &shown))
            .map_err(|problem| format!("edit {} of {}: {problem}\nNone of the edits was made.", index + 1, edits.len()))?;
        if index < SHOWN_EDITS_MAX {
            summary.push(format!("edit {}: {}, line {}", index + 1, places(changed.places), line_of(&changed.text, changed.at)));
        }
        text = changed.text;
    }
    if edits.len() > SHOWN_EDITS_MAX {
        summary.push(format!("[{} more edits]", edits.len() - SHOWN_EDITS_MAX));
    }
    write_whole(place, &path, text.as_bytes())?;
    summary.extend(place.out_of_scope_note(&path));
    Ok(format!("changed {shown} ({} edits)\n{}", edits.len(), summary.join("\n")))
}

fn places(count: usize) -> String {
    if count == 1 { "1 place".to_owned() } else { format!("{count} places") }
}

fn replace(text: &str, piece: &Piece<'_>, shown: &str) -> Result<Changed, String> {
    let (old, new) = with_line_ends_of(text, piece.old, piece.new);
    let found: Vec<usize> = text.match_indices(old.as_str()).map(|(at, _)| at).collect();
    let Some(first) = found.first().copied() else {
        return Err(format!("`old_string` is not in {shown}; nothing was changed. {}", hint(text, &old)));
    };
    if found.len() > 1 && !piece.all {
        let lines = named_lines(text, &found);
        return Err(format!(
            "`old_string` is in {shown} {} times, at lines {lines}; nothing was changed. Give more of the text round it, or set `replace_all`",
            found.len()
        ));
    }
    Ok(Changed { text: text.replace(old.as_str(), &new), places: found.len(), at: first, length: new.len() })
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
    let wanted: Vec<&str> = old.lines().collect();
    let have: Vec<&str> = text.lines().collect();
    let same = |window: &&[&str]| window.iter().zip(&wanted).all(|(have, wanted)| have.trim() == wanted.trim());
    let near = nearest(&have, &wanted);
    match have.windows(wanted.len().max(1)).position(|window| same(&window)) {
        Some(at) => format!("Text that differs only in white space is at line {}; copy it exactly. {}", at + 1, near.unwrap_or_default()),
        None => match near {
            Some(near) => format!("{near}\nCopy the text exactly."),
            None => "Nothing in the file is like it; `read` the file and copy the text exactly.".to_owned(),
        },
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
