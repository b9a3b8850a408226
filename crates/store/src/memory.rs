//! The store in memory: for simulations and tests. Its data survive a crash of the handle.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use aedile_core::apply::apply;
use aedile_core::event::{Envelope, Position};
use aedile_core::limits::{BLOB_BYTES_MAX, READ_EVENTS_MAX};
use aedile_core::redact::NoSecrets;
use aedile_core::store::{Append, Appended, ClaimInfo, ClaimRequest, Fence, Store, StoreError};
use aedile_core::view::ViewKind;
use aedile_core::{BlobId, Clock, Redactor, RunId};

use crate::claims::{self, Claim};
use crate::memory_views::MemoryViews;
use crate::prepare::{Prepared, prepare};

/// Where in an append a [`MemoryStore`] crashes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Crash {
    /// Before it is durable: it is lost, and the caller gets an error.
    BeforeWrite,
    /// Between the write and the answer: it is durable, and the caller gets an error.
    BeforeReply,
    /// After the answer: it is durable, the caller knows it, and the next call fails.
    AfterReply,
}

/// A store in memory, with the rules of [`crate::SqliteStore`]. Cheap to make.
///
/// A handle can be told to crash at an append; after that every call on it fails until
/// [`MemoryStore::reopen`] gives a fresh handle over what was durable.
pub struct MemoryStore {
    clock: Arc<dyn Clock>,
    redactor: Arc<dyn Redactor>,
    shared: Arc<Shared>,
    life: Mutex<Life>,
}

/// What survives a crash.
#[derive(Default)]
struct Shared {
    data: Mutex<Data>,
    changed: Condvar,
}

#[derive(Default)]
struct Data {
    events: Vec<Envelope>,
    once: HashMap<String, Position>,
    views: MemoryViews,
    claims: BTreeMap<String, Claim>,
    blobs: HashMap<BlobId, Arc<[u8]>>,
}

/// The state of a handle.
struct Life {
    plan: Option<(u64, Crash)>,
    dead: bool,
}

