//! Fits hunks into a text: each is looked for exactly, then without white space at the ends of lines, then without it at both sides.

use super::{Hunk, Kind};
use crate::near::nearest;
use crate::text_file::{Line, TextFile};

/// Places named when a hunk fits in more than one.
const NAMED_MAX: usize = 10;

/// A patched text.
#[derive(Debug)]
pub(crate) struct Applied {
    pub(crate) text: TextFile,
    /// Numbers (from 1) of the hunks that fitted only without regard to white space.
    pub(crate) loose: Vec<usize>,
}

/// A part of the old text and the lines that replace it.
struct Replacement {
    at: usize,
    length: usize,
    lines: Vec<Line>,
}

/// How exactly lines are compared.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Level {
    Exact,
    EndsTrimmed,
    Trimmed,
}

const LEVELS: [Level; 3] = [Level::Exact, Level::EndsTrimmed, Level::Trimmed];

impl Level {
    fn same(self, a: &str, b: &str) -> bool {
        match self {
            Self::Exact => a == b,
            Self::EndsTrimmed => a.trim_end() == b.trim_end(),
            Self::Trimmed => a.trim() == b.trim(),
        }
    }
}

/// Applies the hunks of one file in order.
///
/// # Errors
/// A sentence that names the hunk and shows the nearest text.
pub(crate) fn apply_hunks(mut text: TextFile, hunks: &[Hunk]) -> Result<Applied, String> {
    let mut fit = Fit { have: text.lines.iter().map(|line| line.text.as_str()).collect(), taken: Vec::new(), cursor: 0 };
    let (mut replacements, mut loose) = (Vec::new(), Vec::new());
    for (index, hunk) in hunks.iter().enumerate() {
        let name = if hunks.len() == 1 { "the hunk".to_owned() } else { format!("hunk {} of {}", index + 1, hunks.len()) };
        let place = fit.place(hunk).map_err(|problem| format!("{name} {problem}"))?;
        if place.level != Level::Exact {
            loose.push(index + 1);
        }
        replacements.push(replacement(&text.lines, hunk, &place));
    }
    text.lines = spliced(std::mem::take(&mut text.lines), replacements);
    if let Some(final_newline) = hunks.iter().rev().find_map(|hunk| hunk.final_newline) {
        text.final_newline = final_newline;
    }
    Ok(Applied { text, loose })
}

/// Puts all replacements in, in one pass. Lines that only come stand before a part that is replaced at the same place, in the order of the patch.
fn spliced(old: Vec<Line>, mut replacements: Vec<Replacement>) -> Vec<Line> {
    replacements.sort_by_key(|replacement| (replacement.at, replacement.length));
    let (mut new, mut old, mut at) = (Vec::new(), old.into_iter(), 0);
    for replacement in replacements {
        new.extend(old.by_ref().take(replacement.at - at));
        new.extend(replacement.lines);
        old.by_ref().take(replacement.length).for_each(drop);
        at = replacement.at + replacement.length;
    }
    new.extend(old);
    new
}

/// Where a hunk fits.
struct Place {
    at: usize,
    length: usize,
    level: Level,
}

struct Fit<'a> {
    have: Vec<&'a str>,
    /// Ranges that earlier hunks replace.
    taken: Vec<(usize, usize)>,
    /// Where the next hunk is looked for first.
    cursor: usize,
}

