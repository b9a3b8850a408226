//! Redaction: what every event and blob passes before it is stored.

/// Replaces secrets in text and bytes. The gateway implements it; a store is built with one.
pub trait Redactor: Send + Sync {
    /// Returns the text with every known secret replaced, or `None` when there was none.
    fn redact_text(&self, text: &str) -> Option<String>;
    /// Returns the bytes with every known secret replaced, or `None` when there was none.
    fn redact_bytes(&self, bytes: &[u8]) -> Option<Vec<u8>>;
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
}
