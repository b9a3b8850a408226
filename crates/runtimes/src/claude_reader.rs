//! The reader's side of a session with Claude Code: one task that reads its lines and is told what to send.

use std::collections::{HashMap, HashSet};

use aedile_core::limits::{PROTOCOL_LINE_BYTES_MAX, PROTOCOL_QUEUE_MAX, TOOL_OUTPUT_BYTES_MAX};
use aedile_core::money::Usage;
use aedile_core::runtime::{SessionEvent, SessionSink, TurnEnd, TurnStop};
use aedile_core::tool::cut_middle;
use serde_json::json;
use tokio::io::AsyncRead;
use tokio::sync::{mpsc, oneshot};

use crate::claude_wire::{self as wire, ApiRetry, ControlRequest, ControlResponse, Head, Initialized, Spoken, TurnResult};
use crate::flood::Flood;
use crate::line::{Line, LineReader, Listener, listen};

/// Titles and ids are cut to this many characters.
const TITLE_CHARS_MAX: usize = 200;
/// Words about a failure are cut to this many characters.
const DETAIL_CHARS_MAX: usize = 600;
/// Tool calls of one turn that are followed; further ones are not reported.
const CALLS_MAX: usize = 10_000;
/// Tools that wait for a person at a terminal. There is none in a box.
const INTERACTIVE: &[&str] = &["AskUserQuestion", "EnterPlanMode", "ExitPlanMode"];
/// The id of our first request.
const INITIALIZE: &str = "initialize";
/// The ids of requests to take a message back begin so; its uuid follows.
const TAKE_BACK: &str = "take-back-";

/// What the reader's task is asked to do. A reply that is dropped means that the connection is over.
pub(crate) enum Ask {
    Initialize { reply: oneshot::Sender<Result<Initialized, String>> },
    Prompt { text: String, reply: oneshot::Sender<Result<TurnEnd, String>> },
    Message { text: String, reply: oneshot::Sender<bool> },
    Interrupt,
}

/// The present turn.
struct Turn {
    reply: oneshot::Sender<Result<TurnEnd, String>>,
    cancelled: bool,
    /// Its prompt and the messages that were sent within it: a result for one of them is its result.
    uuids: HashSet<String>,
    /// Messages within the turn that were not taken in yet, by their uuid.
    waiting: HashMap<String, (String, oneshot::Sender<bool>)>,
    /// Tool calls that were begun.
    calls: HashSet<String>,
}

pub(crate) struct Reader {
    out: mpsc::Sender<String>,
    sink: SessionSink,
    /// The first part of the uuids of our messages, which differs from life to life.
    prefix: String,
    messages: u64,
    initialize: Option<oneshot::Sender<Result<Initialized, String>>>,
    turn: Option<Turn>,
    /// Messages of ours whose results nobody waits for any more.
    abandoned: HashSet<String>,
    cost: f64,
    flood: Flood,
}

impl Listener<Ask> for Reader {
    fn ask(&mut self, ask: Ask) -> Result<(), String> {
        match ask {
            Ask::Initialize { reply } => {
                self.initialize = Some(reply);
                self.send(wire::ask(INITIALIZE, &json!({"subtype": "initialize", "hooks": null})))
            }
            Ask::Prompt { text, reply } => {
                self.abandoned.extend(self.turn.take().into_iter().flat_map(|turn| turn.uuids));
                let uuid = self.uuid();
                let uuids = HashSet::from([uuid.clone()]);
                self.turn = Some(Turn { reply, cancelled: false, uuids, waiting: HashMap::new(), calls: HashSet::new() });
                self.send(wire::message(&uuid, &text))
            }
            Ask::Message { text, reply } => {
                let uuid = self.uuid();
                let Some(turn) = self.turn.as_mut().filter(|turn| !turn.cancelled) else {
                    let _ = reply.send(false);
                    return Ok(());
                };
                let line = wire::message(&uuid, &text);
                turn.uuids.insert(uuid.clone());
                turn.waiting.insert(uuid, (text, reply));
                self.send(line)
            }
            Ask::Interrupt => {
                let Some(turn) = self.turn.as_mut().filter(|turn| !turn.cancelled) else { return Ok(()) };
                turn.cancelled = true;
                // Otherwise it would begin a turn of its own with what waits.
                let waiting: Vec<String> = turn.waiting.keys().cloned().collect();
                for uuid in waiting {
                    let request = json!({"subtype": "cancel_async_message", "message_uuid": uuid});
                    self.send(wire::ask(&format!("{TAKE_BACK}{uuid}"), &request))?;
                }
                let id = format!("interrupt-{}", self.messages);
                self.send(wire::ask(&id, &json!({"subtype": "interrupt"})))
            }
        }
    }

