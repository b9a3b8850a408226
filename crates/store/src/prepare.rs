//! What every store does with an append before its transaction: redact it and hold it to the limits.

use aedile_core::event::Event;
use aedile_core::limits::{APPEND_EVENTS_MAX, EVENT_BYTES_MAX};
use aedile_core::machine::Illegal;
use aedile_core::store::{Append, Fence, NewEvent, StoreError};
use aedile_core::{Redactor, RunId};
use serde_json::Value;

/// An append that may be written.
pub(crate) struct Prepared {
    /// Its events.
    pub(crate) events: Vec<PreparedEvent>,
    /// The claim under which it is written.
    pub(crate) fence: Option<Fence>,
    /// The key that makes it happen once.
    pub(crate) once: Option<String>,
}

/// An event without secrets, within its limits.
pub(crate) struct PreparedEvent {
    /// The run that it belongs to.
    pub(crate) run: Option<RunId>,
    /// What happened.
    pub(crate) event: Event,
    /// The same as JSON.
    pub(crate) body: String,
}

/// Checks and redacts an append.
pub(crate) fn prepare(append: Append, redactor: &dyn Redactor) -> Result<Prepared, StoreError> {
    let count = append.events.len();
    if count == 0 {
        return Err(StoreError::Backend("an append without events was asked for; give it at least one".to_owned()));
    }
    if count > APPEND_EVENTS_MAX {
        return Err(StoreError::TooLarge { what: "an append", got: count, max: APPEND_EVENTS_MAX });
    }
    let events = append.events.into_iter().map(|new| prepare_event(new, redactor)).collect::<Result<_, _>>()?;
    Ok(Prepared { events, fence: append.fence, once: append.once })
}

fn prepare_event(new: NewEvent, redactor: &dyn Redactor) -> Result<PreparedEvent, StoreError> {
    let named = new.event.run();
    if let (Some(given), Some(named)) = (new.run, named)
        && given != named
    {
        return Err(StoreError::Illegal(Illegal {
            noun: "run",
            id: given.to_string(),
            state: "the run of the append".to_owned(),
            step: new.event.name(),
            why: format!("the event names the run {named}"),
        }));
    }
    let (event, body) = redact_event(new.event, redactor)?;
    if body.len() > EVENT_BYTES_MAX {
        return Err(StoreError::TooLarge { what: "an event", got: body.len(), max: EVENT_BYTES_MAX });
    }
    Ok(PreparedEvent { run: new.run.or(named), event, body })
}

/// Returns the event without secrets, and its JSON.
fn redact_event(event: Event, redactor: &dyn Redactor) -> Result<(Event, String), StoreError> {
    let body = to_json(&event)?;
    // A secret with quotes or line ends looks different in JSON; only its string tells.
    if !body.contains('\\') && redactor.redact_text(&body).is_none() {
        return Ok((event, body));
    }
    let mut value = serde_json::to_value(&event).map_err(|error| StoreError::Backend(error.to_string()))?;
    let changed = redact_value(&mut value, redactor);
    let walked = if changed { value.to_string() } else { body };
    let Some(text) = redactor.redact_text(&walked).or(changed.then_some(walked.clone())) else { return Ok((event, walked)) };
    let name = event.name();
    let parsed = serde_json::from_str::<Event>(&text);
    // What only looks like a credential and stands in an id or a name stays: its event must not be lost.
    let known = || redactor.redact_known(&walked).unwrap_or_else(|| walked.clone());
    let event = parsed.or_else(|_| serde_json::from_str::<Event>(&known())).map_err(|_| {
        StoreError::Backend(format!(
            "a secret stands in a part of the event {name} that cannot be left out (an id or a name), so it was not stored; take the secret out of there"
        ))
    })?;
    let body = to_json(&event)?;
    Ok((event, body))
}

fn to_json(event: &Event) -> Result<String, StoreError> {
    serde_json::to_string(event)
        .map_err(|error| StoreError::Backend(format!("the event {} cannot be written as JSON: {error}", event.name())))
}

/// Redacts every string and key; returns whether there was a secret.
fn redact_value(value: &mut Value, redactor: &dyn Redactor) -> bool {
    match value {
        Value::String(text) => match redactor.redact_text(text) {
            Some(clean) => {
                *text = clean;
                true
            }
            None => false,
        },
        Value::Array(items) => items.iter_mut().fold(false, |changed, item| redact_value(item, redactor) | changed),
        Value::Object(fields) => {
            let mut changed = false;
            for (key, mut item) in std::mem::take(fields) {
                changed |= redact_value(&mut item, redactor);
                let clean = redactor.redact_text(&key);
                changed |= clean.is_some();
                fields.insert(clean.unwrap_or(key), item);
            }
            changed
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}
