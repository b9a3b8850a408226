//! Messages on their way into the present turn.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

/// Messages that may wait for one turn.
const WAITING_MAX: usize = 100;

/// A message that the turn has not taken in yet. Dropping it says that it never will.
pub(crate) struct Letter {
    pub(crate) text: String,
    pub(crate) taken: oneshot::Sender<bool>,
}

/// Where messages wait while a turn runs; closed between turns.
#[derive(Default)]
pub(crate) struct Inbox(Mutex<Option<VecDeque<Letter>>>);

impl Inbox {
    fn lock(&self) -> MutexGuard<'_, Option<VecDeque<Letter>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens it for a turn, until the guard is dropped.
    pub(crate) fn open(&self) -> Open<'_> {
        *self.lock() = Some(VecDeque::new());
        Open(self)
    }

    /// Gives the turn a message and waits until it has taken it in. `false` when it has not and will not.
    pub(crate) async fn send(&self, text: &str) -> bool {
        let (taken, answer) = oneshot::channel();
        match self.lock().as_mut() {
            Some(waiting) if waiting.len() < WAITING_MAX => waiting.push_back(Letter { text: text.to_owned(), taken }),
            _ => return false,
        }
        answer.await.unwrap_or(false)
    }

    /// Takes the oldest message out.
    pub(crate) fn next(&self) -> Option<Letter> {
        self.lock().as_mut()?.pop_front()
    }
}

/// The inbox of a turn that runs; what is left in it at the end was not taken in.
pub(crate) struct Open<'a>(&'a Inbox);

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.lock().take();
    }
}
