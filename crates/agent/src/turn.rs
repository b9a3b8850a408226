//! One turn: the model is asked, its calls are run, until it has no more to do or a limit is met.

use aedile_core::limits::{AGENT_ANSWER_RETRIES_MAX, AGENT_LOOP_REPEATS_MAX, FALLBACKS_MAX, HOOK_STOP_BLOCKS_MAX};
use aedile_core::model::{Block, Message, ModelDelta, ModelError, ModelRequest, ModelResponse, ModelStop};
use aedile_core::runtime::{SessionEvent, SessionSink, TurnEnd, TurnStop};
use serde_json::{Map, Value, json};
use std::sync::Arc;
use tokio::sync::watch;

use crate::calls::{note, run_calls};
use crate::compaction::{Digest, Room, call_list, condensed, split, summary, without_old_results};
use crate::context::{Measured, request_tokens, shown_to, tokens};
use crate::conversation::{Record, calls_of, text_of};
use crate::hook_event::HookEvent;
use crate::hooks::Outcome;
use crate::inbox::Inbox;
use crate::journal::SessionError;
use crate::output::Schema;
use crate::repeats::{LOOP_WARNING, Repeats, Verdict};
use crate::session::failed;
use crate::state::State;

/// A conversation that was condensed, or could not be, is tried again when it has grown by the limit divided by this.
const GROWN_BEFORE_NEXT_TRY: u64 = 20;
/// The reason for condensing that is not the person's wish.
const AUTO: &str = "auto";
const GO_ON: &str = "Your answer reached the output limit. Go on exactly where it ended, in smaller pieces.";

/// A turn at work. Its steps return `Err` when the turn must end at once.
pub(crate) struct Turn<'a> {
    pub(crate) state: &'a mut State,
    sink: &'a SessionSink,
    pub(crate) cancel: watch::Receiver<u64>,
    /// How often a `Stop` hook sent the agent back to work.
    stop_blocks: u32,
    /// What the answer must be like.
    pub(crate) schema: Option<Schema>,
    /// What the person says meanwhile; a sub-agent hears nothing.
    pub(crate) inbox: Option<&'a Inbox>,
    /// Answers that did not fit it.
    misfits: u32,
    /// What the model said in the last step; nothing when it said nothing.
    pub(crate) said: String,
}

pub(crate) fn end(stop: TurnStop) -> TurnEnd {
    TurnEnd { stop, detail: None }
}

fn not_stored(error: &SessionError) -> TurnEnd {
    failed(error.to_string())
}

impl<'a> Turn<'a> {
    pub(crate) fn new(state: &'a mut State, sink: &'a SessionSink, cancel: watch::Receiver<u64>) -> Self {
        Self { state, sink, cancel, stop_blocks: 0, schema: None, inbox: None, misfits: 0, said: String::new() }
    }

    /// Runs the turn.
    pub(crate) async fn run(&mut self, prompt: &str) -> TurnEnd {
        self.state.own_model();
        match Box::pin(self.begin(prompt)).await {
            Ok(()) => self.steps().await,
            Err(end) => end,
        }
    }

    async fn steps(&mut self) -> TurnEnd {
        let mut repeats = Repeats::default();
        let mut continued = 0;
        let steps = self.state.part.steps_max().min(self.state.config.max_steps);
        for _ in 0..steps {
            match Box::pin(self.step(&mut repeats, &mut continued)).await {
                Ok(()) => {}
                Err(end) => return end,
            }
        }
        TurnEnd { stop: TurnStop::Limit, detail: Some(format!("the turn had {steps} steps, the most that one prompt may have")) }
    }

