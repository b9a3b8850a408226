//! The unified diff, as `git diff` and `diff -u` write it and as models write it: the counts of a hunk may be wrong.

use super::{Action, FileChange, Hunk, HunkLine, Kind};

type Numbered<'a> = (usize, &'a str);

/// The numbers of a hunk.
pub(super) struct Range {
    pub(super) old_start: usize,
}

/// Reads ` -1,2 +3,4 @@...`, which stands behind the first `@@`.
pub(super) fn range(text: &str) -> Option<Range> {
    let (numbers, _) = text.split_once("@@")?;
    let mut parts = numbers.split_whitespace();
    let old = parts.next()?.strip_prefix('-')?;
    let new = parts.next()?.strip_prefix('+')?;
    let number = |part: &str| part.split(',').next().and_then(|number| number.parse::<usize>().ok());
    number(new)?;
    Some(Range { old_start: number(old)? })
}

/// What the lines above a file's hunks say.
#[derive(Default)]
struct Head {
    old: Option<String>,
    new: Option<String>,
    created: bool,
    deleted: bool,
    renamed: Option<(String, String)>,
    from: Option<String>,
}

/// Reads the lines of a unified diff; text above the first file is left out.
pub(super) fn parse(lines: &[Numbered<'_>]) -> Result<Vec<FileChange>, String> {
    let mut changes = Vec::new();
    let mut head = Head::default();
    let mut hunks: Vec<Hunk> = Vec::new();
    let mut at = 0;
    while at < lines.len() {
        let (number, line) = lines[at];
        if line.starts_with("diff --git ") || is_file_start(&lines[at..]) {
            if !(hunks.is_empty() && head.old.is_none() && head.renamed.is_none()) || line.starts_with("diff --git ") {
                finish(&mut changes, &mut head, &mut hunks)?;
            }
            if let Some(old) = line.strip_prefix("--- ") {
                head.old = path_of(old, "a/");
                head.new = path_of(&lines[at + 1].1[4..], "b/");
                at += 1;
            }
        } else if let Some(text) = line.strip_prefix("@@") {
            if head.old.is_none() && head.new.is_none() {
                return Err(format!("line {number} of the patch begins a hunk, but no `---` and `+++` lines name its file"));
            }
            let range = range(text)
                .ok_or_else(|| format!("line {number} of the patch is {line:?}; the head of a hunk looks like `@@ -1,3 +1,4 @@`"))?;
            hunks.push(Hunk { line: Some(range.old_start), ..Hunk::default() });
        } else if let Some(hunk) = hunks.last_mut() {
            take_line(hunk, number, line)?;
        } else {
            take_head(&mut head, number, line)?;
        }
        at += 1;
    }
    finish(&mut changes, &mut head, &mut hunks)?;
    Ok(changes)
}

/// Whether `---`, `+++` and, where hunks follow, `@@` stand here: a removed line that looks like one of them does not have the others below it.
fn is_file_start(lines: &[Numbered<'_>]) -> bool {
    let starts = |at: usize, word: &str| lines.get(at).is_some_and(|(_, line)| line.starts_with(word));
    starts(0, "--- ") && starts(1, "+++ ") && (lines.len() == 2 || starts(2, "@@ ") || starts(2, "diff --git "))
}

fn take_head(head: &mut Head, number: usize, line: &str) -> Result<(), String> {
    let word = |word: &str| line.strip_prefix(word).map(|path| path.trim().to_owned());
    if line.starts_with("new file mode") {
        head.created = true;
    } else if line.starts_with("deleted file mode") {
        head.deleted = true;
    } else if let Some(from) = word("rename from ") {
        head.from = Some(from);
    } else if let Some(to) = word("rename to ") {
        head.renamed = head.from.take().map(|from| (from, to));
    } else if line.starts_with("Binary files ") || line.starts_with("GIT binary patch") {
        return Err(format!("line {number} of the patch: binary files cannot be patched; make them with `bash`"));
    }
    Ok(())
}

fn take_line(hunk: &mut Hunk, number: usize, line: &str) -> Result<(), String> {
    if line.starts_with('\\') {
        // `\ No newline at end of file` speaks of the line above it.
        match hunk.lines.last().map(|line| line.kind) {
            Some(Kind::Remove) => hunk.final_newline = hunk.final_newline.or(Some(true)),
            _ => hunk.final_newline = Some(false),
        }
        hunk.at_end = true;
        return Ok(());
    }
    match HunkLine::parse(line) {
        Some(line) => hunk.lines.push(line),
        None => return Err(format!("line {number} of the patch is {line:?}; a line of a hunk begins with a space, `-` or `+`")),
    }
    Ok(())
}

/// The path without its prefix and time stamp; `None` for `/dev/null`.
fn path_of(text: &str, prefix: &str) -> Option<String> {
    let path = text.split('\t').next().unwrap_or_default().trim().trim_matches('"');
    if path == "/dev/null" { None } else { Some(path.strip_prefix(prefix).unwrap_or(path).to_owned()) }
}

fn finish(changes: &mut Vec<FileChange>, head: &mut Head, hunks: &mut Vec<Hunk>) -> Result<(), String> {
    let head = std::mem::take(head);
    let hunks = std::mem::take(hunks);
    let (path, action) = match (head.old, head.new) {
        (None, None) => match head.renamed {
            Some((from, to)) => (from, Action::Update { move_to: Some(to), hunks }),
            None if head.created || head.deleted => {
                return Err("the patch makes or deletes a file without naming it by `---` and `+++` lines".to_owned());
            }
            None => return Ok(()),
        },
        (None, Some(path)) => (path, new_file(hunks)),
        (Some(path), None) => (path, Action::Delete),
        (Some(path), Some(_)) if head.deleted => (path, Action::Delete),
        (Some(_), Some(path)) if head.created => (path, new_file(hunks)),
        (Some(old), Some(new)) => {
            let move_to = (old != new).then_some(new);
            if hunks.is_empty() && move_to.is_none() {
                return Err(format!("the patch names {old} but changes nothing in it"));
            }
            (old, Action::Update { move_to, hunks })
        }
    };
    changes.push(FileChange { path, action });
    Ok(())
}

fn new_file(hunks: Vec<Hunk>) -> Action {
    let final_newline = hunks.last().and_then(|hunk| hunk.final_newline).unwrap_or(true);
    let lines = hunks.into_iter().flat_map(|hunk| hunk.lines).filter(|line| line.kind == Kind::Add).map(|line| line.text).collect();
    Action::Add { lines, final_newline }
}
