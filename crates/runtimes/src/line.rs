//! Lines of bounded length.

use aedile_core::limits::PROTOCOL_LINE_BYTES_MAX;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::mpsc;

/// The buffer shrinks to this after a long line.
const BUFFER_BYTES_KEPT: usize = 8 * 1024;

/// What came.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Line {
    /// A line without its end.
    Whole(Vec<u8>),
    /// A line over `PROTOCOL_LINE_BYTES_MAX`; its bytes were dropped.
    TooLong,
}

/// The two ends of whoever reads what an agent says: its lines, and what is asked of it.
pub(crate) trait Listener<A> {
    /// Takes a line. An error ends it.
    fn line(&mut self, line: Line) -> Result<(), String>;
    /// Takes a question. An error ends it.
    fn ask(&mut self, ask: A) -> Result<(), String>;
}

/// Listens until the agent's output ends, it breaks the protocol, or nobody asks any more (`None`). Returns why.
pub(crate) async fn listen<A, R: AsyncRead + Unpin>(
    to: &mut impl Listener<A>,
    lines: &mut LineReader<R>,
    asked: &mut mpsc::Receiver<A>,
) -> Option<String> {
    loop {
        let step = tokio::select! {
            line = lines.next() => match line {
                Ok(Some(line)) => to.line(line),
                Ok(None) => Err(String::new()),
                Err(error) => Err(format!("its output cannot be read: {error}")),
            },
            ask = asked.recv() => to.ask(ask?),
        };
        if let Err(why) = step {
            return Some(why);
        }
    }
}

/// Reads lines. [`LineReader::next`] may be dropped and called again without losing anything.
pub(crate) struct LineReader<R> {
    from: R,
    buffer: Vec<u8>,
    searched: usize,
    skipping: bool,
    max: usize,
}

impl<R: AsyncRead + Unpin> LineReader<R> {
    pub(crate) fn new(from: R) -> Self {
        Self { from, buffer: Vec::new(), searched: 0, skipping: false, max: PROTOCOL_LINE_BYTES_MAX }
    }

    /// Returns the next line that is not empty, `None` at the end. A last line without a line end counts.
    pub(crate) async fn next(&mut self) -> std::io::Result<Option<Line>> {
        loop {
            if let Some(line) = self.take_line() {
                return Ok(Some(line));
            }
            self.buffer.reserve(BUFFER_BYTES_KEPT);
            if self.from.read_buf(&mut self.buffer).await? == 0 {
                let rest = std::mem::take(&mut self.buffer);
                self.searched = 0;
                let last = std::mem::take(&mut self.skipping).then_some(Line::TooLong);
                return Ok(last.or_else(|| whole(rest)));
            }
        }
    }

    fn take_line(&mut self) -> Option<Line> {
        while let Some(at) = self.buffer[self.searched..].iter().position(|byte| *byte == b'\n') {
            let rest = self.buffer.split_off(self.searched + at + 1);
            let line = std::mem::replace(&mut self.buffer, rest);
            self.searched = 0;
            if std::mem::take(&mut self.skipping) || line.len() > self.max + 1 {
                return Some(Line::TooLong);
            }
            if let Some(line) = whole(line) {
                return Some(line);
            }
        }
        self.searched = self.buffer.len();
        if self.buffer.len() > self.max || self.skipping {
            self.skipping = true;
            self.buffer.clear();
            self.buffer.shrink_to(BUFFER_BYTES_KEPT);
            self.searched = 0;
        }
        None
    }
}

fn whole(mut line: Vec<u8>) -> Option<Line> {
    while line.last().is_some_and(|byte| matches!(byte, b'\n' | b'\r')) {
        line.pop();
    }
    (!line.iter().all(u8::is_ascii_whitespace)).then_some(Line::Whole(line))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn all(bytes: &[u8], max: usize) -> Vec<Line> {
        let mut reader = LineReader::new(bytes);
        reader.max = max;
        let mut lines = Vec::new();
        while let Some(line) = reader.next().await.unwrap() {
            lines.push(line);
        }
        lines
    }

    #[tokio::test]
    async fn lines_are_split_and_long_ones_are_dropped() {
        let text = |text: &str| Line::Whole(text.as_bytes().to_vec());
        assert_eq!(all(b"a\n\r\n  \nbc\r\nd", 9).await, vec![text("a"), text("bc"), text("d")]);
        assert_eq!(all(b"123456789\n1234567890\nx\n", 9).await, vec![text("123456789"), Line::TooLong, text("x")]);
        let mut long = vec![b'x'; 100_000];
        assert_eq!(all(&long, 9).await, vec![Line::TooLong]);
        long.extend_from_slice(b"\nend\n");
        assert_eq!(all(&long, 9).await, vec![Line::TooLong, text("end")]);
        assert_eq!(all(b"", 9).await, vec![]);
    }
}
