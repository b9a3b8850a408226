//! What an agent said and did in a turn, kept as evidence.

use std::sync::{Arc, Mutex, PoisonError};

use aedile_core::agent_api::DoorIdentity;
use aedile_core::runtime::{SessionEvent, SessionSink, TurnEnd, TurnStop};
use serde::{Deserialize, Serialize};

use crate::parts::{Seen, Sees};

/// The most bytes that one turn's transcript keeps; what comes later is only counted.
const TRANSCRIPT_BYTES_MAX: usize = 4 * 1024 * 1024;

#[derive(Default)]
struct Pages {
    events: Vec<SessionEvent>,
    bytes: usize,
    left_out: u64,
    seen: u64,
    /// What holds the agent up at present.
    held_up: Option<String>,
}

/// Collects the events of a session, turn by turn. Clones share one collection.
#[derive(Clone, Default)]
pub(crate) struct Transcript(Arc<Mutex<Pages>>);

/// What was said and done in one turn, as it lies in its blob.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct TurnTranscript {
    /// What the agent was told.
    pub prompt: String,
    /// What happened, in order.
    pub events: Vec<SessionEvent>,
    /// Events that are not here, since the turn said more than is kept.
    pub left_out: u64,
    /// How it ended.
    pub stop: TurnStop,
    /// What happened then.
    pub detail: Option<String>,
    /// The end of the agent's stderr, when the turn broke off.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub stderr: String,
}

impl Transcript {
    /// Returns the sink that a runtime writes to. An onlooker sees each event first.
    pub(crate) fn sink(&self, who: &DoorIdentity, sees: Option<Sees>) -> SessionSink {
        let (pages, who) = (Arc::clone(&self.0), who.clone());
        Arc::new(move |event| {
            if let Some(sees) = &sees {
                sees(&who, Seen::Event(&event));
            }
            add(&mut pages.lock().unwrap_or_else(PoisonError::into_inner), event);
        })
    }

    /// How many events came in so far.
    pub(crate) fn seen(&self) -> u64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).seen
    }

    /// Why the model does not answer, as the agent reported it, until anything else came from the agent.
    pub(crate) fn held_up(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).held_up.clone()
    }

    /// Takes the events of the turn that has ended, as JSON.
    pub(crate) fn take(&self, prompt: &str, end: &TurnEnd, stderr: &str) -> Vec<u8> {
        let mut pages = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (events, left_out) = (std::mem::take(&mut pages.events), std::mem::take(&mut pages.left_out));
        pages.bytes = 0;
        drop(pages);
        let (prompt, stderr) = (prompt.to_owned(), stderr.to_owned());
        let written = TurnTranscript { prompt, events, left_out, stop: end.stop, detail: end.detail.clone(), stderr };
        serde_json::to_vec(&written).unwrap_or_default()
    }
}

fn add(pages: &mut Pages, event: SessionEvent) {
    pages.seen += 1;
    let size = size_of(&event);
    pages.held_up = match &event {
        SessionEvent::Retrying { attempt, why, .. } => Some(format!("{why}, try {attempt}")),
        _ => None,
    };
    if pages.bytes + size > TRANSCRIPT_BYTES_MAX {
        pages.left_out += 1;
        return;
    }
    pages.bytes += size;
    match pages.events.last_mut() {
        Some(last) if is_more(last, &event) => join(last, event),
        _ => pages.events.push(event),
    }
}

fn size_of(event: &SessionEvent) -> usize {
    match event {
        SessionEvent::Text { text } | SessionEvent::Warning { text } => text.len(),
        SessionEvent::ToolStarted { id, title } => id.len() + title.len() + 32,
        SessionEvent::ToolEnded { id, output, .. } => id.len() + output.len() + 32,
        SessionEvent::Output { value } => value.to_string().len(),
        SessionEvent::SubAgent { agent, event } => agent.len() + size_of(event),
        SessionEvent::Message { text } => text.len() + 32,
        SessionEvent::Retrying { why, .. } => why.len() + 64,
        SessionEvent::Used { .. } => 128,
    }
}

/// Whether the event goes on with a text.
fn is_more(last: &SessionEvent, event: &SessionEvent) -> bool {
    match (last, event) {
        (SessionEvent::Text { .. }, SessionEvent::Text { .. }) => true,
        (SessionEvent::SubAgent { agent, event: last }, SessionEvent::SubAgent { agent: other, event }) => {
            agent == other && is_more(last, event)
        }
        _ => false,
    }
}

fn join(last: &mut SessionEvent, event: SessionEvent) {
    match (last, event) {
        (SessionEvent::Text { text }, SessionEvent::Text { text: more }) => text.push_str(&more),
        (SessionEvent::SubAgent { event: last, .. }, SessionEvent::SubAgent { event, .. }) => join(last, *event),
        _ => {}
    }
}
