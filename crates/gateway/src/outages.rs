//! Which providers and which of their models are left alone, for all doors together. Nothing of it outlives the process.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use aedile_core::Clock;
use aedile_core::model::ModelRef;
use aedile_models::{Admission, Breaker, Change, Down, Fault, FaultOf};

/// The breakers of all providers, by name, and of their models, by `PROVIDER/MODEL`.
pub(crate) struct Outages {
    breakers: Mutex<HashMap<String, Breaker>>,
    clock: Arc<dyn Clock>,
}

/// How far a request may go.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Free,
    /// Its end decides whether others may.
    Tries,
    /// It was let through although nothing is to pass: an answer counts, another failure does not.
    LetThrough,
}

/// One breaker that a request passes.
struct Gate {
    key: String,
    way: Way,
}

/// A request that may go out to a provider. Dropped without a word, it says nothing of the provider.
pub(crate) struct Pass {
    outages: Arc<Outages>,
    provider: Gate,
    model: Gate,
}

/// What a request has changed, and for what: a provider, or `PROVIDER/MODEL`.
pub(crate) type Changes = Vec<(String, Change)>;

impl Outages {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { breakers: Mutex::default(), clock }
    }

    fn on<T>(&self, key: &str, act: impl FnOnce(&mut Breaker) -> T) -> T {
        let mut breakers = self.breakers.lock().unwrap_or_else(PoisonError::into_inner);
        act(breakers.entry(key.to_owned()).or_default())
    }

    /// What is left alone at present, the provider or the model, and why.
    pub(crate) fn down(&self, model: &ModelRef) -> Option<(String, Down)> {
        let now = self.clock.now();
        [model.provider.clone(), model.to_string()].into_iter().find_map(|key| {
            let down = self.on(&key, |breaker| breaker.down(now).cloned())?;
            Some((key, down))
        })
    }

    /// Asks whether a request may go out. Where only a person can help, one that has nowhere else to go is let through: it hears from the
    /// provider itself what is wrong. A refusal names what is left alone.
    pub(crate) fn admit(self: &Arc<Self>, model: &ModelRef, nowhere_else: bool) -> Result<Pass, (String, Down)> {
        let provider = self.gate(model.provider.clone(), nowhere_else)?;
        match self.gate(model.to_string(), nowhere_else) {
            Ok(model) => Ok(Pass { outages: self.clone(), provider, model }),
            Err(refused) => {
                self.give_up(&provider);
                Err(refused)
            }
        }
    }

    fn gate(&self, key: String, nowhere_else: bool) -> Result<Gate, (String, Down)> {
        let now = self.clock.now();
        let way = match self.on(&key, |breaker| breaker.admit(now)) {
            Admission::Passes => Way::Free,
            Admission::Tries => Way::Tries,
            Admission::Refused(down) if down.person && nowhere_else => Way::LetThrough,
            Admission::Refused(down) => return Err((key, down)),
        };
        Ok(Gate { key, way })
    }

    fn give_up(&self, gate: &Gate) {
        if gate.way == Way::Tries {
            self.on(&gate.key, |breaker| breaker.gave_up(true));
        }
    }

    /// `row`: it also ends a row of failures.
    fn answered(&self, gate: &mut Gate, row: bool) -> Option<(String, Change)> {
        let decides = std::mem::replace(&mut gate.way, Way::Free) != Way::Free;
        let change = if decides || row { self.on(&gate.key, |breaker| breaker.answered(decides)) } else { None };
        Some((gate.key.clone(), change?))
    }

    fn failed(&self, gate: &mut Gate, fault: Fault) -> Option<(String, Change)> {
        let tries = std::mem::replace(&mut gate.way, Way::Free) == Way::Tries;
        let now = self.clock.now();
        Some((gate.key.clone(), self.on(&gate.key, |breaker| breaker.failed(tries, fault, now))?))
    }
}

impl Pass {
    /// The provider has begun to answer, or has refused the request for what it asks. Only a request that tries it lets others pass for that.
    pub(crate) fn begun(&mut self) -> Changes {
        let outages = self.outages.clone();
        outages.answered(&mut self.provider, false).into_iter().chain(outages.answered(&mut self.model, false)).collect()
    }

    /// The provider has answered.
    pub(crate) fn answered(&mut self) -> Changes {
        let outages = self.outages.clone();
        outages.answered(&mut self.provider, true).into_iter().chain(outages.answered(&mut self.model, true)).collect()
    }

    /// The provider or the model has failed. A provider that refuses a model is there.
    pub(crate) fn failed(&mut self, fault: Fault) -> Changes {
        let outages = self.outages.clone();
        match fault.of {
            FaultOf::Provider => outages.failed(&mut self.provider, fault).into_iter().collect(),
            FaultOf::Model => {
                outages.answered(&mut self.provider, true).into_iter().chain(outages.failed(&mut self.model, fault)).collect()
            }
        }
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        self.outages.give_up(&self.provider);
        self.outages.give_up(&self.model);
    }
}
