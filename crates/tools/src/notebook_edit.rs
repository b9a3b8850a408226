//! `notebook_edit`: changes one cell of a notebook and leaves every other byte as it is.

use aedile_core::model::ToolSpec;
use aedile_core::tool::{Tool, ToolOutput, ToolRisk};
use async_trait::async_trait;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use std::ops::Range;
use std::sync::Arc;

use crate::files::{read_text, write_whole};
use crate::input::{Input, blocking};
use crate::notebook::{Cell, Notebook, span_in};
use crate::place::Place;

/// The tool.
pub(crate) struct NotebookEdit {
    pub(crate) place: Arc<Place>,
}

#[async_trait]
impl Tool for NotebookEdit {
    fn spec(&self) -> ToolSpec {
        ToolSpec {
            name: "notebook_edit".to_owned(),
            description: "Changes one cell of a Jupyter notebook: `replace` its source (its outputs go), `insert` a new cell behind it, or `delete` it. Cells are named by \
                          their number, from 1 as `read` shows them, or by their id; 0 inserts at the beginning."
                .to_owned(),
            input_schema: json!({
                "type": "object",
                "properties": {
                    "path": {"type": "string", "description": "The notebook (.ipynb)."},
                    "action": {"type": "string", "enum": ["replace", "insert", "delete"]},
                    "cell": {"type": ["integer", "string"], "description": "Number or id of the cell."},
                    "source": {"type": "string", "description": "The cell's new text; not for `delete`."},
                    "cell_type": {"type": "string", "enum": ["code", "markdown", "raw"], "description": "For `insert`; `code` when absent."}
                },
                "required": ["path", "action", "cell"]
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
    let fields = Input::new(input)?;
    let path = place.resolve(fields.path()?)?;
    let shown = place.show(&path);
    let text = read_text(place, &path)?;
    let notebook = Notebook::parse(&text, &shown)?;
    let cell = input.get("cell").ok_or("the field `cell` is missing")?;
    let (changed, said) = match fields.text("action")? {
        "replace" => {
            let at = notebook.find(cell, &shown)?;
            (notebook.replaced(at, fields.text("source")?)?, format!("replaced cell {} of {shown}", at + 1))
        }
        "delete" => {
            let at = notebook.find(cell, &shown)?;
            (notebook.deleted(at), format!("deleted cell {} of {shown}; {} are left", at + 1, notebook.cells.len() - 1))
        }
        "insert" => {
            let at = if is_zero(cell) { 0 } else { notebook.find(cell, &shown)? + 1 };
            let kind = fields.text_opt("cell_type")?.unwrap_or("code");
            if !["code", "markdown", "raw"].contains(&kind) {
                return Err(format!("the field `cell_type` must be code, markdown or raw, not {kind:?}"));
            }
            (notebook.inserted(at, kind, fields.text("source")?), format!("inserted cell {} ({kind}) into {shown}", at + 1))
        }
        other => return Err(format!("the field `action` must be replace, insert or delete, not {other:?}")),
    };
    Notebook::parse(&changed, &shown).map_err(|problem| format!("{problem}; nothing was changed"))?;
    write_whole(place, &path, changed.as_bytes())?;
    Ok(match place.out_of_scope_note(&path) {
        Some(note) => format!("{said}\n{note}"),
        None => said,
    })
}

fn is_zero(cell: &Value) -> bool {
    cell.as_u64() == Some(0) || cell.as_str() == Some("0")
}

/// The fields of a cell that a replacement touches, as they stand in its text.
#[derive(Deserialize)]
struct Fields<'a> {
    #[serde(borrow)]
    source: &'a RawValue,
    #[serde(borrow)]
    outputs: Option<&'a RawValue>,
    #[serde(borrow)]
    execution_count: Option<&'a RawValue>,
}

impl Notebook<'_> {
    /// The index of a cell that is named by number or id.
    fn find(&self, cell: &Value, shown: &str) -> Result<usize, String> {
        let by_id = |id: &str| self.cells.iter().position(|cell| cell.id() == Some(id));
        let by_number = |number: usize| (1..=self.cells.len()).contains(&number).then(|| number - 1);
        let found = match cell {
            Value::String(id) => by_id(id).or_else(|| id.trim().parse().ok().and_then(by_number)),
            other => other.as_u64().and_then(|number| by_number(usize::try_from(number).ok()?)),
        };
        found.ok_or_else(|| format!("{shown} has no cell {cell}; it has {} cells, which `read` shows with their ids", self.cells.len()))
    }

    fn replaced(&self, at: usize, source: &str) -> Result<String, String> {
        let span = &self.cells[at].span;
        let cell = &self.text[span.clone()];
        let fields: Fields<'_> = serde_json::from_str(cell).map_err(|error| format!("cell {} cannot be changed: {error}", at + 1))?;
        let whole = fields.source.get().starts_with('"');
        let mut changes: Vec<(Range<usize>, String)> =
            vec![(span_in(self.text, fields.source.get()), self.source(source, whole, span.start))];
        if self.cells[at].kind() == "code" {
            changes.extend(fields.outputs.map(|outputs| (span_in(self.text, outputs.get()), "[]".to_owned())));
            changes.extend(fields.execution_count.map(|count| (span_in(self.text, count.get()), "null".to_owned())));
        }
        changes.sort_by_key(|(range, _)| std::cmp::Reverse(range.start));
        let mut text = self.text.to_owned();
        for (range, new) in changes {
            text.replace_range(range, &new);
        }
        Ok(text)
    }

    fn deleted(&self, at: usize) -> String {
        let Range { start, end } = self.cells[at].span;
        // With the comma and the space on one side.
        let range = match (at.checked_sub(1).map(|before| &self.cells[before]), self.cells.get(at + 1)) {
            (Some(before), _) => before.span.end..end,
            (None, Some(next)) => start..next.span.start,
            (None, None) => self.list.start + 1..self.list.end - 1,
        };
        format!("{}{}", &self.text[..range.start], &self.text[range.end..])
    }

    fn inserted(&self, at: usize, kind: &str, source: &str) -> String {
        let (place, before, after) = match (at.checked_sub(1), self.cells.first()) {
            (Some(above), _) => {
                let span = &self.cells[above].span;
                (span.end, format!(",{}", self.space_before(span.start)), String::new())
            }
            (None, Some(first)) => (first.span.start, String::new(), format!(",{}", self.space_before(first.span.start))),
            (None, None) => (self.list.start + 1, String::new(), String::new()),
        };
        let cell = self.rendered(kind, source, self.cells.first().map_or(0, |cell| cell.span.start));
        let rest = if self.cells.is_empty() { self.list.end - 1 } else { place };
        format!("{}{before}{cell}{after}{}", &self.text[..place], &self.text[rest..])
    }

    /// The line break and indentation in front of a place; nothing where the notebook stands on one line.
    fn space_before(&self, at: usize) -> &str {
        let head = &self.text[..at];
        let space = &head[head.trim_end_matches([' ', '\t', '\n', '\r']).len()..];
        if space.contains('\n') { space } else { "" }
    }

    /// The source as JSON, in lines unless `whole`, for a cell that begins at `start`.
    fn source(&self, source: &str, whole: bool, start: usize) -> String {
        let space = self.space_before(start);
        let unit = unit_of(space);
        let lines: Vec<String> = source.split_inclusive('\n').map(|line| Value::from(line).to_string()).collect();
        match (whole, space.is_empty() || lines.is_empty()) {
            (true, _) => Value::from(source).to_string(),
            (false, true) => format!("[{}]", lines.join(",")),
            (false, false) => format!("[{space}{unit}{unit}{}{space}{unit}]", lines.join(&format!(",{space}{unit}{unit}"))),
        }
    }

    fn rendered(&self, kind: &str, source: &str, start: usize) -> String {
        let space = self.space_before(start);
        let mut fields = vec![format!("\"cell_type\":{}", Value::from(kind))];
        if kind == "code" {
            fields.push("\"execution_count\":null".to_owned());
        }
        if self.wants_ids {
            fields.push(format!("\"id\":{}", Value::from(self.free_id())));
        }
        fields.push("\"metadata\":{}".to_owned());
        if kind == "code" {
            fields.push("\"outputs\":[]".to_owned());
        }
        fields.push(format!("\"source\":{}", self.source(source, false, start)));
        if space.is_empty() {
            return format!("{{{}}}", fields.join(","));
        }
        let inner = format!("{space}{}", unit_of(space));
        let fields: Vec<String> = fields.iter().map(|field| field.replacen("\":", "\": ", 1)).collect();
        format!("{{{inner}{}{space}}}", fields.join(&format!(",{inner}")))
    }

    fn free_id(&self) -> String {
        let taken = |id: &str| self.cells.iter().filter_map(Cell::id).any(|known| known == id);
        let mut number = self.cells.len() + 1;
        while taken(&format!("cell-{number}")) {
            number += 1;
        }
        format!("cell-{number}")
    }
}

/// Cells stand two levels deep, so half of their indentation is one level.
fn unit_of(space: &str) -> &str {
    let indent = space.rsplit('\n').next().unwrap_or_default();
    &indent[..indent.len() / 2]
}
