//! One permission rule, such as `Bash(git *)` or `Edit(src/**)`.

use globset::{GlobBuilder, GlobMatcher};
use regex::Regex;
use serde_json::Value;
use std::path::{Component, Path, PathBuf};

use crate::conversation::Call;
use crate::public_names::own_name;
use crate::shell_parts::{base_name, has_placeholder, is_assignment, parts_of, wrapped};

/// The longest rule.
const RULE_BYTES_MAX: usize = 1000;
/// Tools that a rule for `Edit` is for, and those that one for `Read` is for.
const EDITS: &[&str] = &["edit", "multi_edit", "write", "apply_patch", "notebook_edit"];
const READS: &[&str] = &["read", "grep", "glob", "ls"];

/// A rule, ready to be asked.
#[derive(Clone, Debug)]
pub(crate) struct Rule {
    pub(crate) text: String,
    tool: String,
    what: What,
}

#[derive(Clone, Debug)]
enum What {
    /// Every call.
    All,
    /// Commands.
    Command(Regex),
    /// Files.
    Path(Box<GlobMatcher>),
    /// A host.
    Host(String),
    /// A name: of a skill, of a sub-agent.
    Name(String),
}

/// Which of the parts of a call must fit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fit {
    /// Every one, as it is written: for what gives a right.
    Every,
    /// Any one, however it is wrapped: for what takes a right away.
    Any,
}

impl Rule {
    /// Reads a rule. `cwd` is where its paths begin.
    ///
    /// # Errors
    /// What is wrong with it, as half a sentence.
    pub(crate) fn parse(text: &str, cwd: &Path, home: &Path) -> Result<Self, String> {
        let text = text.trim();
        if text.is_empty() || text.len() > RULE_BYTES_MAX {
            return Err(format!("it must have 1 to {RULE_BYTES_MAX} bytes"));
        }
        let (name, pattern) = match text.split_once('(') {
            None => (text, None),
            Some((name, rest)) => (name, Some(rest.strip_suffix(')').ok_or("the bracket at its end is missing")?)),
        };
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '*' | '.');
        if name.is_empty() || !name.chars().all(fits) {
            return Err("it must look like `Tool` or `Tool(pattern)`".to_owned());
        }
        let tool = own_name(name).to_owned();
        let what = match pattern {
            None | Some("" | "*" | "**") => What::All,
            Some(pattern) if tool == "bash" => What::Command(command_pattern(pattern)?),
            Some(pattern) if EDITS.contains(&tool.as_str()) || READS.contains(&tool.as_str()) => {
                What::Path(Box::new(path_pattern(pattern, cwd, home)?))
            }
            Some(pattern) if tool == "web_fetch" => {
                let host = pattern.strip_prefix("domain:").ok_or("its pattern must look like domain:example.com")?;
                What::Host(host.to_ascii_lowercase())
            }
            Some(pattern) if matches!(tool.as_str(), "skill" | "task") => What::Name(pattern.to_owned()),
            Some(_) => return Err(format!("the tool {name} takes no pattern")),
        };
        Ok(Self { text: text.to_owned(), tool, what })
    }

    /// A rule for every call of the tool that a text names, however wrong the rest of it is.
    pub(crate) fn whole_tool(text: &str) -> Self {
        let name = text.split('(').next().unwrap_or_default().trim();
        Self { text: text.to_owned(), tool: own_name(name).to_owned(), what: What::All }
    }

    fn is_for(&self, tool: &str) -> bool {
        let by_group = match self.tool.as_str() {
            "edit" => EDITS.contains(&tool),
            "read" => READS.contains(&tool),
            _ => false,
        };
        let by_prefix = self.tool.strip_suffix('*').is_some_and(|prefix| tool.starts_with(prefix));
        self.tool == tool || by_group || by_prefix
    }

    /// Whether it is for the call.
    pub(crate) fn fits(&self, call: &Call, cwd: &Path, fit: Fit) -> bool {
        // A rule for changes is for files that a command writes, too.
        if call.name == "bash" && fit == Fit::Any && self.tool == "edit" {
            let writes = parts_of(field(&call.input, &["command"]).unwrap_or_default()).writes;
            return writes.iter().flat_map(|path| paths_of_one(path, cwd)).any(|path| match &self.what {
                What::Path(glob) => glob.is_match(path),
                _ => true,
            });
        }
        if call.name == "bash" && fit == Fit::Any && self.tool == "read" && matches!(self.what, What::Path(_)) {
            let reads = parts_of(field(&call.input, &["command"]).unwrap_or_default()).reads;
            return reads.iter().any(|path| self.is_for_path(Path::new(path), cwd));
        }
        if !self.is_for(&call.name) {
            return false;
        }
        match &self.what {
            What::All => true,
            What::Command(pattern) => fits_command(pattern, field(&call.input, &["command"]).unwrap_or_default(), fit),
            What::Path(glob) => fits_paths(glob, call, cwd, fit),
            What::Host(host) => host_of(field(&call.input, &["url"]).unwrap_or_default()).is_some_and(|is| is == *host),
            What::Name(name) => field(&call.input, &["name", "skill", "agent", "subagent_type"]) == Some(name),
        }
    }

    /// Whether it keeps a tool that searches from the file or directory.
    pub(crate) fn withholds(&self, tool: &str, path: &Path, cwd: &Path) -> bool {
        self.is_for(tool) && self.is_for_path(path, cwd)
    }

    /// Whether it names files, for a tool that searches.
    pub(crate) fn withholds_files(&self, tool: &str) -> bool {
        self.is_for(tool) && matches!(self.what, What::Path(_))
    }

    fn is_for_path(&self, path: &Path, cwd: &Path) -> bool {
        match &self.what {
            What::Path(glob) => paths_of_one(path, cwd).iter().any(|path| glob.is_match(path)),
            _ => false,
        }
    }

    /// Whether it allows one command of a compound one. A text in which the output of another command stands is not known, so no pattern fits it.
    pub(crate) fn allows_command(&self, words: &[String]) -> bool {
        self.tool == "bash"
            && match &self.what {
                What::All => true,
                What::Command(pattern) => !has_placeholder(words) && pattern.is_match(&words.join(" ")),
                _ => false,
            }
    }

    /// Whether it is for every command, understood or not.
    pub(crate) fn is_whole(&self) -> bool {
        matches!(self.what, What::All)
    }
}

