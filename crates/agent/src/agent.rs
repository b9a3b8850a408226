//! All sessions of one agent, as a protocol server drives them.

use aedile_core::ids::SessionId;
use aedile_core::runtime::{LocalAgent, PermissionAsker, RuntimeError, SessionMode, SessionModes, SessionSink, TurnEnd};
use async_trait::async_trait;
use futures_util::future::join_all;
use serde_json::Value;
use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::config::AgentConfig;
use crate::journal::SessionError;
use crate::permission::{MODES, Mode};
use crate::session::{Session, failed};

/// Sessions that may be open at once.
const SESSIONS_MAX: usize = 64;

/// Our coding agent.
pub struct Agent {
    config: AgentConfig,
    asker: Mutex<Option<Arc<dyn PermissionAsker>>>,
    sessions: Mutex<HashMap<SessionId, Arc<Session>>>,
}

impl Agent {
    /// Makes an agent without sessions.
    pub fn new(config: AgentConfig) -> Self {
        Self { config, asker: Mutex::default(), sessions: Mutex::default() }
    }

    fn config(&self) -> AgentConfig {
        let asker = self.asker.lock().unwrap_or_else(PoisonError::into_inner).clone();
        AgentConfig { asker: asker.or(self.config.asker.clone()), ..self.config.clone() }
    }

    fn sessions(&self) -> MutexGuard<'_, HashMap<SessionId, Arc<Session>>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn session(&self, id: &SessionId) -> Option<Arc<Session>> {
        self.sessions().get(id).cloned()
    }

    fn keep(&self, session: Session) -> Result<SessionId, RuntimeError> {
        let id = session.id().clone();
        let mut sessions = self.sessions();
        if sessions.len() >= SESSIONS_MAX {
            return Err(broken(format!("{SESSIONS_MAX} sessions are open already; start another process")));
        }
        sessions.entry(id.clone()).or_insert_with(|| Arc::new(session));
        Ok(id)
    }
}

fn broken(message: impl Into<String>) -> RuntimeError {
    RuntimeError { runtime: "aedile".to_owned(), message: message.into() }
}

impl From<SessionError> for RuntimeError {
    fn from(error: SessionError) -> Self {
        broken(error.to_string())
    }
}

#[async_trait]
impl LocalAgent for Agent {
    async fn new_session(&self, cwd: &str) -> Result<SessionId, RuntimeError> {
        self.keep(Session::create(&self.config(), Path::new(cwd))?)
    }

    async fn load_session(&self, id: &SessionId, cwd: &str) -> Result<(), RuntimeError> {
        if self.session(id).is_some() {
            return Ok(());
        }
        self.keep(Session::open(&self.config(), id, Path::new(cwd)).await?).map(drop)
    }

    async fn prompt(&self, session: &SessionId, text: &str, sink: SessionSink) -> TurnEnd {
        match self.session(session) {
            Some(session) => session.prompt(text, &sink).await,
            None => failed(format!("the session {session} is not open")),
        }
    }

    async fn prompt_for_output(&self, session: &SessionId, text: &str, schema: &Value, sink: SessionSink) -> TurnEnd {
        match self.session(session) {
            Some(session) => session.prompt_for_output(text, schema, &sink).await,
            None => failed(format!("the session {session} is not open")),
        }
    }

    async fn fork_session(&self, id: &SessionId, cwd: &str) -> Result<SessionId, RuntimeError> {
        self.keep(Session::fork(&self.config(), id, Path::new(cwd)).await?)
    }

    async fn set_model(&self, session: &SessionId, model: &str) -> Result<(), RuntimeError> {
        let session = self.session(session).ok_or_else(|| broken(format!("the session {session} is not open")))?;
        session.set_model(model).await.map_err(broken)
    }

    async fn message(&self, session: &SessionId, text: &str) -> bool {
        match self.session(session) {
            Some(session) => session.message(text).await,
            None => false,
        }
    }

    async fn cancel(&self, session: &SessionId) {
        if let Some(session) = self.session(session) {
            session.interrupt();
        }
    }

    fn attended(&self, asker: Arc<dyn PermissionAsker>) {
        *self.asker.lock().unwrap_or_else(PoisonError::into_inner) = Some(asker);
    }

    fn modes(&self, session: &SessionId) -> Option<SessionModes> {
        let current = self.session(session)?.mode().to_owned();
        let mode = |(_, id, name, description): &(Mode, &str, &str, &str)| SessionMode {
            id: (*id).to_owned(),
            name: (*name).to_owned(),
            description: (*description).to_owned(),
        };
        Some(SessionModes { current, available: MODES.iter().map(mode).collect() })
    }

    fn set_mode(&self, session: &SessionId, mode: &str) -> Result<(), RuntimeError> {
        let open = self.session(session).ok_or_else(|| broken(format!("the session {session} is not open")))?;
        if open.set_mode(mode) { Ok(()) } else { Err(broken(format!("there is no mode {mode:?}"))) }
    }

    async fn close(&self) {
        let sessions: Vec<Arc<Session>> = self.sessions().values().cloned().collect();
        join_all(sessions.iter().map(|session| session.close())).await;
    }
}
