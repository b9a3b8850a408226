//! What a repository brings for agents: skills, commands and sub-agents, found when a session begins.

use aedile_core::tool::cut_middle;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::front_matter::Document;

/// Where each kind is looked for, below the working directory. The first of two with one name counts.
const PLACES: &[&str] = &[".agents", ".claude"];
/// Files of one kind; further ones are left out.
const ENTRIES_MAX: usize = 100;
/// How deep commands may lie.
const DEPTH_MAX: usize = 4;
/// The longest name.
const NAME_CHARS_MAX: usize = 64;
/// A longer description is cut.
const DESCRIPTION_BYTES_MAX: usize = 1024;

/// One skill, command or sub-agent.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) description: String,
    pub(crate) path: PathBuf,
    /// Whether only the person may use it.
    pub(crate) for_people: bool,
}

/// All of them, by name.
#[derive(Debug, Clone, Default)]
pub(crate) struct Library {
    pub(crate) skills: BTreeMap<String, Entry>,
    pub(crate) commands: BTreeMap<String, Entry>,
    pub(crate) agents: BTreeMap<String, Entry>,
}

impl Library {
    /// Looks for everything. What cannot be used is left out and said in `warnings`.
    pub(crate) fn find(cwd: &Path, warnings: &mut Vec<String>) -> Self {
        let mut library = Self::default();
        for place in PLACES {
            let directory = |kind: &str| cwd.join(place).join(kind);
            let skills = sub_directories(&directory("skills")).into_iter().map(|(name, path)| (name, path.join("SKILL.md")));
            add(cwd, &mut library.skills, "skill", skills.collect(), warnings);
            let mut commands = Vec::new();
            markdown_files(&directory("commands"), "", DEPTH_MAX, &mut commands);
            add(cwd, &mut library.commands, "command", commands, warnings);
            let mut agents = Vec::new();
            markdown_files(&directory("agents"), "", 1, &mut agents);
            add(cwd, &mut library.agents, "sub-agent", agents, warnings);
        }
        library
    }
}

/// Reads the head of each file and adds what can be used.
fn add(cwd: &Path, to: &mut BTreeMap<String, Entry>, kind: &str, files: Vec<(String, PathBuf)>, warnings: &mut Vec<String>) {
    for (name, path) in files {
        let shown = path.strip_prefix(cwd).unwrap_or(&path).display().to_string();
        let document = match Document::read(&path) {
            Ok(Some(document)) => document,
            Ok(None) => continue,
            Err(problem) => {
                warnings.push(format!("the {kind} {shown} is not used: {problem}"));
                continue;
            }
        };
        // A command is called by its file; the others name themselves.
        let own = document.text("name");
        let name = if own.is_empty() || kind == "command" { name } else { own.to_owned() };
        if let Some(problem) = unusable(to, kind, &name, &document) {
            warnings.push(format!("the {kind} {shown} is not used: {problem}"));
            continue;
        }
        if kind != "sub-agent" && document.fields.contains_key("allowed-tools") {
            warnings
                .push(format!("the {kind} {shown} asks for tools without questions (allowed-tools); files of a repository give no rights"));
        }
        let description = cut_middle(document.text("description"), DESCRIPTION_BYTES_MAX);
        let for_people = document.fields.get("disable-model-invocation") == Some(&true.into());
        to.insert(name, Entry { description, path, for_people });
    }
}

fn unusable(known: &BTreeMap<String, Entry>, kind: &str, name: &str, document: &Document) -> Option<String> {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | ':' | '.');
    if name.is_empty() || name.chars().count() > NAME_CHARS_MAX || !name.chars().all(fits) {
        return Some(format!("the name {:?} must be letters, digits, `-` and `_`, at most {NAME_CHARS_MAX}", cut_middle(name, 100)));
    }
    if known.contains_key(name) {
        return Some(format!("there is another {kind} {name}"));
    }
    if known.len() >= ENTRIES_MAX {
        return Some(format!("there are more than {ENTRIES_MAX}"));
    }
    if kind != "command" && document.text("description").is_empty() {
        return Some("the field `description`, which says when to use it, is missing".to_owned());
    }
    document.body.trim().is_empty().then(|| "it is empty below its fields".to_owned())
}

fn sorted(directory: &Path) -> Vec<(String, PathBuf)> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut found: Vec<(String, PathBuf)> = entries.map(|entry| (entry.file_name().to_string_lossy().into_owned(), entry.path())).collect();
    found.sort();
    // Read one more than are used, so that the limit is named.
    found.truncate(ENTRIES_MAX * 2);
    found
}

fn sub_directories(directory: &Path) -> Vec<(String, PathBuf)> {
    sorted(directory).into_iter().filter(|(_, path)| path.is_dir()).collect()
}

/// Markdown files below a directory; a command in a subdirectory is called `directory:name`.
fn markdown_files(directory: &Path, prefix: &str, depth: usize, found: &mut Vec<(String, PathBuf)>) {
    for (name, path) in sorted(directory) {
        if let Some(stem) = name.strip_suffix(".md") {
            found.push((format!("{prefix}{stem}"), path));
        } else if depth > 1 && !name.starts_with('.') && path.is_dir() {
            markdown_files(&path, &format!("{prefix}{name}:"), depth - 1, found);
        }
    }
}
