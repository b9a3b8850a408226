//! Questions to a person, and their answers.

use super::At;
use crate::ask::Answer;
use crate::event::Event;
use crate::store::StoreError;
use crate::view::{AskView, ViewKind};

pub(super) fn apply_ask(at: &mut At<'_>) -> Result<(), StoreError> {
    match &at.envelope.event {
        Event::AskOpened { ask, run, task, agent, rule, method, host, path } => {
            at.is_new(ViewKind::Ask, "ask", &ask.to_string())?;
            let view = AskView {
                ask: *ask,
                run: *run,
                task: *task,
                agent: agent.clone(),
                rule: rule.clone(),
                method: method.clone(),
                host: host.clone(),
                path: path.clone(),
                opened: at.envelope.at,
                answer: None,
            };
            at.put(&ask.to_string(), Some(*run), &view)
        }
        Event::AskAnswered { run, ask, allow, scope, until } => {
            let view: AskView = at.get("ask", &ask.to_string())?;
            let answer = Answer { allow: *allow, scope: *scope, until: *until, at: at.envelope.at };
            at.put(&ask.to_string(), Some(*run), &AskView { answer: Some(answer), ..view })
        }
        _ => Ok(()),
    }
}
