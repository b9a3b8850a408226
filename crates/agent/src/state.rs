//! What a turn works on: the conversation with its journal, the tools, and what the repository says.

use aedile_core::ids::SessionId;
use aedile_core::limits::{AGENT_STEPS_MAX, SUBAGENT_STEPS_MAX};
use aedile_core::model::ToolSpec;
use aedile_core::tool::Tool;
use serde_json::{Map, Value};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::calls::CallRoom;
use crate::config::{AgentConfig, Current, ModelChoice};
use crate::context::Measured;
use crate::conversation::{Call, Conversation, Record};
use crate::hook_event::HookEvent;
use crate::hooks::Hooks;
use crate::instructions::system_prompt;
use crate::journal::{Journal, SessionError};
use crate::library::Library;
use crate::live::Live;
use crate::permission::Gate;
use crate::settings::Settings;
use crate::skill::Skill;
use crate::subagent::{Parent, Task};

/// What a turn works on.
pub(crate) struct State {
    pub(crate) config: AgentConfig,
    pub(crate) cwd: PathBuf,
    pub(crate) room: Arc<CallRoom>,
    pub(crate) specs: Vec<ToolSpec>,
    pub(crate) library: Library,
    pub(crate) system: String,
    pub(crate) conversation: Conversation,
    pub(crate) measured: Option<Measured>,
    /// What is to be told with the first prompt.
    pub(crate) warnings: Vec<String>,
    /// How this process came to the session, until its hooks know.
    pub(crate) beginning: Option<&'static str>,
    pub(crate) part: Part,
    pub(crate) auto_compact: bool,
    /// The tokens of the conversation after it was last condensed, or could not be.
    pub(crate) condensed_at: Option<u64>,
    pub(crate) journal: Journal,
    /// The session's own model, while another stands in for it.
    own: Option<ModelChoice>,
    /// The session's present model, for its sub-agents.
    current: Current,
}

/// Whether it is the session's own agent.
#[derive(Clone, Debug)]
pub(crate) enum Part {
    /// It is.
    Main,
    /// It is a sub-agent.
    Sub {
        /// The kind, or the name in the repository's file.
        kind: String,
        /// What it is told first.
        role: String,
    },
}

impl Part {
    /// The event at which it has no more to do.
    pub(crate) fn stop_event(&self) -> HookEvent {
        match self {
            Self::Main => HookEvent::Stop,
            Self::Sub { .. } => HookEvent::SubagentStop,
        }
    }

    /// What hooks of a sub-agent can be for.
    pub(crate) fn subjects(&self) -> Vec<&str> {
        match self {
            Self::Main => Vec::new(),
            Self::Sub { kind, .. } => vec![kind],
        }
    }

    /// Steps that one prompt may have.
    pub(crate) fn steps_max(&self) -> u32 {
        match self {
            Self::Main => AGENT_STEPS_MAX,
            Self::Sub { .. } => SUBAGENT_STEPS_MAX,
        }
    }
}

impl State {
    pub(crate) fn new(
        config: &AgentConfig,
        cwd: &Path,
        id: &SessionId,
        settings: Settings,
        journal: Journal,
        mut warnings: Vec<String>,
    ) -> Self {
        let library = Library::find(cwd, &mut warnings);
        let live = Live::default();
        let runner = Arc::clone(&config.commands);
        let common = common_fields(id, &journal, cwd);
        let gate = Gate::new(id, cwd, &config.home, config.asker.clone(), &settings.permissions, &mut warnings);
        let (gate, cwd_owned) = (Arc::new(gate), cwd.to_owned());
        let hooks = Hooks { hooks: settings.hooks, runner, live: live.clone(), cwd: cwd_owned, gate, common };
        let sight = config.sight();
        let mut tools = (config.tools)(cwd, &sight);
        if library.skills.values().any(|skill| !skill.for_people) {
            tools.push(Arc::new(Skill { skills: library.skills.clone(), cwd: cwd.to_owned() }));
        }
        let directory = journal.directory_below();
        let (config, current) = (config.clone(), Current::new(config.choice()));
        let interruptions = Arc::<tokio::sync::watch::Sender<u64>>::default();
        let parent = Parent {
            config: config.clone(),
            current: current.clone(),
            cwd: cwd.to_owned(),
            hooks: hooks.clone(),
            library: library.clone(),
            directory,
            interruptions: Arc::clone(&interruptions),
        };
        tools.push(Arc::new(Task::new(parent)));
        let room = CallRoom { tools, hooks, live, interruptions, sub: None, sight };
        let state = Self::with(&config, cwd, room, library, journal, warnings, Part::Main);
        Self { auto_compact: !settings.never_compact, current, ..state }
    }

