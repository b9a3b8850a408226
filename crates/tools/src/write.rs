//! `write`: a whole file.

use aedile_core::model::ToolSpec;
use aedile_core::tool::{Tool, ToolOutput, ToolRisk};
use async_trait::async_trait;
use serde_json::{Value, json};
use std::sync::Arc;

use crate::files::write_whole;
use crate::input::{Input, blocking};
use crate::place::Place;

/// The tool.
pub(crate) struct Write {
    pub(crate) place: Arc<Place>,
}

#[async_trait]
impl Tool for Write {
    fn spec(&self) -> ToolSpec {
        ToolSpec {
            name: "write".to_owned(),
            description: "Writes a whole file; creates it and its directories, or replaces what it held. Prefer `edit` for a change to an existing file."
                .to_owned(),
            input_schema: json!({
                "type": "object",
                "properties": {
                    "path": {"type": "string", "description": "The file."},
                    "content": {"type": "string", "description": "Everything the file shall hold."}
                },
                "required": ["path", "content"]
            }),
        }
    }

    fn risk(&self) -> ToolRisk {
        ToolRisk::Write
    }

    async fn call(&self, input: Value) -> ToolOutput {
        let place = Arc::clone(&self.place);
        blocking(move || write(&place, &input)).await
    }
}

fn write(place: &Place, input: &Value) -> Result<String, String> {
    let input = Input::new(input)?;
    let path = place.resolve(input.path()?)?;
    let content = input.text("content")?;
    let existed = path.exists();
    write_whole(place, &path, content.as_bytes())?;
    let verb = if existed { "replaced" } else { "created" };
    let said = format!("{verb} {} ({} lines, {} bytes)", place.show(&path), content.lines().count(), content.len());
    Ok(match place.out_of_scope_note(&path) {
        Some(note) => format!("{said}\n{note}"),
        None => said,
    })
}
