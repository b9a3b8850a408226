//! What a rule asks a person about: the request is refused until there is an answer, and nothing waits for it.

use aedile_core::ask::{Question, Standing, beginning, standing};
use aedile_core::event::Event;
use aedile_core::policy::LayerName;

use crate::door::Room;
use crate::error::Refused;
use crate::policy::Target;

/// Questions of one agent that may wait for an answer.
const OPEN_MAX: usize = 20;

impl Room {
    /// Whether a person lets the request pass.
    ///
    /// # Errors
    /// It waits for an answer, or the answer was no.
    pub(crate) async fn ask(&self, layer: Option<LayerName>, rule: &str, method: &str, target: &Target) -> Result<(), Refused> {
        let who = &self.grant.who;
        let named = layer.map_or_else(|| rule.to_owned(), |layer| format!("{layer}/{rule}"));
        let scheme = if target.secure { "https" } else { "http" };
        let question = Question {
            agent: who.agent.to_string(),
            rule: named.clone(),
            method: method.to_owned(),
            host: format!("{scheme}://{}", target.authority()),
            path: self.told_path(&beginning(&target.path)),
        };
        // One question at a time, or two requests would ask the same one twice.
        let _asking = self.asking.lock().await;
        let failed = |error: String| Refused::store(format!("the person's answers cannot be read: {error}"));
        let asks = self.spending.asks(who.run).await.map_err(failed)?;
        let waits = |id: String| {
            let words = format!(
                "the rule {named} lets this pass only when the person says so; they are asked (question {id}): go on with something else and try again \
                 later, or go on without"
            );
            Refused::asked(rule, words).in_layer(layer)
        };
        match standing(&asks, &question, self.clock.now()) {
            Standing::Allowed => Ok(()),
            Standing::Denied(_) => Err(Refused::denied(rule, "the person was asked and denies it: go on without").in_layer(layer)),
            Standing::Open(ask) => Err(waits(ask.short())),
            Standing::New => {
                let open = asks.iter().filter(|ask| ask.agent == who.agent && ask.answer.is_none()).count();
                if open >= OPEN_MAX {
                    let why = format!(
                        "{open} questions of yours wait for the person already: go on without, and try again when they are answered"
                    );
                    return Err(Refused::denied(rule, why).in_layer(layer));
                }
                let ask = self.spending.new_ask();
                let Question { rule: _, agent: _, method, host, path } = question;
                let event = Event::AskOpened {
                    ask,
                    run: who.run,
                    task: who.task,
                    agent: who.agent.clone(),
                    rule: named.clone(),
                    method,
                    host,
                    path,
                };
                self.spending.append(who.run, event).await.map_err(failed)?;
                Err(waits(ask.short()))
            }
        }
    }
}
