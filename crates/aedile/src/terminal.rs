//! Text of agents on a person's terminal: what could steer it stands as an escape, and differences get their colours from us.

use std::io::IsTerminal;

use crate::env;

const BOLD: &str = "\u{1b}[1m";
const RED: &str = "\u{1b}[31m";
const GREEN: &str = "\u{1b}[32m";
const CYAN: &str = "\u{1b}[36m";
const RESET: &str = "\u{1b}[m";

/// Returns bytes as text that is safe to print: line ends and tabs stay; other control characters, characters that reorder or hide
/// text, and bytes that are no UTF-8 stand as escapes (`\x1b`, `\u{202e}`).
pub fn printable(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\n' | '\t' => text.push(c),
                c if c.is_ascii_control() => text.extend(u8::try_from(c).map(hex).into_iter().flatten()),
                c if c.is_control() || steers(c) => text.extend(c.escape_unicode()),
                c => text.push(c),
            }
        }
        text.extend(chunk.invalid().iter().flat_map(|byte| hex(*byte)));
    }
    text
}

fn hex(byte: u8) -> [char; 4] {
    let digit = |value: u8| char::from_digit(u32::from(value), 16).unwrap_or('?');
    ['\\', 'x', digit(byte >> 4), digit(byte & 15)]
}

/// Whether a character is invisible or changes the order in which others are shown.
fn steers(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// Whether stdout is a terminal that wants colours.
pub fn wants_colour() -> bool {
    std::io::stdout().is_terminal() && env::get(env::NO_COLOR).is_none() && env::text(env::TERM).is_none_or(|term| term != "dumb")
}

/// Returns a difference as git wrote it, safe to print, in colours when they are wanted.
pub fn difference(bytes: &[u8], colour: bool) -> String {
    let text = printable(bytes);
    if !colour {
        return text;
    }
    let mut out = String::with_capacity(text.len() * 2);
    let mut in_hunk = false;
    for line in text.split_inclusive('\n') {
        let start = line.as_bytes().first();
        in_hunk = match start {
            Some(b'@') => true,
            Some(b'd') => false,
            _ => in_hunk,
        };
        let paint = match (in_hunk, start) {
            (true, Some(b'@')) => CYAN,
            (true, Some(b'+')) => GREEN,
            (true, Some(b'-')) => RED,
            (false, _) => BOLD,
            _ => "",
        };
        let (line, end) = line.strip_suffix('\n').map_or((line, ""), |line| (line, "\n"));
        if paint.is_empty() || line.is_empty() {
            out.extend([line, end]);
        } else {
            out.extend([paint, line, RESET, end]);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_steers_the_terminal() {
        assert_eq!(printable(b"a\tb\n\x1b[2Jc\r\x07\x7f"), "a\tb\n\\x1b[2Jc\\x0d\\x07\\x7f");
        assert_eq!(printable("x\u{9b}31m\u{202e}y\u{200b}".as_bytes()), "x\\u{9b}31m\\u{202e}y\\u{200b}");
        assert_eq!(printable(b"\xff\xc3("), "\\xff\\xc3(");
        assert_eq!(printable("grün 日本".as_bytes()), "grün 日本");
    }

    #[test]
    fn only_our_own_colours_are_in_a_difference() {
        let patch = b"diff --git a/x b/x\n--- a/x\n+++ b/x\n@@ -1 +1 @@\n-old\x1b[32m\n+new\n same\ndiff --git a/y b/y\n";
        let plain = difference(patch, false);
        assert!(!plain.contains('\u{1b}') && plain.contains("-old\\x1b[32m\n"));
        let painted = difference(patch, true);
        assert!(painted.contains("\u{1b}[31m-old\\x1b[32m\u{1b}[m\n\u{1b}[32m+new\u{1b}[m\n same\n"), "{painted:?}");
        assert!(
            painted.contains("\u{1b}[1m--- a/x\u{1b}[m\n") && painted.ends_with("\u{1b}[1mdiff --git a/y b/y\u{1b}[m\n"),
            "{painted:?}"
        );
    }
}
