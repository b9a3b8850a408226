//! The end of a task: what is left of it is saved, then removed. Repeating it is harmless.

use aedile_core::event::{Event, TaskOutcome};
use aedile_core::limits::LEASE;
use aedile_core::store::{Append, ClaimRequest, Fence, Store, StoreError, load};
use aedile_core::view::{MailView, RunView, TaskView};
use aedile_core::{MailId, RunId, TaskId};
use aedile_core::{bounded, crash};

use crate::mail::{self, PERSON};
use crate::parts::Parts;
use crate::steps::run_claim;

/// Why a task could not be tidied; the workspace is still there.
#[derive(Debug)]
pub(crate) enum TidyError {
    Store(StoreError),
    /// It could not be saved: the workspace is the only copy.
    Unsaved(String),
    Other(String),
}

impl From<StoreError> for TidyError {
    fn from(error: StoreError) -> Self {
        match error {
            // One task that cannot be written down is no failure of the store.
            error @ StoreError::TooLarge { .. } => Self::Unsaved(error.to_string()),
            error => Self::Store(error),
        }
    }
}

/// Why a task could not be closed and tidied.
#[derive(Debug, thiserror::Error)]
pub enum CloseError {
    /// The store refused, for example since a worker drives the run.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The task is closed, but its workspace could not be saved and removed; it stays.
    #[error("the workspace could not be saved and removed: {0}")]
    Workspace(String),
}

/// Closes a task of a run that nobody drives, then saves and removes its workspace and home. Its change stays in the hub. Blocking.
///
/// # Errors
/// [`CloseError`]; `Store(Claimed)` while a worker drives the run.
pub fn close_task(parts: &Parts, run: RunId, task: TaskId, outcome: TaskOutcome) -> Result<(), CloseError> {
    let store = parts.store.as_ref();
    let request = ClaimRequest { name: run_claim(run), holder: parts.host.holder.clone(), ttl: LEASE, dead: parts.host.dead.clone() };
    let fence = store.claim(&request)?;
    let closed = close(parts, run, task, outcome, &fence);
    store.release(&fence)?;
    closed
}

fn close(parts: &Parts, run: RunId, task: TaskId, outcome: TaskOutcome, fence: &Fence) -> Result<(), CloseError> {
    let store = parts.store.as_ref();
    store.append(Append::of(run, Event::TaskClosed { task, outcome }).fenced(fence))?;
    let (Some(run), Some(view)) = (load::<RunView>(store, &run.to_string())?, load::<TaskView>(store, &task.to_string())?) else {
        return Ok(());
    };
    tidy(parts, &run, &view, fence, false).map_err(|error| match error {
        TidyError::Store(error) => CloseError::Store(error),
        TidyError::Unsaved(why) | TidyError::Other(why) => CloseError::Workspace(why),
    })
}

/// Saves (unless it is `saved` as it is) and removes workspace and home of a closed task, and sends mail that nobody will read back. That
/// the workspace could not be saved is written down, and that it is saved since. Blocking.
pub(crate) fn tidy(parts: &Parts, run: &RunView, task: &TaskView, fence: &Fence, saved: bool) -> Result<(), TidyError> {
    let tidied = save_and_remove(parts, run, task, fence, saved);
    let kept = match &tidied {
        Err(TidyError::Unsaved(why)) => Some(bounded::text(why)),
        Err(_) => return tidied,
        Ok(()) => None,
    };
    if kept != task.kept {
        let event = Event::WorkspaceKept { task: task.task, why: kept };
        parts.store.append(Append::of(task.run, event).fenced(fence))?;
    }
    tidied
}

fn save_and_remove(parts: &Parts, run: &RunView, task: &TaskView, fence: &Fence, saved: bool) -> Result<(), TidyError> {
    let other = |error: &dyn std::fmt::Display| TidyError::Other(error.to_string());
    return_mail(parts, task, fence)?;
    if let Some(path) = task.workspace.as_ref().filter(|path| !saved && path.exists()) {
        let saved = parts.workspaces.snapshot(run, task, path).map_err(|error| TidyError::Unsaved(error.to_string()))?;
        if task.snapshot.as_ref() != Some(&saved.commit) {
            let event = Event::SnapshotTaken {
                task: task.task,
                turn: task.turn,
                commit: saved.commit,
                oversized: saved.oversized,
                secrets: saved.secrets,
            };
            parts.store.append(Append::of(task.run, event).fenced(fence))?;
        }
    }
    crash::point("task-close");
    parts.workspaces.forget(task).map_err(|error| other(&error))?;
    aedile_git::remove_tree(&parts.host.overlay(task.run, &task.spec.key)).map_err(|error| other(&error))?;
    aedile_git::remove_tree(&parts.host.home(task.run, &task.spec.key)).map_err(|error| other(&error))
}

/// Nothing is lost in silence: mail to an agent that will not read any more goes back to its sender, or to the person.
fn return_mail(parts: &Parts, task: &TaskView, fence: &Fence) -> Result<(), StoreError> {
    let Some(agent) = &task.agent else { return Ok(()) };
    let store = parts.store.as_ref();
    for mail in mail::inbox(store, task.run, agent.as_str())? {
        let id = MailId::new(parts.clock.as_ref(), parts.entropy.as_ref());
        let key = format!("mail-back/{}", mail.mail);
        store.append(send_back(store, task.run, id, task.spec.key.as_str(), &mail)?.fenced(fence).once(key))?;
    }
    Ok(())
}

fn send_back(store: &dyn Store, run: RunId, id: MailId, key: &str, mail: &MailView) -> Result<Append, StoreError> {
    let subject: String = format!("not read: {}", mail.subject).chars().take(mail::SUBJECT_BYTES_MAX / 4).collect();
    let fate =
        if mail.claimed_by.is_some() { "your mail had reached it, but perhaps it did not read it" } else { "your mail was not read" };
    let body = format!("The task `{key}` of {} is closed, and {fate}.\n", mail.to);
    // A sender that has finished too does not read this: the person does.
    let append = match mail::compose(store, run, id, (&mail.to, &mail.from), (&subject, &body)) {
        Ok(append) => append,
        Err(mail::MailError::Store(error)) => return Err(error),
        Err(_) => {
            let body = format!("{body}It was from {}:\n\n{}", mail.from, mail.body);
            let body = body.chars().take(aedile_core::limits::MAIL_BYTES_MAX / 4).collect();
            Append::of(run, Event::MailSent { mail: id, run, from: mail.to.clone(), to: PERSON.to_owned(), subject, body })
        }
    };
    Ok(append.and(Event::MailAcked { mail: mail.mail }))
}