pub(crate) fn field<'a>(input: &'a Value, names: &[&str]) -> Option<&'a str> {
    names.iter().find_map(|name| input.get(name).and_then(Value::as_str))
}

/// `git *`, or `git:*`, fits `git` and everything behind it; elsewhere `*` stands for anything.
fn command_pattern(pattern: &str) -> Result<Regex, String> {
    let (pattern, end) = match (pattern.strip_suffix(":*"), pattern.strip_suffix(" *")) {
        (Some(prefix), _) | (None, Some(prefix)) => (prefix, "(?: .*)?"),
        (None, None) => (pattern, ""),
    };
    let middle = pattern.split('*').map(regex::escape).collect::<Vec<_>>().join(".*");
    Regex::new(&format!("(?s)^{middle}{end}$")).map_err(|_| "its pattern is too large".to_owned())
}

fn fits_command(pattern: &Regex, command: &str, fit: Fit) -> bool {
    let parts = parts_of(command);
    let fits = |words: &[String]| pattern.is_match(&words.join(" "));
    match fit {
        Fit::Every => parts.is_known() && parts.commands.iter().all(|words| !has_placeholder(words) && fits(words)),
        Fit::Any => {
            let hidden = |words: &Vec<String>| {
                let assignments = words.iter().take_while(|word| is_assignment(word)).count();
                let mut bare = words[assignments..].to_vec();
                if let Some(first) = bare.first_mut() {
                    *first = base_name(first).to_owned();
                }
                fits(words) || fits(&bare) || wrapped(&bare).iter().any(|words| fits(words))
            };
            pattern.is_match(command.trim()) || parts.commands.iter().any(hidden)
        }
    }
}

