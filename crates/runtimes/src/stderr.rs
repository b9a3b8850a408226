//! The end of an agent's stderr.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aedile_core::limits::STDERR_TAIL_BYTES_MAX;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

/// How long the last words of a process that has ended are waited for; something it started may hold its stderr open.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// Reads stderr all the time and keeps its end.
pub(crate) struct StderrTail {
    kept: Arc<Mutex<VecDeque<u8>>>,
    ended: watch::Receiver<bool>,
    _reader: AbortOnDropHandle<()>,
}

impl StderrTail {
    pub(crate) fn start(mut from: impl AsyncRead + Unpin + Send + 'static) -> Self {
        let kept = Arc::new(Mutex::new(VecDeque::new()));
        let (ended_tx, ended) = watch::channel(false);
        let into = kept.clone();
        let reader = tokio::spawn(async move {
            let mut piece = [0_u8; 4096];
            while let Ok(length @ 1..) = from.read(&mut piece).await {
                let mut kept = into.lock().unwrap_or_else(PoisonError::into_inner);
                kept.extend(&piece[..length]);
                let over = kept.len().saturating_sub(STDERR_TAIL_BYTES_MAX);
                kept.drain(..over);
            }
            let _ = ended_tx.send(true);
        });
        Self { kept, ended, _reader: AbortOnDropHandle::new(reader) }
    }

    /// What was kept, control characters other than line ends and tabs replaced.
    pub(crate) fn text(&self) -> String {
        let bytes: Vec<u8> = self.kept.lock().unwrap_or_else(PoisonError::into_inner).iter().copied().collect();
        let clean = |c: char| if c.is_control() && c != '\n' && c != '\t' { '\u{fffd}' } else { c };
        String::from_utf8_lossy(&bytes).chars().map(clean).collect()
    }

    /// Waits for the end of stderr, shortly, and returns the last lines.
    pub(crate) async fn last_words(&self) -> String {
        let mut ended = self.ended.clone();
        let _ = tokio::time::timeout(LAST_WORDS, ended.wait_for(|ended| *ended)).await;
        let text = self.text();
        let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
        lines[lines.len().saturating_sub(5)..].join(" | ")
    }
}
