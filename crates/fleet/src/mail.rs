//! Mail between the agents of a run and the person: claimed, delivered, acknowledged; delivered again after a crash.
//!
//! One reader at a time: an agent's mail is read only by the unit that holds the task's claim; a person's by whoever holds the
//! claim of the mailbox. Mail that was claimed and not acknowledged belongs to a reader that is gone, and is delivered again.

use std::time::{Duration, Instant};

use aedile_core::agent_api::MailText;
use aedile_core::apply::{agent_key, inbox_key};
use aedile_core::event::Event;
use aedile_core::limits::{APPEND_EVENTS_MAX, MAIL_BYTES_MAX, MAIL_UNREAD_MAX};
use aedile_core::machine::TaskState;
use aedile_core::store::{Append, Appended, ClaimRequest, Fence, NewEvent, Store, StoreError, list, load};
use aedile_core::view::{AgentView, InboxView, MailView, TaskView};
use aedile_core::{Clock, Entropy, MailId, RunId};

/// The name under which the person is reached.
pub const PERSON: &str = "person";
/// The largest subject, in bytes.
pub const SUBJECT_BYTES_MAX: usize = 200;
/// A person's mailbox is held this long by one reader; then the mail may be delivered to another.
pub const MAILBOX_LEASE: Duration = Duration::from_secs(30);
/// How long a reader waits for another that holds the mailbox.
pub const MAILBOX_WAIT: Duration = Duration::from_secs(5);

