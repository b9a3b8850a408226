//! What a door has denied, written down so that an agent which tries for ever cannot fill the log.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use aedile_core::Redactor;
use aedile_core::agent_api::DoorIdentity;
use aedile_core::event::Event;
use aedile_core::policy::LayerName;

use crate::door::Room;
use crate::vault::Vault;

/// Different denials of one door that are told apart; further ones are counted together, by rule.
const KINDS_MAX: usize = 64;
/// Characters of what was asked, and of the sentence.
const WHAT_CHARS_MAX: usize = 200;
const WHY_CHARS_MAX: usize = 400;
/// What stands for everything beyond the kinds that are told apart.
const FURTHER: &str = "further requests";

/// A denial.
#[derive(Debug, Clone)]
pub(crate) struct Denial {
    /// The layer of its rule; `None` for rules that always hold.
    pub(crate) layer: Option<LayerName>,
    /// The rule.
    pub(crate) rule: String,
    /// The sentence that the agent got.
    pub(crate) why: String,
}

/// How often one thing was denied.
#[derive(Debug)]
struct Count {
    denial: Denial,
    /// In all.
    all: u64,
    /// Since it was last written down.
    unsaid: u64,
}

/// What a door has denied, by rule and by what was asked.
#[derive(Debug, Default)]
pub(crate) struct Denials(Mutex<BTreeMap<(String, String), Count>>);

impl Denials {
    fn kinds(&self) -> MutexGuard<'_, BTreeMap<(String, String), Count>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts one. Returns what is to be written down now: the first of its kind, and then each time there are ten times as many.
    fn count(&self, denial: Denial, what: String) -> Option<(String, Denial, u64)> {
        let mut kinds = self.kinds();
        let mut key = (denial.rule.clone(), what);
        if !kinds.contains_key(&key) && kinds.len() >= KINDS_MAX {
            FURTHER.clone_into(&mut key.1);
        }
        let what = key.1.clone();
        let count = kinds.entry(key).or_insert(Count { denial, all: 0, unsaid: 0 });
        count.all += 1;
        count.unsaid += 1;
        let power = |mut number: u64| {
            while number.is_multiple_of(10) {
                number /= 10;
            }
            number == 1
        };
        power(count.all).then(|| (what, count.denial.clone(), std::mem::take(&mut count.unsaid)))
    }

    /// Takes what was not written down yet.
    fn rest(&self) -> Vec<(String, Denial, u64)> {
        let mut kinds = self.kinds();
        let unsaid = kinds.iter_mut().filter(|(_, count)| count.unsaid > 0);
        unsaid.map(|((_, what), count)| (what.clone(), count.denial.clone(), std::mem::take(&mut count.unsaid))).collect()
    }
}

/// What was asked, without secrets, cut.
fn told(vault: &Vault, text: &str, most: usize) -> String {
    let clean = vault.redact_text(text);
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    clean.as_deref().unwrap_or(text).chars().take(most).map(plain).collect()
}

fn event(who: &DoorIdentity, (what, denial, count): (String, Denial, u64)) -> Event {
    Event::RequestDenied {
        run: who.run,
        task: who.task,
        agent: who.agent.clone(),
        layer: denial.layer,
        rule: denial.rule,
        what,
        why: denial.why,
        count,
    }
}

impl Room {
    /// Writes a denial down, or counts it. That it could not be written does not make it pass.
    pub(crate) async fn denied(&self, denial: Denial, what: &str) {
        let what = told(&self.vault, what, WHAT_CHARS_MAX);
        let denial = Denial { why: told(&self.vault, &denial.why, WHY_CHARS_MAX), ..denial };
        tracing::warn!(agent = %self.grant.who.agent, rule = denial.rule, what, "a request was denied");
        if let Some(due) = self.denials.count(denial, what) {
            self.record(event(&self.grant.who, due)).await;
        }
    }

    /// A path as it may be written down.
    pub(crate) fn told_path(&self, path: &str) -> String {
        told(&self.vault, path, WHAT_CHARS_MAX)
    }

    /// Writes down what was counted since.
    pub(crate) async fn rest_of_denials(&self) {
        for due in self.denials.rest() {
            self.record(event(&self.grant.who, due)).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn denial(rule: &str) -> Denial {
        Denial { layer: Some(LayerName::User), rule: rule.to_owned(), why: "no".to_owned() }
    }

    #[test]
    fn a_loop_of_denials_takes_few_events_and_none_is_forgotten() {
        let denials = Denials::default();
        let told: Vec<u64> =
            (0..12_345).filter_map(|_| denials.count(denial("a"), "GET x".to_owned())).map(|(_, _, count)| count).collect();
        assert_eq!(told, [1, 9, 90, 900, 9000]);
        let rest = denials.rest();
        assert_eq!((rest.len(), rest[0].2), (1, 2345));
        assert!(denials.rest().is_empty());
    }

    #[test]
    fn ever_new_denials_are_counted_together() {
        let denials = Denials::default();
        let told = (0..100_000).filter_map(|at| denials.count(denial("a"), format!("GET {at}"))).count();
        assert!(told <= KINDS_MAX + 6, "{told}");
        assert_eq!(denials.rest().iter().map(|(what, _, _)| what.as_str()).collect::<Vec<_>>(), [FURTHER]);
    }
}
