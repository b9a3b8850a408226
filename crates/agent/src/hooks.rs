//! Runs hooks and puts their answers together.

use aedile_core::limits::HOOK_OUTPUT_BYTES_MAX;
use aedile_core::tool::{CommandRequest, CommandRunner, ToolOutput, cut_middle};
use futures_util::future::join_all;
use serde_json::{Map, Value, json};
use std::path::PathBuf;
use std::sync::Arc;

use crate::conversation::Call;
use crate::hook_answer::{Answer, Permit, read_answer};
use crate::hook_event::{HookEvent, matches};
use crate::live::Live;
use crate::permission::Gate;
use crate::public_names::{own_input, public_input, public_name};
use crate::settings::Hook;

/// What one hook may add for the model.
const CONTEXT_BYTES_MAX: usize = 10_000;
/// A hook's command in a warning.
const COMMAND_BYTES_MAX: usize = 100;
/// A tool's output as hooks see it.
const RESPONSE_BYTES_MAX: usize = 30_000;

/// The hooks of one session.
#[derive(Clone)]
pub(crate) struct Hooks {
    pub(crate) hooks: Vec<Hook>,
    pub(crate) runner: Arc<dyn CommandRunner>,
    pub(crate) live: Live,
    pub(crate) cwd: PathBuf,
    pub(crate) gate: Arc<Gate>,
    /// What every hook is told: the session, its transcript, the working directory.
    pub(crate) common: Map<String, Value>,
}

/// What the hooks of one event answered together.
#[derive(Default, Debug)]
pub(crate) struct Outcome {
    /// The strictest.
    pub(crate) permit: Option<(Permit, String)>,
    /// The last.
    pub(crate) updated_input: Option<Value>,
    pub(crate) block: Option<String>,
    pub(crate) stop: Option<String>,
    /// For the model.
    pub(crate) context: Vec<String>,
}

impl Hooks {
    /// Runs the hooks of an event that fit one of the subjects, side by side. What goes wrong is told as a warning.
    pub(crate) async fn fire(&self, event: HookEvent, subjects: &[&str], fields: &Value) -> Outcome {
        let mut fitting: Vec<&Hook> = Vec::new();
        for hook in self.hooks.iter().filter(|hook| hook.event == event) {
            let fits = subjects.is_empty() || matches(&hook.matcher, subjects).unwrap_or(false);
            if fits && fitting.iter().all(|known| known.command != hook.command) {
                fitting.push(hook);
            }
        }
        let mut outcome = Outcome::default();
        if fitting.is_empty() {
            return outcome;
        }
        let mut told = self.common.clone();
        told.insert("permission_mode".to_owned(), self.gate.mode().id().into());
        told.insert("hook_event_name".to_owned(), event.name().into());
        if let Value::Object(fields) = fields {
            told.extend(fields.clone());
        }
        let stdin = Value::from(told).to_string().into_bytes();
        let runs = join_all(fitting.iter().map(|hook| self.runner.run(self.request(hook, stdin.clone())))).await;
        for (hook, done) in fitting.iter().zip(runs) {
            match read_answer(event, &done) {
                Ok(answer) => self.take(hook, answer, &mut outcome),
                Err(problem) => self.live.warn(format!("the {} {problem}", title(hook))),
            }
        }
        outcome
    }

    fn request(&self, hook: &Hook, stdin: Vec<u8>) -> CommandRequest {
        CommandRequest {
            command: hook.command.clone(),
            cwd: self.cwd.clone(),
            env: vec![("CLAUDE_PROJECT_DIR".to_owned(), self.cwd.display().to_string())],
            stdin,
            limit: hook.limit(),
            output_bytes_max: HOOK_OUTPUT_BYTES_MAX,
        }
    }

    fn take(&self, hook: &Hook, answer: Answer, outcome: &mut Outcome) {
        if let Some(message) = answer.message {
            self.live.warn(format!("the {} says: {}", title(hook), cut_middle(&message, CONTEXT_BYTES_MAX)));
        }
        if let Some(permit) = answer.permit
            // A repository's hook saves no question.
            && (hook.own || permit.0 != Permit::Allow)
            && outcome.permit.as_ref().is_none_or(|known| known.0 < permit.0)
        {
            outcome.permit = Some(permit);
        }
        outcome.updated_input = answer.updated_input.or(outcome.updated_input.take());
        outcome.block = outcome.block.take().or(answer.block);
        outcome.stop = outcome.stop.take().or(answer.stop);
        outcome.context.extend(answer.context.map(|text| cut_middle(&text, CONTEXT_BYTES_MAX)));
    }

    /// Asks the hooks about a call. A new input comes back in our own form.
    pub(crate) async fn before_call(&self, call: &Call) -> Outcome {
        let mut outcome = self.fire(HookEvent::PreToolUse, &subjects(call), &self.call_fields(call)).await;
        outcome.updated_input = outcome.updated_input.map(|input| own_input(&call.name, input));
        outcome
    }

    /// Tells the hooks how a call ended. `interrupted` says that the person ended it.
    pub(crate) async fn after_call(&self, call: &Call, output: &ToolOutput, interrupted: bool) -> Outcome {
        let mut fields = self.call_fields(call);
        let text = cut_middle(&output.text, RESPONSE_BYTES_MAX);
        let (event, more) = if output.is_error {
            (HookEvent::PostToolUseFailure, json!({"error": text, "is_interrupt": interrupted}))
        } else {
            (HookEvent::PostToolUse, json!({"tool_response": {"type": "text", "text": text}}))
        };
        if let (Value::Object(fields), Value::Object(more)) = (&mut fields, more) {
            fields.extend(more);
        }
        self.fire(event, &subjects(call), &fields).await
    }

    fn call_fields(&self, call: &Call) -> Value {
        let input = public_input(&call.name, &call.input, &self.cwd);
        json!({"tool_name": public_name(&call.name), "tool_input": input, "tool_use_id": call.id})
    }
}

fn subjects(call: &Call) -> [&str; 2] {
    [public_name(&call.name), &call.name]
}

fn title(hook: &Hook) -> String {
    format!("hook of {} `{}`", hook.event.name(), cut_middle(hook.command.lines().next().unwrap_or_default(), COMMAND_BYTES_MAX))
}
