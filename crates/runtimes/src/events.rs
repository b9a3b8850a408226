//! Updates of the protocol and events of a session, both ways.

use std::collections::HashMap;

use aedile_core::limits::TOOL_OUTPUT_BYTES_MAX;
use aedile_core::runtime::SessionEvent;
use aedile_core::tool::cut_middle;
use serde_json::{Value, json};

use crate::ours::{OurMeta, Retrying};
use crate::rpc::{self, Chunk, ContentBlock, ToolCall, ToolContent, UpdateKind, UpdateParams};

/// Titles and ids are cut to this many characters.
const TITLE_CHARS_MAX: usize = 200;
/// Tool calls of one turn that are followed; further ones are not reported.
const CALLS_MAX: usize = 10_000;

#[derive(Default)]
struct Call {
    output: String,
    ended: bool,
}

/// Turns updates into events; knows the tool calls of the present turn.
#[derive(Default)]
pub(crate) struct Updates {
    calls: HashMap<String, Call>,
}

impl Updates {
    /// Forgets the tool calls of the last turn.
    pub(crate) fn begin_turn(&mut self) {
        self.calls = HashMap::new();
    }

    /// Reads a `session/update` line and gives out its events.
    ///
    /// # Errors
    /// What is wrong with the line.
    pub(crate) fn read(&mut self, line: &[u8], out: &mut dyn FnMut(SessionEvent)) -> Result<(), String> {
        let kind: UpdateParams<UpdateKind> = rpc::params(line)?;
        let ours = kind.update.meta.and_then(|meta| meta.aedile).unwrap_or_default();
        let Some(agent) = &ours.subagent else { return self.read_as(&kind.update.session_update, line, &ours, out) };
        let agent: String = agent.chars().take(TITLE_CHARS_MAX).collect();
        let mut wrapped = |event| out(SessionEvent::SubAgent { agent: agent.clone(), event: Box::new(without_prefix(event, &agent)) });
        self.read_as(&kind.update.session_update, line, &ours, &mut wrapped)
    }

    fn read_as(&mut self, kind: &str, line: &[u8], ours: &OurMeta, out: &mut dyn FnMut(SessionEvent)) -> Result<(), String> {
        match kind {
            "agent_thought_chunk" if !ours.warning && !ours.output && ours.retrying.is_none() && ours.subagent.is_none() => {}
            // What a sub-agent says is a thought for whoever does not know of sub-agents.
            "agent_message_chunk" | "agent_thought_chunk" => {
                let chunk: UpdateParams<Chunk> = rpc::params(line)?;
                let Some(text) = text_of(chunk.update.content).filter(|text| !text.is_empty()) else { return Ok(()) };
                out(if ours.output {
                    SessionEvent::Output { value: serde_json::from_str(&text).map_err(|error| error.to_string())? }
                } else if let Some(Retrying { attempt, wait_ms }) = ours.retrying {
                    SessionEvent::Retrying { attempt, why: text, wait_ms }
                } else if ours.warning {
                    SessionEvent::Warning { text }
                } else {
                    SessionEvent::Text { text }
                });
            }
            "user_message_chunk" if ours.message => {
                let chunk: UpdateParams<Chunk> = rpc::params(line)?;
                if let Some(text) = text_of(chunk.update.content) {
                    out(SessionEvent::Message { text });
                }
            }
            "tool_call" | "tool_call_update" => {
                let call: UpdateParams<ToolCall> = rpc::params(line)?;
                self.call(call.update, out);
            }
            _ => {}
        }
        Ok(())
    }

    fn call(&mut self, update: ToolCall, out: &mut dyn FnMut(SessionEvent)) {
        let id: String = update.tool_call_id.chars().take(TITLE_CHARS_MAX).collect();
        if !self.calls.contains_key(&id) {
            if self.calls.len() >= CALLS_MAX {
                return;
            }
            let title = update.title.unwrap_or_else(|| "tool".to_owned()).chars().take(TITLE_CHARS_MAX).collect();
            out(SessionEvent::ToolStarted { id: id.clone(), title });
        }
        let call = self.calls.entry(id.clone()).or_default();
        if call.ended {
            return;
        }
        if let Some(content) = update.content {
            call.output = output_of(content);
        }
        let is_error = match update.status.as_deref() {
            Some("completed") => false,
            Some("failed") => true,
            _ => return,
        };
        call.ended = true;
        out(SessionEvent::ToolEnded { id, is_error, output: std::mem::take(&mut call.output) });
    }
}

/// Takes the sub-agent's name from the id of its call, where it stands so that ids are unique in the session.
fn without_prefix(event: SessionEvent, agent: &str) -> SessionEvent {
    let own = |id: String| id.strip_prefix(agent).and_then(|id| id.strip_prefix('/')).map(str::to_owned).unwrap_or(id);
    match event {
        SessionEvent::ToolStarted { id, title } => SessionEvent::ToolStarted { id: own(id), title },
        SessionEvent::ToolEnded { id, is_error, output } => SessionEvent::ToolEnded { id: own(id), is_error, output },
        other => other,
    }
}

fn text_of(block: ContentBlock) -> Option<String> {
    block.text.filter(|_| block.kind == "text")
}

fn output_of(content: Vec<ToolContent>) -> String {
    let texts: Vec<String> = content.into_iter().filter_map(|piece| text_of(piece.content?)).collect();
    cut_middle(&texts.join("\n"), TOOL_OUTPUT_BYTES_MAX)
}