    /// The state of a sub-agent, in the room that its parent made for it.
    pub(crate) fn with(
        config: &AgentConfig,
        cwd: &Path,
        room: CallRoom,
        library: Library,
        journal: Journal,
        warnings: Vec<String>,
        part: Part,
    ) -> Self {
        for tool in &room.tools {
            if let Some(withheld) = room.hooks.gate.withheld(&tool.spec().name) {
                tool.withhold(withheld);
            }
        }
        let mut state = Self {
            config: config.clone(),
            cwd: cwd.to_owned(),
            specs: room.tools.iter().map(|tool| tool.spec()).collect(),
            room: Arc::new(room),
            library,
            system: String::new(),
            conversation: Conversation::default(),
            measured: None,
            warnings,
            beginning: Some("startup"),
            part,
            auto_compact: true,
            condensed_at: None,
            journal,
            own: None,
            current: Current::new(config.choice()),
        };
        state.read_instructions();
        state
    }

    /// Builds the system prompt from what the repository's files say now.
    pub(crate) fn read_instructions(&mut self) {
        self.system = system_prompt(&self.cwd, &self.room, &self.library, &self.part, &self.config.notes);
    }

    /// Goes on with another model. What only the old one understands is left out of requests by the wire format.
    pub(crate) fn use_model(&mut self, name: &str) -> Result<(), String> {
        let choice = self.find_model(name)?;
        self.own = None;
        self.take_model(choice);
        Ok(())
    }

    /// Lets another model stand in for the session's own until [`Self::own_model`].
    pub(crate) fn stand_in(&mut self, name: &str) -> Result<(), String> {
        let choice = self.find_model(name)?;
        let present = self.config.choice();
        self.own.get_or_insert(present);
        self.take_model(choice);
        Ok(())
    }

    /// Goes back to the session's own model, where another stands in for it.
    pub(crate) fn own_model(&mut self) {
        if let Some(own) = self.own.take() {
            self.take_model(own);
        }
    }

    fn find_model(&self, name: &str) -> Result<ModelChoice, String> {
        let find = self.config.models.as_ref().ok_or("there is no other model here")?;
        find(name)
    }

    /// The tools follow what the model sees; they stay the same, with what they hold.
    fn take_model(&mut self, choice: ModelChoice) {
        self.current.set(choice.clone());
        self.config = self.config.clone().with_model(choice);
        self.room.sight.set(self.config.can.images, self.config.can.pdf);
        self.specs = self.room.tools.iter().map(|tool| tool.spec()).collect();
        (self.measured, self.condensed_at) = (None, None);
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
    pub(crate) fn close_calls(&mut self) -> Result<(), SessionError> {
        match self.conversation.missing_results() {
            Some(record) => self.record(record),
            None => Ok(()),
        }
    }

    /// The tool that keeps the to-do list.
    pub(crate) fn todo(&self) -> Option<Arc<dyn Tool>> {
        self.room.tools.iter().find(|tool| tool.spec().name == "todo").cloned()
    }

    /// The tools are new; every change of the to-do list is made again, also those before the conversation was condensed.
    pub(crate) async fn restore_todo(&self, changes: Vec<Call>) {
        let Some(todo) = self.todo() else { return };
        for call in changes {
            todo.call(call.input).await;
        }
    }
}

/// What every hook of a session is told.
pub(crate) fn common_fields(id: &SessionId, journal: &Journal, cwd: &Path) -> Map<String, Value> {
    let mut fields = Map::new();
    fields.insert("session_id".to_owned(), id.as_str().into());
    fields.insert("transcript_path".to_owned(), journal.path().display().to_string().into());
    fields.insert("cwd".to_owned(), cwd.display().to_string().into());
    fields
}
