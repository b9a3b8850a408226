//! How a turn begins: what the hooks have to say, and whether the prompt can be worked on at all. What is said within it comes in the same way.

use aedile_core::model::Block;
use aedile_core::runtime::{SessionEvent, TurnEnd, TurnStop};
use serde_json::json;

use crate::calls::note;
use crate::context::bytes_for;
use crate::conversation::Record;
use crate::hook_event::HookEvent;
use crate::inbox::{Inbox, Letter};
use crate::output::Schema;
use crate::session::failed;
use crate::slash::{Expanded, expand};
use crate::state::Part;
use crate::turn::{Turn, stopped_by_hook};

impl Turn<'_> {
    /// Tells what is wrong with the repository's settings, asks the hooks, and takes the prompt into the conversation.
    pub(crate) async fn begin(&mut self, prompt: &str) -> Result<(), TurnEnd> {
        for warning in std::mem::take(&mut self.state.warnings) {
            self.state.room.live.warn(warning);
        }
        self.check_size(prompt)?;
        if prompt.trim() == "/compact" && !self.state.library.commands.contains_key("compact") {
            let condensed = self.make_room("manual").await?;
            let detail = if condensed { "the conversation was condensed" } else { "there is nothing to condense yet" };
            return Err(TurnEnd { stop: TurnStop::EndTurn, detail: Some(detail.to_owned()) });
        }
        if let Part::Sub { kind, .. } = self.state.part.clone() {
            let outcome = self.fire(HookEvent::SubagentStart, &[&kind], &json!({})).await?;
            self.record(Record::Prompt { text: prompt.to_owned() })?;
            return self.add_context("SubagentStart", &outcome.context);
        }
        if let Some(source) = self.state.beginning.take() {
            self.begin_session(source).await?;
        }
        let outcome = self.fire(HookEvent::UserPromptSubmit, &[], &json!({"prompt": prompt})).await?;
        if let Some(reason) = outcome.block {
            return Err(failed(format!("a hook of the repository (UserPromptSubmit) refused the prompt: {reason}")));
        }
        if let Some(reason) = outcome.stop {
            return Err(stopped_by_hook(&reason));
        }
        let text = match expand(prompt, &self.state.library, &self.state.cwd).map_err(failed)? {
            Expanded::Text(text) => text,
            Expanded::AsItIs => prompt.to_owned(),
            Expanded::Unknown(warning) => {
                self.state.room.live.warn(warning);
                prompt.to_owned()
            }
        };
        self.check_size(&text)?;
        self.record(Record::Prompt { text })?;
        self.add_context("UserPromptSubmit", &outcome.context)?;
        match self.schema.as_ref().map(Schema::request) {
            Some(request) => self.record(Record::User { blocks: vec![Block::text(request)] }),
            None => Ok(()),
        }
    }

    /// Takes in what the person said within the turn; returns whether there was something. What a hook refuses or what is too large is left:
    /// whoever sent it hears that it was not taken.
    pub(crate) async fn take_messages(&mut self) -> Result<bool, TurnEnd> {
        let mut some = false;
        while let Some(Letter { text, taken }) = self.inbox.and_then(Inbox::next) {
            if self.check_size(&text).is_err() {
                continue;
            }
            let outcome = self.fire(HookEvent::UserPromptSubmit, &[], &json!({"prompt": text})).await?;
            if let Some(reason) = outcome.stop {
                return Err(stopped_by_hook(&reason));
            }
            if let Some(reason) = outcome.block {
                self.state.room.live.warn(format!("a hook of the repository (UserPromptSubmit) refused a message: {reason}"));
                continue;
            }
            self.record(Record::Prompt { text: text.clone() })?;
            self.add_context("UserPromptSubmit", &outcome.context)?;
            self.state.room.live.tell(SessionEvent::Message { text });
            // Whoever sent it may have gone.
            let _ = taken.send(true);
            some = true;
        }
        Ok(some)
    }

    /// Tells the hooks that the session begins, again or after it was condensed; what they answer is for the model.
    pub(crate) async fn begin_session(&mut self, source: &str) -> Result<(), TurnEnd> {
        let outcome = self.fire(HookEvent::SessionStart, &[source], &json!({"source": source})).await?;
        if let Some(reason) = outcome.stop {
            return Err(stopped_by_hook(&reason));
        }
        self.add_context("SessionStart", &outcome.context)
    }

    fn add_context(&mut self, event: &str, context: &[String]) -> Result<(), TurnEnd> {
        if context.is_empty() {
            return Ok(());
        }
        let blocks = context.iter().map(|text| Block::text(note(event, text))).collect();
        self.record(Record::User { blocks })
    }

    fn check_size(&self, prompt: &str) -> Result<(), TurnEnd> {
        if prompt.trim().is_empty() {
            return Err(failed("the prompt is empty; say what is to be done"));
        }
        let max = bytes_for(self.room().limit() / 2);
        if prompt.len() > max {
            let bytes = prompt.len();
            return Err(failed(format!(
                "the prompt has {bytes} bytes and at most {max} fit beside the work in the model's window; put the text into a file and name the file"
            )));
        }
        Ok(())
    }
}
