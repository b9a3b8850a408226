//! Evidence against a merged text: what it must not hold, whoever made it. Needs no human's answer.

use std::collections::HashMap;

use crate::names::{Parsed, Uses};
use crate::{Language, Sides};

/// What speaks against a merged text, in a sentence; none when nothing does. `joins`: two insertions stand one behind the other, which may each hold
/// a line of the other.
#[must_use]
pub fn against(language: Option<Language>, sides: &Sides<'_>, result: &[u8], joins: bool) -> Option<String> {
    let markers =
        |text: &[u8]| text.split(|byte| *byte == b'\n').filter(|line| line.starts_with(b"<<<<<<<") || line.starts_with(b">>>>>>>")).count();
    if markers(result) > markers(sides.ours).max(markers(sides.theirs)) {
        return Some("it holds conflict markers".to_owned());
    }
    if let Some(line) = added_twice(sides, result).filter(|_| !joins) {
        return Some(format!("both sides added the line `{line}`, and it stands twice"));
    }
    let language = language?;
    let texts = [sides.base, sides.ours, sides.theirs, result];
    let trees = texts.map(|text| language.parse(text));
    let [Some(base), Some(ours), Some(theirs), Some(merged)] = &trees else { return None };
    let parsed = |at: usize, tree| Parsed { text: texts[at], tree };
    let (base, ours, theirs, merged) = (parsed(0, base), parsed(1, ours), parsed(2, theirs), parsed(3, merged));
    if ours.is_sound() && theirs.is_sound() && !merged.is_sound() {
        return Some("it does not parse although both sides do".to_owned());
    }
    if let Some(name) = doubled([&base, &ours, &theirs], &merged) {
        return Some(format!("it declares `{name}` more often than any side"));
    }
    let [base, ours, theirs, merged] = [base, ours, theirs, merged].map(|parsed| parsed.uses());
    if let Some(name) = outdated(&base, [&ours, &theirs], &merged) {
        return Some(format!("one side took `{name}` out where it stood, and the other wrote it anew"));
    }
    unused_import([&ours, &theirs], &merged).map(|name| format!("it imports `{name}` and does not use it"))
}

/// Letters and digits from which a line says enough to be known again.
const TELLING_LETTERS: usize = 12;

/// Two lines that are further apart stand in different blocks as a rule, where each may be wanted.
const SAME_BLOCK_LINES: usize = 40;

/// A line that each side added once and that the result has twice within a block: the same thing, done twice.
fn added_twice(sides: &Sides<'_>, result: &[u8]) -> Option<String> {
    let places = |text: &'_ [u8]| {
        let mut lines: HashMap<Vec<u8>, Vec<usize>> = HashMap::new();
        for (at, line) in text.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii).enumerate() {
            // What opens a block says nothing of what stands in it.
            let opens = matches!(line.last(), Some(b'{' | b'(' | b'['));
            if !opens && line.iter().filter(|byte| byte.is_ascii_alphanumeric()).count() >= TELLING_LETTERS {
                lines.entry(line.to_vec()).or_default().push(at);
            }
        }
        lines
    };
    let [base, ours, theirs, result] = [sides.base, sides.ours, sides.theirs, result].map(places);
    let once = |lines: &HashMap<Vec<u8>, Vec<usize>>, line: &[u8]| lines.get(line).is_some_and(|places| places.len() == 1);
    let near = |places: &[usize]| places.windows(2).any(|pair| pair[1] - pair[0] <= SAME_BLOCK_LINES);
    let doubled =
        |(line, places): &(&Vec<u8>, &Vec<usize>)| !base.contains_key(*line) && once(&ours, line) && once(&theirs, line) && near(places);
    first(result.iter().filter(doubled).map(|(line, _)| line.as_slice()))
}

/// A name that one side took out of most places of the code where it stood (it renamed something, or changed the style), and that the
/// other side wrote anew: it is in the result more often than in the side that took it out. Such a text is complete by its lines and wrong all the same.
fn outdated(base: &Uses<'_>, sides: [&Uses<'_>; 2], result: &Uses<'_>) -> Option<String> {
    let of = |uses: &Uses<'_>, name: &[u8]| uses.code.get(name).copied().unwrap_or(0);
    let left = |name: &[u8], side: &Uses<'_>| {
        let (before, now) = (of(base, name), of(side, name));
        before >= 2 && now * 2 <= before && of(result, name) > now
    };
    first(base.code.keys().copied().filter(|name| sides.iter().any(|side| left(name, side))))
}

/// A name that an import of the result binds and nothing in it uses, though a side that imports it does: the use went, the import stayed.
fn unused_import(sides: [&Uses<'_>; 2], result: &Uses<'_>) -> Option<String> {
    let is_used = |uses: &Uses<'_>, name: &[u8]| uses.code.contains_key(name);
    let with_it = |side: &&Uses<'_>, name: &[u8]| side.imported.contains_key(name) && is_used(side, name);
    let lonely = |name: &&[u8]| !is_used(result, name) && sides.iter().any(|side| with_it(side, name));
    first(result.imported.keys().copied().filter(lonely))
}

fn first<'a>(names: impl Iterator<Item = &'a [u8]>) -> Option<String> {
    names.min().map(|name| String::from_utf8_lossy(name).into_owned())
}

/// A declaration that one block of the result has more often than any of the versions: two changes that each add it, or one that moves it.
fn doubled(versions: [&Parsed<'_>; 3], result: &Parsed<'_>) -> Option<String> {
    let versions = versions.map(Parsed::doubles);
    let most = |name: &String| versions.iter().map(|doubles| doubles.get(name).copied().unwrap_or(0)).max().unwrap_or(0);
    result.doubles().into_iter().filter(|(name, count)| *count > most(name)).map(|(name, _)| name).min()
}
