//! Server-sent events, parsed from bytes that may be split anywhere.
//!
//! Follows the event stream format of the WHATWG HTML standard: lines end with LF, CR or CRLF, a byte order mark at the
//! start is dropped, lines that begin with a colon are comments, a blank line ends an event, an event without data is dropped.

/// The largest single event; a longer one is an error, so that a hostile stream cannot fill the memory.
pub const SSE_EVENT_BYTES_MAX: usize = 16 * 1024 * 1024;

/// One event.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct SseEvent {
    /// The `event:` field, empty when there was none.
    pub name: String,
    /// The `data:` lines joined with LF.
    pub data: String,
}

/// The event is larger than [`SSE_EVENT_BYTES_MAX`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("one event of the stream is larger than {SSE_EVENT_BYTES_MAX} bytes")]
pub struct EventTooLarge;

/// Parses an event stream piece by piece.
#[derive(Debug, Default)]
pub struct SseParser {
    line: Vec<u8>,
    event: SseEvent,
    has_data: bool,
    started: bool,
    after_cr: bool,
}

impl SseParser {
    /// Makes a parser at the start of a stream.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next bytes and calls `each` for every event that is now complete. An event that no blank line has ended
    /// when the stream ends was cut and is never given out.
    ///
    /// # Errors
    /// [`EventTooLarge`]; the parser must not be fed again.
    pub fn feed(&mut self, mut bytes: &[u8], mut each: impl FnMut(SseEvent)) -> Result<(), EventTooLarge> {
        while !bytes.is_empty() {
            if std::mem::take(&mut self.after_cr) && bytes[0] == b'\n' {
                bytes = &bytes[1..];
                continue;
            }
            let end = bytes.iter().position(|byte| matches!(byte, b'\n' | b'\r'));
            let piece = &bytes[..end.unwrap_or(bytes.len())];
            if self.line.len() + self.event.data.len() + piece.len() > SSE_EVENT_BYTES_MAX {
                return Err(EventTooLarge);
            }
            self.line.extend_from_slice(piece);
            let Some(end) = end else { return Ok(()) };
            self.after_cr = bytes[end] == b'\r';
            bytes = &bytes[end + 1..];
            if let Some(event) = self.end_line() {
                each(event);
            }
        }
        Ok(())
    }

    /// Handles the collected line; returns the event that it ends.
    fn end_line(&mut self) -> Option<SseEvent> {
        let bytes = std::mem::take(&mut self.line);
        let text = String::from_utf8_lossy(&bytes);
        let mut line: &str = &text;
        if !std::mem::replace(&mut self.started, true) {
            line = line.strip_prefix('\u{feff}').unwrap_or(line);
        }
        if line.is_empty() {
            let event = std::mem::take(&mut self.event);
            return std::mem::take(&mut self.has_data).then_some(event);
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut self.event.name),
            "data" => {
                if std::mem::replace(&mut self.has_data, true) {
                    self.event.data.push('\n');
                }
                self.event.data.push_str(value);
            }
            // `id`, `retry`, comments (an empty field name) and unknown fields carry nothing for us.
            _ => {}
        }
        None
    }
}
