//! Redaction: what every event and blob passes before it is stored.

/// Replaces secrets in text and bytes: known values, and what is a credential by its form. The gateway implements it; a store is built with one.
pub trait Redactor: Send + Sync {
    /// Returns the text with every secret replaced, or `None` when there was none.
    fn redact_text(&self, text: &str) -> Option<String>;
    /// Returns the text with the values of named secrets replaced, and nothing that only looks like a credential; `None` when there was none.
    fn redact_known(&self, text: &str) -> Option<String> {
        self.redact_text(text)
    }
    /// Returns the bytes with every secret replaced, or `None` when there was none.
    fn redact_bytes(&self, bytes: &[u8]) -> Option<Vec<u8>>;
    /// Returns what is secret in the bytes, each rule once for each time that it holds; what only may be a credential is none.
    fn leaks(&self, bytes: &[u8]) -> Vec<Leak> {
        let _ = bytes;
        Vec::new()
    }
    /// Returns how many bytes at the beginning of the text can be redacted and shown although more of it is to come: what is behind may be
    /// the beginning of a secret. It is a character boundary.
    fn settled(&self, text: &str) -> usize;
}

/// Something secret that was found; never its value.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Leak {
    /// `secret.NAME` for a known value in whatever form, `leak.RULE` for what is a credential by its own form.
    pub rule: String,
    /// Whether it is a known value.
    pub known: bool,
    /// Tells one credential of a form from another, within this process; says nothing of it.
    pub what: u64,
}

/// Redacts a text that comes in pieces: a secret that is cut in two by them is found all the same.
#[derive(Debug, Default)]
pub struct Pieces {
    held: String,
}

impl Pieces {
    /// Takes the next piece and returns what can be shown now, redacted. The end of it may be kept until more is there.
    pub fn add(&mut self, redactor: &dyn Redactor, piece: &str) -> String {
        self.held.push_str(piece);
        let rest = self.held.split_off(redactor.settled(&self.held));
        let ready = std::mem::replace(&mut self.held, rest);
        redactor.redact_text(&ready).unwrap_or(ready)
    }

    /// The text has ended: returns what was kept, redacted.
    pub fn end(&mut self, redactor: &dyn Redactor) -> String {
        let rest = std::mem::take(&mut self.held);
        redactor.redact_text(&rest).unwrap_or(rest)
    }
}

/// Knows no secret: for stores that only read, and for tests of other things.
#[derive(Debug, Default, Clone, Copy)]
pub struct NoSecrets;

impl Redactor for NoSecrets {
    fn redact_text(&self, _text: &str) -> Option<String> {
        None
    }
    fn redact_bytes(&self, _bytes: &[u8]) -> Option<Vec<u8>> {
        None
    }
    fn settled(&self, text: &str) -> usize {
        text.len()
    }
}
