//! What an agent asks through its door, answered by its unit, one request after the other.

use std::sync::Arc;

use aedile_core::agent_api::{AgentReply, AgentRequest, MailText};
use aedile_core::bounded::few;
use aedile_core::event::Event;
use aedile_core::store::{Appended, StoreError, list};
use aedile_core::view::{MailView, TaskView};
use aedile_core::{ChangeId, CommitId, MailId, crash};

use crate::api::{done, refused};
use crate::mail::{self, MailError};
use crate::steps::{self, Submission};
use crate::unit::{Unit, blocking};

/// The largest summary of a submission, in bytes.
const SUMMARY_BYTES_MAX: usize = 16 * 1024;

impl Unit {
    /// Answers one request. Only a failing store is an error; everything else is an answer.
    pub(crate) async fn answer(&mut self, request: AgentRequest) -> Result<AgentReply, StoreError> {
        match request {
            AgentRequest::TaskInfo {} => self.task_info().await,
            AgentRequest::Submit { commit, summary, left_out } => self.submit(commit, summary, left_out).await,
            AgentRequest::PlanSubmit { plan } => self.plan_submit(plan).await,
            AgentRequest::MailSend { to, subject, body } => self.mail_send(to, subject, body).await,
            AgentRequest::MailRead { ack } => self.mail_read(ack).await,
            AgentRequest::WebFetch { .. } => {
                Ok(AgentReply::Refused { message: "the web is read through the gateway only, which answers this call itself".to_owned() })
            }
        }
    }

    async fn task_info(&self) -> Result<AgentReply, StoreError> {
        let (store, run, me) = (Arc::clone(&self.parts.store), self.task.run, self.who.agent.to_string());
        let agents = blocking(move || Ok(mail::reachable_names(&list::<TaskView>(store.as_ref(), Some(run))?, &me))).await?;
        let spec = self.task.spec.clone();
        Ok(AgentReply::Task {
            key: spec.key,
            title: spec.title,
            prompt: spec.prompt,
            scope: spec.scope,
            agent: self.who.agent.clone(),
            agents: agents.into_iter().filter(|name| name != mail::PERSON).collect(),
            plans: self.task.spec.is_plan(),
            tools: self.policy.tools(),
        })
    }

    /// The change enters the queue at once, not at the end of the turn: what the agent was told must survive a crash in between, and a
    /// resumed session believes that it has submitted. It is safe while the turn goes on, since the landing imports that one commit
    /// and never looks at the files; a second submission of the same life is refused, so there is exactly one change to a life.
    async fn submit(&mut self, commit: CommitId, summary: String, left_out: Vec<String>) -> Result<AgentReply, StoreError> {
        match &self.submitted {
            Some(first) if *first == commit => return Ok(done(SUBMITTED)),
            Some(first) => {
                return Ok(refused(format!(
                    "you have submitted {first} already and it is in the queue: end your turn now. If it comes back, you go on from there."
                )));
            }
            None => {}
        }
        if self.task.spec.is_plan() {
            return Ok(refused("your task is to make a plan and to change nothing: hand it in with `submit_plan` or `aedile plan submit`"));
        }
        if summary.len() > SUMMARY_BYTES_MAX {
            return Ok(refused(format!(
                "the summary has {} bytes; at most {SUMMARY_BYTES_MAX} are allowed: shorten it and submit again",
                summary.len()
            )));
        }
        let (Some(workspace), Some(base)) = (self.task.workspace.clone(), self.task.base.clone()) else {
            return Ok(refused("the workspace is not complete; end your turn"));
        };
        if self.began().as_ref() == Some(&commit) {
            return Ok(refused("there is nothing to submit: your branch is where it began. Change something within your scope first."));
        }
        let change = ChangeId::new(self.parts.clock.as_ref(), self.parts.entropy.as_ref());
        let left_out = few(left_out);
        let what = Submission { commit: commit.clone(), summary, left_out, workspace, base };
        let append = steps::submit(&self.task, change, &self.who.agent, self.who.incarnation, what, &self.fence);
        // Whoever submits in a turn has taken in what the turn began with.
        let append = self.delivered.iter().fold(append, |append, mail| append.and(Event::MailAcked { mail: *mail }));
        match self.append(append).await {
            Ok(Appended::At(_) | Appended::Already(_)) => {
                self.delivered.clear();
                self.submitted = Some(commit);
                crash::point("submit");
                Ok(done(SUBMITTED))
            }
            Err(StoreError::Illegal(illegal)) => Ok(refused(format!("the task takes no submission now: {illegal}. End your turn."))),
            Err(error @ StoreError::TooLarge { .. }) => Ok(refused(format!("{error}: shorten the summary and submit again"))),
            Err(error) => Err(error),
        }
    }

    async fn mail_send(&self, to: String, subject: String, body: String) -> Result<AgentReply, StoreError> {
        let id = MailId::new(self.parts.clock.as_ref(), self.parts.entropy.as_ref());
        let (store, run, me, fence) = (Arc::clone(&self.parts.store), self.task.run, self.who.agent.to_string(), self.fence.clone());
        let sent = tokio::task::spawn_blocking(move || {
            let append = mail::compose(store.as_ref(), run, id, (&me, &to), (&subject, &body))?;
            store.append(append.fenced(&fence))?;
            Ok::<String, MailError>(to)
        });
        match sent.await {
            Ok(Ok(to)) => Ok(done(format!("sent to {to}"))),
            Ok(Err(MailError::Store(error @ (StoreError::Illegal(_) | StoreError::TooLarge { .. })))) => Ok(refused(error.to_string())),
            Ok(Err(MailError::Store(error))) => Err(error),
            Ok(Err(error)) => Ok(refused(error.to_string())),
            Err(error) => Err(StoreError::Backend(error.to_string())),
        }
    }

    /// Acknowledges what an earlier call of this life took, and takes what is new. What is taken and not acknowledged when the turn
    /// ends is delivered once more, between turns.
    async fn mail_read(&self, ack: Vec<MailId>) -> Result<AgentReply, StoreError> {
        let (store, who, fence) = (Arc::clone(&self.parts.store), self.who.clone(), self.fence.clone());
        let mail = blocking(move || {
            let by = who.incarnation.to_string();
            let unread = mail::inbox(store.as_ref(), who.run, who.agent.as_str())?;
            let mine = |mail: &&MailView| mail.claimed_by.as_deref() == Some(by.as_str());
            let acked = unread.iter().filter(mine).filter(|mail| ack.contains(&mail.mail)).map(|mail| Event::MailAcked { mail: mail.mail });
            let fresh: Vec<&MailView> = unread.iter().filter(|mail| !mine(mail)).collect();
            let claims = fresh.iter().map(|mail| Event::MailClaimed { mail: mail.mail, by: by.clone() });
            mail::append_all(store.as_ref(), who.run, acked.chain(claims).collect(), &fence)?;
            Ok(fresh.into_iter().cloned().map(mail::text).collect::<Vec<MailText>>())
        })
        .await?;
        Ok(AgentReply::Mail { mail })
    }
}

const SUBMITTED: &str =
    "Submitted. End your turn now: your change is checked, merged and tested; if something is wrong you hear of it in this session.";
