//! `todo`: the list that the agent keeps for itself.

use aedile_core::model::ToolSpec;
use aedile_core::tool::{Tool, ToolOutput, ToolRisk};
use async_trait::async_trait;
use serde_json::{Value, json};
use std::sync::{Mutex, PoisonError};

use crate::input::{Input, output};

/// Items at most.
const ITEMS_MAX: usize = 100;

/// The tool.
#[derive(Default)]
pub(crate) struct Todo {
    items: Mutex<Vec<String>>,
}

#[async_trait]
impl Tool for Todo {
    fn spec(&self) -> ToolSpec {
        ToolSpec {
            name: "todo".to_owned(),
            description:
                "Keeps your list of steps. Give the whole list each time; without `items` the list is shown. Use it when a task has three \
                          steps or more, and keep it true."
                    .to_owned(),
            input_schema: json!({
                "type": "object",
                "properties": {
                    "items": {
                        "type": "array",
                        "items": {
                            "type": "object",
                            "properties": {
                                "text": {"type": "string"},
                                "status": {"type": "string", "enum": ["pending", "doing", "done"]}
                            },
                            "required": ["text", "status"]
                        }
                    }
                }
            }),
        }
    }

    fn risk(&self) -> ToolRisk {
        ToolRisk::Control
    }

    async fn call(&self, input: Value) -> ToolOutput {
        output(self.update(&input))
    }
}

impl Todo {
    fn update(&self, input: &Value) -> Result<String, String> {
        let input = Input::new(input)?;
        let list = match input.list_opt("items")? {
            Some(list) if list.len() > ITEMS_MAX => return Err(format!("the list may have at most {ITEMS_MAX} items")),
            Some(list) => Some(list.iter().map(item).collect::<Result<Vec<_>, _>>()?),
            None => None,
        };
        let mut items = self.items.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(list) = list {
            *items = list;
        }
        Ok(if items.is_empty() { "[the list is empty]".to_owned() } else { items.join("\n") })
    }
}

fn item(value: &Value) -> Result<String, String> {
    let item = Input::new(value).map_err(|_| "each of `items` must be an object with `text` and `status`".to_owned())?;
    let mark = match item.text_opt("status")? {
        None | Some("pending") => "[ ]",
        Some("doing") => "[>]",
        Some("done") => "[x]",
        Some(other) => return Err(format!("the field `status` must be pending, doing or done, not {other:?}")),
    };
    Ok(format!("{mark} {}", item.text("text")?.replace('\n', " ")))
}