    fn line(&mut self, line: Line) -> Result<(), String> {
        let line = match line {
            Line::Whole(line) => line,
            Line::TooLong => return Err(format!("it sent a line of more than {PROTOCOL_LINE_BYTES_MAX} bytes")),
        };
        self.flood.take(line.len())?;
        self.understand(&line).unwrap_or_else(|problem| self.flood.garbage(&problem))
    }
}

impl Reader {
    /// `session` is a UUID of this life of the agent.
    pub(crate) fn new(out: mpsc::Sender<String>, sink: SessionSink, session: &str) -> Self {
        Self {
            out,
            sink,
            prefix: session.chars().take(24).collect(),
            messages: 0,
            initialize: None,
            turn: None,
            abandoned: HashSet::new(),
            cost: 0.0,
            flood: Flood::new(),
        }
    }

    /// Works until the agent's output ends, it breaks the protocol, or nobody asks any more. Then every question is answered with why.
    pub(crate) async fn run<R: AsyncRead + Unpin>(mut self, mut lines: LineReader<R>, mut asked: mpsc::Receiver<Ask>) {
        let Some(why) = listen(&mut self, &mut lines, &mut asked).await else { return };
        if let Some(turn) = self.turn.take() {
            let _ = turn.reply.send(Err(why.clone()));
        }
        if let Some(reply) = self.initialize.take() {
            let _ = reply.send(Err(why.clone()));
        }
        while let Some(ask) = asked.recv().await {
            match ask {
                Ask::Initialize { reply } => drop(reply.send(Err(why.clone()))),
                Ask::Prompt { reply, .. } => drop(reply.send(Err(why.clone()))),
                Ask::Message { .. } | Ask::Interrupt => {}
            }
        }
    }

    fn uuid(&mut self) -> String {
        self.messages += 1;
        format!("{}{:012x}", self.prefix, self.messages)
    }

    fn send(&self, line: String) -> Result<(), String> {
        match self.out.try_send(line) {
            Err(mpsc::error::TrySendError::Full(_)) => {
                Err(format!("it does not read its input: {PROTOCOL_QUEUE_MAX} messages wait for it"))
            }
            // When the writer has stopped, the process has ended and its stdout says so.
            Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => Ok(()),
        }
    }

    /// Reads one line. The outer error is a line that is not understood, the inner one ends the session.
    fn understand(&mut self, line: &[u8]) -> Result<Result<(), String>, String> {
        let head: Head = wire::read(line)?;
        match head.kind.as_str() {
            "system" if head.subtype.0 == "api_retry" => self.retrying(&wire::read(line)?),
            "assistant" => self.said(wire::read(line)?),
            "user" => self.heard(wire::read(line)?),
            "result" => self.ended(&wire::read(line)?),
            "control_request" => return Ok(self.asked(&wire::read(line)?)),
            "control_response" => self.answered(wire::read(line)?),
            _ => {}
        }
        Ok(Ok(()))
    }

    fn tell(&self, event: SessionEvent) {
        // Until a new prompt is sent, what belongs to an abandoned turn is nobody's.
        if self.turn.is_some() && self.abandoned.is_empty() {
            (self.sink)(event);
        }
    }

