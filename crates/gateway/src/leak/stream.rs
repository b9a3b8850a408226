//! The scan over a stream: pieces of any size, bounded memory, the same findings as over the whole.

use super::known::Hit;
use super::token_rules::Level;
use super::{Finding, REACH, Rank, Secrets, Shapes, Span, merged};

/// The rule of spans that are the value of a known secret.
pub const KNOWN_RULE: &str = "known-secret";

/// A scan over a stream. It keeps at most three times [`REACH`] and the longest form of a known value of it.
pub struct Stream<'a> {
    shapes: &'static Shapes,
    secrets: Option<&'a Secrets>,
    /// What is kept of the stream, and where in the stream it begins.
    held: Vec<u8>,
    base: usize,
    /// Up to where in `held` anchors were looked at.
    done: usize,
    /// What was found and may still meet something else; places of the stream.
    pending: Vec<Finding>,
}

impl<'a> Stream<'a> {
    /// Begins a scan for credentials by their form, and for known values where some are given.
    pub fn new(secrets: Option<&'a Secrets>) -> Self {
        Self { shapes: Shapes::get(), secrets, held: Vec::new(), base: 0, done: 0, pending: Vec::new() }
    }

    fn margin(&self) -> usize {
        REACH.max(self.secrets.map_or(0, Secrets::longest))
    }

    /// Takes the next piece and returns the spans that are complete, as places of the stream.
    pub fn push(&mut self, mut piece: &[u8]) -> Vec<Span> {
        let mut spans = Vec::new();
        while !piece.is_empty() {
            let (now, rest) = piece.split_at(piece.len().min(REACH));
            piece = rest;
            self.held.extend_from_slice(now);
            let margin = self.margin();
            if self.held.len() >= self.done + 2 * margin {
                self.advance(self.held.len() - margin);
                spans.extend(self.complete(self.base + self.done.saturating_sub(margin)));
                let forgotten = self.done.saturating_sub(margin);
                self.held.drain(..forgotten);
                self.base += forgotten;
                self.done -= forgotten;
            }
        }
        spans
    }

    /// The stream has ended: returns the rest of the spans.
    pub fn end(mut self) -> Vec<Span> {
        self.advance(self.held.len());
        self.complete(usize::MAX)
    }

    /// Looks at the anchors up to `to`.
    fn advance(&mut self, to: usize) {
        let known = self.pending.len();
        self.shapes.range(&self.held, self.done, to, &mut self.pending);
        for finding in &mut self.pending[known..] {
            finding.start += self.base;
            finding.end += self.base;
        }
        if let Some(secrets) = self.secrets {
            let end = self.held.len().min(to + secrets.longest());
            let part = &self.held[self.done..end];
            let hits: Vec<Hit> = secrets.find(part).into_iter().filter(|hit| self.done + hit.start < to).collect();
            let place = self.base + self.done;
            self.pending.extend(hits.iter().map(|hit| Finding {
                start: place + hit.start,
                end: place + hit.end,
                rule: KNOWN_RULE,
                level: Level::Block,
                rank: Rank::Known,
            }));
        }
        self.done = to;
    }

    /// Takes out the findings that end before `before`, so that nothing that is still to come can meet them.
    fn complete(&mut self, before: usize) -> Vec<Span> {
        let (mut now, later): (Vec<Finding>, Vec<Finding>) = self.pending.drain(..).partition(|finding| finding.end < before);
        // What a later one meets waits for it.
        let first = later.iter().map(|finding| finding.start).min().unwrap_or(usize::MAX);
        let (ready, waiting): (Vec<Finding>, Vec<Finding>) = now.drain(..).partition(|finding| finding.end <= first);
        self.pending = waiting.into_iter().chain(later).collect();
        merged(ready)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A text of several hundred kilobytes with things to find, also across the borders.
    fn text() -> Vec<u8> {
        let mut text = Vec::new();
        let body = |number: usize| format!("{:064}", number * 7919).replace('0', "Qz");
        for number in 0..400 {
            text.extend_from_slice(
                b"let found = self.known.iter().find(|known| known.root == root); // words of every day\n".repeat(number % 23).as_slice(),
            );
            match number % 5 {
                0 => text.extend_from_slice(format!("x = \"{}-q8Zt2LmP0vRx7KdW{number:04}\"\n", "glpat").as_bytes()),
                1 => text.extend_from_slice(format!("DB_PASSWORD=Xk9#mP2$vL{number:03}n\n").as_bytes()),
                2 => text.extend_from_slice(b"the value-of-a-known-secret-77 stands here\n"),
                3 => {
                    let kind = ["PRIVATE", "KEY"].join(" ");
                    text.extend_from_slice(
                        format!("-----BEGIN {kind}-----\n{}\n{}\n-----END {kind}-----\n", body(number), body(number + 1)).as_bytes(),
                    );
                }
                _ => text.extend_from_slice("\u{e9}\u{1f511}\n".as_bytes()),
            }
        }
        text
    }

    #[test]
    fn pieces_of_any_size_give_what_the_whole_gives() {
        let text = text();
        let secrets = Secrets::new([("one", "value-of-a-known-secret-77")]);
        let mut whole = Stream::new(Some(&secrets));
        let mut expected = whole.push(&text);
        expected.extend(whole.end());
        let by_form = Shapes::get().scan(&text);
        assert!(text.len() > 5 * REACH && expected.len() >= by_form.len() && by_form.len() > 150, "{} {}", text.len(), expected.len());
        for span in &by_form {
            assert!(expected.iter().any(|known| known.start <= span.start && known.end >= span.end), "{span:?}");
        }
        assert_eq!(expected.iter().filter(|span| span.rule == KNOWN_RULE).count(), 80);
        for size in [1_000, 4_096, 65_537, 100_000, 300_001] {
            let mut stream = Stream::new(Some(&secrets));
            let mut found = Vec::new();
            for piece in text.chunks(size) {
                found.extend(stream.push(piece));
                assert!(stream.held.len() <= 4 * REACH, "{}", stream.held.len());
            }
            found.extend(stream.end());
            assert_eq!(found, expected, "pieces of {size}");
        }
    }
}
