//! What the person says while the agent works: read from stdin, sent as mail, delivered as soon as the agent's runtime takes it.

use std::collections::VecDeque;
use std::io::{BufRead, IsTerminal, Read};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aedile_core::RunId;
use aedile_core::limits::MAIL_BYTES_MAX;
use aedile_core::machine::TaskState;
use aedile_core::store::{Store, StoreError, list};
use aedile_core::view::TaskView;
use aedile_fleet::MailError;
use serde::Deserialize;

use super::heard::Heard;
use super::keys::Keys;
use crate::clock::{OsEntropy, SystemClock};
use crate::output::{Output, one_line};

/// Messages that may wait for the agent.
const WAITING_MAX: usize = 100;

/// One line of stdin with `--json`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    message: String,
}

#[derive(Default)]
struct Typed {
    lines: VecDeque<Result<String, String>>,
    edited: String,
    ended: bool,
}

/// What became of a message.
#[derive(Debug)]
pub enum Fate {
    /// The agent gets it when its present turn ends.
    Sent,
    /// It reaches nobody.
    Refused(String),
}

/// Reads stdin on a thread of its own.
pub struct Input {
    typed: Arc<Mutex<Typed>>,
    waiting: VecDeque<String>,
    stays: tokio::sync::watch::Sender<bool>,
    keys: bool,
    _terminal: Option<Keys>,
}

fn lock(typed: &Mutex<Typed>) -> MutexGuard<'_, Typed> {
    typed.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Input {
    /// Starts to read: JSON lines where a program speaks, lines of a terminal where a person sits; `None` where nobody can say anything.
    pub fn start(heard: &Arc<Heard>, out: Output) -> Option<Self> {
        let terminal = std::io::stdin().is_terminal();
        if out.json == terminal || (terminal && !Keys::may_read()) {
            return None;
        }
        let keys = if terminal && std::io::stdout().is_terminal() && std::io::stderr().is_terminal() { Keys::take() } else { None };
        let typed = Arc::new(Mutex::new(Typed::default()));
        let (stays, _) = tokio::sync::watch::channel(true);
        let input = Self { typed: Arc::clone(&typed), waiting: VecDeque::new(), stays, keys: keys.is_some(), _terminal: keys };
        let (heard, keys) = (Arc::clone(heard), input.keys);
        let read = move || {
            if keys {
                Keys::read(&mut |edited, line| {
                    let mut typed = lock(&typed);
                    edited.clone_into(&mut typed.edited);
                    push(&mut typed, line.map(Ok));
                    drop(typed);
                    heard.wake.notify_one();
                });
            } else {
                read_lines(out.json, &mut |line| {
                    push(&mut lock(&typed), Some(line));
                    heard.wake.notify_one();
                });
            }
            lock(&typed).ended = true;
            heard.wake.notify_one();
        };
        std::thread::Builder::new().name("stdin".to_owned()).spawn(read).ok().map(|_| input)
    }

    /// Whether somebody stays to answer: until stdin has ended and everything it said is sent.
    pub fn stays(&self) -> tokio::sync::watch::Receiver<bool> {
        self.stays.subscribe()
    }

    /// The line that is being typed, where we show it ourselves.
    pub fn edited(&self) -> Option<String> {
        self.keys.then(|| lock(&self.typed).edited.clone())
    }

    /// Sends what can be sent; returns each message whose fate is known now.
    pub fn deliver(&mut self, store: &dyn Store, run: RunId) -> Result<Vec<(String, Fate)>, StoreError> {
        let (new, ended) = {
            let mut typed = lock(&self.typed);
            (std::mem::take(&mut typed.lines), typed.ended)
        };
        let mut fates = Vec::new();
        for line in new {
            match line {
                Ok(text) if text.trim().is_empty() => {}
                Ok(text) if self.waiting.len() < WAITING_MAX => self.waiting.push_back(text),
                Ok(text) => fates.push((text, Fate::Refused(format!("{WAITING_MAX} messages wait already")))),
                Err(why) => fates.push((String::new(), Fate::Refused(why))),
            }
        }
        while let Some(text) = self.waiting.front() {
            match send(store, run, text)? {
                Some(fate) => fates.push((self.waiting.pop_front().unwrap_or_default(), fate)),
                None => break,
            }
        }
        if ended && self.waiting.is_empty() {
            self.stays.send_if_modified(|stays| std::mem::replace(stays, false));
        }
        Ok(fates)
    }
}

fn push(typed: &mut Typed, line: Option<Result<String, String>>) {
    // Whoever writes faster than anybody reads is told so once the queue is looked at.
    if typed.lines.len() < 2 * WAITING_MAX {
        typed.lines.extend(line);
    }
}

/// Sends one message; `None` while the agent has no name yet.
fn send(store: &dyn Store, run: RunId, text: &str) -> Result<Option<Fate>, StoreError> {
    let tasks: Vec<TaskView> = list(store, Some(run))?;
    let Some(task) = tasks.first() else { return Ok(None) };
    let refused = |why: &str| Ok(Some(Fate::Refused(why.to_owned())));
    let agent = match (task.state, &task.agent) {
        (TaskState::Open | TaskState::Ready, _) | (_, None) => return Ok(None),
        (TaskState::Submitted | TaskState::Held, _) => return refused("the agent has submitted its change already"),
        (state, _) if state.is_closed() || state.needs_person() => return refused("the agent has ended already"),
        (_, Some(agent)) => agent.to_string(),
    };
    let subject = one_line(text.trim().lines().next().unwrap_or_default(), 60);
    match aedile_fleet::send_mail(store, (&SystemClock, &OsEntropy), run, ("person", &agent), (&subject, text)) {
        Ok(_) => Ok(Some(Fate::Sent)),
        Err(MailError::Store(error)) => Err(error),
        Err(error) => Ok(Some(Fate::Refused(error.to_string()))),
    }
}

/// Reads lines until stdin ends. A line that is too long or, with `--json`, no message is an error that names its number.
fn read_lines(json: bool, take: &mut dyn FnMut(Result<String, String>)) {
    let mut stdin = std::io::stdin().lock();
    // As JSON a message may be longer than what it says.
    let max = if json { 8 * MAIL_BYTES_MAX } else { MAIL_BYTES_MAX };
    for number in 1_u64.. {
        let mut bytes = Vec::new();
        match stdin.by_ref().take(max as u64).read_until(b'\n', &mut bytes) {
            Ok(0) | Err(_) => return,
            Ok(count) if count == max && !bytes.ends_with(b"\n") => {
                take(Err(format!("line {number} of stdin is longer than {max} bytes")));
                if stdin.skip_until(b'\n').is_err() {
                    return;
                }
            }
            Ok(_) => {
                let text = String::from_utf8_lossy(&bytes).trim_end_matches(['\n', '\r']).to_owned();
                if text.trim().is_empty() {
                    continue;
                }
                take(if json { parse(number, &text) } else { Ok(text) });
            }
        }
    }
}

fn parse(number: u64, text: &str) -> Result<String, String> {
    let line = serde_json::from_str::<Line>(text);
    line.map(|line| line.message).map_err(|error| format!("line {number} of stdin is not {{\"message\": \"...\"}}: {error}"))
}
