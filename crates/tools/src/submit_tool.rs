//! `submit`: hands the work in.

use aedile_core::model::ToolSpec;
use aedile_core::tool::{Tool, ToolOutput, ToolRisk};
use async_trait::async_trait;
use serde_json::{Value, json};
use std::sync::Arc;

use crate::door::DoorClient;
use crate::input::Input;
use crate::place::Place;
use crate::submit::submit_work;

/// The tool.
pub(crate) struct Submit {
    pub(crate) place: Arc<Place>,
    pub(crate) door: DoorClient,
}

#[async_trait]
impl Tool for Submit {
    fn spec(&self) -> ToolSpec {
        ToolSpec {
            name: "submit".to_owned(),
            description:
                "Hands your work in: commits the changed files of the task's scope and ends your turn. Call it once the task is done and \
                          checked. Changed files outside the scope are left out and named."
                    .to_owned(),
            input_schema: json!({
                "type": "object",
                "properties": {"summary": {"type": "string", "description": "What was done: one line, then details if needed. Becomes the commit message."}},
                "required": ["summary"]
            }),
        }
    }

    fn risk(&self) -> ToolRisk {
        ToolRisk::Control
    }

    async fn call(&self, input: Value) -> ToolOutput {
        let summary = match Input::new(&input).and_then(|input| input.text("summary")) {
            Ok(summary) => summary,
            Err(problem) => return ToolOutput::error(problem),
        };
        match submit_work(&self.door, self.place.root(), summary).await {
            Ok(submitted) => ToolOutput { ends_turn: true, ..ToolOutput::ok(submitted.text()) },
            Err(error) => ToolOutput::error(error.to_string()),
        }
    }
}
