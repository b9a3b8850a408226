//! One conversation.

use aedile_core::clock::uuid_v7;
use aedile_core::ids::SessionId;
use aedile_core::model::ToolSpec;
use aedile_core::runtime::{SessionSink, TurnEnd, TurnStop};
use aedile_core::tool::Tool;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::{Mutex, watch};

use crate::config::AgentConfig;
use crate::context::Measured;
use crate::conversation::{Conversation, Record};
use crate::instructions::system_prompt;
use crate::journal::{Journal, SessionError};
use crate::turn::Turn;

/// A conversation with the agent. It takes one prompt at a time.
pub struct Session {
    id: SessionId,
    state: Mutex<State>,
    cancel: watch::Sender<u64>,
}

/// What a turn works on.
pub(crate) struct State {
    pub(crate) config: AgentConfig,
    pub(crate) cwd: PathBuf,
    pub(crate) tools: Vec<Arc<dyn Tool>>,
    pub(crate) specs: Vec<ToolSpec>,
    pub(crate) system: String,
    pub(crate) conversation: Conversation,
    pub(crate) measured: Option<Measured>,
    journal: Journal,
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
        let id = uuid_v7(&*config.clock, &*config.entropy).hyphenated().to_string();
        let unknown = |_| SessionError::Unknown { id: id.clone(), directory: config.home.clone() };
        let id = SessionId::new(id.clone()).map_err(unknown)?;
        let journal = Journal::create(&config.home, &id)?;
        Ok(Self::with(id, State::new(config, cwd, journal, Conversation::default())))
    }

    /// Goes on with an earlier conversation, up to its last whole step: calls that were not finished count as interrupted.
    ///
    /// # Errors
    /// [`SessionError`] when there is no such session, it is open in another process or its file is damaged.
    pub async fn open(config: &AgentConfig, id: &SessionId, cwd: &Path) -> Result<Self, SessionError> {
        check_cwd(cwd)?;
        let (journal, records) = Journal::open(&config.home, id)?;
        let mut conversation = Conversation::default();
        for record in records {
            conversation.apply(record);
        }
        let mut state = State::new(config, cwd, journal, conversation);
        state.close_calls()?;
        state.restore_todo().await;
        Ok(Self::with(id.clone(), state))
    }

    fn with(id: SessionId, state: State) -> Self {
        Self { id, state: Mutex::new(state), cancel: watch::Sender::new(0) }
    }

    /// Returns the id with which the session can be opened again.
    pub fn id(&self) -> &SessionId {
        &self.id
    }

    /// Gives the agent a message and waits for the end of its turn. Events go to `sink` in order. While a turn runs, another prompt fails.
    /// Dropping the future ends the turn; the conversation stays usable.
    pub async fn prompt(&self, text: &str, sink: &SessionSink) -> TurnEnd {
        // An interruption counts from here on.
        let cancel = self.cancel.subscribe();
        let Ok(mut state) = self.state.try_lock() else {
            return failed("the session is in a turn already; wait for its end or interrupt it");
        };
        let begun = state.close_calls().and_then(|()| state.record(Record::Prompt { text: text.to_owned() }));
        let end = match begun {
            Ok(()) => Turn::new(&mut state, sink, cancel).run().await,
            Err(error) => failed(error.to_string()),
        };
        match state.journal.sync() {
            Ok(()) => end,
            Err(error) => failed(error.to_string()),
        }
    }

    /// Ends the present turn, whose `prompt` then returns `Cancelled`. Does nothing between turns.
    pub fn interrupt(&self) {
        self.cancel.send_modify(|count| *count += 1);
    }
}

fn check_cwd(cwd: &Path) -> Result<(), SessionError> {
    if cwd.is_absolute() && cwd.is_dir() { Ok(()) } else { Err(SessionError::BadCwd { path: cwd.to_owned() }) }
}

impl State {
    fn new(config: &AgentConfig, cwd: &Path, journal: Journal, conversation: Conversation) -> Self {
        let tools = (config.tools)(cwd);
        let specs = tools.iter().map(|tool| tool.spec()).collect();
        let system = system_prompt(cwd, &tools, &config.notes);
        Self { config: config.clone(), cwd: cwd.to_owned(), tools, specs, system, conversation, measured: None, journal }
    }

    /// Writes the record down, then takes it into the conversation.
    pub(crate) fn record(&mut self, record: Record) -> Result<(), SessionError> {
        self.journal.append(&record)?;
        if matches!(record, Record::Condensed { .. }) {
            self.measured = None;
        }
        self.conversation.apply(record);
        Ok(())
    }

    /// Answers calls that were left without a result.
    fn close_calls(&mut self) -> Result<(), SessionError> {
        match self.conversation.missing_results() {
            Some(record) => self.record(record),
            None => Ok(()),
        }
    }

    /// The tool that keeps the to-do list.
    pub(crate) fn todo(&self) -> Option<Arc<dyn Tool>> {
        self.tools.iter().find(|tool| tool.spec().name == "todo").cloned()
    }

    /// The tools are new; the to-do list is as it was last written.
    async fn restore_todo(&self) {
        if let (Some(todo), Some(call)) = (self.todo(), self.conversation.last_call("todo")) {
            todo.call(call.input).await;
        }
    }
}
