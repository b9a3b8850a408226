//! Tools by the names and inputs that hooks and permission rules are written for, which are Claude Code's.

use serde_json::{Map, Value};
use std::path::Path;

const NAMES: &[(&str, &str)] = &[
    ("bash", "Bash"),
    ("job_output", "BashOutput"),
    ("job_kill", "KillShell"),
    ("read", "Read"),
    ("write", "Write"),
    ("edit", "Edit"),
    ("multi_edit", "MultiEdit"),
    ("notebook_edit", "NotebookEdit"),
    ("glob", "Glob"),
    ("grep", "Grep"),
    ("ls", "LS"),
    ("todo", "TodoWrite"),
    ("task", "Task"),
    ("skill", "Skill"),
    ("web_fetch", "WebFetch"),
];
/// Tools whose `path` has another name there.
const FILE_TOOLS: &[(&str, &str)] = &[
    ("read", "file_path"),
    ("write", "file_path"),
    ("edit", "file_path"),
    ("multi_edit", "file_path"),
    ("notebook_edit", "notebook_path"),
];

fn path_field(tool: &str) -> Option<&'static str> {
    FILE_TOOLS.iter().find(|(own, _)| *own == tool).map(|(_, field)| *field)
}

/// The name that hooks and rules use for a tool; its own when there is no other.
pub(crate) fn public_name(tool: &str) -> &str {
    NAMES.iter().find(|(own, _)| *own == tool).map_or(tool, |(_, public)| public)
}

/// Our own name for a tool that is named in either way.
pub(crate) fn own_name(tool: &str) -> &str {
    NAMES.iter().find(|(_, public)| *public == tool).map_or(tool, |(own, _)| own)
}

/// The input as hooks see it: files by absolute path under `file_path` or `notebook_path`.
pub(crate) fn public_input(tool: &str, input: &Value, cwd: &Path) -> Value {
    let Value::Object(map) = input else { return input.clone() };
    let Some(path_field) = path_field(tool) else { return input.clone() };
    let mut renamed = Map::new();
    for (field, value) in map {
        match (field.as_str(), value.as_str()) {
            ("path" | "file_path", Some(path)) => renamed.insert(path_field.to_owned(), cwd.join(path).display().to_string().into()),
            _ => renamed.insert(field.clone(), value.clone()),
        };
    }
    renamed.into()
}

/// The input for our tool, from one that a hook wrote.
pub(crate) fn own_input(tool: &str, mut input: Value) -> Value {
    if let Some(path_field) = path_field(tool)
        && let Value::Object(map) = &mut input
        && let Some(path) = map.remove(path_field)
    {
        map.insert("path".to_owned(), path);
    }
    input
}
