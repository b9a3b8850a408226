//! One conversation.

use aedile_core::clock::uuid_v7;
use aedile_core::ids::SessionId;
use aedile_core::limits::HOOK_TIMEOUT_AT_END;
use aedile_core::runtime::{SessionSink, TurnEnd, TurnStop};
use serde_json::{Value, json};
use std::path::Path;
use std::sync::Arc;
use tokio::sync::{Mutex, watch};
use tokio::time::timeout;

use crate::config::AgentConfig;
use crate::conversation::{Record, calls_of};
use crate::hook_event::HookEvent;
use crate::inbox::Inbox;
use crate::journal::{Journal, SessionError};
use crate::output::Schema;
use crate::permission::{Gate, Mode};
use crate::settings::{Settings, read_settings};
use crate::state::State;
use crate::turn::Turn;

/// A conversation with the agent. It takes one prompt at a time.
pub struct Session {
    id: SessionId,
    state: Mutex<State>,
    gate: Arc<Gate>,
    inbox: Inbox,
    cancel: watch::Sender<u64>,
}

/// A turn that broke.
pub(crate) fn failed(detail: impl Into<String>) -> TurnEnd {
    TurnEnd { stop: TurnStop::Failed, detail: Some(detail.into()) }
}

impl Session {
    /// Begins a conversation whose tools work in `cwd`.
    ///
    /// # Errors
    /// [`SessionError`] when `cwd` is no directory or the session's file cannot be created.
    pub fn create(config: &AgentConfig, cwd: &Path) -> Result<Self, SessionError> {
        check_cwd(cwd)?;
        let id = new_id(config)?;
        let mut warnings = Vec::new();
        let settings = read_settings(cwd, config.own_settings.as_ref(), config.asker.is_some(), &mut warnings);
        let journal = Journal::create(&config.home, &id, settings.clone())?;
        Ok(Self::with(id.clone(), State::new(config, cwd, &id, settings, journal, warnings)))
    }

    /// Goes on with an earlier conversation, up to its last whole step: calls that were not finished count as interrupted.
    ///
    /// # Errors
    /// [`SessionError`] when there is no such session, it is open in another process or its file is damaged.
    pub async fn open(config: &AgentConfig, id: &SessionId, cwd: &Path) -> Result<Self, SessionError> {
        check_cwd(cwd)?;
        let (journal, records) = Journal::open(&config.home, id)?;
        let mut state = State::new(config, cwd, id, settings_of(&records), journal, Vec::new());
        state.beginning = Some("resume");
        let mut todo = Vec::new();
        for record in records {
            match &record {
                Record::Assistant { message } => todo.extend(calls_of(message).into_iter().filter(|call| call.name == "todo")),
                Record::Grant { rule } => state.room.hooks.gate.grant(rule),
                Record::Model { model } => {
                    if let Err(problem) = state.use_model(model) {
                        state.warnings.push(format!("the session goes on with {}: {problem}", state.config.model));
                    }
                }
                _ => {}
            }
            state.conversation.apply(record);
        }
        state.close_calls()?;
        state.restore_todo(todo).await;
        Ok(Self::with(id.clone(), state))
    }

    /// Begins a conversation with the history of another one, up to its last whole step. The other is only read and may be open.
    ///
    /// # Errors
    /// [`SessionError`] when there is no such session or it is damaged, or the new one cannot be stored.
    pub async fn fork(config: &AgentConfig, id: &SessionId, cwd: &Path) -> Result<Self, SessionError> {
        check_cwd(cwd)?;
        let records = Journal::read(&config.home, id)?;
        let new = new_id(config)?;
        let mut journal = Journal::create(&config.home, &new, settings_of(&records))?;
        for record in records.iter().skip(1) {
            journal.append(record)?;
        }
        journal.sync()?;
        drop(journal);
        Self::open(config, &new, cwd).await
    }

    /// Changes the model from the next prompt on.
    ///
    /// # Errors
    /// Why it stays as it is, as a sentence.
    pub async fn set_model(&self, model: &str) -> Result<(), String> {
        let Ok(mut state) = self.state.try_lock() else {
            return Err("the session is in a turn; change the model when it has ended".to_owned());
        };
        state.use_model(model)?;
        state.record(Record::Model { model: model.to_owned() }).map_err(|error| error.to_string())
    }

