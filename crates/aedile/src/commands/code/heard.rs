//! What the agent says and does, on its way from the session to the screen.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use aedile_core::AgentName;
use aedile_core::runtime::SessionEvent;
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
struct Pieces {
    waiting: VecDeque<(AgentName, Piece)>,
    bytes: usize,
    left_out: u64,
}

/// A queue that never blocks its writer.
#[derive(Default)]
pub struct Heard {
    pieces: Mutex<Pieces>,
    /// Told when there is something new to show.
    pub wake: Notify,
}

impl Heard {
    /// Returns what a session writes to.
    pub fn sees(self: &Arc<Self>) -> Sees {
        let heard = Arc::clone(self);
        Arc::new(move |who, seen| {
            let piece = match seen {
                Seen::Event(event) => Piece::Event(event.clone()),
                Seen::Waits => Piece::Waits,
            };
            heard.add(&who.agent, piece);
            heard.wake.notify_one();
        })
    }

    fn add(&self, agent: &AgentName, piece: Piece) {
        let mut pieces = self.pieces.lock().unwrap_or_else(PoisonError::into_inner);
        let size = match &piece {
            Piece::Event(SessionEvent::Text { text }) => text.len(),
            Piece::Event(SessionEvent::ToolEnded { output, .. }) => output.len() + 64,
            _ => 64,
        };
        if pieces.bytes + size > WAITING_BYTES_MAX {
            pieces.left_out += 1;
            return;
        }
        pieces.bytes += size;
        if let (Some((_, Piece::Event(SessionEvent::Text { text }))), Piece::Event(SessionEvent::Text { text: more })) =
            (pieces.waiting.back_mut(), &piece)
        {
            text.push_str(more);
            return;
        }
        pieces.waiting.push_back((agent.clone(), piece));
    }

    /// Takes everything that waits, in order.
    pub fn take(&self) -> Vec<(AgentName, Piece)> {
        let mut pieces = self.pieces.lock().unwrap_or_else(PoisonError::into_inner);
        let Pieces { waiting, left_out, .. } = std::mem::take(&mut *pieces);
        let mut all: Vec<_> = waiting.into();
        if let Some((agent, _)) = all.last().filter(|_| left_out > 0) {
            all.push((agent.clone(), Piece::LeftOut(left_out)));
        }
        all
    }
}
