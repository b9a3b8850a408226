//! Line arithmetic: what others landed since a change began and the change, merged, no longer holds. Pure: git's patches come in.
//!
//! A three-way merge alone never drops such lines. A change that went back is different: its workspace holds the target already, so what
//! its agent takes out there is taken out of the target, and git finds nothing to object to.

use std::collections::{BTreeMap, HashMap, HashSet};

/// A patch of one file: its lines on both sides by number.
#[derive(Default)]
struct Lines {
    removed: Vec<(usize, Vec<u8>)>,
    added: Vec<(usize, Vec<u8>)>,
}

/// Returns `path:number: text` for each line that the patch `since` (from where the work began to the target) adds, that `candidate` (from
/// the target to what would land) removes, and that stands nowhere else in what it adds. Numbers are those of the target. A line counts
/// as kept when one of the same file that is new has all of its words in their order and is not a comment instead.
pub(crate) fn dropped(since: &[u8], candidate: &[u8]) -> Vec<String> {
    let (theirs, ours) = (read(since), read(candidate));
    let anywhere: HashSet<&[u8]> = ours.values().flat_map(|lines| &lines.added).map(|(_, text)| text.trim_ascii()).collect();
    let mut found = Vec::new();
    for (path, lines) in &ours {
        let Some(landed) = theirs.get(path) else { continue };
        let landed: HashMap<usize, &[u8]> = landed.added.iter().map(|(number, text)| (*number, text.as_slice())).collect();
        let kept = Kept::of(&lines.added);
        for (number, text) in lines.removed.iter().filter(|(number, text)| landed.get(number) == Some(&text.as_slice())) {
            let says = text.iter().any(|byte| byte.is_ascii_alphanumeric() || !byte.is_ascii());
            if says && !anywhere.contains(text.trim_ascii()) && !kept.holds(text) {
                let (path, text) = (String::from_utf8_lossy(path), String::from_utf8_lossy(text));
                found.push(format!("{path}:{number}: {}", text.trim()));
            }
        }
    }
    found
}

/// The new lines of a file, by their words.
struct Kept<'a> {
    lines: Vec<(Vec<&'a [u8]>, bool)>,
    by_word: HashMap<&'a [u8], Vec<usize>>,
}

impl<'a> Kept<'a> {
    fn of(added: &'a [(usize, Vec<u8>)]) -> Self {
        let lines: Vec<(Vec<&[u8]>, bool)> = added.iter().map(|(_, text)| (words(text), is_comment(text))).collect();
        let mut by_word: HashMap<&[u8], Vec<usize>> = HashMap::new();
        for (at, (words, _)) in lines.iter().enumerate() {
            for word in words.iter().collect::<HashSet<_>>() {
                by_word.entry(word).or_default().push(at);
            }
        }
        Self { lines, by_word }
    }

    fn holds(&self, text: &[u8]) -> bool {
        let wanted = words(text);
        let comment = is_comment(text);
        let rarest = wanted.iter().map(|word| self.by_word.get(word).map_or(&[][..], Vec::as_slice)).min_by_key(|lines| lines.len());
        rarest.unwrap_or_default().iter().any(|at| {
            let (has, is_comment) = &self.lines[*at];
            let mut left = has.iter();
            (comment || !is_comment) && wanted.iter().all(|word| left.any(|other| other == word))
        })
    }
}

fn words(text: &[u8]) -> Vec<&[u8]> {
    let part_of_word = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_' || !byte.is_ascii();
    text.split(|byte| !part_of_word(byte)).filter(|word| !word.is_empty()).collect()
}

fn is_comment(text: &[u8]) -> bool {
    ["//", "#", "--", "/*", "*", ";", "<!--", "%", "'", "\"\"\""].iter().any(|mark| text.trim_ascii_start().starts_with(mark.as_bytes()))
}

