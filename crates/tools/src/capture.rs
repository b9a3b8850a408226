//! Output of a program in bounded memory: the first and the last bytes stay.

use std::collections::VecDeque;
use std::fmt::Write;

/// What a program has said so far.
pub(crate) struct Capture {
    head: Vec<u8>,
    tail: VecDeque<u8>,
    half: usize,
    total: usize,
}

impl Capture {
    /// Keeps at most `max` bytes.
    pub(crate) fn new(max: usize) -> Self {
        Self { head: Vec::new(), tail: VecDeque::new(), half: max / 2, total: 0 }
    }

    /// Takes more output.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.total += bytes.len();
        let (first, rest) = bytes.split_at(bytes.len().min(self.half - self.head.len()));
        self.head.extend_from_slice(first);
        self.tail.extend(rest);
        let over = self.tail.len().saturating_sub(self.half);
        self.tail.drain(..over);
    }

    /// How many bytes there were in all.
    pub(crate) fn total(&self) -> usize {
        self.total
    }

    /// What came after the first `from` bytes, as text; a line says what was cut.
    pub(crate) fn since(&self, from: usize) -> String {
        let tail_at = self.total - self.tail.len();
        let mut text = String::from_utf8_lossy(&self.head[from.min(self.head.len())..]).into_owned();
        let tail: Vec<u8> = self.tail.iter().copied().skip(from.saturating_sub(tail_at)).collect();
        let cut = tail_at.saturating_sub(from.max(self.head.len()));
        if cut > 0 {
            // Writing to a String cannot fail.
            let _ = write!(text, "\n[... {cut} bytes cut ...]\n");
        }
        text.push_str(&String::from_utf8_lossy(&tail));
        text
    }
}

#[cfg(test)]
mod tests {
    use super::Capture;

    #[test]
    fn head_and_tail_stay() {
        let mut capture = Capture::new(10);
        for byte in b'a'..=b'z' {
            capture.push(&[byte]);
        }
        assert_eq!(capture.since(0), "abcde\n[... 16 bytes cut ...]\nvwxyz");
        assert_eq!(capture.since(24), "yz");
        assert_eq!(capture.since(20), "\n[... 1 bytes cut ...]\nvwxyz");
        assert_eq!((capture.since(26), capture.total()), (String::new(), 26));
    }

    #[test]
    fn short_output_is_whole() {
        let mut capture = Capture::new(10);
        capture.push(b"abcdefgh");
        assert_eq!((capture.since(0), capture.since(6)), ("abcdefgh".to_owned(), "gh".to_owned()));
    }
}