impl Fit<'_> {
    fn place(&mut self, hunk: &Hunk) -> Result<Place, String> {
        let from = self.anchored(hunk)?;
        let old = hunk.old();
        let place = if old.is_empty() { self.insertion(hunk, from) } else { self.find(hunk, &old, from)? };
        self.taken.push((place.at, place.at + place.length));
        self.cursor = place.at + place.length;
        Ok(place)
    }

    /// Goes to the line of the last anchor.
    fn anchored(&self, hunk: &Hunk) -> Result<usize, String> {
        let mut from = self.cursor;
        for anchor in &hunk.anchors {
            let same = |level: Level| (from..self.have.len()).find(|at| level.same(self.have[*at], anchor));
            let starts = || (from..self.have.len()).find(|at| self.have[*at].trim().starts_with(anchor.trim()));
            from = LEVELS.into_iter().find_map(same).or_else(starts).ok_or_else(|| {
                let near = nearest(&self.have, &[anchor]).map(|near| format!(" {near}")).unwrap_or_default();
                format!("stands below `@@ {anchor}`, but there is no such line after line {from}.{near}")
            })?;
        }
        Ok(from)
    }

    /// Where lines go that replace nothing.
    fn insertion(&self, hunk: &Hunk, from: usize) -> Place {
        let end = self.have.len();
        let at = match (hunk.line, hunk.anchors.is_empty()) {
            (Some(line), _) => line.min(end),
            (None, false) if !hunk.at_end => (from + 1).min(end),
            _ => end,
        };
        // A wrong number may lead into what an earlier hunk replaces: the lines go behind that.
        let at = self.taken.iter().find(|(start, end)| *start < at && at < *end).map_or(at, |(_, end)| *end);
        Place { at, length: 0, level: Level::Exact }
    }

    fn find(&self, hunk: &Hunk, old: &[&str], from: usize) -> Result<Place, String> {
        // An empty line at the end of a hunk is often only how the model ends it.
        let unended = hunk.lines.last().is_some_and(|line| line.kind == Kind::Keep && line.text.is_empty());
        let shorter = &old[..old.len() - usize::from(unended)];
        let tries = [(old, from), (old, 0), (shorter, from), (shorter, 0)];
        for (old, from) in tries.into_iter().take(if unended { 4 } else { 2 }).filter(|(old, _)| !old.is_empty()) {
            for level in LEVELS {
                let found = self.all(old, from, level, hunk.at_end);
                if let Some(at) = choose(hunk, &found)? {
                    return Ok(Place { at, length: old.len(), level });
                }
            }
        }
        Err(self.not_found(old))
    }

    /// Where the lines stand, from `from` on and outside what earlier hunks replace; a hunk that says so only at the end of the text.
    fn all(&self, old: &[&str], from: usize, level: Level, at_end: bool) -> Vec<usize> {
        let Some(last) = self.have.len().checked_sub(old.len()) else { return Vec::new() };
        let from = if at_end { last.max(from) } else { from };
        let free = |at: usize| self.taken.iter().all(|(start, end)| at + old.len() <= *start || at >= *end);
        (from..=last)
            .filter(|at| self.have[*at..].iter().zip(old).all(|(have, old)| level.same(have, old)) && free(*at))
            .take(NAMED_MAX * 1000)
            .collect()
    }

    fn not_found(&self, old: &[&str]) -> String {
        let looked_for = old.iter().take(NAMED_MAX).map(|line| format!("      \t{line}\n")).collect::<String>();
        let more = if old.len() > NAMED_MAX { format!("      \t[{} more lines]\n", old.len() - NAMED_MAX) } else { String::new() };
        let near = nearest(&self.have, old).unwrap_or_else(|| "Nothing in the file is like it.".to_owned());
        format!("does not fit. It looks for:\n{looked_for}{more}{near}")
    }
}

/// Takes the only place, the one nearest to the line that a unified diff names, or the first behind an anchor.
fn choose(hunk: &Hunk, found: &[usize]) -> Result<Option<usize>, String> {
    match (found, hunk.line) {
        ([] | [_], _) => Ok(found.first().copied()),
        (_, Some(line)) => Ok(found.iter().min_by_key(|at| at.abs_diff(line.saturating_sub(1))).copied()),
        (_, None) if !hunk.anchors.is_empty() => Ok(found.first().copied()),
        (_, None) => {
            let mut lines: Vec<String> = found.iter().take(NAMED_MAX).map(|at| (at + 1).to_string()).collect();
            if found.len() > NAMED_MAX {
                lines.push("...".to_owned());
            }
            Err(format!(
                "fits in {} places, at lines {}; give more lines round the change, or name what it stands in by `@@ ` and that line",
                found.len(),
                lines.join(", ")
            ))
        }
    }
}

