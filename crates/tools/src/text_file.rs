//! A text as lines. Byte order mark, line ends and the final newline stand apart, so that a change of lines keeps them.

/// The byte order mark of UTF-8.
const BOM: char = '\u{feff}';

/// A text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TextFile {
    bom: bool,
    pub(crate) lines: Vec<Line>,
    /// Whether the last line ends with a newline.
    pub(crate) final_newline: bool,
}

/// One line without its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) text: String,
    /// Whether it ends with CRLF.
    pub(crate) crlf: bool,
}

impl TextFile {
    /// A new text with LF line ends.
    pub(crate) fn new(lines: &[String], final_newline: bool) -> Self {
        Self { bom: false, lines: lines.iter().map(|text| Line { text: text.clone(), crlf: false }).collect(), final_newline }
    }

    /// Splits a text. A last line without an end is given its neighbour's, for the case that text comes behind it.
    pub(crate) fn parse(text: &str) -> Self {
        let body = text.strip_prefix(BOM).unwrap_or(text);
        let mut lines: Vec<Line> = Vec::new();
        for piece in body.split_inclusive('\n') {
            let above = lines.last().is_some_and(|line| line.crlf);
            let (text, crlf) = match (piece.strip_suffix("\r\n"), piece.strip_suffix('\n')) {
                (Some(text), _) => (text, true),
                (None, Some(text)) => (text, false),
                (None, None) => (piece, above),
            };
            lines.push(Line { text: text.to_owned(), crlf });
        }
        Self { bom: body.len() != text.len(), lines, final_newline: body.is_empty() || body.ends_with('\n') }
    }

    /// Joins it again.
    pub(crate) fn render(&self) -> String {
        let mut text = String::new();
        if self.bom {
            text.push(BOM);
        }
        for (at, line) in self.lines.iter().enumerate() {
            text.push_str(&line.text);
            if at + 1 < self.lines.len() || self.final_newline {
                text.push_str(if line.crlf { "\r\n" } else { "\n" });
            }
        }
        text
    }
}
