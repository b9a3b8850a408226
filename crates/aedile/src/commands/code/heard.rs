//! What the agent says and does, on its way from the session to the screen, with every secret taken out.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aedile_core::redact::Pieces;
use aedile_core::runtime::SessionEvent;
use aedile_core::{AgentName, Redactor};
use aedile_fleet::{Seen, Sees};
use tokio::sync::Notify;

/// Bytes that may wait for the screen; what comes then is only counted. The transcript has it.
const WAITING_BYTES_MAX: usize = 4 * 1024 * 1024;

/// One thing to show.
#[derive(Debug)]
pub enum Piece {
    /// The agent says or does something.
    Event(SessionEvent),
    /// The agent waits for a message.
    Waits,
    /// So many pieces were too much for the screen.
    LeftOut(u64),
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<(AgentName, Piece)>,
    bytes: usize,
    left_out: u64,
    /// The end of what each agent and, by name, each of its sub-agents says, while it may be the beginning of a secret.
    said: BTreeMap<(String, Option<String>), (AgentName, Pieces)>,
}

/// A queue that never blocks its writer.
pub struct Heard {
    redactor: Arc<dyn Redactor>,
    queue: Mutex<Queue>,
    /// Told when there is something new to show.
    pub wake: Notify,
}

impl Heard {
    /// Makes an empty queue; what comes into it passes the redactor.
    pub fn new(redactor: Arc<dyn Redactor>) -> Self {
        Self { redactor, queue: Mutex::default(), wake: Notify::new() }
    }

    /// Returns what a session writes to.
    pub fn sees(self: &Arc<Self>) -> Sees {
        let heard = Arc::clone(self);
        Arc::new(move |who, seen| {
            match seen {
                Seen::Event(event) => heard.event(&who.agent, event),
                Seen::Waits => heard.waits(&who.agent),
            }
            heard.wake.notify_one();
        })
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn event(&self, agent: &AgentName, event: &SessionEvent) {
        let mut queue = self.lock();
        let (sub, inner) = match event {
            SessionEvent::SubAgent { agent, event } => (Some(agent.clone()), &**event),
            event => (None, event),
        };
        let key = (agent.to_string(), sub);
        if let SessionEvent::Text { text } = inner {
            let (_, pieces) = queue.said.entry(key.clone()).or_insert_with(|| (agent.clone(), Pieces::default()));
            let shown = pieces.add(&*self.redactor, text);
            return queue.add_text(agent, key.1, shown);
        }
        // Its words so far are whole now.
        if let Some((_, mut pieces)) = queue.said.remove(&key) {
            let rest = pieces.end(&*self.redactor);
            queue.add_text(agent, key.1, rest);
        }
        match self.clean(event) {
            Some(event) => queue.add(agent, Piece::Event(event)),
            None => queue.left_out += 1,
        }
    }

    /// The event without secrets; the redactor knows how they look in JSON.
    fn clean(&self, event: &SessionEvent) -> Option<SessionEvent> {
        let text = serde_json::to_string(event).ok()?;
        match self.redactor.redact_text(&text) {
            None => Some(event.clone()),
            Some(clean) => serde_json::from_str(&clean).ok(),
        }
    }

    fn waits(&self, agent: &AgentName) {
        let mut queue = self.lock();
        queue.end(&*self.redactor);
        queue.add(agent, Piece::Waits);
    }

    /// Takes everything that waits, in order.
    pub fn take(&self) -> Vec<(AgentName, Piece)> {
        self.lock().take()
    }

    /// Takes everything, with what was kept in case that more would come.
    pub fn end(&self) -> Vec<(AgentName, Piece)> {
        let mut queue = self.lock();
        queue.end(&*self.redactor);
        queue.take()
    }
}

impl Queue {
    fn add_text(&mut self, agent: &AgentName, sub: Option<String>, text: String) {
        let event = SessionEvent::Text { text };
        match (&event, sub) {
            (SessionEvent::Text { text }, _) if text.is_empty() => {}
            (_, None) => self.add(agent, Piece::Event(event)),
            (_, Some(sub)) => self.add(agent, Piece::Event(SessionEvent::SubAgent { agent: sub, event: Box::new(event) })),
        }
    }

    fn add(&mut self, agent: &AgentName, piece: Piece) {
        let size = match &piece {
            Piece::Event(SessionEvent::Text { text }) => text.len(),
            Piece::Event(SessionEvent::ToolEnded { output, .. }) => output.len() + 64,
            _ => 64,
        };
        if self.bytes + size > WAITING_BYTES_MAX {
            self.left_out += 1;
            return;
        }
        self.bytes += size;
        if let (Some((_, Piece::Event(SessionEvent::Text { text }))), Piece::Event(SessionEvent::Text { text: more })) =
            (self.waiting.back_mut(), &piece)
        {
            text.push_str(more);
            return;
        }
        self.waiting.push_back((agent.clone(), piece));
    }

    fn end(&mut self, redactor: &dyn Redactor) {
        for ((_, sub), (agent, mut pieces)) in std::mem::take(&mut self.said) {
            self.add_text(&agent, sub, pieces.end(redactor));
        }
    }

    fn take(&mut self) -> Vec<(AgentName, Piece)> {
        self.bytes = 0;
        let (waiting, left_out) = (std::mem::take(&mut self.waiting), std::mem::take(&mut self.left_out));
        let mut all: Vec<_> = waiting.into();
        if let Some((agent, _)) = all.last().filter(|_| left_out > 0) {
            all.push((agent.clone(), Piece::LeftOut(left_out)));
        }
        all
    }
}
