//! How much an agent may say, and how much of it may be nonsense.

use std::time::Instant;

use aedile_core::limits::{
    PROTOCOL_BURST_BYTES_MAX, PROTOCOL_BURST_LINES_MAX, PROTOCOL_BYTES_PER_SECOND, PROTOCOL_GARBAGE_LINES_MAX, PROTOCOL_LINES_PER_SECOND,
};

/// Two vessels that run out at a steady rate: one holds lines, one bytes. What makes one run over is a flood.
pub(crate) struct Flood {
    lines: u64,
    bytes: u64,
    since: Instant,
    garbage: usize,
}

impl Flood {
    pub(crate) fn new() -> Self {
        Self { lines: 0, bytes: 0, since: Instant::now(), garbage: 0 }
    }

    /// Counts a line that is not understood.
    ///
    /// # Errors
    /// The sentence for an agent that sent too many of them.
    pub(crate) fn garbage(&mut self, problem: &str) -> Result<(), String> {
        self.garbage += 1;
        tracing::debug!(problem, "a line of an agent is not understood");
        if self.garbage > PROTOCOL_GARBAGE_LINES_MAX {
            return Err(format!("it sent more than {PROTOCOL_GARBAGE_LINES_MAX} lines that are not its protocol; the last: {problem}"));
        }
        Ok(())
    }

    /// Takes one more line.
    ///
    /// # Errors
    /// The sentence for an agent that floods.
    pub(crate) fn take(&mut self, bytes: usize) -> Result<(), String> {
        self.take_at(bytes, Instant::now())
    }

    fn take_at(&mut self, bytes: usize, now: Instant) -> Result<(), String> {
        let seconds = now.duration_since(self.since).as_secs();
        if seconds > 0 {
            self.lines = self.lines.saturating_sub(seconds.saturating_mul(PROTOCOL_LINES_PER_SECOND));
            self.bytes = self.bytes.saturating_sub(seconds.saturating_mul(PROTOCOL_BYTES_PER_SECOND));
            self.since = now;
        }
        self.lines += 1;
        self.bytes += bytes as u64;
        if self.lines > PROTOCOL_BURST_LINES_MAX {
            return Err(format!("it floods: more than {PROTOCOL_BURST_LINES_MAX} lines at once"));
        }
        if self.bytes > PROTOCOL_BURST_BYTES_MAX {
            return Err(format!("it floods: more than {} MiB at once", PROTOCOL_BURST_BYTES_MAX >> 20));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_burst_is_taken_a_flood_is_not_and_time_heals() {
        let mut flood = Flood::new();
        let begun = flood.since;
        let taken = (0..PROTOCOL_BURST_LINES_MAX + 10).take_while(|_| flood.take_at(10, begun).is_ok()).count() as u64;
        assert_eq!(taken, PROTOCOL_BURST_LINES_MAX);
        assert!(flood.take_at(10, begun).unwrap_err().contains("lines"));
        let later = begun + Duration::from_secs(60);
        assert_eq!(flood.take_at(10, later), Ok(()));
        let whole = usize::try_from(PROTOCOL_BURST_BYTES_MAX).unwrap();
        assert!(flood.take_at(whole, later).unwrap_err().contains("256 MiB"));
    }
}