/// Reads a patch without context. Lines of a hunk are counted, so that no content can pass for a header.
fn read(patch: &[u8]) -> BTreeMap<Vec<u8>, Lines> {
    let mut files: BTreeMap<Vec<u8>, Lines> = BTreeMap::new();
    let mut path = Vec::new();
    let mut lines = patch.split(|byte| *byte == b'\n');
    while let Some(line) = lines.next() {
        if let Some(name) = line.strip_prefix(b"--- ").or_else(|| line.strip_prefix(b"+++ ")) {
            // A name with a blank has a tab behind it.
            let name = name.strip_suffix(b"\t").unwrap_or(name);
            if name != b"/dev/null" {
                path = name.to_vec();
            }
            continue;
        }
        let Some(((old, removed), (new, added))) = hunk(line) else { continue };
        let file = files.entry(path.clone()).or_default();
        let mut take = |count: usize, first: usize, mark: u8, into: &mut Vec<(usize, Vec<u8>)>| {
            let mut number = first;
            while number < first + count {
                match lines.next() {
                    Some(line) if line.first() == Some(&mark) => {
                        into.push((number, line[1..].to_vec()));
                        number += 1;
                    }
                    Some(line) if line.first() == Some(&b'\\') => {}
                    _ => return,
                }
            }
        };
        take(removed, old, b'-', &mut file.removed);
        take(added, new, b'+', &mut file.added);
    }
    files
}

/// Reads `@@ -<line>[,<count>] +<line>[,<count>] @@`.
fn hunk(line: &[u8]) -> Option<((usize, usize), (usize, usize))> {
    let text = String::from_utf8_lossy(line.strip_prefix(b"@@ -")?).into_owned();
    let mut words = text.split(' ');
    let read = |part: &str| match part.split_once(',') {
        Some((first, count)) => Some((first.parse().ok()?, count.parse().ok()?)),
        None => Some((part.parse().ok()?, 1)),
    };
    Some((read(words.next()?)?, read(words.next()?.strip_prefix('+')?)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patch(path: &str, hunks: &str) -> Vec<u8> {
        format!("diff --git {path} {path}\nindex 1..2 100644\n--- {path}\n+++ {path}\n{hunks}").into_bytes()
    }

    #[test]
    fn what_others_landed_and_the_change_removes_is_named_with_its_place() {
        let since = patch("src/a.txt", "@@ -1,0 +2,2 @@\n+check_the_key();\n+--- looks like a header\n");
        let candidate = patch("src/a.txt", "@@ -1,3 +1 @@\n-old line\n-check_the_key();\n---- looks like a header\n+mine\n");
        assert_eq!(dropped(&since, &candidate), ["src/a.txt:2: check_the_key();", "src/a.txt:3: --- looks like a header"]);
    }

    #[test]
    fn lines_that_moved_or_grew_are_kept_and_commented_ones_are_not() {
        let since = patch("a", "@@ -0,0 +1,4 @@\n+use one::{two};\n+  call(3);\n+stop();\n+}\n");
        let kept = patch("a", "@@ -1,4 +1,2 @@\n-use one::{two};\n-  call(3);\n-stop();\n-}\n+use one::{two, three};\n+// stop();\n");
        let moved = patch("b", "@@ -0,0 +1 @@\n+call(3);\n");
        assert_eq!(dropped(&since, &[kept, moved].concat()), ["a:3: stop();"]);
    }

    #[test]
    fn own_lines_and_lines_from_before_may_go() {
        let since = patch("a", "@@ -4,0 +5 @@\n+theirs\n");
        assert!(dropped(&since, &patch("a", "@@ -1,2 +0,0 @@\n-from before\n-also\n")).is_empty());
        assert!(dropped(&since, &patch("b", "@@ -5 +4,0 @@\n-theirs\n")).is_empty());
        assert_eq!(dropped(&since, &patch("a", "@@ -5 +4,0 @@\n-theirs\n\\ No newline at end of file\n")).len(), 1);
    }
}