    fn retrying(&self, retry: &ApiRetry) {
        let why = trouble(retry.error_status).unwrap_or_else(|| format!("the model was not reached ({})", cut(&retry.error.0, 80)));
        // A delay is a number of milliseconds that fits by far.
        let wait_ms = retry.retry_delay_ms.clamp(0.0, 1e9) as u64;
        self.tell(SessionEvent::Retrying { attempt: retry.attempt.saturating_add(1), why, wait_ms });
    }

    fn said(&mut self, spoken: Spoken) {
        if spoken.is_api_error_message {
            return;
        }
        for block in spoken.message.content.0 {
            match block.kind.0.as_str() {
                // A sub-agent's words are meant for the agent.
                "text" if spoken.parent_tool_use_id.is_none() && !block.text.0.is_empty() => {
                    self.tell(SessionEvent::Text { text: format!("{}\n", block.text.0) });
                }
                "tool_use" => {
                    let Some(turn) = &mut self.turn else { continue };
                    let id = cut(&block.id.0, TITLE_CHARS_MAX);
                    if turn.calls.len() >= CALLS_MAX || !turn.calls.insert(id.clone()) {
                        continue;
                    }
                    let title = cut(format!("{} {}", block.name.0, block.input.title()).trim(), TITLE_CHARS_MAX);
                    self.tell(SessionEvent::ToolStarted { id, title });
                }
                _ => {}
            }
        }
    }

    fn heard(&mut self, spoken: Spoken) {
        if spoken.is_replay {
            if self.turn.as_ref().is_some_and(|turn| turn.uuids.contains(&spoken.uuid.0)) {
                // What came before it has ended, or goes on as a part of this turn.
                self.abandoned.clear();
            }
            let taken = self.turn.as_mut().and_then(|turn| turn.waiting.remove(&spoken.uuid.0));
            if let Some((text, reply)) = taken {
                self.tell(SessionEvent::Message { text });
                let _ = reply.send(true);
            }
            return;
        }
        for block in spoken.message.content.0 {
            let id = cut(&block.tool_use_id.0, TITLE_CHARS_MAX);
            let known = self.turn.as_mut().is_some_and(|turn| turn.calls.remove(&id));
            if block.kind.0 == "tool_result" && known {
                let output = cut_middle(&block.content.text(), TOOL_OUTPUT_BYTES_MAX);
                self.tell(SessionEvent::ToolEnded { id, is_error: block.is_error.unwrap_or(false), output });
            }
        }
    }

    fn ended(&mut self, result: &TurnResult) {
        let total = result.total_cost_usd.filter(|cost| cost.is_finite());
        let usd = total.map(|total| (total - self.cost).max(0.0));
        self.cost = total.unwrap_or(self.cost);
        if !self.is_of_this_turn(result) {
            return;
        }
        if let Some(used) = &result.usage {
            let usage = Usage {
                input_tokens: used.input_tokens,
                output_tokens: used.output_tokens,
                cache_read_tokens: used.cache_read_input_tokens,
                cache_write_tokens: used.cache_creation_input_tokens,
                cache_write_long_tokens: 0,
            };
            self.tell(SessionEvent::Used { usage, usd });
        }
        // A message that came too late for the turn begins the next one by itself, also behind an error; for us it is still the same.
        if self.turn.as_ref().is_some_and(|turn| !turn.cancelled && !turn.waiting.is_empty()) {
            return;
        }
        if let Some(turn) = self.turn.take() {
            // What could not be taken back has a result of its own.
            self.abandoned.extend(turn.waiting.into_keys());
            let end = if turn.cancelled { TurnEnd { stop: TurnStop::Cancelled, detail: None } } else { turn_end(result) };
            let _ = turn.reply.send(Ok(end));
        }
    }

