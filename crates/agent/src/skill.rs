//! `skill`: loads the instructions that a repository has for a kind of work.

use aedile_core::model::ToolSpec;
use aedile_core::tool::{Tool, ToolOutput, ToolRisk};
use async_trait::async_trait;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use crate::front_matter::Document;
use crate::library::Entry;

/// Files of a skill that are named.
const FILES_MAX: usize = 50;
/// The list of skills in the system prompt.
const LIST_BYTES_MAX: usize = 16 * 1024;

/// The tool.
pub(crate) struct Skill {
    pub(crate) skills: BTreeMap<String, Entry>,
    pub(crate) cwd: PathBuf,
}

/// What the system prompt says of the skills.
pub(crate) fn skill_list(skills: &BTreeMap<String, Entry>) -> String {
    let mut text = String::new();
    for (name, entry) in skills.iter().filter(|(_, entry)| !entry.for_people) {
        let line = format!("- {name}: {}\n", entry.description.replace('\n', " "));
        if text.len() + line.len() > LIST_BYTES_MAX {
            text.push_str("- (there are more; `skill` names them all when it is called without a name)\n");
            break;
        }
        text.push_str(&line);
    }
    text
}

#[async_trait]
impl Tool for Skill {
    fn spec(&self) -> ToolSpec {
        ToolSpec {
            name: "skill".to_owned(),
            description: "Loads a skill of the repository: instructions for a kind of work. Load it before you begin such work.".to_owned(),
            input_schema: json!({
                "type": "object",
                "properties": {"name": {"type": "string", "description": "The skill."}},
                "required": ["name"]
            }),
        }
    }

    fn risk(&self) -> ToolRisk {
        ToolRisk::Read
    }

    async fn call(&self, input: Value) -> ToolOutput {
        let field = ["name", "skill", "command"].iter().find_map(|field| input.get(field).and_then(Value::as_str));
        let Some(name) = field else { return ToolOutput::error(format!("the field `name` is missing; there are: {}", self.names())) };
        match self.skills.get(name) {
            Some(entry) if entry.for_people => ToolOutput::error(format!("the skill {name} is for the person to call, with /{name}")),
            Some(entry) => match load(name, entry, &self.cwd) {
                Ok(text) => ToolOutput::ok(text),
                Err(problem) => ToolOutput::error(problem),
            },
            None => ToolOutput::error(format!("there is no skill {name:?}; there are: {}", self.names())),
        }
    }
}

impl Skill {
    fn names(&self) -> String {
        self.skills.iter().filter(|(_, entry)| !entry.for_people).map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", ")
    }
}

/// The skill as it is now, with the files beside it.
pub(crate) fn load(name: &str, entry: &Entry, cwd: &Path) -> Result<String, String> {
    let document = match Document::read(&entry.path) {
        Ok(Some(document)) => document,
        Ok(None) => return Err(format!("the skill {name} is gone: {} does not exist any more", entry.path.display())),
        Err(problem) => return Err(format!("the skill {name} cannot be used any more: {problem}")),
    };
    let directory = entry.path.parent().unwrap_or(cwd);
    let shown = directory.strip_prefix(cwd).unwrap_or(directory).display().to_string();
    let mut text = format!("<skill name=\"{name}\" directory=\"{shown}\">\n{}\n</skill>", document.body.trim());
    let mut files = fs::read_dir(directory)
        .into_iter()
        .flatten()
        .flatten()
        .map(|file| file.file_name().to_string_lossy().into_owned())
        .filter(|file| file != "SKILL.md")
        .collect::<Vec<_>>();
    files.sort();
    files.truncate(FILES_MAX);
    if !files.is_empty() {
        // Writing to a String cannot fail.
        let _ = write!(text, "\nBeside it in {shown}: {}", files.join(", "));
    }
    Ok(text)
}
