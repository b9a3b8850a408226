//! The effect of mail on the views.

use crate::apply::At;
use crate::event::Event;
use crate::ids::{MailId, RunId};
use crate::store::StoreError;
use crate::view::{InboxView, MailView, ViewKind};

pub(super) fn apply_mail(at: &mut At<'_>) -> Result<(), StoreError> {
    let known = |at: &mut At<'_>, mail: MailId| at.get::<MailView>("mail", &mail.to_string());
    let view = match &at.envelope.event {
        Event::MailSent { mail, run, from, to, subject, body } => {
            at.is_new(ViewKind::Mail, "mail", &mail.to_string())?;
            count_unread(at, *run, to, true)?;
            let (from, to, subject, body) = (from.clone(), to.clone(), subject.clone(), body.clone());
            MailView { mail: *mail, run: *run, from, to, subject, body, sent: at.envelope.at, claimed_by: None, acked: false }
        }
        Event::MailClaimed { mail, by } => {
            let view = known(at, *mail)?;
            if view.acked {
                return Err(at.illegal("mail", mail, "acknowledged", "it was taken in already"));
            }
            MailView { claimed_by: Some(by.clone()), ..view }
        }
        Event::MailAcked { mail } => {
            let view = known(at, *mail)?;
            if !view.acked {
                count_unread(at, view.run, &view.to, false)?;
            }
            MailView { acked: true, ..view }
        }
        _ => return Ok(()),
    };
    at.put(&view.mail.to_string(), Some(view.run), &view)
}

/// Returns the key of an inbox's view.
pub fn inbox_key(run: RunId, to: &str) -> String {
    format!("{run}/{to}")
}

fn count_unread(at: &mut At<'_>, run: RunId, to: &str, more: bool) -> Result<(), StoreError> {
    let key = inbox_key(run, to);
    let mut inbox = match at.find::<InboxView>(&key)? {
        Some(inbox) => inbox,
        None => InboxView { run, to: to.to_owned(), unread: 0 },
    };
    inbox.unread = if more { inbox.unread.saturating_add(1) } else { inbox.unread.saturating_sub(1) };
    at.put(&key, Some(run), &inbox)
}
