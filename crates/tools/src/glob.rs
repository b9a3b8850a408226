//! `glob`: finds files by name.

use aedile_core::model::ToolSpec;
use aedile_core::tool::{Tool, ToolOutput, ToolRisk, Withheld};
use async_trait::async_trait;
use globset::{GlobBuilder, GlobMatcher};
use ignore::{DirEntry, WalkBuilder};
use serde_json::{Value, json};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use crate::input::{Input, blocking};
use crate::place::Place;

/// Files shown when the call names no number, and at most.
const FILES_DEFAULT: usize = 100;
const FILES_MAX: usize = 1000;

/// The tool.
pub(crate) struct Glob {
    pub(crate) place: Arc<Place>,
    pub(crate) withheld: OnceLock<Withheld>,
}

#[async_trait]
impl Tool for Glob {
    fn spec(&self) -> ToolSpec {
        ToolSpec {
            name: "glob".to_owned(),
            description:
                "Finds files whose path matches a pattern such as `src/**/*.rs` or `*.toml` (a pattern without `/` matches at any depth). \
                          Newest first. Files that git ignores are left out."
                    .to_owned(),
            input_schema: json!({
                "type": "object",
                "properties": {
                    "pattern": {"type": "string", "description": "The pattern, relative to `path`."},
                    "path": {"type": "string", "description": "The directory to search; the workspace's root when absent."},
                    "limit": {"type": "integer", "minimum": 1, "description": "How many files to show."}
                },
                "required": ["pattern"]
            }),
        }
    }

    fn risk(&self) -> ToolRisk {
        ToolRisk::Read
    }

    fn withhold(&self, withheld: Withheld) {
        // The first stays.
        let _ = self.withheld.set(withheld);
    }

    async fn call(&self, input: Value) -> ToolOutput {
        let (place, withheld) = (Arc::clone(&self.place), self.withheld.get().cloned());
        blocking(move || glob(&place, &input, withheld)).await
    }
}

fn glob(place: &Place, input: &Value, withheld: Option<Withheld>) -> Result<String, String> {
    let input = Input::new(input)?;
    let path = place.resolve(input.text_opt("path")?.unwrap_or("."))?;
    let matcher = matcher(input.text("pattern")?, "pattern")?;
    let limit = input.count_opt("limit")?.unwrap_or(FILES_DEFAULT).clamp(1, FILES_MAX);
    if !path.is_dir() {
        return Err(format!("{} is not a directory", place.show(&path)));
    }
    let (mut found, passed) = (Vec::<(SystemTime, String)>::new(), Passed::default());
    for entry in walk(&path, withheld, &passed).build().filter_map(Result::ok).filter(is_file) {
        if entry.path().strip_prefix(&path).is_ok_and(|relative| matcher.is_match(relative)) {
            let time = entry.metadata().ok().and_then(|meta| meta.modified().ok()).unwrap_or(SystemTime::UNIX_EPOCH);
            found.push((time, place.show(entry.path())));
        }
    }
    if found.is_empty() {
        return Ok(format!("[no file matches; files that git ignores are not searched]{}", passed.note()));
    }
    found.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
    let total = found.len();
    let mut lines: Vec<String> = found.into_iter().take(limit).map(|(_, path)| path).collect();
    if total > limit {
        lines.push(format!("[{limit} of {total} files are shown; narrow the pattern]"));
    }
    Ok(format!("{}{}", lines.join("\n"), passed.note()))
}

/// How many files and directories a search passed over since a rule withholds them.
#[derive(Clone, Default)]
pub(crate) struct Passed(Arc<AtomicUsize>);

impl Passed {
    /// Says so on a line of its own, if there were any.
    pub(crate) fn note(&self) -> String {
        match self.0.load(Ordering::Relaxed) {
            0 => String::new(),
            number => format!("\n[passed over, since a permission rule denies reading them: {number}]"),
        }
    }
}

/// Compiles a pattern for paths: `*` does not cross `/`, and a pattern without `/` matches at any depth.
pub(crate) fn matcher(pattern: &str, field: &str) -> Result<GlobMatcher, String> {
    let pattern = pattern.trim_start_matches("./");
    let deep = if pattern.contains('/') { pattern.to_owned() } else { format!("**/{pattern}") };
    let glob = GlobBuilder::new(&deep).literal_separator(true).build();
    glob.map(|glob| glob.compile_matcher()).map_err(|error| format!("the field `{field}` is not a usable pattern: {error}"))
}

/// Walks a tree by git's ignore rules, hidden files included, `.git` and what is withheld left out, links not followed, in the order of paths.
pub(crate) fn walk(path: &Path, withheld: Option<Withheld>, passed: &Passed) -> WalkBuilder {
    let mut builder = WalkBuilder::new(path);
    builder.hidden(false).require_git(false).git_global(false).parents(true).follow_links(false);
    let passed = passed.clone();
    let may_be_read = move |entry: &DirEntry| {
        let free = withheld.as_ref().is_none_or(|withheld| !withheld(entry.path()));
        passed.0.fetch_add(usize::from(!free), Ordering::Relaxed);
        free
    };
    builder.filter_entry(move |entry| entry.file_name() != ".git" && may_be_read(entry)).sort_by_file_path(Ord::cmp);
    builder
}

/// Whether the entry is a regular file.
pub(crate) fn is_file(entry: &DirEntry) -> bool {
    entry.file_type().is_some_and(|kind| kind.is_file())
}
