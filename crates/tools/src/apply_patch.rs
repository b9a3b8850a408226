//! `apply_patch`: changes files by a patch.

use aedile_core::model::ToolSpec;
use aedile_core::tool::{Tool, ToolOutput, ToolRisk};
use async_trait::async_trait;
use serde_json::{Value, json};
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use crate::change_set::ChangeSet;
use crate::input::{Input, blocking};
use crate::patch::{self, Action, FileChange, Hunk, apply_hunks};
use crate::place::Place;
use crate::text_file::TextFile;

/// The tool.
pub(crate) struct ApplyPatch {
    pub(crate) place: Arc<Place>,
}

#[async_trait]
impl Tool for ApplyPatch {
    fn spec(&self) -> ToolSpec {
        ToolSpec {
            name: "apply_patch".to_owned(),
            description: "Changes one or more files by a patch, all of it or nothing. The form is `*** Begin Patch`, then per file `*** Add File: PATH` (each \
                          line with `+`), `*** Delete File: PATH` or `*** Update File: PATH` (after which `*** Move to: PATH` may stand) with hunks, then \
                          `*** End Patch`. A hunk begins with `@@` or `@@ LINE`, where LINE is a line that stands above the change; its lines begin with a \
                          space (stays), `-` (goes) or `+` (comes). Give three lines of context on each side. A unified diff is taken as well. Paths are \
                          relative to the workspace's root."
                .to_owned(),
            input_schema: json!({
                "type": "object",
                "properties": {"patch": {"type": "string", "description": "The whole patch."}},
                "required": ["patch"]
            }),
        }
    }

    fn risk(&self) -> ToolRisk {
        ToolRisk::Write
    }

    async fn call(&self, input: Value) -> ToolOutput {
        let place = Arc::clone(&self.place);
        blocking(move || apply(&place, &input)).await
    }
}

/// What is said of the changes.
#[derive(Default)]
struct Said {
    lines: Vec<String>,
    notes: Vec<String>,
}

fn apply(place: &Place, input: &Value) -> Result<String, String> {
    let input = Input::new(input)?;
    let unchanged = |problem: String| format!("{problem}\nNothing was changed.");
    let text = match input.text_opt("patch")? {
        Some(text) => text,
        // The name under which models know it from elsewhere.
        None => input.text_opt("input")?.ok_or("the field `patch` is missing")?,
    };
    let changes = patch::parse(text).map_err(unchanged)?;
    let mut set = ChangeSet::new(place);
    let mut said = Said::default();
    for change in &changes {
        plan(place, &mut set, change, &mut said).map_err(unchanged)?;
    }
    set.write()?;
    said.lines.extend(said.notes);
    Ok(said.lines.join("\n"))
}

fn plan(place: &Place, set: &mut ChangeSet<'_>, change: &FileChange, said: &mut Said) -> Result<(), String> {
    let path = inside(place, &change.path)?;
    let shown = place.show(&path);
    said.notes.extend(place.out_of_scope_note(&path));
    match &change.action {
        Action::Add { .. } if set.exists(&path) => {
            return Err(format!("{shown} is there already; change it with `*** Update File: `, or replace it with `write`"));
        }
        Action::Add { lines, final_newline } => {
            said.lines.push(format!("added {shown} ({})", count(lines.len(), "line")));
            set.put(&path, TextFile::new(lines, *final_newline).render());
        }
        Action::Delete => {
            if !set.exists(&path) {
                return Err(format!("{shown} is not there and cannot be deleted; find the right path with `glob`"));
            }
            if fs::symlink_metadata(&path).is_ok_and(|meta| meta.is_dir()) {
                return Err(format!("{shown} is a directory; a patch deletes only files"));
            }
            said.lines.push(format!("deleted {shown}"));
            set.remove(&path);
        }
        Action::Update { move_to, hunks } => {
            let applied = apply_hunks(TextFile::parse(&set.text(&path)?), hunks).map_err(|problem| format!("{shown}: {problem}"))?;
            let text = applied.text.render();
            if !applied.loose.is_empty() {
                let numbers: Vec<String> = applied.loose.iter().map(usize::to_string).collect();
                said.notes.push(format!("note: in {shown} hunk {} fitted only without regard to white space", numbers.join(", ")));
            }
            match move_to {
                None => {
                    said.lines.push(format!("updated {shown} ({})", size(hunks)));
                    set.put(&path, text);
                }
                Some(to) => {
                    let target = inside(place, to)?;
                    if set.exists(&target) {
                        return Err(format!("{shown} cannot be moved: {} is there already", place.show(&target)));
                    }
                    said.notes.extend(place.out_of_scope_note(&target));
                    said.lines.push(format!("moved {shown} to {} ({})", place.show(&target), size(hunks)));
                    set.rename(&path, &target, text);
                }
            }
        }
    }
    Ok(())
}

fn count(number: usize, thing: &str) -> String {
    if number == 1 { format!("1 {thing}") } else { format!("{number} {thing}s") }
}

fn size(hunks: &[Hunk]) -> String {
    let (added, removed) = hunks.iter().map(Hunk::size).fold((0, 0), |sum, size| (sum.0 + size.0, sum.1 + size.1));
    format!("{}, +{added} -{removed}", count(hunks.len(), "hunk"))
}

/// The path, if it and everything that it leads through lie in the workspace.
fn inside(place: &Place, path: &str) -> Result<PathBuf, String> {
    let resolved = place.resolve(path)?;
    if resolved == place.root() || !resolved.starts_with(place.root()) {
        return Err(format!("{path} is not a file below the workspace's root; a patch changes only those"));
    }
    let root = fs::canonicalize(place.root()).unwrap_or_else(|_| place.root().to_owned());
    let there = resolved.ancestors().find_map(|part| fs::canonicalize(part).ok());
    match there {
        Some(target) if !target.starts_with(&root) => {
            Err(format!("{path} leads out of the workspace to {}; a patch changes only files in it", target.display()))
        }
        _ => Ok(resolved),
    }
}
