//! The listener of the present turn.

use aedile_core::runtime::{SessionEvent, SessionSink};
use std::sync::{Arc, Mutex, PoisonError};

/// Where the events of a session go. Clones share one listener, which changes with each prompt.
#[derive(Clone, Default)]
pub(crate) struct Live(Arc<Mutex<Option<SessionSink>>>);

impl Live {
    /// Events go there from now on.
    pub(crate) fn listen(&self, sink: &SessionSink) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(sink));
    }

    /// Tells an event.
    pub(crate) fn tell(&self, event: SessionEvent) {
        let sink = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(sink) = sink {
            sink(event);
        }
    }

    /// Tells a warning.
    pub(crate) fn warn(&self, text: impl Into<String>) {
        self.tell(SessionEvent::Warning { text: text.into() });
    }
}
