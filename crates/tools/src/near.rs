//! Finds the text that is most like one that was not found, so that an error can show it.

use std::fmt::Write;

/// Lines of a file that are compared, and the characters of each.
const LINES_MAX: usize = 50_000;
const LINE_CHARS_MAX: usize = 200;
/// Places that are compared as a whole.
const CANDIDATES_MAX: usize = 8;
/// Lines of the wanted text that are looked for one by one.
const KEYS_MAX: usize = 3;
/// Below this likeness (0 to 1) nothing is shown.
const LIKENESS_MIN: f64 = 0.5;
/// Lines shown.
const SHOWN_LINES_MAX: usize = 12;

/// A place that is nearly what was looked for.
struct Near {
    /// Its first line, from 0.
    at: usize,
    likeness: f64,
}

/// Shows the text of `have` that is most like `wanted`, with line numbers, and where it differs first; `None` when nothing is like it.
pub(crate) fn nearest(have: &[&str], wanted: &[&str]) -> Option<String> {
    let near = find(have, wanted)?;
    let end = (near.at + wanted.len()).min(have.len());
    let first_difference = (near.at..end).find(|at| have[*at] != wanted[at - near.at]);
    let mut text = match (near.at + 1, end) {
        (first, last) if first == last => format!("The nearest text is line {first}:\n"),
        (first, last) => format!("The nearest text is lines {first} to {last}:\n"),
    };
    let from = first_difference.filter(|at| at - near.at >= SHOWN_LINES_MAX).map_or(near.at, |at| at - 2);
    for (at, line) in have.iter().enumerate().take(end.min(from + SHOWN_LINES_MAX)).skip(from) {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{:>6}\t{}", at + 1, cut(line));
    }
    if let Some(at) = first_difference {
        let _ = write!(text, "It differs first at line {}, where you have:\n      \t{}", at + 1, cut(wanted[at - near.at]));
    }
    Some(text)
}

fn find(have: &[&str], wanted: &[&str]) -> Option<Near> {
    let have = &have[..have.len().min(LINES_MAX)];
    // The longest lines say most about the place.
    let mut keys: Vec<(usize, &str)> = wanted.iter().copied().enumerate().filter(|(_, line)| !line.trim().is_empty()).collect();
    keys.sort_by_key(|(_, line)| std::cmp::Reverse(line.trim().len()));
    let mut candidates: Vec<Near> = Vec::new();
    for (key_at, key) in keys.into_iter().take(KEYS_MAX) {
        let near = |(at, line): (usize, &&str)| Near { at: at - key_at, likeness: likeness(line, key) };
        let all = have.iter().enumerate().skip(key_at).map(near);
        let mut best: Vec<Near> = all.filter(|near| near.likeness >= LIKENESS_MIN).collect();
        best.sort_by(|a, b| b.likeness.total_cmp(&a.likeness));
        candidates.extend(best.into_iter().take(CANDIDATES_MAX));
    }
    let whole = |near: &Near| {
        let sum: f64 = wanted.iter().enumerate().map(|(at, line)| have.get(near.at + at).map_or(0.0, |there| likeness(there, line))).sum();
        Near { at: near.at, likeness: sum / wanted.len() as f64 }
    };
    let best = candidates.iter().map(whole).reduce(|best, next| if next.likeness > best.likeness { next } else { best })?;
    (best.likeness >= LIKENESS_MIN).then_some(best)
}

/// How alike two lines are, from 0 to 1, white space at their ends aside.
fn likeness(a: &str, b: &str) -> f64 {
    let (a, b) = (cut(a.trim()), cut(b.trim()));
    // Lines of very different length are not alike; this spares the comparison.
    if a == b {
        1.0
    } else if a.len() > 3 * b.len() + 8 || b.len() > 3 * a.len() + 8 {
        0.0
    } else {
        strsim::sorensen_dice(a, b)
    }
}

fn cut(line: &str) -> &str {
    line.char_indices().nth(LINE_CHARS_MAX).map_or(line, |(end, _)| &line[..end])
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn the_most_alike_place_is_shown_with_its_first_difference() {
        let have = ["fn a() {", "    one();", "    two(1);", "}", "fn b() {", "    three();", "    two(2);", "}"];
        let text = nearest(&have, &["    three();", "    two(3);"]).unwrap();
        assert!(text.starts_with("The nearest text is lines 6 to 7:\n     6\t    three();\n     7\t    two(2);\n"), "{text}");
        assert!(text.ends_with("It differs first at line 7, where you have:\n      \t    two(3);"), "{text}");
        assert_eq!(nearest(&have, &["nothing of the kind"]), None);
        assert_eq!(nearest(&have, &["", ""]), None);
        assert_eq!(nearest(&[], &["x"]), None);
    }
}