    async fn step(&mut self, repeats: &mut Repeats, continued: &mut u32) -> Result<(), TurnEnd> {
        self.tell_news()?;
        self.take_messages().await?;
        let response = self.ask().await?;
        let message = without_empty_texts(response.message);
        let calls = calls_of(&message);
        self.said = text_of(&message);
        let said_nothing = message.content.is_empty();
        if !said_nothing {
            self.record(Record::Assistant { message })?;
        }
        if let Some(usage) = response.usage {
            self.state.measured = Some(Measured { messages: self.state.conversation.messages.len(), tokens: usage.total() });
        }
        if calls.is_empty() {
            return match response.stop {
                ModelStop::MaxTokens if *continued < AGENT_ANSWER_RETRIES_MAX && !said_nothing => {
                    *continued += 1;
                    self.record(Record::User { blocks: vec![Block::text(GO_ON)] })
                }
                ModelStop::MaxTokens => Err(end(TurnStop::MaxTokens)),
                ModelStop::Refusal => Err(end(TurnStop::Refusal)),
                // What was said meanwhile is answered before the turn ends.
                _ if self.take_messages().await? => Ok(()),
                ModelStop::EndTurn | ModelStop::ToolUse | ModelStop::Other(_) => self.may_stop(true).await,
            };
        }
        let cut = response.stop == ModelStop::MaxTokens;
        let room = Arc::clone(&self.state.room);
        let done = run_calls(&room, &calls, cut, &mut self.cancel).await;
        for rule in room.hooks.gate.take_granted() {
            self.record(Record::Grant { rule })?;
        }
        let verdict = repeats.step(&calls, &done.results);
        let mut blocks = done.results;
        blocks.extend(done.notes);
        if verdict == Verdict::Warn {
            blocks.push(Block::text(LOOP_WARNING));
        }
        self.record(Record::User { blocks })?;
        if done.cancelled {
            return Err(end(TurnStop::Cancelled));
        }
        if let Some(reason) = done.stopped {
            return Err(stopped_by_hook(&reason));
        }
        if done.ends_turn {
            return self.may_stop(false).await;
        }
        if verdict == Verdict::Stop {
            let detail = format!(
                "the agent made the call `{}` with the same result more than {AGENT_LOOP_REPEATS_MAX} times in a row",
                calls[0].title()
            );
            return Err(TurnEnd { stop: TurnStop::Limit, detail: Some(detail) });
        }
        Ok(())
    }

    /// Tells the model what tools have to say unasked.
    fn tell_news(&mut self) -> Result<(), TurnEnd> {
        let news: Vec<Block> = self.state.room.tools.iter().filter_map(|tool| tool.notice()).map(Block::text).collect();
        if news.is_empty() { Ok(()) } else { self.record(Record::User { blocks: news }) }
    }

    /// Asks the hooks whether the turn may end. `Ok` means that the agent goes on, which a hook can want only while that is `possible`.
    async fn may_stop(&mut self, possible: bool) -> Result<(), TurnEnd> {
        let said = self.said.clone();
        let mut output = None;
        if let Some(schema) = &self.schema {
            match schema.read(&said) {
                Ok(value) => output = Some(value),
                Err(problem) => return self.misfit(&problem, possible),
            }
        }
        let fields = json!({"stop_hook_active": self.stop_blocks > 0, "last_assistant_message": said});
        let part = self.state.part.clone();
        let event = part.stop_event();
        let outcome = self.fire(event, &part.subjects(), &fields).await?;
        if let Some(reason) = outcome.stop {
            return Err(stopped_by_hook(&reason));
        }
        match outcome.block {
            Some(reason) if possible && self.stop_blocks < HOOK_STOP_BLOCKS_MAX => {
                self.stop_blocks += 1;
                self.record(Record::User { blocks: vec![Block::text(note(event.name(), &reason))] })
            }
            Some(reason) => {
                let why = if possible {
                    format!("it was followed {HOOK_STOP_BLOCKS_MAX} times already")
                } else {
                    "the work is handed in".to_owned()
                };
                self.state.room.live.warn(format!("a hook of {} wants the agent to go on, but {why}: {reason}", event.name()));
                Err(end(TurnStop::EndTurn))
            }
            None => {
                if let Some(value) = output {
                    self.state.room.live.tell(SessionEvent::Output { value });
                }
                Err(end(TurnStop::EndTurn))
            }
        }
    }

    /// An answer does not fit the schema: the model is told, a few times.
    fn misfit(&mut self, problem: &str, possible: bool) -> Result<(), TurnEnd> {
        self.misfits += 1;
        if !possible || self.misfits > AGENT_ANSWER_RETRIES_MAX {
            return Err(failed(format!("the agent's answer does not follow the schema after {} tries: {problem}", self.misfits)));
        }
        let text = format!(
            "Your last answer does not follow the schema: {problem}. Give the whole answer again, as one JSON value and nothing else."
        );
        self.record(Record::User { blocks: vec![Block::text(text)] })
    }

