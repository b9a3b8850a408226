//! The envelope: `*** Begin Patch`, a section per file, `*** End Patch`.

use super::{Action, FileChange, Hunk, HunkLine};

const BEGIN: &str = "*** Begin Patch";
const END: &str = "*** End Patch";
const ADD: &str = "*** Add File: ";
const DELETE: &str = "*** Delete File: ";
const UPDATE: &str = "*** Update File: ";
const MOVE: &str = "*** Move to: ";
const END_OF_FILE: &str = "*** End of File";

type Numbered<'a> = (usize, &'a str);

/// Reads the lines of an envelope.
pub(super) fn parse(lines: &[Numbered<'_>]) -> Result<Vec<FileChange>, String> {
    let body = match lines {
        [(_, first), body @ .., (_, last)] if first.trim_end() == BEGIN && last.trim_end() == END => body,
        [(_, first), ..] if first.trim_end() == BEGIN => {
            return Err(format!("the patch does not end with `{END}`; it may have been cut, so nothing was changed"));
        }
        _ => return Err(format!("the patch does not begin with `{BEGIN}`")),
    };
    let mut changes = Vec::new();
    let mut at = 0;
    while at < body.len() {
        let (number, line) = body[at];
        at += 1;
        let section = &body[at..];
        let length = section.iter().position(|(_, line)| is_section(line)).unwrap_or(section.len());
        let section = &section[..length];
        if line.trim().is_empty() && section.iter().all(|(_, line)| line.trim().is_empty()) {
            continue;
        }
        at += length;
        let (path, action) = if let Some(path) = line.strip_prefix(ADD) {
            (path, Action::Add { lines: added(section)?, final_newline: true })
        } else if let Some(path) = line.strip_prefix(DELETE) {
            if let Some((number, line)) = section.iter().find(|(_, line)| !line.trim().is_empty()) {
                return Err(format!("line {number} of the patch is {line:?}; nothing may follow `{}`", DELETE.trim_end()));
            }
            (path, Action::Delete)
        } else if let Some(path) = line.strip_prefix(UPDATE) {
            (path, update(path, section)?)
        } else {
            return Err(format!(
                "line {number} of the patch is {line:?}; expected `{}`, `{}`, `{}` or `{END}`",
                ADD.trim_end(),
                UPDATE.trim_end(),
                DELETE.trim_end()
            ));
        };
        changes.push(FileChange { path: path.trim().to_owned(), action });
    }
    Ok(changes)
}

fn is_section(line: &str) -> bool {
    [ADD, DELETE, UPDATE].iter().any(|word| line.starts_with(word))
}

fn added(section: &[Numbered<'_>]) -> Result<Vec<String>, String> {
    let end = section.iter().rposition(|(_, line)| !line.trim().is_empty()).map_or(0, |last| last + 1);
    let line = |(number, line): &Numbered<'_>| match line.strip_prefix('+') {
        Some(text) => Ok(text.to_owned()),
        None => Err(format!("line {number} of the patch is {line:?}; each line of a new file begins with `+`")),
    };
    section[..end].iter().map(line).collect()
}

fn update(path: &str, section: &[Numbered<'_>]) -> Result<Action, String> {
    let (move_to, section) = match section.split_first() {
        Some(((_, line), rest)) if line.starts_with(MOVE) => (Some(line[MOVE.len()..].trim().to_owned()), rest),
        _ => (None, section),
    };
    let mut hunks: Vec<Hunk> = Vec::new();
    let mut open = Hunk::default();
    for (number, line) in section {
        if let Some(anchor) = line.strip_prefix("@@") {
            if !open.lines.is_empty() {
                hunks.push(std::mem::take(&mut open));
            }
            take_anchor(&mut open, anchor);
        } else if line.trim_end() == END_OF_FILE {
            open.at_end = true;
        } else if let Some(line) = HunkLine::parse(line) {
            open.lines.push(line);
        } else {
            return Err(format!(
                "line {number} of the patch is {line:?}; a line of a hunk begins with a space (it stays), `-` (it goes), `+` (it comes) or `@@`"
            ));
        }
    }
    if !open.lines.is_empty() {
        hunks.push(open);
    }
    if hunks.iter().all(|hunk| hunk.size() == (0, 0)) && move_to.is_none() {
        return Err(format!("the patch says `{UPDATE}{path}` but neither changes nor moves it"));
    }
    Ok(Action::Update { move_to, hunks })
}

/// Takes what stands behind `@@`: a line to look for, or the numbers of a unified diff, which some models mix in.
fn take_anchor(hunk: &mut Hunk, anchor: &str) {
    match super::unified::range(anchor) {
        Some(range) => hunk.line = Some(range.old_start),
        None => {
            let anchor = anchor.strip_prefix(' ').unwrap_or(anchor).trim_end();
            let anchor = anchor.strip_suffix("@@").map_or(anchor, str::trim_end);
            if !anchor.trim().is_empty() {
                hunk.anchors.push(anchor.to_owned());
            }
        }
    }
}
