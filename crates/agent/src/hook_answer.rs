//! What one hook answered, by its exit code and its JSON.

use aedile_core::tool::{CommandDone, CommandEnd, cut_middle};
use serde_json::{Map, Value};

use crate::hook_event::HookEvent;

/// Words of a hook in a warning.
const WORDS_BYTES_MAX: usize = 500;

/// What a `PreToolUse` hook wants for a call. The later wins.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Permit {
    /// Without asking.
    Allow,
    /// Ask the person.
    Ask,
    /// Not at all.
    Deny,
}

/// What one hook answered.
#[derive(Clone, PartialEq, Debug, Default)]
pub(crate) struct Answer {
    /// What it refuses, and why: a prompt, the end of the turn, the result of a call.
    pub(crate) block: Option<String>,
    /// For a call.
    pub(crate) permit: Option<(Permit, String)>,
    /// The new input of a call.
    pub(crate) updated_input: Option<Value>,
    /// For the model.
    pub(crate) context: Option<String>,
    /// For the person.
    pub(crate) message: Option<String>,
    /// The agent must stop, and why.
    pub(crate) stop: Option<String>,
}

/// Reads what a hook did. The error is the end of a sentence that begins with the hook's name.
pub(crate) fn read_answer(event: HookEvent, done: &CommandDone) -> Result<Answer, String> {
    match &done.end {
        CommandEnd::Exited(0) if done.stdout_cut => Err("said more than a hook may; its answer is not used".to_owned()),
        CommandEnd::Exited(0) => read_stdout(event, done.stdout.trim()),
        CommandEnd::Exited(2) => {
            let reason = if done.stderr.trim().is_empty() { "no reason given" } else { done.stderr.trim() };
            Ok(refusal(event, reason))
        }
        CommandEnd::Exited(code) => Err(format!("failed with exit code {code} and is passed over{}", words(&done.stderr))),
        CommandEnd::Killed(signal) => Err(format!("was ended by signal {signal} and is passed over{}", words(&done.stderr))),
        CommandEnd::TimedOut => Err("did not end in its time and is passed over".to_owned()),
        CommandEnd::NotStarted(problem) => Err(format!("cannot be started and is passed over: {problem}")),
    }
}

fn words(stderr: &str) -> String {
    let text = stderr.trim();
    if text.is_empty() { String::new() } else { format!(": {}", cut_middle(text, WORDS_BYTES_MAX)) }
}

/// What exit code 2 means.
fn refusal(event: HookEvent, reason: &str) -> Answer {
    let reason = reason.to_owned();
    match event {
        HookEvent::PreToolUse => Answer { permit: Some((Permit::Deny, reason)), ..Answer::default() },
        HookEvent::UserPromptSubmit
        | HookEvent::Stop
        | HookEvent::SubagentStop
        | HookEvent::PostToolUse
        | HookEvent::PostToolUseFailure => Answer { block: Some(reason), ..Answer::default() },
        _ => Answer { message: Some(reason), ..Answer::default() },
    }
}

fn read_stdout(event: HookEvent, text: &str) -> Result<Answer, String> {
    if !text.starts_with('{') {
        let context = (event.text_is_context() && !text.is_empty()).then(|| text.to_owned());
        return Ok(Answer { context, ..Answer::default() });
    }
    let map: Map<String, Value> =
        serde_json::from_str(text).map_err(|error| format!("answered JSON that is broken and is passed over: {error}"))?;
    read_json(event, &map)
}

fn read_json(event: HookEvent, map: &Map<String, Value>) -> Result<Answer, String> {
    let text = |map: &Map<String, Value>, field: &str| map.get(field).and_then(Value::as_str).map(str::to_owned);
    let mut answer = Answer { message: text(map, "systemMessage"), ..Answer::default() };
    if map.get("continue") == Some(&Value::Bool(false)) {
        answer.stop = Some(text(map, "stopReason").unwrap_or_else(|| "no reason given".to_owned()));
    }
    let reason = || text(map, "reason").unwrap_or_else(|| "no reason given".to_owned());
    match map.get("decision").and_then(Value::as_str) {
        Some("block") => {
            let refused = refusal(event, &reason());
            (answer.block, answer.permit) = (refused.block, refused.permit);
        }
        Some("approve") if event == HookEvent::PreToolUse => answer.permit = Some((Permit::Allow, reason())),
        Some("approve") | None => {}
        Some(other) => return Err(format!("answered the unknown decision {other:?} and is passed over")),
    }
    let Some(Value::Object(specific)) = map.get("hookSpecificOutput") else { return Ok(answer) };
    if let Some(name) = specific.get("hookEventName").and_then(Value::as_str)
        && name != event.name()
    {
        return Err(format!("answered for the event {name:?} and is passed over"));
    }
    answer.context = text(specific, "additionalContext").filter(|text| !text.trim().is_empty());
    if event == HookEvent::PreToolUse {
        let reason = || text(specific, "permissionDecisionReason").unwrap_or_else(|| "no reason given".to_owned());
        match specific.get("permissionDecision").and_then(Value::as_str) {
            Some("deny") => answer.permit = Some((Permit::Deny, reason())),
            Some("ask") => answer.permit = Some((Permit::Ask, reason())),
            Some("allow") => answer.permit = Some((Permit::Allow, reason())),
            None => {}
            Some(other) => return Err(format!("answered the unknown permissionDecision {other:?} and is passed over")),
        }
        match specific.get("updatedInput") {
            None | Some(Value::Null) => {}
            Some(input @ Value::Object(_)) => answer.updated_input = Some(input.clone()),
            Some(_) => return Err("answered an updatedInput that is no object and is passed over".to_owned()),
        }
    }
    Ok(answer)
}