/// Patterns as in `.gitignore`: without a slash for a name at any depth, `//x` from the root of the file system, `~/x` from home, else from `cwd`.
fn path_pattern(pattern: &str, cwd: &Path, home: &Path) -> Result<GlobMatcher, String> {
    let below = |base: &Path, rest: &str| format!("{}/{rest}", globset::escape(&base.display().to_string()));
    let text = if let Some(rest) = pattern.strip_prefix("//") {
        format!("/{rest}")
    } else if let Some(rest) = pattern.strip_prefix("~/") {
        below(home, rest)
    } else if let Some(rest) = pattern.strip_prefix("./").or(pattern.strip_prefix('/')) {
        below(cwd, rest)
    } else if pattern.trim_end_matches('/').contains('/') {
        below(cwd, pattern)
    } else {
        below(cwd, &format!("**/{pattern}"))
    };
    let text = if text.ends_with('/') { format!("{text}**") } else { text };
    let glob = GlobBuilder::new(&text).literal_separator(true).build().map_err(|error| format!("its pattern {}", error.kind()))?;
    Ok(glob.compile_matcher())
}

fn fits_paths(glob: &GlobMatcher, call: &Call, cwd: &Path, fit: Fit) -> bool {
    let files = files_of(call);
    let each = |file: &String| {
        let mut paths = paths_of_one(file, cwd).into_iter();
        if fit == Fit::Every { paths.all(|path| glob.is_match(path)) } else { paths.any(|path| glob.is_match(path)) }
    };
    if fit == Fit::Every { !files.is_empty() && files.iter().all(each) } else { files.iter().any(each) }
}

/// The files that a call names.
pub(crate) fn files_of(call: &Call) -> Vec<String> {
    if let Some(patch) = field(&call.input, &["patch", "input"]).filter(|_| call.name == "apply_patch") {
        return patch.lines().filter_map(patched_file).collect();
    }
    let named = field(&call.input, &["path", "file_path", "notebook_path"]);
    match named {
        Some(path) => vec![path.to_owned()],
        None if READS.contains(&call.name.as_str()) => vec![".".to_owned()],
        None => Vec::new(),
    }
}

/// The file that a line of a patch names, in the envelope or in a unified diff. A removed line may look like the head of a file; it then counts as one.
fn patched_file(line: &str) -> Option<String> {
    const MARKS: &[&str] = &["*** Add File: ", "*** Update File: ", "*** Delete File: ", "*** Move to: ", "rename from ", "rename to "];
    if let Some(path) = MARKS.iter().find_map(|mark| line.trim_start().strip_prefix(mark)) {
        return Some(path.trim().to_owned());
    }
    let (path, prefix) = match (line.strip_prefix("--- "), line.strip_prefix("+++ ")) {
        (Some(old), _) => (old, "a/"),
        (None, Some(new)) => (new, "b/"),
        (None, None) => return None,
    };
    let path = path.split('\t').next().unwrap_or_default().trim().trim_matches('"');
    (path != "/dev/null").then(|| path.strip_prefix(prefix).unwrap_or(path).to_owned())
}

/// A path as it is written and as the file system has it: a link must not hide where it leads.
pub(crate) fn paths_of_one(path: impl AsRef<Path>, cwd: &Path) -> Vec<PathBuf> {
    let mut clean = PathBuf::new();
    for part in cwd.join(path).components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => {
                clean.pop();
            }
            other => clean.push(other),
        }
    }
    let existing = clean.ancestors().find_map(|known| known.canonicalize().ok().map(|real| (known.to_owned(), real)));
    let root = cwd.canonicalize().unwrap_or_else(|_| cwd.to_owned());
    let mut paths = vec![clean.clone()];
    if let Some((known, real)) = existing
        && let Ok(rest) = clean.strip_prefix(&known)
    {
        // Where the working directory itself is reached through a link, both names mean the same.
        let real = real.join(rest);
        let real = real.strip_prefix(&root).map(|inner| cwd.join(inner)).unwrap_or(real);
        if real != clean {
            paths.push(real);
        }
    }
    paths
}

fn host_of(url: &str) -> Option<String> {
    let rest = url.split_once("://")?.1;
    let authority = rest.split(['/', '?', '#']).next()?;
    let host = authority.rsplit('@').next()?;
    Some(host.split(':').next()?.to_ascii_lowercase())
}
