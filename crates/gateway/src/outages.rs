//! Which providers are left alone, for all doors together. Nothing of it outlives the process.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use aedile_core::Clock;
use aedile_models::{Admission, Breaker, Change, Down, Fault};

/// The breakers of all providers.
pub(crate) struct Outages {
    breakers: Mutex<HashMap<String, Breaker>>,
    clock: Arc<dyn Clock>,
}

/// A request that may go out to a provider. Dropped without a word, it says nothing of the provider.
pub(crate) struct Pass {
    outages: Arc<Outages>,
    provider: String,
    tries: bool,
}

impl Outages {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { breakers: Mutex::default(), clock }
    }

    fn on<T>(&self, provider: &str, act: impl FnOnce(&mut Breaker) -> T) -> T {
        let mut breakers = self.breakers.lock().unwrap_or_else(PoisonError::into_inner);
        act(breakers.entry(provider.to_owned()).or_default())
    }

    /// Why the provider is left alone at present.
    pub(crate) fn down(&self, provider: &str) -> Option<Down> {
        let now = self.clock.now();
        self.on(provider, |breaker| breaker.down(now).cloned())
    }

    /// Asks whether a request may go out. Where only a person can help, one that has nowhere else to go is let through: it hears from the
    /// provider itself what is wrong.
    pub(crate) fn admit(self: &Arc<Self>, provider: &str, nowhere_else: bool) -> Result<Pass, Down> {
        let now = self.clock.now();
        let tries = match self.on(provider, |breaker| breaker.admit(now)) {
            Admission::Passes => false,
            Admission::Tries => true,
            Admission::Refused(down) if down.person && nowhere_else => true,
            Admission::Refused(down) => return Err(down),
        };
        Ok(Pass { outages: self.clone(), provider: provider.to_owned(), tries })
    }
}

impl Pass {
    /// The provider has begun to answer. Only a request that tries it lets others pass for that.
    pub(crate) fn begun(&mut self) -> Option<Change> {
        if std::mem::take(&mut self.tries) { self.outages.on(&self.provider, |breaker| breaker.answered(true)) } else { None }
    }

    /// The provider has answered.
    pub(crate) fn answered(&mut self) -> Option<Change> {
        let tries = std::mem::take(&mut self.tries);
        self.outages.on(&self.provider, |breaker| breaker.answered(tries))
    }

    /// The provider has failed.
    pub(crate) fn failed(&mut self, fault: Fault) -> Option<Change> {
        let (now, tries) = (self.outages.clock.now(), std::mem::take(&mut self.tries));
        self.outages.on(&self.provider, |breaker| breaker.failed(tries, fault, now))
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        if self.tries {
            self.outages.on(&self.provider, |breaker| breaker.gave_up(true));
        }
    }
}