    /// Runs hooks; an interruption ends them and the turn.
    pub(crate) async fn fire(&mut self, event: HookEvent, subjects: &[&str], fields: &Value) -> Result<Outcome, TurnEnd> {
        let room = Arc::clone(&self.state.room);
        tokio::select! {
            outcome = room.hooks.fire(event, subjects, fields) => Ok(outcome),
            _ = self.cancel.changed() => Err(end(TurnStop::Cancelled)),
        }
    }

    pub(crate) fn record(&mut self, record: Record) -> Result<(), TurnEnd> {
        self.state.record(record).map_err(|error| not_stored(&error))
    }

    /// Asks the model. An answer that was cut is asked for again; a request that the provider finds too long is condensed once.
    async fn ask(&mut self) -> Result<ModelResponse, TurnEnd> {
        let (mut cuts, mut condensed, mut switches) = (0, false, 0);
        self.make_room_if_full().await?;
        loop {
            match self.ask_once().await? {
                Ok(response) => return Ok(response),
                Err(ModelError::Cut(_)) if cuts < AGENT_ANSWER_RETRIES_MAX => {
                    cuts += 1;
                    (self.sink)(SessionEvent::Text { text: "\n[the answer was cut; asking again]\n".to_owned() });
                }
                Err(ModelError::Down { message, next }) if switches < FALLBACKS_MAX => {
                    switches += 1;
                    self.stand_in(&next, &message).await?;
                }
                Err(ModelError::Refused { message, .. }) if !condensed && is_too_long(&message) => {
                    condensed = true;
                    self.make_room(AUTO).await?;
                }
                Err(error) => return Err(failed(error.to_string())),
            }
        }
    }

    fn take_over(&mut self, next: &str, why: &str) -> Result<(), TurnEnd> {
        self.state.stand_in(next).map_err(|problem| failed(format!("{why}; {next} cannot take over: {problem}")))?;
        self.state.room.live.warn(format!("{next} takes over until the next prompt: {why}"));
        Ok(())
    }

    /// Another model takes over, since the provider of the present one is down. The conversation is condensed if it does not fit.
    async fn stand_in(&mut self, next: &str, why: &str) -> Result<(), TurnEnd> {
        self.take_over(next, why)?;
        self.make_room_if_full().await
    }

    /// Condenses a conversation that fills the window. After a try there is no other before a good deal has come to it: each may cost a request,
    /// and where what is sent besides it fills the window, none of them helps.
    async fn make_room_if_full(&mut self) -> Result<(), TurnEnd> {
        let limit = self.room().limit();
        let size = tokens(&self.state.conversation.messages);
        let grown = |tried_at: u64| size >= tried_at.saturating_add(limit / GROWN_BEFORE_NEXT_TRY);
        if self.request_tokens() > limit && self.state.condensed_at.is_none_or(grown) {
            self.make_room(AUTO).await?;
            self.state.condensed_at = Some(tokens(&self.state.conversation.messages));
        }
        Ok(())
    }

    async fn ask_once(&mut self) -> Result<Result<ModelResponse, ModelError>, TurnEnd> {
        let request = self.request();
        let mut pieces = |delta: ModelDelta| match delta {
            ModelDelta::Text(text) => (self.sink)(SessionEvent::Text { text }),
            ModelDelta::Retrying { attempt, after, reason } => {
                let wait_ms = u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
                (self.sink)(SessionEvent::Retrying { attempt, why: reason, wait_ms });
            }
            ModelDelta::Thinking(_) | ModelDelta::ToolStarted { .. } => {}
        };
        tokio::select! {
            answer = self.state.config.provider.stream(&request, &mut pieces) => Ok(answer),
            _ = self.cancel.changed() => Err(end(TurnStop::Cancelled)),
        }
    }

    fn request(&self) -> ModelRequest {
        ModelRequest {
            model: self.state.config.model.clone(),
            system: self.state.system.clone(),
            messages: shown_to(&self.state.config.can, &self.state.conversation.messages),
            tools: self.state.specs.clone(),
            max_output_tokens: self.state.config.output_tokens(),
            output_schema: self.schema.as_ref().filter(|_| self.state.config.can.structured).and_then(Schema::native),
            extra: Map::new(),
        }
    }