    fn with(id: SessionId, state: State) -> Self {
        let gate = Arc::clone(&state.room.hooks.gate);
        Self { id, gate, inbox: Inbox::default(), state: Mutex::new(state), cancel: watch::Sender::new(0) }
    }

    /// Returns the id with which the session can be opened again.
    pub fn id(&self) -> &SessionId {
        &self.id
    }

    /// Gives the agent a message and waits for the end of its turn. Events go to `sink` in order. While a turn runs, another prompt fails.
    /// Dropping the future ends the turn; the conversation stays usable.
    pub async fn prompt(&self, text: &str, sink: &SessionSink) -> TurnEnd {
        self.turn(text, None, sink).await
    }

    /// Like `prompt`; the turn's answer is one JSON value that follows the schema, told as `Output`.
    pub async fn prompt_for_output(&self, text: &str, schema: &Value, sink: &SessionSink) -> TurnEnd {
        match Schema::new(schema) {
            Ok(schema) => self.turn(text, Some(schema), sink).await,
            Err(problem) => failed(problem),
        }
    }

    async fn turn(&self, text: &str, schema: Option<Schema>, sink: &SessionSink) -> TurnEnd {
        // An interruption counts from here on.
        let cancel = self.cancel.subscribe();
        let Ok(mut state) = self.state.try_lock() else {
            return failed("the session is in a turn already; wait for its end or interrupt it");
        };
        state.room.live.listen(sink);
        let _open = self.inbox.open();
        let end = match state.close_calls() {
            Ok(()) => {
                let mut turn = Turn::new(&mut state, sink, cancel);
                turn.schema = schema;
                turn.inbox = Some(&self.inbox);
                turn.run(text).await
            }
            Err(error) => failed(error.to_string()),
        };
        match state.journal.sync() {
            Ok(()) => end,
            Err(error) => failed(error.to_string()),
        }
    }

    /// Gives the agent a message within its present turn and waits until it has taken it in: after the calls of the present step, or instead
    /// of the turn's end. Returns `false` when it has not: there is no turn, it ended before, or a hook refused the message.
    pub async fn message(&self, text: &str) -> bool {
        self.inbox.send(text).await
    }

    /// How much it asks.
    pub fn mode(&self) -> &'static str {
        self.gate.mode().id()
    }

    /// Changes how much it asks, from the next call on. Returns whether there is such a mode.
    pub fn set_mode(&self, id: &str) -> bool {
        let mode = Mode::from_id(id);
        if let Some(mode) = mode {
            self.gate.set_mode(mode);
        }
        mode.is_some()
    }

    /// Tells the hooks that the program ends. Waits a few seconds at most; does nothing while a turn runs.
    pub(crate) async fn close(&self) {
        let Ok(state) = self.state.try_lock() else { return };
        let hooks = &state.room.hooks;
        let why = json!({"reason": "other"});
        let fire = hooks.fire(HookEvent::SessionEnd, &["other"], &why);
        if timeout(HOOK_TIMEOUT_AT_END, fire).await.is_err() {
            hooks.live.warn("the hooks of SessionEnd did not end in time and were ended");
        }
    }

    /// Ends the present turn, whose `prompt` then returns `Cancelled`. Does nothing between turns.
    pub fn interrupt(&self) {
        self.cancel.send_modify(|count| *count += 1);
    }
}

fn new_id(config: &AgentConfig) -> Result<SessionId, SessionError> {
    let id = uuid_v7(&*config.clock, &*config.entropy).hyphenated().to_string();
    SessionId::new(id.clone()).map_err(|_| SessionError::Unknown { id, directory: config.home.clone() })
}

/// The settings that a session began with.
fn settings_of(records: &[Record]) -> Settings {
    match records.first() {
        Some(Record::Session { settings, .. }) => settings.clone(),
        _ => Settings::default(),
    }
}

fn check_cwd(cwd: &Path) -> Result<(), SessionError> {
    if cwd.is_absolute() && cwd.is_dir() { Ok(()) } else { Err(SessionError::BadCwd { path: cwd.to_owned() }) }
}
