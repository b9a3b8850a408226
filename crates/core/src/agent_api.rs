//! What an agent may ask of the program that orchestrates it, through its door.
//!
//! The door serves it as `POST /aedile/v1/call` with an [`AgentRequest`] as JSON; the answer is an [`AgentReply`].

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::ids::{AgentName, CommitId, IncarnationId, MailId, RunId, TaskId, TaskKey};
use crate::policy::Named;

/// Who speaks through a door. The listener is the identity; nothing in a request can change it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct DoorIdentity {
    /// The run.
    pub run: RunId,
    /// The task.
    pub task: TaskId,
    /// The task's key in the tasks file; also the name of its branch in the workspace.
    pub key: TaskKey,
    /// What the agent is: the role of its task.
    pub role: String,
    /// The agent.
    pub agent: AgentName,
    /// Its present life.
    pub incarnation: IncarnationId,
}

/// What is asked.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "method", rename_all = "snake_case", deny_unknown_fields)]
pub enum AgentRequest {
    /// The task: title, prompt, scope, state.
    TaskInfo {},
    /// Work is submitted: `refs/heads/aedile/<key>` of the workspace is at this commit.
    Submit {
        /// The commit.
        commit: CommitId,
        /// What was done, in a few lines.
        summary: String,
        /// Changed paths outside the scope that were left out.
        left_out: Vec<String>,
    },
    /// A plan is handed in, by an agent whose task is to make one.
    PlanSubmit {
        /// The plan; anything that is no [`Plan`](crate::plan::Plan) is refused in words.
        plan: serde_json::Value,
    },
    /// Sends mail to an agent of the same run, or to `person`.
    MailSend {
        /// Agent name or `person`.
        to: String,
        /// One line.
        subject: String,
        /// The text.
        body: String,
    },
    /// Takes unread mail. What is taken is acknowledged by the next call with `ack`.
    MailRead {
        /// Mail taken before, now acknowledged.
        #[serde(default)]
        ack: Vec<MailId>,
    },
    /// Reads from the web, from a host that the project lists. Answered by the gateway itself.
    WebFetch {
        /// The URL.
        url: String,
    },
}

impl AgentRequest {
    /// What policy calls it; `None` for what every agent may ask.
    pub fn tool(&self) -> Option<&'static str> {
        match self {
            Self::TaskInfo {} => None,
            Self::Submit { .. } => Some("submit"),
            Self::PlanSubmit { .. } => Some("plan"),
            Self::MailSend { .. } | Self::MailRead { .. } => Some("mail"),
            Self::WebFetch { .. } => Some("fetch"),
        }
    }
}

/// One piece of mail as an agent or a person sees it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct MailText {
    /// Its id.
    pub id: MailId,
    /// Agent name or `person`.
    pub from: String,
    /// One line.
    pub subject: String,
    /// The text.
    pub body: String,
}

/// The answer.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "snake_case")]
pub enum AgentReply {
    /// The task.
    Task {
        /// Its key.
        key: TaskKey,
        /// Title.
        title: String,
        /// Prompt.
        prompt: String,
        /// Scope globs.
        scope: Vec<String>,
        /// The agent's own name.
        agent: AgentName,
        /// The other agents of the run, to whom mail can be sent.
        agents: Vec<String>,
        /// Whether the agent plans: it changes nothing and hands a plan in.
        plans: bool,
        /// What policy says of tools; one must pass each.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        tools: Vec<Named>,
    },
    /// It was done; a sentence for the agent.
    Done {
        /// The sentence.
        message: String,
    },
    /// Mail.
    Mail {
        /// Unread mail, oldest first.
        mail: Vec<MailText>,
    },
    /// What was read from the web.
    Fetched {
        /// HTTP status.
        status: u16,
        /// Media type with its parameters, as the host says; empty for a redirection.
        content_type: String,
        /// Where the host sends its readers; redirections are not followed.
        redirected_to: Option<String>,
        /// Whether there was more than is read.
        cut: bool,
        /// The text as it came, secrets taken out. Data from outside: nobody's instruction.
        text: String,
    },
    /// It was refused and will be, however often it is asked: the turn is over. Words for the agent.
    Over {
        /// The words.
        message: String,
    },
    /// It was refused; a sentence for the agent that says why and what to do.
    Refused {
        /// The sentence.
        message: String,
    },
}

/// Answers agents. Implemented by the orchestrator; a door holds one.
#[async_trait]
pub trait AgentApi: Send + Sync {
    /// Answers one request.
    async fn call(&self, who: &DoorIdentity, request: AgentRequest) -> AgentReply;
}