/// Why mail was not sent or read. Each text can be shown to an agent as it stands.
#[derive(Debug, thiserror::Error)]
pub enum MailError {
    /// The receiver cannot be reached.
    #[error("{to} {why}; you can write to {reachable}")]
    Unreachable {
        /// Who was meant.
        to: String,
        /// Why not.
        why: String,
        /// Who can be reached.
        reachable: String,
    },
    /// The text cannot be sent.
    #[error("{0}")]
    Refused(String),
    /// Another reader holds the mailbox.
    #[error("somebody else reads the mail of {0} at the moment; try again in a few seconds")]
    Busy(String),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Sends mail. `from` and `to` are names of agents of the run, or `person`.
///
/// # Errors
/// `Unreachable` for an unknown name, for oneself and for an agent that has finished; `Refused` for an empty or too large text and for
/// a mailbox with `MAIL_UNREAD_MAX` unread pieces.
pub fn send_mail(
    store: &dyn Store,
    (clock, entropy): (&dyn Clock, &dyn Entropy),
    run: RunId,
    (from, to): (&str, &str),
    (subject, body): (&str, &str),
) -> Result<MailId, MailError> {
    let mail = MailId::new(clock, entropy);
    let append = compose(store, run, mail, (from, to), (subject, body))?;
    store.append(append)?;
    Ok(mail)
}

/// Checks a piece of mail and returns the append that sends it.
pub(crate) fn compose(
    store: &dyn Store,
    run: RunId,
    mail: MailId,
    (from, to): (&str, &str),
    (subject, body): (&str, &str),
) -> Result<Append, MailError> {
    let subject = subject.trim();
    if subject.is_empty() || subject.len() > SUBJECT_BYTES_MAX || subject.contains(['\n', '\r']) {
        return Err(MailError::Refused(format!(
            "the subject must be one line of 1 to {SUBJECT_BYTES_MAX} bytes; put the rest into the text"
        )));
    }
    if body.len() > MAIL_BYTES_MAX {
        return Err(MailError::Refused(format!(
            "the text has {} bytes; at most {MAIL_BYTES_MAX} are allowed: name files instead of quoting them",
            body.len()
        )));
    }
    reachable(store, run, from, to)?;
    let unread = load::<InboxView>(store, &inbox_key(run, to))?.map_or(0, |inbox| inbox.unread);
    if unread >= MAIL_UNREAD_MAX as u64 {
        return Err(MailError::Refused(format!("{to} has {unread} unread pieces of mail and takes no more until some are read")));
    }
    let (from, to, subject, body) = (from.to_owned(), to.to_owned(), subject.to_owned(), body.to_owned());
    Ok(Append::of(run, Event::MailSent { mail, run, from, to, subject, body }))
}

fn reachable(store: &dyn Store, run: RunId, from: &str, to: &str) -> Result<(), MailError> {
    if to == PERSON && from != PERSON {
        return Ok(());
    }
    // The usual receiver is found without reading every task of the run.
    if to != from
        && let Some(agent) = load::<AgentView>(store, &agent_key(run, to))?
        && load::<TaskView>(store, &agent.task.to_string())?.is_some_and(|task| named(&task, to) && can_be_reached(&task))
    {
        return Ok(());
    }
    let tasks: Vec<TaskView> = list(store, Some(run))?;
    let why = match tasks.iter().rev().find(|task| named(task, to) && can_be_reached(task)) {
        _ if to == from => "is yourself",
        Some(_) => return Ok(()),
        None if tasks.iter().any(|task| named(task, to)) => "has finished and reads no more mail",
        None => "is no agent of this run",
    };
    let reachable = reachable_names(&tasks, from).join(", ");
    let reachable = if reachable.is_empty() { "nobody at the moment".to_owned() } else { reachable };
    Err(MailError::Unreachable { to: to.to_owned(), why: why.to_owned(), reachable })
}

fn named(task: &TaskView, name: &str) -> bool {
    task.agent.as_ref().is_some_and(|agent| agent.as_str() == name)
}

/// An agent reads mail while its task is worked on, and when it is certain to be worked on again.
fn can_be_reached(task: &TaskView) -> bool {
    !task.cancel_requested && matches!(task.state, TaskState::Working | TaskState::Returned | TaskState::Ready)
}

/// Returns who can be written to from `from`.
pub(crate) fn reachable_names(tasks: &[TaskView], from: &str) -> Vec<String> {
    let agents = tasks.iter().filter(|task| can_be_reached(task)).filter_map(|task| task.agent.as_ref()).map(ToString::to_string);
    let person = (from != PERSON).then(|| PERSON.to_owned());
    agents.filter(|name| name != from).chain(person).collect()
}

/// Returns the unread mail of somebody without taking it.
///
/// # Errors
/// As the store.
pub fn inbox(store: &dyn Store, run: RunId, who: &str) -> Result<Vec<MailView>, StoreError> {
    if load::<InboxView>(store, &inbox_key(run, who))?.is_none_or(|inbox| inbox.unread == 0) {
        return Ok(Vec::new());
    }
    Ok(list::<MailView>(store, Some(run))?.into_iter().filter(|mail| mail.to == who && !mail.acked).collect())
}

/// Mail that a person's reader has taken and not confirmed. Dropping it without [`Taken::ack`] leads to another delivery.
#[derive(Debug)]
pub struct Taken {
    /// The mail, oldest first.
    pub mail: Vec<MailText>,
    run: RunId,
    fence: Fence,
}

/// Takes the unread mail of the person (or of any name that no worker reads for). Waits up to `MAILBOX_WAIT` for another reader.
/// `holder` is unique for each reader.
///
/// # Errors
/// `Busy` when another reader holds the mailbox.
pub fn take_mail(store: &dyn Store, run: RunId, who: &str, holder: &str) -> Result<Taken, MailError> {
    let request = ClaimRequest { name: format!("mail/{run}/{who}"), holder: holder.to_owned(), ttl: MAILBOX_LEASE, dead: Vec::new() };
    let deadline = Instant::now() + MAILBOX_WAIT;
    let fence = loop {
        match store.claim(&request) {
            Err(StoreError::Claimed { .. }) if Instant::now() < deadline => {
                // Whoever holds it appends its acknowledgement before it gives the mailbox back.
                store.wait_for_change(store.last()?, Duration::from_millis(20))?;
            }
            Err(StoreError::Claimed { .. }) => return Err(MailError::Busy(who.to_owned())),
            other => break other?,
        }
    };
    let unread = inbox(store, run, who)?;
    let claims = unread.iter().map(|mail| Event::MailClaimed { mail: mail.mail, by: holder.to_owned() }).collect();
    if let Err(error) = append_all(store, run, claims, &fence) {
        store.release(&fence)?;
        return Err(error.into());
    }
    Ok(Taken { mail: unread.into_iter().map(text).collect(), run, fence })
}

impl Taken {
    /// Confirms that the mail was taken in, and gives the mailbox back.
    ///
    /// # Errors
    /// `Store(Fenced)` when this took so long that another reader has taken the mail.
    pub fn ack(self, store: &dyn Store) -> Result<(), MailError> {
        let acks = self.mail.iter().map(|mail| Event::MailAcked { mail: mail.id }).collect();
        append_all(store, self.run, acks, &self.fence)?;
        Ok(store.release(&self.fence)?)
    }
}

pub(crate) fn text(mail: MailView) -> MailText {
    MailText { id: mail.mail, from: mail.from, subject: mail.subject, body: mail.body }
}

/// Appends any number of events under the fence.
pub(crate) fn append_all(store: &dyn Store, run: RunId, events: Vec<Event>, fence: &Fence) -> Result<Option<Appended>, StoreError> {
    let mut last = None;
    let events: Vec<NewEvent> = events.into_iter().map(|event| NewEvent { run: Some(run), event }).collect();
    for chunk in events.chunks(APPEND_EVENTS_MAX) {
        last = Some(store.append(Append { events: chunk.to_vec(), fence: Some(fence.clone()), once: None })?);
    }
    Ok(last)
}