    pub(crate) fn room(&self) -> Room {
        Room { window: self.state.config.context_tokens, output: self.state.config.output_tokens() }
    }

    fn request_tokens(&self) -> u64 {
        request_tokens(self.state.measured, &self.state.system, &self.state.specs, &self.state.conversation.messages)
    }

    /// Condenses the conversation. Instruction files are read again, so that what they say now holds on.
    /// `trigger` says whether it is full or the person wants it. Returns whether there was something to condense.
    pub(crate) async fn make_room(&mut self, trigger: &str) -> Result<bool, TurnEnd> {
        if trigger == AUTO && !self.state.auto_compact {
            let detail = "the conversation fills the model's window, and condensing it is switched off (autoCompactEnabled in settings.json); \
                          begin a new session with what is still to be done";
            return Err(TurnEnd { stop: TurnStop::Limit, detail: Some(detail.to_owned()) });
        }
        self.fire(HookEvent::PreCompact, &[trigger], &json!({"trigger": trigger, "custom_instructions": ""})).await?;
        if !self.condense(trigger == AUTO).await? {
            return Ok(false);
        }
        self.fire(HookEvent::PostCompact, &[trigger], &json!({"trigger": trigger})).await?;
        self.begin_session("compact").await.map(|()| true)
    }

    /// Returns whether the conversation is now shorter. Leaving out old output may be enough, where that is wanted.
    async fn condense(&mut self, output_first: bool) -> Result<bool, TurnEnd> {
        let room = self.room();
        self.state.read_instructions();
        let conversation = &self.state.conversation;
        let fixed = request_tokens(None, &self.state.system, &self.state.specs, &[]);
        if output_first && let Some(messages) = without_old_results(conversation, fixed, room) {
            return self.record(Record::Condensed { messages }).map(|()| true);
        }
        let Some(from) = split(conversation, room) else { return Ok(false) };
        let summary = self.summarise(from, room).await?;
        let todo = match self.state.todo() {
            Some(todo) => Some(todo.call(json!({})).await.text),
            None => None,
        };
        let digest = Digest { summary: &summary, todo: todo.as_deref(), transcript: self.state.journal.path() };
        let conversation = &self.state.conversation;
        let messages = condensed(conversation, from, &digest, room);
        if tokens(&messages) >= tokens(&conversation.messages) {
            return Ok(false);
        }
        self.record(Record::Condensed { messages }).map(|()| true)
    }

    /// Asks for a summary of the messages before `from`; a list of calls takes the place of one that does not come.
    async fn summarise(&mut self, from: usize, room: Room) -> Result<String, TurnEnd> {
        for _ in 0..FALLBACKS_MAX {
            let (config, old) = (&self.state.config, &self.state.conversation.messages[..from]);
            let asked = tokio::select! {
                asked = summary(&*config.provider, &config.model, old, room) => asked,
                _ = self.cancel.changed() => return Err(end(TurnStop::Cancelled)),
            };
            match asked {
                Ok(Some(summary)) => return Ok(summary),
                Err(ModelError::Down { message, next }) => self.take_over(&next, &message)?,
                Ok(None) | Err(_) => break,
            }
        }
        Ok(call_list(&self.state.conversation.messages[..from]))
    }
}

/// The end that a hook asked for.
pub(crate) fn stopped_by_hook(reason: &str) -> TurnEnd {
    TurnEnd { stop: TurnStop::EndTurn, detail: Some(format!("a hook of the repository stopped the agent: {reason}")) }
}

/// Providers refuse empty texts in what they are sent back.
fn without_empty_texts(mut message: Message) -> Message {
    message.content.retain(|block| !matches!(block, Block::Text { text, .. } if text.trim().is_empty()));
    message
}

/// Whether a provider's refusal means that the request does not fit the window. There is no common code for it, only words.
fn is_too_long(message: &str) -> bool {
    let message = message.to_lowercase();
    ["too long", "context_length", "context length", "maximum context", "context window", "too many tokens"]
        .iter()
        .any(|words| message.contains(words))
}
