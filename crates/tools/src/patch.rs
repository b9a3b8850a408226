//! Patches: what a model writes, read into changes of files.
//!
//! Two forms are read: the envelope (`*** Begin Patch` ... `*** End Patch`) and the unified diff. Both become the same [`FileChange`]s.

mod envelope;
mod fit;
mod unified;

pub(crate) use fit::apply_hunks;

/// One file's part of a patch.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct FileChange {
    /// The path as the patch writes it.
    pub(crate) path: String,
    pub(crate) action: Action,
}

/// What happens to a file.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// A new file with these lines.
    Add { lines: Vec<String>, final_newline: bool },
    /// The file goes.
    Delete,
    /// Its text is changed, and it may get another path.
    Update { move_to: Option<String>, hunks: Vec<Hunk> },
}

/// One connected change of a text.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Hunk {
    /// Lines that stand before the change, from the outside in (`@@ fn outer`).
    pub(crate) anchors: Vec<String>,
    /// Where a unified diff says that the old text begins, from 1; 0 for an empty file.
    pub(crate) line: Option<usize>,
    pub(crate) lines: Vec<HunkLine>,
    /// Whether the old text ends with the file.
    pub(crate) at_end: bool,
    /// Whether the new text shall end with a newline, where the patch speaks of it.
    pub(crate) final_newline: Option<bool>,
}

/// One line of a hunk.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct HunkLine {
    pub(crate) kind: Kind,
    pub(crate) text: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Keep,
    Remove,
    Add,
}

impl HunkLine {
    /// Reads a line with its mark in front; a wholly empty line is an empty line that stays. `None` when there is no mark.
    fn parse(line: &str) -> Option<Self> {
        let kind = match line.bytes().next() {
            None | Some(b' ') => Kind::Keep,
            Some(b'-') => Kind::Remove,
            Some(b'+') => Kind::Add,
            Some(_) => return None,
        };
        Some(Self { kind, text: line.get(1..).unwrap_or_default().to_owned() })
    }
}

impl Hunk {
    /// The text that must be there.
    fn old(&self) -> Vec<&str> {
        self.lines.iter().filter(|line| line.kind != Kind::Add).map(|line| line.text.as_str()).collect()
    }

    /// How many lines it adds and removes.
    pub(crate) fn size(&self) -> (usize, usize) {
        let count = |kind: Kind| self.lines.iter().filter(|line| line.kind == kind).count();
        (count(Kind::Add), count(Kind::Remove))
    }
}

/// Reads a patch of either form.
///
/// # Errors
/// A sentence with the number of the line that is not understood.
pub(crate) fn parse(text: &str) -> Result<Vec<FileChange>, String> {
    let lines = unwrapped(text);
    let changes = match lines.iter().find(|(_, line)| !line.trim().is_empty()) {
        None => return Err("the patch is empty".to_owned()),
        Some((_, first)) if first.starts_with("*** ") => envelope::parse(&lines)?,
        Some(_) if lines.iter().any(|(_, line)| line.starts_with("--- ") || line.starts_with("diff --git ")) => unified::parse(&lines)?,
        Some((number, first)) => {
            return Err(format!(
                "line {number} of the patch is {first:?}; a patch begins with `*** Begin Patch`, or is a unified diff with `---` and `+++` lines"
            ));
        }
    };
    if changes.is_empty() { Err("the patch changes no file".to_owned()) } else { Ok(changes) }
}

/// The patch's lines with their numbers, without a fence or a shell's here-document round them.
fn unwrapped(text: &str) -> Vec<(usize, &str)> {
    let crlf = text.contains("\r\n") && text.matches('\n').count() == text.matches("\r\n").count();
    let line_of = |line| if crlf { str::strip_suffix(line, '\r').unwrap_or(line) } else { line };
    let mut lines: Vec<(usize, &str)> = text.split('\n').map(line_of).enumerate().map(|(at, line)| (at + 1, line)).collect();
    let blank = |entry: Option<&(usize, &str)>| entry.is_some_and(|(_, line)| line.trim().is_empty());
    while blank(lines.last()) {
        lines.pop();
    }
    let start = lines.iter().position(|(_, line)| !line.trim().is_empty()).unwrap_or(0);
    lines.drain(..start);
    let (Some((_, first)), Some((_, last))) = (lines.first(), lines.last()) else { return lines };
    let here_word = first.split_once("<<").map(|(_, word)| word.trim_matches(['-', '\'', '"', ' ']));
    let fenced = first.starts_with("```") && last.trim() == "```";
    if lines.len() > 1 && (fenced || here_word.is_some_and(|word| !word.is_empty() && word == last.trim())) {
        lines.pop();
        lines.remove(0);
    }
    lines
}