impl MemoryStore {
    /// Makes an empty store.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self::over(clock, Arc::new(NoSecrets), Arc::default())
    }

    /// Redacts what is stored from now on.
    #[must_use]
    pub fn with_redactor(self, redactor: Arc<dyn Redactor>) -> Self {
        Self { redactor, ..self }
    }

    /// Crashes at the append with this number, counted from 1 on this handle. Appends that are refused or that
    /// happened already do not count.
    #[must_use]
    pub fn with_crash_after(self, appends: u64, crash: Crash) -> Self {
        Self { life: Mutex::new(Life { plan: Some((appends, crash)), dead: false }), ..self }
    }

    /// Returns a fresh handle over the data that were durable. It does not crash by itself. The old handle is dead from now on.
    #[must_use]
    pub fn reopen(&self) -> Self {
        lock(&self.life).dead = true;
        Self::over(Arc::clone(&self.clock), Arc::clone(&self.redactor), Arc::clone(&self.shared))
    }

    /// Whether this handle has crashed.
    pub fn crashed(&self) -> bool {
        lock(&self.life).dead
    }

    fn over(clock: Arc<dyn Clock>, redactor: Arc<dyn Redactor>, shared: Arc<Shared>) -> Self {
        Self { clock, redactor, shared, life: Mutex::new(Life { plan: None, dead: false }) }
    }

    /// Returns the data, unless this handle has crashed.
    fn data(&self) -> Result<MutexGuard<'_, Data>, StoreError> {
        let data = lock(&self.shared.data);
        if lock(&self.life).dead { Err(gone()) } else { Ok(data) }
    }

    /// Counts an append that is about to be written; returns how it crashes, if it does.
    fn next_crash(&self) -> Option<Crash> {
        let mut life = lock(&self.life);
        let (left, crash) = life.plan.as_mut()?;
        *left = left.saturating_sub(1);
        let crash = (*left == 0).then_some(*crash);
        life.dead = crash.is_some();
        crash
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn gone() -> StoreError {
    StoreError::Backend("the store in memory has crashed, as it was told to; reopen it".to_owned())
}

impl Data {
    fn last(&self) -> Position {
        self.events.last().map_or(Position(0), |envelope| envelope.position)
    }

    fn fence(&self, fence: &Fence) -> Result<(), StoreError> {
        if claims::holds(self.claims.get(&fence.claim), fence) { Ok(()) } else { Err(StoreError::Fenced(fence.clone())) }
    }

    /// Applies the events to the views and returns them as they stand in the log.
    fn apply(&mut self, prepared: Prepared, at: aedile_core::Timestamp) -> Result<Vec<Envelope>, StoreError> {
        let first = self.last().0 + 1;
        let mut envelopes = Vec::with_capacity(prepared.events.len());
        for (position, new) in (first..).zip(prepared.events) {
            let version = new.event.version();
            let envelope = Envelope { position: Position(position), at, version, run: new.run, event: new.event };
            apply(&envelope, &mut self.views)?;
            envelopes.push(envelope);
        }
        Ok(envelopes)
    }
}

impl Store for MemoryStore {
    fn append(&self, append: Append) -> Result<Appended, StoreError> {
        let prepared = prepare(append, self.redactor.as_ref())?;
        let mut data = self.data()?;
        if let Some(fence) = &prepared.fence {
            data.fence(fence)?;
        }
        if let Some(position) = prepared.once.as_ref().and_then(|key| data.once.get(key)) {
            return Ok(Appended::Already(*position));
        }
        let once = prepared.once.clone();
        let at = self.clock.now();
        let envelopes = data.apply(prepared, at).inspect_err(|_| data.views.undo())?;
        let crash = self.next_crash();
        if crash == Some(Crash::BeforeWrite) {
            data.views.undo();
            return Err(gone());
        }
        data.views.keep();
        data.events.extend(envelopes);
        let last = data.last();
        if let Some(key) = once {
            data.once.insert(key, last);
        }
        drop(data);
        self.shared.changed.notify_all();
        if crash == Some(Crash::BeforeReply) { Err(gone()) } else { Ok(Appended::At(last)) }
    }

    fn read(&self, after: Position, limit: usize) -> Result<Vec<Envelope>, StoreError> {
        let data = self.data()?;
        let skip = usize::try_from(after.0).unwrap_or(usize::MAX);
        Ok(data.events.iter().skip(skip).take(limit.min(READ_EVENTS_MAX)).cloned().collect())
    }

    fn last(&self) -> Result<Position, StoreError> {
        Ok(self.data()?.last())
    }

    fn wait_for_change(&self, after: Position, timeout: Duration) -> Result<Position, StoreError> {
        let deadline = Instant::now() + timeout;
        let mut data = self.data()?;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if data.last() > after || left.is_zero() {
                return Ok(data.last());
            }
            data = self.shared.changed.wait_timeout(data, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn claim(&self, request: &ClaimRequest) -> Result<Fence, StoreError> {
        let mut data = self.data()?;
        let claim = claims::take(data.claims.get(&request.name), request, self.clock.now())?;
        let number = claim.number;
        data.claims.insert(request.name.clone(), claim);
        Ok(Fence { claim: request.name.clone(), number })
    }

    fn renew(&self, fence: &Fence, ttl: Duration) -> Result<(), StoreError> {
        let mut data = self.data()?;
        data.fence(fence)?;
        let expires = self.clock.now().plus(ttl);
        if let Some(claim) = data.claims.get_mut(&fence.claim) {
            claim.expires = expires;
        }
        Ok(())
    }

    fn release(&self, fence: &Fence) -> Result<(), StoreError> {
        let mut data = self.data()?;
        if let Some(claim) = data.claims.get_mut(&fence.claim).filter(|claim| claim.number == fence.number) {
            claim.holder = None;
        }
        Ok(())
    }

    fn claims(&self, prefix: &str) -> Result<Vec<ClaimInfo>, StoreError> {
        let data = self.data()?;
        let named = data.claims.range(prefix.to_owned()..).take_while(|(name, _)| name.starts_with(prefix));
        let held = named.filter_map(|(name, claim)| {
            let holder = claim.holder.clone()?;
            Some(ClaimInfo { name: name.clone(), holder, number: claim.number, expires: claim.expires })
        });
        Ok(held.collect())
    }

    fn put_blob(&self, bytes: &[u8]) -> Result<BlobId, StoreError> {
        if bytes.len() > BLOB_BYTES_MAX {
            return Err(StoreError::TooLarge { what: "a blob", got: bytes.len(), max: BLOB_BYTES_MAX });
        }
        let clean = self.redactor.redact_bytes(bytes);
        let bytes = clean.as_deref().unwrap_or(bytes);
        let id = BlobId::of(bytes);
        self.data()?.blobs.entry(id.clone()).or_insert_with(|| bytes.into());
        Ok(id)
    }

    fn get_blob(&self, id: &BlobId) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.data()?.blobs.get(id).map(|bytes| bytes.to_vec()))
    }

    fn view(&self, kind: ViewKind, key: &str) -> Result<Option<String>, StoreError> {
        Ok(self.data()?.views.document(kind, key).map(str::to_owned))
    }

    fn views(&self, kind: ViewKind, run: Option<RunId>) -> Result<Vec<String>, StoreError> {
        let data = self.data()?;
        let wanted = data.views.list(kind).filter(|(_, of, _)| run.is_none() || *of == run);
        Ok(wanted.map(|(_, _, text)| text.to_owned()).collect())
    }

    fn rebuild(&self) -> Result<u64, StoreError> {
        let mut data = self.data()?;
        let mut views = MemoryViews::default();
        for envelope in &data.events {
            apply(envelope, &mut views)?;
            views.keep();
        }
        data.views = views;
        Ok(data.last().0)
    }
}