/// Kept lines stay as the file has them; new ones end as their neighbours do.
fn replacement(have: &[Line], hunk: &Hunk, place: &Place) -> Replacement {
    let mut lines: Vec<Line> = Vec::new();
    let mut at = place.at;
    let mut crlf = place.at.checked_sub(1).and_then(|above| have.get(above)).or(have.first()).is_some_and(|line| line.crlf);
    for line in &hunk.lines {
        let old = have.get(at).filter(|_| at < place.at + place.length);
        match (line.kind, old) {
            (Kind::Add, _) => {
                let crlf = if lines.is_empty() { old.map_or(crlf, |old| old.crlf) } else { crlf };
                lines.push(Line { text: line.text.clone(), crlf });
            }
            (Kind::Keep, Some(old)) => {
                crlf = old.crlf;
                lines.push(old.clone());
                at += 1;
            }
            (Kind::Remove, Some(old)) => {
                crlf = old.crlf;
                at += 1;
            }
            // The empty line that only ended the hunk.
            (Kind::Keep | Kind::Remove, None) => {}
        }
    }
    Replacement { at: place.at, length: place.length, lines }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::super::{Action, parse};
    use super::*;

    /// For each line of a file: how many lines come above it, whether it goes, and how many lines take its place.
    type Edit = (usize, bool, usize);

    /// The old text, the patch with a hunk for each single edit, without any context, and the text that it must make.
    fn wanted(edits: &[Edit], at_end: usize) -> (String, String, String) {
        let (mut old, mut new, mut patch) = (Vec::new(), Vec::new(), vec!["--- a".to_owned(), "+++ a".to_owned()]);
        let insert = |above: usize, name: &str, count: usize, patch: &mut Vec<String>, new: &mut Vec<String>| {
            for line in (0..count).map(|number| format!("{name} {number}")) {
                patch.extend([format!("@@ -{above},0 +1 @@"), format!("+{line}")]);
                new.push(line);
            }
        };
        for (index, (above, goes, instead)) in edits.iter().enumerate() {
            let line = format!("line {index}");
            insert(index, &format!("above {index}"), *above, &mut patch, &mut new);
            if *goes {
                let instead: Vec<String> = (0..*instead).map(|number| format!("for {index} {number}")).collect();
                patch.extend([format!("@@ -{} +1 @@", index + 1), format!("-{line}")]);
                patch.extend(instead.iter().map(|line| format!("+{line}")));
                new.extend(instead);
            } else {
                new.push(line.clone());
            }
            old.push(line);
        }
        insert(edits.len(), "end", at_end, &mut patch, &mut new);
        let text = |lines: Vec<String>| lines.into_iter().map(|line| line + "\n").collect::<String>();
        (text(old), text(patch), text(new))
    }

    fn patched(old: &str, patch: &str) -> String {
        let changes = parse(patch).unwrap();
        let Action::Update { hunks, .. } = &changes[0].action else { unreachable!("the patch updates one file") };
        apply_hunks(TextFile::parse(old), hunks).unwrap().text.render()
    }

    proptest! {
        /// However closely hunks stand beside each other, each has its effect and none has another's.
        #[test]
        fn hunks_that_touch_each_other_keep_what_each_of_them_says(
            edits in vec((0..3_usize, any::<bool>(), 0..3_usize), 1..12), at_end in 0..4_usize,
        ) {
            let (old, patch, new) = wanted(&edits, at_end);
            prop_assume!(patch.contains("@@"));
            prop_assert_eq!(patched(&old, &patch), new);
        }
    }

    #[test]
    fn a_number_that_leads_into_another_hunk_loses_nothing() {
        let patch = "--- a\n+++ a\n@@ -1,3 +1 @@\n-a\n-b\n-c\n+x\n@@ -2,0 +2 @@\n+y\n";
        assert_eq!(patched("a\nb\nc\nd\n", patch), "x\ny\nd\n");
    }
}