/// Writes an event as the `update` of a `session/update`.
pub(crate) fn to_update(event: &SessionEvent) -> Value {
    match event {
        SessionEvent::Text { text } => json!({"sessionUpdate": "agent_message_chunk", "content": {"type": "text", "text": text}}),
        SessionEvent::Warning { text } => json!({
            "sessionUpdate": "agent_thought_chunk",
            "content": {"type": "text", "text": text},
            "_meta": {"aedile": {"warning": true}},
        }),
        SessionEvent::Output { value } => json!({
            "sessionUpdate": "agent_thought_chunk",
            "content": {"type": "text", "text": value.to_string()},
            "_meta": {"aedile": {"output": true}},
        }),
        SessionEvent::SubAgent { agent, event } => {
            let mut update = to_update(event);
            if update["sessionUpdate"] == "agent_message_chunk" {
                update["sessionUpdate"] = "agent_thought_chunk".into();
            }
            if let Some(id) = update.get("toolCallId").and_then(Value::as_str) {
                update["toolCallId"] = format!("{agent}/{id}").into();
            }
            update["_meta"]["aedile"]["subagent"] = agent.as_str().into();
            update
        }
        SessionEvent::ToolStarted { id, title } => {
            json!({"sessionUpdate": "tool_call", "toolCallId": id, "title": title, "status": "in_progress"})
        }
        SessionEvent::ToolEnded { id, is_error, output } => json!({
            "sessionUpdate": "tool_call_update",
            "toolCallId": id,
            "status": if *is_error { "failed" } else { "completed" },
            "content": [{"type": "content", "content": {"type": "text", "text": output}}],
        }),
        SessionEvent::Message { text } => json!({
            "sessionUpdate": "user_message_chunk",
            "content": {"type": "text", "text": text},
            "_meta": {"aedile": {"message": true}},
        }),
        SessionEvent::Retrying { attempt, why, wait_ms } => json!({
            "sessionUpdate": "agent_thought_chunk",
            "content": {"type": "text", "text": why},
            "_meta": {"aedile": {"retrying": {"attempt": attempt, "waitMs": wait_ms}}},
        }),
        // The protocol has no update of its own for what follows: clients show thoughts to people, and ours leaves them out.
        SessionEvent::Used { usage, .. } => thought(&format!("{} tokens", usage.total())),
    }
}

fn thought(text: &str) -> Value {
    json!({"sessionUpdate": "agent_thought_chunk", "content": {"type": "text", "text": text}})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events(updates: &[Value]) -> Vec<SessionEvent> {
        let mut state = Updates::default();
        let mut events = Vec::new();
        for update in updates {
            let line = rpc::notification(rpc::SESSION_UPDATE, &json!({"sessionId": "s", "update": update}));
            state.read(line.as_bytes(), &mut |event| events.push(event)).unwrap();
        }
        events
    }

    #[test]
    fn what_we_write_we_read_again() {
        let inner = |event| SessionEvent::SubAgent { agent: "explore-1".into(), event: Box::new(event) };
        let said = vec![
            SessionEvent::Text { text: "h\u{e9}llo\n".into() },
            SessionEvent::Warning { text: "the hook broke".into() },
            SessionEvent::Output { value: json!({"n": [1, null]}) },
            SessionEvent::Retrying { attempt: 2, why: "529: overloaded".into(), wait_ms: 500 },
            SessionEvent::ToolStarted { id: "1".into(), title: "bash ls".into() },
            SessionEvent::Message { text: "stop\nthat".into() },
            SessionEvent::ToolEnded { id: "1".into(), is_error: true, output: "no".into() },
            inner(SessionEvent::Text { text: "I look.".into() }),
            inner(SessionEvent::Warning { text: "the hook broke".into() }),
            inner(SessionEvent::ToolStarted { id: "1".into(), title: "read x".into() }),
            inner(SessionEvent::ToolEnded { id: "1".into(), is_error: false, output: "y".into() }),
        ];
        assert_eq!(events(&said.iter().map(to_update).collect::<Vec<_>>()), said);
    }

    #[test]
    fn a_call_starts_once_and_ends_once_with_its_last_output() {
        let content = |text: &str| json!([{"type": "content", "content": {"type": "text", "text": text}}, {"type": "diff", "path": "/x"}]);
        let seen = events(&[
            json!({"sessionUpdate": "tool_call_update", "toolCallId": "7", "status": "in_progress", "content": content("part")}),
            json!({"sessionUpdate": "tool_call_update", "toolCallId": "7", "status": "completed", "content": null, "rawOutput": {"x": 1}}),
            json!({"sessionUpdate": "tool_call_update", "toolCallId": "7", "status": "failed"}),
        ]);
        assert_eq!(
            seen,
            vec![
                SessionEvent::ToolStarted { id: "7".into(), title: "tool".into() },
                SessionEvent::ToolEnded { id: "7".into(), is_error: false, output: "part".into() },
            ]
        );
    }

    #[test]
    fn long_output_loses_its_middle() {
        let text = format!("head{}tail", "\u{e9}".repeat(TOOL_OUTPUT_BYTES_MAX));
        let cut = cut_middle(&text, TOOL_OUTPUT_BYTES_MAX);
        assert!(cut.starts_with("head") && cut.ends_with("tail") && cut.len() < TOOL_OUTPUT_BYTES_MAX + 100);
    }
}