    /// Whether a result is that of the present turn, by the messages that it names.
    fn is_of_this_turn(&mut self, result: &TurnResult) -> bool {
        let named: Vec<&str> = result.user_message_uuids.0.iter().map(|block| block.text.0.as_str()).collect();
        if named.is_empty() {
            // It does not say: what was given up has its result first.
            let ours = self.abandoned.is_empty();
            self.abandoned.clear();
            return ours;
        }
        self.abandoned.retain(|uuid| !named.contains(&uuid.as_str()));
        self.turn.as_ref().is_some_and(|turn| named.iter().any(|uuid| turn.uuids.contains(*uuid)))
    }

    /// The box is the boundary: what it allows is allowed. Only what would wait for a person is not.
    fn asked(&self, asked: &ControlRequest) -> Result<(), String> {
        let id = &asked.request_id;
        let tool = asked.request.tool_name.0.as_str();
        if asked.request.subtype.0 != "can_use_tool" {
            let what = cut(&asked.request.subtype.0, 100);
            return self.send(wire::refuse(id, &format!("this client does not offer {what:?}")));
        }
        let deny = |message: &str| json!({"behavior": "deny", "message": message});
        let answer = if INTERACTIVE.contains(&tool) {
            deny("Nobody sits at this terminal. Decide yourself and go on; what only a person can know, ask by `aedile mail send person`.")
        } else if self.turn.as_ref().is_none_or(|turn| turn.cancelled) {
            deny("The turn was interrupted.")
        } else {
            json!({"behavior": "allow"})
        };
        self.send(wire::answer(id, &answer))
    }

    fn answered(&mut self, answer: ControlResponse) {
        let answer = answer.response;
        if let Some(uuid) = answer.request_id.0.strip_prefix(TAKE_BACK)
            && answer.response.as_ref().is_some_and(|response| response.cancelled == Some(true))
            && let Some(turn) = &mut self.turn
            && let Some((_, reply)) = turn.waiting.remove(uuid)
        {
            turn.uuids.remove(uuid);
            let _ = reply.send(false);
        }
        if answer.request_id.0 == INITIALIZE
            && let Some(reply) = self.initialize.take()
        {
            let _ = reply.send(match answer.subtype.0.as_str() {
                "error" => Err(format!("it refused to begin: {}", cut(&answer.error.0, DETAIL_CHARS_MAX))),
                _ => Ok(answer.response.unwrap_or_default()),
            });
        }
    }
}

fn cut(text: &str, chars: usize) -> String {
    text.chars().take(chars).collect()
}

/// What an HTTP status of the model says, in words; `None` for a status that says nothing by itself.
fn trouble(status: Option<u16>) -> Option<String> {
    let what = match status? {
        429 => "the provider limits its rate",
        529 => "the provider is overloaded",
        401 | 403 => "the provider refuses the credentials or the request",
        402 => "the budget is used up",
        500.. => "the provider or the gateway is out",
        _ => return None,
    };
    Some(format!("{what} ({})", status.unwrap_or_default()))
}

fn turn_end(result: &TurnResult) -> TurnEnd {
    let words = match (result.result.0.as_str(), result.errors.text()) {
        ("", errors) => errors,
        (words, _) => words.to_owned(),
    };
    let words = cut(words.trim(), DETAIL_CHARS_MAX);
    let of_model = result.terminal_reason.0 == "api_error" || result.api_error_status.is_some();
    let stop = match result.subtype.0.as_str() {
        "error_max_turns" => TurnStop::Limit,
        "success" if !result.is_error => match result.stop_reason.0.as_str() {
            "max_tokens" => TurnStop::MaxTokens,
            "refusal" => TurnStop::Refusal,
            _ => return TurnEnd { stop: TurnStop::EndTurn, detail: None },
        },
        _ => TurnStop::Failed,
    };
    let detail = match (stop, trouble(result.api_error_status)) {
        (TurnStop::Failed, Some(what)) => format!("{what}: {words}"),
        (TurnStop::Failed, None) if of_model => format!("the model was not reached: {words}"),
        (_, _) if words.is_empty() => format!("it ended with {:?}", cut(&result.subtype.0, 80)),
        _ => words,
    };
    TurnEnd { stop, detail: Some(detail) }
}
