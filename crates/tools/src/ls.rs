//! `ls`: one directory.

use aedile_core::model::ToolSpec;
use aedile_core::tool::{Tool, ToolOutput, ToolRisk};
use async_trait::async_trait;
use serde_json::{Value, json};
use std::fs::{self, DirEntry};
use std::sync::Arc;

use crate::input::{Input, blocking};
use crate::place::Place;

/// Entries shown of one directory.
const ENTRIES_MAX: usize = 500;

/// The tool.
pub(crate) struct Ls {
    pub(crate) place: Arc<Place>,
}

#[async_trait]
impl Tool for Ls {
    fn spec(&self) -> ToolSpec {
        ToolSpec {
            name: "ls".to_owned(),
            description:
                "Lists one directory, hidden and ignored entries included: directories end with `/`, files show their size in bytes."
                    .to_owned(),
            input_schema: json!({
                "type": "object",
                "properties": {"path": {"type": "string", "description": "The directory; the workspace's root when absent."}}
            }),
        }
    }

    fn risk(&self) -> ToolRisk {
        ToolRisk::Read
    }

    async fn call(&self, input: Value) -> ToolOutput {
        let place = Arc::clone(&self.place);
        blocking(move || ls(&place, &input)).await
    }
}

fn ls(place: &Place, input: &Value) -> Result<String, String> {
    let input = Input::new(input)?;
    let path = place.resolve(input.text_opt("path")?.unwrap_or("."))?;
    let meta = fs::metadata(&path).map_err(|error| place.read_error(&path, &error))?;
    if !meta.is_dir() {
        return Err(format!("{} is a file; use `read`", place.show(&path)));
    }
    let entries = fs::read_dir(&path).map_err(|error| place.read_error(&path, &error))?;
    let mut lines: Vec<String> = entries.filter_map(Result::ok).map(|entry| line(&entry)).collect();
    if lines.is_empty() {
        return Ok(format!("[{} is empty]", place.show(&path)));
    }
    lines.sort();
    let total = lines.len();
    lines.truncate(ENTRIES_MAX);
    if total > ENTRIES_MAX {
        lines.push(format!("[{ENTRIES_MAX} of {total} entries are shown; narrow with `glob`]"));
    }
    Ok(lines.join("\n"))
}

fn line(entry: &DirEntry) -> String {
    let name = entry.file_name().to_string_lossy().into_owned();
    match entry.metadata() {
        Ok(meta) if meta.is_dir() => format!("{name}/"),
        Ok(meta) if meta.is_symlink() => {
            let target = fs::read_link(entry.path()).map(|target| target.display().to_string());
            format!("{name} -> {}", target.unwrap_or_else(|_| "?".to_owned()))
        }
        Ok(meta) if meta.is_file() => format!("{name} ({})", meta.len()),
        _ => format!("{name} (special)"),
    }
}
